"""Checkpoints from anywhere: nothing that comes with one runs unless it is asked for."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from ci.tests.conftest import write_suite
from ci.tests.engines.test_hf import LLAMA, case, loaded
from ci.tests.fake_engine import FakeEngine
from fixtures.engines.checkpoint import Checkpoint
from fixtures.engines.hf import HfEngine
from fixtures.engines.protocol import CannotLoad

pytest_plugins = ["pytester"]


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.bin", "model.safetensors"])
def test_a_pickle_is_never_read(tmp_path: Path, name: str) -> None:
    """Weights in PyTorch's older format can run anything: refused, under any name."""
    hf, _ = loaded(LLAMA)
    hf.model.config.save_pretrained(tmp_path)
    sprung = tmp_path / "sprung"
    (tmp_path / name).write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(CannotLoad):
        HfEngine().load(case(LLAMA, weights=str(tmp_path)), seed=1)
    assert not sprung.exists()
    pickle.loads((tmp_path / name).read_bytes())  # the trap is one
    assert sprung.exists()


def with_code(folder: Path, model_type: str) -> dict[str, Any]:
    """A checkpoint that brings code of its own, which makes a file where it is imported."""
    folder.mkdir()
    auto_map = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"}
    architecture = {**LLAMA, "model_type": model_type, "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(architecture))
    (folder / "odd.py").write_text(f"open({str(folder / 'sprung')!r}, 'w')\n")
    return architecture


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("model_type", ["llama", "odd"])
def test_code_of_a_checkpoint_does_not_run_unless_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, weights: bool
) -> None:
    """Not for an architecture that transformers has, and not for one that it lacks."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    architecture = with_code(tmp_path / "odd", model_type)
    one = case(architecture, weights=str(tmp_path / "odd") if weights else None)
    if model_type == "llama" and not weights:
        HfEngine().load(one, seed=1)
    else:
        with pytest.raises(CannotLoad):
            HfEngine().load(one, seed=1)
    assert not (tmp_path / "odd" / "sprung").exists()


def test_the_command_line_says_what_would_run_the_code(
    project: pytest.Pytester, fake: type[FakeEngine], tmp_path: Path
) -> None:
    """One line and exit code 4; a yaml cannot ask for it."""
    with_code(tmp_path / "odd", "odd")
    suite = write_suite(project.path, "m")
    result = project.runpytest("benchmarks", "--suite", suite, "--model", str(tmp_path / "odd"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --model *: transformers has no model_type 'odd'; * --trust-remote-code *"]
    )
    assert not (tmp_path / "odd" / "sprung").exists()
    assert fake.log == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "is nested too deeply"),
        ("{" + " " * 1_000_000, "has more than 1000000 characters"),
        ("{", "cannot be read"),
        ("[]", "is not a mapping"),
    ],
)
def test_a_config_that_is_none_is_one_line(
    project: pytest.Pytester, fake: type[FakeEngine], tmp_path: Path, text: str, reason: str
) -> None:
    """However it was made."""
    (tmp_path / "config.json").write_text(text)
    suite = write_suite(project.path, "m")
    result = project.runpytest("benchmarks", "--suite", suite, "--model", str(tmp_path))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert f"its config.json {reason}" in line


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ""])
def test_an_index_names_files_of_its_own_folder(tmp_path: Path, file: str) -> None:
    """A checkpoint in parts reads nothing else of this machine."""
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": file}}))
    with pytest.raises(CannotLoad, match=r"not a file of its own folder$"):
        Checkpoint(str(tmp_path)).read("w", torch.empty(1), torch.device("cpu"))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"weight_map": 1}', '{"weight_map": {"w": 1}}', "[" * 100_000]
)
def test_an_index_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    """By its name."""
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CannotLoad, match=r"model\.safetensors\.index\.json is not an index of weights"):
        Checkpoint(str(tmp_path))


def test_weights_that_are_not_there_are_missed_before_anything_loads(
    project: pytest.Pytester, fake: type[FakeEngine], tmp_path: Path
) -> None:
    """Of a folder, on both ways in; a pickle is none."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    (folder / "pytorch_model.bin").write_bytes(b"")
    lengths = "batch_sizes: [1]\ninput_lengths: [4]\noutput_lengths: [2]\n"
    model = f"model: {{name: hf_causal_lm, pretrained_model_name_or_path: {folder}}}\n"
    (project.path / "foundry.yaml").write_text(lengths + model)
    suite = write_suite(project.path, "m")
    for way in (("--suite", suite, "--model", str(folder)), ("--suite", "foundry.yaml")):
        result = project.runpytest("benchmarks", *way, "--weights", "checkpoint")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            ["ERROR: *has no safetensors; leave out --weights checkpoint for random *"]
        )
    assert project.runpytest("benchmarks", "--suite", "foundry.yaml", "--collect-only").ret == 0
