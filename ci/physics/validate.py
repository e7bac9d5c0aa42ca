"""How far off the formula is where points are left out, how wide an interval is, and today's rule beside."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ci.physics.fitting import GPU, Fit, Form, fit, predicted
from ci.physics.points import Datum
from fixtures.core.estimate.machine import Machine, calibrated, shares
from fixtures.core.estimate.physics import Physics

LEFT_OUT = ("curve", "batch", "lengths", "hardware", "device", "count", "model", "family")
LEVEL = 0.9
GAUSSIAN = 1.645  # deviations on both sides that hold 90 %
TODAY = 0.34  # of the bound, where nothing of the device was measured
LAST = 4  # measured points of a machine, after which the interval gets no narrower
LEAST = 6  # points of a set-up, that calibrating it may be tried on


@dataclass(frozen=True)
class Errors:
    """|predicted / measured - 1|: the median, nine in ten, and the worst."""

    median: float
    p90: float
    worst: float

    @classmethod
    def of(cls, predicted_s: Any, measured_s: Any) -> Errors:
        """Of these seconds."""
        off = np.abs(np.asarray(predicted_s) / np.asarray(measured_s) - 1)
        return cls(float(np.median(off)), float(np.quantile(off, 0.9)), float(off.max()))

    def as_dict(self) -> dict[str, float]:
        """Rounded as a table has them."""
        return {key: round(value, 4) for key, value in vars(self).items()}


def seconds(data: Sequence[Datum]) -> Any:
    """What was measured."""
    return np.array([one.seconds for one in data])


def fitted(data: Sequence[Datum], start: Fit | None = None, form: Form = GPU) -> Fit:
    """The parameters of these points."""
    begin = None if start is None else start.parameters
    return fit([one.work for one in data], [one.seconds for one in data], form, begin)


def expected(data: Sequence[Datum], of: Fit) -> Any:
    """By these parameters."""
    return predicted([one.work for one in data], of.parameters)


def leave_out(data: Sequence[Datum], left_out: str, whole: Fit, form: Form = GPU) -> Any:
    """Each point's seconds by a fit without its group."""
    found = np.empty(len(data))
    for inside, outside in split(data, left_out):
        of = fitted([data[i] for i in outside], whole, form)
        found[inside] = expected([data[i] for i in inside], of)
    return found


def split(data: Sequence[Datum], left_out: str) -> Iterable[tuple[list[int], list[int]]]:
    """Places of each group, and of all others."""
    groups = [one.group(left_out) for one in data]
    for group in dict.fromkeys(groups):
        inside = [i for i, other in enumerate(groups) if other == group]
        yield inside, [i for i, other in enumerate(groups) if other != group]


def today(data: Sequence[Datum], left_out: str) -> Any:
    """Each point's seconds by the rule without a formula: its bound over the median share of the bound."""
    found = np.empty(len(data))
    for inside, outside in split(data, left_out):
        for i in inside:
            found[i] = data[i].least_s / share_of_bound(data[i], [data[j] for j in outside])
    return found


def share_of_bound(one: Datum, past: Sequence[Datum]) -> float:
    """The median over its model with engines of its kind on its device, else over all of its device."""
    same = [other for other in past if other.case.hardware.name == one.case.hardware.name]
    tests: list[Callable[[Datum], bool]] = [
        lambda other: (
            (other.case.model.name, other.case.engine.kind) == (one.case.model.name, one.case.engine.kind)
        ),
        lambda _: True,
    ]
    for test in tests:
        found = [other.least_s / other.seconds for other in same if test(other)]
        if found:
            return statistics.median(found)
    return TODAY


def ttft_and_tpot(data: Sequence[Datum], without_curve: Any) -> tuple[Errors, Errors]:
    """Errors of points with one output token, and of (t(N) - t(1)) / (N - 1), their curves left out."""
    first = {_shape(one): i for i, one in enumerate(data) if one.case.point.output_len == 1}
    measured, places = seconds(data), list(first.values())
    pairs = [
        (i, first[_shape(one)], one.case.point.output_len - 1)
        for i, one in enumerate(data)
        if one.case.point.output_len > 1 and _shape(one) in first
    ]

    def tpot(of: Any) -> Any:
        return np.array([(of[i] - of[j]) / steps for i, j, steps in pairs])

    return Errors.of(without_curve[places], measured[places]), Errors.of(tpot(without_curve), tpot(measured))


