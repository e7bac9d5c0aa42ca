"""The transformers engine, with small models of real architectures."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.engines import build
from fixtures.engines.hf import HfEngine
from fixtures.engines.loaded import prove
from fixtures.engines.proof import Proof
from fixtures.engines.protocol import CannotLoad, OutOfMemory, WorkNotDone
from fixtures.measure.prompts import make_prompts

pytestmark = pytest.mark.slow
pytest_plugins = ["pytester"]

MPT = {"model_type": "mpt", "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 128}
LLAMA = {
    "model_type": "llama", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
FALCON = {
    "model_type": "falcon", "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
QWEN = {**LLAMA, "model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": True}
GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 128}
ALL = {"mpt": MPT, "llama": LLAMA, "falcon": FALCON, "mixtral": MIXTRAL, "qwen3": QWEN, "gpt2": GPT2}
POINT = Point(3, 10, 12)


def case(architecture: dict[str, Any], engine: EngineSpec | None = None, **spec: Any) -> Case:
    """A case of a small model on the CPU."""
    model = ModelSpec("small", architecture, **spec)
    return Case(model, library.hardware("cpu"), 1, engine or EngineSpec("hf"), POINT)


def loaded(architecture: dict[str, Any], engine: EngineSpec | None = None) -> tuple[HfEngine, dict[str, Any]]:
    """The engine with its model, and what it reports."""
    hf = HfEngine()
    return hf, hf.load(case(architecture, engine), seed=17)


def work_of(hf: HfEngine, point: Point = POINT) -> Any:
    """The work of a point."""
    return hf.prepare(make_prompts(point, 128, 17), point.output_len)


@pytest.mark.parametrize("name", ALL)
def test_in_place_equals_from_config(name: str) -> None:
    """The same weights in a model that transformers built give the same tokens: no buffer is garbage."""
    hf, facts = loaded(ALL[name], EngineSpec("hf_fp32", dtype="float32"))
    keys: dict[str, Any] = dict(ALL[name])
    config = AutoConfig.for_model(keys.pop("model_type"), **keys)
    theirs = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    theirs.load_state_dict(hf.model.state_dict(), strict=True)
    for (ours_name, ours), (_, their) in zip(hf.model.named_buffers(), theirs.named_buffers(), strict=True):
        assert torch.equal(ours, their), ours_name
    work = work_of(hf)
    settings = GenerationConfig(max_new_tokens=12, do_sample=False, use_cache=True)
    expected = theirs.generate(work.prompts, attention_mask=work.mask, generation_config=settings)
    assert torch.equal(hf.generate(work), expected[:, :22])
    assert facts["parameters"] == sum(p.numel() for p in theirs.parameters())


def test_tied_weights_stay_tied_and_norms_are_one() -> None:
    """The output head is the embedding; a norm begins as the identity; weights spread as the config says."""
    hf, facts = loaded(MPT)
    model = hf.model
    assert model.lm_head.weight is model.transformer.wte.weight
    assert torch.equal(model.transformer.norm_f.weight, torch.ones(64, dtype=torch.bfloat16))
    weights = model.transformer.blocks[1].ffn.up_proj.weight.float()
    assert float(weights.std()) == pytest.approx(0.02, rel=0.05)
    assert abs(float(weights.mean())) < 0.001
    # 128*64 embedding + 2 * (3*64^2 + 64^2 + 8*64^2 attention and MLP + 2*64 norms) + 64 last norm
    assert facts["parameters"] == 128 * 64 + 2 * (12 * 64**2 + 2 * 64) + 64
    assert facts["parameter_bytes"] == 2 * facts["parameters"]


def test_weights_are_seeded_and_differ_between_parameters() -> None:
    """The same seed gives the same weights, another seed others; no two parameters are copies."""

    def weights(seed: int) -> dict[str, torch.Tensor]:
        hf = HfEngine()
        hf.load(case(LLAMA), seed)
        return dict(hf.model.state_dict())

    first, again, other = weights(17), weights(17), weights(18)
    assert all(torch.equal(first[name], again[name]) for name in first)
    key = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(first[key], other[key])
    assert not torch.equal(first[key], first["model.layers.1.self_attn.q_proj.weight"])


def test_a_weight_larger_than_the_pool_has_no_two_equal_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool repeats out of step with the rows."""
    monkeypatch.setattr(build, "_POOL", 1009)
    hf, _ = loaded(LLAMA)
    weight = hf.model.model.layers[0].mlp.up_proj.weight.float()
    assert len(torch.unique(weight, dim=0)) == len(weight)


def test_exactly_as_many_tokens_as_asked_for() -> None:
    """Random weights end on no token, and every row has its own prompt."""
    hf, _ = loaded(LLAMA)
    for output_len in (1, 2, 12):
        work = work_of(hf, Point(3, 10, output_len))
        tokens = hf.generate(work)
        assert tuple(tokens.shape) == (3, 10 + output_len)
        hf.verify(work, tokens)
    assert len({tuple(row) for row in work.prompts.tolist()}) == 3


