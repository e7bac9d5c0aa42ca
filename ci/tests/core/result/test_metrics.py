"""The metrics, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from fixtures.core.result.metrics import (
    decode_tokens_per_s,
    itl_s,
    latency_s,
    ms_per_output_token,
    output_tokens_per_s,
    prefill_tokens_per_s,
    tpot_s,
    ttft_s,
)
from fixtures.core.spec.case import Point


@pytest.mark.parametrize(
    ("point", "whole_s", "tokens_per_s", "ms_per_token"),
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
    point: Point, whole_s: float, tokens_per_s: float, ms_per_token: float
) -> None:
    """As llm-foundry's script prints them."""
    assert output_tokens_per_s(point, whole_s) == pytest.approx(tokens_per_s, rel=1e-5)
    assert ms_per_output_token(point, whole_s) == pytest.approx(ms_per_token, rel=1e-5)


def test_a_call_is_split_where_its_first_token_is() -> None:
    """Tokens after 0.5, 0.6, 0.8 and 0.9 s, the call over after 1.1 s: (1.1 - 0.5) / 3 = 0.2 s a token."""
    moments = [0.5, 0.6, 0.8, 0.9]
    assert latency_s(10.0, 11.1) == pytest.approx(1.1)
    assert ttft_s(moments) == 0.5
    assert tpot_s(1.1, 0.5, 4) == pytest.approx(0.2)
    assert itl_s(moments) == pytest.approx([0.1, 0.2, 0.1])


def test_one_token_has_no_decode() -> None:
    """None, not zero, and nothing is divided."""
    assert tpot_s(1.1, 0.5, 1) is None
    assert itl_s([0.5]) == []
    assert decode_tokens_per_s(Point(4, 32, 1), None) is None


def test_prefill_and_decode_have_speeds_of_their_own() -> None:
    """4 prompts of 32 tokens in 0.5 s; 4 tokens each 0.2 s."""
    assert prefill_tokens_per_s(Point(4, 32, 8), 0.5) == pytest.approx(256)
    assert decode_tokens_per_s(Point(4, 32, 8), 0.2) == pytest.approx(20)
