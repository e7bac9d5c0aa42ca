"""Estimated curves in figures, held against what `ci.pick --estimate` says of the same cases."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec import structs

from ci.pick.__main__ import main as pick
from ci.report.__main__ import main
from ci.report.draw.chart import HEIGHT, WIDTH, svg
from ci.report.figures import Figure, figures, spec
from ci.report.figures.estimated import between
from ci.report.markdown import table
from ci.report.read.samples import Sample, newest, read_samples
from ci.tests.conftest import ROOT
from ci.tests.report.figures.test_published import value_at

PUBLISHED, CPU = ROOT / "ci" / "baselines" / "published", ROOT / "ci" / "histories" / "1xcpu"
LENGTH = "batch_mpt7b_1xa100_80gb_hf_eager_128"
THROUGHPUT, BATCH = "hardware_mpt7b_512_64", "batch_size_mpt30b_a100_40gb_512_64"


@pytest.fixture(scope="module")
def published() -> list[Sample]:
    """The published cases."""
    return newest(read_samples([PUBLISHED]))


@pytest.fixture(scope="module")
def drawn(published: list[Sample]) -> dict[str, Figure]:
    """Their figures with estimates, by name."""
    return {one.name: one for one in figures(published, estimate=True)}


def asked(capsys: pytest.CaptureFixture[str], model: str, lengths: tuple[int, int], *more: str) -> Any:
    """What the command estimates of a case, in plain values."""
    given = ["--model", model, "--input", str(lengths[0]), "--output", str(lengths[1]), "--latency", "999s"]
    assert pick([str(PUBLISHED), *given, "--estimate", "--json", *more]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    (row,) = [row for row in rows if row["estimate"] is not None]
    return row["estimate"]


def curve(figure: Figure, series: str) -> dict[int, tuple[tuple[float, float], ...]]:
    """By its place in the line: low end, estimate, high end."""
    (one,) = [one for one in figure.estimates if one.series == series]
    middle, ends = ([(row["x"], row["y"]) for row in rows] for rows in (one.line, one.band))
    highs = ends[len(middle) :][::-1]
    return dict(enumerate(zip(ends[: len(middle)], middle, highs, strict=True)))


def test_without_the_option_a_figure_has_no_estimate(published: list[Sample]) -> None:
    """Neither in its data nor in its layers."""
    plain = figures(published)
    assert all(one.estimates == () for one in plain)
    assert "estimat" not in json.dumps([spec(one) for one in plain]).replace("!== 'estimated'", "")


def test_a_line_over_output_length_is_what_the_command_says(
    drawn: dict[str, Figure], capsys: pytest.CaptureFixture[str]
) -> None:
    """24 tokens out were measured nowhere. In ms, by the command's seconds."""
    lengths = between({1, 11, 101, 1001})
    on = ("--hardware", "1xa100_80gb", "--engine", "hf_eager", "--batch", "16")
    expected = asked(capsys, "mpt7b", (128, 24), *on)
    ends = curve(drawn[LENGTH], "16")[lengths.index(24)]
    assert [x for x, _ in ends] == [24, 24, 24]
    for (_, y), name in zip(ends, ("low_s", "latency_s", "high_s"), strict=True):
        assert y == pytest.approx(1000 * expected[name], rel=1e-6)


def test_a_line_over_batches_has_throughput_and_latency_of_the_same_call(
    drawn: dict[str, Figure], capsys: pytest.CaptureFixture[str]
) -> None:
    """24 sequences of 64 tokens: the faster end of the interval is the end of more tokens/s."""
    on = ("--hardware", "1xa100_80gb", "--engine", "hf_eager", "--batch", "24")
    expected = asked(capsys, "mpt7b", (512, 64), *on)
    place = between({1, 64}).index(24)
    for (x, y), name in zip(
        curve(drawn[THROUGHPUT], "1xa100_80gb hf_eager")[place], ("low_s", "latency_s", "high_s"), strict=True
    ):
        assert y == pytest.approx(1000 * expected[name], rel=1e-6)
        assert x == pytest.approx(24 * 64 / expected[name], rel=1e-6)


def test_what_ran_out_of_memory_is_marked_at_its_estimate_and_ends_the_line(drawn: dict[str, Figure]) -> None:
    """Two A100 40GB ran out from 8 on, and hold 16 as predicted: the line ends there, the marks go on."""
    figure = drawn[BATCH]
    (line,) = [one.line for one in figure.estimates if one.series == "2xa100_40gb deepspeed"]
    assert line[-1]["x"] == 16
    marks = {p["batch_size"]: p for p in figure.points if p["series"] == "2xa100_40gb deepspeed"}
    assert {b: p["look"] for b, p in marks.items() if b >= 8} == dict.fromkeys(
        (8, 16, 32, 64), "out of memory"
    )
    assert marks[16]["latency_ms"] == line[-1]["y"]
    assert {p["source"] for p in figure.points} == {"published", "estimated"}


