"""llama.cpp does the work that transformers does: the same weights, the same tokens; else it says why not."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures.core.base.node import as_node
from fixtures.core.cost.bounds import Cache, Work
from fixtures.core.cost.footprint import Footprint
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.engine_kinds import KINDS
from fixtures.engines import is_installed, open_here, why_not
from fixtures.engines.one_process import require_disk
from fixtures.engines.protocol import CannotLoad, Engine, WorkNotDone
from fixtures.measure.prompts import make_prompts

needs_cyllama = pytest.mark.skipif(not is_installed("cyllama"), reason="cyllama is not installed")
POINT = Point(3, 40, 12)
LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 640, "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
MPT = {"model_type": "mpt", "d_model": 256, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 640}
FALCON = {
    "model_type": "falcon", "vocab_size": 640, "hidden_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama_tied": {**LLAMA, "tie_word_embeddings": True, "pad_token_id": 3},
    "llama_31": {**LLAMA, "rope_parameters": ROPE},
    "mistral": {**LLAMA, "model_type": "mistral", "sliding_window": None, "head_dim": 64},
    "qwen3": {**LLAMA, "model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True},
    "mpt": MPT,
    "mpt_12_heads": {**MPT, "d_model": 384, "n_heads": 12},
    "falcon": FALCON,
    "falcon_with_all_heads": {**FALCON, "multi_query": False},
}


def case(kind: str, name: str, **keys: Any) -> Case:
    """A small model on a CPU."""
    model = ModelSpec(name, {**MODELS[name], **keys})
    spec = EngineSpec(kind, kind=kind, dtype="float32" if kind in ("hf", "llamacpp_f32") else "bfloat16")
    return Case(model, library.hardware("cpu"), 1, spec, POINT)


def tokens(engine: Engine, of: Case) -> list[list[int]]:
    """What an engine makes of seeded prompts, after its own check."""
    engine.load(of, seed=17)
    work = engine.prepare(make_prompts(POINT, 640, 17), POINT.output_len)
    engine.check(work)
    made = engine.generate(work)
    engine.verify(work, made)
    times = engine.token_s(work)
    assert len(times) == POINT.output_len
    assert list(times) == sorted(times)
    engine.close()
    found: list[list[int]] = made.tolist()
    return found


@needs_cyllama
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_tokens_are_those_of_transformers(name: str) -> None:
    """In fp32, of a batch of several sequences."""
    of_hf = tokens(open_here(KINDS["hf"], 60), case("hf", name))
    assert tokens(open_here(KINDS["llamacpp_f32"], 60), case("llamacpp_f32", name)) == of_hf


@needs_cyllama
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "stored"), [("llamacpp_bf16", 2.0), ("llamacpp_q4_0", 18 / 32)])
def test_the_record_is_of_the_bytes_that_are_stored(kind: str, stored: float) -> None:
    """Matrices in the format, norms in fp32; a step reads all but the embedding; caches are in bf16."""
    engine, of = open_here(KINDS[kind], 60), case(kind, "llama")
    facts = engine.load(of, seed=17)
    layer = 256 * 256 * 2 + 2 * 256 * 128 + 3 * 256 * 512
    norms, rows = 4 * (2 * 2 + 1) * 256, 640 * 256
    due = stored * (2 * layer + 2 * rows) + norms
    assert facts["parameter_bytes"] == due
    assert facts["parameters"] == 2 * layer + 2 * rows + 5 * 256
    settings = facts["engine_settings"]
    assert settings["tensors"] == {"f32": 5, kind.removeprefix("llamacpp_"): 2 * 7 + 2}
    assert settings["kv_cache"] == "bf16"
    assert all(kernel.startswith("q4_0_") for kernel in settings["kernels"])  # which one is up to the CPU
    packed = facts.get("weight_format")
    if kind == "llamacpp_bf16":
        assert packed is None
    else:
        assert packed is not None
        assert (packed["name"], packed["layers"]) == ("q4_0", 16)
        assert packed["kernel"] == (" ".join(settings["kernels"]) or None)
        assert packed["bytes"] == due - norms
        assert packed["share"] == (2 * layer + 2 * rows) / facts["parameters"]
    counts = engine.count(of)
    assert counts["work"]["weight_bytes"] == due - stored * (rows - 256)
    assert Work.from_dict(counts["work"]).caches == (Cache(2, 2 * 2 * 128),)
    footprint = Footprint.from_dict(counts["footprint"])
    assert footprint.weight_bytes == due
    work = engine.prepare(make_prompts(POINT, 640, 17), POINT.output_len)
    tokens = engine.generate(work)
    with pytest.raises(WorkNotDone, match=r"tokens came back, not \(3, 52\)"):
        engine.verify(work, tokens[:, 1:])
    with pytest.raises(WorkNotDone, match="the prompts came back changed"):
        engine.verify(work, tokens.flip(0))
    work.context.memory_seq_rm(1, 50, -1)
    with pytest.raises(WorkNotDone, match="not 0 to 50 of each sequence"):
        engine.verify(work, tokens)
    engine.generate(work)
    work.context.reset_perf_data()
    with pytest.raises(WorkNotDone, match="positions"):
        engine.verify(work, tokens)
    engine.close()


@needs_cyllama
@pytest.mark.parametrize(
    ("kind", "name", "keys", "told"),
    [
        (
            "llamacpp_f32",
            "llama",
            {"model_type": "gpt2"},
            "no tested translation of gpt2 .*it takes llama",
        ),
        ("llamacpp_f32", "llama", {"hidden_act": "gelu"}, "llama with hidden_act silu only, .* it is gelu"),
        ("llamacpp_f32", "llama", {"attention_bias": True}, "attention_bias False only, .* it is True"),
        (
            "llamacpp_f32",
            "llama",
            {"rope_parameters": {"rope_type": "yarn"}},
            "rope types default and",
        ),
        ("llamacpp_f32", "mistral", {"sliding_window": 51}, "more than the window of 51"),
        ("llamacpp_f32", "mpt", {"attn_config": {"alibi": False}}, "mpt with alibi True only"),
        ("llamacpp_f32", "mpt", {"attn_config": {"clip_qkv": 8}}, "clip_qkv None only, and here it is 8"),
        ("llamacpp_f32", "falcon", {"new_decoder_architecture": True}, "new_decoder_architecture False only"),
        ("llamacpp_q4_0", "llama", {"intermediate_size": 520}, "blocks of 32 .* intermediate_size is 520"),
        ("llamacpp_f32", "llama", {"intermediate_size": 520}, None),
        ("llamacpp_q4_0", "qwen3", {"head_dim": 20}, None),  # 8 heads of 20: rows of 160
        ("llamacpp_q4_0", "qwen3", {"head_dim": 18}, r"num_attention_heads \* head_dim is 144"),
        ("llamacpp_f32", "mistral", {"sliding_window": 52}, None),
    ],
)
def test_what_llama_cpp_cannot_run_is_refused_before_it_loads(
    kind: str, name: str, keys: dict[str, Any], told: str | None
) -> None:
    """By the architecture alone, with what would run it."""
    reason = why_not(case(kind, name, **keys))
    assert (reason is None) if told is None else re.search(rf"{kind}' .*{told}.*; hf runs it$", reason or "")


@needs_cyllama
@pytest.mark.parametrize("batch", [256, 257])
def test_a_batch_beyond_what_a_context_takes_is_refused(batch: int) -> None:
    """Before it loads."""
    reason = why_not(replace(case("llamacpp_f32", "llama"), point=Point(batch, 8, 2)))
    assert (reason is None) == (batch == 256)
    assert reason is None or "takes batches of at most 256 sequences, and this one has 257; hf" in reason


@needs_cyllama
@pytest.mark.parametrize(
    "name", ["mpt125m", "llama125m", "falcon125m", "llama31_8b", "mistral7b", "qwen3_8b"]
)
def test_models_of_the_library_are_taken(name: str) -> None:
    """In every format; not on a GPU, and not with a checkpoint's weights."""
    for kind in (kind for kind in KINDS if kind.startswith("llamacpp")):
        spec = library.read_engine(kind, library.find("engines", as_node(kind, "")))
        of = Case(library.model(name), library.hardware("cpu"), 1, spec, POINT)
        assert why_not(of) is None
        assert "CPUs only" in (why_not(replace(of, hardware=library.hardware("l4"))) or "")
        with_weights = replace(of.model, weights="some/where")
        assert "seeded weights only" in (why_not(replace(of, model=with_weights)) or "")
        assert (spec.name, spec.dtype) == (kind, "float32" if kind == "llamacpp_f32" else "bfloat16")


