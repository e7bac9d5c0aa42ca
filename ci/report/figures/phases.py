"""Prefill and decode separately: TTFT and TPOT over batch size, input length or depth, with lower bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ci.report.draw.chart import LOG, ZERO, Axis, batch_axis, chart
from ci.report.draw.figure import DOTTED, Cases, Figure, line, point
from ci.report.figures.latency import machine
from ci.report.read.cases import Seconds, tpot_of, ttft_of
from ci.report.read.samples import Sample, grouped, lengths
from fixtures.core.result.record_times import Limits

PREFILL, DECODE = "prefill", "decode"
_NOTE = "dotted: the least time by physics, on the devices as they were measured or are stated"

_OVER = {"batch_size": "batch size", "input_len": "input length", "depth": "depth"}  # what a figure is over


class _Phase(NamedTuple):
    kind: str
    metric: str
    seconds_of: Callable[[Sample], Seconds | None]
    bound_s: Callable[[Sample], float | None]


def prefills(cases: Cases) -> Iterator[Figure]:
    """TTFT of each model: over batch size for a pair of lengths, over input length or depth for a batch."""
    return _figures(cases, _TTFT)


def decodes(cases: Cases) -> Iterator[Figure]:
    """TPOT of each model, in the same figures."""
    return _figures(cases, _TPOT)


KINDS = {PREFILL: prefills, DECODE: decodes}


def spec(figure: Figure) -> dict[str, Any]:
    """On logarithmic axes; over depth, which may be 0, on linear ones, where a line in bytes is straight."""
    phase = _TTFT if figure.kind == PREFILL else _TPOT
    along = next(name for name in _OVER if any(name in values for values in figure.points))
    scale = ZERO if along == "depth" else LOG
    x = batch_axis(figure) if along == "batch_size" else Axis(along, f"{_OVER[along]}, tokens", scale)
    y = Axis("phase_ms", f"{phase.metric}, ms", scale, also=("low_ms", "high_ms"))
    return chart(figure, x, y, order=along)


def _figures(cases: Cases, phase: _Phase) -> Iterator[Figure]:
    timed = [sample for sample in cases.latest if sample.latency_s and phase.seconds_of(sample)]
    over_batch = grouped(timed, lambda sample: (sample.model, *lengths(sample)))
    even = [sample for sample in timed if not sample.point.ragged]
    over_input = grouped(
        even, lambda sample: (sample.model, sample.point.batch_size, sample.point.output_len)
    )
    for along, fixed, groups in (("batch_size", "input", over_batch), ("input_len", "batch", over_input)):
        for (model, value, last), group in groups.items():
            if _differs(group, along):
                yield _figure(phase, model, group, along, f"{fixed} {value}, output {last}")
    deep = [sample for sample in cases.deep if sample.latency_s and phase.seconds_of(sample)]
    by_input = grouped(deep, lambda s: (s.model, s.point.batch_size, s.point.input_len, s.point.output_len))
    for (model, batch, first, last), group in by_input.items():
        if _differs(group, "depth"):
            yield _figure(phase, model, group, "depth", f"batch {batch}, input {first}, output {last}")


def _figure(phase: _Phase, model: str, group: Sequence[Sample], along: str, at: str) -> Figure:
    points, lines = [], []
    for series, curve in grouped(group, machine).items():
        curve.sort(key=lambda sample: getattr(sample.point, along))
        for sample in curve:
            seconds = phase.seconds_of(sample)
            assert seconds is not None, "the group is of cases that have it"
            low, high = (None if end is None else 1000 * end for end in (seconds.low, seconds.high))
            values = {along: getattr(sample.point, along), "phase_ms": 1000 * seconds.value}
            points.append(point(sample, series, **values, low_ms=low, high_ms=high))
        least = [
            (getattr(sample.point, along), bound) for sample in curve if (bound := phase.bound_s(sample))
        ]
        lines += line(series, [(float(x), 1000 * bound) for x, bound in least], DOTTED, series=series)
    title = f"{phase.kind.capitalize()}, {phase.metric} over {_OVER[along]}: {model}, {at}"
    name = f"{phase.metric} {model} {at}"
    return Figure(phase.kind, name, title, "hardware", tuple(points), (_NOTE,) if lines else (), tuple(lines))


def _differs(group: Sequence[Sample], along: str) -> bool:
    """Whether a machine's curve has two places or more along the axis."""
    curves = grouped(group, lambda sample: (machine(sample), sample.source))
    return any(len({getattr(sample.point, along) for sample in curve}) > 1 for curve in curves.values())


def _decode_bound_s(sample: Sample) -> float | None:
    """The bound on a decode step, in s, to compare with TPOT."""
    whole = (sample.record.limits or Limits()).decode_bound_s
    return None if not whole or sample.point.output_len == 1 else whole / (sample.point.output_len - 1)


_TTFT = _Phase(PREFILL, "TTFT", ttft_of, lambda one: (one.record.limits or Limits()).prefill_bound_s)
_TPOT = _Phase(DECODE, "TPOT", tpot_of, _decode_bound_s)
