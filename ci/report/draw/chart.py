"""The parts that all figures share, as Vega-Lite in plain values, and its drawing as SVG.

Each axis states its domain, so that a mark's place can be converted back to its value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ci.report.draw.figure import Figure, natural
from ci.report.draw.layers import (
    SHAPES,
    bands,
    colour,
    curves,
    estimate_data,
    estimates,
    intervals,
    line_data,
    lines,
    points,
)  # fmt: skip
from ci.report.draw.ticks import around, from_zero, log_domain, log_ticks
from fixtures.core.base.errors import InputError

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTH, HEIGHT = 520, 360
# vl-convert has the first, so text is as wide on every machine; the second has the same widths.
FONT = "Liberation Sans, Arial, sans-serif"
# The most points with intervals and texts for screen readers; more would overlap and double the file.
_MOST_DESCRIBED = 150
LOG, ZERO, AROUND = "log", "zero", "around"


@dataclass(frozen=True)
class Axis:
    """A field of the points along an axis, on a scale: "log", "zero" (linear from 0) or "around" the values.

    `also` are further fields that its domain must include, such as the ends of an interval; `values` are the
    ticks, None for the usual ones.
    """

    field: str
    title: str
    scale: str = LOG
    also: tuple[str, ...] = ()
    values: Sequence[float] | None = None
    format: str = ",~r"

    def encoding(self, figure: Figure, place: str) -> dict[str, Any]:
        """The axis as encoding "x" or "y" of the figure; its domain includes lines and estimates."""
        fields = (self.field, *self.also)
        numbers = [point[key] for point in figure.points for key in fields if point.get(key) is not None]
        numbers += [point[place] for point in figure.lines]
        numbers += [row[place] for estimate in figure.estimates for row in (*estimate.line, *estimate.band)]
        is_log = self.scale == LOG
        domain = {LOG: log_domain, ZERO: from_zero, AROUND: around}[self.scale](numbers)
        values = log_ticks(*domain) if is_log and self.values is None else self.values
        axis = {
            "format": self.format,
            "labelOverlap": "greedy",
            "labelSeparation": 5,
            **({} if values is None else {"values": list(values)}),
        }
        scale = {"type": "log"} if is_log else {"zero": False}
        return {
            "field": self.field,
            "type": "quantitative",
            "title": self.title,
            "axis": axis,
            "scale": {**scale, "domain": list(domain), "nice": False},
        }


def batch_axis(figure: Figure) -> Axis:
    """A logarithmic axis of batch sizes, with a tick at each if there are at most ten."""
    batches = sorted({point["batch_size"] for point in figure.points})
    return Axis("batch_size", "batch size", values=batches if len(batches) <= 10 else None)


def chart(
    figure: Figure,
    x: Axis | dict[str, Any],
    y: Axis,
    *,
    order: str | None,
    look: str = "source",
    shapes: Mapping[str, str] = SHAPES,
    look_title: str = "points are",
) -> dict[str, Any]:
    """The chart: the figure's lines, its curves along `order` (None: only points), intervals and points.

    Estimates lie below the points, their bands below everything.

    `x` may be an encoding. The fields `y.also` are the ends of an interval; with more than 150 points there
    are none. The field `look` sets a point's shape.
    """
    along = x if isinstance(x, dict) else x.encoding(figure, "x")
    up = y.encoding(figure, "y")
    series = sorted({point["series"] for point in figure.points}, key=natural)
    of_colour = colour(series, figure.legend)
    if figure.estimates:
        of_colour["legend"]["symbolOpacity"] = 1  # instead of the bands'
    described = len(figure.points) <= _MOST_DESCRIBED
    notes = {"subtitle": list(figure.notes)} if figure.notes else {}
    return {
        "$schema": SCHEMA,
        "title": {"text": figure.title, "anchor": "start", "limit": 700, **notes},
        "width": WIDTH,
        "height": HEIGHT,
        "background": "white",
        "datasets": {
            "points": [dict(point) for point in figure.points],
            **line_data(figure),
            **estimate_data(figure),
        },
        "data": {"name": "points"},
        "encoding": {"x": along, "y": up, "color": of_colour},
        "layer": [
            *bands(figure, along, up),
            *lines(figure, along, up, of_colour),
            *estimates(figure, along, up),
            *([] if order is None else [curves(order, of_colour)]),
            *([intervals(up, *y.also)] if y.also and described else []),
            points(figure, look, shapes, look_title, described),
        ],
        "config": {"font": FONT, "legend": {"labelLimit": 400}, "axis": {"gridColor": "#e4e4e4"}},
    }


def svg(spec: Mapping[str, Any]) -> str:
    """The figure as SVG with real text, by vl-convert; the same spec gives the same SVG.

    Raises InputError if vl-convert is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise InputError("figures need vl-convert-python, which is not installed here") from None
    return str(vl_convert.vegalite_to_svg(dict(spec)))
