"""Predictions for measured cases, each made as `--plan` would from the other cases."""

from __future__ import annotations

from collections.abc import Sequence

from ci.report.read.cases import case_of, counts_of, work_of
from ci.report.read.samples import Sample
from fixtures.core.cost.bounds import bound
from fixtures.core.cost.memory import predict_beside, room_bytes
from fixtures.core.forecast.past_runs import MODEL, PUBLISHED, Past, seen


def predicted_bytes(sample: Sample) -> int | None:
    """The predicted peak memory on each device in bytes: from the record, else by the stored counts."""
    if sample.record.predicted_memory is not None and sample.record.predicted_memory.total_bytes:
        return sample.record.predicted_memory.total_bytes
    case = case_of(sample)
    counts = counts_of(case)
    if case is None or counts is None:
        return None
    return predict_beside(case, counts.footprint, None).total_bytes


def predicted_latencies(group: Sequence[Sample]) -> list[tuple[Sample, float]]:
    """The expected seconds of each case of a model on one kind of device, where they can be predicted.

    The prediction is the bound, divided by the median share of the bound that the model's other cases reached
    with such engines on such devices; a case is left out of its own prediction. Cases that are predicted not
    to fit get none.
    """
    measured = [run for sample in group if (run := seen(sample.record)) is not None]
    predictions = []
    for sample in group:
        case = case_of(sample)
        work = work_of(sample, case)
        if case is None or work is None:
            continue
        past = Past(tuple(run for run in measured if run.case_id != sample.record.case.id))
        peaks, _ = past.peaks(case.hardware, case.devices, case.engine.product_dtype)
        share, by = past.efficiency(case)
        room, needed = room_bytes(case.hardware, case.devices), predicted_bytes(sample)
        if peaks is None or by not in (MODEL, PUBLISHED + MODEL):
            continue
        if room is not None and needed is not None and needed > room:
            continue
        predictions.append((sample, bound(case.point, case.engine.use_cache, work, peaks).total_s / share))
    return predictions
