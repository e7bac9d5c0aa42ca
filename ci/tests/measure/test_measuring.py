"""The measuring protocol, with an engine of known law."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from typing import Any

import pytest
from pytest_benchmark.stats import Metadata

from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import STEP_S, FakeEngine, Law
from fixtures import engines
from fixtures.core.cost.bounds import Cache, Work

pytest_plugins = ["pytester"]

Fake = type[FakeEngine]


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest on the benchmarks of the project."""
    return project.runpytest("benchmarks", "--benchmark-only", *arguments)


def only_record(project: pytest.Pytester) -> dict[str, Any]:
    """The one benchmark of the one history."""
    (history,) = histories(project.path)
    (bench,) = history["benchmarks"]
    assert isinstance(bench, dict)
    return bench


def test_a_case_is_checked_warmed_up_and_timed_in_that_order(project: pytest.Pytester, fake: Fake) -> None:
    """One check, then the warm-up and timed rounds, each between two synchronisations, each verified."""
    suite = write_suite(project.path, "m", rounds=3, warmup_rounds=2)
    run(project, "--suite", suite).assert_outcomes(passed=1)
    steps = [entry[0] for entry in fake.log]
    before = ["load", "count", "reset_peak_memory", "prepare", "check", "watch"]
    one_round = ["synchronize", "generate", "synchronize", "verify"]
    assert steps == before + one_round * 5 + ["close"]


@pytest.mark.parametrize(
    ("arguments", "rounds", "warmup_rounds"),
    [((), 5, 3), (("--rounds", "2"), 2, 3), (("--rounds=1", "--warmup-rounds=0"), 1, 0)],
)
def test_rounds_are_as_asked(
    project: pytest.Pytester, fake: Fake, arguments: tuple[str, ...], rounds: int, warmup_rounds: int
) -> None:
    """Five after three where nothing is said; the history has that many raw values."""
    run(project, "--suite", write_suite(project.path, "m"), *arguments)
    bench = only_record(project)
    assert len(bench["stats"]["data"]) == rounds
    assert len(bench["extra_info"]["warmup_s"]) == warmup_rounds
    assert [entry[0] for entry in fake.log].count("generate") == rounds + warmup_rounds
    expected = {"rounds": rounds, "warmup_rounds": warmup_rounds, "seed": 17}
    assert bench["extra_info"]["protocol"] == expected


def test_the_time_is_that_of_the_law(project: pytest.Pytester, fake: Fake) -> None:
    """Thirty tokens of a scripted millisecond, in every round."""
    run(project, "--suite", write_suite(project.path, "m", output_lengths=[30]))
    assert only_record(project)["stats"]["data"] == pytest.approx([30 * STEP_S] * 5)


