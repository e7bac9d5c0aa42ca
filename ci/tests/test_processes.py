"""Whose error it was, where several ranks report one."""

from __future__ import annotations

from fixtures.engines.protocol import CannotLoad, OutOfMemory, RankFailed
from fixtures.engines.ranks.processes import _first, _is_common

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
