"""What the page tells of a case, by groups: every field of its record that a person may ask for."""

from __future__ import annotations

from collections.abc import Mapping

from ci.report.page.reading import BOTH, FILE, TABLE, Field, at, finite, number, positive_at, text_at, words
from ci.report.read.samples import Sample
from fixtures.core.base.text import gigabytes, seconds, significant


def _ms(value: float) -> str:
    return significant(1000 * value) + " ms"


def _bare_ms(value: float) -> str:
    return significant(1000 * value)


def _gb(value: float) -> str:
    return gigabytes(value) + " GB"


def _percent(fraction: float) -> str:
    return significant(100 * fraction) + " %"


def _signed_percent(fraction: float) -> str:
    return f"{100 * fraction:+.0f} %"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _thousands(value: float) -> str:
    return f"{value:,.0f}"


def _tokens_per_s(value: float) -> str:
    return significant(value) + " tokens/s"


def _tera(value: float) -> str:
    return significant(value / 1e12) + " TFLOP/s"


def _giga_per_s(value: float) -> str:
    return significant(value / 1e9) + " GB/s"


def _interval(sample: Sample) -> str | None:
    low, high = (positive_at(f"latency_interval.{end}")(sample) for end in ("low", "high"))
    return None if low is None or high is None else f"{significant(low)}-{significant(high)}"


def _rounds(sample: Sample) -> str | None:
    timed, warm_up = (finite(f"protocol.{key}")(sample) for key in ("rounds", "warmup_rounds"))
    if timed is None:
        return None
    return _whole(timed) + ("" if warm_up is None else f", after {_whole(warm_up)} to warm up")


def _attention(sample: Sample) -> str | None:
    return text_at("attention")(sample) or text_at("case.engine.attention")(sample)


def _cache(sample: Sample) -> str | None:
    found = at("case.engine.use_cache")(sample)
    return ("on" if found else "off") if isinstance(found, bool) else None


def _set_by(sample: Sample) -> str | None:
    by = [text_at(f"limits.{phase}_by")(sample) for phase in ("prefill", "decode")]
    return " / ".join(one for one in by if one) or None


def _sweep(sample: Sample) -> str | None:
    return ", ".join(sample.record.sweeps) or None


def _kept(sample: Sample) -> str | None:
    kept = sample.record.kept_in_other_dtypes
    return None if kept is None else ", ".join(kept.names)


def _marks(sample: Sample) -> str | None:
    return "; ".join(sample.record.marks) or None


def _versions(sample: Sample) -> str | None:
    versions = sample.record.versions
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version) or None


def _peak(name: str, label: str, kind: str, key: str) -> Field:
    written = _tera if key == "flops_per_s" else _giga_per_s
    return number(name, label, positive_at(f"limits.peaks.{kind}.{key}"), written)


def _own_flops_per_s(sample: Sample) -> float | None:
    """Of products in the dtype that its engine multiplies in."""
    dtype = text_at("limits.peaks.dtype")(sample)
    return None if dtype is None else positive_at(f"limits.peaks.by_dtype.{dtype}")(sample)


