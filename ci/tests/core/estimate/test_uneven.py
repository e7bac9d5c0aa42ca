"""Models with experts, windows, states and latents: each part of a pass worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from fixtures.core.cost.bounds import Cache, Experts, Work
from fixtures.core.cost.stored_counts import Counts, Dispatch, find_counts
from fixtures.core.estimate.estimate import UNLIKE, Estimate, Known, Measured, Refused, estimate
from fixtures.core.estimate.formula import REFERENCE_BYTES_PER_S, Devices, Parameters, one_pass
from fixtures.core.estimate.machine import Work as Timed
from fixtures.core.estimate.machine import calibrated, stacked
from fixtures.core.estimate.model import Model, Uneven, kinds_of
from fixtures.core.estimate.physics import FOLDER, Physics, read_physics
from fixtures.core.spec.case import Case, EngineSpec, Point
from fixtures.core.spec.library import hardware, model

FULL = Cache(4, 10)
PLAIN = Work(100.0, 1000.0, 40.0, 5000, (FULL,))
MIXTURE = replace(PLAIN, experts=(Experts(3, 8, 2, 100),))
DISPATCH = Dispatch(4, 2, 10, 7.0, 3.0, 3.0, 30.0, 90.0, "5")
HALF = Parameters(
    tau_s=0.01, e_flops=0.5, e_weights=0.5, e_cache=0.25, e_scores=0.5, gamma=1.0, p=2.0, q=1.0
)  # fmt: skip
ON = Devices(flops_per_s=1e4, bytes_per_s=REFERENCE_BYTES_PER_S)


def of(work: Work, dispatch: Dispatch = DISPATCH, **kind: Any) -> Model:
    """For the formula, on a GPU unless it says another."""
    return Model.of(work, dispatch, **kind)


def test_a_model_like_those_of_the_fits_stays_a_polynomial() -> None:
    """Only other layers make it uneven, and each is named."""
    assert type(of(PLAIN)) is Model
    for changed, kinds in (
        ({"experts": MIXTURE.experts}, ("mixture",)),
        ({"caches": (replace(FULL, window=8),)}, ("sliding window",)),
        ({"caches": (FULL, Cache(2, 0, 64))}, ("state",)),
        ({"caches": (replace(FULL, chosen=8),)}, ("sparse attention",)),
        ({"flops_per_cached": 5.0, "experts": MIXTURE.experts}, ("mixture", "latent cache")),
    ):
        work = replace(PLAIN, **changed)
        assert kinds_of(work) == kinds
        assert isinstance(of(work), Uneven)


def test_a_pass_reads_the_experts_that_its_tokens_touch() -> None:
    """Of 8 experts two tokens choose 8 (1 - 0.75^2) = 3.5; 5000 bytes have the 2 of one token."""
    here = of(MIXTURE, on_cpu=True)
    assert here.read(1, 1) == pytest.approx(5000)
    assert here.read(2, 1) == pytest.approx(5000 + 3 * 100 * 1.5)
    assert here.read(4, 16) == pytest.approx(5000 + 3 * 100 * 6, rel=1e-6)  # 64 tokens: all of them
    steep = replace(MIXTURE, routing="power_law_1", experts=(Experts(3, 3, 2, 100),))
    # by ranks 1, 0.6, 0.4: two tokens miss 0.16 and 0.36 of the last two
    assert of(steep, on_cpu=True).read(2, 1) == pytest.approx(5000 + 3 * 100 * (3 - 0.16 - 0.36 - 2))


def test_a_decode_step_on_a_gpu_copies_the_experts_of_each_token() -> None:
    """Written once and read once: 2 x 3 layers x 2 of 100 bytes a sequence; a prefill copies nothing."""
    cpu, gpu = of(MIXTURE, on_cpu=True), of(MIXTURE)
    assert gpu.read(5, 1) - cpu.read(5, 1) == pytest.approx(5 * 2 * 3 * 2 * 100)
    assert gpu.read(5, 7) == cpu.read(5, 7)


def test_a_model_that_runs_all_experts_reads_all_and_copies_none() -> None:
    """As Llama 4 does: 6 more of 8 in 3 layers."""
    assert of(replace(MIXTURE, idle_flops=10.0)).read(1, 1) == pytest.approx(5000 + 3 * 100 * 6)


def test_attention_ends_at_its_reach() -> None:
    """Half of the layers have a window of 4: in a step over 10 positions the mean is 7."""
    windowed = of(replace(PLAIN, caches=(replace(FULL, layers=2, window=4), replace(FULL, layers=2))))
    assert windowed.reach(1, 10) == pytest.approx((4 + 10) / 2)
    assert windowed.reach(1, 3) == pytest.approx(3)
    assert windowed.reach(6, 6) == pytest.approx(6)  # a mask hides pairs, which are computed
    assert windowed.reach(2, 10) == pytest.approx((2 + 3 + 10) / 2)  # 3 were kept
    chosen = of(replace(PLAIN, caches=(replace(FULL, chosen=2),)))
    assert chosen.reach(1, 10) == pytest.approx(10)  # masked, not spared
    entries = (replace(FULL, every=4), replace(FULL, window=4))
    work = replace(PLAIN, flops_per_pair=8.0 / 4 + 4, caches=entries, pair_flops=(8.0, 4.0))
    assert of(work).reach(1, 12) == pytest.approx((8 * 12 / 4 + 4 * 4) / 6)


def test_a_latent_is_expanded_again_for_every_cached_token() -> None:
    """Not for those of the pass itself."""
    assert of(replace(PLAIN, flops_per_cached=5.0)).besides(1, 10) == pytest.approx(5 * 9)
    assert of(replace(PLAIN, flops_per_cached=5.0)).besides(10, 10) == 0


def test_a_step_reads_and_writes_its_states() -> None:
    """64 bytes in 2 layers, in and out, of each sequence; more where more was counted, less its experts."""
    work = replace(PLAIN, caches=(FULL, Cache(2, 0, 64)))
    assert of(work).kept(3, 1) == pytest.approx(3 * 2 * 128)
    assert of(work).kept(3, 5) == 0
    counted = replace(DISPATCH, copied=1000.0)
    assert of(work, counted).kept(3, 1) == pytest.approx(3 * 4 * 1000)
    both = replace(work, experts=MIXTURE.experts)
    assert of(both, counted).kept(1, 1) == pytest.approx(4 * 1000 - 2 * 3 * 2 * 100)
    assert of(both, counted).read(1, 1) == pytest.approx(5000 + 2 * 3 * 2 * 100)


def test_a_prefill_of_states_loops_over_chunks() -> None:
    """4 layers of 7 operators and 3 around; in a prefill 20 more and half a one a token."""
    loops = replace(DISPATCH, prefill_ops=20.0, ops_per_token=0.5)
    work = replace(PLAIN, caches=(FULL, Cache(2, 0, 64)))
    assert of(work, loops).operators(1) == pytest.approx(4 * 7 + 3)
    assert of(work, loops).operators(64) == pytest.approx(4 * (7 + 20 + 32) + 3)


def test_a_prefill_multiplies_chunks_and_pads_the_last() -> None:
    """13 tokens in chunks of 8: 4 layers take 5 FLOPs for each, and for 3 of padding 9 and 11 bytes."""
    chunks = replace(DISPATCH, chunk=8, chunk_flops=5.0, padded_flops=9.0, padded_bytes=11.0)
    work = replace(PLAIN, caches=(FULL, Cache(2, 0, 64)))
    assert of(work, chunks).besides(13, 13) == pytest.approx(4 * (5 * 13 + 9 * 3))
    assert of(work, chunks).besides(16, 20) == pytest.approx(4 * 5 * 16)
    assert of(work, chunks).besides(1, 13) == of(work, chunks).padded_bytes(1) == 0
    found, plain = (one_pass(of(work, each), ON, 2, 13, 13, HALF) for each in (chunks, DISPATCH))
    assert found.flops - plain.flops == pytest.approx(2 * 4 * 92 / (0.5 * 1e4))
    assert found.scores - plain.scores == pytest.approx(2 * 4 * 11 * 3 / (0.5 * REFERENCE_BYTES_PER_S))


def test_a_machine_that_multiplies_faster_does_not_move_bytes_faster_than_its_memory() -> None:
    """At a quarter of the seconds half the bandwidth would be twice of it."""
    usual, fast = (one_pass(of(PLAIN), ON, 2, 5, 5, HALF.on_machine(1.0, g)) for g in (1.0, 0.25))
    assert fast.flops == pytest.approx(usual.flops / 4)
    assert fast.scores == pytest.approx(usual.scores / 2)  # all of the bandwidth
    assert fast.cache == pytest.approx(usual.cache / 4)
    slow = one_pass(of(PLAIN), ON, 2, 5, 5, HALF.on_machine(1.0, 3.0))
    assert slow.scores == pytest.approx(usual.scores * 3)


def test_each_block_of_a_layer_ends_in_a_collective() -> None:
    """On two devices, of 4 layers: 2 blocks in each, or one."""
    two, v = replace(ON, number=2, link_bytes_per_s=50.0), replace(HALF, alpha_s=0.5, e_link=0.5)
    both, one = (one_pass(of(PLAIN, replace(DISPATCH, blocks=n)), two, 2, 5, 5, v) for n in (2.0, 1.0))
    assert both.host == pytest.approx(0.01 * (7 * 4 + 3) + 4 * 2 * 0.5)
    assert both.host - one.host == pytest.approx(4 * 0.5)
    assert both.link == 2 * one.link == pytest.approx(4 * 2 * (2 * 5 * 10 * 2) / (0.5 * 50.0))


def test_a_step_of_a_mixture_worked_out_by_hand() -> None:
    """Two sequences over 6 positions on a GPU: each term by its own line."""
    work = replace(MIXTURE, caches=(FULL, Cache(2, 0, 64)), flops_per_cached=5.0)
    found = one_pass(of(work), ON, 2, 1, 6, HALF)
    assert found.host == pytest.approx(0.01 * (7 * 4 + 3))
    assert found.flops == pytest.approx(2 * (100 + 1000 + 40 * 6 + 5 * 5) / (0.5 * 1e4))
    weights = 5000 + 3 * 100 * 1.5 + 2 * 2 * 3 * 2 * 100
    assert found.weights == pytest.approx(weights / (0.5 * REFERENCE_BYTES_PER_S))
    cache = 3 * 40 * 2 * 6 / 0.25 + 2 * 2 * 2 * 64 / 0.5
    assert found.cache == pytest.approx(cache / REFERENCE_BYTES_PER_S)
    assert found.scores == pytest.approx(4 * 2 * (30 * 2 * 6 + 90 * 10) / (0.5 * REFERENCE_BYTES_PER_S))


def test_uneven_models_stack_with_their_like_alone() -> None:
    """Several lengths of one model at once, and a machine's factors from points of two kinds."""
    mixture = of(replace(MIXTURE, caches=(replace(FULL, window=8),)))
    works = [Timed(mixture, ON, batch, 6, 5) for batch in (1, 3)]
    together = stacked(works).seconds(HALF)
    assert [float(each) for each in together] == pytest.approx([float(one.seconds(HALF)) for one in works])
    plain = Timed(of(PLAIN), ON, 2, 6, 5)
    assert plain.stacks_by != works[0].stacks_by == works[1].stacks_by
    physics = _physics()
    points = [(one, 3 * float(one.seconds(physics.parameters))) for one in (*works, plain)]
    machine = calibrated(physics, points)
    assert machine.ln_host + machine.ln_device > 0
    assert machine.points == 3


