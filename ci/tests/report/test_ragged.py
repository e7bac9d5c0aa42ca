"""Ragged batches in figures, tables and page: by their own input lengths, never as the longest alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci.report.compare import comparison
from ci.report.figures import figures
from ci.report.markdown import table
from ci.report.page.data import page_data
from ci.report.read.engines import side_by_side
from ci.report.read.samples import Sample, curves, read_samples
from ci.tests.report_histories import record, write
from fixtures.core.spec.case import Point


def ragged(engine: str, latency_s: float, text: str = "32_64_128_256", batch: int = 4) -> dict[str, Any]:
    """A record of a ragged batch."""
    made = record("llama125m", "1xcpu", batch, latency_s, input_len=256, output_len=32)
    case = made["case"]
    case |= {
        "id": f"llama125m-1xcpu-{engine}-b{batch}-in{text}-out32",
        "input_lens": [int(each) for each in text.split("_") if each],
        "engine": {**case["engine"], "name": engine, "kind": engine},
    }
    return made


def read(folder: Path, *records: dict[str, Any]) -> list[Sample]:
    """The samples of a history of these records."""
    write(folder / "a.json", list(records))
    return read_samples([folder])


def test_a_ragged_sample_has_the_lengths_of_its_sequences(tmp_path: Path) -> None:
    """It is no point of a curve over one input length, and of the picker therefore."""
    even = record("llama125m", "1xcpu", 4, 1.0, input_len=256, output_len=32)
    samples = read(tmp_path, ragged("hf", 2.0), even)
    assert samples[0].point == Point(4, 256, 32, (32, 64, 128, 256))
    assert [sample.case_id for curve in curves(samples) for sample in curve.samples] == [samples[1].case_id]


@pytest.mark.parametrize(("text", "batch"), [("0_64", 4), ("32_64_128", 4), ("1_" + "9" * 5000, 4)])
def test_lengths_that_no_batch_can_have_leave_a_sample_out(tmp_path: Path, text: str, batch: int) -> None:
    """A foreign record's: no tokens, a part of a turn, more digits than a length has."""
    made = ragged("hf", 2.0, "32_64", batch)
    made["case"]["id"] = f"llama125m-1xcpu-hf-b{batch}-in{text}-out32"
    assert read(tmp_path, made) == []


def test_the_gain_over_padding_is_a_ratio(tmp_path: Path) -> None:
    """hf in 3 s, hf_paged in 2 s: 1.5; padded, 4 x 256 positions stand for 480, 2.13 times as many."""
    samples = read(tmp_path, ragged("hf", 3.0), ragged("hf_int8", 4.0), ragged("hf_paged", 2.0))
    (row,) = side_by_side(samples)
    assert row.input_text == "32_64_128_256"
    assert row.gains["hf_paged"].value == pytest.approx(1.5)
    text = comparison(samples)
    assert "| 4 | 32_64_128_256 | 32 | 1 (3.00 s) |" in text
    assert "(32_64_128_256: 2.13 times as many)" in text
    assert "These engines pad: hf, hf_int8. These do not: hf_paged;" in text
    even = [record("llama125m", "1xcpu", 4, 1.0), ragged("hf_paged", 1.0)]
    even[1]["case"] |= {"id": "x-1xcpu-hf_paged-b4-in512-out64", "input_len": 512, "output_len": 64}
    del even[1]["case"]["input_lens"]
    assert "padded" not in comparison(read(tmp_path, *even))


def test_figures_and_tables_name_all_lengths(tmp_path: Path) -> None:
    """A figure over batch sizes has a ragged curve of its own; one over input lengths has none of it."""
    cases = [
        *(ragged("hf", 2.0 * batch, batch=batch) for batch in (4, 8)),
        *(record("llama125m", "1xcpu", 4, 1.0, input_len=length, output_len=32) for length in (128, 256)),
    ]
    samples = read(tmp_path, *cases)
    made = figures(samples)
    assert any(figure.title.endswith("input 32_64_128_256, output 32") for figure in made)
    (over_input,) = [one for one in made if one.kind == "prefill" and "over input length" in one.title]
    assert {point["input_len"] for point in over_input.points} == {128, 256}
    assert len(over_input.points) == 2
    assert "| 4 | 32_64_128_256 | 32 |" in table(samples)
    names = {field["name"] for field in page_data(samples, [])["fields"]}
    assert "input_lens" in names
    assert "input_lens" not in {field["name"] for field in page_data(samples[2:], [])["fields"]}
