"""Kinds of noise between runs of the same code, seeded: what the rule for stored runs is tried with.

Each makes the logs of all cases in all runs, (cases, runs), the stored runs first. Unless it says otherwise
a case's own noise has a standard deviation of 0.5 %, what a run shares one of 0.3 %: assumed, of a quiet
host.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Rng = np.random.Generator
Make = Callable[[Rng, int, int, int], Rows]  # rng, cases, stored and new runs

OWN, SHARED = 0.005, 0.003


def _usual(rng: Rng, cases: int, runs: int) -> Rows:
    return rng.normal(0, OWN, (cases, runs)) + rng.normal(0, SHARED, runs)


def _disturbed(share: float, mean: float, rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """So many values are an exponential higher."""
    shape = cases, stored + new
    return _usual(rng, *shape) + (rng.random(shape) < share) * rng.exponential(mean, shape)


def _uneven(sigma: float, rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """Cases' own noise is lognormal."""
    factor = np.exp(rng.normal(0, sigma, (cases, 1)))
    shared = rng.normal(0, SHARED, stored + new)
    return factor * rng.normal(0, OWN, (cases, stored + new)) + shared


def _noisier(share: float, factor: float, rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """A share of the cases, one at the least, is so many times as noisy; they are the last ones."""
    each = np.ones((cases, 1))
    each[cases - max(int(share * cases), 1) :] = factor
    return each * rng.normal(0, OWN, (cases, stored + new)) + rng.normal(0, SHARED, stored + new)


def _student(dof: float, rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """Heavy tails; the scale is that of the usual noise."""
    return OWN * rng.standard_t(dof, (cases, stored + new)) + rng.normal(0, SHARED, stored + new)


def _two_states(share: float, of_cases: float, rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """Of so many cases a process is 5 % slower in a share of runs."""
    shape = cases, stored + new
    slow = (rng.random(shape) < share) & (rng.random((cases, 1)) < of_cases)
    return _usual(rng, *shape) + 0.05 * slow


def _scaled(own: float, shared: float, rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """Normal noise of these standard deviations."""
    return rng.normal(0, own, (cases, stored + new)) + rng.normal(0, shared, stored + new)


def _drift(rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """Each run is 0.3 % faster than the one before it; the new ones are like the last stored one."""
    runs = np.minimum(np.arange(stored + new), stored)
    return _usual(rng, cases, stored + new) - 0.003 * runs


def _noisy_day(rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """The new runs are three times as noisy."""
    logs = _usual(rng, cases, stored + new)
    logs[:, stored:] *= 3
    return logs


def _bad_run(rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """One stored run is 10 % slower in all cases."""
    logs = _usual(rng, cases, stored + new)
    logs[:, rng.integers(stored)] += 0.1
    return logs


def _skewed(rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """Exponential noise, never below a floor."""
    return OWN * rng.exponential(1, (cases, stored + new)) + rng.normal(0, SHARED, stored + new)


def _wandering(rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """What a run shares is autocorrelated from run to run, by 0.7."""
    shared = rng.normal(0, SHARED, stored + new)
    for run in range(1, stored + new):
        shared[run] += 0.7 * shared[run - 1]
    return rng.normal(0, OWN, (cases, stored + new)) + shared


def _grouped(rng: Rng, cases: int, stored: int, new: int) -> Rows:
    """Cases of one model, four in a row, share half of their noise's variance."""
    group = np.repeat(rng.normal(0, OWN, (cases // 4 + 1, stored + new)), 4, axis=0)[:cases]
    own = rng.normal(0, OWN, (cases, stored + new))
    return np.asarray((group + own) / np.sqrt(2) + rng.normal(0, SHARED, stored + new))


TUNED: dict[str, Make] = {
    "quiet": partial(_scaled, OWN, SHARED),
    "1 % of values +30 %": partial(_disturbed, 0.01, 0.3),
    "10 % of values +50 %": partial(_disturbed, 0.1, 0.5),
    "one case ten times as noisy": partial(_noisier, 0, 10),
    "cases uneven, sigma 0.5": partial(_uneven, 0.5),
    "cases uneven, sigma 1": partial(_uneven, 1.0),
    "Student t3": partial(_student, 3),
    "two states in a tenth of cases": partial(_two_states, 0.5, 0.1),
    "rare state in a tenth of cases": partial(_two_states, 0.1, 0.1),
    "today three times as noisy": _noisy_day,
    "0.3 % faster a run": _drift,
    "shared host": partial(_scaled, 0.05, 0.05),
}
APART: dict[str, Make] = {  # looked at once the rule was done
    "Student t2": partial(_student, 2),
    "a tenth of cases ten times as noisy": partial(_noisier, 0.1, 10),
    "exponential": _skewed,
    "wandering from run to run": _wandering,
    "cases noisy in groups of four": _grouped,
    "one stored run 10 % slow": _bad_run,
    "2 % of values +100 %": partial(_disturbed, 0.02, 1.0),
    "cases uneven, sigma 2": partial(_uneven, 2.0),
    "shared noise of 2 %": partial(_scaled, OWN, 0.02),
    "two states in a third of cases": partial(_two_states, 0.5, 1 / 3),
    "one run in four in a state, a fifth of cases": partial(_two_states, 0.25, 0.2),
}
