"""Error rates of the paired rule by simulation, and the tables that say so."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy import stats

from ci.gate.calibrate.paired_families import HARDER, REGIMES, paired_table
from ci.gate.calibrate.simulate import HEAD, Regime, Replayed, Simulated, at_least, at_most, paired, row
from ci.tests.conftest import ROOT

FIVE = math.log1p(0.05)


QUIET, _, BAD = REGIMES


@pytest.mark.parametrize("regime", [*REGIMES, *HARDER], ids=lambda regime: regime.name)
def test_error_rates_of_runs_of_100_cases(regime: Regime) -> None:
    """At most 1 % false alarms, +5 % found in 95 % where cases PASS; by as many runs as time allows."""
    runs, cases = 20, 10 if regime is BAD else 50
    pairs = 800 if regime is BAD else 200
    rates = paired(Simulated(regime), runs, seed=1, cases=cases, most_pairs=pairs)
    assert rates.alarms <= 1
    assert rates.passed[0.05] <= 2
    assert rates.found[0.05] >= 0.95 * runs - 2
    assert rates.found[0.1] == runs
    assert rates.pairs is not None
    assert 15 <= rates.pairs < 200
    assert rates.open is not None
    assert rates.open < 0.2
    default = paired(Simulated(regime), 10, seed=2, cases=25)
    assert default.alarms == default.passed[0.05] == 0
    assert default.open == 1.0 or regime is not BAD  # nothing passes that could not be found


@pytest.mark.parametrize("cases", [1, 3, 10])
def test_error_rates_of_few_cases(cases: int) -> None:
    """Of which the noise is known less well."""
    rates = paired(Simulated(REGIMES[1]), 200, seed=2, cases=cases)
    assert at_least(rates.alarms, 200) < 0.01
    assert rates.found.get(0.05, 200) >= 0.95 * 200


def test_shares_have_bounds_by_clopper_and_pearson() -> None:
    """As scipy's exact test has them; none of 300 is at most 1 %, by the rule of three."""
    for found, of in ((0, 300), (3, 1000), (97, 100), (20, 20)):
        exact = stats.binomtest(found, of).proportion_ci(0.9, "exact")
        assert at_most(found, of) == pytest.approx(exact.high)
        assert at_least(found, of) == pytest.approx(exact.low)
    assert at_most(0, 299) == pytest.approx(0.01, rel=0.01)


def test_the_table_has_every_rule_and_regime() -> None:
    """Of one run each."""
    head, _, *rows = paired_table(1, everything=False)
    assert len(rows) == len(REGIMES) + len(HARDER)
    assert {row.count("|") for row in rows} == {head.count("|")}


def test_the_readmes_table_is_what_the_command_writes() -> None:
    """The row that takes a second is worked out again, digit by digit."""
    text = (ROOT / "ci/gate/README.md").read_text()
    rows = text[text.index(HEAD[0]) :].partition("\n\n")[0].splitlines()
    assert tuple(rows[:2]) == HEAD
    assert len(rows) == 2 + len(REGIMES) + len(HARDER)
    assert row("paired, quiet", paired(Simulated(QUIET), 1000)) == rows[2]
    for line in rows[2 : 2 + len(REGIMES) + len(HARDER)]:
        alarms, passed = (re.findall(r"< ([0-9.]+) %", cell)[0] for cell in line.split(" | ")[1:6:4])
        assert float(alarms) <= 1
        assert float(passed) <= 5


def test_noise_that_was_measured_is_replayed() -> None:
    """Of a process all cases together; each as often as the others, none from another's pairs."""
    pairs = np.arange(12.0).reshape(3, 4) + 100
    noise, rng = Replayed([pairs[:, :1], pairs[:, 1:]]), np.random.default_rng(0)
    run = np.repeat([0, 1], 7)
    noise.start(rng, run)
    found = np.array([noise.pair(rng, np.arange(14), np.zeros(2, bool)) for _ in range(400)])
    turned, found = found < 0, np.abs(found) - 100
    assert abs(turned[:, 0].mean() - 0.5) < 0.1
    case, column = found // 4, found % 4
    assert (case == case[0]).all()
    assert sorted(np.bincount(case[0].astype(int))) in ([4, 4, 6], [4, 5, 5])
    assert set(np.unique(column)) == {0, 1, 2, 3}
    together = (column[:, 0] == column[:, 1]).mean()
    assert together == 1 or together < 0.5
    assert together < 1 or (turned[:, 0] == turned[:, 1]).all()  # a process is turned as a whole
    assert (column[:, 0] == column[:, 7]).mean() < 0.5  # another run, another process


def test_the_mean_of_few_measured_pairs_is_no_slowdown() -> None:
    """Eight pairs of unchanged code lie 5 % on one side, as happens where they differ by 10 %: no alarm."""
    few = np.random.default_rng(3).normal(0, 0.1, (3, 8))
    few += FIVE - few.mean(axis=1, keepdims=True)
    rates = paired(Replayed([few]), 20)
    assert rates.alarms <= 1
    assert rates.found[0.1] >= 18


def test_the_case_that_would_pass_has_the_noise_of_the_slower_one() -> None:
    """Where no noise is random, both differ by what is planted alone; no other case shares its noise."""
    seen: list[np.ndarray] = []

    class Counting:
        def start(self, rng: np.random.Generator, run: np.ndarray) -> None:
            del rng, run

        def pair(self, rng: np.random.Generator, rows: np.ndarray, new_first: np.ndarray) -> np.ndarray:
            del rng, new_first
            seen.append(rows)
            return np.zeros(len(rows))

    rates = paired(Counting(), 2, cases=5)
    assert rates.sure == (2, 2)
    assert seen[0].tolist() == [0, 1, 2, 4, 5, 6, 7, 9]  # case 3 takes what case 1 has, slower by 5 %
    assert all(len(set(rows.tolist())) == len(rows) for rows in seen)
