"""Shares of experts, draws from them, and the bytes that a step reads, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from fixtures.core.base.errors import InputError
from fixtures.core.base.node import as_node
from fixtures.core.cost.bounds import Cache, Experts, Peaks, Work, bound, mean_step_bytes, read_bytes
from fixtures.core.cost.routing import distinct_experts, draw, inclusion
from fixtures.core.spec.case import EngineSpec, Point
from fixtures.core.spec.library import read_engine
from fixtures.core.spec.routing import exponent

WORK = Work(0, 2e9, 0, 1000, (Cache(2, 3),), (Experts(layers=2, number=8, chosen=2, expert_bytes=50),))


def test_shares_follow_the_law() -> None:
    """1, 1/2, 1/3, 1/4 over 25/12; chosen three times, the first expert reaches 1, and the others share 2."""
    assert inclusion("power_law_1", 4, 1) == pytest.approx([12 / 25, 6 / 25, 4 / 25, 3 / 25])
    assert inclusion("power_law_1", 4, 3) == pytest.approx([1, 12 / 13, 8 / 13, 6 / 13])
    assert inclusion("power_law_2", 2, 2) == pytest.approx([1, 1])
    assert inclusion("uniform", 128, 8) == pytest.approx([1 / 16] * 128)
    with pytest.raises(ValueError, match="no shares"):
        inclusion("random", 4, 2)


def test_distinct_experts_by_listing_every_choice() -> None:
    """Three tokens that choose two of four evenly: the mean over all 216 triples of pairs."""
    pairs = list(combinations(range(4), 2))
    sizes = [len(set().union(*three)) for three in product(pairs, repeat=3)]
    assert distinct_experts("uniform", 4, 2, 3) == pytest.approx(np.mean(sizes))
    assert distinct_experts("power_law_1.2", 4, 2, 1) == pytest.approx(2)
    assert distinct_experts("uniform", 4, 2, np.array([1, 2])) == pytest.approx([2, 3])


@pytest.mark.parametrize(
    ("routing", "experts", "chosen"),
    [("uniform", 8, 2), ("power_law_1.2", 8, 2), ("power_law_1.2", 128, 8), ("power_law_3", 32, 4)],
)
def test_draws_have_the_shares(routing: str, experts: int, chosen: int) -> None:
    """Of 20,000 tokens each expert has its share, within five standard deviations; no token has one twice."""
    tokens = 20_000
    drawn, due = draw(routing, experts, chosen, tokens, seed=3), inclusion(routing, experts, chosen)
    assert drawn.shape == (tokens, chosen)
    assert (np.diff(drawn, axis=1) > 0).all()
    share = np.bincount(drawn.ravel(), minlength=experts) / tokens
    assert (abs(share - due) <= 5 * np.sqrt(due * (1 - due) / tokens) + 1e-12).all()
    assert (drawn == draw(routing, experts, chosen, tokens, seed=3)).all()


def test_a_step_reads_the_distinct_experts() -> None:
    """Two tokens choose 3.5 of 8 experts evenly: 1.5 more than one token, of 50 bytes in two layers."""
    even = replace(WORK, routing="uniform")
    assert read_bytes(even, 1) == pytest.approx(1000)
    assert read_bytes(even, 2) == pytest.approx(1000 + 1.5 * 50 * 2)
    assert read_bytes(even, 10**6) == pytest.approx(1000 + 6 * 50 * 2)
    assert read_bytes(WORK, 2) == 1000  # nothing is stated: as if both chose the same
    steep = replace(WORK, routing="power_law_8")
    assert 1000 < read_bytes(steep, 2) < read_bytes(even, 2)


def test_the_bound_follows_the_routing() -> None:
    """At 1 byte/s: prefill of 8 tokens and one step of 2, by the distinct experts of so many tokens."""
    even, point, peaks = replace(WORK, routing="uniform"), Point(2, 4, 2), Peaks(1e30, 1.0)
    prefill_s = 1000 + 100 * (8 * (1 - 0.75**8) - 2)
    least = bound(point, True, even, peaks)
    assert least.prefill_s == pytest.approx(prefill_s)
    assert least.decode_s == pytest.approx(1150 + 2 * 2 * 4 * 3)  # and the cache: 2 of 4 tokens, 2 x 3 bytes
    assert mean_step_bytes(point, True, even) == pytest.approx(least.decode_s)
    assert mean_step_bytes(point, False, even) == pytest.approx(1000 + 100 * (8 * (1 - 0.75**10) - 2))
    assert bound(point, True, WORK, peaks).prefill_s == 1000


def test_work_without_experts_is_written_as_before() -> None:
    """Counts of dense models keep their files."""
    assert "experts" not in replace(WORK, experts=()).as_dict()
    assert "routing" not in WORK.as_dict()
    for work in (WORK, replace(WORK, routing="uniform"), replace(WORK, experts=())):
        assert Work.from_dict(work.as_dict()) == work


@pytest.mark.parametrize("routing", ["uniform", "power_law_1.2", "power_law_8", "random"])
def test_an_engine_is_named_by_its_routing(routing: str) -> None:
    """Without a name of its own; the default adds nothing."""
    engine = read_engine(None, as_node({"routing": routing}, "x.yaml"))
    name = "hf" if routing == "random" else f"hf_{routing.replace('.', '_')}"
    assert engine == EngineSpec(name, routing=routing)


@pytest.mark.parametrize("routing", ["zipf", "power_law", "power_law_0", "power_law_9", "power_law_-1", ""])
def test_a_routing_that_is_none(routing: str) -> None:
    """One line that says what would be right."""
    assert exponent(routing) is None
    with pytest.raises(InputError, match="routing"):
        read_engine(None, as_node({"routing": routing}, "x.yaml"))


def test_a_kind_that_takes_no_routing() -> None:
    """Only the engine that sets it may be told."""
    with pytest.raises(InputError, match="takes no routing"):
        read_engine(None, as_node({"kind": "hf_paged", "routing": "uniform"}, "x.yaml"))
