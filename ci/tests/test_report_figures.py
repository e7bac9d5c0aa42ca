"""Figures out of histories: the marks of the SVGs give the published milliseconds back."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ci.curves import Sample, newest, read_samples
from ci.report.__main__ import main
from ci.report.figures import Figure, figures
from ci.report.markdown import escaped, table
from ci.report.specs import COLOURS, HEIGHT, WIDTH, spec
from ci.tests.conftest import ROOT
from fixtures.core.case import Point

PUBLISHED = ROOT / "ci" / "baselines" / "published"
SEVEN = {
    *(f"batch_mpt{size}b_1xa100_80gb_hf_eager_{first}" for size in (7, 30) for first in (128, 2048)),
    *(f"hardware_mpt{size}b_512_64" for size in (7, 30)),
    "model_1xa100_80gb_hf_eager_512_64",
}


def published() -> list[Figure]:
    """The figures of the published history."""
    return figures(newest(read_samples([PUBLISHED])))


def sample(**changes: Any) -> Sample:
    """A measured case."""
    values = {
        "case_id": "m-1xa-hf-b1-in8-out4", "model": "m", "hardware": "1xa", "device": "a", "devices": 1,
        "engine": "hf", "point": Point(1, 8, 4), "source": "measured", "latency_s": 0.5, "taken": "",
        "file": "f", "record": {}, **changes,
    }  # fmt: skip
    return Sample(**values)


def value_at(place: float, scale: dict[str, Any], size: int, turned: bool) -> float:
    """A coordinate worked back to its value, by the domain of the axis alone."""
    low, high = scale["domain"]
    share = 1 - place / size if turned else place / size
    if scale.get("type") == "log":
        return float(math.exp(math.log(low) + share * (math.log(high) - math.log(low))))
    return float(low + share * (high - low))


def test_the_published_history_gives_the_seven_figures() -> None:
    """The names of their files; each point with its curve."""
    found = {one.name: one for one in published()}
    assert set(found) == SEVEN
    hardware = found["hardware_mpt7b_512_64"]
    assert len(hardware.points) == 40
    assert len({one["series"] for one in hardware.points}) == 6
    assert sum(len(one.points) for one in found.values()) == 149


def test_the_marks_of_the_svgs_are_the_published_milliseconds(tmp_path: Path) -> None:
    """138 points by model, hardware and shape, each mark of the 149; byte for byte the same again."""
    pytest.importorskip("vl_convert")
    expected = {}
    with (PUBLISHED / "a100_2023.csv").open() as rows:
        for row in csv.DictReader(rows):
            shape = f"b{row['batch_size']}-in{row['input_len']}-out{row['output_len']}"
            expected[row["model"], row["hardware"], shape] = int(row["latency_ms"])
    assert main([str(PUBLISHED), "--figures", str(tmp_path / "a")]) == 0
    assert main([str(PUBLISHED), "--figures", str(tmp_path / "b")]) == 0
    marks, seen = 0, set()
    for figure in published():
        file = tmp_path / "a" / f"{figure.name}.svg"
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
        assert 10_000 < file.stat().st_size < 60_000
        encoding = spec(figure)["encoding"]
        for mark in ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}path"):
            if mark.get("aria-roledescription") != "point":
                continue
            model, hardware, _, *rest = (mark.get("aria-label") or "").split("-")
            key = (model, hardware, "-".join(rest))
            place = re.match(r"translate\((.+),(.+)\)", mark.get("transform") or "")
            assert place is not None
            latency_ms = value_at(float(place[2]), encoding["y"]["scale"], HEIGHT, turned=True)
            along = value_at(float(place[1]), encoding["x"]["scale"], WIDTH, turned=False)
            assert latency_ms == pytest.approx(expected[key], abs=0.01)
            batch, _, last = (int(part.lstrip("boutin")) for part in rest)
            x = last if figure.kind == "length" else 1000 * batch * last / expected[key]
            assert along == pytest.approx(x, rel=1e-6)
            marks += 1
            seen.add(key)
    assert (marks, len(seen)) == (149, 138)
    assert {file.name for file in (tmp_path / "a").iterdir()} == {f"{name}.svg" for name in SEVEN}


def test_measured_stands_beside_published_and_looks_different() -> None:
    """The same case from both: two points of one curve's colour, of two shapes; intervals in ms."""
    interval = {"latency_interval": {"low": 0.4, "high": 0.6}}
    other = Point(1, 8, 9)
    (one,) = figures([
        sample(source="published", latency_s=0.3), sample(record=interval),
        sample(point=other, case_id="n"), sample(latency_s=None, case_id="o"),
    ])  # fmt: skip
    assert [(p["source"], p["series"]) for p in one.points[:2]] == [("published", "1"), ("measured", "1")]
    assert (one.points[1]["low_ms"], one.points[1]["high_ms"]) == (400, 600)
    assert one.points[0]["low_ms"] is None
    shape = spec(one)["layer"][2]["encoding"]["shape"]
    assert shape["field"] == "source"
    assert len(set(shape["scale"]["range"])) == 2
    low, high = spec(one)["encoding"]["y"]["scale"]["domain"]
    assert low < 300 < 600 < high


def test_names_of_files_are_safe_and_no_two_alike() -> None:
    """Whatever a history calls its model."""
    lengths = [Point(1, 8, 4), Point(1, 8, 9)]
    hostile = ["../../x", "..//..//x", "</script>", "x" * 4000]
    samples = [sample(model=m, point=p, case_id=f"{m}{p}") for m in hostile for p in lengths]
    names = [one.name for one in figures(samples) if one.kind == "length"]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[a-z0-9_]{1,125}", name) for name in names)


def test_batches_are_in_the_order_of_their_size() -> None:
    """64 after 4; no more colours than can be told apart before they come again."""
    points = [Point(b, 8, n) for b in (64, 4, 1, 16) for n in (1, 2)]
    (one,) = figures([sample(point=p, case_id=str(p)) for p in points])
    scale = spec(one)["encoding"]["color"]["scale"]
    assert scale["domain"] == ["1", "4", "16", "64"]
    assert scale["range"] == list(COLOURS[:4])


def test_the_table_has_a_row_a_case_and_escapes_what_markdown_would_read() -> None:
    """Out of memory is a cell."""
    text = table([sample(model="a|<b>`*", record={"limits": {"of_bound": 0.25}}), sample(latency_s=None)])
    rows = text.splitlines()
    assert rows[2] == r"| a\|\<b\>\`\* | 1xa | hf | 1 | 8 | 4 | 0.500 | 8.00 | 25.0 % | measured |"
    assert rows[3].endswith("| out of memory |  |  | measured |")
    assert escaped("a100_80gb") == "a100_80gb"


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4, and no file is left behind."""
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "file").write_text("")
    for arguments, said in (
        ([str(PUBLISHED)], "nothing is asked for"),
        ([str(tmp_path / "none"), "--markdown"], "no such file or folder"),
        ([str(tmp_path / "torn.json"), "--figures", str(tmp_path / "x")], "is no history"),
        ([str(PUBLISHED), "--figures", str(tmp_path / "file")], ""),
    ):
        assert main(arguments) == 4
        caught = capsys.readouterr()
        assert caught.out == ""
        (line,) = caught.err.splitlines()
        assert said in line
    assert not (tmp_path / "x").exists()
