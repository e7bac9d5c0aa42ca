"""The paired rule: a case is slower where two series of pairs, each by itself, find it slower.

`python -m ci.gate paired` and `calibrate` both decide here. Each fills the series with pairs of its own:
of real processes, or of simulated ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ci.gate.paired import tail
from ci.gate.paired.sequential import TAIL, Rule, Series

FIRST, SECOND = 1, 2
SLOWER, OPEN, NOT_SLOWER = 1, 0, -1

# Adds pairs to the series with this number until it `goes_on` no longer, or the time is spent; the array has
# the first series' row of each of its rows.
Fill = Callable[[int, Series, NDArray[np.intp]], None]


@dataclass(frozen=True)
class Decision:
    """What each row came to: SLOWER, OPEN or NOT_SLOWER. `second` has the rows `again` of `first`."""

    decided: NDArray[np.int8]
    first: Series
    again: NDArray[np.intp]
    second: Series | None

    def series_of(self, row: int) -> list[tuple[Series, int]]:
        """The series that measured a row, in order, each with the row's place in it."""
        if self.second is None or row not in self.again:
            return [(self.first, row)]
        return [(self.first, row), (self.second, int(np.searchsorted(self.again, row)))]


def decide(rule: Rule, rows: int, fill: Fill, run: NDArray[np.intp] | None = None) -> Decision:
    """Judge so many rows, each a case; of several runs side by side, `run` has the number of each row's.

    The second series measures what the first finds slower, and asks what the first one found it by.
    """
    first = Series(rule, rows, run)
    fill(FIRST, first, np.arange(rows))
    again = np.flatnonzero(first.decided == SLOWER)
    if not len(again):
        return Decision(first.decided, first, again, None)
    second = Series(rule, len(again), None if run is None else run[again], first.by[again])
    fill(SECOND, second, again)
    return Decision(_in_both(first, again, second), first, again, second)


def _in_both(first: Series, again: NDArray[np.intp], second: Series) -> NDArray[np.int8]:
    """What both series come to; the second has the rows `again` of the first.

    What one series alone finds slow now and then is no PASS as long as that of both leaves it likely.
    """
    decided = first.decided.copy()
    decided[again] = second.decided
    for row in np.flatnonzero((first.by[again] == TAIL) & (second.decided == NOT_SLOWER)).tolist():
        before, now = first.slow(int(again[row])), second.slow(row)
        pairs = np.array([first.taken[again[row]] + second.taken[row]])
        new, base = (np.array([before[side] + now[side]]) for side in (0, 1))
        if not tail.ruled_out(new, base, pairs, np.array([max(before[2], now[2])]))[0]:
            decided[again[row]] = OPEN
    return decided
