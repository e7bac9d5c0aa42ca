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
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LEAST_PAIRS = 6  # of fewer, the scatter of a case says little
TRIMMED = 0.2  # at each end: what may be disturbed, and no more than 12 % lost where nothing is
_SURE = 0.9  # that the pooled variance is no larger than what is used
RUN_ALPHA = 0.005  # false alarms a run, all cases together, if sigma were known; half of what is promised
MOST_ALPHA = 0.005  # of one series, however few the cases
BETA = 0.01  # of one series
COVERAGE = 0.95  # of the interval that is shown, for each case alone

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

    @classmethod
    def of_run(cls, threshold: float, cases: int) -> Rule:
        """What is red is red in two series: the square of alpha is shared out among the cases."""
        return cls(threshold, min(MOST_ALPHA, math.sqrt(RUN_ALPHA / max(cases, 1))))

    def bounds(self) -> tuple[float, float]:
        """Log likelihood ratios: at or below the first it is not slower, at or above the second it is."""
        return math.log(self.beta / (1 - self.alpha)), math.log((1 - self.beta) / self.alpha)

    def pairs_needed(self, deviation: float) -> int:
        """About how many a case takes that is the same, by Wald's expectation; at the least the fewest."""
        low, high = self.bounds()
        expected = ((1 - self.alpha) * low + self.alpha * high) / (-((self.threshold / deviation) ** 2) / 2)
        return max(math.ceil(expected), LEAST_PAIRS)


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


def interval(ratios: list[float], coverage: float = COVERAGE) -> tuple[float, float, float]:
    """Of log ratios the trimmed mean, and the ends of Student's interval around it (Yuen, as above).

    It takes their number to be given beforehand; where a test ended with them it is a little too short.
    """
    from scipy.special import stdtrit

    mean, variance, _, dof = trimmed(np.array([ratios]))
    margin = float(stdtrit(dof, (1 + coverage) / 2)) * math.sqrt(float(variance[0]) / len(ratios))
    return float(mean[0]), float(mean[0]) - margin, float(mean[0]) + margin


class Series:
    """Pairs of all cases of a run, pair by pair; each case is open until it is decided.

    For simulation there may be many runs side by side: `run` has the number of each row's, ascending.
    """

    def __init__(self, rule: Rule, rows: int, run: NDArray[np.intp] | None = None) -> None:
        self.rule = rule
        self.pairs = 0
        self.decided: NDArray[np.int8] = np.zeros(rows, np.int8)  # 1: slower; -1: not slower
        self.is_open: NDArray[np.bool_] = np.ones(rows, bool)
        self.taken: NDArray[np.intp] = np.zeros(rows, np.intp)  # pairs of each row
        self._ratios: Rows = np.empty((rows, 2 * LEAST_PAIRS))
        self._run = np.zeros(rows, np.intp) if run is None else run
        runs = int(self._run.max(initial=0)) + 1
        # of rows that are decided: sums of squares, degrees of freedom; and the share of all that is common
        self._closed: Each = np.zeros(runs)
        self._closed_dof: Each = np.zeros(runs)
        self._common: Each = np.ones(runs)
        self._variance: Each = np.full(rows, np.nan)

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

    def is_faster(self, row: int) -> bool:
        """Whether the test's mirror image finds it faster by the threshold, rather than the same."""
        if np.isnan(self._variance[row]):
            return False
        d, pairs = self.rule.threshold, int(self.taken[row])
        mean = float(trimmed(self._ratios[row : row + 1, :pairs])[0][0])
        return pairs * d * (-mean - d / 2) / float(self._variance[row]) >= self.rule.bounds()[1]

    def _decide(self, rows: NDArray[np.intp]) -> None:
        ratios = self._ratios[:, : self.pairs]
        mean, own, rest, dof = trimmed(ratios if len(rows) == len(ratios) else ratios[rows])
        run = self._run[rows]
        pooled = self._pooled(run, own, rest, dof)
        variance = np.maximum(np.maximum(pooled[run], own), 1e-12)
        self._variance[rows] = variance
        d = self.rule.threshold
        likelihood = self.pairs * d * (mean - d / 2) / variance
        low, high = self.rule.bounds()
        decided = np.where(likelihood >= high, 1, np.where(likelihood <= low, -1, 0))
        self.decided[rows] = decided
        done = decided != 0
        self.is_open[rows[done]] = False
        self._closed += np.bincount(run[done], dof * own[done], len(self._closed))
        self._closed_dof += dof * np.bincount(run[done], minlength=len(self._closed))

    def _pooled(self, run: NDArray[np.intp], own: Each, rest: Rows, dof: int) -> Each:
        """By run the variance over its open and its decided cases, at the upper end of what it may be."""
        there, starts, cases = np.unique(run, return_index=True, return_counts=True)
        all_dof = self._closed_dof[there] + dof * cases
        pooled = (self._closed[there] + dof * np.add.reduceat(own, starts)) / all_dof
        # the mean over cases scatters by 1 / cases where they share nothing, and as each does where all
        means = np.add.reduceat(rest, starts, axis=0) / cases[:, None]
        each = np.add.reduceat(np.einsum("ij,ij->i", rest, rest), starts) / cases
        of_each = np.einsum("ij,ij->i", means, means) / np.maximum(each, 1e-300) * _inflation(float(dof))
        several = cases > 1
        share = (cases * of_each - 1) / np.maximum(cases - 1, 1)
        self._common[there[several]] = np.clip(share, 0, 1)[several]
        common = self._common[there]
        effective = 1 / ((1 - common) ** 2 / all_dof + common**2 / dof)
        found = np.zeros(len(self._closed))
        found[there] = pooled * np.array([_inflation(round(one, 1)) for one in effective])
        return found


@lru_cache(maxsize=100_000)
def _inflation(dof: float) -> float:
    """The upper end of what a variance may be, over its estimate."""
    from scipy.special import chdtri

    return dof / float(chdtri(dof, _SURE))
