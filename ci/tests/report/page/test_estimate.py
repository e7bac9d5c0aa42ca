"""The page's estimates are those of `ci.pick --estimate`: the same questions, in a browser and in Python."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci.pick.__main__ import main as pick
from ci.pick.estimates import look, machines
from ci.pick.estimator import Estimator, model_of
from ci.pick.rows import RANKS, Question
from ci.report.__main__ import main
from ci.report.read.samples import Curve, curves, newest, read_samples
from ci.tests.browser import Shown
from ci.tests.report_histories import PUBLISHED, record, write
from fixtures.core.base.text import significant
from fixtures.core.cost.memory import GPU_RESERVE_BYTES
from fixtures.core.estimate.model import LATENT, MIXTURE, SPARSE, STATE, WINDOW
from fixtures.core.spec import library

pytestmark = pytest.mark.slow
ASK = """
(questions) => {
  const { data, look } = window.benchmarks;
  const names = data.estimates.hardware.map((spec) => spec.name);
  const known = data.estimates.hardware.map((spec) => spec.room_bytes);
  return questions.map(({ question, prices, machines, room_bytes }) => {
    data.estimates.hardware.forEach((spec, i) => { spec.room_bytes = room_bytes ?? known[i]; });
    const on = machines?.map(([n, name]) => [n, names.indexOf(name)]);
    const { rows, refused } = look(data, question, prices, on);
    return { rows: rows.map(({ place, ...row }) => row), refused };
  });
}
"""
MODELS = ("mpt7b", "mpt30b", "llama31_8b", "llama31_70b", "qwen3_8b", "falcon7b", "mixtral8x7b", "own")
UNEVEN = (
    "mixtral8x7b", "gemma3_27b", "gpt_oss_20b", "mistral7b", "llama4_scout", "deepseek_v3", "deepseek_v32",
    "deepseek_v4_flash", "glm5_2", "qwen35_35b_a3b", "nemotron3_nano_30b_a3b", "minimax_m3",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The published points, and a machine of one's own with a model that the library lacks."""
    own = [
        record("own", hardware, batch, 0.9 + batch / 50, input_len=128, output_len=32)
        for hardware in ("1xh100_80gb", "3xl4")
        for batch in (1, 4, 16)
    ]
    routed = [
        record("mixtral8x7b", "1xb300", batch, 1.0 + batch, input_len=128, output_len=32) for batch in (1, 4)
    ]
    for one in routed:
        one["case"]["model"]["architecture"] = dict(library.model("mixtral8x7b").architecture)
        one["case"]["engine"] |= {"name": "hf_power_law_1_2", "routing": "power_law_1.2"}
        one["case"]["id"] = one["case"]["id"].replace("-hf-", "-hf_power_law_1_2-")
    half = record("qwen3_0_6b", "1xt4", 4, 1.0, input_len=128, output_len=32)
    half["case"]["model"]["architecture"] = dict(library.model("qwen3_0_6b").architecture)
    half["case"]["engine"] |= {"name": "hf_fp16", "dtype": "float16"}
    half["case"]["id"] = half["case"]["id"].replace("-hf-", "-hf_fp16-")
    return PUBLISHED, write(tmp_path_factory.mktemp("own") / "own.json", [*own, *routed, half])


