"""Figures out of histories: the marks of the SVGs give the published milliseconds back."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.report.__main__ import main
from ci.report.draw.chart import HEIGHT, WIDTH
from ci.report.draw.layers import COLOURS
from ci.report.figures import Figure, figures, spec
from ci.report.markdown import escaped, summary, table
from ci.report.read.samples import Sample, newest, read_samples
from ci.tests.conftest import ROOT
from ci.tests.records import recorded
from fixtures.core.spec.case import Point
from fixtures.core.store.history import Commit, History

PUBLISHED = ROOT / "ci" / "baselines" / "published"
SEVEN = {
    *(f"batch_mpt{size}b_1xa100_80gb_hf_eager_{first}" for size in (7, 30) for first in (128, 2048)),
    *(f"hardware_mpt{size}b_512_64" for size in (7, 30)),
    "model_1xa100_80gb_hf_eager_512_64",
}


FOUNDRY = ("length", "throughput")


def published() -> list[Figure]:
    """The figures of the published history."""
    return figures(newest(read_samples([PUBLISHED])))


def sample(**changes: Any) -> Sample:
    """A measured case."""
    values = {
        "case_id": "m-1xa-hf-b1-in8-out4", "model": "m", "hardware": "1xa", "device": "a", "kind": "a",
        "devices": 1, "engine": "hf", "point": Point(1, 8, 4), "source": "measured", "latency_s": 0.5,
        "taken": "", "file": "f", "record": recorded(), **changes,
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
    found = {one.name: one for one in published() if one.kind in FOUNDRY}
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
    assert main([str(PUBLISHED), "--figures", str(tmp_path / "b"), "--most", "12"]) == 0
    marks, seen = 0, set()
    for figure in published():
        file = tmp_path / "a" / f"{figure.name}.svg"
        assert 10_000 < file.stat().st_size < 60_000
        if figure.kind not in FOUNDRY:
            continue
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
    again = list((tmp_path / "b").iterdir())
    assert len(again) == 12
    assert all(file.read_bytes() == (tmp_path / "a" / file.name).read_bytes() for file in again)
    names = {file.name for file in (tmp_path / "a").iterdir()}
    assert names == {f"{one.name}.svg" for one in published()}
    assert names > {f"{name}.svg" for name in SEVEN}


def test_measured_stands_beside_published_and_looks_different() -> None:
    """The same case from both: two points of one curve's colour, of two shapes; intervals in ms."""
    interval = {"latency_interval": {"low": 0.4, "high": 0.6, "coverage": 0.95}}
    other = Point(1, 8, 9)
    one, *_ = figures([
        sample(source="published", latency_s=0.3), sample(record=recorded(**interval)),
        sample(point=other, case_id="n"), sample(latency_s=None, case_id="o"),
    ])  # fmt: skip
    assert [(p["source"], p["series"]) for p in one.points[:2]] == [("published", "1"), ("measured", "1")]
    assert (one.points[1]["low_ms"], one.points[1]["high_ms"]) == (400, 600)
    assert one.points[0]["low_ms"] is None
    shape = spec(one)["layer"][-1]["encoding"]["shape"]
    assert shape["field"] == "source"
    assert shape["scale"] == {"domain": ["measured", "published"], "range": ["circle", "diamond"]}
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
    one, *_ = figures([sample(point=p, case_id=str(p)) for p in points])
    scale = spec(one)["encoding"]["color"]["scale"]
    assert scale["domain"] == ["1", "4", "16", "64"]
    assert scale["range"] == list(COLOURS[:4])


def test_more_curves_than_colours_have_other_dashes() -> None:
    """Colours come again after the seventh, with another dash; a long legend has a second column."""
    samples = [sample(point=Point(b, 8, n), case_id=f"{b} {n}") for b in range(1, 17) for n in (1, 2)]
    one, *_ = figures(samples)
    drawn = spec(one)
    colours = drawn["encoding"]["color"]["scale"]["range"]
    dash = drawn["layer"][0]["encoding"]["strokeDash"]
    dashes = dash["scale"]["range"]
    assert dash["legend"] == drawn["encoding"]["color"]["legend"], "so that there is one legend for both"
    looks = [(colour, tuple(dash)) for colour, dash in zip(colours, dashes, strict=True)]
    assert len(set(looks)) == 16
    assert drawn["encoding"]["color"]["legend"]["columns"] == 2


def test_at_most_so_many_figures_are_made_of_the_kinds_in_turn() -> None:
    """Of each kind the first comes before the second of another; all in the same order."""
    every = published()
    assert figures(newest(read_samples([PUBLISHED])), len(every)) == every
    few = figures(newest(read_samples([PUBLISHED])), 8)
    kinds = [one.kind for one in every]
    assert [one.kind for one in few] == sorted([*dict.fromkeys(kinds), "length"], key=kinds.index)
    assert [one for one in every if one in few] == few


