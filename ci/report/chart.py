"""What all figures have in common as Vega-Lite, in plain values; nothing is drawn here.

An axis has its domain in it, so that a mark's place can be worked back to its value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ci.curves import MEASURED, PUBLISHED
from ci.report.figure import DASHED, DOTTED, PREDICTED, RAN_OUT, SOLID, Figure, natural
from ci.report.ticks import around, from_zero, log_domain, log_ticks

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTH, HEIGHT = 520, 360
# M. Okabe and K. Ito, "Color Universal Design": told apart with any kind of colour vision. Without its
# yellow, which is too light on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
# The first comes with vl-convert, so that a text is as wide on every machine; the second is as wide.
FONT = "Liberation Sans, Arial, sans-serif"
_GREY = "#555555"
_CROSS = "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z"
SHAPES = {MEASURED: "circle", PUBLISHED: "diamond", PREDICTED: "square", RAN_OUT: _CROSS}
_DASHES = {SOLID: [1, 0], DASHED: [6, 4], DOTTED: [2, 3]}
_ROWS = 15  # of a legend, before it has another column
# Points with an interval, and a text for a screen reader; more would hide each other and double the file.
_MOST_TOLD = 150
LOG, ZERO, AROUND = "log", "zero", "around"


@dataclass(frozen=True)
class Axis:
    """A field of the points along an axis, on a scale: "log", "zero" (linear from 0) or "around" the values.

    `also` are other fields, such as the ends of an interval, that have to be in its domain; `values` are
    where its ticks stand, None for where they usually do.
    """

    field: str
    title: str
    scale: str = LOG
    also: tuple[str, ...] = ()
    values: Sequence[float] | None = None
    format: str = ",~r"

    def encoding(self, figure: Figure, place: str) -> dict[str, Any]:
        """As x or y of the figure, with the lines' places in its domain."""
        fields = (self.field, *self.also)
        known = [one[key] for one in figure.points for key in fields if one.get(key) is not None]
        known += [one[place] for one in figure.lines]
        is_log = self.scale == LOG
        domain = {LOG: log_domain, ZERO: from_zero, AROUND: around}[self.scale](known)
        values = log_ticks(*domain) if is_log and self.values is None else self.values
        axis = {"format": self.format, **({} if values is None else {"values": list(values)})}
        scale = {"type": "log"} if is_log else {"zero": False}
        return {
            "field": self.field,
            "type": "quantitative",
            "title": self.title,
            "axis": axis,
            "scale": {**scale, "domain": list(domain), "nice": False},
        }


def batch_axis(figure: Figure) -> Axis:
    """Batch sizes, doubling; their own values are the ticks where there are few."""
    batches = sorted({one["batch_size"] for one in figure.points})
    return Axis("batch_size", "batch size", values=batches if len(batches) <= 10 else None)


def chart(
    figure: Figure,
    x: dict[str, Any],
    y: dict[str, Any],
    *,
    order: str | None,
    interval: tuple[str, str] | None = None,
    look: str = "source",
    shapes: Mapping[str, str] = SHAPES,
    look_title: str = "points are",
) -> dict[str, Any]:
    """The figure's lines, its curves along `order` (None: points alone), their intervals, their points.

    `x` and `y` are encodings; `look` is the field that a point's shape is of. Where there are more points
    than 150 they have no intervals.
    """
    series = sorted({one["series"] for one in figure.points}, key=natural)
    colour = {
        "field": "series",
        "type": "nominal",
        "title": figure.legend,
        "scale": {"domain": series, "range": [COLOURS[i % len(COLOURS)] for i in range(len(series))]},
        "legend": {"columns": math.ceil(len(series) / _ROWS), "symbolType": "stroke", "symbolStrokeWidth": 3},
    }
    looks = [name for name in shapes if any(one[look] == name for one in figure.points)]
    shape = {
        "field": look,
        "type": "nominal",
        "title": look_title,
        "scale": {"domain": looks, "range": [shapes[name] for name in looks]},
    }
    told = len(figure.points) <= _MOST_TOLD
    points = {
        "mark": {
            "type": "point",
            "filled": True,
            "size": 55,
            "opacity": 1,
            **({} if told else {"aria": False}),
        },
        "encoding": {"shape": shape, **({"description": {"field": "case"}} if told else {})},
    }
    notes = {"subtitle": list(figure.notes)} if figure.notes else {}
    data = {"points": [dict(one) for one in figure.points], **_line_data(figure)}
    return {
        "$schema": SCHEMA,
        "title": {"text": figure.title, "anchor": "start", "limit": 700, **notes},
        "width": WIDTH,
        "height": HEIGHT,
        "background": "white",
        "datasets": data,
        "data": {"name": "points"},
        "encoding": {"x": x, "y": y, "color": colour},
        "layer": [
            *_lines(figure, x, y, colour),
            *([] if order is None else [_curves(order, len(series), colour)]),
            *([_intervals(y, *interval)] if interval is not None and told else []),
            points,
        ],
        # a line's dash says what it is, a curve's where it is from
        "resolve": {"scale": {"strokeDash": "independent"}},
        "config": {"font": FONT, "legend": {"labelLimit": 260}, "axis": {"gridColor": "#e4e4e4"}},
    }


