"""Slurm as a place, as far as no daemon is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    asked = slurm_job.parameters(shard, {}, None, "PATH", Path("root"))
    assert (asked["exclusive"], asked["mem"]) == (True, "0")  # a node alone, with all of its memory
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
        ("7|REQUEUE_HOLD|JobHeldUser", "idle", Waiting("JobHeldUser")),
        ("7|LAUNCH_FAILED|None", "idle", Ended(None, "n1", "Slurm: launch failed")),
        ("7|PENDING|ReqNodeNotAvail, Reserved for maintenance", "planned",
         Waiting("ReqNodeNotAvail, Reserved for maintenance")),
        ("7|PENDING|QOSMaxGRESPerJob", "idle",
         Ended(None, None, "Slurm does not start it: QOSMaxGRESPerJob")),
        ("7|PENDING|QOSMaxWallDurationPerJobLimit", "idle",
         Ended(None, None, "Slurm does not start it: QOSMaxWallDurationPerJobLimit; "
               "set time=MINUTES in the address")),
        ("7|PENDING|QOSMaxJobsPerUserLimit", "idle", Waiting("QOSMaxJobsPerUserLimit")),
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


def test_a_file_that_nfs_has_not_seen_yet_is_looked_for(
    slurm: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is over, and its exit code comes to light when its folder is listed."""
    handle, listing = shard_in(tmp_path), Path.iterdir
    slurm.says["squeue"] = "7|COMPLETED|None\n"

    def lists(folder: Path) -> Iterator[Path]:
        (folder / "code").write_text("0")
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", lists)
    assert SlurmPlace({}, tmp_path).state(handle) == Ended(0, "n1", "")


def test_a_nodes_greeting_is_no_answer(slurm: Programs, tmp_path: Path) -> None:
    """A prolog may print one before it, or in its place."""
    slurm.says["srun"] = f"Welcome to n1\n{json.dumps(on_node.probe())}\n"
    assert [node.name for node in SlurmPlace({}, tmp_path).nodes()] == ["n1"]
    slurm.says["srun"] = "Welcome to n1\n"
    with pytest.raises(InputError, match="n1 was not probed: its probe prints 'Welcome to n1' in place of"):
        SlurmPlace({}, tmp_path).nodes()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo no torch >&2; echo srun: error: n1: task 0: Exited with exit code 1 >&2; exit 1", "no torch"),
        ("echo srun: error: n1: task 0: Exited with exit code 1 >&2; exit 1",
         "srun: error: n1: task 0: Exited with exit code 1"),
        ("printf '\\377\\033[2J\\n' >&2; exit 2", "\ufffd\\x1b[2J"),
        ("exit 7", "exit code 7"),
    ],
)  # fmt: skip
def test_a_program_that_fails_says_why(script: str, told: str) -> None:
    """Its last line that is a reason, whatever bytes it has."""
    with pytest.raises(InputError) as error:
        on_slurm._run(["sh", "-c", script])
    assert str(error.value) == f"--on slurm: {told}"


def test_a_driver_in_a_job_asks_from_outside_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else srun would look for each node in the driver's own job."""
    for name in ("SLURM_CONF", "SLURM_PARTITION"):
        monkeypatch.setenv(name, "kept")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    asked = ["sh", "-c", "env | grep ^SLURM_ | sort"]
    assert on_slurm._run(asked) == "SLURM_CONF=kept\nSLURM_PARTITION=kept\n"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert on_slurm._run(asked) == "SLURM_CONF=kept\n"


GPU_TYPES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_.\-]{0,12}", fullmatch=True)


@settings(deadline=None, derandomize=True)
@given(
    kind=st.none() | GPU_TYPES,
    count=st.none() | st.integers(0, 64),
    sockets=st.sampled_from(["", "(S:0)", "(S:0-1)", "(S:0,3)", "(IDX:0-3)"]),
    beside=st.sampled_from(["", "mps:400", "shard:a100:16", "craynetwork:4", "fast:no_consume:4G"]),
    is_tres=st.booleans(),
    is_first=st.booleans(),
)
def test_gpus_of_a_node_are_read_from_what_slurm_lists(
    kind: str | None, count: int | None, sockets: str, beside: str, is_tres: bool, is_first: bool
) -> None:
    """With or without a type, a number, sockets, other resources beside them; also as TRES writes it."""
    asked = "gpu" if kind is None else f"gpu:{kind}"
    listed = f"gres/{asked}" if is_tres else asked
    listed += "" if count is None else f"{'=' if is_tres else ':'}{count}"
    words = [one for one in (listed + sockets, beside) if one]
    assert on_slurm._gpus(",".join(words if is_first else words[::-1])) == (
        asked,
        1 if count is None else count,
    )


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=12))
def test_other_lists_of_resources_have_no_gpu(text: str) -> None:
    """Nor do they fail."""
    kind, count = on_slurm._gpus(text)
    assert kind == "" or (kind.startswith("gpu") and count >= 0)
    assert int(on_slurm._cores(text)) >= 0


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ("n1|idle|2K|(null)|10.0.0.1", None),
        ("Node-7.Example.org|PLANNED|2+|(null)|Node-7.Example.org\nn2|down*|2|(null)|x", None),
        ("n1|drained|2|(null)|10.0.0.1", r"no node is up \(n1 is drained\)"),
        ("slurm_load_partitions: a new format", r"no node is up \(the partition has none\)"),
        ("", r"no node is up \(the partition has none\)"),
    ],
)
def test_what_sinfo_lists_is_nodes_or_one_line(
    slurm: Programs, tmp_path: Path, listed: str, told: str | None
) -> None:
    """Whatever its version prints."""
    slurm.says |= {"sinfo": f"{listed}\n", "srun": json.dumps(on_node.probe())}
    place = SlurmPlace({}, tmp_path)
    if told is None:
        (node,) = place.nodes()
        assert node.name == listed.partition("|")[0]
        assert f"--nodelist={node.name}" in slurm.ran[-1]
        assert f"--cpus-per-task={2048 if 'K' in listed else 2}" in slurm.ran[-1]
    else:
        with pytest.raises(InputError, match=told):
            place.nodes()


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