def _physics() -> Physics:
    found = read_physics("hf", "gpu")
    assert found is not None
    return found


def _counts(name: str) -> Counts:
    found = find_counts(model(name), EngineSpec("hf"))
    assert found is not None
    return found


def test_an_estimate_of_a_mixture_says_that_none_was_measured_and_is_wider() -> None:
    """The squares of the logarithms add; a measured one of the same model takes it back."""
    case = Case(model("mixtral8x7b"), hardware("h200_141gb"), 1, EngineSpec("hf"), Point(4, 512, 64))
    counts, physics = _counts("mixtral8x7b"), _physics()
    found = estimate(case, counts, physics, Known())
    plain = replace(counts, work=replace(counts.work, experts=(), weight_bytes=counts.footprint.weight_bytes))
    dense = estimate(case, plain, physics, Known())
    assert isinstance(found, Estimate)
    assert isinstance(dense, Estimate)
    assert found.novelty == "machine never seen, no measured mixture behind it"
    assert dense.novelty == "machine never seen"
    assert found.half_width > UNLIKE
    assert found.latency_s > dense.latency_s  # copies of 4 x 2 experts, where 8 are read
    measured = Known((Measured("mixtral8x7b", 1, Point(1, 512, 64)),))
    again = estimate(case, counts, physics, measured)
    assert isinstance(again, Estimate)
    assert (again.novelty, again.half_width) == ("other batch", physics.half_width["other batch"])
    other = estimate(case, counts, physics, Known((Measured("mpt7b", 1, Point(4, 512, 64)),)))
    assert isinstance(other, Estimate)
    assert other.novelty == "other model, no measured mixture behind it"
    usual = physics.half_width["other model"]
    assert other.half_width**2 > usual**2
    assert other.half_width < usual * UNLIKE


