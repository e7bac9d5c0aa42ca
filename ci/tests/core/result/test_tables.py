"""The tables that a session ends with."""

from __future__ import annotations

import re

from msgspec.structs import replace

from fixtures.core.result.latency_fit import Disagreement, Estimate
from fixtures.core.result.out_of_memory import Outcome
from fixtures.core.result.phases import make_split
from fixtures.core.result.record import RECORD_VERSION, Record
from fixtures.core.result.record_case import RecordedCase, RecordedEngine, RecordedModel
from fixtures.core.result.record_times import Limits, RecordedFit, RecordedPeaks
from fixtures.core.result.stats import Interval
from fixtures.core.spec.case import Point
from fixtures.core.tables import emulated, marks, other_table, result_line, results_table


def named(model: str, batch: int) -> RecordedCase:
    """What of a record names it; 10 output tokens."""
    return RecordedCase(
        id=f"{model}-2xa100_80gb-hf-b{batch}-in512-out10",
        model=RecordedModel(name=model),
        hardware="2xa100_80gb",
        devices=2,
        engine=RecordedEngine(name="hf"),
        batch_size=batch,
        input_len=512,
        output_len=10,
    )


def case(model: str, batch: int) -> Outcome:
    """One that ran out of memory."""
    return Outcome(case=named(model, batch))


def record(model: str, batch: int, mean_s: float, peak: int | None = 2_500_000_000) -> Record:
    """What of a record a table needs: a prefill of 1 s, and tokens of 0.1 s after it."""
    moments = [1 + 0.1 * k for k in range(10)]
    return Record(
        record_version=RECORD_VERSION,
        case=named(model, batch),
        latency_mean_s=mean_s,
        latency_median_s=mean_s + 0.1,
        latency_interval=Interval(mean_s - 0.5, mean_s + 0.5, 0.94),
        output_tokens_per_s=batch * 10 / mean_s,
        ms_per_output_token=1000 * mean_s / 10,
        peak_memory_bytes=peak,
        split=make_split(Point(batch, 512, 10), [1.9] * 5, [moments] * 5),
    )


def cells(line: str) -> list[str]:
    """What stands between two blanks or more."""
    return re.split(r"\s{2,}", line.strip())


def test_a_table_has_units_in_its_heading_and_a_row_a_case_under_its_model() -> None:
    """Out of memory is a cell; what is not known is a dash; one round has no interval."""
    one_round = replace(record("second", 16, 0.5, peak=None), latency_interval=None)
    lines = results_table([record("first", 4, 2.0), case("first", 8), one_round])
    heading, *rows = lines
    for column in (
        "batch",
        "in",
        "out",
        "latency s",
        "interval s",
        "TTFT ms",
        "TPOT ms",
        "tokens/s",
        "% of limit",
        "GB",
    ):
        assert column in heading
    assert [cells(row) for row in rows] == [
        ["-" * len(lines[0])],
        ["first"],
        ["2xa100_80gb hf", "4", "512", "10", "2.00", "1.50-2.50", "1000", "100", "20.0", "-", "2.50"],
        ["2xa100_80gb hf", "8", "512", "10", "out of memory"],
        ["second"],
        ["2xa100_80gb hf", "16", "512", "10", "0.500", "-", "1000", "100", "320", "-", "-"],
    ]


def test_the_columns_of_a_table_stand_under_their_headings() -> None:
    """Names to the left, numbers to the right."""
    heading, _, model, row, out_of_memory = results_table([record("m", 4, 2.0), case("m", 128)])
    assert (model, row[:2], row[2:16]) == ("m", "  ", "2xa100_80gb hf")
    assert row.index("4  ") + 1 == out_of_memory.index("128") + 3 == heading.index("batch") + 5
    assert row.rindex("2.50") + 4 == heading.index("GB") + 2 == len(heading)
    assert row.index("2.00") + 4 == out_of_memory.index("memory") + 6


