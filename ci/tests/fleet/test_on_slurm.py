"""Slurm as a place, as far as no daemon is needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.core.base.errors import InputError
from fixtures.fleet import on_slurm, slurm_job
from fixtures.fleet import shard as on_node
from fixtures.fleet.on_slurm import SlurmPlace
from fixtures.fleet.place import Ended, Running, Shard, State, Waiting


def test_settings_are_named_and_checked() -> None:
    """An address is settings; a wrong one is one line."""
    assert on_slurm.read_settings("partition=gpu,time=60") == {"partition": "gpu", "time": "60"}
    assert on_slurm.read_settings(None) == {}
    for wrong in ("partion=gpu", "time=soon", "partition=", "hosts=0"):
        with pytest.raises(InputError, match="--on slurm"):
            on_slurm.read_settings(wrong)


def test_a_job_gets_three_times_what_is_expected() -> None:
    """And ten minutes: 3 x 60 s + 600 s are 13 minutes; the shard's own limit is shorter."""
    shard = Shard("r-1", ("a",), 1, ("n1",), expected_s=60.0)
    assert slurm_job.minutes(shard) == 13
    assert slurm_job.minutes(Shard("r-1", ("a",), 1, ("n1",), expected_s=60.0, limit_s=120.0)) == 2


def test_without_slurm_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where sbatch is not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sbatch is not installed"):
        on_slurm.open_slurm(None, None, tmp_path)


class Programs:
    """Slurm's programs, which answer as they are told: `says` has a program's output, or that it fails."""

    def __init__(self) -> None:
        self.says: dict[str, str | InputError] = {"sinfo": "n1|idle|2|(null)|10.0.0.1\n", "squeue": ""}
        self.ran: list[tuple[str, ...]] = []

    def __call__(self, command: Sequence[str], _limit_s: float = 0.0) -> str:
        self.ran.append(tuple(command))
        on = next((word for word in command if word.startswith("--nodelist=")), "")
        said = self.says.get(f"{command[0]} {on}", self.says.get(command[0], ""))
        if isinstance(said, InputError):
            raise said
        return said


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """In the place of Slurm's; what it lists counts for no time."""
    programs = Programs()
    monkeypatch.setattr(on_slurm, "_run", programs)
    monkeypatch.setattr(on_slurm, "_LISTED_S", -1.0)
    return programs


def shard_in(folder: Path, name: str = "run-1", job: str = "7 n1") -> str:
    """The folder of a shard that was submitted; its handle."""
    made = folder / ".benchmarks" / "fleet" / name
    made.mkdir(parents=True)
    (made / "job.txt").write_text(job)
    return str(made)


@pytest.mark.parametrize(
    ("listed", "sinfo", "state"),
    [
        ("7|PENDING|Resources", "idle", Waiting("Resources")),
        ("7|PENDING|None", "idle", Waiting("pending")),
        ("7|RUNNING|None", "allocated", Running("n1")),
        ("7|COMPLETING|None", "idle", Running("n1")),
        ("7|CANCELLED|None", "idle", Ended(None, "n1", "Slurm: cancelled")),
        ("7|OUT_OF_MEMORY|None", "idle", Ended(None, "n1", "Slurm: out of memory")),
        ("8|RUNNING|None", "idle", Ended(None, "n1", "Slurm: the job is gone")),
        ("7|PENDING|ReqNodeNotAvail, UnavailableNodes:n1", "allocated",
         Waiting("ReqNodeNotAvail, UnavailableNodes:n1")),
        ("7|PENDING|ReqNodeNotAvail, UnavailableNodes:n1", "down", Ended(None, None, "Slurm: n1 is down")),
        ("7|PENDING|ReqNodeNotAvail, UnavailableNodes:n1", "idle*", Ended(None, None, "Slurm: n1 is idle*")),
        ("7|PENDING|launch failed requeued held", "idle",
         Ended(None, None, "Slurm does not start it: launch failed requeued held")),
        ("7|PENDING|PartitionTimeLimit", "idle",
         Ended(None, None, "Slurm does not start it: PartitionTimeLimit; set time=MINUTES in the address")),
    ],
)  # fmt: skip
def test_a_job_is_where_slurm_says(
    slurm: Programs, tmp_path: Path, listed: str, sinfo: str, state: State
) -> None:
    """Only what never comes by itself is over while it waits."""
    slurm.says |= {"squeue": f"{listed}\n", "sinfo": f"n1|{sinfo}|2|(null)|10.0.0.1\n"}
    assert SlurmPlace({}, tmp_path).state(shard_in(tmp_path)) == state


