"""What a history's case is, in the suite's own classes; None for what is not of its kind."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ci.report.read.samples import Sample, processor, recorded_model
from fixtures.core.base.values import count, part, positive, text
from fixtures.core.cost.bounds import Cache, Peaks, Work
from fixtures.core.cost.stored_counts import Counts, find_counts
from fixtures.core.result import metrics
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
    case = part(one.record, "case")
    of_engine, architecture = part(case, "engine"), part(part(case, "model"), "architecture")
    kind, dtype, attention = (text(of_engine, key) for key in ("kind", "dtype", "attention"))
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
        use_cache=of_engine.get("use_cache") is not False,
        autocast=text(of_engine, "autocast"),
    )
    return Case(ModelSpec(recorded_model(one), dict(architecture)), hardware, one.devices, engine, one.point)


def product_dtype(one: Sample) -> str | None:
    """What its engine multiplies in; None where its record does not say."""
    engine = part(part(one.record, "case"), "engine")
    found = text(engine, "autocast") or text(engine, "dtype")
    return found if found in DTYPE_BYTES else None


def counts_of(case: Case | None) -> Counts | None:
    """What is stored of its model."""
    return None if case is None else find_counts(case.model, case.engine)


def memory_bytes(one: Sample) -> int | None:
    """Of one device: what it reported, else what is stated; all of a CPU's."""
    reported = positive(part(one.record, "machine").get("memory_bytes"))
    if reported is not None:
        return int(reported)
    return library.hardware(one.device).memory_bytes if one.device in library.names("hardware") else None


def work_of(one: Sample, case: Case | None) -> Work | None:
    """What its record says that the model must do, else what is stored of it."""
    if one.point.input_len + one.point.output_len > _LONGEST:
        return None
    found = _work(part(one.record, "work"))
    if found is not None:
        return found
    counts = counts_of(case)
    return None if counts is None else counts.work


def _work(values: Mapping[str, Any]) -> Work | None:
    flops = [_amount(values.get(key)) for key in ("flops_constant", "flops_per_token", "flops_per_pair")]
    weights, listed = positive(values.get("weight_bytes")), values.get("caches")
    caches = [_cache(one) for one in listed] if isinstance(listed, list) else [None]
    constant, per_token, per_pair = flops
    known = [one for one in caches if one is not None]
    if constant is None or not per_token or per_pair is None or weights is None or len(known) < len(caches):
        return None
    return Work(constant, per_token, per_pair, int(weights), tuple(known))


def _cache(values: Any) -> Cache | None:
    of = values if isinstance(values, Mapping) else {}
    layers, window = count(of, "layers"), count(of, "window")
    per_token, fixed = _amount(of.get("bytes_per_token")), _amount(of.get("fixed_bytes"))
    if not layers or per_token is None or fixed is None or (of.get("window") is not None and window is None):
        return None
    return Cache(layers, int(per_token), int(fixed), window)


def _amount(value: Any) -> float | None:
    """Like `positive`, and 0 as well."""
    return 0.0 if value == 0 and not isinstance(value, bool) else positive(value)


def processors(group: Sequence[Sample]) -> list[str]:
    """The CPUs that these were measured on, as a note."""
    found = dict.fromkeys(name for one in group if (name := processor(one)))
    return [f"measured on {'; '.join(found)}"] if found else []


def peaks_of(one: Sample, which: str) -> Peaks | None:
    """Those of one device that its record has: "measured" or "stated"."""
    values = part(part(part(one.record, "limits"), "peaks"), which)
    flops, bandwidth = positive(values.get("flops_per_s")), positive(values.get("bandwidth_bytes_per_s"))
    if flops is None or bandwidth is None:
        return None
    return Peaks(flops / one.machines, bandwidth / one.machines)


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
    ends = part(one.record, "latency_interval")
    low, high = positive(ends.get("low")), positive(ends.get("high"))
    if one.latency_s is None or low is None or high is None:
        return None if one.latency_s is None else Seconds(one.latency_s)
    return Seconds(one.latency_s, low, high)


def ttft_of(one: Sample) -> Seconds | None:
    """TTFT, the median over the rounds, with its interval."""
    split = part(one.record, "split")
    value = positive(split.get("ttft_s"))
    return None if value is None else _with_interval(value, _rounds(one) or [])


def tpot_of(one: Sample) -> Seconds | None:
    """TPOT, the median over the rounds, with its interval where the file has the rounds' seconds."""
    value = positive(part(one.record, "split").get("tpot_s"))
    if value is None:
        return None
    first = _rounds(one) or []
    rounds = zip(one.seconds, first, strict=True) if len(first) == len(one.seconds) else ()
    each = [metrics.tpot_s(whole, ttft, one.point.output_len) for whole, ttft in rounds]
    return _with_interval(value, [tpot for tpot in each if tpot is not None and tpot > 0])


def _rounds(one: Sample) -> list[float] | None:
    """TTFT of every round."""
    listed = part(one.record, "split").get("ttft_rounds_s")
    rounds = [positive(value) for value in listed] if isinstance(listed, list) else []
    known = [value for value in rounds if value is not None]
    return known if len(known) == len(rounds) else None


def _with_interval(value: float, rounds: Sequence[float]) -> Seconds:
    found = median_interval(rounds)
    return Seconds(value) if found is None else Seconds(value, found.low, found.high)
