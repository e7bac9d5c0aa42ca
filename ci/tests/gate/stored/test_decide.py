"""The statistics of stored runs: known answers, and planted noise found again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ci.gate.stored.decide import decide, spells
from fixtures.core.result.spread import Tail, drift, moderated, noisier_today, shared_by_run, winsorised

FIVE = math.log1p(0.05)


def test_what_a_run_shares_by_hand() -> None:
    """Cases around 10, 0 and 5; the runs lie 0, 1 and 3 higher. Medians are of the second."""
    logs = np.array([[10.0, 11.0, 13.0], [0.0, 1.0, 3.0], [5.0, 6.0, 8.0]])
    assert shared_by_run(logs).tolist() == [-1.0, 0.0, 2.0]
    logs[1, 2] = math.nan
    assert shared_by_run(logs)[2] == pytest.approx(2.0)


def test_what_three_runs_share_is_found_in_full() -> None:
    """Planted: 5 % of what runs share, and 5 % of each case's own; the variance of 300 times three runs."""
    rng = np.random.default_rng(13)
    found = []
    for _ in range(300):
        found.append(np.var(shared_by_run(rng.normal(0, 0.05, (100, 3)) + rng.normal(0, 0.05, 3)), ddof=1))
    assert math.sqrt(np.mean(found)) == pytest.approx(0.05, rel=0.1)


