"""Sessions that are stopped by force, at any moment: real processes, real signals, real limits."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import ROOT, histories, write_suite
from ci.tests.keep.test_resume import OPTIONS, batches, journals
from fixtures.core.store.journal import read_journal

WAIT_S = 400  # for what is sure to come, on however busy a machine
pytest_plugins = ["pytester"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("starts_warm"),
    pytest.mark.skipif(sys.platform != "linux", reason="signals and limits as on Linux"),
]


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
            [sys.executable, "-m", "pytest", "-p", "no:anyio", *OPTIONS, *more],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT, text=True, preexec_fn=begin,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip


def test_a_full_disk_loses_nothing_that_was_written(faked: pytest.Pytester) -> None:
    """Neither journal nor history goes on; no torn history is left, and what was whole is gone on with."""
    write_suite(faked.path, "m", batch_sizes=list(range(1, 9)))
    command = [sys.executable, "-m", "pytest", *OPTIONS]
    done = subprocess.run(command, cwd=faked.path, capture_output=True, text=True, preexec_fn=limited)
    assert done.returncode == 1
    said = done.stdout
    assert said.count("warning: the journal cannot be written (File too large") == 1
    assert "ERROR: the history cannot be saved by --benchmark-storage" in said
    assert "File too large; raise the limit on the size of files (ulimit -f)" in said
    assert "only some finished cases are in the journal; fix the place, then --resume saves it again" in said
    assert "8 passed" in said
    assert "tokens/s" in said
    assert histories(faked.path) == []
    process = start(faked.path, "--resume")
    assert process.wait(WAIT_S) == 0
    (history,) = histories(faked.path)
    assert batches(history) == list(range(1, 9))
    assert int((faked.path / "log").read_text().split(" of 8 cases are in it")[0].split()[-1]) >= 2


AT_THE_END = """

import resource, signal


def pytest_benchmark_update_json(config):
    from fixtures.session import Session

    {before}
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize(
    ("before", "limit", "code"),
    [
        ("signal.signal(signal.SIGXFSZ, signal.SIG_DFL)", "5000", -signal.SIGXFSZ),
        ("pass", "Session.of(config).journal.file.stat().st_size + 200", 1),
    ],
    ids=["killed", "full disk"],
)
def test_a_history_is_there_as_a_whole_or_not_at_all(
    faked: pytest.Pytester, before: str, limit: str, code: int
) -> None:
    """The system ends the process in the middle of writing it, or the disk is full then: no case is lost."""
    write_suite(faked.path, "m", batch_sizes=[1, 2, 3])
    conftest = faked.path / "conftest.py"
    text = conftest.read_text()
    conftest.write_text(text + AT_THE_END.format(before=before, limit=limit))
    assert start(faked.path).wait(WAIT_S) == code, (faked.path / "log").read_text()
    assert histories(faked.path) == []
    left = [file.stat().st_size for file in (faked.path / ".benchmarks").glob("*/*.part")]
    assert left == ([5000] if code < 0 else [])
    conftest.write_text(text)
    assert start(faked.path, "--resume").wait(WAIT_S) == 0
    assert "3 of 3 cases are in it" in (faked.path / "log").read_text()
    assert batches(histories(faked.path)[0]) == [1, 2, 3]
    assert json.loads((faked.path / "log.json").read_text()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_session_that_is_told_to_end_writes_its_history(faked: pytest.Pytester, number: int) -> None:
    """Exit code 2, with what was finished; going on gives the rest."""
    write_suite(faked.path, "takes_its_time", batch_sizes=list(range(1, 17)), rounds=1, warmup_rounds=0)
    process = start(faked.path)
    wait_for(faked.path, 2)
    process.send_signal(number)
    assert process.wait(WAIT_S) == 2, (faked.path / "log").read_text()
    done = batches(histories(faked.path)[0])
    assert 2 <= len(done) < 16
    assert start(faked.path, "--resume").wait(WAIT_S) == 0
    assert batches(histories(faked.path)[1]) == list(range(1, 17))
    log = json.loads((faked.path / "log.json").read_text())
    assert [entry[1] for entry in log if entry[0] == "prepare"] == list(range(len(done) + 1, 17))


def wait_for(folder: Path, cases: int) -> None:
    """Until so many cases are in the journal."""
    end = time.monotonic() + WAIT_S
    while not journals(folder) or journals(folder)[-1].read_text().count('\n{"case"') < cases:
        assert time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.01)


BEGUN = """

import os


class Log(list):
    def append(self, event):
        super().append(event)
        if event[0] == "prepare":
            os.write(self.file, f"{event[1]}\\n".encode())


FakeEngine.log = Log()
FakeEngine.log.file = os.open("begun", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
"""

