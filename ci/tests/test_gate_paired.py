"""Pairs of processes that take turns: error rates, the order, and a real comparison of two checkouts."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ci.gate import sequential
from ci.gate.__main__ import main
from ci.gate.paired import Comparison
from ci.gate.sides import Side, opened
from ci.gate.simulate import REGIMES, Pairs, Regime, error_table, paired
from ci.gate.verdicts import Word
from ci.tests.conftest import FAKED, ROOT
from fixtures.core.errors import InputError

FIVE = math.log1p(0.05)
QUIET, _, BAD = REGIMES


def test_bounds_and_likelihood_by_hand() -> None:
    """Wald's: log(0.02 / 0.99) and log(0.98 / 0.01); three pairs in the middle between both say nothing."""
    low, high = sequential.bounds(0.01, 0.02)
    assert low == pytest.approx(-3.9020, abs=1e-4)
    assert high == pytest.approx(4.5850, abs=1e-4)
    assert sequential.likelihood([0.02] * 3, 0.01, 0.04) == pytest.approx(0)
    # each pair at d = 0.04 with sd 0.02 counts d^2 / (2 sd^2) = 2
    assert sequential.likelihood([0.04] * 3, 0.02, 0.04) == pytest.approx(6)
    # 0.34 lies two standard deviations, 0.04, above the median 0: it counts as 0.04
    assert sequential.likelihood([0.0, 0.0, 0.34], 0.02, 0.04) == pytest.approx(100 * (-0.02 - 0.02 + 0.02))


def test_a_decision_takes_six_pairs_and_a_deviation() -> None:
    """However clear five are."""
    assert sequential.decide([1.0] * 5, 0.01, FIVE, 0.01, 0.02) is None
    assert sequential.decide([1.0] * 6, None, FIVE, 0.01, 0.02) is None
    assert sequential.decide([FIVE] * 6, 0.01, FIVE, 0.01, 0.02) is True
    assert sequential.decide([0.0] * 6, 0.01, FIVE, 0.01, 0.02) is False
    assert sequential.decide([FIVE / 2] * 40, 0.01, FIVE, 0.01, 0.02) is None


def test_the_deviation_is_found_from_above() -> None:
    """By many pairs nearly as it is, by few too large; single ones that lie far out hardly count."""
    rng = np.random.default_rng(1)
    many = {str(k): list(rng.normal(k, 0.02, 8)) for k in range(100)}
    assert sequential.deviation(many) == pytest.approx(1.15 * 0.0215, rel=0.1)
    few = [sequential.deviation({"a": list(rng.normal(0, 0.02, 6))}) or 0.0 for _ in range(400)]
    assert np.mean(np.array(few) > 0.02) > 0.8
    assert sequential.deviation({"a": [0.0, 1.0, 2.0, 3.0, 4.0]}) is None
    assert sequential.deviation(many, stored=0.5) == 0.5
    outliers = {name: [*one, 9.0] for name, one in many.items()}
    assert sequential.deviation(outliers) == pytest.approx(1.15 * 0.025, rel=0.2)


def compared(noise: Pairs, file: Path, cases: int = 100, pairs: int = 400) -> Comparison:
    """So many cases."""
    ids = [f"case{k}" for k in range(cases)]
    return Comparison(ids, (noise.base, noise.new), FIVE, file, lambda _: None, pairs)


@pytest.mark.parametrize("regime", REGIMES, ids=lambda regime: regime.name)
def test_error_rates_of_runs_of_100_cases(regime: Regime) -> None:
    """At most 1 % false alarms, at least 95 % of slowdowns of 5 % found; by as many runs as time allows."""
    runs = 3 if regime is BAD else 20
    rates = paired(regime, runs)
    assert rates.alarms == 0
    assert rates.found[0.05] >= 1 - 2 / runs
    assert rates.found[0.1] == 1
    assert rates.pairs is not None
    assert sequential.LEAST_PAIRS <= rates.pairs < 200


def test_the_table_has_every_rule_and_regime() -> None:
    """Of one run each."""
    head, _, *rows = error_table(1)
    assert len(rows) == 2 * len(REGIMES)
    assert {row.count("|") for row in rows} == {head.count("|")}


def test_the_sides_take_turns_and_decided_cases_are_left_out(tmp_path: Path) -> None:
    """Base, new, new, base; what is red is measured by itself, in a second series."""
    noise = Pairs(QUIET, 3, {"case1": 2 * FIVE})
    order: list[str] = []
    seen: list[list[str]] = []

    def base(ids: Sequence[str]) -> dict[str, float]:
        order.append("base")
        return noise.base(ids)

    def new(ids: Sequence[str]) -> dict[str, float]:
        order.append("new")
        seen.append(list(ids))
        return noise.new(ids)

    comparison = compared(noise, tmp_path / "p", cases=3)
    comparison.measure = (base, new)
    verdicts = comparison.run()
    assert order[:8] == ["base", "new", "new", "base"] * 2
    assert [one.word for one in verdicts] == [Word.PASS, Word.REGRESSED, Word.PASS]
    assert seen[-1] == ["case1"]


