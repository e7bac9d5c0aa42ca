"""What a plan expects: by hand, by histories, and of anything that a history may hold."""

from __future__ import annotations

import csv
import json
import resource
import shutil
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.tests.conftest import ROOT, write_suite
from ci.tests.fake_engine import FakeEngine
from ci.tests.records import recorded
from fixtures.core.cost.bounds import Peaks, bound, stated_peaks
from fixtures.core.cost.memory import predict
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.estimate.estimate import Estimate, Known, estimate
from fixtures.core.estimate.host_time import HostTime
from fixtures.core.estimate.physics import read_physics
from fixtures.core.forecast.forecast import (
    CHECKED_TOKENS,
    LOAD_BYTES_PER_S,
    LOAD_START_S,
    Planner,
    by_formula,
    plan_lines,
)
from fixtures.core.forecast.past_runs import DEFAULT_EFFICIENCY, Past, Seen, of_machine, read_seen
from fixtures.core.forecast.past_runs import seen as past_seen
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.tables import plan_table

pytest_plugins = ["pytester"]

CPU = HardwareSpec("cpu", "cpu", memory_bytes=16 * 10**9)
HF = EngineSpec("hf")
MPT = library.model("mpt125m")
PEAKS = Peaks(4e11, 3e10)
BF16 = "bfloat16"
ONE = Point(1, 128, 32)


def case(point: Point = ONE, model: ModelSpec = MPT, engine: EngineSpec = HF) -> Case:
    """On one CPU."""
    return Case(model, CPU, 1, engine, point)


def seen(of: Case, of_bound: float | None = 0.5, **changes: Any) -> Seen:
    """A record of a case."""
    found = Seen(
        case_id=of.id,
        model=of.model.name,
        engine_kind=of.engine.kind,
        device=of.hardware.name,
        devices=of.devices,
        processor="A",
        cores=2,
        of_bound=of_bound,
        load_s=None,
        peaks=PEAKS,
    )
    return replace(found, **changes)


def test_the_peaks_of_floats_are_of_floats_where_integers_were_measured() -> None:
    """A record of 400 in int8 beside 100 in fp32 and 15 in bf16; one without rates by dtype has its own."""
    rates = {"bfloat16": 15.0, "float32": 100.0}
    of_q8 = seen(case(), peaks=Peaks(400.0, 7.0), by_dtype=rates)
    assert of_q8.peaks_in(BF16) == of_q8.peaks_in("float32") == Peaks(100.0, 7.0)
    assert seen(case()).peaks_in(BF16) == PEAKS
    assert seen(case()).peaks_in("float32") is None


def bound_s(of: Case, output_len: int | None = None) -> float:
    """The bound of a case, or of one with so many tokens out."""
    counts = find_counts(of.model, of.engine)
    assert counts is not None
    point = replace(of.point, output_len=output_len or of.point.output_len)
    return bound(point, True, counts.work, PEAKS).total_s


def test_what_another_model_of_the_same_name_did_is_not_expected() -> None:
    """Neither of a case with the same id nor of the model, whose load is another; in another form it is."""
    one = case()
    other = seen(one, 0.5, load_s=2.0, architecture={**MPT.architecture, "n_layers": 99})
    assert Past((other,)).efficiency(one) == (0.5, "all")
    assert Past((other,)).load_s(one) is None
    for form in ({**MPT.architecture, "torch_dtype": "float16"}, {}):
        past = Past((other, seen(one, 0.25, load_s=3.0, architecture=form)))
        assert (past.efficiency(one), past.load_s(one)) == ((0.25, "case"), 3.0)


def test_expected_seconds_are_those_of_all_calls_over_the_efficiency() -> None:
    """Eight calls of 32 tokens and a check of 8, at half of the bound; the model's first case loads it."""
    one, two = case(), case(Point(4, 128, 4))
    past = Past((seen(one, 0.5, load_s=2.0), seen(one, 0.5, load_s=4.0)))
    found = Planner(past, 8).expect_all([one, two])
    calls_s = (8 * bound_s(one) + bound_s(one, CHECKED_TOKENS)) / 0.5
    assert found[one.id].calls_s == pytest.approx(calls_s)
    assert found[one.id].total_s == pytest.approx(calls_s + 3.0)
    assert found[two.id].total_s == pytest.approx(9 * bound_s(two) / 0.5)  # 4 tokens are checked, not 8


