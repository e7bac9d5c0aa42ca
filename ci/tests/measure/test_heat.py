"""A case that heat throttles: a pause that the device's own readings end, and its rounds once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import FakeEngine, Law
from fixtures.core.result.readings import GpuReading, Reading, overheated
from fixtures.engines.protocol import Limits
from fixtures.measure import heat
from fixtures.measure.watch import Watch, _thermometers

pytest_plugins = ["pytester"]

Fake = type[FakeEngine]
HOT = ("hw_thermal_slowdown",)
RUN = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml")


def gpu(celsius: float | None, *reasons: str, index: int = 0) -> Reading:
    """The machine with one GPU."""
    return Reading(0.0, gpus=(GpuReading(index, temperature_c=celsius, throttle_reasons=reasons),))


@pytest.mark.parametrize(
    ("before", "after", "devices"),
    [
        (gpu(80), gpu(85, "sw_thermal_slowdown"), {"GPU 0"}),
        (gpu(85, "hw_thermal_slowdown"), gpu(80), {"GPU 0"}),
        (gpu(80, index=1), gpu(85, "hw_slowdown", index=1), {"GPU 1"}),
        (gpu(80), gpu(85, "hw_slowdown", "hw_power_brake_slowdown"), set()),
        (gpu(80, "sw_power_cap"), gpu(85, "gpu_idle"), set()),
        (Reading(0, throttle_count=3), Reading(1, throttle_count=5), {"CPU"}),
        (Reading(0, throttle_count=3), Reading(1, throttle_count=3), set()),
        (Reading(0), Reading(1), set()),
    ],
)
def test_heat_is_told_from_other_throttling(before: Reading, after: Reading, devices: set[str]) -> None:
    """Power caps and brakes are none, and what a device does not tell neither."""
    assert overheated(before, after) == devices


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Sleeps take no time, and are noted; the clock of pauses goes on by them."""
    slept: list[float] = []
    monkeypatch.setattr(heat, "sleep", slept.append)
    monkeypatch.setattr("fixtures.measure.heat.time.monotonic", lambda: float(sum(slept)))
    return slept


@pytest.mark.parametrize(
    ("readings", "polls", "cooled", "to_c"),
    [
        ([gpu(86, *HOT), gpu(80, *HOT), gpu(76), gpu(75.5), gpu(75)], 4, True, 75),  # 85 less 10, no reason
        (
            [gpu(86, *HOT), gpu(70, *HOT), gpu(70, *HOT), gpu(70), gpu(70)],
            4,
            True,
            70,
        ),  # throttled
        ([gpu(85), *[gpu(79)] * 30], 24, False, 79),  # 120 s
        ([gpu(None, *HOT), gpu(None), gpu(None)], 2, True, None),  # no temperature: two readings without
    ],
)
def test_the_devices_own_readings_end_a_pause(
    clock: list[float], readings: list[Reading], polls: int, cooled: bool, to_c: float | None
) -> None:
    """At most 120 s, a reading each 5 s."""
    known = readings[0].gpus[0].temperature_c is not None
    hot = heat.hottest([(gpu(84), gpu(85 if known else None, *HOT)), (gpu(90), gpu(60))])
    if not known:
        hot = heat.hottest([(gpu(None), gpu(None, *HOT))])
    assert hot == {"GPU 0": 85 if known else None}
    pause = heat.cool(hot, iter(readings).__next__, bool)
    assert clock == [5.0] * polls
    assert pause.as_dict() == {
        "seconds": 5.0 * polls,
        "cooled": cooled,
        "devices": ["GPU 0"],
        "from_c": 85 if known else None,
        "to_c": to_c,
    }


