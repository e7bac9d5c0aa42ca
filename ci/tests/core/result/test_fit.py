"""The fit of latency over output length, with latencies of known law."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.result.latency_fit import Estimate, disagreement, fit


def law(n: int, first: float, further: float, growth: float) -> float:
    """Token by token: the k-th after the first costs further + (k - 1) growth."""
    return first + sum(further + k * growth for k in range(n - 1))


@given(
    st.floats(1e-3, 10),
    st.floats(1e-3, 1),
    st.floats(0, 1e-2),
    st.lists(st.integers(1, 300), min_size=3, max_size=6, unique=True),
)
@settings(max_examples=60)
def test_a_known_law_is_found_again(first: float, further: float, growth: float, lengths: list[int]) -> None:
    """Without noise the curve goes through every point, and the mean per token is that of the law."""
    found = fit({n: [law(n, first, further, growth)] * 2 for n in lengths})
    assert found is not None
    assert found.growth is not None
    for n in lengths:
        if n > 1:
            whole = found.first.value + (n - 1) * found.per_token(n).value
            assert whole == pytest.approx(law(n, first, further, growth), rel=1e-6)
    assert found.output_lengths == tuple(sorted(lengths))


def test_the_costs_of_first_and_further_tokens_come_back() -> None:
    """0.5 s, 0.1 s, and 1 ms more each: of 1, 11 and 31 tokens."""
    found = fit({n: [law(n, 0.5, 0.1, 0.001)] * 5 for n in (1, 11, 31)})
    assert found is not None
    assert found.first.value == pytest.approx(0.5)
    assert found.further.value == pytest.approx(0.1)
    assert found.growth is not None
    assert found.growth.value == pytest.approx(0.001)
    assert found.per_token(31).value == pytest.approx((law(31, 0.5, 0.1, 0.001) - 0.5) / 30)
    assert found.further.low == pytest.approx(0.1)


def test_two_lengths_give_a_line_and_one_gives_nothing() -> None:
    """Growth is absent, not zero."""
    line = fit({1: [1.0], 11: [2.0]})
    assert line is not None
    assert line.growth is None
    assert line.further.value == pytest.approx(0.1)
    assert line.further.low is line.further.high is None
    assert fit({11: [1.0, 2.0]}) is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """2,000 fits of five rounds at each of three lengths, with 5 % noise."""
    rng = random.Random(11)
    held = 0
    for _ in range(2000):
        rounds = {n: [law(n, 0.5, 0.1, 0) * rng.gauss(1, 0.05) for _ in range(5)] for n in (1, 11, 31)}
        found = fit(rounds)
        assert found is not None
        per_token = found.per_token(31)
        assert per_token.low is not None
        assert per_token.high is not None
        held += per_token.low <= 0.1 <= per_token.high
    assert held / 2000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("fitted", "value", "beyond"),
    [
        (Estimate(1.05, 0.9, 1.2), 0.05, None),
        (Estimate(1.2, 1.15, 1.25), 0.2, "surely"),
        (Estimate(1.2, 1.05, 1.35), 0.2, "perhaps"),
        (Estimate(0.8, 0.75, 0.85), -0.2, "surely"),
        (Estimate(0.8, 0.65, 0.95), -0.2, "perhaps"),
        (Estimate(1.2, None, None), 0.2, "perhaps"),
    ],
)
def test_two_ways_that_differ_by_more_than_a_tenth_are_marked(
    fitted: Estimate, value: float, beyond: str | None
) -> None:
    """Surely, where all of the interval is beyond."""
    found = disagreement(fitted, 1.0)
    assert found.value == pytest.approx(value)
    assert found.beyond == beyond
