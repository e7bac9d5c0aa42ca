"""The layers of a chart: lines, curves, intervals, points; each as Vega-Lite in plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ci.report.draw.figure import DASHED, DOTTED, ESTIMATED, PREDICTED, RAN_OUT, SOLID, Figure
from ci.report.read.samples import MEASURED, PUBLISHED

# M. Okabe and K. Ito, "Color Universal Design": distinct with any kind of colour vision. Without its yellow,
# which is too light on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
_GREY = "#555555"
_CROSS = "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z"
SHAPES = {MEASURED: "circle", PUBLISHED: "diamond", PREDICTED: "square", RAN_OUT: _CROSS}
_DASHES = {SOLID: [1, 0], DASHED: [6, 4], DOTTED: [2, 3]}
_ROWS = 15  # of a legend's column


def colour(series: Sequence[str], title: str) -> dict[str, Any]:
    """The encoding that gives each curve a colour; the colours repeat after the last."""
    return {
        "field": "series",
        "type": "nominal",
        "title": title,
        "scale": {"domain": list(series), "range": [COLOURS[i % len(COLOURS)] for i in range(len(series))]},
        "legend": {"columns": math.ceil(len(series) / _ROWS), "symbolType": "stroke", "symbolStrokeWidth": 2},
    }


def curves(order: str, of_colour: Mapping[str, Any]) -> dict[str, Any]:
    """The layer with a line for each curve and source along the field `order`, dashed for predictions.

    With more curves than colours, dashes distinguish curves of the same colour instead. Marks at estimates
    have a line of their own.
    """
    series = of_colour["scale"]["domain"]
    rounds = [_DASHES[SOLID], _DASHES[DASHED], _DASHES[DOTTED]]
    by_series = {
        **of_colour,
        "scale": {"domain": series, "range": [rounds[i // len(COLOURS) % 3] for i in range(len(series))]},
    }
    predicted = {"test": f"datum.source === '{PREDICTED}'", "value": [5, 4]}
    by_source = {"condition": predicted, "value": _DASHES[SOLID]}
    return {
        "transform": [{"filter": f"datum.source !== '{ESTIMATED}'"}],
        "mark": {"type": "line", "aria": False, "strokeWidth": 1.7},
        "encoding": {
            "detail": {"field": "source"},
            "order": {"field": order},
            "strokeDash": by_source if len(series) <= len(COLOURS) else by_series,
        },
    }


def intervals(y: Mapping[str, Any], low: str, high: str) -> dict[str, Any]:
    """The layer with a bar between the fields `low` and `high` of points that have them."""
    return {
        "transform": [{"filter": f"isValid(datum[{low!r}])"}],
        "mark": {"type": "rule", "aria": False, "strokeWidth": 1.5},
        "encoding": {"y": {**y, "field": low}, "y2": {"field": high}},
    }


def points(figure: Figure, look: str, shapes: Mapping[str, str], title: str, texts: bool) -> dict[str, Any]:
    """The layer with a mark a point, shaped by the field `look`; `texts`: for screen readers."""
    looks = [name for name in shapes if any(point[look] == name for point in figure.points)]
    shape = {
        "field": look,
        "type": "nominal",
        "title": title,
        "scale": {"domain": looks, "range": [shapes[name] for name in looks]},
    }
    aria = {} if texts else {"aria": False}
    mark = {"type": "point", "filled": True, "size": 55, "opacity": 1, **aria}
    return {
        "mark": mark,
        "encoding": {"shape": shape, **({"description": {"field": "case"}} if texts else {})},
    }


def line_data(figure: Figure) -> dict[str, Any]:
    """The figure's lines as data sets: grey lines, and lines in the colour of their curve."""
    own = [dict(point) for point in figure.lines if point["series"] is None]
    curved = [dict(point) for point in figure.lines if point["series"] is not None]
    return {name: rows for name, rows in (("lines", own), ("curve_lines", curved)) if rows}


def estimate_data(figure: Figure) -> dict[str, Any]:
    """The figure's estimated lines and the outlines of their intervals as data sets."""
    line = [dict(row) for estimate in figure.estimates for row in estimate.line]
    band = [dict(row) for estimate in figure.estimates for row in estimate.band]
    return {"estimates": line, "bands": band} if line else {}


def bands(figure: Figure, x: Mapping[str, Any], y: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layer of the intervals of estimates, each an outline that is filled."""
    if not figure.estimates:
        return []
    mark = {
        "type": "line",
        "interpolate": "linear-closed",
        "filled": True,
        "opacity": 0.13,
        "aria": False,
    }
    places = {"x": {**x, "field": "x"}, "y": {**y, "field": "y"}, "order": {"field": "at"}}
    return [{"data": {"name": "bands"}, "mark": mark, "encoding": places}]


def estimates(figure: Figure, x: Mapping[str, Any], y: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layer of the estimated lines, which the legend and a screen reader name."""
    if not figure.estimates:
        return []
    name = {
        "datum": f"{ESTIMATED}, 90 % interval",
        "type": "nominal",
        "title": "dashed lines are",
        "scale": {"domain": [f"{ESTIMATED}, 90 % interval"], "range": [1]},
        "legend": {
            "symbolType": "stroke",
            "symbolDash": _DASHES[DASHED],
            "symbolStrokeColor": _GREY,
            "symbolStrokeWidth": 1.4,
            "symbolSize": 400,
        },
    }
    encoding = {"description": {"field": "told"}, "opacity": name, "order": {"field": "at"}}
    return [
        {
            "data": {"name": "estimates"},
            "mark": {"type": "line", "strokeDash": _DASHES[DASHED], "strokeWidth": 1.4},
            "encoding": {"x": {**x, "field": "x"}, "y": {**y, "field": "y"}, **encoding},
        }
    ]


def lines(
    figure: Figure, x: Mapping[str, Any], y: Mapping[str, Any], of_colour: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The layers of the lines and their labels; `x` and `y` are the encodings of the points."""
    places = {"x": {**x, "field": "x"}, "y": {**y, "field": "y"}}
    dashes = [{"test": f"datum.dash === '{name}'", "value": _DASHES[name]} for name in (DASHED, DOTTED)]
    align = {"expr": "datum.at_left ? 'left' : 'right'"}
    layers: list[dict[str, Any]] = []
    for name in line_data(figure):
        drawn = {
            **places,
            "color": {"value": _GREY} if name == "lines" else of_colour,
            "detail": [{"field": "line"}, {"field": "dash"}],
        }
        layers += [
            {
                "data": {"name": name},
                "mark": {"type": "line", "aria": False, "strokeWidth": 1.2},
                "encoding": {
                    **drawn,
                    "order": {"field": "x"},
                    "strokeDash": {"condition": dashes, "value": _DASHES[SOLID]},
                },
            },
            {
                "data": {"name": name},
                "transform": [{"filter": "isValid(datum.label)"}],
                "mark": {"type": "text", "align": align, "dy": -6, "fontSize": 10, "limit": 300},
                "encoding": {**drawn, "text": {"field": "label"}},
            },
        ]
    return layers
