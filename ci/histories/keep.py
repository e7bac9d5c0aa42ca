"""Commits histories to a branch of their own, for `python -m ci.gate trends`, and pushes it.

    python3 ci/histories/keep.py HISTORY... --name NAME [--branch histories] [--remote origin]

The checkout stays as it is. If another push comes in between, it tries again, three times in all.

Exit codes: 0 pushed, 1 git failed, 4 bad input.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FAILED, BAD_INPUT = 1, 4
_TRIES = 3
_BY = ("-c", "user.name=ci", "-c", "user.email=ci@localhost")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("history", nargs="+", type=Path)
    parser.add_argument("--name", required=True, help="the file's name on the branch, without .json")
    parser.add_argument("--branch", default="histories")
    parser.add_argument("--remote", default="origin")
    option = parser.parse_args(arguments)
    if not re.fullmatch(r"[A-Za-z0-9_]{1,80}", option.name):
        return _stop(BAD_INPUT, f"--name {option.name!r}: use letters, digits and underscores only")
    for file in option.history:
        if not file.is_file():
            return _stop(BAD_INPUT, f"{file}: no such file; name a history")
    error = ""
    for _ in range(_TRIES):
        try:
            keep(option.history, option.name, option.branch, option.remote)
        except subprocess.CalledProcessError as failed:
            error = (failed.stderr or str(failed)).strip().splitlines()[-1]
        else:
            print(f"pushed to {option.branch}: {option.name}")
            return 0
    return _stop(FAILED, error)


def keep(files: Sequence[Path], name: str, branch: str, remote: str) -> None:
    """Push a commit on top of the remote's branch, or its first commit; raises CalledProcessError."""
    parent = ""
    if _git("ls-remote", "--heads", remote, branch):
        _git("fetch", "--depth=1", remote, branch)
        parent = _git("rev-parse", "FETCH_HEAD")
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        if parent:
            _git("read-tree", parent, env=index)
        for number, file in enumerate(files):
            blob = _git("hash-object", "-w", "--", str(file))
            path = f"{name}.json" if len(files) == 1 else f"{name}_{number}.json"
            _git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", env=index)
        tree = _git("write-tree", env=index)
    under = ["-p", parent] if parent else []
    commit = _git(*_BY, "commit-tree", tree, *under, "-m", f"History {name}")
    _git("push", remote, f"{commit}:refs/heads/{branch}")


def _git(*words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ["git", *words], capture_output=True, text=True, check=True, env={**os.environ, **(env or {})}
    )
    return done.stdout.strip()


def _stop(code: int, message: str) -> int:
    print(f"keep: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader may close the pipe early
    sys.exit(main())