def _curves(order: str, number: int, colour: Mapping[str, Any]) -> dict[str, Any]:
    """A line a curve and source, predictions dashed; where colours come again, each round of them is."""
    scale = {"domain": [MEASURED, PUBLISHED, PREDICTED], "range": [[1, 0], [1, 0], [5, 4]]}
    by_source = {"field": "source", "scale": scale}
    rounds = list(_DASHES.values())
    by_series = {
        "field": "series",
        "scale": {
            "domain": colour["scale"]["domain"],
            "range": [rounds[i // len(COLOURS) % len(rounds)] for i in range(number)],
        },
    }
    dash = by_source if number <= len(COLOURS) else by_series
    return {
        "mark": {"type": "line", "aria": False, "strokeWidth": 1.7},
        "encoding": {
            "detail": {"field": "source"},
            "order": {"field": order},
            "strokeDash": {**dash, "type": "nominal", "legend": None},
        },
    }


def _intervals(y: Mapping[str, Any], low: str, high: str) -> dict[str, Any]:
    return {
        "transform": [{"filter": f"isValid(datum[{low!r}])"}],
        "mark": {"type": "rule", "aria": False, "strokeWidth": 1.5},
        "encoding": {"y": {**y, "field": low}, "y2": {"field": high}},
    }


def _line_data(figure: Figure) -> dict[str, Any]:
    """The lines: those of no curve apart from those in a curve's colour."""
    own = [dict(one) for one in figure.lines if one["series"] is None]
    curved = [dict(one) for one in figure.lines if one["series"] is not None]
    return {name: lines for name, lines in (("lines", own), ("curve_lines", curved)) if lines}


def _lines(
    figure: Figure, x: Mapping[str, Any], y: Mapping[str, Any], colour: Mapping[str, Any]
) -> list[dict[str, Any]]:
    places = {"x": {**x, "field": "x", "type": "quantitative"}, "y": {**y, "field": "y"}}
    dash = {
        "field": "dash",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": list(_DASHES), "range": list(_DASHES.values())},
    }
    align = {"expr": "datum.at_left ? 'left' : 'right'"}
    found: list[dict[str, Any]] = []
    for name in _line_data(figure):
        of_curve = name != "lines"
        drawn = {**places, "color": colour if of_curve else {"value": _GREY}}
        found.append(
            {
                "data": {"name": name},
                "mark": {"type": "line", "aria": False, "strokeWidth": 1.2},
                "encoding": {
                    **drawn,
                    "detail": {"field": "line"},
                    "order": {"field": "x"},
                    "strokeDash": dash,
                },
            }
        )
        found.append(
            {
                "data": {"name": name},
                "transform": [{"filter": "isValid(datum.label)"}],
                "mark": {"type": "text", "align": align, "dy": -6, "fontSize": 10, "limit": 300},
                "encoding": {**drawn, "text": {"field": "label"}, "detail": {"field": "line"}},
            }
        )
    return found
