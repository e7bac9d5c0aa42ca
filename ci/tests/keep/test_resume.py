"""Runs that are stopped, at any moment, and gone on with: nothing that was finished is lost."""

from __future__ import annotations

import json
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import FakeEngine

pytest_plugins = ["pytester"]

Fake = type[FakeEngine]
OPTIONS = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml")


def journals(folder: Path) -> list[Path]:
    """Those of the project, the oldest first."""
    return sorted((folder / ".benchmarks" / "journal").glob("*.jsonl"))


def lines(journal: Path) -> list[dict[str, Any]]:
    """What it holds."""
    return [json.loads(text) for text in journal.read_text().splitlines()]


def prepared(fake: Fake) -> list[int]:
    """The batch sizes that were measured."""
    return [entry[1] for entry in fake.log if entry[0] == "prepare"]


def batches(history: dict[str, Any]) -> list[int]:
    """The batch sizes that a history has, in its order."""
    return [bench["extra_info"]["case"]["batch_size"] for bench in history["benchmarks"]]


def test_both_halves_are_one_run(project: pytest.Pytester, fake: Fake) -> None:
    """Two cases of four are in the journal: the others are measured, and the history has all in order."""
    write_suite(project.path, "m", batch_sizes=[1, 2, 4, 8], output_lengths=[2, 3])
    project.runpytest(*OPTIONS, "-k", "b2- or b8-").assert_outcomes(passed=4)
    (journal,) = journals(project.path)
    assert [one.get("complete") for one in lines(journal)][-1] is True
    fake.log.clear()
    result = project.runpytest(*OPTIONS, "--resume-from", str(journal))
    result.assert_outcomes(passed=4, skipped=4)
    result.stdout.fnmatch_lines([f"resumed from {journal.name}: 4 of 8 cases are in it"])
    assert prepared(fake) == [1, 1, 4, 4]
    first, both = histories(project.path)
    assert batches(both) == [1, 1, 2, 2, 4, 4, 8, 8]
    by_name = {bench["name"]: bench for bench in both["benchmarks"]}
    for bench in first["benchmarks"]:
        assert by_name[bench["name"]] == bench
    assert journals(project.path) == [journal]
    assert lines(journal)[-1]["complete"] is True


def test_what_takes_several_cases_is_made_of_both_halves(project: pytest.Pytester, fake: Fake) -> None:
    """The fit over output lengths needs three of them."""
    write_suite(project.path, "m", output_lengths=[2, 10, 20])
    project.runpytest(*OPTIONS, "-k", "out10")
    project.runpytest(*OPTIONS, "--resume-from", str(journals(project.path)[0]))
    alone, both = histories(project.path)
    assert alone["benchmarks"][0]["extra_info"]["split"]["fit"] is None
    fits = [bench["extra_info"]["split"]["fit"] for bench in both["benchmarks"]]
    assert fits[0]["output_lengths"] == [2, 10, 20]
    assert fits[0] == fits[1] == fits[2]


def test_the_newest_run_that_did_not_end_is_gone_on_with(project: pytest.Pytester, fake: Fake) -> None:
    """A case crashes, so the run is not complete: it alone is measured again; then nothing is left to do."""
    write_suite(project.path, "good", "crashes", batch_sizes=[1, 2])
    project.runpytest(*OPTIONS).assert_outcomes(passed=2, failed=2)
    (journal,) = journals(project.path)
    assert ["case" in one for one in lines(journal)] == [False, *[True] * 4, False]
    assert "device-side assert" in lines(journal)[3]["failure"]
    fake.log.clear()
    project.runpytest(*OPTIONS, "--resume").assert_outcomes(skipped=2, failed=2)
    assert prepared(fake) == [1, 2]
    assert batches(histories(project.path)[-1]) == [1, 2]
    write_suite(project.path, "good", batch_sizes=[1, 2])
    fake.log.clear()
    project.runpytest(*OPTIONS, "--resume").assert_outcomes(skipped=2)
    assert fake.log == []
    assert batches(histories(project.path)[-1]) == [1, 2]
    result = project.runpytest(*OPTIONS, "--resume")
    result.stdout.fnmatch_lines(["nothing to resume: no journal of an unfinished run; measuring all cases"])
    result.assert_outcomes(passed=2)


def test_what_ran_out_of_memory_is_not_tried_again(project: pytest.Pytester, fake: Fake) -> None:
    """And it still tells of the cases that need more."""
    write_suite(project.path, "no_room_for_four", batch_sizes=[2, 4, 8])
    project.runpytest(*OPTIONS, "-k", "b4-").assert_outcomes(skipped=1)
    (alone,) = histories(project.path)
    assert (alone["benchmarks"], len(alone["outcomes"])) == ([], 1)
    fake.log.clear()
    journal = str(journals(project.path)[0])
    project.runpytest(*OPTIONS, "--resume-from", journal).assert_outcomes(passed=1, skipped=2)
    assert prepared(fake) == [2]
    both = histories(project.path)[-1]
    assert batches(both) == [2]
    assert [one["case"]["batch_size"] for one in both["outcomes"]] == [4, 8]


