"""Warnings of libraries fail no case, however errors are asked for; other sessions keep them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import FakeEngine
from fixtures.host.process import shown

pytest_plugins = ["pytester"]
RUN = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml")
WARNS = """

import warnings


def pytest_runtest_call(item):
    warnings.warn("from a library", DeprecationWarning)
    warnings.warn("and another", UserWarning)
"""


@pytest.mark.parametrize(
    "options",
    [
        ["-W", "error"],
        ["-Werror::DeprecationWarning", "-W", "err"],
        ["-o", "filterwarnings=error"],
        ["-W", "error", "-p", "no:warnings"],
        ["-W", "ignore", "-W", "error::UserWarning"],
    ],
    ids=" ".join,
)
def test_a_warning_fails_no_case(
    project: pytest.Pytester, fake: type[FakeEngine], options: list[str]
) -> None:
    """It is measured and saved; listing, planning and a session in which nothing is left end well too."""
    write_suite(project.path, "m")
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + WARNS)
    result = project.runpytest(*RUN, *options)
    result.assert_outcomes(passed=1, warnings=None)
    assert len(histories(project.path)[0]["benchmarks"]) == 1
    for more, code in ((["--collect-only"], 0), (["--plan"], 0), (["-k", "nothing"], 5)):
        result = project.runpytest(*RUN, *options, *more)
        assert result.ret == code, result.stdout.str()
        assert "Traceback" not in result.stderr.str()


def test_what_is_shown_is_in_the_summary(project: pytest.Pytester, fake: type[FakeEngine]) -> None:
    """Nothing is hidden by it."""
    write_suite(project.path, "m")
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + WARNS)
    result = project.runpytest(*RUN, "-W", "error")
    result.stdout.fnmatch_lines(["*DeprecationWarning: from a library*", "*UserWarning: and another*"])


def test_sessions_of_other_tests_keep_their_errors(project: pytest.Pytester) -> None:
    """The suite's own tests among them."""
    project.makepyfile("import warnings\n\ndef test_other():\n    warnings.warn('x')\n")
    file = next(project.path.glob("test_*.py")).name
    project.runpytest(file, "-W", "error").assert_outcomes(failed=1)


@pytest.mark.slow
def test_processes_inherit_it(faked: pytest.Pytester) -> None:
    """Python's own option and variable, in a process of its own and in those that it starts."""
    write_suite(faked.path, "m")
    conftest = faked.path / "conftest.py"
    conftest.write_text(conftest.read_text() + WARNS)
    for asked, options in (("error", []), ("default,error::UserWarning", ["-W", "error"])):
        done = subprocess.run(
            [sys.executable, *options, "-m", "pytest", "-p", "no:anyio", *RUN],
            cwd=faked.path, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": asked},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert len(histories(faked.path)) == 2


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("error", "default"),
        ("e", "default"),
        (" error:a:UserWarning:b:1", "default:a:UserWarning:b:1"),
        ("", ""),
        ("ignore::error", "ignore::error"),
        ("always", "always"),
    ],
)
def test_only_an_action_that_raises_is_replaced(rule: str, expected: str) -> None:
    """Python takes the beginning of an action for it; an empty one is `default`."""
    assert shown(rule) == expected
