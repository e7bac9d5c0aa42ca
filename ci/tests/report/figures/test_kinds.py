"""Figures beyond latency, each held against numbers that are worked out here by hand or from the csv."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.report.draw.chart import HEIGHT, WIDTH, svg
from ci.report.figures import Figure, figures, spec
from ci.report.read.cases import Seconds
from ci.report.read.samples import Sample, newest, read_samples
from ci.report.read.speed_ups import first_win
from ci.tests.conftest import ROOT
from ci.tests.many_histories import record, run, series
from ci.tests.records import recorded
from ci.tests.report.figures.test_published import value_at
from fixtures.core.result.out_of_memory import Outcome
from fixtures.core.spec.case import Point

HISTORIES, BASELINES = ROOT / "ci" / "histories" / "1xcpu", ROOT / "ci" / "baselines"
# 2 GFLOP a token, 1 GB of weights, no cache, on 1 TFLOP/s and 100 GB/s: easy to work out by hand
WORK = {
    "flops_constant": 0.0, "flops_per_token": 2e9, "flops_per_pair": 0.0, "weight_bytes": 10**9, "caches": [],
}  # fmt: skip
PEAKS = {"flops_per_s": 1e12, "bandwidth_bytes_per_s": 1e11}


def sample(
    batch: int,
    latency_s: float | None = 1.0,
    devices: int = 1,
    *,
    lengths: tuple[int, int] = (100, 11),
    engine: str = "hf",
    seconds: tuple[float, ...] = (),
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Sample:
    """A case of a model that does WORK, on devices that reach PEAKS together."""
    device, model, hardware = "a100_80gb", "m", f"{devices}xa100_80gb"
    case_id = f"{model}-{hardware}-{engine}-b{batch}-in{lengths[0]}-out{lengths[1]}"
    case = {
        "id": case_id, "model": {"name": model, "architecture": {"model_type": "none"}}, "device": device,
        "hardware": hardware, "devices": devices, "batch_size": batch,
        "engine": {"name": engine, "kind": engine, "dtype": "bfloat16", "attention": "auto"},
    }  # fmt: skip
    values = {
        "case": case, "work": WORK, "machine": {"reported_name": "x", "cores": 1},
        "limits": {"peaks": {"measured": PEAKS}}, **changes,
    }  # fmt: skip
    point, names = Point(batch, *lengths), (case_id, model, hardware, device, device)
    return Sample(*names, devices, engine, point, "measured", latency_s, "", "f", recorded(**values), seconds)


def of_kind(kind: str, *samples: Sample) -> list[Figure]:
    """The figures of one kind that these give."""
    return [one for one in figures(samples) if one.kind == kind]


def marks(text: str) -> list[tuple[str, float, float]]:
    """Case and place of each point of a drawn figure."""
    found = []
    for mark in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}path"):
        if mark.get("aria-roledescription") == "point":
            place = re.match(r"translate\((.+),(.+)\)", mark.get("transform") or "")
            assert place is not None
            found.append((mark.get("aria-label") or "", float(place[1]), float(place[2])))
    return found


def published_ms(model: str) -> dict[tuple[str, int], int]:
    """Hardware and batch -> milliseconds at 512 tokens in and 64 out."""
    with (BASELINES / "published" / "a100_2023.csv").open() as file:
        return {
            (row["hardware"], int(row["batch_size"])): int(row["latency_ms"])
            for row in csv.DictReader(file)
            if (row["model"], row["input_len"], row["output_len"]) == (model, "512", "64")
        }


@pytest.fixture(scope="module")
def stored() -> dict[str, Figure]:
    """The figures of all that is stored, by name."""
    return {one.name: one for one in figures(read_samples([HISTORIES, BASELINES]))}


def test_every_kind_of_what_is_stored_gives_its_points_back_from_its_marks(stored: dict[str, Figure]) -> None:
    """One figure of each kind, the one with the most points: every mark is its case's, at its values."""
    pytest.importorskip("vl_convert")
    by_kind = {one.kind: one for one in sorted(stored.values(), key=lambda one: len(one.points))}
    assert set(by_kind) == {
        "length", "throughput", "batch size", "prefill", "decode", "roofline", "memory",
        "speed-up", "efficiency", "trend", "engines",
    }  # fmt: skip
    for figure in by_kind.values():
        assert_marks_are_points(figure)


