"""Layers that keep a state, and layers of unlike heads: on meta, by hand, and on real small models."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fixtures.core.cost.bounds import Cache, cache_bytes, decode_flops
from fixtures.core.cost.memory import predict
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.library import hardware
from fixtures.engines.counting.count import count_work
from fixtures.engines.counting.footprint import count_footprint
from fixtures.engines.counting.live import record

GEMMA: dict[str, Any] = {
    "model_type": "gemma4_text", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
    "num_global_key_value_heads": 2, "head_dim": 16, "global_head_dim": 32, "attention_k_eq_v": True,
    "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0, "sliding_window": 32,
    "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
}  # fmt: skip
QWEN: dict[str, Any] = {
    "model_type": "qwen3_5_moe_text", "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 4,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"], "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16, "linear_value_head_dim": 24, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 40,
    "num_experts_per_tok": 2, "pad_token_id": 0,
}  # fmt: skip
NEMOTRON: dict[str, Any] = {
    "model_type": "nemotron_h", "vocab_size": 128, "hidden_size": 64, "num_attention_heads": 4,
    "layers_block_type": ["mamba", "moe", "mamba", "attention", "moe"], "num_key_value_heads": 2,
    "head_dim": 16, "intermediate_size": 32, "ssm_state_size": 24, "mamba_num_heads": 4,
    "mamba_head_dim": 16, "n_groups": 2, "conv_kernel": 4, "expand": 1, "chunk_size": 32,
    "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 40,
}  # fmt: skip
MODELS = {"gemma4": GEMMA, "qwen3_5": QWEN, "nemotron_h": NEMOTRON}


def case(name: str, **engine: Any) -> Case:
    """A small model on one CPU."""
    return Case(ModelSpec(name, MODELS[name]), hardware("cpu"), 1, EngineSpec("hf", **engine), Point(1, 8, 2))


def real(name: str, attention: str = "eager") -> Any:
    """The model in fp32, with random weights."""
    torch.manual_seed(5)
    config = transformers.AutoConfig.for_model(**MODELS[name])
    config._experts_implementation = "batched_mm"
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return model.requires_grad_(False).eval()


def test_heads_of_another_size_have_pairs_of_another_cost() -> None:
    """Gemma 4: 4 FLOPs a pair and value of 4 heads, of 16 in each of three windows and of 32 in one layer."""
    work = count_work(case("gemma4"))
    windowed, full = 4 * 4 * 16, 4 * 4 * 32
    assert work.flops_per_pair == 3 * windowed + full
    matrices = 3 * (2 * 64 * 64 + 2 * 64 * 64) + 2 * 64 * 128 + 64 * 64 + 4 * 3 * 64 * 96
    outside = work.flops_constant + work.flops_per_token
    assert work.flops_constant == 2 * 64 * 128
    assert work.flops_per_token == pytest.approx(2 * matrices, rel=1e-2)  # and rotary products
    assert decode_flops(work, 1, 99) == outside + 3 * windowed * 32 + full * 100
    kept = {(cache.layers, cache.bytes_per_token, cache.window) for cache in work.caches}
    assert kept == {(3, 2 * 2 * 4 * 16, 32), (1, 2 * 2 * 2 * 32, None)}


def test_a_gated_delta_network_counted_by_hand() -> None:
    """Three of four layers: a state of 4 x 16 x 24 fp32 values, and 4 positions of 64 + 96 channels."""
    work = count_work(case("qwen3_5"))
    channels, state = 2 * 2 * 16 + 4 * 24, 4 * 16 * 24
    assert work.caches == (Cache(3, 0, 4 * state + 2 * 4 * channels), Cache(1, 2 * 2 * 2 * 16))
    experts = 64 * 4 + 2 * 3 * 64 * 32 + 3 * 64 * 40 + 64
    attention = 64 * 2 * 64 + 2 * 64 * 32 + 64 * 64  # its queries have a gate
    linear = 64 * channels + 2 * 64 * 96 + 2 * 64 * 4
    matrices = 3 * linear + attention + 4 * experts
    recurrence = 3 * (6 * state + 2 * 4 * channels)
    assert work.flops_per_token == pytest.approx(2 * matrices + recurrence, rel=1e-3)
    assert (work.flops_constant, work.flops_per_pair) == (2 * 64 * 128, 4 * 4 * 16)


def test_a_mamba_layer_counted_by_hand() -> None:
    """Two of five layers: a state of 4 x 16 x 24 fp32 values, and 4 positions of 64 + 2 x 2 x 24 channels."""
    work = count_work(case("nemotron_h"))
    channels, state = 4 * 16 + 2 * 2 * 24, 4 * 16 * 24
    assert work.caches == (Cache(2, 0, 4 * state + 2 * 4 * channels), Cache(1, 2 * 2 * 2 * 16))
    experts = 64 * 4 + 2 * 2 * 64 * 32 + 2 * 64 * 40
    attention = 2 * 64 * 64 + 2 * 64 * 32
    mamba = 64 * (64 + channels + 4) + 64 * 64
    recurrence = 2 * (4 * state + 2 * 4 * channels)
    assert work.flops_per_token == 2 * (2 * mamba + attention + 2 * experts) + recurrence
    assert (work.flops_constant, work.flops_per_pair) == (2 * 64 * 128, 4 * 4 * 16)


@pytest.mark.parametrize("name", MODELS)
def test_the_cache_of_a_real_model_holds_the_bytes_that_are_counted(name: str) -> None:
    """At three lengths: within a window or chunk, at its end, and beyond several."""
    work, model = count_work(case(name, dtype="float32")), real(name)
    for tokens in (3, 64, 150):
        past = model(torch.zeros(2, tokens, dtype=torch.long), use_cache=True).past_key_values
        held = [leaf for layer in past.layers for leaf in torch.utils._pytree.tree_leaves(vars(layer))]
        sizes = [leaf.nbytes for leaf in held if isinstance(leaf, torch.Tensor) and leaf.dim()]
        assert sum(sizes) == cache_bytes(work, 2, tokens)


@pytest.mark.parametrize("name", MODELS)
def test_products_alone_make_the_same_tokens_in_the_flops_that_are_counted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recurrence as matrix products, token by token, with the model's own matrices."""
    work, model = count_work(case(name, dtype="float32")), real(name)
    ids = torch.randint(0, 128, (1, 41), generator=torch.Generator().manual_seed(3))
    expected = model(ids).logits[:, -1]
    for each, stand_in in (
        ("torch_chunk_gated_delta_rule", delta_rule), ("torch_recurrent_gated_delta_rule", delta_rule),
        ("mamba2_chunk_scan", scan), ("mamba2_selective_state_update", state_update),
        ("causal_conv1d_fn", convolution), ("causal_conv1d_update", next_of_convolution),
    ):  # fmt: skip
        monkeypatch.setattr(sys.modules[type(model).__module__], each, stand_in, raising=False)
    past = None
    for tokens, place in ((38, 0), (1, 38), (1, 39), (1, 40)):
        with FlopCounterMode(display=False) as counter:
            output = model(
                ids[:, place : place + tokens], past_key_values=past, use_cache=True, logits_to_keep=1
            )
        past = output.past_key_values
        if place:
            assert counter.get_total_flops() == decode_flops(work, 1, place)
        else:  # with all pairs, those above the diagonal and beyond windows too
            every_pair = work.flops_per_pair * tokens**2
            assert (
                counter.get_total_flops() == work.flops_constant + work.flops_per_token * tokens + every_pair
            )
    assert torch.allclose(output.logits[:, -1], expected, atol=1e-4)


