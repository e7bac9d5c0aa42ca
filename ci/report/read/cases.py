"""What a history's case is, in the suite's own classes; None for what is not of its kind."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from ci.report.read.samples import Sample, processor, recorded_model
from fixtures.core.cost.bounds import Peaks, Work
from fixtures.core.cost.stored_counts import Counts, find_counts
from fixtures.core.result import metrics
from fixtures.core.result.record import Limits, Rates, Split
from fixtures.core.result.stats import median_interval
from fixtures.core.spec import library
from fixtures.core.spec.case import (
    ATTENTIONS,
    DTYPE_BYTES,
    Case,
    EngineSpec,
    HardwareSpec,
    ModelSpec,
)
from fixtures.core.spec.engine_kinds import KINDS

_LONGEST = 2**22  # tokens of a sequence: each decode step is summed up


class Seconds(NamedTuple):
    """A time in s and its interval's ends, which are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


def case_of(one: Sample) -> Case | None:
    """The case, its device with the memory that it reported; None where the library lacks the device."""
    of_engine, architecture = one.record.case.engine, one.record.case.model.architecture
    kind, dtype, attention = of_engine.kind, of_engine.dtype, of_engine.attention
    if one.device not in library.names("hardware") or kind not in KINDS or dtype not in DTYPE_BYTES:
        return None
    if attention not in ATTENTIONS or one.point.input_len + one.point.output_len > _LONGEST:
        return None
    stated = library.hardware(one.device)
    hardware = HardwareSpec(
        name=stated.name,
        kind=stated.kind,
        memory_bytes=memory_bytes(one),
        peak_bf16_flops=stated.peak_bf16_flops,
        peak_bandwidth_bytes_per_s=stated.peak_bandwidth_bytes_per_s,
    )
    engine = EngineSpec(
        name=one.engine,
        kind=kind,
        dtype=dtype,
        attention=attention,
        use_cache=of_engine.use_cache,
        autocast=of_engine.autocast,
    )
    return Case(ModelSpec(recorded_model(one), dict(architecture)), hardware, one.devices, engine, one.point)


def product_dtype(one: Sample) -> str | None:
    """What its engine multiplies in; None where its record does not say."""
    found = one.record.case.engine.product_dtype
    return found if found in DTYPE_BYTES else None


def counts_of(case: Case | None) -> Counts | None:
    """What is stored of its model."""
    return None if case is None else find_counts(case.model, case.engine)


def memory_bytes(one: Sample) -> int | None:
    """Of one device: what it reported, else what is stated; all of a CPU's."""
    if one.record.machine.memory_bytes:
        return one.record.machine.memory_bytes
    return library.hardware(one.device).memory_bytes if one.device in library.names("hardware") else None


def work_of(one: Sample, case: Case | None) -> Work | None:
    """What its record says that the model must do, else what is stored of it."""
    if one.point.input_len + one.point.output_len > _LONGEST:
        return None
    if one.record.work is not None:
        return one.record.work
    counts = counts_of(case)
    return None if counts is None else counts.work


def processors(group: Sequence[Sample]) -> list[str]:
    """The CPUs that these were measured on, as a note."""
    found = dict.fromkeys(name for one in group if (name := processor(one)))
    return [f"measured on {'; '.join(found)}"] if found else []


def peaks_of(one: Sample, which: str) -> Peaks | None:
    """Those of one device that its record has: "measured" or "stated"."""
    peaks = (one.record.limits or Limits()).peaks
    rates = peaks.measured if which == "measured" else peaks.stated
    found = (rates or Rates()).both
    if found is None:
        return None
    return Peaks(found.flops_per_s / one.machines, found.bandwidth_bytes_per_s / one.machines)


def median_peaks(found: Sequence[Peaks]) -> Peaks | None:
    """Of several measurements the median of each figure."""
    if not found:
        return None
    return Peaks(
        statistics.median(one.flops_per_s for one in found),
        statistics.median(one.bandwidth_bytes_per_s for one in found),
    )


def latency_of(one: Sample) -> Seconds | None:
    """The mean latency, with the interval of the median; None where it ran out of memory."""
    ends = one.record.latency_interval
    if one.latency_s is None or ends is None:
        return None if one.latency_s is None else Seconds(one.latency_s)
    return Seconds(one.latency_s, ends.low, ends.high)


def ttft_of(one: Sample) -> Seconds | None:
    """TTFT, the median over the rounds, with its interval."""
    split = one.record.split or Split()
    return None if split.ttft_s is None else _with_interval(split.ttft_s, split.ttft_rounds_s)


def tpot_of(one: Sample) -> Seconds | None:
    """TPOT, the median over the rounds, with its interval where the file has the rounds' seconds."""
    split = one.record.split or Split()
    if split.tpot_s is None:
        return None
    first = split.ttft_rounds_s
    rounds = zip(one.seconds, first, strict=True) if len(first) == len(one.seconds) else ()
    each = [metrics.tpot_s(whole, ttft, one.point.output_len) for whole, ttft in rounds]
    return _with_interval(split.tpot_s, [tpot for tpot in each if tpot is not None and tpot > 0])


def _with_interval(value: float, rounds: Sequence[float]) -> Seconds:
    found = median_interval(rounds)
    return Seconds(value) if found is None else Seconds(value, found.low, found.high)