def test_bytes_are_those_predicted() -> None:
    """The same as of the prediction, against the memory of the device."""
    found = Planner(Past((seen(case()),)), 8).expect(case())
    counts = find_counts(MPT, HF)
    assert counts is not None
    assert found.prediction == predict(case().point, counts.footprint, "cpu")
    assert (found.fit, found.short_in, found.room_bytes) == ("yes", None, 16 * 10**9)


def test_a_load_that_was_never_seen_is_worked_out() -> None:
    """A start, and the bytes of the weights; of the first case that fits."""
    small = replace(CPU, memory_bytes=10**9)
    cases = [replace(case(Point(b, 128, 32)), hardware=small) for b in (64, 1, 2)]
    past = Past((seen(case()),))
    big, first, second = Planner(past, 1).expect_all(cases).values()
    assert (big.fit, big.short_in, big.total_s) == ("no", "prefill", None)
    assert first.load_s == pytest.approx(LOAD_START_S + 2 * (MPT.parameters or 0) / LOAD_BYTES_PER_S)
    assert second.load_s == 0


def test_rounds_that_were_all_disturbed_count_only_where_there_are_no_others() -> None:
    """A session beside a busy one may take a hundred times as long; one calm record outweighs two such."""
    one = case()
    busy = [seen(one, 0.002, disturbed=True)] * 2
    assert Past((*busy, seen(one, 0.4))).efficiency(one) == (0.4, "case")
    assert Past(tuple(busy)).efficiency(one) == (0.002, "case")
    folder = ROOT / "ci/histories/1xcpu"
    calm = read_seen([folder / "avx2_20261128.json"])
    assert not any(record.disturbed for record in calm)
    values = json.loads((folder / "avx2_20261128.json").read_text())["benchmarks"][0]["extra_info"]
    values["state"]["disturbed"] = [["contention: other processes used 1 core"]] * 5
    found = past_seen(recorded(**values))
    assert found is not None
    assert found.disturbed


def test_the_efficiency_is_the_nearest_that_was_seen() -> None:
    """Of the case, of its model and kind of engine, of all, and else a constant; medians."""
    ours, other = case(), case(Point(2, 128, 32))
    llama = case(model=library.model("llama125m"))
    eager = case(engine=EngineSpec("hf_eager", attention="eager"))
    ranks = case(engine=EngineSpec("hf_tp", kind="hf_tp"))
    history = [seen(ours, 0.1), seen(ours, 0.2), seen(ours, 0.6), seen(eager, 0.3), seen(llama, 0.9)]
    past = Past((*history, seen(ours, 0.7, device="l4"), seen(ours, None)))
    assert past.efficiency(ours) == (0.2, "case")
    assert past.efficiency(other) == (0.25, "model")  # hf_eager is of the same kind
    assert past.efficiency(ranks) == (0.3, "all")
    assert Past().efficiency(ours) == (DEFAULT_EFFICIENCY["cpu"], "default")
    gpu = replace(ours, hardware=library.hardware("l4"))
    assert Past(tuple(history)).efficiency(gpu) == (DEFAULT_EFFICIENCY["gpu"], "default")


def test_what_was_published_stands_in_where_nothing_was_measured() -> None:
    """Of the model; what was measured of other models counts for more than published ones of other models."""
    ours, other = case(), case(Point(2, 128, 32))
    llama = case(model=library.model("llama125m"))
    published = [seen(ours, 0.1, published=True), seen(other, 0.5, published=True)]
    past = Past(tuple(published))
    assert past.efficiency(ours) == (0.1, "published case")
    assert past.efficiency(case(Point(4, 128, 32))) == (0.3, "published model")
    assert past.efficiency(llama) == (0.3, "published all")
    past = Past((*published, seen(llama, 0.9)))
    assert past.efficiency(ours) == (0.1, "published case")
    assert past.efficiency(case(model=library.model("falcon125m"))) == (0.9, "all")
    assert Past((*published, seen(other, 0.7))).efficiency(ours) == (0.7, "model")


