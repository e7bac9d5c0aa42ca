"""One run counts once, by whatever paths and in whatever form it is given; two runs stay two."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ci.gate.__main__ import main as gate
from ci.gate.accept import WHYS
from ci.histories import keep
from ci.pick.__main__ import main as pick
from ci.report.__main__ import main as report
from ci.report.read.samples import read_samples
from ci.tests.conftest import ROOT
from fixtures.core.forecast.past_runs import read_seen
from fixtures.core.store.history import History, find_histories, read_accepted, read_history
from fixtures.core.store.runs import once, run_identity

STORED = ROOT / "ci" / "histories" / "1xcpu" / "default_20261124.json"
REAL: dict[str, Any] = json.loads(STORED.read_text())
Change = Callable[[dict[str, Any]], object]


def run(file: Path, change: Change = lambda _: None, **layout: Any) -> Path:
    """The stored run of 24 cases, changed."""
    values = deepcopy(REAL)
    change(values)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, **layout))
    return file


def slower(values: dict[str, Any], factor: float = 1.001) -> None:
    """Another run of the same cases in the same second: every round has taken a little longer."""
    for bench in values["benchmarks"]:
        bench["stats"]["data"] = [one * factor for one in bench["stats"]["data"]]


def some(first: int, last: int) -> Change:
    """Only these of its cases."""

    def change(values: dict[str, Any]) -> None:
        values["benchmarks"] = values["benchmarks"][first:last]

    return change


def kept(files: Sequence[Path]) -> tuple[list[History], list[str]]:
    """What counts of these, in their order, and what is said."""
    return once([read_history(file) for file in find_histories(files)])


def copies(folder: Path) -> list[Path]:
    """The same run as a.json, in other places, under other names, in other layouts."""
    one = run(folder / "a.json")
    shutil.copy(one, folder / "b.json")
    (folder / "c.json").symlink_to(one)
    (folder / "deep").mkdir()
    os.link(one, folder / "deep" / "d.json")
    run(folder / "e.json", sort_keys=True, indent=1)
    run(folder / "f.json", lambda values: values["benchmarks"].reverse(), separators=(",", ":"))
    return [
        one,
        folder / "b.json",
        folder / "c.json",
        folder / "deep" / ".." / "a.json",
        folder,
        folder / "deep",
    ]


def test_copies_links_and_layouts_of_a_run_are_one(tmp_path: Path) -> None:
    """One line says which are left out, and of what."""
    (only,), (line,) = kept(copies(tmp_path))
    assert (only.file.name, len(only.measured)) == ("a.json", 24)
    assert line.count(".json") == 4
    assert line.endswith(f" and 2 more are the same run as {tmp_path.name}/a.json: counted once") or (
        "a.json: counted once" in line
    )


def test_an_accepted_copy_is_the_run_itself(tmp_path: Path) -> None:
    """Rounds, states and much else are not in it; the gate reads only its first line."""
    raw = run(tmp_path / "raw.json")
    assert gate(["accept", str(raw), "--folder", str(tmp_path / "base"), "--allow", ",".join(WHYS)]) == 0
    (slim,) = (tmp_path / "base").glob("1xcpu_*/*.json")
    assert slim.stat().st_size < raw.stat().st_size / 2
    assert run_identity(read_history(raw)) == run_identity(read_history(slim))
    assert run_identity(read_history(raw)) == run_identity(read_accepted(slim))
    runs, _ = kept([raw, slim])
    assert [one.file for one in runs] == [raw]


def test_a_run_kept_on_a_branch_is_the_run_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name that it has there."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    git("init", "-q", "--bare", "remote")
    git("init", "-q", "here")
    monkeypatch.chdir(tmp_path / "here")
    raw = run(tmp_path / "raw.json")
    keep.keep([raw], "night_7", "histories", str(tmp_path / "remote"))
    again = tmp_path / "night_7.json"
    again.write_text(git("--git-dir", "remote", "show", "histories:night_7.json"))
    runs, said = kept([raw, again])
    assert len(runs) == len(said) == 1


def test_two_runs_of_the_same_cases_stay_two(tmp_path: Path) -> None:
    """In other rounds, also of the same second; at another time; on another machine; of another commit."""

    def at_another_time(values: dict[str, Any]) -> None:
        slower(values, 1.002)
        values["datetime"] = "2026-11-24T08:00:00.000001+00:00"

    def on_another_machine(values: dict[str, Any]) -> None:
        for bench in values["benchmarks"]:
            bench["extra_info"]["machine"]["node"] = "other"

    def of_another_commit(values: dict[str, Any]) -> None:
        slower(values, 1.003)
        values["commit_info"]["id"] = "f" * 40

    files = [run(tmp_path / "a.json")]
    for number, change in enumerate((slower, at_another_time, on_another_machine, of_another_commit)):
        files.append(run(tmp_path / f"{number}.json", change))
    runs, said = kept(files)
    assert ([one.file for one in runs], said) == (files, [])


def test_both_files_of_a_session_are_one_run(tmp_path: Path) -> None:
    """Of --benchmark-json and of the storage, which pytest-benchmark writes one after the other."""

    def a_moment_later(values: dict[str, Any]) -> None:
        values["datetime"] = REAL["datetime"].replace("07:22:42", "07:22:44")

    def much_later(values: dict[str, Any]) -> None:
        one_round(values)
        values["datetime"] = REAL["datetime"].replace("07:22:42", "09:22:42")

    def one_round(values: dict[str, Any]) -> None:
        for bench in values["benchmarks"]:
            bench["stats"]["data"] = bench["stats"]["data"][:1]

    runs, said = kept([run(tmp_path / "a.json"), run(tmp_path / "b.json", a_moment_later)])
    assert (len(runs), len(said)) == (1, 1)
    # a single round each, such as of two made up runs: too little to say that they are one
    assert len(kept([run(tmp_path / "c.json", one_round), run(tmp_path / "d.json", much_later)])[0]) == 2


def test_what_a_resumed_run_took_over_counts_once(tmp_path: Path) -> None:
    """Its first half, which ended earlier, is in it to the round; what stands beside may differ."""

    def resumed(values: dict[str, Any]) -> None:
        values["datetime"] = "2026-11-24T09:00:00.000001+00:00"
        for bench in values["benchmarks"]:
            bench["extra_info"]["split"]["fit"] = None

    half, whole = run(tmp_path / "half.json", some(0, 10)), run(tmp_path / "whole.json", resumed)
    runs, (line,) = kept([half, whole])
    assert [(one.file, len(one.measured)) for one in runs] == [(whole, 24)]
    assert line.endswith(
        "half.json is in " + "/".join(whole.parts[-3:]) + " too, which resumed that run: counted once"
    )


def test_of_a_run_taken_over_in_part_the_rest_counts(tmp_path: Path) -> None:
    """As with -k: eight cases of ten were taken over by a run of sixteen, so two count by themselves."""

    def resumed(values: dict[str, Any]) -> None:
        values["datetime"] = "2026-11-24T09:00:00.000001+00:00"
        some(2, 18)(values)

    runs, (line,) = kept([run(tmp_path / "half.json", some(0, 10)), run(tmp_path / "more.json", resumed)])
    assert [len(one.measured) for one in runs] == [2, 16]
    assert line.startswith("8 of 10 cases of ")


def test_two_files_of_one_session_are_one_run(tmp_path: Path) -> None:
    """Which have no case in common; the file's name says both."""
    runs, (line,) = kept([run(tmp_path / "a.json", some(0, 10)), run(tmp_path / "b.json", some(10, 24))])
    ((only),) = runs
    assert (only.file.name, len(only.measured)) == ("a.json + b.json", 24)
    assert run_identity(only) == run_identity(read_history(STORED))
    assert line.endswith("/a.json: counted as one")


