"""What is on the screen while it runs: on a terminal, in a log, under -q."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ci.tests.conftest import write_suite
from ci.tests.fake_engine import FakeEngine, Law
from ci.tests.measure.test_measuring import GPU_WORK, SLOW_GPU
from fixtures.show.live_line import LiveLine

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


def test_after_the_last_case_the_line_counts_no_further(pytestconfig: pytest.Config) -> None:
    """Nodes go on with cases that are measured for comparison alone."""
    screen = LiveLine(pytestconfig)
    screen._cases = ["a", "b"]
    for finished, told in (("", "case 1 of 2"), ("a", "case 2 of 2"), ("ab", "case 2 of 2")):
        screen.finished = set(finished)
        assert screen._place() == told


@pytest.mark.parametrize(
    ("is_terminal", "term", "is_live"),
    [(True, "xterm", True), (True, None, True), (True, "dumb", False), (False, "xterm", False)],
)
def test_only_a_terminal_that_can_rewrite_a_line_has_a_live_one(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, term: str | None, is_live: bool
) -> None:
    """Others, such as an editor's shell, get a log's lines."""
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    reporter = SimpleNamespace(isatty=is_terminal)
    monkeypatch.setattr("fixtures.host.internals.reporter_of", lambda _config: reporter)
    config: Any = SimpleNamespace(
        option=SimpleNamespace(verbose=0), pluginmanager=SimpleNamespace(get_plugin=lambda _name: None)
    )
    screen = LiveLine(config)
    screen.begin(["a"], {})
    assert (bool(screen._live), bool(screen._plain)) == (is_live, not is_live)


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_a_terminal_has_one_live_line(faked: pytest.Pytester) -> None:
    """Case k of n, round, seconds a round, time left; it is gone before the table."""
    suite = write_suite(faked.path, "m", batch_sizes=[1, 2])
    text = on_a_terminal(faked, "--suite", suite)
    live = [line.strip() for line in text.split("\r") if line.startswith("case ")]
    assert live[0].startswith("case 1 of 2  m-1x")
    assert live[0].endswith("load")
    rounds = [line.partition(", median")[0].split()[-2:] for line in live if "case 1" in line and "/" in line]
    assert [" ".join(words) for words in rounds] == [
        *(f"warm-up {number}/3" for number in (1, 2, 3)), *(f"round {number}/5" for number in (1, 2, 3, 4, 5))
    ]  # fmt: skip
    for expected in ("check", "warm-up 1/3", "round 1/5", "round 5/5"):
        assert any(expected in line for line in live), expected
    assert not any("communication" in line for line in live)  # there is none on one device
    assert any(
        re.search(r"case 2 of 2 .*round 5/5, median 0\.00\d+ s, about \d+ s left", line) for line in live
    )
    assert "\n" not in text[text.index("case 1 of 2") : text.index("case 2 of 2  m")]
    assert text.rindex("case 2 of 2") < text.index("latency s")
    assert "." * 2 not in text[text.index("collected") : text.index("case 1")].partition("\n")[2]


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_a_log_has_a_line_a_case(faked: pytest.Pytester) -> None:
    """The same facts, once a case, and no carriage return."""
    suite = write_suite(faked.path, "m", batch_sizes=[1, 2])
    result = faked.runpytest_subprocess("benchmarks", "--benchmark-only", "--suite", suite)
    assert "\r" not in result.stdout.str()
    result.stdout.re_match_lines(
        [
            rf"case {k} of 2  m-1x.*-b{k}-in4-out2  0\.00\d+ s  \d+ tokens/s  \d+\.\d+ ms/token"
            r"  median 0\.00\d+ s of 5 rounds"
            for k in (1, 2)
        ]
    )


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_quiet_says_nothing_while_it_runs(faked: pytest.Pytester) -> None:
    """-q leaves the table."""
    suite = write_suite(faked.path, "m", batch_sizes=[1, 2])
    text = on_a_terminal(faked, "--suite", suite, "-q")
    assert "case 1 of 2" not in text
    assert "latency s" in text


def test_time_left_and_the_line_at_the_end_go_by_the_plan(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three cases expected to take 100 s each, which take next to none: the rest is expected to as well."""
    monkeypatch.setattr(
        "fixtures.show.live_line.expected_s",
        lambda _, items: {item.callspec.params["case"]: 100.0 for item in items},
    )
    suite = write_suite(project.path, "m", batch_sizes=[1, 2, 4])
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", suite)
    first, second, third = (line for line in result.outlines if line.startswith("case "))
    assert first.endswith("of 5 rounds, about 3 min 20 s left")  # no case is over yet: 2 * 100 s
    assert re.search(r"of 5 rounds, about \d s left$", second)
    assert third.endswith("of 5 rounds")
    result.stdout.re_match_lines(
        [r"expected 5 min 0 s, took \d s for 3 of 3 measured cases; .* by case: median 0\.0\d, .*"]
    )


def test_without_a_plan_the_mean_so_far_is_the_time_left(
    project: pytest.Pytester, fake: type[FakeEngine]
) -> None:
    """A model of which there are no counts: nothing at first, and no line at the end."""
    suite = write_suite(project.path, "m", batch_sizes=[1, 2, 4])
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", suite)
    first, second, _ = (line for line in result.outlines if line.startswith("case "))
    assert first.endswith("of 5 rounds")
    assert re.search(r"of 5 rounds, about \d s left$", second)
    assert "taken / expected" not in result.stdout.str()


def test_a_history_that_cannot_be_read_costs_no_measurement(
    project: pytest.Pytester, fake: type[FakeEngine]
) -> None:
    """It is said, and the case is measured."""
    (project.mkdir(".benchmarks") / "here").mkdir()
    (project.path / ".benchmarks" / "here" / "0001_torn.json").write_text("{")
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", write_suite(project.path, "m"))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["passed over: *here/0001_torn.json: not a history*"])


@pytest.mark.parametrize(
    ("asked", "shown"),
    [("", ()), ("split", ("split",)), ("limits,split", ("split", "limits")), ("all", ("split", "limits"))],
)
def test_other_tables_are_printed_where_they_are_asked_for(
    project: pytest.Pytester, fake: type[FakeEngine], asked: str, shown: tuple[str, ...]
) -> None:
    """In their order; that of several devices has no row where there is one."""
    fake.work, fake.peaks[:], fake.law = GPU_WORK, [SLOW_GPU], Law(prefill_s=0.02, token_s=0.00096)
    suite = write_suite(project.path, "m", output_lengths=[4])
    result = project.runpytest("benchmarks", "--suite", suite, *(["--tables", asked] if asked else []))
    assert result.ret == 0
    text = result.stdout.str()
    heads = {"split": "prefill tokens/s", "limits": "set by"}
    assert text.count("latency s") == 1
    places = [text.find(heads[name]) for name in heads if name in shown]
    assert places == sorted(places)
    assert -1 not in places
    assert all(head not in text for name, head in heads.items() if name not in shown)


def test_a_table_that_is_none_is_one_line(project: pytest.Pytester, fake: type[FakeEngine]) -> None:
    """It says what there is; nothing is measured."""
    suite = write_suite(project.path, "m")
    result = project.runpytest("benchmarks", "--suite", suite, "--tables", "splits")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--tables*no table is named 'splits'*"])
    assert fake.log == []
