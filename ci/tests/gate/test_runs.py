"""What becomes of a case in any run counts, a run counts once, and no history ends in a traceback."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ci.gate import __main__ as gate
from ci.gate.__main__ import FAULT, main
from ci.tests.conftest import ROOT
from fixtures.core.store.history import read_accepted

NOISE = (1.0, 1.0002, 0.9998)


def write(
    file: Path,
    cases: Mapping[str, Any],
    taken: str = "2026-01-10T00:00:00+00:00",
    parameters: int = 100,
    **more: Any,
) -> Path:
    """A history of cases by id: seconds, or a list of rounds."""
    benches = []
    for case_id, rounds in cases.items():
        data = rounds if isinstance(rounds, list) else [rounds]
        record = {
            "record_version": 4,
            "case": {"id": case_id, "model": {"name": "m"}, "engine": {"kind": "hf"}, "devices": 1},
            "machine": {"label": "1xcpu", "reported_name": "cpu A", "cores": 2},
            "versions": {"torch": "2"},
            "parameters": parameters,
            "state": {"disturbed": [[]]},
            "latency_median_s": 1.0,
        }
        benches.append({"param": case_id, "extra_info": record, "stats": {"data": data, "median": 1.0}})
    commit = {"id": "abcdef123456789", "dirty": False}
    values = {"machine_info": {}, "commit_info": commit, "benchmarks": benches, "datetime": taken, **more}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))
    return file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With three stored runs of the cases a and b, of three days."""
    monkeypatch.chdir(tmp_path)
    for day in range(3):
        cases = {"a": NOISE[day], "b": NOISE[day - 1]}
        write(tmp_path / "base" / f"b{day}.json", cases, f"2026-01-0{day + 1}T00:00:00+00:00")
    return tmp_path


def judged(*words: str) -> int:
    """The command's exit code, with the stored runs."""
    return main([*words, "--baseline", "base"])


def outcome(case_id: str) -> dict[str, Any]:
    return {"case": {"id": case_id}, "detail": "needs 9 GB"}


def test_the_worst_of_a_candidates_runs_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Out of memory in two of three runs, failed in one; measured in the others, in whatever order."""
    hour = "2026-01-10T0{}:00:00+00:00"
    whole = write(folder / "r1.json", {"a": 1.0, "b": 1.0}, hour.format(1))
    for number in (2, 3):
        write(folder / f"r{number}.json", {"b": 1.0}, hour.format(number), outcomes=[outcome("a")])
    write(folder / "r4.json", {"a": 1.0, "b": 1.0001}, hour.format(4), failed={"b": "it hung"})
    assert judged("r1.json", "r2.json", "r3.json") == 1
    assert "OUT OF MEMORY" in (said := capsys.readouterr().out)
    assert "out of memory in 2 of 3 runs: needs 9 GB" in said
    for order in (["r1.json", "r4.json"], ["r4.json", "r1.json"]):
        assert judged(*order) == 2
        assert "failed in 1 of 2 runs: it hung" in capsys.readouterr().out
    assert judged(str(whole)) == 0


def test_every_runs_counters_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run has other parameters; and the third says nothing of them."""
    write(folder / "r1.json", {"a": 1.0, "b": 1.0}, "2026-01-10T01:00:00+00:00")
    write(folder / "r2.json", {"a": 1.0, "b": 1.0}, "2026-01-10T02:00:00+00:00", parameters=200)
    for order in (["r1.json", "r2.json"], ["r2.json", "r1.json"]):
        assert judged(*order) == 1
        assert "parameters is 200, and was 100" in capsys.readouterr().out
    file = write(folder / "r3.json", {"a": 1.0, "b": 1.0})
    values = json.loads(file.read_text())
    del values["benchmarks"][0]["extra_info"]["parameters"]
    file.write_text(json.dumps(values))
    assert judged("r3.json") == 2
    assert "the run lacks a counter of the baseline: parameters" in capsys.readouterr().out


