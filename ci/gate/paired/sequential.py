"""Wald's sequential test on pairs of processes that took turns: slower by the threshold, or not at all.

Of a pair there is the log of the ratio of its two medians. A. Wald, Sequential Tests of Statistical
Hypotheses, Ann. Math. Statist. 16(2), 1945: the log likelihood ratio of a mean of d against one of 0 is
followed, and the test ends where it leaves the interval of `bounds`.

A pair that was disturbed must not count for more than one, so of n pairs the mean without the highest and the
lowest fifth stands for all, and its variance is what K. K. Yuen, Biometrika 61(1), 1974, gives for it. What
Wald takes to be known is estimated: a case's variance is its own or that of all cases of the run pooled,
whichever is larger, the pooled one at the upper end of what it may be. What all cases of a process share is
in each of them, and tells as much of it as one case does: its degrees of freedom are put together with those
of the rest by F. E. Satterthwaite, Biometrics Bulletin 2(6), 1946.

Pairs that follow each other may be alike: of an autocorrelation of r, n of them tell as much as
n (1 - r) / (1 + r) do (G. V. Bayley, J. M. Hammersley, J. R. Stat. Soc. Suppl. 8(2), 1946). It is estimated
from pairs that are drawn in, and corrected by M. G. Kendall, Biometrika 41(3/4), 1954. A case is the same
only where pairs that differ so much find the threshold in a series, and where `tail` has nothing against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ci.gate.paired import tail

MOST_PAIRS = 100  # of a series, unless said
LEAST_PAIRS = 6  # of fewer, the scatter of a case says little; of those that count for one each
TRIMMED = 0.2  # at each end: what may be disturbed, and no more than 12 % lost where nothing is
_SURE = 0.9  # that the pooled variance is no larger than what is used
RUN_ALPHA = 0.005  # false alarms a run, all cases together, if sigma were known; half of what is promised
MOST_ALPHA = 0.005  # of one series, however few the cases
TAIL_ALPHA = 0.0025  # false alarms a run by slow processes
BETA = 0.01  # of one series
FOUND = 0.975  # of slowdowns of the threshold, in each series that a PASS could have needed
_NOTHING = 1e-12  # a variance
LEAST_BY_SIGNS = 2.65  # standard deviations: at any time of a series about one in 25 series are beyond
_LARGEST_CORRELATION = 0.95
_SHOWS = 2.0  # standard errors
COVERAGE = 0.95  # of the interval that is shown, for each case alone

MEAN, TAIL = 1, 2  # what finds a case slower

Rows = NDArray[np.float64]  # (cases, pairs): log ratios new / base
Each = NDArray[np.float64]  # (cases,)


@dataclass(frozen=True)
class Rule:
    """What is asked of each case: a slowdown of `threshold`, a log ratio, or none.

    `alpha` is the chance that one series calls the same slower, `beta` that it misses the threshold.
    """

    threshold: float
    alpha: float
    beta: float = BETA
    tail_alpha: float = MOST_ALPHA
    most_pairs: int = MOST_PAIRS

    @classmethod
    def of_run(cls, threshold: float, cases: int, most_pairs: int = MOST_PAIRS) -> Rule:
        """What is red is red in two series: the square of alpha is shared out among the cases."""
        alpha, of_tail = (min(MOST_ALPHA, math.sqrt(one / max(cases, 1))) for one in (RUN_ALPHA, TAIL_ALPHA))
        return cls(threshold, alpha, tail_alpha=of_tail, most_pairs=most_pairs)

    def bounds(self) -> tuple[float, float]:
        """Log likelihood ratios: at or below the first it is not slower, at or above the second it is."""
        return math.log(self.beta / (1 - self.alpha)), math.log((1 - self.beta) / self.alpha)

    def pairs_needed(self, deviation: float) -> int:
        """How many find a slowdown of the threshold in 97.5 % of series, and so in 95 % of two."""
        return math.ceil(float(self._needed(np.array([deviation]))[0]))

    def can_find(self, deviation: Each) -> NDArray[np.bool_]:
        """Whether a series is long enough for that."""
        return self._needed(deviation) <= self.most_pairs

    def _needed(self, deviation: Each) -> Each:
        """The likelihood ratio as a Brownian motion, which is beyond its bound at the end of the series."""
        from scipy.special import ndtri

        z = float(ndtri(FOUND))
        root = z + math.sqrt(z * z + 2 * self.bounds()[1])
        return np.maximum((root * deviation / self.threshold) ** 2, tail.LEAST_PAIRS)


def trimmed(ratios: Rows) -> tuple[Each, Each, Rows, int]:
    """Of each row the trimmed mean, the variance that one pair counts with, and what remains of the pairs.

    The variance of the mean is the second / the number of pairs. What remains are the pairs, drawn in to the
    outermost ones that are not trimmed, without their mean. Last the degrees of freedom.
    """
    pairs = ratios.shape[1]
    cut = int(TRIMMED * pairs)
    kept = pairs - 2 * cut
    parted = np.partition(ratios, sorted({cut, pairs - cut - 1}), axis=1)
    low, high = parted[:, cut], parted[:, pairs - cut - 1]
    drawn_in = np.clip(ratios, low[:, None], high[:, None])
    mean = (drawn_in.sum(axis=1) - cut * (low + high)) / kept
    drawn_in -= drawn_in.mean(axis=1, keepdims=True)
    squares = np.einsum("ij,ij->i", drawn_in, drawn_in)
    return mean, pairs * squares / (kept * (kept - 1)), drawn_in, kept - 1


def by_signs(ratios: Rows) -> Each:
    """How far each row's sum lies above 0, by the scatter that coins give it: in standard deviations.

    A coin gives each its sign, whatever its size, so that this holds for all noise that strikes either side.
    The largest fifth is drawn in.
    """
    sizes = np.abs(ratios)
    place = int((1 - TRIMMED) * ratios.shape[1])
    drawn_in = np.minimum(sizes, np.partition(sizes, place, axis=1)[:, place, None])
    total = np.einsum("ij,ij->i", np.sign(ratios), drawn_in)
    return np.asarray(total / np.sqrt(np.maximum(np.einsum("ij,ij->i", drawn_in, drawn_in), 1e-300)))


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Of log ratios the trimmed mean, and the ends of Student's interval around it (Yuen, as above).

    It takes their number to be given beforehand; where a test ended with them it is a little too short.
    """
    from scipy.special import stdtrit

    mean, variance, _, dof = trimmed(np.array([ratios]))
    margin = float(stdtrit(dof, (1 + COVERAGE) / 2)) * math.sqrt(float(variance[0]) / len(ratios))
    return float(mean[0]), float(mean[0]) - margin, float(mean[0]) + margin


