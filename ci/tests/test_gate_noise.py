"""The statistics of stored runs: known answers, and the error rates that they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ci.gate.stored import Noise, compare, noise, runs_needed, scale, with_own

FIVE = math.log1p(0.05)


def test_noise_by_hand() -> None:
    """Two cases in three runs: the runs lie at -1, 0 and 1, and the cases differ from that by 0.5.

    Case a: -1.5, 0.5, 1; case b: -0.5, -0.5, 1. Both means are 0; runs: -1, 0, 1, variance 2 / 2 = 1.
    What is left: -0.5, 0.5, 0 and 0.5, -0.5, 0: squares 1, with 6 - 2 - 2 = 2 degrees of freedom.
    """
    found = noise({"a": [8.5, 10.5, 11.0], "b": [-0.5, -0.5, 1.0]})
    assert found == Noise(1.0, 2, math.sqrt(0.5), 2)


def test_of_two_runs_or_none_nothing_is_known() -> None:
    """A case that is in one of many runs tells nothing either."""
    assert noise({"a": [1.0, 2.0]}) is None
    assert noise({"a": [1.0, None, None, 2.0]}) is None
    assert noise({}) is None
    assert noise({"a": [1.0, 2.0, 3.0], "b": [None, None, 4.0]}) == Noise(1.0, 2, 0.0, 1)


def test_noise_is_found_again() -> None:
    """Of 2 % shared and 1 % own, in 200 runs of 50 cases, some of them not in each run."""
    rng = np.random.default_rng(1)
    logs = rng.normal(0, 5, (50, 1)) + rng.normal(0, 0.02, 200) + rng.normal(0, 0.01, (50, 200))
    sparse = {str(k): [None if rng.random() < 0.1 else float(x) for x in row] for k, row in enumerate(logs)}
    found = noise(sparse)
    assert found is not None
    assert found.shared == pytest.approx(0.02, rel=0.1)
    assert found.own == pytest.approx(0.01, rel=0.05)


def test_a_comparison_by_hand() -> None:
    """Four stored runs and one new: scale sqrt(1/4 + 1); quantiles by scipy's own."""
    known = Noise(0.01, 3, 0.02, 27)
    one = compare(0.03, 4, 1, known, 10, FIVE, 0.01)
    factor = math.sqrt(1.25)
    margin = factor * (stats.t.ppf(0.995, 3) * 0.01 + stats.t.ppf(1 - 0.0005, 27) * 0.02)
    error = factor * math.sqrt(0.01**2 + 0.02**2)
    assert (one.change, one.cut) == (0.03, one.margin)
    assert one.margin == pytest.approx(margin)
    assert one.error == pytest.approx(error)
    assert one.visible == pytest.approx(margin + stats.norm.ppf(0.95) * error, rel=1e-4)
    calm = compare(0.0, 4, 1, Noise(1e-4, 3, 1e-4, 27), 10, FIVE, 0.01)
    assert calm.cut == pytest.approx(FIVE, rel=0.01)
    assert calm.margin < 0.002


def test_runs_needed_are_the_fewest() -> None:
    """And no number helps where the stored runs are too few for their noise."""
    known = Noise(0.002, 9, 0.01, 100)
    needed = runs_needed(10, known, 100, FIVE, 0.01)
    assert needed is not None
    assert compare(0, 10, needed, known, 100, FIVE, 0.01).visible <= FIVE
    assert needed == 1 or compare(0, 10, needed - 1, known, 100, FIVE, 0.01).visible > FIVE
    assert runs_needed(3, Noise(0.1, 2, 0.1, 20), 100, FIVE, 0.01) is None


def test_this_runs_own_noise_counts_where_it_is_larger() -> None:
    """Whatever shift all have in common; a few cases that did change do not make it."""
    rng = np.random.default_rng(2)
    known = Noise(0.001, 9, 0.01, 90)
    changes = [(0.5 + float(one), 1.0) for one in rng.normal(0, 0.1, 101)]
    noisy = with_own(known, changes)
    assert noisy.own == pytest.approx(0.1, rel=0.25)
    assert (noisy.own_dof, noisy.own_by) == (100, "this run")
    assert with_own(known, [(0.0, 1.0)] * 50 + [(9.0, 1.0)] * 20) == known
    assert with_own(known, changes[:7]) == known


@pytest.mark.parametrize(("shared", "own"), [(0.002, 0.008), (0.05, 0.05), (0.2, 0.3)])
def test_false_alarms_are_as_rare_as_stated(shared: float, own: float) -> None:
    """100 cases, 10 stored runs and 3 new ones; in at most 1 of 100 runs is a case beyond the cut."""
    rng = np.random.default_rng(3)
    alarms, runs = 0, 400
    for _ in range(runs):
        logs = rng.normal(0, shared, 13) + rng.normal(0, own, (100, 13))
        alarms += bool(slower(logs).any())
    assert alarms <= 0.01 * runs + 2 * math.sqrt(0.01 * runs)


def test_five_percent_are_found_on_a_quiet_machine() -> None:
    """One case of 100, by the same runs, in 95 of 100; and then nothing is called inconclusive."""
    rng = np.random.default_rng(4)
    found, runs = 0, 400
    for _ in range(runs):
        logs = rng.normal(0, 0.002, 13) + rng.normal(0, 0.008, (100, 13))
        logs[7, 10:] += FIVE
        found += bool(slower(logs)[7])
    assert found >= 0.95 * runs


def slower(logs: np.ndarray) -> np.ndarray:
    """Which of the cases the gate calls slower: the last three columns are the new runs."""
    stored, new = logs[:, :10], logs[:, 10:]
    known = noise({str(k): list(row) for k, row in enumerate(stored)})
    assert known is not None
    changes = new.mean(axis=1) - stored.mean(axis=1)
    known = with_own(known, [(float(one), scale(10, 3)) for one in changes])
    cut = compare(0.0, 10, 3, known, len(logs), FIVE, 0.01).cut
    return np.asarray(changes > cut)
