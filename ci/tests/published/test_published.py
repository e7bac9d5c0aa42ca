"""The published points as a history: the same numbers under the suites' own ids, and nothing made up."""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark import cli

from ci.published import __main__ as published
from ci.tests.conftest import ROOT
from fixtures.core.forecast.past_runs import read_seen
from fixtures.core.store.history import History, find_histories, read_history

pytest_plugins = ["pytester"]

FOLDER = ROOT / "ci" / "baselines" / "published"
FILE = FOLDER / "a100_2023.json"
SHAPE = ("batch_size", "input_len", "output_len")
Key = tuple[str, str, int, int, int]


def points() -> dict[Key, list[tuple[str, int]]]:
    """Model, hardware and shape of each row of the csv -> its figures and milliseconds."""
    found: dict[Key, list[tuple[str, int]]] = defaultdict(list)
    with (FOLDER / "a100_2023.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            batch, first, last = (int(row[key]) for key in SHAPE)
            key = (row["model"], row["hardware"], batch, first, last)
            found[key].append((row["figure"], int(row["latency_ms"])))
    return found


@pytest.fixture(scope="module")
def history() -> History:
    """The committed file, by the reader of all histories."""
    (file,) = find_histories([FOLDER])
    return read_history(file)


def key_of(case: Any) -> Key:
    """The same key out of a record's case."""
    return case["model"]["name"], case["hardware"], case["batch_size"], case["input_len"], case["output_len"]


def test_the_committed_file_is_the_one_that_the_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, and again."""
    monkeypatch.setattr(published, "JSON", tmp_path / "one.json")
    for _ in range(2):
        assert published.main([]) == 0
        assert (tmp_path / "one.json").read_bytes() == FILE.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["one.json"]


def test_the_command_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 4."""
    assert published.main(["x"]) == 4
    assert capsys.readouterr().err == "published: takes no arguments\n"


def test_every_point_has_its_milliseconds(history: History) -> None:
    """138 distinct ones; the 11 that stand in two figures agree, and name both."""
    expected = points()
    assert len(expected) == 138
    assert sum(len(rows) for rows in expected.values()) == 149
    assert len(history.measured) == 138
    for one in history.measured:
        rows = expected.pop(key_of(one.record.case.as_dict()))
        milliseconds = {ms for _, ms in rows}
        assert {round(1e6 * (one.record.latency_mean_s or 0))} == {1000 * ms for ms in milliseconds}
        assert one.record.as_dict()["provenance"]["figures"] == [figure for figure, _ in rows]
        assert one.record.as_dict()["suite"] == rows[0][0]
    assert not expected


def test_speeds_are_those_of_the_definitions(history: History) -> None:
    """By hand: 32 * 64 tokens in 1.726 s on four devices, 2.745 times as fast as one."""
    one = next(m for m in history.measured if m.case_id == "mpt7b-4xa100_80gb-deepspeed-b32-in512-out64")
    record = one.record.as_dict()
    assert record["output_tokens_per_s"] == pytest.approx(1186.559, rel=1e-6)
    assert record["ms_per_output_token"] == pytest.approx(26.96875)
    assert record["parallel"]["output_tokens_per_s_per_device"] == pytest.approx(296.6396, rel=1e-6)
    assert record["parallel"]["over"] == "mpt7b-1xa100_80gb-hf_eager-b32-in512-out64"
    assert record["parallel"]["speed_up"] == pytest.approx(4738 / 1726)
    assert record["parallel"]["efficiency"] == pytest.approx(4738 / 1726 / 4)


def test_bounds_are_of_the_datasheet(history: History) -> None:
    """MPT-7B, batch 1, 101 tokens out: its weights 100 times at 2039 GB/s, and less than 1 % besides."""
    one = next(m for m in history.measured if m.case_id == "mpt7b-1xa100_80gb-hf_eager-b1-in128-out101")
    limits = one.record.as_dict()["limits"]
    weights_s = 100 * 13298573312 / 2039e9
    assert weights_s < limits["decode_bound_s"] < 1.01 * weights_s
    assert limits["of_bound"] == pytest.approx(limits["bound_s"] / 1.617)
    assert limits["peaks"]["measured"] is None
    assert all(0.05 < m.record.as_dict()["limits"]["of_bound"] < 0.8 for m in history.measured)


def test_what_was_not_published_is_none(history: History) -> None:
    """No rounds, no median, no split, no memory; the source is on each."""
    for one in history.measured:
        record = one.record.as_dict()
        assert record["source"] == "published"
        assert record["provenance"]["commit"] == "8c8dd48f"
        assert record["provenance"]["url"].startswith("https://github.com/mosaicml/llm-foundry/")
        assert one.seconds == ()
        for key in ("latency_median_s", "latency_interval", "split", "peak_memory_bytes", "state"):
            assert record[key] is None
        assert record["limits"]["mfu"] is record["limits"]["mbu"] is None
        assert (record["protocol"]["rounds"], record["protocol"]["warmup_rounds"]) == (5, 3)
        assert one.case_id == record["case"]["id"]
        assert one.case_id.partition("-")[0] == record["case"]["model"]["name"]


def test_the_points_that_are_missing_ran_out_of_memory(history: History) -> None:
    """18 of the 84 of the hardware figures, 4 more of the models'."""
    published_keys = set(points())
    models, hardware = ("mpt7b", "mpt30b"), [f"{n}xa100_{gb}gb" for n in (1, 2, 4) for gb in (40, 80)]
    batches = [1, 2, 4, 8, 16, 32, 64]
    missing = {(m, h, b, 512, 64) for m in models for h in hardware for b in batches} - published_keys
    assert len(missing) == 18
    missing |= {("llama13b", "1xa100_80gb", 64, 512, 64)}
    missing |= {("llama30b", "1xa100_80gb", b, 512, 64) for b in (16, 32, 64)}
    assert {key_of(one.case.as_dict()) for one in history.outcomes.values()} == missing
    for one in (outcome.as_dict() for outcome in history.outcomes.values()):
        assert one["outcome"] == "out of memory"
        assert one["detail"] == "absent from the published figure"
        assert one["phase"] is one["needed_bytes"] is one["free_bytes"] is one["after"] is None
        assert one["source"] == "published"


def test_a_measurement_of_today_lands_on_the_same_id(project: pytest.Pytester) -> None:
    """The ids that pytest lists for the suites on these machines are those of the file."""
    listed: set[str] = set()
    for suite, machines in (("hardware", ("4xa100_80gb", "4xa100_40gb")), ("models", ("1xa100_80gb",))):
        for machine in machines:
            options = ("--collect-only", "-q", "--suite", suite, "--hardware", machine)
            done = project.runpytest("benchmarks/test_generate.py", *options)
            assert done.ret == 0
            listed |= {line.partition("[")[2].rstrip("]") for line in done.outlines}
    measured = [m for m in read_history(FILE).measured if m.record.suite != "latency"]
    assert len(measured) == 138 - 48
    assert {m.case_id for m in measured} <= listed


def test_a_plan_sees_how_near_to_the_bound_they_came() -> None:
    """All 138, as of somebody else's machine."""
    found = read_seen([FILE])
    assert len(found) == 138
    assert all(one.published and one.of_bound and one.peaks is None for one in found)


def test_a_point_of_two_latencies_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that its figure's suite does not have."""
    text = published.CSV.read_text()
    monkeypatch.setattr(published, "CSV", tmp_path / "one.csv")
    row = "models,mpt7b,1xa100_80gb,1,512,64,988\n"
    assert row in text
    (tmp_path / "one.csv").write_text(text.replace(row, row.replace("988", "989")))
    with pytest.raises(ValueError, match=r"is published with two latencies: 0\.988 s and 0\.989"):
        published.history()
    (tmp_path / "one.csv").write_text(text + row.replace("64,988", "65,988"))
    with pytest.raises(ValueError, match="suite models has no case for"):
        published.history()


def test_the_file_is_json_for_any_reader() -> None:
    """No NaN, no infinity; a line a case."""
    text = FILE.read_text()
    values = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert sum(line.startswith('{"group"') for line in text.splitlines()) == len(values["benchmarks"])


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--sort", "name"],
        ["--group-by", "param"],
        ["--columns", "min,stddev,outliers,ops,rounds"],
    ],
    ids=" ".join,
)
def test_pytest_benchmark_compares_every_baseline(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own command makes a table, and a csv, of them all."""
    files = sorted(map(str, FOLDER.parent.glob("*/*.json")))
    assert str(FILE) in files
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["pytest-benchmark", "compare", *options, "--csv", "one.csv", "--", *files]
    )
    cli.main()
    shown = capsys.readouterr().out
    assert "test_generate[mpt7b-1xa100_80gb-hf_eager-b1-in128-out101]" in shown
    assert "Failed to load" not in shown
    assert (tmp_path / "one.csv").read_text().count("1xa100_80gb") > 50


def test_the_statistics_are_of_one_value(history: History) -> None:
    """The published mean stands for each; spread that nobody measured is 0, and there are no rounds."""
    benchmarks = json.loads(FILE.read_text())["benchmarks"]
    assert len(benchmarks) == len(history.measured) == 138
    for one in benchmarks:
        stats, mean = one["stats"], one["extra_info"]["latency_mean_s"]
        assert {stats[name] for name in ("min", "max", "mean", "median", "q1", "q3", "total")} == {mean}
        assert stats["iqr"] == stats["stddev"] == 0
        assert (stats["rounds"], stats["iterations"], stats["data"]) == (1, 1, [])
        assert stats["ops"] == pytest.approx(1 / mean)
