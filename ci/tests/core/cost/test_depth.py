"""Cases that begin with tokens in the cache: from a yaml to ids, bounds, memory and forecasts, by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from msgspec import convert

from ci.tests.core.cost.test_bounds import WORK
from ci.tests.core.cost.test_memory import TOY
from fixtures.core.base.errors import InputError
from fixtures.core.base.yamlfile import parse_yaml
from fixtures.core.cost.bounds import (
    Bound,
    Cache,
    Peaks,
    bound,
    decode_passes,
    fill_s,
    mean_step_bytes,
    point_prefill_flops,
    prefill_flops,
)
from fixtures.core.cost.footprint import Attending, Instant, Terms
from fixtures.core.cost.max_batch import key_of, predict_largest
from fixtures.core.cost.memory import GPU_MARGIN_BYTES, fill_chunk, pieces, predict
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.cost.sweep import expand
from fixtures.core.estimate.estimate import Estimate, Known, Refused, estimate, too_far
from fixtures.core.estimate.physics import read_physics
from fixtures.core.forecast.forecast import Planner
from fixtures.core.forecast.past_runs import Past
from fixtures.core.result.record_case import RecordedCase
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, Point
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.spec.settings import apply_settings
from fixtures.core.spec.suite import Suite, read_suite
from fixtures.engines import why_not

CPU = Machine(library.hardware("cpu"), 1)
SWEEP = "  - {batch_sizes: [1], input_lengths: [128], output_lengths: [64], depths: [0, 512]}"


def suite(sweep: str = SWEEP, models: str = "llama125m", engines: str = "hf") -> Suite:
    """A suite of one sweep, which stands in line 4."""
    text = f"models: [{models}]\nengines: [{engines}]\nsweeps:\n{sweep}\n"
    return read_suite("own", parse_yaml(text, "s.yaml"))


def test_an_id_says_the_depth_and_stays_as_it_was_without_one() -> None:
    """Depths are in the order written, and batches within each of them."""
    sweep = "  - {batch_sizes: [1, 2], input_lengths: [128], output_lengths: [64], depths: [512, 0]}"
    start = "llama125m-1xcpu-hf-b"
    assert [case.id for case in expand(suite(sweep), CPU).cases] == [
        f"{start}1-in128-out64-at512",
        f"{start}2-in128-out64-at512",
        f"{start}1-in128-out64",
        f"{start}2-in128-out64",
    ]


def test_a_setting_gives_depths_to_every_sweep() -> None:
    """As `--set depths=[0,4]` and `--set sweeps.NAME.depths=[4]`."""
    root = parse_yaml("models: [mpt125m]\nsweeps: [latency_short]", "s.yaml")
    for setting, depths in (("depths=[0,4]", (0, 4)), ("sweeps.latency_short.depths=[4]", (4,))):
        (grid,) = read_suite("s", apply_settings(root, [setting])).entries[0].grids
        assert grid.depths == depths


def test_a_record_has_the_depth_and_an_older_one_has_none() -> None:
    """Also in plain values: those of a case without a depth are as before."""
    flat, deep = (RecordedCase.of(case) for case in expand(suite(), CPU).cases)
    assert (flat.depth, deep.depth) == (0, 512)
    assert "depth" not in flat.as_dict()
    assert deep.as_dict()["depth"] == 512
    assert convert(json.loads(json.dumps(deep.as_dict())), RecordedCase) == deep
    assert convert({"id": "x"}, RecordedCase).depth == 0
    ragged = convert({"id": "m-1xcpu-hf-b2-in16_8-out4-at9", "input_len": 16}, RecordedCase)
    assert ragged.input_text == "16_8"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sweep": SWEEP.replace("512", "-1")}, "s.yaml:4: sweeps.depths: is -1; it must be at least 0"),
        ({"sweep": SWEEP.replace("512", "1.5")}, "s.yaml:4: sweeps.depths: must be a whole number"),
        (
            {"sweep": SWEEP.replace("depths", "depth")},
            "s.yaml:4: sweeps.depth: unknown key; did you mean 'depths'?",
        ),
        ({"sweep": SWEEP.replace("[0, 512]", "[]")}, "s.yaml:4: sweeps.depths: is an empty list"),
        (
            {"sweep": SWEEP.replace("512", "1857")},
            "s.yaml:4: sweeps.depths: depth 1857 + input 128 + output 64 is 2049 tokens, over the context of "
            "llama125m (2048); shorten the lengths",
        ),
        (
            {"engines": "hf, hf_nocache"},
            "s.yaml:4: sweeps.depths: the engine hf_nocache keeps no KV cache, so no tokens can be in it; "
            "leave out that engine, or the depths",
        ),
        (
            {"sweep": SWEEP.replace("[128]", "[[128, 16]]").replace("[1]", "[2]")},
            "s.yaml:4: sweeps.depths: a batch of different input lengths (128, 16) begins with an empty",
        ),
        (
            {"engines": "{name: x, prefill_chunk: 4, use_cache: false}"},
            "s.yaml:2: engines.prefill_chunk: a prefill in pieces needs the KV cache",
        ),
        (
            {"engines": "{name: x, kind: hf_compiled, prefill_chunk: 4}"},
            "s.yaml:2: engines.prefill_chunk: the engine kind 'hf_compiled' takes no prefill_chunk",
        ),
        ({"engines": "{name: x, prefill_chunk: 0}"}, "s.yaml:2: engines.prefill_chunk: is 0; it must be"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_line_and_key(changes: dict[str, str], message: str) -> None:
    """Before any model loads."""
    with pytest.raises(InputError) as caught:
        expand(suite(**changes), CPU)
    assert str(caught.value).startswith(message)


def test_the_deepest_that_a_context_takes_is_taken() -> None:
    """1856 + 128 + 64 = 2048."""
    assert expand(suite(SWEEP.replace("512", "1856")), CPU).cases[-1].point.depth == 1856


def test_other_engines_refuse_a_depth_by_name() -> None:
    """And take the case without one."""
    cases = expand(suite(engines="hf, hf_fp32, hf_int8"), CPU).cases
    said = {(case.engine.name, case.point.depth): why_not(case) for case in cases}
    assert said["hf", 512] is said["hf_fp32", 512] is said["hf_int8", 0] is None
    assert said["hf_int8", 512] == "the engine kind 'hf_int8' begins with an empty cache; hf takes depths"


def test_an_engine_in_pieces_is_named_by_them() -> None:
    """Its kind has the option, and its record says it."""
    engine = library.read_engine(None, parse_yaml("prefill_chunk: 512\ndtype: float32", "s.yaml"))
    assert (engine.name, engine.prefill_chunk) == ("hf_fp32_chunk512", 512)
    case = replace(expand(suite(), CPU).cases[0], engine=engine)
    assert RecordedCase.of(case).engine.prefill_chunk == 512
    assert RecordedCase.of(case).as_dict() == case.as_dict()


def test_the_bound_at_a_depth_of_two_sequences() -> None:
    """Five tokens cached, four come in and three go out.

    Prefill: head 100, 4 tokens of 10, 6 + 7 + 8 + 9 pairs of 2; weights, and 12 bytes for each of 2 * 5
    tokens. Steps: 10 and 11 pairs, after 9 and 10 tokens. At 10 FLOP/s and 40 bytes/s.
    """
    point = Point(2, 4, 3, depth=5)
    assert point_prefill_flops(WORK, point) == 2 * (100 + 40 + 60) == prefill_flops(WORK, 2, 4, 5)
    flops, moved = decode_passes(point, True, WORK)
    assert flops.tolist() == [2 * (110 + 20), 2 * (110 + 22)]
    assert moved.tolist() == [1000 + 2 * 12 * 9, 1000 + 2 * 12 * 10]
    assert mean_step_bytes(point, True, WORK) == 1228
    peaks = Peaks(10.0, 40.0)
    assert bound(point, True, WORK, peaks) == Bound(40.0, "arithmetic", 61.4, "bandwidth")
    assert bound(point, True, WORK, Peaks(1e9, 40.0)).prefill_s == (1000 + 2 * 12 * 5) / 40
    assert fill_s(point, WORK, peaks) == 2 * (100 + 50 + 2 * 15) / 10
    assert fill_s(Point(2, 4, 3), WORK, peaks) == 0


def test_a_window_limits_the_pairs_at_a_depth_too() -> None:
    """Window 3, after five tokens: three pairs for each of four tokens; after one: 2 + 3 + 3 + 3."""
    windowed = replace(WORK, caches=(Cache(3, 4, window=3),))
    assert prefill_flops(windowed, 1, 4, 5) == 100 + 40 + 2 * 12
    assert prefill_flops(windowed, 1, 4, 1) == 100 + 40 + 2 * 11


def test_the_memory_at_a_depth_of_the_toy() -> None:
    """B=2, T=10, N=3 after 20 tokens, by hand; 160 bytes of windows are there twice.

    Filling, in one piece: cache 2 * (200 + 2*200), all of it behind the windows too; 7 + 400 +
    2*(2 + 400 + 1200) = 3611. Prefill: cache 2 * (320 + 2*140), with room for 32 tokens, or of 4 tokens of a
    window and the 10 new ones; two moments, T*T -> T*(S + T): 1111 + (1 + 2*3)*200 = 2511 and 1820.
    Decode, after 31 tokens: 2 * (310 + 80) and 2 * (300 + 124).
    """
    found = predict(Point(2, 10, 3, depth=20), TOY, "gpu")
    fill, prefill = 1000 + 1200 + 160 + 3611, 1000 + 1200 + 160 + 2511
    assert found.prefill_bytes == max(fill, prefill) + GPU_MARGIN_BYTES
    assert found.decode_bytes == 1000 + 780 + 160 + 848 + GPU_MARGIN_BYTES
    small = predict(Point(2, 10, 3, depth=20), TOY, "gpu", prefill_chunk=1)
    assert small.prefill_bytes < found.prefill_bytes


def test_a_prefill_in_pieces_needs_what_its_last_pieces_need() -> None:
    """T=10 in pieces of 4, 4 and 2: the one before the last, of 4 after 4, is the highest.

    Cache 2 * (80 + 2*80), of 4 tokens of a window and 4 new ones; its higher moment 2 * (900 + 4), and of a
    window the old keys and values of a layer beside the new ones, 2*10*8; a step makes 2*4*4 = 32 of what is
    cached. Of the last one, of 2 after 8, these are 2 * (100 + 2*60), 1804, 2*10*6 and 64.
    """
    assert pieces(10, 4) == [4, 4, 2]
    found = predict(Point(2, 10, 1), TOY, "gpu", prefill_chunk=4)
    assert found.prefill_bytes == 1000 + 480 + 1808 + 160 + GPU_MARGIN_BYTES


def test_a_mask_needs_room_where_no_scores_are_kept() -> None:
    """Four FLOPs for each value of all heads: 2 a pair over 3 layers are 1/6 of one; 48 are 4 values.

    In fp32: 32 bytes a token of keys and values against 10 of its own, 1 a pair for all sequences, and 4 in
    the running layer. Ten tokens after 20 attend to 30, and to 14 with a window of 5; without cached ones
    only a full window has a mask.
    """
    prefill = replace(TOY.prefill, instants=TOY.prefill.instants[1:])
    work = replace(WORK, flops_per_pair=48.0, caches=TOY.caches)
    fused = replace(TOY, prefill=prefill).with_heads(work, 4)
    assert (fused.repeated_bytes, fused.mask_bytes) == ((32, 32), 5)
    assert TOY.with_heads(replace(work, flops_per_pair=2.0), 4).repeated_bytes == (0, 0)
    assert fused.pass_bytes(2, 10, 20) == 1820 + 10 * (30 + 14) + 2 * 30 * (32 + 4 * 10)
    assert fused.pass_bytes(2, 5, 0) == 1810 + 5 * 5 + 2 * 5 * (32 + 4 * 5)
    assert fused.pass_bytes(2, 4, 0) == 1808


def test_scores_of_cached_tokens_take_their_keys_and_values_for_every_head() -> None:
    """Of 20 tokens, or of 4 with a window of 5; the moment with scores has 2511 bytes."""
    assert TOY.pass_bytes(2, 10, 20) == 2511
    assert replace(TOY, repeated_bytes=(7, 0)).pass_bytes(2, 10, 20) == 2511 + 2 * 7 * 20
    assert replace(TOY, repeated_bytes=(0, 7)).pass_bytes(2, 10, 20) == 2511 + 2 * 7 * 4


def test_keys_and_values_for_every_head_are_there_while_scores_are() -> None:
    """At the softmax 2 x (1000 + 100) bytes, 400 of scores of 20 cached tokens, and 7 for each of them."""
    repeated = replace(TOY, repeated_bytes=(7, 0))
    few, many = (
        replace(TOY.prefill, attending=(Attending(Terms(bt=each, bt2=1), None),)) for each in (50, 100)
    )
    assert replace(repeated, prefill=few).pass_bytes(2, 10, 20) == 2511
    assert replace(repeated, prefill=many).pass_bytes(2, 10, 20) == 2200 + 400 + 2 * 7 * 20
    windowed = replace(TOY.prefill, attending=(Attending(Terms(bt=200, bt2=1), 5),))
    found = replace(TOY, prefill=windowed, repeated_bytes=(0, 7)).pass_bytes(2, 10, 20)
    assert found == 4200 + 2 * 10 * 4 + 2 * 7 * 4  # 4 tokens are kept


def test_a_mask_comes_in_where_its_kind_of_layer_attends() -> None:
    """The highest moment may be another one, with the truth values alone; of the two kinds the higher counts.

    Attention takes 50 bytes a token, and with a window of 5 it takes 100. Before the last layer with a window
    has its new keys and values, 10 bytes a token, its old ones are there.
    """
    attending = Attending(Terms(bt=50), None), Attending(Terms(bt=100), 5)
    prefill = replace(TOY.prefill, instants=TOY.prefill.instants[1:], attending=attending)
    fused = replace(TOY, prefill=prefill, mask_bytes=5, repeated_bytes=(32, 0))
    assert fused.pass_bytes(2, 5, 0) == 1810 + 5 * 5
    assert fused.pass_bytes(2, 40, 0) == 2 * 40 * 100 + 2 * 40 * 4 * 40 + 40 * 40
    assert fused.pass_bytes(2, 10, 20) == 2 * 10 * 50 + 2 * 30 * (32 + 4 * 10) + 10 * (30 + 14)
    wide = replace(fused, prefill=replace(prefill, instants=(Instant(Terms(b=90000), Terms()),)))
    assert wide.pass_bytes(2, 10, 20) == 2 * (90000 + 10 * 10) + 10 * (30 + 14)


@pytest.mark.parametrize(
    ("batch", "depth", "own", "chunk"),
    [
        (1, 4096, None, 512),
        (1, 4096, 100, 100),
        (1, 2**17, None, 512),
        (16, 2**17, None, 32),
        (1, 2**40, None, 1),
    ],
)
def test_a_cache_is_filled_in_pieces_that_fit(batch: int, depth: int, own: int | None, chunk: int) -> None:
    """At most 512 tokens, and 2^26 pairs of a piece with the whole cache over all sequences."""
    assert fill_chunk(Point(batch, 1, 1, depth=depth), own) == chunk


def deep_case(depth: int) -> Case:
    """LLaMA-7B on an A100 of 80 GB."""
    point = Point(1, 128, 64, depth=depth)
    return Case(library.model("llama7b"), library.hardware("a100_80gb"), 1, EngineSpec("hf"), point)


def test_the_largest_batch_falls_with_the_depth() -> None:
    """At 1,500 tokens more a sequence needs several times the cache; a file is of one depth."""
    largest = [predict_largest(deep_case(depth)) or 0 for depth in (0, 1500)]
    assert largest[0] > 3 * largest[1] > 0
    here = {"node": "n", "reported_name": "r", "memory_bytes": 1, "driver": "d"}
    keys = [key_of(deep_case(depth), {}, here) for depth in (0, 1500)]
    assert "depth" not in keys[0]
    assert keys[1] == {**keys[0], "depth": 1500}


def test_a_forecast_counts_the_filling_and_the_deeper_steps() -> None:
    """Without a history: filling 1,500 tokens takes their FLOPs at the stated share of the stated peak."""
    flat, deep = (Planner(Past(), calls=5).expect(deep_case(depth)) for depth in (0, 1500))
    assert flat.bound
    assert deep.bound
    assert deep.bound.decode_s > flat.bound.decode_s
    counts = find_counts(library.model("llama7b"), EngineSpec("hf"))
    assert counts
    assert deep.calls_s
    assert deep.prediction
    assert flat.prediction
    filled = fill_s(deep_case(1500).point, counts.work, Peaks(312e12, 2039e9))
    assert filled == pytest.approx(2 * 6.6e9 * 1500 / 312e12, rel=0.1)
    repeated = (
        5 * deep.bound.total_s
        + bound(Point(1, 128, 8, depth=1500), True, counts.work, Peaks(312e12, 2039e9)).total_s
    )
    assert deep.calls_s == pytest.approx((repeated + filled) / 0.34)
    assert deep.prediction.total_bytes > flat.prediction.total_bytes


def test_an_estimate_is_of_the_depth() -> None:
    """Slower than without; and an input with its depth is never farther than the fit goes."""
    physics = read_physics("hf", "gpu")
    assert physics is not None
    counts = find_counts(library.model("llama7b"), EngineSpec("hf"))
    flat, deep = (estimate(deep_case(depth), counts, physics, Known()) for depth in (0, 1500))
    assert isinstance(flat, Estimate)
    assert isinstance(deep, Estimate)
    assert (deep.tpot_s or 0) > (flat.tpot_s or 0)
    assert deep.ttft_s > flat.ttft_s
    assert too_far(Point(1, 128, 64, depth=10**6), physics)
    assert isinstance(estimate(deep_case(10**6), counts, physics, Known()), Refused)
