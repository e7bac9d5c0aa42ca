"""Which process of how many, from what a launcher leaves in the environment."""

from __future__ import annotations

import pytest

from ci.tests.conftest import write_suite
from fixtures.core.base.errors import InputError
from fixtures.core.spec.devices.world import World, port_of, read_others, read_world

pytest_plugins = ["pytester"]

TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "node0", "MASTER_PORT": "29400",
}  # fmt: skip
DEEPSPEED = {
    "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip
SRUN = {
    "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_JOB_ID": "70123",
}  # fmt: skip


def test_torchrun_over_two_hosts() -> None:
    """Rank 3 of 4 is the second one of the second host."""
    assert read_world(TORCHRUN) == World(3, 4, 1, 2, "node0", 29400)


def test_the_local_size_is_that_of_the_host() -> None:
    """DeepSpeed compares it with the whole size, to see whether all ranks can share memory."""
    world = read_world(TORCHRUN)
    assert world is not None
    assert (world.environment()["LOCAL_SIZE"], world.environment()["WORLD_SIZE"]) == ("2", "4")


def test_the_deepspeed_launcher_states_the_ranks_of_a_host_as_local_size() -> None:
    """It sets no LOCAL_WORLD_SIZE."""
    assert read_world(DEEPSPEED) == World(1, 2, 1, 2, "127.0.0.1", 29500)


def test_a_slurm_step_on_one_host_needs_no_address() -> None:
    """The port comes of the job's number, so that two jobs on a host do not meet: 20000 + 70123 mod 20000."""
    assert read_world(SRUN) == World(1, 2, 1, 2, "127.0.0.1", 30123)


def test_a_slurm_step_over_hosts_takes_the_address_that_is_given() -> None:
    """Two tasks on each of two hosts, as Slurm writes it."""
    step = {**SRUN, "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
    assert read_world({**step, "MASTER_ADDR": "node0"}) == World(1, 4, 1, 2, "node0", 30123)
    with pytest.raises(InputError, match="MASTER_ADDR is missing"):
        read_world(step)


def test_hosts_with_different_numbers_of_tasks_are_refused() -> None:
    """A local size would be a guess."""
    step = {**SRUN, "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "2,1", "MASTER_ADDR": "node0"}
    with pytest.raises(InputError, match="as many tasks"):
        read_world(step)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"},
        {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0"},
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_TASKS_PER_NODE": "2(x2)"},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": "", "RANK": " ", "MASTER_ADDR": ""},
        {"RANK": "0", "LOCAL_RANK": "0"},
        {"LOCAL_RANK": "-1"},
        {"MASTER_PORT": "tcp://10.0.0.9:29500", "MASTER_ADDR": "10.0.0.9"},
        {"WORLD_SIZE": "1", "MASTER_PORT": "tcp://10.0.0.9:29500"},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {"PMI_SIZE": "1", "PMI_RANK": "0"},
    ],
)
def test_a_plain_start_has_no_world(environ: dict[str, str]) -> None:
    """A Slurm allocation alone has started one process."""
    assert read_world(environ) is None


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
def test_a_world_that_is_stated_by_half_is_refused(missing: str) -> None:
    """The message names what is missing."""
    with pytest.raises(InputError, match=f"{missing} is ''"):
        read_world({name: value for name, value in TORCHRUN.items() if name != missing})


def test_a_world_is_what_torch_and_deepspeed_read() -> None:
    """And is read back as the same."""
    world = read_world(SRUN)
    assert world is not None
    environ = world.environment()
    assert environ["LOCAL_SIZE"] == environ["LOCAL_WORLD_SIZE"] == "2"
    assert read_world(environ) == world


MPIRUN = {
    "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "PMIX_NAMESPACE": "prterun-node0-17@1",
}  # fmt: skip


def test_mpirun_goes_before_the_step_of_slurm_that_it_runs_in() -> None:
    """There Slurm counts mpirun's own helpers, one a host. The port comes of the job, whatever its name."""
    world = read_world({**MPIRUN, **SRUN, "SLURM_JOB_ID": ""})
    assert world is not None
    assert (world.rank, world.size, world.local_rank, world.local_size) == (3, 4, 3, 4)
    assert 20000 <= world.port < 40000
    assert world.port != getattr(read_world({**MPIRUN, "PMIX_NAMESPACE": "prterun-node0-18@1"}), "port", None)
    mpich = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"}
    assert read_world({**mpich, "MASTER_ADDR": "::1"}) == World(1, 2, 0, 1, "::1", 20000)


def test_a_size_alone_leaves_the_place_to_the_step_of_slurm() -> None:
    """As batch scripts export it."""
    assert read_world({**SRUN, "WORLD_SIZE": "2"}) == read_world(SRUN)


ALONE = {"RANK": "0", "WORLD_SIZE": "1"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
        {"LOCAL_RANK": "", "MASTER_PORT": ""},
    ],
)
def test_one_process_alone_is_a_plain_session(more: dict[str, str]) -> None:
    """It needs no address; what is stated must be possible all the same."""
    assert read_others({**ALONE, **more}) is None
    assert read_world({**ALONE, **more}) is not None


