"""A case is measured once in a session: what repeats it is refused, what runs it again changes nothing."""

from __future__ import annotations

import shutil

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import FakeEngine

pytest_plugins = ["pytester"]
RUN = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml")
CASE = "m-1xcpu-hf-b1-in4-out2"

AS_PARAMETERS = """
import pytest


@pytest.fixture
def again(request):
    return request.param


def pytest_generate_tests(metafunc):
    metafunc.fixturenames.append("again")
    metafunc.parametrize("again", [1, 2], indirect=True)
"""
AS_COUNT = """
def pytest_addoption(parser):
    parser.addoption("--count", type=int, default=3)
"""
AS_ITEMS = """
def pytest_collection_modifyitems(items):
    items += [item for item in items for _ in range(2)]
"""
AS_COPIES = """
import copy
import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.extend([copy.copy(item) for item in items])
"""


@pytest.mark.parametrize(
    ("plugin", "options", "cause"),
    [
        ("", ["--keep-duplicates", "benchmarks"], "because of --keep-duplicates"),
        ("", ["--keep-duplicates", "benchmarks/test_generate.py"], "because of --keep-duplicates"),
        (AS_PARAMETERS, [], "because a plugin repeats it (again)"),
        (
            AS_COUNT + AS_PARAMETERS,
            [],
            "because of --count; leave that out, and use --rounds",
        ),
        (AS_ITEMS, [], "because a plugin or path repeats it"),
        (AS_COPIES, [], "because a plugin or path repeats it"),
        (AS_COPIES, ["--plan"], "because a plugin or path repeats it"),
    ],
    ids=["folder", "file", "parameters", "count", "items", "copies", "plan"],
)
def test_what_repeats_a_case_is_refused(
    project: pytest.Pytester, fake: type[FakeEngine], plugin: str, options: list[str], cause: str
) -> None:
    """Exit code 4 and one line, before anything loads; the cause is named as far as it can be told."""
    write_suite(project.path, "m")
    (project.path / "repeats.py").write_text(plugin)
    project.syspathinsert()
    result = project.runpytest("-p", "repeats", *RUN, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str()
    (line,) = filter(None, result.errlines)
    assert line.startswith(f"ERROR: {CASE} is collected twice, {cause}")
    assert FakeEngine.log == []
    assert histories(project.path) == []


def test_two_files_of_the_same_cases_are_refused(project: pytest.Pytester, fake: type[FakeEngine]) -> None:
    """A copy of the benchmark in the folder, whatever its name; each by itself runs."""
    write_suite(project.path, "m")
    folder = project.path / "benchmarks"
    shutil.copy(folder / "test_generate.py", folder / "test_copy.py")
    (line,) = filter(None, project.runpytest(*RUN).errlines)
    assert line.startswith(f"ERROR: {CASE} is collected twice, in benchmarks/test_copy.py and in benchmarks/")
    assert project.runpytest("benchmarks/test_copy.py", *RUN[1:]).ret == 0


def test_a_path_that_is_given_twice_is_measured_once(
    project: pytest.Pytester, fake: type[FakeEngine]
) -> None:
    """pytest makes one of them."""
    write_suite(project.path, "m")
    one = f"benchmarks/test_generate.py::test_generate[{CASE}]"
    project.runpytest(*RUN, "benchmarks", "./benchmarks/test_generate.py").assert_outcomes(passed=1)
    project.runpytest(*RUN[1:], one, one).assert_outcomes(passed=1)
    assert [len(history["benchmarks"]) for history in histories(project.path)] == [1, 1]


RUNS_AGAIN = """
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    for _ in range({times}):
        reports = runtestprotocol(item, nextitem=nextitem, log=True)
        if {until}:
            break
    return True
"""
FAILS_ONCE = """
import pytest

BEGUN = []


@pytest.fixture(autouse=True)
def fails_once():
    BEGUN.append(1)
    if len(BEGUN) == 1:
        pytest.fail("for once")
"""


def test_a_plugin_that_runs_all_again_measures_nothing_twice(
    project: pytest.Pytester, fake: type[FakeEngine]
) -> None:
    """As those do that loop for hours: the further runs are skipped, and the history has the case once."""
    write_suite(project.path, "m")
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + RUNS_AGAIN.format(times=3, until="False"))
    project.runpytest(*RUN).assert_outcomes(passed=1, skipped=2)
    (history,) = histories(project.path)
    assert len(history["benchmarks"]) == 1


def test_a_case_that_failed_can_be_run_again(project: pytest.Pytester, fake: type[FakeEngine]) -> None:
    """As plugins for reruns do: it is measured then, and no longer among what failed."""
    write_suite(project.path, "m")
    conftest = project.path / "conftest.py"
    until = "not any(report.failed for report in reports)"
    conftest.write_text(conftest.read_text() + RUNS_AGAIN.format(times=3, until=until) + FAILS_ONCE)
    project.runpytest(*RUN).assert_outcomes(passed=1, errors=1)
    (history,) = histories(project.path)
    assert len(history["benchmarks"]) == 1
    assert history["failed"] == {}