def test_another_protocol_is_measured_again_and_begins_a_journal(
    project: pytest.Pytester, fake: Fake
) -> None:
    """It says why."""
    write_suite(project.path, "m")
    project.runpytest(*OPTIONS)
    first = journals(project.path)[0]
    result = project.runpytest(*OPTIONS, "--resume-from", str(first), "--rounds", "2")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            f"resumed from {first.name}: 0 of 1 cases are in it",
            "  measured again: 1, because protocol rounds is 2, but was '5'",
        ]
    )
    assert len(lines(first)) == 3


def test_a_journal_that_is_written_or_is_none_ends_with_one_line(
    project: pytest.Pytester, fake: Fake
) -> None:
    """Exit code 4; the one that is locked stays as it is."""
    import fcntl

    write_suite(project.path, "m")
    project.runpytest(*OPTIONS)
    journal = journals(project.path)[0]
    before = journal.read_text()
    with journal.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = project.runpytest(*OPTIONS, "--resume-from", str(journal))
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [f"ERROR: --resume: {journal.name}: another session is writing this journal;*"]
    )
    assert journal.read_text() == before
    result = project.runpytest(*OPTIONS, "--resume-from", "suite.yaml")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --resume: *suite.yaml: not a journal*"])


@pytest.mark.parametrize("else_too", [True, False], ids=["nowhere", "elsewhere"])
def test_a_folder_that_cannot_be_written_costs_no_measurement(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch, else_too: bool
) -> None:
    """It is said once, the journal goes on among the temporary files, and the history is saved."""
    elsewhere = project.mkdir("elsewhere")

    def make(prefix: str) -> str:
        if else_too:
            raise OSError(28, "No space left on device")
        return tempfile.mkdtemp(prefix=prefix, dir=elsewhere)

    monkeypatch.setattr("fixtures.keep.journal.mkdtemp", make)
    (project.mkdir(".benchmarks") / "journal").write_text("a file")
    write_suite(project.path, "m", batch_sizes=[1, 2])
    result = project.runpytest(*OPTIONS)
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("warning: the journal cannot be written") == 1
    assert batches(histories(project.path)[0]) == [1, 2]
    moved = list(elsewhere.glob("journal_*/*.jsonl"))
    assert len(moved) == (not else_too)
    for journal in moved:
        result.stdout.fnmatch_lines([f"warning: *; it continues in {journal}; resume with --resume-from"])
        again = project.runpytest(*OPTIONS, "--resume-from", str(journal))
        again.stdout.fnmatch_lines([f"resumed from {journal.name}: 2 of 2 cases are in it"])


def test_nothing_is_written_where_nothing_is_measured(project: pytest.Pytester, fake: Fake) -> None:
    """Listing, planning, a session without timing."""
    write_suite(project.path, "m")
    for options in (("--collect-only",), ("--plan",)):
        project.runpytest(*OPTIONS, *options)
    project.runpytest("benchmarks", "--suite", "suite.yaml", "--benchmark-disable")
    assert journals(project.path) == []


def test_an_odd_journal_in_the_folder_costs_itself_alone(project: pytest.Pytester, fake: Fake) -> None:
    """The newest that can be read is gone on with, and a line says what was passed over."""
    write_suite(project.path, "m", batch_sizes=[1, 2])
    project.runpytest(*OPTIONS)
    (journal,) = journals(project.path)
    kept = [line for line in journal.read_text().splitlines() if '"ended"' not in line]
    journal.write_text("\n".join(kept) + "\n")
    folder = journal.parent
    (folder / "w.jsonl").mkdir()
    (folder / "x.jsonl").symlink_to("x.jsonl")
    (folder / "y.jsonl").write_text('{"journal": 99, "session": {}}\n')
    (folder / "z.jsonl").write_bytes(b"\xff no journal\n")
    (folder / "zz.jsonl").write_text("")
    result = project.runpytest(*OPTIONS, "--resume")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines_random(
        [
            "passed over: *w.jsonl: cannot be read (Is a directory)",
            "passed over: *x.jsonl: cannot be read (Too many levels*",
            "passed over: *y.jsonl: is a journal of version 99*",
            "passed over: *z.jsonl: not a journal*",
            f"resumed from {journal.name}: 2 of 2 cases are in it",
        ]
    )
    assert batches(histories(project.path)[-1]) == [1, 2]


WHILE_SAVING = """

import os, signal


def pytest_benchmark_update_json():
    for _ in range({times}):
        os.kill(os.getpid(), signal.{name})
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_waits_until_the_history_is_written(
    project: pytest.Pytester, fake: Fake, name: str
) -> None:
    """One of them; a second one comes at once."""
    write_suite(project.path, "m", batch_sizes=[1, 2])
    conftest = project.path / "conftest.py"
    text = conftest.read_text()
    conftest.write_text(text + WHILE_SAVING.format(times=1, name=name))
    before = signal.getsignal(getattr(signal, name))
    result = project.runpytest_inprocess(*OPTIONS)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["interrupted while the history was being written: the session waited for it"]
    )
    assert batches(histories(project.path)[0]) == [1, 2]
    assert signal.getsignal(getattr(signal, name)) is before
    conftest.write_text(text + WHILE_SAVING.format(times=2, name=name))
    with pytest.raises(KeyboardInterrupt):
        project.runpytest_inprocess(*OPTIONS)
    assert len(histories(project.path)) == 1
