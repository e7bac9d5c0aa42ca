"""Slurm as a place, with the real daemons on loopback: what is lost, and what is not.

`ci/test ci/tests/fleet/slurm_loopback.py` runs these tests; `ci/test --all` does not: they take minutes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ci.setup import slurm
from ci.tests.conftest import ROOT, histories, write_suite
from ci.tests.engines.test_ranks import environment, tiny_suite
from ci.tests.fleet.test_largest_there import WAITS as SLOW_TRIAL
from ci.tests.fleet.test_largest_there import asks_for_max
from fixtures.fleet.on_slurm import SlurmPlace, open_slurm
from fixtures.fleet.place import Ended, Shard, Waiting

pytest_plugins = ["pytester"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(slurm.missing()), reason="no Slurm; as root: python -m ci.setup.slurm install has it"
    ),
]

# The second call of a batch of two leaves a sign that it is inside, and waits for another.
WAITS = """
from pathlib import Path
from ci.tests.fake_engine import ENDS


def _waits():
    import time

    Path("inside").write_text("")
    while not Path("go").exists():
        time.sleep(0.05)


ENDS["waits"] = _waits
"""
FIRST, SECOND = "waits-1xcpu-hf-b1-in4-out2", "waits-1xcpu-hf-b2-in4-out2"


def wait_for(what: Callable[[], Any], limit_s: float = 60.0) -> Any:
    """What it returns, as soon as that is true."""
    deadline = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.1)
    return found


@contextmanager
def running(folder: Path, nodes: Sequence[str]) -> Iterator[dict[str, str]]:
    """A cluster while the body runs; the environment variables that programs find it by."""
    configuration = slurm.up(folder, nodes)
    try:
        yield {"SLURM_CONF": str(configuration), "PATH": slurm.path()}
    finally:
        slurm.down(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Two nodes; the environment of those who use them."""
    with running(tmp_path_factory.mktemp("slurm"), ["cpu", "cpu"]) as environ:
        yield environ


class Runs:
    """Sessions of one suite of two cases on the cluster, and Slurm's programs."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder, self.started = folder, list[subprocess.Popen[str]]()
        self.environ = {**environment(**environ), "PATH": environ["PATH"]}

    def start(self, *more: str, on: str = "slurm") -> subprocess.Popen[str]:
        """Start a session."""
        command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "--suite", "suite.yaml"]
        self.started.append(
            subprocess.Popen(
                [*command, "--on", on, *more],
                cwd=self.folder, env=self.environ, text=True, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
        return self.started[-1]

    def start_and_wait(self) -> subprocess.Popen[str]:
        """Start a session, and wait until its second case is being measured."""
        session = self.start()
        self.wait_inside()
        return session

    def wait_inside(self) -> None:
        """Wait until the second case is being measured, by a process that was not in it before."""
        wait_for((self.folder / "inside").exists)
        (self.folder / "inside").unlink()

    def slurm(self, *command: str) -> str:
        """The output of one of Slurm's programs."""
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def job(self) -> tuple[str, str]:
        """The number and the node of the job that runs."""
        number, node = self.slurm("squeue", "-h", "-t", "running", "-o", "%i %N").split()
        return number, node

    def go(self) -> None:
        """Let the second case end."""
        (self.folder / "go").write_text("")

    def end(self, session: subprocess.Popen[str]) -> tuple[str, dict[str, Any]]:
        """What a session wrote that passes, and its records by id; nothing of it is left."""
        told, _ = session.communicate(timeout=120)
        assert session.returncode == 0, told
        assert not list((self.folder / ".benchmarks" / "fleet").glob("*-*"))
        wait_for(lambda: not self.slurm("squeue", "-h"))
        benchmarks = histories(self.folder)[-1]["benchmarks"]
        assert [one["param"] for one in benchmarks] == [FIRST, SECOND]
        return told, {one["param"]: one["extra_info"]["placement"] for one in benchmarks}

    def lines(self) -> list[dict[str, Any]]:
        """The driver's journal."""
        (journal,) = (self.folder / ".benchmarks" / "journal").glob("*.jsonl")
        return [json.loads(line) for line in journal.read_text().splitlines()]