@pytest.mark.parametrize("start", [TORCHRUN, ALONE])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MASTER_PORT", "tcp://10.0.0.9:29500"),
        ("MASTER_PORT", "0"),
        ("MASTER_PORT", "65536"),
        ("MASTER_PORT", "-1"),
        ("MASTER_PORT", "29500.0"),
        ("MASTER_ADDR", "tcp://10.0.0.1"),
        ("MASTER_ADDR", "10.0.0.1:29500"),
        ("MASTER_ADDR", "node 0"),
        ("RANK", "4"),
        ("RANK", "-1"),
        ("RANK", "0.0"),
        ("RANK", "\u0661"),
        ("RANK", "9" * 5000),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "four"),
        ("WORLD_SIZE", "1e1"),
        ("LOCAL_RANK", "7"),
        ("LOCAL_RANK", "x"),
        ("LOCAL_WORLD_SIZE", "0"),
        ("LOCAL_WORLD_SIZE", "3"),
        ("LOCAL_WORLD_SIZE", "8"),
    ],
)
def test_a_value_that_cannot_be_is_named(start: dict[str, str], name: str, value: str) -> None:
    """Also in a process that was started alone."""
    with pytest.raises(InputError, match=rf"^{name} is ") as caught:
        read_world({**start, name: value})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ({"SLURM_STEP_NUM_TASKS": "two"}, "SLURM_STEP_NUM_TASKS"),
        ({"SLURM_PROCID": "2"}, "SLURM_PROCID"),
        ({"SLURM_LOCALID": ""}, "SLURM_LOCALID"),
        ({"SLURM_STEP_TASKS_PER_NODE": "many"}, "SLURM_STEP_TASKS_PER_NODE"),
        ({"SLURM_STEP_TASKS_PER_NODE": "0"}, "SLURM_STEP_TASKS_PER_NODE"),
    ],
)
def test_a_step_of_slurm_that_cannot_be_is_named(step: dict[str, str], name: str) -> None:
    """As torch's variables are."""
    with pytest.raises(InputError, match=f"^{name} is "):
        read_world({**SRUN, **step})


def test_numbers_may_have_spaces_around_them() -> None:
    """As torch takes them."""
    assert read_world({name: f" {value} " for name, value in TORCHRUN.items()}) == read_world(TORCHRUN)


def test_a_port_of_kubernetes_is_none() -> None:
    """A service named "master" sets it."""
    assert port_of({"MASTER_PORT": "tcp://10.0.0.9:29500"}) is None
    assert (port_of({"MASTER_PORT": "29500"}), port_of({})) == (29500, None)


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        (
            {**ALONE, "LOCAL_RANK": "0", "MASTER_PORT": "tcp://10.0.0.9:29500"},
            "ERROR: MASTER_PORT is 'tcp://10.0.0.9:29500': set it to a port, a whole number from 1 to 65535, "
            "or unset it",
        ),
        (
            {"WORLD_SIZE": "4"},
            "ERROR: RANK is '' beside WORLD_SIZE=4: a launcher sets RANK, WORLD_SIZE and LOCAL_RANK for each "
            "process; unset them for a process alone",
        ),
        ({"WORLD_SIZE": "1", "MASTER_PORT": "tcp://10.0.0.9:29500"}, None),
        (ALONE, None),
    ],
)
def test_variables_that_cannot_be_end_a_session_with_one_line(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], error: str | None
) -> None:
    """Those of a process alone end none."""
    for name in (*TORCHRUN, "LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    suite = write_suite(project.path, "m")
    result = project.runpytest("benchmarks", "--collect-only", "-q", "--suite", suite)
    if error is None:
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(["*test_generate*"])
    else:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert [line for line in result.errlines if line] == [error]