FORKS = """
import gc, os, signal, sys
import pytest, pytest_benchmark.plugin, xdist.plugin
import ci.tests.fake_engine, fixtures.plugin
from pathlib import Path
from fixtures.core.base.yamlfile import read_yaml
from fixtures.core.spec.checks import check_architecture
from fixtures.core.spec.suite import read_suite

suite = read_yaml(Path("suite.yaml"), "suite.yaml")
read_suite("suite.yaml", suite, check_architecture)  # it reads the source of transformers
gc.collect()
gc.freeze()
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        sys.exit(pytest.main(line.split()))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Sessions:
    """Starts sessions in processes of their own, one at a time, which need not import all anew each time."""

    def __init__(self, folder: Path) -> None:
        (folder / "forks.py").write_text(FORKS)
        self._server = subprocess.Popen(
            [sys.executable, "forks.py"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def start(self, *more: str) -> int:
        """The process of a session."""
        assert self._server.stdin is not None
        print("-p", "no:anyio", *OPTIONS, *more, file=self._server.stdin, flush=True)
        return self._answer()

    def wait(self) -> int:
        """Its exit code; less than 0 for a signal."""
        return self._answer()

    def _answer(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())

    def close(self) -> None:
        """No more of them."""
        self._server.communicate()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_process_that_is_killed_at_any_moment_loses_one_case(faked: pytest.Pytester, seed: int) -> None:
    """20 times each, from before the first case on: the journals together are an undisturbed run.

    Ctrl-C and SIGTERM come between. Of the cases that a session has begun all but the last are in the
    journal, and nothing that is in it is measured again.
    """
    rng = random.Random(seed)
    sizes = list(range(1, 9))
    write_suite(faked.path, "takes_its_time", batch_sizes=sizes, rounds=1, warmup_rounds=0)
    conftest, begun_file = faked.path / "conftest.py", faked.path / "begun"
    conftest.write_text(conftest.read_text() + BEGUN)
    sessions = Sessions(faked.path)
    sessions.start()
    assert sessions.wait() == 0
    (whole,) = histories(faked.path)
    assert read_journal(journals(faked.path)[-1]).complete
    kills = begun_ones = 0
    while kills < 20:
        before, done = len(found(faked.path)), len(to_go_on_with(faked.path))
        begun_file.unlink(missing_ok=True)
        pid = sessions.start("--resume")
        left = len(sizes) - done
        more = rng.randint(min(left, rng.random() > 0.15), left)  # cases that this session may finish
        while len(found(faked.path)) < before + more and Path(f"/proc/{pid}").exists():
            time.sleep(0.02)
        time.sleep(rng.random() * (0.15 if more else 0.6))  # a case takes 0.1 s, a start longer
        number = rng.choices([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], [8, 1, 1])[0]
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        kills += sessions.wait() == -signal.SIGKILL
        begun = begun_file.read_text().split() if begun_file.exists() else []
        begun_ones += bool(begun)
        kept = [re.findall(r"-b(\d+)-", case)[0] for case in found(faked.path)[before:]]
        assert {*begun[:-1]} <= {*kept}, (seed, kills, number, begun, kept)
        has_all = len(to_go_on_with(faked.path)) == len(sizes)  # and may be killed in its end again and again
        if rng.random() < (0.5 if has_all else 0.1):  # now and then a run is let come to its end
            to_its_end(sessions, whole, faked.path)
    to_its_end(sessions, whole, faked.path)
    sessions.close()
    assert begun_ones >= 8, "most kills came before the first case"
    for journal in journals(faked.path):
        cases = cases_in(journal)
        assert len(cases) == len(set(cases)) <= len(sizes), (seed, cases)


def to_its_end(sessions: Sessions, whole: dict[str, Any], folder: Path) -> None:
    """The run is gone on with; its history is that of a run that nobody disturbed."""
    sessions.start("--resume")
    assert sessions.wait() == 0, (folder / "log").read_text()
    same_run(whole, histories(folder)[-1])
    assert read_journal(journals(folder)[-1]).complete


def found(folder: Path) -> list[str]:
    """The cases of all journals, the oldest first."""
    return [case for journal in journals(folder) for case in cases_in(journal)]


def cases_in(journal: Path) -> list[str]:
    """Those that it has whole."""
    lines = map(read, journal.read_bytes().split(b"\n"))
    return [one["case"] for one in lines if one and "case" in one]


def to_go_on_with(folder: Path) -> list[str]:
    """The cases that the newest run has already, if it did not end."""
    newest = journals(folder)[-1]
    return [] if read_journal(newest).complete else cases_in(newest)


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
