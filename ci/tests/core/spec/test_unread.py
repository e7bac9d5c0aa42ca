"""A key of an architecture that transformers does not read is an error or a note, never silent."""

from __future__ import annotations

import pytest

from fixtures.core.base.errors import InputError
from fixtures.core.base.node import Plain, as_node
from fixtures.core.spec.arch.unread import check_read
from fixtures.core.spec.checks import check_architecture

# What public files have: of the hub, of training and of other libraries, besides what is read.
META: dict[str, Plain] = {
    "_name_or_path": "own/model",
    "architectures": ["LlamaForCausalLM"],
    "auto_map": {"AutoConfig": "own.OwnConfig"},
    "torch_dtype": "bfloat16",
    "dtype": "bfloat16",
    "transformers_version": "4.33.0",
    "use_cache": True,
    "tokenizer_class": "LlamaTokenizer",
    "bos_token_id": 1,
    "eos_token_id": [1, 2],
    "pad_token_id": -1,
    "attn_implementation": "sdpa",
    "temperature": 0.5,
    "do_sample": True,
    "quantization_config": {"quant_method": "gptq", "bits": 4},
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}
FILES: list[dict[str, Plain]] = [
    {"model_type": "llama", "rope_theta": 1e6, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    {
        "model_type": "llama",
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    {
        "model_type": "falcon",
        "num_hidden_layers": 2,
        "alibi": True,
        "bias": True,
        "multi_query": False,
        "parallel_attn": False,
    },
    {
        "model_type": "falcon",
        "new_decoder_architecture": True,
        "num_kv_heads": 2,
        "num_ln_in_parallel_attn": 2,
    },
    {
        "model_type": "gpt2",
        "n_layer": 2,
        "n_embd": 64,
        "n_head": 4,
        "summary_type": "cls_index",
        "n_inner": None,
    },
    {"model_type": "gptj", "rotary_dim": 64, "n_layer": 2},
    {"model_type": "gpt_bigcode", "multi_query": True, "scale_attention_softmax_in_fp32": True, "n_layer": 2},
    {"model_type": "opt", "do_layer_norm_before": True, "word_embed_proj_dim": 64, "ffn_dim": 128},
    {
        "model_type": "bloom",
        "n_layer": 2,
        "n_head": 4,
        "hidden_size": 64,
        "n_embed": 64,
        "slow_but_exact": False,
    },
    {"model_type": "gpt_neox", "rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": True},
    {"model_type": "phi", "partial_rotary_factor": 0.5, "qk_layernorm": False, "embd_pdrop": 0.0},
    {
        "model_type": "phi3",
        "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]},
        "sliding_window": 2047,
    },
    {
        "model_type": "gemma2",
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "cache_implementation": "hybrid",
    },
    {
        "model_type": "qwen2_moe",
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
        "max_window_layers": 21,
    },
    {"model_type": "qwen3_moe", "num_experts": 4, "norm_topk_prob": True, "router_aux_loss_coef": 0.001},
    {
        "model_type": "mixtral",
        "num_local_experts": 4,
        "output_router_logits": False,
        "router_jitter_noise": 0.0,
    },
    {"model_type": "stablelm", "partial_rotary_factor": 0.25, "use_qkv_bias": True, "layer_norm_eps": 1e-5},
    {
        "model_type": "deepseek_v3",
        "num_nextn_predict_layers": 1,
        "rope_scaling": {
            "type": "yarn",
            "factor": 40,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
        },
    },
    {
        "model_type": "mpt",
        "attn_config": {"alibi": True, "attn_impl": "torch", "qk_ln": False, "attn_pdrop": 0},
        "no_bias": True,
    },
    {
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", "sliding_window": 8, "rope_local_base_freq": 10000.0},
    },
]


@pytest.mark.parametrize("config", FILES)
@pytest.mark.parametrize("written", [True, False])
def test_what_public_files_have_is_read(config: dict[str, Plain], written: bool) -> None:
    """By the class, by its bases, or by what is built from it; the user may write the same."""
    assert check_read(as_node(META | config, "c"), written) == ()


TYPOS: list[tuple[dict[str, Plain], str, str]] = [
    ({"model_type": "llama", "num_hiden_layers": 1}, "num_hiden_layers", "num_hidden_layers"),
    ({"model_type": "llama", "hidden_sise": 64}, "hidden_sise", "hidden_size"),
    ({"model_type": "llama", "num_layers_hidden": 1}, "num_layers_hidden", "num_hidden_layers"),
    ({"model_type": "llama", "n_layers": 1}, "n_layers", "num_hidden_layers"),
    ({"model_type": "llama", "n_embd": 64}, "n_embd", "hidden_size"),
    ({"model_type": "llama", "n_positions": 64}, "n_positions", "max_position_embeddings"),
    ({"model_type": "gpt2", "n_layers": 1}, "n_layers", "n_layer"),
    ({"model_type": "gpt_neox", "num_hidden_layer": 1}, "num_hidden_layer", "num_hidden_layers"),
    ({"model_type": "mpt", "attn_config": {"clip_qvk": 6}}, "attn_config.clip_qvk", "clip_qkv"),
    ({"model_type": "dbrx", "ffn_config": {"moe_topk": 1}}, "ffn_config.moe_topk", "moe_top_k"),
    ({"model_type": "gemma3", "text_config": {"hiden_size": 64}}, "text_config.hiden_size", "hidden_size"),
    (
        {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_sizes": 9}},
        "text_config.vocab_sizes",
        "vocab_size",
    ),
    (
        {"model_type": "llama", "rope_scaling": {"type": "linear", "facter": 2}},
        "rope_scaling.facter",
        "factor",
    ),
    (
        {"model_type": "llama", "rope_parameters": {"rope_tehta": 2}},
        "rope_parameters.rope_tehta",
        "rope_theta",
    ),
    ({"model_type": "qwen3_moe", "num_expert": 4}, "num_expert", "num_experts"),
]


@pytest.mark.parametrize(("config", "key", "meant"), TYPOS)
@pytest.mark.parametrize("written", [True, False])
def test_a_slip_is_refused_with_the_name_that_was_meant(
    config: dict[str, Plain], key: str, meant: str, written: bool
) -> None:
    """In a checkpoint's file too, at every depth, and for another architecture's name of the same thing."""
    with pytest.raises(InputError) as caught:
        check_read(as_node(META | config, "c"), written)
    said = str(caught.value)
    assert said.startswith(f"c: {key}: transformers' ")
    assert " not read this key; " in said
    assert said.endswith(f"; did you mean {meant!r}?")


def test_a_key_that_is_far_from_any_is_refused_only_of_who_wrote_it() -> None:
    """A checkpoint's are told in one line; null says nothing."""
    config = META | {"model_type": "llama", "frobnicate": 1, "task_specific_params": {"x": 1}, "odd": None}
    (told,) = check_read(as_node(config, "c"), written=False)
    assert told == (
        "transformers' LlamaConfig does not read these keys of its config: frobnicate, task_specific_params"
    )
    with pytest.raises(InputError, match=r"^c: frobnicate: .* does not read this key; it has: .*hidden_size"):
        check_read(as_node(config, "c"), written=True)


def test_a_slip_beside_the_key_itself_changes_nothing_in_a_checkpoint() -> None:
    """So it is told only."""
    config: dict[str, Plain] = {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "num_hiden_layers": 2,
        "n_layers": 2,
    }
    (told,) = check_read(as_node(config, "c"), written=False)
    assert told.endswith(": num_hiden_layers, n_layers")


def test_a_key_that_the_class_has_and_the_model_does_not_use_is_told() -> None:
    """Where it is not the class's default: llama computes the same whatever pretraining_tp is."""
    said = "transformers' LlamaConfig declares these keys, but its model does not use them: pretraining_tp"
    for tp, told in ((2, (said,)), (1, ())):
        assert check_read(as_node({"model_type": "llama", "pretraining_tp": tp}, "c"), written=False) == told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"expansion_ratio": 2},
            "expansion_ratio: 2 cannot be built: transformers' MPT has an MLP of 4 times",
        ),
        ({"attn_config": {"rope": True}}, "attn_config.rope: "),
        (
            {"attn_config": {"qk_ln": True}},
            "attn_config.qk_ln: True cannot be built: transformers' MPT has no",
        ),
        (
            {"attn_config": {"prefix_lm": True}},
            "attn_config.prefix_lm: True cannot be built: transformers' MPT is",
        ),
        (
            {"attn_config": {"attn_type": "multiquery_attention"}},
            "attn_config.attn_type: 'multiquery_attention'",
        ),
        ({"n_heads": 4, "attn_config": {"kv_n_heads": 2}}, "attn_config.kv_n_heads: 2 cannot be built:"),
        ({"norm_type": "rmsnorm"}, "norm_type: 'rmsnorm' cannot be built: transformers' MPT has LayerNorm"),
        ({"ffn_config": {"ffn_type": "mptglu"}}, "ffn_config.ffn_type: 'mptglu' cannot be built:"),
    ],
)
@pytest.mark.parametrize("written", [True, False])
def test_an_mpt_that_transformers_cannot_build_is_refused_whatever_it_comes_from(
    change: dict[str, Plain], message: str, written: bool
) -> None:
    """As in a file of llm-foundry."""
    with pytest.raises(InputError) as caught:
        check_architecture(as_node({"model_type": "mpt", **change}, "c"), written=written)
    assert str(caught.value).startswith(f"c: {message}")


