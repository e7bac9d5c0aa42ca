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

import pytest

from ci.tests.conftest import histories
from ci.tests.engines.test_ranks import TORCHRUN, cases_of, environment, has, tiny_suite

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="ranks need Linux"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has no place for two ranks"),
]
pytest_plugins = ["pytester"]

SHORT, LONG, AFTER = (f"tiny-2xcpu-hf_tp-b{b}-in16-out{n}" for b, n in ((1, 8), (1, 800), (1, 9)))


@dataclass
class Session:
    """A pytest that runs beside this test; its processes and those of its ranks bear a mark."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    process: subprocess.Popen[str] | None = None
    before: set[Path] = field(default_factory=lambda: segments())

    def start(self, *arguments: str, command: tuple[str, ...] = (sys.executable, "-m"), **env: str) -> None:
        """Start it; what it writes goes to `log`."""
        more = {"MARK": self.mark, "TMPDIR": str(self.folder / "tmp"), "PYTHONUNBUFFERED": "1", **env}
        (self.folder / "tmp").mkdir(exist_ok=True)
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [*command, "pytest", "benchmarks", "--benchmark-only", "--suite", "suite.yaml", *arguments],
                cwd=self.folder, env=environment(**more), stdout=log, stderr=subprocess.STDOUT, text=True,
                preexec_fn=_hear_ctrl_c,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "log").read_text()

    def wait_for(self, text: str, limit_s: float = 120) -> None:
        """Until the text is in the log."""
        assert self.process is not None
        end = time.monotonic() + limit_s
        while text not in self.log:
            assert time.monotonic() < end, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.05)

    def end(self, limit_s: float = 180) -> int:
        """Its exit code."""
        assert self.process is not None
        return self.process.wait(limit_s)

    def processes(self) -> list[int]:
        """Everything that is still there and bears the mark."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                is_dead = "\nState:\tZ" in (path.parent / "status").read_text()
                if f"MARK={self.mark}".encode() in path.read_bytes() and not is_dead:
                    found.append(int(path.parent.name))
        return found

    def rank(self, number: int) -> int:
        """The process of a rank."""
        for pid in self.processes():
            with suppress(OSError):
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if f"RANK={number}".encode() in environ:
                    return pid
        raise AssertionError(f"there is no rank {number}")

    def check_nothing_is_left(self) -> None:
        """No process, no segment of shared memory, no file of the ranks."""
        end = time.monotonic() + 10
        while self.processes() and time.monotonic() < end:
            time.sleep(0.1)
        assert self.processes() == []
        assert segments() <= self.before
        assert list((self.folder / "tmp").glob("ranks_*")) == []


