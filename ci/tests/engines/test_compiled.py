"""The compiled engine: the same tokens, nothing compiled within the rounds, each silent failure named."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from msgspec.structs import replace as replaced
from transformers import GenerationConfig

from ci.gate.counters import changed
from ci.tests.records import recorded
from fixtures.core.cost.footprint import Footprint
from fixtures.core.cost.memory import memory_error, predict_beside
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.engines import why_not
from fixtures.engines.hf import HfEngine, Task
from fixtures.engines.hf_compiled import HfCompiled
from fixtures.engines.protocol import WorkNotDone
from fixtures.engines.stamps import Stamps
from fixtures.measure.prompts import make_prompts

LLAMA = {
    "model_type": "llama", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mistral": {**LLAMA, "model_type": "mistral", "sliding_window": None},  # the graph of Llama
    "windowed": {**LLAMA, "model_type": "mistral", "sliding_window": 16},
    "qwen3": {**LLAMA, "model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": True},
    "falcon": {
        "model_type": "falcon", "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4, "max_position_embeddings": 64,
    },
}  # fmt: skip
POINT = Point(3, 10, 12)
FP32 = EngineSpec("hf_compiled_fp32", kind="hf_compiled", dtype="float32")


def case(architecture: dict[str, Any], engine: EngineSpec = FP32) -> Case:
    """A case of a small model on the CPU."""
    return Case(ModelSpec("small", architecture), library.hardware("cpu"), 1, engine, POINT)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ({"model_type": "mpt"}, "does not run mpt: .*breaks the graph; hf runs it"),
        (
            {"model_type": "falcon", "alibi": True},
            "not run falcon with alibi: .* not as the static cache; hf",
        ),
        ({"model_type": "falcon", "alibi": False, "new_decoder_architecture": True}, None),
        ({"model_type": "gpt2"}, "tried with falcon, llama, mistral, qwen3 alone; hf runs it"),
        (LLAMA, None),
    ],
)
def test_an_architecture_that_cannot_be_compiled_is_refused_before_it_loads(
    architecture: dict[str, Any], reason: str | None
) -> None:
    """By name, with what runs it."""
    told = why_not(case(architecture))
    assert (told is None) is (reason is None)
    assert reason is None or re.search(reason, told or "")


@pytest.mark.parametrize(("version", "told"), [("1", "graphs is 2, and was 1"), ("2", None)])
def test_graphs_are_a_counter_of_the_gate_between_equal_libraries(version: str, told: str | None) -> None:
    """Another torch may cut the same step into other graphs; its seconds are no counter."""
    one, other = (
        recorded(
            compiled={"seconds": seconds, "cold": True, "graphs": graphs, "cache_len": 22},
            versions={"torch": "1", "transformers": "1"},
            graph_breaks=0,
        )
        for seconds, graphs in ((9.0, 1), (8.0, 2))
    )
    assert changed(replaced(other, versions={"torch": version, "transformers": "1"}), one) == told
    assert one.compiled is not None
    assert changed(replaced(one, compiled=replaced(one.compiled, seconds=1.0)), one) is None
    fewer, more = (replaced(one, compiled=replaced(one.compiled, calls=calls)) for calls in (70, 71))
    assert changed(more, fewer) == "graph_calls is 71, and was 70"


def loaded(architecture: dict[str, Any], backend: str = "eager") -> HfCompiled:
    """The engine; `eager` runs the graphs as they were captured, which is quick."""
    compiled = HfCompiled()
    compiled.backend = backend
    compiled.load(case(architecture), seed=17)
    return compiled


def work_of(engine: HfEngine, point: Point = POINT) -> Any:
    """The work of a point."""
    return engine.prepare(make_prompts(point, 128, 17), point.output_len)


def test_emptying_the_cache_is_part_of_ttft() -> None:
    """As making one is for `hf`; here it takes 50 ms, and both tokens nothing."""
    engine, cpu = HfCompiled(), torch.device("cpu")
    engine.spec, engine.device = FP32, cpu

    def generate(prompts: torch.Tensor, *, stopping_criteria: Any, **_: Any) -> torch.Tensor:
        for _token in range(2):
            stopping_criteria(prompts, None)
        return prompts

    engine.model = SimpleNamespace(generate=generate)
    prompts, cache = torch.zeros(1, 3, dtype=torch.long), SimpleNamespace(reset=lambda: time.sleep(0.05))
    more = {"past_key_values": cache}
    work = Task(prompts, prompts, 2, GenerationConfig(), Stamps(cpu, 1, 2), more=more)
    engine.generate(work)
    first, second = engine.token_s(work)
    assert 0.05 < first <= second < first + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_tokens_equal_those_of_hf_and_the_check_compiles_everything(name: str) -> None:
    """In fp32. A window of 16 has three graphs: before it fills, with the length as a variable, full."""
    hf, compiled = HfEngine(), loaded(MODELS[name], "inductor")
    hf.load(case(MODELS[name], EngineSpec("hf_fp32", dtype="float32")), seed=17)
    expected = hf.generate(work_of(hf))
    held, _ = compiled.memory()
    of, footprint = case(MODELS[name]), compiled.count(case(MODELS[name]))["footprint"]
    predicted = footprint and predict_beside(of, Footprint.from_dict(footprint), held)  # not of a full window
    work = work_of(compiled)
    compiled.check(work)
    for _ in range(2):
        tokens = compiled.generate(work)
        compiled.verify(work, tokens)
        assert torch.equal(tokens, expected)
    error = memory_error(predicted, compiled.peak_memory_bytes())
    assert name == "windowed" if error is None else error > -0.1  # what earlier tests held is freed
    facts = compiled.case_facts(work)
    assert facts["graph_breaks"] == 0
    assert facts["compiled"]["graphs"] == (3 if name == "windowed" else 1)
    assert facts["compiled"]["cache_len"] == 10 + 12
    assert facts["compiled"]["seconds"] > 0
    assert len(compiled.token_s(work)) == 12


@pytest.mark.slow
def test_a_case_compiles_the_same_whatever_ran_before_it() -> None:
    """After another batch and length as after nothing: one graph of its own shapes, of as many calls."""
    compiled, graphs, calls = loaded(LLAMA), [], []
    for point in (Point(2, 6, 4), POINT):
        work = work_of(compiled, point)
        compiled.check(work)
        compiled.verify(work, compiled.generate(work))
        graphs.append(compiled.case_facts(work)["compiled"]["graphs"])
        calls.append(compiled.case_facts(work)["compiled"]["calls"])
    assert graphs == [1, 1]
    assert calls[0] == calls[1] >= 7 + 3 + 1  # products with matrices, norms, attention


@pytest.mark.slow
def test_a_single_token_compiles_nothing() -> None:
    """It comes out of the prefill."""
    compiled = loaded(LLAMA)
    work = work_of(compiled, Point(3, 10, 1))
    compiled.check(work)
    compiled.verify(work, compiled.generate(work))
    assert compiled.case_facts(work)["compiled"]["graphs"] == 0


@pytest.mark.slow
def test_a_call_that_compiles_again_fails_by_name() -> None:
    """Here because its cache is longer than the one that was checked."""
    compiled = loaded(LLAMA)
    work = work_of(compiled)
    compiled.check(work)
    longer = replace(work, more=work_of(compiled, Point(3, 10, 13)).more)
    tokens = compiled.generate(longer)
    with pytest.raises(WorkNotDone, match="the compiler ran within the call: 1 more graphs, 0 more graph br"):
        compiled.verify(longer, tokens)


@pytest.mark.slow
def test_a_compilation_that_transformers_leaves_out_fails_by_name() -> None:
    """It only warns, and runs the model as it is."""
    compiled = loaded(LLAMA)
    work = work_of(compiled)
    work.settings.compile_config._compile_all_devices = False
    with pytest.raises(WorkNotDone, match="0 of 11 decode steps were compiled: transformers ran the others"):
        compiled.verify(work, compiled.generate(work))


@pytest.mark.slow
def test_a_graph_break_fails_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """MPT's, where nobody refused it. torch's trace of its compiler is not in a failure's log."""
    compiled = loaded(
        {
            "model_type": "mpt",
            "d_model": 64,
            "n_heads": 4,
            "n_layers": 1,
            "max_seq_len": 64,
            "vocab_size": 128,
        }
    )
    with pytest.raises(WorkNotDone, match=r"the compiled step has [1-9] graph breaks: .*Tensor.item"):
        compiled.check(work_of(compiled))
    assert [record for record in caplog.records if record.name == "torch.__trace"] == []
