"""TPOT over depth: what bytes explain is not marked, and what they do not is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from ci.tests.conftest import ROOT
from ci.tests.records import recorded
from fixtures.core.result.depths import relate
from fixtures.core.result.record import Record
from fixtures.core.store.history import read_history

GIGA = 1e9


def records(tpots_s: Mapping[int, float], a_token: float = 1e5, engine: str = "hf") -> list[Record]:
    """Cases whose steps read 1 GB of weights, and some bytes for each cached token."""
    return [
        recorded(
            case={"id": f"m-1xcpu-{engine}-b1-in8-out4" + f"-at{depth}" * bool(depth), "depth": depth},
            split={"tpot_s": tpot_s},
            limits={"step_bytes": GIGA + a_token * depth},
        )
        for depth, tpot_s in tpots_s.items()
    ]


def marks(tpots_s: Mapping[int, float]) -> dict[int, tuple[str, ...]]:
    """The marks of each depth that has any."""
    return {record.case.depth: record.marks for record in relate(records(tpots_s)) if record.marks}


@pytest.mark.parametrize(
    "tpots_s",
    [
        {0: 0.1, 10_000: 0.2, 20_000: 0.3, 30_000: 0.4},  # as the bytes
        {0: 0.1, 10_000: 0.4, 20_000: 0.7, 30_000: 1.0},  # each cached byte moves three times
        {0: 0.1, 10_000: 0.1, 20_000: 0.1, 60_000: 0.2},  # a fixed cost hides the bytes at first
        {0: 0.1, 10_000: 0.22, 20_000: 0.32, 30_000: 0.39},  # noise
        {0: 0.1, 10_000: 5.0},  # two depths have no line
        {0: 0.105, 10_000: 0.101},  # within the noise
        {0: 0.1},
    ],
)
def test_what_the_bytes_explain_has_no_mark(tpots_s: Mapping[int, float]) -> None:
    """A straight line in bytes, or less."""
    assert marks(tpots_s) == {}


def test_a_depth_that_is_slower_than_its_bytes_explain_is_marked() -> None:
    """The line through 1, 2 and 3 GB in 0.1, 0.2 and 0.3 s gives 4 GB 0.4 s; 0.6 are half as much again."""
    found = marks({0: 0.1, 10_000: 0.2, 20_000: 0.3, 30_000: 0.6})
    assert found[30_000] == ("depth: TPOT is 1.50 times what its bytes explain beside others",)
    assert set(found) == {30_000}


def test_a_depth_that_is_slower_than_a_deeper_one_is_marked() -> None:
    """0.44 against 0.4 s; the next shallower one says that its bytes do not explain that either."""
    found = marks({0: 0.1, 20_000: 0.44, 30_000: 0.4})
    assert found[20_000][-1] == "depth: TPOT is 1.10 times that at 30000 tokens"


def test_marks_are_of_cases_that_differ_in_depth_alone_and_come_once() -> None:
    """Another engine's case is no deeper one of this; and a second look adds nothing."""
    both = [*records({0: 0.3}), *records({10_000: 0.1}, engine="hf_fp32")]
    assert relate(both) == both
    once = relate(records({0: 0.3, 10_000: 0.1}))
    assert [len(record.marks) for record in once] == [1, 0]
    assert relate(once) == once


def test_cases_without_a_decode_are_left_alone() -> None:
    """One output token has no TPOT, and a model that is not counted no bytes."""
    plain = [recorded(case={"id": "x", "depth": depth}) for depth in (0, 1)]
    assert relate(plain) == plain


@pytest.mark.parametrize(
    ("malloc", "stated", "marked"),
    [
        ("default", "13.9, 22.6, 37.9, 62.6 and 297 ms", [16384]),
        ("mmap_threshold", "13.4, 22.8, 31.9, 50.7 and 86.5 ms", []),
    ],
)
def test_the_committed_runs_over_depth_are_what_is_said_of_them(
    malloc: str, stated: str, marked: list[int]
) -> None:
    """Without what malloc adds all are within 1 % of a straight line in bytes, with it all but the last."""
    run = read_history(ROOT / "ci" / "histories" / "depth" / f"malloc_{malloc}_20261129.json")
    found = relate([one.record for one in run.measured])
    assert [record.case.depth for record in found] == [0, 2048, 4096, 8192, 16384]
    assert [record.case.depth for record in found if record.marks] == marked
    times = [1000 * record.split.tpot_s for record in found if record.split and record.split.tpot_s]
    *most, last = (f"{each:.3g}" for each in times)
    assert f"{', '.join(most)} and {last} ms" == stated
    assert stated in (ROOT / "fixtures" / "engines" / "README.md").read_text(encoding="utf-8")
    if not marked:
        moved = [record.limits.step_bytes for record in found if record.limits]
        slope, at_zero = np.polyfit(np.array(moved, float), times, 1, w=1 / np.array(times))
        assert slope * np.array(moved) + at_zero == pytest.approx(times, rel=0.01)
