"""A figure as a Vega-Lite spec, by the room of its kind."""

from __future__ import annotations

from typing import Any

from ci.report.chart import HEIGHT, SCHEMA, WIDTH
from ci.report.figures import KINDS, Figure
from ci.report.layers import COLOURS, SHAPES

__all__ = ["COLOURS", "HEIGHT", "SCHEMA", "SHAPES", "WIDTH", "spec"]


def spec(figure: Figure) -> dict[str, Any]:
    """The spec; axes have their domains in it, so that a mark's place can be worked back to its value."""
    return KINDS[figure.kind].spec(figure)
