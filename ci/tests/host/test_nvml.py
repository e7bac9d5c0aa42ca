"""What NVML says, by a stand-in with its names, its constants and its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fixtures.core.result.readings import THROTTLING
from fixtures.core.spec.devices.driver import Slice
from fixtures.host import nvml
from fixtures.measure import heat
from fixtures.measure.watch import Watch

REAL = import_module("pynvml")
UUIDS = ("GPU-8932f937-d72c", "GPU-1b2c3d4e-0000", "GPU-1b9f0000-ffff")
VIOLATIONS_NS = {
    REAL.NVML_PERF_POLICY_POWER: 1_500_000_000,
    REAL.NVML_PERF_POLICY_THERMAL: 250_000_000,
    REAL.NVML_PERF_POLICY_SYNC_BOOST: 40_000_000_000,
    REAL.NVML_PERF_POLICY_LOW_UTILIZATION: 70_000_000_000,
    REAL.NVML_PERF_POLICY_TOTAL_APP_CLOCKS: 110_000_000_000,
}


def not_supported(*_: Any) -> Any:
    """What a device answers that has no such counter."""
    raise REAL.NVMLError(REAL.NVML_ERROR_NOT_SUPPORTED)


def violation(_: str, policy: int) -> Any:
    """Nanoseconds for the policies of the table."""
    if policy not in VIOLATIONS_NS:
        not_supported()
    return SimpleNamespace(referenceTime=123, violationTime=VIOLATIONS_NS[policy])


def by_uuid(uuid: str) -> str:
    """A handle by its whole UUID."""
    if uuid not in UUIDS:
        raise REAL.NVMLError(REAL.NVML_ERROR_NOT_FOUND)
    return uuid


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "nvmlInit": lambda: None,
    "nvmlDeviceGetCount": lambda: len(UUIDS),
    "nvmlDeviceGetHandleByIndex": lambda index: UUIDS[index],
    "nvmlDeviceGetHandleByUUID": by_uuid,
    "nvmlDeviceGetUUID": lambda handle: handle,
    "nvmlDeviceGetClockInfo": lambda _, kind: {REAL.NVML_CLOCK_SM: 1755}[kind],
    "nvmlDeviceGetMaxClockInfo": lambda _, kind: {REAL.NVML_CLOCK_SM: 1980}[kind],
    "nvmlDeviceGetTemperatureV": lambda _, sensor: {REAL.NVML_TEMPERATURE_GPU: 64}[sensor],
    "nvmlDeviceGetTemperature": lambda _, sensor: {REAL.NVML_TEMPERATURE_GPU: 65}[sensor],
    "nvmlDeviceGetPowerUsage": lambda _: 312_500,
    "nvmlDeviceGetTotalEnergyConsumption": lambda _: 9_876_500,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda _: (
        REAL.nvmlClocksEventReasonGpuIdle | REAL.nvmlClocksEventReasonSwPowerCap
    ),
    "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: REAL.nvmlClocksThrottleReasonHwThermalSlowdown,
    "nvmlDeviceGetViolationStatus": violation,
    "nvmlDeviceGetComputeRunningProcesses": lambda _: [
        SimpleNamespace(pid=os.getpid()),
        SimpleNamespace(pid=os.getppid()),
    ],
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, where three GPUs are."""
    module = ModuleType("pynvml")
    for name in dir(REAL):
        if name.startswith(("NVML_", "NVMLError")):
            setattr(module, name, getattr(REAL, name))
    for name, function in FUNCTIONS.items():
        assert callable(getattr(REAL, name)), name
        setattr(module, name, function)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml._nvml.cache_clear()
    yield module
    nvml._nvml.cache_clear()


