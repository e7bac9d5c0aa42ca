"""How much runs of the same code differ: the estimators of the rule for stored runs.

A run counts with the logarithm of each case's median; NaN stands where it lacks the case.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]  # (cases, runs)
Each = NDArray[np.float64]  # (cases,)

LEAST_CASES = 8  # that tell apart what a run shares and what is each case's own
_TRIMMED = 0.1  # at each end of a case's stored runs: a state that comes back more often is no outlier
_LEAST_VARIANCE = 1e-14  # of a log: what no clock can tell
_CERTAIN_DOF = 1e5
_TAIL_VALUES, _TAIL_SHARE, _STEEPEST = 10, 0.01, 6.0
_CLUSTER = 0.4  # of all cases: so many unchanged ones tell today's noise, whatever the others do
_SAMPLES = 400  # of a normal distribution, seeded
_DRIFT_IS_SEEN, _DRIFT_MAY_BE = 0.975, 0.95


def shared_by_run(logs: Rows) -> Each:
    """What all cases of a run share, against the middle run.

    It is the median over the run's cases of how far each is from its own trimmed mean. From its own median
    would be none in a third of the cases of three runs, and too little in all of them.
    """
    place = np.empty(len(logs))
    for rows, values, cut in _by_count(logs):
        place[rows] = values[:, cut : values.shape[1] - cut].mean(axis=1)
    found = median(logs - place[:, None], axis=0)
    return np.asarray(found - np.median(found))


def _by_count(logs: Rows) -> Iterator[tuple[NDArray[np.intp], Rows, int]]:
    """Rows with as many values each, their values in order, and how many at each end are trimmed."""
    counts = np.isfinite(logs).sum(axis=1)
    for count in np.unique(counts).tolist():
        rows = np.flatnonzero(counts == count)
        yield rows, np.sort(logs[rows], axis=1)[:, :count], int(_TRIMMED * count)  # NaN is sorted to the end


def median(logs: Rows, axis: int) -> Each:
    """The median of the finite values; nanmedian takes ten times as long."""
    is_whole = bool(np.isfinite(logs).all())
    return np.asarray(np.median(logs, axis=axis) if is_whole else np.nanmedian(logs, axis=axis))


def winsorised(logs: Rows) -> tuple[Each, Each, Each]:
    """Each case's trimmed mean, the variance that one run counts with, and its degrees of freedom.

    The variance of the mean is the second / the number of runs. Source: K. K. Yuen, Biometrika 61(1), 1974.
    """
    place, variance, dof = (np.empty(len(logs)) for _ in range(3))
    for rows, values, cut in _by_count(logs):
        count = values.shape[1]
        kept = count - 2 * cut
        drawn_in = np.clip(values, values[:, [cut]], values[:, [count - cut - 1]])
        squares = ((drawn_in - drawn_in.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        place[rows] = values[:, cut : count - cut].mean(axis=1)
        variance[rows] = count * squares / (kept * (kept - 1))
        dof[rows] = kept - 1
    return place, np.maximum(variance, _LEAST_VARIANCE), dof


def moderated(variance: Each, dof: Each) -> tuple[Each, Each]:
    """Each case's variance, shrunk towards that of all cases as far as these agree; and what it is worth.

    Empirical Bayes: G. K. Smyth, Statistical Applications in Genetics and Molecular Biology 3(1), 2004; the
    prior is fitted to quartiles, and a case that is noisier than it allows keeps its own variance, after B.
    Phipson et al., Annals of Applied Statistics 10(2), 2016.
    """
    from scipy.special import fdtrc, polygamma, psi

    if len(variance) < 3:
        return variance, dof
    logs = np.log(variance) - psi(dof / 2) + np.log(dof / 2)
    quarter, three = np.quantile(logs, [0.25, 0.75])
    extra = ((three - quarter) / 1.349) ** 2 - float(np.mean(polygamma(1, dof / 2)))
    prior_dof = min(2 * _trigamma_inverse(extra), _CERTAIN_DOF)
    each, which = np.unique(dof, return_inverse=True)
    medians = np.array([_median_of_f(float(one), round(prior_dof, 2)) for one in each])[which]
    prior = math.exp(float(np.median(np.log(variance) - np.log(medians))))
    tail = fdtrc(dof, prior_dof, variance / prior)
    order = np.argsort(tail)
    agrees = np.minimum(1, tail[order] / ((np.arange(len(tail)) + 0.5) / len(tail)))
    weight = np.empty(len(tail))
    weight[order] = np.maximum.accumulate(agrees) * prior_dof
    return (weight * prior + dof * variance) / (weight + dof), weight + dof


def _trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = value, by Newton's steps on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    if value < 1e-4:
        return _CERTAIN_DOF
    x = 0.5 + 1 / value
    for _ in range(50):
        now = float(polygamma(1, x))
        step = now * (1 - now / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x


@cache
def _median_of_f(dof: float, of: float) -> float:
    from scipy.special import fdtri

    return float(fdtri(dof, max(of, 0.1), 0.5))


@dataclass(frozen=True)
class Tail:
    """How far out a single run's value lies, in standard deviations of its case: the upper tail.

    A share `share` of values lies beyond `start`; from there it falls off like the power `-steep` (B. M.
    Hill, Annals of Statistics 3(5), 1975). `values` ascend.
    """

    values: Each
    start: float
    share: float
    steep: float

    @classmethod
    def of(cls, values: Rows) -> Tail:
        """Out of the stored values of all cases; the power is the slowest that they leave likely."""
        found = np.sort(values[np.isfinite(values)])
        count = min(_TAIL_VALUES, len(found) // 3) if len(found) >= 6 else max(len(found) // 2, 1)
        count = max(count, int(_TAIL_SHARE * len(found)))
        start = max(float(found[-count]), 1.0)
        hill = float(np.log(np.maximum(found[-count:], start) / start).mean())
        steep = min(1 / max(hill, 1e-9), _STEEPEST) / (1 + 1 / math.sqrt(count))
        return cls(found, start, count / len(found), steep)

    def beyond(self, share: float) -> float:
        """What so small a share of values exceeds.

        A share that was seen counts three times: it is seen least in the cases that it makes noisy.
        """
        if share / 3 >= self.share:
            return float(np.quantile(self.values, 1 - share / 3))
        return float(self.start * max(1.0, self.share / share) ** (1 / self.steep))


def noisier_today(change: Each, error: Each, new: Rows, own: Each) -> float:
    """By how many times the new runs scatter more than the stored ones; 1 where that does not show.

    Two signs. How far apart the changes of cases lie, in standard deviations `error`, by the shortest
    interval that holds two fifths of them: cases that did change are no noise. And how much the new runs of
    one case differ, in the median over cases, against its variance `own`; `new` is without what all cases
    share.
    """
    factor = 1.0
    if len(change) >= LEAST_CASES:
        width = _shortest(np.sort(change / error))
        usual, high = _usual_shortest(len(change))
        factor = width / usual if width > high else 1.0
    counts = np.isfinite(new).sum(axis=1)
    several = counts > 1
    if several.any():
        variance = np.nanvar(new[several], axis=1) * counts[several] / (counts[several] - 1)
        each, which = np.unique(counts[several], return_inverse=True)
        expected = np.array([_median_of_f(float(one - 1), _CERTAIN_DOF) for one in each])[which]
        factor = max(factor, math.sqrt(float(np.median(variance / own[several] / expected))))
    return factor


def _shortest(ascending: Each) -> float:
    """The width of the shortest interval that holds two fifths of the values."""
    held = max(3, int(_CLUSTER * len(ascending)))
    return float((ascending[held - 1 :] - ascending[: len(ascending) - held + 1]).min())


@cache
def _usual_shortest(count: int) -> tuple[float, float]:
    """That of so many values of a normal distribution: its median, and what 95 of 100 are below."""
    rng = np.random.default_rng(0)
    found = [_shortest(np.sort(rng.normal(size=count))) for _ in range(_SAMPLES)]
    return float(np.median(found)), float(np.quantile(found, 0.95))


def drift(shared: Each) -> tuple[float, float]:
    """The change from one stored run to the next that shows, and what it may be; both are 0 or more.

    By least squares over the runs' order; the first is 0 where the slope is within the noise.
    """
    from scipy.special import stdtrit

    runs = len(shared)
    if runs < 3:
        return 0.0, 0.0
    order = np.arange(runs) - (runs - 1) / 2
    squares = float((order**2).sum())
    slope = float((order * shared).sum()) / squares
    rest = shared - shared.mean() - slope * order
    error = math.sqrt(float((rest**2).sum()) / (runs - 2) / squares)
    shows = runs > 4 and abs(slope) > float(stdtrit(runs - 2, _DRIFT_IS_SEEN)) * error
    return abs(slope) * shows, abs(slope) + float(stdtrit(runs - 2, _DRIFT_MAY_BE)) * error
