"""Engines side by side: ratios, their intervals and the other tables, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ci.report.__main__ import main
from ci.report.compare import comparison
from ci.report.figures import figures, spec
from ci.report.read.engines import APART, PROCESSES, ROUNDS, side_by_side
from ci.report.read.samples import read_samples
from ci.tests.report_histories import record, write


def of_engine(engine: str, batch: int, latency_s: float, **changes: Any) -> dict[str, Any]:
    """A record of an engine whose median's interval is from 0.95 to 1.06 of its latency."""
    made = record("llama125m", "1xcpu", batch, latency_s)
    case = made["case"]
    case["id"] = case["id"].replace(f"-{case['engine']['name']}-", f"-{engine}-")
    case["engine"] = {**case["engine"], "name": engine, "kind": engine}
    return {**made, **changes}


def run(folder: Path, name: str, records: list[dict[str, Any]], minute: int = 0) -> None:
    """A history of these records."""
    write(folder / f"{name}.json", records, f"2026-11-25T10:{minute:02}:00+00:00")


def test_a_ratio_is_above_one_where_the_engine_is_faster_and_takes_the_worst_ends(tmp_path: Path) -> None:
    """hf in 2 s (1.90 to 2.12), the other in 1 s (0.95 to 1.06): 2, from 1.90/1.06 to 2.12/0.95."""
    run(tmp_path, "a", [of_engine("hf", 1, 2.0), of_engine("hf_int8", 1, 1.0), of_engine("hf", 4, 3.0)])
    (row,) = side_by_side(read_samples([tmp_path]))
    assert (row.model, row.batch_size, row.input_text, row.output_len) == ("llama125m", 1, "512", 64)
    gain = row.gains["hf_int8"]
    assert gain.value == pytest.approx(2.0)
    assert gain.low == pytest.approx(1.9 / 1.06)
    assert gain.high == pytest.approx(2.12 / 0.95)
    assert row.by == {"hf_int8": ROUNDS}


def test_runs_with_both_engines_are_pairs_of_processes(tmp_path: Path) -> None:
    """Four runs whose log ratios are 0.6, 0.69, 0.71, 0.8: with ends trimmed or not, their mean is 0.7."""
    for number, log in enumerate((0.6, 0.69, 0.71, 0.8)):
        pair = [of_engine("hf", 1, math.exp(log)), of_engine("hf_int8", 1, 1.0)]
        run(tmp_path, f"r{number}", pair, number)
    (row,) = side_by_side(read_samples([tmp_path]))
    gain = row.gains["hf_int8"]
    assert row.by == {"hf_int8": PROCESSES}
    assert gain.value == pytest.approx(math.exp(0.7))
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low < math.exp(0.7) < gain.high
    assert gain.low * gain.high == pytest.approx(math.exp(1.4))  # even on the scale of logarithms


def test_engines_of_runs_apart_are_said_to_be_so(tmp_path: Path) -> None:
    """The newest of each where no run has both; a run that has both comes first, however old."""
    run(tmp_path, "a", [of_engine("hf", 1, 2.0)])
    run(tmp_path, "b", [of_engine("hf_int8", 1, 1.0)], 1)
    (row,) = side_by_side(read_samples([tmp_path]))
    assert row.by == {"hf_int8": APART}
    assert "no run in common with hf" in comparison(read_samples([tmp_path]))
    run(tmp_path, "c", [of_engine("hf", 1, 6.0), of_engine("hf_int8", 1, 2.0)])
    (row,) = side_by_side(read_samples([tmp_path]))
    assert row.by == {"hf_int8": ROUNDS}
    assert row.gains["hf_int8"].value == pytest.approx(3.0)


def test_an_engine_without_hf_beside_it_has_no_ratio(tmp_path: Path) -> None:
    """It still has its column; a case that nobody else ran has no row."""
    run(
        tmp_path, "a", [of_engine("hf_fp32", 1, 2.0), of_engine("hf_int8", 1, 1.0), of_engine("vllm", 8, 1.0)]
    )
    (row,) = side_by_side(read_samples([tmp_path]))
    assert set(row.samples) == {"hf_fp32", "hf_int8"}
    assert row.gains == {}
    assert "no ratios" in comparison(read_samples([tmp_path]))


