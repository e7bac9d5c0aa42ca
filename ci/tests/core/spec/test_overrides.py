"""config_overrides end in the same config as llm-foundry's own merging; no two of them share a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from fixtures.core.base.errors import InputError
from fixtures.core.base.node import Plain, as_node
from fixtures.core.spec.arch.source import config_class, with_floats
from fixtures.core.spec.overrides import merge_overrides, overrides_name

CLIPPED: dict[str, Plain] = {
    "model_type": "mpt",
    "n_layers": 2,
    "attn_config": {"alibi": True, "alibi_bias_max": 8, "clip_qkv": 6.0},
}
LLAMA: dict[str, Plain] = {"model_type": "llama", "num_hidden_layers": 2, "rope_scaling": None}
LLAMA5: dict[str, Plain] = {
    "model_type": "llama",
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
}
GEMMA: dict[str, Plain] = {
    "model_type": "gemma3",
    "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 2, "hidden_size": 64},
}


def merged(config: dict[str, Plain], overrides: dict[str, Plain]) -> dict[str, Plain]:
    """The config with overrides, those of a line of a file."""
    kind = config["model_type"]
    assert isinstance(kind, str)
    return merge_overrides(config, as_node(overrides, "f.yaml:9", "overrides"), config_class(kind))


@pytest.mark.parametrize(
    ("config", "overrides", "changed"),
    [
        (
            CLIPPED,
            {"attn_config": {"alibi_bias_max": 4}},
            {"attn_config": {"alibi": True, "alibi_bias_max": 4, "clip_qkv": 6.0}},
        ),
        ({"model_type": "mpt"}, {"attn_config": {"clip_qkv": 3.0}}, {"attn_config": {"clip_qkv": 3.0}}),
        ({"model_type": "mpt", "attn_config": None}, {"attn_config": {}}, {"attn_config": {}}),
        (CLIPPED, {"num_hidden_layers": 3}, {"n_layers": 3}),
        ({"model_type": "gpt2"}, {"num_hidden_layers": 3}, {"n_layer": 3}),
        ({"model_type": "gpt2", "num_hidden_layers": 9}, {"n_layer": 3}, {"num_hidden_layers": 3}),
        (
            GEMMA,
            {"text_config": {"num_hidden_layers": 1}},
            {"text_config": {"model_type": "gemma3_text", "num_hidden_layers": 1, "hidden_size": 64}},
        ),
        (
            LLAMA,
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        ),
        (
            LLAMA5,
            {"rope_scaling": {"type": "linear", "factor": 4.0}},
            {"rope_parameters": {"type": "linear", "factor": 4.0, "rope_theta": 500000.0}},
        ),
        (
            LLAMA5,
            {"rope_theta": 10000.0},
            {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        ),
        (LLAMA, {"rope_theta": 10000.0}, {"rope_theta": 10000.0}),
        (
            {"model_type": "llama", "id2label": {"0": "a", "1": "b"}},
            {"id2label": {"1": "c"}},
            {"id2label": {"0": "a", "1": "c"}},
        ),
        (LLAMA, {"eos_token_id": [1, 2]}, {"eos_token_id": [1, 2]}),
        (LLAMA, {}, {}),
    ],
)
def test_a_mapping_updates_what_is_there_and_all_else_replaces_it(
    config: dict[str, Plain], overrides: dict[str, Plain], changed: dict[str, Plain]
) -> None:
    """A key by the name that the config has it under; the config that was read stays as it was."""
    before = repr(config)
    assert merged(config, overrides) == {**config, **changed}
    assert repr(config) == before


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (
            CLIPPED,
            {"attn_config": {"clip_qvk": 3}},
            "attn_config.clip_qvk: READ MptAttentionConfig; did you mean 'clip_qkv'?",
        ),
        (
            CLIPPED,
            {"attn_config": 3},
            "attn_config: must be a mapping of keys to values, and is a whole number",
        ),
        (CLIPPED, {"attn_config": None}, "attn_config: must be a mapping of keys to values, and is nothing"),
        (
            LLAMA,
            {"num_hiden_layers": 1},
            "num_hiden_layers: READ LlamaConfig; did you mean 'num_hidden_layers'?",
        ),
        (
            LLAMA,
            {"n_layers": 1},
            "n_layers: READ LlamaConfig; did you mean 'num_hidden_layers'?",
        ),
        (
            LLAMA,
            {"model_type": "gpt2"},
            "model_type: an override cannot change the model_type; name another checkpoint",
        ),
        (
            LLAMA,
            {"rope_scaling": {"type": "linear", "facter": 2}},
            "rope_scaling.facter: READ rotary embeddings; did you mean 'factor'?",
        ),
        (
            GEMMA,
            {"text_config": {"num_hiden_layers": 1}},
            "text_config.num_hiden_layers: READ Gemma3TextConfig; did you mean 'num_hidden_layers'?",
        ),
        (
            {"model_type": "llama", "id2label": {"0": "a"}},
            {"id2label": {"7": "c"}},
            "id2label.7: unknown key; known: 0",
        ),
    ],
)
def test_an_override_of_nothing_is_refused_at_its_place(
    config: dict[str, Plain], overrides: dict[str, Plain], message: str
) -> None:
    """With the name that was meant."""
    with pytest.raises(InputError) as caught:
        merged(config, overrides)
    said = re.sub(r"transformers' (.+?) do(es)? not read this key", r"READ \1", str(caught.value))
    assert said == f"f.yaml:9: overrides.{message}"


def test_a_config_of_code_that_is_not_transformers_may_have_any_key() -> None:
    """A mapping in it is updated all the same."""
    config: dict[str, Plain] = {"model_type": "odd", "attn": {"clip": 1, "bias": 2}}
    node = as_node({"attn": {"bias": 3}, "own": 4}, "f.yaml:9")
    assert merge_overrides(config, node, None) == {
        "model_type": "odd",
        "attn": {"clip": 1, "bias": 3},
        "own": 4,
    }


def test_a_whole_number_in_a_field_of_floats_is_one() -> None:
    """transformers 5 refuses it, and llm-foundry's files and transformers 4 have written them."""
    mpt = {"attn_config": {"clip_qkv": 6, "alibi_bias_max": 8}, "n_layers": 2, "layer_norm_epsilon": 1}
    changed = with_floats(mpt, config_class("mpt"))
    assert changed == mpt
    assert type(changed["attn_config"]["clip_qkv"]) is type(changed["layer_norm_epsilon"]) is float
    assert type(changed["attn_config"]["alibi_bias_max"]) is type(changed["n_layers"]) is int
    llama = with_floats({"attention_dropout": 0, "rms_norm_eps": 1, "mlp_bias": True}, config_class("llama"))
    assert [type(value) for value in llama.values()] == [int, float, bool]