def test_a_depth_has_a_column_where_a_case_has_one() -> None:
    """After the lengths; those that begin with an empty cache have 0."""
    flat = record("m", 4, 2.0)
    deep = replace(flat, case=replace(flat.case, depth=4096))
    heading, _, _, *rows = results_table([flat, deep])
    assert cells(heading)[:4] == ["batch", "in", "out", "depth"]
    assert [cells(row)[1:5] for row in rows] == [["4", "512", "10", "0"], ["4", "512", "10", "4096"]]
    assert "depth" not in results_table([flat])[0]


def test_a_table_of_nothing_is_no_line() -> None:
    """No heading without a row."""
    assert results_table([]) == []
    assert other_table("split", [case("m", 1)]) == []


def test_prefill_and_decode_stand_beside_their_fit() -> None:
    """512 * 4 tokens in 1 s, 4 / 0.1 s; a difference beyond the tolerance has its sign."""
    own = record("m", 4, 2.0)
    assert own.split is not None
    fitted = replace(
        own.split,
        fit=RecordedFit(first_s=Estimate(1.2), further_s=Estimate(0.0999)),
        ttft_disagreement=Disagreement(0.2, "surely"),
        tpot_disagreement=Disagreement(-0.001),
    )
    own = replace(own, split=fitted)
    alone = record("m", 8, 2.0)
    rows = [cells(line) for line in other_table("split", [own, alone])]
    assert rows[3] == [
        "2xa100_80gb hf", "4", "512", "10", "1000", "100", "100", "2048", "40.0", "1200", "99.9",
        "+20 %! / -0 %",
    ]  # fmt: skip
    assert rows[4][-3:] == ["-", "-", "-"]


def test_a_mark_of_one_case_stands_as_it_is() -> None:
    """None where there is no reason to doubt."""
    doubted = replace(record("m", 4, 2.0), marks=("drift: +5 %", "another"))
    name = "m-2xa100_80gb-hf-b4-in512-out10"
    assert marks([record("n", 4, 2.0), case("n", 8), doubted]) == [
        f"MARKED {name}: drift: +5 %",
        f"MARKED {name}: another",
    ]


def test_marks_of_a_kind_are_one_line_with_their_cases() -> None:
    """Whatever their figures; of many cases four are named."""
    busy = "{} of 5 rounds disturbed: contention: other processes used {} cores"
    rows = [
        replace(record("m", batch, 2.0), marks=(f"drift: +{batch} % from first", busy.format(batch, batch)))
        for batch in range(1, 7)
    ]
    name = "m-2xa100_80gb-hf-b{}-in512-out10".format
    named = ", ".join(map(name, (1, 2, 3, 4)))
    assert marks(rows) == [
        f"MARKED drift in 6 cases: {named} and 2 more",
        f"MARKED contention in 6 cases: {named} and 2 more",
    ]
    assert marks(rows[:2])[0] == f"MARKED drift in 2 cases: {name(1)}, {name(2)}"


def test_an_emulated_dtype_is_one_line_for_all_of_its_cases() -> None:
    """Of each dtype one; records of earlier versions and outcomes have none."""

    def of(dtype: str, said: str | None) -> Record:
        return replace(bare, limits=Limits(peaks=RecordedPeaks(dtype=dtype, emulated=said)))

    bare = record("m", 1, 1.0)
    rows: list[Record | Outcome] = [of("bfloat16", "a"), of("bfloat16", "b"), of("float32", None)]
    rows += [of("float16", "c"), case("m", 1), bare, replace(bare, limits=Limits())]
    assert emulated(rows) == ["a", "c"]


def test_a_case_is_one_line_of_a_log() -> None:
    """Its id first."""
    assert result_line(record("m", 4, 2.0)) == (
        "m-2xa100_80gb-hf-b4-in512-out10  2.00 s  20.0 tokens/s  200 ms/token"
    )