def test_the_tables_have_ratio_limit_seconds_and_memory(tmp_path: Path) -> None:
    """The columns begin with hf; compilation stands beside the load, packed bytes beside the peak."""
    compiled = {"seconds": 40.0, "cold": True, "graphs": 1, "cache_len": 576, "cuda_graphs": False}
    packed = {"name": "int8", "bytes": 159_000_000}
    run(
        tmp_path,
        "a",
        [
            of_engine("hf_compiled", 1, 1.6, compiled=compiled, load_s=2.0),
            of_engine("hf", 1, 2.0, load_s=1.0),
            of_engine("hf_int8", 1, 4.0, weight_format=packed, peak_memory_bytes=600_000_000),
        ],
    )
    text = comparison(read_samples([tmp_path]))
    assert "| model | hardware | batch | in | out | hf | hf_compiled | hf_int8 |" in text
    assert "| 1 (2.00 s) | 1.25 (1.12-1.39) | 0.50 (0.45-0.56) |" in text
    assert "2.00 + 40.0 cold" in text
    assert "0.60 (0.16 packed)" in text
    assert "over the rounds of one process each" in text


def test_an_engine_in_fp32_is_held_against_hf_in_fp32(tmp_path: Path) -> None:
    """hf in 4 s, hf_fp32 in 2 s, llamacpp_f32 in 1 s: 2 over hf_fp32, which is 2 over hf; without it 4."""
    records = [of_engine("hf", 1, 4.0), of_engine("hf_fp32", 1, 2.0), of_engine("llamacpp_f32", 1, 1.0)]
    for one in records[1:]:
        one["case"]["engine"]["dtype"] = "float32"
    run(tmp_path, "a", records)
    (row,) = side_by_side(read_samples([tmp_path]))
    assert {name: gain.value for name, gain in row.gains.items()} == pytest.approx(
        {"hf_fp32": 2.0, "llamacpp_f32": 2.0}
    )
    assert row.over == {"hf_fp32": "hf", "llamacpp_f32": "hf_fp32"}
    assert "In their own dtype: llamacpp_f32 over hf_fp32." in comparison(read_samples([tmp_path]))
    run(tmp_path, "a", [records[0], records[2]])
    (row,) = side_by_side(read_samples([tmp_path]))
    assert row.gains["llamacpp_f32"].value == pytest.approx(4.0)


def deep(engine: str, depth: int, latency_s: float) -> dict[str, Any]:
    """A record of an engine at a depth."""
    made = of_engine(engine, 1, latency_s)
    made["case"] |= {"id": f"{made['case']['id']}-at{depth}", "depth": depth}
    return made


def test_cases_at_a_depth_have_rows_of_their_own(tmp_path: Path) -> None:
    """By depth 2, 4 and 8 times as fast; a column says the depth, and a figure its own in the title."""
    gains = {0: 2.0, 4096: 4.0, 16384: 8.0}
    records = [of_engine("hf", 1, 2.0), of_engine("hf_int8", 1, 1.0)]
    for depth in (4096, 16384):
        records += [deep("hf", depth, gains[depth]), deep("hf_int8", depth, 1.0)]
    run(tmp_path, "a", records)
    samples = read_samples([tmp_path])
    assert {row.depth: row.gains["hf_int8"].value for row in side_by_side(samples)} == gains
    text = comparison(samples)
    assert "| model | hardware | batch | in | out | depth | hf | hf_int8 |" in text
    assert "| llama125m | 1xcpu | 1 | 512 | 64 | 4096 | 1 (4.00 s) | 4.00 (3.58-4.46) |" in text
    assert "Without a row" not in text
    made = [one for one in figures(samples) if one.kind == "engines"]
    title = "Engines against hf: llama125m, input 512, output 64"
    assert [one.title for one in made] == [title, f"{title}, depth 4096", f"{title}, depth 16384"]
    assert len({one.name for one in made}) == 3
    assert "depth" not in comparison([one for one in samples if not one.point.depth])