def test_pytest_benchmark_is_given_the_seconds_that_count(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit what the engine's clock has measured: nothing is timed beside it."""
    given: list[float] = []
    update: Any = Metadata.update

    def note(stats: Any, seconds: float) -> None:
        given.append(seconds)
        update(stats, seconds)

    monkeypatch.setattr(Metadata, "update", note)
    fake.law = Law(factor=lambda call: 1 + call / 7)
    run(project, "--suite", write_suite(project.path, "m", output_lengths=[30]))
    assert given == only_record(project)["stats"]["data"]
    assert given == pytest.approx([30 * STEP_S * (1 + call / 7) for call in range(3, 8)])


def test_the_record_has_the_case_and_the_metrics(project: pytest.Pytester, fake: Fake) -> None:
    """Mean, median, tokens/s and ms per token follow from the raw rounds by their definitions."""
    suite = write_suite(project.path, "m", batch_sizes=[3], input_lengths=[7], output_lengths=[5])
    run(project, "--suite", suite)
    bench = only_record(project)
    record, data = bench["extra_info"], bench["stats"]["data"]
    mean = sum(data) / len(data)
    assert record["record_version"] == 5
    assert record["latency_mean_s"] == pytest.approx(mean)
    assert record["latency_median_s"] == pytest.approx(statistics.median(data))
    assert record["output_tokens_per_s"] == pytest.approx(3 * 5 / mean)
    assert record["ms_per_output_token"] == pytest.approx(mean * 1000 / 5)
    assert record["peak_memory_bytes"] == 1234
    assert record["parameters"] == 10
    assert record["cuda"] == "seed 17"  # what the engine says of its load
    assert record["sweeps"] == ["small"]
    case = record["case"]
    assert (case["batch_size"], case["input_len"], case["output_len"]) == (3, 7, 5)
    assert case["model"]["architecture"] == {"model_type": "mamba"}
    assert bench["name"] == f"test_generate[{case['id']}]"
    assert bench["params"]["case"] == case["id"]
    assert set(record["versions"]) >= {"torch", "transformers", "deepspeed"}
    assert record["machine"]["label"] == case["hardware"]


def test_models_load_once_and_are_gone_before_the_next(project: pytest.Pytester, fake: Fake) -> None:
    """Two models of two engines: four loads, and no other model alive at any of them."""
    suite = write_suite(project.path, "a", "b", engines=["hf", "hf_eager"], batch_sizes=[1, 2, 3])
    run(project, "--suite", suite, "--rounds=1", "--warmup-rounds=0").assert_outcomes(passed=12)
    loads = [entry for entry in fake.log if entry[0] == "load"]
    keys = [entry[1].split("-") for entry in loads]
    assert [(key[0], key[2]) for key in keys] == list(itertools.product("ab", ["hf", "hf_eager"]))
    assert [entry[2] for entry in loads] == [0, 0, 0, 0]
    assert len(fake.weights) == 4
    assert all(ref() is None for ref in fake.weights)


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
@pytest.mark.parametrize("bad", ["crashes", "forgets", "no_room_for_four", "ignores_the_cache"])
def test_a_model_is_gone_after_a_failed_case_too(faked: pytest.Pytester, bad: str) -> None:
    """Whatever goes wrong in the last case of a model, the next model loads into an empty device.

    In a process of its own: what records the calls of a pytest within pytest keeps every traceback.
    """
    suite = write_suite(faked.path, bad, "good", batch_sizes=[1, 4])
    result = faked.runpytest_subprocess("benchmarks", "--benchmark-only", "--suite", suite)
    log = json.loads((faked.path / "log.json").read_text())
    assert [entry[2] for entry in log if entry[0] == "load"] == [0, 0]
    assert result.parseoutcomes()["passed"] >= 2


@pytest.mark.parametrize("bad", ["crashes", "forgets", "forgets_at_the_end", "ignores_the_cache"])
def test_a_case_that_fails_has_no_number(project: pytest.Pytester, fake: Fake, bad: str) -> None:
    """A failed case is red, and the history holds the good one alone."""
    result = run(project, "--suite", write_suite(project.path, bad, "good"))
    result.assert_outcomes(passed=1, failed=1)
    bench = only_record(project)
    assert bench["extra_info"]["case"]["model"]["name"] == "good"


def test_wrong_work_is_named(project: pytest.Pytester, fake: Fake) -> None:
    """The failure says which case, and what came back instead."""
    result = run(project, "--suite", write_suite(project.path, "forgets"))
    result.stdout.fnmatch_lines(["*forgets-1x*-hf-b1-in4-out2 did not do the work*(1, 5) tokens came back*"])


def test_out_of_memory_is_an_outcome(project: pytest.Pytester, fake: Fake) -> None:
    """The case is skipped with its reason, stands in the table, and the cases after it run."""
    suite = write_suite(project.path, "no_room_for_four", "good", batch_sizes=[2, 4])
    result = run(project, "--suite", suite, "-rs")
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines(
        ["*1x* hf *4 *4 *2 *out of memory*", "*SKIPPED*out of memory: no room for 4*"]
    )
    (history,) = histories(project.path)
    assert len(history["benchmarks"]) == 3
    assert [one["sweeps"] for one in history["outcomes"]] == [["small"]]


def test_no_room_for_a_model_skips_its_cases(project: pytest.Pytester, fake: Fake) -> None:
    """The model is tried once, its cases are skipped, and the next model loads."""
    suite = write_suite(project.path, "no_room", "good", batch_sizes=[1, 2])
    run(project, "--suite", suite).assert_outcomes(passed=2, skipped=2)
    loads = [(entry[1].split("-")[0], entry[2]) for entry in fake.log if entry[0] == "load"]
    assert loads == [("no_room", 0), ("good", 0)]


def test_a_configuration_without_effect_fails_by_name(project: pytest.Pytester, fake: Fake) -> None:
    """Every case of that load is red with the reason, none has a number."""
    suite = write_suite(project.path, "fails_to_load", "good", batch_sizes=[1, 2])
    result = run(project, "--suite", suite)
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*attention 'sdpa' was asked for, 'eager' is used*"])
    loads = [(entry[1].split("-")[0], entry[2]) for entry in fake.log if entry[0] == "load"]
    assert loads == [("fails_to_load", 0), ("good", 0)]


def test_an_engine_that_is_not_here_is_skipped_before_it_loads(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A skip with the reason, and no load."""
    suite = write_suite(project.path, "m", engines=["deepspeed"])
    monkeypatch.setattr(engines, "is_installed", lambda _name: False)
    result = run(project, "--suite", suite, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*SKIPPED*the engine kind 'deepspeed' needs deepspeed, which is not installed*"]
    )
    assert fake.log == []


def test_a_model_that_cannot_be_split_is_skipped_before_it_loads(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names what stands in the way, and what works instead."""
    monkeypatch.setattr(engines, "is_installed", lambda _name: True)
    suite = write_suite(
        project.path, "m", models=["falcon7b"], hardware=["2xcpu"], engines=["deepspeed", "hf"]
    )
    result = run(project, "--suite", suite, "-rs", "--hardware", "2xcpu")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*SKIPPED*falcon7b has 1 key-value head, which deepspeed cannot split over 2; hf on one*works*",
            "*SKIPPED*the engine kind 'hf' runs on one device, and no engine splits falcon7b over 2*",
        ]
    )
    assert fake.log == []