def test_a_throttled_case_is_taken_again(project: pytest.Pytester, fake: Fake) -> None:
    """Rounds 2 and 3 are hot and take twice as long: a pause, a call that does not count, five rounds."""
    hot = {3 + 1, 3 + 2}  # after three to warm up
    fake.law = Law(
        prefill_s=0.5,
        factor=lambda call: 2.0 if call in hot else 1.0,
        reasons=lambda call: HOT if call in hot else (),
    )
    write_suite(project.path, "m", output_lengths=[1])
    project.runpytest(*RUN).assert_outcomes(passed=1)
    (record,) = (bench["extra_info"] for bench in histories(project.path)[0]["benchmarks"])
    assert record["state"]["discarded_s"] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.5])
    assert record["latency_median_s"] == pytest.approx(0.5)
    (pause,) = record["state"]["pauses"]
    assert (pause["cooled"], pause["devices"]) == (True, ["GPU 0"])
    assert len(record["warmup_s"]) == 4
    assert record["marks"] == []


def test_a_case_that_stays_hot_keeps_its_rounds(project: pytest.Pytester, fake: Fake) -> None:
    """Two pauses at most, and the mark says so."""
    fake.law = Law(prefill_s=0.5, reasons=lambda _: HOT)
    write_suite(project.path, "m", output_lengths=[1])
    project.runpytest(*RUN).assert_outcomes(passed=1)
    (record,) = (bench["extra_info"] for bench in histories(project.path)[0]["benchmarks"])
    assert len(record["state"]["pauses"]) == heat.PAUSES == 2
    assert len(record["state"]["discarded_s"]) == 2 * 5
    (mark,) = record["marks"]
    assert mark.startswith("5 of 5 rounds disturbed, taken again after 0 s of pause: throttling: GPU 0")


def test_a_device_that_does_not_cool_is_not_tried_again(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause ends at its limit, and the rounds stay as they are."""
    monkeypatch.setattr(heat, "_is_cool", lambda *_: False)
    monkeypatch.setattr(heat, "MOST_S", 0.01)
    fake.law = Law(prefill_s=0.5, reasons=lambda _: HOT)
    write_suite(project.path, "m", output_lengths=[1])
    project.runpytest(*RUN).assert_outcomes(passed=1)
    (record,) = (bench["extra_info"] for bench in histories(project.path)[0]["benchmarks"])
    assert [pause["cooled"] for pause in record["state"]["pauses"]] == [False]
    assert record["state"]["discarded_s"] == []
    (mark,) = record["marks"]
    assert mark.startswith("5 of 5 rounds disturbed, still hot after 0 s of pause: throttling: GPU 0")


def test_a_pause_does_not_count_for_the_cases_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case has as much time left as before."""
    now: dict[str, Any] = {"s": 100.0}
    monkeypatch.setattr("fixtures.engines.protocol.time.monotonic", lambda: now["s"])
    limits = Limits(900.0, 60.0)
    limits.extend(5.0)  # no case has begun
    limits.begin_case()
    now["s"] += 30.0
    limits.extend(30.0)
    assert limits.next_step() == (190.0, True)


def test_thermometers_of_linux(tmp_path: Path) -> None:
    """CPUs' sensors, not those of disks or batteries."""
    for path, text in {
        "hwmon/hwmon0/name": "nvme\n", "hwmon/hwmon0/temp1_input": "99000\n",
        "hwmon/hwmon1/name": "k10temp\n", "hwmon/hwmon1/temp1_input": "61250\n",
        "hwmon/hwmon1/temp3_input": "58000\n",
        "thermal/thermal_zone0/type": "acpitz\n", "thermal/thermal_zone0/temp": "27800\n",
        "thermal/thermal_zone1/type": "x86_pkg_temp\n", "thermal/thermal_zone1/temp": "62000\n",
    }.items():  # fmt: skip
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = [str(path.relative_to(tmp_path)) for path in _thermometers(tmp_path)]
    assert found == [
        "hwmon/hwmon1/temp1_input", "hwmon/hwmon1/temp3_input", "thermal/thermal_zone1/temp",
    ]  # fmt: skip
    watch = Watch([], gpus=0)
    watch._thermometers = list(_thermometers(tmp_path))
    assert watch.read().cpu_temperature_c == 62.0
    watch._thermometers = []
    assert watch.read().cpu_temperature_c is None
