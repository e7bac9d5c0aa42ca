"""The transformers engine at a depth and in pieces, with small models of each kind of cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fixtures.core.cost.memory import predict
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.engines.counting.count import count_work
from fixtures.engines.counting.footprint import count_footprint
from fixtures.engines.counting.live import Live, _head_watched
from fixtures.engines.hf import HfEngine, Task
from fixtures.engines.protocol import WorkNotDone
from fixtures.measure.prompts import make_before, make_prompts

pytestmark = pytest.mark.slow

LLAMA = {
    "model_type": "llama", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mpt": {"model_type": "mpt", "vocab_size": 128, "d_model": 64, "n_heads": 4, "n_layers": 2},
    "gemma3": {
        **LLAMA, "model_type": "gemma3_text", "head_dim": 16, "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "qwen3_next": {
        **LLAMA, "model_type": "qwen3_next", "num_hidden_layers": 4, "head_dim": 16, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
        "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    },
}  # fmt: skip
MISTRAL = {**LLAMA, "model_type": "mistral", "sliding_window": 32}
GPT_OSS = {
    **LLAMA, "model_type": "gpt_oss", "head_dim": 16, "sliding_window": 32, "num_local_experts": 4,
    "num_experts_per_tok": 2, "layer_types": ["sliding_attention", "full_attention"], "pad_token_id": 0,
}  # fmt: skip
DEEP = Point(2, 9, 12, depth=60)


def case(name: str, point: Point = DEEP, chunk: int | None = None) -> Case:
    """A case of a small model in fp32 on the CPU."""
    engine = EngineSpec("e", dtype="float32", prefill_chunk=chunk)
    architecture = {**MODELS, "mistral": MISTRAL, "gpt_oss": GPT_OSS}[name]
    return Case(ModelSpec("small", architecture), library.hardware("cpu"), 1, engine, point)


def loaded(asked: Case) -> tuple[HfEngine, Task]:
    """The engine with its model, and the work of the case, behind a filled cache."""
    hf, point = HfEngine(), asked.point
    hf.load(asked, seed=17)
    work = hf.prepare(make_prompts(point, 128, 17), point.output_len)
    return hf, hf.fill(work, make_before(point, 128, 17)) if point.depth else work


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [None, 7])
def test_every_round_makes_the_tokens_of_one_whole_prompt(name: str, chunk: int | None) -> None:
    """Whatever the cache, windows and states too: as a call without a depth, in one piece, makes them."""
    hf, work = loaded(case(name, chunk=chunk))
    hf.check(work)
    rounds = []
    for _ in range(2):
        rounds.append(hf.generate(work))
        hf.verify(work, rounds[-1])
    whole, _ = loaded(case(name, replace(DEEP, depth=0)))
    expected = whole.generate(whole.prepare(work.prompts.tolist(), DEEP.output_len))
    assert expected.shape == (2, 60 + 9 + 12)
    assert all(torch.equal(tokens, expected) for tokens in rounds)


def test_only_the_last_position_has_logits() -> None:
    """While a cache is filled in pieces, while a long prompt comes in, and in each step after it."""
    hf, work = loaded(case("mpt", chunk=7))
    seen = []
    hf.model.register_forward_hook(lambda _m, _a, output: seen.append(output.logits.shape[1]))
    hf.fill(replace(work, prompts=work.prompts[:, 60:]), make_before(DEEP, 128, 17))
    assert seen == [1] * 9  # 60 tokens in pieces of 7
    hf.generate(work)
    assert seen[9:] == [1] * (2 + 11)


def test_a_cache_of_another_length_is_found() -> None:
    """After a call it has 60 + 9 + 11 tokens; a call begins behind 60."""
    hf, work = loaded(case("llama"))
    assert work.past is not None
    hf.generate(work)
    with pytest.raises(WorkNotDone, match=r"the cache was used with \[80\] tokens, not 81"):
        work.past.put_back(torch.zeros(2, 82, dtype=torch.long))
    with pytest.raises(WorkNotDone, match=r"the cache was filled with \[80\] tokens, not 60"):
        work.past.keep()


def test_other_tokens_than_before_are_found() -> None:
    """As of a cache that was changed: the call's work is not that of the round before."""
    hf, work = loaded(case("llama"))
    assert work.past is not None
    tokens = hf.generate(work)
    hf.verify(work, tokens)
    for layer in work.past.cache.layers:
        layer.keys.mul_(-3)  # type: ignore[union-attr]
    with pytest.raises(WorkNotDone, match="calls after the same 60 cached tokens returned different tokens"):
        hf.verify(work, hf.generate(work))


def test_a_model_without_such_a_cache_is_refused_by_name() -> None:
    """XLNet keeps hidden states of its own."""
    hf, work = loaded(case("llama", replace(DEEP, depth=0)))
    hf.model._supports_default_dynamic_cache = lambda: False
    with pytest.raises(WorkNotDone, match="the cache of LlamaForCausalLM cannot be put back to a depth"):
        hf.fill(work, make_before(DEEP, 128, 17))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("llama", [(Point(1, 100, 4, depth=1000), None)]),
        ("mpt", [(Point(2, 40, 4, depth=600), 64)]),
        ("gemma3", [(Point(2, 600, 4), 100), (Point(4, 33, 4), None)]),
        ("gpt_oss", [(Point(4, 96, 4), 24)]),  # its peak is in its experts, behind the softmax
        (
            "mistral",  # below, at and above its window of 32, in one piece and in several, and at a depth
            [
                *((Point(batch, tokens, 4), None) for batch in (1, 4) for tokens in (31, 32, 33, 96)),
                (Point(4, 96, 4), 24),
                (Point(2, 20, 4, depth=200), 40),
            ],
        ),
    ],
)
def test_the_predicted_memory_is_that_of_the_tensors(
    name: str, shapes: list[tuple[Point, int | None]]
) -> None:
    """Within 10 % of what was alive beyond the weights, filling included."""
    asked = case(name, DEEP)
    work = count_work(asked)
    footprint = count_footprint(asked, work.caches).with_heads(work, 4)
    for point, chunk in shapes:
        found = predict(point, footprint, "gpu", 1, "hf", 0, chunk)
        beyond = found.total_bytes - found.weights_bytes - found.margin_bytes
        assert beyond == pytest.approx(highest_bytes(case(name, point, chunk)), rel=0.1), (point, chunk)


def highest_bytes(asked: Case) -> int:
    """The most bytes alive beyond the weights, in two calls of the case."""
    hf, point = HfEngine(), asked.point
    hf.load(asked, 17)
    live = Live([t.untyped_storage() for t in (*hf.model.parameters(), *hf.model.buffers())])
    with torch.no_grad(), _head_watched(hf.model, live), live:
        task = hf.prepare(make_prompts(point, 128, 17), point.output_len)
        task = hf.fill(task, make_before(point, 128, 17)) if point.depth else task
        for _ in range(2):
            hf.verify(task, hf.generate(task))
    return max(event.live for event in live.events)
