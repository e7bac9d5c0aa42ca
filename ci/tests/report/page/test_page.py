"""The report page as a file: its policy, its data, its size, and how it is written."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import resource
import subprocess
import sys
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.report.__main__ import main
from ci.report.page.build import HERE, SCRIPTS, STYLES, making_vega
from ci.report.page.data import packed, page_data
from ci.report.page.estimates import _known_values
from ci.report.page.fields import GROUPS
from ci.report.read.samples import newest, of_history, read_samples
from ci.tests.conftest import ROOT
from ci.tests.report_histories import HARM, MEASURED, PUBLISHED, harmful, many, record, template, write
from fixtures.core.estimate.estimate import Known, Measured
from fixtures.core.spec.case import Point
from fixtures.core.store.history import read_history


class Parts(HTMLParser):
    """The scripts and styles of a page, its policy, and every attribute that could lead elsewhere."""

    def __init__(self, html: str) -> None:
        """Read it."""
        super().__init__()
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.links: list[str] = []
        self.policy, self.inside, self.data = "", "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember what follows and what it names."""
        has = dict(attrs)
        self.links += [has[key] or "" for key in ("src", "href", "srcset", "action") if key in has]
        self.inside = "data" if has.get("id") == "data" else tag
        if has.get("http-equiv") == "Content-Security-Policy":
            self.policy = has["content"] or ""
        assert not [key for key in has if key == "style" or key.startswith("on")]

    def handle_data(self, data: str) -> None:
        """Keep what stands in a script or a style."""
        if self.inside == "data":
            self.data += data
        elif self.inside in self.texts:
            self.texts[self.inside].append(data)

    def handle_endtag(self, tag: str) -> None:
        """Nothing is inside any more."""
        self.inside = ""


def unpacked(html: str) -> dict[str, Any]:
    """The data of a page."""
    values: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(Parts(html).data)))
    return values


@pytest.fixture(scope="module")
def vega() -> str:
    """Vega's script as it is made for a page, which takes some seconds in a process of its own."""
    pytest.importorskip("vl_convert")
    with making_vega() as made:
        return made()


