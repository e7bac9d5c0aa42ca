"""The gate's own error rates: runs in which nothing, or one case, has changed, through the code that gates.

Noise is simulated, seeded. `core` is the standard deviation of the log ratio of two processes right after
each other; in a share `disturbed` of pairs something takes one of them an exponential 0.5 longer, in its log.
Of the core's variance a share `in_step` is common to all cases of a process; `uneven` is the standard
deviation of the log of how noisy one case is against another.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ci.gate.sequential import Each, Rule, Series
from ci.gate.verdicts import THRESHOLD

CASES = 100
MOST_PAIRS = 800
SLOWDOWNS = (0.02, 0.05, 0.10)
_SURE = 0.95
_AT_ONCE = 100  # runs side by side, for speed


@dataclass(frozen=True)
class Regime:
    """How noisy a machine is; logs of times. Assumed, from a quiet host to one that is shared with many."""

    name: str
    core: float
    disturbed: float
    in_step: float = 0.0
    uneven: float = 0.0


REGIMES = (
    Regime("quiet", core=0.01, disturbed=0.0),
    Regime("shared", core=0.06, disturbed=0.1),
    Regime("bad", core=0.15, disturbed=0.2),
)
# what the rule does not assume: cases that are slow together, and cases of which some are noisier
HARDER = (
    Regime("shared, in step", core=0.06, disturbed=0.1, in_step=0.5),
    Regime("shared, uneven", core=0.06, disturbed=0.1, uneven=0.5),
)


class Noise(Protocol):
    """What pairs of processes of unchanged code give."""

    def start(self, rng: np.random.Generator, run: NDArray[np.intp]) -> None:
        """Of so many rows, each of the run with that number."""

    def pair(self, rng: np.random.Generator, rows: NDArray[np.intp]) -> Each:
        """One log ratio for each of the rows."""


class Simulated:
    """Noise of a regime."""

    def __init__(self, regime: Regime) -> None:
        self._regime = regime
        self._run: NDArray[np.intp] = np.zeros(0, np.intp)
        self._scale: Each = np.zeros(0)

    def start(self, rng: np.random.Generator, run: NDArray[np.intp]) -> None:
        """How noisy each case is."""
        self._run = run
        self._scale = np.exp(rng.normal(0, self._regime.uneven, len(run)))

    def pair(self, rng: np.random.Generator, rows: NDArray[np.intp]) -> Each:
        """New less base."""
        return self._one(rng, rows) - self._one(rng, rows)

    def _one(self, rng: np.random.Generator, rows: NDArray[np.intp]) -> Each:
        """Log seconds of a process of each run: half of a pair's variance."""
        regime, many = self._regime, len(rows)
        own = rng.normal(0, regime.core * math.sqrt((1 - regime.in_step) / 2), many)
        own += (rng.random(many) < regime.disturbed / 2) * rng.exponential(0.5, many)
        common = rng.normal(0, regime.core * math.sqrt(regime.in_step / 2), int(self._run.max()) + 1)
        return self._scale[rows] * own + common[self._run[rows]]


class Replayed:
    """Noise that was measured: pairs of unchanged code, drawn anew; of a process all its cases together.

    Of such a pair either side could have been the new one, so each is turned around half of the time: else
    what a few pairs have in the mean by chance would be a slowdown in all that is drawn from them.
    Each of `blocks` has the pairs of one comparison, cases x pairs.
    """

    def __init__(self, blocks: Sequence[NDArray[np.float64]]) -> None:
        self._pairs = np.concatenate(blocks, axis=1)
        self._run: NDArray[np.intp] = np.zeros(0, np.intp)
        self._case: NDArray[np.intp] = np.zeros(0, np.intp)

    def start(self, rng: np.random.Generator, run: NDArray[np.intp]) -> None:
        """A run of more cases than were measured has each several times, from processes of their own."""
        row, first = np.arange(len(run)), np.searchsorted(run, run)
        self._case = (row - first + rng.integers(len(self._pairs))) % len(self._pairs)
        self._run = np.cumsum((self._case == 0) | (row == first))

    def pair(self, rng: np.random.Generator, rows: NDArray[np.intp]) -> Each:
        """A measured one, or its mirror image."""
        processes = int(self._run.max()) + 1
        drawn = rng.integers(self._pairs.shape[1], size=processes)
        turned = rng.choice((-1.0, 1.0), size=processes)
        of_row = self._run[rows]
        return np.asarray(turned[of_row] * self._pairs[self._case[rows], drawn[of_row]])