def test_a_reading_in_si_units(fake: ModuleType) -> None:
    """MHz, mW, mJ and ns become Hz, W, J and s; our own process is no other."""
    (gpu,) = Watch([], gpus=1).read().gpus
    assert vars(gpu) == {
        "index": 0,
        "sm_clock_hz": pytest.approx(1.755e9),
        "max_sm_clock_hz": pytest.approx(1.98e9),
        "temperature_c": 64,
        "power_w": pytest.approx(312.5),
        "throttle_reasons": ("gpu_idle", "sw_power_cap"),
        "throttled_s": pytest.approx(1.75),  # power and thermal, neither idleness nor a clock set on purpose
        "energy_j": pytest.approx(9876.5),
        "other_processes": 1,
    }


def test_a_helper_on_the_gpu_is_ours(fake: ModuleType) -> None:
    """Its pid is among those given."""
    (gpu,) = Watch([os.getppid()], gpus=1).read().gpus
    assert gpu.other_processes == 0


def test_pids_of_another_namespace(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pid that is not here may be our own as its host counts, so the number is unknown."""
    foreign = [SimpleNamespace(pid=2**22 + 1)]
    monkeypatch.setattr(fake, "nvmlDeviceGetComputeRunningProcesses", lambda _: foreign)
    assert Watch([], gpus=1).read().gpus[0].other_processes is None


FIELDS = {
    "nvmlDeviceGetClockInfo": "sm_clock_hz",
    "nvmlDeviceGetMaxClockInfo": "max_sm_clock_hz",
    "nvmlDeviceGetPowerUsage": "power_w",
    "nvmlDeviceGetTotalEnergyConsumption": "energy_j",
    "nvmlDeviceGetViolationStatus": "throttled_s",
    "nvmlDeviceGetComputeRunningProcesses": "other_processes",
}


@pytest.mark.parametrize(("name", "field"), FIELDS.items())
def test_what_a_device_does_not_tell_is_none(
    fake: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, field: str
) -> None:
    """That value alone."""
    monkeypatch.setattr(fake, name, not_supported)
    (gpu,) = Watch([], gpus=1).read().gpus
    assert [key for key, value in vars(gpu).items() if value is None] == [field]


def test_old_names_are_asked_where_the_new_are_missing(
    fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing from the module, or from the driver; without either, None."""
    monkeypatch.delattr(fake, "nvmlDeviceGetCurrentClocksEventReasons")
    monkeypatch.setattr(fake, "nvmlDeviceGetTemperatureV", not_supported)
    watch = Watch([], gpus=1)
    (gpu,) = watch.read().gpus
    assert (gpu.throttle_reasons, gpu.temperature_c) == (("hw_thermal_slowdown",), 65)
    monkeypatch.setattr(fake, "nvmlDeviceGetCurrentClocksThrottleReasons", not_supported)
    monkeypatch.setattr(fake, "nvmlDeviceGetTemperature", not_supported)
    (gpu,) = watch.read().gpus
    assert (gpu.throttle_reasons, gpu.temperature_c) == (None, None)


def test_the_bits_are_those_of_the_module() -> None:
    """Each name by its constant, in the new spelling and in the old; what throttles is among them."""
    for bit, name in nvml._REASONS.items():
        camel = name.title().replace("_", "")
        for prefix in ("nvmlClocksEventReason", "nvmlClocksThrottleReason"):
            assert getattr(REAL, prefix + camel, bit) == bit, name
        assert hasattr(REAL, f"nvmlClocksThrottleReason{camel}"), name
    assert set(THROTTLING) < set(nvml._REASONS.values())


@pytest.mark.parametrize(
    ("mask", "handles"),
    [
        (None, UUIDS),
        ("", ()),
        ("2,0", (UUIDS[2], UUIDS[0])),
        ("1, 7, 0", UUIDS[1:2]),
        ("-1", ()),
        (f"{UUIDS[1]},{UUIDS[0]}", (UUIDS[1], UUIDS[0])),
        (f"{UUIDS[1]},0", UUIDS[1:2]),
        ("1,1", ()),
        ("GPU-1b", ()),
        ("GPU-1b9", UUIDS[2:]),
        ("GPU-77,0", ()),
        ("nonsense", ()),
    ],
)
def test_only_the_visible_ones_are_read(
    fake: ModuleType, monkeypatch: pytest.MonkeyPatch, mask: str | None, handles: tuple[str, ...]
) -> None:
    """By number, UUID or the beginning of one; they are counted as the program counts them."""
    if mask is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    seen = nvml.visible_gpus(8)
    assert tuple(gpu.handle for gpu in seen) == handles
    assert [gpu.index for gpu in seen] == list(range(len(handles)))
    assert len(nvml.visible_gpus(1)) == min(1, len(handles))


def test_no_driver_no_gpus(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails to initialise, which is asked for once a process."""
    asked = []

    def fail() -> None:
        asked.append(1)
        raise REAL.NVMLError(REAL.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(fake, "nvmlInit", fail)
    assert Watch([], gpus=2).read().gpus == ()
    assert Watch([], gpus=2).read().gpus == ()
    assert len(asked) == 1


def test_without_gpus_nvml_is_left_alone(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case on the CPU does not initialise it."""
    monkeypatch.setattr(fake, "nvmlInit", lambda: pytest.fail("initialised"))
    assert Watch([], gpus=0).read().gpus == ()


SLICES = {UUIDS[1]: ("MIG-aaaa-1", "MIG-bbbb-2")}
GIB = 2**30


@pytest.fixture
def sliced(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The second of the three is cut into two slices, of which one has a name that is no UTF-8."""
    at = {f"{card} {place}": uuid for card, uuids in SLICES.items() for place, uuid in enumerate(uuids)}

    def handle(card: str, place: int) -> str:
        if f"{card} {place}" not in at:
            raise REAL.NVMLError(REAL.NVML_ERROR_NOT_FOUND)
        return at[f"{card} {place}"]

    def named(uuid: str) -> str:
        return b"\xff".decode() if uuid == "MIG-bbbb-2" else "NVIDIA H100 80GB HBM3 MIG 2g.20gb"

    for name, function in {
        "nvmlDeviceGetMaxMigDeviceCount": lambda card: 7 if card in SLICES else 0,
        "nvmlDeviceGetMigDeviceHandleByIndex": handle,
        "nvmlDeviceGetName": named,
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=20 * GIB),
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
    }.items():
        assert callable(getattr(REAL, name)), name
        monkeypatch.setattr(fake, name, function, raising=False)
    return fake


def test_slices_have_the_memory_that_is_theirs(sliced: ModuleType) -> None:
    """By their profile; one whose name cannot be read is left out."""
    assert nvml.slices() == (Slice(1, "2g.20gb", "MIG-aaaa-1", 20 * GIB),)


@pytest.mark.parametrize(
    ("mask", "handles"),
    [("MIG-bbbb-2", ("MIG-bbbb-2",)), ("1", ("MIG-aaaa-1",)), ("0", UUIDS[:1]), (None, ("MIG-aaaa-1",))],
)
def test_what_is_watched_of_a_sliced_card_is_the_slice(
    sliced: ModuleType, monkeypatch: pytest.MonkeyPatch, mask: str | None, handles: tuple[str, ...]
) -> None:
    """The card's clock, power and joules are not those of the process."""
    if mask is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    assert tuple(gpu.handle for gpu in nvml.visible_gpus(8)) == handles


def test_the_gpus_readings_end_a_pause(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 88 degrees hot and throttled, then cools by 4 degrees each 5 s: three readings."""
    slept: list[float] = []
    monkeypatch.setattr(heat, "sleep", slept.append)
    hot = REAL.nvmlClocksEventReasonHwThermalSlowdown
    monkeypatch.setattr(fake, "nvmlDeviceGetTemperatureV", lambda *_: 88 - 4 * len(slept))
    monkeypatch.setattr(fake, "nvmlDeviceGetCurrentClocksEventReasons", lambda _: 0 if slept else hot)
    watch = Watch([], gpus=1)
    throttled = heat.hottest([(watch.read(), watch.read())])
    assert throttled == {"GPU 0": 88}
    pause = heat.cool(throttled, watch.read, bool)
    assert slept == [heat.POLL_S] * 3
    assert (pause.cooled, pause.from_c, pause.to_c) == (True, 88, 76)
