"""A model in a process of its own: however that ends, it costs its case alone."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.engines.test_rank_failures import WAIT_S, Session, note_rounds
from ci.tests.engines.test_ranks import cases_of, tiny_suite
from ci.tests.fake_engine import FakeEngine
from ci.tests.warm import Warm
from fixtures.engines import is_installed
from fixtures.engines.processes import exit_reason, workers
from fixtures.engines.processes.exit_reason import how_it_ended, innermost_frames
from fixtures.engines.protocol import Limits

pytest_plugins = ["pytester"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc as on Linux")
slow = pytest.mark.slow
warm_start = pytest.mark.usefixtures("starts_warm")
needs_cyllama = pytest.mark.skipif(not is_installed("cyllama"), reason="cyllama is not installed")
Fake = type[FakeEngine]


def run(
    project: pytest.Pytester, *models: str, options: tuple[str, ...] = ("--isolate",)
) -> pytest.RunResult:
    """Batches of 1, 2 and 4 of each model; the second one ends its process."""
    suite = write_suite(project.path, *models, batch_sizes=[1, 2, 4], rounds=2, warmup_rounds=0)
    return project.runpytest("benchmarks", "--benchmark-only", "--suite", suite, "-rs", *options)


def measured(project: pytest.Pytester) -> list[int]:
    """The batch sizes that the history has."""
    (history,) = histories(project.path)
    return [bench["extra_info"]["case"]["batch_size"] for bench in history["benchmarks"]]


@slow
@warm_start
@linux
@pytest.mark.parametrize(
    ("model", "how"),
    [
        ("reads_nowhere", r"was killed by SIGSEGV \(segmentation fault\) in 'timed'; it was in File "),
        ("aborts", r"was killed by SIGABRT \(abort\) in 'timed': free\(\): invalid pointer; it was in File "),
        ("is_killed", r"was killed by SIGKILL in 'timed'$"),
        ("exits", r"ended with exit code 7 in 'timed': cannot go on$"),
    ],
)
def test_a_crash_costs_its_case_alone(project: pytest.Pytester, fake: Fake, model: str, how: str) -> None:
    """It fails with what happened; the next case has a new process, and the next model its own."""
    result = run(project, model, "good")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.re_match_lines([rf".*{model}-1xcpu-hf-b2-in4-out2: the model's process {how}"])
    assert measured(project) == [1, 4, 1, 2, 4]
    (history,) = histories(project.path)
    assert all(bench["extra_info"]["isolated"] for bench in history["benchmarks"])
    assert {entry[0] for entry in fake.log} == {"watch"}  # all else was elsewhere


@slow
@warm_start
@linux
@pytest.mark.parametrize(
    ("model", "where"), [("hangs", r"is in File .*fake_engine\.py"), ("stops", "is stopped")]
)
def test_a_case_that_hangs_is_ended(project: pytest.Pytester, fake: Fake, model: str, where: str) -> None:
    """After --case-timeout, which isolates by itself; it says where."""
    result = run(project, model, options=("--case-timeout", "4"))
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.re_match_lines(
        [
            rf".*{model}-1xcpu-hf-b2-in4-out2: the case did not end within 4 s \(--case-timeout\) "
            rf"in 'timed': the model's process {where}"
        ]
    )
    assert measured(project) == [1, 4]


@slow
@warm_start
@linux
def test_what_the_kernel_kills_for_want_of_memory_ran_out_of_it(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts one more such kill when the process is gone: the case is skipped, 4 can only need more."""
    seen: list[int] = []
    monkeypatch.setattr(workers, "oom_kills", lambda _: len(seen))
    end_of = workers.Processes._of_end

    def noted(self: workers.Processes, when: str, phase: str | None = None) -> Exception:
        seen.append(1)
        return end_of(self, when, phase)

    monkeypatch.setattr(workers.Processes, "_of_end", noted)
    result = run(project, "is_killed")
    result.assert_outcomes(passed=1, skipped=2)
    said = (
        "out of memory: the model's process was killed by SIGKILL in 'timed'; the kernel's OOM killer ended"
    )
    result.stdout.fnmatch_lines([f"*SKIPPED*{said} a process meanwhile*"])
    (history,) = histories(project.path)
    assert [one["case"]["batch_size"] for one in history["outcomes"]] == [2, 4]


def test_without_isolation_it_is_this_process(project: pytest.Pytester, fake: Fake) -> None:
    """And the record does not say otherwise."""
    run(project, "good", options=()).assert_outcomes(passed=3)
    assert fake.log
    (history,) = histories(project.path)
    assert "isolated" not in history["benchmarks"][0]["extra_info"]


@slow
@warm_start
@linux
def test_the_seconds_are_those_of_the_process(project: pytest.Pytester, fake: Fake) -> None:
    """Its clock is scripted: 1 ms for each of two tokens, whatever asking took."""
    run(project, "good")
    (history,) = histories(project.path)
    for bench in history["benchmarks"]:
        assert bench["stats"]["data"] == pytest.approx([0.002, 0.002])


@slow
@warm_start
def test_ranks_that_a_launcher_started_cannot_be_isolated(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code 4."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    result = project.runpytest_subprocess("benchmarks", "--isolate")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: --isolate and --case-timeout: ranks that a launcher started cannot be restarted*"]
    )


