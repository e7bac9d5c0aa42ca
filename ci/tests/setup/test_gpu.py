"""ci/gpu, gone through on a CPU: the real script, a real small model, a real history."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ci.setup import on_gpu
from ci.tests.conftest import ROOT
from ci.tests.warm import Warm

SUITE = {
    "models": [
        {
            "name": "tiny",
            "architecture": {
                "model_type": "llama", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96,
                "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64,
            },
        }
    ],
    "sweeps": [{"name": "s", "batch_sizes": [1, 2], "input_lengths": [8], "output_lengths": [4]}],
}  # fmt: skip


def gpu(*arguments: str, warm: Warm | None = None) -> subprocess.CompletedProcess[str]:
    """The command, with this Python as the one that has torch."""
    environment = {**os.environ, "PYTHON": sys.executable}
    if warm is not None:
        environment |= {"PYTHON": warm.python, **warm.environment}
    command = [str(ROOT / "ci" / "gpu"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_a_history_is_left_for_the_hardware(tmp_path: Path, warm: Warm) -> None:
    """The suite is measured, and its history lies in the folder of this machine."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(SUITE))
    done = gpu(
        "--cpu", "--skip-tests", "--minutes", "2", "--suite", str(tmp_path / "tiny.yaml"),
        "--histories", str(tmp_path / "histories"), "--", "--rounds", "2", "-k", "b2-", warm=warm,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (history,) = tmp_path.glob("histories/1x*/tiny_*.json")
    (bench,) = json.loads(history.read_text())["benchmarks"]
    assert bench["extra_info"]["case"]["batch_size"] == 2
    assert len(bench["stats"]["data"]) == 2


@pytest.mark.slow
def test_without_a_gpu_it_says_so(warm: Warm) -> None:
    """Exit code 3 and one line, before anything runs."""
    if on_gpu.has_gpu():
        pytest.skip("there is one here")
    done = gpu("--minutes", "1", warm=warm)
    assert done.returncode == on_gpu.MISSING
    assert done.stderr.strip().endswith("sees no GPU; add --cpu to measure on the CPU")


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the name under which it is installed."""
    monkeypatch.setattr(on_gpu, "PACKAGES", {"no_such_module": "no-such-package", "json": "json"})
    assert on_gpu.main(["--cpu"]) == on_gpu.MISSING
    assert capsys.readouterr().err.strip().endswith("has no no-such-package")


def test_wheels_stand_in_for_what_the_host_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And for nothing that it has; processes that it starts find them too."""
    wheels, folder = tmp_path / "wheels", tmp_path / "folder"
    wheels.mkdir()
    folder.mkdir()
    for name in ("only_here", "json"):
        with zipfile.ZipFile(wheels / f"{name}-1-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/__init__.py", "x = 1")
            archive.writestr(f"{name}-1.dist-info/METADATA", "")
    monkeypatch.setattr(on_gpu, "WHEELS", wheels)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    on_gpu.add_wheels(folder)
    assert on_gpu.missing({"only_here": "only-here"}) == []
    assert sorted(path.name for path in folder.iterdir()) == ["only_here", "only_here-1.dist-info"]
    assert os.environ["PYTHONPATH"] == os.pathsep.join(["elsewhere", str(folder)])


def test_what_is_fetched_is_locked() -> None:
    """Each name is one of the lock's, so that --fetch asks for its exact version."""
    lock = (ROOT / "ci/setup/requirements.lock").read_text(encoding="utf-8").splitlines()
    assert set(on_gpu.FETCHED) <= {line.partition("==")[0] for line in lock}


@pytest.mark.slow
def test_bad_input_keeps_its_exit_code(tmp_path: Path, warm: Warm) -> None:
    """A suite that is not there: pytest's line, and 4."""
    done = gpu("--cpu", "--skip-tests", "--suite", str(tmp_path / "none.yaml"), warm=warm)
    assert done.returncode == on_gpu.BAD_INPUT
    assert "no such file" in done.stderr


@pytest.mark.slow
def test_a_run_that_hangs_is_ended(tmp_path: Path) -> None:
    """Interrupted first, so that it can save what it has."""
    test = tmp_path / "test_hang.py"
    test.write_text("import time\ndef test_hang(): time.sleep(600)\n")
    code = on_gpu.pytest([str(test), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"], 5.0)
    assert code == pytest.ExitCode.INTERRUPTED
