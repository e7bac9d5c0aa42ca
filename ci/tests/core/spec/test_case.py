"""A case, and the grammar of its id: the key of every history."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.base import node
from fixtures.core.base.node import as_node
from fixtures.core.cost import sweep
from fixtures.core.result import latency_fit as fit
from fixtures.core.result import stats
from fixtures.core.spec import case as case_module
from fixtures.core.spec import library, suite
from fixtures.core.spec.case import (
    ATTENTIONS,
    DTYPE_BYTES,
    Case,
    EngineSpec,
    HardwareSpec,
    ModelSpec,
    Point,
    engine_name,
)
from fixtures.core.spec.devices import driver
from fixtures.core.spec.devices import machine as hardware
from fixtures.core.spec.engine_kinds import KINDS
from fixtures.core.spec.foundry import file as foundry

FUZZ = settings(deadline=None, derandomize=True, max_examples=200)
NAME = st.from_regex(r"[a-z0-9]+(_[a-z0-9]+){0,3}", fullmatch=True)
COUNT = st.integers(1, 10**12)


def case(
    *,
    model: str = "m",
    devices: int = 1,
    device: str = "cpu",
    engine: str = "hf",
    point: tuple[int, int, int],
) -> Case:
    """A case of names and numbers alone."""
    return Case(
        ModelSpec(model, {"model_type": "mpt"}),
        HardwareSpec(device, "gpu"),
        devices,
        EngineSpec(engine),
        Point(*point),
    )


def test_an_id_reads_model_machine_engine_and_point() -> None:
    """As the README, the histories and `-k` have it."""
    asked = case(model="mpt30b", devices=2, device="a100_80gb", engine="deepspeed", point=(8, 512, 64))
    assert asked.id == "mpt30b-2xa100_80gb-deepspeed-b8-in512-out64"
    assert asked.load_key == "mpt30b-2xa100_80gb-deepspeed"


@FUZZ
@given(NAME, COUNT, NAME, NAME, st.tuples(COUNT, COUNT, COUNT))
def test_an_id_comes_back_as_its_fields(
    model: str, devices: int, device: str, engine: str, point: tuple[int, int, int]
) -> None:
    """Whatever the names and numbers, and nothing in it that a shell, `-k` or a file name minds."""
    text = case(model=model, devices=devices, device=device, engine=engine, point=point).id
    assert not set(text) & set("=/.[] ")
    fields = re.fullmatch(r"(\w+)-(\d+)x(\w+)-(\w+)-b(\d+)-in(\d+)-out(\d+)", text)
    assert fields is not None
    assert fields.groups() == (model, str(devices), device, engine, *map(str, point))


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (("hf", "bfloat16", "auto", True, None), "hf"),
        (("deepspeed", "bfloat16", "auto", True, None), "deepspeed"),
        (("hf", "float16", "auto", True, None), "hf_fp16"),
        (("hf", "float32", "eager", False, None), "hf_eager_fp32_nocache"),
        (("hf", "bfloat16", "flash", True, "float16"), "hf_flash_autocast_fp16"),
        (("deepspeed", "float32", "sdpa", False, "bfloat16"), "deepspeed_sdpa_fp32_nocache_autocast_bf16"),
    ],
)
def test_an_engine_is_named_by_what_differs_from_its_kind(
    chosen: tuple[str, str, str, bool, str | None], name: str
) -> None:
    """In one order."""
    assert engine_name(EngineSpec("", *chosen)) == name


def test_no_two_engines_share_a_name() -> None:
    """All there can be: their numbers would share a history."""
    choices = (KINDS, DTYPE_BYTES, ATTENTIONS, (True, False), (None, "bfloat16", "float16"))
    names = [engine_name(EngineSpec("", *each)) for each in itertools.product(*choices)]
    assert len(names) == len(KINDS) * 3 * 4 * 2 * 3
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in names)


@pytest.mark.parametrize("name", library.names("engines"))
def test_an_engine_of_the_library_is_called_what_it_is(name: str) -> None:
    """The file's name is the one that its content would get."""
    engine = library.read_engine(None, library.find("engines", as_node(name, "")))
    assert engine.name == name


@pytest.mark.parametrize(
    ("architecture", "tokens"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"max_seq_len": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"max_sequence_length": 512}, 512),
        ({"max_position_embeddings": True}, None),
        ({"max_position_embeddings": "2048"}, None),
        ({"max_position_embeddings": None, "n_positions": 7}, 7),
        ({}, None),
    ],
)
def test_the_context_is_what_the_architecture_says(
    architecture: dict[str, int | bool | str | None], tokens: int | None
) -> None:
    """Under whichever of the names its family uses."""
    assert ModelSpec("m", {**architecture}).context_len == tokens


def test_equal_cases_are_one_key_and_different_ones_are_not() -> None:
    """Also by what is not in the id: an architecture that differs is another case."""
    first, same = case(point=(1, 2, 3)), case(point=(1, 2, 3))
    other = dataclasses.replace(first, model=ModelSpec("m", {"model_type": "llama"}))
    assert first == same
    assert hash(first) == hash(same)
    assert other.id == first.id
    assert len({first, same, other, case(point=(1, 2, 4))}) == 3


VALUE_CLASSES = [
    value
    for module in (case_module, driver, fit, foundry, hardware, node, stats, suite, sweep)
    for value in vars(module).values()
    if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.__name__
]


def test_value_classes_are_found() -> None:
    """At least those of a case, a suite, a machine and a measurement."""
    names = {value.__name__ for value in VALUE_CLASSES}
    assert names >= {
        "Case",
        "Device",
        "Entry",
        "Fit",
        "Grid",
        "Interval",
        "Machine",
        "Node",
        "Selection",
        "Suite",
    }


@pytest.mark.parametrize("value", VALUE_CLASSES)
def test_a_value_class_is_frozen(value: Any) -> None:
    """What is a key, or shared through a cache, cannot be changed by anyone."""
    assert value.__dataclass_params__.frozen


def test_a_case_as_plain_values_holds_all_that_a_record_needs() -> None:
    """JSON takes it."""
    asked = Case(
        ModelSpec("m", {"model_type": "mpt", "n_layers": 2}, hub="own/m", weights="folder"),
        HardwareSpec("a100_80gb", "gpu"),
        4,
        EngineSpec("hf_eager_fp16_nocache", "hf", "float16", "eager", False, None),
        Point(8, 512, 64),
    )
    plain = {
        "id": "m-4xa100_80gb-hf_eager_fp16_nocache-b8-in512-out64",
        "model": {
            "name": "m",
            "hub": "own/m",
            "architecture": {"model_type": "mpt", "n_layers": 2},
            "weights": "folder",
        },
        "hardware": "4xa100_80gb",
        "device": "a100_80gb",
        "devices": 4,
        "engine": {
            "name": "hf_eager_fp16_nocache",
            "kind": "hf",
            "dtype": "float16",
            "attention": "eager",
            "use_cache": False,
            "autocast": None,
        },
        "batch_size": 8,
        "input_len": 512,
        "output_len": 64,
    }
    assert asked.as_dict() == plain
    assert json.loads(json.dumps(asked.as_dict())) == plain
    assert case(point=(1, 2, 3)).as_dict()["model"]["weights"] == "random"
