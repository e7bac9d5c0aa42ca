"""The gate's own error rates: runs in which nothing, or one case, has changed, through the code that gates.

Noise is simulated, seeded. `core` is the standard deviation of the log ratio of two processes in a row; in a
share `disturbed` of pairs one of them takes longer, its log by an exponential of mean 0.5. All cases of a
process share a part `in_step` of the core's variance; `uneven` is the standard deviation of the log of how
noisy one case is against another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ci.gate.paired.decide import NOT_SLOWER, OPEN, SLOWER, Fill, decide
from ci.gate.paired.sequential import MOST_PAIRS, Each, Rule, Series
from ci.gate.verdicts import THRESHOLD

CASES = 100
SLOWDOWNS = (0.02, 0.05, 0.10)
_SURE = 0.95
_AT_ONCE = 100  # runs side by side, for speed


@dataclass(frozen=True)
class Regime:
    """How noisy a machine is; logs of times. Assumed, from a quiet host to one that is shared with many.

    What is common to all cases of a process: a wave of so many processes, up and down by `height`; times that
    are like the process before, by `like_before`, with a deviation of `height`; bursts of some ten processes,
    a third of all, that are slower by `burst`; the second process of a pair that is slower by `second`.
    `ratios_like_before` is the autocorrelation of a pair's core, in whatever order it is taken, in the share
    `of_cases`: of each case by itself, or, where `in_step` is 1, of all together. `tails` are the degrees of
    freedom of Student's t.
    """

    name: str
    core: float
    disturbed: float = 0.0
    in_step: float = 0.0
    uneven: float = 0.0
    height: float = 0.04
    period: int = 0
    like_before: float = 0.0
    burst: float = 0.0
    second: float = 0.0
    ratios_like_before: float = 0.0
    of_cases: float = 1.0
    tails: float = math.inf


class Noise(Protocol):
    """What pairs of processes of unchanged code give."""

    def start(self, rng: np.random.Generator, run: NDArray[np.intp]) -> None:
        """Of so many rows, each of the run with that number."""

    def pair(self, rng: np.random.Generator, rows: NDArray[np.intp], new_first: NDArray[np.bool_]) -> Each:
        """One log ratio for each of the rows; in runs where it says so the new process came first."""


class Simulated:
    """Noise of a regime, process by process."""

    def __init__(self, regime: Regime) -> None:
        self._regime = regime
        self._run: NDArray[np.intp] = np.zeros(0, np.intp)
        self._scale: Each = np.zeros(0)
        self._place = 0  # of the next process
        self._phase: NDArray[np.intp] = np.zeros(0, np.intp)
        self._before: Each = np.zeros(0)  # by run, of the process before
        self._in_burst: NDArray[np.bool_] = np.zeros(0, bool)
        self._ratio: Each = np.zeros(0)  # by row, of the pair before
        self._wanders: NDArray[np.bool_] = np.zeros(0, bool)

    def start(self, rng: np.random.Generator, run: NDArray[np.intp]) -> None:
        """How noisy each case is, and where each run is in its disturbances."""
        regime, self._run, self._place = self._regime, run, 0
        runs = int(run.max()) + 1
        self._scale = np.exp(rng.normal(0, regime.uneven, len(run)))
        self._phase = rng.integers(max(regime.period, 1), size=runs)
        self._before = rng.normal(0, regime.height, runs)
        self._in_burst = rng.random(runs) < 1 / 3
        self._ratio = rng.normal(0, regime.core, len(run))
        self._wanders = rng.random(len(run)) < regime.of_cases
        if regime.ratios_like_before:
            self._scale[self._wanders] = 0

    def pair(self, rng: np.random.Generator, rows: NDArray[np.intp], new_first: NDArray[np.bool_]) -> Each:
        """New less base."""
        first = self._one(rng, rows) + self._common(rng)[self._run[rows]]
        second = self._one(rng, rows) + self._common(rng)[self._run[rows]] + self._regime.second
        ratios = np.where(new_first[self._run[rows]], first - second, second - first)
        if self._regime.ratios_like_before:
            ratios += self._lasting(rng)[rows]
        return ratios

    def _one(self, rng: np.random.Generator, rows: NDArray[np.intp]) -> Each:
        """Log seconds of a process of each run: half of a pair's variance."""
        regime, many = self._regime, len(rows)
        own = rng.normal(0, 1, many) if regime.tails == math.inf else rng.standard_t(regime.tails, many)
        own *= regime.core * math.sqrt((1 - regime.in_step) / 2)
        own += (rng.random(many) < regime.disturbed / 2) * rng.exponential(0.5, many)
        in_step = 0.0 if regime.ratios_like_before else regime.in_step
        common = rng.normal(0, regime.core * math.sqrt(in_step / 2), int(self._run.max()) + 1)
        return self._scale[rows] * own + common[self._run[rows]]

    def _common(self, rng: np.random.Generator) -> Each:
        """By run what the next process's moment does to all of its cases."""
        regime, runs = self._regime, len(self._phase)
        found = np.zeros(runs)
        if regime.period:
            place = (self._place + self._phase) % regime.period
            found += np.where(2 * place < regime.period, regime.height, -regime.height)
        if regime.like_before:
            fresh = rng.normal(0, regime.height * math.sqrt(1 - regime.like_before**2), runs)
            self._before = regime.like_before * self._before + fresh
            found += self._before
        if regime.burst:
            turns = rng.random(runs) < np.where(self._in_burst, 0.1, 0.05)
            self._in_burst ^= turns
            found += self._in_burst * regime.burst
        self._place += 1
        return found

    def _lasting(self, rng: np.random.Generator) -> Each:
        """By row what the pair is off, like the one before."""
        regime, like = self._regime, self._regime.ratios_like_before
        fresh = rng.normal(0, regime.core * math.sqrt(1 - like**2), len(self._run))
        if regime.in_step == 1:
            first = np.searchsorted(self._run, self._run)  # its run's first row stands for all
            fresh, self._ratio = fresh[first], self._ratio[first]
        self._ratio = like * self._ratio + fresh
        return np.asarray(self._ratio * self._wanders)


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

    def pair(self, rng: np.random.Generator, rows: NDArray[np.intp], new_first: NDArray[np.bool_]) -> Each:
        """A measured one, or its mirror image, by a coin of each process."""
        del new_first
        processes = int(self._run.max()) + 1
        drawn = rng.integers(self._pairs.shape[1], size=processes)
        turned = rng.choice((-1.0, 1.0), size=processes)
        of_row = self._run[rows]
        return np.asarray(turned[of_row] * self._pairs[self._case[rows], drawn[of_row]])