def delta_rule(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, g: torch.Tensor, beta: torch.Tensor,
    initial_state: torch.Tensor | None = None, **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """S = e^g S; S += k (beta (v - k S)); o = q S, for one sequence; a state a head, (H, dk, dv)."""
    groups = value.shape[2] // key.shape[2]
    q, k = (x[0].repeat_interleave(groups, 1) for x in (query, key))
    q, k = (x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for x in (q, k))
    q = q / q.shape[-1] ** 0.5
    heads, size, width = q.shape[1], q.shape[2], value.shape[3]
    state = torch.zeros(heads, size, width) if initial_state is None else initial_state[0]
    outputs = []
    for t in range(len(q)):
        state = state * g[0, t].exp()[:, None, None]
        change = beta[0, t, :, None, None] * (value[0, t, :, None] - torch.bmm(k[t, :, None], state))
        state = state + torch.bmm(k[t, :, :, None], change)
        outputs.append(torch.bmm(q[t, :, None], state)[:, 0])
    return torch.stack(outputs)[None], state[None]


def scan(
    x: torch.Tensor, dt: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor,
    chunk_size: int, D: torch.Tensor, dt_bias: torch.Tensor, dt_limit: tuple[float, float],
    initial_states: torch.Tensor | None = None, return_final_states: bool = False, **_: Any,
) -> Any:  # fmt: skip
    """h = e^(A dt) h + (dt x) B; y = h C + D x, for one sequence; a state a head, (H, P, N)."""
    del chunk_size
    dt = functional.softplus(dt + dt_bias).clamp(*dt_limit)
    groups = x.shape[2] // b.shape[2]
    b, c = (matrix.repeat_interleave(groups, 2) for matrix in (b, c))
    state = torch.zeros(*x.shape[2:], b.shape[-1]) if initial_states is None else initial_states[0]
    outputs = []
    for t in range(x.shape[1]):
        decay = (a * dt[0, t]).exp()[:, None, None]
        state = decay * state + torch.bmm((dt[0, t, :, None] * x[0, t])[:, :, None], b[0, t, :, None])
        outputs.append(torch.bmm(state, c[0, t, :, :, None])[..., 0] + D[:, None] * x[0, t])
    output = torch.stack(outputs)[None]
    return (output, state[None]) if return_final_states else output


def state_update(
    state: torch.Tensor, x: torch.Tensor, dt: torch.Tensor, a: torch.Tensor, b: torch.Tensor,
    c: torch.Tensor, D: torch.Tensor, dt_bias: torch.Tensor, **_: Any,
) -> torch.Tensor:  # fmt: skip
    """The same of one token; `state` changes in place."""
    output, last = scan(
        x[:, None], dt[:, None, :, 0], a[:, 0, 0], b[:, None], c[:, None], 1, D[:, 0], dt_bias[:, 0],
        (0.0, float("inf")), state, return_final_states=True,
    )  # fmt: skip
    state.copy_(last)
    made: torch.Tensor = output[:, 0]
    return made


def convolution(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, activation: str = "", **_: Any
) -> torch.Tensor:
    """Each channel's K positions times its K weights, for the last tokens of (1, C, T)."""
    assert activation == "silu"
    # what comes before the new tokens in the states of the cache needs no output
    windows = functional.pad(x[0], (weight.shape[1] - 1, 0)).unfold(1, weight.shape[1], 1)
    made = torch.bmm(windows, weight[:, :, None])[..., 0] + (0 if bias is None else bias[:, None])
    return functional.silu(made)[None]


def next_of_convolution(
    x: torch.Tensor, state: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str
) -> torch.Tensor:
    """Of one token, after those in the state (1, C, K), which changes in place."""
    state.copy_(torch.cat([state[..., 1:], x], -1))
    made = torch.bmm(state[0][:, None], weight[:, :, None])[:, 0] + (0 if bias is None else bias[:, None])
    assert activation == "silu"
    return functional.silu(made)[None]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_predicted_peak_is_that_of_the_tensors(name: str) -> None:
    """Beyond the weights, within 10 %: in prefill and a decode step, of a part of a chunk and of several.

    Windows of 32 tokens are full then, and have a mask.
    """
    asked = case(name, dtype="float32")
    work = count_work(asked)
    footprint = count_footprint(asked, work.caches).with_heads(work, 4)
    config = transformers.AutoConfig.for_model(**MODELS[name])
    model = transformers.AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
    for batch, tokens in ((2, 50), (3, 256)):
        highest = max(event.live for step in record(model, batch, tokens, 2, True) for event in step)
        found = predict(replace(asked.point, batch_size=batch, input_len=tokens), footprint, "gpu")
        assert found.total_bytes - found.weights_bytes - found.margin_bytes == pytest.approx(highest, rel=0.1)