def _shape(one: Datum) -> tuple[object, ...]:
    point, case = one.case.point, one.case
    return case.load_key, point.batch_size, point.input_len


def quantile(scores: Any, groups: Sequence[object], level: float = LEVEL) -> float:
    """What nine in ten points of nine in ten groups do not pass: what is new is a group, not a point.

    Of ten groups or fewer it is the worst one's.
    """
    places = {group: [i for i, other in enumerate(groups) if other == group] for group in set(groups)}
    of_group = [np.quantile(np.asarray(scores)[i], level, method="higher") for i in places.values()]
    return float(np.quantile(of_group, level, method="higher"))


def half_width(data: Sequence[Datum], without: Any, left_out: str) -> float:
    """The factor that nine in ten points of nine in ten left-out groups are within."""
    scores = np.abs(np.log(seconds(data) / without))
    return float(np.exp(quantile(scores, [one.group(left_out) for one in data])))


def coverage(data: Sequence[Datum], without: Any, left_out: str) -> float:
    """Share of points within the interval that the other groups' points, by fits without it, ask for.

    Nested: where a group is judged, the radius comes from fits that have not seen it, each without another
    group too.
    """
    measured, inside_all = seconds(data), []
    for inside, outside in split(data, left_out):
        others = [data[i] for i in outside]
        radius = np.log(half_width(others, leave_out(others, left_out, fitted(others)), left_out))
        scores = np.abs(np.log(measured[inside] / without[inside]))
        inside_all += list(scores <= radius)
    return float(np.mean(inside_all))


# --- machines never seen: set-ups of other sources


def designed(data: Sequence[Datum], number: int) -> list[Datum]:
    """The points that tell most of a machine: the host's, the cache's, the FLOPs', then what is left."""
    left, found = list(data), []
    orders: list[Callable[[Datum], Any]] = [
        lambda one: (one.work.kind == "prefill", one.case.point.batch_size, one.case.point.output_len < 32),
        lambda one: (one.work.kind == "prefill", -one.case.point.batch_size, -_longest(one)),
        lambda one: (one.work.kind != "prefill", -one.case.point.batch_size * one.case.point.input_len),
        lambda one: (one.work.kind == "prefill", -_longest(one), -one.case.point.batch_size),
    ]
    for order in orders[:number]:
        if left:
            found.append(min(left, key=order))
            left.remove(found[-1])
    return found


def _longest(one: Datum) -> int:
    return one.case.point.input_len + one.case.point.output_len


@dataclass(frozen=True)
class Tried:
    """A set-up's points that were not measured for it, with the factors that `points` of them gave."""

    data: tuple[Datum, ...]
    machine: Machine
    expected_s: Any
    deviation: Any

    @property
    def scores(self) -> Any:
        """Distance from the estimate, in deviations."""
        return np.abs(np.log(seconds(self.data) / self.expected_s)) / self.deviation


def setups(data: Sequence[Datum]) -> dict[str, list[Datum]]:
    """Points by who measured them on what."""
    found: dict[str, list[Datum]] = {}
    for one in data:
        found.setdefault(one.setup, []).append(one)
    return found


def tried(data: Sequence[Datum], physics: Physics, points: int) -> Tried | None:
    """A set-up after so many designed points; None where it has too few to judge the others by."""
    if points and len(data) < LEAST:
        return None
    chosen = designed(data, points)
    machine = calibrated(physics, [(one.work, one.seconds) for one in chosen])
    rest = tuple(one for one in data if one not in chosen)
    v = machine.parameters(physics.parameters)
    deviation = [(physics.own_sd_ln**2 + machine.variance(*shares(one.work, v))) ** 0.5 for one in rest]
    return Tried(rest, machine, predicted([one.work for one in rest], v), np.array(deviation))


def scale(found: Sequence[Tried]) -> float:
    """Deviations that nine in ten points of nine in ten set-ups are within; at least a normal's."""
    scores = np.concatenate([one.scores for one in found])
    groups = [i for i, one in enumerate(found) for _ in one.data]
    return max(GAUSSIAN, quantile(scores, groups))


def covered_machines(judged: Sequence[Tried], scaled_by: Sequence[Tried]) -> float:
    """Share of points within the interval whose scale comes from the other set-ups' tries."""
    within: list[bool] = []
    for one in judged:
        others = [other for other in scaled_by if other.data[0].setup != one.data[0].setup]
        within += list(one.scores <= scale(others))
    return float(np.mean(within))