@dataclass(frozen=True)
class Planted:
    """So many cases are slower by `slowdown`; in a share of new processes, which may be slow as a whole."""

    slowdown: float
    cases: int = 1
    often: float = 1.0
    as_a_whole: bool = False


USUAL = tuple(map(Planted, SLOWDOWNS))
FIVE = Planted(THRESHOLD)


@dataclass(frozen=True)
class Rates:
    """How many of the runs had a false alarm, how many slower cases were found, and pairs a case.

    `found` and `passed` count the slower cases by slowdown: several in a run count as their mean.
    """

    runs: int
    alarms: int
    found: Mapping[float, int]
    passed: Mapping[float, int]
    pairs: float | None = None
    open: float | None = None
    sure: tuple[int, int] = (0, 0)  # +5 % that was found, of those that PASS without it, in the same noise

    def cells(self) -> list[str]:
        """Cells of the table: shares, with their upper or lower bound by Clopper and Pearson."""
        cells = [most(self.alarms, self.runs)]
        cells += [least(self.found[one], self.runs) if one in self.found else "-" for one in SLOWDOWNS]
        cells.append(most(self.passed[THRESHOLD], self.runs) if THRESHOLD in self.passed else "-")
        cells.append(least(*self.sure) if self.sure[1] else "-")
        cells.append("-" if self.open is None else percent(self.open))
        return [*cells, "-" if self.pairs is None else f"{self.pairs:.1f}"]


def most(found: int, runs: int) -> str:
    """A share, and what it is at most."""
    return f"{percent(found / runs)} (< {percent(at_most(found, runs))})"


def least(found: int, runs: int) -> str:
    """A share, and what it is at least."""
    return f"{percent(found / runs)} (> {percent(at_least(found, runs))})"


def at_most(found: int, of: int) -> float:
    """The share, at the upper end of its one-sided 95 % interval (C. Clopper, E. Pearson, 1934)."""
    from scipy.stats import beta

    return 1.0 if found == of else float(beta.ppf(_SURE, found + 1, of - found))


def at_least(found: int, of: int) -> float:
    """The share, at the lower end of its one-sided 95 % interval."""
    return 1 - at_most(of - found, of)


