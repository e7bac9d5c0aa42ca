"""Packed weights: what the operators compute, what is packed and what is not, what a record says of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.result.against_bound import emulated, make_limits
from fixtures.core.result.record_times import RecordedPeaks, Split
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.engines import why_not
from fixtures.engines.hf_packed import HfPacked
from fixtures.engines.packed import FORMATS, pack
from fixtures.engines.protocol import CannotLoad, WorkNotDone
from fixtures.measure.prompts import make_prompts

LLAMA = {
    "model_type": "llama", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
FALCON = {
    "model_type": "falcon", "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
MPT = {"model_type": "mpt", "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 128}
MODELS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mistral": {**LLAMA, "model_type": "mistral", "sliding_window": 16},
    "qwen3": {**LLAMA, "model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": True},
    "falcon": FALCON,
    "mpt": MPT,
}
POINT = Point(3, 10, 12)
# Linear weights of that Llama by hand: 2 layers of q, o 64*64, k, v 32*64, three of 96*64; the head 128*64.
LINEAR = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64) + 128 * 64
ROWS = 2 * (2 * 64 + 2 * 32 + 2 * 96 + 64) + 128
OTHERS = 128 * 64 + 5 * 64  # the embedding, and two norms a layer and the last


def case(architecture: dict[str, Any], name: str, device: str = "cpu") -> Case:
    """A case of a small model."""
    spec = EngineSpec(f"hf_{name}", kind=f"hf_{name}")
    return Case(ModelSpec("small", architecture), library.hardware(device), 1, spec, POINT)


@pytest.mark.parametrize("name", FORMATS)
def test_a_packed_layer_is_a_linear_layer_with_rounded_weights(name: str) -> None:
    """Products as with the weights that it says it has, which differ from the given ones by half a step."""
    torch.manual_seed(3)
    linear = torch.nn.Linear(64, 48, dtype=torch.bfloat16)
    packed: Any = FORMATS[name](linear)
    given = linear.weight.detach().float()
    bias = linear.bias.detach().float()
    kept, packed.bias = packed.bias, None
    weights = packed(torch.eye(64, dtype=torch.bfloat16)).float().T
    packed.bias = kept
    step = given.abs().amax() / 127 if name == "int8" else (given.max() - given.min()) / 15
    assert float((weights - given).abs().max()) <= 0.8 * float(step)
    values = torch.randn(2, 3, 64, dtype=torch.bfloat16)
    due = values.float() @ weights.T + bias
    made = packed(values.transpose(0, 1).contiguous().transpose(0, 1)).float()  # not contiguous
    assert made.shape == (2, 3, 48)
    assert float((made.detach() - due).abs().max()) < 0.02
    # 48 * 64 of a byte or a half, and 48 scales, or 48 * 2 groups with a scale and a zero, of two bytes
    assert (
        sum(buffer.nbytes for buffer in packed.buffers())
        == {
            "int8": 48 * 64 + 48 * 2,
            "int4": 48 * 64 // 2 + 48 * 2 * 2 * 2,
        }[name]
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_layer_of_another_shape_keeps_its_weights(name: str) -> None:
    """The operators crash on them, or refuse them."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(32, 32, dtype=torch.bfloat16)
            self.fits = torch.nn.Linear(32, 16, dtype=torch.bfloat16)
            self.narrow = torch.nn.Linear(20, 16, dtype=torch.bfloat16)
            self.few = torch.nn.Linear(32, 3, dtype=torch.bfloat16)
            self.head = torch.nn.Linear(32, 32, bias=False)
            self.head.weight = self.embedding.weight

        def get_input_embeddings(self) -> torch.nn.Module:
            return self.embedding

    model = Model()
    converted = pack(model, FORMATS[name])
    assert converted["layers"] == 1
    assert converted["values"] == 32 * 16
    assert isinstance(model.fits, FORMATS[name])
    assert model.head.weight is model.embedding.weight


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("model", MODELS)
def test_a_packed_model_does_the_work_and_its_logits_are_near(model: str, name: str) -> None:
    """Its own check passes: positions, greedy tokens, cache, kernel. With bf16 as given, logits are near."""
    engine = HfPacked(FORMATS[name])
    facts = engine.load(case(MODELS[model], name), seed=17)
    work = engine.prepare(make_prompts(POINT, 128, 17), POINT.output_len)
    engine.check(work)
    tokens = engine.generate(work)
    engine.verify(work, tokens)
    told = facts["weight_format"]
    assert told["kernel"] == FORMATS[name].kernel
    assert 0 < told["logit_difference"] < (0.03 if name == "int8" else 0.3) * told["logit_max"]
    assert facts["not_provable"] == [f"that the tokens are those of hf, as {name} rounds the weights"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "packed"), [("int8", LINEAR + 2 * ROWS), ("int4", LINEAR // 2 + LINEAR // 32 * 4)]
)
def test_bytes_share_and_work_are_those_of_the_packed_weights(name: str, packed: int) -> None:
    """By hand arithmetic; a decode step reads what was packed, the norms and a row of the embedding."""
    engine = HfPacked(FORMATS[name])
    small = case(LLAMA, name)
    facts = engine.load(small, seed=17)
    assert facts["parameters"] == LINEAR + OTHERS
    assert facts["weight_format"]["bytes"] == packed
    assert facts["weight_format"]["share"] == LINEAR / (LINEAR + OTHERS)
    assert facts["weight_format"]["layers"] == 2 * 7 + 1
    assert facts["parameter_bytes"] == packed + 2 * OTHERS
    counts = engine.count(small)
    assert counts["work"]["weight_bytes"] == packed + 2 * (64 + 5 * 64)
    assert counts["footprint"]["weight_bytes"] == packed + 2 * OTHERS
    peaks = engine.measure_peaks(10**6)
    assert peaks is not None
    assert peaks[f"{name}_flops_per_s"] > 0


@pytest.mark.slow
def test_a_kernel_that_did_not_run_fails_by_name() -> None:
    """Here the layers multiply with weights of their own."""
    engine = HfPacked(FORMATS["int8"])
    engine.load(case(LLAMA, "int8"), seed=17)
    layers: dict[str, Any] = dict(engine.model.named_modules())
    for path, module in layers.items():
        if hasattr(module, "scales"):
            owner, _, last = path.rpartition(".")
            out, into = module.packed.shape
            plain = torch.nn.Linear(into, out, bias=False, dtype=torch.bfloat16)
            setattr(layers[owner], last, plain)
    work = engine.prepare(make_prompts(POINT, 128, 17), POINT.output_len)
    with pytest.raises(WorkNotDone, match="the operator _weight_int8pack_mm was not called"):
        engine.check(work)


@pytest.mark.slow
def test_a_model_without_a_layer_to_pack_is_refused() -> None:
    """GPT-2 multiplies by a class of its own, and its head is tied."""
    gpt2 = {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": 1,
        "n_head": 4,
        "n_positions": 64,
        "vocab_size": 128,
    }
    with pytest.raises(CannotLoad, match="small has no linear layer that int8 can pack"):
        HfPacked(FORMATS["int8"]).load(case(gpt2, "int8"), seed=17)


def test_a_gpu_is_refused_before_anything_loads() -> None:
    """With what runs there."""
    told = why_not(case(LLAMA, "int8", "a100_80gb"))
    assert told == "the engine kind 'hf_int8' packs weights for torch's operators on CPUs; hf runs on a GPU"
    assert why_not(case(LLAMA, "int8")) is None


def test_the_bound_is_of_packed_bytes_and_the_best_rate_and_the_kernels_rate_stands_beside_it() -> None:
    """fp32 makes 100 FLOP/s here, the kernel 20: the bound is by 100, and the table says that 20 is slow."""
    small = case(LLAMA, "int8")
    counts = find_counts(library.model("llama125m"), small.engine)
    assert counts is not None
    figures = {
        "read_bytes_per_s": 1e3, "copy_bytes_per_s": 1e2,
        "bfloat16_flops_per_s": 10.0, "float32_flops_per_s": 100.0, "int8_flops_per_s": 20.0,
    }  # fmt: skip
    limits = make_limits(small, counts.work, figures, 1e9, Split())
    assert limits.peaks.measured is not None
    assert limits.peaks.measured.flops_per_s == 100.0
    assert limits.peaks.dtype == "int8"
    assert (limits.peaks.by_dtype or {})["int8"] == 20.0
    told = emulated(limits.peaks, "avx2", "cpu")
    assert told is not None
    assert "int8 is slow on this cpu: its products reach 0.0000000200 GFLOP/s where fp32 makes" in told
    # Llama-125M by hand: 109.5 million values in matrices, all but the embedding of 24.6 million in one byte
    assert counts.footprint.weight_bytes == pytest.approx(109.5e6 + 2 * 24.6e6, rel=0.01)
    fast = RecordedPeaks(dtype="int8", by_dtype={"int8": 100.0, "float32": 100.0})
    assert emulated(fast, "avx2", "cpu") is None
