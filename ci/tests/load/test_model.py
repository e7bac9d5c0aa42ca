"""What a loaded model's facts are: operators only where they are those that run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from ci.gate.counters import counters
from ci.tests.records import recorded
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.engines.counting.kept import KeptCounts
from fixtures.engines.protocol import Limits
from fixtures.load import model as room


@pytest.mark.parametrize(
    ("engine", "runs"),
    [
        ({}, True),
        ({"kind": "hf_int8"}, False),
        ({"kind": "hf_compiled"}, False),
        ({"kind": "hf_paged"}, False),
        ({"kind": "hf_tp"}, False),
        ({"attention": "flash"}, False),
        ({"attention": "eager"}, True),
        ({"use_cache": False}, False),
        ({"autocast": "bfloat16"}, False),
        ({"routing": "uniform"}, True),
    ],
)
def test_operators_are_of_engines_that_call_them_as_counted(
    engine: dict[str, Any], runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the record has them elsewhere, nor does the gate compare those of an older record."""
    counted = {"work": None, "operators": {"prefill": 9, "decode": 8}}
    opened = SimpleNamespace(load=lambda *_: {"load_s": 1.0}, count=lambda _: counted, lost=False)
    monkeypatch.setattr(room, "open_engine", lambda *_: opened)
    case = Case(ModelSpec("m", {}), library.hardware("cpu"), 1, EngineSpec("e", **engine), Point(1, 1, 1))
    loaded = room.Handle(case, 17, Limits(1, 1), False, KeptCounts(tmp_path, {}))
    monkeypatch.setattr(loaded, "measure_peaks", lambda: None)
    loaded.ready()
    assert loaded.facts["load_s"] == 1
    assert ("operators" in loaded.facts) is runs
    record = recorded(case=case.as_dict(), operators=counted["operators"])
    assert ("operators decode" in counters(record)) is runs
    assert "operators decode" not in counters(changed(record, operators=None))