def assert_marks_are_points(figure: Figure) -> None:
    """Each mark of the drawn figure is its point's case, at its point's values."""
    encoding, text = spec(figure)["encoding"], svg(spec(figure))
    assert len(text) < 60_000, figure.name
    x, y = encoding["x"], encoding["y"]
    places = marks(text)
    assert len(places) == len(figure.points)
    for (case, left, down), point in zip(places, figure.points, strict=True):
        assert case == point["case"]
        along, up = (
            value_at(left, x["scale"], WIDTH, turned=False),
            value_at(down, y["scale"], HEIGHT, turned=True),
        )
        assert (along, up) == pytest.approx((point[x["field"]], point[y["field"]]), rel=1e-6)


def test_a_model_that_was_measured_stands_beside_its_published_self(tmp_path: Path) -> None:
    """One figure, two marks: the 40 published points of MPT-7B, and this machine's own."""
    own = [record("mpt7b", batch, 0.5 * batch, hardware="1xh100_80gb", lengths=(512, 64)) for batch in (1, 2)]
    (tmp_path / "own.json").write_text(json.dumps(run(own, 0)))
    found = {one.name: one for one in figures(read_samples([BASELINES / "published", tmp_path]))}
    figure = found["hardware_mpt7b_512_64"]
    assert [one["source"] for one in figure.points].count("published") == 40
    assert [(one["series"], one["latency_ms"]) for one in figure.points if one["source"] == "measured"] == [
        ("1xh100_80gb hf", 500), ("1xh100_80gb hf", 1000)
    ]  # fmt: skip
    shape = spec(figure)["layer"][-1]["encoding"]["shape"]["scale"]
    assert shape == {"domain": ["measured", "published"], "range": ["circle", "diamond"]}


def test_cpus_of_several_names_stand_apart(tmp_path: Path) -> None:
    """The same cases on two CPUs are two curves, and each CPU has roofs of its own; alone it has no name."""
    for number, name in enumerate(("A", "B")):
        own = [record("mpt125m", batch, (1 + number) * batch) for batch in (1, 2)]
        for one in own:
            one["machine"] |= {"reported_name": name}
        (tmp_path / f"{name}.json").write_text(json.dumps(run(own, number)))
    alone, both = (newest(read_samples([tmp_path / of])) for of in ("A.json", ""))
    assert {(one.hardware, one.kind) for one in alone} == {("1xcpu", "cpu")}
    assert [(one.hardware, round(one.latency_s or 0, 9)) for one in both] == [
        ("1xcpu, A, 2 cores", 1), ("1xcpu, A, 2 cores", 2),
        ("1xcpu, B, 2 cores", 2), ("1xcpu, B, 2 cores", 4),
    ]  # fmt: skip
    assert both[0].case_id == "mpt125m-1xcpu-hf-b1-in128-out32, A, 2 cores"
    assert both[0].record.case.id == "mpt125m-1xcpu-hf-b1-in128-out32"
    found = figures(both)
    (throughput,) = [one for one in found if one.name == "hardware_mpt125m_128_32"]
    assert {one["series"] for one in throughput.points} == {f"1xcpu, {name}, 2 cores hf" for name in "AB"}
    roofs = [one.title for one in found if one.kind == "roofline"]
    assert roofs == ["Roofline: cpu, A, 2 cores", "Roofline: cpu, B, 2 cores"]
    batches = [one for one in found if one.kind == "batch size"]
    assert [len(one.points) for one in batches] == [4, 4]  # each is predicted by its own CPU's alone


def test_texts_are_texts_and_a_figure_is_legible_on_any_ground(stored: dict[str, Figure]) -> None:
    """Title, note and names of curves can be read out of the file; the ground is white; no font is loaded."""
    pytest.importorskip("vl_convert")
    text = svg(spec(stored["speed_up_mpt7b_512_64"]))
    texts = {
        "".join(one.itertext())
        for one in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")
    }
    assert {
        "Speed-up over one device: mpt7b, input 512, output 64",
        "4xa100_80gb deepspeed",
        "batch size",
    } <= texts
    assert re.search(r'<rect[^>]* fill="white"', text)
    assert "url(" not in text
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)


