"""Histories for the tests of the gate: the curated run once more, with what is changed in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from ci.gate.verdicts import judge
from ci.tests.conftest import ROOT
from fixtures.core.store.history import History, read_history

REAL_TEXT = (ROOT / "ci/histories/1xcpu/default_20261124.json").read_text()


REAL = json.loads(REAL_TEXT)


CASE = "mpt125m-1xcpu-hf-b1-in128-out32"


def run(
    folder: Path, name: str, factor: float = 1.0, change: Callable[[dict[str, Any]], object] = lambda _: None
) -> Path:
    """The curated run once more, with other seconds: each case's noise is that of its place and the name."""
    values = deepcopy(REAL)
    rng = np.random.default_rng([ord(letter) for letter in name])
    for bench in values["benchmarks"]:
        noise = float(np.exp(rng.normal(0, 0.005)))
        slower = factor if bench["param"] == CASE else 1.0
        bench["stats"]["data"] = [one * noise * slower for one in bench["stats"]["data"]]
    values["datetime"] = f"2026-11-24T00:00:{len(list(folder.glob('*'))):02d}"
    change(values)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(values))
    return file


def histories(folder: Path, *names: str) -> list[History]:
    """Runs in which nothing has changed."""
    folder.mkdir(exist_ok=True)
    return [read_history(run(folder, name)) for name in names]


def of(verdicts: Sequence[Any], case_id: str = CASE) -> Any:
    """One case's."""
    return next(one for one in verdicts if one.case_id == case_id)


def judged(tmp_path: Path, baseline: list[History], **changes: Any) -> list[Any]:
    """Two runs of one candidate against the baseline."""
    return judge([read_history(run(tmp_path, f"new{k}", **changes)) for k in range(2)], baseline)


def bench(values: dict[str, Any]) -> dict[str, Any]:
    """The case's own."""
    return next(one for one in values["benchmarks"] if one["param"] == CASE)


def rename(values: dict[str, Any]) -> None:
    """The case has another id."""
    bench(values)["extra_info"]["case"]["id"] = "renamed"


def delete(values: dict[str, Any]) -> None:
    """The case is gone."""
    values["benchmarks"].remove(bench(values))


def run_out(values: dict[str, Any]) -> None:
    """The case ran out of memory."""
    case = bench(values)["extra_info"]["case"]
    delete(values)
    values["outcomes"] = [{"case": case, "outcome": "out of memory", "detail": "no room"}]


def fail(values: dict[str, Any]) -> None:
    """The case failed."""
    delete(values)
    values["failed"] = {CASE: "it hung"}


def leave_out(values: dict[str, Any]) -> None:
    """There was no time for the case."""
    delete(values)
    values["left_out"] = {CASE: "minutes: 4"}


def of_record(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """One value of the case's record is another."""

    def change(values: dict[str, Any]) -> None:
        inner = bench(values)["extra_info"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change
