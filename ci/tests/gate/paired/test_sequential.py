"""The sequential test: known answers by hand, and what pairs tell of their noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from ci.gate.paired.sequential import Rule, Series, interval, trimmed

FIVE = math.log1p(0.05)


RULE = Rule(FIVE, 0.005)


def decide(ratios: Sequence[float], rule: Rule = RULE) -> int:
    """What one case alone comes to: 1 slower, -1 not slower, 0 open."""
    series = Series(rule, 1)
    for one in ratios:
        if series.is_open[0]:
            series.add(np.array([one]))
    return int(series.decided[0])


def test_bounds_by_hand() -> None:
    """Wald's: log(0.02 / 0.99) and log(0.98 / 0.01); of a run, red has to be red twice in all cases."""
    low, high = Rule(FIVE, 0.01, 0.02).bounds()
    assert low == pytest.approx(-3.9020, abs=1e-4)
    assert high == pytest.approx(4.5850, abs=1e-4)
    assert Rule.of_run(FIVE, 5000).alpha == pytest.approx(0.001)
    assert Rule.of_run(FIVE, 1).alpha == 0.005
    # of n pairs the likelihood's mean is n d^2 / 2 sd^2, its deviation sqrt(n) d / sd: of 110, 13.75 and
    # 5.244, so that 4.585 lies 1.75 deviations below, and of 133, 16.625 and 5.766, 2.09; 97.5 % is 1.96
    assert 110 < Rule(0.02, 0.01, 0.02).pairs_needed(0.04) < 133
    assert Rule(FIVE, 0.01).pairs_needed(1e-9) == 17


def test_the_trimmed_mean_and_its_variance_by_hand() -> None:
    """Yuen's, of six: the outermost two count as their neighbours; scipy has the same mean and error."""
    rng = np.random.default_rng(8)
    for pairs in (6, 7, 10, 23):
        rows = rng.standard_t(2, (4, pairs))
        mean, variance, drawn_in, dof = trimmed(rows)
        for of_case, one, square in zip(rows, mean, variance, strict=True):
            assert one == pytest.approx(stats.trim_mean(of_case, 0.2))
            error = stats.mstats.trimmed_stde(of_case, limits=(0.2, 0.2), inclusive=(1, 1))
            kept = pairs - 2 * int(0.2 * pairs)
            # scipy's divides by the share that is kept, Yuen by its degrees of freedom
            yuen = error * (1 - 0.4) * math.sqrt((pairs - 1) * pairs / (kept * (kept - 1)))
            assert math.sqrt(square / pairs) == pytest.approx(yuen)
        assert dof == pairs - 2 * int(0.2 * pairs) - 1
        assert drawn_in.mean(axis=1) == pytest.approx(0)
    (mean,), (variance,), _, dof = trimmed(np.array([[9.0, 1.0, 2.0, 3.0, 4.0, -7.0]]))
    # 1 1 2 3 4 4 around 2.5: squares 9.5; six pairs, four kept: 6 * 9.5 / (4 * 3)
    assert (mean, variance, dof) == (2.5, 4.75, 3)


def test_a_decision_takes_pairs() -> None:
    """Seventeen to be the same; what lies in the middle is never decided.

    Pairs of one case alone may be alike by half of sqrt(n) / (n - 4): eleven, by 0.24, count for 6.8, and ten
    for 5.8 of the 6 that it takes.
    """
    assert decide([1.0] * 10) == 0
    assert decide([FIVE] * 11) == 1
    assert decide([0.0] * 16) == 0
    assert decide([0.0] * 17) == -1
    assert decide([FIVE / 2] * 40) == 0
    assert decide([0.0, 0.02] * 30) == -1


def test_the_deviation_is_found_from_above() -> None:
    """By many pairs nearly as it is, by few too large; single ones that lie far out hardly count."""
    rng = np.random.default_rng(1)

    def deviation(rows: np.ndarray) -> float:
        series = Series(Rule(1e-6, 1e-9, 1e-9), len(rows))  # which never decides
        for column in rows.T:
            series.add(column)
        return series.deviation(0) or 0.0

    # of the 20 % trimmed mean of a normal distribution 0.02 / sqrt(0.87)
    many = rng.normal(0, 0.02, (100, 30))
    own = math.sqrt(trimmed(many[:1])[1][0])
    assert deviation(many) == pytest.approx(max(own, 0.0215), rel=0.06)
    few = np.array([deviation(rng.normal(0, 0.02, (1, 6))) for _ in range(400)])
    assert np.mean(few > 0.0215) > 0.85
    assert deviation(np.c_[many, np.full(100, 9.0)]) == pytest.approx(max(own, 0.0215), rel=0.15)
    noisy = np.r_[rng.normal(0, 0.2, (1, 30)), many]
    assert deviation(noisy) > 0.12  # its own, where that is larger
    series = Series(RULE, 1)
    assert series.deviation(0) is None


def test_what_all_cases_share_tells_as_much_as_one_case() -> None:
    """A hundred cases that move together are no more certain than one."""
    rng = np.random.default_rng(2)
    too_small = {}
    for name in ("together", "apart"):
        found = []
        for _ in range(200):
            shared, own = rng.normal(0, 0.1, 6), rng.normal(0, 0.1, (100, 6))
            rows = shared + 0.01 * own if name == "together" else own
            series = Series(RULE, 100)
            for column in rows.T:
                series.add(column)
            _, own, _, dof = trimmed(rows)
            run = np.zeros(100, int)
            safety = series._safety(run, dof, np.ones(100))
            found.append((series._pooled(run, own, dof) * safety)[0])
        too_small[name] = float(np.mean(np.array(found) < 0.1**2 / 0.87))
    assert too_small["together"] < 0.25  # 0.5 were it taken for certain
    assert too_small["apart"] < 0.25
    # apart, it is known to a few per cent
    assert np.median(found) == pytest.approx(0.1**2 / 0.87, rel=0.25)


def test_an_interval_holds_what_is_so_in_95_of_100() -> None:
    """Of pairs of a normal distribution, and of ones of which some are disturbed; by hand for six."""
    rng = np.random.default_rng(9)
    for disturbed in (0.0, 0.1):
        rows = rng.normal(0.01, 0.05, (2000, 12))
        rows += (rng.random(rows.shape) < disturbed) * rng.normal(0, 0.5, rows.shape)
        holds = [low < 0.01 < high for _, low, high in (interval(list(one)) for one in rows)]
        assert np.mean(holds) == pytest.approx(0.95, abs=0.025)
    # mean 2.5 and variance 4.75 as above, six pairs, Student's 3.1824 of three degrees of freedom
    assert interval([9.0, 1.0, 2.0, 3.0, 4.0, -7.0]) == pytest.approx((2.5, -0.3316, 5.3316), abs=1e-4)
