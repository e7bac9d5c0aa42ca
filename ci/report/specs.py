"""A figure as a Vega-Lite spec, in plain values; nothing is drawn here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ci.curves import MEASURED, PUBLISHED
from ci.report.figures import LENGTH, Figure

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTH, HEIGHT = 520, 360
# M. Okabe and K. Ito, "Color Universal Design": told apart with any kind of colour vision. Without its
# yellow, which is too light on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
SHAPES = {MEASURED: "circle", PUBLISHED: "diamond"}


def spec(figure: Figure) -> dict[str, Any]:
    """The spec; axes have their domains in it, so that a mark's place can be worked back to its value."""
    is_length = figure.kind == LENGTH
    x_field, x_title = (
        ("output_len", "output length, tokens") if is_length else ("tokens_per_s", "output tokens/s")
    )
    points = figure.points
    x_values = [one[x_field] for one in points]
    y_values = [one[key] for one in points for key in ("latency_ms", "low_ms", "high_ms") if one[key]]
    series = _in_order({one["series"] for one in points})
    x = {"field": x_field, "type": "quantitative", "title": x_title, "scale": _scale(x_values, is_length)}
    y = {
        "field": "latency_ms",
        "type": "quantitative",
        "title": "latency, ms",
        "scale": _scale(y_values, is_length),
    }
    colour = {
        "field": "series",
        "type": "nominal",
        "title": figure.legend,
        "scale": {"domain": series, "range": [COLOURS[i % len(COLOURS)] for i in range(len(series))]},
    }
    shape = {
        "field": "source",
        "type": "nominal",
        "title": "points are",
        "scale": {"domain": list(SHAPES), "range": list(SHAPES.values())},
    }
    return {
        "$schema": SCHEMA,
        "title": figure.title,
        "width": WIDTH,
        "height": HEIGHT,
        "background": "white",
        "datasets": {"points": [dict(one) for one in points]},
        "data": {"name": "points"},
        "encoding": {"x": x, "y": y, "color": colour},
        "layer": [
            {
                "mark": {"type": "line", "aria": False},
                "encoding": {"detail": {"field": "source"}, "order": {"field": _along(is_length)}},
            },
            {
                "transform": [{"filter": "isValid(datum.low_ms)"}],
                "mark": {"type": "rule", "aria": False},
                "encoding": {"y": {**y, "field": "low_ms"}, "y2": {"field": "high_ms"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": {"shape": shape, "description": {"field": "case"}},
            },
        ],
    }


def _along(is_length: bool) -> str:
    return "output_len" if is_length else "batch_size"


def _scale(values: Iterable[float], is_log: bool) -> dict[str, Any]:
    """With its domain: a little more than the values need."""
    known = list(values)
    if not is_log:
        return {"domain": [0, _rounded_up(max(known))], "nice": False}
    return {"type": "log", "domain": [min(known) / 1.2, 1.2 * max(known)], "nice": False}


def _rounded_up(value: float) -> float:
    """To the next half of its power of ten."""
    unit = 10.0 ** math.floor(math.log10(value)) / 2
    return float(math.ceil(value / unit) * unit)


def _in_order(names: Iterable[str]) -> list[str]:
    """Numbers by their size, and before any other text."""
    return sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))
