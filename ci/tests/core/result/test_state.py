"""What is said of readings of the machine, written by hand or made up."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.core.result.machine_state import energy_j, summary
from fixtures.core.result.readings import THROTTLING, GpuReading, Reading, disturbances
from fixtures.core.result.record_machine import GpuState, State

GPU = GpuReading(0, 1.7e9, 1.98e9, 60.0, 300.0, (), 5.0, 1000.0, 0)
BEFORE = Reading(100.0, 10.0, 50.0, 1.0, 2.0, 0.5, 4, 2e9, 7, gpus=(GPU,))


def later(wall_s: float, gpu: dict[str, Any] | None = None, **grown: float) -> Reading:
    """A round later: counters grown by so much, the GPU's fields as given, all else as it was."""
    counters = {name: getattr(BEFORE, name) + amount for name, amount in grown.items()}
    return replace(BEFORE, at_s=100.0 + wall_s, gpus=(replace(GPU, **(gpu or {})),), **counters)


def test_nothing_happened() -> None:
    """Our own work, however much of it, is no disturbance."""
    after = later(1.0, {"throttle_reasons": ("gpu_idle",)}, own_cpu_s=32.0, busy_cpu_s=32.0)
    assert disturbances(BEFORE, after) == ()


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (later(1.0, busy_cpu_s=4.8, own_cpu_s=4.0), "contention: other processes used 0.80 cores"),
        (later(2.0, steal_s=0.6), "contention: the hypervisor took 0.30 cores"),
        (later(1.0, waited_s=0.5), "contention: own threads waited 0.50 s of a core in 1.00 s"),
        (later(1.0, throttle_count=3), "throttling: the CPU, by 3 thermal events"),
        (later(1.0, {"other_processes": 2}), "contention: 2 other processes on GPU 0"),
        (later(1.0, {"other_processes": 1}), "contention: 1 other process on GPU 0"),
        (
            later(1.0, {"throttle_reasons": ("gpu_idle", "hw_thermal_slowdown")}),
            "throttling: GPU 0: hw_thermal_slowdown",
        ),
        (later(1.0, {"throttle_reasons": ("sw_power_cap",)}), "throttling: GPU 0: power cap"),
        (later(1.0, {"throttled_s": 5.2}), "throttling: GPU 0 for 0.20 s"),
    ],
)
def test_each_disturbance_is_said(after: Reading, said: str) -> None:
    """One sentence, with its number."""
    assert disturbances(BEFORE, after) == (said,)


@pytest.mark.parametrize("counter", ["busy_cpu_s", "steal_s", "waited_s"])
@pytest.mark.parametrize(
    ("wall_s", "grown_s", "is_said"),
    [
        (2.0, 0.21, True),
        (2.0, 0.19, False),  # less than 10 % of the round
        (0.2, 0.06, True),
        (0.2, 0.04, False),  # 20 % of the round, but four clock ticks
    ],
)
def test_both_thresholds(counter: str, wall_s: float, grown_s: float, is_said: bool) -> None:
    """A share of the round, and more than the counters' resolution."""
    assert bool(disturbances(BEFORE, later(wall_s, None, **{counter: grown_s}))) is is_said


@pytest.mark.parametrize(
    ("wall_s", "grown_s", "is_said"),
    [(2.0, 0.21, True), (2.0, 0.19, False), (0.2, 0.06, True), (0.2, 0.04, False)],
)
def test_both_thresholds_on_a_gpu(wall_s: float, grown_s: float, is_said: bool) -> None:
    """The same two for the seconds that a GPU was throttled."""
    assert bool(disturbances(BEFORE, later(wall_s, {"throttled_s": 5.0 + grown_s}))) is is_said


def test_what_was_there_at_the_first_edge_counts() -> None:
    """A GPU throttled when the round began is said, though it was free again at its end."""
    hot = replace(BEFORE, gpus=(replace(GPU, throttle_reasons=("sw_thermal_slowdown",), other_processes=3),))
    assert disturbances(hot, later(1.0)) == (
        "contention: 3 other processes on GPU 0",
        "throttling: GPU 0: sw_thermal_slowdown",
    )


def test_counters_that_go_back_say_nothing() -> None:
    """A driver that was loaded anew starts from zero; own seconds round apart from everybody's."""
    back = later(1.0, {"throttled_s": 0.1}, steal_s=-1.0, waited_s=-2.0, throttle_count=-7)
    assert disturbances(BEFORE, back) == ()
    assert disturbances(BEFORE, later(1.0, busy_cpu_s=0.5, own_cpu_s=0.9)) == ()