class Series:
    """Pairs of all cases of a run, pair by pair; each case is open until it is decided.

    For simulation there may be many runs side by side: `run` has the number of each row's, ascending.
    """

    def __init__(
        self,
        rule: Rule,
        rows: int,
        run: NDArray[np.intp] | None = None,
        asked: NDArray[np.int8] | None = None,
    ) -> None:
        self.rule = rule
        self.pairs = 0
        self.decided: NDArray[np.int8] = np.zeros(rows, np.int8)  # 1: slower; -1: not slower
        self.by: NDArray[np.int8] = np.zeros(rows, np.int8)  # what found them slower: MEAN, TAIL
        self.is_open: NDArray[np.bool_] = np.ones(rows, bool)
        self.taken: NDArray[np.intp] = np.zeros(rows, np.intp)  # pairs of each row
        self._ratios: Rows = np.empty((rows, 2 * LEAST_PAIRS))
        self._asked = np.zeros(rows, np.int8) if asked is None else asked
        self._run = np.zeros(rows, np.intp) if run is None else run
        runs = int(self._run.max(initial=0)) + 1
        # of rows that are decided: sums of squares, degrees of freedom; and the share of all that is common
        self._closed: Each = np.zeros(runs)
        self._closed_dof: Each = np.zeros(runs)
        self._common: Each = np.ones(runs)
        self._variance: Each = np.full(rows, np.nan)
        self._likely: Each = np.full(rows, np.nan)  # variance of all cases of its run
        self._widened: Each = np.ones(rows)  # by autocorrelation

    @property
    def goes_on(self) -> bool:
        """Whether a row is open, and the budget has another pair."""
        return self.pairs < self.rule.most_pairs and bool(self.is_open.any())

    def add(self, ratios: Each) -> None:
        """One more pair of each open row; decides what can be decided."""
        rows = np.flatnonzero(self.is_open)
        if self.pairs == self._ratios.shape[1]:
            self._ratios = np.concatenate([self._ratios, np.empty_like(self._ratios)], axis=1)
        self._ratios[rows, self.pairs] = ratios
        self.pairs += 1
        self.taken[rows] = self.pairs
        if self.pairs >= LEAST_PAIRS and len(rows):
            self._decide(rows)

    def leave_out(self, row: int) -> None:
        """No more pairs of this row, which stays undecided."""
        self.is_open[row] = False

    def of(self, row: int) -> list[float]:
        """Its log ratios."""
        return [float(one) for one in self._ratios[row, : self.taken[row]]]

    def deviation(self, row: int) -> float | None:
        """The standard deviation that one of its pairs counts with; None where too few are there."""
        return None if np.isnan(self._variance[row]) else math.sqrt(self._variance[row])

    def slow(self, row: int) -> tuple[int, int, float]:
        """Its new and base processes that are slow, and how much its pairs differ (see `tail`)."""
        if self.taken[row] == 0:
            return 0, 0, 0.0
        new, base, scatter = tail.slow(self._ratios[row : row + 1, : self.taken[row]])
        return int(new[0]), int(base[0]), float(scatter[0])

    def needed(self, row: int) -> tuple[int, float, float]:
        """About how many pairs its series needs to find the threshold; how they differ, how alike they are.

        That is what is likely; what decides is on the safe side. Once as many are taken, it is the latter.
        """
        ratios = self._ratios[row : row + 1, : self.taken[row]]
        n, likely = ratios.shape[1], math.sqrt(max(float(self._likely[row]), float(trimmed(ratios)[1][0])))
        alike = max(self.like_before(row) - math.sqrt(n) / (n - 4), 0.0)
        needed = self.rule.pairs_needed(likely * math.sqrt((1 + alike) / (1 - alike)))
        if needed <= n:
            needed = self.rule.pairs_needed(math.sqrt(self._variance[row] * self._widened[row]))
        return needed, likely, alike

    def until_decided(self, row: int) -> int:
        """About how many where the mean lies so that it is neither: by Wald, for the worst that may be."""
        low, high = self.rule.bounds()
        one = self.rule.threshold**2 / float(self._variance[row] * self._widened[row])
        return int(self.taken[row]) + math.ceil(-low * high / one)

    def like_before(self, row: int) -> float:
        """The autocorrelation of its pairs."""
        return float((self._widened[row] - 1) / (self._widened[row] + 1))

    def is_same_but_slow(self, row: int) -> bool:
        """Whether the mean says that it is the same, and slow processes alone keep it open."""
        mean = float(trimmed(self._ratios[row : row + 1, : self.taken[row]])[0][0])
        variance = float(self._variance[row] * self._widened[row])
        d = self.rule.threshold
        return int(self.taken[row]) * d * (mean - d / 2) / variance <= self.rule.bounds()[0]

    def until_told(self, row: int) -> int:
        """About how many pairs until as many slow processes as before, in each, are red or are ruled out."""
        taken, (of_new, of_base, scatter) = int(self.taken[row]), self.slow(row)
        for pairs in range(taken + 1, 100 * taken):
            new, base = (np.array([round(one * pairs / taken)]) for one in (of_new, of_base))
            is_red = tail.evidence(new, base)[0] >= tail.bound(self.rule.tail_alpha)
            if is_red or tail.ruled_out(new, base, np.array([pairs]), np.array([scatter]))[0]:
                return pairs
        return 100 * taken

    def is_faster(self, row: int) -> bool:
        """Whether the test's mirror image finds it faster by the threshold, rather than the same."""
        if np.isnan(self._variance[row]):
            return False
        d, pairs = self.rule.threshold, int(self.taken[row])
        mean = float(trimmed(self._ratios[row : row + 1, :pairs])[0][0])
        return (
            pairs * d * (-mean - d / 2) / float(self._variance[row] * self._widened[row])
            >= self.rule.bounds()[1]
        )

    def _decide(self, rows: NDArray[np.intp]) -> None:
        ratios = self._ratios[:, : self.pairs]
        ratios = ratios if len(rows) == len(ratios) else ratios[rows]
        mean, own, rest, dof = trimmed(ratios)
        run = self._run[rows]
        self._see_common(run, rest, dof)
        correlation = self._correlation(run, rest)
        widened = (1 + correlation) / (1 - correlation)
        likely = self._pooled(run, own, dof)
        pooled = likely * self._safety(run, dof, widened)
        variance = np.maximum(np.maximum(pooled[run], own), _NOTHING)
        self._variance[rows], self._widened[rows], self._likely[rows] = variance, widened, likely[run]
        variance = variance * widened
        d = self.rule.threshold
        likelihood = self.pairs * d * (mean - d / 2) / variance
        low, high = self.rule.bounds()
        enough = self.pairs >= LEAST_PAIRS * widened
        asked = self._asked[rows]
        decided = np.zeros(len(rows), np.int8)
        slower = np.flatnonzero(enough & (likelihood >= high) & (asked != TAIL))
        decided[slower[by_signs(ratios[slower]) >= LEAST_BY_SIGNS]] = MEAN
        others = np.flatnonzero((decided == 0) & (asked != MEAN))
        decided[others[tail.is_red(ratios[others], self.rule.tail_alpha)]] = TAIL
        same = np.flatnonzero(
            enough & (likelihood <= low) & (decided == 0) & self.rule.can_find(np.sqrt(variance))
        )
        if len(same):
            same = same[by_signs(d - ratios[same]) >= LEAST_BY_SIGNS]
            new, base, scatter = tail.slow(ratios[same])
            decided[same[tail.ruled_out(new, base, self.taken[rows[same]], scatter)]] = -1
        self.decided[rows] = np.sign(decided)
        self.by[rows] = np.maximum(decided, 0)
        done = decided != 0
        self.is_open[rows[done]] = False
        self._closed += np.bincount(run[done], dof * own[done], len(self._closed))
        self._closed_dof += dof * np.bincount(run[done], minlength=len(self._closed))

    def _see_common(self, run: NDArray[np.intp], rest: Rows, dof: int) -> None:
        """What share of the variance all cases of a run have in common, by its open ones."""
        there, starts, cases = np.unique(run, return_index=True, return_counts=True)
        # the mean over cases scatters by 1 / cases where they share nothing, and as each does where all
        means = np.add.reduceat(rest, starts, axis=0) / cases[:, None]
        each = np.add.reduceat(np.einsum("ij,ij->i", rest, rest), starts) / cases
        of_each = np.einsum("ij,ij->i", means, means) / np.maximum(each, 1e-300) * _inflation(float(dof))
        several = cases > 1
        share = (cases * of_each - 1) / np.maximum(cases - 1, 1)
        self._common[there[several]] = np.clip(share, 0, 1)[several]

    def _correlation(self, run: NDArray[np.intp], rest: Rows) -> Each:
        """Of each case's pairs that follow each other: its own, or that of the run where that is larger.

        Kendall's correction takes what few pairs lose. That of the run, and one of a case
        that shows, are taken half a standard error higher.
        """
        n = rest.shape[1]
        squares = np.einsum("ij,ij->i", rest, rest)
        lagged = np.einsum("ij,ij->i", rest[:, :-1], rest[:, 1:])
        each = np.where(squares > _NOTHING, (n * lagged / np.maximum(squares, _NOTHING) + 1) / (n - 4), 0.0)
        error = math.sqrt(n) / (n - 4)
        cases = np.maximum(np.bincount(run, minlength=len(self._closed)), 1)
        pooled = np.bincount(run, each, len(self._closed)) / cases
        pooled += error / 2 * np.sqrt(self._common**2 + (1 - self._common**2) / cases)
        own = each + error / 2 * (each > _SHOWS * error)
        return np.asarray(np.clip(np.maximum(pooled[run], own), 0, _LARGEST_CORRELATION))

    def _pooled(self, run: NDArray[np.intp], own: Each, dof: int) -> Each:
        """By run the variance over its open and its decided cases."""
        there, starts, cases = np.unique(run, return_index=True, return_counts=True)
        found = np.zeros(len(self._closed))
        of_all = self._closed[there] + dof * np.add.reduceat(own, starts)
        found[there] = of_all / (self._closed_dof[there] + dof * cases)
        return found

    def _safety(self, run: NDArray[np.intp], dof: int, widened: Each) -> Each:
        """By run the upper end of what that may be, over it."""
        there, starts, cases = np.unique(run, return_index=True, return_counts=True)
        all_dof = self._closed_dof[there] + dof * cases
        common = self._common[there]
        effective = 1 / ((1 - common) ** 2 / all_dof + common**2 / dof)
        effective = np.maximum(effective / np.minimum.reduceat(widened, starts), 1)
        found = np.ones(len(self._closed))
        found[there] = [_inflation(round(one, 1)) for one in effective]
        return found


@lru_cache(maxsize=100_000)
def _inflation(dof: float) -> float:
    """The upper end of what a variance may be, over its estimate."""
    from scipy.special import chdtri

    return dof / float(chdtri(dof, _SURE))
