"""Prompts are seeded, and distinct where they can be."""

from __future__ import annotations

from fixtures.core.spec.case import Point
from fixtures.measure.prompts import make_prompts


def test_prompts_of_a_ragged_batch_are_distinct() -> None:
    """32 of one token and 32 of two, out of 40: by chance there would be 22 of one token."""
    prompts = make_prompts(Point(64, 2, 1, (1, 2)), 40, 17)
    assert [*map(len, prompts)] == [1, 2] * 32
    assert len({*map(tuple, prompts)}) == 64


def test_where_there_are_too_few_all_are_there() -> None:
    """Five of one token, for eight sequences."""
    assert len({*map(tuple, make_prompts(Point(8, 1, 1), 5, 17))}) == 5
