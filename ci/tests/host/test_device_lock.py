"""One measurement at a time: who waits, who is told, and that nobody's end leaves a device locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.tests.conftest import ROOT, histories, write_suite
from ci.tests.fake_engine import FakeEngine
from fixtures.core.base.errors import InputError
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.spec.library import hardware
from fixtures.host import nvml, process
from fixtures.host.device_lock import FOLDER_VARIABLE, HOLDER_VARIABLE, take_devices
from fixtures.host.process import say as write

pytest_plugins = ["pytester"]

Fake = type[FakeEngine]
HOLDER = """
import os, subprocess, sys, time
from fixtures.host.device_lock import take_devices
lock = take_devices(["cpu"], 0, "pytest a", print)
{then}
print("on", *({say}), flush=True)
time.sleep({seconds})
lock.release()
print("off", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of this test alone, on a machine without a GPU."""
    monkeypatch.setattr("fixtures.host.machine.detect", lambda: Machine(hardware("cpu"), 1, 2))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "locks"))
    monkeypatch.delenv(HOLDER_VARIABLE, raising=False)
    return tmp_path / "locks"


@contextlib.contextmanager
def holder(seconds: float = 60, then: str = "", say: str = "()") -> Iterator[tuple[int, list[str]]]:
    """A process that holds the CPU: its pid, and what it says of others that it started."""
    program = HOLDER.format(seconds=seconds, then=then, say=say)
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[0] == "on"
        try:
            yield process.pid, words[1:]
        finally:
            process.kill()


def refused(device: str = "cpu", wait_s: float = 0) -> str | None:
    """What another process is told that wants the device; None where it gets it."""
    try:
        take_devices([device], wait_s, "pytest b", lambda _: None).release()
    except InputError as error:
        return str(error)
    return None


def test_who_holds_a_device_is_said() -> None:
    """Process, host, since when, its command, and what waits for it; another device is free."""
    before = time.strftime("%Y-%m-%d")
    with holder() as (pid, _):
        said = refused()
        assert said is not None
        assert said.startswith(f"cpu is in use by process {pid} on {os.uname().nodename} since ")
        assert before in said or time.strftime("%Y-%m-%d") in said
        assert said.endswith(" (pytest a); --wait-device SECONDS waits for it")
        assert refused("GPU-1") is None


def test_a_device_is_free_after_release(folder: Path) -> None:
    """And nothing of its holder is left in the file, nor in the environment."""
    lock = take_devices(["cpu"], 0, "pytest", print)
    assert os.environ[HOLDER_VARIABLE] == str(os.getpid())
    lock.release()
    lock.release()
    assert HOLDER_VARIABLE not in os.environ
    assert (folder / "cpu.lock").read_bytes() == b""
    assert refused() is None


def test_a_crash_sets_the_device_free() -> None:
    """SIGKILL: the file still tells of its holder, and no longer counts."""
    with holder() as (pid, _):
        os.kill(pid, signal.SIGKILL)
        assert refused(wait_s=10) is None


@pytest.mark.parametrize(
    "then",
    [
        "child = os.fork() or (os.close(1), time.sleep(60), os._exit(0))",
        "child = subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL).pid",
    ],
    ids=["forked", "started"],
)
def test_a_child_that_outlives_its_parent_holds_nothing(then: str) -> None:
    """Ranks and helpers have no part in the lock."""
    with holder(then=then, say="[child]") as (pid, (child,)):
        assert refused() is not None
        os.kill(pid, signal.SIGKILL)
        try:
            assert refused(wait_s=10) is None
            os.kill(int(child), 0)  # it lives
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_waiting_ends_with_the_other_measurement() -> None:
    """Once it is said who is waited for."""
    said: list[str] = []
    with holder(seconds=0.5):
        start_s = time.monotonic()
        take_devices(["cpu"], 30, "pytest b", said.append).release()
        assert 0.1 < time.monotonic() - start_s < 20
    assert len(said) == 1
    assert "cpu is in use by process" in said[0]


def test_waiting_ends_with_the_time() -> None:
    """No sooner, and not much later."""
    with holder():
        start_s = time.monotonic()
        assert refused(wait_s=0.4) is not None
        assert 0.4 <= time.monotonic() - start_s < 5


def test_all_devices_or_none() -> None:
    """The one that was free is free again after the other was refused."""
    with holder():
        with pytest.raises(InputError):
            take_devices(["GPU-1", "cpu", "a"], 0, "pytest b", print)
        assert refused("a") is None
        assert HOLDER_VARIABLE not in os.environ


def test_what_a_holder_starts_is_part_of_it() -> None:
    """A benchmark of the harness runs pytest; another process's word for it is not taken."""
    program = (
        "from fixtures.host.device_lock import take_devices; take_devices(['cpu'], 0, '', print); print('in')"
    )
    lock = take_devices(["cpu"], 0, "pytest", print)
    try:
        for pid, expected in ((str(os.getpid()), 0), ("1", 1)):
            env = {**os.environ, HOLDER_VARIABLE: pid}
            done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True)
            assert done.returncode == expected
        assert refused() is None  # this process is its own session's too
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.delenv(HOLDER_VARIABLE)
            assert refused() is not None  # and the child's end has set nothing free
    finally:
        lock.release()


