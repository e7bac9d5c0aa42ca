"""Records of earlier versions are read as today's: completed by what their file proves, or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ci.gate.fingerprint import difference, fingerprint
from ci.report.read.samples import of_histories
from ci.tests.conftest import ROOT
from fixtures.core.forecast.past_runs import of_machine, read_seen
from fixtures.core.spec.library import hardware
from fixtures.core.store.history import read_accepted, read_history
from fixtures.core.store.upgrade import Evidence, upgraded

AVX2 = ["sse2", "avx", "avx2", "fma"]
AVX512_BF16 = [*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"]
NAME = "AMD EPYC (family 25, model 17)"


def info(flags: Any, system: str = "Linux") -> dict[str, Any]:
    """As pytest-benchmark writes it of a machine."""
    return {"system": system, "cpu": {"flags": flags, "brand_raw": "AMD EPYC"}}


def record(dtype: str = "bfloat16", device: str = "cpu", **changes: Any) -> dict[str, Any]:
    """As version 4 wrote it."""
    engine = {"name": "hf", "kind": "hf", "dtype": dtype, "autocast": None}
    model = {"name": "m", "architecture": {}}
    case = {"id": "x", "model": model, "hardware": f"1x{device}", "device": device, "devices": 1,
            "engine": engine, "batch_size": 1, "input_len": 2, "output_len": 3}  # fmt: skip
    stated = None if device == "cpu" else {"flops_per_s": 9e14, "bandwidth_bytes_per_s": 3e12}
    limits = {
        "peaks": {"stated": stated, "measured": {"flops_per_s": 1.5e10, "bandwidth_bytes_per_s": 2e10}},
        "prefill_flops": 3e10, "bound_s": 1.0, "of_bound": 0.9, "mfu": 0.95, "mbu": 0.5,
    }  # fmt: skip
    name = NAME if device == "cpu" else "NVIDIA H100"
    return {
        "record_version": 4, "case": case, "latency_mean_s": 2.0, "latency_median_s": 2.0, "limits": limits,
        "split": {"ttft_s": 4.0}, "marks": [],
        "machine": {"reported_name": name, "processor": NAME, "cores": 2}, **changes,
    }  # fmt: skip


def written(folder: Path, name: str, values: Any, machine_info: Any) -> Path:
    """A history of one record."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"machine_info": machine_info, "benchmarks": [{"extra_info": values}]}))
    return file


def test_the_name_of_a_cpu_is_completed_by_its_flags() -> None:
    """Of a GPU's host only the processor's; a name without evidence stays as it is."""
    found = upgraded(record(), Evidence.of(info(AVX512_BF16)))["machine"]
    assert found["reported_name"] == found["processor"] == "AMD EPYC (family 25, model 17, AVX-512 bf16)"
    on_gpu = upgraded(record(device="h100_80gb"), Evidence.of(info(AVX2)))["machine"]
    assert on_gpu["reported_name"] == "NVIDIA H100"
    assert on_gpu["processor"] == "AMD EPYC (family 25, model 17, AVX2)"
    nothing: Any
    for nothing in (None, {}, {"cpu": []}, info(None), info([7, None]), info(AVX2, "Darwin")):
        assert upgraded(record(), Evidence.of(nothing))["machine"]["reported_name"] == NAME


def test_two_machines_of_one_name_are_never_compared(tmp_path: Path) -> None:
    """In the gate, plans, report and picker; nor one that is known with one that is not."""
    files = [
        written(tmp_path, str(i), record(), info(flags)) for i, flags in enumerate((AVX2, AVX512_BF16, None))
    ]
    runs = [read_history(file) for file in files]
    prints = [fingerprint(run.measured[0].record) for run in runs]
    assert str(difference(prints[0], prints[1])).startswith(
        "device is 'AMD EPYC (family 25, model 17, AVX2)'"
    )
    assert all(difference(one, other) for one in prints for other in prints if one is not other)
    assert len({one.kind for one in of_histories(runs)}) == 3
    seen = read_seen(files)
    past = of_machine(seen, hardware("cpu"), "AMD EPYC (family 25, model 17, AVX2)", 2)
    assert past.stranger is None
    assert len(past.seen) == 1


