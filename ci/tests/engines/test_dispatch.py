"""Operators and bytes beside arithmetic, counted on meta, against counts by hand."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from ci.docs.models import entries
from fixtures.core.cost.bounds import state_bytes
from fixtures.core.cost.stored_counts import Dispatch, find_counts
from fixtures.core.estimate.model import STATE, Model, copied_experts, kinds_of
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.library import hardware, model, names
from fixtures.engines.build import lay_out, make_config
from fixtures.engines.counting import recount
from fixtures.engines.counting.count import count_work
from fixtures.engines.counting.dispatch import count_dispatch, each_pass

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 7, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
}  # fmt: skip

LATENT: dict[str, Any] = {
    "model_type": "deepseek_v3", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96,
    "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 16,
    "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 20, "moe_intermediate_size": 32,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
}  # fmt: skip

GATED: dict[str, Any] = {
    "model_type": "qwen3_5_text", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4,
}  # fmt: skip


NEMOTRON: dict[str, Any] = {
    "model_type": "nemotron_h", "vocab_size": 512, "hidden_size": 64, "num_attention_heads": 4,
    "layers_block_type": ["mamba", "moe", "mamba", "attention", "moe"], "num_key_value_heads": 2,
    "head_dim": 16, "intermediate_size": 32, "ssm_state_size": 24, "mamba_num_heads": 4,
    "mamba_head_dim": 16, "n_groups": 2, "conv_kernel": 4, "expand": 1, "chunk_size": 32,
    "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 40,
}  # fmt: skip


def counted(architecture: dict[str, Any], **engine: Any) -> Dispatch:
    """Of a model of its own; the same model is counted once."""
    return _counted(json.dumps(architecture), tuple(engine.items()))


@cache
def _counted(architecture: str, engine: tuple[tuple[str, Any], ...]) -> Dispatch:
    spec = ModelSpec("own", json.loads(architecture))
    case = Case(spec, hardware("cpu"), 1, EngineSpec("hf", **dict(engine)), Point(1, 8, 2))
    return count_dispatch(case, count_work(case))


def test_a_cache_is_read_twice_and_written_once() -> None:
    """By cat, which reads and writes it, and by the fused kernel, which reads it; no scores are made."""
    found = counted(LLAMA)
    assert (found.layers, found.heads, found.width) == (7, 4, 64)
    assert found.kappa == pytest.approx(3.0)
    assert found.sigma == pytest.approx(0.0)
    grouped = counted({**LLAMA, "num_key_value_heads": 1})
    assert grouped.kappa == pytest.approx(3.0 / 4)  # counted against the keys and values of all heads
    assert grouped.ops == found.ops


def test_eager_attention_moves_its_scores() -> None:
    """In bf16: softmax in fp32 alone reads and writes 4 bytes a score; a step dispatches more operators."""
    fused, eager = counted(LLAMA), counted(LLAMA, attention="eager")
    assert eager.ops > fused.ops
    assert 8 < eager.sigma < 60
    # the scores of the one new token, beside 4 * hd bytes of keys and values a head
    assert eager.kappa == pytest.approx(3.0 + eager.sigma / (4 * 16), rel=0.05)


def test_a_layer_costs_the_same_in_a_deeper_model() -> None:
    """And what is outside of the layers too."""
    deeper = counted({**LLAMA, "num_hidden_layers": 9})
    assert deeper == Dispatch(**{**counted(LLAMA).as_dict(), "layers": 9, "kappa": deeper.kappa})


def test_without_a_cache_nothing_grows_with_it() -> None:
    """Each step makes everything anew."""
    assert counted(LLAMA, use_cache=False).kappa == 0


def test_layers_that_differ_count_as_their_mean() -> None:
    """One dense layer and two with experts, all of them run; each kind alone is cut to few layers."""
    few = {**LATENT, "num_hidden_layers": 3, "moe_intermediate_size": 4096}
    mixed, dense, experts = (counted({**few, "first_k_dense_replace": number}) for number in (1, 9, 0))
    assert experts.ops > dense.ops > 20
    for name in ("ops", "omega", "copied"):
        mean = (getattr(dense, name) + 2 * getattr(experts, name)) / 3
        assert getattr(mixed, name) == pytest.approx(mean, rel=0.02)
    assert mixed.base == dense.base
    assert mixed.kappa == pytest.approx(dense.kappa)


def test_a_decode_step_writes_and_reads_copies_of_each_tokens_experts() -> None:
    """As on a GPU: 2 of 4 experts of 3 matrices of 64 x 4096 in bf16, in and out; a dense layer none."""
    few = {**LATENT, "num_hidden_layers": 3, "moe_intermediate_size": 4096}
    assert counted({**few, "first_k_dense_replace": 9}).copied == 0
    copies = 2 * 2 * 3 * 64 * 4096 * 2
    assert counted({**few, "first_k_dense_replace": 0}).copied == pytest.approx(copies, rel=0.02)


def test_a_layer_with_a_state_loops_over_its_chunks() -> None:
    """A longer prefill dispatches more, and a step moves the state at least in and out."""
    own = {**GATED, "layer_types": ["linear_attention"] * 3 + ["full_attention"]}
    spec = ModelSpec("own", own)
    case = Case(spec, hardware("cpu"), 1, EngineSpec("hf"), Point(1, 8, 2))
    work = count_work(case)
    found = count_dispatch(case, work)
    assert found.ops_per_token > 0
    assert found.copied * found.layers > 2 * state_bytes(work, 1)
    model = lay_out(make_config(spec.architecture, "auto", None), torch.bfloat16, False).eval()
    longer = each_pass(model.requires_grad_(False), 2, 256, True, None)[0]
    assert Model.of(work, found).operators(256) == pytest.approx(longer.calls, rel=0.02)
    whole, begun = (each_pass(model, 2, tokens, True, list(model.model.layers))[0] for tokens in (128, 100))
    moved = 28 * (found.omega * found.width - found.padded_bytes) * 2 * 4  # of 2 sequences in 4 layers
    assert whole.moved - begun.moved == pytest.approx(moved, rel=0.02)


def test_chunks_of_a_delta_rule_counted_by_hand() -> None:
    """Of a token in each of 4 heads of 16 x 16, in 3 of 4 layers, in chunks of 64: the products by pairs
    of keys, of queries, and with new values, two triangular systems, and three products with the state.
    """
    found = counted(GATED)
    head = 3 * 2 * 64 * 16 + 2 * 64 * 16 + 3 * 2 * 16 * 16
    assert (found.chunk, found.blocks) == (64, 2)
    assert found.padded_flops == pytest.approx(3 * 4 * head / 4)
    assert found.chunk_flops == pytest.approx(3 * 4 * (head - 6 * 16 * 16) / 4)


def test_chunks_of_a_scan_counted_by_hand() -> None:
    """Of a token in each of 4 heads of 16 x 24, in 2 of 5 layers, in chunks of 32: two products by pairs and
    two with the state, and in the second chunk 9 of states, where the first had 4. A layer is one block.
    """
    found = counted(NEMOTRON)
    head = 2 * 32 * (24 + 16) + 2 * 2 * 16 * 24 + 2 * (9 - 4) * 16 * 24 / 32
    assert (found.chunk, found.blocks) == (32, 1)
    assert found.padded_flops == pytest.approx(2 * 4 * head / 5)
    assert found.chunk_flops == pytest.approx(2 * 4 * (head - 4 * 16 * 24) / 5)


def test_a_layer_without_a_state_has_no_chunks() -> None:
    """And two blocks, be they modules or linear layers of the layer itself."""
    own = {"num_hidden_layers": 2, "vocab_size": 512, "hidden_size": 64, "num_attention_heads": 4}
    opt = {**own, "model_type": "opt", "ffn_dim": 96, "word_embed_proj_dim": 64, "pad_token_id": 1}
    for architecture in (LLAMA, opt):
        found = counted(architecture)
        assert (found.blocks, found.chunk, found.chunk_flops, found.padded_bytes) == (2, 1, 0, 0)


@pytest.mark.parametrize("name", names("models"))
def test_every_counted_model_of_the_library_has_its_operators_counted(name: str) -> None:
    """As many a layer as an operator trace has, fewer outside of the layers, and copies of experts.

    The first models have every variant; those that came with published figures have at least `hf`.
    """
    stored = {engine.name: find_counts(model(name), engine) for engine in recount.VARIANTS}
    assert stored["hf"] is not None
    assert all(stored.values()) or "published" in entries(name)
    for counts in filter(None, stored.values()):
        assert counts.dispatch is not None
        most, moved = (700, 1500) if kinds_of(counts.work) else (200, 1000)
        assert 20 < counts.dispatch.ops < most
        assert 20 < counts.dispatch.base < counts.dispatch.ops * counts.dispatch.layers
        assert 50 < counts.dispatch.omega < moved
        if counts.dispatch.copied and STATE not in kinds_of(counts.work):
            copies, copied = copied_experts(counts.work), counts.dispatch.copied * counts.dispatch.layers
            within = 0.1 if name == "deepseek_v4_flash" else 2e-3  # it keeps a window and four streams too
            assert copied == pytest.approx(copies, rel=within)


@pytest.mark.parametrize(
    ("name", "engine", "ops"), [("mpt7b", "eager", 52), ("llama7b", "eager", 92), ("llama7b", "auto", 76)]
)
def test_operators_of_a_layer(name: str, engine: str, ops: int) -> None:
    """As another trace of the same version of transformers counts them."""
    counts = find_counts(model(name), EngineSpec("x", attention=engine))
    assert counts is not None
    assert counts.dispatch is not None
    assert counts.dispatch.ops == ops


def test_a_model_of_ones_own_is_counted_into_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a yaml, here with two of the variants; a model that is not the library's has no place there."""
    monkeypatch.setattr(recount, "VARIANTS", recount.VARIANTS[:2])
    file = tmp_path / "mine.yaml"
    text = "\n".join(f"  {key}: {value}" for key, value in LLAMA.items())
    file.write_text(f"architecture:\n{text}\n")
    assert recount.main([str(file)]) == 4
    assert "mine is not a model of the library: name a folder with --to" in capsys.readouterr().err
    assert recount.main([str(tmp_path / "none.yaml"), "--to", str(tmp_path)]) == 4
    assert recount.main([str(tmp_path), "--to", str(tmp_path)]) == 4
    assert "has no config.json; give the folder" in capsys.readouterr().err
    assert recount.main([str(file), "--to", str(tmp_path / "counts")]) == 0
    found = find_counts(ModelSpec("other_name", dict(LLAMA)), EngineSpec("hf"), tmp_path / "counts")
    assert found is not None
    assert found.dispatch == counted(LLAMA)
    assert all(
        find_counts(ModelSpec("x", dict(LLAMA)), each, tmp_path / "counts") for each in recount.VARIANTS
    )
