"""A Python that starts warm does what a real one does."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ci.tests.warm import IS_POSSIBLE, Warm, is_stand_in

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not IS_POSSIBLE, reason="nothing can start warm here")]

SHOWS = """
import os, resource, signal, sys, tempfile

print(__name__, sys.argv, sys.path, os.getcwd(), sys.stdin.read(), sorted(os.environ.items()))
print(os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_AS), os.getsid(0) == os.getpid())
print(resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGINT))
print(tempfile.gettempdir(), sys.prefix, sys.stdout.isatty(), os.path.exists("/proc/self/fd/3"))
{ends}
"""
ENDS = {
    "exit": "sys.exit(3)",
    "message": "sys.exit('no')",
    "error": "1 / 0",
    "killed": "os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("ends", ["None", *ENDS.values()], ids=["end", *ENDS])
@pytest.mark.parametrize("call", [["-m", "shows"], ["-P", "-u", "-mshows"], ["shows.py"]], ids=" ".join)
def test_what_a_program_sees_and_how_it_ends(call: list[str], ends: str, warm: Warm, tmp_path: Path) -> None:
    """Arguments, folder, input, environment, limits; output, exit code or signal."""
    (tmp_path / "shows.py").write_text(SHOWS.format(ends=ends))
    env = {"PYTHONPATH": f"{tmp_path}:/nowhere", "TMPDIR": str(tmp_path), "LC_CTYPE": "C.UTF-8"}

    def limited() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**41))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**31))
        signal.signal(signal.SIGINT, signal.SIG_IGN if call == ["shows.py"] else signal.SIG_DFL)

    real, other = (
        subprocess.run(
            [python, *call, "a b", "--c=ü"], cwd=tmp_path, env={**env, **warm.environment}, input="read",
            capture_output=True, text=True, start_new_session="-u" in call, preexec_fn=limited,
        )
        for python in (sys.executable, warm.python)
    )  # fmt: skip
    assert real.stdout.count("\n") >= (0 if ends == ENDS["killed"] else 4)
    assert (other.stdout, other.returncode) == (real.stdout, real.returncode)
    assert other.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


STREAMS = """
import os, pathlib, sys

closed = [sys.stdin is None, sys.stdout is None, sys.__stdout__ is None, sys.stderr is None]
pathlib.Path(sys.argv[1]).write_text(f"{closed} {os.open('/', 0)}")
"""


@pytest.mark.parametrize("ends", ["", ">&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_none(ends: str, warm: Warm, tmp_path: Path) -> None:
    """And its number is free."""
    (tmp_path / "streams.py").write_text(STREAMS)
    for number, python in enumerate((sys.executable, warm.python)):
        subprocess.run(
            f"'{python}' streams.py {number} {ends}",
            shell=True,
            check=True,
            cwd=tmp_path,
            env=warm.environment,
        )
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text()
    assert (tmp_path / "0").read_text().count("True") == {"": 0, ">&-": 2}.get(ends, 4)


def test_it_is_warm_and_other_calls_become_the_real_python(warm: Warm, tmp_path: Path) -> None:
    """torch is there before it is imported; not where nothing is said of the first process."""
    program = tmp_path / "warm.py"
    program.write_text("import sys\nprint('torch' in sys.modules, sys.executable)\n")
    asked: list[tuple[list[str], dict[str, str]]]
    asked = [
        ([str(program)], warm.environment),
        ([str(program)], {}),
        (["-c", program.read_text()], warm.environment),
    ]
    said = [
        subprocess.run([warm.python, *call], env=env, capture_output=True, text=True, check=True).stdout
        for call, env in asked
    ]
    cold = f"False {sys.executable}\n"
    assert said == [f"True {warm.python}\n", cold, cold]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_fork(number: signal.Signals, warm: Warm, tmp_path: Path) -> None:
    """Its environment is that of the program; SIGINT is heard by Python, a kill ends both."""
    (tmp_path / "waits.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n")
    process = subprocess.Popen(
        [warm.python, "-m", "waits"], cwd=tmp_path, env={**warm.environment, "MARK": "here"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert b"MARK=here" in warm.environ(pid).split(b"\0")
    assert (is_stand_in(process.pid), is_stand_in(pid)) == (True, False)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -number
    assert errors.endswith("KeyboardInterrupt\n") == (number == signal.SIGINT)
    end = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(OSError, match="No such"):
        warm.environ(pid)