def test_what_was_published_is_of_somebody_elses_machine() -> None:
    """Its peaks and loads do not count here, and of a CPU nothing does."""
    gpu = library.hardware("l4")
    one = seen(replace(case(), hardware=gpu), published=True, load_s=2.0, processor=None, cores=None)
    past = of_machine([one], gpu, "B", 2)
    assert past == Past((one,))
    assert past.peaks(gpu, 1, BF16) == (stated_peaks(gpu, 1, BF16), False)
    assert past.load_s(replace(case(), hardware=gpu)) is None
    on_cpu = seen(case(), published=True, processor=None, cores=None)
    assert of_machine([on_cpu], CPU, "A", 2) == of_machine([on_cpu], CPU) == Past()


def test_peaks_are_measured_ones_else_the_datasheets() -> None:
    """The median; other numbers of GPUs are scaled, and a CPU is the same in ranks."""
    gpu = library.hardware("l4")
    one = replace(case(), hardware=gpu)
    past = Past(tuple(seen(one, peaks=Peaks(x, 10 * x)) for x in (1.0, 5.0, 2.0)))
    assert past.peaks(gpu, 1, BF16) == (Peaks(2.0, 20.0), True)
    assert past.peaks(gpu, 4, BF16) == (Peaks(8.0, 80.0), True)
    four = seen(replace(one, devices=4), peaks=Peaks(7.0, 7.0))
    assert Past((*past.seen, four)).peaks(gpu, 4, BF16) == (Peaks(7.0, 7.0), True)
    assert Past((seen(case()),)).peaks(CPU, 2, BF16) == (PEAKS, True)
    assert Past((seen(one, peaks=None),)).peaks(gpu, 2, BF16) == (stated_peaks(gpu, 2, BF16), False)
    assert Past().peaks(CPU, 1, BF16) == (None, False)


def test_a_dtype_has_peaks_and_an_efficiency_of_its_own() -> None:
    """bf16 that is emulated: 10 % of what fp32 makes, which that record has too, and fp32's own does not."""
    emulated = seen(case(), 0.1, peaks=Peaks(1e11, 2e10), by_dtype={"bfloat16": 1e10, "float32": 1e11})
    fp32 = EngineSpec("hf_fp32", dtype="float32")
    autocast = EngineSpec("own", dtype="float32", autocast="bfloat16")
    past = Past((emulated,))
    assert past.peaks(CPU, 1, "float32") == (Peaks(1e11, 2e10), True)
    assert past.peaks(CPU, 1, "float16") == (None, False)
    assert past.efficiency(case(engine=fp32)) == (DEFAULT_EFFICIENCY["cpu"], "default")
    assert past.efficiency(case(engine=autocast)) == (0.1, "model")
    native = seen(case(engine=fp32), 0.4, dtype="float32", by_dtype={"float32": 1e11})
    assert Past((native,)).peaks(CPU, 1, BF16) == (None, False)
    assert Past((emulated, native)).efficiency(case(Point(2, 128, 32), engine=fp32)) == (0.4, "model")
    assert Past((emulated, native)).efficiency(case(model=library.model("llama125m"))) == (0.1, "all")
    l4 = library.hardware("l4")
    assert Past().peaks(l4, 1, "float32") == (None, False)


def test_a_plan_says_where_a_dtype_is_emulated_and_no_history_knows() -> None:
    """Two cases in bf16 on AVX2, by another CPU's history or none; its own history has it in it."""
    cases = {
        one.id: one
        for one in (case(), case(Point(2, 128, 32)), case(engine=EngineSpec("x", dtype="float32")))
    }
    line = "bf16 is emulated on this CPU (AVX2), which has no history yet: its cases (2) take longer"
    of_another = Past((seen(case()), seen(case(), dtype="float32")), "B, 2 cores")
    own = replace(of_another, stranger=None)
    for past, kind, is_said in (
        (of_another, "AVX2", True),
        (own, "AVX2", False),
        (of_another, "AVX-512 bf16", False),
        (of_another, None, False),
    ):
        planner = Planner(past, 8, kind)
        assert (line in plan_lines(cases, planner.expect_all(cases.values()), planner)) == is_said


