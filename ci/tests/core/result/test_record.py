"""The record of a measured case: its keys, and its numbers by hand."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from ci.tests.conftest import ROOT
from fixtures.core.result.machine_state import marks
from fixtures.core.result.make_record import make_record
from fixtures.core.result.record import RECORD_VERSION, Record
from fixtures.core.result.record_machine import RecordedMachine, State
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.spec.suite import Protocol

CASE = Case(
    ModelSpec("m", {"model_type": "mpt"}), HardwareSpec("cpu", "cpu"), 1, EngineSpec("hf"), Point(4, 32, 10)
)


NOT_REPORTED = (  # by that engine
    "parameter_bytes", "kept_in_other_dtypes", "attention", "routing_depends_on_weights", "threads", "cuda",
    "vocab_size", "work",
)  # fmt: skip


def record(seconds: list[float], joules: float | None = None, **load: Any) -> dict[str, Any]:
    """The record of the case with so many seconds, and so many joules of a GPU."""
    return make_record(
        case=CASE,
        suite="own",
        sweeps=["short"],
        protocol=Protocol(rounds=4, warmup_rounds=2, seed=7),
        seconds=seconds,
        token_s=[[0.1 * (k + 1) for k in range(10)] for _ in seconds],
        stopped_by="asked for",
        warmup_s=[9.0, 8.0],
        load=load,
        peak_memory_bytes=123,
        versions={"torch": "2.13", "deepspeed": None},
        machine={"label": "1xcpu"},
        state=State(disturbed=tuple(() for _ in seconds), energy_j=joules),
    ).as_dict()


def test_a_record_holds_the_case_how_it_was_measured_and_what_came_out() -> None:
    """Rounds of 1, 1, 1 and 5 s: mean 2 s, median 1 s; 4 * 10 / 2 = 20 tokens/s, 2000 / 10 = 200 ms."""
    made = record([1.0, 1.0, 1.0, 5.0], load_s=3.5, parameters=10)
    assert {name: value for name, value in made.items() if name not in NOT_REPORTED} == {
        "record_version": 5,
        "suite": "own",
        "sweeps": ["short"],
        "case": CASE.as_dict(),
        "protocol": {"rounds": 4, "warmup_rounds": 2, "seed": 7},
        "stopped_by": "asked for",
        "latency_mean_s": 2.0,
        "latency_median_s": 1.0,
        "latency_interval": {"low": 1.0, "high": 5.0, "coverage": 0.875},
        "latency_spread": 1.0,
        "drift": None,
        "output_tokens_per_s": 20.0,
        "ms_per_output_token": 200.0,
        "split": made["split"],
        "limits": made["limits"],
        "joules_per_output_token": None,
        "marks": [],
        "state": {**State().as_dict(), "disturbed": [[], [], [], []]},
        "warmup_s": [9.0, 8.0],
        "peak_memory_bytes": 123,
        "predicted_memory": None,
        "predicted_memory_error": None,
        "load_s": 3.5,
        "parameters": 10,
        "versions": {"torch": "2.13", "deepspeed": None},
        "machine": {**RecordedMachine().as_dict(), "label": "1xcpu"},
    }
    assert {made[name] for name in NOT_REPORTED} == {None}


def test_a_record_is_json_without_nan() -> None:
    """And comes back the same."""
    made = record([1.0, 2.0])
    assert json.loads(json.dumps(made, allow_nan=False)) == made


@pytest.mark.parametrize("name", ["avx2_20261128", "avx2_fp32_20261128"])
def test_a_stored_record_comes_back_letter_by_letter(name: str) -> None:
    """Each key in its place, and none more: null stays null, and what is not there stays away."""
    stored = json.loads((ROOT / "ci/histories/1xcpu" / f"{name}.json").read_text())["benchmarks"]
    records = [one["extra_info"] for one in stored]
    assert {one["record_version"] for one in records} == {RECORD_VERSION}
    for one in records:
        assert json.dumps(msgspec.convert(one, Record).as_dict()) == json.dumps(one)


def test_what_an_engine_reports_is_of_its_fields_kind() -> None:
    """Else it says where."""
    with pytest.raises(msgspec.ValidationError, match=r"got `str` - at `\$.parameters`"):
        record([1.0], parameters="many")


def test_a_record_does_not_change() -> None:
    """Nor do its parts."""
    made = msgspec.convert(record([1.0, 2.0]), Record)
    with pytest.raises(AttributeError):
        made.suite = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        made.case.id = "other"  # type: ignore[misc]


def test_a_case_without_timed_rounds_has_no_record() -> None:
    """Never pass without measuring."""
    with pytest.raises(ValueError, match="no timed rounds"):
        record([])


def test_rounds_that_get_slower_are_marked() -> None:
    """Five rounds, each 10 % of the first slower than the one before it."""
    made = record([1.0, 1.1, 1.2, 1.3, 1.4])
    assert made["drift"]["change"] == pytest.approx(0.4 / 1.2)
    assert made["marks"] == ["drift: +33 % from first to last round (p = 0.017)"]


def test_energy_is_that_of_a_token() -> None:
    """160 J over 4 rounds of 4 x 10 tokens are 1 J each; of less than a second no counter tells enough."""
    assert record([1.0] * 4, joules=160.0)["joules_per_output_token"] == 1.0
    assert record([0.2] * 4, joules=160.0)["joules_per_output_token"] is None


def test_what_the_machine_did_is_a_mark() -> None:
    """One line for each kind, with the last round's words."""
    disturbed = (("contention: a",), ("contention: b", "contention: c"), (), ("throttling: d",))
    assert marks(State(disturbed=disturbed, discarded_s=(1.0,))) == [
        "2 of 4 rounds disturbed, taken again: contention: b; contention: c",
        "1 of 4 rounds disturbed, taken again: throttling: d",
    ]
    assert marks(State(disturbed=((), ()), discarded_s=(1.0,))) == []