@pytest.mark.parametrize(
    ("dtype", "flags", "kept"),
    [
        ("bfloat16", AVX2, False),
        ("bfloat16", AVX512_BF16, True),
        ("bfloat16", None, False),
        ("float16", AVX512_BF16, False),
        ("float32", AVX2, True),
        ("float32", None, True),
    ],
)
def test_limits_by_an_emulated_peak_are_left_out_with_a_mark(
    tmp_path: Path, dtype: str, flags: list[str] | None, kept: bool
) -> None:
    """The bandwidth is what it was; of a dtype with instructions of its own both definitions are the same."""
    file = written(tmp_path, "one", record(dtype), info(flags))
    found = read_history(file).measured[0].record.as_dict()
    limits = found["limits"]
    assert (limits["of_bound"], limits["mfu"]) == ((0.9, 0.95) if kept else (None, None))
    assert limits["mbu"] == 0.5
    assert limits["peaks"]["measured"]["bandwidth_bytes_per_s"] == 2e10
    assert (limits["peaks"]["measured"]["flops_per_s"] is not None) == kept
    assert [mark.startswith("limits are left out: ") for mark in found["marks"]] == [True] * (not kept)
    (one,) = read_seen([file])
    assert (one.of_bound is not None, one.peaks is not None) == (kept, kept)
    assert one.load_s is None


def test_an_autocast_was_held_against_another_dtype() -> None:
    """The peak was that of its weights' dtype, on a GPU too."""
    made = record("float32", "h100_80gb")
    made["case"]["engine"]["autocast"] = "bfloat16"
    assert upgraded(made, Evidence.of(None))["limits"]["of_bound"] is None


def test_utilisation_in_fp32_is_worked_out_again_on_tensor_cores() -> None:
    """3e10 FLOPs in 4 s of 1.5e10 FLOP/s measured: a half, which was next to nothing of the datasheet's."""
    limits = upgraded(record("float32", "h100_80gb"), Evidence.of(None))["limits"]
    assert limits["mfu"] == pytest.approx(0.5)
    assert limits["peaks"]["stated"] == {"flops_per_s": None, "bandwidth_bytes_per_s": 3e12}
    assert limits["of_bound"] == 0.9
    made = record("float32", "h100_80gb")
    made["limits"]["peaks"]["measured"] = None
    assert upgraded(made, Evidence.of(None))["limits"]["of_bound"] is None
    half = record("float16", "h100_80gb")
    assert upgraded(half, Evidence.of(None))["limits"] == half["limits"]


def test_a_record_of_today_is_not_touched() -> None:
    """Nor one that was published, nor what is none."""
    today = record(record_version=5)
    assert upgraded(today, Evidence.of(info(AVX2))) is today
    published = record(source="published", machine={})
    assert upgraded(published, Evidence.of(None)) == published
    for odd in ({"record_version": 4}, {"record_version": 1, "limits": 7, "machine": [], "case": None}):
        assert upgraded(odd, Evidence.of(info(AVX2))) == odd


@pytest.mark.parametrize("read", [read_history, read_accepted])
def test_accepted_runs_are_completed_too(read: Any) -> None:
    """Their first line is all that the gate reads of the cases, and the second has the flags."""
    accepted = ROOT / "ci/baselines/1xcpu_amd_epyc_family_25_model_1_avx2_2_cores/20261128T064532.json"
    raw = ROOT / "ci/histories/1xcpu/default_20261124.json"
    for file, kind in ((accepted, "model 1, AVX2"), (raw, "model 17, AVX-512 bf16")):
        names = {one.record.machine.reported_name for one in read(file).measured}
        assert names == {f"AMD EPYC (family 25, {kind})"}
