"""Which model can be split by which engine, and whether it was: by hand, and against the libraries."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fixtures.core import library
from fixtures.core.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.sharding import HAS_KERNELS, NO_PLAN, Held, key_value_heads, shards, why_not_split


def case(model: str | dict[str, Any], kind: str, devices: int, device: str = "h100_80gb") -> Case:
    """A model of the library, or an architecture, on so many devices."""
    spec = library.model(model) if isinstance(model, str) else ModelSpec("m", model)
    return Case(spec, library.hardware(device), devices, EngineSpec(kind, kind=kind), Point(1, 1, 1))


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        ("mpt7b", 32), ("llama31_8b", 8), ("llama7b", 32), ("falcon7b", 1), ("mixtral8x7b", 8),
        ({"model_type": "falcon"}, 1),
        ({"model_type": "falcon", "multi_query": False, "num_attention_heads": 16}, 16),
        ({"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 8}, 8),
        ({"model_type": "gpt2", "n_head": 12}, 12),
        ({"model_type": "own"}, None),
    ],
)  # fmt: skip
def test_key_value_heads(model: str | dict[str, Any], heads: int | None) -> None:
    """As the papers have them; Falcon's default is one."""
    assert key_value_heads(case(model, "hf", 1).model) == heads


@pytest.mark.parametrize(
    ("model", "kind", "devices", "device", "reason"),
    [
        ("mpt7b", "hf", 2, "cpu", "runs on one device; hf_tp and deepspeed take 2"),
        ("falcon7b", "deepspeed", 2, "cpu", "1 key-value head, which deepspeed cannot split over 2; hf"),
        ("llama31_8b", "deepspeed", 16, "cpu", "8 key-value heads, which deepspeed cannot split over 16"),
        ("llama31_8b", "hf_tp", 3, "cpu", "hf_tp cannot split over 3; deepspeed works"),
        ("llama31_8b", "hf_tp", 1, "cpu", "two devices or more; hf runs on one"),
        ("mpt7b", "hf_tp", 2, "cpu", "no tensor-parallel plan for mpt; deepspeed may split it"),
        ("mixtral8x7b", "deepspeed", 2, "cpu", "AutoTP leaves the experts .* hf_tp splits them"),
        ({"model_type": "gpt2"}, "deepspeed", 2, "cpu", "AutoTP does not split gpt2; hf on one device works"),
        ("mpt7b", "deepspeed_kernels", 1, "h100_80gb", "no policy for mpt and would do nothing"),
        ("falcon7b", "deepspeed_kernels", 1, "h100_80gb", "no policy for falcon"),
        ("llama7b", "deepspeed_kernels", 1, "cpu", "kernels need a GPU"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_says_why_and_what_works(
    model: str | dict[str, Any], kind: str, devices: int, device: str, reason: str
) -> None:
    """Before anything is loaded."""
    said = why_not_split(case(model, kind, devices, device))
    assert said is not None
    assert re.search(reason, said), said


@pytest.mark.parametrize(
    ("model", "kind", "devices"),
    [
        ("mpt7b", "hf", 1), ("mpt30b", "deepspeed", 4), ("llama31_8b", "deepspeed", 3),
        ("llama7b", "hf_tp", 8), ("falcon7b", "deepspeed", 1), ("mixtral8x7b", "hf_tp", 2),
        ("llama7b", "deepspeed_kernels", 2), ("llama31_8b", "deepspeed", 8), ("llama31_8b", "hf_tp", 8),
    ],
)  # fmt: skip
def test_what_can_be_tried_is_not_refused(model: str, kind: str, devices: int) -> None:
    """AutoTP deals 8 heads out to three ranks unevenly."""
    assert why_not_split(case(model, kind, devices)) is None


@pytest.mark.slow
def test_the_tables_are_those_of_the_libraries() -> None:
    """transformers' configs without a plan; the layer classes that DeepSpeed's policies name."""
    from transformers import AutoConfig

    without = [t for t in NO_PLAN if not AutoConfig.for_model(t).base_model_tp_plan]
    assert without == list(NO_PLAN)
    for name in library.names("models"):
        model_type = str(library.model(name).architecture["model_type"])
        assert (model_type in NO_PLAN) == (not AutoConfig.for_model(model_type).base_model_tp_plan), (
            model_type
        )
    policies = pytest.importorskip("deepspeed.module_inject.replace_policy").replace_policies
    classes = set()
    for policy in policies:
        policy(None)  # fills in the class that it replaces
        found = policy._orig_layer_class
        classes |= {c.__module__ for c in (found if isinstance(found, list) else [found]) if c is not None}
    with_kernels = {name.split(".")[2] for name in classes if name.startswith("transformers.models.")}
    assert with_kernels - {"bert", "roberta", "distilbert", "clip"} == set(HAS_KERNELS)


WHOLE = {"wte": 400, "up": 800, "down": 800, "norm": 10, "head": 400}


def rank(**held: int) -> dict[str, Held]:
    """What a rank holds; the norm is a vector, wte an embedding."""
    return {name: Held(size, 1 if name == "norm" else 2, name == "wte") for name, size in held.items()}


def test_an_even_split_holds_its_share_and_what_is_small() -> None:
    """2010 bytes with the tied head once: 1005 a rank; 400 + 400 + 200 and the norm's 10 twice."""
    found = shards(WHOLE, ["head"], [rank(wte=200, up=400, down=400, norm=10)] * 2)
    assert found.bytes_by_rank == [1010, 1010]
    assert found.even_bytes == 1005
    assert found.over_even == pytest.approx(1010 / 1005)
    assert (found.kept_whole, found.untied, found.not_split) == ({}, [], [])


def test_a_tied_head_that_was_untied_is_named_and_counted() -> None:
    """AutoTP keeps the embedding whole and splits a copy of it: 400 + 200 + 400 + 400 + 10."""
    found = shards(WHOLE, ["head"], [rank(wte=400, up=400, down=400, norm=10, head=200)] * 2)
    assert found.bytes_by_rank == [1410, 1410]
    assert found.over_even == pytest.approx(1410 / 1005)
    assert (found.kept_whole, found.untied, found.not_split) == ({"wte": 400}, ["head"], [])


def test_a_matrix_that_one_rank_holds_in_full_was_not_split() -> None:
    """Whether the others hold it too, or nothing of it."""
    for theirs in (800, 0):
        found = shards(WHOLE, ["head"], [rank(up=800), rank(up=theirs)])
        assert found.not_split == ["up"]


def test_the_fullest_rank_counts() -> None:
    """600 and 400 of 1000 bytes: 600 over an even 500."""
    found = shards({"up": 1000}, [], [rank(up=600), rank(up=400)])
    assert (found.over_even, found.not_split) == (1.2, [])


def test_small_matrices_and_one_rank_alone_are_no_finding() -> None:
    """A router of experts stays whole; with one rank everything does."""
    whole = {"up": 10_000, "router": 90}
    assert shards(whole, [], [rank(up=5000, router=90)] * 2).not_split == []
    assert shards(whole, [], [rank(up=5000, router=90)] * 2).kept_whole == {"router": 90}
    assert shards(whole, [], [rank(up=10_000, router=90)]).kept_whole == {}