GROUPS: Mapping[str, tuple[Field, ...]] = {
    "case": (
        words("model", "model", lambda one: one.model, BOTH),
        words("hardware", "hardware", lambda one: one.hardware, BOTH),
        words("engine", "engine", lambda one: one.engine, BOTH),
        number("batch_size", "batch", lambda one: one.point.batch_size, _whole, BOTH),
        number("input_len", "tokens in", lambda one: one.point.input_len, _whole, BOTH),
        number("output_len", "out", lambda one: one.point.output_len, _whole, BOTH),
        words("source", "source", lambda one: one.source, BOTH),
        words("hub", "name on the hub", "case.model.hub"),
        words("weights", "weights", "case.model.weights"),
        words("checkpoint_format", "quantised checkpoint's", "case.model.checkpoint_format"),
        words("dtype", "dtype", "case.engine.dtype"),
        words("attention", "attention", _attention),
        words("cache", "KV cache", _cache),
    ),
    "latency": (
        number("latency_mean_s", "latency s", lambda one: one.latency_s, significant, BOTH, "out of memory"),
        number("latency_median_s", "median", positive_at("latency_median_s"), seconds, FILE),
        words("latency_interval", "interval s", _interval, TABLE),
        number("latency_low_s", "", positive_at("latency_interval.low"), seconds, FILE),
        number("latency_high_s", "", positive_at("latency_interval.high"), seconds, FILE),
        number("coverage", "coverage", "latency_interval.coverage", _percent),
        number("latency_spread", "spread", "latency_spread", _percent),
        number("drift", "drift", "drift.change", _signed_percent),
        words("rounds", "rounds", _rounds),
        words("stopped_by", "no more because", "stopped_by"),
    ),
    "speed": (
        number("output_tokens_per_s", "tokens/s", lambda one: one.tokens_per_s, significant, BOTH),
        number("ms_per_output_token", "ms/token", positive_at("ms_per_output_token"), significant, BOTH),
        number("joules_per_output_token", "J/token", "joules_per_output_token", significant, BOTH),
    ),
    "prefill and decode": (
        number("ttft_s", "TTFT ms", positive_at("split.ttft_s"), _bare_ms, BOTH),
        number("tpot_s", "TPOT ms", positive_at("split.tpot_s"), _bare_ms, BOTH),
        number("itl_p50_s", "ITL p50", positive_at("split.itl_s.p50"), _ms, FILE),
        number("itl_p90_s", "ITL p90", positive_at("split.itl_s.p90"), _ms, FILE),
        number("itl_p99_s", "ITL p99", positive_at("split.itl_s.p99"), _ms, FILE),
        number("prefill_tokens_per_s", "prefill", "split.prefill_tokens_per_s", _tokens_per_s, FILE),
        number("decode_tokens_per_s", "decode", "split.decode_tokens_per_s", _tokens_per_s, FILE),
        number("fit_first_s", "first token, by fit", "split.fit.first_s.value", _ms),
        number("fit_further_s", "further token, by fit", "split.fit.further_s.value", _ms),
    ),
    "physical limit": (
        number("bound_s", "bound", positive_at("limits.bound_s"), seconds, FILE),
        number("of_bound", "of bound", positive_at("limits.of_bound"), _percent, BOTH),
        words("set_by", "set by", _set_by),
        number("mfu", "MFU", positive_at("limits.mfu"), _percent, BOTH),
        number("mbu", "MBU", positive_at("limits.mbu"), _percent, BOTH),
        _peak("stated_flops_per_s", "stated peak", "stated", "flops_per_s"),
        _peak("stated_bytes_per_s", "stated bandwidth", "stated", "bandwidth_bytes_per_s"),
        _peak("measured_flops_per_s", "measured peak", "measured", "flops_per_s"),
        number("own_flops_per_s", "in its own dtype", _own_flops_per_s, _tera),
        number("units_flops_per_s", "of its arithmetic units", "limits.peaks.units.flops_per_s", _tera),
        _peak("measured_bytes_per_s", "measured bandwidth", "measured", "bandwidth_bytes_per_s"),
        words("emulated", "emulated", "limits.peaks.emulated"),
    ),
    "memory": (
        number("peak_memory_bytes", "peak GB", positive_at("peak_memory_bytes"), gigabytes, BOTH),
        number("predicted_memory_bytes", "predicted", "predicted_memory.total_bytes", _gb, FILE),
        number("predicted_memory_error", "predicted / peak - 1", "predicted_memory_error", _signed_percent),
        number("parameters", "parameters", "parameters", _thousands),
        number("parameter_bytes", "their bytes", "parameter_bytes", _gb),
        words("kept", "kept in other dtypes", _kept),
        words("phase", "ran out in", "phase"),
        number("needed_bytes", "was to need", "needed_bytes", _gb),
        number("free_bytes", "was free", "free_bytes", _gb),
        words("after", "not tried, after", "after"),
        words("detail", "detail", "detail"),
    ),
    "several devices": (
        number("speed_up", "speed-up", positive_at("parallel.speed_up"), significant, FILE),
        number("efficiency", "efficiency", positive_at("parallel.efficiency"), significant, FILE),
        words("over", "over", "parallel.over"),
        number("per_device", "each", "parallel.output_tokens_per_s_per_device", _tokens_per_s),
        number("communication", "communication", "parallel.communication.share", _percent),
        number("over_even", "weights / even split", "shards.over_even", significant),
    ),
    "machine": (
        words("reported_name", "device", "machine.reported_name"),
        number("device_memory", "its memory", "machine.memory_bytes", _gb),
        words("processor", "processor", "machine.processor"),
        number("cores", "cores", "machine.cores", _whole),
        number("threads", "threads", "threads", _whole),
        words("system", "system", "machine.system"),
        words("node", "node", "machine.node"),
        words("driver", "driver", "machine.driver"),
        number("load", "load before", "state.load_1min_before", significant),
        number("waited", "waited for a core", "state.waited_share", _percent),
        number("throttled", "throttle events", "state.throttle_count", _whole),
    ),
    "run": (
        words("suite", "suite", "suite", BOTH),
        words("sweep", "sweep", _sweep, FILE),
        words("taken", "taken", lambda one: one.taken or None, FILE),
        words("history", "history", lambda one: one.file, FILE),
        words("what", "published in", "provenance.what"),
        words("url", "at", "provenance.url"),
        words("versions", "versions", _versions),
        number("seed", "seed", "protocol.seed", _whole),
        words("marks", "marks", _marks, BOTH),
    ),
}
