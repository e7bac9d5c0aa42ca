"""Cores that a process may use: its affinity, and quotas as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.host import cores
from fixtures.host.cores import cpu_quota, usable_cores


def system(root: Path, own: str, **files: str) -> Path:
    """A system in a folder; the names of files have `__` for `/`."""
    for name, text in {"proc__self__cgroup": own, **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def quota(root: Path, place: str, name: str, text: str) -> None:
    """A file of a control group."""
    folder = root / "sys/fs/cgroup" / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("max 100000\n", None),
        ("50000 100000\n", 0.5),
        ("150000 100000\n", 1.5),
        ("200000", 2.0),
        ("0 100000", None),
        ("broken", None),
        ("", None),
    ],
)
def test_a_quota_of_cgroup_2_is_cores_worth_of_time(tmp_path: Path, text: str, share: float | None) -> None:
    """A container sees its own group as the root of all."""
    system(tmp_path, "0::/\n")
    quota(tmp_path, ".", "cpu.max", text)
    assert cpu_quota(tmp_path) == share


def test_the_least_quota_of_all_groups_above_counts(tmp_path: Path) -> None:
    """A job's, say, over that of one of its steps."""
    system(tmp_path, "0::/slurm/job_7/step_0\n")
    quota(tmp_path, "slurm/job_7/step_0", "cpu.max", "max 100000")
    quota(tmp_path, "slurm/job_7", "cpu.max", "300000 100000")
    quota(tmp_path, "slurm", "cpu.max", "800000 100000")
    assert cpu_quota(tmp_path) == 3.0


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_cgroup_1(tmp_path: Path, mount: str) -> None:
    """Which is -1 where there is none; the group's path is the host's, so that its folder may be missing."""
    system(tmp_path, "11:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n")
    quota(tmp_path, mount, "cpu.cfs_quota_us", "-1\n")
    quota(tmp_path, mount, "cpu.cfs_period_us", "100000\n")
    assert cpu_quota(tmp_path) is None
    quota(tmp_path, mount, "cpu.cfs_quota_us", "250000\n")
    assert cpu_quota(tmp_path) == 2.5


def test_a_system_without_groups_has_no_quota(tmp_path: Path) -> None:
    """Such as one that is not Linux."""
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("affinity", "text", "usable", "said"),
    [
        (8, "max 100000", 8, "the machine has no more"),
        (8, "150000 100000", 1, "the CPU quota of its cgroup is 1.5 cores"),
        (8, "50000 100000", 1, "the CPU quota of its cgroup is 0.5 cores"),
        (8, "300000 100000", 3, "the CPU quota of its cgroup is 3 cores"),
        (2, "400000 100000", 2, "its CPU affinity, as taskset sets it; the machine has 8"),
        (2, "200000 100000", 2, "its CPU affinity, as taskset sets it; the machine has 8"),
    ],
)
def test_a_case_of_more_ranks_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affinity: int, text: str, usable: int, said: str
) -> None:
    """By what is scarcer."""
    monkeypatch.setattr(cores, "affinity", lambda: affinity)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    system(tmp_path, "0::/\n")
    quota(tmp_path, ".", "cpu.max", text)
    assert usable_cores(tmp_path).shortage(16) == (
        f"16xcpu needs 16 cores, and this process may use {usable} ({said})"
    )
