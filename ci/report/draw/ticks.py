"""Domains and ticks of axes."""

from __future__ import annotations

import math
from collections.abc import Iterable

_STEPS: tuple[tuple[int, ...], ...] = ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9))
_FEWEST, _MOST = 4, 9


def log_domain(values: Iterable[float]) -> tuple[float, float]:
    """The range of the values, extended by a factor of 1.2 at both ends."""
    numbers = list(values)
    return min(numbers) / 1.2, 1.2 * max(numbers)


def from_zero(values: Iterable[float]) -> tuple[float, float]:
    """From 0 to the highest value, rounded up to a half of its power of ten."""
    highest = max(values)
    unit = 10.0 ** math.floor(math.log10(highest)) / 2
    return 0.0, math.ceil(highest / unit) * unit


def around(values: Iterable[float]) -> tuple[float, float]:
    """The range of the values, extended by a tenth of it at both ends."""
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    room = (high - low or abs(high) or 1.0) / 10
    return low - room, high + room


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten, with round numbers between them if there are few.

    >>> log_ticks(0.9, 1100), log_ticks(250, 700)
    ([1.0, 10.0, 100.0, 1000.0], [300.0, 400.0, 500.0, 600.0, 700.0])
    """
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    ticks: list[float] = []
    for steps in _STEPS:
        ticks = [
            value
            for exponent in range(first, last + 1)
            for step in steps
            if low <= (value := float(f"{step}e{exponent}")) <= high * (1 + 1e-12)
        ]
        if len(ticks) >= _FEWEST:
            break
    else:
        if len(ticks) < _FEWEST:
            return linear_ticks(low, high)
    return ticks[:: math.ceil(len(ticks) / _MOST)]


def linear_ticks(low: float, high: float) -> list[float]:
    """Three to ten ticks at multiples of 1, 2 or 5 times a power of ten.

    >>> linear_ticks(0.4, 1.1)
    [0.4, 0.6, 0.8, 1.0]
    """
    unit = 10.0 ** math.floor(math.log10((high - low) / _FEWEST))
    step = (
        next(n for n in (5, 2, 1) if math.floor(high / (n * unit)) - math.ceil(low / (n * unit)) >= 3) * unit
    )
    return [float(f"{n * step:.12g}") for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
