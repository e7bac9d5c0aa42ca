"""Which configs are of one architecture: by hand, of the forms in which checkpoints are saved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fixtures.core.spec import library
from fixtures.core.spec.arch import same as architecture
from fixtures.core.spec.arch.same import canonical, fingerprint

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
GEMMA: dict[str, Any] = {"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 6}
NEOX: dict[str, Any] = {"model_type": "gpt_neox", "hidden_size": 64}
MPT: dict[str, Any] = {"model_type": "mpt", "d_model": 64, "n_layers": 2}
LLAMA3 = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip

SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "who saved it, and from where": (
        LLAMA,
        {**LLAMA, "transformers_version": "4.47.0", "_name_or_path": "/a/final", "architectures": ["X"]},
    ),
    "dtype and cache, which the engine decides": (
        {**LLAMA, "torch_dtype": "float16", "use_cache": False}, {**LLAMA, "dtype": "bfloat16"},
    ),
    "order of the keys": (LLAMA, dict(reversed(LLAMA.items()))),
    "numbers of another type": (LLAMA, {**LLAMA, "hidden_size": 64.0}),
    "what is for training, and ids of tokens": (
        LLAMA, {**LLAMA, "attention_dropout": 0.1, "initializer_range": 0.5, "eos_token_id": [1, 7]},
    ),
    "defaults that are stated": (
        LLAMA,
        {**LLAMA, "rms_norm_eps": 1e-6, "vocab_size": 32000, "pretraining_tp": 1, "mlp_bias": False,
         "tie_word_embeddings": False, "hidden_act": "silu"},
    ),
    "defaults that follow from other keys": (LLAMA, {**LLAMA, "num_key_value_heads": 4, "head_dim": 16}),
    "layers by a list that is repeated": (
        {"model_type": "ministral", "num_hidden_layers": 3},
        {"model_type": "ministral", "num_hidden_layers": 3, "layer_types": ["sliding_attention"] * 3},
    ),
    "a default that is a product": (
        {"model_type": "mistral"}, {"model_type": "mistral", "max_position_embeddings": 131072},
    ),
    "no rope, and the usual one": (LLAMA, {**LLAMA, "rope_theta": 10000.0, "rope_scaling": None}),
    "usual rope of transformers 5": (
        {**LLAMA, "rope_theta": 10000},
        {**LLAMA, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
    ),
    "scaled rope of both": (
        {**LLAMA, "rope_theta": 5e5, "rope_scaling": LLAMA3},
        {**LLAMA, "rope_parameters": {**LLAMA3, "rope_theta": 500000}},
    ),
    "the older name of rope's type": (
        {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2}},
        {**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ),
    "rope by kinds of layers, and which layers are of which": (
        {**GEMMA, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6,
         "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
        {**GEMMA, "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
         "rope_parameters": {
             "full_attention": {"factor": 8.0, "rope_type": "linear", "rope_theta": 1e6},
             "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    ),
    "rope of a share of each head": (
        {**NEOX, "rotary_pct": 0.5, "rotary_emb_base": 10000},
        {**NEOX, "rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 1e4, "type": "default"}},
    ),
    "either name of a key": (
        {"model_type": "gpt2", "n_embd": 64, "n_layer": 2},
        {"model_type": "gpt2", "hidden_size": 64, "num_hidden_layers": 2},
    ),
    "defaults of a part": (
        MPT, {**MPT, "attn_config": {"alibi": True, "alibi_bias_max": 8, "attn_pdrop": 0.1}},
    ),
    "a part of several": (
        {"model_type": "gemma3", "text_config": GEMMA},
        {"model_type": "gemma3", "text_config": {**GEMMA, "torch_dtype": "bfloat16", "head_dim": 256}},
    ),
    "of a type that is not known, all but what never counts": (
        {"model_type": "own", "width": 64, "use_cache": True}, {"width": 64, "model_type": "own"},
    ),
}  # fmt: skip

OTHER: dict[str, dict[str, Any]] = {
    "as it is": LLAMA,
    "width": {**LLAMA, "hidden_size": 128},
    "depth": {**LLAMA, "num_hidden_layers": 3},
    "heads of the same width in all": {**LLAMA, "num_attention_heads": 2},
    "fewer heads of the cache": {**LLAMA, "num_key_value_heads": 2},
    "wider heads": {**LLAMA, "head_dim": 32},
    "vocabulary": {**LLAMA, "vocab_size": 100},
    "head tied to the embedding": {**LLAMA, "tie_word_embeddings": True},
    "bias": {**LLAMA, "attention_bias": True},
    "activation": {**LLAMA, "hidden_act": "gelu"},
    "base of rope": {**LLAMA, "rope_theta": 5e5},
    "base of rope, as transformers 5 has it": {**LLAMA, "rope_parameters": {"rope_theta": 4e5}},
    "scaled rope": {**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "weights of 8 bits": {**LLAMA, "quantization_config": {"quant_method": "fp8"}},
    "another type": {**LLAMA, "model_type": "mistral"},
    "a key that the library has not": {**LLAMA, "num_experts_of_mine": 8},
    "a window": {**LLAMA, "model_type": "mistral", "sliding_window": None},
    "layers with a window": {
        **LLAMA, "model_type": "qwen2", "layer_types": ["sliding_attention", "full_attention"],
    },
    "the same layers without": {**LLAMA, "model_type": "qwen2"},
    "biases of attention": {**MPT, "attn_config": {"alibi": False}},
    "of a part": MPT,
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_one_architecture_in_two_forms(name: str) -> None:
    """What is written differently and is not."""
    one, other = SAME[name]
    assert canonical(one) == canonical(other)
    assert fingerprint(one) == fingerprint(other) is not None


def test_whatever_changes_shapes_or_work_is_another_architecture() -> None:
    """Each of them is told from each of the others."""
    assert len({fingerprint(one) for one in OTHER.values()}) == len(OTHER)


def test_models_of_the_library_are_all_different() -> None:
    """By their yamls alone."""
    names = library.names("models")
    assert len({fingerprint(library.model(name).architecture) for name in names}) == len(names)


def test_without_transformers_only_what_is_the_same_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of defaults then, and two are rather kept apart."""
    monkeypatch.setattr(architecture, "class_of", lambda _: None)
    config = {**LLAMA, "seen": "without transformers"}
    assert fingerprint(config) == fingerprint({**config, "torch_dtype": "float16"})
    assert fingerprint(config) != fingerprint({**config, "head_dim": 16})


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "x" * 500}, {"model_type": 3}, {"model_type": "../llama"}, {"a": None},
        {**LLAMA, "num_attention_heads": 0}, {**LLAMA, "num_attention_heads": "four"},
        {"model_type": "qwen2", "num_hidden_layers": 10**12},
        {"model_type": "qwen2", "num_hidden_layers": -1},
        {**LLAMA, "rope_scaling": "long"}, {**LLAMA, "rope_parameters": [1]}, {**MPT, "attn_config": 3},
        {"model_type": "gemma3", "text_config": [LLAMA]}, {**LLAMA, "hidden_size": float("inf")},
        {**LLAMA, "rope_theta": {"__float__": "Infinity"}}, json.loads('{"a":' * 200 + "1" + "}" * 200),
    ],
)  # fmt: skip
def test_a_config_may_hold_anything(config: dict[str, Any]) -> None:
    """It has a fingerprint, and is told from the same with another number of heads."""
    assert fingerprint(config) is not None
    assert fingerprint(config) != fingerprint({**config, "num_key_value_heads": 7})


def test_what_is_no_config_has_none() -> None:
    """As of a record without one."""
    nothing: tuple[Any, ...] = ({}, None, [], "llama", 3)
    assert [fingerprint(one) for one in nothing] == [None] * 5


@pytest.mark.slow
def test_the_library_itself_agrees() -> None:
    """A bare config, and all that the installed transformers makes of it, are one; of these types."""
    from transformers import AutoConfig

    types = (
        "llama mistral mixtral qwen2 qwen3 gemma2 gemma3_text falcon mpt gpt2 opt bloom gptj phi phi3 olmo2 "
        "cohere2 starcoder2 deepseek_v3"
    )
    for model_type in types.split():
        config = AutoConfig.for_model(model_type)
        for is_short in (True, False):
            saved = json.loads(config.to_json_string(use_diff=is_short))
            assert canonical({"model_type": model_type}) == canonical(saved), model_type
