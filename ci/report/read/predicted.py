"""What a plan would have expected of a case, had only the others been measured."""

from __future__ import annotations

from collections.abc import Sequence

from ci.report.read.cases import case_of, counts_of, work_of
from ci.report.read.samples import Sample, recorded_id
from fixtures.core.cost.bounds import bound
from fixtures.core.cost.memory import predict, room_bytes
from fixtures.core.forecast.past_runs import MODEL, PUBLISHED, Past, seen


def predicted_bytes(sample: Sample) -> int | None:
    """What it holds of each device at its peak: as predicted when it ran, else by the stored counts."""
    if sample.record.predicted_memory is not None and sample.record.predicted_memory.total_bytes:
        return sample.record.predicted_memory.total_bytes
    case = case_of(sample)
    counts = counts_of(case)
    if case is None or counts is None:
        return None
    parts = predict(case.point, counts.footprint, case.hardware.kind, case.devices, case.engine.kind)
    return parts.total_bytes


def predicted_latencies(group: Sequence[Sample]) -> list[tuple[Sample, float]]:
    """Seconds to expect of each case of a model on one kind of device, as far as it can be told.

    The bound, over the median share of it that the model's other cases reached with engines of that kind on
    such devices: each case is left out of its own prediction. None is made for what is predicted not to fit.
    """
    known = [run for sample in group if (run := seen(sample.record)) is not None]
    found = []
    for sample in group:
        case = case_of(sample)
        work = work_of(sample, case)
        if case is None or work is None:
            continue
        own = recorded_id(sample)
        past = Past(tuple(run for run in known if run.case_id != own))
        peaks, _ = past.peaks(case.hardware, case.devices, case.engine.product_dtype)
        share, by = past.efficiency(case)
        room, needed = room_bytes(case.hardware, case.devices), predicted_bytes(sample)
        if peaks is None or by not in (MODEL, PUBLISHED + MODEL):
            continue
        if room is not None and needed is not None and needed > room:
            continue
        found.append((sample, bound(case.point, case.engine.use_cache, work, peaks).total_s / share))
    return found