def test_a_checkpoints_own_settings_do_not_reach_generate(tmp_path: Path) -> None:
    """An end token, sampling and penalties in generation_config.json are left behind."""
    hf, _ = loaded(LLAMA)
    first = int(hf.generate(work_of(hf))[0, 10])
    hf.model.generation_config = GenerationConfig(
        eos_token_id=first, pad_token_id=0, do_sample=True, repetition_penalty=1.5
    )
    hf.model.save_pretrained(tmp_path)
    again = HfEngine()
    again.load(case(LLAMA, weights=str(tmp_path)), seed=1)
    assert torch.equal(again.generate(work_of(again)), hf_tokens(hf))


def hf_tokens(hf: HfEngine) -> torch.Tensor:
    """Tokens of the model with clean settings."""
    hf.model.generation_config = GenerationConfig()
    return hf.generate(work_of(hf))


def test_weights_of_a_checkpoint_are_read_in_the_engines_dtype(tmp_path: Path) -> None:
    """A checkpoint in fp32 becomes bf16 on the device, value by value, with its ties."""
    hf, _ = loaded(MPT, EngineSpec("hf_fp32", dtype="float32"))
    hf.model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    again = HfEngine()
    facts = again.load(case(MPT, weights=str(tmp_path)), seed=1)
    for name, value in hf.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value.to(torch.bfloat16)), name
    assert again.model.lm_head.weight is again.model.transformer.wte.weight
    assert facts["parameter_bytes"] == 2 * facts["parameters"]
    again.check(work_of(again))


def test_weights_without_safetensors_are_refused(tmp_path: Path) -> None:
    """A folder with a config alone has no weights to read."""
    hf, _ = loaded(LLAMA)
    hf.model.config.save_pretrained(tmp_path)
    with pytest.raises(CannotLoad, match="cannot be set up"):
        HfEngine().load(case(LLAMA, weights=str(tmp_path)), seed=1)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_cache_is_on_or_off_as_asked(name: str, use_cache: bool) -> None:
    """The check passes for what was asked, MPT included, whose config has the cache off by default."""
    hf, _ = loaded(ALL[name], EngineSpec("e", use_cache=use_cache))
    hf.check(work_of(hf))


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_cache_that_is_not_as_asked_is_noticed(use_cache: bool) -> None:
    """An engine that forgets to pass the flag fails its check."""
    hf, _ = loaded(MPT, EngineSpec("e", use_cache=use_cache))

    def forgetful(output_len: int) -> GenerationConfig:
        return GenerationConfig(max_new_tokens=output_len, do_sample=False, use_cache=not use_cache)

    hf._settings = forgetful  # type: ignore[method-assign]
    with pytest.raises(WorkNotDone, match="KV cache is not"):
        hf.check(work_of(hf))


def test_a_cache_that_is_switched_off_between_the_check_and_the_rounds_is_noticed() -> None:
    """Every call is looked at, not the checked one alone."""
    hf, _ = loaded(LLAMA)
    work = work_of(hf)
    hf.check(work)
    work.settings.use_cache = False
    with pytest.raises(WorkNotDone, match=r"given \[10, 11, 12, .*\.\.\.\] .*KV cache is not used"):
        hf.verify(work, hf.generate(work))


@pytest.mark.parametrize(
    "behind",
    [{"do_sample": True, "top_k": 100, "temperature": 100.0}, {"repetition_penalty": 50.0}],
    ids=["sampling", "penalty"],
)
def test_tokens_that_are_not_the_likeliest_are_noticed(behind: dict[str, Any]) -> None:
    """Sampling or a penalty that gets into generation behind the suite's back fails the check."""
    hf, _ = loaded(LLAMA)

    def settings(output_len: int) -> GenerationConfig:
        return GenerationConfig(max_new_tokens=output_len, use_cache=True, **behind)

    hf._settings = settings  # type: ignore[method-assign]
    with pytest.raises(WorkNotDone, match="not chosen greedily"):
        hf.check(work_of(hf))


def test_prompts_that_are_alike_are_noticed() -> None:
    """Unless there are no others."""
    hf, _ = loaded(LLAMA)
    with pytest.raises(WorkNotDone, match="only 2 of 3 prompts are distinct"):
        hf.check(hf.prepare([[1, 2], [1, 2], [3, 4]], 2))


def test_ragged_prompts_are_told_apart_by_their_lengths() -> None:
    """A zero before a prompt is padding or a token."""
    hf, _ = loaded(LLAMA)
    hf.check(hf.prepare([[0, 5], [5]], 2))
    with pytest.raises(WorkNotDone, match="only 2 of 3 prompts are distinct"):
        hf.check(hf.prepare([[5], [5], [1, 2]], 2))


