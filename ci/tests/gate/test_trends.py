"""Trends: a change that was planted is found where it is, and of the same nothing is said."""

from __future__ import annotations

import math
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ci.gate.__main__ import main
from ci.gate.predecessors import lines_of
from ci.gate.trends import LEAST_RUNS, change_points, changes
from ci.tests.gate.curated import CASE, REAL, bench, of_record, run
from fixtures.core.store.history import read_history


def test_a_planted_change_is_found_where_it_is() -> None:
    """Of five standard deviations, either way, within a run of the truth; two of them are two."""
    rng = np.random.default_rng(1)
    for size in (0.05, -0.05):
        found = [change_points([*rng.normal(0, 0.01, 9), *rng.normal(size, 0.01, 11)]) for _ in range(40)]
        assert sum(len(one) == 1 and abs(one[0] - 9) <= 1 for one in found) >= 38
    logs = [*rng.normal(0, 0.01, 10), *rng.normal(0.1, 0.01, 10), *rng.normal(0, 0.01, 10)]
    assert change_points(logs) == [10, 20]


@pytest.mark.parametrize("runs", [8, 12, 30])
def test_of_the_same_nothing_is_said(runs: int) -> None:
    """In 300 cases there are at most six changes; a disturbed run is none."""
    rng = np.random.default_rng(runs)
    assert sum(bool(change_points(rng.normal(0, 0.02, runs))) for _ in range(300 if runs < 30 else 60)) <= 6
    for _ in range(20):
        logs = rng.normal(0, 0.02, runs)
        logs[int(rng.integers(runs))] += 1.0
        assert change_points(logs) == []
    assert change_points([0.0] * runs) == []
    assert change_points([0.0, 1.0] * ((LEAST_RUNS - 1) // 2)) == []


def folder_of(tmp_path: Path, runs: int, slower_from: int, **other: Any) -> Path:
    """Histories of which the case is 8 % slower from one of them on."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for k in range(runs):
        changed = {"factor": 1.08, **other} if k >= slower_from else {}
        run(folder, f"r{k}", **changed)
    return folder


def test_the_command_names_case_run_and_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Advice: exit code 0."""
    folder = folder_of(tmp_path, 12, 7, change=of_record("versions", "torch", value="2.99"))
    assert main(["trends", str(folder), "-k", "mpt125m"]) == 0
    said = capsys.readouterr().out
    rows = [line.split(" | ") for line in said.splitlines()[2:-1]]
    assert [row[0] for row in rows] == [f"| {CASE}"]
    assert rows[0][1] == "2026-11-24T00:00:07"
    assert rows[0][2] == REAL["commit_info"]["id"][:12]
    assert float(rows[0][3]) == pytest.approx(1.08, rel=0.01)
    assert rows[0][4] == "torch is '2.99', before it is '2.13.0+cpu' |"
    assert "8 cases over up to 12 runs, 1 changes to slower, 0 to faster" in said


def test_without_a_change_or_with_few_runs_there_is_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And how many cases were too short is said."""
    folder = folder_of(tmp_path, 10, 99)
    assert main(["trends", str(folder)]) == 0
    assert capsys.readouterr().out.startswith(
        "trends: 24 cases over up to 10 runs, 0 changes to slower, 0 to"
    )
    found, followed, short = changes([read_history(file) for file in sorted(folder.glob("*"))[:3]])
    assert (found, followed, short) == ([], 0, 24)


def test_a_case_at_a_depth_is_another_line(tmp_path: Path) -> None:
    """Its runs are never among those of the case without one."""

    def at_depth(values: dict[str, Any]) -> None:
        deep = deepcopy(bench(values))
        deep["extra_info"]["case"] |= {"id": f"{CASE}-at4096", "depth": 4096}
        deep["stats"]["data"] = [3 * one for one in deep["stats"]["data"]]
        values["benchmarks"].append(deep)

    histories = [read_history(run(tmp_path, f"r{k}", change=at_depth)) for k in range(3)]
    lines = {case_id: line for (case_id, _), line in lines_of(histories).items()}
    flat, deep = ([log for _, _, log in lines[name]] for name in (CASE, f"{CASE}-at4096"))
    assert [b - a for a, b in zip(flat, deep, strict=True)] == pytest.approx([math.log(3)] * 3)


def test_without_the_library_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4, and what to install."""
    monkeypatch.setitem(sys.modules, "ruptures", None)
    assert main(["trends", str(tmp_path)]) == 4
    assert capsys.readouterr().err == (
        "ERROR: trends: ruptures is not installed; pip install 'ruptures>=1.1.10'\n"
    )