def test_what_has_no_row_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A case that one engine alone ran, or that failed; of many the first, and how many more."""
    records = [of_engine("hf", 1, 2.0), of_engine("hf_int8", 1, 1.0), deep("hf", 4096, 3.0)]
    run(tmp_path, "a", records)
    history = json.loads((tmp_path / "a.json").read_text())
    history["failed"] = {
        "llama125m-1xcpu-vllm-b1-in512-out64": "ran out of patience",
        records[0]["case"]["id"]: "x",
    }
    (tmp_path / "a.json").write_text(json.dumps(history))
    alone = "llama125m-1xcpu-hf-b1-in512-out64-at4096"
    assert main([str(tmp_path), "--compare", "engine"]) == 0
    assert capsys.readouterr().out.endswith(
        f"\nWithout a row, of one engine alone: 1 case: {alone}.\n\n"
        "- llama125m-1xcpu-vllm-b1-in512-out64 failed: `ran out of patience`\n"
    )
    run(tmp_path, "a", [of_engine("hf", 2**i, 1.0) for i in range(14)])
    text = comparison(read_samples([tmp_path]))
    assert text.startswith("No two engines ran the same")
    assert "Without a row, of one engine alone: 14 cases: " in text
    assert text.endswith("-b32-in512-out64, and 8 more.\n")


def test_an_engine_that_ran_out_of_memory_has_its_cell(tmp_path: Path) -> None:
    """Beside the one that holds the case; it has no ratio, and the other none to it."""
    run(tmp_path, "a", [of_engine("hf_int8", 8, 1.0), of_engine("vllm", 8, 2.0)])
    lost = of_engine("hf", 8, 1.0)["case"]
    history = json.loads((tmp_path / "a.json").read_text())
    history["outcomes"] = [{"case": lost, "outcome": "out of memory", "phase": "decode"}]
    (tmp_path / "a.json").write_text(json.dumps(history))
    (row,) = side_by_side(read_samples([tmp_path]))
    assert (set(row.samples), row.gains) == ({"hf", "hf_int8", "vllm"}, {})
    assert "| 8 | 512 | 64 | out of memory |  |  |" in comparison(read_samples([tmp_path]))


def test_a_ratio_to_another_routing_says_so(tmp_path: Path) -> None:
    """An engine that spreads tokens evenly over the experts does other work than random weights do."""
    records = [of_engine(name, 1, 1.0) for name in ("hf", "hf_uniform", "hf_int8")]
    records[1]["case"]["engine"]["routing"] = "uniform"
    run(tmp_path, "a", records)
    told = "Tokens choose other experts, so that a ratio is of other work too: in hf_uniform than hf."
    assert told in comparison(read_samples([tmp_path]))
    run(tmp_path, "a", [records[0], records[2]])
    assert "other experts" not in comparison(read_samples([tmp_path]))


def test_the_figure_has_the_ratios(tmp_path: Path) -> None:
    """A column an engine, a series a batch size, and a line at 1."""
    both = [of_engine(name, batch, s) for batch in (1, 4) for name, s in (("hf", 2.0), ("hf_int8", 1.0))]
    run(tmp_path, "a", both)
    (figure,) = [one for one in figures(read_samples([tmp_path])) if one.kind == "engines"]
    assert [(p["series"], p["engine"], p["column"], p["value"]) for p in figure.points] == [
        ("1", "hf_int8", 1.0, 2.0),
        ("4", "hf_int8", 1.1, 2.0),
    ]
    axis = spec(figure)["encoding"]["x"]["axis"]
    assert (axis["values"], axis["labelExpr"]) == ([1], '["hf_int8"][datum.value - 1]')
    assert {row["y"] for row in figure.lines} == {1.0}


def test_the_command_compares_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another word is one line and exit code 4; runs without two engines say so."""
    run(tmp_path, "a", [of_engine("hf", 1, 2.0)])
    assert main([str(tmp_path), "--compare", "engine"]) == 0
    assert capsys.readouterr().out.startswith("No two engines ran the same model")
    assert main([str(tmp_path), "--compare", "model"]) == 4
    assert "--compare" in capsys.readouterr().err
