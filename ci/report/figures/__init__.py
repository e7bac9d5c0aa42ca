"""The figures that a set of cases gives; each kind of figure has its own module here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from types import MappingProxyType
from typing import Any

from ci.pick.estimator import Estimator
from ci.report.draw.figure import Cases, Figure, Room
from ci.report.figures import batch, engines, latency, memory, parallel, phases, roofline, trend
from ci.report.figures.latency import LENGTH, THROUGHPUT
from ci.report.read.samples import Sample, grouped, newest
from fixtures.core.base.names import slug

__all__ = ["KINDS", "LENGTH", "THROUGHPUT", "Figure", "figures", "spec"]

_ROOMS: tuple[Room, ...] = (latency, batch, phases, roofline, memory, parallel, engines, trend)
KINDS: Mapping[str, Room] = MappingProxyType({name: room for room in _ROOMS for name in room.KINDS})
_LONGEST_NAME = 120  # bytes of a file's, without its ending


def figures(samples: Iterable[Sample], most: int | None = None, estimate: bool = False) -> list[Figure]:
    """The figures of the samples, ordered by kind; at most `most`, taking the kinds in turn.

    The newest run of each case counts; trends show all runs. `estimate` adds estimated curves.
    """
    given = list(samples)
    latest = newest(sample for sample in given if not sample.point.depth)
    kinds = grouped(latest, lambda sample: sample.kind) if estimate else {}
    estimators = {kind: Estimator(of_kind) for kind, of_kind in kinds.items()}
    cases = Cases(latest, given, estimators, newest(given))
    sources = {name: room.KINDS[name](cases) for name, room in KINDS.items()}
    order, names, named = list(sources), set[str](), []
    for figure in sorted(islice(_in_turn(sources), most), key=lambda figure: order.index(figure.kind)):
        wished = slug(figure.name).encode()[:_LONGEST_NAME].decode(errors="ignore")
        named.append(replace(figure, name=_new_name(wished, names)))
    return named


def spec(figure: Figure) -> dict[str, Any]:
    """The Vega-Lite spec of a figure; its axes state their domains."""
    return KINDS[figure.kind].spec(figure)


def _in_turn(sources: Mapping[str, Iterator[Figure]]) -> Iterator[Figure]:
    """The first figure of each kind, then the second of each, and so on."""
    left = list(sources.values())
    while left:
        for source in list(left):
            try:
                yield next(source)
            except StopIteration:
                left.remove(source)


def _new_name(wished: str, taken: set[str]) -> str:
    """The name, with a number added if another figure has it already."""
    name, number = wished, 1
    while name in taken:
        number += 1
        name = f"{wished}_{number}"
    taken.add(name)
    return name