def segments() -> set[Path]:
    """DeepSpeed's shared memory of this user, that of other sessions included."""
    return set(Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_{os.getuid()}_*"))


@pytest.fixture
def session(project: pytest.Pytester) -> Iterator[Session]:
    """A session of three cases: a short one, one that takes some seconds a call, another short one."""
    lengths = [8, 800, 9]
    sweep = {"name": "s", "batch_sizes": [1], "input_lengths": [16], "output_lengths": lengths}
    tiny_suite(project.path, hardware=["2xcpu"], sweeps=[sweep], warmup_rounds=0)
    made = Session(project.path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()
    for pid in made.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


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


@pytest.mark.parametrize(
    ("engine", "harm", "limit_s", "said"),
    [
        ("hf_tp", kill, 60, "rank 1 was killed by SIGKILL in 'timed'"),
        ("deepspeed", kill, 300, "rank 1 was killed by SIGKILL in 'timed'"),
        ("hf_tp", stop, 20, "did not answer within 20 s in 'timed': rank 0 is in "),
    ],
    ids=["killed", "killed in DeepSpeed's all-reduce", "stopped"],
)
def test_the_case_fails_with_the_ranks_own_error_and_the_next_one_runs(
    session: Session, engine: str, harm: Callable[[int], None], limit_s: int, said: str
) -> None:
    """Killed, or stopped within a collective: the ranks start anew for the next case."""
    if engine == "deepspeed" and not has("deepspeed"):
        pytest.skip("deepspeed is not installed")
    short, long, after = (name.replace("hf_tp", engine) for name in (SHORT, LONG, AFTER))
    session.start(f"--rank-timeout={limit_s}", "--set", f"engines=[{engine}]")
    session.wait_for(f"{short}  ")
    time.sleep(1.5)  # in the middle of a call that takes longer
    harm(session.rank(1))
    assert session.end() == 1
    assert "1 failed, 2 passed" in session.log
    assert f"{long}: " in session.log
    assert said in session.log
    if harm is stop:
        assert "rank 1 is stopped" in session.log
    (history,) = histories(session.folder)
    assert cases_of(history) == [short, after]
    session.check_nothing_is_left()


def test_an_interrupted_session_keeps_what_is_finished(session: Session) -> None:
    """Ctrl-C within a call: the ranks do not hear it, pytest ends them and writes the history."""
    session.start("--rank-timeout=60")
    session.wait_for(f"{SHORT}  ")
    time.sleep(1.5)
    assert session.process is not None
    session.process.send_signal(signal.SIGINT)
    assert session.end() == 2
    (history,) = histories(session.folder)
    assert cases_of(history) == [SHORT]
    session.check_nothing_is_left()


def try_all(project: pytest.Pytester) -> None:
    """Let a project try what is predicted to find no room."""
    conftest = project.path / "conftest.py"
    conftest.write_text(
        conftest.read_text() + "\nfrom fixtures.load import model\nmodel.refused = lambda *_: None\n"
    )


def test_a_rank_without_memory_is_an_outcome_and_the_next_case_runs(
    project: pytest.Pytester, session: Session
) -> None:
    """One rank may have no more address space, the other waits for it in vain."""
    sweep = {"name": "s", "batch_sizes": [1, 256], "input_lengths": [256], "output_lengths": [8]}
    last = {"name": "t", "batch_sizes": [2], "input_lengths": [16], "output_lengths": [8]}
    tiny_suite(project.path, hardware=["2xcpu"], sweeps=[sweep, last], rounds=2, warmup_rounds=0)
    try_all(project)
    session.start("--rank-timeout=30", "-rs")
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
        session.start("-k", "(hf_tp or hf-) and b1", "--rank-timeout=60", MASTER_PORT=str(port))
        session.end()
    assert f"the ranks cannot meet at localhost:{port}: " in session.log
    assert "address already in use" in session.log.lower()
    assert "1 passed" in session.log
    assert "1 error" in session.log
    session.check_nothing_is_left()


def test_a_rank_that_dies_at_its_start_fails_its_cases(project: pytest.Pytester, session: Session) -> None:
    """By its exit code and its last line; a case on one device runs."""
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
    session.start("-k", "(hf_tp or hf-) and b1", "--rank-timeout=60", PYTHONPATH=path)
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
    sweep = {"name": "s", "batch_sizes": [1], "input_lengths": [16], "output_lengths": [8, 800]}
    tiny_suite(project.path, hardware=["2xcpu"], engines=[engine], sweeps=[sweep], warmup_rounds=0)
    session.start("--rank-timeout=60")
    session.wait_for(f"{SHORT.replace('hf_tp', engine)}  ")
    assert session.process is not None
    session.process.kill()
    session.process.wait()
    end = time.monotonic() + 20
    while session.processes() and time.monotonic() < end:
        time.sleep(0.1)
    assert session.processes() == []
    assert segments() <= session.before


def test_in_a_launched_session_a_failed_rank_ends_it_and_what_is_finished_stays(session: Session) -> None:
    """The other rank waits as long as a collective may take; then both know, and the history is written.

    A later one goes on with it: rank 0 reads the journal, and no rank measures what is in it.
    """
    torchrun = (*TORCHRUN, "--nproc_per_node", "2", "--max_restarts", "0", "-m")
    session.start("--rank-timeout=15", command=torchrun)
    session.wait_for(f"{SHORT}  ")
    time.sleep(1.5)
    starve(session.rank(1))
    assert session.end() != 0
    assert "rank 1: " in session.log
    assert "no further case can run" in session.log
    (history,) = histories(session.folder)
    assert cases_of(history) == [SHORT]
    session.start("--rank-timeout=60", "-k", "not out800", "--resume", command=torchrun)
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
    limits = ("--rank-timeout", "10", "--rounds", "1", "-k", "deepspeed and out8")
    tiny_suite(session.folder, hardware=["2xcpu"], engines=["deepspeed"], warmup_rounds=0)
    session.start(*limits, TORCH_EXTENSIONS_DIR=str(operators))
    session.wait_for("did not answer within 10 s in 'load'")
    assert session.end() == 1
    assert (operators / "deepspeed_shm_comm" / "build.ninja").exists()
    assert list(operators.glob("*/lock")) == []
    session.check_nothing_is_left()