def test_a_slurm_that_is_silent_for_minutes_ends_no_shard(
    slurm: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its daemon is restarted: what it said last counts, for 300 s."""
    now_s = [1000.0]
    monkeypatch.setattr(on_slurm, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    place, handle = SlurmPlace({}, tmp_path), shard_in(tmp_path)
    slurm.says["squeue"] = "7|RUNNING|None\n"
    assert place.state(handle) == Running("n1")
    slurm.says["squeue"] = InputError("--on slurm: squeue: does not answer")
    now_s[0] += 299
    assert place.state(handle) == Running("n1")
    now_s[0] += 2
    with pytest.raises(InputError, match="does not answer"):
        place.state(handle)


def test_a_cancelled_job_is_waited_for_by_nobody(slurm: Programs, tmp_path: Path) -> None:
    """Its folder goes when it is over, and no other driver adopts it; one that ends by itself is let end."""
    place, handle = SlurmPlace({}, tmp_path), shard_in(tmp_path)
    slurm.says["squeue"] = "7|RUNNING|None\n9|COMPLETING|None\n"
    place.cancel(handle)
    assert ("scancel", "7") in slurm.ran
    assert Path(handle).exists()
    assert place.find("run") == {}
    assert Path(handle).exists()
    ending = Path(shard_in(tmp_path, "run-2", "9 n1"))
    (ending / "code").write_text("0")
    place.cancel(str(ending))
    assert ("scancel", "9") not in slurm.ran
    slurm.says["squeue"] = "7|CANCELLED|None\n9|COMPLETED|None\n"
    place.close()
    assert not Path(handle).exists()
    assert not ending.exists()


def test_a_shard_without_its_jobs_number_is_cancelled_by_name(slurm: Programs, tmp_path: Path) -> None:
    """The driver was killed while it submitted it."""
    handle, half = shard_in(tmp_path), Path(shard_in(tmp_path, "run-2", ""))
    assert SlurmPlace({}, tmp_path).find("run") == {"run-1": handle}
    assert slurm.ran[-1][0] == "scancel"
    assert slurm.ran[-1][-1] == "--name=run-2"
    assert not half.exists()


def test_a_node_that_a_shard_holds_is_as_it_was_last_probed(slurm: Programs, tmp_path: Path) -> None:
    """No probe could start there before the shard is over; a node without a shard is probed anew."""
    slurm.says["srun"] = json.dumps(on_node.probe())
    (first,) = SlurmPlace({}, tmp_path).nodes()
    assert "--cpus-per-task=2" in slurm.ran[-1]  # else it sees one core where Slurm binds tasks
    shard_in(tmp_path)
    slurm.says |= {"srun": InputError("Unable to allocate resources"), "squeue": "7|RUNNING|None\n"}
    (again,) = SlurmPlace({}, tmp_path).nodes()
    assert again == first
    slurm.says["squeue"] = "7|COMPLETED|None\n"
    with pytest.raises(InputError, match="n1 was not probed: Unable to allocate"):
        SlurmPlace({}, tmp_path).nodes()


def test_a_node_that_cannot_be_probed_is_left_out_once(slurm: Programs, tmp_path: Path) -> None:
    """A probe waits a minute for a busy node: the next looks, while shards run, do not."""
    slurm.says |= {
        "sinfo": "n1|idle|2|(null)|10.0.0.1\nn2|mixed|2|(null)|10.0.0.2\n",
        "srun": json.dumps(on_node.probe()),
        "srun --nodelist=n2": InputError("Unable to allocate resources"),
    }
    place = SlurmPlace({}, tmp_path)
    for _ in range(3):
        assert [node.name for node in place.nodes()] == ["n1"]
    assert place.unfit == {"n2": "n2 was not probed: Unable to allocate resources"}
    assert [program for program, *_ in slurm.ran].count("srun") == 2


def submitted(monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[str]], dict[str, Any]]:
    """The commands of jobs to come, and what is asked for them; submitit does not run."""
    sent: list[list[str]] = []
    asked: dict[str, Any] = {}

    def submit(run: Any) -> Any:
        sent.append(run.command)
        return SimpleNamespace(job_id="7")

    executor = SimpleNamespace(update_parameters=asked.update, submit=submit)
    monkeypatch.setattr("submitit.SlurmExecutor", lambda **_: executor)
    return sent, asked


def test_a_user_says_how_long_a_node_may_be_busy(
    slurm: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour, or else what the user says, which comes last."""
    sent, _ = submitted(monkeypatch)
    place = SlurmPlace({}, tmp_path)
    place.submit(Shard("run-1", ("a",), 1, ("n1",)))
    place.submit(Shard("run-2", ("a",), 1, ("n1",), ("--wait-device", "5")))
    waits = [
        [command[i + 1] for i, word in enumerate(command) if word == "--wait-device"] for command in sent
    ]
    assert waits == [["3600"], ["3600", "5"]]


def test_ranks_over_two_nodes_are_torchs_launcher(
    slurm: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the ranks on each, which meet at the first node's address."""
    slurm.says["sinfo"] = "n1|idle|2|(null)|10.0.0.1\nn2|idle|2|(null)|10.0.0.2\n"
    slurm.says["srun"] = json.dumps(on_node.probe())
    sent, asked = submitted(monkeypatch)
    place = SlurmPlace({"hosts": "2"}, tmp_path)
    assert place.hosts == 2
    place.nodes()
    handle = place.submit(Shard("run-1", ("a",), 4, ("n2", "n1")))
    (command,) = sent
    assert {"--nnodes=2", "--nproc-per-node=2", "--master-addr=10.0.0.2"} <= set(command)
    assert command[6] == "n2 n1"
    assert (asked["nodelist"], asked["nodes"], asked["ntasks_per_node"]) == ("n2,n1", 2, 1)
    slurm.says["squeue"] = "7|RUNNING|None\n"
    assert place.state(handle) == Running("n2, n1")