def test_the_widening_is_the_worst_family_left_out() -> None:
    """As the file of the fit has it."""
    fit = yaml.safe_load((FOLDER / "deepspeed_gpu.yaml").read_text(encoding="utf-8"))
    assert pytest.approx(1 + fit["errors"]["left_out"]["family"]["physics"]["worst"], abs=0.005) == UNLIKE


def test_experts_that_are_not_known_are_refused() -> None:
    """A step reads a part of the weights, and no layer of experts was counted."""
    case = Case(model("mixtral8x7b"), hardware("h200_141gb"), 1, EngineSpec("hf"), Point(4, 512, 64))
    counts = _counts("mixtral8x7b")
    found = estimate(case, replace(counts, work=replace(counts.work, experts=())), _physics(), Known())
    assert isinstance(found, Refused)
    assert found.reason.startswith("model mixtral8x7b: a token's step reads a part of its weights")


def test_an_engine_that_nobody_measured_borrows_the_nearest_and_says_so() -> None:
    """hf_tp splits transformers' modules as DeepSpeed does; a point of it takes the words back."""
    asked = Case(
        model("llama31_70b"), hardware("h200_141gb"), 4, EngineSpec("hf_tp", "hf_tp"), Point(1, 512, 64)
    )
    counts, physics = _counts("llama31_70b"), read_physics("hf_tp", "gpu")
    assert physics is not None
    assert physics == read_physics("deepspeed", "gpu")
    found = estimate(asked, counts, physics, Known())
    assert isinstance(found, Estimate)
    assert found.novelty == "machine never seen, no measured hf_tp behind it"
    again = estimate(asked, counts, physics, Known((Measured("llama31_70b", 2, Point(1, 512, 64)),)))
    assert isinstance(again, Estimate)
    assert again.novelty == "other count"


def test_all_that_was_not_measured_is_one_list() -> None:
    """In the order of engine, experts, states, windows and attention."""
    asked = Case(model("deepseek_v32"), hardware("b200"), 8, EngineSpec("hf_tp", "hf_tp"), Point(1, 512, 64))
    found = estimate(asked, _counts("deepseek_v32"), read_physics("hf_tp", "gpu"), Known())
    assert isinstance(found, Estimate)
    told = "no measured hf_tp, mixture, latent cache or sparse attention behind it"
    assert found.novelty == f"machine never seen, {told}"
