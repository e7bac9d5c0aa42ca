"""Whether a model really was split: by hand."""

from __future__ import annotations

import pytest

from fixtures.core.cost.shards import Held, shards

WHOLE = {"wte": 400, "up": 800, "down": 800, "norm": 10, "head": 400}


def rank(**held: int) -> dict[str, Held]:
    """What a rank holds; the norm is a vector, wte an embedding."""
    return {name: Held(size, 1 if name == "norm" else 2, name == "wte") for name, size in held.items()}


def test_an_even_split_holds_its_share_and_what_is_small() -> None:
    """2010 bytes with the tied head once: 1005 a rank; 400 + 400 + 200 and the norm's 10 twice."""
    found = shards(WHOLE, ["head"], [rank(wte=200, up=400, down=400, norm=10)] * 2)
    assert found.bytes_by_rank == [1010, 1010]
    assert found.even_bytes == 1005
    assert found.over_even == pytest.approx(1010 / 1005)
    assert (found.kept_whole, found.untied, found.not_split) == ({}, [], [])


def test_a_tied_head_that_was_untied_is_named_and_counted() -> None:
    """AutoTP keeps the embedding whole and splits a copy of it: 400 + 200 + 400 + 400 + 10."""
    found = shards(WHOLE, ["head"], [rank(wte=400, up=400, down=400, norm=10, head=200)] * 2)
    assert found.bytes_by_rank == [1410, 1410]
    assert found.over_even == pytest.approx(1410 / 1005)
    assert (found.kept_whole, found.untied, found.not_split) == ({"wte": 400}, ["head"], [])


def test_a_matrix_that_one_rank_holds_in_full_was_not_split() -> None:
    """Whether the others hold it too, or nothing of it."""
    for theirs in (800, 0):
        found = shards(WHOLE, ["head"], [rank(up=800), rank(up=theirs)])
        assert found.not_split == ["up"]


def test_the_fullest_rank_counts() -> None:
    """600 and 400 of 1000 bytes: 600 over an even 500."""
    found = shards({"up": 1000}, [], [rank(up=600), rank(up=400)])
    assert (found.over_even, found.not_split) == (1.2, [])


def test_small_matrices_and_one_rank_alone_are_no_finding() -> None:
    """A router of experts stays whole; with one rank everything does."""
    whole = {"up": 10_000, "router": 90}
    assert shards(whole, [], [rank(up=5000, router=90)] * 2).not_split == []
    assert shards(whole, [], [rank(up=5000, router=90)] * 2).kept_whole == {"router": 90}
    assert shards(whole, [], [rank(up=10_000, router=90)]).kept_whole == {}