def test_without_benchmarking_the_work_is_still_done(project: pytest.Pytester, fake: Fake) -> None:
    """--benchmark-disable runs each case once, checked, and saves nothing."""
    suite = write_suite(project.path, "m")
    project.runpytest("benchmarks", "--benchmark-disable", "--suite", suite).assert_outcomes(passed=1)
    assert [entry[0] for entry in fake.log].count("generate") == 1
    assert histories(project.path) == []


def test_a_time_limit_skips_what_would_come_later(project: pytest.Pytester, fake: Fake) -> None:
    """After the limit no case starts; those before it are in the history."""
    suite = write_suite(project.path, "takes_its_time", batch_sizes=[1, 2, 3, 4], rounds=4)
    result = run(project, "--suite", suite, "--minutes", "0.02", "-rs")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] + outcomes["skipped"] == 4
    assert outcomes["passed"] >= 1
    result.stdout.fnmatch_lines(["*SKIPPED*left out for time (minutes: 0.02)*"])
    (history,) = histories(project.path)
    assert len(history["benchmarks"]) == outcomes["passed"]


def test_the_table_has_a_row_a_case(project: pytest.Pytester, fake: Fake) -> None:
    """Units stand in the heading, the model over its rows, and pytest-benchmark's own table is not there."""
    suite = write_suite(project.path, "a", "b", batch_sizes=[1, 2])
    result = run(project, "--suite", suite)
    text = result.stdout.str()
    assert "latency s" in text
    assert "Legend:" not in text
    table = text[text.index("latency s") :].splitlines()
    assert table[2] == "a"
    assert table[5] == "b"
    result.stdout.fnmatch_lines(["history: .benchmarks/*.json"])


