"""The formula against passes worked out by hand, and against what physics allows."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.cost.bounds import Peaks, bound
from fixtures.core.cost.stored_counts import Counts, find_counts
from fixtures.core.estimate.estimate import Estimate, Known, estimate
from fixtures.core.estimate.formula import (
    FLOPS,
    HOST,
    LINK,
    REFERENCE_BYTES_PER_S,
    WEIGHTS,
    Devices,
    Generation,
    Parameters,
    generate,
    norm,
    one_pass,
)
from fixtures.core.estimate.machine import Machine, Work, stacked
from fixtures.core.estimate.model import Model
from fixtures.core.estimate.physics import read_physics
from fixtures.core.spec.case import Case, EngineSpec, Point
from fixtures.core.spec.library import all_hardware, hardware, model

FEW = settings(deadline=None, derandomize=True, max_examples=60)
TOY = Model(
    a=100.0, b=1000.0, c=40.0, weight_bytes=4000.0, layers=5, heads=2, width=10,
    ops=7.0, base=3.0, kappa=3.0, sigma=30.0, omega=90.0,
)  # fmt: skip
SLOW = Devices(flops_per_s=1e4, bytes_per_s=REFERENCE_BYTES_PER_S, link_bytes_per_s=500.0)
PLAIN = Parameters(
    tau_s=0.01, e_flops=0.5, e_weights=0.5, e_cache=0.25, e_scores=0.5, gamma=1.0, alpha_s=0.02,
    e_link=0.1, p=2.0, q=1.0,
)  # fmt: skip
MODELS = ("mpt7b", "mpt30b", "llama7b", "falcon7b", "llama31_8b")


def counts_of(name: str, attention: str = "eager") -> Counts:
    """Of a model of the library."""
    found = find_counts(model(name), EngineSpec("x", attention=attention))
    assert found is not None
    assert found.dispatch is not None
    return found


def of(name: str, attention: str = "eager") -> Model:
    """The same for the formula."""
    counts = counts_of(name, attention)
    assert counts.dispatch is not None
    return Model.of(counts.work, counts.dispatch)


def test_a_pass_worked_out_by_hand() -> None:
    """Three sequences, 2 new tokens over 6: each term by its own line."""
    found = one_pass(TOY, SLOW, 3, 2, 6, PLAIN)
    assert found.host == pytest.approx(0.01 * (7 * 5 + 3))
    assert found.flops == pytest.approx(3 * (100 + 1000 * 2 + 40 * 2 * 6) / (0.5 * 1e4))
    assert found.weights == pytest.approx(4000 / (0.5 * REFERENCE_BYTES_PER_S))
    assert found.cache == pytest.approx(3 * 40 * 3 * 6 / (0.25 * REFERENCE_BYTES_PER_S))
    moved = 5 * 3 * 2 * (30 * 2 * 6 + 90 * 10)
    assert found.scores == pytest.approx(moved / (0.5 * REFERENCE_BYTES_PER_S))
    assert found.link == 0
    device = found.flops + found.weights + found.cache + found.scores
    assert found.device == pytest.approx(device)
    assert found.total == pytest.approx((found.host**2 + device**2) ** 0.5)
    everywhere = one_pass(replace(TOY, head_everywhere=1), SLOW, 3, 2, 6, PLAIN)
    assert everywhere.flops == pytest.approx(3 * (200 + 1000 * 2 + 40 * 2 * 6) / (0.5 * 1e4))


def test_no_part_of_a_pass_is_lost() -> None:
    """Where all parts are of one size, the devices' are added and the host runs beside them."""
    on = Devices(flops_per_s=1e12, bytes_per_s=REFERENCE_BYTES_PER_S, link_bytes_per_s=1e12, number=4)
    found = one_pass(TOY, on, 3, 2, 6, replace(PLAIN, tau_s=1e-10, alpha_s=1e-10))
    shares = {name: float(part) / float(found.total) for name, part in found.parts().items()}
    assert min(shares.values()) > 0.01, shares
    device = found.flops + found.weights + found.cache + found.scores + found.link
    assert float(found.device) == pytest.approx(float(device), rel=1e-9, abs=0)
    assert float(found.total) == pytest.approx(float(found.host**2 + device**2) ** 0.5, rel=1e-9, abs=0)


