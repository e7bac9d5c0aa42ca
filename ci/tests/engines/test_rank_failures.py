"""What becomes of a case whose rank dies, starves, hangs or cannot start: real processes, real signals."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import histories
from ci.tests.engines.test_ranks import LAUNCH, cases_of, environment, has, tiny_suite
from ci.tests.warm import CALL, Warm, is_stand_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="ranks need Linux"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has no place for two ranks"),
]
pytest_plugins = ["pytester"]

OPTIONS = ("--benchmark-only", "--suite", "suite.yaml")
SHORT, LONG, HANGS, AFTER, LAST = (f"tiny-2xcpu-hf_tp-b1-in16-out{n}" for n in (8, 200, 201, 9, 202))

WAIT_S = 400  # for what is sure to come, on however busy a machine
TIMEOUT = f"--rank-timeout={WAIT_S}"
HANGS_S = 12
ROUNDS = f"""
from fixtures.engines.processes.workers import Processes
from fixtures.show.live_line import LiveLine

ask, next_round = Processes.ask, LiveLine.next_round
cases = [""]


def noted(self, protocol, seconds):
    cases.append(self._case)
    with open("rounds", "a") as file:
        file.write(f"{{self._case}} {{len(seconds)}}\\n")
    next_round(self, protocol, seconds)


def limited(self, name, *arguments):
    if (name, cases[-1]) != ("timed", "{HANGS}"):
        return ask(self, name, *arguments)
    usual, self._limits.step_s = self._limits.step_s, {HANGS_S}
    try:
        return ask(self, name, *arguments)
    finally:
        self._limits.step_s = usual


