"""The paired rule's two series: what the first finds slower has to be slower in the second too."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ci.gate.paired.decide import FIRST, NOT_SLOWER, OPEN, SECOND, SLOWER, decide
from ci.gate.paired.sequential import MEAN, TAIL, Rule, Series

FIVE, TWICE = math.log1p(0.05), math.log(2)


def test_what_is_slower_is_measured_again_and_nothing_else() -> None:
    """The same, slower twice, slower once, in the middle; pairs are those of each series."""
    rows_of: dict[int, list[int]] = {}
    ratio = {FIRST: [0.0, 2 * FIVE, 2 * FIVE, FIVE / 2], SECOND: [9.0, 2 * FIVE, 0.0, 9.0]}

    def fill(number: int, series: Series, rows: NDArray[np.intp]) -> None:
        rows_of[number] = rows.tolist()
        while series.goes_on:
            series.add(np.array(ratio[number])[rows[series.is_open]])

    decision = decide(Rule(FIVE, 0.005, most_pairs=20), 4, fill)
    assert rows_of == {FIRST: [0, 1, 2, 3], SECOND: [1, 2]}
    assert decision.decided.tolist() == [NOT_SLOWER, SLOWER, NOT_SLOWER, OPEN]
    assert decision.first.taken[3] == 20
    pairs = [[ratio for series, row in decision.series_of(k) for ratio in series.of(row)] for k in range(4)]
    assert [set(of_case) for of_case in pairs] == [{0.0}, {2 * FIVE}, {2 * FIVE, 0.0}, {FIVE / 2}]


def test_the_second_series_asks_what_the_first_found() -> None:
    """A tail in the first, a shifted mean in the second: each alone is red, and together they are not."""

    def fill(number: int, series: Series, rows: NDArray[np.intp]) -> None:
        while series.goes_on:
            is_slow = number == SECOND or series.pairs % 5 == 4
            series.add(np.full(len(rows[series.is_open]), (FIVE if number == SECOND else TWICE) * is_slow))

    decision = decide(Rule(FIVE, 0.005), 1, fill)
    assert decision.first.by.tolist() == [TAIL]
    assert decision.second is not None
    assert decision.second.by.tolist() == [0]
    assert decision.decided.tolist() == [OPEN]
    alone = Series(Rule(FIVE, 0.005), 1)
    while alone.goes_on:
        alone.add(np.array([FIVE]))
    assert alone.by.tolist() == [MEAN]


def test_a_tail_that_the_second_series_lacks_may_keep_it_open() -> None:
    """Nine slow in 45, then none in 17: in 62 pairs together a fifth is not ruled out."""

    def fill(number: int, series: Series, _: NDArray[np.intp]) -> None:
        while series.goes_on:
            series.add(np.array([TWICE * (number == FIRST and series.pairs % 5 == 4)]))

    decision = decide(Rule(FIVE, 0.005), 1, fill)
    assert decision.second is not None
    assert (decision.first.taken.tolist(), decision.second.taken.tolist()) == ([45], [17])
    assert decision.second.decided.tolist() == [NOT_SLOWER]
    assert decision.decided.tolist() == [OPEN]
