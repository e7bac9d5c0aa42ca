"""Layers that attend to a part of their cache, a chunk or what an indexer chooses, of real tiny models."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import transformers
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fixtures.core.cost.bounds import Cache, Experts, Work, cache_bytes, decode_flops
from fixtures.core.cost.memory import predict
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.library import hardware
from fixtures.engines.counting.count import CannotCount, count_work
from fixtures.engines.counting.footprint import count_footprint
from fixtures.engines.counting.live import record
from fixtures.engines.hf import HfEngine

SMALL: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 32, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 4,
}  # fmt: skip
LATENT: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "n_shared_experts": 1,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "kv_lora_rank": 32, "q_lora_rank": 24,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1,
}  # fmt: skip
INDEXED: dict[str, Any] = {**LATENT, "index_topk": 8, "index_head_dim": 16, "index_n_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "llama4": {
        **SMALL, "model_type": "llama4_text", "num_hidden_layers": 4, "intermediate_size_mlp": 64,
        "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "attention_chunk_size": 8,
    },
    "minimax_m3": {
        **SMALL, "model_type": "minimax_m3_vl_text", "num_hidden_layers": 3, "num_experts_per_tok": 2,
        "dense_intermediate_size": 64, "shared_intermediate_size": 32, "rotary_dim": 8,
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "layer_types": ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
        "index_n_heads": 2, "index_head_dim": 16, "index_block_size": 4, "index_topk_blocks": 2,
        "index_local_blocks": 1,
    },
    "deepseek_v32": {**INDEXED, "model_type": "deepseek_v32"},
    "glm5_2": {**INDEXED, "model_type": "glm_moe_dsa", "indexer_types": ["full", "shared", "full"]},
    "deepseek_v4": {
        **SMALL, "model_type": "deepseek_v4", "moe_intermediate_size": 32, "num_hidden_layers": 4,
        "num_key_value_heads": 1, "q_lora_rank": 24, "o_lora_rank": 16, "o_groups": 2, "index_n_heads": 2,
        "index_head_dim": 16, "index_topk": 4, "n_routed_experts": 4, "n_shared_experts": 1,
        "num_experts_per_tok": 2, "sliding_window": 8, "hc_mult": 2, "hc_sinkhorn_iters": 2,
        "layer_types": [
            "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention",
            "compressed_sparse_attention",
        ],
        "mlp_layer_types": ["hash_moe", "moe", "moe", "moe"],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
    },
}  # fmt: skip
# fp32: keys and values of two heads of 16, a latent of 32 and 8 of positions, an indexer's key of 16
KEYS_AND_VALUES, LATENT_BYTES, INDEXER = 2 * 2 * 16 * 4, (32 + 8) * 4, 16 * 4


@cache
def work_of(name: str) -> Work:
    """What a small model must do, in fp32."""
    return count_work(case(MODELS[name]))


def case(architecture: dict[str, Any]) -> Case:
    """A model of its own in fp32 on a CPU."""
    model = ModelSpec("own", architecture)
    return Case(model, hardware("cpu"), 1, EngineSpec("hf", dtype="float32"), Point(1, 8, 2))


@pytest.mark.parametrize(
    ("name", "caches", "pair_flops"),
    [
        ("llama4", (Cache(3, KEYS_AND_VALUES, 0, 8, 1, 8), Cache(1, KEYS_AND_VALUES)), ()),
        (
            "minimax_m3",  # scores and values of 4 heads of 16; scores of an indexer's 2 heads of 16
            (Cache(1, KEYS_AND_VALUES), Cache(2, KEYS_AND_VALUES, chosen=2, block=4), Cache(2, INDEXER)),
            (256, 2 * 256, 2 * 2 * 2 * 16),
        ),
        (
            "deepseek_v32",  # 4 heads of 16 + 8 and of 16; an indexer also sums its two heads' scores
            (Cache(3, LATENT_BYTES, chosen=8), Cache(3, INDEXER)),
            (3 * 2 * 4 * (24 + 16), 3 * (2 * 2 * 16 + 2 * 2)),
        ),
        (
            "deepseek_v4",  # keys are values too: once but in a plain layer; entries of 4 and of 8 tokens
            (
                Cache(1, 128, window=8),
                Cache(3, 64, window=8),
                Cache(2, 64, 512, chosen=4, every=4, begun_bytes=256),
                Cache(2, 64, 512, every=4, begun_bytes=256),
                Cache(1, 64, every=8, begun_bytes=128),
            ),
            (256, 3 * 256, 2 * 256, 2 * 2 * 2 * 16, 256),
        ),
        (
            "glm5_2",  # the layer in the middle takes what the indexer of the first one chose
            (Cache(3, LATENT_BYTES, chosen=8), Cache(2, INDEXER)),
            (3 * 2 * 4 * (24 + 16), 2 * (2 * 2 * 16 + 2 * 2)),
        ),
    ],
)
def test_caches_and_pairs_are_those_counted_by_hand(
    name: str, caches: tuple[Cache, ...], pair_flops: tuple[float, ...]
) -> None:
    """An indexer's keys are a cache of their own; pairs of all caches together are all pairs."""
    work = work_of(name)
    assert work.caches == caches
    assert work.pair_flops == pair_flops
    of_all = sum(flops / cache.every for flops, cache in zip(pair_flops, caches, strict=False))
    assert work.flops_per_pair == of_all or not pair_flops