@dataclass(frozen=True)
class Rates:
    """Of so many runs: how many had a false alarm; of the slower cases, how many were found; pairs a case."""

    runs: int
    alarms: int
    found: Mapping[float, int]
    pairs: float | None = None
    open: float | None = None

    def cells(self) -> list[str]:
        """Of the table: shares, with what they are at most or at least, by Clopper and Pearson."""
        cells = [f"{percent(self.alarms / self.runs)} (< {percent(at_most(self.alarms, self.runs))})"]
        for found in self.found.values():
            cells.append(f"{percent(found / self.runs)} (> {percent(at_least(found, self.runs))})")
        return [*cells, *("-" if one is None else one for one in (self._open(), self._pairs()))]

    def _open(self) -> str | None:
        return None if self.open is None else percent(self.open)

    def _pairs(self) -> str | None:
        return None if self.pairs is None else f"{self.pairs:.1f}"


def at_most(found: int, of: int) -> float:
    """The share, at the upper end of its one-sided 95 % interval (C. Clopper, E. Pearson, 1934)."""
    from scipy.stats import beta

    return 1.0 if found == of else float(beta.ppf(_SURE, found + 1, of - found))


def at_least(found: int, of: int) -> float:
    """The share, at the lower end of its one-sided 95 % interval."""
    return 1 - at_most(of - found, of)


def paired(noise: Noise, runs: int, seed: int = 0, cases: int = CASES) -> Rates:
    """Of the sequential test: each run has one case for each slowdown, the others have not changed.

    Runs with fewer cases than slowdowns have the first ones, and with one case none.
    """
    planted = np.zeros(cases)
    slowdowns = SLOWDOWNS if cases > len(SLOWDOWNS) else ()
    planted[: len(slowdowns)] = np.log1p(slowdowns)
    alarms, found, taken, left = 0, [0] * len(slowdowns), [], 0
    for first in range(0, runs, _AT_ONCE):
        many = min(_AT_ONCE, runs - first)
        rng = np.random.default_rng([seed, first])
        rows = np.arange(many * cases)
        run, case = rows // cases, rows % cases
        noise.start(rng, run)

        def series(rows: NDArray[np.intp], run: Any = run, case: Any = case, rng: Any = rng) -> Series:
            made = Series(Rule.of_run(math.log1p(THRESHOLD), cases), len(rows), run[rows])
            while made.pairs < MOST_PAIRS and made.is_open.any():
                now = rows[made.is_open]
                made.add(noise.pair(rng, now) + planted[case[now]])
            return made

        one = series(rows)
        red = rows[one.decided == 1]
        if len(red):
            red = red[series(red).decided == 1]
        alarms += len(set(run[red[case[red] >= len(slowdowns)]]))
        found = [before + int((case[red] == k).sum()) for k, before in enumerate(found)]
        clean = case >= len(slowdowns)
        taken.append(float(one.taken[clean].mean()))
        left += int((one.decided[clean] == 0).sum())
    shares = dict(zip(slowdowns, found, strict=True))
    return Rates(runs, alarms, shares, statistics.fmean(taken), left / runs / (cases - len(slowdowns)))


HEAD = (
    "| rule, noise | false alarms a run | +2 % found | +5 % found | +10 % found | clean cases left open | "
    "pairs a clean case |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def error_table(runs: int, seed: int = 0) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield from HEAD
    for regime in (*REGIMES, *HARDER):
        yield row(f"paired, {regime.name}", paired(Simulated(regime), runs, seed))


def row(name: str, rates: Rates) -> str:
    """A line of the table."""
    return f"| {name} | {' | '.join(rates.cells())} |"


def percent(share: float) -> str:
    """With a tenth where it is near 0 or 1, rounded to the doubtful side by the caller's bound."""
    return f"{100 * share:.3g} %"
