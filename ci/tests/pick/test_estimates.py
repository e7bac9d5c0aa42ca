"""Which hardware without a measurement: classes, intervals, what is new, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from ci.pick.__main__ import main
from ci.pick.estimates import look, machines, most_sequences, needed_bytes
from ci.pick.estimator import Estimator
from ci.pick.rows import ESTIMATED, MAY, MEETS, NOT, Found, Question, Row
from ci.report.read.cases import engine_of
from ci.report.read.samples import Sample, curves, newest, read_samples
from ci.tests.conftest import ROOT
from fixtures.core.cost.bounds import Cache, Work
from fixtures.core.cost.footprint import Footprint, Instant, Pass, Terms
from fixtures.core.cost.memory import GPU_MARGIN_BYTES
from fixtures.core.cost.stored_counts import Counts, find_counts
from fixtures.core.estimate.estimate import Estimate, Refused, estimate
from fixtures.core.estimate.host_time import HostTime
from fixtures.core.estimate.physics import NEVER_SEEN, read_physics
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point

PUBLISHED = ROOT / "ci" / "baselines" / "published"
SAMPLES = newest(read_samples([PUBLISHED]))
EAGER = EngineSpec("hf_eager", attention="eager")
SPLIT = EngineSpec("deepspeed", "deepspeed")


def case(name: str = "mpt7b", n: int = 1, device: str = "a100_80gb", engine: EngineSpec = EAGER, b: int = 4,
         first: int = 512, last: int = 64) -> Case:  # fmt: skip
    """A case of the library."""
    return Case(library.model(name), library.hardware(device), n, engine, Point(b, first, last))


def found(
    question: Question,
    *labels: tuple[int, str],
    model: str = "mpt7b",
    lengths: tuple[int, int] = (512, 64),
    samples: Sequence[Sample] = SAMPLES,
) -> Found:
    """The rows of these machines."""
    here = [
        one for one in curves(samples) if one.model == model and (one.input_len, one.output_len) == lengths
    ]
    on = [(n, library.hardware(device)) for n, device in labels]
    return look(question, library.model(model), lengths, on, (), here, Estimator(samples), {})


def only(rows: Sequence[Row], estimated: bool = True) -> Row:
    """The one row of that kind."""
    (row,) = [row for row in rows if (row.estimate is not None) is estimated]
    return row


def test_a_published_batch_is_estimated_near_what_was_measured() -> None:
    """By an estimator that was not told of it; its interval holds it."""
    measured = {one.case_id: one.latency_s for one in SAMPLES}
    without = Estimator([one for one in SAMPLES if one.point.batch_size != 16])
    for n, engine in ((1, EAGER), (4, SPLIT)):
        asked = case(n=n, engine=engine, b=16)
        expected = without.of(asked)
        assert isinstance(expected, Estimate)
        assert expected.novelty == "other batch"
        seconds = measured[asked.id]
        assert seconds is not None
        assert expected.latency_s == pytest.approx(seconds, rel=0.12)
        assert expected.low_s <= seconds <= expected.high_s
        assert expected.ttft_s + 63 * (expected.tpot_s or 0) == pytest.approx(expected.latency_s)


@pytest.mark.parametrize(
    ("asked", "novelty"),
    [
        (case(b=3), "other batch"),
        (case(first=100), "other lengths"),
        (case(name="llama31_8b"), "other model"),
        (case(n=8, engine=SPLIT), "other count"),
        (case(name="llama31_70b", n=8, engine=SPLIT, first=9), "other count, other model, other lengths"),
        (case(device="h100_80gb"), NEVER_SEEN),
    ],
)
def test_what_is_new_is_told_and_widens_the_interval(asked: Case, novelty: str) -> None:
    """The widest of what applies; a machine never seen by the spread between machines."""
    expected = Estimator(SAMPLES).of(asked)
    assert isinstance(expected, Estimate)
    assert expected.novelty == novelty
    physics = read_physics(asked.engine.kind, "gpu")
    assert physics is not None
    if novelty == NEVER_SEEN:
        assert expected.half_width > physics.half_width["other model"]
    else:
        assert expected.half_width == max(physics.half_width[one] for one in novelty.split(", "))
    assert expected.bound_s <= expected.low_s < expected.latency_s < expected.high_s


def test_points_of_a_machine_give_its_factors() -> None:
    """Measured twice as slow as the formula has them: so is its next estimate, and narrower."""
    truth = Estimator(SAMPLES)
    one = next(one for one in SAMPLES if one.engine == "hf_eager" and one.model == "mpt7b")
    points = []
    for batch, first, last in ((1, 128, 64), (64, 512, 64), (8, 2048, 1)):
        at = truth.of(case(device="h100_80gb", b=batch, first=first, last=last))
        assert isinstance(at, Estimate)
        points.append(
            replace(one, device="h100_80gb", source="measured", point=Point(batch, first, last),
                    latency_s=2 * at.latency_s)
        )  # fmt: skip
    asked = case(device="h100_80gb", b=2)
    before, after = Estimator(SAMPLES).of(asked), Estimator([*SAMPLES, *points]).of(asked)
    assert isinstance(before, Estimate)
    assert isinstance(after, Estimate)
    assert before.novelty == NEVER_SEEN
    assert after.novelty == "other batch"
    assert after.half_width < before.half_width
    assert after.latency_s == pytest.approx(2 * before.latency_s, rel=0.25)


def test_a_measured_engine_keeps_its_routing_and_its_pieces() -> None:
    """As its record has them; a record that is silent has a router of random weights, and one piece."""
    one = SAMPLES[0]
    assert (engine_of(one).routing, engine_of(one).prefill_chunk) == ("random", None)
    engine = structs.replace(one.record.case.engine, routing="uniform", prefill_chunk=512)
    own = structs.replace(one.record, case=structs.replace(one.record.case, engine=engine))
    found = engine_of(replace(one, engine="hf_uniform_chunk512", record=own))
    assert (found.name, found.routing, found.prefill_chunk) == ("hf_uniform_chunk512", "uniform", 512)


def test_a_case_in_pieces_needs_the_memory_of_its_pieces() -> None:
    """By hand: 2 sequences of 10 tokens, 3 bytes a token beside 5 of cache, with 1000 of weights.

    In one piece 2 * 10 * (5 + 3); of pieces of 4 the last whole one has 8 tokens in the cache and 4 of its
    own, the last one 10 and 2.
    """
    prefill = Pass((Instant(Terms(bt=3), Terms()),))
    footprint = Footprint(1000, 0, False, (Cache(1, 5),), prefill, Pass((Instant(Terms(), Terms()),)))
    counts = Counts(Work(1.0, 1.0, 1.0, 1, footprint.caches), footprint=footprint)
    whole = replace(case(), point=Point(1, 9, 1))
    in_pieces = replace(whole, engine=EngineSpec("hf_chunk4", prefill_chunk=4))
    needed = [
        needed_bytes(one, Point(2, 10, 1), counts) - GPU_MARGIN_BYTES - 1000 for one in (whole, in_pieces)
    ]
    assert needed == [2 * 10 * (5 + 3), max(2 * (8 * 5 + 4 * 3), 2 * (10 * 5 + 2 * 3))]


def test_a_case_in_pieces_is_estimated_in_pieces() -> None:
    """Its first token waits for 128 passes of the host, as 128 steps do; and more sequences fit."""
    asked = case("llama31_8b", engine=EngineSpec("hf"), first=2048, b=1)
    pieces = replace(asked, engine=EngineSpec("hf_chunk16", prefill_chunk=16))
    estimator = Estimator(SAMPLES)
    whole, found = estimator.of(asked), estimator.of(pieces)
    assert isinstance(whole, Estimate)
    assert isinstance(found, Estimate)
    step_s = whole.tpot_s or 0
    assert found.ttft_s == pytest.approx(2048 / 16 * step_s, rel=0.2)  # bound by operators, as steps are
    assert found.tpot_s == whole.tpot_s
    fits = [most_sequences(one, estimator) or 0 for one in (asked, pieces)]
    assert fits[0] < fits[1]


def test_peaks_are_of_the_dtype_that_the_engine_multiplies_in() -> None:
    """A T4 has them of fp16 alone: as a device that states the same rate of bf16, for an engine in bf16."""
    t4, half = library.hardware("t4"), EngineSpec("hf_fp16", dtype="float16")
    alike = replace(t4, peak_bf16_flops=t4.peak_fp16_flops, peak_fp16_flops=None)
    found = [
        Estimator(SAMPLES).of(replace(case("qwen3_0_6b", engine=engine), hardware=hardware))
        for engine, hardware in ((half, t4), (EngineSpec("hf"), alike))
    ]
    assert all(isinstance(one, Estimate) for one in found)
    assert found[0] == found[1]


REFUSED = [
    (case(device="t4"), "device t4: no datasheet peaks of bfloat16 are known, but of float16"),
    (case(engine=EngineSpec("vllm", "vllm")), "engine vllm: nothing was fitted of kind vllm"),
    (case(engine=EngineSpec("hf_fp32", dtype="float32")), "engine hf_fp32: float32 is in no fit"),
    (case(engine=EngineSpec("hf_nocache", use_cache=False)), "calls without a cache are in no fit"),
    (case(n=2, device="mi300x", engine=SPLIT), "mi300x: no bandwidth of its link is known, so several"),
    (case(first=2048 * 16 + 1), "input of 32769 tokens: beyond 16 times the longest fitted, 2048"),
    (case(last=1001 * 16 + 1), "output of 16017 tokens: beyond 16 times the longest fitted, 1001"),
    (case(engine=EngineSpec("hf_uniform", routing="uniform")), "hf_uniform: mpt7b has no experts that a"),
    (replace(case(), hardware=HardwareSpec("own", "gpu")), "device own: no datasheet peaks are known"),
    (replace(case(), model=ModelSpec("own", {"model_type": "llama"})), "model own: no counts of it"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "reason"), REFUSED, ids=[reason[:30] for _, reason in REFUSED])
def test_what_no_fit_has_is_refused_by_name(asked: Case, reason: str) -> None:
    """Rather than estimated by parameters of something else."""
    expected = Estimator(SAMPLES).of(asked)
    assert isinstance(expected, Refused)
    assert reason in expected.reason


def test_weights_and_operators_that_are_not_known_are_refused() -> None:
    """A quantised checkpoint, operators that nobody counted."""
    asked, counts = case(), find_counts(library.model("mpt7b"), EAGER)
    physics = read_physics("hf", "gpu")
    assert counts is not None
    known = Estimator(SAMPLES).known(asked, physics) if physics else None
    assert known is not None
    uncounted = estimate(asked, replace(counts, dispatch=None), physics, known)
    assert isinstance(uncounted, Refused)
    assert uncounted.reason == (
        "model mpt7b: its counts have no operators; python -m fixtures.engines.counting.recount counts them"
    )
    keys: Any = {**asked.model.architecture, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    quantised = replace(asked, model=ModelSpec("own", keys))
    expected = estimate(quantised, counts, physics, known)
    assert isinstance(expected, Refused)
    assert "model own: weights in" in expected.reason


def test_classes_follow_the_interval() -> None:
    """The upper end within: meets, estimated; the estimate alone: may meet, with what to measure."""
    at = only(found(Question(latency_s=1e9, batches=(3,)), (1, "h100_80gb")).rows)
    assert at.verdict == ESTIMATED
    for target, verdict in (
        (at.high_s * 1.001, ESTIMATED),
        (at.high_s * 0.999, MAY),
        (at.latency_s * 1.001, MAY),
        (at.latency_s * 0.999, NOT),
    ):
        row = only(found(Question(latency_s=target, batches=(3,)), (1, "h100_80gb")).rows)
        assert (row.verdict, row.latency_s) == (verdict, at.latency_s)
        commands = [
            "ci/bench --hardware 1xh100_80gb --model mpt7b --set engines=[hf] --set batch_sizes=[1,3] "
            "--set input_lengths=[512] --set output_lengths=[64]"
        ]
        assert list(row.measure) == (commands if verdict == MAY else [])
    tokens = at.point.batch_size * 64
    for asked, verdict in ((tokens / at.high_s, ESTIMATED), (tokens / at.latency_s, MAY)):
        row = only(found(Question(tokens_per_s=asked * 0.999, batches=(3,)), (1, "h100_80gb")).rows)
        assert row.verdict == verdict
    assert at.estimate is not None
    for key in ("ttft_s", "tpot_s"):
        figure = getattr(at, key)
        question = Question(**{key: figure * at.estimate.half_width * 1.001}, batches=(3,))
        assert only(found(question, (1, "h100_80gb")).rows).verdict == ESTIMATED
        assert (
            only(found(Question(**{key: figure * 1.001}, batches=(3,)), (1, "h100_80gb")).rows).verdict == MAY
        )


def test_measured_rows_come_first_and_are_not_estimated_again() -> None:
    """Six published curves meet 9 s; no estimate has a batch that a curve has, or a class above measured."""
    labels = [(n, f"a100_{size}gb") for n in (1, 2, 4) for size in (40, 80)]
    rows = found(Question(latency_s=9.0), *labels, (1, "h100_80gb")).rows
    assert [row.verdict for row in rows[:6]] == [MEETS] * 6
    assert all(row.estimate is None for row in rows[:6])
    taken = {(one.hardware, one.engine, one.point.batch_size) for one in SAMPLES if one.model == "mpt7b"
             and (one.point.input_len, one.point.output_len) == (512, 64)}  # fmt: skip
    assert len(rows) > 6
    for row in rows[6:]:
        assert row.estimate is not None
        assert (row.label, row.engine, row.point.batch_size) not in taken
    tight = found(Question(latency_s=1.73), *labels).rows
    assert {row.label for row in tight if row.verdict != MEETS} & {
        row.label for row in tight if row.verdict == MEETS
    } == set()


def test_the_best_whole_batch_is_found() -> None:
    """One more would not meet; by every whole batch."""
    target = Question(latency_s=3.0)
    row = only(found(target, (1, "h100_80gb")).rows)
    assert row.verdict == ESTIMATED
    beyond = tuple(range(1, row.point.batch_size + 2))
    every = [only(found(replace(target, batches=(b,)), (1, "h100_80gb")).rows) for b in beyond[-6:]]
    assert [one.verdict for one in every] == [ESTIMATED] * 5 + [MAY]
    least = only(found(Question(tokens_per_s=200.0), (1, "h100_80gb")).rows)
    below = Question(tokens_per_s=200.0, batches=(least.point.batch_size - 1,))
    assert least.verdict == ESTIMATED
    assert only(found(below, (1, "h100_80gb")).rows).verdict == MAY


def test_what_does_not_fit_is_told_and_what_ran_out_is_not_tried() -> None:
    """A model of 70B on one A100 40GB; where 16 ran out, 15 is the most that is tried."""
    refused = found(Question(), (1, "a100_40gb"), model="llama31_70b", lengths=(128, 32)).refused
    assert refused == (("1xa100_40gb hf", "one sequence does not fit its memory, as predicted"),)
    ran_out = [replace(one, latency_s=None) if one.point.batch_size >= 16 else one for one in SAMPLES]
    question = Question(latency_s=1e6)
    row = only(found(question, (1, "a100_80gb"), samples=ran_out).rows)
    assert row.point.batch_size == 15


HOLD_141_GB = ["b200", "b300", "gb200", "gb300", "h200_141gb", "mi300x", "mi325x", "mi355x"]


def test_fewest_devices_first() -> None:
    """Every machine that holds it, by its number; a price ranks by cost."""
    on = machines([], SAMPLES)
    rows = look(
        Question(rank="fewest"), library.model("llama31_70b"), (1000, 200), on, (), (), Estimator(SAMPLES), {}
    ).rows
    numbers = [row.devices for row in rows]
    assert numbers == sorted(numbers)
    assert {row.label for row in rows if row.devices == 1} == {f"1x{name}" for name in HOLD_141_GB}
    prices = {"a100_40gb": 9.0, "a100_80gb": 1.0}
    two = [(1, library.hardware(device)) for device in prices]
    question = Question(latency_s=60.0, rank="cost")
    dear = look(question, library.model("mpt7b"), (512, 65), two, (), (), Estimator(SAMPLES), prices).rows
    assert [row.label for row in dear] == ["1xa100_80gb", "1xa100_40gb"]
    first = dear[0]
    assert first.usd_per_million_tokens == pytest.approx(1.0 / 3600 / first.tokens_per_s * 1e6)


def ask(*arguments: str) -> int:
    """Of the published runs."""
    return main([str(PUBLISHED), "--estimate", *arguments])


def test_the_command_answers_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """The measured table unchanged, then estimates; exit code by the first two classes."""
    common = ["--model", "mpt7b", "--input", "512", "--output", "64", "--latency"]
    assert main([str(PUBLISHED), *common, "2s"]) == 0
    measured = capsys.readouterr().out
    assert ask(*common, "2s", "--hardware", "1xh100_80gb") == 0
    text = capsys.readouterr().out
    assert text.startswith(measured)
    assert "may meet:\n" in text
    assert ask(*common, "2s", "--hardware", "1xh100_80gb", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    row = next(row for row in values["rows"] if row["verdict"] == MAY)
    assert set(row["estimate"]) == {
        "latency_s", "low_s", "high_s", "level", "ttft_s", "tpot_s", "novelty", "set_by", "bound_s",
        "parameters_sha256",
    }  # fmt: skip
    assert len(values["answers"]) == 6
    assert ask("--model", "llama31_8b", "--input", "9", "--output", "9", "--tpot", "1ms") == 1
    assert "does not meet:\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tpot", "2"], "--tpot 2: write a time above zero with its unit"),
        ([], "a target is required: --latency or --throughput, --ttft, --tpot, --fewest-devices, "),
        (["--throughput", "9", "--tpot", "1s"], "--tpot is not allowed with --throughput: one target at"),
        (["--latency", "1s", "--hardware", "2xa101"], "no device is named 'a101'"),
        (["--latency", "1s", "--engine", "hv"], "no engine is named 'hv'"),
        (["--latency", "1s", "--batch", "1,x"], "--batch x: write whole numbers above zero"),
        (["--latency", "1s", "--input", "0"], "write tokens above zero"),
        (["--latency", "1s", "--model", "mpt7"], "--model mpt7: no run and not yamls/models has it"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 4."""
    assert ask("--model", "mpt7b", "--input", "512", "--output", "64", *arguments) == 4
    error = capsys.readouterr().err
    assert error.startswith("pick: ")
    assert told in error
    assert len(error.splitlines()) == 1