@pytest.mark.parametrize("rounds", [[0.0, -1.0, math.nan, math.inf, 1.0], [math.nan] * 5, ["1", None]])
def test_rounds_that_are_no_times_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str], rounds: list[Any]
) -> None:
    """Whatever median the record claims; of a stored run they do not count."""
    invalid = sum(one != 1.0 for one in rounds)
    write(folder / "new.json", {"a": rounds, "b": 1.0})
    assert judged("new.json") == 2
    assert f"{invalid} of {len(rounds)} rounds have no valid time" in capsys.readouterr().out
    write(folder / "base" / "b2.json", {"a": rounds, "b": 1.0}, "2026-01-03T00:00:00+00:00")
    write(folder / "new.json", {"a": 1.0, "b": 1.0})
    assert judged("new.json") == 2
    assert "the baseline has 2 comparable runs of it" in capsys.readouterr().out


def test_a_run_in_which_nothing_was_measured_is_judged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All out of memory is red, all failed cannot be judged; new cases that failed are shown."""
    write(folder / "short.json", {}, outcomes=[outcome("a"), outcome("b")])
    write(folder / "failed.json", {}, failed={"a": "x", "b": "y"})
    write(folder / "more.json", {"a": 1.0, "b": 1.0}, failed={"c": "z"}, outcomes=[outcome("d")])
    write(folder / "nothing.json", {})
    assert [judged(name) for name in ("short.json", "failed.json")] == [1, 2]
    capsys.readouterr()
    assert judged("more.json") == 2
    said = capsys.readouterr().out
    assert "is not in the baseline; failed: z" in said
    assert "is not in the baseline; out of memory: needs 9 GB" in said
    assert judged("nothing.json") == 4


def test_half_of_the_cases_ten_times_slower_is_red(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one new run and three stored ones; the others pass, and the next command is there."""
    for day in range(3):
        cases = {f"q{case}": NOISE[(day + case) % 3] for case in range(8)}
        write(folder / "base" / f"b{day}.json", cases, f"2026-01-0{day + 1}T00:00:00+00:00")
    write(folder / "new.json", {f"q{case}": 10.0 if case < 4 else 1.0 for case in range(8)})
    assert judged("new.json") == 1
    said = capsys.readouterr().out
    assert "gate: regressed (4 REGRESSED, 4 PASS)" in said
    assert "4 of 8 cases are slower together, by 900 %" in said
    assert 'python -m ci.gate paired --base abcdef123456 -k "q0 or q1 or q2 or q3"' in said
    assert "1 new run with 3 stored runs, the newest of 2026-01-03T00:00:00" in said


def test_a_case_with_two_states_is_not_red_in_one_of_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """5 % slower in half of ten stored runs, and now; among 30 quiet cases, which pass."""
    for day in range(10):
        cases = {f"q{case:02}": NOISE[(day + case) % 3] for case in range(30)}
        cases["z"] = 1.051 if day % 2 else 1.0
        write(folder / "base" / f"b{day}.json", cases, f"2026-01-{day + 1:02}T00:00:00+00:00")
    write(folder / "new.json", {**{f"q{case:02}": 1.0 for case in range(30)}, "z": 1.051})
    assert judged("new.json") == 2
    said = capsys.readouterr().out
    assert "gate: cannot be judged (1 INCONCLUSIVE, 30 PASS)" in said
    assert "its own noise" in said or "values far out" in said


