"""llm-foundry's figures: latency over output length, and latency against throughput.

A figure whose points are all in earlier ones is left out: a second view of two curves adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ci.pick.estimator import Estimator
from ci.report.draw.chart import ZERO, Axis, chart
from ci.report.draw.figure import Cases, Figure, point
from ci.report.figures.estimated import Along, curves
from ci.report.read.cases import latency_of
from ci.report.read.samples import Sample, grouped, lengths
from fixtures.core.result.metrics import output_tokens_per_s

LENGTH, THROUGHPUT = "length", "throughput"


class _View(NamedTuple):
    kind: str
    title: str
    legend: str
    group_by: Callable[[Sample], tuple[Any, ...]]
    series_of: Callable[[Sample], str]
    is_figure: Callable[[Sequence[Sample]], bool]


def over_length(cases: Cases) -> Iterator[Figure]:
    """A figure for each model, machine, engine and input length, with a curve a batch size."""
    return (_figure(_OVER_LENGTH, *group, cases.estimators) for group in _groups(cases, _OVER_LENGTH))


def against_throughput(cases: Cases) -> Iterator[Figure]:
    """A figure for each model and lengths, a curve a machine; then one for each machine, a curve a model."""
    shown = {case for _, group in _groups(cases, _OVER_LENGTH) for case in _ids(group)}
    for view in _AGAINST_THROUGHPUT:
        for key, group in _groups(cases, view):
            if not _ids(group) <= shown:
                shown |= _ids(group)
                yield _figure(view, key, group, cases.estimators)


KINDS = {LENGTH: over_length, THROUGHPUT: against_throughput}


def spec(figure: Figure) -> dict[str, Any]:
    """Output length on logarithmic axes; throughput on linear ones, along the batch size."""
    y_title, also = "mean latency, ms", ("low_ms", "high_ms")
    if figure.kind == LENGTH:
        x = Axis("output_len", "output length, tokens")
        y, order = Axis("latency_ms", y_title, also=also), "output_len"
    else:
        x = Axis("tokens_per_s", "output tokens/s", ZERO)
        y, order = Axis("latency_ms", y_title, ZERO, also=also), "batch_size"
    return chart(figure, x, y, order=order)


def latency_point(sample: Sample, series: str, **values: Any) -> dict[str, Any]:
    """The point of a sample: its mean latency and the interval of its median, if any, in ms."""
    ends = latency_of(sample) or (None, None, None)
    value, low, high = (None if end is None else 1000 * end for end in ends)
    return point(
        sample,
        series,
        batch_size=sample.point.batch_size,
        output_len=sample.point.output_len,
        tokens_per_s=sample.tokens_per_s,
        latency_ms=value,
        low_ms=low,
        high_ms=high,
        **values,
    )


def machine(sample: Sample) -> str:
    """The name of a machine's curve: hardware and engine."""
    return f"{sample.hardware} {sample.engine}"


def _groups(cases: Cases, view: _View) -> Iterator[tuple[tuple[Any, ...], list[Sample]]]:
    timed = [sample for sample in cases.latest if sample.latency_s is not None]
    for key, group in grouped(timed, view.group_by).items():
        if view.is_figure(group):
            yield key, group


def _ids(group: Sequence[Sample]) -> set[tuple[str, str]]:
    return {(sample.case_id, sample.source) for sample in group}


def _figure(
    view: _View, key: tuple[Any, ...], group: Sequence[Sample], estimators: Mapping[str, Estimator]
) -> Figure:
    points = tuple(latency_point(sample, view.series_of(sample)) for sample in group)
    name = f"{view.legend} {' '.join(map(str, key))}"
    estimates, notes = curves(estimators, group, view.series_of, _ALONG[view.kind], view.legend)
    title = view.title.format(*key)
    return Figure(view.kind, name, title, view.legend, points, notes, estimates=estimates)


_ALONG = {
    LENGTH: Along("output_len", lambda point, s: (point.output_len, 1000 * s)),
    THROUGHPUT: Along("batch_size", lambda point, s: (output_tokens_per_s(point, s), 1000 * s)),
}


def _lengths_differ(group: Sequence[Sample]) -> bool:
    """A curve of a batch size has two output lengths or more."""
    lengths = grouped(group, lambda sample: (sample.point.batch_size, sample.source))
    return any(len({sample.point.output_len for sample in curve}) > 1 for curve in lengths.values())


def _several(of: Callable[[Sample], str]) -> Callable[[Sequence[Sample]], bool]:
    return lambda group: len({of(sample) for sample in group}) > 1


_OVER_LENGTH = _View(
    LENGTH,
    "Latency over output length: {0} on {1}, {2}, input {3}",
    "batch",
    lambda sample: (sample.model, sample.hardware, sample.engine, sample.point.input_text),
    lambda sample: str(sample.point.batch_size),
    _lengths_differ,
)
_AGAINST_THROUGHPUT = (
    _View(
        THROUGHPUT,
        "Latency against throughput: {0}, input {1}, output {2}",
        "hardware",
        lambda sample: (sample.model, *lengths(sample)),
        machine,
        _several(lambda sample: sample.hardware),
    ),
    _View(
        THROUGHPUT,
        "Latency against throughput: models on {0}, {1}, input {2}, output {3}",
        "model",
        lambda sample: (sample.hardware, sample.engine, *lengths(sample)),
        lambda sample: sample.model,
        _several(lambda sample: sample.model),
    ),
)