def test_several_devices_share_the_work_and_pay_for_collectives() -> None:
    """Two a layer, a ring of 4 moves 3/2 of the bytes over each link; the host starts each."""
    one = one_pass(TOY, SLOW, 3, 2, 6, PLAIN)
    four = one_pass(TOY, replace(SLOW, number=4), 3, 2, 6, PLAIN)
    assert four.host == pytest.approx(one.host + 2 * 5 * 0.02)
    for part in ("flops", "weights", "cache", "scores"):
        assert getattr(four, part) == pytest.approx(getattr(one, part) / 4)
    assert four.link == pytest.approx(2 * 5 * 1.5 * (3 * 2 * 10 * 2) / (0.1 * 500))


def test_kernels_of_the_cache_follow_the_bandwidth_as_far_as_gamma_says() -> None:
    """With half the bandwidth and gamma 0 they are as fast, with 1 half as fast; never faster than memory."""
    half = replace(SLOW, bytes_per_s=SLOW.bytes_per_s / 2)
    for gamma in (0.0, 0.5, 1.0):
        v = replace(PLAIN, gamma=gamma)
        ratio = one_pass(TOY, half, 1, 1, 6, v).cache / one_pass(TOY, SLOW, 1, 1, 6, v).cache
        assert ratio == pytest.approx(2**gamma)
    tenth = replace(SLOW, bytes_per_s=SLOW.bytes_per_s / 10)
    v = replace(PLAIN, gamma=0.0)
    assert one_pass(TOY, tenth, 1, 1, 6, v).cache == pytest.approx(3 * 40 * 6 / tenth.bytes_per_s)


def test_a_processor_that_packs_its_weights_reads_them_more_often() -> None:
    """In a pass over several tokens alone."""
    v = replace(PLAIN, pack=5.0)
    assert one_pass(TOY, SLOW, 1, 2, 6, v).weights == pytest.approx(
        6 * one_pass(TOY, SLOW, 1, 1, 6, v).weights
    )


@FEW
@given(x=st.floats(1e-6, 10), y=st.floats(1e-6, 10), p=st.floats(1, 200))
def test_a_norm_lies_between_the_larger_and_the_sum(x: float, y: float, p: float) -> None:
    """The sum at 1, the larger without end."""
    assert max(x, y) <= norm(x, y, p) <= (x + y) * (1 + 1e-12)
    assert norm(x, y, 1) == pytest.approx(x + y)
    assert norm(x, y, 1e6) == pytest.approx(max(x, y), rel=1e-5)
    assert norm(x, 0.0, p) == pytest.approx(x)


def test_a_generation_is_the_sum_of_its_passes() -> None:
    """Six midpoints stand for 200 steps within a thousandth; few steps are all but exact."""
    m, on = of("mpt7b"), Devices(312e12, 1555e9)
    for steps, within in ((200, 1e-3), (7, 1e-4), (1, 1e-6)):
        v = Parameters()
        found = generate(m, on, 16, 512, steps + 1, v)
        passes = [float(one_pass(m, on, 16, 1, 512 + i, v).total) for i in range(1, steps + 1)]
        assert float(found.decode_s) == pytest.approx(sum(passes), rel=within)
        assert float(found.ttft_s) == pytest.approx(float(one_pass(m, on, 16, 512, 512, v).total))
    assert float(generate(m, on, 16, 512, 1, Parameters()).decode_s) == 0
    without = generate(m, on, 4, 100, 11, Parameters(), use_cache=False)
    passes = [float(one_pass(m, on, 4, 100 + i, 100 + i, Parameters()).total) for i in range(1, 11)]
    assert float(without.decode_s) == pytest.approx(sum(passes), rel=1e-2)