def test_a_cpu_is_known_by_its_name_and_cores() -> None:
    """Another's history stands in where this one has none, and is named; GPUs of a kind are alike."""
    history = [seen(case(), 0.1), seen(case(), 0.2, cores=8), seen(case(), 0.3, device="l4")]
    assert of_machine(history, CPU, "A", 2) == Past((history[0],))
    assert of_machine(history, CPU, "B", 2) == Past((history[1],), "A, 8 cores")
    without = seen(case(), None, processor="C", peaks=None)  # of an earlier version: nothing to plan by
    assert of_machine([*history, without], CPU, "B", 2) == Past((history[1],), "A, 8 cores")
    assert of_machine(history, CPU) == Past(tuple(history[:2]))
    assert of_machine(history, library.hardware("l4"), "B", 2) == Past((history[2],))
    assert of_machine([], CPU, "A", 2) == Past()


def test_the_assumed_efficiency_of_a_gpu_is_the_median_of_the_published_points() -> None:
    """138 of them, against the bound by the datasheet."""
    efficiencies = {}
    with (ROOT / "ci/baselines/published/a100_2023.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            point = Point(int(row["batch_size"]), int(row["input_len"]), int(row["output_len"]))
            devices, _, device = row["hardware"].partition("x")
            counts = find_counts(library.model(row["model"]), EngineSpec("x", attention="eager"))
            peaks = stated_peaks(library.hardware(device), int(devices), BF16)
            assert counts is not None
            assert peaks is not None
            least = bound(point, True, counts.work, peaks).total_s
            efficiencies[row["model"], row["hardware"], point] = least / (int(row["latency_ms"]) / 1000)
    assert len(efficiencies) == 138
    assert round(statistics.median(efficiencies.values()), 2) == DEFAULT_EFFICIENCY["gpu"]


def test_the_assumed_efficiency_of_a_cpu_is_the_median_of_the_curated_ones() -> None:
    """33 cases on two cores."""
    files = [ROOT / f"ci/histories/1xcpu/{name}_20261124.json" for name in ("default", "latency")]
    found = [one.of_bound for one in read_seen(files) if one.of_bound is not None]
    assert len(found) == 33
    assert round(statistics.median(found), 2) == DEFAULT_EFFICIENCY["cpu"]


def test_a_record_is_read_as_it_was_written() -> None:
    """The curated history's first."""
    file = ROOT / "ci/histories/1xcpu/default_20261124.json"
    record = json.loads(file.read_text())["benchmarks"][0]["extra_info"]
    first = read_seen([file])[0]
    assert (first.case_id, first.model, first.engine_kind) == (record["case"]["id"], "mpt125m", "hf")
    assert (first.device, first.devices, first.cores) == ("cpu", 1, 2)
    assert first.processor == "AMD EPYC (family 25, model 17, AVX-512 bf16)"
    assert (first.of_bound, first.load_s) == (record["limits"]["of_bound"], record["load_s"])
    assert first.peaks == Peaks(**record["limits"]["peaks"]["measured"])


def written(folder: Path, record: Any) -> Path:
    """A history of one record."""
    file = folder / "one.json"
    file.write_text(json.dumps({"machine_info": {}, "benchmarks": [{"extra_info": record}]}))
    return file


RECORD: dict[str, Any] = {
    "record_version": 5,
    "case": {"id": "x", "model": {"name": "m"}, "engine": {"kind": "hf"}, "device": "cpu", "devices": 1},
    "machine": {"reported_name": "A", "cores": 2},
    "limits": {"of_bound": 0.5, "peaks": {"measured": {"flops_per_s": 1.0, "bandwidth_bytes_per_s": 2.0}}},
    "load_s": 3.0,
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, derandomize=True)
@given(path=st.sampled_from(["case", "machine", "limits", "load_s", "case.model", "case.devices",
                             "machine.cores", "limits.of_bound", "limits.peaks", "limits.peaks.measured",
                             "limits.peaks.measured.flops_per_s", "case.id"]), value=anything)  # fmt: skip
def test_a_record_of_anything_is_passed_over_or_plannable(
    path: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One part replaced by any tree: what is taken are positive, finite numbers."""
    record = json.loads(json.dumps(RECORD))
    *parents, last = path.split(".")
    part = record
    for key in parents:
        part = part[key]
    part[last] = value
    for one in read_seen([written(tmp_path_factory.getbasetemp(), record)]):
        figures = [one.of_bound, one.load_s]
        figures += [one.peaks.flops_per_s, one.peaks.bandwidth_bytes_per_s] if one.peaks else []
        assert all(figure is None or 0 < figure < 1e30 for figure in figures)
        assert one.devices > 0
        assert one.cores is not None
        assert one.cores > 0


def test_the_record_above_is_taken_as_it_stands(tmp_path: Path) -> None:
    """Else nothing would have been tried; any other extra_info is no record."""
    (one,) = read_seen([written(tmp_path, RECORD)])
    assert (one.of_bound, one.load_s, one.peaks) == (0.5, 3.0, Peaks(1.0, 2.0))
    assert read_seen([written(tmp_path, {"ratios": []}), written(tmp_path, None)]) == []


def test_the_lines_say_where_the_figures_are_from_and_what_is_not_counted() -> None:
    """Sources by number of cases; models without counts, devices without peaks."""
    toy = case(model=ModelSpec("toy", {"model_type": "toy"}))
    fits, other = case(), case(model=library.model("llama125m"))
    wide = replace(case(Point(10**6, 128, 32)))
    cases = {one.id: one for one in (fits, other, toy, wide)}
    planner = Planner(Past((seen(fits, 0.5),), "B, 4 cores"), 8)
    expected = planner.expect_all(cases.values())
    assert expected[toy.id].fit == "unknown"
    total = sum(expected[one.id].total_s or 0 for one in (fits, other))
    assert plan_lines(cases, expected, planner) == [
        f"expected: {round(total)} s for 2 of 4 cases; 1 do not fit and would be skipped",
        "not in the total, without stored counts: toy (1)",
        "efficiency: past histories of another CPU (B, 4 cores), medians of the case itself (1), "
        "of all on this machine (1)",
        "peaks of the bound: measured, medians of past histories",
    ]
    published = tuple(seen(one, 0.5, published=True) for one in (fits, case(Point(2, 128, 32))))
    planner = Planner(Past((seen(other), *published)), 8)
    third, falcon = case(Point(4, 128, 32)), case(model=library.model("falcon125m"))
    cases = {one.id: one for one in (fits, third, other, falcon)}
    assert plan_lines(cases, planner.expect_all(cases.values()), planner)[1] == (
        "efficiency: past histories of this machine, medians of the case itself (1), "
        "of all on this machine (1); published figures of such devices, not of this machine, medians "
        "of the case itself (1), of its model with engines of its kind (1)"
    )
    unknown = Planner(Past(), 8)
    assert plan_lines({fits.id: fits}, unknown.expect_all([fits]), unknown) == [
        "expected: 0 s for 0 of 1 cases",
        "not in the total, without a datasheet or a history of the device: 1xcpu (1)",
    ]


def test_the_table_has_a_row_a_case() -> None:
    """What is not known is said; nothing is expected of what does not fit."""
    toy = case(model=ModelSpec("toy", {"model_type": "toy"}))
    cases = [case(), case(Point(10**6, 128, 32)), toy]
    expected = Planner(Past((seen(case()),)), 8).expect_all(cases)
    heading, _, model, *lines = plan_table(cases, expected)
    columns = ["batch", "tokens in", "out", "needs GB", "has GB", "fits", "bound s", "expected s"]
    assert " ".join(heading.split()) == " ".join(columns)
    assert model == "mpt125m"
    assert lines[0].split()[:8] == ["1xcpu", "hf", "1", "128", "32", "0.78", "16.00", "yes"]
    assert lines[1].split()[-4:-2] == ["no", "(prefill)"]
    assert lines[1].endswith(" -")
    assert lines[3].split() == ["1xcpu", "hf", "1", "128", "32", "-", "16.00", "unknown", "-", "unknown"]


def planned(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """`--plan` of the benchmarks."""
    return project.runpytest("benchmarks", "--benchmark-only", "--plan", *arguments)


def test_a_plan_of_another_machine(project: pytest.Pytester, fake: type[FakeEngine]) -> None:
    """MPT-30B on an A100 that is not here: exit code 0, nothing runs, -k selects."""
    result = planned(project, "--hardware", "1xa100_80gb", "-k", "mpt30b")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "mpt30b",
            "  1xa100_80gb hf * 8 * 512 * 64 * 84.29 * yes *",
            "  1xa100_80gb hf * 64 * 512 * 64 * no (prefill) *-",
            "expected: *for 8 of 10 cases; 2 do not fit and would be skipped",
            "estimated by yamls/physics/hf_gpu.yaml (8): machine never seen, 90 % of calls within a factor "
            "of *",
            "peaks of the bound: the datasheet's",
        ]
    )
    assert not any(line.startswith("mpt7b") for line in result.outlines)
    assert fake.log == []
    assert not list(project.path.glob(".benchmarks/*/*.json"))


def test_a_plan_of_an_a100_goes_by_what_was_published_of_it(
    project: pytest.Pytester, fake: type[FakeEngine]
) -> None:
    """And says so; of another GPU nothing was published."""
    folder = project.mkdir("ci") / "baselines" / "published"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "ci" / "baselines" / "published" / "a100_2023.json", folder)
    result = planned(project, "--hardware", "1xa100_80gb", "--suite", "models", "-k", "mpt30b")
    # 4 batches were published, one more fits today
    result.stdout.fnmatch_lines(
        [
            "efficiency: published figures of such devices, not of this machine, medians of the case "
            "itself (4)",
            "estimated by yamls/physics/hf_gpu.yaml (1): machine never seen, *",
            "peaks of the bound: the datasheet's",
        ]
    )
    result = planned(project, "--hardware", "1xl4", "-k", "qwen3_8b", "--set", "engines=[hf_nocache]")
    result.stdout.fnmatch_lines(["efficiency: no history; 34 % of the bound is assumed"])


def test_what_nobody_measured_is_estimated_by_the_formula() -> None:
    """The same seconds as `estimate` has, for the calls and for a check of 8 tokens; refused, a constant."""
    asked = replace(case(Point(4, 512, 64), library.model("mpt7b")), hardware=library.hardware("h100_80gb"))
    split = replace(asked, engine=EngineSpec("hf_fp16", dtype="float16"))
    without = replace(asked, engine=EngineSpec("hf_nocache", use_cache=False))
    cases = {one.id: one for one in (asked, split, without)}
    planner = Planner(Past(), 8, formula=by_formula)
    found = planner.expect_all(cases.values())
    physics = read_physics("hf", "gpu")
    alone = estimate(asked, find_counts(asked.model, asked.engine), physics, Known())
    assert isinstance(alone, Estimate)
    one = found[asked.id]
    assert one.estimate == alone
    assert one.calls_s == pytest.approx(8 * alone.latency_s + alone.ttft_s + 7 * (alone.tpot_s or 0))
    assert (found[without.id].estimate, found[without.id].efficiency) == (None, 0.34)
    lines = plan_lines(cases, found, planner)
    assert lines[1] == "efficiency: no history; 34 % of the bound is assumed"
    assert lines[2].startswith(
        "estimated by yamls/physics/hf_gpu.yaml (2): machine never seen, 90 % of calls "
    )
    seen_itself = Planner(Past((seen(asked, 0.5),)), 8, formula=by_formula).expect(asked)
    assert (seen_itself.estimate, seen_itself.efficiency) == (None, 0.5)


def test_products_in_fp8_count_at_their_stated_rate() -> None:
    """One token of a long prompt is arithmetic: half the time on an H100, 1978.9 for 989.4 TFLOP/s."""
    asked = replace(
        case(Point(8, 2048, 1), library.model("llama31_8b")), hardware=library.hardware("h100_80gb")
    )
    fp8 = replace(asked, engine=EngineSpec("hf_fp8", "hf_fp8"))
    first, second = (Planner(Past(), 8).expect(one).bound for one in (asked, fp8))
    assert first is not None
    assert second is not None
    assert first.prefill_s / second.prefill_s == pytest.approx(1978.9 / 989.4)
    both = Planner(Past(), 8)
    assert [both.expect(one).bound for one in (asked, fp8, asked)] == [first, second, first]
    on_a100 = replace(fp8, hardware=library.hardware("a100_80gb"))  # which has no such units
    bf16 = replace(asked, hardware=library.hardware("a100_80gb"))
    assert Planner(Past(), 8).expect(on_a100).bound == Planner(Past(), 8).expect(bf16).bound


def test_without_a_measurement_routers_of_random_weights_spread_tokens() -> None:
    """The bound is of the least experts, the seconds of those that eight tokens touch: 8 (1 - 0.75^8)."""
    asked = replace(
        case(Point(8, 4, 2), library.model("mixtral8x7b")),
        hardware=library.hardware("h200_141gb"),
        engine=EngineSpec("vllm", "vllm"),
    )
    forecast = Planner(Past(), 8).expect(asked)
    assert forecast.bound is not None
    assert forecast.call_s is not None
    more = 32 * 352321536 * (8 * (1 - 0.75**8) - 2)
    first = 32 * 352321536 * (8 * (1 - 0.75**32) - 2)
    late_s = (more + first) / 4.8e12
    assert forecast.call_s == pytest.approx((forecast.bound.total_s + late_s) / 0.34, rel=1e-3)
    itself = Planner(Past((seen(asked, 0.5),)), 8).expect(asked)
    assert itself.bound is not None
    assert itself.call_s == pytest.approx(itself.bound.total_s / 0.5)


def test_a_measured_host_sets_what_waits_for_it() -> None:
    """Half the time an operator: about half the seconds of one sequence, a narrower interval; it is told."""
    asked = replace(case(Point(1, 512, 64), library.model("mpt7b")), hardware=library.hardware("h100_80gb"))
    physics = read_physics("hf", "gpu")
    assert physics is not None
    before = Planner(Past(), 8, formula=by_formula)
    after = replace(before, host=HostTime(physics.parameters.tau_s / 2, 0.1), _counts={}, _peaks={})
    first, second = before.expect(asked).estimate, after.expect(asked).estimate
    assert first is not None
    assert second is not None
    assert second.latency_s == pytest.approx(first.latency_s / 2, rel=0.12)
    assert second.half_width < first.half_width
    lines = plan_lines({asked.id: asked}, after.expect_all([asked]), after)
    assert "an operator takes 4.5 us here, by python -m ci.physics host" in lines
    assert not any(
        "an operator" in line for line in plan_lines({asked.id: asked}, before.expect_all([asked]), before)
    )


def test_a_plan_reads_the_host_of_this_machine_alone(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its identity; another machine's file and one that is none are passed over in a line."""
    here = {
        "label": "1xl4",
        "device": "l4",
        "devices": 1,
        "reported_name": "NVIDIA L4",
        "processor": "A",
        "cores": 2,
    }
    monkeypatch.setattr("fixtures.host.machine.report", lambda: here)
    file = project.mkdir(".benchmarks") / "physics" / "host.json"
    file.parent.mkdir()
    asked = ("--hardware", "1xl4", "-k", "qwen3_8b")
    for text, told in (
        (json.dumps({"tau_s": 5e-6, "sd_ln": 0.1, "machine": here}), "an operator takes 5.0 us here, by *"),
        (json.dumps({"tau_s": 5e-6, "sd_ln": 0.1, "machine": {**here, "cores": 3}}),
         "passed over: .benchmarks/physics/host.json: measured on another machine; run *"),
        ("{", "passed over: .benchmarks/physics/host.json: not a file of python -m ci.physics host *"),
    ):  # fmt: skip
        file.write_text(text)
        result = planned(project, *asked)
        assert result.ret == 0
        result.stdout.fnmatch_lines([told])


def test_a_plan_goes_by_the_rounds_and_histories_of_here(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the calls take about twice the time; a history in the storage counts."""
    here = {"label": "1xcpu", "device": "cpu", "devices": 1, "reported_name": "A", "cores": 2}
    monkeypatch.setattr("fixtures.host.machine.report", lambda: here)
    monkeypatch.setattr("fixtures.host.machine.detect", lambda: _machine(16 * 10**9))
    ours = case(Point(1, 128, 32))
    folder = project.mkdir(".benchmarks") / "here"
    folder.mkdir()
    record = {**json.loads(json.dumps(RECORD)), "case": ours.as_dict()}
    record["limits"]["peaks"]["measured"] = {"flops_per_s": 4e11, "bandwidth_bytes_per_s": 3e10}
    (folder / "0001_x.json").write_text(
        json.dumps({"machine_info": {}, "benchmarks": [{"extra_info": record}]})
    )
    chosen = ("-k", "mpt125m and 1xcpu and b1-in128")
    result = planned(project, *chosen, "--rounds=7", "--warmup-rounds=1")
    total = 3 + (8 * bound_s(ours) + bound_s(ours, 8)) / 0.5
    result.stdout.fnmatch_lines(
        [
            f"expected: {round(total)} s for 1 of 1 cases",
            "efficiency: past histories of this machine, medians of the case itself (1)",
            "peaks of the bound: measured, medians of past histories",
        ]
    )
    result = planned(project, *chosen, "--rounds=auto", "--warmup-rounds=2")
    result.stdout.fnmatch_lines([f"expected: {round(total)} s *", "rounds: auto takes at least 6; *"])
    (folder / "0002_x.json").write_text('{"benchmarks": [')
    result = planned(project, *chosen, "--rounds=7", "--warmup-rounds=1")
    result.stdout.fnmatch_lines(
        [
            f"expected: {round(total)} s for 1 of 1 cases",
            "passed over: .benchmarks/here/0002_x.json: not a history: it is not JSON: *",
        ]
    )


def _machine(memory_bytes: int) -> Machine:
    """Two cores, and so much memory."""
    return Machine(replace(CPU, memory_bytes=memory_bytes), 1, 2)


def test_what_cannot_be_run_is_not_in_the_table(project: pytest.Pytester, fake: type[FakeEngine]) -> None:
    """It is counted by its reason; a model without counts has its row."""
    suite = write_suite(project.path, "m", batch_sizes=[1, 2], engines=["hf", "hf_tp"])
    result = planned(project, "--suite", suite)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["not in the total, without stored counts: m (2)", "skipped: * (2)"])


@pytest.mark.slow
def test_ten_thousand_cases_are_planned_in_seconds(tmp_path: Path) -> None:
    """In a process of its own, the start of pytest included."""
    numbers = list(range(1, 101))
    sweep = {"name": "s", "batch_sizes": numbers, "input_lengths": numbers, "output_lengths": [100]}
    suite = {"models": ["mpt125m"], "hardware": ["1xa100_80gb"], "sweeps": [sweep]}
    (tmp_path / "many.yaml").write_text(json.dumps(suite))
    command = [sys.executable, "-P", "-m", "pytest", "benchmarks/test_generate.py", "--plan", "--suite"]
    before = _children_s()
    done = subprocess.run(
        [*command, str(tmp_path / "many.yaml"), "--hardware", "1xa100_80gb"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert " for 10000 of 10000 cases" in done.stdout
    assert _children_s() - before < 30


def _children_s() -> float:
    """CPU seconds of the processes that have ended: other work on this machine does not count."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
