"""Speed-up and efficiency, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.core.result.make_record import make_record
from fixtures.core.result.record import Record
from fixtures.core.result.record_machine import State
from fixtures.core.result.record_times import Communication, Parallel
from fixtures.core.result.scaling import efficiency, relate, speed_up, tokens_per_s_per_device
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.spec.suite import Protocol
from fixtures.core.tables import other_table

CPU, GPU = HardwareSpec("cpu", "cpu"), HardwareSpec("a100_80gb", "gpu")


def record(
    devices: int,
    seconds: float,
    kind: str = "deepspeed",
    hardware: HardwareSpec = GPU,
    dtype: str = "bfloat16",
    batch_size: int = 4,
    **load: Any,
) -> Record:
    """A case of 4 x 10 tokens that takes so long."""
    spec = EngineSpec(kind, kind=kind, dtype=dtype)
    case = Case(ModelSpec("m", {"model_type": "mpt"}), hardware, devices, spec, Point(batch_size, 32, 10))
    return make_record(
        case=case,
        suite="own",
        protocol=Protocol(),
        seconds=[seconds],
        token_s=[[seconds * k / 10 for k in range(1, 11)]],
        stopped_by="asked for",
        warmup_s=[],
        load={"threads": None, **load},
        peak_memory_bytes=None,
        versions={},
        machine={},
        state=State(disturbed=((),)),
        communication={"share": 0.25} if devices > 1 else None,
    )


def related(several: Record, *others: Record) -> Parallel:
    """What several devices are worth, beside others."""
    found = relate([several, *others])[0].parallel
    assert found is not None
    return found


def test_the_definitions() -> None:
    """3 s on one, 1 s on four: three times as fast, at 75 %; 40 tokens/s are 10 a device."""
    assert speed_up(3.0, 1.0) == 3.0
    assert efficiency(3.0, 4.0) == 0.75
    assert tokens_per_s_per_device(40.0, 4) == 10.0


def test_several_gpus_are_compared_with_one_of_the_same_engine() -> None:
    """Whatever the order; deepspeed on one goes before hf on one."""
    several = record(4, 1.0)
    related, *others = relate([several, record(1, 2.0, kind="hf"), record(1, 3.0)])
    assert related.parallel == Parallel(
        output_tokens_per_s_per_device=10.0,
        communication=Communication(share=0.25),
        over="m-1xa100_80gb-deepspeed-b4-in32-out10",
        speed_up=3.0,
        efficiency=0.75,
    )
    assert several.parallel is not None
    assert several.parallel.over is None  # what was measured stays what it was
    assert others == [record(1, 2.0, kind="hf"), record(1, 3.0)]


def test_without_the_same_engine_it_is_hf_on_one() -> None:
    """As the published figures were."""
    found = related(record(2, 1.0), record(1, 1.5, kind="hf"))
    assert (found.over, found.efficiency) == ("m-1xa100_80gb-hf-b4-in32-out10", 0.75)


@pytest.mark.parametrize("other", [{"dtype": "float32"}, {"batch_size": 1}, {"hardware": CPU}])
def test_other_work_is_not_compared_with(other: dict[str, Any]) -> None:
    """Another dtype, batch or device: no speed-up, rather than a wrong one."""
    found = related(record(2, 1.0), record(1, 3.0, **other))
    assert (found.speed_up, found.over, found.efficiency) == (None, None, None)


@pytest.mark.parametrize(("threads", "expected"), [([1, 1], 0.8), ([2, 2], 0.4), ([1], 1.6)])
def test_ranks_of_one_cpu_use_its_threads(threads: list[int], expected: float) -> None:
    """0.8 times as fast on as many threads is 80 %, on twice as many 40 %."""
    several = record(2, 1.25, hardware=CPU, threads=1, threads_by_rank=threads)
    found = related(several, record(1, 1.0, kind="hf", hardware=CPU, threads=2))
    assert found.efficiency == pytest.approx(expected)


def test_one_device_has_nothing_to_relate() -> None:
    """No such key."""
    assert record(1, 1.0).parallel is None
    assert "parallel" not in record(1, 1.0).as_dict()


def test_the_table_has_what_could_be_found() -> None:
    """And a dash for what could not."""
    several, alone = record(4, 1.0, shards={"over_even": 1.625}), record(2, 1.0)
    (several, *_), (alone,) = relate([several, record(1, 3.0)]), relate([alone])
    _, _, model, *rows = other_table("parallel", [several, record(1, 3.0), alone])
    assert (model, len(rows)) == ("m", 2)
    assert rows[0].split() == [
        "4xa100_80gb", "deepspeed", "4", "32", "10",
        "3.00", "1xa100_80gb", "deepspeed", "0.75", "25", "%", "10.0", "1.62",
    ]  # fmt: skip
    assert rows[1].split() == [
        "2xa100_80gb", "deepspeed", "4", "32", "10", "-", "-", "-", "25", "%", "20.0", "-",
    ]  # fmt: skip
    assert other_table("parallel", [record(1, 3.0)]) == []
