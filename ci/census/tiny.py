"""Makes a small model of every causal type, by small and consistent size fields of its config class.

The other fields keep the defaults of the class, so that a small model has the layers, the attention and the
routing of a large one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

VOCABULARY = 640
CONTEXT = 320
_WIDTH, _INNER, LAYERS = 128, 512, 2

# small value -> the fields that get it, in any class
_FIELDS: dict[int, str] = {
    VOCABULARY: "vocab_size vocab_size_per_layer_input decoder_vocab_size unpadded_vocab_size "
    "audio_vocab_size encoder_hash_byte_group_vocab pronunciation_vocab_size shape_vocab_size",
    CONTEXT: "max_position_embeddings n_positions max_seq_len n_ctx context_length max_target_positions "
    "max_source_positions max_sequence_length",
    _WIDTH: "hidden_size d_model n_embd emb_dim embedding_size word_embed_proj_dim input_embedding_size "
    "output_embedding_size backbone_hidden_size lru_width cross_attention_hidden_size embedding_dim "
    "embed_dim shape_embed_dim pronunciation_embed_dim projection_dim adapter_in_dim adapter_input_size",
    8: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads "
    "attention_heads num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads "
    "index_n_heads linear_num_heads linear_num_value_heads mamba_num_heads num_experts num_local_experts "
    "n_routed_experts moe_num_experts",
    4: "num_key_value_heads num_kv_heads swa_num_key_value_heads num_global_key_value_heads "
    "linear_num_key_heads zero_expert_num",
    16: "head_dim dim_head swa_head_dim d_head kv_channels attention_head_size v_head_dim qk_nope_head_dim "
    "qk_rope_head_dim index_head_dim linear_key_head_dim linear_value_head_dim linear_head_dim mamba_d_state "
    "ssm_state_size state_size rotary_dim",
    32: "kv_lora_rank q_lora_rank o_lora_rank hc_lowrank query_pre_attn_scalar global_head_dim index_topk "
    "patch_size image_size",
    2: "num_experts_per_tok moe_topk moe_k",
    1: "n_group topk_group n_groups first_k_dense_replace num_dense_layers moe_layer_start_index",
    _INNER: "intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim n_inner dff dim_ff ffn_hidden_size "
    "dense_intermediate_size intermediate_size_mlp d_inner feed_forward_size prefix_dense_intermediate_size "
    "shared_expert_intermediate_size shared_intermediate_size shared_experts_intermediate_size "
    "moe_shared_expert_intermediate_size",
    256: "moe_intermediate_size expert_ffn_hidden_size",
}  # fmt: skip
_LAYER_FIELDS = [
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
    "num_encoder_layers", "num_decoder_layers", "num_blocks", "depth",
]  # fmt: skip
SIZES = {field: value for value, fields in _FIELDS.items() for field in fields.split()}

# Lists with a kind for each layer; a small model has one layer of each kind that a large one has.
_KINDS = ("layer_types", "mlp_layer_types", "layers_block_type")


def _own(model_type: str, layers: int) -> dict[str, Any]:
    """Further keys that a type needs."""
    rules: dict[str, dict[str, Any]] = {
        "bamba": {"attn_layer_indices": [1]},
        "cohere_compass_text": {
            "rope_parameters": {
                "full_attention": None, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
        "dbrx": {
            "attn_config": {"kv_n_heads": 4, "clip_qkv": 8, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 512, "moe_num_experts": 8, "moe_top_k": 2},
        },
        "dots1": {"n_shared_experts": 1},
        "fuyu": {"patch_size": 4},
        "gemma3n_text": {"num_kv_shared_layers": 0},
        "gpt_neo": {"attention_types": [[["global", "local"], layers // 2]]},
        "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * (layers // 2)},
        "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
        "lfm2_moe": {"layer_types": ["conv", "full_attention"] * (layers // 2)},
        "mamba2": {"num_heads": 16},
        "qwen4_exp_text": {
            "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 64,
            "indexer_compress_ratio": 4,
        },
        "reformer": {"is_decoder": True, "axial_pos_shape": [16, 20], "axial_pos_embds_dim": [32, 96]},
        "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
        "zamba": {
            "num_hidden_layers": 2 * layers, "layers_block_type": ["linear_attention", "hybrid"] * layers,
        },
        "zaya": {"num_experts_per_tok": 1},
    }  # fmt: skip
    return rules.get(model_type, {})


# Switches of a config that turn a type into a decoder.
DECODER = {"is_decoder": True, "is_encoder_decoder": False, "causal": True, "attn_type": "uni"}


def as_decoder(keys: dict[str, Any], config_class: Any) -> dict[str, Any]:
    """The keys with the switches that the class has."""
    has = {field.name for field in dataclasses.fields(config_class)}
    return {**keys, **{switch: value for switch, value in DECODER.items() if switch in has}}


def tiny(config_class: Any, layers: int = LAYERS) -> dict[str, Any]:
    """The keys of a small config of this class, `model_type` first and nested configs included.

    It has `layers` layers, an even number, or more if the class has more kinds of layers.
    """
    keys: dict[str, Any] = {"model_type": config_class.model_type}
    for field in dataclasses.fields(config_class):
        if field.name in SIZES:
            keys[field.name] = SIZES[field.name]
        elif field.name in _LAYER_FIELDS:
            keys[field.name] = layers
        elif field.name.endswith(("_token_id", "_token_index")) and _beyond(field.default):
            keys[field.name] = 1
    if "kv_lora_rank" in keys and "num_key_value_heads" in keys:  # each query head has its own keys
        keys["num_key_value_heads"] = SIZES["num_attention_heads"]
    for name, nested in _nested(config_class).items():
        keys[name] = tiny(nested, layers)
    keys.update(_kinds(config_class, layers))
    for name, value in _own(config_class.model_type, layers).items():
        keys[name] = {**keys[name], **value} if name in keys and isinstance(value, dict) else value
    return keys


def _nested(config_class: Any) -> dict[str, Any]:
    """The classes of the configs nested in a default config."""
    if not config_class.sub_configs:
        return {}
    large = config_class()
    configs = {name: type(getattr(large, name, None)) for name in config_class.sub_configs}
    return {name: nested for name, nested in configs.items() if dataclasses.is_dataclass(nested)}


def _kinds(config_class: Any, layers: int) -> dict[str, Any]:
    """Keys for a layer of each kind, in turn."""
    fields = {field.name for field in dataclasses.fields(config_class)}
    if not fields & set(_KINDS):
        return {}
    large = config_class()
    lists = {name: list(dict.fromkeys(getattr(large, name, None) or ())) for name in _KINDS if name in fields}
    most = max(layers, *map(len, lists.values()))
    keys: dict[str, Any] = {"num_hidden_layers": most} if most > layers else {}
    for name, kinds in lists.items():
        if len(kinds) > 1:
            keys[name] = [kinds[i % len(kinds)] for i in range(most)]
    return keys


def _beyond(default: Any) -> bool:
    """Whether a token's id, or one of a list, is outside the small vocabulary."""
    ids = default if isinstance(default, list | tuple) else [default]
    return any(isinstance(token, int) and token >= VOCABULARY for token in ids)
