"""A figure as plain values, and the functions that every kind of figure uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ci.pick.estimator import Estimator
from ci.report.read.samples import Sample

PREDICTED, RAN_OUT = "predicted", "out of memory"  # beside "measured" and "published"
ESTIMATED = "estimated"
SOLID, DASHED, DOTTED = "solid", "dashed", "dotted"


@dataclass(frozen=True)
class Estimated:
    """An estimated curve of a series: the rows of its line, and of the outline of its 90 % interval.

    A row has `series`, `x`, `y` and `at`, its place in the line; a line's row has `told`, for screen readers.
    """

    series: str
    line: tuple[dict[str, Any], ...]
    band: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Figure:
    """A figure: its kind, its file name, the title of its legend, and its points as plain values.

    A point has `case`, `series` and `source`, and the values of its kind; the ends of a missing interval are
    None. A line belongs to no case: a roof, the memory of a device, a bound. Its points have `line` (its
    name), `x`, `y`, `dash`, `series` (None: of no curve), `label` (on one of its points, None on the
    others) and `at_left`, the label's side. `estimates` are neither points nor lines. `notes` stand under
    the title.
    """

    kind: str
    name: str
    title: str
    legend: str
    points: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()
    lines: tuple[dict[str, Any], ...] = ()
    estimates: tuple[Estimated, ...] = ()


@dataclass(frozen=True)
class Cases:
    """Samples for figures: `latest` and `deep` have each case of a source once, `every` those of all runs.

    `latest` has only cases that begin with an empty cache; the others have cases at a depth too.
    `estimators` are by the samples' kind; with them, figures of latency have estimated curves.
    """

    latest: Sequence[Sample]
    every: Sequence[Sample]
    estimators: Mapping[str, Estimator] = field(default_factory=dict)
    deep: Sequence[Sample] = ()


class Room(Protocol):
    """A room of `figures/`, with one kind of figure or several similar kinds."""

    @property
    def KINDS(self) -> Mapping[str, Callable[[Cases], Iterator[Figure]]]:
        """Kind -> the generator of its figures, which makes each on demand.

        Names of figures may repeat, and be long.
        """

    def spec(self, figure: Figure) -> dict[str, Any]:
        """The Vega-Lite spec of a figure."""


def point(sample: Sample, series: str, **values: Any) -> dict[str, Any]:
    """The point of a case, its numbers with seven significant digits."""
    return {"case": sample.case_id, "series": series, "source": sample.source, **plain(values)}


def line(
    name: str,
    places: Iterable[tuple[float, float]],
    dash: str,
    label: str | None = None,
    *,
    series: str | None = None,
    at_left: bool = False,
) -> list[dict[str, Any]]:
    """The points of a line through `places`, with the label on the last point, or `at_left` on the first."""
    same = {"line": name, "dash": dash, "series": series, "label": None, "at_left": at_left}
    points = [plain({**same, "x": x, "y": y}) for x, y in places]
    if points:
        points[0 if at_left else -1]["label"] = label
    return points


def estimated_curve(series: str, places: Sequence[Sequence[tuple[float, float]]], told: str) -> Estimated:
    """The curve through places (low end, estimate, high end), each (x, y); `told` says it in words."""
    lows, middle, highs = zip(*places, strict=True)

    def rows(ends: Iterable[tuple[float, float]]) -> tuple[dict[str, Any], ...]:
        return tuple(plain({"series": series, "x": x, "y": y, "at": i}) for i, (x, y) in enumerate(ends))

    return Estimated(
        series, tuple({**row, "told": told} for row in rows(middle)), rows([*lows, *reversed(highs)])
    )


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """The values with floats rounded to seven significant digits; nobody sees more."""
    return {
        key: float(f"{value:.7g}") if isinstance(value, float) else value for key, value in values.items()
    }


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts by the numbers in a name: 4 before 16, and 2xa before 10xa.

    >>> sorted(["10xa", "64", "2xa", "4", "16"], key=natural)
    ['4', '16', '64', '2xa', '10xa']
    """
    parts = re.split(r"([0-9]+)", name)
    key = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)
    return ((0 if name.isdecimal() else 1, 0, ""), *key)
