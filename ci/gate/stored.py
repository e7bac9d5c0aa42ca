"""Time against stored runs: how sure a difference is, and how small a slowdown could have been seen.

The unit is a run, never a round: rounds of one process are not independent samples of what is compared. Of a
case in a run there is the logarithm of its median. It is taken to be the sum of what the case is, of what
all cases of that run share, and of noise; the last two have variances that are estimated apart, because what
a run shares is one event for the whole run, where each case's own noise is one more chance of a false alarm.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

LEAST_RUNS = 3  # of a baseline: of two, the noise is known to a factor of 30
_LEAST_CASES = 8  # that tell of this run's own noise
_MAD = 1.4826  # of a normal distribution: standard deviation / median absolute deviation
_POWER = 1.6449  # normal quantile: what is just visible is seen in 95 of 100
_MOST_RUNS = 50

Logs = Mapping[str, Sequence[float | None]]  # by case, the log of the median in each run; None: not in it


@dataclass(frozen=True)
class Noise:
    """Standard deviations of log times between runs: of what a run shares, and of each case's own.

    With their degrees of freedom; `own_by` says which runs the second is from.
    """

    shared: float
    shared_dof: int
    own: float
    own_dof: int
    own_by: str = "the stored runs"


@dataclass(frozen=True)
class Compared:
    """A case against its baseline: logs of ratios, run / baseline.

    `change` lies within +-`margin` of the truth, for all cases of the run together in 99 of 100 runs;
    `visible` is the slowdown that is seen in 95 of 100.
    """

    change: float
    margin: float
    error: float
    visible: float
    cut: float


def noise(baseline: Logs) -> Noise | None:
    """Of the stored runs; None where no case has three of them.

    Shared: the variance of the runs' means over cases, which has a case's own noise in it and so errs on the
    high side. With one case the two cannot be told apart, and all is taken to be shared.
    """
    cases = {name: logs for name, logs in baseline.items() if sum(one is not None for one in logs) >= 2}
    if not any(sum(one is not None for one in logs) >= LEAST_RUNS for logs in cases.values()):
        return None
    rest: dict[int, list[float]] = {}  # by run, how far each of its cases lies from that case's mean
    for logs in cases.values():
        known = [(run, one) for run, one in enumerate(logs) if one is not None]
        mean = math.fsum(one for _, one in known) / len(known)
        for run, one in known:
            rest.setdefault(run, []).append(one - mean)
    shared = {run: statistics.fmean(rest[run]) for run in sorted(rest)}
    shared_dof = len(shared) - 1
    shared_sd = math.sqrt(sum(one * one for one in shared.values()) / shared_dof)
    own_dof = sum(map(len, rest.values())) - len(cases) - shared_dof
    if own_dof < 1:
        return Noise(shared_sd, shared_dof, 0.0, 1)
    squares = sum((one - middle) ** 2 for run, middle in shared.items() for one in rest[run])
    return Noise(shared_sd, shared_dof, math.sqrt(squares / own_dof), own_dof)


def with_own(found: Noise, changes: Sequence[tuple[float, float]]) -> Noise:
    """The noise on this very day, where it is larger: changes of cases lie around their median.

    `changes` has of each case the change, and what one standard deviation of a run counts in it. Robust, so
    that the cases that did change do not count as noise.
    """
    if len(changes) < _LEAST_CASES:
        return found
    middle = statistics.median(change for change, _ in changes)
    today = _MAD * statistics.median(abs(change - middle) / scale for change, scale in changes)
    if today <= found.own:
        return found
    return Noise(found.shared, found.shared_dof, today, len(changes) - 1, "this run")


def scale(stored: int, new: int) -> float:
    """The standard deviation of a difference of means of so many runs, in that of one run."""
    return math.sqrt(1 / stored + 1 / new)


def compare(
    change: float, stored: int, new: int, found: Noise, cases: int, threshold: float, alpha: float
) -> Compared:
    """A change of a log time against the noise, one of so many cases.

    `alpha` is the chance that a run in which nothing has changed has a case beyond its `margin` on one side:
    half of it for what all cases share, once; half for the cases' own, shared out among them (Bonferroni).
    `threshold`, a log ratio, is the slowdown that matters: where the noise leaves room, `cut` lies as high
    as 95 % detection of it allows, so that smaller changes are let through.
    """
    of_difference = scale(stored, new)
    error = of_difference * math.hypot(found.shared, found.own)
    margin = of_difference * (
        _quantile(alpha / 2, found.shared_dof) * found.shared
        + _quantile(alpha / 2 / cases, found.own_dof) * found.own
    )
    cut = max(margin, threshold - _POWER * error)
    return Compared(change, margin, error, margin + _POWER * error, cut)


@cache
def _quantile(beyond: float, dof: int) -> float:
    """Of Student's distribution, what so small a share lies beyond."""
    from scipy.special import stdtrit  # scipy.stats has the same, and takes a second to import

    return -float(stdtrit(dof, beyond))


@cache
def runs_needed(stored: int, found: Noise, cases: int, threshold: float, alpha: float) -> int | None:
    """New runs with which a slowdown of the threshold would be visible; None where no number is enough."""
    for new in range(1, _MOST_RUNS + 1):
        if compare(0.0, stored, new, found, cases, threshold, alpha).visible <= threshold:
            return new
    return None
