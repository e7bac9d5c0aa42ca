"""How far a machine goes under a target, what it costs, and options that combine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci.pick.__main__ import main
from ci.pick.estimates import measured_rows
from ci.pick.estimator import Estimator
from ci.pick.limits import CONTEXT, INPUT, MEMORY, REACH, SEQUENCES, Limit, find_limits
from ci.pick.rows import MEETS, Question, Row
from ci.report.read.samples import Curve, curves, newest, read_samples
from ci.tests.conftest import ROOT
from fixtures.core.cost.memory import predict, room_bytes
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.estimate.estimate import Estimate
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, Point

PUBLISHED = ROOT / "ci" / "baselines" / "published"
SAMPLES = newest(read_samples([PUBLISHED]))
HF = EngineSpec("hf")
ESTIMATOR = Estimator(SAMPLES)


def limit(
    what: str,
    question: Question,
    device: str = "a100_80gb",
    model: str = "llama31_8b",
    lengths: tuple[int, int] = (1000, 200),
    here: tuple[Curve, ...] = (),
) -> Limit:
    """Of one device."""
    on = [(1, library.hardware(device))]
    found = find_limits(what, question, library.model(model), lengths, on, (), here, ESTIMATOR)
    (only,) = found.limits
    return only


def high(what: str, question: Question, size: int, model: str = "llama31_8b") -> dict[str, float]:
    """Upper ends at a size of an A100 80GB, asked for directly."""
    point = Point(size, 1000, 200) if what == SEQUENCES else Point((question.batches or (1,))[0], size, 200)
    found = ESTIMATOR.of(Case(library.model(model), library.hardware("a100_80gb"), 1, HF, point))
    assert isinstance(found, Estimate)
    assert found.tpot_s is not None
    return {"tpot": found.tpot_s * found.half_width, "ttft": found.ttft_s * found.half_width}


@pytest.mark.parametrize(
    ("what", "question", "by"),
    [
        (SEQUENCES, Question(tpot_s=0.04), "TPOT"),
        (SEQUENCES, Question(tpot_s=0.04, ttft_s=0.5), "TTFT"),
        (INPUT, Question(tpot_s=0.04), "TPOT"),
        (INPUT, Question(tpot_s=0.06, ttft_s=0.5, batches=(2,)), "TTFT"),
    ],
)
def test_one_more_would_miss(what: str, question: Question, by: str) -> None:
    """The upper end meets at the limit and misses the named target one above; the estimate itself later."""
    found = limit(what, question)
    assert found.limited_by == by
    assert 1 < found.most < found.by_estimate
    at, above = (high(what, question, size) for size in (found.most, found.most + 1))
    targets = {"tpot": question.tpot_s, "ttft": question.ttft_s}
    assert all(target is None or at[name] <= target for name, target in targets.items())
    missed = [name for name, target in targets.items() if target is not None and above[name] > target]
    assert missed == [by.lower()]
    assert (found.row.point.batch_size if what == SEQUENCES else found.row.point.input_len) == found.most


def test_memory_limits_where_no_target_does() -> None:
    """As predicted: the largest batch fits and one more does not."""
    counts, hardware = find_counts(library.model("llama31_8b"), HF), library.hardware("l4")
    assert counts is not None

    def needs(batch: int, first: int) -> int:
        return predict(Point(batch, first, 200), counts.footprint, "gpu").total_bytes

    room = room_bytes(hardware, 1)
    assert room is not None
    found = limit(SEQUENCES, Question(), "l4")
    assert found.limited_by == MEMORY
    assert needs(found.most, 1000) <= room < needs(found.most + 1, 1000)
    longest = limit(INPUT, Question(batches=(8,)), "l4")
    assert longest.limited_by == MEMORY
    assert needs(8, longest.most) <= room < needs(8, longest.most + 1)


def test_the_input_ends_at_the_models_context_and_at_the_reach_of_the_fit() -> None:
    """mpt7b has a context of 4096 tokens, llama31_8b more than 16 times the 2048 that were fitted."""
    found = limit(INPUT, Question(), model="mpt7b")
    assert (found.most, found.limited_by) == (4096 - 200, CONTEXT)
    found = limit(INPUT, Question(), "h200_141gb")
    assert (found.most, found.limited_by) == (16 * 2048, REACH)


def test_a_limit_that_not_even_one_meets_is_zero() -> None:
    """With the point at one sequence, and the target that it misses."""
    found = limit(SEQUENCES, Question(tpot_s=0.001))
    assert (found.most, found.by_estimate, found.limited_by) == (0, 0, "TPOT")
    assert found.row.point.batch_size == 1


def test_an_interval_that_narrows_does_not_end_the_search() -> None:
    """Of a machine never seen the upper end falls where the devices, better known than the host, take over.

    What meets at a larger size meets at a smaller one, for time grows with size.
    """
    question = Question(latency_s=11.0)
    every = []
    for batch in range(1, 65):
        case = Case(
            library.model("llama31_8b"), library.hardware("h100_80gb"), 1, HF, Point(batch, 1000, 200)
        )
        found = ESTIMATOR.of(case)
        assert isinstance(found, Estimate)
        every.append(found.high_s <= 11.0)
    best = limit(SEQUENCES, question, "h100_80gb")
    assert not every[0]
    assert best.most == max(i + 1 for i, meets in enumerate(every) if meets)


def test_what_was_measured_counts_instead_of_an_estimate() -> None:
    """A published batch that meets by measurement where the upper end would not."""
    (here,) = [
        curve
        for curve in curves(SAMPLES)
        if (curve.model, curve.input_len, curve.output_len) == ("mpt7b", 512, 64)
        and (curve.samples[0].device, curve.samples[0].devices) == ("a100_80gb", 1)
    ]
    last = here.samples[-1]
    assert last.latency_s is not None
    question = Question(latency_s=last.latency_s * 1.001)
    without = limit(SEQUENCES, question, model="mpt7b", lengths=(512, 64))
    found = limit(SEQUENCES, question, model="mpt7b", lengths=(512, 64), here=(here,))
    assert found.row.engine == "hf_eager"
    assert without.most < last.point.batch_size <= found.most
    assert found.row.estimate is None or found.most > last.point.batch_size
    assert [row.verdict for row in measured_rows(question, here, {})] == [MEETS] * len(here.samples)


ROW = Row(
    "meets, estimated", HardwareSpec("own", "gpu", tdp_w=500.0), 2, "hf", Point(4, 100, 50), latency_s=10.0,
    low_s=8.0, high_s=12.0, ttft_s=1.0, tpot_s=9.0 / 49, number=2, usd_per_hour=3.6,
)  # fmt: skip


def test_energy_is_at_most_what_the_tdp_allows() -> None:
    """By hand: 2 devices of 500 W for 12 s make 12 kJ, for 200 tokens: 60 kJ a thousand."""
    assert ROW.joules_per_1000_tokens == pytest.approx(60_000.0)
    assert ROW.as_dict()["joules_are"] == "at most, by TDP"
    counted = replace(ROW, joules=7.0)
    assert counted.joules_per_1000_tokens == 7000.0
    assert counted.as_dict()["joules_are"] == "measured"
    unknown = replace(ROW, hardware=HardwareSpec("own", "gpu"))
    assert unknown.joules_per_1000_tokens is None
    assert unknown.as_dict()["joules_are"] is None


def test_cost_is_by_the_hour() -> None:
    """By hand: 2 devices at 3.6 US$ an hour are 0.002 US$ a second, so the call is 0.02 US$.

    Prefill's second pays 400 input tokens, the other nine 200 output tokens.
    """
    assert ROW.usd_per_million_tokens == pytest.approx(0.02 / 200 * 1e6)
    assert ROW.usd_at_most == pytest.approx(0.024 / 200 * 1e6)
    assert ROW.usd_in_and_out == pytest.approx((0.002 / 400 * 1e6, 0.018 / 200 * 1e6))
    assert replace(ROW, usd_per_hour=None).usd_in_and_out is None
    assert replace(ROW, ttft_s=None).usd_in_and_out is None


def ask(*arguments: str) -> int:
    """Of the published runs."""
    return main([str(PUBLISHED), "--estimate", *arguments])


def test_the_command_tells_limits_to_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Both kinds at once; exit code 1 where no machine reaches one."""
    asked = [
        "--model",
        "llama31_8b",
        "--output",
        "200",
        "--tpot",
        "40ms",
        "--hardware",
        "1xa100_80gb,2xmi300x",
    ]
    both = [*asked, "--input", "1000", "--most-sequences", "--longest-input"]
    assert ask(*both) == 0
    first, _, second = capsys.readouterr().out.partition("\n\nlongest input")
    assert first.startswith(
        "most sequences of 1000 tokens in, 200 out, that fit and meet TPOT 0.0400 s by the"
    )
    assert "1xa100_80gb" in first
    assert "not estimated:\n  device mi300x: no bandwidth" in first
    assert second.startswith(" with 200 tokens out, that fit and meet TPOT")
    assert ask(*both, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    for what in (SEQUENCES, INPUT):
        (found,) = values[what]["limits"]
        assert found["what"] == what
        assert found["most"] == limit(what, Question(tpot_s=0.04)).most
        assert found["at"]["estimate"]["level"] == 0.9
        assert values[what]["refused"][0]["machine"] == "2xmi300x deepspeed"
    assert ask(*asked[:5], "1ms", "--input", "9", "--most-sequences") == 1
    assert ask("--model", "llama31_8b", "--output", "9", "--longest-input", "--hardware", "2xmi300x") == 1
    assert capsys.readouterr().out.splitlines()[-2] == "not estimated:"


def test_prices_add_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the whole call, at most, and of input and output apart."""
    (tmp_path / "prices.yaml").write_text("usd_per_hour: {h100_80gb: 3.0}\n")
    asked = ["--model", "mpt7b", "--input", "512", "--output", "65", "--latency", "9s", "--hardware"]
    assert ask(*asked, "1xh100_80gb") == 0
    text = capsys.readouterr().out
    assert "J/1000 tokens" in text
    assert "<=" in text
    assert "$/M" not in text
    assert ask(*asked, "1xh100_80gb,1xl4", "--price", str(tmp_path / "prices.yaml")) == 0
    heading = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("hardware"))
    assert heading.split("J/1000 tokens")[1].split("  ")[1:]
    assert all(name in heading for name in ("$/M tokens", "at most", "$/M in", "$/M out"))


def test_a_hardware_without_a_tdp_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the place of its energy."""
    real = library.hardware("l4")
    monkeypatch.setattr("ci.pick.__main__.machines", lambda *_: [(1, replace(real, tdp_w=None))])
    assert ask("--model", "mpt7b", "--input", "512", "--output", "64", "--ttft", "9s") == 0
    text = capsys.readouterr().out
    assert "no TDP" in next(line for line in text.splitlines() if line.startswith("1xl4"))


def test_several_targets_are_all_met(capsys: pytest.CaptureFixture[str]) -> None:
    """A latency and a time to the first token together: the row meets each alone."""
    asked = ["--model", "mpt7b", "--input", "512", "--output", "64", "--hardware", "1xa100_80gb", "--json"]

    def batch(*targets: str) -> int:
        assert ask(*asked, *targets) == 0
        rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
        return int(next(row["batch_size"] for row in rows if row["estimate"]))

    alone = {name: batch(name, value) for name, value in (("--ttft", "400ms"), ("--tpot", "40ms"))}
    assert batch("--ttft", "400ms", "--tpot", "40ms") == min(alone.values())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tpot", "1s", "--tpot", "2s", "--input", "9"], "--tpot is given twice"),
        (
            ["--tpot", "1s", "--input", "9", "--counts", "no/folder"],
            "--counts no/folder: no such folder; name",
        ),
        (
            ["--tpot", "1s", "--input", "9", "--host", "no/file"],
            "--host no/file: cannot be read: No such file",
        ),
        (["--latency", "1s"], "--input is required"),
        (["--most-sequences"], "--input is required"),
        (["--longest-input", "--input", "9"], "--input is not allowed with --longest-input"),
        (
            ["--most-sequences", "--input", "9", "--batch", "2"],
            "--batch is not allowed with --most-sequences",
        ),
        (["--longest-input", "--throughput", "9"], "--throughput is not allowed with --longest-input"),
        (["--longest-input", "--fewest-devices"], "--fewest-devices is not allowed with --longest-input"),
        (["--fewest-devices", "--rank", "cost", "--input", "9"], "--rank cost is not allowed with"),
        (["--rank", "cost", "--latency", "1s", "--input", "9"], "--rank cost needs --price"),
        (["--tpot", "1s", "--input", "9", "--output", "1"], "--tpot: one output token has no time per token"),
        (["--latency", "1s", "--input", "9", "--hardware", ""], "--hardware : write {n}x{device}"),
        (["--latency", "1s", "--input", "9", "--batch", ""], "--batch : write whole numbers"),
    ],
)
def test_options_that_make_no_sense_together(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 4."""
    assert ask("--model", "mpt7b", "--output", "64", *arguments) == 4
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_batches_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """By name, rather than left out."""
    asked = ["--model", "llama31_8b", "--input", "1000", "--output", "200", "--ttft", "9s"]
    assert ask(*asked, "--batch", "900", "--hardware", "1xl4") == 1
    assert "900 sequences do not fit its memory, as predicted: 1xl4 hf" in capsys.readouterr().out
    assert ask("--model", "mpt7b", "--input", "4000", "--output", "200", "--ttft", "9s") == 1
    assert "model mpt7b: 4200 tokens are over its context of 4096" in capsys.readouterr().out


def test_a_checkpoints_folder_is_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its config.json, by the folder or by the file; a mapping that is no causal model is one line."""
    architecture = dict(library.model("llama125m").architecture)
    folder = tmp_path / "Mine-1"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(architecture))
    common = ["--input", "64", "--output", "8", "--latency", "9s", "--hardware", "1xl4", "--model"]
    for name in (folder, folder / "config.json"):
        assert ask(*common, str(name)) == 0
        assert "meets, estimated:\n" in capsys.readouterr().out
    for text, told in (("{", "cannot be read"), ("[]", "is not a mapping"), ("{}", "has no model_type")):
        (folder / "config.json").write_text(text)
        assert ask(*common, str(folder)) == 4
        error = capsys.readouterr().err
        assert error.startswith("pick: --model ")
        assert told in error
    assert ask(*common, str(tmp_path)) == 4
    assert "has no config.json" in capsys.readouterr().err