def test_winsorised_by_hand() -> None:
    """Ten runs, of which one at each end is drawn in: 1, 1, 2, ..., 8, 8. Of fewer all count."""
    logs = np.array([[0.0, 1, 2, 3, 4, 5, 6, 7, 8, 900]])
    place, variance, dof = winsorised(logs)
    drawn_in = [1, 1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert place[0] == pytest.approx(4.5)
    assert dof[0] == 7
    assert variance[0] == pytest.approx(10 * sum((one - 4.5) ** 2 for one in drawn_in) / (8 * 7))
    place, variance, dof = winsorised(np.array([[1.0, 2.0, 6.0, math.nan]]))
    assert (place[0], variance[0], dof[0]) == (3.0, 7.0, 2)


def test_noise_of_equal_cases_is_pooled_and_of_uneven_ones_is_not() -> None:
    """Planted: 400 cases of one variance, of lognormal ones, and one that is a hundred times the others."""
    rng = np.random.default_rng(1)
    equal = rng.chisquare(9, 400) / 9
    pooled, dof = moderated(equal, np.full(400, 9.0))
    assert pooled == pytest.approx(1.0, rel=0.15)
    assert dof.min() > 50
    _, dof = moderated(equal * np.exp(rng.normal(0, 2, 400)), np.full(400, 9.0))
    assert dof.max() < 12
    equal[7] *= 100
    found, dof = moderated(equal, np.full(400, 9.0))
    assert found[7] == pytest.approx(equal[7], rel=0.2)
    assert dof[7] < 12
    assert np.delete(found, 7) == pytest.approx(1.0, rel=0.15)


@pytest.mark.parametrize("dof", [2.0, 3.0, 5.0])
def test_a_tail_is_found_again(dof: float) -> None:
    """Of Student's t the power is its degrees of freedom; shares are not exceeded."""
    values = np.random.default_rng(2).standard_t(dof, (200, 20))
    tail = Tail.of(values)
    assert tail.steep < dof
    for share in (0.1, 0.01, 1e-4):
        assert stats.t.sf(tail.beyond(share), dof) < 1.1 * share
        assert stats.t.sf(tail.beyond(share), dof) > share / 50


def test_a_noisier_day_is_seen_and_slower_cases_are_none() -> None:
    """Three times the scatter, in the changes and in the runs; half of the cases slower by ten deviations."""
    rng = np.random.default_rng(3)
    calm, ones = rng.normal(0, 1, 100), np.ones(100)
    one_run = np.full((100, 1), 0.0)
    assert noisier_today(calm, ones, one_run, ones) == 1.0
    assert noisier_today(3 * calm, ones, one_run, ones) == pytest.approx(3, rel=0.3)
    assert noisier_today(calm + 10 * (np.arange(100) < 50), ones, one_run, ones) < 3
    runs = rng.normal(0, 3, (100, 3))
    assert noisier_today(calm, ones, runs, ones) == pytest.approx(3, rel=0.2)


def test_a_drift_by_least_squares() -> None:
    """As scipy has the slope and its error; one within the noise is none, and may be all the same."""
    rng = np.random.default_rng(4)
    logs = -0.01 * np.arange(10) + rng.normal(0, 0.003, 10)
    line = stats.linregress(np.arange(10), logs)
    seen, may_be = drift(logs)
    assert seen == pytest.approx(abs(line.slope))
    assert may_be == pytest.approx(abs(line.slope) + stats.t.ppf(0.95, 8) * line.stderr)
    flat = rng.normal(0, 0.003, 10)
    seen, may_be = drift(flat)
    assert seen == 0
    assert may_be > 0
    assert drift(flat[:2]) == (0.0, 0.0)


def test_a_case_of_its_own_by_hand() -> None:
    """One case in ten stored runs and three new ones: Student's quantiles by scipy's own functions."""
    rng = np.random.default_rng(5)
    old = rng.normal(0, 0.01, (1, 10))
    new = np.array([[0.2, 0.2, 0.2]])
    one = decide(old, new, threshold=FIVE, alpha=0.01)
    (place,), (variance,), (dof,) = winsorised(old)
    error = math.sqrt(variance * (1 / 10 + 1 / 3))
    seen, _ = drift(shared_by_run(old))
    assert one.change[0] == pytest.approx(0.2 - place)
    assert one.margin[0] == pytest.approx(stats.t.ppf(1 - 0.006, dof) * error + seen * 6.5)
    assert one.is_slower.tolist() == one.is_red.tolist() == [True]
    assert decide(old, -new, threshold=FIVE, alpha=0.01).is_faster.tolist() == [True]


def test_one_disturbed_run_of_three_is_no_slowdown() -> None:
    """Its mean is far beyond the cut; two of its runs are as they were."""
    rng = np.random.default_rng(6)
    logs = rng.normal(0, 0.005, (50, 13))
    logs[3, 12] += 0.5
    one = decide(logs[:, :10], logs[:, 10:], threshold=FIVE, alpha=0.01)
    assert one.change[3] > one.margin[3]
    assert not one.is_red.any()
    assert not one.is_no_slower[3]


@pytest.mark.parametrize("share", [1 / 3, 0.5, 1.0])
@pytest.mark.parametrize("factor", [1.1, 2.0])
def test_many_cases_that_are_slower_are_no_noise(share: float, factor: float) -> None:
    """A third, half and all of 24 cases; none of the others is red."""
    rng = np.random.default_rng(7)
    logs = rng.normal(0, 0.005, (24, 13)) + rng.normal(0, 0.003, 13)
    many = round(24 * share)
    logs[:many, 10:] += math.log(factor)
    one = decide(logs[:, :10], logs[:, 10:], threshold=FIVE, alpha=0.01)
    assert one.is_red[:many].all()
    assert not one.is_red[many:].any()


def test_cases_too_noisy_by_themselves_are_red_together() -> None:
    """100 cases with 4 % of noise, all 6 % slower: hardly one is red by itself."""
    rng = np.random.default_rng(8)
    logs = rng.normal(0, 0.04, (100, 13)) + rng.normal(0, 0.002, 13)
    logs[:, 10:] += math.log(1.06)
    one = decide(logs[:, :10], logs[:, 10:], threshold=FIVE, alpha=0.01)
    assert one.is_slower.mean() < 0.1
    assert one.together == pytest.approx(math.log(1.06), abs=0.02)
    assert one.is_red.mean() > 0.8


def test_another_day_passes_only_where_stored_runs_tell_how_days_differ() -> None:
    """All stored runs of one day: the same change passes on that day, and is open on the next."""
    rng = np.random.default_rng(9)
    logs = rng.normal(0, 0.003, (20, 13))
    day, hour = 86400.0, 3600.0
    same = [hour / 10 * run for run in range(13)]
    one_day = spells(same[:10], [day + one for one in same[10:]])
    many_days = spells([day * run for run in range(10)], [10 * day, 10 * day + hour, 10 * day + 2 * hour])
    assert decide(logs[:, :10], logs[:, 10:], threshold=FIVE, alpha=0.01).is_no_slower.all()
    apart = decide(logs[:, :10], logs[:, 10:], threshold=FIVE, alpha=0.01, taken=one_day)
    assert not apart.is_no_slower.any()
    assert set(apart.hidden_by) == {"the stored runs are all of one day, and do not tell how days differ"}
    known = decide(logs[:, :10], logs[:, 10:], threshold=FIVE, alpha=0.01, taken=many_days)
    assert known.is_no_slower.all()
    logs[:, 10:] += 0.3
    assert decide(logs[:, :10], logs[:, 10:], threshold=FIVE, alpha=0.01, taken=one_day).is_slower.all()


def test_spells_are_numbered_by_time() -> None:
    """Five hours belong together, seven do not, in whatever order they are given."""
    hour = 3600.0
    old, new = spells([7 * hour, 0.0, 20 * hour], [12 * hour, 21 * hour])
    assert (old.tolist(), new.tolist()) == ([1, 0, 2], [1, 2])


def test_runs_needed_are_the_fewest_asked() -> None:
    """With as many new runs as are said, the threshold is visible; and no number helps a noisy machine."""
    rng = np.random.default_rng(10)
    logs = rng.normal(0, 0.009, (30, 10))
    one = decide(logs, logs[:, :1] * 0, threshold=FIVE, alpha=0.01)
    assert (one.visible > FIVE).all()
    needed = one.runs_needed[0]
    assert needed is not None
    more = rng.normal(0, 0.009, (30, needed))
    assert np.median(decide(logs, more, threshold=FIVE, alpha=0.01).visible) < 1.25 * FIVE
    assert set(decide(20 * logs, logs[:, :1] * 0, threshold=FIVE, alpha=0.01).runs_needed) == {None}


def test_runs_without_any_of_the_cases_tell_nothing() -> None:
    """Other suites' runs among the stored ones, and a new one: the decision is that without them."""
    rng = np.random.default_rng(11)
    logs = rng.normal(0, 0.004, (9, 13))
    logs[2, 4] = math.nan
    gap = np.full((9, 2), math.nan)
    old, new = np.hstack([logs[:, :3], gap, logs[:, 3:10]]), np.hstack([gap, logs[:, 10:]])
    one = decide(logs[:, :10], logs[:, 10:], threshold=FIVE, alpha=0.01)
    other = decide(old, new, threshold=FIVE, alpha=0.01)
    assert other.visible.tolist() == one.visible.tolist()
    assert np.isfinite(other.visible).all()


def test_new_runs_in_a_state_that_a_stored_one_had_are_slower_once_that_is_no_chance() -> None:
    """One of ten stored runs lies 6 % higher, as all new ones do: with three that is chance, with ten none.

    By the hypergeometric distribution all n new of 10 + n runs are among the n + 1 that are higher.
    """
    rng = np.random.default_rng(12)
    logs, cases = rng.normal(0, 0.004, (50, 20)), 50
    logs[3:5, 10:] += 0.06
    logs[3, 4] = logs[3, 10]
    for new in (3, 5, 8, 10):
        chance = stats.hypergeom(10 + new, new + 1, new).pmf(new)
        one = decide(logs[:, :10], logs[:, 10 : 10 + new], threshold=FIVE, alpha=0.01)
        assert one.is_slower[4]
        assert bool(one.is_slower[3]) == (chance < 0.006 / cases)
        assert not one.is_pass[3]
    assert one.is_red[3]
    logs[3, 10:] = math.log(10)
    assert decide(logs[:, :10], logs[:, 10:13], threshold=FIVE, alpha=0.01).is_red[3]
    logs[3, 10:] = -0.06
    assert decide(logs[:, :10], logs[:, 10:13], threshold=FIVE, alpha=0.01).is_faster[3]
    logs[3, 10:], logs[3, 4] = 0.0, 0.05  # unchanged; but a slowdown of 5 % would be taken for the state
    open_now = decide(logs[:, :10], logs[:, 10:13], threshold=FIVE, alpha=0.01)
    assert not open_now.is_pass[3]
    assert open_now.hidden_by[3] == "values far out in the stored runs"
    assert open_now.runs_needed[3] == 10
    assert open_now.is_pass[5:].all()
