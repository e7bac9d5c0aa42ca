"""The least time of a case, against FLOPs, bytes and seconds worked out by hand, a step at a time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from fixtures.core.cost.bounds import (
    Bound,
    Cache,
    Peaks,
    Work,
    bound,
    cache_bytes,
    decode_flops,
    decode_passes,
    holders,
    mean_step_bytes,
    point_prefill_flops,
    prefill_flops,
    stated_bandwidth_bytes_per_s,
    stated_peaks,
)
from fixtures.core.result.against_bound import (
    emulated,
    faster,
    impossible,
    make_limits,
    measured_peaks,
    of_dtype,
    units,
)
from fixtures.core.result.metrics import prefill_tokens_per_s
from fixtures.core.result.record_machine import RecordedMachine
from fixtures.core.result.record_times import Rates, RecordedPeaks, Split
from fixtures.core.spec.case import DTYPE_BYTES, Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.spec.devices.processor import Ceiling
from fixtures.core.spec.library import hardware, names

# head 100 FLOPs, 10 a token, 2 a pair; 1000 bytes of weights; 3 layers of 4 bytes a token
WORK = Work(100.0, 10.0, 2.0, 1000, (Cache(3, 4),))


def step_bytes(work: Work, batch: int, cached: int) -> float | None:
    """Bytes of the first decode step behind so many cached tokens."""
    return mean_step_bytes(Point(batch, cached, 2), True, work)


GPU = HardwareSpec("g", "gpu", peak_bf16_flops=1e12, peak_bandwidth_bytes_per_s=1e11)


def test_a_prefill_is_causal() -> None:
    """Two sequences of 4 tokens: head, 4 tokens, 1 + 2 + 3 + 4 pairs."""
    assert prefill_flops(WORK, 2, 4) == 2 * (100 + 40 + 2 * 10)


def test_a_window_limits_the_pairs() -> None:
    """Window 2: 1 + 2 + 2 + 2 pairs; one of three layers with it: two thirds of 10 and one third of 7."""
    windowed = replace(WORK, caches=(Cache(3, 4, window=2),))
    assert prefill_flops(windowed, 1, 4) == 100 + 40 + 2 * 7
    mixed = replace(WORK, caches=(Cache(2, 4), Cache(1, 4, window=2)))
    assert prefill_flops(mixed, 1, 4) == pytest.approx(100 + 40 + 2 * (10 * 2 / 3 + 7 / 3))


def test_a_decode_step_attends_to_all_before_it_and_itself() -> None:
    """After 4 tokens: head, one token, 5 pairs, or those of the window."""
    assert decode_flops(WORK, 3, 4) == 3 * (100 + 10 + 2 * 5)
    assert decode_flops(replace(WORK, caches=(Cache(3, 4, window=2),)), 1, 4) == 100 + 10 + 2 * 2


def test_a_step_reads_the_weights_once_and_the_cache_of_every_sequence() -> None:
    """5 sequences of 7 tokens: 3 layers of 4 bytes; a window of 4 keeps 3; a state has its size always.

    A step writes states too.
    """
    assert cache_bytes(WORK, 5, 7) == 5 * 7 * 3 * 4
    assert step_bytes(WORK, 5, 7) == 1000 + 5 * 7 * 3 * 4
    assert cache_bytes(replace(WORK, caches=(Cache(3, 4, window=4),)), 1, 7) == 3 * 3 * 4
    assert cache_bytes(replace(WORK, caches=(Cache(2, 0, fixed_bytes=50),)), 3, 7) == 3 * 2 * 50
    assert step_bytes(replace(WORK, caches=(Cache(2, 0, fixed_bytes=50),)), 3, 7) == 1000 + 2 * 3 * 2 * 50


# a chunk of 4 positions; two blocks of 3; three positions; and a window of 5 beside them
LEAST = [
    (Cache(1, 4, chosen=1, block=4), [1, 2, 3, 4, 1, 2, 3, 4, 1]),
    (Cache(1, 4, chosen=2, block=3), [1, 2, 3, 4, 5, 6, 4, 5, 6]),
    (Cache(1, 4, chosen=3), [1, 2, 3, 3, 3, 3, 3, 3, 3]),
    (Cache(1, 4, 0, 4, chosen=1, block=4), [1, 2, 3, 4, 1, 2, 3, 4, 1]),
]


@pytest.mark.parametrize(("kept", "positions"), LEAST)
def test_a_token_must_attend_to_its_blocks_alone(kept: Cache, positions: list[int]) -> None:
    """Token by token, its own position included; what it reads of the cache is one less, of 4 bytes each."""
    assert [kept.attended(t, least=True) for t in range(1, 10)] == positions
    assert list(kept.attended(np.arange(1.0, 10.0), least=True)) == positions
    assert [kept.pairs(t, least=True) for t in range(1, 10)] == list(itertools.accumulate(positions))
    assert [kept.read_bytes(t) for t in range(9)] == [4 * (n - 1) for n in positions]
    assert list(kept.read_bytes(np.arange(9.0))) == [4 * (n - 1) for n in positions]


def test_compressed_tokens_are_entries() -> None:
    """One for every three tokens, of which two at most are chosen; two bytes for each token that waits."""
    kept = Cache(2, 5, 7, chosen=2, every=3, begun_bytes=2)
    assert [kept.held_bytes(s) for s in range(8)] == [2 * (5 * (s // 3) + 2 * (s % 3) + 7) for s in range(8)]
    attended = [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    least = [min(n, 2) for n in attended]
    for is_least, positions in ((False, attended), (True, least)):
        assert [kept.attended(t, is_least) for t in range(1, 13)] == positions
        assert [kept.pairs(t, is_least) for t in range(1, 13)] == list(itertools.accumulate(positions))
        assert list(kept.pairs(np.arange(1.0, 13.0), is_least)) == list(itertools.accumulate(positions))
    assert [kept.read_bytes(s) for s in (2, 3, 6, 9)] == [0, 2 * 5, 2 * 5, 2 * 5]


def test_an_engine_may_attend_to_all_that_it_keeps() -> None:
    """So the work of a pass is that of all, the bound's that of the chosen three: 1 + 2 + 3 + 3 pairs of 2.

    Of two steps, after 4 and 5 tokens, 5 and 6 pairs or three; they read two of them, the third is new.
    """
    chosen = replace(WORK, caches=(Cache(3, 4, chosen=3),))
    assert prefill_flops(chosen, 1, 4) == prefill_flops(WORK, 1, 4) == 100 + 40 + 2 * 10
    assert prefill_flops(chosen, 1, 4, least=True) == 100 + 40 + 2 * 9
    assert prefill_flops(chosen, 1, 2, depth=4, least=True) == 100 + 20 + 2 * 6
    assert [decode_flops(chosen, 1, 4), decode_flops(chosen, 1, 4, least=True)] == [120, 116]
    assert cache_bytes(chosen, 1, 5) == 5 * 12
    assert step_bytes(chosen, 1, 5) == 1000 + 2 * 12
    slow = bound(Point(1, 4, 3), True, chosen, Peaks(1.0, 1e9))
    assert (slow.prefill_s, slow.decode_s) == (158, 2 * 116)
    assert bound(Point(1, 4, 3), True, chosen, Peaks(1e9, 1.0)).decode_s == 2 * (1000 + 24)
    assert mean_step_bytes(Point(1, 4, 3), True, chosen) == 1024


def test_kinds_of_layers_have_their_own_pairs() -> None:
    """Two layers with an indexer: 6 FLOPs a pair of three positions, and 2 of its own pairs, of all."""
    kinds = (Cache(2, 4, chosen=3), Cache(2, 1))
    work = replace(WORK, flops_per_pair=8.0, caches=kinds, pair_flops=(6.0, 2.0))
    assert prefill_flops(work, 1, 4) == 100 + 40 + 8 * 10
    assert prefill_flops(work, 1, 4, least=True) == 100 + 40 + 6 * 9 + 2 * 10
    assert decode_flops(work, 1, 4, least=True) == 110 + 6 * 3 + 2 * 5
    assert step_bytes(work, 1, 5) == 1000 + 2 * (2 * 4 + 5 * 1)
    assert Work.from_dict(work.as_dict()) == work
    assert work.as_dict()["caches"][1] == {
        "layers": 2,
        "bytes_per_token": 1,
        "fixed_bytes": 0,
        "window": None,
    }
    with pytest.raises(ValueError, match="pair_flops: 1 values for 2 caches"):
        replace(work, pair_flops=(8.0,))


def test_experts_that_a_token_did_not_choose_are_no_part_of_the_bound() -> None:
    """4 of 10 FLOPs a token are of experts that run for nothing: 3 tokens of prefill, and one step."""
    work = replace(WORK, idle_flops=4.0)
    assert prefill_flops(work, 1, 3) - prefill_flops(work, 1, 3, least=True) == 3 * 4
    assert decode_flops(work, 2, 3) - decode_flops(work, 2, 3, least=True) == 2 * 4
    assert bound(Point(1, 1, 2), True, work, Peaks(1.0, 1e9)).total_s == 108 + 110


def test_the_mean_step_is_that_of_all_further_tokens() -> None:
    """Input 4, output 3: two steps, over 4 and 5 tokens; none for one token; no cache, weights alone."""
    assert mean_step_bytes(Point(1, 4, 3), True, WORK) == 1000 + 12 * 4.5
    assert mean_step_bytes(Point(1, 4, 1), True, WORK) is None
    assert mean_step_bytes(Point(1, 4, 3), False, WORK) == 1000


def test_a_ragged_batch_is_the_sum_of_its_sequences() -> None:
    """Inputs of 1, 2 and 4 tokens: each one's prefill, pairs and cache; the weights are read once a step."""
    point, peaks = Point(3, 4, 3, (1, 2, 4)), Peaks(1.0, 1.0)
    prefill = (110 + 2 * 1) + (120 + 2 * 3) + (140 + 2 * 10)
    assert point_prefill_flops(WORK, point) == prefill
    flops, moved = decode_passes(point, True, WORK)
    assert list(flops) == [3 * 110 + 2 * (2 + 3 + 5), 3 * 110 + 2 * (3 + 4 + 6)]
    assert list(moved) == [1000 + 12 * (1 + 2 + 4), 1000 + 12 * (2 + 3 + 5)]
    assert mean_step_bytes(point, True, WORK) == 1000 + 12 * 8.5
    assert list(decode_passes(point, False, WORK)[0]) == [
        sum(prefill_flops(WORK, 1, n + k) for n in (1, 2, 4)) for k in (1, 2)
    ]
    assert bound(point, True, WORK, peaks).total_s == max(prefill, 1000) + moved.sum()
    assert point_prefill_flops(WORK, replace(point, batch_size=6)) == 2 * prefill
    assert prefill_tokens_per_s(point, 0.5) == 14


