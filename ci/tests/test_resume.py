"""Runs that are stopped, at any moment, and gone on with: nothing that was finished is lost."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
import time
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
    result.stdout.fnmatch_lines(["nothing to resume: no journal of an unfinished run; all is measured"])
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
            "  measured again: 1, because protocol rounds is 2, and was '5'",
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
    result.stderr.fnmatch_lines(["ERROR: --resume: *suite.yaml: is no journal*"])


def test_a_folder_that_cannot_be_written_costs_no_measurement(project: pytest.Pytester, fake: Fake) -> None:
    """It is said once, and the history is saved."""
    (project.mkdir(".benchmarks") / "journal").write_text("a file")
    write_suite(project.path, "m", batch_sizes=[1, 2])
    result = project.runpytest(*OPTIONS)
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("warning: the journal cannot be written") == 1
    assert batches(histories(project.path)[0]) == [1, 2]


def test_nothing_is_written_where_nothing_is_measured(project: pytest.Pytester, fake: Fake) -> None:
    """Listing, planning, a session without timing."""
    write_suite(project.path, "m")
    for options in (("--collect-only",), ("--plan",)):
        project.runpytest(*OPTIONS, *options)
    project.runpytest("benchmarks", "--suite", "suite.yaml", "--benchmark-disable")
    assert journals(project.path) == []


def limited() -> None:
    """No file may grow beyond 12 kB, as if the disk were full then."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    """A session in a process of its own; its output in a file, because nobody may read it."""

    def begin() -> None:
        for each in (signal.SIGINT, signal.SIGTERM):  # those that a shell starts may ignore them
            signal.signal(each, signal.SIG_DFL)

    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *OPTIONS, *more],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT, text=True, preexec_fn=begin,
        )  # fmt: skip


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_was_written(faked: pytest.Pytester) -> None:
    """Neither journal nor history goes on; no torn history is left, and what was whole is gone on with."""
    write_suite(faked.path, "m", batch_sizes=list(range(1, 9)))
    command = [sys.executable, "-m", "pytest", *OPTIONS]
    done = subprocess.run(command, cwd=faked.path, capture_output=True, text=True, preexec_fn=limited)
    assert done.returncode == 1
    said = done.stdout
    assert said.count("warning: the journal cannot be written (File too large") == 1
    assert "ERROR: the history cannot be saved: [Errno 27] File too large" in said
    assert "8 passed" in said
    assert "tokens/s out" in said
    assert histories(faked.path) == []
    process = start(faked.path, "--resume")
    assert process.wait(60) == 0
    (history,) = histories(faked.path)
    assert batches(history) == list(range(1, 9))
    assert int((faked.path / "log").read_text().split(" of 8 cases are in it")[0].split()[-1]) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_session_that_is_told_to_end_writes_its_history(faked: pytest.Pytester, number: int) -> None:
    """Exit code 2, with what was finished; going on gives the rest."""
    write_suite(faked.path, "takes_its_time", batch_sizes=list(range(1, 9)), rounds=1, warmup_rounds=0)
    process = start(faked.path)
    wait_for(faked.path, 2)
    process.send_signal(number)
    assert process.wait(60) == 2
    done = batches(histories(faked.path)[0])
    assert 2 <= len(done) < 8
    assert start(faked.path, "--resume").wait(60) == 0
    assert batches(histories(faked.path)[1]) == list(range(1, 9))
    log = json.loads((faked.path / "log.json").read_text())
    assert [entry[1] for entry in log if entry[0] == "prepare"] == list(range(len(done) + 1, 9))


def wait_for(folder: Path, cases: int) -> None:
    """Until so many cases are in the journal."""
    end = time.monotonic() + 60
    while not journals(folder) or journals(folder)[-1].read_text().count('\n{"case"') < cases:
        assert time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_process_that_is_killed_at_any_moment_loses_one_case(faked: pytest.Pytester, seed: int) -> None:
    """25 times each, from before the first case on: the journals together are an undisturbed run.

    Of each case there is one measurement, or one more for each kill that came between it and its line.
    """
    rng = random.Random(seed)
    sizes = list(range(1, 13))
    write_suite(faked.path, "takes_its_time", batch_sizes=sizes, rounds=1, warmup_rounds=0)
    assert start(faked.path).wait(60) == 0
    (whole,) = histories(faked.path)
    kills = 0
    while kills < 25:
        process = start(faked.path, "--resume")
        time.sleep(0.3 + rng.random() * 1.2)
        process.send_signal(signal.SIGKILL)
        kills += process.wait(60) == -signal.SIGKILL
        if rng.random() < 0.1:  # now and then a run is let come to its end
            assert start(faked.path, "--resume").wait(60) == 0, (faked.path / "log").read_text()
            same_run(whole, histories(faked.path)[-1])
    assert start(faked.path, "--resume").wait(60) == 0
    same_run(whole, histories(faked.path)[-1])
    for journal in journals(faked.path):
        found = [one["case"] for one in map(read, journal.read_bytes().split(b"\n")) if one and "case" in one]
        assert len(found) == len(set(found)) <= len(sizes)


def read(raw: bytes) -> dict[str, Any] | None:
    """A line, if it is whole."""
    try:
        return dict(json.loads(raw))
    except ValueError:
        return None


def same_run(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same cases in the same order, and of each the same rounds: the fake engine's law has no noise."""
    assert batches(one) == batches(other)
    for a, b in zip(one["benchmarks"], other["benchmarks"], strict=True):
        assert a["stats"]["data"] == pytest.approx(b["stats"]["data"])
        assert a["extra_info"].keys() == b["extra_info"].keys()
        for key in ("ttft_s", "tpot_s", "decode_tokens_per_s"):
            assert a["extra_info"]["split"][key] == pytest.approx(b["extra_info"]["split"][key])