@pytest.mark.parametrize("depth", [0, 50])
def test_a_prefill_in_pieces_is_a_pass_a_piece(depth: int) -> None:
    """Ten tokens in pieces of four: 4, 4 and 2, over 4, 8 and 10 attended; decode as without."""
    found = generate(TOY, SLOW, 3, 10, 5, PLAIN, depth=depth, chunk=4)
    passes = [one_pass(TOY, SLOW, 3, new, depth + end, PLAIN) for new, end in ((4, 4), (4, 8), (2, 10))]
    assert float(found.ttft_s) == pytest.approx(sum(float(one.total) for one in passes))
    whole = generate(TOY, SLOW, 3, 10, 5, PLAIN, depth=depth)
    assert float(found.decode_s) == float(whole.decode_s)
    assert float(found.parts[HOST]) == pytest.approx((3 + 4) * 0.01 * (7 * 5 + 3))  # three pieces, four steps
    assert float(generate(TOY, SLOW, 3, 10, 5, PLAIN, depth=depth, chunk=10).ttft_s) == float(whole.ttft_s)


def test_works_of_other_pieces_are_not_stacked() -> None:
    """Two of the same pieces are, and say what each says alone."""
    works = [Work(TOY, SLOW, batch, 10, 5, chunk=4) for batch in (1, 3)]
    assert works[0].stacks_by == works[1].stacks_by
    alone = [float(one.seconds(PLAIN)) for one in works]
    assert stacked(works).seconds(PLAIN).tolist() == pytest.approx(alone)
    others = [replace(works[0], chunk=None), replace(works[0], chunk=5), replace(works[0], input_len=11)]
    assert all(other.stacks_by != works[0].stacks_by for other in others)


def test_arrays_and_numbers_say_the_same() -> None:
    """Several models at once, as a fit asks."""
    names = ["mpt7b", "llama7b"]
    together = Model(*(np.array([getattr(of(name), f.name) for name in names]) for f in fields(Model)))
    on = Devices(*(np.array([value] * 2) for value in (312e12, 2039e9, 300e9, 1)))
    found = generate(together, on, np.array([1, 8]), np.array([64, 512]), np.array([9, 33]), Parameters())
    for i, (batch, first, last) in enumerate([(1, 64, 9), (8, 512, 33)]):
        alone = generate(of(names[i]), Devices(312e12, 2039e9, 300e9), batch, first, last, Parameters())
        assert float(found.latency_s[i]) == pytest.approx(float(alone.latency_s), rel=1e-12)


def test_what_sets_it_is_the_longest_part() -> None:
    """A step of one sequence waits for the host; a long prompt for FLOPs; a slow link for itself."""
    on = Devices(312e12, 2039e9, 300e9)
    assert generate(of("mpt7b"), on, 1, 64, 64, Parameters()).set_by == HOST
    assert generate(of("llama31_8b", "auto"), on, 8, 2048, 1, Parameters()).set_by == FLOPS
    slow = Devices(312e12, 2039e9, 1e9, number=4)
    assert generate(of("mpt7b"), slow, 8, 2048, 1, Parameters()).set_by == LINK
    assert generate(of("mpt30b"), on, 1, 8, 2, replace(Parameters(), tau_s=1e-9)).set_by == WEIGHTS


GPUS = [gpu for gpu in all_hardware() if gpu.kind == "gpu" and gpu.peak_bf16_flops]
ASKED = {
    "name": st.sampled_from(MODELS),
    "attention": st.sampled_from(["eager", "auto"]),
    "gpu": st.sampled_from(GPUS),
    "number": st.sampled_from([1, 2, 4, 8]),
    "batch": st.integers(1, 128),
    "first": st.integers(1, 8192),
    "last": st.integers(1, 2048),
}


def asked(name: str, attention: str, gpu: Any, number: int, batch: int, first: int, last: int) -> Generation:
    """With the default parameters."""
    return generate(of(name, attention), devices(gpu, number), batch, first, last, Parameters())


def devices(gpu: Any, number: int) -> Devices:
    """By the datasheet."""
    return Devices(gpu.peak_bf16_flops, gpu.peak_bandwidth_bytes_per_s, gpu.link_bytes_per_s or 5e10, number)


@FEW
@given(**ASKED)
def test_never_under_the_bound(name: str, attention: str, gpu: Any, number: int, **shape: int) -> None:
    """At the stated peaks, whatever sets it; TTFT and the steps are the latency."""
    batch, first, last = shape["batch"], shape["first"], shape["last"]
    found = asked(name, attention, gpu, number, batch, first, last)
    peaks = Peaks(number * gpu.peak_bf16_flops, number * gpu.peak_bandwidth_bytes_per_s)
    least = bound(Point(batch, first, last), True, counts_of(name, attention).work, peaks)
    assert float(found.latency_s) >= least.total_s * (1 - 1e-3)
    assert float(found.ttft_s) + float(found.decode_s) == pytest.approx(float(found.latency_s))


