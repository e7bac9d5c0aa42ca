"""Pairs of cases on several devices and on one, and the batch from which n devices are faster than fewer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ci.report.read.cases import Seconds, latency_of
from ci.report.read.samples import Sample, grouped
from fixtures.core.result.scaling import efficiency, speed_up


def pairs(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Each case on several devices, with the case on one device that its speed-up is relative to."""
    result = []
    for of_work in grouped([sample for sample in samples if sample.latency_s is not None], _work).values():
        for sample in of_work:
            base = _single(of_work, _engine_kind(sample)) if sample.devices > 1 else None
            if base is not None:
                result.append((sample, base))
    return result


def gain(sample: Sample, base: Sample) -> Seconds:
    """The speed-up by mean latencies; its interval takes the worst ends of the two intervals."""
    ours, theirs = latency_of(sample), latency_of(base)
    assert ours, "pairs have latencies"
    assert theirs, "pairs have latencies"
    value = speed_up(theirs.value, ours.value)
    if ours.low is None or ours.high is None or theirs.low is None or theirs.high is None:
        return Seconds(value)
    return Seconds(value, speed_up(theirs.low, ours.high), speed_up(theirs.high, ours.low))


def share_of_hardware(sample: Sample, base: Sample) -> float | None:
    """The efficiency at a speed-up of 1: by devices, or by threads for ranks of a CPU; None if unknown."""
    if sample.device != "cpu":
        return efficiency(1.0, sample.devices)
    ours, theirs = _threads(sample), _threads(base)
    return None if ours is None or theirs is None else efficiency(1.0, ours / theirs)


def wins(group: Sequence[Sample]) -> Iterator[str]:
    """A sentence for each kind of device, engine and source: the batch from which n devices are faster."""
    several = [sample for sample in group if sample.devices > 1]
    for kind, engine, source in grouped(several, lambda sample: (sample.kind, sample.engine, sample.source)):
        alike = [sample for sample in group if (sample.kind, sample.source) == (kind, source)]
        latencies = _by_number(alike, engine)
        clauses = [
            _clause(few, many, latencies[few], latencies[many]) for few, many in pairwise(sorted(latencies))
        ]
        if clauses:
            yield f"{kind} {engine} ({source}): {', '.join(clauses)}"


def first_win(few: Mapping[int, Seconds], many: Mapping[int, Seconds]) -> int | None:
    """The smallest batch from which many devices are always faster; None if they are not at the largest.

    Both arguments map batch sizes to latencies; only batches that both have count. A latency is faster if its
    interval lies below the other's; if either has no interval, the means decide.
    """
    first = None
    for batch in sorted(few.keys() & many.keys(), reverse=True):
        if not _is_faster(many[batch], few[batch]):
            break
        first = batch
    return first


def _is_faster(ours: Seconds, theirs: Seconds) -> bool:
    if ours.high is None or theirs.low is None:
        return ours.value < theirs.value
    return ours.high < theirs.low


def _clause(few: int, many: int, of_few: Mapping[int, Seconds], of_many: Mapping[int, Seconds]) -> str:
    batch, both = first_win(of_few, of_many), of_few.keys() & of_many.keys()
    if not both:
        return f"{many} and {few} have no batch in common"
    if batch is None:
        return f"{many} not surely faster than {few}"
    text = f"{many} win over {few} " + ("at every batch" if batch == min(both) else f"from batch {batch} on")
    alone = [str(size) for size in sorted(of_many) if size > max(of_few)]
    return f"{text} (alone at {', '.join(alone)})" if alone else text


def _by_number(samples: Sequence[Sample], engine: str) -> dict[int, dict[int, Seconds]]:
    """Devices -> batch -> latency; for one device, of the cases that speed-ups are relative to."""
    latencies: dict[int, dict[int, Seconds]] = {}
    ours = [sample for sample in samples if sample.engine == engine and sample.devices > 1]
    for sample in [*ours, *(base for sample, base in pairs(samples) if sample.engine == engine)]:
        latency = latency_of(sample)
        if latency is not None:
            latencies.setdefault(sample.devices, {})[sample.point.batch_size] = latency
    return latencies


def _work(sample: Sample) -> tuple[Any, ...]:
    """What must be equal for a speed-up, the source included."""
    engine = sample.record.case.engine
    same = (engine.dtype, engine.use_cache, engine.autocast)
    return sample.model, sample.kind, sample.source, sample.point, *same


def _single(of_work: Sequence[Sample], kind: str) -> Sample | None:
    """The case on one device with an engine of this kind, else with hf."""
    single = [sample for sample in of_work if sample.devices == 1]
    of_kinds = ([sample for sample in single if _engine_kind(sample) == wanted] for wanted in (kind, "hf"))
    return next((candidates[0] for candidates in of_kinds if candidates), None)


def _engine_kind(sample: Sample) -> str:
    return sample.record.case.engine.kind


def _threads(sample: Sample) -> float | None:
    return sum(sample.record.threads_by_rank or ()) or sample.record.threads
