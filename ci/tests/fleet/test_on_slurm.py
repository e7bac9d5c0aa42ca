"""Slurm as a place, as far as no daemon is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.core.base.errors import InputError
from fixtures.fleet import on_slurm
from fixtures.fleet.place import Shard


def test_settings_are_named_and_checked() -> None:
    """An address is settings; a wrong one is one line."""
    assert on_slurm.read_settings("partition=gpu,time=60") == {"partition": "gpu", "time": "60"}
    assert on_slurm.read_settings(None) == {}
    for wrong in ("partion=gpu", "time=soon", "partition="):
        with pytest.raises(InputError, match="--on slurm"):
            on_slurm.read_settings(wrong)


def test_a_job_gets_three_times_what_is_expected() -> None:
    """And ten minutes: 3 x 60 s + 600 s are 13 minutes; the shard's own limit is shorter."""
    shard = Shard("r-1", ("a",), 1, ("n1",), expected_s=60.0)
    assert on_slurm.minutes(shard) == 13
    assert on_slurm.minutes(Shard("r-1", ("a",), 1, ("n1",), expected_s=60.0, limit_s=120.0)) == 2


def test_without_slurm_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where sbatch is not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sbatch is not installed"):
        on_slurm.open_slurm(None, None, tmp_path)
