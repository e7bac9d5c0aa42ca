"""Latency over batch size: measured, published and predicted, and the batches that ran out of memory.

A model, kind of device and pair of lengths gets a figure if a curve has two batch sizes or more, unless the
figures over output length show all of its curves already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ci.pick.estimator import Estimator
from ci.report.draw.chart import Axis, batch_axis, chart
from ci.report.draw.figure import ESTIMATED, PREDICTED, RAN_OUT, Cases, Figure, point
from ci.report.figures.estimated import Along, curves, estimable
from ci.report.figures.latency import latency_point, machine
from ci.report.read.predicted import predicted_latencies
from ci.report.read.samples import Sample, grouped, lengths
from fixtures.core.estimate.estimate import Estimate

BATCH = "batch size"
_NOTE = "predicted: the bound, over the share of it that the model's other cases reached on such devices"


def figures(cases: Cases) -> Iterator[Figure]:
    """A figure for each model, kind of device and pair of lengths, with a curve a machine."""
    by_length = _over_length(cases.latest)
    alike = grouped(cases.latest, lambda sample: (sample.model, sample.kind))
    expected: dict[tuple[str, str], dict[str, float]] = {}
    for key, group in grouped(cases.latest, lambda one: (one.model, one.kind, *lengths(one))).items():
        if not _batches_differ(group) or all(_curve(sample) in by_length for sample in group):
            continue
        model, kind, first, last = key
        title = f"Latency over batch size: {model} on {kind}, input {first}, output {last}"
        if (model, kind) not in expected:
            predictions = predicted_latencies(alike[model, kind])
            expected[model, kind] = {sample.case_id: seconds for sample, seconds in predictions}
        estimates, notes = curves(cases.estimators, group, machine, _ALONG, "hardware")
        by_formula = {estimate.series for estimate in estimates}
        points = [*_with_latency(group), *_predicted(group, expected[model, kind], by_formula)]
        points += _ran_out(group, by_formula, cases.estimators)
        if any(values["source"] == PREDICTED for values in points):
            notes = (_NOTE, *notes)
        name = f"batch_size {' '.join(map(str, key))}"
        yield Figure(BATCH, name, title, "hardware", tuple(points), notes, estimates=estimates)


KINDS = {BATCH: figures}


def spec(figure: Figure) -> dict[str, Any]:
    """On logarithmic axes."""
    y = Axis("latency_ms", "mean latency, ms", also=("low_ms", "high_ms"))
    return chart(figure, batch_axis(figure), y, order="batch_size", look="look")


def _with_latency(group: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    for sample in group:
        if sample.latency_s is not None:
            yield latency_point(sample, machine(sample), look=sample.source)


def _predicted(
    group: Sequence[Sample], expected: dict[str, float], by_formula: set[str]
) -> Iterator[dict[str, Any]]:
    """The predicted point of each case without an estimate; "out of memory" is marked, on top."""
    by_id = {
        sample.case_id: sample for sample in sorted(group, key=lambda sample: sample.latency_s is not None)
    }
    for sample in sorted(by_id.values(), key=lambda sample: sample.latency_s is None):
        seconds = expected.get(sample.case_id)
        if seconds is not None and machine(sample) not in by_formula:
            look = RAN_OUT if sample.latency_s is None else PREDICTED
            values = {"batch_size": sample.point.batch_size, "latency_ms": 1000 * seconds, "look": look}
            yield {**point(sample, machine(sample), **values), "source": PREDICTED}


def _ran_out(
    group: Sequence[Sample], by_formula: set[str], estimators: Mapping[str, Estimator]
) -> Iterator[dict[str, Any]]:
    """The mark of each case that ran out of memory, at its estimated latency."""
    for sample in group:
        ran_out = sample.latency_s is None and machine(sample) in by_formula
        case = estimable(sample) if ran_out else None
        estimate = None if case is None else estimators[sample.kind].of(case)
        if isinstance(estimate, Estimate):
            values = {"batch_size": sample.point.batch_size, "latency_ms": 1000 * estimate.latency_s}
            yield {**point(sample, machine(sample), **values, look=RAN_OUT), "source": ESTIMATED}


_ALONG = Along("batch_size", lambda point, latency_s: (point.batch_size, 1000 * latency_s))


def _curve(sample: Sample) -> tuple[str, str, str, str, int]:
    return sample.model, sample.hardware, sample.engine, sample.point.input_text, sample.point.batch_size


def _over_length(samples: Sequence[Sample]) -> set[tuple[str, str, str, str, int]]:
    """Machines and batches that have two output lengths or more."""
    lengths = grouped(samples, _curve)
    return {key for key, group in lengths.items() if len({sample.point.output_len for sample in group}) > 1}


def _batches_differ(group: Sequence[Sample]) -> bool:
    curves = grouped([sample for sample in group if sample.latency_s is not None], machine)
    return any(len({sample.point.batch_size for sample in curve}) > 1 for curve in curves.values())