@pytest.fixture
def runs(faked: pytest.Pytester, cluster: dict[str, str]) -> Iterator[Runs]:
    """A suite whose second case waits; what a test leaves running is ended."""
    write_suite(faked.path, "waits", batch_sizes=[1, 2])
    conftest = faked.path / "conftest.py"
    conftest.write_text(conftest.read_text() + WAITS)
    for name in ("fixtures", "ci"):
        (faked.path / name).symlink_to(ROOT / name)
    made = Runs(faked.path, cluster)
    yield made
    for session in made.started:
        if session.poll() is None:
            os.killpg(session.pid, signal.SIGKILL)
            session.wait()
    made.slurm("scancel", "--user=root" if os.geteuid() == 0 else f"--user={os.environ['USER']}")
    wait_for(lambda: not made.slurm("squeue", "-h"))


def test_a_requeued_job_resumes_from_its_own_journal(runs: Runs) -> None:
    """The finished case is not measured again, its line that it was skipped is no result, no try counts."""
    session = runs.start_and_wait()
    job, node = runs.job()
    runs.slurm("scontrol", "requeue", job)
    runs.wait_inside()
    runs.go()
    told, placements = runs.end(session)
    assert "ended early" not in told
    assert [placements[case]["tries"] for case in (FIRST, SECOND)] == [1, 1]
    assert [placements[case]["node"] for case in (FIRST, SECOND)] == [node, node]
    assert [line["case"] for line in runs.lines() if "case" in line] == [FIRST, SECOND]


def test_a_job_that_somebody_cancels_costs_the_case_in_flight(runs: Runs) -> None:
    """It is measured again by another job, and its record says why."""
    session = runs.start_and_wait()
    job, node = runs.job()
    runs.slurm("scancel", job)
    runs.wait_inside()
    runs.go()
    told, placements = runs.end(session)
    assert f"on {node} ended early: Slurm: cancelled; 1 cases are left" in told
    assert placements[FIRST]["tries"] == 1
    assert placements[SECOND]["failed_tries"] == [f"{node}: Slurm: cancelled"]
    assert placements[SECOND]["tries"] == 2


def test_a_node_that_goes_down_costs_the_case_in_flight(runs: Runs) -> None:
    """Slurm would have the job wait for it; the other node measures the case."""
    session = runs.start_and_wait()
    _, node = runs.job()
    other = {"n1": "n2", "n2": "n1"}[node]
    runs.slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        runs.wait_inside()
        runs.go()
        told, placements = runs.end(session)
    finally:
        runs.slurm("scontrol", "update", f"nodename={node}", "state=resume")
        wait_for(lambda: set(runs.slurm("sinfo", "-h", "-N", "-o", "%T").split()) == {"idle"})
    assert f"warning: {node} is left out from here on: it is not up any more" in told
    assert (placements[FIRST]["node"], placements[SECOND]["node"]) == (node, other)
    assert placements[SECOND]["failed_tries"] == [f"{node}: Slurm: {node} is down"]


@pytest.mark.parametrize("still_runs", [True, False])
def test_a_driver_that_is_killed_is_resumed(runs: Runs, still_runs: bool) -> None:
    """The second one takes over the job that still runs, or what it left; no case is measured twice."""
    first = runs.start_and_wait()
    _, node = runs.job()
    wait_for(lambda: any("benchmark" in line for line in runs.lines()))
    first.kill()
    first.wait()
    if not still_runs:
        runs.go()
        wait_for(lambda: not runs.slurm("squeue", "-h", "-t", "running,completing"))
    session = runs.start("--resume")
    wait_for(lambda: sum("journal" in line for line in runs.lines()) > 2)  # what the job sent, once more
    runs.go()
    told, placements = runs.end(session)
    assert f"of the run that is resumed is still there, on {node}" in told
    assert "resumed from" in told
    assert "left out" not in told
    assert (placements[SECOND]["node"], placements[SECOND]["tries"]) == (node, 1)
    assert sum("benchmark" in line for line in runs.lines()) == 2


