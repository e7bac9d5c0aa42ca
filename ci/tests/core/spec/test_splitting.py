"""Which model can be split by which engine: by hand, and against the libraries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from fixtures.core.spec import library, splitting
from fixtures.core.spec.arch.source import causal_class, config_class, model_types
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.splitting import (
    HAS_KERNELS,
    has_plan,
    hf_runs,
    key_value_heads,
    too_large,
    tried,
    why_not_split,
)
from fixtures.core.spec.tried import why_untried


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
        ({"model_type": "mistral"}, 8),
        ({"model_type": "phi3", "num_attention_heads": 12}, 12),
        ({"model_type": "gpt_bigcode", "n_head": 12}, 1),
        ({"model_type": "gpt_bigcode", "n_head": 12, "multi_query": False}, 12),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "num_key_value_heads": 3}}, 3),
        ({"model_type": "opt"}, 12),
    ],
)  # fmt: skip
def test_key_value_heads(model: str | dict[str, Any], heads: int | None) -> None:
    """As the papers have them, and where a config says nothing as its class does; Falcon's default is one."""
    assert key_value_heads(case(model, "hf", 1).model) == heads


@pytest.mark.parametrize(
    ("model", "kind", "devices", "device", "reason"),
    [
        ("llama7b", "hf", 2, "cpu", "runs on one device; hf_tp and deepspeed take 2$"),
        ("mpt7b", "hf", 2, "cpu", "runs on one device; deepspeed takes 2$"),
        ("falcon7b", "hf", 2, "cpu", "runs on one device, and no engine splits falcon7b over 2$"),
        ("falcon7b", "deepspeed", 2, "cpu", "1 key-value head, which deepspeed cannot split over 2; hf"),
        ("llama31_8b", "deepspeed", 16, "cpu", "8 key-value heads, which deepspeed cannot split over 16"),
        ("llama31_8b", "hf_tp", 3, "cpu", "hf_tp cannot split over 3; deepspeed (works|may split it)"),
        ("llama31_8b", "hf_tp", 1, "cpu", "two devices or more; hf runs on one"),
        ("mpt7b", "hf_tp", 2, "cpu", "no tensor-parallel plan for mpt; deepspeed (works|may split it)"),
        ("mixtral8x7b", "deepspeed", 2, "cpu", "AutoTP leaves the experts .*; hf_tp (works|may split it)"),
        ({"model_type": "gpt2"}, "deepspeed", 2, "cpu", "AutoTP does not split gpt2; hf on one device works"),
        ("mpt7b", "deepspeed_kernels", 1, "h100_80gb", "no policy for mpt and would do nothing"),
        ("falcon7b", "deepspeed_kernels", 1, "h100_80gb", "falcon .*; the engine deepspeed runs it"),
        ("falcon7b", "deepspeed_kernels", 2, "h100_80gb", "no policy for falcon .*; hf on one device works$"),
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


OTHERS = {
    "deepspeed": {"versions": {"transformers": "5.23.0", "deepspeed": "0.19.8"}, "works": [], "cannot": {}},
    "hf_tp": {"versions": {"transformers": "5.23.0"}, "works": [], "cannot": {}},
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Say what is installed, and what was tried with transformers 5.23.0 and deepspeed 0.19.8."""

    def say(versions: dict[str, str], **found: dict[str, Any]) -> None:
        tried.cache_clear()
        content = {kind: {**of, **found.get(kind, {})} for kind, of in OTHERS.items()}
        (tmp_path / "splits.json").write_text(json.dumps(content))
        monkeypatch.setattr(splitting, "TRIED", tmp_path / "splits.json")
        monkeypatch.setattr(metadata, "version", versions.__getitem__)

    yield say
    tried.cache_clear()


@pytest.mark.parametrize(
    ("model", "kind", "devices", "device", "reason"),
    [
        ("llama31_70b", "deepspeed", 16, "h100_80gb", "cannot split over 16; (hf_tp|deepspeed) over 8 .*"),
        ("llama31_70b", "deepspeed", 16, "t4", "over 16; one device does not hold its 141.11 GB of weights$"),
        ("llama31_70b", "deepspeed", 16, "b300", "cannot split over 16; hf on one device works$"),
        ("llama31_70b", "hf_tp", 1, "h100_80gb", "; one device does not hold its 141.11 GB of weights$"),
        ("llama31_70b", "hf", 4, "l4", "runs on one device, and no engine splits llama31_70b over 4"),
        ("llama31_70b", "hf", 8, "l4", "runs on one device; hf_tp and deepspeed take 8$"),
    ],
)  # fmt: skip
def test_what_works_instead_holds_the_model(
    model: str, kind: str, devices: int, device: str, reason: str
) -> None:
    """70.55e9 parameters in bf16 are 141.11 GB: two of 80 GB hold them, one of 288, 8 x 24 but not 4 x 24."""
    said = why_not_split(case(model, kind, devices, device))
    assert said is not None
    assert re.search(reason, said), said


def test_an_engine_that_runs_it_says_where_the_model_does_not_fit() -> None:
    """In hf's 16 bits; of a model whose size nobody stated nothing is said."""
    told = "hf runs it where it fits: one device does not hold its 141.11 GB of weights"
    assert hf_runs(case("llama31_70b", "hf_int4", 1, "l4")) == told
    assert (why_untried(case("llama31_70b", "vllm", 1, "l4"), (), {}) or "").endswith(f"; {told}")
    assert hf_runs(case("llama31_70b", "hf_int4", 1, "h200_141gb")) == "hf runs it"  # of 151 GB
    assert hf_runs(case("llama31_70b", "hf_int4", 1, "b300"), "there") == "hf runs there"
    assert hf_runs(case({"model_type": "llama"}, "hf_int4", 1, "l4")) == "hf runs it"
    # 20.9e9 parameters are 41.8 of 42.3 GB, of which the driver has some, and a call the cache
    ranks = case("llama7b", "deepspeed", 2, "cpu")
    small = replace(ranks, hardware=replace(ranks.hardware, memory_bytes=10**10))
    assert (
        too_large(small, 2) == "2 devices do not hold its 13.48 GB of weights"
    )  # of one memory, which they share
    assert hf_runs(case("gpt_oss_20b", "hf_int4", 1, "a100_40gb")).startswith("hf runs it where it fits")


SAME = {"transformers": "5.23.0", "deepspeed": "0.19.8+local"}
FUSED = {"phi3": "phi3 split by deepspeed does not run: RuntimeError: mat1 and mat2"}
PHI3 = {"model_type": "phi3", "num_attention_heads": 32}


def test_what_was_tried_and_failed_is_refused_with_what_was_tried_and_works(
    installed: Callable[..., None],
) -> None:
    """The reason as it was found; hf_tp works, or may where nobody tried it, or has no plan."""
    installed(SAME, deepspeed={"cannot": FUSED}, hf_tp={"works": ["phi3"]})
    assert why_not_split(case(PHI3, "deepspeed", 2)) == f"{FUSED['phi3']}; hf_tp works"
    assert why_not_split(case(PHI3, "hf_tp", 2)) is None
    installed(SAME, deepspeed={"cannot": FUSED})
    assert why_not_split(case(PHI3, "deepspeed", 2)) == f"{FUSED['phi3']}; hf_tp may split it"
    installed(SAME, deepspeed={"cannot": {"mpt": "mpt fails"}})
    assert why_not_split(case("mpt7b", "deepspeed", 2)) == "mpt fails; hf on one device works"
    assert why_not_split(case("mpt7b", "deepspeed", 1)) is None
    installed(SAME, deepspeed={"works": ["mixtral"]})
    assert why_not_split(case("mixtral8x7b", "deepspeed", 2)) is None  # experts and all


@pytest.mark.parametrize("other", [{"transformers": "5.24.0"}, {"deepspeed": "0.20.0"}])
def test_with_other_versions_nothing_of_it_is_known(
    installed: Callable[..., None], other: dict[str, str]
) -> None:
    """It may try: a split that fails says so when it loads."""
    installed({**SAME, **other}, deepspeed={"cannot": FUSED})
    assert why_not_split(case(PHI3, "deepspeed", 2)) is None


def test_without_the_file_and_for_a_model_that_is_not_known_it_may_try(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A checkout may lack it; code that comes with a checkpoint may have a plan of its own."""
    monkeypatch.setattr(splitting, "TRIED", tmp_path / "none.json")
    tried.cache_clear()
    assert why_not_split(case(PHI3, "deepspeed", 2)) is None
    assert why_not_split(case({"model_type": "own"}, "hf_tp", 2)) is None
    tried.cache_clear()


@pytest.mark.slow
def test_the_tables_are_those_of_the_libraries() -> None:
    """The plan of every causal type, as transformers has it; the layers that DeepSpeed's policies name."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for model_type in map(str, model_types()):
        declared = config_class(model_type)
        if causal_class(model_type) and declared is not None and not declared.parts:
            has = bool(CONFIG_MAPPING[model_type].base_model_tp_plan)
            assert has_plan(ModelSpec("m", {"model_type": model_type})) == has, model_type
    policies = pytest.importorskip("deepspeed.module_inject.replace_policy").replace_policies
    classes = set()
    for policy in policies:
        policy(None)  # fills in the class that it replaces
        found = policy._orig_layer_class
        classes |= {c.__module__ for c in (found if isinstance(found, list) else [found]) if c is not None}
    with_kernels = {name.split(".")[2] for name in classes if name.startswith("transformers.models.")}
    assert with_kernels - {"bert", "roberta", "distilbert", "clip"} == set(HAS_KERNELS)
