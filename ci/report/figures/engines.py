"""Engines side by side: how many times as fast as the base engine each is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ci.report.draw.chart import ZERO, Axis, chart
from ci.report.draw.figure import DASHED, Cases, Figure, line, point
from ci.report.read.engines import (
    APART,
    BASE,
    LEAST_RUNS,
    ROUNDS,
    Row,
    engines_of,
    over_another,
    side_by_side,
)

ENGINES = "engines"
_HALF, _BESIDE = 0.5, 0.1  # of a column
_NOTES = {
    ROUNDS: f"of fewer than {LEAST_RUNS} runs with both engines, intervals are of the rounds of one process",
    APART: f"some engines have no run in common with {BASE}",
}


def figures(cases: Cases) -> Iterator[Figure]:
    """A figure for each model, machine and pair of lengths that the base engine and another one ran."""
    groups: dict[tuple[str, str, str, int, int], list[Row]] = {}
    for row in side_by_side(cases.every):
        if row.gains:
            groups.setdefault(
                (row.model, row.hardware, row.input_text, row.output_len, row.depth), []
            ).append(row)
    for key, group in groups.items():
        model, hardware, first, last, depth = key
        at = f", depth {depth}" if depth else ""
        engines = [name for name in engines_of(group) if any(name in row.gains for row in group)]
        points = tuple(values for i, row in enumerate(group) for values in _points(row, engines, i))
        ends = (_HALF, len(engines) + _HALF)
        lines = line(BASE, [(end, 1.0) for end in ends], DASHED)
        title = f"Engines against {BASE}: {model}, input {first}, output {last}{at}"
        ways = {way for row in group for way in row.by.values()}
        notes = (
            f"on {hardware}",
            over_another(group),
            *(note for way, note in _NOTES.items() if way in ways),
        )
        name = f"engines {' '.join(map(str, key[:-1]))}{at}"
        yield Figure(ENGINES, name, title, "batch size", points, tuple(filter(None, notes)), tuple(lines))


KINDS = {ENGINES: figures}


def spec(figure: Figure) -> dict[str, Any]:
    """A column an engine, and the ratio from 0; a colour a batch size."""
    engines = {round(values["column"]): values["engine"] for values in figure.points}
    last = max(engines)
    names = [engines.get(column, "") for column in range(1, last + 1)]
    x = {
        "field": "column",
        "type": "quantitative",
        "title": None,
        "axis": {
            "values": list(range(1, last + 1)),
            "labelExpr": f"{json.dumps(names)}[datum.value - 1]",
            "labelAngle": -40,
            "labelOverlap": False,
            "grid": False,
        },
        "scale": {"zero": False, "domain": [_HALF, last + _HALF], "nice": False},
    }
    y = Axis("value", f"times as fast as {BASE}", ZERO, ("low", "high"))
    return chart(figure, x, y, order=None)


def _points(row: Row, engines: Sequence[str], number: int) -> Iterator[dict[str, Any]]:
    """The points of a row, each a little to the right of those of the row before."""
    for engine, gain in row.gains.items():
        values = {"value": gain.value, "low": gain.low, "high": gain.high}
        column = engines.index(engine) + 1 + _BESIDE * (number % 5)
        yield point(row.samples[engine], str(row.batch_size), engine=engine, column=column, **values)