@st.composite
def works(draw: st.DrawFn) -> Work:
    """Any work, with windows or without."""
    number = st.integers(0, 10**6)
    window = st.none() | st.integers(1, 12)
    layers = st.builds(Cache, st.integers(1, 4), st.integers(1, 100), st.integers(0, 100), window)
    caches = tuple(draw(st.lists(layers, min_size=1, max_size=3)))
    constant, per_token, per_pair = (float(draw(number)) for _ in range(3))
    return Work(constant, per_token, per_pair, draw(number) + 1, caches)


@given(
    works(),
    st.builds(Point, st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
    st.booleans(),
    st.floats(0.01, 1000),
)
def test_a_bound_is_the_sum_of_its_passes(work: Work, point: Point, use_cache: bool, ratio: float) -> None:
    """Pass by pass, pair by pair: the longer of FLOPs over FLOP/s and bytes over bytes/s."""
    peaks = Peaks(1e6 * ratio, 1e6)
    layers = [cache for cache in work.caches for _ in range(cache.layers)]

    def pairs(query: int) -> float:
        return sum(min(query, cache.window or query) for cache in layers) / len(layers)

    def whole(tokens: int) -> float:
        attention = work.flops_per_pair * sum(pairs(query) for query in range(1, tokens + 1))
        flops = point.batch_size * (work.flops_constant + work.flops_per_token * tokens + attention)
        return max(flops / peaks.flops_per_s, work.weight_bytes / 1e6)

    def step(cached: int) -> float:
        flops = work.flops_constant + work.flops_per_token + work.flops_per_pair * pairs(cached + 1)
        kept = sum(
            min(cached, cached if cache.window is None else cache.window - 1) * cache.bytes_per_token
            + 2 * cache.fixed_bytes  # read and written
            for cache in layers
        )
        moved = work.weight_bytes + point.batch_size * kept
        return max(point.batch_size * flops / peaks.flops_per_s, moved / 1e6)

    steps = range(1, point.output_len)
    decode = sum(step(point.input_len + i - 1) if use_cache else whole(point.input_len + i) for i in steps)
    found = bound(point, use_cache, work, peaks)
    assert found.prefill_s == pytest.approx(whole(point.input_len))
    assert found.decode_s == pytest.approx(decode)
    assert found.total_s == pytest.approx(whole(point.input_len) + decode)
    assert (found.decode_by is None) == (point.output_len == 1)


def test_a_bound_says_what_sets_it() -> None:
    """120 FLOPs at 1e3 against 1000 bytes at 1e6, and the other way round."""
    slow = bound(Point(1, 1, 2), True, WORK, Peaks(1e3, 1e6))
    assert (slow.prefill_by, slow.decode_by) == ("arithmetic", "arithmetic")
    assert slow.prefill_s == pytest.approx(0.112)
    fast = bound(Point(1, 1, 2), True, WORK, Peaks(1e9, 1e6))
    assert fast == Bound(1000 / 1e6, "bandwidth", 1012 / 1e6, "bandwidth")


def test_two_gpus_have_twice_the_peaks_and_two_ranks_of_a_cpu_have_its_own() -> None:
    """Two H100 as their datasheet has one."""
    assert stated_peaks(hardware("h100_80gb"), 2, "bfloat16") == Peaks(2 * 989.4e12, 2 * 3350e9)
    cpu = HardwareSpec("c", "cpu", peak_bf16_flops=1e12, peak_bandwidth_bytes_per_s=1e11)
    assert stated_peaks(cpu, 2, "bfloat16") == Peaks(1e12, 1e11)
    assert stated_peaks(hardware("cpu"), 1, "bfloat16") is None


def test_a_datasheets_tensor_cores_say_nothing_of_fp32() -> None:
    """H100: 989.4 TFLOP/s dense in both 16-bit dtypes, and in fp32 67, which no yaml states."""
    assert stated_peaks(hardware("h100_80gb"), 1, "float16") == Peaks(989.4e12, 3350e9)
    assert stated_peaks(hardware("h100_80gb"), 1, "float32") is None
    assert stated_bandwidth_bytes_per_s(hardware("h100_80gb"), 4) == 4 * 3350e9


def test_a_dtype_holds_what_has_no_more_bits_of_exponent_and_of_fraction() -> None:
    """By torch's own figures: the step at 1 and the range; no 16-bit dtype holds the other."""
    assert set(DTYPE_BYTES) == {"bfloat16", "float16", "float32"}
    for one, other in itertools.product(DTYPE_BYTES, repeat=2):
        narrow, wide = torch.finfo(getattr(torch, one)), torch.finfo(getattr(torch, other))
        is_held = wide.eps <= narrow.eps and wide.max >= narrow.max and wide.tiny <= narrow.tiny
        assert (other in holders(one)) == is_held, (one, other)
    assert [holders(name)[0] for name in DTYPE_BYTES] == list(DTYPE_BYTES)


def case(devices: int, point: Point, dtype: str = "bfloat16", autocast: str | None = None) -> Case:
    """A case on so many of the GPUs."""
    engine = EngineSpec("deepspeed", "deepspeed", dtype=dtype, autocast=autocast)
    return Case(ModelSpec("m", {}), GPU, devices, engine, point)


def figures(flops: float, bandwidth: float, **others: float) -> dict[str, float]:
    """What was measured: a rate in bf16, and the faster of reading and copying."""
    rates = {"bfloat16_flops_per_s": flops, **others}
    return {**rates, "read_bytes_per_s": bandwidth, "copy_bytes_per_s": bandwidth / 2}


SPLIT = Split(ttft_s=0.5, tpot_s=0.25)


def test_utilisation_is_of_all_devices_together() -> None:
    """Two GPUs: prefill of 1e12 FLOPs in 0.5 s of 2e12 FLOP/s; a step of 1e10 bytes in 0.25 s of 2e11."""
    work = Work(0.0, 1e9, 0.0, 10**10, ())
    found = make_limits(case(2, Point(1, 1000, 3)), work, None, 1.0, SPLIT).as_dict()
    assert found["mfu"] == pytest.approx(1.0)
    assert found["mbu"] == pytest.approx(1e10 / 0.25 / 2e11)
    assert found["prefill_bound_s"] == pytest.approx(0.5)
    assert found["decode_bound_s"] == pytest.approx(2 * 1e10 / 2e11)
    assert found["of_bound"] == pytest.approx(0.6)


def test_the_bound_is_of_what_was_measured_and_utilisation_of_what_is_stated() -> None:
    """Measured: half of what the datasheet has."""
    work = Work(0.0, 1e9, 0.0, 10**10, ())
    half = figures(0.5e12, 0.5e11)
    found = make_limits(case(1, Point(1, 1000, 3)), work, half, 10.0, SPLIT).as_dict()
    assert found["prefill_bound_s"] == pytest.approx(2.0)
    assert found["mfu"] == pytest.approx(1e12 / 0.5 / 1e12)
    assert found["peaks"]["measured"]["bandwidth_bytes_per_s"] == 0.5e11


def test_the_larger_of_stated_and_measured_peaks_decides_what_is_impossible() -> None:
    """A decode of 2 x 0.1 s at the datasheet's bandwidth: slower peaks do not count, faster ones do."""
    work, point = Work(0.0, 0.0, 0.0, 10**10, ()), Point(1, 10, 3)
    rounds, first = [0.65] * 3, [0.5] * 3
    slow, fast = Peaks(1e12, 0.5e11), Peaks(1e12, 2e11)
    assert "decode in 0.15 s" in str(impossible(case(1, point), work, None, rounds, first))
    assert "decode in 0.15 s" in str(impossible(case(1, point), work, slow, rounds, first))
    assert impossible(case(1, point), work, fast, rounds, first) is None
    assert impossible(case(2, point), work, None, rounds, first) is None
    assert impossible(case(1, Point(1, 10, 1)), work, slow, first, first) is None


def test_packed_weights_have_no_impossible_arithmetic() -> None:
    """1e12 FLOPs in 0.5 s at 1e12 FLOP/s: a kernel of integers may do it, one of bf16 may not.

    Reading 2e11 bytes in 0.5 s at 1e11 bytes/s is impossible for both.
    """
    packed = EngineSpec("llamacpp_q8_0", "llamacpp_q8_0")
    of_bf16 = case(1, Point(1, 1000, 3))
    of_q8 = replace(of_bf16, engine=packed)
    arithmetic, rounds, first = Work(0.0, 1e9, 0.0, 1, ()), [0.65] * 3, [0.5] * 3
    assert "prefill in 0.5 s" in str(impossible(of_bf16, arithmetic, None, rounds, first))
    assert impossible(of_q8, arithmetic, None, rounds, first) is None
    moved = Work(0.0, 0.0, 0.0, 2 * 10**11, ())
    assert "prefill in 0.5 s" in str(impossible(of_q8, moved, None, rounds, first))


def test_the_fastest_dtype_and_the_faster_of_reading_and_copying_are_the_peaks() -> None:
    """None where nothing was measured."""
    found = {"bfloat16_flops_per_s": 1.0, "float32_flops_per_s": 7.0}
    assert measured_peaks({**found, "read_bytes_per_s": 2.0, "copy_bytes_per_s": 3.0}) == Peaks(7.0, 3.0)
    assert measured_peaks(None) is None


def test_the_limit_is_the_machines_where_a_dtype_is_emulated() -> None:
    """bf16 of 15 GFLOP/s, fp32 of 100: 1e12 FLOPs take 10 s at the least, and took 50."""
    cpu = replace(case(1, Point(1, 1000, 3)), hardware=hardware("cpu"))
    work = Work(0.0, 1e9, 0.0, 10**10, ())
    slow = figures(15e9, 2e10, float32_flops_per_s=100e9)
    found = make_limits(cpu, work, slow, 60.0, Split(ttft_s=50.0, tpot_s=5.0)).as_dict()
    assert found["prefill_bound_s"] == pytest.approx(10.0)
    assert found["mfu"] == pytest.approx(0.2)
    assert found["peaks"] == {
        "stated": None,
        "measured": {"flops_per_s": 100e9, "bandwidth_bytes_per_s": 2e10},
        "dtype": "bfloat16",
        "by_dtype": {"bfloat16": 15e9, "float32": 100e9},
        "units": None,
        "emulated": None,
    }


def test_kernels_of_integers_are_held_against_the_rate_of_integers() -> None:
    """fp32 of 100 GFLOP/s, int8 of 400: 1e12 operations take 2.5 s at the least, and took 5."""
    cpu = replace(case(1, Point(1, 1000, 1)), hardware=hardware("cpu"))
    of_q8 = replace(cpu, engine=EngineSpec("llamacpp_q8_0", "llamacpp_q8_0"))
    rates = figures(15e9, 2e10, float32_flops_per_s=100e9, int8_flops_per_s=400e9)
    found = make_limits(of_q8, Work(0.0, 1e9, 0.0, 1, ()), rates, 5.0, Split(ttft_s=5.0))
    assert found.prefill_bound_s == pytest.approx(2.5)
    assert found.of_bound == pytest.approx(0.5)


def test_utilisation_in_fp32_is_not_of_tensor_cores() -> None:
    """The device states 1 TFLOP/s in bf16; of 0.1 measured in fp32, 1e10 FLOPs in 0.5 s are a fifth."""
    work = Work(0.0, 1e7, 0.0, 10**10, ())
    measured = {"float32_flops_per_s": 1e11, "read_bytes_per_s": 0.5e11, "copy_bytes_per_s": 1.0}
    found = make_limits(case(1, Point(1, 1000, 3), "float32"), work, measured, 10.0, SPLIT).as_dict()
    assert found["mfu"] == pytest.approx(0.2)
    assert found["mbu"] == pytest.approx(1e10 / 0.25 / 1e11)
    assert found["peaks"]["stated"] == {"flops_per_s": None, "bandwidth_bytes_per_s": 1e11}
    mixed = make_limits(case(1, Point(1, 1000, 3), "float32", "bfloat16"), work, None, 10.0, SPLIT).as_dict()
    assert mixed["mfu"] == pytest.approx(1e10 / 0.5 / 1e12)
    assert mixed["peaks"]["dtype"] == "bfloat16"
    alone = make_limits(case(1, Point(1, 1000, 3), "float32"), work, None, 10.0, SPLIT).as_dict()
    assert (alone["bound_s"], alone["mfu"], alone["mbu"]) == (None, None, None)


def test_utilisation_is_of_measured_peaks_where_a_datasheet_has_less() -> None:
    """A small model in a cache of 0.2 TB/s, twice the memory's: 1e10 bytes in 0.0625 s are 80 % of that."""
    work, split = Work(0.0, 1e9, 0.0, 10**10, ()), Split(ttft_s=0.5, tpot_s=0.0625)
    found = make_limits(case(1, Point(1, 1000, 3)), work, figures(2e12, 2e11), 10.0, split).as_dict()
    assert found["mbu"] == pytest.approx(0.8)
    assert found["mfu"] == pytest.approx(1.0)


def test_work_comes_back_from_json() -> None:
    """With its windows."""
    work = replace(WORK, caches=(Cache(2, 4), Cache(1, 4, 7, window=2)))
    assert Work.from_dict(work.as_dict()) == work


def test_slower_peaks_than_the_stated_ones_make_nothing_impossible() -> None:
    """2 x 0.125 s of decode: under the 0.4 s of what was measured, over the 0.2 s of the datasheet."""
    work, slow = Work(0.0, 0.0, 0.0, 10**10, ()), Peaks(0.5e12, 0.5e11)
    assert impossible(case(1, Point(1, 10, 3)), work, slow, [0.75] * 3, [0.5] * 3) is None


def test_the_median_of_the_rounds_decides_what_is_impossible() -> None:
    """2 x 0.1 s of decode; no disturbance makes a round shorter, and MFU and MBU are of the medians too."""
    work, first = Work(0.0, 0.0, 0.0, 10**10, ()), [0.5] * 3
    found = impossible(case(1, Point(1, 10, 3)), work, None, [0.65, 0.65, 0.75], first)
    assert found == (
        "decode in 0.15 s is impossible: its bandwidth bound at 1e+11 bytes/s is 0.2 s (MBU 133 %)"
    )
    assert impossible(case(1, Point(1, 10, 3)), work, None, [0.65, 0.75, 0.75], first) is None
    assert impossible(case(1, Point(1, 10, 3)), work, None, [0.65], [0.5]) is not None


@given(
    ttft_s=st.floats(1e-3, 10), tpot_s=st.floats(1e-3, 10), batch=st.integers(1, 64),
    flops=st.floats(1e9, 1e13), bandwidth=st.floats(1e9, 1e12), dtype=st.sampled_from(list(DTYPE_BYTES)),
)  # fmt: skip
def test_no_record_is_above_100_percent_but_for_the_error(
    ttft_s: float, tpot_s: float, batch: int, flops: float, bandwidth: float, dtype: str
) -> None:
    """Whatever was measured and stated: what is not refused has MFU and MBU of 1 / 0.95 at the most."""
    one = case(1, Point(batch, 100, 5), dtype)
    measured = {of_dtype(dtype): flops, "read_bytes_per_s": bandwidth, "copy_bytes_per_s": bandwidth}
    work = Work(1.0, 1e9, 1e3, 10**9, (Cache(2, 1000),))
    split, latency_s = Split(ttft_s=ttft_s, tpot_s=tpot_s), ttft_s + 4 * tpot_s
    found = make_limits(one, work, measured, latency_s, split).as_dict()
    if impossible(one, work, measured_peaks(measured), [latency_s], [ttft_s]) is None:
        assert found["mfu"] <= 1 / 0.95 + 1e-6
        assert found["mbu"] <= 1 / 0.95 + 1e-6


def test_of_two_measurements_the_better_of_each_figure_counts() -> None:
    """And the only one where there is but one."""
    one, other = {"read": 1.0, "copy": 4.0}, {"read": 2.0, "copy": 3.0}
    assert faster(one, other) == {"read": 2.0, "copy": 4.0}
    assert faster(one, None) == faster(None, one) == one
    assert faster({"read": 1.0}, other) == {"read": 2.0, "copy": 3.0}  # there was no room for one of them


def told(dtype: str = "bfloat16", **rates: float) -> RecordedPeaks:
    """The peaks of a record: rates in GFLOP/s."""
    by_dtype = {name: 1e9 * rate for name, rate in rates.items()}
    measured = Rates(flops_per_s=max(by_dtype.values(), default=None), bandwidth_bytes_per_s=1.0)
    return RecordedPeaks(dtype=dtype, by_dtype=by_dtype, measured=measured)


@pytest.mark.parametrize(
    ("peaks", "instructions", "device", "said"),
    [
        (told(bfloat16=15, float32=100), "AVX2", "cpu", "bf16 is emulated on this CPU (AVX2)"),
        (told(bfloat16=15, float32=100, int8=400), "AVX2", "cpu", "bf16 is emulated on this CPU (AVX2)"),
        (told(bfloat16=70, float32=100), "AVX-512", "cpu", "bf16 is emulated on this CPU (AVX-512)"),
        (told(bfloat16=95, float32=100), "AVX-512", "cpu", None),  # it costs nothing
        (told(bfloat16=400, float32=200), "AVX-512 bf16", "cpu", None),
        (told(bfloat16=100, float32=200), "AVX-512 bf16", "cpu", None),  # in a bad moment
        (told(bfloat16=100, float32=200), "AVX-512 bf16, oneDNN avx2", "cpu", "bf16 is emulated on this CPU"),
        (told("float16", float16=11, float32=100), "AVX-512 bf16", "cpu", "fp16 is emulated on this CPU"),
        (told("float32", float32=100), "AVX2", "cpu", None),
        (told(bfloat16=15, float32=100), None, "cpu", "bf16 is slow on this cpu"),
        (told(bfloat16=4e3, float32=14e3), "AVX-512 bf16", "gpu", "bf16 is slow on this gpu"),  # V100
        (told(bfloat16=7e5, float32=5e4), "AVX2", "gpu", None),
        (told(bfloat16=15), "AVX2", "cpu", None),  # there was no room for the other
        (RecordedPeaks(dtype="bfloat16"), "AVX2", "cpu", None),
    ],
)
def test_one_line_says_where_a_dtype_is_emulated(
    peaks: RecordedPeaks, instructions: str | None, device: str, said: str | None
) -> None:
    """By what was measured, and not where the processor has instructions for it."""
    found = emulated(peaks, instructions, device)
    assert (found is None) == (said is None)
    assert str(found).startswith(str(said))
    assert "\n" not in str(found)


def test_the_line_has_both_rates_and_what_to_run_instead() -> None:
    """In GFLOP/s, and an engine that is there."""
    assert emulated(told(bfloat16=15, float32=100), "AVX2", "cpu") == (
        "bf16 is emulated on this CPU (AVX2): its products reach 15.0 GFLOP/s where fp32 makes 100; cases in "
        "fp32 (engine hf_fp32) show what it can do"
    )
    assert "hf_fp32" in names("engines")


def test_a_measured_peak_is_held_against_the_units() -> None:
    """A CPU's ceiling is in the record; a GPU's is its datasheet, 1 TFLOP/s here."""
    cpu = replace(case(1, Point(1, 1, 1)), hardware=hardware("cpu"))
    here = RecordedMachine(instructions="AVX2", cores=2, clock_hz=3e9)
    found, doubt = units(cpu, told(bfloat16=15, float32=100), here, 2)
    assert found == Ceiling(flops_per_cycle=32, cores=2, clock_hz=3e9, clock_is_known=True, flops_per_s=192e9)
    assert doubt is None
    integers = told(bfloat16=15, float32=100, int8=400)  # they have units of their own
    assert units(cpu, integers, here, 2) == (found, None)
    assert "above what 2 cores can do" in str(units(cpu, told(bfloat16=15, float32=300), here, 2)[1])
    assert "far below" in str(units(cpu, told(bfloat16=0.1, float32=0.2), here, 2)[1])
    assert units(cpu, told(bfloat16=1), RecordedMachine(label="1xcpu"), None) == (None, None)
    on_gpu = case(1, Point(1, 1, 1))
    stated = Rates(flops_per_s=1e12, bandwidth_bytes_per_s=1e11)
    assert units(on_gpu, changed(told(bfloat16=900), stated=stated), here, None) == (None, None)
    assert units(on_gpu, changed(told(bfloat16=1300), stated=stated), here, None)[1] == (
        "the measured peak of 1.30 TFLOP/s is above the datasheet's 1.00 TFLOP/s"
    )
    assert "far below" in str(units(on_gpu, changed(told(bfloat16=40), stated=stated), here, None)[1])
    assert units(on_gpu, told(bfloat16=40), here, None) == (None, None)


def test_what_a_pass_does_again_is_no_part_of_the_bound() -> None:
    """An engine that absorbs a latent's expansion into its queries does less, and is not impossible."""
    work = Work(0, 2e9, 0, 10, (Cache(1, 4),))
    again = replace(work, flops_per_cached=1e9)
    assert decode_flops(again, 2, 10) - decode_flops(work, 2, 10) == 2 * 10 * 1e9
    point, peaks = Point(2, 8, 4), Peaks(1e9, 1e12)
    assert bound(point, True, again, peaks) == bound(point, True, work, peaks)