def test_what_an_mpt_is_measured_without_is_told() -> None:
    """Biases, learned positions, a scale of the logits."""
    config: dict[str, Plain] = {
        "model_type": "mpt",
        "no_bias": False,
        "logit_scale": 0.5,
        "attn_config": {"alibi": False},
    }
    assert check_architecture(as_node(config, "c"), written=False) == (
        "transformers' MPT does not scale its logits",
        "no_bias is not true, but transformers' MPT has no biases",
        "attn_config.alibi is not true, but transformers' MPT always uses ALiBi instead of learned positions",
    )
    assert check_architecture(as_node({"model_type": "mpt"}, "c")) == ()


def test_trusted_code_reads_what_it_likes() -> None:
    """Only where the checkpoint brings some."""
    config: dict[str, Plain] = {"model_type": "llama", "num_hiden_layers": 1}
    code: Plain = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"}
    assert check_architecture(as_node(config | {"auto_map": code}, "c"), trusted=True) == ()
    own: dict[str, Plain] = {"auto_map": code}
    nothing: dict[str, Plain] = {}
    for trusted, brings in ((True, nothing), (False, own)):
        with pytest.raises(InputError, match=r"num_hiden_layers: .* does not read this key"):
            check_architecture(as_node(config | brings, "c"), trusted=trusted)