@settings(deadline=None, derandomize=True)
@given(content=st.binary(max_size=200) | st.from_regex(rb'\{"(pid|host)": .{0,20}\}', fullmatch=True))
def test_whatever_stands_in_the_file_is_one_line(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any user may have written it."""
    folder = tmp_path_factory.getbasetemp() / "hostile"
    folder.mkdir(exist_ok=True)
    (folder / "cpu.lock").write_bytes(content)
    with pytest.MonkeyPatch.context() as monkeypatch, (folder / "cpu.lock").open("rb") as file:
        monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
        fcntl.flock(file, fcntl.LOCK_EX)
        said = refused()
    assert said is not None
    assert said.startswith("cpu is in use by ")
    assert said.isprintable()
    assert len(said) < 5000


def measured(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """A session of one case."""
    suite = write_suite(project.path, "m")
    return project.runpytest("benchmarks", "--suite", suite, *arguments)


def test_a_session_that_measures_is_refused(project: pytest.Pytester, fake: Fake) -> None:
    """One line, exit code 4, nothing is loaded."""
    with holder() as (pid, _):
        result = measured(project, "--benchmark-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert line.startswith(f"ERROR: cpu is in use by process {pid} on ")
    assert fake.log == []


def test_a_session_waits_where_it_is_told_to(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says for whom, and then it measures."""
    with holder() as (pid, _):

        def say(config: pytest.Config, text: str) -> None:
            write(config, text)
            os.kill(pid, signal.SIGKILL)

        monkeypatch.setattr(process, "say", say)
        result = measured(project, "--benchmark-only", "--wait-device", "60")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["waiting for the device, at most 60 s: cpu is in use by *"])
    assert refused() is None


@pytest.mark.parametrize("only", ["--collect-only", "--plan", "--benchmark-disable", "--benchmark-skip"])
def test_who_does_not_measure_needs_no_device(project: pytest.Pytester, fake: Fake, only: str) -> None:
    """Lists, plans and tests go on beside a measurement."""
    with holder():
        assert measured(project, only).ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def test_the_device_is_held_while_cases_run(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From before the load to the end of the last round, and no longer."""
    seen: list[str | None] = []
    load: Callable[..., Any] = fake.load

    def loads(*arguments: Any) -> Any:
        monkeypatch.delenv(HOLDER_VARIABLE)
        seen.append(refused())
        return load(*arguments)

    monkeypatch.setattr(fake, "load", loads)
    measured(project, "--benchmark-only").assert_outcomes(passed=1)
    (said,) = seen
    assert said is not None
    assert f"process {os.getpid()}" in said
    assert "(pytest benchmarks --suite suite.yaml --benchmark-only" in said
    assert refused() is None


@pytest.mark.parametrize("what", ["a file", "a link"])
def test_a_folder_that_cannot_be_used_costs_no_measurement(
    project: pytest.Pytester, fake: Fake, folder: Path, what: str
) -> None:
    """It is said. A link is not followed: it may lead to a file of somebody else."""
    if what == "a file":
        folder.write_text("in the way")
    else:
        folder.mkdir()
        (folder / "cpu.lock").symlink_to(project.path / "elsewhere")
    result = measured(project, "--benchmark-only")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["warning: devices cannot be locked, so other measurements can disturb this one: *"]
    )
    assert not (project.path / "elsewhere").exists()
    assert len(histories(project.path)) == 1


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
def test_seconds_to_wait_are_a_number(project: pytest.Pytester, fake: Fake, seconds: str) -> None:
    """Anything else is refused as other options are."""
    result = measured(project, f"--wait-device={seconds}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--wait-device: invalid number of seconds of at least 0 value: *"])


def test_gpus_have_the_same_name_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """By UUID, however they are made visible; without one, by what the mask calls them."""
    monkeypatch.setattr(
        nvml, "visible_gpus", lambda n: [nvml.Gpu(i, f"h{i}", None) for i in range(min(n, 2))]
    )
    monkeypatch.setattr(nvml, "_ask", lambda _, handle: {"h0": "GPU-a"}.get(handle))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert nvml.names(3) == ["GPU-a", "GPU 1", "GPU 2"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert nvml.names(2) == ["GPU-a", "GPU 1"]
    assert nvml.names(0) == []