def test_histories_are_read_by_pytest_benchmark(project: pytest.Pytester, fake: Fake) -> None:
    """`pytest-benchmark compare` takes two runs; --benchmark-compare shows its own table again."""
    suite = write_suite(project.path, "m")
    for _ in range(2):
        run(project, "--suite", suite)
    done = project.run(sys.executable, "-m", "pytest_benchmark", "compare", "0001", "0002")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*test_generate*m-1x*b1-in4-out2*"])
    compared = run(project, "--suite", suite, "--benchmark-compare")
    compared.stdout.fnmatch_lines(["*Name (time in*"])


def test_histories_stay_in_the_project_whatever_the_folder(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started from elsewhere, the run is saved beside the project all the same."""
    suite = write_suite(project.path, "m")
    elsewhere = project.mkdir("elsewhere")
    monkeypatch.chdir(elsewhere)
    project.runpytest(
        "-c", str(project.path / "pytest.ini"), "--rootdir", str(project.path),
        str(project.path / "benchmarks"), "--benchmark-only", "--suite", str(project.path / suite),
    ).assert_outcomes(passed=1)  # fmt: skip
    assert len(histories(project.path)) == 1
    assert not (elsewhere / ".benchmarks").exists()


GPU_WORK = Work(0.0, 1e9, 0.0, 10**9, (Cache(10, 1000),))  # FLOPs a token, bytes a step
SLOW_GPU = {"bfloat16_flops_per_s": 1e12, "read_bytes_per_s": 1e12, "copy_bytes_per_s": 0.5e12}


def test_a_case_is_held_against_the_peaks_measured_beside_it(project: pytest.Pytester, fake: Fake) -> None:
    """Prefill: 10 tokens x 1 GFLOP / 1 TFLOP/s = 10 ms of 20; 3 steps of 1 GB / 1 TB/s = 1 ms of 2 each."""
    fake.work, fake.peaks[:] = GPU_WORK, [SLOW_GPU]
    fake.law = Law(prefill_s=0.02, token_s=0.002)
    suite = write_suite(project.path, "m", input_lengths=[10], output_lengths=[4])
    result = run(project, "--suite", suite, "--tables", "limits")
    record = only_record(project)["extra_info"]
    limits = record["limits"]
    cache = 10 * 1000 * 11  # of 10, 11 and 12 tokens, 11 in the mean
    assert limits["prefill_flops"] == 1e10
    assert limits["step_bytes"] == 1e9 + cache
    assert limits["prefill_bound_s"] == pytest.approx(0.01)
    assert limits["decode_bound_s"] == pytest.approx(3 * (1e9 + cache) / 1e12)
    assert (limits["prefill_by"], limits["decode_by"]) == ("arithmetic", "bandwidth")
    assert limits["of_bound"] == pytest.approx(limits["bound_s"] / 0.026)
    assert limits["mfu"] == pytest.approx(0.5)
    assert limits["mbu"] == pytest.approx(0.5, rel=1e-3)
    assert ("measure_peaks", 10**9) in fake.log
    result.stdout.fnmatch_lines(["*0.0130*50.0 *arithmetic / bandwidth*50.0 %*50.0 %*"])


@pytest.mark.parametrize(
    ("law", "named"),
    [
        (
            Law(prefill_s=0.009, token_s=0.002),
            "*prefill in 0.009 s is impossible: its arithmetic bound*0.01 s (MFU 111 %)*",
        ),
        (
            Law(prefill_s=0.02, token_s=0.0009),
            "*decode in 0.0027 s is impossible: its bandwidth bound*0.003 s (MBU 111 %)*",
        ),
    ],
)
def test_a_result_faster_than_physics_fails_by_the_name_of_its_bound(
    project: pytest.Pytester, fake: Fake, law: Law, named: str
) -> None:
    """10 % under the bound, the peaks measured three times more; no number is left of it."""
    fake.work, fake.peaks[:], fake.law = GPU_WORK, [SLOW_GPU], law
    result = run(project, "--suite", write_suite(project.path, "m", input_lengths=[10], output_lengths=[4]))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([named])
    assert [entry[0] for entry in fake.log].count("measure_peaks") == 1 + 3
    assert histories(project.path)[0]["benchmarks"] == []


def test_peaks_measured_in_a_bad_moment_are_measured_again(project: pytest.Pytester, fake: Fake) -> None:
    """The second measurement allows what the first did not, and is what stands in the record."""
    fake.work, fake.law = GPU_WORK, Law(prefill_s=0.02, token_s=0.0009)
    fake.peaks[:] = [SLOW_GPU, {**SLOW_GPU, "copy_bytes_per_s": 2e12, "bfloat16_flops_per_s": 2e12}]
    run(project, "--suite", write_suite(project.path, "m", output_lengths=[4])).assert_outcomes(passed=1)
    measured = only_record(project)["extra_info"]["limits"]["peaks"]["measured"]
    assert measured == {"flops_per_s": 2e12, "bandwidth_bytes_per_s": 2e12}


def test_one_line_under_the_tables_says_what_an_emulated_dtype_costs(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cases in bf16 at 10 GFLOP/s where fp32 makes 100, of which the bound is; it is in each record."""
    monkeypatch.setattr("fixtures.host.machine._processor", lambda: ("X (AVX2)", "AVX2"))
    rates = {"bfloat16_flops_per_s": 1e10, "float32_flops_per_s": 1e11}
    fake.work, fake.law = GPU_WORK, Law(prefill_s=2.0, token_s=0.02)
    fake.peaks[:] = [{**rates, "read_bytes_per_s": 1e12, "copy_bytes_per_s": 1e12}]
    suite = write_suite(project.path, "m", input_lengths=[10], output_lengths=[4], batch_sizes=[1, 2])
    result = run(project, "--suite", suite)
    lines = [line for line in result.outlines if line.startswith("bf16 ")]
    assert lines == [
        "bf16 is emulated on this CPU (AVX2): its products reach 10.0 GFLOP/s where fp32 makes 100; cases in "
        "fp32 (engine hf_fp32) show what it can do"
    ]
    for bench in histories(project.path)[0]["benchmarks"]:
        record = bench["extra_info"]
        batch = record["case"]["batch_size"]
        assert record["limits"]["prefill_bound_s"] == pytest.approx(batch * 10 * 1e9 / 1e11)
        assert record["limits"]["peaks"]["emulated"] == lines[0]
        assert record["machine"]["reported_name"] == "X (AVX2)"


def test_within_the_error_of_the_peaks_nothing_is_impossible(project: pytest.Pytester, fake: Fake) -> None:
    """4 % under the bound."""
    fake.work, fake.peaks[:], fake.law = GPU_WORK, [SLOW_GPU], Law(prefill_s=0.02, token_s=0.00096)
    run(project, "--suite", write_suite(project.path, "m", output_lengths=[4])).assert_outcomes(passed=1)


def test_without_a_count_there_is_no_bound(project: pytest.Pytester, fake: Fake) -> None:
    """No figure, no table, no failure."""
    fake.peaks[:] = [SLOW_GPU]
    result = run(project, "--suite", write_suite(project.path, "m"), "--tables", "limits")
    assert only_record(project)["extra_info"]["limits"]["bound_s"] is None
    assert "bound s" not in result.stdout.str()


def test_disturbed_rounds_are_taken_again_and_count_if_they_are_better(
    project: pytest.Pytester, fake: Fake
) -> None:
    """Others use half a core in timed rounds 2 and 3, and take twice as long then: both are gone."""
    disturbed = {3 + 1, 3 + 2}  # after three to warm up
    fake.law = Law(
        prefill_s=0.5, factor=lambda call: 2.0 if call in disturbed else 1.0,
        others=lambda call: 0.5 if call in disturbed else 0.0,
    )  # fmt: skip
    run(project, "--suite", write_suite(project.path, "m", output_lengths=[1])).assert_outcomes(passed=1)
    bench = only_record(project)
    record = bench["extra_info"]
    assert bench["stats"]["data"] == pytest.approx([0.5] * 5)
    assert bench["stats"]["max"] == pytest.approx(0.5)
    assert record["state"]["discarded_s"] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.5])
    assert record["state"]["disturbed"] == [[]] * 5
    assert record["marks"] == []
    assert [entry[0] for entry in fake.log].count("generate") == 3 + 5 + 5


