"""The tokens of each expert, on small real mixtures: set by a routing, and counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ci.tests.engines.test_hf import LLAMA, MIXTRAL, case, loaded, work_of
from fixtures.core.result.record_engine import RecordedExperts
from fixtures.core.spec.case import EngineSpec, Point
from fixtures.engines.experts import experts_of
from fixtures.engines.protocol import CannotLoad

pytestmark = pytest.mark.slow

QWEN3_MOE = {
    **LLAMA, "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "head_dim": 16,
    "moe_intermediate_size": 32,
}  # fmt: skip
GPT_OSS = {
    **LLAMA, "model_type": "gpt_oss", "num_local_experts": 8, "num_experts_per_tok": 4, "head_dim": 16,
    "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip
POINT = Point(16, 40, 12)
# A token's probability of each expert by hand, in proportion to 1, 1/2, 1/3, ...: the sum is 2 or 4, and none
# is above 1. The sum of 1/rank is 25/12 over four ranks, 761/280 over eight.
STEEP = {
    "mixtral": [2 / rank / (25 / 12) for rank in range(1, 5)],
    "qwen3_moe": [2 / rank / (761 / 280) for rank in range(1, 9)],
    "gpt_oss": [1, *(3 / rank / (761 / 280 - 1) for rank in range(2, 9))],
}


@pytest.mark.parametrize("architecture", [MIXTRAL, QWEN3_MOE, GPT_OSS], ids=lambda each: each["model_type"])
def test_the_experts_receive_the_stated_shares(architecture: dict[str, Any]) -> None:
    """Within five standard deviations; the router itself computes as before, and every call does the same."""
    name = str(architecture["model_type"])
    for routing in ("uniform", "power_law_1"):
        hf, facts = loaded(architecture, EngineSpec("e", dtype="float32", routing=routing))
        assert facts["routing_depends_on_weights"] is False
        routers: list[torch.Tensor] = []
        given: list[torch.Tensor] = []
        experts = experts_of(hf.model)[0]
        router = next(
            m for path, m in hf.model.named_modules() if path.endswith(("0.mlp.gate", "0.mlp.router"))
        )
        router.register_forward_hook(lambda _m, _a, out, seen=routers: seen.append(out[2]))
        experts.register_forward_pre_hook(lambda _m, args, seen=given: seen.append(args[1]))
        work = work_of(hf, POINT)
        hf.check(work)
        counted = RecordedExperts(**hf.case_facts(work)["experts"])
        steps = POINT.batch_size * (POINT.input_len + 7)  # the check makes eight tokens
        tokens = 2 * steps
        assert (counted.layers, sum(counted.tokens_by_expert)) == (2, counted.chosen * tokens)
        even = [counted.chosen / counted.number] * counted.number
        for count, share in zip(
            counted.tokens_by_expert, even if routing == "uniform" else STEEP[name], strict=True
        ):
            assert abs(count / tokens - share) <= 5 * (share * (1 - share) / tokens) ** 0.5 + 1e-9
        assert sum(map(len, given)) == sum(map(len, routers)) == steps
        assert not torch.equal(torch.cat(given).sort(dim=1)[0], torch.cat(routers).sort(dim=1)[0])
        first, again = hf.generate(work), hf.generate(work)
        assert torch.equal(first, again)


def test_random_weights_stay_the_default() -> None:
    """What the router chose reaches the experts, and is counted; distinct experts are those of its steps."""
    hf, facts = loaded(MIXTRAL, EngineSpec("e", dtype="float32"))
    assert facts["routing_depends_on_weights"] is True
    chosen: list[torch.Tensor] = []
    for path, module in hf.model.named_modules():
        if path.endswith("mlp.gate"):
            module.register_forward_hook(lambda _m, _a, out: chosen.append(out[2]))
    work = work_of(hf, POINT)
    hf.check(work)
    counted = hf.case_facts(work)["experts"]
    assert counted["tokens_by_expert"] == torch.bincount(torch.cat(chosen).flatten(), minlength=4).tolist()
    distinct = [len(each.unique()) for each in chosen[2:]]
    assert counted["distinct_a_step"] == pytest.approx(sum(distinct) / len(distinct))


def test_a_dense_model_has_no_experts() -> None:
    """The cases of a suite are refused before; a model's own code shows it only when it is loaded."""
    with pytest.raises(CannotLoad, match="no experts"):
        loaded(LLAMA, EngineSpec("e", routing="uniform"))
    hf, _ = loaded(LLAMA)
    hf.check(work := work_of(hf))
    assert hf.case_facts(work) == {}


def test_counting_finds_the_experts() -> None:
    """Three matrices of 64 x 96 values of two bytes, two of four experts in two layers."""
    hf, _ = loaded(MIXTRAL)
    assert hf.count(case(MIXTRAL))["work"]["experts"] == [
        {"layers": 2, "number": 4, "chosen": 2, "expert_bytes": 3 * 64 * 96 * 2}
    ]