def test_the_table_has_a_row_a_case_and_escapes_what_markdown_would_read() -> None:
    """Out of memory is a cell."""
    known = {
        "limits": {"of_bound": 0.25}, "split": {"ttft_s": 0.1, "tpot_s": 0.0123},
        "latency_interval": {"low": 0.4, "high": 0.6, "coverage": 0.95},
    }  # fmt: skip
    text = table([sample(model="a|<b>", record=recorded(**known)), sample(latency_s=None)])
    heading, rule, first, second = text.splitlines()
    assert first == (
        r"| `a\|<b>` | 1xa | hf | 1 | 8 | 4 | 0.500 | 0.400-0.600 | 100 | 12.3 | 8.00 | 25.0 | measured |"
    )
    assert second == "| m | 1xa | hf | 1 | 8 | 4 | out of memory |  |  |  |  |  | measured |"
    assert heading.count("|") == rule.count("|") == second.count("|")
    assert escaped("a100_80gb") == "a100_80gb"
    *_, deep = table([sample(), sample(point=Point(1, 8, 4, depth=64))]).splitlines()
    assert deep.startswith("| m | 1xa | hf | 1 | 8 | 4 | 64 | 0.500 |")


def test_the_summary_says_what_there_is_and_what_failed() -> None:
    """Runs without a case are none; reasons are cut; a table too long for a comment is cut and says so."""
    empty = History(Path("f"), "", Commit(), (), {}, {})
    broken = replace(empty, failed={"x-1": "Boom\n" + "y" * 999})
    first, _, failure, _, heading, *_ = summary(
        [sample(), sample(latency_s=None)], [empty, broken]
    ).splitlines()
    assert first == "2 cases of 1 run: 1 measured, 1 out of memory, 1 failed."
    assert failure.startswith("- x-1 failed: `Boom yyy")
    assert len(failure) < 250
    assert heading.startswith("| model |")
    assert summary([], [empty]) == "0 cases of 0 runs: nothing.\n"
    many = summary([sample(case_id=str(i), model="m" * 40) for i in range(1000)], [])
    assert many.endswith("\n600 more cases are not shown; name fewer runs to see them.\n")
    assert len(many) < 65_536


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.text(max_size=20) | st.sampled_from([
    "a`b", "``", " x ", "www.a.b", "http://a.b", "@you", "#1", "_a_", "*", "a|b", "\\", "<script>", "&lt;",
    "1.", "-",
]))  # fmt: skip
def test_whatever_a_model_is_called_stands_in_its_cell_as_it_is(name: str) -> None:
    """As a reader of Markdown shows it: one row, and in its first cell this text and no other element."""
    markdown_it = pytest.importorskip("markdown_it")
    html = markdown_it.MarkdownIt("commonmark").enable("table").render(table([sample(model=name)]))
    body = html.partition("<tbody>")[2]
    assert body.count("<tr>") == 1
    cell = re.search(r"<td>(.*?)</td>", body, re.S)
    assert cell is not None
    shown = unescape(re.sub(r"\A<code>|</code>\Z", "", cell[1]))
    assert "<" not in re.sub(r"\A<code>|</code>\Z", "", cell[1])
    assert shown.strip() == "".join(c if c.isprintable() else " " for c in name).strip()


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4, and no file is left behind."""
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "file").write_text("")
    for arguments, said in (
        ([str(PUBLISHED)], "nothing to write"),
        (
            [str(PUBLISHED), "--markdown", "--estimate"],
            "--estimate is of figures; it needs -o report.html or",
        ),
        ([str(PUBLISHED), "--compare", "engine", "--most", "3"], "--most is of figures; it needs -o report"),
        ([str(tmp_path / "none"), "--markdown"], "no such file or folder"),
        ([str(tmp_path / "torn.json"), "--figures", str(tmp_path / "x")], "not a history"),
        ([str(PUBLISHED), "--figures", str(tmp_path / "file")], ""),
    ):
        assert main(arguments) == 4
        caught = capsys.readouterr()
        assert caught.out == ""
        (line,) = caught.err.splitlines()
        assert said in line
    assert not (tmp_path / "x").exists()


def test_runs_without_a_figure_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run with no case is no bad input."""
    (tmp_path / "run.json").write_text('{"benchmarks": [], "machine_info": {}}')
    assert main([str(tmp_path), "--figures", str(tmp_path / "x"), "--markdown"]) == 0
    caught = capsys.readouterr()
    assert caught.out == "0 cases of 0 runs: nothing.\n"
    assert caught.err == "report: these runs give no figures; a figure needs several cases\n"


def test_a_file_that_cannot_be_written_leaves_no_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code 4, nothing beside it; what was there stays as it was."""
    pytest.importorskip("vl_convert")
    arguments = [str(PUBLISHED), "--figures", str(tmp_path), "--most", "1"]
    assert main(arguments) == 0
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(arguments) == 4
    assert capsys.readouterr().err.splitlines()[-1].partition("cannot be written: ")[2].startswith("No space")
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before
