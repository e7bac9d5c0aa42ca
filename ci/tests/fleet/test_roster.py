"""Nodes that go and come back."""

from __future__ import annotations

import dataclasses
from typing import Any

from ci.tests.fleet.simulated import Simulated, nodes_of
from fixtures.fleet.place import Node
from fixtures.fleet.roster import Roster

N0, N1 = nodes_of(2)


class Made:
    """A roster of two nodes, of which n0 comes and goes."""

    def __init__(self) -> None:
        self.place, self.said, self.now_s = Simulated([N0, N1], {}, {}), list[str](), 0.0
        self.roster = Roster(self.place, [N0, N1], self.said.append, lambda: self.now_s)

    def goes(self) -> None:
        """And is missed."""
        del self.place.up["n0"]
        assert self.roster.look_again() == ["n0"]

    def comes_back(self, as_: Node = N0, after_s: float = 60.0, busy: Any = ()) -> bool:
        """Whether it is free again."""
        self.place.up["n0"] = as_
        self.now_s += after_s
        self.roster.take_back(busy)
        return "n0" in {node.name for node in self.roster.free()}


def test_a_node_is_taken_back_twice() -> None:
    """What goes a third time is not looked for."""
    made = Made()
    for comes in (True, True, False):
        made.goes()
        assert made.comes_back() == comes
    assert made.said == 2 * [
        "warning: n0 is left out from here on: it is not up any more",
        "n0 is up again",
    ] + ["warning: n0 is left out from here on: it is not up any more"]


def test_the_place_is_asked_once_a_minute() -> None:
    """It may take seconds to answer."""
    made = Made()
    made.goes()
    made.roster.take_back(())
    assert not made.comes_back(after_s=59.0)
    assert made.comes_back(after_s=1.0)


def test_a_node_with_a_shard_that_is_not_over_waits() -> None:
    """The driver still has to hear of its end."""
    made = Made()
    made.goes()
    assert not made.comes_back(busy={"n0"})
    assert made.comes_back()


def test_another_machine_of_that_name_is_none_of_the_run() -> None:
    """With another torch, or with more devices."""
    for odd in (
        dataclasses.replace(N0, header={**N0.header, "versions": {"torch": "3"}}),
        dataclasses.replace(N0, machine=dataclasses.replace(N0.machine, cores=2)),
    ):
        made = Made()
        made.goes()
        assert not made.comes_back(odd)


def test_a_node_on_which_nothing_works_stays_out() -> None:
    """Two shards in a row."""
    made = Made()
    assert [made.roster.worked("n0", has) for has in (False, True, False, False)] == [
        False,
        False,
        False,
        True,
    ]
    assert made.roster.look_again() == ["n0"]
    assert not made.comes_back()