@pytest.fixture(scope="module")
def file(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of these runs, with one figure."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    assert main([*map(str, runs), "-o", str(file), "--most", "1"]) == 0
    return file


class Asked:
    """Questions as the page takes them, and what Python answers."""

    def __init__(self, runs: Sequence[Path]) -> None:
        """Read the runs once."""
        self.samples = newest(read_samples(runs))
        self.curves = [curve for curve in curves(self.samples) if curve.samples]
        self.estimator = Estimator(self.samples)
        self.questions: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []

    def ask(
        self,
        model: str,
        lengths: tuple[int, int],
        question: Question,
        labels: Sequence[tuple[int, str]] = (),
        prices: dict[str, float] | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """One question, of all machines where none are named; of devices with so much memory."""
        known = {curve.model: curve.samples[0] for curve in self.curves}
        spec = library.model(model) if model in library.names("models") else model_of(known[model])
        here: list[Curve] = [
            curve
            for curve in self.curves
            if curve.model == model and (curve.input_len, curve.output_len) == lengths
        ]
        on = machines([(n, library.hardware(name)) for n, name in labels], self.samples)
        if memory_bytes is not None:
            on = [(n, replace(hardware, memory_bytes=memory_bytes)) for n, hardware in on]
        found = look(question, spec, lengths, on, (), here, self.estimator, prices or {})
        self.answers.append(json.loads(json.dumps(found.as_dict())))
        asked = {
            "model": model, "input": lengths[0], "output": lengths[1], "rank": question.rank,
            "batches": list(question.batches), "output_tokens_per_s": question.tokens_per_s,
            "latency_s": question.latency_s, "ttft_s": question.ttft_s, "tpot_s": question.tpot_s,
        }  # fmt: skip
        of = [list(label) for label in labels] or None
        room = memory_bytes and memory_bytes - GPU_RESERVE_BYTES
        self.questions.append({"question": asked, "prices": prices or {}, "machines": of, "room_bytes": room})


def random_question(rng: random.Random, asked: Asked) -> None:
    """Any model, lengths, batches, target and price, of one or two machines."""
    model = rng.choice(MODELS)
    lengths = rng.choice([(512, 64), (128, 32), (128, 1), (rng.randint(1, 9000), rng.randint(1, 900))])
    target = rng.choice(["latency_s", "tokens_per_s", "ttft_s", "tpot_s", None])
    scale = {"latency_s": 5.0, "tokens_per_s": 300.0, "ttft_s": 0.3, "tpot_s": 0.04}
    wished: dict[str, Any] = {} if target is None else {target: scale[target] * 10 ** rng.uniform(-1, 1)}
    if rng.random() < 0.8:
        wished["batches"] = tuple(sorted({rng.randint(1, 300) for _ in range(rng.randint(1, 3))}))
    question = Question(rank=rng.choice(RANKS), **wished)
    names = [name for name in library.names("hardware") if library.hardware(name).kind == "gpu"]
    labels = [(rng.choice([1, 1, 2, 3, 4, 8]), rng.choice([*names, "a100_80gb", "h100_80gb"]))
              for _ in range(rng.randint(1, 2))]  # fmt: skip
    prices = {name: rng.uniform(0.5, 9) for name in names if rng.random() < 0.3}
    asked.ask(model, lengths, question, list(dict.fromkeys(labels)), prices)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], question: dict[str, Any]) -> None:
    """Words and whole numbers exactly, the rest to nine digits; rows in the same order."""
    assert ours["refused"] == theirs["refused"], question
    assert len(ours["rows"]) == len(theirs["rows"]), question
    for row, expected in zip(ours["rows"], theirs["rows"], strict=True):
        estimate, wished = row["estimate"] or {}, expected["estimate"] or {}
        assert estimate.keys() == wished.keys(), question
        pairs = [(row[key], expected[key]) for key in expected if key != "estimate"]
        pairs += [(estimate[key], wished[key]) for key in wished]
        for one, other in pairs:
            assert one == (pytest.approx(other, rel=1e-9) if isinstance(other, float) else other), question


