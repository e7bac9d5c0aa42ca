"""Two models called `final` are never one, in whatever is made of histories; one model in two forms is."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ci.gate.fingerprint import difference, fingerprint
from ci.gate.trends import changes
from ci.pick.__main__ import main as pick
from ci.report.__main__ import main as report
from ci.report.figures import figures
from ci.report.figures.trend import Judged
from ci.report.page.data import page_data
from ci.report.read.samples import curves, newest, read_samples
from ci.tests.records import recorded
from ci.tests.report_histories import record, write
from fixtures.core.spec.model_names import Recorded, suffixes
from fixtures.core.store.history import read_history

SMALL: dict[str, Any] = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2}
LARGE: dict[str, Any] = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 2}


def of_model(architecture: dict[str, Any], batch: int, latency_s: float, **more: Any) -> dict[str, Any]:
    """A record of a case of a model called final."""
    made = record("final", "1xcpu", batch, latency_s)
    made["case"]["model"]["architecture"] = architecture
    return {**made, "parameters": 139584, **more}


def two(folder: Path, other: dict[str, Any]) -> list[str]:
    """Two runs: batches 1 and 8 of a small `final`, and 2 and 4 of another model of that name."""
    ours = [of_model(SMALL, 1, 0.1), of_model(SMALL, 8, 0.2)]
    theirs = [of_model(other, 2, 3.0), of_model(other, 4, 4.0)]
    files = [write(folder / "a.json", ours), write(folder / "b.json", theirs, "2026-11-26T10:00:00+00:00")]
    return [str(file) for file in files]


def test_a_curve_has_one_model(tmp_path: Path) -> None:
    """Its points differ in nothing but the batch size; nothing is drawn, or filtered, of both."""
    files = two(tmp_path, LARGE)
    samples = newest(read_samples([tmp_path]))
    found = {one.model: [each.point.batch_size for each in one.samples] for one in curves(samples)}
    assert found == {"final (hidden_size 64)": [1, 8], "final (hidden_size 4096)": [2, 4]}
    for figure in figures(samples):
        for series in {one["series"] for one in figure.points}:
            cases = {one["case"] for one in figure.points if one["series"] == series}
            assert len({case.rpartition(", ")[2] for case in cases}) == 1 or figure.legend == "batch"
    data = page_data(samples, [])
    place = [one["name"] for one in data["fields"] if one["table"] or one["file"]].index("model")
    assert {one["values"][place] for one in data["cases"]} == set(found)
    assert {one["model"] for one in data["curves"]} == set(found)
    assert report([*files, "--markdown"]) == 0


def test_the_picker_asks_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between points of two models nothing is interpolated."""
    files = two(tmp_path, LARGE)
    asked = ["--input", "512", "--output", "64", "--latency", "150ms"]
    assert pick([*files, "--model", "final", *asked]) == 4
    assert capsys.readouterr().err == (
        "pick: --model final: 2 models have this name; give one of 'final (hidden_size 4096)', "
        "'final (hidden_size 64)'\n"
    )
    assert pick([*files, "--model", "final (hidden_size 64)", *asked, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    # linear from 0.1 s at batch 1 to 0.2 s at batch 8: 4 takes 0.1429 s, 5 takes 0.1571 s
    assert (answer["best"]["batch_size"], answer["interpolated"]["batch_size"]) == (1, 4)


def test_one_model_in_two_forms_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Saved by another version, defaults stated."""
    saved = {**SMALL, "transformers_version": "4.47.0", "rope_theta": 10000.0, "rms_norm_eps": 1e-6}
    files = two(tmp_path, saved)
    assert pick([*files, "--model", "final", "--input", "512", "--output", "64", "--latency", "9s"]) == 0
    (curve,) = curves(newest(read_samples([tmp_path])))
    assert (curve.model, len(curve.samples)) == ("final", 4)


def test_the_newest_of_a_case_is_of_the_same_model(tmp_path: Path) -> None:
    """The same id, measured later of another model, does not stand for it."""
    write(tmp_path / "a.json", [of_model(SMALL, 1, 0.1)])
    write(tmp_path / "b.json", [of_model(LARGE, 1, 3.0)], "2026-11-26T10:00:00+00:00")
    found = {one.case_id: one.latency_s for one in newest(read_samples([tmp_path]))}
    case = of_model(SMALL, 1, 0.1)["case"]["id"]
    assert found == {f"{case}, hidden_size 64": 0.1, f"{case}, hidden_size 4096": 3.0}


def test_a_trend_follows_one_model(tmp_path: Path) -> None:
    """Two of one name in turn are two lines of eight runs, and neither changed."""
    pytest.importorskip("ruptures")
    runs = []
    for k in range(16):
        architecture, latency_s = ((SMALL, 0.1), (LARGE, 0.2))[k // 8]
        made = of_model(architecture, 1, latency_s + k % 3 * 1e-5)
        file = write(tmp_path / f"r{k}.json", [made], f"2026-11-{k + 1:02}T10:00:00+00:00")
        runs.append(read_history(file))
    found, followed, short = changes(runs)
    assert (found, followed, short) == ([], 2, 0)


def test_a_run_is_judged_by_those_of_its_own_model(tmp_path: Path) -> None:
    """Ten of another model in between do not crowd them out; a config in another form is the same model's."""
    saved = {**SMALL, "transformers_version": "4.47.0"}
    for k in range(15):
        architecture = SMALL if k < 4 else saved if k == 14 else LARGE
        made = of_model(architecture, 1, 0.1 * (1 + k % 4 / 1000) if architecture is not LARGE else 3.0 + k)
        write(tmp_path / f"r{k:02}.json", [made], f"2026-11-{k + 1:02}T10:00:00+00:00")
    samples = read_samples([tmp_path])
    judged = Judged.of(samples)
    newest_run = next(one.history for one in samples if one.file == "r14.json")
    assert newest_run is not None
    assert judged.verdict(newest_run, made["case"]["id"]) == "PASS"
    ours, theirs = (
        fingerprint(recorded(**of_model(SMALL, 1, 1.0))),
        fingerprint(recorded(**of_model(saved, 1, 1.0))),
    )
    assert difference(ours, theirs) is None
    assert difference(ours, fingerprint(recorded(**of_model(LARGE, 1, 1.0)))) == "model differs"


def told(*models: tuple[dict[str, Any], int | None], names: str = "final") -> list[str]:
    """What tells these models apart, all of one name."""
    return suffixes([Recorded(names, *one, engine="hf") for one in models])


def test_what_differs_is_said() -> None:
    """Layers and width before others, and no more than it takes."""
    deep = {**SMALL, "num_hidden_layers": 9}
    assert told((SMALL, 1), (SMALL, 1)) == ["", ""]
    assert told((SMALL, 1), (deep, 2)) == ["num_hidden_layers 2", "num_hidden_layers 9"]
    assert told((SMALL, 1), (LARGE, 1), (deep, 1)) == [
        "num_hidden_layers 2, hidden_size 64", "num_hidden_layers 2, hidden_size 4096",
        "num_hidden_layers 9, hidden_size 64",
    ]  # fmt: skip
    assert told((SMALL, 1), ({**SMALL, "model_type": "mistral"}, 1)) == [
        "model_type llama",
        "model_type mistral",
    ]
    nested = {"model_type": "gemma3", "text_config": SMALL}
    assert told((nested, 1), ({**nested, "text_config": LARGE}, 1))[1] == "text_config.hidden_size 4096"


def test_a_number_of_parameters_tells_models_of_one_config_apart() -> None:
    """As of a checkpoint's own code; but only what one engine counted of it can be compared."""
    own = {"model_type": "own"}
    assert told((own, 1000), (own, 2000), (own, 1000)) == [
        "1,000 parameters", "2,000 parameters", "1,000 parameters",
    ]  # fmt: skip
    other = Recorded("final", own, 2000, engine="deepspeed")
    assert suffixes([Recorded("final", own, 1000, engine="hf"), other]) == ["", ""]


def test_a_record_without_architecture_counts_by_its_name() -> None:
    """To the only model of it, or the only one of its size; else it stands alone."""
    assert told((SMALL, 7), ({}, 9)) == ["", ""]
    assert told((SMALL, 7), (LARGE, 9), ({}, 9))[2] == "hidden_size 4096"
    assert told((SMALL, 7), (LARGE, 9), ({}, None))[2] == "architecture not recorded"
    assert told((SMALL, 7), (LARGE, 7), ({}, 7))[2] == "architecture not recorded"


@pytest.mark.parametrize(
    "one",
    [{"a\x1b[31m": 2}, {"k" * 500: 2}, {"a": "\n\x1b"}, {"a": "v" * 999}, {"a": [1, 2]}, {"é": 2}],
)
def test_what_is_shown_is_short_and_printable(one: dict[str, Any]) -> None:
    """A config is anybody's; where nothing can be shown, a part of its fingerprint is."""
    found = told((one, 1), ({"a": 1}, 1))
    assert len(set(found)) == 2
    assert all(text.isprintable() and text and len(text) < 140 for text in found)


def test_other_names_are_left_as_they_are() -> None:
    """Only a name that several have gets more."""
    models = [Recorded("final", SMALL), Recorded("final", LARGE), Recorded("mpt7b", copy.deepcopy(SMALL))]
    assert suffixes(models)[2] == ""