def test_a_prediction_leaves_its_own_case_out() -> None:
    """Bounds by hand: prefill 2e9*100*B/1e12 s, ten steps of 1e9/1e11 s: 0.3 s, 0.5 s, 0.9 s for B = 1, 2, 4.

    The first two reached a half and a quarter of it: 0.3 / 0.25 and 0.5 / 0.5; the third, which ran out of
    memory, is expected at the median of both.
    """
    half, quarter = ({"limits": {"peaks": {"measured": PEAKS}, "of_bound": share}} for share in (0.5, 0.25))
    known = (sample(1, 0.6, changes=half), sample(2, 2.0, changes=quarter))
    (figure,) = of_kind("batch size", *known, sample(4, None))
    found = {(one["batch_size"], one["look"]): one["latency_ms"] for one in figure.points}
    assert found == {
        (1, "measured"): 600, (2, "measured"): 2000, (1, "predicted"): pytest.approx(1200),
        (2, "predicted"): pytest.approx(1000), (4, "out of memory"): pytest.approx(900 / 0.375),
    }  # fmt: skip
    assert {one["source"] for one in figure.points if one["look"] != "measured"} == {"predicted"}
    assert of_kind("batch size", sample(1), sample(1, lengths=(100, 12))) == []
    too_large = sample(8, None, changes={"predicted_memory": {"total_bytes": 10**12}})
    (figure,) = of_kind("batch size", *known, too_large)
    assert {one["batch_size"] for one in figure.points} == {1, 2}, "nothing is expected of what cannot fit"


def test_prefill_and_decode_stand_apart_with_their_intervals_and_bounds() -> None:
    """TTFT of three rounds from 0.2 to 0.4 s; (1.3 - 0.3) / 10 is TPOT; a bound of ten steps is a tenth."""
    split = {"ttft_s": 0.3, "ttft_rounds_s": [0.2, 0.3, 0.4], "tpot_s": 0.1}
    limits = {"prefill_bound_s": 0.15, "decode_bound_s": 0.5, "peaks": {"measured": PEAKS}}
    one = sample(1, 1.3, seconds=(1.1, 1.3, 1.5), changes={"split": split, "limits": limits})
    other = sample(2, 1.4, changes={"split": {"ttft_s": 0.5, "tpot_s": None}, "limits": {}})
    (prefill,) = of_kind("prefill", one, other)
    assert [(p["phase_ms"], p["low_ms"], p["high_ms"]) for p in prefill.points] == [
        (300, 200, 400),
        (500, None, None),
    ]
    assert [(p["x"], p["y"], p["dash"]) for p in prefill.lines] == [(1, 150, "dotted")]
    assert of_kind("decode", one, other) == [], "one batch has a TPOT: that is no curve"
    third = sample(4, 1.4, changes={"split": {**split, "tpot_s": 0.2}})
    (decode,) = of_kind("decode", one, other, third)
    first = decode.points[0]
    assert (first["phase_ms"], first["low_ms"], first["high_ms"]) == (
        100,
        pytest.approx(90),
        pytest.approx(110),
    )
    assert [(p["x"], p["y"]) for p in decode.lines] == [(1, 50)]
    over_input = of_kind("prefill", one, sample(1, 2.0, lengths=(200, 11), changes={"split": split}))
    assert [[p["input_len"] for p in figure.points] for figure in over_input] == [[100, 200]]


