"""Packed weights: what the operators compute, what is packed and what is not, what a record says of it."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fixtures import engines
from fixtures.core.cost.footprint import Footprint
from fixtures.core.cost.stored_counts import Counts, find_counts, in_format
from fixtures.core.result.against_bound import emulated, make_limits
from fixtures.core.result.record_times import RecordedPeaks, Split
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.engine_kinds import installed_version
from fixtures.engines import hf_int, hf_nf4, hf_packed, why_not
from fixtures.engines.counting.count import count_work
from fixtures.engines.counting.footprint import footprint_of
from fixtures.engines.hf_compiled import HfCompiled
from fixtures.engines.hf_packed import HfPacked, HfPackedCompiled
from fixtures.engines.packed import Fp8, Int4, Int8, Packed, pack
from fixtures.engines.proof import Proof
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
FORMATS: dict[str, type[Packed]] = {"int8": Int8, "int4": Int4, "fp8": Fp8}
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
    step = {
        "int8": given.abs().amax() / 127,
        "int4": (given.max() - given.min()) / 15,
        "fp8": given.abs().amax() * 32 / 448,  # between the largest values of e4m3
    }[name]
    assert float((weights - given).abs().max()) <= 0.8 * float(step)
    values = torch.randn(2, 3, 64, dtype=torch.bfloat16)
    seen = _as_fp8(values.float()) if name == "fp8" else values.float()
    due = seen @ weights.T + bias
    made = packed(values.transpose(0, 1).contiguous().transpose(0, 1)).float()  # not contiguous
    assert made.shape == (2, 3, 48)
    assert float((made.detach() - due).abs().max()) < 0.02
    # 48 * 64 of a byte or a half; 48 scales of two or four bytes, or 48 * 2 pairs of a scale and a zero
    assert (
        sum(buffer.nbytes for buffer in packed.buffers())
        == {
            "int8": 48 * 64 + 48 * 2,
            "int4": 48 * 64 // 2 + 48 * 2 * 2 * 2,
            "fp8": 48 * 64 + 48 * 4,
        }[name]
        == packed.packed_bytes
    )


def test_seconds_of_comparing_logits_are_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that each of the two calls moves on by a thousand seconds."""
    moved, clock, logits = [0.0], time.perf_counter, hf_packed._logits

    def slow(model: Any, seed: int) -> torch.Tensor:
        moved[0] += 1000
        return logits(model, seed)

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + moved[0])
    monkeypatch.setattr(hf_packed, "_logits", slow)
    engine = hf_int.open_int8()
    for _ in range(2):
        facts = engine.load(case(LLAMA, "int8"), 17)
        assert 0 < facts["load_s"] < 500
        assert 2000 <= facts["weight_format"]["compared_s"] < 2500


