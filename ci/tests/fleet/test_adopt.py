"""A driver that is resumed knows what nodes took for first cases of loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ci.tests.fleet.simulated import Simulated, cases_of, nodes_of, run

CASES = cases_of(1, 24)
FIRST = CASES[0].id
MARK = f"node: n1 differs by +20 % in {FIRST}"


def place() -> Simulated:
    """Three nodes, of which one takes 20 % longer."""
    by_id = {case.id: case for case in CASES}
    return Simulated(nodes_of(3), by_id, dict.fromkeys(by_id, 100.0), speed={"n1": 1.2})


def journal_of(path: Path) -> Path:
    """The driver's own lines of a first run, and some that nobody can use."""
    notes: list[Mapping[str, Any]] = []
    run(place(), CASES, note=notes.append)
    compared = [values for values in notes if "compared" in values]
    assert [(one["compared"], one["node"], one["median_s"]) for one in compared] == [
        (FIRST, "n0", 100.0), (FIRST, "n2", 100.0), (FIRST, "n1", 120.0)
    ]  # fmt: skip
    odd = [{**compared[0], "node": "n9"}, {**compared[0], "median_s": -1}, {**compared[0], "compared": "x"}]
    file = path / "journal.jsonl"
    file.write_text("".join(f"{json.dumps(values)}\n" for values in [*compared, *odd]) + '{"compared"')
    return file


def test_nodes_are_not_compared_anew(tmp_path: Path) -> None:
    """The first case is carried over: no node measures it, and all that n1 measures has the mark."""
    there = place()
    done = run(there, CASES, journal=journal_of(tmp_path), carried={FIRST})
    assert not any(FIRST in shard.cases for shard in there.shards)
    assert len(done.taken) == 23
    assert {node for _, (_, where) in done.taken.items() if (node := where["node"]) == "n1"}
    for case_id, (_, where) in done.taken.items():
        assert done.marks[case_id] == ([MARK] if where["node"] == "n1" else [])
    assert done.driver.comparison.medians_s == {FIRST: {"n0": 100.0, "n1": 120.0, "n2": 100.0}}


def test_a_node_that_was_not_compared_measures_the_first_case(tmp_path: Path) -> None:
    """Without a journal each node does, for comparison alone: the case itself is carried over."""
    there = place()
    done = run(there, CASES, carried={FIRST})
    assert {shard.nodes[0] for shard in there.shards if FIRST in shard.cases} == {"n0", "n1", "n2"}
    assert FIRST not in done.taken


def test_of_a_case_that_is_measured_again_nothing_counts(tmp_path: Path) -> None:
    """As after a change of versions."""
    there = place()
    done = run(there, CASES, journal=journal_of(tmp_path))
    assert {shard.nodes[0] for shard in there.shards if FIRST in shard.cases} == {"n0", "n1", "n2"}
    assert len(done.taken) == 24
