"""The metrics, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from fixtures.core.case import Point
from fixtures.core.metrics import Latency, latency, ms_per_output_token, output_tokens_per_s


def test_the_latency_of_rounds_is_their_mean_median_and_range() -> None:
    """1 + 2 + 6 + 3 = 12 s over 4 rounds; sorted 1 2 3 6, so the middle is 2.5 s."""
    assert latency([1.0, 2.0, 6.0, 3.0]) == Latency(mean_s=3.0, median_s=2.5, min_s=1.0, max_s=6.0, rounds=4)


def test_the_latency_of_one_round_is_that_round() -> None:
    """Nothing is left out."""
    assert latency([0.25]) == Latency(0.25, 0.25, 0.25, 0.25, 1)


def test_no_rounds_have_no_latency() -> None:
    """Rather than 0 or NaN."""
    with pytest.raises(ValueError, match="no timed rounds"):
        latency([])


@pytest.mark.parametrize(
    ("point", "latency_s", "tokens_per_s", "ms_per_token"),
    [
        # mpt7b on one A100 of 80 GB as published: 64 * 64 / 8.773 s; 8773 ms / 64 tokens
        (Point(64, 512, 64), 8.773, 466.887, 137.078),
        # mpt7b, batch 1, 1001 tokens as published: 1001 / 15.928 s; 15928 ms / 1001 tokens
        (Point(1, 128, 1001), 15.928, 62.8453, 15.9121),
        # 4 * 10 / 2 s; 2000 ms / 10 tokens: the input length is in neither
        (Point(4, 999, 10), 2.0, 20.0, 200.0),
    ],
)
def test_throughput_and_time_per_token_are_those_of_the_whole_call(
    point: Point, latency_s: float, tokens_per_s: float, ms_per_token: float
) -> None:
    """As llm-foundry's script prints them."""
    assert output_tokens_per_s(point, latency_s) == pytest.approx(tokens_per_s, rel=1e-5)
    assert ms_per_output_token(point, latency_s) == pytest.approx(ms_per_token, rel=1e-5)
