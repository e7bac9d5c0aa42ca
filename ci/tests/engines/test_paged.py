"""Continuous batching does the work that `generate` does, and shares none of it between calls."""

from __future__ import annotations

import ctypes
import gc
import re
from dataclasses import replace
from typing import Any

import pytest

from ci.tests.engines.test_llamacpp import MODELS, POINT, case, tokens
from fixtures.core.cost.footprint import Footprint
from fixtures.core.cost.memory import memory_error, predict_beside
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.engine_kinds import KINDS
from fixtures.engines import is_installed, open_here, why_not
from fixtures.engines.protocol import WorkNotDone
from fixtures.measure.prompts import make_prompts

PAGED = EngineSpec("hf_paged_fp32", kind="hf_paged", dtype="float32")


def paged(name: str, point: Point = POINT) -> Case:
    """A small model in fp32."""
    model = ModelSpec(name, {**MODELS[name], "max_position_embeddings": 1024})
    return Case(model, library.hardware("cpu"), 1, PAGED, point)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3"])
def test_the_tokens_are_those_of_generate(name: str) -> None:
    """In fp32, of a batch of several sequences."""
    of_hf = tokens(open_here(KINDS["hf"], 60), case("hf", name, max_position_embeddings=1024))
    assert tokens(open_here(KINDS["hf_paged"], 60), paged(name)) == of_hf


@pytest.mark.slow
def test_a_ragged_batch_makes_each_sequences_own_tokens() -> None:
    """Padded by `generate`, unpadded in pages and by llama.cpp; a paged pass has the sum of the lengths."""
    point = Point(3, 40, 6, (7, 40, 19))
    prompts = make_prompts(point, 640, 17)
    assert list(map(len, prompts)) == [7, 40, 19]
    made: dict[str, Any] = {}
    kinds = ["hf", "hf_paged", "hf_compiled", *(["llamacpp_f32"] if is_installed("cyllama") else [])]
    for kind in kinds:
        engine: Any = open_here(KINDS[kind], 60)
        engine.backend = "eager"  # of the compiled one: it is quick
        engine.load(replace(paged("llama", point), engine=replace(PAGED, name=kind, kind=kind)), seed=17)
        work = engine.prepare(prompts, 6)
        engine.check(work)
        tokens = engine.generate(work)
        engine.verify(work, tokens)
        made[kind] = tokens[:, 40:].tolist()
        if kind == "hf":
            alone = []
            for prompt in prompts:
                own = engine.prepare([prompt], 6)
                alone.append(engine.generate(own)[0, len(prompt) :].tolist())
        elif kind == "hf_paged":
            each = engine.sequence_token_s(work)
            assert [len(moments) for moments in each] == [6, 6, 6]
            assert [max(step) for step in zip(*each, strict=True)] == engine.token_s(work)
            assert engine._positions == [66, 3, 3, 3, 3, 3]
            assert engine.case_facts(work)["engine_settings"]["first_pass_positions"] == 66
        engine.close()
    assert made == dict.fromkeys(kinds, alone)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "ragged"), [(4, (800,)), (4, (256, 512, 768, 1000))])
def test_the_memory_of_the_pool_is_predicted(batch: int, ragged: tuple[int, ...]) -> None:
    """The peak beyond what the process held before: weights are of no account here, pool and mask are."""
    point = Point(batch, max(ragged), 4, ragged if len(ragged) > 1 else ())
    engine, of = open_here(KINDS["hf_paged"], 60), paged("llama", point)
    engine.load(of, seed=17)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else the call takes what tests before it have freed, and grows by less
    held, _ = engine.memory()
    predicted = predict_beside(of, Footprint.from_dict(engine.count(of)["footprint"]), held)
    engine.reset_peak_memory()
    work = engine.prepare(make_prompts(point, 640, 17), point.output_len)
    engine.verify(work, engine.generate(work))
    peak = engine.peak_memory_bytes()
    assert peak is not None
    assert held is not None
    assert memory_error(predicted, peak) == pytest.approx(0, abs=0.1)
    assert predicted.total_bytes - held > 0.75 * (peak - held)  # what is free already makes it grow by less
    engine.close()


@pytest.mark.slow
def test_a_shared_prefix_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sharing is on, the second call of the same prompts computes only what fills no page."""
    from transformers import ContinuousBatchingConfig

    from fixtures.engines import hf_paged

    point = Point(2, 300, 3)
    engine: Any = open_here(KINDS["hf_paged"], 60)
    engine.load(paged("llama", point), seed=17)
    prompts = make_prompts(point, 640, 17)
    work = engine.prepare(prompts, point.output_len)
    for _ in range(2):
        engine.verify(work, engine.generate(work))
    settings = engine.case_facts(work)["engine_settings"]
    assert (settings["first_pass_positions"], settings["shared_blocks"], settings["blocks"]) == (600, 0, 4)
    assert [len(moments) for moments in engine._moments] == [3, 3]

    own = ContinuousBatchingConfig
    monkeypatch.setattr(
        hf_paged, "ContinuousBatchingConfig", lambda **keys: own(**{**keys, "allow_block_sharing": True})
    )
    work = engine.prepare(prompts, point.output_len)
    engine.verify(work, engine.generate(work))
    made = engine.generate(work)
    with pytest.raises(WorkNotDone, match=r"given \[88, 2, 2\] positions step by step, not \[600, 2, 2\]"):
        engine.verify(work, made)
    engine._positions = [600, 2, 2]
    with pytest.raises(WorkNotDone, match="the keys and values of 512 tokens were shared"):
        engine.verify(work, made)
    engine.close()


@pytest.mark.parametrize(
    ("model_type", "told"),
    [
        ("mpt", "does not run mpt: its position bias .*; hf runs it"),
        ("falcon", "does not run falcon: its attention .*; hf runs it"),
        ("gpt2", "does not run gpt2: it was tried with llama, mistral, qwen3 alone; hf runs it"),
        ("qwen3", None),
    ],
)
def test_what_cannot_be_paged_is_refused_before_it_loads(model_type: str, told: str | None) -> None:
    """By its type, with what runs it."""
    model = ModelSpec("m", {"model_type": model_type})
    reason = why_not(Case(model, library.hardware("cpu"), 1, PAGED, POINT))
    assert (reason is None) if told is None else re.search(told, reason or "")