@FEW
@given(**ASKED)
def test_more_work_takes_longer_and_faster_devices_less(**question: Any) -> None:
    """It rises with batch, input, output and weights, and falls with FLOP/s and bytes/s."""
    name, attention, gpu, number = (question[key] for key in ("name", "attention", "gpu", "number"))
    batch, first, last = question["batch"], question["first"], question["last"]
    m, on, v = of(name, attention), devices(gpu, number), Parameters()
    here = float(generate(m, on, batch, first, last, v).latency_s)
    slack = 1 + 1e-9
    assert float(generate(m, on, batch + 1, first, last, v).latency_s) * slack >= here
    assert float(generate(m, on, batch, first + 16, last, v).latency_s) * slack >= here
    assert float(generate(m, on, batch, first, last + 1, v).latency_s) > here
    heavier = replace(m, weight_bytes=1.1 * m.weight_bytes)
    assert float(generate(heavier, on, batch, first, last, v).latency_s) * slack >= here
    for part in ("flops_per_s", "bytes_per_s"):
        faster = replace(on, **{part: 1.1 * getattr(on, part)})
        assert float(generate(m, faster, batch, first, last, v).latency_s) <= here * slack


def test_without_host_scores_and_losses_it_is_products_and_cache() -> None:
    """tau, alpha, sigma, omega 0, every e and gamma 1, kappa that of unexpanded keys and values once."""
    ideal = Parameters(
        tau_s=0.0, e_flops=1.0, e_weights=1.0, e_cache=1.0, e_scores=1.0, gamma=1.0, alpha_s=0.0,
        e_link=1.0, p=1e6, q=1e6,
    )  # fmt: skip
    counts = counts_of("llama31_8b")
    per_token = sum(cache.layers * cache.bytes_per_token for cache in counts.work.caches)
    m = replace(of("llama31_8b"), sigma=0.0, omega=0.0, kappa=per_token / counts.work.flops_per_pair)
    assert m.kappa == pytest.approx(1 / 4)  # 8 of 32 heads have keys and values
    on, batch, cached = Devices(312e12, 2039e9), 8, 1024
    found = one_pass(m, on, batch, 1, cached, ideal)
    flops = batch * (m.a + m.b + m.c * cached) / 312e12
    assert float(found.total) == pytest.approx(
        max(flops, m.weight_bytes / 2039e9) + batch * cached * per_token / 2039e9, rel=1e-5
    )
    least = bound(Point(batch, cached - 1, 2), True, counts.work, Peaks(312e12, 2039e9))
    assert float(found.total) >= least.decode_s * (1 - 1e-6)


def test_an_estimate_is_never_under_the_bound_whatever_the_parameters() -> None:
    """TTFT, the steps and the interval's lower end, by parameters that beat every peak ten times."""
    physics = read_physics("hf", "gpu")
    assert physics is not None
    fast = Parameters(tau_s=0.0, e_flops=10.0, e_weights=10.0, e_cache=10.0, e_scores=10.0, p=99.0, q=99.0)
    case = Case(
        model("mpt7b"), hardware("a100_80gb"), 1, EngineSpec("x", attention="eager"), Point(8, 512, 64)
    )
    counts = counts_of("mpt7b")
    found = estimate(case, counts, replace(physics, parameters=fast), Known())
    assert isinstance(found, Estimate)
    least = bound(case.point, True, counts.work, Peaks(312e12, 2039e9))
    assert found.ttft_s == pytest.approx(least.prefill_s)
    assert 63 * (found.tpot_s or 0) == pytest.approx(least.decode_s)
    assert found.low_s == found.bound_s == pytest.approx(least.total_s)
    assert found.high_s == found.latency_s * found.half_width


def test_the_variance_of_a_machine_has_its_covariance() -> None:
    """By hand: 0.25 x 0.04 + 0.25 x 0.09 - 2 x 0.25 x 0.03."""
    assert Machine(0.0, 0.0, 0.04, 0.09, -0.03, 3).variance(0.5, 0.5) == pytest.approx(0.0175)
