"""Counts are kept for what they depend on, and for nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import FakeEngine
from fixtures.core.cost.bounds import Cache, Work
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, Point
from fixtures.engines.counting.kept import KeptCounts, as_text

pytest_plugins = ["pytester"]

VERSIONS = {"torch": "2.13", "transformers": "5.23", "pytest": "9"}
HF = EngineSpec("hf")
MODEL = library.model("mpt125m")
CASE = Case(MODEL, HardwareSpec("cpu", "cpu", 1), 1, HF, Point(1, 2, 3))
STORED = find_counts(MODEL, HF)
assert STORED is not None
FOUND: dict[str, Any] = {**STORED.as_dict(), "operators": {"prefill": 3, "decode": 2}}


class Counting:
    """Counts how often it was asked."""

    def __init__(self, found: dict[str, Any] = FOUND) -> None:
        self.found = found
        self.calls = 0

    def __call__(self) -> dict[str, Any]:
        """As the engine does."""
        self.calls += 1
        return self.found


def counted_again(folder: Path, case: Case = CASE, versions: dict[str, str] | None = None) -> bool:
    """Whether a new session has to count."""
    count = Counting()
    assert KeptCounts(folder, versions or VERSIONS).of(case, count) == FOUND
    return count.calls > 0


def test_a_model_is_counted_once(tmp_path: Path) -> None:
    """In a session and after it; a plan finds it too, and the values are what they were."""
    kept, count = KeptCounts(tmp_path / "new", VERSIONS), Counting()
    assert kept.find(MODEL, HF, "cpu") is None
    assert kept.of(CASE, count) == FOUND
    assert kept.of(replace(CASE, point=Point(9, 9, 9)), count) == FOUND
    assert count.calls == 1
    assert kept.find(MODEL, HF, "cpu") == STORED
    assert KeptCounts(tmp_path / "new", VERSIONS).find(MODEL, HF, "cpu") == STORED
    assert not counted_again(tmp_path / "new")


def test_counts_of_older_sessions_are_read_or_counted_again(tmp_path: Path) -> None:
    """What older sessions kept serves a plan without the formula; another form is not read."""
    kept = KeptCounts(tmp_path, VERSIONS)
    older = {key: value for key, value in FOUND.items() if key != "dispatch"}
    assert kept.of(CASE, Counting(older)) == older
    found = KeptCounts(tmp_path, VERSIONS).find(MODEL, HF, "cpu")
    assert STORED is not None
    assert found == replace(STORED, dispatch=None)
    told: list[str] = []
    file = kept.file_of(kept.key_of(MODEL, HF, "cpu"))
    file.write_text(as_text(kept.key_of(MODEL, HF, "cpu"), {**FOUND, "dispatch": {"ops": 1}}))
    again = KeptCounts(tmp_path, VERSIONS, tell=told.append)
    assert again.of(CASE, Counting()) == FOUND
    assert "the model is counted again" in told[0]


@pytest.mark.parametrize(
    "other",
    [
        replace(CASE, model=replace(MODEL, architecture={**MODEL.architecture, "n_layers": 5})),
        replace(CASE, engine=replace(HF, dtype="float32")),
        replace(CASE, engine=replace(HF, attention="eager")),
        replace(CASE, engine=replace(HF, use_cache=False)),
        replace(CASE, engine=replace(HF, autocast="bfloat16")),
        replace(CASE, engine=replace(HF, kind="hf_tp")),  # a kind may hold its weights in a format of its own
    ],
)
def test_another_configuration_is_counted_again(other: Case, tmp_path: Path) -> None:
    """All of a model's and engine's keys count; its name and the machine do not."""
    assert counted_again(tmp_path)
    assert counted_again(tmp_path, other)
    assert not counted_again(tmp_path, other)
    renamed = replace(CASE, model=replace(MODEL, name="x"), engine=replace(HF, name="y"), devices=2)
    assert not counted_again(tmp_path, renamed)


def test_a_gpu_that_packs_by_another_library_is_counted_by_itself(tmp_path: Path) -> None:
    """On a GPU int8 is torchao's, with other scales; nf4 is bitsandbytes' everywhere."""
    kept = KeptCounts(tmp_path, VERSIONS)
    int8 = replace(CASE, engine=EngineSpec("hf_int8", kind="hf_int8"))
    other = {**FOUND, "operators": {"prefill": 30, "decode": 20}}
    on_gpu = replace(int8, hardware=library.hardware("l4"))
    assert kept.of(int8, Counting()) == FOUND
    assert [kept.find(MODEL, int8.engine, kind) for kind in ("cpu", "gpu")] == [STORED, None]
    assert kept.of(on_gpu, Counting(other)) == other
    assert kept.of(int8, Counting(other)) == FOUND
    assert kept.of(on_gpu, Counting()) == other
    nf4 = replace(CASE, engine=EngineSpec("hf_nf4", kind="hf_nf4"))
    assert kept.of(nf4, Counting()) == kept.of(replace(nf4, hardware=on_gpu.hardware), Counting(other))


def test_other_versions_and_other_code_count_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of torch and transformers, not of pytest; of the sources that count."""
    assert counted_again(tmp_path)
    assert not counted_again(tmp_path, versions={**VERSIONS, "pytest": "10"})
    assert counted_again(tmp_path, versions={**VERSIONS, "torch": "2.14"})
    assert counted_again(tmp_path, versions={**VERSIONS, "transformers": "5.24"})
    monkeypatch.setattr("fixtures.engines.counting.kept.code", lambda: "other")
    assert counted_again(tmp_path)