def test_nothing_estimated_is_a_point_or_a_row(published: list[Sample], drawn: dict[str, Figure]) -> None:
    """But for marks of what ran out of memory, points and tables are those of the measurements."""
    latency = ("length", "throughput", "batch size")
    for figure in drawn.values():
        known = [p for p in figure.points if p["source"] == "estimated"]
        assert all(p["look"] == "out of memory" for p in known)
        assert bool(figure.estimates) is (figure.kind in latency), figure.name
    plain = {one.name: one for one in figures(published)}
    assert set(plain) == set(drawn)
    for name, figure in plain.items():
        sources = ("measured", "published")
        assert [p for p in figure.points if p["source"] in sources] == [
            p for p in drawn[name].points if p["source"] in sources
        ]
    assert "estimat" not in table(published)


def test_the_drawing_says_estimated_to_eyes_and_ears(drawn: dict[str, Figure]) -> None:
    """A dashed path a curve, read back to its values; legend, note and label name it; no mark is one."""
    pytest.importorskip("vl_convert")
    figure = drawn[LENGTH]
    text, encoding = svg(spec(figure)), spec(figure)["encoding"]
    root = ElementTree.fromstring(text)
    paths = [one for one in root.iter("{http://www.w3.org/2000/svg}path") if one.get("stroke-dasharray")]
    told = [one for one in paths if (one.get("aria-label") or "").startswith("estimated, batch ")]
    assert len(told) == len(figure.estimates) == 4
    found = {}
    for path in told:
        places = [
            tuple(map(float, pair.split(","))) for pair in re.findall(r"[ML]([^ML]+)", path.get("d") or "")
        ]
        series = (path.get("aria-label") or "").split(":")[0].removeprefix("estimated, batch ")
        found[series] = [
            (
                value_at(left, encoding["x"]["scale"], WIDTH, turned=False),
                value_at(down, encoding["y"]["scale"], HEIGHT, turned=True),
            )
            for left, down in places
        ]
    for one in figure.estimates:
        expected = [(row["x"], row["y"]) for row in one.line]
        assert found[one.series] == [pytest.approx(place, rel=5e-3) for place in expected]
    texts = {"".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")}
    assert "estimated, 90 % interval" in texts
    assert any("estimated by yamls/physics (hf_gpu), not measured" in one for one in texts)
    points = [one for one in root.iter() if one.get("aria-roledescription") == "point"]
    assert len(points) == len(figure.points)


def test_what_the_formula_refuses_keeps_its_prediction(published: list[Sample]) -> None:
    """An engine in fp32 is in no fit: no curve, and today's predicted points."""
    group = [one for one in published if (one.model, one.kind) == ("mpt30b", "a100_40gb")]
    changed = []
    for one in group:
        case = structs.replace(
            one.record.case, engine=structs.replace(one.record.case.engine, dtype="float32")
        )
        changed.append(replace(one, record=structs.replace(one.record, case=case)))
    assert all(one.estimates == () for one in figures(changed, estimate=True))
    (before,) = [one for one in figures(group) if one.kind == "batch size"]
    (after,) = [one for one in figures(group, estimate=True) if one.kind == "batch size"]
    assert {p["source"] for p in before.points} == {"published", "predicted"}
    assert {p["source"] for p in after.points} == {"published", "estimated"}


def test_each_cpu_has_its_own_estimates() -> None:
    """Of two CPUs each curve is near its own points, by its own peaks and factors."""
    found = {one.name: one for one in figures(read_samples([CPU]), estimate=True)}
    (both,) = [one for one in found.values() if one.name == "hardware_mpt125m_128_32"]
    hf = [one for one in both.estimates if one.series.endswith(" hf")]
    assert len(hf) == 2
    for one in hf:
        first = next(p for p in both.points if (p["series"], p["batch_size"]) == (one.series, 1))
        assert one.line[0]["y"] == pytest.approx(first["latency_ms"], rel=0.5)


def test_the_option_reaches_files(tmp_path: Path) -> None:
    """The command line's figures have them."""
    pytest.importorskip("vl_convert")
    assert main([str(PUBLISHED), "--figures", str(tmp_path), "--most", "1", "--estimate"]) == 0
    (file,) = tmp_path.iterdir()
    assert "estimated, 90 % interval" in file.read_text()