def test_what_does_not_clear_stays_marked(project: pytest.Pytester, fake: Fake) -> None:
    """Throttled and contended for good: after two pauses no more, and each kind has its mark."""
    fake.law = Law(
        prefill_s=0.5, others=lambda _call: 0.25, reasons=lambda _call: ("hw_thermal_slowdown", "gpu_idle")
    )
    result = run(project, "--suite", write_suite(project.path, "m", output_lengths=[1]))
    record = only_record(project)["extra_info"]
    assert record["marks"] == [
        "5 of 5 rounds disturbed, taken again: contention: other processes used 0.25 cores",
        "5 of 5 rounds disturbed, taken again after 0 s of pause: throttling: GPU 0: hw_thermal_slowdown",
    ]
    assert [entry[0] for entry in fake.log].count("generate") == 3 + 5 + 2 * (1 + 5)
    result.stdout.fnmatch_lines(["MARKED *5 of 5 rounds disturbed*0.25 cores*"])


@pytest.mark.parametrize(
    ("law", "marked"),
    [
        # a power cap comes of the work: taking it again would not help
        (Law(prefill_s=0.5, reasons=lambda _call: ("sw_power_cap",)), 1),
        # more than a minute of rounds is not spent twice
        (Law(prefill_s=13.0, others=lambda _call: 0.5), 1),
        (Law(prefill_s=0.5, reasons=lambda _call: ("gpu_idle",)), 0),
    ],
)
def test_rounds_are_not_taken_again_in_vain(
    project: pytest.Pytester, fake: Fake, law: Law, marked: int
) -> None:
    """Marked where there is something to say, and measured once."""
    fake.law = law
    run(project, "--suite", write_suite(project.path, "m", output_lengths=[1]))
    record = only_record(project)["extra_info"]
    assert record["state"]["discarded_s"] == []
    assert len(record["marks"]) == marked
    assert [entry[0] for entry in fake.log].count("generate") == 3 + 5