@pytest.mark.parametrize("name", MODELS)
def test_passes_of_a_real_model_take_what_was_counted(name: str) -> None:
    """FLOPs and bytes kept, before and after the chosen positions are fewer than all.

    A pass over an empty cache scores all T * T pairs; transformers masks those that are not chosen.
    """
    work = work_of(name)
    config = transformers.AutoConfig.for_model(**MODELS[name])
    config._experts_implementation = "eager"  # of which the counter knows every product
    real = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    past, held = None, 0
    for tokens in (5, 1, 7, 1, 30, 1):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            ids = torch.randint(128, (1, tokens))
            output = real(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past, flops = output.past_key_values, counter.get_total_flops()
        if tokens == 1:
            assert flops == decode_flops(work, 1, held)
        elif held == 0 and name != "deepseek_v4":  # there the pairs go in steps
            every_pair = work.flops_per_pair * tokens**2
            assert flops == work.flops_constant + work.flops_per_token * tokens + every_pair
        held += tokens
        assert kept_bytes(past) == cache_bytes(work, 1, held)


def kept_bytes(past: Any) -> int:
    """Bytes of the tensors of a cache, each once, but for its numbers."""
    tensors = {id(t): t for t in tree_leaves([list(vars(layer).values()) for layer in past.layers])}
    floats = [t for t in tensors.values() if isinstance(t, torch.Tensor) and t.is_floating_point()]
    return sum(tensor.numel() * tensor.element_size() for tensor in floats)


def test_llama_4_runs_all_experts_though_a_token_needs_one() -> None:
    """transformers does; the three others are of no need, neither their FLOPs nor their bytes.

    An expert has 3 matrices of 64 x 32, and is there in each of 4 layers.
    """
    work, expert = work_of("llama4"), 3 * 64 * 32
    assert work.idle_flops == 4 * 3 * 2 * expert
    assert work.experts == (Experts(4, 4, 1, 4 * expert),)
    attention = 4 * (2 * 64 * 64 + 2 * 64 * 32)
    shared, router, norms = 4 * 3 * 64 * 32, 4 * 4 * 64, 9 * 64
    assert work.weight_bytes == 4 * (attention + shared + router + norms + 4 * expert + 128 * 64 + 64)


@pytest.mark.parametrize("kind", ["compressed_sparse_attention", "indexed_attention"])
def test_a_layer_that_chooses_in_an_unknown_way_says_so(kind: str) -> None:
    """Never a wrong number; the config of the second one lacks the number of positions."""
    with pytest.raises(CannotCount, match=f"a layer of {kind}"):
        count_work(case({**MODELS["llama4"], "layer_types": [kind] * 4}))


# chunks and choices that the lengths of the count do not fill, and those of the call do
PEAKS: dict[str, dict[str, Any]] = {
    "deepseek_v3": {**LATENT, "model_type": "deepseek_v3"},
    "llama4": {**MODELS["llama4"], "attention_chunk_size": 32},
    "deepseek_v32": {**MODELS["deepseek_v32"], "index_topk": 32},
    "glm5_2": {**MODELS["glm5_2"], "index_topk": 32},
    "deepseek_v4": MODELS["deepseek_v4"],
    "minimax_m3": {**MODELS["minimax_m3"], "index_block_size": 32},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PEAKS)
def test_the_predicted_peak_is_that_of_the_tensors(name: str) -> None:
    """To a tenth, for two sequences of 96 tokens and three more, as `generate` makes them on a CPU."""
    asked = case(PEAKS[name])
    work = count_work(asked)
    footprint = count_footprint(asked, work.caches).with_heads(work, 4)
    hf, point = HfEngine(), Point(2, 96, 3)
    hf.load(asked, seed=17)
    steps = record(hf.model, point.batch_size, point.input_len, point.output_len, use_cache=True)
    highest = max(event.live for events in steps for event in events)
    found = predict(point, footprint, "gpu", baseline_bytes=0)
    beyond = found.total_bytes - found.weights_bytes - found.margin_bytes
    assert 0.9 * highest <= beyond <= 1.1 * highest
