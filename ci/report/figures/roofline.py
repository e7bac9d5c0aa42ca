"""Rooflines: attained FLOP/s over arithmetic intensity, under the measured and the stated roof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ci.report.draw.chart import Axis, chart
from ci.report.draw.figure import DASHED, DOTTED, SOLID, Cases, Figure, line, point
from ci.report.read.cases import (
    Seconds,
    case_of,
    median_peaks,
    peaks_of,
    processors,
    product_dtype,
    tpot_of,
    ttft_of,
    work_of,
)
from ci.report.read.samples import MEASURED, PUBLISHED, Sample, grouped
from fixtures.core.base.text import significant
from fixtures.core.cost.bounds import Peaks, decode_passes, point_prefill_flops, read_bytes, stated_peaks
from fixtures.core.spec import library

ROOFLINE = "roofline"
_STATED, _MEASURED = "datasheet", "measured"
_SHARES = (0.5, 0.1)  # of the roof, drawn as lines
_MOST = 120  # cases of a device in one figure; with more each model has its own
_SHAPES = {
    f"{MEASURED} prefill": "triangle-up",
    f"{MEASURED} decode": "triangle-down",
    f"{MEASURED} call": "circle",
    f"{PUBLISHED} prefill": "triangle-right",
    f"{PUBLISHED} decode": "triangle-left",
    f"{PUBLISHED} call": "diamond",
}
_NOTE = "of each device; a point's share of the roof above it is its % of the physical limit"


class _Done(NamedTuple):
    """FLOPs, and bytes read from memory, of all devices together."""

    flops: float
    moved_bytes: float


def figures(cases: Cases) -> Iterator[Figure]:
    """A figure for each kind of device, a colour a model; with too many cases, one for each of its models."""
    timed = [sample for sample in cases.latest if sample.latency_s is not None]
    for kind, of_device in grouped(timed, lambda sample: sample.kind).items():
        peaks = _peaks(of_device)
        is_much = len(of_device) > _MOST
        by_model = grouped(of_device, lambda sample: sample.model) if is_much else {"": of_device}
        for model, group in by_model.items():
            points = tuple(point for sample in group for point in _points(sample))
            if points and peaks:
                title = f"Roofline: {model} on {kind}" if model else f"Roofline: {kind}"
                roofs = tuple(_roofs(peaks, points))
                notes = (_NOTE, *processors(group))
                yield Figure(ROOFLINE, f"roofline {kind} {model}", title, "model", points, notes, roofs)


KINDS = {ROOFLINE: figures}


def spec(figure: Figure) -> dict[str, Any]:
    """On logarithmic axes."""
    x = Axis("intensity", "arithmetic intensity, FLOP/byte")
    y = Axis("flops_per_s", "attained FLOP/s a device", also=("low", "high"), format="~s")
    return chart(figure, x, y, order=None, look="look", shapes=_SHAPES)


def _points(sample: Sample) -> Iterator[dict[str, Any]]:
    """The points of prefill and decode if both are measured; else the point of the whole call."""
    case = case_of(sample)
    work = work_of(sample, case)
    if work is None or sample.latency_s is None:
        return
    at, use_cache = sample.point, sample.record.case.engine.use_cache
    first = _Done(point_prefill_flops(work, at), float(read_bytes(work, sum(at.lengths))))
    rest = _Done(*(float(each.sum()) for each in decode_passes(at, use_cache, work)))
    ttft, tpot, steps = ttft_of(sample), tpot_of(sample), at.output_len - 1
    if ttft is None:
        both = _Done(first.flops + rest.flops, first.moved_bytes + rest.moved_bytes)
        yield _point(sample, "call", both, Seconds(sample.latency_s))
        return
    yield _point(sample, "prefill", first, ttft)
    if tpot is not None and steps:
        yield _point(sample, "decode", _Done(rest.flops / steps, rest.moved_bytes / steps), tpot)


def _point(sample: Sample, phase: str, done: _Done, seconds: Seconds) -> dict[str, Any]:
    flops = done.flops / sample.machines
    return point(
        sample,
        sample.model,
        intensity=done.flops / done.moved_bytes,
        flops_per_s=flops / seconds.value,
        low=None if seconds.high is None else flops / seconds.high,
        high=None if seconds.low is None else flops / seconds.low,
        look=f"{sample.source} {phase}",
    )


def _peaks(group: Sequence[Sample]) -> dict[str, Peaks]:
    """The peaks of one device, stated and measured, for each dtype that was measured."""
    by_dtype = grouped(group, lambda sample: product_dtype(sample) or "")
    roofs: dict[str, Peaks | None] = {}
    for dtype, of_dtype in by_dtype.items():
        which = f" {dtype}" if len(by_dtype) > 1 else ""
        stated = next((peaks for sample in of_dtype if (peaks := peaks_of(sample, "stated"))), None)
        device = group[0].device
        if stated is None and dtype and device in library.names("hardware"):
            stated = stated_peaks(library.hardware(device), 1, dtype)
        roofs[_STATED + which] = stated
        roofs[_MEASURED + which] = median_peaks(
            [peaks for sample in of_dtype if (peaks := peaks_of(sample, "measured"))]
        )
    complete = {name: peaks for name, peaks in roofs.items() if peaks is not None}
    return dict(sorted(complete.items(), key=lambda item: item[0].startswith(_MEASURED)))


def _roofs(peaks: Mapping[str, Peaks], points: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each roof, and fractions of the last roof, which is the measured one if there is one."""
    places = {name: _roof(rates, points) for name, rates in peaks.items()}
    for name, rates in peaks.items():
        flops, bandwidth = rates.flops_per_s / 1e12, rates.bandwidth_bytes_per_s / 1e9
        label = f"{name}: {significant(flops)} TFLOP/s, {significant(bandwidth)} GB/s"
        yield from line(name, places[name], DASHED if name.startswith(_STATED) else SOLID, label)
    *_, (name, roof) = places.items()
    for share in _SHARES:
        yield from line(f"{share} {name}", [(x, share * y) for x, y in roof], DOTTED, f"{share:.0%} of it")


def _roof(peaks: Peaks, points: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """min(peak FLOP/s, intensity * peak bytes/s), from below the points to beyond the ridge."""
    ridge = peaks.flops_per_s / peaks.bandwidth_bytes_per_s
    low = min(*(values["intensity"] for values in points), ridge) / 1.5
    high = max(*(values["intensity"] for values in points), 3 * ridge) * 1.5
    return [(x, min(peaks.flops_per_s, x * peaks.bandwidth_bytes_per_s)) for x in (low, ridge, high)]