def test_a_budget_that_is_spent_is_inconclusive(tmp_path: Path) -> None:
    """With what would be needed."""
    verdicts = compared(Pairs(BAD, 4), tmp_path / "p", cases=2, pairs=6).run()
    assert {one.word for one in verdicts} == {Word.INCONCLUSIVE}
    assert "are needed" in verdicts[0].reason
    verdicts = compared(Pairs(BAD, 4), tmp_path / "q", cases=2, pairs=5).run()
    assert verdicts[0].reason == "5 pairs are too few"


def test_a_case_that_one_side_cannot_measure_is_missing(tmp_path: Path) -> None:
    """The others go on."""
    noise = Pairs(QUIET, 5)
    comparison = compared(noise, tmp_path / "p", cases=2)
    comparison.measure = (noise.base, lambda ids: {k: v for k, v in noise.new(ids).items() if k != "case0"})
    verdicts = comparison.run()
    assert [one.word for one in verdicts] == [Word.MISSING, Word.PASS]
    assert verdicts[0].reason == "the new side has no number for it"


def test_what_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    """At any pair, a torn line among them: the same verdicts as without a stop."""
    whole = compared(Pairs(QUIET, 6, {"case1": FIVE}), tmp_path / "whole", cases=4).run()
    kept = (tmp_path / "whole").read_text().splitlines(keepends=True)
    for cut in range(len(kept) + 1):
        (tmp_path / "cut").write_text("".join(kept[:cut]) + '{"series": 1, "rat')
        again = compared(Pairs(QUIET, 7, {"case1": FIVE}), tmp_path / "cut", cases=4).run()
        assert [one.word for one in again] == [one.word for one in whole]
        (tmp_path / "cut").unlink()


def git(folder: Path, *words: str) -> None:
    """In a repository of its own."""
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    identity = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, env=env)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This project with the fake engine, committed; calls take 2 ms by its clock, with a little noise."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("benchmarks", "fixtures", "yamls", "ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pytest.ini", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    noise = "\nimport random\nfrom ci.tests.fake_engine import Law\n"
    noise += "FakeEngine.law = Law(factor=lambda _, f=random.gauss(1, 0.004): f)\n"
    (folder / "conftest.py").write_text((folder / "conftest.py").read_text() + FAKED + noise)
    model = {"name": "m", "architecture": {"model_type": "fake"}}
    sweep = {"name": "s", "batch_sizes": [1, 2], "input_lengths": [4], "output_lengths": [2]}
    suite = {"models": [model], "hardware": ["1xany"], "sweeps": [sweep], "rounds": 2, "warmup_rounds": 0}
    (folder / "suite.yaml").write_text(json.dumps(suite))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def gate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in that checkout."""
    command = [
        sys.executable,
        "-m",
        "ci.gate",
        "paired",
        "--base",
        "HEAD",
        *words,
        "--",
        "--suite",
        "suite.yaml",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_a_planted_slowdown_goes_red_and_its_twin_stays_green(checkout: Path) -> None:
    """Against HEAD in a worktree of its own, which is gone afterwards; real processes, real histories."""
    engine = checkout / "ci" / "tests" / "fake_engine.py"
    call = "law.token_times(output_len, call)"
    slower = f"[(1.1 if batch_size == 2 else 1.0) * moment for moment in {call}]"
    engine.write_text(engine.read_text().replace(call, slower))
    done = gate(checkout)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"m-1xcpu-hf-b2-in4-out2  REGRESSED  1\.(09|10)", done.stdout), done.stdout
    assert re.search(r"m-1xcpu-hf-b1-in4-out2  PASS  ", done.stdout), done.stdout
    assert not list((checkout / ".benchmarks" / "paired").glob("*/"))
    listed = subprocess.run(["git", "worktree", "list"], cwd=checkout, capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1


def test_bases_are_refs_environments_and_engines(tmp_path: Path) -> None:
    """What is none of them is one line."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").touch()
    with opened(str(tmp_path / "env"), ROOT) as side:
        assert side.python == str(tmp_path / "env" / "bin" / "python")
    with opened("engine=hf_eager", ROOT) as side:
        assert side._own("m-1xcpu-hf-b1-in4-out2") == "m-1xcpu-hf_eager-b1-in4-out2"
    for base in ("no such ref", "--help", ""):
        with pytest.raises(InputError, match=r"is no git ref, no environment"), opened(base, tmp_path):
            pass


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4."""
    assert main(["paired"]) == 4
    assert main(["paired", "--base", "none such"]) == 4
    assert capsys.readouterr().err.count("\n") == 2


def test_a_choice_of_nothing_is_one_line() -> None:
    """pytest's own last line."""
    with pytest.raises(InputError, match="new: no case is chosen: "):
        Side("new", ROOT).ids(["-k", "no such case"])
