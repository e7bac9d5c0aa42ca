"""Real comparisons of two checkouts, their bases, and what the command refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ci.gate.__main__ import main
from ci.gate.paired.sides import Side, opened
from ci.tests.conftest import FAKED, ROOT, WITHOUT_CPU_INFO
from fixtures.core.base.errors import InputError


def git(folder: Path, *words: str) -> None:
    """In a repository of its own."""
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    identity = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, env=env)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This project with the fake engine, committed; calls take 2 ms by its clock, with a little noise."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("benchmarks", "fixtures", "yamls", "ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pytest.ini", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    noise = "\nimport random\nfrom ci.tests.fake_engine import Law\n"
    noise += "FakeEngine.law = Law(factor=lambda _, f=random.gauss(1, 0.004): f)\n"
    conftest = folder / "conftest.py"
    conftest.write_text(conftest.read_text() + WITHOUT_CPU_INFO + FAKED + noise)
    model = {"name": "m", "architecture": {"model_type": "mamba"}}
    sweep = {"name": "s", "batch_sizes": [1, 2], "input_lengths": [4], "output_lengths": [2]}
    suite = {"models": [model], "hardware": ["1xany"], "sweeps": [sweep], "rounds": 2, "warmup_rounds": 0}
    (folder / "suite.yaml").write_text(json.dumps(suite))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def gate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in that checkout."""
    command = [
        sys.executable,
        "-m",
        "ci.gate",
        "paired",
        "--base",
        "HEAD",
        *words,
        "--",
        "--suite",
        "suite.yaml",
    ]
    cached = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=cached)


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_a_planted_slowdown_goes_red_and_its_twin_stays_green(checkout: Path) -> None:
    """Against HEAD in a worktree of its own, which is gone afterwards; real processes, real histories.

    Here a PASS need not rule out slow processes, and takes 6 pairs: that it takes 17 is tested without any.
    """
    conftest = checkout / "conftest.py"
    conftest.write_text(conftest.read_text().replace("gauss(1, 0.004)", "gauss(1, 0.001)"))  # fewer pairs
    git(checkout, "commit", "-qam", "less noise")
    tail = checkout / "ci" / "gate" / "paired" / "tail.py"
    tail.write_text(re.sub(r"^MISSED = [0-9.]+", "MISSED = 0.3", tail.read_text(), flags=re.MULTILINE))
    engine = checkout / "ci" / "tests" / "fake_engine.py"
    call = "law.token_times(output_len, call)"
    slower = f"[(1.1 if batch_size == 2 else 1.0) * moment for moment in {call}]"
    engine.write_text(engine.read_text().replace(call, slower))
    done = gate(checkout)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"m-1xcpu-hf-b2-in4-out2  REGRESSED  1\.(09|10)", done.stdout), done.stdout
    assert re.search(r"m-1xcpu-hf-b1-in4-out2  PASS  ", done.stdout), done.stdout
    assert not list((checkout / ".benchmarks" / "paired").glob("*/"))
    listed = subprocess.run(["git", "worktree", "list"], cwd=checkout, capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_a_session_is_judged_by_accepted_ones(checkout: Path) -> None:
    """`--gate`: green, and red where a call takes longer; cases that were not chosen are not missing."""
    conftest, engine = checkout / "conftest.py", checkout / "ci" / "tests" / "fake_engine.py"
    conftest.write_text(conftest.read_text().replace("gauss(1, 0.004)", "gauss(1, 0.0002)"))

    def session(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "--suite", "suite.yaml"]
        return subprocess.run([*command, *words], cwd=checkout, capture_output=True, text=True)

    for k in range(3):
        assert session("--benchmark-json", "run.json").returncode == 0
        accept = [sys.executable, "-m", "ci.gate", "accept", "run.json", "--name", f"r{k}"]
        done = subprocess.run(
            [*accept, "--allow", "partial,dirty,contended"], cwd=checkout, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    done = session("--gate", "-k", "b1-")
    assert done.returncode == 0, done.stdout
    assert "gate: pass (1 PASS)" in done.stdout
    call = "law.token_times(output_len, call)"
    engine.write_text(engine.read_text().replace(call, f"[1.1 * moment for moment in {call}]"))
    done = session("--gate", "-k", "b2-")
    assert done.returncode == 1, done.stdout
    assert "gate: regressed (1 REGRESSED)" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_an_interrupted_comparison_is_gone_on_with(checkout: Path) -> None:
    """Its worktree is gone, its pairs are kept; another threshold's are not taken for them."""
    command = [sys.executable, "-m", "ci.gate", "paired", "--base", "HEAD", "-k", "b1-"]
    options = ["--", "--suite", "suite.yaml"]
    with subprocess.Popen([*command, *options], cwd=checkout, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("series 1, pair 1"):
                process.send_signal(signal.SIGTERM)
        assert process.wait() == 130
    (file,) = (checkout / ".benchmarks" / "paired").glob("*")
    assert len(file.read_text().splitlines()) == 2
    listed = subprocess.run(["git", "worktree", "list"], cwd=checkout, capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1
    resumed = [*command, "--resume", str(file), "--pairs", "1"]
    done = subprocess.run([*resumed, *options], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "1 pair; each series takes at least 6" in done.stdout
    done = subprocess.run(
        [*resumed, "--threshold", "7%", *options], cwd=checkout, capture_output=True, text=True
    )
    assert done.returncode == 4
    assert re.fullmatch(r"ERROR: --resume .*: threshold was '0.05', and now is '0.07'; .*\n", done.stderr)


def test_bases_are_refs_environments_and_engines(tmp_path: Path) -> None:
    """What is none of them is one line."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").touch()
    with opened(str(tmp_path / "env"), ROOT) as side:
        assert side.python == str(tmp_path / "env" / "bin" / "python")
    with opened("engine=hf_eager", ROOT) as side:
        assert side._own("m-1xcpu-hf-b1-in4-out2") == "m-1xcpu-hf_eager-b1-in4-out2"
    for base in ("no such ref", "--help", ""):
        with pytest.raises(InputError, match=r"not a git ref, an environment"), opened(base, tmp_path):
            pass


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4."""
    assert main(["paired"]) == 4
    assert main(["paired", "--base", "none such"]) == 4
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_a_choice_of_nothing_is_one_line() -> None:
    """pytest's own last line."""
    with pytest.raises(InputError, match="new: no case is chosen: "):
        Side("new", ROOT, sys.executable).ids(["-k", "no such case"])
