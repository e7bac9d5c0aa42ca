"""Axes of any values: what is to be seen lies inside, and there are ticks to read it by."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ci.report.draw.figure import natural
from ci.report.draw.ticks import around, from_zero, linear_ticks, log_domain, log_ticks

VALUES = st.lists(st.floats(1e-12, 1e24, allow_nan=False), min_size=1, max_size=5)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(VALUES)
def test_a_domain_holds_its_values(values: list[float]) -> None:
    """Also where all are the same."""
    for domain in (log_domain, from_zero, around):
        low, high = domain(values)
        assert low < high
        assert low <= min(values) <= max(values) <= high
    assert from_zero(values)[0] == 0
    assert log_domain(values)[0] > 0


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.floats(1e-12, 1e24), st.floats(1.2, 1e20))
def test_ticks_lie_inside_and_are_few(low: float, times: float) -> None:
    """Rising, three to ten of them, of three digits at the most."""
    high = low * times
    for ticks in (log_ticks(low, high), linear_ticks(low, high)):
        assert 3 <= len(ticks) <= 10
        assert ticks == sorted(set(ticks))
        assert low * (1 - 1e-9) <= ticks[0] <= ticks[-1] <= high * (1 + 1e-9)
        assert all(float(f"{tick:.3g}") == tick for tick in ticks)


def test_ticks_that_are_known() -> None:
    """By hand: powers of ten, thirds of them, halves and fifths, and every digit."""
    assert log_ticks(0.9, 1100) == [1, 10, 100, 1000]
    assert log_ticks(1, 400) == [1, 3, 10, 30, 100, 300]
    assert log_ticks(1.5, 60) == [2, 5, 10, 20, 50]
    assert log_ticks(2.5, 7.5) == [3, 4, 5, 6, 7]
    assert log_ticks(100, 130) == [100, 105, 110, 115, 120, 125, 130]
    assert log_ticks(1, 1e18) == [1, 1e3, 1e6, 1e9, 1e12, 1e15, 1e18]
    assert linear_ticks(0, 10) == [0, 2, 4, 6, 8, 10]


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_names_can_be_put_in_order(names: list[str]) -> None:
    """Numbers come first, by their size; no two different names are mixed up."""
    found = sorted(names, key=natural)
    numbers = [name for name in found if name.isascii() and name.isdecimal()]
    assert [int(name) for name in numbers] == sorted(int(name) for name in numbers)
    assert sorted(found) == sorted(names)
