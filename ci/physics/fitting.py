"""Least squares over ln(predicted / measured), robust, with wide priors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from fixtures.core.estimate.formula import Parameters
from fixtures.core.estimate.machine import Work, stacked

# Name -> where the search starts, sd of ln about it. Wide: what a datasheet's peak or a CPU's call is known
# to be within before anything is measured. Points decide, the priors keep what they do not tell in place.
PRIORS: dict[str, tuple[float, float]] = {
    "tau_s": (10e-6, 1.0),
    "e_flops": (0.7, 0.3),
    "e_weights": (0.8, 0.3),
    "e_cache": (0.5, 1.0),
    "e_scores": (0.5, 1.0),
    "gamma": (0.5, 1.0),
    "alpha_s": (50e-6, 1.0),
    "e_link": (0.5, 1.0),
    "p": (3.0, 0.5),
    "q": (1.5, 0.5),
}
# Host and device of a CPU are one processor, so that nothing overlaps, and its kernels follow its memory.
CPU_PRIORS: dict[str, tuple[float, float]] = {
    "tau_s": (10e-6, 1.0),
    "e_flops": (0.7, 0.5),
    "e_weights": (0.7, 0.5),
    "e_cache": (0.5, 1.0),
    "e_scores": (0.5, 1.0),
    "pack": (3.0, 1.0),
}
POINT_SD = 0.05  # of ln t about the formula
OUTLIER = 1.5  # deviations beyond which a point counts by its distance, not by the square


@dataclass(frozen=True)
class Fit:
    """Parameters, and the sd of ln of each by the curvature at the optimum."""

    parameters: Parameters
    sd_ln: Mapping[str, float]


@dataclass(frozen=True)
class Form:
    """What is fitted, by its priors, and what stays as in `fixed`."""

    priors: Mapping[str, tuple[float, float]]
    fixed: Parameters


GPU = Form(PRIORS, Parameters())
CPU = Form(CPU_PRIORS, Parameters(p=1.0, q=1.0, gamma=1.0))


def fit(
    works: Sequence[Work], seconds: Sequence[float], form: Form = GPU, start: Parameters | None = None
) -> Fit:
    """The most probable parameters.

    Loss: scipy's soft_l1 (Huber, smooth). The search starts at the priors, or at `start`.
    """
    priors, names = form.priors, list(form.priors)
    middle = np.log([priors[name][0] for name in names])
    wide = np.array([priors[name][1] for name in names])
    groups = _alike(works)
    measured = np.asarray(seconds, dtype=float)

    def parameters(x: Any) -> Parameters:
        values = {name: float(np.exp(value)) for name, value in zip(names, x, strict=True)}
        return replace(form.fixed, **values)

    def residuals(x: Any) -> Any:
        predicted = np.empty(len(works))
        v = parameters(x)
        for places, work in groups:
            predicted[places] = work.seconds(v)
        return np.concatenate([np.log(predicted / measured) / POINT_SD, (x - middle) / wide])

    begin = middle if start is None else np.log([getattr(start, name) for name in names])
    found: Any = least_squares(residuals, begin, loss="soft_l1", f_scale=OUTLIER, x_scale="jac")
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    return Fit(
        parameters(found.x),
        {name: math.sqrt(covariance[i, i]) for i, name in enumerate(names)},
    )


def _alike(works: Sequence[Work]) -> list[tuple[Any, Work]]:
    """Those that stack as one, with their places."""
    kinds: dict[object, list[int]] = {}
    for place, work in enumerate(works):
        kinds.setdefault(work.stacks_by, []).append(place)
    return [(np.array(places), stacked([works[i] for i in places])) for places in kinds.values()]


def predicted(works: Sequence[Work], v: Parameters) -> Any:
    """Seconds of each."""
    found = np.empty(len(works))
    for places, work in _alike(works):
        found[places] = work.seconds(v)
    return found