def test_code_of_the_models_own_may_change(tmp_path: Path) -> None:
    """So nothing of it is kept, but for the session."""
    own = replace(CASE, model=replace(MODEL, remote_code="/x"))
    kept, count = KeptCounts(tmp_path, VERSIONS), Counting()
    assert kept.of(own, count) == kept.of(own, count) == FOUND
    assert count.calls == 1
    assert kept.find(own.model, HF, "cpu") == STORED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("found", [{"work": None, "not_counted": "why"}, {"work": FOUND["work"]}])
def test_what_could_not_be_counted_is_tried_again(found: dict[str, Any], tmp_path: Path) -> None:
    """In the next session."""
    kept = KeptCounts(tmp_path, VERSIONS)
    assert kept.of(CASE, Counting(found)) == found
    assert kept.find(MODEL, HF, "cpu") is None
    assert list(tmp_path.iterdir()) == []


def test_only_one_of_several_ranks_writes(tmp_path: Path) -> None:
    """The others may read."""
    KeptCounts(tmp_path, VERSIONS, keeps=False).of(CASE, Counting())
    assert list(tmp_path.iterdir()) == []


def changed(values: dict[str, Any]) -> dict[str, Any]:
    """A figure that somebody has changed."""
    work = {**values["found"]["work"], "weight_bytes": 1}
    return {**values, "found": {**values["found"], "work": work}}


DAMAGES: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "torn": lambda text: text[:40],
    "a list": lambda _: "[]",
    "deep": lambda _: "[" * 10**5,
    "a figure": lambda text: json.dumps(changed(json.loads(text))),
    "version": lambda text: json.dumps({**json.loads(text), "counts": 2}),
    "key": lambda text: json.dumps({**json.loads(text), "key": "other"}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_as_it_was_written_is_one_line(damage: str, tmp_path: Path) -> None:
    """The model is counted again, and the file is whole from then on."""
    assert counted_again(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(DAMAGES[damage](file.read_text()))
    told: list[str] = []
    assert KeptCounts(tmp_path, VERSIONS, tell=told.append).of(CASE, Counting()) == FOUND
    (line,) = told
    assert line.startswith(f"passed over: {'/'.join(file.parts[-3:])}: not a file of counts (")
    assert line.endswith("); the model is counted again")
    assert "\n" not in line
    assert not counted_again(tmp_path)


def test_a_folder_that_cannot_be_made_costs_nothing_else(tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "counts").write_text("")
    assert counted_again(tmp_path / "counts")


def test_what_is_read_back_is_the_work(tmp_path: Path) -> None:
    """Windows and fixed bytes among it."""
    work = Work(1.5, 2.0, 3.0, 4, (Cache(2, 8, 16, 32), Cache(1, 8)))
    found = {**FOUND, "work": work.as_dict()}
    KeptCounts(tmp_path, VERSIONS).of(CASE, Counting(found))
    counts = KeptCounts(tmp_path, VERSIONS).find(MODEL, HF, "cpu")
    assert counts is not None
    assert counts.work == work


def test_the_next_session_does_not_count_and_its_plan_knows(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that no library has; its own file is no history."""
    monkeypatch.setattr(FakeEngine, "count", lambda self, _: self.log.append(("count",)) or dict(FOUND))
    fake.peaks.append({"read_bytes_per_s": 1e12, "copy_bytes_per_s": 1.0, "float32_flops_per_s": 1e15})
    suite = write_suite(project.path, "own", rounds=2, warmup_rounds=0)
    options = ("benchmarks", "--benchmark-only", "--suite", suite)
    line = "not in the total, without stored counts: own (1)"
    project.runpytest(*options, "--plan").stdout.fnmatch_lines([line])
    for counts in (1, 0):
        fake.log.clear()
        project.runpytest(*options).assert_outcomes(passed=1)
        assert fake.log.count(("count",)) == counts
    project.runpytest(*options, "--plan").stdout.no_fnmatch_line(line)
    assert len(list((project.path / ".benchmarks" / "counts").iterdir())) == 1
    assert len(histories(project.path)) == 2