def test_a_job_waits_with_slurms_own_reason(
    runs: Runs, cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed partition, a busy node; what is cancelled goes at once."""
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    place = open_slurm(None, None, runs.folder)
    assert [(node.name, node.machine.cores) for node in place.nodes()] == [("n1", 2), ("n2", 2)]

    def shard(number: int) -> str:
        return place.submit(Shard(f"run-{number}", (FIRST,), 1, ("n1",), ("--suite", "suite.yaml")))

    runs.slurm("scontrol", "update", "partition=main", "state=down")
    closed = shard(1)
    assert wait_for(lambda: _reason(place, closed)) == "PartitionDown"
    place.cancel(closed)
    runs.slurm("scontrol", "update", "partition=main", "state=up")
    runs.slurm("sbatch", "--exclusive", "--nodelist=n1", "--wrap", "sleep 60")
    wait_for(lambda: runs.slurm("squeue", "-h", "-t", "running"))
    first, second = shard(2), shard(3)
    wait_for(lambda: _reason(place, first) == "Resources")
    assert _reason(place, second)  # of 22.05 ReqNodeNotAvail, though n1 is only busy
    began_s = time.monotonic()
    place.cancel(first)
    place.cancel(second)
    assert time.monotonic() - began_s < 1.0
    assert place.find("run") == {}
    place.close()
    assert not any(Path(handle).exists() for handle in (closed, first, second))


def _reason(place: SlurmPlace, handle: str) -> str:
    state = place.state(handle)
    assert isinstance(state, Waiting), state
    return state.reason


def test_what_never_starts_is_over(
    runs: Runs, cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time limit above the partition's; a job without its number is found by name, and cancelled."""
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    place = open_slurm("time=90", None, runs.folder)
    place.nodes()
    runs.slurm("scontrol", "update", "partition=main", "maxtime=60")
    try:
        handle = place.submit(Shard("run-1", (FIRST,), 1, ("n1",), ("--suite", "suite.yaml")))
        ended = wait_for(lambda: isinstance(state := place.state(handle), Ended) and state)
        assert ended == Ended(
            None, None, "Slurm does not start it: PartitionTimeLimit; set time=MINUTES in the address"
        )
    finally:
        runs.slurm("scontrol", "update", "partition=main", "maxtime=infinite")
    (Path(handle) / "job.txt").unlink()  # as if the driver had been killed while it submitted
    assert place.find("run") == {}
    wait_for(lambda: not runs.slurm("squeue", "-h"))
    assert not Path(handle).exists()


def test_a_job_searches_for_the_largest_batch(faked: pytest.Pytester, cluster: dict[str, str]) -> None:
    """20 sequences fit, not the 22 that are predicted; the driver is killed meanwhile, from within a job."""
    asks_for_max(faked.path)
    conftest = faked.path / "conftest.py"
    conftest.write_text(conftest.read_text() + SLOW_TRIAL)
    runs = Runs(faked.path, {**cluster, "SLURM_JOB_ID": "1", "SLURM_NNODES": "1"})
    killed = runs.start()
    wait_for((faked.path / "begun").exists)
    killed.kill()
    killed.wait()
    (faked.path / "go").touch()
    told, _ = runs.start("--resume").communicate(timeout=120)
    assert ", is taken over" in told
    assert (faked.path / "begun").read_text() == "once "
    assert "largest batch of m-1xcpu-hf input 4 output 3: 20 on n1" in told
    (history,) = histories(faked.path)
    ids = [one["param"] for one in history["benchmarks"]]
    assert ids == [f"m-1xcpu-hf-b20-in4-out{output}" for output in (2, 3)]
    assert [one.name for one in (faked.path / ".benchmarks" / "fleet").iterdir()] == ["nodes"]


def test_ranks_on_two_nodes_measure_one_case(
    project: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each node has one core: a case of two ranks takes both, and its record names them."""
    tiny_suite(project.path, hardware=["2xcpu"])
    for name in ("fixtures", "ci"):
        (project.path / name).symlink_to(ROOT / name)
    with running(tmp_path_factory.mktemp("two"), ["cpu:1", "cpu:1"]) as environ:
        runs = Runs(project.path, environ)
        alone = runs.start()
        told, _ = alone.communicate(timeout=120)
        assert alone.returncode == 4
        assert (
            "--on slurm: no node has 2xcpu, and other cases this suite does not have; there is 1xcpu" in told
        )
        session = runs.start(on="slurm://hosts=2")
        told, _ = session.communicate(timeout=240)
    assert session.returncode == 0, told
    (history,) = histories(project.path)
    assert len(history["benchmarks"]) == 2
    for benchmark in history["benchmarks"]:
        record = benchmark["extra_info"]
        assert record["placement"]["node"] == "n1, n2"
        assert len(record["threads_by_rank"]) == 2
        assert record["shards"]["not_split"] == []
        assert "hosts: its ranks were on n1, n2" in record["marks"]