def test_no_time_passed() -> None:
    """Two readings at one moment have no round between them."""
    assert disturbances(BEFORE, later(0.0, busy_cpu_s=4.0)) == ()


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The value, or None."""
    return st.none() | strategy


NUMBER = st.floats(0, 1e6)
NAMES = st.lists(st.sampled_from([*THROTTLING, "gpu_idle", "sync_boost"])).map(tuple)
COUNT = st.integers(0, 100)
GPUS = st.builds(
    GpuReading,
    st.integers(0, 2),
    *[maybe(NUMBER)] * 4,
    maybe(NAMES),
    maybe(NUMBER),
    maybe(NUMBER),
    maybe(COUNT),
)
READINGS = st.builds(
    Reading,
    NUMBER,
    *[maybe(NUMBER)] * 5,
    maybe(COUNT),
    maybe(NUMBER),
    maybe(COUNT),
    maybe(NUMBER),
    st.lists(GPUS, max_size=3, unique_by=lambda gpu: gpu.index).map(tuple),
)


@given(st.lists(READINGS, max_size=4))
def test_whatever_is_missing(readings: list[Reading]) -> None:
    """No exception; sentences of two kinds; and a summary that is JSON."""
    for before, after in pairwise(readings):
        said = disturbances(before, after)
        assert all(text.startswith(("contention: ", "throttling: ")) for text in said)
    found = summary(readings)
    assert msgspec.convert(json.loads(json.dumps(found.as_dict(), allow_nan=False)), State) == found


@given(READINGS, READINGS, st.data())
def test_a_missing_value_disturbs_nothing(before: Reading, after: Reading, data: st.DataObject) -> None:
    """To take a value away never adds a sentence, and with all values away there is none."""
    said = disturbances(before, after)
    gone: dict[str, Any] = {data.draw(st.sampled_from([field.name for field in fields(Reading)][1:-1])): None}
    assert set(disturbances(before, replace(after, **gone))) <= set(said)
    assert disturbances(Reading(before.at_s), Reading(after.at_s)) == ()
    gone = {data.draw(st.sampled_from([field.name for field in fields(GpuReading)][1:])): None}
    gpus = tuple(replace(gpu, **gone) for gpu in after.gpus)
    assert len(disturbances(before, replace(after, gpus=gpus))) <= len(said)


def test_summary_by_hand() -> None:
    """Three readings over four seconds."""
    warm = {"sm_clock_hz": 1.2e9, "temperature_c": 71.0, "power_w": 660.0, "energy_j": 2500.0}
    middle = later(2.0, {**warm, "throttle_reasons": ("sw_power_cap",), "other_processes": 1})
    middle = replace(middle, threads=9, cpu_frequency_hz=3e9)
    end = {"sm_clock_hz": 1.5e9, "power_w": 540.0, "energy_j": 3000.0, "throttled_s": 6.5}
    grown = {"busy_cpu_s": 14.0, "own_cpu_s": 8.0, "steal_s": 1.0, "waited_s": 2.0, "throttle_count": 3}
    last = replace(later(4.0, end, **grown), load_1min=2.5)
    found = summary([BEFORE, middle, last]).as_dict()
    assert (found.pop("disturbed"), found.pop("discarded_s"), found.pop("neighbours")) == ([], [], None)
    assert found == {
        "load_1min_before": 0.5,
        "load_1min_after": 2.5,
        "threads": 9,
        "cpu_frequency_min_hz": 2e9,
        "cpu_frequency_max_hz": 3e9,
        "other_cores": 1.5,  # (14 - 8) / 4
        "steal_cores": 0.25,
        "waited_share": 0.5,
        "throttle_count": 3,
        "energy_j": 2000.0,
        "gpus": [
            {
                "index": 0,
                "sm_clock_min_hz": 1.2e9,
                "sm_clock_max_hz": 1.7e9,
                "max_sm_clock_hz": 1.98e9,
                "temperature_max_c": 71.0,
                "power_mean_w": 500.0,
                "power_max_w": 660.0,
                "throttle_reasons": ["sw_power_cap"],
                "throttled_s": 1.5,
                "energy_j": 2000.0,
                "other_processes": 1,
            }
        ],
    }


def test_a_summary_of_nothing() -> None:
    """All is None where nothing was read, or nothing had a value; one reading has no differences."""
    for readings in ([], [Reading(1.0), Reading(2.0)]):
        assert summary(readings) == State()
    (gpu,) = summary([Reading(1.0, gpus=(GpuReading(3),)), Reading(2.0, gpus=(GpuReading(3),))]).gpus
    assert gpu == GpuState(index=3)
    assert summary([BEFORE]).other_cores is None


def test_energy_is_of_all_gpus_or_unknown() -> None:
    """One silent GPU makes the sum unknown, and so does no GPU."""
    other = replace(GPU, index=1)
    first = replace(BEFORE, gpus=(GPU, other))
    used = tuple(replace(gpu, energy_j=1000.0 + 10.0 * (gpu.index + 1)) for gpu in first.gpus)
    assert energy_j([first, replace(first, gpus=used)]) == 30.0
    assert energy_j([first, replace(first, gpus=(used[0], replace(other, energy_j=None)))]) is None
    assert energy_j([Reading(1.0), Reading(2.0)]) is None
    assert energy_j([]) is None
