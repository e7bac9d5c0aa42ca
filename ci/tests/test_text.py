"""Numbers and tables for people."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.text import duration, result_line, results_table, seconds, significant

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


def record(model: str, batch: int, mean_s: float, peak: int | None = 2_500_000_000) -> dict[str, Any]:
    """What of a record a table needs; 10 output tokens."""
    return {
        "case": {
            "id": f"{model}-2xa100_80gb-hf-b{batch}-in512-out10",
            "model": {"name": model},
            "hardware": "2xa100_80gb",
            "engine": {"name": "hf"},
            "batch_size": batch,
            "input_len": 512,
            "output_len": 10,
        },
        "latency_mean_s": mean_s,
        "output_tokens_per_s": batch * 10 / mean_s,
        "ms_per_output_token": 1000 * mean_s / 10,
        "peak_memory_bytes": peak,
    }


def test_a_case_is_one_line_of_a_log() -> None:
    """Its id first."""
    assert result_line(record("m", 4, 2.0)) == (
        "m-2xa100_80gb-hf-b4-in512-out10  2.00 s  20.0 tokens/s  200 ms/token"
    )


def test_a_table_has_units_in_its_heading_and_a_row_a_case_under_its_model() -> None:
    """Out of memory is a cell; an unknown peak is an empty one."""
    lines = results_table(
        [
            (record("first", 4, 2.0), [1.5, 2.5]),
            (record("first", 8, 2.0), None),
            (record("second", 16, 0.5, peak=None), [0.5, 0.5, 0.5]),
        ]
    )
    heading, *rows = lines
    for column in ("batch", "tokens in", "latency s", "min-max s", "tokens/s", "ms/token", "GB"):
        assert column in heading
    assert [re.split(r"\s{2,}", row.strip()) for row in rows] == [
        ["-" * len(lines[0])],
        ["first"],
        ["2xa100_80gb hf", "4", "512", "10", "2.00", "1.50-2.50", "20.0", "200", "2.50"],
        ["2xa100_80gb hf", "8", "512", "10", "out of memory"],
        ["second"],
        ["2xa100_80gb hf", "16", "512", "10", "0.500", "0.500-0.500", "320", "50.0"],
    ]


def test_the_columns_of_a_table_stand_under_their_headings() -> None:
    """Names to the left, numbers to the right."""
    heading, _, model, row, out_of_memory = results_table(
        [(record("m", 4, 2.0), [2.0]), (record("m", 128, 2.0), None)]
    )
    assert (model, row[:2], row[2:16]) == ("m", "  ", "2xa100_80gb hf")
    assert row.index("4  ") + 1 == out_of_memory.index("128") + 3 == heading.index("batch") + 5
    assert row.index("2.50") + 4 == heading.index("GB") + 2 == len(heading)
    assert row.index("2.00") + 4 == out_of_memory.index("memory") + 6


def test_a_table_of_nothing_is_its_heading() -> None:
    """And the rule under it."""
    assert len(results_table([])) == 2
