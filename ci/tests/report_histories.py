"""Histories for the tests of the report page: measured ones made up, and one that means harm."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from ci.tests.conftest import ROOT

PUBLISHED = ROOT / "ci" / "baselines" / "published"
MEASURED = ROOT / "ci" / "histories" / "1xcpu" / "latency_20261124.json"
HARM = (
    "<img src=x onerror=\"window.harmed = 1; fetch('//example.org')\">",
    "</script><script>window.harmed = 2</script>",
    "=HYPERLINK(\"http://example.org\",\"x\")",
    "'\"><svg onload=window.harmed=3>|`*_[a](javascript:window.harmed=4)",
    "javascript:window.harmed=5//${window.harmed=6}<!--",
    "__proto__",
)  # fmt: skip


def template() -> dict[str, Any]:
    """A whole record of a measured case."""
    record: dict[str, Any] = json.loads(MEASURED.read_text())["benchmarks"][1]["extra_info"]
    return record


def record(model: str, hardware: str, batch: int, latency_s: float, **lengths: int) -> dict[str, Any]:
    """A record of a case that is like the template otherwise."""
    made = copy.deepcopy(template())
    devices, _, device = hardware.partition("x")
    case = made["case"]
    first, last = lengths.get("input_len", 512), lengths.get("output_len", 64)
    case["model"]["name"] = model
    case |= {"hardware": hardware, "device": device, "devices": int(devices) if devices.isdecimal() else 1}
    case |= {"batch_size": batch, "input_len": first, "output_len": last}
    case["id"] = f"{model}-{hardware}-{case['engine']['name']}-b{batch}-in{first}-out{last}"
    made |= {"latency_mean_s": latency_s, "latency_median_s": 0.99 * latency_s}
    made["latency_interval"] = {"low": 0.95 * latency_s, "high": 1.06 * latency_s, "coverage": 0.9375}
    return made


def write(file: Path, records: list[dict[str, Any]], taken: str = "2026-11-25T10:00:00+00:00") -> Path:
    """A history of these records."""
    benchmarks = [{"extra_info": one, "stats": {"data": [one["latency_mean_s"]] * 3}} for one in records]
    values = {"machine_info": {}, "commit_info": {}, "benchmarks": benchmarks, "datetime": taken}
    file.write_text(json.dumps(values))
    return file


def many(file: Path, number: int, seed: int = 0) -> Path:
    """A history of so many cases of several models, machines and batch sizes, all numbers different."""
    rng = random.Random(seed)
    records = []
    for i in range(number):
        batch, i = 2 ** (i % 8), i // 8
        machine, i = ("1xa100_80gb", "2xa100_80gb", "1xh100", "8xh100", "1xl4")[i % 5], i // 5
        last, i = (1, 11, 101, 1001)[i % 4], i // 4
        latency_s = rng.uniform(0.5, 2) * (1 + batch / 16) * (1 + last / 30)
        records.append(record(f"model{i}b", machine, batch, latency_s, output_len=last))
    return write(file, records)


def harmful(file: Path) -> Path:
    """A history whose every text is markup, a script, a formula or worse, where a text can stand."""
    records = []
    for i, harm in enumerate(HARM):
        for last in (4, 9, 16):
            made = record(harm, f"1x{harm}", 2, 0.5 + i + last / 10, output_len=last)
            made["case"]["engine"]["name"] = harm
            made["suite"] = made["attention"] = harm
            made["marks"] = [harm, harm]
            made["versions"] = {harm: harm}
            made["machine"] |= {"processor": harm, "node": harm}
            records.append(made)
    return write(file, records, taken=HARM[0])
