"""What is read off a model: the dtypes that its architecture keeps, and whether it chooses among experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from fixtures.core.base.text import kept_line
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.engines.build import lay_out, make_config
from fixtures.engines.hf import HfEngine
from fixtures.engines.loaded import has_experts, kept_dtypes
from fixtures.engines.protocol import CannotLoad
from fixtures.measure.prompts import make_prompts

pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA = {"model_type": "llama", **SIZES}
MIXTRAL = {"model_type": "mixtral", **SIZES, "num_local_experts": 4, "num_experts_per_tok": 2}
ERNIE = {
    "model_type": "ernie4_5_moe", **SIZES, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32,
    "moe_num_shared_experts": 1, "moe_layer_start_index": 1,
}  # fmt: skip
GPT_OSS = {
    "model_type": "gpt_oss",
    **SIZES,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 16,
}
DEEPSEEK = {
    "model_type": "deepseek_v3", **SIZES, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1,
    "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16,
}  # fmt: skip
QWEN_MOE = {
    "model_type": "qwen3_moe", **SIZES, "num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "decoder_sparse_step": 1,
}  # fmt: skip
GEMMA4_TEXT = {
    **SIZES, "num_global_key_value_heads": 1, "global_head_dim": 16, "vocab_size_per_layer_input": 128,
    "hidden_size_per_layer_input": 0, "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip
GEMMA4_EXPERTS = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}
HYBRID = {
    "model_type": "granitemoehybrid", **SIZES, "layer_types": ["attention", "attention"],
    "num_experts_per_tok": 2, "shared_intermediate_size": 64,
}  # fmt: skip
DOGE = {"model_type": "doge", **SIZES, "num_experts": 16, "num_experts_per_tok": 2}


def case(architecture: dict[str, Any], dtype: str = "bfloat16", **spec: Any) -> Case:
    """A case of a small model on the CPU."""
    engine = EngineSpec("hf", dtype=dtype)
    return Case(ModelSpec("small", architecture, **spec), library.hardware("cpu"), 1, engine, Point(2, 8, 4))


def on_meta(architecture: dict[str, Any], dtype: torch.dtype = torch.bfloat16) -> Any:
    """Its modules, without memory."""
    return lay_out(make_config(architecture, "auto", None), dtype, remote_code=False)


@pytest.mark.parametrize(
    ("architecture", "dtype", "kept"),
    [
        (ERNIE, "bfloat16", {"gate.weight": 4 * 64, "gate.moe_statics.e_score_correction_bias": 4}),
        (DEEPSEEK, "bfloat16", {"gate.e_score_correction_bias": 4}),
        (GPT_OSS, "float16", {"layernorm.weight": 64, "model.norm.weight": 64}),
        (GPT_OSS, "bfloat16", {}),
        (LLAMA, "float16", {}),
        ({**LLAMA, "dtype": "torch.bfloat16"}, "float16", {}),
        ({**LLAMA, "torch_dtype": "float12"}, "float16", {}),
        (ERNIE, "float32", {}),
    ],
)
def test_each_tensor_has_the_dtype_that_a_checkpoint_loads_in(
    tmp_path: Path, architecture: dict[str, Any], dtype: str, kept: dict[str, int]
) -> None:
    """As transformers' own loader has it, in a model of random weights and in one of a checkpoint's."""
    hf = HfEngine()
    facts = hf.load(case(architecture, dtype), seed=17)
    hf.model.save_pretrained(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=getattr(torch, dtype)).state_dict()
    ours = hf.model.state_dict()
    assert {name: tensor.dtype for name, tensor in ours.items()} == {
        name: tensor.dtype for name, tensor in theirs.items()
    }
    wide = {name: t for name, t in ours.items() if t.dtype == torch.float32 and dtype != "float32"}
    assert {name: t.numel() for name, t in wide.items()} == {
        name: numel for name in wide for end, numel in kept.items() if name.endswith(end)
    }
    found = facts["kept_in_other_dtypes"]
    assert (found["bytes"] if found else 0) == sum(4 * t.numel() for t in wide.values())
    held = {id(p): p for p in hf.model.parameters()}.values()
    assert facts["parameter_bytes"] == sum(p.nbytes for p in held)
    counted = hf.count(case(architecture, dtype))["footprint"]
    if architecture is not DEEPSEEK:  # whose decode step does other work than a pass over one token
        assert counted["weight_bytes"] == facts["parameter_bytes"]
    hf.check(hf.prepare(make_prompts(case(architecture).point, 128, 17), 4))
    again = HfEngine()
    assert (
        again.load(case(architecture, dtype, weights=str(tmp_path)), seed=1)["kept_in_other_dtypes"] == found
    )


def test_what_is_kept_is_told() -> None:
    """The names with a star for each number, and their share of the bytes; nothing of a model like others."""
    hf = HfEngine()
    line = kept_line("small-1xcpu-hf", facts := hf.load(case(ERNIE), seed=17))
    # the gate of 4 x 64 and its bias of 4 in fp32
    share = 100 * 4 * (4 * 64 + 4) / facts["parameter_bytes"]
    assert line == (
        "small-1xcpu-hf: the architecture keeps float32 for "
        "model.layers.*.mlp.gate.moe_statics.e_score_correction_bias, model.layers.*.mlp.gate.weight "
        f"({share:.2f} % of the weights' bytes)"
    )
    assert kept_line("small-1xcpu-hf", HfEngine().load(case(LLAMA), seed=17)) is None


@pytest.mark.parametrize("name", ["model.layers.1.mlp.gate.weight", "model.layers.0.mlp.up_proj.weight"])
def test_another_dtype_than_is_due_is_refused(name: str) -> None:
    """One that the architecture keeps and that was narrowed, and one that was widened for no reason."""
    hf = HfEngine()
    hf.load(case(ERNIE), seed=17)
    parameter = dict(hf.model.named_parameters())[name]
    other = torch.float32 if parameter.dtype == torch.bfloat16 else torch.bfloat16
    parameter.data = parameter.data.to(other)
    with pytest.raises(CannotLoad, match=rf"{name} is {other} on cpu, not torch\."):
        hf.check(hf.prepare(make_prompts(case(ERNIE).point, 128, 17), 4))


def test_a_tied_head_stays_tied_where_others_are_kept() -> None:
    """A parameter of two names is one parameter still."""
    model = on_meta({**ERNIE, "tie_word_embeddings": True})
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert set(kept_dtypes(model, torch.bfloat16).values()) == {torch.float32}


CHOOSE: dict[str, dict[str, Any]] = {
    "mixtral": MIXTRAL,
    "ernie": ERNIE,
    "gpt_oss": GPT_OSS,
    "deepseek": DEEPSEEK,
    "qwen": QWEN_MOE,
    "gemma4": {"model_type": "gemma4", "text_config": {**GEMMA4_TEXT, **GEMMA4_EXPERTS}},
    "gemma4_text": {"model_type": "gemma4_text", **GEMMA4_TEXT, **GEMMA4_EXPERTS},
    "granite": {"model_type": "granitemoe", **SIZES, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granite_with_shared_ones": {
        "model_type": "granitemoeshared",
        **SIZES,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 64,
    },
    "jetmoe": {"model_type": "jetmoe", **SIZES, "num_local_experts": 4, "kv_channels": 16},
    "phimoe": {"model_type": "phimoe", **SIZES, "num_local_experts": 4},
    "doge": {**DOGE, "is_moe": True},
    "hybrid": {**HYBRID, "num_local_experts": 4},
}
DENSE: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama_that_names_experts": {**LLAMA, "num_experts": 8, "num_local_experts": 8},
    "mpt": {"model_type": "mpt", "d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 128},
    "doge": {**DOGE, "is_moe": False},
    "hybrid_without_experts": {**HYBRID, "num_local_experts": 0},
    "qwen_with_a_step_over_its_layers": {**QWEN_MOE, "decoder_sparse_step": 3},
    "qwen_of_dense_layers": {**QWEN_MOE, "mlp_only_layers": [0, 1]},
    "deepseek_of_dense_layers": {**DEEPSEEK, "first_k_dense_replace": 2},
    "one_expert": {**MIXTRAL, "num_local_experts": 1, "num_experts_per_tok": 1},
    "gemma4_with_experts_off": {
        "model_type": "gemma4_text", **GEMMA4_TEXT, **GEMMA4_EXPERTS, "enable_moe_block": False
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CHOOSE)
def test_experts_are_seen_where_a_layer_has_them(name: str) -> None:
    """Whatever the config's keys are called, and however deep they lie."""
    assert has_experts(on_meta(CHOOSE[name]))


@pytest.mark.parametrize("name", DENSE)
def test_experts_that_no_layer_has_are_none(name: str) -> None:
    """Whatever the config names."""
    assert not has_experts(on_meta(DENSE[name]))


def test_a_list_of_experts_counts_and_shared_ones_do_not() -> None:
    """As code that comes with a checkpoint has them."""

    class OddMLP(torch.nn.Module):
        def __init__(self, experts: int, name: str = "experts") -> None:
            super().__init__()
            setattr(self, name, torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(experts)))

    assert has_experts(OddMLP(4))
    assert not has_experts(OddMLP(1))
    assert not has_experts(OddMLP(4, "shared_experts"))
    assert not has_experts(OddMLP(4, "layers"))
