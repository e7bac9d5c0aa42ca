"""The best point of each curve for a target, interpolated points, and the curves that others dominate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ci.report.read.samples import Curve
from fixtures.core.result.metrics import output_tokens_per_s
from fixtures.core.result.scaling import tokens_per_s_per_device
from fixtures.core.spec.case import Point


@dataclass(frozen=True)
class Target:
    """The target: either the longest latency in s, or the least output tokens/s."""

    latency_s: float | None = None
    tokens_per_s: float | None = None

    def met(self, at: At) -> bool:
        """Whether a point meets it."""
        if self.latency_s is not None:
            return at.latency_s <= self.latency_s
        return at.tokens_per_s >= (self.tokens_per_s or 0)

    def rank(self, at: At) -> float:
        """The sort key of points that meet the target, the smallest best."""
        return -at.tokens_per_s if self.latency_s is not None else at.latency_s

    def missed_by(self, at: At) -> float:
        """The sort key of points that miss the target, the smallest nearest."""
        return at.latency_s if self.latency_s is not None else -at.tokens_per_s


@dataclass(frozen=True)
class At:
    """A batch size of a curve with its latency and output tokens/s, measured or interpolated."""

    batch_size: int
    latency_s: float
    tokens_per_s: float


@dataclass(frozen=True)
class Answer:
    """The answer of a curve. `best` is None if no measured point meets the target; `nearest` comes nearest.

    `between` is a batch size between two measured ones that is better than `best` by interpolated latency.
    `usd_per_million_tokens` is None without a price for the device. `dominated_by` names the curves that are
    no worse in any respect and better in at least one.
    """

    curve: Curve
    best: At | None
    nearest: At
    between: At | None
    usd_per_million_tokens: float | None = None
    dominated_by: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Hardware, engine and source."""
        return f"{self.curve.hardware} {self.curve.engine} ({self.curve.source})"

    @property
    def devices(self) -> int:
        """The number of devices of the curve."""
        return self.curve.samples[0].devices

    @property
    def per_device(self) -> float | None:
        """Output tokens/s per device."""
        best = self.best
        return None if best is None else tokens_per_s_per_device(best.tokens_per_s, self.devices)


def answer(curves: Iterable[Curve], target: Target, usd_per_hour: Mapping[str, float]) -> list[Answer]:
    """The answers of the curves with samples: the best first, those that miss the target last, nearest first.

    `usd_per_hour` maps the name of a device to its price.
    """
    found = [_of_curve(curve, target, usd_per_hour) for curve in curves if curve.samples]
    with_rivals = [
        replace(each, dominated_by=tuple(other.label for other in found if _dominates(other, each)))
        for each in found
    ]
    return sorted(with_rivals, key=lambda each: _order(each, target))


def _order(each: Answer, target: Target) -> tuple[bool, float]:
    return each.best is None, target.missed_by(each.nearest) if each.best is None else target.rank(each.best)


def usd_per_million_tokens(usd_per_hour: float, devices: int, tokens_per_s: float) -> float:
    """US$ a million output tokens, never idle: `usd_per_hour * devices / 3600 / tokens_per_s * 1e6`."""
    return usd_per_hour * devices / 3600 / tokens_per_s * 1e6


def _of_curve(curve: Curve, target: Target, prices: Mapping[str, float]) -> Answer:
    points = [
        _at(curve, sample.point.batch_size, sample.latency_s) for sample in curve.samples if sample.latency_s
    ]
    met = [sample for sample in points if target.met(sample)]
    best = min(met, key=target.rank, default=None)
    # of those that miss: the least latency, or the most throughput
    nearest = min(
        points, key=lambda sample: sample.latency_s if target.latency_s is not None else -sample.tokens_per_s
    )
    price = prices.get(curve.samples[0].device)
    cost = None
    if price is not None and best is not None:
        cost = usd_per_million_tokens(price, curve.samples[0].machines, best.tokens_per_s)
    return Answer(curve, best, nearest, _between(curve, points, target, best), cost)


def _at(curve: Curve, batch: int, latency_s: float) -> At:
    point = Point(batch, curve.input_len, curve.output_len)
    return At(batch, latency_s, output_tokens_per_s(point, latency_s))


def _between(curve: Curve, points: Sequence[At], target: Target, best: At | None) -> At | None:
    """The best batch size between two measured ones of which exactly one meets the target; None without.

    Latency is assumed linear in batch size between neighbours. Throughput then is monotonic, so no batch
    inside is better than both ends if both meet the target, or neither does.
    """
    found = []
    for low, high in pairwise(points):
        if target.met(low) == target.met(high):
            continue
        whole = _last_met(curve, low, high, target)
        if whole is not None:
            found.append(whole)
    better = [at for at in found if best is None or target.rank(at) < target.rank(best)]
    return min(better, key=target.rank, default=None)


def _last_met(curve: Curve, low: At, high: At, target: Target) -> At | None:
    """The last batch size that meets the target between two of which one does, found by bisection."""
    slope = (high.latency_s - low.latency_s) / (high.batch_size - low.batch_size)

    def at(batch: int) -> At:
        return _at(curve, batch, low.latency_s + slope * (batch - low.batch_size))

    inside, outside = (low, high) if target.met(low) else (high, low)
    good, bad = inside.batch_size, outside.batch_size
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if target.met(at(middle)) else (good, middle)
    return None if good == inside.batch_size else at(good)


def _dominates(ours: Answer, theirs: Answer) -> bool:
    """Whether ours is no worse in latency, tokens/s, tokens/s per device or known cost, and better in one."""
    if ours.best is None or theirs.best is None or ours is theirs:
        return False
    pairs = [
        (ours.best.latency_s, theirs.best.latency_s),
        (-ours.best.tokens_per_s, -theirs.best.tokens_per_s),
        (-(ours.per_device or math.inf), -(theirs.per_device or math.inf)),
    ]
    if ours.usd_per_million_tokens is not None and theirs.usd_per_million_tokens is not None:
        pairs.append((ours.usd_per_million_tokens, theirs.usd_per_million_tokens))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
