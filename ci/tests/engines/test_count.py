"""What models must do as counted on meta, against published parameter counts and counts by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from fixtures.core.cost.bounds import Cache, Work, cache_bytes, decode_flops, prefill_flops
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.library import hardware, model
from fixtures.engines import peaks
from fixtures.engines.counting.count import CannotCount, count_work, counted
from fixtures.engines.peaks import measure_peaks


def case(spec: ModelSpec, **engine: Any) -> Case:
    """The model on one CPU."""
    return Case(spec, hardware("cpu"), 1, EngineSpec("hf", **engine), Point(1, 8, 2))


def own(**architecture: Any) -> ModelSpec:
    """A model of this architecture."""
    return ModelSpec("own", architecture)


@cache
def work_of(name: str) -> Work:
    """What a model of the library must do, which takes seconds to count."""
    return count_work(case(model(name)))


LLAMA = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
}  # fmt: skip


def test_a_transformer_counted_by_hand() -> None:
    """Llama of d 64, f 96, 3 layers, V 512: 2 FLOPs a weight and token, 4 d a pair and layer, a head."""
    work = count_work(case(own(**LLAMA)))
    matrices = 3 * (4 * 64 * 64 + 3 * 64 * 96)
    norms = (2 * 3 + 1) * 64
    assert work.flops_constant == 2 * 64 * 512
    # a version of transformers has a product in its rotary embedding, which the hand's count leaves out
    assert work.flops_per_token == pytest.approx(2 * matrices, rel=1e-3)
    assert work.flops_per_pair == 3 * 4 * 64
    assert work.weight_bytes == 2 * (matrices + norms + 64 * 512 + 64)  # the head, and a row of the embedding
    assert work.caches == (Cache(3, 2 * 4 * 16 * 2),)
    step = 2 * 64 * 512 + 2 * matrices + 3 * 4 * 64 * 10
    assert decode_flops(work, 2, 9) == pytest.approx(2 * step, rel=1e-3)
    whole = 2 * 64 * 512 + 3 * 2 * matrices + 3 * 4 * 64 * 6
    assert prefill_flops(work, 1, 3) == pytest.approx(whole, rel=1e-3)


def test_calls_of_operators_repeat_and_a_layer_has_its_own() -> None:
    """Each of three layers as many as each of five, in whatever order they are counted; eager has others."""

    def calls(layers: int, **engine: Any) -> dict[str, int]:
        found: dict[str, int] = counted(case(own(**{**LLAMA, "num_hidden_layers": layers}), **engine))[
            "operators"
        ]
        return found

    three, four, five = calls(3), calls(4), calls(5)
    assert calls(3) == three
    for phase in ("prefill", "decode"):
        layer = four[phase] - three[phase]
        assert five[phase] - four[phase] == layer
        assert layer >= 7 + 2 + 1  # products with matrices, norms, attention
        assert 0 < three[phase] - 3 * layer < 100
    assert calls(3, attention="eager") != three


@pytest.mark.parametrize(
    ("name", "embedding_is_head"),
    [
        ("mpt125m", True),
        ("mpt7b", True),
        ("falcon7b", True),
        pytest.param("llama7b", False, marks=pytest.mark.slow),
        ("llama31_8b", False),
    ],
)
def test_a_step_reads_each_parameter_but_for_the_embedding(name: str, embedding_is_head: bool) -> None:
    """The published number of parameters, 2 bytes each; of an untied embedding one row only."""
    spec = model(name)
    vocab, width = (spec.architecture.get(k) for k in ("vocab_size", "hidden_size"))
    unread = 0 if embedding_is_head else (int(str(vocab)) - 1) * int(str(width))
    assert spec.parameters is not None
    assert work_of(name).weight_bytes == 2 * (spec.parameters - unread)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mpt7b", 2 * 32 * 32 * 128),  # layers, heads, their dimension
        ("llama31_8b", 2 * 32 * 8 * 128),  # grouped: 8 of 32 heads keep keys and values
        ("falcon7b", 2 * 32 * 1 * 64),  # multi-query: one head does
    ],
)
def test_caches_have_the_heads_that_keep_keys_and_values(name: str, values: int) -> None:
    """2 bytes a value, over all layers."""
    (kept,) = work_of(name).caches
    assert kept.layers * kept.bytes_per_token == 2 * values
    assert (kept.fixed_bytes, kept.window) == (0, None)


def test_a_mixture_reads_the_experts_that_it_must() -> None:
    """Mixtral 8x7B: a token needs 12.9 of 46.7 billion parameters (arXiv 2401.04088), 2 of 8 experts.

    Of 32 layers with 8 experts of 3 x 4096 x 14336 each, 6 experts are not read, and the embedding but a row.
    """
    spec = model("mixtral8x7b")
    work = count_work(case(spec))
    assert spec.parameters is not None
    active = spec.parameters - 32 * 6 * 3 * 4096 * 14336
    assert active == pytest.approx(12.9e9, rel=0.01)
    assert work.weight_bytes == 2 * (active - 31_999 * 4096)
    matrices = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 8 * 4096 + 2 * 3 * 4096 * 14336)
    assert work.flops_per_token == pytest.approx(2 * matrices, rel=1e-6)


def test_a_sliding_window_limits_what_a_layer_keeps() -> None:
    """Mistral with a window of 8: 7 tokens are kept for the next one."""
    spec = own(**{**LLAMA, "model_type": "mistral", "sliding_window": 8})
    (kept,) = count_work(case(spec)).caches
    assert kept == Cache(3, 2 * 4 * 16 * 2, 0, 8)


BIOGPT = {
    "model_type": "biogpt", "vocab_size": 640, "hidden_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 8, "intermediate_size": 512, "max_position_embeddings": 64,
}  # fmt: skip
MEGATRON = {
    "model_type": "megatron-bert", "is_decoder": True, "vocab_size": 640, "hidden_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 8, "intermediate_size": 512, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize(("keys", "transform"), [(BIOGPT, 0), (MEGATRON, 128 * 128)])
def test_models_that_ask_whether_a_mask_is_whole_are_counted(keys: dict[str, Any], transform: int) -> None:
    """On meta nothing can tell; by hand: matrices of two layers, and the head on the last position alone.

    One has a cache for an encoder beside its own, which stays empty, and one more matrix before its head.
    """
    work = count_work(case(own(**keys)))
    assert work.flops_per_token + work.flops_constant == 2 * (
        2 * (4 * 128 * 128 + 2 * 128 * 512) + transform + 128 * 640
    )
    assert work.caches == (Cache(2, 2 * 128 * 2, 0, None),)


def test_the_dtype_scales_the_bytes_and_not_the_flops() -> None:
    """Four bytes a value instead of two; autocast keeps the cache in its own dtype."""
    half, whole = count_work(case(own(**LLAMA))), count_work(case(own(**LLAMA), dtype="float32"))
    assert whole.weight_bytes == 2 * half.weight_bytes
    assert whole.caches[0].bytes_per_token == 2 * half.caches[0].bytes_per_token
    assert whole.flops_per_token == half.flops_per_token


def test_eager_and_sdpa_attention_do_the_same_work() -> None:
    """The count is of the mathematics, not of the kernel."""
    assert count_work(case(own(**LLAMA), attention="eager")) == count_work(
        case(own(**LLAMA), attention="sdpa")
    )


LATENT: dict[str, Any] = {
    "model_type": "deepseek_v3", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 24,
    "kv_lora_rank": 16, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 20,
    "first_k_dense_replace": 3,
}  # fmt: skip


def test_a_latent_cache_is_expanded_again_in_each_pass() -> None:
    """DeepSeek-V3 of 3 layers: it keeps 16 + 8 values a token, and makes 4 heads of 12 + 20 of each again."""
    work = count_work(case(own(**LATENT)))
    assert work.caches == (Cache(3, 2 * (16 + 8)),)
    assert work.flops_per_cached == 3 * 2 * 16 * 4 * (12 + 20)
    assert work.flops_per_pair == 3 * 4 * 2 * (12 + 8 + 20)


def test_a_latent_cache_on_a_real_model() -> None:
    """FLOPs of real passes and bytes of the real cache at lengths that nothing was fitted to."""
    work = count_work(case(own(**LATENT), dtype="float32"))
    config = transformers.AutoConfig.for_model(**LATENT)
    real = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    past, held = None, 0
    for tokens in (11, 1, 7, 1, 30):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            ids = torch.zeros(1, tokens, dtype=torch.long)
            output = real(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past, held = output.past_key_values, held + tokens
        cached = held - tokens
        if tokens == 1:
            assert counter.get_total_flops() == decode_flops(work, 1, cached)
        elif not cached:
            assert counter.get_total_flops() == prefill_flops(work, 1, tokens) + masked(work, tokens)
        sizes = [t.numel() * 4 for layer in past.layers for t in (layer.keys, layer.values)]
        assert sum(sizes) == cache_bytes(work, 1, held)


def masked(work: Work, tokens: int) -> float:
    """FLOPs of the pairs above the diagonal, which the counter counts and nobody needs."""
    return work.flops_per_pair * tokens * (tokens - 1) / 2


def test_what_cannot_be_counted_says_why() -> None:
    """An unknown architecture is no crash: the record has the reason and no figure."""
    with pytest.raises(CannotCount, match="no_such_thing"):
        count_work(case(own(model_type="no_such_thing")))
    found = counted(case(own(model_type="no_such_thing")))
    assert found["work"] is None
    assert "no_such_thing" in found["not_counted"]
    assert counted(case(own(**LLAMA)))["work"]["weight_bytes"] > 0


def test_peaks_are_those_of_a_device() -> None:
    """More than a slow disk does, less than any computer: the unit is right."""
    found = measure_peaks(torch.device("cpu"), ("bfloat16", "float32"), 2**24)
    rates = {"bfloat16_flops_per_s", "float32_flops_per_s"}
    assert set(found) == {"read_bytes_per_s", "copy_bytes_per_s", *rates}
    assert all(1e8 < value < 1e14 for value in found.values())


def test_copying_moves_every_byte_twice_and_a_product_has_two_flops_a_multiply_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were each call to take 2 s: 16 MiB read, 32 MiB copied, 2 x 256^3 FLOPs, and no larger product."""
    monkeypatch.setattr(peaks, "best_s", lambda _call, _device: 2.0)
    assert measure_peaks(torch.device("cpu"), ["bfloat16"], 2**24) == {
        "read_bytes_per_s": 2**23,
        "copy_bytes_per_s": 2**24,
        "bfloat16_flops_per_s": 2**24,
    }