def test_tpot_over_depth_is_a_figure_of_its_own() -> None:
    """Three depths of a case, 0 among them, on linear axes; in no other figure are those at a depth."""

    def at(depth: int, tpot_s: float, batch: int = 1) -> Sample:
        split = {"ttft_s": 0.5, "tpot_s": tpot_s}
        flat = sample(batch, 1.0, changes={"split": split, "limits": {"decode_bound_s": 10 * tpot_s / 2}})
        point = replace(flat.point, depth=depth)
        return replace(flat, point=point, case_id=flat.case_id + f"-at{depth}" * bool(depth))

    cases = [at(0, 0.1), at(4096, 0.2), at(16384, 0.5)]
    (decode,) = of_kind("decode", *cases)
    assert [(p["depth"], p["phase_ms"]) for p in decode.points] == [(0, 100), (4096, 200), (16384, 500)]
    assert [(p["x"], p["y"]) for p in decode.lines] == [(0, 50), (4096, 100), (16384, 250)]
    assert decode.title == "Decode, TPOT over depth: m, batch 1, input 100, output 11"
    drawn = spec(decode)["encoding"]
    assert [(drawn[axis]["scale"]["domain"][0], "type" in drawn[axis]["scale"]) for axis in "xy"] == [
        (0, False),
        (0, False),
    ]
    assert of_kind("decode", *cases[1:], at(4096, 0.3, batch=2)) != []
    assert of_kind("decode", at(0, 0.1), at(4096, 0.3, batch=2)) == []
    kinds = {one.kind for one in figures([*cases, at(4096, 0.3, batch=2)])}
    assert kinds == {"prefill", "decode", "roofline"}, "the roofline has the case without a depth"


def test_a_roofline_has_what_was_attained_under_what_can_be() -> None:
    """By hand: 100 tokens of 2 GFLOP over 1 GB are 200 FLOP/byte, a step 2; over two devices half each."""
    split = {"ttft_s": 0.5, "ttft_rounds_s": [0.4, 0.5], "tpot_s": 0.02}
    (figure,) = of_kind(
        "roofline", sample(1, changes={"split": split}), sample(1, 0.7, devices=2, engine="hf_tp")
    )
    prefill, decode, call = figure.points
    assert (prefill["intensity"], prefill["flops_per_s"], prefill["look"]) == (200, 4e11, "measured prefill")
    assert (prefill["low"], prefill["high"]) == (4e11, 5e11)
    assert (decode["intensity"], decode["flops_per_s"], decode["look"]) == (2, 1e11, "measured decode")
    # 110 tokens in all, the weights eleven times
    assert (call["intensity"], call["flops_per_s"]) == (20, pytest.approx(2.2e11 / 0.7 / 2))
    roofs = {one["line"]: one for one in figure.lines}
    assert set(roofs) == {"datasheet", "measured", "0.5 measured", "0.1 measured"}
    measured = [(one["x"], one["y"]) for one in figure.lines if one["line"] == "measured"]
    # of one device: the median of 1 TFLOP/s and of half of it, with the bandwidth likewise, so the same ridge
    assert measured[1] == (10, 7.5e11)
    assert measured[0][1] == pytest.approx(measured[0][0] * 7.5e10)
    datasheet = [(one["x"], one["y"]) for one in figure.lines if one["line"] == "datasheet"]
    assert datasheet[1] == (pytest.approx(312e12 / 2039e9), 312e12)


def test_no_published_point_is_above_its_roof(stored: dict[str, Figure]) -> None:
    """312 TFLOP/s and 2039 GB/s (1555 of the 40 GB card), as NVIDIA states them."""
    for name, bandwidth in (("roofline_a100_80gb", 2039e9), ("roofline_a100_40gb", 1555e9)):
        points = stored[name].points
        shares = [one["flops_per_s"] / min(312e12, one["intensity"] * bandwidth) for one in points]
        assert 0.02 < min(shares) < max(shares) < 0.85
    assert len(stored["roofline_a100_80gb"].points) + len(stored["roofline_a100_40gb"].points) == 138


