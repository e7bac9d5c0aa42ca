"""What can still be had: by a container's limit, and before a model is built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fixtures.engines import memory
from fixtures.engines.memory import free_memory_bytes, require_room
from fixtures.engines.protocol import OutOfMemory

CPU = torch.device("cpu")


def group(folder: Path, limit: str) -> Path:
    """A container's files, 700 bytes held, 200 of them files that the kernel can drop."""
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text("700\n")
    (folder / "memory.stat").write_text("active_file 5\ninactive_file 200\n")
    return folder


def test_a_container_may_take_its_limit_less_what_it_holds(tmp_path: Path) -> None:
    """1000 - (700 - 200); over its limit nothing, and without one it says nothing."""
    assert memory._free_in_group(group(tmp_path, "1000")) == 500
    assert memory._free_in_group(group(tmp_path, "100")) == 0
    assert memory._free_in_group(group(tmp_path, "max")) is None
    assert memory._free_in_group(tmp_path / "none") is None


def test_the_least_room_of_all_groups_above_counts(tmp_path: Path) -> None:
    """500 bytes in a job's group, 1,000 in that of its step; a group that is not there says nothing."""
    step = tmp_path / "sys/fs/cgroup/job/step"
    step.mkdir(parents=True)
    group(step, "1500")
    assert memory._free_in_groups(tmp_path) is None
    own = tmp_path / "proc/self/cgroup"
    own.parent.mkdir(parents=True)
    own.write_text("0::/job/step\n")
    assert memory._free_in_groups(tmp_path) == 1000
    group(step.parent, "1000")
    assert memory._free_in_groups(tmp_path) == 500
    own.write_text("0::/elsewhere\n")
    assert memory._free_in_groups(tmp_path) is None


def test_the_least_of_host_container_and_address_space_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's and the container's are shared by the processes there."""
    host = free_memory_bytes(CPU)
    assert host is not None
    assert host > 10**8
    monkeypatch.setattr(memory, "_free_in_groups", lambda: 1000)
    assert free_memory_bytes(CPU) == 1000
    assert free_memory_bytes(CPU, processes=4) == 250


def test_a_model_that_finds_no_room_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 bytes in fp32 where 90 % of that are free, and one byte less; tied weights count once."""
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(25, 40, bias=False), torch.nn.Linear(25, 40, bias=False))
    model[1].weight = model[0].weight
    free = 3600
    monkeypatch.setattr(memory, "free_memory_bytes", lambda _, processes: free // processes)
    require_room(model, CPU)
    require_room(model, CPU, shares=2, processes=2)
    with pytest.raises(OutOfMemory, match=r"not tried, the weights are 0\.00 GB, 0\.00 are free"):
        require_room(model, CPU, processes=2)
    free = 3599
    with pytest.raises(OutOfMemory) as error:
        require_room(model, CPU)
    assert (error.value.phase, error.value.free_bytes) == ("load", 3599)