def one_device(folder: Path, *output_lengths: int, engine: str = "hf") -> None:
    """A tiny model on one device."""
    sweep = {"name": "s", "batch_sizes": [1], "input_lengths": [16], "output_lengths": output_lengths}
    tiny_suite(folder, hardware=["1xcpu"], engines=[engine], sweeps=[sweep], rounds=50)


def worker(session: Session) -> int:
    """The process that the model of a session is in."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        for pid in session.processes():
            if session.runs(pid, "fixtures.engines.processes.worker"):
                return pid
        time.sleep(0.02)
    raise AssertionError(session.log)


@slow
@linux
@pytest.mark.parametrize(
    ("engine", "options", "by"),
    [
        ("hf", ("--isolate",), signal.SIGSEGV),
        pytest.param(
            "llamacpp_f32", (), signal.SIGKILL, marks=needs_cyllama
        ),  # always in a process of its own
    ],
)
def test_a_real_model_that_is_killed_is_loaded_again(
    engine: str, options: tuple[str, ...], by: signal.Signals, project: pytest.Pytester, warm: Warm
) -> None:
    """In its first, long case; the second is measured in a new process, and none is left behind.

    llama.cpp has a process of its own without being asked.
    """
    long, short = (f"tiny-1xcpu-{engine}-b1-in16-out{n}" for n in (800, 9))
    one_device(project.path, 800, 9, engine=engine)
    note_rounds(project.path)
    session = Session(project.path, warm)
    session.start(*options)
    session.wait_for_call(long)
    os.kill(worker(session), by)
    assert session.end() == 1, session.log
    assert re.search(rf"{long}: the model's process was killed by {by.name}", session.log), session.log
    assert list(cases_of(histories(project.path)[0])) == [short]
    assert session.processes() == []


@slow
@linux
def test_its_process_ends_with_the_session(project: pytest.Pytester) -> None:
    """Even where that is killed."""
    one_device(project.path, 800)
    session = Session(project.path)
    session.start("--isolate")
    worker(session)
    assert session.process is not None
    session.process.kill()
    session.process.wait()
    end = time.monotonic() + 60
    while session.processes():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_end_in_words() -> None:
    """What was written last counts only where the process itself ended it."""
    frames = ["Stack (most recent call first):", '  File "a.py", line 3 in f']
    fatal = ["noise", "Fatal Python error: Segmentation fault", "", *frames, '  File "b.py", line 4 in g']
    said = how_it_ended("it", -signal.SIGSEGV, "in 'timed'", fatal).text
    assert said == (
        "it was killed by SIGSEGV (segmentation fault) in 'timed'; it was in "
        'File "a.py", line 3 in f < File "b.py", line 4 in g'
    )
    assert how_it_ended("it", -signal.SIGKILL, "now", ["noise"]).text == "it was killed by SIGKILL now"
    assert how_it_ended("it", -40, "now", []).text == "it was killed by signal 40 now"
    assert how_it_ended("it", 3, "now", ["why", ""]).text == "it ended with exit code 3 now: why"
    assert how_it_ended("it", 3, "now", []).exit_code == 3
    assert innermost_frames([]) == ""


def test_kills_are_counted_in_the_narrowest_group_that_counts(tmp_path: Path) -> None:
    """Version 2 by memory.events, version 1 by memory.oom_control, else the machine's own count."""
    machine, here = tmp_path / "proc/vmstat", tmp_path / "sys/fs/cgroup"
    (tmp_path / "proc/self").mkdir(parents=True)
    machine.write_text("nr_free_pages 5\noom_kill 7\n")
    (here / "own").mkdir(parents=True)
    (here / "own" / "memory.events").write_text("low 0\noom 4\noom_kill 3\noom_group_kill 9\n")
    (here / "memory" / "old").mkdir(parents=True)
    (here / "memory" / "old" / "memory.oom_control").write_text("oom_kill_disable 0\noom_kill 2\n")

    def count(own: str) -> int | None:
        (tmp_path / "proc/self/cgroup").write_text(own)
        return exit_reason.oom_kills(exit_reason.counters(tmp_path))

    assert count("0::/own\n") == 3
    assert count("12:cpu,memory:/old\n0::/\n") == 2
    assert count("0::/elsewhere\n") == 7
    assert count("") == 7
    machine.write_text("nr_free_pages 5\n")
    assert count("") is None
    assert [exit_reason.has_killed(*pair) for pair in ((1, 2), (2, 2), (None, 2), (2, None))] == [True] + [
        False
    ] * 3
    assert exit_reason.counters()[-1] == Path("/proc/vmstat")


def test_a_step_ends_with_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever comes first; what follows a case has its own limit again."""
    now = [100.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    monkeypatch.setattr("fixtures.engines.protocol.time.monotonic", clock)
    limits = Limits(10.0, 15.0)
    assert limits.next_step() == (110.0, False)
    limits.begin_case()
    assert limits.next_step() == (110.0, False)
    now[0] = 106.0
    assert limits.next_step() == (115.0, True)
    limits.end_case()
    assert limits.next_step() == (116.0, False)
    endless = Limits(10.0)
    endless.begin_case()
    assert endless.next_step() == (116.0, False)
