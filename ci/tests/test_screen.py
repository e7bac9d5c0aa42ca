"""What is on the screen while it runs: on a terminal, in a log, under -q."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from ci.tests.conftest import write_suite

pytest_plugins = ["pytester"]


def on_a_terminal(project: pytest.Pytester, *arguments: str) -> str:
    """Everything that pytest writes to a terminal of its own."""
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", *arguments]
    env = {**os.environ, "COLUMNS": "120", "PYTEST_ADDOPTS": "--color=no"}
    process = subprocess.Popen(command, cwd=project.path, stdout=terminal, stderr=terminal, env=env)
    os.close(terminal)
    written = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(main)
    assert process.wait() == 0, written.decode()
    return written.decode()


def test_a_terminal_has_one_live_line(faked: pytest.Pytester) -> None:
    """Case k of n, round, seconds a round, time left; it is gone before the table."""
    suite = write_suite(faked.path, "m", batch_sizes=[1, 2])
    text = on_a_terminal(faked, "--suite", suite)
    live = [line.strip() for line in text.split("\r") if line.startswith("case ")]
    assert live[0].startswith("case 1 of 2  m-1x")
    assert live[0].endswith("load")
    for expected in ("check", "warm-up 1/3", "round 1/5", "round 5/5"):
        assert any(expected in line for line in live), expected
    assert any(
        re.search(r"case 2 of 2 .*round 5/5, 0\.00\d+ s a round, about \d+ s left", line) for line in live
    )
    assert "\n" not in text[text.index("case 1 of 2") : text.index("case 2 of 2  m")]
    assert text.rindex("case 2 of 2") < text.index("latency s")
    assert "." * 2 not in text[text.index("collected") : text.index("case 1")].partition("\n")[2]


def test_a_log_has_a_line_a_case(faked: pytest.Pytester) -> None:
    """The same facts, once a case, and no carriage return."""
    suite = write_suite(faked.path, "m", batch_sizes=[1, 2])
    result = faked.runpytest_subprocess("benchmarks", "--benchmark-only", "--suite", suite)
    assert "\r" not in result.stdout.str()
    result.stdout.re_match_lines(
        [rf"case {k} of 2  m-1x.*-b{k}-in4-out2  0\.00\d+ s  \d+ tokens/s  \d+\.\d+ ms/token" for k in (1, 2)]
    )


def test_quiet_says_nothing_while_it_runs(faked: pytest.Pytester) -> None:
    """-q leaves the table."""
    suite = write_suite(faked.path, "m", batch_sizes=[1, 2])
    text = on_a_terminal(faked, "--suite", suite, "-q")
    assert "case 1 of 2" not in text
    assert "latency s" in text
