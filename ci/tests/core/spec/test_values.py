"""Values that no model can have, told before torch is imported; all others are left alone."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.core.base.errors import InputError
from fixtures.core.base.node import as_node
from fixtures.core.spec.arch.causal import check_causal
from fixtures.core.spec.arch.source import causal_types, config_class
from fixtures.core.spec.arch.values import check_heads, check_values
from fixtures.core.spec.foundry.file import read_foundry

LLAMA: Any = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
TEXT = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 3, "head_dim": 16}


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {**LLAMA, "num_attention_heads": 5},
            "hidden_size (64) is not a multiple of num_attention_heads (5)",
        ),
        (
            {**LLAMA, "num_key_value_heads": 3},
            "num_attention_heads (4) is not a multiple of num_key_value_heads (3)",
        ),
        (
            {**LLAMA, "num_key_value_heads": 8},
            "num_attention_heads (4) is not a multiple of num_key_value_heads (8)",
        ),
        ({"model_type": "gpt2", "n_embd": 65, "n_head": 4}, "n_embd (65) is not a multiple of n_head (4)"),
        (
            {"model_type": "gpt2", "hidden_size": 65, "n_head": 4},
            "n_embd (65) is not a multiple of n_head (4)",
        ),
        ({"model_type": "mpt", "d_model": 64, "n_heads": 6}, "d_model (64) is not a multiple of n_heads (6)"),
        (
            {"model_type": "mistral", "hidden_size": 64, "num_attention_heads": 4},
            "num_attention_heads (4) is not a multiple of num_key_value_heads (8, by default)",
        ),
        (
            {"model_type": "gemma3", "text_config": TEXT},
            "num_attention_heads (4) is not a multiple of num_key_value_heads (3)",
        ),
    ],
    ids=str,
)
def test_heads_that_do_not_fit_are_told(config: Any, text: str) -> None:
    """By the names that the config has for them, and with what its class has where it says nothing."""
    with pytest.raises(InputError) as found:
        check_causal(config)
    assert str(found.value) == text


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        {**LLAMA, "num_key_value_heads": None},
        {**LLAMA, "num_attention_heads": "4"},
        {**LLAMA, "num_attention_heads": 0},
        {**LLAMA, "num_attention_heads": [4, 4]},
        {**LLAMA, "model_type": "qwen3", "num_attention_heads": 6},
        {**LLAMA, "model_type": "mistral", "hidden_size": 66, "head_dim": 16},
        {"model_type": "glm4_moe", "hidden_size": 4096, "num_attention_heads": 96, "num_key_value_heads": 8},
        {"model_type": "mamba2", "hidden_size": 64, "num_heads": 5},
    ],
    ids=str,
)
def test_heads_that_fit_or_that_arithmetic_cannot_tell(config: Any) -> None:
    """Heads of a size of their own, models without any, and values that the config class is to refuse."""
    check_heads(config["model_type"], config)


def test_no_architecture_of_transformers_is_refused_by_its_own_defaults() -> None:
    """Of all causal types, so that none is refused for a rule that is another family's."""
    for kind in causal_types().values():
        declared = config_class(kind)
        assert declared is not None
        check_values(kind, {key: value for key, value in declared.defaults.items() if value is not None})


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"hidden_size": 64.0}, "hidden_size is 64.0; write a whole number"),
        ({"hidden_size": "64"}, 'hidden_size is "64"; write a whole number'),
        ({"num_hidden_layers": True}, "num_hidden_layers is true; write a whole number"),
        ({"num_key_value_heads": [2]}, "num_key_value_heads is [2]; write a whole number or null"),
        ({"rms_norm_eps": "1e-5"}, 'rms_norm_eps is "1e-5"; write a number'),
        ({"attention_bias": 1}, "attention_bias is 1; write true or false"),
        ({"eos_token_id": "</s>"}, 'eos_token_id is "</s>"; write a whole number or a list or null'),
        ({"rope_parameters": "yarn"}, 'rope_parameters is "yarn"; write a mapping or null'),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; write at least 1"),
        ({"vocab_size": -5}, "vocab_size is -5; write at least 1"),
        (
            {"vocab_size": 300, "pad_token_id": 300},
            "pad_token_id is 300; write a token of the vocabulary, which has 300",
        ),
        (
            {"rope_scaling": {"rope_type": "spiral", "factor": 2.0}},
            'rope_scaling is of the type "spiral"; transformers has '
            "linear, dynamic, yarn, longrope, llama3, proportional",
        ),
    ],
    ids=str,
)
def test_a_value_that_builds_no_model_is_told(changed: Any, text: str) -> None:
    """With what would be right; what the class derives or the engine sets is let through."""
    with pytest.raises(InputError) as found:
        check_causal({**LLAMA, **changed})
    assert str(found.value) == text


@pytest.mark.parametrize(
    "config",
    [
        {**LLAMA, "rms_norm_eps": 1, "rope_theta": 10000, "dtype": "torch.bfloat16", "pad_token_id": -1},
        {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}, "eos_token_id": [1, 2]},
        {**LLAMA, "vocab_size": 300, "pad_token_id": None, "attention_bias": False, "of_others": "x"},
        {"model_type": "gpt2", "vocab_size": 300, "pad_token_id": 300},
        {"model_type": "phi3", "rope_scaling": {"type": "su"}},
        {"model_type": "mamba2", "time_step_limit": [0.0, {"__float__": "Infinity"}]},
    ],
    ids=str,
)
def test_values_that_transformers_takes(config: Any) -> None:
    """A whole number for a float, token ids beside the vocabulary, keys of others."""
    check_values(config["model_type"], config)


def test_a_file_of_llm_foundry_says_it_too() -> None:
    """At the model's place in the file."""
    model = {"name": "mpt_causal_lm", "d_model": 64, "n_heads": 6, "n_layers": 2, "max_seq_len": 32}
    keys: Any = {"model": {**model, "vocab_size": 128, "no_bias": True, "attn_config": {"alibi": True}}}
    keys |= {"batch_sizes": [1], "input_lengths": [4], "output_lengths": [2]}
    with pytest.raises(
        InputError, match=r"^f\.yaml: model: d_model \(64\) is not a multiple of n_heads \(6\)"
    ):
        read_foundry("f", as_node(keys, "f.yaml"), lambda _: {})
