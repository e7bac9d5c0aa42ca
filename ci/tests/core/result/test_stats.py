"""The statistics, against numbers worked out by hand and against scipy and numpy in other ways."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.result.stats import Drift, drift, half_width, median_interval, quantile, spread

VALUES = st.lists(st.floats(0.01, 100), min_size=2, max_size=60)


@pytest.mark.parametrize(
    ("n", "low", "high", "coverage"),
    [
        (2, 1, 2, 0.5),  # 1 - 2 / 2^2
        (5, 1, 5, 0.9375),  # 1 - 2 / 2^5: the whole range, which does not reach 95 %
        (6, 1, 6, 0.96875),  # 1 - 2 / 2^6
        (8, 1, 8, 0.9921875),  # the second would have 1 - 2 (1 + 8) / 2^8 = 0.93
        (9, 2, 8, 0.9609375),  # 1 - 2 (1 + 9) / 2^9
        (20, 6, 15, 0.9586105),  # tables of the sign test give 6 and 15
    ],
)
def test_the_interval_of_the_median_is_that_of_the_sign_test(
    n: int, low: int, high: int, coverage: float
) -> None:
    """Of the values 1 to n the order statistics are their own numbers."""
    values = random.Random(1).sample(range(1, n + 1), n)
    found = median_interval(values)
    assert found is not None
    assert (found.low, found.high) == (low, high)
    assert found.coverage == pytest.approx(coverage)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    """4,000 samples of nine from a skewed distribution with median ln 2."""
    rng = random.Random(7)
    held = 0
    for _ in range(4000):
        found = median_interval([rng.expovariate(1) for _ in range(9)])
        assert found is not None
        held += found.low <= math.log(2) <= found.high
    assert held / 4000 == pytest.approx(0.961, abs=0.01)


@given(VALUES)
@settings(max_examples=50)
def test_the_interval_is_around_the_median_and_scales(values: list[float]) -> None:
    """Seconds or milliseconds make no difference."""
    found, scaled = median_interval(values), median_interval([1000 * v for v in values])
    assert found is not None
    assert scaled is not None
    assert found.low <= statistics.median(values) <= found.high
    assert scaled.low == pytest.approx(1000 * found.low)
    assert scaled.coverage == found.coverage


def test_too_few_rounds_have_no_interval_and_no_half_width() -> None:
    """One value bounds nothing, five do not reach 95 %."""
    assert median_interval([1.0]) is None
    assert half_width([1.0, 1.0, 1.0, 1.0, 1.0]) is None
    assert half_width([0.9, 1.0, 1.0, 1.0, 1.0, 1.1]) == pytest.approx(0.1)


def test_the_spread_is_that_of_the_quartiles() -> None:
    """Of 1 to 5 the quartiles are 2 and 4, the median 3."""
    assert spread([5, 1, 4, 2, 3]) == pytest.approx(2 / 3)
    assert spread([1.0]) is None


def test_a_trend_is_found_by_its_order_and_told_by_its_size() -> None:
    """Five in order: p = 2 / 5! exactly; from 100 to 104 the median of slopes is 1 a round."""
    found = drift([100.0, 101.0, 102.0, 103.0, 104.0])
    assert found is not None
    assert found.p == pytest.approx(2 / math.factorial(5))
    assert found.change == pytest.approx(4 / 102)
    assert found.found


def test_what_is_no_trend_is_not_called_one() -> None:
    """Up and down, all alike, too small, too few."""
    assert drift([1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0]) is not None
    assert not drift([1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0]).found  # type: ignore[union-attr]
    assert drift([1.0] * 6) == Drift(1.0, 0.0)
    assert not drift([1.0 + i / 1e4 for i in range(10)]).found  # type: ignore[union-attr]
    assert drift([1.0, 2.0, 3.0, 4.0]) is None


def test_order_without_meaning_is_rarely_called_a_trend() -> None:
    """Ten noisy rounds: at most about one in twenty."""
    rng = random.Random(3)
    found = [drift([rng.gauss(100, 10) for _ in range(10)]) for _ in range(1000)]
    assert sum(one is not None and one.found for one in found) < 70


@pytest.mark.parametrize(("q", "least"), [(0.5, 5), (0.9, 29), (0.99, 299)])
def test_a_quantile_needs_enough_values(q: float, least: int) -> None:
    """One fewer, and it is absent."""
    values = list(range(least))
    assert quantile(values[1:], q) is None
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)))


@given(st.lists(st.floats(0, 1e3), min_size=29, max_size=80))
@settings(max_examples=50)
def test_quantiles_are_those_of_numpy(values: list[float]) -> None:
    """Linear between the two values beside it."""
    assert quantile(values, 0.9) == pytest.approx(float(np.quantile(values, 0.9)))
