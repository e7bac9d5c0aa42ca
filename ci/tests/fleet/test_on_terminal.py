"""The live line of `--on`, in real sessions on terminals of their own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from contextlib import closing
from pathlib import Path

import pytest

from ci.tests.conftest import ROOT, write_suite
from ci.tests.fleet.test_on_ray import LONGEST_S

pytest_plugins = ["pytester"]

REASON = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"

# The first shard waits until a file is there, and is then cancelled; the second one measures.
WAITS = f"""
from pathlib import Path
from fixtures.fleet.local import LocalPlace
from fixtures.fleet.place import Ended, Waiting

_state, _read = LocalPlace.state, LocalPlace.read


def _waits(place, handle):
    if not handle.endswith("-1"):
        return _state(place, handle)
    return Ended(None, "n1", "Slurm: cancelled") if Path("go").exists() else Waiting({REASON!r})


LocalPlace.state = _waits
LocalPlace.read = lambda place, handle, at: b"" if handle.endswith("-1") else _read(place, handle, at)
"""


class Terminal:
    """A session on a terminal of so many columns."""

    def __init__(self, folder: Path, columns: int) -> None:
        self._main, terminal = pty.openpty()
        self.resize(columns)
        command = [sys.executable, "-P", "-m", "pytest", "benchmarks", "--benchmark-only", "--color=no"]
        environ = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [*command, "--suite", "suite.yaml", "--on", "local://n1", "--wait-device", "100"],
            cwd=folder, env={**environ, "TERM": "xterm"}, stdin=terminal, stdout=terminal, stderr=terminal,
        )  # fmt: skip
        os.close(terminal)
        self.sent = ""

    def resize(self, columns: int) -> None:
        """Give it another width."""
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def until(self, text: str | None = None) -> str:
        """All that was sent, once the text is in what comes now, or else at the end."""
        came = ""
        while text is None or text not in came:
            assert select.select([self._main], [], [], LONGEST_S)[0], self.sent
            try:
                chunk = os.read(self._main, 65536).decode()
            except OSError:  # how Linux says that the other side is closed
                chunk = ""
            came += chunk
            self.sent += chunk
            if not chunk:
                assert text is None, self.sent
                break
        return self.sent

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self._main)


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_a_terminal_shows_what_runs_and_waits(faked: pytest.Pytester) -> None:
    """With the scheduler's reason, cut to the terminal's present width; what is said has its own line."""
    write_suite(faked.path, "m", batch_sizes=[1, 2])
    conftest = faked.path / "conftest.py"
    conftest.write_text(conftest.read_text() + WAITS)
    for name in ("fixtures", "ci"):
        (faked.path / name).symlink_to(ROOT / name)
    with closing(Terminal(faked.path, 40)) as terminal:
        narrow = terminal.until("1 pending (Nodes required \r")
        terminal.resize(120)
        terminal.until(f"case 1 of 2  1 pending ({REASON[:80]})")
        (faked.path / "go").touch()
        told = terminal.until()
        assert terminal.process.wait() == 0, told
    assert max(map(len, live(narrow))) == 39
    assert max(map(len, live(told))) == 119
    assert re.search(r"\r {119}\rshard \S+-1 on n1 ended early: Slurm: cancelled; 2 cases are left\r\n", told)
    assert "case 2 of 2  1 running" in [line.rstrip() for line in live(told)]
    assert told.rindex("case 2 of 2") < told.index("latency s")


def live(told: str) -> list[str]:
    """What stood in the live line, one after the other."""
    return re.findall(r"\r(case [^\r\n]*)", told)
