"""Seconds expected against seconds taken: by hand, and for any numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.forecast.pace import Pace, round_name

Seconds = dict[str, float]
seconds = st.floats(0.01, 1e5)


def test_before_anything_was_measured_the_plan_stands() -> None:
    """What is left of the present case, never less than nothing, and all that comes."""
    pace = Pace({"a": 10.0, "b": 20.0})
    assert pace.ratio == 1
    assert pace.left_s(["b"], "a", 4.0) == 26
    assert pace.left_s(["b"], "a", 40.0) == 20
    assert pace.left_s(["b"]) == 20
    assert pace.left_s([]) == 0


def test_the_plan_is_corrected_by_what_was_taken() -> None:
    """30 s expected and 60 s taken: twice what is expected of the rest; the present case's time is spent."""
    pace = Pace({"a": 10.0, "b": 20.0, "c": 40.0, "d": 5.0}, {"a": 15.0, "b": 45.0})
    assert pace.ratio == 2
    assert pace.left_s(["d"], "c", 30.0) == 10 + 80 - 30


def test_what_the_plan_does_not_know_takes_the_mean() -> None:
    """Of all measured cases; while there is none, the time left is not known."""
    pace = Pace({"a": 10.0, "skipped": 0.0})
    assert pace.left_s(["a", "x"]) is None
    assert pace.left_s(["a"], "x", 1.0) is None
    pace.took["y"] = 4.0
    assert pace.ratio == 1  # y was not in the plan
    assert pace.left_s(["a", "x", "skipped"]) == 14
    assert pace.left_s(["a"], "x", 1.0) == 13


def test_the_line_compares_what_can_be_compared() -> None:
    """Cases in the plan that were measured; the median over cases, which are not all as long."""
    took = {"a": 10.0, "b": 30.0, "c": 80.0, "other": 7.0}
    pace = Pace({"a": 10.0, "b": 20.0, "c": 100.0, "never": 1000.0}, took)
    assert pace.line() == (
        "expected 2 min 10 s, took 2 min 0 s for 3 of 4 measured cases; taken / expected by case: median "
        "1.00, 0.80 to 1.50"
    )
    assert Pace({"a": 1.0, "b": 0.0}, {"b": 3.0, "x": 1.0}).line() is None
    assert Pace().line() is None


@settings(deadline=None, derandomize=True)
@given(plan=st.lists(seconds, min_size=2, max_size=9), factor=st.floats(0.01, 100))
def test_a_steady_factor_is_found_by_the_first_case(plan: list[float], factor: float) -> None:
    """All cases take `factor` times what is expected: then the time left is right after one of them."""
    expected = {str(index): value for index, value in enumerate(plan)}
    pace = Pace(expected, {"0": factor * plan[0]})
    assert pace.left_s([str(index) for index in range(1, len(plan))]) == pytest.approx(factor * sum(plan[1:]))


@settings(deadline=None, derandomize=True)
@given(
    expected=st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e5)),
    took=st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e5)),
    spent_s=st.floats(0, 1e6),
)
def test_time_left_is_never_negative(
    expected: dict[str, float], took: dict[str, float], spent_s: float
) -> None:
    """Whatever was expected and taken; or it is not known."""
    pace = Pace(expected, took)
    left_s = pace.left_s(["e", "f"], "d", spent_s)
    assert left_s is None or left_s >= 0
    assert (pace.line() is None) == (not any(expected.get(one, 0) > 0 for one in took))


def test_rounds_taken_again_are_numbered_from_one() -> None:
    """A disturbed case's five rounds, and the five after them; `auto` goes on."""
    names = [round_name(number, 5) for number in (1, 5, 6, 10)]
    assert names == ["round 1/5", "round 5/5", "round 1/5 again", "round 5/5 again"]
    assert round_name(7, "auto") == "round 7/auto"
