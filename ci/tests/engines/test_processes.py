"""Whose error it was, where several ranks report one, and what they leave behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fixtures.engines.processes.environment import extensions_folder, interpreter, remove_locks
from fixtures.engines.processes.workers import _first, _is_common
from fixtures.engines.protocol import CannotLoad, OutOfMemory, RankFailed

CLOSED = ("RankFailed", "RuntimeError: Connection closed by peer")


def test_an_error_of_its_own_goes_before_one_that_came_of_it() -> None:
    """Rank 0 lost its connection because rank 1 had no memory."""
    error = _first({0: CLOSED, 1: ("OutOfMemory", "4 GB asked for")})
    assert isinstance(error, OutOfMemory)
    assert str(error) == "rank 1: 4 GB asked for"


def test_else_the_first_rank_speaks() -> None:
    """Whatever kind it is."""
    assert str(_first({1: CLOSED, 3: CLOSED})) == f"rank 1: {CLOSED[1]}"
    assert isinstance(_first({1: CLOSED, 3: CLOSED}), RankFailed)
    assert isinstance(_first({0: ("CannotLoad", "no plan"), 1: ("CannotLoad", "no plan")}), CannotLoad)


def test_ranks_stay_in_step_only_where_all_failed_alike() -> None:
    """One that went on, or lost a connection, is somewhere else than the others."""
    same = ("CannotLoad", "no plan")
    assert _is_common({0: same, 1: same}, 2)
    assert not _is_common({0: same}, 2)
    assert not _is_common({0: same, 1: ("OutOfMemory", "")}, 2)
    assert not _is_common({0: CLOSED, 1: CLOSED}, 2)


def test_locks_of_a_time_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of DeepSpeed's operators alone; the rest of the folder stays, and no folder is no error."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert extensions_folder() == tmp_path
    for name, written in (("deepspeed_a", 100), ("deepspeed_b", 200), ("deepspeed_c", 300), ("own", 200)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
        (tmp_path / name / "build.ninja").touch()
        os.utime(tmp_path / name / "lock", (written, written))
    remove_locks(200, 300)
    left = {path.parent.name for path in tmp_path.glob("*/lock")}
    assert left == {"deepspeed_a", "deepspeed_c", "own"}
    assert len(list(tmp_path.glob("*/build.ninja"))) == 4
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "none"))
    remove_locks(0)


def test_an_environment_behind_a_link_has_one_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of its folder; the Python in it, which is a link itself, stays the environment's."""
    (tmp_path / "real" / "bin").mkdir(parents=True)
    (tmp_path / "real" / "bin" / "python").symlink_to("/usr/bin/env")
    (tmp_path / "link").symlink_to("real")
    for name in ("link", "real"):
        monkeypatch.setattr(sys, "executable", str(tmp_path / name / "bin" / "python"))
        assert interpreter() == str(tmp_path.resolve() / "real" / "bin" / "python")
