"""What the suite uses of pytest and pytest-benchmark that these do not promise: a test each, and what breaks.

pyproject.toml bounds both from above. A test that fails here after a new version says where to look first:
`fixtures/host/internals.py`, then the room that the message names.
"""

from __future__ import annotations

import io
import json
import logging
from importlib import metadata
from pathlib import Path

import pytest
from pytest_benchmark.storage.file import FileStorage

from ci.tests.conftest import ROOT, histories
from fixtures.host import internals

pytest_plugins = ["pytester"]


@pytest.fixture
def written() -> io.StringIO:
    """What `reporter` has written."""
    return io.StringIO()


@pytest.fixture
def reporter(
    request: pytest.FixtureRequest, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> pytest.TerminalReporter:
    """A reporter of pytest's, 77 characters wide."""
    monkeypatch.setenv("COLUMNS", "77")
    return pytest.TerminalReporter(request.config, written)


@pytest.mark.parametrize("name", ["pytest", "pytest-benchmark"])
def test_both_are_bounded_from_above(name: str) -> None:
    """By the next minor version; the one that is installed is within."""
    (line,) = [
        text.strip(' ",')
        for text in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
        if text.strip().startswith(f'"{name}>=')
    ]
    above = tuple(int(part) for part in line.partition("<")[2].split("."))
    installed = tuple(int(part) for part in metadata.version(name).split(".")[:2])
    assert above == (installed[0], installed[1] + 1)


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [("b1 and not out8", True), ("b2", False), ("B1", True), ("not b1", False), (" ", True)],
)
def test_keywords_and_expressions(keyword: str, expected: bool) -> None:
    """Else the suite's own choice of cases is another than that of -k (choose/)."""
    assert internals.matches(keyword, {"m-1xcpu-hf-b1-in4-out2"}) is expected


def test_a_wrong_expression_says_where() -> None:
    """Else a typing error in -k ends with a traceback (choose/)."""
    with pytest.raises(pytest.UsageError, match="Wrong expression passed to '-k': a and: at column 6: "):
        internals.matches("a and", {"a"})


def test_the_file_of_the_terminal_writer(reporter: pytest.TerminalReporter, written: io.StringIO) -> None:
    """Else every rank that a launcher started writes a report of its own (host/launcher.py)."""
    reporter.write_line("before")
    internals.silence(reporter)
    reporter.write_line("after")
    assert written.getvalue() == "before\n"


def test_the_width_of_the_terminal_writer(reporter: pytest.TerminalReporter) -> None:
    """Else the live line wraps, and a terminal keeps a line of each step (show/live_line.py)."""
    assert internals.width(reporter) == 77


@pytest.mark.parametrize("name", ["showfspath", "_show_progress_info"])
def test_what_hides_the_progress(reporter: pytest.TerminalReporter, name: str) -> None:
    """Else names of files, dots and percentages stand in the live line (show/live_line.py)."""
    assert hasattr(reporter, name)
    internals.hide_progress(reporter)
    assert getattr(reporter, name) is False


@pytest.mark.parametrize(
    ("name", "breaks"),
    [
        ("benchmarks", "the journal has no times (keep/journal.py)"),
        ("disabled", "ci/test would write histories (keep/outputs.py)"),
        ("handle_saving", "a torn history stays where a disk fills up (keep/history.py)"),
        ("json", "--benchmark-json is not tried before it measures (keep/outputs.py)"),
        ("logger", "nobody hears where a history went (keep/history.py)"),
        ("save", "--benchmark-save without a case is written (keep/history.py)"),
        ("autosave", "a session without a case leaves a history (keep/history.py)"),
        ("save_json", "a torn --benchmark-json stays where a disk fills up (keep/history.py)"),
        ("storage", "a history is not written as a whole (keep/history.py)"),
    ],
)
def test_the_session_of_pytest_benchmark(request: pytest.FixtureRequest, name: str, breaks: str) -> None:
    """Each is there under its name."""
    assert hasattr(internals.benchmarks_of(request.config), name), breaks


TIMED = """
from fixtures.host import internals

def test_timed(benchmark):
    times = iter([1.0, 3.0, 10.0, 15.0])
    internals.set_timer(benchmark, lambda: next(times))
    benchmark.pedantic(lambda: None, rounds=2, iterations=1)
    assert benchmark.stats.stats.data == [2.0, 5.0], "times of a case (measure/rounds.py)"
    assert benchmark.has_error is False

def test_left_out(benchmark):
    benchmark.pedantic(lambda: None, rounds=1, iterations=1)
    benchmark.has_error = True
"""


def test_timer_times_and_errors_of_a_benchmark(pytester: pytest.Pytester) -> None:
    """Else ranks are timed by the wrong clock, and a case that failed stands in the history (measure/)."""
    pytester.makepyfile(TIMED)
    pytester.makeini(f"[pytest]\npythonpath = {ROOT}")
    pytester.runpytest("--benchmark-autosave", "--benchmark-save-data").assert_outcomes(passed=2)
    (history,) = histories(pytester.path)
    assert [bench["name"] for bench in history["benchmarks"]] == ["test_timed"]
    assert history["benchmarks"][0]["stats"]["data"] == [2.0, 5.0]


def test_the_next_number_of_a_storage(tmp_path: Path) -> None:
    """Else a history is announced under a name that it has not (keep/history.py)."""
    storage = FileStorage(str(tmp_path), logging.getLogger(__name__), default_machine_id="here")
    for _ in range(2):
        file = internals.next_file(storage, "run")
        assert not file.exists()
        storage.save({"benchmarks": []}, "run")
        assert json.loads(file.read_text())["benchmarks"] == []
