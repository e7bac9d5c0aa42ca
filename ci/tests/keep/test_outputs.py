"""Where a session writes to is tried before anything loads, and one place that fails costs no other."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import FakeEngine
from fixtures.core.base import places

pytest_plugins = ["pytester"]
NO_FOLDER = "No such file or directory; make that folder first, or name another place"
NOT_IN_A_FILE = "Not a directory; part of that path is a file; name another place"
A_FOLDER = "Is a directory; that is a folder; name a file"


@pytest.mark.parametrize(
    ("option", "place", "said"),
    [
        ("--benchmark-json", "missing/x.json", NO_FOLDER),
        ("--benchmark-json", "a_file/x.json", NOT_IN_A_FILE),
        ("--benchmark-json", "a_folder", A_FOLDER),
        ("--benchmark-json", "taken", A_FOLDER),  # what is written beside it and renamed has no place
        ("--benchmark-json", "loop", "Too many levels of symbolic links; name another place"),
        ("--benchmark-json", "astray", NO_FOLDER),
        ("--benchmark-json", "x" * 300, "File name too long; give it a shorter name"),
        ("--benchmark-json", "/dev/full", "No space left on device; free space there, or name another place"),
        ("--benchmark-storage", "file://a_file/x", NOT_IN_A_FILE),
        ("--benchmark-storage", "a_file", NOT_IN_A_FILE),
        ("--benchmark-storage", "astray", NOT_IN_A_FILE),
        ("--junitxml", "a_file/x.xml", NOT_IN_A_FILE),
        ("--log-file", "a_file/x/y", NOT_IN_A_FILE),
        ("--log-file", "a_folder", A_FOLDER),
        ("--gate-files", "a_file/gates", NOT_IN_A_FILE),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_at_the_start(
    project: pytest.Pytester, fake: type[FakeEngine], option: str, place: str, said: str
) -> None:
    """One line with the option, the place and what would help; nothing loads, and nothing is left there."""
    write_suite(project.path, "m")
    (project.path / "a_folder" / "within").mkdir(parents=True)
    (project.path / "taken.part").mkdir()
    (project.path / "a_file").write_text("mine")
    (project.path / "loop").symlink_to("loop")
    (project.path / "astray").symlink_to("nowhere/x")
    before = everything(project.path)
    result = project.runpytest(
        "benchmarks", "--benchmark-only", "--suite", "suite.yaml", "--gate", f"{option}={place}"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str()
    shown = place.removeprefix("file://")
    assert [line for line in result.errlines if line] == [
        f"ERROR: {option} {shown}: cannot be written: {said}"
    ]
    assert FakeEngine.log == []
    assert everything(project.path) == before
    assert (project.path / "a_file").read_text() == "mine"


def everything(folder: Path) -> set[str]:
    """The names of all that is in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("http://host", "write file://FOLDER, or just the folder's name"),
        ("elasticsearch+http://host", "the library elasticsearch is not installed; write file://FOLDER"),
    ],
)
def test_a_storage_of_another_kind_is_one_line(project: pytest.Pytester, storage: str, said: str) -> None:
    """pytest-benchmark ends in a traceback there."""
    result = project.runpytest("benchmarks", "--benchmark-only", f"--benchmark-storage={storage}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [f"ERROR: --benchmark-storage {storage}: {said}"]


@pytest.mark.parametrize("only", ["--collect-only", "--plan"])
def test_what_only_lists_tries_nothing(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch, only: str
) -> None:
    """Nor does a session of tests that are no benchmarks."""
    for name in ("try_whole", "try_plain", "try_folder"):
        monkeypatch.setattr(f"fixtures.keep.outputs.{name}", lambda place: pytest.fail(f"{place} was tried"))
    write_suite(project.path, "m")
    (project.path / "test_other.py").write_text("def test_other():\n    pass\n")
    out = ("--benchmark-json=out.json", "--junitxml=out.xml")
    assert project.runpytest("benchmarks", "--suite", "suite.yaml", only, *out).ret == 0
    assert project.runpytest("test_other.py", "-p", "no:logging", *out).ret == 0
    assert not (project.path / "out.json").exists()


def test_places_that_are_there_stay_as_they_are_until_the_end(
    project: pytest.Pytester, fake: type[FakeEngine]
) -> None:
    """What is tried leaves no trace: nothing beside it, and the old content until the new is whole."""
    write_suite(project.path, "m")
    out = project.path / "out.json"
    out.write_text("old")
    project.makeconftest(
        (project.path / "conftest.py").read_text()
        + "def pytest_runtest_setup(item):\n"
        + "    assert open('out.json').read() == open('out.log').read() == 'old'\n"
    )
    (project.path / "out.log").write_text("old")
    result = project.runpytest(
        "benchmarks", "--benchmark-only", "--suite", "suite.yaml", "--benchmark-json=out.json",
        "--log-file=out.log", "--log-file-mode=a", "--junitxml=new/out.xml",
    )  # fmt: skip
    result.assert_outcomes(passed=1)
    assert out.read_text().startswith("{")
    assert (project.path / "new" / "out.xml").exists()
    assert list(project.path.glob("*.part")) == list(project.path.glob("tmp*")) == []


AT_THE_END = """

def pytest_benchmark_update_json(config, output_json):
    import shutil

    shutil.rmtree("{gone}", ignore_errors=True)
    open("{gone}", "w").close()
"""


@pytest.mark.parametrize(
    ("gone", "option", "kept"),
    [
        ("out", "--benchmark-json out/x.json", ".benchmarks"),
        (".benchmarks", "--benchmark-storage", "out/x.json"),
    ],
)
def test_a_place_that_goes_away_meanwhile_costs_no_other(
    project: pytest.Pytester, fake: type[FakeEngine], gone: str, option: str, kept: str
) -> None:
    """The history is in the other place, the line names it, and the advice is for what is wrong."""
    write_suite(project.path, "m", batch_sizes=[1, 2])
    (project.path / "out").mkdir()
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + AT_THE_END.format(gone=gone))
    result = project.runpytest(
        "benchmarks", "--benchmark-only", "--suite", "suite.yaml", "--benchmark-json=out/x.json"
    )
    assert result.ret == 1
    (line,) = [line for line in result.outlines if line.startswith("ERROR: the history cannot be saved")]
    assert f"by {option}" in line
    assert NOT_IN_A_FILE in line
    assert kept in line.partition("it is in ")[2]
    assert "free space" not in line
    assert (project.path / "out" / "x.json").is_file() == (gone != "out")
    assert len(histories(project.path)) == (gone == "out")
    assert "2 passed" in result.stdout.str()


def test_a_checkout_that_cannot_be_written_measures_all_the_same(
    project: pytest.Pytester, fake: type[FakeEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody named that place, so the history goes among the temporary files, and the session says so."""
    write_suite(project.path, "m")
    (project.path / ".benchmarks").write_text("no folder")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    arguments = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml")
    result = project.runpytest(*arguments)
    assert result.ret == 0
    (line,) = [line for line in result.outlines if line.startswith("warning: ")]
    assert "cannot be written (Not a directory); history and journal go to" in line
    assert [file.parts[-2] for file in tmp_path.glob("benchmarks_*/*/*.json*")].count("journal") == 1
    assert len(list(tmp_path.glob("benchmarks_*/*/*.json"))) == 1
    assert project.runpytest(*arguments, "--resume").ret == pytest.ExitCode.USAGE_ERROR


def test_advice_fits_the_fault() -> None:
    """Room is asked for on a full disk alone."""
    for number, word in errno.errorcode.items():
        advice = places.why(OSError(number, os.strerror(number)))
        assert ("free space" in advice) == (word in ("ENOSPC", "EDQUOT")), word
    assert places.why(OSError("odd")) == "odd; name another place"
