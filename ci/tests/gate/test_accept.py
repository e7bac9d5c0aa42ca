"""Runs become baselines: which are refused, and what is kept of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ci.gate import counters
from ci.gate.__main__ import main
from ci.gate.fingerprint import fingerprint
from ci.tests.gate.curated import (
    CASE,
    bench,
    delete,
    fail,
    run,
)
from fixtures.core.base.errors import InputError
from fixtures.core.store.history import read_accepted, read_history
from fixtures.core.store.slim import as_text

OWN_FOLDER = "1xcpu_amd_epyc_family_25_model_17_avx_512_bf16_2_cores"


def test_an_accepted_case_that_would_move_the_cursor_is_left_out(tmp_path: Path) -> None:
    """As one of any other history is."""
    shared = {"record_version": 1, "case": {}, "fingerprint": {}}
    cases = {"fine": [0, 1.0, 1, 1, 1], "\x1b[2J": [0, 1.0, 1, 1, 1], "": [0, 1.0, 1, 1, 1]}
    values = {"accepted": {"shared": [shared], "cases": cases}, "benchmarks": []}
    (tmp_path / "run.json").write_text(as_text(values))
    assert [one.case_id for one in read_accepted(tmp_path / "run.json").measured] == ["fine"]


def accepted(tmp_path: Path, new: Path, *options: str) -> int:
    """Accept it into a folder of baselines."""
    return main(["accept", str(new), "--folder", str(tmp_path / "baselines"), *options])


def quiet(values: dict[str, Any]) -> None:
    """No round was disturbed."""
    for one in values["benchmarks"]:
        one["extra_info"]["state"]["disturbed"] = [[]] * 5


def test_a_run_is_accepted_with_its_fingerprints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the machine's name and its time; once."""
    new = run(tmp_path, "new", change=quiet)
    assert accepted(tmp_path, new) == 0, capsys.readouterr().err
    (file,) = (tmp_path / "baselines" / OWN_FOLDER).glob("*")
    assert file.name == "20261124T000000.json"
    values = json.loads(file.read_text())
    shared, median_s, *point = values["accepted"]["cases"][CASE]
    assert values["accepted"]["shared"][shared]["fingerprint"]["torch"] == "2.13.0+cpu"
    assert (median_s, point) == (read_history(new).measured[0].median_s, [1, 128, 32])
    stats = [{**one["stats"], "data": None} for one in json.loads(new.read_text())["benchmarks"]]
    assert [{**one["stats"], "data": None} for one in values["benchmarks"]] == stats
    assert accepted(tmp_path, new) == 4
    assert "is accepted already, as 20261124T000000.json; a run counts once" in capsys.readouterr().err
    other = run(tmp_path, "other", change=quiet)
    assert accepted(tmp_path, other, "--name", "../x") == 4
    assert accepted(tmp_path, other, "--name", "again") == 0


def dirty(values: dict[str, Any]) -> None:
    """Of a tree with changes."""
    values["commit_info"]["dirty"] = True


def disturbed(values: dict[str, Any]) -> None:
    """One round of the case."""
    bench(values)["extra_info"]["state"]["disturbed"] = [[], ["contention"], [], [], []]


def slower(values: dict[str, Any]) -> None:
    """Far beyond all noise."""
    bench(values)["stats"]["data"] = [2 * one for one in bench(values)["stats"]["data"]]


@pytest.mark.parametrize(
    ("change", "why", "said"),
    [
        (delete, "partial", f"it lacks cases of the baseline (1, such as {CASE})"),
        (fail, "failed", f"cases failed in it (1, such as {CASE})"),
        (dirty, "dirty", "it was measured in a tree with uncommitted changes, or without git"),
        (disturbed, "contended", f"something disturbed its rounds (of 1 cases, such as {CASE})"),
        (slower, "red", f"the gate finds it red (1 cases, such as {CASE})"),
    ],
)
def test_a_run_is_refused_unless_told_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, why: str, said: str
) -> None:
    """Another name does not help."""
    for k in range(5):
        assert accepted(tmp_path, run(tmp_path, f"r{k}", change=quiet), "--name", f"r{k}") == 0

    def both(values: dict[str, Any]) -> None:
        quiet(values)
        change(values)

    new = run(tmp_path, "new", change=both)
    assert accepted(tmp_path, new) == 4
    assert said in capsys.readouterr().err
    others = {"partial", "failed", "dirty", "contended", "red"} - {why}
    assert (
        accepted(tmp_path, new, "--allow", ",".join(others - ({"partial"} if why == "failed" else set())))
        == 4
    )
    assert accepted(tmp_path, new, "--allow", f"{why},partial") == 0


def test_a_label_that_leaves_the_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A history is data."""

    def hostile(values: dict[str, Any]) -> None:
        for one in values["benchmarks"]:
            one["extra_info"]["machine"]["label"] = "../../1xcpu"

    assert accepted(tmp_path, run(tmp_path, "new", change=hostile)) == 4
    assert "mixes machines" in capsys.readouterr().err


def test_an_accepted_run_says_the_same_as_the_run_itself(tmp_path: Path) -> None:
    """By its first line and by the whole file: id, median, fingerprint and counters of each case."""
    new = run(tmp_path, "new", change=quiet)
    assert accepted(tmp_path, new) == 0
    (file,) = (tmp_path / "baselines" / OWN_FOLDER).glob("*")
    runs = [read_history(new), read_history(file), read_accepted(file)]
    for one in zip(*(history.measured for history in runs), strict=True):
        assert len({each.case_id for each in one}) == 1
        assert [each.median_s for each in one] == [pytest.approx(one[0].median_s)] * 3
        assert fingerprint(one[0].record) == fingerprint(one[1].record) == fingerprint(one[2].record)
        assert counters.counters(one[0].record) == counters.counters(one[1].record)
        assert counters.counters(one[0].record) == counters.counters(one[2].record)
    assert len({history.taken for history in runs}) == 1
    assert file.stat().st_size < 60_000
    text = file.read_text()
    for torn in (text[:-5], text.replace("}", "", 1)):
        file.write_text(torn)
        with pytest.raises(InputError, match="not a history"):
            read_accepted(file)


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_pytest_benchmark_reads_an_accepted_run(tmp_path: Path) -> None:
    """It is still its format."""
    new = run(tmp_path, "new", change=quiet)
    assert accepted(tmp_path, new) == 0
    command = [
        sys.executable,
        "-m",
        "pytest_benchmark",
        "--storage",
        f"file://{tmp_path / 'baselines'}",
        "compare",
    ]
    done = subprocess.run([*command, f"{OWN_FOLDER}/*"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert CASE in done.stdout + done.stderr
