"""Engines side by side over batch size: how many times as fast as the base engine each is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ci.report.draw.chart import AROUND, Axis, batch_axis, chart
from ci.report.draw.figure import DASHED, Cases, Figure, line, point
from ci.report.read.engines import APART, BASE, ROUNDS, Row, side_by_side

ENGINES = "engines"
_NOTES = {
    ROUNDS: "intervals: of the rounds of one process each",
    APART: f"some engines have no run in common with {BASE}",
}


def figures(cases: Cases) -> Iterator[Figure]:
    """A figure for each model, machine and pair of lengths that the base engine and another one ran."""
    groups: dict[tuple[str, str, int, int], list[Row]] = {}
    for row in side_by_side(cases.every):
        if row.gains:
            groups.setdefault(_place(row), []).append(row)
    for key, group in groups.items():
        model, hardware, first, last = key
        points = tuple(values for row in group for values in _points(row))
        ends = [float(pick(row.batch_size for row in group)) for pick in (min, max)]
        lines = line(BASE, [(batch, 1.0) for batch in ends], DASHED, f"as fast as {BASE}")
        title = f"Engines against {BASE}: {model} on {hardware}, input {first}, output {last}"
        ways = {way for row in group for way in row.by.values()}
        notes = tuple(note for way, note in _NOTES.items() if way in ways)
        name = f"engines {' '.join(map(str, key))}"
        yield Figure(ENGINES, name, title, "engine", points, notes, tuple(lines))


KINDS = {ENGINES: figures}


def spec(figure: Figure) -> dict[str, Any]:
    """Batch size on a logarithmic axis, the ratio on a linear one."""
    also = ("low", "high")
    x, y = batch_axis(figure), Axis("value", f"latency of {BASE} / own latency", AROUND, also)
    encodings = (x.encoding(figure, "x"), y.encoding(figure, "y"))
    return chart(figure, *encodings, order="batch_size", interval=also)


def _points(row: Row) -> Iterator[dict[str, Any]]:
    for engine, gain in row.gains.items():
        values = {"value": gain.value, "low": gain.low, "high": gain.high}
        yield point(row.samples[engine], engine, batch_size=row.batch_size, **values)


def _place(row: Row) -> tuple[str, str, int, int]:
    return row.model, row.hardware, row.input_len, row.output_len