@needs_cyllama
@pytest.mark.parametrize(
    ("shape", "due"),
    [
        (((10,), 12), (10, 11)),
        (((10, 10), 12), (42, 1)),
        (((7, 40, 19), 6), (81, 1)),
        (((1,), 3), (1, 3)),
        (((5,), 1), (5, 1)),
    ],
)
def test_the_counters_of_positions(shape: tuple[tuple[int, ...], int], due: tuple[int, int]) -> None:
    """Passes over one position and over more are counted apart, and each counter begins at 1."""
    from fixtures.engines.llamacpp.engine import positions_due

    assert positions_due(*shape) == due


@needs_cyllama
def test_a_rate_of_integers_that_cannot_be_measured_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a mark in the record; the other rates are kept."""
    from fixtures.engines import one_process
    from fixtures.engines.llamacpp import engine

    def fails(_device: object) -> float:
        raise RuntimeError("_int_mm: not on this CPU\nwith a trace")

    q4_0: Any = engine.open_q4_0()
    q4_0._spec = EngineSpec("llamacpp_q4_0", kind="llamacpp_q4_0")
    q4_0._not_provable = ["one", "other"]
    monkeypatch.setattr(one_process, "measure_peaks", lambda *_: {"read_bytes_per_s": 1.0})
    monkeypatch.setattr(engine, "integer_flops_per_s", lambda _: 2.0)
    assert q4_0.measure_peaks(1) == {"read_bytes_per_s": 1.0, "int8_flops_per_s": 2.0}
    monkeypatch.setattr(engine, "integer_flops_per_s", fails)
    for _ in range(2):
        assert q4_0.measure_peaks(1) == {"read_bytes_per_s": 1.0}
    told = "the rate of integer products, which its kernels make: _int_mm: not on this CPU"
    assert q4_0.case_facts(None) == {"not_provable": ["one", "other", told]}


def test_a_file_without_room_on_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With where it would be written, and what changes that."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    require_disk(1, "the file")
    with pytest.raises(CannotLoad, match=rf"takes 1000000000\.00 GB, and {tmp_path} has .* set TMPDIR"):
        require_disk(10**18, "the file")
