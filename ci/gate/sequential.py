"""Wald's sequential test on pairs of processes that took turns: slower by the threshold, or not at all.

Of a pair there is the log of the ratio of its two medians. A. Wald, Sequential Tests of Statistical
Hypotheses, Ann. Math. Statist. 16(2), 1945: the log likelihood ratio of a mean of d against one of 0 is
summed up, and the test ends where it leaves the interval of `bounds`.

What it takes to be known, the standard deviation of a pair, is estimated from all cases together, robustly,
and taken at the upper end of what it may be; single pairs that lie far out count as one at two of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cache

LEAST_PAIRS = 6  # of fewer, the scatter of a case says little
_MAD = 1.4826  # of a normal distribution: standard deviation / median absolute deviation
_CLIPPED = 2.0  # standard deviations from the median: what lies further counts as this
# A pair that was disturbed counts as clipped, but a sum of such pairs scatters more than the core of them
# does: by simulation, so much keeps the rates of `bounds` where one of five pairs is disturbed
_CAUTION = 1.15
_SURE = 0.9  # that the standard deviation is no larger than what is used

Ratios = Mapping[str, Sequence[float]]  # by case, the log ratios new / base of its pairs


def deviation(ratios: Ratios, stored: float = 0.0) -> float | None:
    """The standard deviation of a pair, pooled over cases around their medians; None where none is known.

    The larger of what was `stored` and what these pairs say, at the upper end of its 90 % interval.
    """
    known = [list(one) for one in ratios.values() if len(one) >= LEAST_PAIRS]
    dof = sum(len(one) - 1 for one in known)
    if not known:
        return None
    rest = []
    for one in known:
        middle = statistics.median(one)
        rest += [abs(x - middle) * _unbiased(len(one)) for x in one]
    return max(stored, _CAUTION * _MAD * statistics.median(rest) * _inflation(dof), 1e-6)


def _unbiased(n: int) -> float:
    """What the median absolute deviation of n values around their own median is too small by.

    C. Croux, P. J. Rousseeuw, Time-efficient algorithms for two highly robust estimators of scale,
    Computational Statistics 1, 1992.
    """
    few = {6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}
    return few.get(n, n / (n - 0.8))


@cache
def _inflation(dof: int) -> float:
    """The upper end of what a standard deviation may be, over the estimate; less is known by the median."""
    from scipy.stats import chi2

    effective = max(0.37 * dof, 1.0)  # the efficiency of the median absolute deviation
    return math.sqrt(effective / float(chi2.ppf(1 - _SURE, effective)))


def bounds(alpha: float, beta: float) -> tuple[float, float]:
    """Log likelihood ratios: at or below the first it is not slower, at or above the second it is.

    `alpha` is the chance to call the same slower, `beta` to miss a slowdown of the threshold.
    """
    return math.log(beta / (1 - alpha)), math.log((1 - beta) / alpha)


def likelihood(ratios: Sequence[float], deviation: float, threshold: float) -> float:
    """The log of how much likelier a slowdown of the threshold, a log ratio, is than none."""
    middle = statistics.median(ratios)
    limit = _CLIPPED * deviation
    clipped = (min(max(x, middle - limit), middle + limit) for x in ratios)
    return sum(threshold / deviation**2 * (x - threshold / 2) for x in clipped)


def decide(
    ratios: Sequence[float], deviation: float | None, threshold: float, alpha: float, beta: float
) -> bool | None:
    """True: slower by the threshold; False: not slower; None: go on."""
    if deviation is None or len(ratios) < LEAST_PAIRS:
        return None
    low, high = bounds(alpha, beta)
    value = likelihood(ratios, deviation, threshold)
    return True if value >= high else False if value <= low else None


def pairs_needed(deviation: float, threshold: float, alpha: float, beta: float) -> int:
    """About how many pairs a case takes that is the same: Wald's expected number, at the least the fewest."""
    low, high = bounds(alpha, beta)
    expected = ((1 - alpha) * low + alpha * high) / (-((threshold / deviation) ** 2) / 2)
    return max(math.ceil(expected), LEAST_PAIRS)
