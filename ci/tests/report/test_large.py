"""10,000 cases over 100 runs: the report and the picker take them, in memory and time that a laptop has."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ci.tests.conftest import ROOT
from ci.tests.many_histories import many

SECONDS, BYTES = 60, 10**9  # the aim is 10 s on a quiet machine; tests run on any
# A process that is forked begins with its parent's peak: that of a small one, and not of the tests'.
_WATCHED = """
import pathlib, resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
pathlib.Path(sys.argv[1]).write_text(str(peak))
sys.exit(done.returncode)
"""


@pytest.mark.slow
def test_ten_thousand_cases_are_reported_and_asked(tmp_path: Path) -> None:
    """60 figures of the kinds in turn, a summary that a pull request takes, a page, and an answer.

    At 512 tokens in and 64 out a batch B takes 0.72 * (B + 4) s, give or take 2 %: 4.32 s for 2, 5.76 for 4.
    """
    pytest.importorskip("vl_convert")
    (tmp_path / "runs").mkdir()
    many(tmp_path / "runs", indent=None)
    figures = tmp_path / "figures"
    run_within(tmp_path, "ci.report", str(tmp_path / "runs"), "--markdown", "--figures", str(figures))
    text = (tmp_path / "out").read_text()
    assert text.startswith("10000 cases of 100 runs: 10000 measured.\n")
    assert text.endswith("9600 more cases are not shown; name fewer runs to see them.\n")
    assert "drew 60 figures" in (tmp_path / "err").read_text()
    kinds = [file.name.partition("_")[0] for file in figures.iterdir()]
    assert len(kinds) == 60
    assert set(kinds) == {"batch", "ttft", "tpot", "roofline", "memory", "speed", "efficiency"}
    page = tmp_path / "report.html"
    run_within(tmp_path, "ci.report", str(tmp_path / "runs"), "-o", str(page))
    assert 10**6 < page.stat().st_size < 5 * 10**6
    assert "the page has 300 figures" in (tmp_path / "err").read_text()
    asked = ("--model", "model_7", "--input", "512", "--output", "64", "--latency", "5s")
    run_within(tmp_path, "ci.pick", str(tmp_path / "runs"), *asked)
    rows = (tmp_path / "out").read_text().splitlines()[1:5]
    assert [row.split()[3] for row in rows] == ["2"] * 4


def run_within(folder: Path, *words: str) -> None:
    """Run a module, its output in `out` and `err`; it takes no more time and memory than it may."""
    started = time.monotonic()
    command = [sys.executable, "-c", _WATCHED, str(folder / "peak"), sys.executable, "-m", *words]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        done = subprocess.run(command, cwd=ROOT, stdout=out, stderr=err)
    assert done.returncode == 0, (folder / "err").read_text()
    assert 1024 * int((folder / "peak").read_text()) < BYTES
    assert time.monotonic() - started < SECONDS
