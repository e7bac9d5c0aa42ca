"""Peak memory over batch size, with the device's memory and the batches that ran out of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ci.report.draw.chart import Axis, batch_axis, chart
from ci.report.draw.figure import DASHED, PREDICTED, RAN_OUT, Cases, Figure, line, point
from ci.report.figures.latency import machine
from ci.report.read.cases import memory_bytes
from ci.report.read.predicted import predicted_bytes
from ci.report.read.samples import Sample, grouped, lengths
from fixtures.core.base.text import significant

MEMORY = "memory"
_GB = 1e9


def figures(cases: Cases) -> Iterator[Figure]:
    """A figure for each model, kind of device and pair of lengths with several batches in a curve."""
    for key, group in grouped(cases.latest, lambda one: (one.model, one.kind, *lengths(one))).items():
        usable = [sample for sample in group if sample.latency_s is None or _peak_bytes(sample) is not None]
        batches = grouped(group, machine).values()
        if not usable or all(len({sample.point.batch_size for sample in curve}) < 2 for curve in batches):
            continue
        # marks of cases out of memory lie on top
        in_order = sorted(group, key=lambda sample: sample.latency_s is None)
        points = [point for sample in in_order for point in _points(sample)]
        if points:
            model, kind, first, last = key
            title = f"Memory over batch size: {model} on {kind}, input {first}, output {last}"
            name = f"memory {' '.join(map(str, key))}"
            yield Figure(MEMORY, name, title, "hardware", tuple(points), lines=tuple(_edge(group)))


KINDS = {MEMORY: figures}


def spec(figure: Figure) -> dict[str, Any]:
    """On logarithmic axes."""
    y = Axis("memory_gb", "peak memory of a device, GB")
    return chart(figure, batch_axis(figure), y, order="batch_size", look="look")


def _points(sample: Sample) -> Iterator[dict[str, Any]]:
    """The measured and the predicted peak; for a case that ran out of memory, its need, marked as such."""
    predicted: float | None = predicted_bytes(sample)
    look = PREDICTED
    if sample.latency_s is None:
        look = RAN_OUT
        predicted = (sample.outcome and sample.outcome.needed_bytes) or predicted or memory_bytes(sample)
    for source, shown, amount in (
        (sample.source, sample.source, _peak_bytes(sample)),
        (PREDICTED, look, predicted),
    ):
        if amount is not None:
            values = {"batch_size": sample.point.batch_size, "memory_gb": amount / _GB, "look": shown}
            yield {**point(sample, machine(sample), **values), "source": source}


def _peak_bytes(sample: Sample) -> float | None:
    return None if sample.latency_s is None else sample.record.peak_memory_bytes or None


def _edge(group: Sequence[Sample]) -> list[dict[str, Any]]:
    """A line across the figure at the device's memory."""
    batches = [sample.point.batch_size for sample in group]
    edge = next((memory for sample in group if (memory := memory_bytes(sample))), None)
    if edge is None:
        return []
    label = f"{group[0].device} has {significant(edge / _GB)} GB"
    ends = [(float(batch), edge / _GB) for batch in (min(batches), max(batches))]
    return line("edge", ends, DASHED, label, at_left=True)
