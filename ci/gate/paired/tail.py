"""What the trimmed mean cuts away: new processes that are slow now and then, as often as the base's or not.

Where one process of a pair is slow, the log ratio lies far above the others, or far below. A coin says which
side comes first, so that whatever disturbs the machine slows either side equally often: half of the pairs
that lie far out are slow on the new side. Wald's sequential test compares that with nine in ten; a case is
red after nine slow processes at the earliest.

Fewer keep a case from PASS, which says that a fifth of the new processes do not take twice as long: by the
likelihood of equal rates over that of rates that differ by so much, each with the best rate of the base
(S. S. Wilks, Ann. Math. Statist. 9(1), 1938). Without a slow process that takes 17 pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Each = NDArray[np.float64]  # (cases,)
Counts = NDArray[np.intp]  # (cases,): processes

SHARE, TIMES = 0.2, 2.0  # of new processes that are slow, by how much: a PASS has ruled it out
MISSED = 0.025  # at the most, of such
LEAST_PAIRS = math.ceil(math.log(MISSED) / math.log(1 - SHARE))
_SLOW = math.log(1.2)  # a process that takes a fifth more is slow
_DEVIATIONS = 3.0  # and where pairs differ more, one that lies so far out
_NORMAL = 1.4826
_ON_ONE_SIDE = 0.9  # of slow processes, where the new side is to blame
_RATES = np.concatenate([[0.0], np.geomspace(0.002, 0.8, 60)])  # of slow base processes


def slow(ratios: NDArray[np.float64]) -> tuple[Counts, Counts, Each]:
    """New and base processes of each row that are slow, and how much one pair differs; ratios are logs.

    Half of the pairs may be slow: the scatter is that of the median's absolute deviations, as a normal
    distribution's (F. R. Hampel, J. Am. Stat. Assoc. 69, 1974). They lie far from the middle one. `ratios`
    is (cases, pairs).
    """
    new, base = np.zeros((2, len(ratios)), np.intp)
    scatter = np.zeros(len(ratios))
    rows = np.flatnonzero(np.ptp(ratios, axis=1) > _SLOW)  # of the others none is
    away, scatter[rows] = _around_middle(ratios[rows])
    new[rows], base[rows] = _beyond(away, scatter[rows])
    return new, base, scatter


def is_red(ratios: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    """Of which rows the new side is slow more often, by pairs that lie far from the middle, and from 0.

    Where times have two states, it is chance in which of them the middle lies: coins are fair around 0 alone.
    """
    far = np.count_nonzero(ratios > _SLOW, axis=1)  # no fewer than those that are slow
    rows = np.flatnonzero(evidence(far, np.zeros_like(far)) >= bound(alpha))
    found = np.zeros(len(ratios), bool)
    if len(rows):
        away, scatter = _around_middle(ratios[rows])
        of_middle, of_0 = (evidence(*_beyond(one, scatter)) for one in (away, ratios[rows]))
        found[rows] = np.minimum(of_middle, of_0) >= bound(alpha)
    return found


def _around_middle(ratios: NDArray[np.float64]) -> tuple[NDArray[np.float64], Each]:
    """How far each pair lies from its row's middle, and how much one pair differs."""
    away = ratios - np.median(ratios, axis=1, keepdims=True)
    return away, _NORMAL * np.median(np.abs(away), axis=1)


def _beyond(away: NDArray[np.float64], scatter: Each) -> tuple[Counts, Counts]:
    """How many of each row lie far out: above, and below."""
    cut = _cut(scatter)[:, None]
    return np.count_nonzero(away > cut, axis=1), np.count_nonzero(away < -cut, axis=1)


def evidence(new: Counts, base: Counts) -> Each:
    """Log likelihood ratio of slow processes that are the new side's against ones of either side."""
    return new * math.log(2 * _ON_ONE_SIDE) + base * math.log(2 * (1 - _ON_ONE_SIDE))


def bound(alpha: float) -> float:
    """The evidence at which a series is red."""
    return math.log((1 - MISSED) / alpha)


def ruled_out(new: Counts, base: Counts, pairs: Counts, deviation: Each) -> NDArray[np.bool_]:
    """Of which rows a new side that is slow in a fifth more of its processes is too unlikely."""
    from scipy.special import ndtr

    seen = ndtr((math.log(TIMES) - _cut(deviation)) / np.maximum(deviation, 1e-12))
    share = np.floor(100 * SHARE * seen + 1e-9) / 100
    kinds, kind_of = np.unique(np.stack([new, base, pairs, share]), axis=1, return_inverse=True)
    less = np.empty(kinds.shape[1])
    for k, (of_new, of_base, of, more) in enumerate(kinds.T):
        less[k] = _likelihood(of_new, of_base, of, 0.0) - _likelihood(of_new, of_base, of, more)
    return np.asarray((less >= -math.log(MISSED)) & (kinds[3] > 0))[kind_of.ravel()]


def said(new: int, base: int, pairs: int) -> str:
    """How many processes were slow; nothing where none was."""
    return f"slow in {new} of {pairs} processes, the base in {base}" if new or base else ""


def _cut(deviation: Each) -> Each:
    return np.maximum(_SLOW, _DEVIATIONS * deviation)


def _likelihood(new: float, base: float, pairs: float, more: float) -> float:
    """The log likelihood of so many slow ones, where the new side's rate is so much more than the base's."""
    from scipy.special import xlog1py, xlogy

    rates = _RATES[_RATES + more < 1]
    of_base = xlogy(base, rates) + xlog1py(pairs - base, -rates)
    of_new = xlogy(new, rates + more) + xlog1py(pairs - new, -rates - more)
    return float((of_base + of_new).max())