def test_a_measured_host_stands_for_one_that_was_not_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half the time an operator: a host-bound call takes about half, and its interval is narrower."""
    physics = read_physics("hf", "gpu")
    assert physics is not None
    asked = case(device="h100_80gb", b=1)
    before = Estimator(SAMPLES).of(asked)
    after = Estimator(SAMPLES, host=HostTime(physics.parameters.tau_s / 2, 0.05)).of(asked)
    assert isinstance(before, Estimate)
    assert isinstance(after, Estimate)
    assert after.latency_s == pytest.approx(before.latency_s / 2, rel=0.1)
    assert after.half_width < before.half_width
    known = case(b=3)
    assert Estimator(SAMPLES, host=HostTime(1.0, 0.05)).of(known) == Estimator(SAMPLES).of(known)
    common = ["--model", "mpt7b", "--input", "512", "--output", "64", "--latency", "9s", "--hardware", "1xl4"]
    for text in ("{", "{}", '{"tau_s": "x", "sd_ln": 1}'):
        (tmp_path / "host.json").write_text(text)
        assert ask(*common, "--host", str(tmp_path / "host.json")) == 4
        assert "host.json: " in capsys.readouterr().err
    (tmp_path / "host.json").write_text('{"tau_s": 5e-6, "sd_ln": 0.1}')
    assert ask(*common, "--host", str(tmp_path / "host.json")) in (0, 1)


def test_a_cpu_goes_by_the_one_that_was_measured_last() -> None:
    """Its peaks and its points, of two that differ; without any its peaks are not known."""
    samples = newest(read_samples([ROOT / "ci" / "histories" / "1xcpu"]))
    last = max(samples, key=lambda one: one.taken)
    estimator = Estimator(samples)
    assert len({one.kind for one in samples}) == 2
    assert {one.kind for one in estimator.of_device("cpu")} == {last.kind}
    asked = Case(library.model("mpt125m"), library.hardware("cpu"), 1, EngineSpec("hf"), Point(3, 128, 32))
    expected = estimator.of(asked)
    assert isinstance(expected, Estimate)
    assert expected.novelty == "other batch"
    points = Point(2, 128, 32), Point(4, 128, 32)
    named = [one for one in estimator.of_device("cpu") if (one.model, one.engine) == ("mpt125m", "hf")]
    around = [one.latency_s for one in named if one.point in points]
    assert len(around) == 2
    assert min(filter(None, around)) / 1.5 < expected.latency_s < max(filter(None, around)) * 1.5
    assert Estimator(()).of(asked) == Refused("device cpu: its peaks are not known")


def test_options_of_estimates_need_it(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    common = [str(PUBLISHED), "--model", "mpt7b", "--input", "512", "--output", "64"]
    for extra in (["--tpot", "1s"], ["--fewest-devices"], ["--hardware", "1xl4"]):
        assert main([*common, *extra]) == 4
        assert capsys.readouterr().err == f"pick: {extra[0]} needs --estimate\n"


def test_names_may_be_repeated_and_have_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    """Each machine and engine has one row, as where they are named once."""
    asked = ["--model", "mpt7b", "--input", "512", "--output", "64", "--tpot", "9s"]
    assert ask(*asked, "--hardware", "1xl4", "--engine", "hf,hf_eager") == 0
    once = capsys.readouterr().out
    assert ask(*asked, "--hardware", "1xl4, 1xl4", "--engine", "hf, hf_eager,hf") == 0
    assert capsys.readouterr().out == once


def test_a_model_of_ones_own_needs_its_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a folder; without them the refusal says how to make them."""
    source: Any = library.find("models", _node("llama125m")).plain()
    architecture = {**source["architecture"], "num_hidden_layers": 10}
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps({"architecture": architecture}))
    asked = ["--model", str(file), "--input", "64", "--output", "8", "--latency", "9s", "--hardware", "1xl4"]
    assert ask(*asked) == 1
    assert "fixtures.engines.counting.recount makes them" in capsys.readouterr().out
    from fixtures.core.cost.stored_counts import architecture_key

    counts = json.loads((ROOT / "yamls" / "counts" / "llama125m.json").read_text())
    counts["architecture"] = architecture_key(ModelSpec("mine", architecture))
    kept = tmp_path / "kept"
    older = {
        **counts,
        "variants": {name: {**of, "dispatch": None} for name, of in counts["variants"].items()},
    }
    for name, contents, code in (
        ("counted", counts, 0),
        ("older", older, 1),
        ("other", {**counts, "variants": {"auto_2_bytes": {"dispatch": {"ops": 1}}}}, 4),
        ("none", [], 4),
    ):
        (kept / name).mkdir(parents=True)
        (kept / name / "mine.json").write_text(json.dumps(contents))
        assert ask(*asked, "--counts", str(kept / name)) == code
        told = capsys.readouterr()
        assert ("meets, estimated:\n" in told.out) is (name == "counted")
        assert ("no operators; python -m fixtures.engines.counting.recount" in told.out) is (name == "older")
        assert told.err.startswith(f"pick: {kept / name / 'mine.json'}: " if code == 4 else "")
        assert len(told.err.splitlines()) == (code == 4)


def _node(name: str) -> Any:
    from fixtures.core.base.node import as_node

    return as_node(name, "")
