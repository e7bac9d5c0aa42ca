"""Nodes that differ are named by the noise of the case, and their records say so."""

from __future__ import annotations

import dataclasses
import math

import pytest

from ci.tests.fleet.simulated import cases_of, nodes_of, result_line
from fixtures.core.result.spread import Noise
from fixtures.core.store.journal import session_line
from fixtures.fleet.cluster import _accept
from fixtures.fleet.comparison import Comparison, differing
from fixtures.fleet.stream import Stream
from fixtures.session import Result

CASE = "m0-1xcpu-hf-b1-in4-out2"
HERE = {node.name: node for node in nodes_of(3)}


def compared(medians_s: dict[str, float], noise: dict[str, Noise]) -> tuple[Comparison, list[str]]:
    """Nodes, judged once all have come."""
    said: list[str] = []
    comparison = Comparison(HERE, noise, said.append)
    for node, median_s in medians_s.items():
        comparison.add(CASE, node, median_s)
    comparison.judge(CASE, "cpu")
    return comparison, said


def test_each_node_against_the_median_of_the_others() -> None:
    """Of four, the median of three others; of three, the mean of two; equal values count one by one."""
    found = differing({"a": 1.0, "b": 1.0, "c": 1.1, "d": 2.0}, 0.2)
    assert found == {"d": pytest.approx(1.0)}  # against 1, 1 and 1.1; c against 1, 1 and 2
    assert differing({"a": 1.0, "b": 2.0, "c": 3.0}, math.log(1.9)) == {"a": pytest.approx(1 / 2.5 - 1)}
    assert differing({"a": 1.0, "b": 1.0}, 0.0) == {}


def test_the_limit_is_the_noise_of_stored_runs() -> None:
    """3 % apart: within the 5 % of an unknown noise; beyond that of 0.2 % and 100 degrees of freedom.

    By tables, t(100, 1 - 0.005 / 3) = 3.0; times 0.2 % and the root of 1.5, 0.74 %.
    """
    medians_s = {"n0": 1.0, "n1": 1.03, "n2": 1.0}
    assert compared(medians_s, {})[1] == []
    comparison, said = compared(medians_s, {CASE: Noise(0.002, 100)})
    assert said == [f"warning: n1 differs: {CASE} takes +3.0 % there (noise explains 0.74 %)"]
    assert comparison.marks("n1") == [f"node: n1 differs by +3.0 % in {CASE}"]
    assert comparison.marks("n0") == []


def test_a_noisy_case_names_nobody() -> None:
    """20 % apart, where runs differ by 10 %."""
    assert compared({"n0": 1.0, "n1": 1.2, "n2": 1.0}, {CASE: Noise(0.1, 100)})[1] == []


def test_a_third_node_clears_the_first() -> None:
    """Of two that differ, neither is known to be the odd one; each node is named once."""
    comparison, said = compared({"n0": 1.0, "n1": 1.2}, {})
    assert [one.split()[1] for one in said] == ["n0", "n1"]
    comparison.add(CASE, "n2", 1.0)
    comparison.judge(CASE, "cpu")
    assert comparison.marks("n0") == []
    assert comparison.marks("n1") == [f"node: n1 differs by +20 % in {CASE}"]
    assert len(said) == 2


def test_a_wrong_clock_is_a_mark() -> None:
    """Of over 30 s."""
    node = dataclasses.replace(HERE["n0"], clock_off_s=-95.0)
    assert Comparison({"n0": node}, {}, print).marks("n0") == ["clock: that of n0 is off by -95 s"]


def test_a_journals_line_has_place_and_marks() -> None:
    """As it is written when the case is taken, and read again by `--resume`."""
    (case,) = cases_of(1, 1)
    header = nodes_of(1)[0].header
    stream = Stream({case.id: case}, header)
    (entry,) = [one for line in (session_line(header), result_line(case, 2.0)) for one in stream.feed(line)]
    result = Result()
    where = {"place": "simulated", "node": "n0", "shard": "run-1", "devices": ["GPU-1"], "tries": 1}
    taken = _accept(result, entry, where, ["node: n0 differs by +20 % in x"])
    written = taken.values["benchmark"]["extra_info"]
    assert "node: n0 differs by +20 % in x" in written["marks"]
    assert written["placement"] == {**where, "failed_tries": [], "elsewhere": {}}
    assert written["state"]["neighbours"] == result.record.state.as_dict()["neighbours"]  # type: ignore[union-attr]
    assert result.record is not None
    assert result.record.marks == tuple(written["marks"])
    assert result.benchmark is taken.values["benchmark"]