def test_of_several_sizes_the_fastest_product_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start of 1 ms and 1 TFLOP/s: the larger the nearer, until one of them takes over 10 ms."""
    edges: list[int] = []

    def product_s(_device: torch.device, _dtype: torch.dtype, edge: int) -> float:
        edges.append(edge)
        return 1e-3 + 2 * edge**3 / 1e12

    monkeypatch.setattr(peaks, "_product_s", product_s)
    monkeypatch.setattr(peaks, "_threads", lambda _device: iter([1]))
    found = measure_peaks(torch.device("cpu"), ["float32"], 2**20)["float32_flops_per_s"]
    assert edges == [256, 512, 1024, 2048]  # 2 * 2048^3 / 1e12 = 17 ms
    assert found == pytest.approx(2 * 2048**3 / (1e-3 + 0.017179869184))


def test_without_room_for_a_wider_dtype_the_own_one_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """And without room for a larger product the smaller; nothing stands where there is none for its own."""

    def product_s(_device: torch.device, dtype: torch.dtype, edge: int) -> float:
        if edge > 512 or dtype == torch.float32:
            raise RuntimeError("no room")
        return 1e-3

    monkeypatch.setattr(peaks, "_product_s", product_s)
    found = measure_peaks(torch.device("cpu"), ["bfloat16", "float32"], 2**20)
    assert found["bfloat16_flops_per_s"] == pytest.approx(2 * 512**3 / 1e-3)
    assert "float32_flops_per_s" not in found
    with pytest.raises(RuntimeError, match="no room"):
        measure_peaks(torch.device("cpu"), ["float32"], 2**20)


def test_autocast_may_keep_everything_in_its_own_dtype() -> None:
    """The least bytes are those of the narrower of the two."""
    mixed = count_work(case(own(**LLAMA), dtype="float32", autocast="bfloat16"))
    assert mixed == count_work(case(own(**LLAMA)))


def test_a_peak_is_what_one_thread_makes_where_that_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads wait for each other; how many there are stays as it was."""
    monkeypatch.setattr(peaks, "best_s", lambda _call, _device: 100.0 if torch.get_num_threads() > 1 else 2.0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = measure_peaks(torch.device("cpu"), ["bfloat16"], 2**24)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found["bfloat16_flops_per_s"] == 2**24
    assert found["read_bytes_per_s"] == 2**23


def test_a_gpu_is_asked_with_larger_matrices_and_its_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for one: every dtype at three sizes, once; a product of 1 ms is short enough to go on."""
    asked: list[tuple[torch.dtype, int]] = []

    def product_s(_device: torch.device, dtype: torch.dtype, edge: int) -> float:
        asked.append((dtype, edge))
        return 1e-3

    monkeypatch.setattr(peaks, "_product_s", product_s)
    monkeypatch.setattr(peaks, "_bandwidth", lambda _device, _size: {"read_bytes_per_s": 1.0})
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    found = measure_peaks(torch.device("cuda"), ["float16", "float32"], 2**20)
    edges = (2048, 4096, 8192)
    assert asked == [(dtype, edge) for dtype in (torch.float16, torch.float32) for edge in edges]
    assert found["float16_flops_per_s"] == pytest.approx(2 * 8192**3 / 1e-3)