def test_runs_that_are_known_by_a_day_alone_are_not_parts_of_one(tmp_path: Path) -> None:
    """As what was published in some year."""

    def published(first: int, last: int) -> Change:
        return lambda values: (some(first, last)(values), values.update(datetime="2023"))

    files = [run(tmp_path / "a.json", published(0, 10)), run(tmp_path / "b.json", published(10, 24))]
    assert len(kept(files)[0]) == 2


def test_a_run_without_a_number_counts_once_too(tmp_path: Path) -> None:
    """All of whose cases ran out of memory, or failed."""

    def lost(values: dict[str, Any]) -> None:
        case = values["benchmarks"][0]["extra_info"]["case"]
        values |= {"benchmarks": [], "outcomes": [{"case": case, "outcome": "out of memory"}]}

    def other(values: dict[str, Any]) -> None:
        lost(values)
        values["datetime"] = "2026-11-25T09:00:00.000001+00:00"

    files = [run(tmp_path / f"{k}.json", change) for k, change in enumerate((lost, lost, other))]
    assert [one.file.name for one in kept(files)[0]] == ["0.json", "2.json"]


def test_every_reader_counts_a_run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markdown, picker, trends, plan and the gate; each says in a line what is left out."""
    copies(tmp_path)
    folder, file = str(tmp_path), str(tmp_path / "a.json")
    assert report([folder, file, "--markdown"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("24 cases of 1 run: 24 measured.\n")
    assert told.err.count("\n") == 1
    assert pick([folder, "--model", "mpt125m", "--input", "128", "--output", "32", "--latency", "9s"]) == 0
    assert capsys.readouterr().err.startswith("pick: ")
    assert len(read_samples([tmp_path])) == 24
    assert len(read_seen(find_histories([tmp_path]))) == 24
    pytest.importorskip("ruptures")
    assert gate(["trends", folder]) == 0
    assert "over up to 1 runs" in capsys.readouterr().out


def test_the_gate_takes_copies_for_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the run, and of a baseline; and a run that is judged is in no baseline, by no name."""
    for number in range(4):

        def noise(values: dict[str, Any], number: int = number) -> None:
            values["datetime"] = f"2026-11-2{number}T09:00:00.000001+00:00"
            for place, bench in enumerate(values["benchmarks"]):
                scale = 1.0001 + 0.003 * ((place * 7 + number * 5) % 11 - 5)
                bench["stats"]["data"] = [one * scale for one in bench["stats"]["data"]]

        run(tmp_path / "base" / f"{number}.json", noise)
    new = run(tmp_path / "new.json")
    baseline = ["--baseline", str(tmp_path / "base")]
    gate([str(new), *baseline])
    alone = capsys.readouterr()
    for name in ("again", "base/copy_of_new", "base/second"):
        shutil.copy(tmp_path / "base" / "0.json" if "second" in name else new, tmp_path / f"{name}.json")
    gate([str(new), str(tmp_path / "again.json"), *baseline])
    found = capsys.readouterr()
    more = [line for line in found.out.splitlines() if line not in alone.out.splitlines()]
    assert set(alone.out.splitlines()) <= set(found.out.splitlines())
    assert "again.json is the same run as" in more[0]
    assert "second.json is the same run as" in more[1]
    assert more[2:] == ["left out of the baseline: one run that is judged itself"]