@pytest.mark.parametrize(("configured", "ran"), [("eager", "sdpa"), ("sdpa", "eager")])
def test_attention_that_ran_otherwise_is_noticed(configured: str, ran: str) -> None:
    """What is dispatched counts, not what the config says of it."""
    hf, _ = loaded(LLAMA, EngineSpec("e", attention=configured))
    hf.check(work_of(hf))
    proof = Proof()
    hf.model.set_attn_implementation(ran)
    with proof.watching(hf.model):
        hf.generate(work_of(hf))
    assert proof.attention() == ran
    with pytest.raises(WorkNotDone, match=f"'{configured}' is configured, '{ran}' ran"):
        proof.require_attention(configured)


def test_a_parameter_or_cache_of_another_dtype_is_noticed() -> None:
    """One that was changed after the load, and keys that are kept in another dtype."""
    hf, _ = loaded(LLAMA)
    proof = Proof()
    with proof.watching(hf.model):
        hf.generate(work_of(hf))
    proof.require_cache_dtype(torch.bfloat16)
    with pytest.raises(WorkNotDone, match=r"KV cache holds torch\.bfloat16, not torch\.float32"):
        proof.require_cache_dtype(torch.float32)
    layer = hf.model.model.layers[1].mlp
    layer.up_proj.weight.data = layer.up_proj.weight.data.float()
    with pytest.raises(CannotLoad, match=r"layers\.1\.mlp\.up_proj\.weight is torch\.float32"):
        hf.check(work_of(hf))


def test_the_check_asks_what_attention_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that is registered under another one's name is not what was configured."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.llama.modeling_llama import eager_attention_forward

    hf, _ = loaded(LLAMA)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", eager_attention_forward)
    with pytest.raises(WorkNotDone, match="'sdpa' is configured, 'eager' ran"):
        hf.check(work_of(hf))


def test_the_check_asks_for_the_dtype_of_the_cache() -> None:
    """Keys that are kept in another dtype fail it."""
    hf, _ = loaded(LLAMA)

    def widen(_module: Any, _args: Any, output: Any) -> None:
        layer = output.past_key_values.layers[1]
        layer.keys = layer.keys.float()

    hf.model.register_forward_hook(widen)
    with pytest.raises(WorkNotDone, match=r"KV cache holds torch\.float32"):
        hf.check(work_of(hf, Point(3, 10, 1)))


def test_wrong_tokens_are_noticed() -> None:
    """Too few tokens, and tokens that do not begin with the prompts."""
    hf, _ = loaded(LLAMA)
    work = work_of(hf)
    tokens = hf.generate(work)
    with pytest.raises(WorkNotDone, match="came back"):
        hf.verify(work, tokens[:, :-1])
    with pytest.raises(WorkNotDone, match="begin with the prompts"):
        hf.verify(work, tokens.flip(0))


@pytest.mark.parametrize(
    ("architecture", "attention", "used"),
    [(LLAMA, "auto", "sdpa"), (LLAMA, "eager", "eager"), (LLAMA, "sdpa", "sdpa"), (MPT, "auto", "eager")],
)
def test_attention_is_the_one_asked_for(architecture: dict[str, Any], attention: str, used: str) -> None:
    """The record says which one it is."""
    _, facts = loaded(architecture, EngineSpec("e", attention=attention))
    assert facts["attention"] == used


@pytest.mark.parametrize(("architecture", "attention"), [(MPT, "sdpa"), (LLAMA, "flash")])
def test_attention_that_cannot_be_is_refused(architecture: dict[str, Any], attention: str) -> None:
    """MPT has no sdpa; flash attention is not installed here."""
    if attention == "flash" and torch.cuda.is_available():
        pytest.skip("a GPU may have it")
    with pytest.raises(CannotLoad, match="cannot be set up"):
        loaded(architecture, EngineSpec("e", attention=attention))


@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2), ("float16", 2), ("float32", 4)])
def test_every_parameter_has_the_dtype(dtype: str, width: int) -> None:
    """Two or four bytes a parameter."""
    hf, facts = loaded(LLAMA, EngineSpec("e", dtype=dtype))
    assert {p.dtype for p in hf.model.parameters()} == {getattr(torch, dtype)}
    assert facts["parameter_bytes"] == width * facts["parameters"]


def test_a_parameter_of_another_dtype_is_noticed() -> None:
    """The proof looks at every parameter, not at the first."""
    hf, _ = loaded(LLAMA)
    hf.model.model.layers[1].mlp.up_proj.float()
    with pytest.raises(CannotLoad, match=r"layers\.1\.mlp\.up_proj"):
        prove(hf.model, hf.spec, hf.device, {})