def test_numbers_and_texts_that_go_beyond_are_no_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The largest ratio that there is; half a letter; sequences that would clear a terminal."""
    for day in range(3):
        write(folder / "base" / f"b{day}.json", {"a": 5e-324, "b": 1.0}, f"2026-01-0{day + 1}")
    write(folder / "new.json", {"a": 1e29, "b": 1.0}, failed={"b": "bad \ud800 \x1b[2J gate: pass"})
    files = {name: folder / f"out.{name}" for name in ("markdown", "json", "junit")}
    assert (
        judged("new.json", *(word for name, file in files.items() for word in (f"--{name}", str(file)))) == 1
    )
    said = capsys.readouterr().out
    assert r"bad \ud800 \x1b[2J gate: pass" in said
    assert all("\x1b" not in text for text in (said, *(file.read_text() for file in files.values())))
    assert len(ElementTree.parse(files["junit"]).getroot()) == 2


def test_a_fault_of_the_gate_is_no_regression(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was not foreseen has a code of its own, and one line."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("not\nforeseen")

    monkeypatch.setattr(gate, "judge", broken)
    write(folder / "new.json", {"a": 1.0})
    assert judged("new.json") == FAULT == 70
    error = capsys.readouterr().err
    assert error == "FAULT of the gate, in test_runs.py:" + error.partition(".py:")[2]
    assert r"ZeroDivisionError: not\nforeseen" in error
    assert error.count("\n") == 1


def test_a_link_that_leads_to_itself_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a folder of stored runs."""
    (folder / "base" / "loop.json").symlink_to("loop.json")
    write(folder / "new.json", {"a": 1.0})
    assert judged("new.json") == 4
    assert "loop.json" in (error := capsys.readouterr().err)
    assert error.count("\n") == 1