def test_auto_takes_its_disturbed_rounds_again_too(project: pytest.Pytester, fake: Fake) -> None:
    """Six rounds that are alike are enough, twice."""
    fake.law = Law(prefill_s=0.5, others=lambda call: 0.5 if call == 5 else 0.0)
    suite = write_suite(project.path, "m", output_lengths=[1])
    run(project, "--suite", suite, "--rounds", "auto").assert_outcomes(passed=1)
    bench = only_record(project)
    assert len(bench["stats"]["data"]) == 6
    assert bench["extra_info"]["stopped_by"] == "precision"
    assert [entry[0] for entry in fake.log].count("generate") == 3 + 6 + 6


def test_joules_are_those_of_the_timed_rounds(project: pytest.Pytester, fake: Fake) -> None:
    """100 W for 5 rounds of 0.5 s: 50 J a call of 2 x 5 tokens."""
    fake.law = Law(prefill_s=0.1, token_s=0.1, watts=100.0)
    run(project, "--suite", write_suite(project.path, "m", batch_sizes=[2], output_lengths=[5]))
    record = only_record(project)["extra_info"]
    assert record["joules_per_output_token"] == pytest.approx(5.0)
    assert record["state"]["neighbours"] == [{"name": "neighbour", "cores": 0.5}]


def test_a_model_is_counted_once_a_session(project: pytest.Pytester, fake: Fake) -> None:
    """Loaded twice for one engine; others have another dtype, so other bytes, or hold no cache."""
    engines = ["hf", "hf_nocache", "hf_fp32"]
    sweeps = write_suite(project.path, "m", "crashes", engines=engines, rounds=1)
    run(project, "--suite", sweeps)
    assert [entry[0] for entry in fake.log].count("load") == 6
    assert [entry[0] for entry in fake.log].count("count") == 3
