"""Cases on several devices beside those on one, and from which batch on n devices win over fewer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ci.report.read.cases import Seconds, latency_of
from ci.report.read.samples import Sample, grouped
from fixtures.core.result.scaling import efficiency, speed_up


def pairs(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Each case on several devices with what its speed-up is over, where there is such a case."""
    found = []
    for of_work in grouped([one for one in samples if one.latency_s is not None], _work).values():
        for one in of_work:
            base = _single(of_work, _engine_kind(one)) if one.devices > 1 else None
            if base is not None:
                found.append((one, base))
    return found


def gain(one: Sample, base: Sample) -> Seconds:
    """The speed-up, of mean latencies; its ends are those of the two intervals at their worst."""
    ours, theirs = latency_of(one), latency_of(base)
    assert ours, "pairs have latencies"
    assert theirs, "pairs have latencies"
    value = speed_up(theirs.value, ours.value)
    if ours.low is None or ours.high is None or theirs.low is None or theirs.high is None:
        return Seconds(value)
    return Seconds(value, speed_up(theirs.low, ours.high), speed_up(theirs.high, ours.low))


def share_of_hardware(one: Sample, base: Sample) -> float | None:
    """The efficiency for a speed-up of 1: by devices; the ranks of one CPU by their threads, None without."""
    if one.device != "cpu":
        return efficiency(1.0, one.devices)
    ours, theirs = _threads(one), _threads(base)
    return None if ours is None or theirs is None else efficiency(1.0, ours / theirs)


def wins(group: Sequence[Sample]) -> Iterator[str]:
    """Of each kind of device, engine and source a sentence: from which batch on n are faster than fewer."""
    several = [one for one in group if one.devices > 1]
    for kind, engine, source in grouped(several, lambda one: (one.kind, one.engine, one.source)):
        alike = [one for one in group if (one.kind, one.source) == (kind, source)]
        found = _by_number(alike, engine)
        said = [_said(few, many, found[few], found[many]) for few, many in pairwise(sorted(found))]
        if said:
            yield f"{kind} {engine} ({source}): {', '.join(said)}"


def first_win(few: Mapping[int, Seconds], many: Mapping[int, Seconds]) -> int | None:
    """The batch from which on all that both have are faster on many devices; None where the last is not.

    Both map batch sizes to latencies. One is faster where its interval lies below the other's; where one has
    none, where its mean does.
    """
    found = None
    for batch in sorted(few.keys() & many.keys(), reverse=True):
        if not _is_faster(many[batch], few[batch]):
            break
        found = batch
    return found


def _is_faster(one: Seconds, other: Seconds) -> bool:
    if one.high is None or other.low is None:
        return one.value < other.value
    return one.high < other.low


def _said(few: int, many: int, of_few: Mapping[int, Seconds], of_many: Mapping[int, Seconds]) -> str:
    batch, both = first_win(of_few, of_many), of_few.keys() & of_many.keys()
    if not both:
        return f"{many} and {few} have no batch in common"
    if batch is None:
        return f"{many} not surely faster than {few}"
    said = f"{many} win over {few} " + ("at every batch" if batch == min(both) else f"from batch {batch} on")
    alone = [str(one) for one in sorted(of_many) if one > max(of_few)]
    return f"{said} (alone at {', '.join(alone)})" if alone else said


def _by_number(samples: Sequence[Sample], engine: str) -> dict[int, dict[int, Seconds]]:
    """Devices -> batch -> latency; on one device that of what a speed-up is over."""
    found: dict[int, dict[int, Seconds]] = {}
    ours = [one for one in samples if one.engine == engine and one.devices > 1]
    for one in [*ours, *(base for one, base in pairs(samples) if one.engine == engine)]:
        latency = latency_of(one)
        if latency is not None:
            found.setdefault(one.devices, {})[one.point.batch_size] = latency
    return found


def _work(one: Sample) -> tuple[Any, ...]:
    """What has to be alike for a speed-up; the source too, as one over others' figures is none."""
    engine = one.record.case.engine
    same = (engine.dtype, engine.use_cache, engine.autocast)
    return one.model, one.kind, one.source, one.point, *same


def _single(of_work: Sequence[Sample], kind: str) -> Sample | None:
    """The case on one device, by an engine of that kind, else by hf."""
    single = [one for one in of_work if one.devices == 1]
    of_kinds = ([one for one in single if _engine_kind(one) == wanted] for wanted in (kind, "hf"))
    return next((found[0] for found in of_kinds if found), None)


def _engine_kind(one: Sample) -> str:
    return one.record.case.engine.kind


def _threads(one: Sample) -> float | None:
    return sum(one.record.threads_by_rank or ()) or one.record.threads
