"""What fits on a device, against bytes counted by hand."""

from __future__ import annotations

import pytest

from fixtures.core.spec.case import EngineSpec, HardwareSpec, ModelSpec
from fixtures.core.spec.library import hardware, model
from fixtures.core.spec.stated_bytes import fits, kv_cache_bytes, largest_batch, weight_bytes

BF16 = EngineSpec("hf")
FP32 = EngineSpec("hf_fp32", dtype="float32")
NO_CACHE = EngineSpec("hf_nocache", use_cache=False)
SMALL = ModelSpec("small", {}, parameters=100, kv_values_per_token=3)
UNKNOWN = ModelSpec("unknown", {})


def device(memory_bytes: int | None) -> HardwareSpec:
    """A device of so much memory."""
    return HardwareSpec("d", "gpu", memory_bytes=memory_bytes)


def test_weights_take_the_bytes_of_their_dtype() -> None:
    """100 parameters of 2 or 4 bytes."""
    assert weight_bytes(SMALL, BF16) == 200
    assert weight_bytes(SMALL, EngineSpec("hf_fp16", dtype="float16")) == 200
    assert weight_bytes(SMALL, FP32) == 400
    assert weight_bytes(UNKNOWN, BF16) is None


def test_the_cache_takes_its_values_for_every_token() -> None:
    """3 values * 7 tokens * 2 or 4 bytes; none without a cache."""
    assert kv_cache_bytes(SMALL, BF16, 7) == 42
    assert kv_cache_bytes(SMALL, FP32, 7) == 84
    assert kv_cache_bytes(SMALL, NO_CACHE, 7) == 0
    assert kv_cache_bytes(UNKNOWN, BF16, 7) is None


def test_a_published_cache_is_as_large_as_arithmetic_says() -> None:
    """MPT-7B: 2 * 32 layers * 4096 values * 2 bytes = 512 KiB a token, so 1.0 GiB for 2048 tokens."""
    assert kv_cache_bytes(model("mpt7b"), BF16, 2048) == 2**30


@pytest.mark.parametrize(
    ("memory_bytes", "devices", "whether"),
    [(200, 1, True), (199, 1, False), (100, 2, True), (99, 2, False), (50, 4, True), (None, 1, True)],
)
def test_weights_fit_where_all_devices_together_hold_them(
    memory_bytes: int | None, devices: int, whether: bool
) -> None:
    """To the byte; where the memory is not known, they may."""
    assert fits(SMALL, device(memory_bytes), devices, BF16) is whether


def test_weights_of_unknown_number_may_fit() -> None:
    """There is nothing to refuse them by."""
    assert fits(UNKNOWN, device(1), 1, BF16) is True


def test_mpt30b_needs_more_than_one_a100_of_40_gb() -> None:
    """29.96e9 parameters * 2 bytes = 59.9e9 bytes, of 42.9e9 on one; in fp32 119.8e9, of 85.9e9 on two."""
    mpt30b, a100 = model("mpt30b"), hardware("a100_40gb")
    assert [fits(mpt30b, a100, devices, BF16) for devices in (1, 2, 4)] == [False, True, True]
    assert [fits(mpt30b, a100, devices, FP32) for devices in (1, 2, 4)] == [False, False, True]


@pytest.mark.parametrize(
    ("memory_bytes", "devices", "batch"),
    [
        # weights 200 bytes; a sequence of 10 tokens 3 * 10 * 2 = 60 bytes
        (259, 1, 0),
        (260, 1, 1),
        (319, 1, 1),
        (320, 1, 2),
        (439, 1, 2),
        (440, 1, 4),
        (199, 1, 0),
        (100, 1, 0),
        (220, 2, 4),
        (219, 2, 2),
        (110, 4, 4),
    ],
)
def test_the_largest_batch_is_the_power_of_two_that_fits_beside_the_weights(
    memory_bytes: int, devices: int, batch: int
) -> None:
    """To the byte."""
    assert largest_batch(SMALL, device(memory_bytes), devices, BF16, 10) == batch


def test_the_largest_batch_of_mpt7b_is_that_of_arithmetic() -> None:
    """One A100 of 80 GB has (85899345920 - 2 * 6649286656) = 72600772608 bytes beside the weights.

    A sequence of 128 + 1001 tokens takes 524288 * 1129 = 591921152 bytes: 122 of them, so 64. One of
    2048 + 1001 takes 1598554112: 45, so 32. On two devices there are 158500118528 bytes: 267, so 256.
    """
    mpt7b, a100 = model("mpt7b"), hardware("a100_80gb")
    assert largest_batch(mpt7b, a100, 1, BF16, 1129) == 64
    assert largest_batch(mpt7b, a100, 1, BF16, 3049) == 32
    assert largest_batch(mpt7b, a100, 2, BF16, 1129) == 256


@pytest.mark.parametrize(
    ("spec", "engine", "memory_bytes"),
    [
        (UNKNOWN, BF16, 1000),
        (ModelSpec("m", {}, parameters=100), BF16, 1000),
        (ModelSpec("m", {}, kv_values_per_token=3), BF16, 1000),
        (SMALL, NO_CACHE, 1000),
        (SMALL, BF16, None),
    ],
)
def test_without_one_of_the_figures_there_is_no_largest_batch(
    spec: ModelSpec, engine: EngineSpec, memory_bytes: int | None
) -> None:
    """Nor where there is no cache to fill the memory."""
    assert largest_batch(spec, device(memory_bytes), 1, engine, 10) is None


def test_the_ranks_of_a_cpu_share_its_memory() -> None:
    """Two devices hold twice as much, two ranks of a CPU do not."""
    assert fits(SMALL, device(150), 2, BF16)
    assert not fits(SMALL, HardwareSpec("cpu", "cpu", memory_bytes=150), 2, BF16)
    assert largest_batch(SMALL, HardwareSpec("cpu", "cpu", memory_bytes=248), 2, BF16, 8) == 1
    assert largest_batch(SMALL, device(248), 2, BF16, 8) == 4