def _as_fp8(values: torch.Tensor) -> torch.Tensor:
    """Rows rounded to 4 significant bits, as all but the smallest values of e4m3 are."""
    fraction, exponent = torch.frexp(values * 448 / values.abs().amax(-1, keepdim=True))
    rounded = torch.ldexp((fraction * 16).round() / 16, exponent)
    return rounded * values.abs().amax(-1, keepdim=True) / 448


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
@pytest.mark.parametrize(
    ("model", "name"), [*itertools.product(MODELS, ("int8", "int4")), ("llama", "fp8"), ("falcon", "fp8")]
)
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
    assert 0 < told["logit_difference"] < {"int8": 0.03, "int4": 0.3, "fp8": 0.15}[name] * told["logit_max"]
    assert facts["not_provable"] == [f"that the tokens are those of hf, as {name} rounds the weights"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "packed"),
    [("int8", LINEAR + 2 * ROWS), ("int4", LINEAR // 2 + LINEAR // 32 * 4), ("fp8", LINEAR + 4 * ROWS)],
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
    engine = HfPacked(Int8)
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
        HfPacked(Int8).load(case(gpt2, "int8"), seed=17)


@pytest.mark.slow
def test_fused_experts_stay_as_they_are_and_the_share_says_so() -> None:
    """Mixtral's: of 2 layers q and o of 64*64, k and v of 32*64, the head of 128*64. A router is no layer.

    A step of one token reads 2 of 4 experts of 3*96*64 in bf16, and so does a prediction by the row alone.
    """
    mixtral = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    linear = 2 * (2 * 64 * 64 + 2 * 32 * 64) + 128 * 64
    rows = 2 * (2 * 64 + 2 * 32) + 128
    expert, routers = 3 * 96 * 64, 2 * 4 * 64
    small, engine = case(mixtral, "int8"), HfPacked(Int8)
    facts = engine.load(small, seed=17)
    told = facts["weight_format"]
    assert facts["parameters"] == linear + 2 * 4 * expert + routers + OTHERS
    assert (told["layers"], told["bytes"]) == (2 * 4 + 1, linear + 2 * rows)
    assert told["share"] == linear / facts["parameters"] < 0.2
    counts = engine.count(small)
    assert counts["footprint"]["weight_bytes"] == facts["parameter_bytes"]
    read = linear + 2 * rows + 2 * (2 * 2 * expert + routers + 64 + 5 * 64)
    assert counts["work"]["weight_bytes"] == read
    bf16 = replace(small, engine=EngineSpec("hf"))
    work = count_work(bf16)
    whole = Footprint.from_dict(footprint_of(bf16, work) or {})
    predicted = in_format(Counts(work, whole), small.engine)
    assert predicted.footprint.weight_bytes == pytest.approx(facts["parameter_bytes"], rel=0.02)
    assert predicted.work.weight_bytes == pytest.approx(read, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8", "fp8"])
def test_a_packed_model_is_compiled_as_one_graph_with_the_kernel_in_its_prefill(name: str) -> None:
    """Both checks pass; the record has the format and the compilation, and what neither can prove."""
    engine = HfPackedCompiled(FORMATS[name])
    engine.backend = "eager"
    facts = engine.load(case(LLAMA, f"{name}_compiled"), seed=17)
    work = engine.prepare(make_prompts(POINT, 128, 17), POINT.output_len)
    engine.check(work)
    engine.verify(work, engine.generate(work))
    assert facts["weight_format"]["kernel"] == FORMATS[name].kernel
    assert facts["not_provable"] == [
        f"that the tokens are those of hf, as {name} rounds the weights",
        "which attention the compiled steps ran",
    ]
    assert engine.case_facts(work)["compiled"]["graphs"] == 1
    assert engine.case_facts(work)["graph_breaks"] == 0


@pytest.mark.parametrize(
    ("name", "device", "installed", "told"),
    [
        ("int8", "cpu", {}, None),
        ("int8", "a100_80gb", {}, "needs torchao, which is not installed; install torchao==0.18.0"),
        ("int8", "a100_80gb", {"torchao": "0.1"}, "never tried with torchao 0.1; install torchao==0.18.0"),
        ("int8", "cpu", {"torchao": "0.1"}, None),
        ("int8", "a100_80gb", {"torchao": "0.18.0"}, None),
        ("int4", "t4", {"torchao": "0.18.0"}, "needs units for bf16, which t4 has not; hf runs there"),
        ("nf4", "cpu", {}, "needs bitsandbytes, which is not installed; install bitsandbytes==0.50.2"),
        ("nf4", "t4", {"bitsandbytes": "0.50.2"}, None),
        ("nf4", "t4", {"bitsandbytes": "0.40.0"}, "never tried with bitsandbytes 0.40.0; install"),
        ("fp8", "cpu", {}, None),
        ("fp8", "l4", {}, None),
        ("fp8", "a100_80gb", {}, "'hf_fp8' needs units for fp8, which a100_80gb has not; hf runs there"),
        ("fp8", "mi300x", {}, "'hf_fp8' needs NVIDIA's units for fp8, which mi300x has not; hf runs there"),
        ("fp8_compiled", "a100_80gb", {}, "'hf_fp8_compiled' needs units for fp8"),
    ],
)  # fmt: skip
def test_a_format_is_refused_before_anything_loads(
    name: str, device: str, installed: dict[str, str], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a missing library, a version that was never tried, and what the GPU lacks; with what works."""

    def version(library: str, environment: str | None = None) -> str | None:
        return installed.get(library) or installed_version(library, environment)

    monkeypatch.setattr(engines, "is_installed", lambda name: name in {"torch", "transformers", *installed})
    monkeypatch.setattr(engines, "installed_version", version)
    reason = why_not(case(LLAMA, name, device))
    assert (reason is None) if told is None else told in (reason or "")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({**LLAMA, "hidden_size": 72}, "sides are multiples of 16 and 32, and hidden_size is 72; hf runs it"),
        ({**MPT, "d_model": 66, "n_heads": 3}, "and d_model is 66; hf runs it"),
        ({**LLAMA, "hidden_size": 80}, None),
        ({"model_type": "gpt2"}, "packs linear layers, and those of gpt2 are Conv1D; hf runs it"),
        ({"model_type": "gpt2", "tie_word_embeddings": False}, None),
    ],
)
def test_a_width_that_no_format_packs_is_refused_before_it_loads(
    keys: dict[str, Any], told: str | None
) -> None:
    """Of 80 values some matrices are packed: those that take other inputs."""
    reason = why_not(case(keys, "int4"))
    assert (reason is None) if told is None else told in (reason or "")


def test_a_packed_model_that_cannot_be_compiled_is_refused_before_it_loads() -> None:
    """As by hf_compiled; without compilation it runs."""
    assert "does not run mpt: its attention" in (why_not(case(MPT, "int8_compiled")) or "")
    assert why_not(case(MPT, "int8")) is None


def test_a_gpus_products_in_fp8_are_held_against_its_peak_in_fp8() -> None:
    """Of one H100 by its datasheet, 1978.9 TFLOP/s; of the matrices one byte is read a value."""
    fp8, bf16 = (replace(case(LLAMA, "fp8", "h100_80gb"), engine=EngineSpec(n, n)) for n in ("hf_fp8", "hf"))
    found = {}
    for each in (fp8, bf16):
        counts = find_counts(library.model("llama125m"), each.engine)
        assert counts is not None
        found[each.engine.name] = make_limits(each, counts.work, None, 1.0, Split())
    stated = found["hf_fp8"].peaks.stated
    assert stated is not None
    assert (found["hf_fp8"].peaks.dtype, stated.flops_per_s) == ("fp8", 1978.9e12)
    assert (found["hf_fp8"].step_bytes or 0) < 0.51 * (found["hf"].step_bytes or 0)
    assert (found["hf"].peaks.dtype, (found["hf"].peaks.stated or stated).flops_per_s) == (
        "bfloat16",
        989.4e12,
    )


class OnCpu(hf_int.Int4):
    """torchao's int4 in its format for CPUs, as that for tensor cores can only be made on a GPU."""

    kernel = "_weight_int4pack_mm_for_cpu"

    @staticmethod
    def config() -> Any:
        """In groups of 32, as that for tensor cores."""
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        return PrototypeInt4WeightOnlyConfig(32, set_inductor_config=False)


@pytest.mark.slow
def test_int4_for_tensor_cores_is_padded_to_inputs_of_1024_and_has_its_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without memory, as of a GPU that runs it: 48 rows of 1,024 half bytes and 32 pairs of bf16."""
    pytest.importorskip("torchao")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    called = Proof().called
    with FakeTensorMode(), torch.no_grad():
        layer = hf_int.Int4(torch.nn.Linear(64, 48, dtype=torch.bfloat16))
        values = torch.empty(2, 3, 64, dtype=torch.bfloat16)
        with called:
            made = layer(values)
    assert layer.packed_bytes == 48 * 1024 // 2 + 48 * 32 * 2 * 2
    assert made.shape == (2, 3, 48)
    assert "_weight_int4pack_mm" in called.names


@pytest.mark.slow
@pytest.mark.parametrize("engine_type", [HfPacked, HfPackedCompiled])
@pytest.mark.parametrize(
    ("layer", "library_name", "packed"),
    [
        (hf_int.Int8, "torchao", LINEAR + 5 * ROWS),
        (OnCpu, "torchao", LINEAR // 2 + LINEAR // 32 * 4),
        (hf_nf4.Nf4, "bitsandbytes", LINEAR // 2 + LINEAR // 64 * 4),
    ],
)
def test_other_libraries_pack_and_multiply_as_their_rows_say(
    layer: type[Packed], library_name: str, packed: int, engine_type: type[HfPacked]
) -> None:
    """On a CPU, where the extra `packed` is installed: bytes, share and kernel, and the check passes."""
    pytest.importorskip(library_name)
    engine = engine_type(layer)
    if isinstance(engine, HfCompiled):
        engine.backend = "eager"
    small = case(LLAMA, layer.name)
    facts = engine.load(small, seed=17)
    work = engine.prepare(make_prompts(POINT, 128, 17), POINT.output_len)
    engine.check(work)
    engine.verify(work, engine.generate(work))
    told = facts["weight_format"]
    assert (told["kernel"], told["bytes"], told["layers"]) == (layer.kernel, packed, 2 * 7 + 1)
    assert told["share"] == LINEAR / (LINEAR + OTHERS)
    assert 0 < told["logit_difference"] < (0.03 if layer.name == "int8" else 0.3) * told["logit_max"]
    assert engine.count(small)["footprint"]["weight_bytes"] == facts["parameter_bytes"] == packed + 2 * OTHERS
    peaks = engine.measure_peaks(10**6)
    assert peaks is not None
    assert peaks[f"{layer.name}_flops_per_s"] > 0


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