LiveLine.next_round, Processes.ask = noted, limited
"""


@dataclass
class Session:
    """A pytest that runs beside this test; its processes and those of its ranks bear a mark.

    With `warm` all of them but compilers start warm.
    """

    folder: Path
    warm: Warm | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    process: subprocess.Popen[str] | None = None
    before: set[Path] = field(default_factory=lambda: segments())

    def start(self, *arguments: str, launch: tuple[str, ...] = (), **env: str) -> None:
        """Start it; what it writes goes to `log`."""
        more = {"MARK": self.mark, "TMPDIR": str(self.folder / "tmp"), "PYTHONUNBUFFERED": "1", **env}
        python = sys.executable
        if self.warm is not None:
            python, more = self.warm.python, {**more, **self.warm.environment}
        (self.folder / "tmp").mkdir(exist_ok=True)
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [python, *launch, "-m", "pytest", "benchmarks", *OPTIONS, *arguments],
                cwd=self.folder, env=environment(**more), stdout=log, stderr=subprocess.STDOUT, text=True,
                preexec_fn=_hear_ctrl_c,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "log").read_text()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Until it holds."""
        assert self.process is not None
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.02)

    def wait_for(self, text: str) -> None:
        """Until the text is in the log."""
        self.wait_until(lambda: text in self.log)

    def wait_for_call(self, case: str) -> None:
        """Until a timed call of this case has begun, which goes on for a second or more, as others follow."""
        rounds = self.folder / "rounds"
        self.wait_until(lambda: rounds.exists() and f"{case} " in rounds.read_text())
        time.sleep(0.2)  # in the middle of it

    def end(self, limit_s: float = WAIT_S) -> int:
        """Its exit code."""
        assert self.process is not None
        return self.process.wait(limit_s)

    def processes(self) -> list[int]:
        """Everything that is still there and bears the mark."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                is_dead = "\nState:\tZ" in (path / "status").read_text()
                if f"MARK={self.mark}".encode() in self.environ(int(path.name)) and not is_dead:
                    found.append(int(path.name))
        return found

    def environ(self, pid: int) -> bytes:
        """The environment of a process, as in /proc; raises OSError where it has ended."""
        return Path(f"/proc/{pid}/environ").read_bytes() if self.warm is None else self.warm.environ(pid)

    def runs(self, pid: int, module: str) -> bool:
        """Whether a process runs this module."""
        with suppress(OSError):
            told = Path(f"/proc/{pid}/cmdline").read_bytes()
            is_told = module.encode() in told or f"{CALL}=-m {module} ".encode() in self.environ(pid)
            return is_told and not is_stand_in(pid)
        return False

    def rank(self, number: int) -> int:
        """The process of a rank."""
        for pid in self.processes():
            with suppress(OSError):
                is_rank = f"RANK={number}".encode() in self.environ(pid).split(b"\0")
                if is_rank and not is_stand_in(pid):
                    return pid
        raise AssertionError(f"there is no rank {number}")

    def check_nothing_is_left(self) -> None:
        """No process, no segment of shared memory, no file of the ranks."""
        end = time.monotonic() + 60
        while self.processes() and time.monotonic() < end:
            time.sleep(0.1)
        assert self.processes() == []
        assert segments() <= self.before
        assert list((self.folder / "tmp").glob("ranks_*")) == []


def segments() -> set[Path]:
    """DeepSpeed's shared memory of this user, that of other sessions included."""
    return set(Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_{os.getuid()}_*"))


def suite(folder: Path, output_lengths: list[int], **keys: Any) -> None:
    """A tiny model on two ranks, with cases of these lengths: 200 tokens take some seconds in all."""
    sweep = {"name": "s", "batch_sizes": [1], "input_lengths": [16], "output_lengths": output_lengths}
    tiny_suite(folder, hardware=["2xcpu"], sweeps=[sweep], rounds=8, warmup_rounds=0, **keys)


@pytest.fixture
def session(project: pytest.Pytester, warm: Warm) -> Iterator[Session]:
    """A session of three cases: a short one, one that takes some seconds in all, another short one."""
    suite(project.path, [8, 200, 9])
    note_rounds(project.path)
    made = Session(project.path, warm)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()
    for pid in made.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def note_rounds(folder: Path) -> None:
    """Let a project note when a timed call begins, for `Session.wait_for_call`.

    Only the case that is to hang has little time: all else may take long on a busy machine.
    """
    conftest = folder / "conftest.py"
    conftest.write_text(conftest.read_text() + ROUNDS)


def _hear_ctrl_c() -> None:
    """A shell without job control lets what it starts in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def kill(pid: int) -> None:
    """As the kernel's out-of-memory killer does."""
    os.kill(pid, signal.SIGKILL)


def starve(pid: int) -> None:
    """No byte more of address space."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    held = pages * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (held, held))


def stop(pid: int) -> None:
    """It stays, and does nothing."""
    os.kill(pid, signal.SIGSTOP)


def test_a_rank_that_is_killed_or_hangs_costs_its_case_and_ctrl_c_keeps_what_is_finished(
    session: Session,
) -> None:
    """Each time the case fails with the rank's own error, and the ranks start anew for the next one.

    The ranks do not hear Ctrl-C: pytest ends them and writes the history.
    """
    suite(session.folder, [8, 200, 201, 9, 202])
    session.start(TIMEOUT)
    session.wait_for_call(LONG)
    kill(session.rank(1))
    session.wait_for_call(HANGS)
    stop(session.rank(1))
    session.wait_for_call(LAST)
    assert session.process is not None
    session.process.send_signal(signal.SIGINT)
    assert session.end() == 2, session.log
    assert f"{LONG}: rank 1 was killed by SIGKILL in 'timed'" in session.log
    assert f"{HANGS}: rank" in session.log
    assert f"did not answer within {HANGS_S} s in 'timed': rank 0 is in " in session.log
    assert "rank 1 is stopped" in session.log
    assert "2 failed, 2 passed" in session.log
    (history,) = histories(session.folder)
    assert cases_of(history) == [SHORT, AFTER]
    session.check_nothing_is_left()


@pytest.mark.skipif(not has("deepspeed"), reason="needs deepspeed")
def test_a_rank_that_is_killed_within_deepspeeds_all_reduce_costs_its_case(session: Session) -> None:
    """The other one would wait in it for ever; the ranks start anew for the next case."""
    short, long, after = (name.replace("hf_tp", "deepspeed") for name in (SHORT, LONG, AFTER))
    session.start(TIMEOUT, "--set", "engines=[deepspeed]")
    session.wait_for_call(long)
    kill(session.rank(1))
    assert session.end() == 1, session.log
    assert "1 failed, 2 passed" in session.log
    assert f"{long}: rank 1 was killed by SIGKILL in 'timed'" in session.log
    (history,) = histories(session.folder)
    assert cases_of(history) == [short, after]
    session.check_nothing_is_left()


def try_all(project: pytest.Pytester) -> None:
    """Let a project try what is predicted to find no room."""
    conftest = project.path / "conftest.py"
    conftest.write_text(
        conftest.read_text() + "\nfrom fixtures.load import model\n\nmodel.refused = lambda *_: None\n"
    )


def test_a_rank_without_memory_is_an_outcome_and_the_next_case_runs(
    project: pytest.Pytester, session: Session
) -> None:
    """One rank may have no more address space, the other waits for it in vain."""
    sweep = {"name": "s", "batch_sizes": [1, 256], "input_lengths": [256], "output_lengths": [8]}
    last = {"name": "t", "batch_sizes": [2], "input_lengths": [16], "output_lengths": [8]}
    tiny_suite(project.path, hardware=["2xcpu"], sweeps=[sweep, last], rounds=2, warmup_rounds=0)
    try_all(project)
    session.start(TIMEOUT, "-rs")
    session.wait_for("case 1 of")
    starve(session.rank(1))
    assert session.end() == 0, session.log
    assert "out of memory: rank 1: " in session.log
    assert "2 passed, 1 skipped" in session.log
    session.check_nothing_is_left()


def test_a_taken_port_fails_the_cases_that_need_it(project: pytest.Pytester, session: Session) -> None:
    """The error names the port; a case on one device needs none."""
    tiny_suite(project.path, engines=["hf", "hf_tp"], rounds=1)
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        session.start("-k", "(hf_tp or hf-) and b1", TIMEOUT, MASTER_PORT=str(port))
        session.end()
    assert f"the ranks cannot meet at localhost:{port}: " in session.log
    assert "address already in use" in session.log.lower()
    assert "1 passed" in session.log
    assert "1 error" in session.log
    session.check_nothing_is_left()


def test_a_rank_that_dies_at_its_start_fails_its_cases(project: pytest.Pytester, session: Session) -> None:
    """By its exit code and its last line; a case on one device runs. All are started by the real Python."""
    session.warm = None
    tiny_suite(project.path, engines=["hf", "hf_tp"], rounds=1)
    broken = project.path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if os.environ.get('RANK') == '1':\n"
        "    sys.stderr.write('no such device\\n')\n"
        "    sys.stderr.flush()\n"
        "    os._exit(7)\n"
    )
    path = os.pathsep.join([str(broken), environment()["PYTHONPATH"]])
    session.start("-k", "(hf_tp or hf-) and b1", TIMEOUT, PYTHONPATH=path)
    assert session.end() == 1
    assert "rank 1 ended with exit code 7 at the start: no such device" in session.log
    assert "1 passed" in session.log
    assert "1 error" in session.log
    session.check_nothing_is_left()


@pytest.mark.parametrize("engine", ["hf_tp", "deepspeed"])
def test_when_pytest_is_killed_its_ranks_end_too(
    project: pytest.Pytester, session: Session, engine: str
) -> None:
    """Nobody is left to end them: they notice, even within DeepSpeed's all-reduce, which waits for ever."""
    if not has(engine.partition("_")[0].replace("hf", "transformers")):
        pytest.skip("deepspeed is not installed")
    suite(project.path, [8, 200], engines=[engine])
    session.start(TIMEOUT)
    session.wait_for_call(LONG.replace("hf_tp", engine))
    assert session.process is not None
    session.process.kill()
    session.process.wait()
    end = time.monotonic() + 60
    while session.processes() and time.monotonic() < end:
        time.sleep(0.1)
    assert session.processes() == []
    assert segments() <= session.before


FAILS = """
import os
from torch.nn import Module

phase = LiveLine.phase


def no_result(*_, **__):
    raise ValueError("planted")


def fails(self, case_id, name):
    if os.environ["RANK"] == "1" and "out800" in case_id:
        Module.__call__ = no_result
    phase(self, case_id, name)


LiveLine.phase = fails
"""


def test_in_a_launched_session_a_failed_rank_ends_it_and_what_is_finished_stays(session: Session) -> None:
    """The other rank waits as long as a collective may take; then both know, and the history is written.

    A later one goes on with it: rank 0 reads the journal, and no rank measures what is in it.
    """
    suite(session.folder, [8, 800, 9])
    torchrun = (*LAUNCH, "--nproc_per_node", "2", "--max_restarts", "0")
    conftest = session.folder / "conftest.py"
    text = conftest.read_text()
    conftest.write_text(text + FAILS)
    session.start("--rank-timeout=12", launch=torchrun)
    assert session.end() != 0
    conftest.write_text(text)
    assert "no further case can run (rank 1: " in session.log
    assert "ValueError: planted" in session.log
    (history,) = histories(session.folder)
    assert cases_of(history) == [SHORT]
    session.start(TIMEOUT, "-k", "not out800", "--resume", launch=torchrun)
    assert session.end() == 0, session.log
    assert "1 of 2 cases are in it" in session.log
    assert "1 passed, 1 skipped" in session.log
    resumed = histories(session.folder)[-1]
    assert cases_of(resumed) == [SHORT, AFTER]
    assert resumed["benchmarks"][0]["stats"] == history["benchmarks"][0]["stats"]
    session.check_nothing_is_left()


@pytest.mark.skipif(not has("deepspeed"), reason="needs deepspeed")
def test_who_is_given_up_while_it_compiles_leaves_no_lock(session: Session, tmp_path: Path) -> None:
    """The next one would wait for it for ever; a lock that is too old to be somebody's is removed too."""
    operators = tmp_path / "operators"
    (operators / "deepspeed_old").mkdir(parents=True)
    old = operators / "deepspeed_old" / "lock"
    old.touch()
    os.utime(old, (time.time() - 3600, time.time() - 3600))
    compiler, compiles = tmp_path / "compiler", tmp_path / "compiles"  # it says its version, and never ends
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *" -c "*) touch {compiles}; sleep {WAIT_S} ;; esac\nexec c++ "$@"\n'
    )
    compiler.chmod(0o755)
    tiny_suite(session.folder, hardware=["2xcpu"], engines=["deepspeed"], warmup_rounds=0)
    options = (TIMEOUT, "--rounds", "1", "-k", "deepspeed and out8")
    session.start(*options, TORCH_EXTENSIONS_DIR=str(operators), CXX=str(compiler))
    session.wait_until(compiles.exists)
    assert list(operators.glob("deepspeed_shm_comm/lock"))
    assert session.process is not None
    session.process.send_signal(signal.SIGINT)
    assert session.end() == 2, session.log
    assert (operators / "deepspeed_shm_comm" / "build.ninja").exists()
    assert list(operators.glob("*/lock")) == []
    session.check_nothing_is_left()