def test_the_page_and_the_command_estimate_the_same(
    browser: Any, runs: tuple[Path, Path], file: Path
) -> None:
    """In 300 random questions of a machine or two, of every kind of layer, and some of all machines."""
    asked, rng = Asked(runs), random.Random(11)
    for _ in range(300):
        random_question(rng, asked)
    everything = Question(latency_s=1e9)  # asks for the most sequences that fit
    for model in UNEVEN:
        for lengths in ((1, 2), (100, 20), (1023, 3), (30000, 2)):
            asked.ask(model, lengths, everything, [(8, "b300")])
            asked.ask(model, lengths, everything, [(1, "b300")], memory_bytes=2**41)
        asked.ask(model, (3000, 500), Question(batches=(1, 3, 64)), [(1, "b300")], memory_bytes=2**41)
    asked.ask("mixtral8x7b", (128, 32), everything, [(1, "b300")])
    asked.ask("qwen3_0_6b", (128, 32), Question(latency_s=1e9, batches=(1, 8)), [(1, "t4"), (1, "gaudi3")])
    asked.ask("llama31_70b", (1000, 200), Question(rank="fewest"))
    asked.ask("mpt7b", (512, 64), Question(latency_s=2.0, rank="cost"), prices={"a100_80gb": 1.8, "l4": 0.6})
    asked.ask("qwen3_8b", (2000, 300), Question(tpot_s=0.05, batches=(1, 8)))
    shown = Shown(browser, file)
    found = shown.page.evaluate(ASK, asked.questions)
    shown.close()
    for one, expected, question in zip(found, asked.answers, asked.questions, strict=True):
        assert_same(one, expected, question)
    rows = [row for answer in asked.answers for row in answer["rows"]]
    assert {row["verdict"] for row in rows} == {"meets", "meets, estimated", "may meet", "does not meet"}
    novelty = {row["estimate"]["novelty"] for row in rows if row["estimate"]}
    assert {"machine never seen", "other batch", "other count, other model, other lengths"} <= novelty
    both = zip(asked.questions, asked.answers, strict=True)
    estimated = {asked["question"]["model"] for asked, answer in both if answer["rows"]}
    assert estimated >= {*MODELS, *UNEVEN}
    for kind in (MIXTURE, STATE, WINDOW, LATENT, SPARSE):
        assert any(kind in text for text in novelty), kind
    assert any(row["engine"] == "hf_power_law_1_2" and row["estimate"] for row in rows)
    assert any(row["engine"] == "hf_fp16" and row["estimate"] for row in rows)
    reasons = {one["reason"].partition(":")[2][:20] for answer in asked.answers for one in answer["refused"]}
    assert len(reasons) >= 4


def test_the_picker_estimates_what_is_asked(
    browser: Any, file: Path, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """By its form: any lengths, a target of TPOT, classes, intervals, what to measure, and messages."""
    shown = Shown(browser, file)
    page, answer = shown.page, shown.page.locator("#answer")
    assert "estimated" not in answer.inner_text()
    assert page.get_by_label("Target").locator("option").count() == 2
    page.get_by_label("Estimate what was not measured").check()
    assert answer.locator("tr.measured").count() == 6
    fields = page.locator("#question :is(input, select):visible")
    assert fields.evaluate_all("(all) => all.map((one) => one.labels.length)") == [1] * 8
    page.locator("#question [name=model]").select_option("llama31_8b")
    page.get_by_role("textbox", name="Tokens in").fill("1000")
    page.get_by_role("textbox", name="Tokens out").fill("200")
    page.get_by_label("Target").select_option("tpot")
    page.get_by_label("TPOT, ms").fill("40")
    page.wait_for_function("() => document.querySelector('#answer .verdict').textContent.includes('40.0 ms')")
    asked = ["--model", "llama31_8b", "--input", "1000", "--output", "200", "--tpot", "40ms"]
    assert pick([*map(str, runs), *asked, "--estimate", "--json"]) == 0
    expected = [
        row for row in json.loads(capsys.readouterr().out)["rows"] if row["verdict"] != "does not meet"
    ]
    found = answer.locator("tr.estimated")
    assert found.locator("th").all_inner_texts() == [row["hardware"] for row in expected]
    assert found.locator("td:nth-child(4)").all_inner_texts() == [
        f"{significant(row['estimate']['low_s'])} to {significant(row['estimate']['high_s'])}"
        for row in expected
    ]
    assert set(found.locator(".badge").all_inner_texts()) == {"estimated"}
    assert {"meets, estimated", "may meet"} == {row["verdict"] for row in expected}
    answer.locator("summary", has_text="Measure first").press("Enter")
    answer.locator("li code").last.wait_for()
    commands = [command for row in expected for command in row["measure"]]
    assert answer.locator("li code").all_inner_texts() == commands
    page.get_by_role("textbox", name="Tokens in").fill("1.5")
    page.wait_for_function(
        "() => document.querySelector('#question-error').textContent.includes('whole number')"
    )
    assert answer.inner_text() == ""
    assert page.get_by_role("textbox", name="Tokens in").get_attribute("aria-invalid") == "true"
    page.get_by_role("textbox", name="Tokens in").fill("40000")
    page.wait_for_function("() => document.querySelector('#answer summary')")
    answer.locator("summary", has_text="Not estimated").press("Enter")
    answer.locator("dl dd").last.wait_for()
    assert "input of 40000 tokens: beyond 16 times" in answer.locator("dl").inner_text()
    page.get_by_label("Estimate what was not measured").uncheck()
    assert answer.locator("tr.best").count() > 0
    shown.close()