@pytest.fixture
def same_vega(vega: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages of a test share it."""
    monkeypatch.setattr("ci.report.__main__.making_vega", lambda: nullcontext(lambda: vega))


@pytest.mark.slow
def test_vega_is_the_same_each_time(vega: str) -> None:
    """Byte for byte."""
    with making_vega() as again:
        assert again() == vega


def write_page(folder: Path, *runs: Path) -> str:
    """The page of these runs."""
    assert main([*map(str, runs), "-o", str(folder / "report.html")]) == 0
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_policy_allows_the_page_its_own_scripts_and_nothing_else(same_vega: None, tmp_path: Path) -> None:
    """By their hashes: no eval, no inline code, no request; links lead within the page."""
    parts = Parts(write_page(tmp_path, PUBLISHED))
    rules = dict(rule.split(" ", 1) for rule in parts.policy.split("; "))
    for key, name in (("script-src", "script"), ("style-src", "style")):
        sums = [hashlib.sha256(text.encode()).digest() for text in parts.texts[name]]
        assert rules[key].split() == [f"'sha256-{base64.b64encode(one).decode()}'" for one in sums]
    assert len(parts.texts["script"]) == 2
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in parts.policy
    assert "http" not in parts.policy
    assert all(link.startswith(("#", "data:image/svg+xml,")) for link in parts.links)


def test_every_file_of_the_page_is_in_it() -> None:
    """A script or style that lies in the folder and is not named would be one that nobody runs."""
    assert sorted(SCRIPTS) == sorted(file.name for file in HERE.glob("*.js"))
    assert sorted(STYLES) == sorted(file.name for file in HERE.glob("*.css"))


def test_the_same_histories_give_the_same_page(same_vega: None, tmp_path: Path) -> None:
    """Byte for byte; every case is in it with all that its record says."""
    runs = (PUBLISHED, MEASURED)
    html = write_page(tmp_path, *runs)
    assert write_page(tmp_path, *runs) == html
    data, samples = unpacked(html), newest(read_samples(runs))
    assert [one["id"] for one in data["cases"]] == [one.case_id for one in samples]
    columns = [field["name"] for field in data["fields"] if field["table"] or field["file"]]
    for one, sample in zip(data["cases"], samples, strict=True):
        values = dict(zip(columns, one["values"], strict=True))
        assert values["latency_mean_s"] == sample.latency_s
        assert (values["model"], values["batch_size"]) == (sample.model, sample.point.batch_size)
    labels = [field["label"] for field in data["fields"]]
    texts = dict(zip(labels, data["cases"][-1]["texts"], strict=True))
    shown = {
        key: texts[key] for key in ("median", "% of limit", "MBU", "peak GB", "ITL p90", "cores", "drift")
    }
    assert shown == {
        "median": "0.841 s", "% of limit": "26.8", "MBU": "31.7 %", "peak GB": "0.87", "ITL p90": "24.6 ms",
        "cores": "2", "drift": "+20 %",
    }  # fmt: skip
    assert texts["marks"].startswith("drift: +20 % from first to last round")


def test_a_thousand_cases_are_under_two_megabytes(same_vega: None, tmp_path: Path) -> None:
    """With their records and figures."""
    html = write_page(tmp_path, many(tmp_path / "run.json", 1000))
    data = unpacked(html)
    assert len(data["cases"]) == 1000
    assert len(data["figures"]) > 5
    assert len(html.encode()) < 2e6


def test_a_page_holds_no_text_of_a_history_as_html(same_vega: None, tmp_path: Path) -> None:
    """It is packed, whatever it is; and it is all there."""
    html = write_page(tmp_path, harmful(tmp_path / "run.json"))
    assert not [harm for harm in HARM if len(harm) > 10 and harm in html]
    assert "harmed" not in html
    models = {one["texts"][0] for one in unpacked(html)["cases"]}
    assert models == set(HARM)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)
PLACES = sorted({key for key in template() if key not in ("record_version", "case")})


@settings(deadline=None, derandomize=True, max_examples=120)
@given(
    changes=st.dictionaries(st.sampled_from(PLACES), JSON, max_size=6),
    deep=JSON,
    where=st.sampled_from(PLACES),
)
def test_a_record_may_hold_anything(
    changes: dict[str, Any], deep: Any, where: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is not of its kind is left out: text for numbers, lists for mappings, NaN for anything."""
    made = template()
    if isinstance(made[where], dict):
        made[where] = dict.fromkeys(made[where], deep)
    made = {**made, **changes, "latency_mean_s": 1.5}
    file = write(tmp_path_factory.getbasetemp() / "any.json", [made])
    data = page_data(of_history(read_history(file)), [])
    assert packed(data)
    (one,) = data["cases"]
    assert all(isinstance(text, str) and len(text) <= 600 for text in one["texts"])
    assert all(value is None or isinstance(value, str | float | int) for value in one["values"])


def test_a_case_at_a_depth_does_not_make_its_lengths_known() -> None:
    """An estimate without a depth is of other lengths then, as `ci.pick` has it."""
    measured = (Measured("m", 1, Point(1, 8, 4)), Measured("m", 1, Point(1, 16, 4, depth=64)))
    assert _known_values(Known(measured))["lengths"] == [(8, 4)]


def test_the_picker_says_that_cases_at_a_depth_have_no_answer(same_vega: None, tmp_path: Path) -> None:
    """They are in the data as cases, and no curve has them; where there are no others, it says why."""
    deep = record("own", "1xl4", 1, 1.0)
    deep["case"] |= {"id": f"{deep['case']['id']}-at64", "depth": 64}
    html = write_page(tmp_path, write(tmp_path / "a.json", [deep]))
    data = unpacked(html)
    assert (len(data["cases"]), data["curves"]) == (1, [])
    assert "with ragged lengths have no answer here; the table has them." in html
    assert "No case of one input length on an empty cache has a number." in html


def test_names_of_fields_are_each_there_once() -> None:
    """They are the headings of the CSV."""
    names = [field.name for fields in GROUPS.values() for field in fields]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)


def test_a_page_that_cannot_be_written_leaves_what_was_there(
    same_vega: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder in its place, a history that is none: one line, and no half page."""
    old = tmp_path / "report.html"
    old.write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "torn.json").write_text("{")
    said = {
        (PUBLISHED, tmp_path / "folder"): "cannot be written: Is a directory",
        (PUBLISHED, old / "below"): "cannot be written: ",
        (tmp_path / "torn.json", old): "not a history",
    }
    for (run, output), expected in said.items():
        assert main([str(run), "-o", str(output)]) == 4
        caught = capsys.readouterr()
        (line,) = caught.err.splitlines()
        assert expected in line
        assert caught.out == ""
    assert old.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "report.html", "torn.json"]


@pytest.mark.slow
def test_a_page_for_which_there_is_no_room_leaves_what_was_there(tmp_path: Path) -> None:
    """On a disk that fills up."""
    pytest.importorskip("vl_convert")
    old = tmp_path / "report.html"
    old.write_text("old")

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    command = [sys.executable, "-m", "ci.report", str(PUBLISHED), "-o", str(old)]
    done = subprocess.run(command, cwd=ROOT, preexec_fn=small, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert "cannot be written: File too large" in line
    assert old.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
