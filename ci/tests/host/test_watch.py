"""Real readings of this machine, and of processes that disturb it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from fixtures.core.result.machine_state import summary
from fixtures.core.result.readings import Reading, disturbances
from fixtures.host import nvml
from fixtures.measure import watch as state
from fixtures.measure.watch import Watch

SPINNER = "spins_for_test"


def spin(seconds: float) -> None:
    """Use a core for so long, the system's part of it not left out."""
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        os.urandom(2**16)


@pytest.fixture
def spinner() -> Iterator[subprocess.Popen[str]]:
    """A process of a name of its own that uses a core until its end, and has begun to."""
    code = f"open('/proc/self/comm', 'w').write({SPINNER!r})\nprint('on', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        yield process
        process.kill()


def used_s(process: subprocess.Popen[str]) -> float:
    """CPU seconds that it has used."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def let_use(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait until it has used so much more, however busy the machine is."""
    end_s = used_s(process) + seconds
    while used_s(process) < end_s:
        time.sleep(0.05)


def own_cpu_s(watch: Watch, work: Callable[[float], None], seconds: float) -> float:
    """CPU seconds that our processes used meanwhile, as the watch sees them."""
    before = watch.read().own_cpu_s
    work(seconds)
    after = watch.read().own_cpu_s
    assert before is not None
    assert after is not None
    return after - before


def test_own_seconds_are_those_that_we_use() -> None:
    """A busy loop counts, as the process's own clock has it; sleep does not."""
    watch = Watch([], gpus=0)
    start_s = time.process_time()
    seen_s = own_cpu_s(watch, spin, 0.5)
    assert seen_s == pytest.approx(time.process_time() - start_s, abs=0.05)
    assert own_cpu_s(watch, time.sleep, 0.5) < 0.1


def test_a_busy_stranger_is_seen(spinner: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, by name at the end of a case too, and its time is not ours."""
    monkeypatch.setattr(state, "NEIGHBOURS", 1000)
    watch = Watch([], gpus=0)
    before, before_s, began_s = watch.read(), used_s(spinner), time.perf_counter()
    let_use(spinner, 0.5)
    after = watch.read()
    neighbours = watch.neighbours()
    cores = (used_s(spinner) - before_s) / (time.perf_counter() - began_s)
    assert any(text.startswith("contention: other processes used") for text in disturbances(before, after))
    assert (summary([before, after]).other_cores or 0) > 0.8 * cores
    assert neighbours is not None
    assert all(set(one) == {"name", "cores"} and one["cores"] > state.BUSY_CORES for one in neighbours)
    (seen,) = [one["cores"] for one in neighbours if one["name"] == SPINNER]
    assert seen == pytest.approx(cores, rel=0.3)
    assert own_cpu_s(watch, time.sleep, 0.3) < 0.1
    monkeypatch.setattr(state, "NEIGHBOURS", 1)
    let_use(spinner, 0.2)
    assert len(watch.neighbours() or []) == 1


def test_a_helper_is_ours_to_its_end(spinner: subprocess.Popen[str]) -> None:
    """What it used stays counted, once: not again as the time of a child that was waited for."""
    watch = Watch([spinner.pid, 2**22 + 1], gpus=0)  # and a pid that no Linux has
    assert own_cpu_s(watch, lambda seconds: let_use(spinner, seconds), 0.5) > 0.4
    assert (watch.read().threads or 0) >= 2
    neighbours = watch.neighbours()
    assert neighbours is not None
    assert SPINNER not in [one["name"] for one in neighbours]

    def end(_: float) -> None:
        spinner.kill()
        spinner.wait()

    assert 0 <= own_cpu_s(watch, end, 0) < 0.2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be chosen on Linux only")
def test_waiting_for_a_core_is_seen() -> None:
    """Two processes on one core: half of the time this one waits."""
    watch = Watch([], gpus=0)
    if watch.read().waited_s is None:
        pytest.skip("this kernel does not count how long threads wait")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
            time.sleep(0.2)
            before = watch.read()
            spin(1.0)
            after = watch.read()
            process.kill()
    finally:
        os.sched_setaffinity(0, cores)
    assert any(text.startswith("contention: own threads waited") for text in disturbances(before, after))


def test_the_wait_is_the_second_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds on a core, seconds of waiting, both in ns, and turns: of each thread."""
    monkeypatch.setattr(state, "_text", lambda _: "7000000000 2500000000 3\n")
    reading = Watch([], gpus=0).read()
    assert reading.waited_s == pytest.approx(2.5 * (reading.threads or 0))


def test_a_kernel_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three zeros, or no file, are no answer."""
    monkeypatch.setattr(state, "_text", lambda _: "0 0 0\n")
    assert Watch([], gpus=0).read().waited_s is None
    monkeypatch.setattr(state, "_text", lambda _: "")
    assert Watch([], gpus=0).read().waited_s is None


def test_thermal_events_are_summed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there are such files; no file is no answer."""
    watch = Watch([], gpus=0)
    for name, count in (("core", 2), ("package", 5)):
        (tmp_path / f"{name}_throttle_count").write_text(f"{count}\n")
    watch._throttle_counters = list(tmp_path.iterdir())
    assert watch.read().throttle_count == 7
    watch._throttle_counters = []
    assert watch.read().throttle_count is None


def test_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would have told is None; the rest is still read."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    watch = Watch([], gpus=0)
    reading = watch.read()
    assert reading == replace(Reading(reading.at_s, waited_s=reading.waited_s), load_1min=reading.load_1min)
    assert watch.neighbours() is None


def test_without_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package, no GPUs."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    nvml._nvml.cache_clear()
    try:
        assert Watch([], gpus=2).read().gpus == ()
    finally:
        nvml._nvml.cache_clear()