def test_memory_ends_where_the_published_curves_end(stored: dict[str, Figure]) -> None:
    """Marked out of memory is what the csv lacks; the edge is 40 GiB; batch 1 holds weights and a cache."""
    figure = stored["memory_mpt7b_a100_40gb_512_64"]
    machines = {"1xa100_40gb hf_eager", "2xa100_40gb deepspeed", "4xa100_40gb deepspeed"}
    expected = {(m, b) for m in machines for b in (1, 2, 4, 8, 16, 32, 64)} - {
        (m, b) for m in machines for h, b in published_ms("mpt7b") if h == m.split()[0]
    }
    found = {(p["series"], p["batch_size"]) for p in figure.points if p["look"] == "out of memory"}
    assert found == expected == {("1xa100_40gb hf_eager", 64), ("2xa100_40gb deepspeed", 64)}
    assert [one["y"] for one in figure.lines] == [pytest.approx(40 * 2**30 / 1e9)] * 2
    first = next(p for p in figure.points if (p["series"], p["batch_size"]) == ("1xa100_40gb hf_eager", 1))
    held = (13_298_573_312 + 575 * 32 * 2 * 4096 * 2) / 1e9  # weights, keys and values of 575 tokens
    assert held < first["memory_gb"] < held + 0.3
    assert first["source"] == "predicted"
    assert "memory_mpt7b_a100_80gb_512_64" not in stored, "nothing ran out there, and nothing was measured"


def test_memory_that_was_measured_stands_beside_what_was_predicted() -> None:
    """In GB; where it ran out, what the outcome says that it needed."""
    ran_out = sample(2, None)
    (figure,) = of_kind(
        "memory",
        sample(
            1, changes={"peak_memory_bytes": 2 * 10**9, "predicted_memory": {"total_bytes": 2_100_000_000}}
        ),
        replace(ran_out, outcome=Outcome(case=ran_out.record.case, needed_bytes=90_000_000_000)),
    )
    assert [(p["look"], p["source"], p["memory_gb"]) for p in figure.points] == [
        ("measured", "measured", 2.0), ("predicted", "predicted", 2.1), ("out of memory", "predicted", 90.0),
    ]  # fmt: skip
    assert [one["y"] for one in figure.lines] == [pytest.approx(80 * 2**30 / 1e9)] * 2


@pytest.mark.parametrize("model", ["mpt7b", "mpt30b"])
def test_speed_ups_and_wins_are_those_of_the_csv(model: str, stored: dict[str, Figure]) -> None:
    """Every pair of the csv on one device and on several; the sentences say what the milliseconds say."""
    ms = published_ms(model)
    figure = stored[f"speed_up_{model}_512_64"]
    expected = {
        (hardware, batch): ms[f"1x{hardware[2:]}", batch] / value
        for (hardware, batch), value in ms.items()
        if hardware[0] != "1" and (f"1x{hardware[2:]}", batch) in ms
    }
    found = {(p["series"].split()[0], p["batch_size"]): p["value"] for p in figure.points}
    assert found == {key: pytest.approx(value, rel=1e-6) for key, value in expected.items()}
    shares = {
        (p["series"].split()[0], p["batch_size"]): p["value"]
        for p in stored[f"efficiency_{model}_512_64"].points
    }
    assert shares == {
        key: pytest.approx(100 * value / int(key[0][0]), rel=1e-6) for key, value in expected.items()
    }
    said = {
        "mpt7b": {
            "a100_80gb deepspeed (published): 2 win over 1 from batch 8 on, 4 win over 2 from batch 2 on",
            "a100_40gb deepspeed (published): 2 win over 1 from batch 8 on, 4 win over 2 from batch 2 on "
            "(alone at 64)",
        },
        "mpt30b": {
            "a100_80gb deepspeed (published): 2 win over 1 at every batch (alone at 16, 32), "
            "4 win over 2 from batch 4 on (alone at 64)",
            "a100_40gb deepspeed (published): 4 win over 2 at every batch (alone at 8, 16, 32)",
        },
    }
    assert set(figure.notes) == said[model]


LATENCIES = st.dictionaries(st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 20).map(float))


@settings(deadline=None, derandomize=True)
@given(few=LATENCIES, many=LATENCIES)
def test_the_batch_of_a_win_is_the_least_from_which_all_are_won(
    few: dict[int, float], many: dict[int, float]
) -> None:
    """Against a search of every batch."""
    both = sorted(few.keys() & many.keys())
    winning = [start for start in both if all(many[b] < few[b] for b in both if b >= start)]
    found = first_win({b: Seconds(s) for b, s in few.items()}, {b: Seconds(s) for b, s in many.items()})
    assert found == min(winning, default=None)


