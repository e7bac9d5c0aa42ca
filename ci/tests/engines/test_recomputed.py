"""The step at which an architecture passes over the whole prefix again; others keep the cache."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.engines.hf import HfEngine
from fixtures.engines.protocol import WorkNotDone
from fixtures.measure.prompts import make_prompts

pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FACTORS = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
LONGROPE = {"type": "longrope", **FACTORS}
PHI3 = {"model_type": "phi3", **SIZES, "original_max_position_embeddings": 18, "rope_scaling": LONGROPE}
PHIMOE = {
    "model_type": "phimoe", **SIZES, "num_local_experts": 4, "original_max_position_embeddings": 18,
    "rope_scaling": {
        **LONGROPE, "short_mscale": 1.0, "long_mscale": 1.0, "original_max_position_embeddings": 18,
    },
}  # fmt: skip
LLAMA = {"model_type": "llama", **SIZES}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 18}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 18,
}  # fmt: skip
KEEP: dict[str, dict[str, Any]] = {
    "phi3_without_scaling": {"model_type": "phi3", **SIZES, "original_max_position_embeddings": 128},
    "longrope_in_llama": {
        **LLAMA,
        "rope_scaling": {"rope_type": "longrope", **FACTORS, "original_max_position_embeddings": 18},
    },
    "yarn": {**LLAMA, "rope_scaling": YARN},
    "llama3": {**LLAMA, "rope_scaling": LLAMA3},
    "dynamic": {
        **LLAMA, "max_position_embeddings": 18, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0},
    },
}  # fmt: skip


def measured(architecture: dict[str, Any], point: Point, use_cache: bool = True) -> list[int]:
    """The positions of each step of a checked model's call."""
    hf = HfEngine()
    spec = EngineSpec("e", dtype="float32", use_cache=use_cache)
    hf.load(Case(ModelSpec("small", architecture), library.hardware("cpu"), 1, spec, point), seed=17)
    work = hf.prepare(make_prompts(point, 128, 17), point.output_len)
    hf.check(work)
    hf.verify(work, hf.generate(work))
    return hf._positions


@pytest.mark.parametrize("architecture", [PHI3, PHIMOE], ids=["phi3", "phimoe"])
@pytest.mark.parametrize("point", [Point(1, 16, 4), Point(2, 4, 40), Point(1, 18, 2)], ids=str)
def test_a_step_over_the_original_length_is_named(architecture: dict[str, Any], point: Point) -> None:
    """Before a call is made that may end before it: the check takes eight tokens at most."""
    with pytest.raises(WorkNotDone, match=r"^longrope recomputes the prefix at its original length of 18: "):
        measured(architecture, point)


@pytest.mark.parametrize("architecture", [PHI3, PHIMOE], ids=["phi3", "phimoe"])
@pytest.mark.parametrize("point", [Point(1, 16, 3), Point(1, 18, 1), Point(2, 19, 6)], ids=str)
def test_lengths_that_stay_on_one_side_are_measured(architecture: dict[str, Any], point: Point) -> None:
    """19 tokens of input and output together have a step of 18 as their last; 19 of input begin beyond it."""
    assert measured(architecture, point) == [point.input_len] + [1] * (point.output_len - 1)


def test_without_a_cache_every_step_is_over_the_prefix_anyhow() -> None:
    """So nothing is recomputed."""
    assert measured(PHI3, Point(1, 16, 4), use_cache=False) == [16, 17, 18, 19]


@pytest.mark.parametrize("name", KEEP)
def test_architectures_that_keep_the_cache_are_measured(name: str) -> None:
    """Whatever they do to their frequencies there."""
    assert measured(KEEP[name], Point(1, 16, 6)) == [16, 1, 1, 1, 1, 1]
