"""The two sides of a paired comparison: what is started for each, and what its history says."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fixtures.core.errors import InputError
from fixtures.core.histories import read_history

ROOT = Path(__file__).resolve().parents[2]
_ENGINE = "engine="


@dataclass(frozen=True)
class Side:
    """A checkout, the Python that runs it, and options of its own; `engine` replaces that of the cases."""

    name: str
    folder: Path
    python: str = sys.executable
    engine: str | None = None

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

    def measure(self, ids: Sequence[str], options: Sequence[str], history: Path) -> dict[str, float]:
        """Log of the median of each case that was measured, in one fresh process."""
        nodes = [f"benchmarks/test_generate.py::test_generate[{self._own(one)}]" for one in ids]
        done = self._pytest(["--benchmark-only", "-q", *options, "--benchmark-json", str(history), *nodes])
        if not history.exists():
            said = (done.stderr + done.stdout).strip().splitlines()
            raise InputError(
                f"{self.name}: nothing was measured: {said[-1] if said else 'pytest says nothing'}"
            )
        measured = {one.case_id: one.median_s for one in read_history(history).measured}
        return {one: math.log(s) for one in ids if (s := measured.get(self._own(one))) is not None}

    def _own(self, case_id: str) -> str:
        """The id of the same case with this side's engine."""
        if self.engine is None:
            return case_id
        model, hardware, _, *point = case_id.split("-")
        return "-".join([model, hardware, self.engine, *point])

    def _pytest(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        target = [] if any("::" in word for word in words) else ["benchmarks/test_generate.py"]
        env: Mapping[str, str] = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        return subprocess.run(
            [self.python, "-P", "-m", "pytest", "-c", "pytest.ini", "--rootdir", ".", *words, *target],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def opened(base: str, root: Path = ROOT) -> Iterator[Side]:
    """The base: `engine=NAME`, another environment's folder, or a git ref, checked out beside for the time.

    Raises InputError for what is none of them.
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
            f"--base {base}: is no git ref, no environment (a folder with bin/python) and no engine=NAME"
        )
    folder = root / ".benchmarks" / "paired" / name[:12]
    _git(root, "worktree", "add", "--detach", "--force", str(folder), name)
    try:
        yield Side(base, folder)
    finally:
        _git(root, "worktree", "remove", "--force", str(folder))


def _git(root: Path, *words: str) -> None:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    if done.returncode != 0:
        raise InputError(f"git {words[0]} {words[1]}: {done.stderr.strip().splitlines()[-1]}")