def test_what_lies_within_the_intervals_is_no_win() -> None:
    """And the ends of a speed-up are those of both intervals at their worst."""
    interval = {"latency_interval": {"low": 0.9, "high": 1.1, "coverage": 0.95}}
    wide = {"latency_interval": {"low": 0.5, "high": 1.0, "coverage": 0.95}}
    samples = [sample(b, 1.0, changes=interval) for b in (1, 2)]
    samples += [sample(b, 0.8, 2, changes=wide) for b in (1, 2)]
    (figure,) = of_kind("speed-up", *samples)
    assert [(p["value"], p["low"], p["high"]) for p in figure.points] == [(1.25, 0.9, 2.2)] * 2
    assert figure.notes == ("a100_80gb hf (measured): 2 not surely faster than 1",)


def test_a_trend_shows_the_run_in_which_a_case_got_slower(tmp_path: Path) -> None:
    """The thirteenth of fourteen runs is 12 % slower in one case: red there, and nowhere else."""
    noise = [0.3, -0.5, 0.1, 0.6, -0.2, -0.6, 0.4, 0.0, -0.3, 0.5, -0.4, 0.2, 0.3, -0.1]

    def latency_s(number: int, batch: int) -> float:
        slower = 1.12 if number >= 12 and batch == 4 else 1.0
        return batch / 2 * (1 + noise[(number * 5 + batch) % 14] / 100) * slower

    series(tmp_path, 14, latency_s)
    (figure,) = [one for one in figures(read_samples([tmp_path])) if one.kind == "trend"]
    assert len(figure.points) == 42
    red = {(p["case"], p["number"]) for p in figure.points if p["verdict"] == "REGRESSED"}
    assert red == {("m-1xcpu-hf-b4-in128-out32", 13)} or red == {
        ("m-1xcpu-hf-b4-in128-out32", 13),
        ("m-1xcpu-hf-b4-in128-out32", 14),
    }
    (point,) = [p for p in figure.points if (p["case"], p["number"]) in red and p["number"] == 13]
    assert point["ratio"] == pytest.approx(1.12, abs=0.02)
    assert point["run"] == "2026-01-13 000000c"
    ends = next(one for one in read_samples([tmp_path / "run_012.json"]) if one.point.batch_size == 4).record
    interval = ends.latency_interval
    assert ends.latency_median_s is not None
    assert interval is not None
    middle = ends.latency_median_s / point["ratio"]
    assert (point["low"] * middle, point["high"] * middle) == pytest.approx((interval.low, interval.high))
    assert {p["verdict"] for p in figure.points if p["number"] == 1} == {"not judged"}
    shape = spec(figure)["layer"][-1]["encoding"]["shape"]
    assert shape["field"] == "verdict"
    pytest.importorskip("vl_convert")
    assert_marks_are_points(figure)
    assert spec(figure)["encoding"]["x"]["axis"]["labelExpr"].startswith('({"1": "2026-01-01 0000000"')


def test_a_trend_has_the_newest_runs_and_says_of_how_many(tmp_path: Path) -> None:
    """Whatever the files are called; a run that ran out of memory is in it."""
    series(tmp_path, 23, lambda _, batch: batch / 2)
    lost = record("m", 1, 1.0)
    outcome = {"case": lost["case"], "outcome": "out of memory", "detail": "x"}
    (tmp_path / "a.json").write_text(json.dumps(run([record("m", 2, 1.5)], 23, [outcome])))
    (figure,) = [one for one in figures(read_samples([tmp_path])) if one.kind == "trend"]
    assert figure.notes == (
        "verdicts are the gate's, of each run by the 10 before it; the newest 20 of 24 runs",
    )
    assert {p["number"] for p in figure.points} == set(range(1, 21))
    last = {p["case"].split("-")[3]: p["verdict"] for p in figure.points if p["number"] == 20}
    assert last["b1"] == "OUT OF MEMORY"
    assert last["b2"] == "REGRESSED"
    assert [one.kind for one in figures(newest(read_samples([tmp_path]))) if one.kind == "trend"] == []


