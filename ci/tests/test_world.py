"""Which process of how many, from what a launcher leaves in the environment."""

from __future__ import annotations

import pytest

from fixtures.core.errors import InputError
from fixtures.core.world import World, read_world

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
    ],
    ids=["a shell", "an sbatch script", "a shell that srun started"],
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
