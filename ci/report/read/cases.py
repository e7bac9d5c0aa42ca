"""Turns a sample's record into the suite's own classes; None where the record lacks what they need."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ci.report.read.samples import Sample, processor, recorded_model
from fixtures.core.cost.bounds import Peaks, Work
from fixtures.core.cost.stored_counts import Counts, find_counts
from fixtures.core.result import metrics
from fixtures.core.result.record_times import Limits, Rates, Split
from fixtures.core.result.stats import median_interval
from fixtures.core.spec import library
from fixtures.core.spec.case import (
    ATTENTIONS,
    DTYPE_BYTES,
    RANDOM_ROUTING,
    Case,
    EngineSpec,
    ModelSpec,
)
from fixtures.core.spec.engine_kinds import KINDS

_LONGEST = 2**22  # tokens of a sequence: the work sums every decode step


class Seconds(NamedTuple):
    """A time in s, and the ends of its interval; None without an interval."""

    value: float
    low: float | None = None
    high: float | None = None


def case_of(sample: Sample) -> Case | None:
    """A sample's case, with the memory that its device reported; None if the library lacks the device."""
    of_engine, architecture = sample.record.case.engine, sample.record.case.model.architecture
    kind, dtype, attention = of_engine.kind, of_engine.dtype, of_engine.attention
    if sample.device not in library.names("hardware") or kind not in KINDS or dtype not in DTYPE_BYTES:
        return None
    if attention not in ATTENTIONS or sample.point.context + sample.point.output_len > _LONGEST:
        return None
    hardware = replace(library.hardware(sample.device), memory_bytes=memory_bytes(sample))
    model = ModelSpec(recorded_model(sample), dict(architecture))
    return Case(model, hardware, sample.devices, engine_of(sample), sample.point)


def engine_of(sample: Sample) -> EngineSpec:
    """The engine of a sample; where its record does not say, in bfloat16 and with attention of its choice."""
    engine = sample.record.case.engine
    return EngineSpec(
        name=sample.engine,
        kind=engine.kind,
        dtype=engine.dtype or "bfloat16",
        attention=engine.attention or "auto",
        use_cache=engine.use_cache,
        autocast=engine.autocast,
        routing=engine.routing or RANDOM_ROUTING,
        prefill_chunk=engine.prefill_chunk,
    )


def product_dtype(sample: Sample) -> str | None:
    """The dtype of the engine's matrix products; None if the record does not say."""
    dtype = sample.record.case.engine.product_dtype
    return dtype if dtype in DTYPE_BYTES else None


def counts_of(case: Case | None) -> Counts | None:
    """The stored counts of the case's model and engine; None if there are none."""
    return None if case is None else find_counts(case.model, case.engine)


def memory_bytes(sample: Sample) -> int | None:
    """The memory of one device in bytes: as reported, else as stated; for a CPU, all of it."""
    if sample.record.machine.memory_bytes:
        return sample.record.machine.memory_bytes
    return (
        library.hardware(sample.device).memory_bytes if sample.device in library.names("hardware") else None
    )


def work_of(sample: Sample, case: Case | None) -> Work | None:
    """The model's work: from the record, else from the stored counts."""
    if sample.point.context + sample.point.output_len > _LONGEST:
        return None
    if sample.record.work is not None:
        return sample.record.work
    counts = counts_of(case)
    return None if counts is None else counts.work


def processors(group: Sequence[Sample]) -> list[str]:
    """A note that names the CPUs of these samples; empty for other devices."""
    names = dict.fromkeys(name for sample in group if (name := processor(sample)))
    return [f"measured on {'; '.join(names)}"] if names else []


def peaks_of(sample: Sample, which: str) -> Peaks | None:
    """The peaks of one device in a record; `which` is "measured" or "stated"."""
    peaks = (sample.record.limits or Limits()).peaks
    rates = peaks.measured if which == "measured" else peaks.stated
    both = (rates or Rates()).both
    if both is None:
        return None
    return Peaks(both.flops_per_s / sample.machines, both.bandwidth_bytes_per_s / sample.machines)


def median_peaks(several: Sequence[Peaks]) -> Peaks | None:
    """The median of each rate over several measurements; None without measurements."""
    if not several:
        return None
    return Peaks(
        statistics.median(peaks.flops_per_s for peaks in several),
        statistics.median(peaks.bandwidth_bytes_per_s for peaks in several),
    )


def latency_of(sample: Sample) -> Seconds | None:
    """The mean latency, with the interval of the median; None if the case ran out of memory."""
    ends = sample.record.latency_interval
    if sample.latency_s is None or ends is None:
        return None if sample.latency_s is None else Seconds(sample.latency_s)
    return Seconds(sample.latency_s, ends.low, ends.high)


def ttft_of(sample: Sample) -> Seconds | None:
    """TTFT, the median over the rounds, with its interval."""
    split = sample.record.split or Split()
    return None if split.ttft_s is None else _with_interval(split.ttft_s, split.ttft_rounds_s)


def tpot_of(sample: Sample) -> Seconds | None:
    """TPOT, the median over the rounds, with its interval if the file has the seconds of each round."""
    split = sample.record.split or Split()
    if split.tpot_s is None:
        return None
    first = split.ttft_rounds_s
    rounds = zip(sample.seconds, first, strict=True) if len(first) == len(sample.seconds) else ()
    each = [metrics.tpot_s(whole, ttft, sample.point.output_len) for whole, ttft in rounds]
    return _with_interval(split.tpot_s, [tpot for tpot in each if tpot is not None and tpot > 0])


def _with_interval(value: float, rounds: Sequence[float]) -> Seconds:
    interval = median_interval(rounds)
    return Seconds(value) if interval is None else Seconds(value, interval.low, interval.high)