def test_a_trend_of_a_case_at_a_depth_is_a_figure_of_its_own(tmp_path: Path) -> None:
    """Its title has the depth; the figure of the case without one has the runs of that alone."""
    for number in range(4):
        deep = record("m", 1, 3.0 + number)
        deep["case"] |= {"id": deep["case"]["id"] + "-at4096", "depth": 4096}
        both = run([record("m", 1, 1.0 + number), deep], number)
        (tmp_path / f"run_{number}.json").write_text(json.dumps(both))
    found = {one.title: one for one in figures(read_samples([tmp_path])) if one.kind == "trend"}
    flat, at_depth = "Trend: m on 1xcpu, hf, input 128, output 32", "depth 4096"
    assert list(found) == [flat, f"{flat}, {at_depth}"]
    for title, first in ((flat, 1.0), (f"{flat}, {at_depth}", 3.0)):
        ratios = [(first + number) / (first + 1.5) for number in range(4)]
        assert [values["ratio"] for values in found[title].points] == pytest.approx(ratios)
        assert {values["case"].endswith("-at4096") for values in found[title].points} == {at_depth in title}


BAD = [None, -1, 0, True, "x", [], {}, 1e400, math.nan, [None], [1, "x"], {"a": 1}]


@pytest.mark.parametrize(
    "path",
    [
        "work", "work.weight_bytes", "work.flops_per_token", "work.caches", "split", "split.ttft_s",
        "split.tpot_s", "split.ttft_rounds_s", "limits", "limits.peaks", "limits.peaks.measured",
        "limits.of_bound", "machine", "machine.memory_bytes", "predicted_memory",
        "predicted_memory.total_bytes", "peak_memory_bytes", "latency_interval", "latency_interval.low",
        "case.engine", "case.engine.kind", "case.model.architecture", "threads", "threads_by_rank",
        "needed_bytes", "latency_median_s",
    ],
)  # fmt: skip
def test_no_part_of_a_record_can_break_a_figure(path: str) -> None:
    """What is not of its kind is left out: no number of a figure is made of it, and every one has a spec."""
    *parents, last = path.split(".")
    for value in BAD:
        rows = [record("mpt7b", batch, 1.0, hardware=f"{n}xcpu") for batch in (1, 2) for n in (1, 2)]
        for row in rows:
            inside = row
            for key in parents:
                inside = inside.setdefault(key, {})
            inside[last] = value
        names = [
            ("mpt7b", row["case"]["hardware"], "cpu", "cpu", row["case"]["devices"], "hf") for row in rows
        ]
        points = [Point(row["case"]["batch_size"], 128, 32) for row in rows]
        samples = [
            Sample(f"c{latency_s}", *of, point, "measured", latency_s, "", "f", recorded(**row))
            for of, point, row, latency_s in zip(names, points, rows, (None, 1.0, 2.0, 3.0), strict=True)
        ]
        for figure in figures(samples):
            json.dumps(spec(figure), allow_nan=False)


def test_hostile_texts_are_texts(tmp_path: Path) -> None:
    """Whatever a history calls its model, day and commit stands in the drawing as text, and is no element."""
    pytest.importorskip("vl_convert")
    evil = "</text><script>alert('x')</script>\"]+alert(1)//{0}" + "y" * 500
    for number in range(4):
        day = run([record(evil, batch, 1.0 + number) for batch in (1, 2)], number)
        day["datetime"], day["commit_info"]["id"] = "'];alert(1)//<b>", '"+a()//'
        (tmp_path / f"{number}.json").write_text(json.dumps(day))
    found = figures(read_samples([tmp_path]))
    assert {one.kind for one in found} == {"batch size", "prefill", "decode", "roofline", "memory", "trend"}
    for figure in found:
        drawn = ElementTree.fromstring(svg(spec(figure)))
        tags = {one.tag.partition("}")[2] for one in drawn.iter()}
        assert tags <= {"svg", "rect", "g", "path", "line", "text", "tspan", "defs", "clipPath"}, figure.kind
        assert float(drawn.get("width", "0")) < 1200
        texts = "\n".join("".join(one.itertext()) for one in drawn.iter())
        assert "</text><script>alert('x')</script>" in texts or figure.kind == "trend"
    assert "'];alert(1 \"+a()//" in texts
