"""Cases that move with the case before them: what was planted is named, and of the same nothing is said."""

from __future__ import annotations

import math
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ci.gate.__main__ import main
from ci.gate.calibrate.orders import NOISES, simulated
from ci.gate.predecessors import ALPHA, ELSEWHERE, FIRST, LEAST_RUNS, moved, named
from ci.report.__main__ import main as report
from ci.tests.gate.curated import CASE, run
from fixtures.core.store.history import read_history

OTHER = CASE.replace("-b1-", "-b4-")


def test_a_case_that_is_slower_after_another_is_named() -> None:
    """Of 20 runs the eight after `a` are the slowest, by 10 %: p is 2 of the 125,970 ways to choose eight."""
    line = [("a" if k % 5 in (1, 3) else "b", 0.1 * (k % 5 in (1, 3)) + 1e-4 * (k % 7)) for k in range(20)]
    after_a, after_b = named({"case": line})
    assert (after_a.case_id, after_a.before, after_a.after, after_a.runs) == ("case", "a", 8, 20)
    assert after_a.p == pytest.approx(2 / math.comb(20, 8))
    assert after_a.ratio == pytest.approx(math.exp(0.1), rel=0.001)
    assert (after_b.before, after_b.p) == ("b", after_a.p)
    assert after_b.ratio == pytest.approx(math.exp(-0.1), rel=0.001)
    assert after_a.text.startswith("case: +10.5 % after a, in 8 of 20 runs (p = 2e-05)")


def test_the_level_is_divided_among_all_tests() -> None:
    """Five of ten runs are slowest: p is 2 of 252, named if it is one of one case, and not beside others."""
    slow = [("a" if k % 2 else "b", 1.0 * (k % 2) + 1e-3 * k) for k in range(10)]
    assert 2 / len(list(combinations(range(10), 5))) < ALPHA
    assert named({"case": slow}) == []  # after a, and after b: two tests
    rare = [(label if label == "a" else f"b{k % 3}", log) for k, (label, log) in enumerate(slow)]
    assert [(one.before, one.after) for one in named({"case": rare})] == [("a", 5)]


def test_a_level_that_changes_is_nobodys() -> None:
    """The first 20 runs mostly after `a`, the last 20, after an update, mostly after `b` and 20 % slower."""
    random = np.random.default_rng(1)
    line = [
        ("ab"[int(random.random() < (0.2 if k < 20 else 0.8))], 0.2 * (k >= 20) + random.normal(0, 0.01))
        for k in range(40)
    ]
    assert named({"case": line}) == []


@pytest.mark.parametrize("name", NOISES)
def test_a_simulated_answer(name: str) -> None:
    """Nothing planted: none of 30 sets of runs has a name. +10 % in 30 runs is found in quiet noise."""
    random = np.random.default_rng(4)
    assert sum(bool(simulated(NOISES[name], 20, 0.0, random)) for _ in range(30)) == 0
    if name == "1 %":
        found = [simulated(NOISES[name], 30, 0.1, random) for _ in range(10)]
        assert all(("0.1", "0.0") in each for each in found)
        assert all(case_id == "0.1" for each in found for case_id, _ in each)


def folder_of(tmp_path: Path, runs: int = 24, order: str = "random") -> Path:
    """Histories in which the case is 20 % slower right after the case of batch 4."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for k in range(runs):
        after = [OTHER, None, "other-1xcpu-hf-b1-in2-out2"][k % 3]

        def turned(values: dict[str, Any], after: str | None = after, k: int = k) -> None:
            for bench in values["benchmarks"]:
                turn = {"order": order, "seed": k if order == "random" else None, "after": after}
                bench["extra_info"]["turn"] = turn

        run(folder, f"r{k}", factor=(1.2 if after == OTHER else 1.0) * (1 + 0.001 * (k % 5)), change=turned)
    return folder


def test_the_command_and_the_report_name_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Advice: exit code 0. The case before is named where it is of the same load."""
    folder = folder_of(tmp_path)
    histories = [read_history(file) for file in sorted(folder.glob("*.json"))]
    found, tested = moved(histories)
    assert tested == 24
    of_case = [one for one in found if one.case_id == CASE]
    assert {one.before for one in of_case} <= {OTHER, ELSEWHERE, FIRST}
    assert of_case[0].before == OTHER
    assert of_case[0].ratio == pytest.approx(1.2, rel=0.01)
    assert main(["trends", str(folder), "-k", CASE]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"\| {CASE} +\| {OTHER} +\| +1\.(19|20)", said)
    assert "of 24 cases with 8 runs or more in random orders" in said
    assert report([str(folder), "--markdown"]) == 0
    assert f"{CASE}: +19.7 % after {OTHER}, in 8 of 24 runs" in capsys.readouterr().out


@pytest.mark.parametrize(("runs", "order"), [(LEAST_RUNS - 1, "random"), (24, "listed")])
def test_too_few_random_orders_tell_nothing(tmp_path: Path, runs: int, order: str) -> None:
    """In a listed order a case always follows the same one."""
    folder = folder_of(tmp_path, runs, order)
    assert moved([read_history(file) for file in folder.glob("*.json")]) == ([], 0)


def test_a_seed_that_is_repeated_counts_once(tmp_path: Path) -> None:
    """The same order again tells nothing new."""
    histories = [read_history(file) for file in sorted(folder_of(tmp_path).glob("*.json"))]
    (first,) = (run for run in histories if run.file.name.startswith("r0."))
    assert moved([first] * 30) == ([], 0)
