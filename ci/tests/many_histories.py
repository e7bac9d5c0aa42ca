"""Histories of any size, made of the stored ones: for tests of trends and of large input.

python -m ci.tests.many_histories FOLDER          10,000 cases over 100 runs
python -m ci.tests.many_histories FOLDER nightly  100 cases, the same in each of 100 runs
python -m ci.tests.many_histories FOLDER accepted 5,000 cases in new.json, and in 20 accepted runs
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from ci.gate import __main__ as gate
from ci.gate.accept import WHYS
from ci.tests.conftest import ROOT
from fixtures.core.spec import library

STORED = ROOT / "ci" / "histories" / "1xcpu" / "default_20261124.json"
FIRST_DAY = datetime(2026, 1, 1, 12)
Text = dict[str, Any]


def run(records: Sequence[Text], number: int, outcomes: Sequence[Text] = ()) -> Text:
    """A history of these records, the number-th of a series, one a day."""
    stored = _stored()
    template = stored["benchmarks"][0]
    benchmarks = [
        {**template, "extra_info": one, "stats": {**template["stats"], "data": []}} for one in records
    ]
    day = (FIRST_DAY + timedelta(days=number)).isoformat()
    commit = {**stored["commit_info"], "id": f"{number:07x}"}
    return {
        **stored,
        "benchmarks": benchmarks,
        "outcomes": list(outcomes),
        "datetime": day,
        "commit_info": commit,
    }


def record(model: str, batch: int, latency_s: float, *, hardware: str = "1xcpu", engine: str = "hf",
           lengths: tuple[int, int] = (128, 32), of: int = 0) -> Text:  # fmt: skip
    """One of the stored records as that of another case, its times scaled to this mean latency."""
    found: Text = copy.deepcopy(_stored()["benchmarks"][of]["extra_info"])
    devices, _, device = hardware.partition("x")
    found["case"] |= {
        "id": f"{model}-{hardware}-{engine}-b{batch}-in{lengths[0]}-out{lengths[1]}",
        "hardware": hardware, "device": device, "devices": int(devices),
        "batch_size": batch, "input_len": lengths[0], "output_len": lengths[1],
    }  # fmt: skip
    found["case"]["model"]["name"], found["case"]["engine"]["name"] = model, engine
    if model in library.names("models"):
        found["case"]["model"]["architecture"] = library.model(model).architecture
    ratio = latency_s / found["latency_mean_s"]
    for key in ("latency_mean_s", "latency_median_s"):
        found[key] *= ratio
    for key in ("low", "high"):
        found["latency_interval"][key] *= ratio
    return found


def series(
    folder: Path, runs: int, latency_s: Callable[[int, int], float], batches: Sequence[int] = (1, 2, 4)
) -> None:
    """Runs of a model `m`, each with these batches; `latency_s` is of the run's number and the batch."""
    for number in range(runs):
        records = [record("m", batch, latency_s(number, batch)) for batch in batches]
        (folder / f"run_{number:03}.json").write_text(json.dumps(run(records, number)))


def many(folder: Path, nightly: bool = False, indent: int | None = 4) -> None:
    """10,000 records in 100 runs, each of one model on one machine: of as many cases, or 100 every night.

    pytest-benchmark writes with an indent of 4, which doubles the files.
    """
    draw = random.Random(17)
    models, machines = range(25), ("1xa100_80gb", "2xa100_80gb", "1xh100_80gb", "1xcpu")
    points = list(itertools.product((1, 2, 4, 8, 16), (128, 256, 512, 1024), (1, 8, 16, 32, 64)))
    for number, (model, machine) in enumerate(itertools.product(models, machines)):
        name, hardware = ("model_0", "1xcpu") if nightly else (f"model_{model}", machine)
        records = [
            record(name, batch, (batch + 4) * (first / 64 + last) * draw.uniform(0.98, 1.02) / 100,
                   hardware=hardware, lengths=(first, last))
            for batch, first, last in points
        ]  # fmt: skip
        (folder / f"run_{number:03}.json").write_text(json.dumps(run(records, number), indent=indent))


def accepted(folder: Path) -> None:
    """A run of 5,000 cases, `new.json`, and 20 accepted ones in `baselines/`; they differ by chance."""
    for seed, name in enumerate(("new", "old")):
        draw = random.Random(seed)
        stored = _stored()
        benchmarks = [_large_case(stored["benchmarks"][k % 24], k, draw) for k in range(5000)]
        (folder / f"{name}.json").write_text(
            json.dumps({**stored, "datetime": name, "benchmarks": benchmarks})
        )
    arguments = ["accept", str(folder / "old.json"), "--folder", str(folder / "baselines"), "--name", "r0"]
    if gate.main([*arguments, "--allow", ",".join(WHYS)]):
        raise SystemExit("the run was not accepted")
    (first,) = (folder / "baselines").glob("1xcpu_*/*")
    for k in range(1, 20):  # a run ends at a moment of its own, else it is the same run
        changed = first.read_text().replace('"datetime": "old"', f'"datetime": "old{k}"')
        first.with_name(f"r{k}.json").write_text(changed)


def _large_case(of: Text, number: int, draw: random.Random) -> Text:
    info = of["extra_info"]
    case = {**info["case"], "id": f"case{number}"}
    seconds = [math.exp(draw.gauss(0, 0.005))] * 5
    return {
        **of,
        "extra_info": {**info, "case": case, "state": {}},
        "stats": {**of["stats"], "data": seconds},
    }


@cache
def _stored() -> Text:
    found: Text = json.loads(STORED.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    target, *words = sys.argv[1:]
    Path(target).mkdir(parents=True, exist_ok=True)
    if words == ["accepted"]:
        accepted(Path(target))
    else:
        many(Path(target), words == ["nightly"])
