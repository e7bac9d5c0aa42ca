"""The two sides of a paired comparison: the processes of each, and what their histories say."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fixtures.core.base.errors import InputError
from fixtures.core.result.record import Record
from fixtures.core.store.history import read_history

ROOT = Path(__file__).resolve().parents[3]
_ENGINE = "engine="
_FAILED = 1  # pytest's exit code: tests were run, and some of them failed
# Both sides measure all of a pair's cases; a base of an earlier version takes 0 for no time at all.
_NO_LIMIT = ("--minutes", "1e6")
# as ci/bench has them; each process would import Hypothesis, which takes as long as all else of a small case
OPTIONS = ("-p", "no:hypothesispytest", "-c", "pytest.ini", "--rootdir", ".")
_END_S = 60.0  # for a session that is told to end
_INSTALLED = "import importlib.metadata as m; print(sorted({(d.name, d.version) for d in m.distributions()}))"


@dataclass(frozen=True)
class Took:
    """A case in one process: the log of its median seconds, None where it ran out of memory; its record."""

    log_s: float | None
    record: Record | None


@dataclass(frozen=True)
class Side:
    """A checkout and the Python that runs it; `engine` replaces the cases' engine, `env` extends ours."""

    name: str
    folder: Path
    python: str = sys.executable
    engine: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def ids(self, options: Sequence[str]) -> list[str]:
        """The ids of the cases that the options choose; raises InputError where pytest refuses them."""
        done = self._pytest(["--collect-only", "-q", *options])
        found = [
            line.partition("[")[2].removesuffix("]") for line in done.stdout.splitlines() if "::" in line
        ]
        if done.returncode != 0 or not found:
            said = (done.stderr + done.stdout).strip().splitlines()
            raise InputError(f"{self.name}: no case is chosen: {said[-1] if said else 'pytest says nothing'}")
        return found

    def measure(self, ids: Sequence[str], options: Sequence[str]) -> dict[str, Took]:
        """The time of each case, in one fresh process; cases that it did not measure are left out."""
        nodes = [f"benchmarks/test_generate.py::test_generate[{self._own(one)}]" for one in ids]
        with tempfile.TemporaryDirectory() as folder:
            history = Path(folder) / "history.json"
            done = self._pytest(
                ["--benchmark-only", "-q", *_NO_LIMIT, *options, "--benchmark-json", str(history), *nodes]
            )
            if not history.exists():
                if done.returncode == _FAILED:
                    return {}
                said = (done.stderr + done.stdout).strip().splitlines()
                last = said[-1] if said else "pytest says nothing"
                raise InputError(f"{self.name}: nothing was measured: {last}")
            run = read_history(history)
        measured = {one.case_id: one for one in run.measured}
        found: dict[str, Took] = {}
        for case_id in ids:
            own = self._own(case_id)
            if own in run.outcomes:
                found[case_id] = Took(None, None)
            elif own in measured and (median_s := measured[own].median_s) is not None:
                found[case_id] = Took(math.log(median_s), measured[own].record)
        return found

    def state(self) -> dict[str, str]:
        """What is measured, as far as it shows: commit, changes since, installed packages."""
        listed = self._said(["git", "ls-files", "-z", "--others", "--exclude-standard", "*.py", "*.yaml"])
        others = [name for name in listed.split("\0") if name]
        digest = hashlib.sha256(self._said(["git", "diff", "HEAD", "--binary"]).encode())
        if others:
            digest.update(self._said(["git", "hash-object", "--", *others]).encode())
        return {
            "commit": self._said(["git", "rev-parse", "HEAD"]).strip(),
            "changes": digest.hexdigest()[:16],
            "installed": hashlib.sha256(
                self._said([self.python, "-I", "-c", _INSTALLED]).encode()
            ).hexdigest()[:16],
        }

    def _said(self, command: Sequence[str]) -> str:
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, errors="replace"
        ).stdout

    def _own(self, case_id: str) -> str:
        """The id of the same case with this side's engine."""
        if self.engine is None:
            return case_id
        model, hardware, _, *point = case_id.split("-")
        return "-".join([model, hardware, self.engine, *point])

    def _pytest(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        target = [] if any("::" in word for word in words) else ["benchmarks/test_generate.py"]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        command = [self.python, "-P", "-m", "pytest", *OPTIONS, *words, *target]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env={**ours, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            try:
                out, error = process.communicate()
            except BaseException:  # the session ends in order, its ranks with it
                process.terminate()
                try:
                    process.communicate(timeout=_END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, error)


@contextmanager
def opened(base: str, root: Path = ROOT) -> Iterator[Side]:
    """The base: `engine=NAME`, another environment's folder, or a git ref, checked out beside for a while.

    Raises InputError for anything else.
    """
    if base.startswith(_ENGINE):
        yield Side(base, root, engine=base.removeprefix(_ENGINE))
        return
    python = Path(base) / "bin" / "python"
    if python.is_file():
        yield Side(base, root, python=str(python.absolute()))
        return
    name = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}"],
        cwd=root, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    if not name:
        raise InputError(
            f"--base {base}: not a git ref, an environment (a folder with bin/python) or engine=NAME"
        )
    within = root / ".benchmarks" / "paired"
    within.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name[:12]}_", dir=within) as beside:
        folder = Path(beside) / "base"
        try:
            _git(root, "worktree", "add", "--detach", str(folder), name)
            yield Side(base, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _git(root, "worktree", "prune")


def _git(root: Path, *words: str) -> None:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    if done.returncode != 0:
        raise InputError(f"git {words[0]} {words[1]}: {done.stderr.strip().splitlines()[-1]}")