def test_autocast_computes_in_its_dtype() -> None:
    """fp32 weights under autocast give other logits than without, and the same parameters."""
    hf, _ = loaded(LLAMA, EngineSpec("e", dtype="float32", autocast="bfloat16"))
    prompts = work_of(hf).prompts
    with torch.no_grad(), hf._autocast():
        low = hf.model(prompts).logits
    assert low.dtype == torch.bfloat16
    hf.check(work_of(hf))


def test_a_mixture_of_experts_says_that_routing_depends_on_weights() -> None:
    """Random weights route otherwise than trained ones; the record says so."""
    assert loaded(MIXTRAL)[1]["routing_depends_on_weights"] is True
    assert loaded(LLAMA)[1]["routing_depends_on_weights"] is False


def test_an_architecture_that_transformers_refuses() -> None:
    """Five heads of 64: one line, no traceback of a library."""
    with pytest.raises(CannotLoad, match="cannot be set up"):
        loaded({**LLAMA, "num_attention_heads": 5})


def test_want_of_memory_has_one_name() -> None:
    """What torch says on a CPU becomes the suite's own outcome."""
    hf, _ = loaded(LLAMA)

    def huge(*_: Any, **__: Any) -> None:
        torch.empty(1 << 50)

    hf.model.generate = huge
    with pytest.raises(OutOfMemory):
        hf.generate(work_of(hf))


def test_the_model_is_gone_after_close() -> None:
    """No reference is left, so that the next model has the whole device."""
    hf, _ = loaded(LLAMA)
    hf.check(work_of(hf))
    gone = weakref.ref(hf.model)
    hf.close()
    gc.collect()
    assert gone() is None


def test_the_memory_peak_begins_anew() -> None:
    """A peak of 400 MB is seen, and no more after a reset; the kernel may reclaim some memory meanwhile."""
    hf, _ = loaded(LLAMA)
    hf.reset_peak_memory()
    before = hf.peak_memory_bytes()
    held = torch.ones(100_000_000)
    during = hf.peak_memory_bytes()
    del held
    hf.reset_peak_memory()
    after = hf.peak_memory_bytes()
    assert before is not None
    assert during is not None
    assert after is not None
    assert during - before > 250_000_000
    assert during - after > 250_000_000


REMOTE_CONFIG = """
from transformers import LlamaConfig
class OddConfig(LlamaConfig):
    model_type = "odd"
"""
REMOTE_MODEL = """
from transformers import LlamaForCausalLM
from .configuration_odd import OddConfig
class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig
"""


def test_trusted_code_of_a_checkpoint_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture that only the checkpoint's own code knows; what the code is for, it does."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "odd"
    folder.mkdir()
    auto_map = {
        "AutoConfig": "configuration_odd.OddConfig",
        "AutoModelForCausalLM": "modeling_odd.OddForCausalLM",
    }
    architecture = {**LLAMA, "model_type": "odd", "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(architecture))
    (folder / "configuration_odd.py").write_text(REMOTE_CONFIG)
    (folder / "modeling_odd.py").write_text(REMOTE_MODEL)
    hf = HfEngine()
    hf.load(case(architecture, remote_code=str(folder)), seed=17)
    assert type(hf.model).__name__ == "OddForCausalLM"
    hf.check(work_of(hf))
    with pytest.raises(CannotLoad, match="odd"):
        HfEngine().load(case(architecture), seed=17)


def test_real_models_leave_nothing_in_a_session(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three real models in one session, the first of them with a failing case: each loads alone."""
    alive: list[weakref.ref[Any]] = []
    at_load: list[int] = []
    load, verify = HfEngine.load, HfEngine.verify

    def watched_load(self: HfEngine, case: Case, seed: int) -> dict[str, Any]:
        at_load.append(sum(ref() is not None for ref in alive))
        facts = load(self, case, seed)
        alive.append(weakref.ref(self.model))
        return facts

    def failing_verify(self: HfEngine, work: Any, tokens: torch.Tensor) -> None:
        if len(alive) == 1 and work.prompts.shape[0] == 2:
            raise WorkNotDone("planted")
        verify(self, work, tokens)

    monkeypatch.setattr(HfEngine, "load", watched_load)
    monkeypatch.setattr(HfEngine, "verify", failing_verify)
    models = [{"name": name, "architecture": ALL[name]} for name in ("llama", "mpt", "falcon")]
    sweep = {"name": "s", "batch_sizes": [1, 2], "input_lengths": [8], "output_lengths": [3]}
    (project.path / "s.yaml").write_text(json.dumps({"models": models, "sweeps": [sweep]}))
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", "s.yaml", "--rounds=1")
    result.assert_outcomes(passed=5, failed=1)
    assert at_load == [0, 0, 0]
    assert all(ref() is None for ref in alive)