def name(overrides: dict[str, Plain]) -> str:
    """What overrides add to a name."""
    return overrides_name(as_node(overrides, "f.yaml:9"))


def test_plain_overrides_are_told_by_their_words() -> None:
    """All levels of them."""
    assert name({"num_hidden_layers": 2, "use_cache": False}) == "num_hidden_layers_2_use_cache_false"
    assert name({"attn_config": {"alibi_bias_max": 4, "clip_qkv": None}}) == (
        "attn_config_alibi_bias_max_4_attn_config_clip_qkv_none"
    )


def test_no_two_overrides_share_a_name() -> None:
    """Signs, lists, text that looks like a number: what letters alone could not tell has a hash."""
    from fixtures.core.base.names import slug

    values: list[Plain] = [
        1,
        -1,
        1.5,
        -1.5,
        15,
        "1",
        True,
        "true",
        None,
        "none",
        [1, 5],
        [[1], 5],
        "1.5",
        "a-b",
        "a_b",
        {},
        [],
    ]
    names = {slug(name({"key": value})) for value in values}
    assert len(names) == len(values)
    assert slug(name({"a": {"b": 1}})) != slug(name({"a": {"c": 1}}))
    assert (
        len({slug(name({"a": {"b": [1]}})), slug(name({"a": {"b": [2]}})), slug(name({"a": {"b": [-1]}}))})
        == 3
    )


def as_foundry(config: Any, overrides: Mapping[str, Any]) -> Any:
    """What llm-foundry's hf_causal_lm does with overrides of a built config."""
    from transformers import PreTrainedConfig

    for key, value in overrides.items():
        assert hasattr(config, key)
        there = getattr(config, key)
        if isinstance(there, dict):
            assert set(value) <= set(there)
            there.update(value)
        elif isinstance(there, PreTrainedConfig):
            for inner, one in value.items():
                assert hasattr(there, inner)
                setattr(there, inner, one)
        else:
            setattr(config, key, value)
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        (CLIPPED, {"attn_config": {"alibi_bias_max": 4}, "num_hidden_layers": 1}),
        ({"model_type": "mpt"}, {"attn_config": {"clip_qkv": 3.0, "softmax_scale": 0.5}}),
        ({"model_type": "mpt", "attn_config": {"clip_qkv": 6}}, {"n_layers": 1}),
        (
            {"model_type": "dbrx", "ffn_config": {"moe_num_experts": 4}},
            {"ffn_config": {"moe_top_k": 2}, "attn_config": {"kv_n_heads": 2}},
        ),
        (GEMMA, {"text_config": {"num_hidden_layers": 1, "vocab_size": 300}}),
        (
            {"model_type": "llava", "text_config": {"model_type": "gpt2", "n_layer": 2}},
            {"text_config": {"n_embd": 32}},
        ),
        (LLAMA5, {"rope_parameters": {"rope_theta": 77.0}, "num_key_value_heads": 8}),
        (
            {"model_type": "gpt2", "n_layer": 3},
            {"num_hidden_layers": 1, "n_embd": 96, "scale_attn_weights": False},
        ),
        ({"model_type": "qwen3_moe", "num_experts": 4}, {"num_experts": 8}),
    ],
)
def test_what_is_built_is_what_llm_foundry_has(config: dict[str, Plain], overrides: dict[str, Plain]) -> None:
    """Its own steps on the built config, and the config built of what was merged before."""
    from fixtures.engines.build import make_config

    theirs = as_foundry(make_config(config, "auto", None), overrides)
    ours = make_config(merged(config, overrides), "auto", None)
    assert set_by_hand(ours) == set_by_hand(theirs)


def set_by_hand(config: Any) -> dict[str, Any]:
    """A built config without what a class derives from the rest: llm-foundry leaves that as it was before."""
    plain: dict[str, Any] = config.to_dict()
    if config.model_type == "dbrx":
        del plain["num_key_value_heads"]  # of its attn_config
    if config.model_type == "gemma3":
        del plain["text_config"]["layer_types"]  # one for each layer
    return plain