def test_copies_are_one_run_and_no_run_is_its_own_baseline(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three copies of one run are a baseline of one; a run that was copied into it is left out."""
    shutil.rmtree(folder / "base")
    one = write(folder / "base" / "b0.json", {"a": 1.0, "b": 1.0}, "2026-01-01T00:00:00+00:00")
    for name in ("b1", "b2"):
        shutil.copy(one, folder / "base" / f"{name}.json")
    write(folder / "other.json", {"a": 1.049, "b": 1.0}, "2026-01-01T00:00:00+00:00")
    assert judged("other.json") == 2
    assert "the baseline has 1 comparable run of it" in capsys.readouterr().out
    shutil.copy(one, folder / "run.json")
    assert judged("run.json") == 4
    assert "has only the run that is judged" in capsys.readouterr().err


def test_the_newest_stored_run_is_by_its_moment(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """05:00 in Tokyo is before 01:00 in UTC: what was counted there is older; a clock is told."""
    write(folder / "base" / "new.json", {"a": 1.0, "b": 1.0}, "2026-01-10T01:00:00+00:00")
    write(folder / "base" / "old.json", {"a": 1.0001, "b": 1.0}, "2026-01-10T05:00:00+09:00", parameters=99)
    write(folder / "run.json", {"a": 1.0001, "b": 1.0002}, "2026-01-01T12:00:00+00:00")
    assert judged("run.json") == 0
    said = capsys.readouterr().out
    assert "the newest of 2026-01-10T01:00:00" in said
    assert "a new run is older than a stored one" in said


def test_a_run_is_accepted_once_and_epochs_are_not_pooled(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a step that was meant, earlier runs stay and do not count; the next run is of the new epoch."""

    def accept(file: Path, *words: str) -> int:
        return main(["accept", str(file), "--folder", str(folder / "kept"), *words])

    day = "2026-02-{:02}T00:00:00+00:00"
    for number in range(3):
        assert accept(write(folder / "r.json", {"a": NOISE[number]}, day.format(number + 1))) == 0
    shutil.copy(folder / "r.json", folder / "copy.json")
    assert accept(folder / "copy.json", "--name", "another") == 4
    assert "is accepted already" in capsys.readouterr().err
    faster = write(folder / "faster.json", {"a": 2.0}, day.format(4))
    assert accept(faster) == 4  # red
    assert accept(faster, "--new-epoch", "driver 600") == 0
    for number in (5, 6):
        assert accept(write(folder / "r.json", {"a": 2 * NOISE[number - 4]}, day.format(number))) == 0
    kept = sorted(folder.glob("kept/1xcpu/*.json"))
    assert [read_accepted(file).epoch for file in kept] == [0, 0, 0, 1, 1, 1]
    assert json.loads(kept[3].read_text())["epoch_why"] == "driver 600"
    capsys.readouterr()
    new = write(folder / "new.json", {"a": 2.0}, day.format(7))
    assert main([str(new), "--baseline", str(folder / "kept")]) == 0
    said = capsys.readouterr().out
    assert "left out of the baseline: 3 of earlier epochs" in said
    assert "with 3 stored runs" in said


def test_what_has_one_reason_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty cases of another library: named once, with the command that makes a baseline."""
    cases = {f"q{case:02}": 1.0 for case in range(20)}
    for day in range(3):
        write(folder / "base" / f"b{day}.json", cases, f"2026-01-0{day + 1}T00:00:00+00:00")
    file = write(folder / "new.json", cases)
    file.write_text(file.read_text().replace('"torch": "2"', '"torch": "3"'))
    assert judged("new.json") == 2
    said = capsys.readouterr().out
    assert said.count("torch is '3', the baseline's is '2'") == 1
    assert "20 cases, such as q00" in said
    assert "python -m ci.gate accept RUN --new-epoch WHY" in said


@pytest.mark.slow
def test_a_terminal_without_letters_gets_their_codes(folder: Path) -> None:
    """An ASCII console; in a process of its own."""
    write(folder / "new.json", {"a": 1.0}, failed={"b": "größer"})
    done = subprocess.run(
        [sys.executable, "-m", "ci.gate", str(folder / "new.json"), "--baseline", str(folder / "base")],
        cwd=ROOT,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert r"failed: gr\xf6\xdfer" in done.stdout
    assert done.stderr == ""


def of_cpu(file: Path, name: str) -> Path:
    """The same history, of a CPU of that name with 2 cores."""
    told = file.read_text().replace('"reported_name": "cpu A"', f'"device": "cpu", "reported_name": "{name}"')
    file.write_text(told)
    return file


def test_a_machine_without_a_baseline_is_told_the_command_that_makes_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, whatever others have, with the exit code of nothing compared; and what it says is true."""
    monkeypatch.setattr("ci.gate.__main__.BASELINES", folder / "kept")
    accept = ["accept", "--folder", str(folder / "kept")]
    assert main([*accept, str(of_cpu(folder / "base" / "b0.json", "EPYC 9"))]) == 0
    assert [path.name for path in (folder / "kept").iterdir()] == ["1xcpu_epyc_9_2_cores"]
    new = of_cpu(write(folder / "new.json", {"a": 1.0}), "EPYC 9, AVX2")
    capsys.readouterr()
    assert main([str(new), "--markdown", str(folder / "gate.md"), "--json", str(folder / "gate.json")]) == 2
    said = capsys.readouterr()
    assert said.out == (
        "gate: cannot be judged, no baseline of this machine (1xcpu, EPYC 9, AVX2, 2 cores) is in "
        f"ci/baselines; python -m ci.gate accept {new} makes one\n"
    )
    assert said.err == ""
    assert "no baseline of this machine" in (folder / "gate.md").read_text()
    assert json.loads((folder / "gate.json").read_text())["exit_code"] == 2
    assert main([*accept, str(new)]) == 0
    other = of_cpu(write(folder / "other.json", {"a": 1.0}, "2026-01-11T00:00:00+00:00"), "EPYC 9, AVX2")
    capsys.readouterr()
    assert main([str(other)]) == 2  # one stored run: too few
    assert "INCONCLUSIVE" in capsys.readouterr().out


def test_a_baseline_is_found_by_its_machine_whatever_its_folder_is_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of the label alone, as earlier versions made them, goes on to be that of its CPU."""
    monkeypatch.setattr("ci.gate.__main__.BASELINES", folder / "kept")
    (folder / "kept").mkdir()
    (folder / "base").rename(folder / "kept" / "1xcpu")
    for file in (folder / "kept" / "1xcpu").iterdir():
        of_cpu(file, "EPYC 9")
    new = of_cpu(write(folder / "new.json", {"a": 1.0}, "2026-01-10T00:00:00+00:00"), "EPYC 9")
    assert main([str(new)]) in (0, 2)
    assert "compared: 1 new run with 3 stored" in capsys.readouterr().out
    assert main(["accept", "--folder", str(folder / "kept"), str(new), "--allow", "partial,red"]) == 0
    assert len(list((folder / "kept" / "1xcpu").iterdir())) == 4
