"""Time and memory of the gate, the report and the picker with very many cases."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ci.overhead.harness import Harness, Ratio

_ROUNDS = 3
_MOST_BYTES = 1e9


def _run(folder: Path, *words: str) -> tuple[float, int]:
    """A module's wall time in s and its peak memory in bytes; asserts exit code 0 or 2."""
    start = time.perf_counter()
    with (folder / "output").open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", *words], stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 2), (folder / "output").read_text()[-2000:]
    return time.perf_counter() - start, usage.ru_maxrss * 1024


_ASKED = "--model model_7 --input 512 --output 64 --latency 5s"
_MANY = "10,000 cases over 100 runs"


@pytest.mark.parametrize(
    ("what", "made", "words", "limit_s"),
    [
        ("the gate, 5,000 cases against 20 runs", "accepted", "gate {}/new.json --baseline {}/baselines", 3),
        (f"a page of {_MANY}", "", "report {}/runs -o {}/page.html", 10),
        (f"60 figures of {_MANY}", "", "report {}/runs --figures {}/figures", 10),
        (f"an answer out of {_MANY}", "", f"pick {{}}/runs {_ASKED}", 10),
    ],
    ids=["gate", "page", "figures", "pick"],
)
def test_many_cases(
    harness: Harness, benchmark: Any, tmp_path: Path, what: str, made: str, words: str, limit_s: float
) -> None:
    """Seconds over the limit, and peak memory over 1 GB."""
    runs = tmp_path if made else tmp_path / "runs"
    subprocess.run([sys.executable, "-m", "ci.tests.many_histories", runs, *filter(None, [made])], check=True)
    module, *arguments = (word.format(tmp_path) for word in words.split())
    measured: list[tuple[float, int]] = []
    benchmark.pedantic(
        lambda: measured.append(_run(tmp_path, f"ci.{module}", *arguments)), rounds=_ROUNDS, warmup_rounds=1
    )
    seconds, peaks = zip(*measured[1:], strict=True)
    shares = [taken_s / limit_s for taken_s in seconds]
    harness.note(
        Ratio(f"{what} / {limit_s} s", statistics.median(shares), min(shares), max(shares), 1.0, at_most=True)
    )
    peak = max(peaks) / _MOST_BYTES
    harness.note(
        Ratio(f"{what}: peak memory / 1 GB", peak, min(peaks) / _MOST_BYTES, peak, 1.0, at_most=True)
    )