def paired(
    noise: Noise,
    runs: int,
    seed: int = 0,
    cases: int = CASES,
    most_pairs: int = MOST_PAIRS,
    planted: Sequence[Planted] | None = None,
) -> Rates:
    """Rates of the paired rule: the first cases of each run have what is planted, the others are unchanged.

    By default one case has each slowdown, where there are more cases than slowdowns.
    """
    if planted is None:
        planted = USUAL if cases > len(USUAL) else ()
    slower = sum(one.cases for one in planted)
    of_case = (
        np.repeat(np.arange(len(planted)), [one.cases for one in planted]) if planted else np.zeros(0, int)
    )
    rule = Rule.of_run(math.log1p(THRESHOLD), cases, most_pairs)
    at_once = max(_AT_ONCE * CASES // max(cases, CASES // 10), 1)
    alarms, found, passed = 0, np.zeros(len(planted)), np.zeros(len(planted))
    taken, left, sure = 0.0, 0, np.zeros(2, int)
    for first in range(0, runs, at_once):
        many = min(at_once, runs - first)
        rng = np.random.default_rng([seed, first])
        rows = np.arange(many * cases)
        run, case = rows // cases, rows % cases
        noise.start(rng, run)
        source, twin = rows.copy(), np.zeros(0, np.intp)
        if FIVE in planted and slower < cases:  # an unchanged case in the noise of one that is slower by 5 %
            twin = np.flatnonzero(case == slower)
            source[twin] -= slower - int(np.argmax(of_case == planted.index(FIVE)))
        fill = _filling(noise, rng, source, run, case, planted, of_case)
        decision = decide(rule, len(rows), fill, run)
        decided = decision.decided
        clean = case >= slower
        alarms += len(set(run[clean & (decided == SLOWER)]))
        passing = twin[decided[twin] == NOT_SLOWER]
        sure += (decided[source[passing]] == SLOWER).sum(), len(passing)
        for k, what in enumerate(planted):
            of_kind = ~clean & (of_case[np.minimum(case, slower - 1)] == k)
            found[k] += (decided[of_kind] == SLOWER).sum() / what.cases
            passed[k] += (decided[of_kind] == NOT_SLOWER).sum() / what.cases
        if clean.any():
            taken += float(decision.first.taken[clean].mean()) * many / runs
            left += int((decided[clean] == OPEN).sum())
    sizes = [one.slowdown for one in planted]
    shares, passes = (dict(zip(sizes, (round(x) for x in of), strict=True)) for of in (found, passed))
    clean_cases = cases - slower
    if clean_cases == 0:
        return Rates(runs, alarms, shares, passes)
    return Rates(runs, alarms, shares, passes, taken, left / runs / clean_cases, (int(sure[0]), int(sure[1])))


def _filling(
    noise: Noise,
    rng: np.random.Generator,
    source: NDArray[np.intp],
    run: NDArray[np.intp],
    case: NDArray[np.intp],
    planted: Sequence[Planted],
    of_case: NDArray[np.intp],
) -> Fill:
    """Fills series with pairs of simulated processes, by a coin for each pair of each run.

    Rows with the same `source`, which is a row, have its noise.
    """

    def fill(_: int, series: Series, rows: NDArray[np.intp]) -> None:
        while series.goes_on:
            measured = rows[series.is_open]
            drawn, which = np.unique(source[measured], return_inverse=True)
            ratios = noise.pair(rng, drawn, rng.random(run[-1] + 1) < 0.5)[which]
            series.add(ratios + _slower(rng, planted, of_case, run[measured], case[measured]))

    return fill


def _slower(
    rng: np.random.Generator,
    planted: Sequence[Planted],
    of_case: NDArray[np.intp],
    run: NDArray[np.intp],
    case: NDArray[np.intp],
) -> Each:
    """What is planted in a process of each row: a case of a run."""
    shift = np.zeros(len(run))
    in_first = np.flatnonzero(case < len(of_case))
    for k, what in enumerate(planted):
        rows = in_first[of_case[case[in_first]] == k]
        if what.often == 1:
            shift[rows] = math.log1p(what.slowdown)
            continue
        drawn = rng.random(int(run[-1]) + 1)[run[rows]] if what.as_a_whole else rng.random(len(rows))
        shift[rows] = (drawn < what.often) * math.log1p(what.slowdown)
    return shift


HEAD = (
    "| rule, noise | false alarms a run | +2 % found | +5 % found | +10 % found | +5 % PASS | "
    "+5 % found where it would PASS | clean cases left open | pairs a clean case |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def row(name: str, rates: Rates) -> str:
    """A line of the table."""
    return f"| {name} | {' | '.join(rates.cells())} |"


def percent(share: float) -> str:
    """A share in per cent, of three digits."""
    return f"{100 * share:.3g} %"
