"""Numbers and tables for people."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.base.text import duration, seconds, significant

FUZZ = settings(deadline=None, derandomize=True, max_examples=200)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (0.045678, "0.0457"),
        (-0.045678, "-0.0457"),
        (12.345, "12.3"),
        (123.4, "123"),
        (123456.7, "123457"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (0.9996, "1.00"),
        (99.96, "100"),
        (1e-7, "0.000000100"),
    ],
)
def test_a_number_has_three_significant_digits(value: float, text: str) -> None:
    """Whole ones keep all of theirs, and one that rounds up to the next power of ten has no fourth."""
    assert significant(value) == text


def test_the_number_of_digits_can_be_asked_for() -> None:
    """One is the fewest."""
    assert (significant(3.14159, 1), significant(3.14159, 5)) == ("3", "3.1416")


@FUZZ
@given(st.floats(1e-12, 1e12))
def test_a_number_stays_within_half_a_unit_of_its_third_digit(value: float) -> None:
    """And is never in exponent form."""
    text = significant(value)
    assert re.fullmatch(r"\d+(\.\d+)?", text)
    assert float(text) == pytest.approx(value, rel=0.0051)
    if value < 99.5:
        assert len(text.replace(".", "").lstrip("0")) == 3


def test_seconds_have_their_unit() -> None:
    """A blank between."""
    assert seconds(0.04567) == "0.0457 s"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (42.4, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (60, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (3599.7, "1 h 0 min"),
        (7140, "1 h 59 min"),
        (7300, "2 h 1 min"),
        (90000, "25 h 0 min"),
    ],
)
def test_a_duration_reads_as_people_say_it(value: float, text: str) -> None:
    """Of two units at most."""
    assert duration(value) == text
