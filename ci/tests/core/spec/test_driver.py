"""Which devices CUDA leaves a process, slices among them: recorded answers, and values by NVIDIA's manual."""

from __future__ import annotations

import pytest

from fixtures.core.spec import library
from fixtures.core.spec.case import HardwareSpec
from fixtures.core.spec.devices.driver import (
    Device,
    Slice,
    Visible,
    hides_all,
    messages,
    nominal_bytes,
    parse_listing,
    parse_nvidia,
    seen_by_cuda,
    shared,
)
from fixtures.core.spec.devices.machine import machine_of, why_not_this

MIB = 2**20
H100 = "NVIDIA H100 80GB HBM3"
NONE = "11111111-0000-0000-0000-000000000000"
SMALL, LARGE = "MIG-6b45d0a5-0a0b-5b0c-8d0e-0f1a2b3c4d5e", "MIG-7c56e1b6-1b1c-5c1d-9e1f-102b3c4d5e6f"
LISTING = f"""\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-{NONE})
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
  MIG 3g.40gb     Device  0: (UUID: {LARGE})
  MIG 1g.10gb+me  Device  1: (UUID: {SMALL})
"""
OLDER_LISTING = """\
GPU 0: A100-SXM4-40GB (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
  MIG 1g.5gb Device 0: (UUID: MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/7/0)
"""


def cards(*rows: str) -> tuple[Device, ...]:
    """What nvidia-smi says of them."""
    return parse_nvidia("\n".join(rows))


WHOLE = f"{H100}, 81559 MiB, 580.65, GPU-{NONE}, Disabled"
CUT = f"{H100}, 81559 MiB, 580.65, GPU-8932f937-d72c-4106-c12f-20bd9faed9f6, Enabled"
BOTH = cards(WHOLE, CUT)


def test_cards_say_whether_they_are_cut_into_slices() -> None:
    """Where the driver is asked for it; older drivers are not, and then it is not known."""
    assert [card.mig for card in BOTH] == [False, True]
    assert BOTH[0].uuid == f"GPU-{NONE}"
    (t4,) = cards("Tesla T4, 15360 MiB, 550.54.15, GPU-1, [N/A]")
    assert (t4.mig, t4.fault) == (False, None)
    (older,) = cards(f"{H100}, 81559 MiB, 580.65")
    assert (older.mig, older.uuid) == (None, None)


def test_a_listing_has_the_slices_of_each_card() -> None:
    """In the form of drivers since 470, and of those before."""
    uuids, slices = parse_listing(LISTING)
    assert uuids == {0: f"GPU-{NONE}", 1: "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"}
    assert [(one.card, one.profile, one.uuid) for one in slices] == [
        (1, "3g.40gb", LARGE), (1, "1g.10gb+me", SMALL),
    ]  # fmt: skip
    _, (older,) = parse_listing(OLDER_LISTING)
    assert (older.profile, older.uuid) == ("1g.5gb", "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/7/0")
    assert parse_listing(f"{H100}, 81559 MiB, 580.0") == ({}, ())


@pytest.mark.parametrize(
    ("profile", "mib"),
    [("1g.5gb", 4864), ("1g.10gb", 9728), ("3g.40gb", 40192), ("1g.18gb", 16384), ("1g.12gb", 11008)],
)
def test_the_name_of_a_profile_is_its_memory_to_a_twentieth(profile: str, mib: int) -> None:
    """As `nvidia-smi mig -lgip` prints them for A100, H200 and GH200."""
    assert nominal_bytes(profile) == pytest.approx(mib * MIB, rel=0.055)
    assert nominal_bytes("1c.3g.20gb") == 20 * 10**9
    assert nominal_bytes("all") is None


def test_a_slice_is_no_whole_card() -> None:
    """It has its own name and memory, and none of the card's peaks."""
    _, slices = parse_listing(LISTING)
    found = seen_by_cuda(BOTH, slices, SMALL)
    (device,) = found.devices
    assert (device.name, device.memory_bytes) == (f"{H100} MIG 1g.10gb+me", 10 * 10**9)
    assert found.notes == ("the memory of the MIG slice is rounded, as in its profile 1g.10gb+me",)
    machine = machine_of(found.devices, None)
    assert machine.label == "1xh100_80gb_hbm3_mig_1g_10gb_me"
    assert machine.hardware.peak_bf16_flops is machine.hardware.peak_bandwidth_bytes_per_s is None
    assert library.hardware("h100_80gb").peak_bf16_flops is not None


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (None, ["MIG 3g.40gb"]),
        ("1", ["MIG 3g.40gb"]),
        ("0", [""]),
        ("GPU-8932f937", ["MIG 3g.40gb"]),
        ("0,1", ["MIG 3g.40gb"]),
        (f"{SMALL},{LARGE}", ["MIG 1g.10gb+me"]),
        ("MIG-7c56", ["MIG 3g.40gb"]),
        ("-1", []),
    ],
)
def test_a_process_has_one_slice_and_beside_it_no_card(mask: str | None, names: list[str]) -> None:
    """As CUDA enumerates: the first slice of a card, however many there are; whole cards only without."""
    _, slices = parse_listing(LISTING)
    found = seen_by_cuda(BOTH, slices, mask)
    assert [device.name for device in found.devices] == [f"{H100} {name}".strip() for name in names]


def test_memory_that_nvml_tells_is_exact() -> None:
    """And nothing is to be said of it."""
    found = seen_by_cuda(BOTH, [Slice(1, "1g.10gb", SMALL, 9728 * MIB)], SMALL)
    assert found.devices[0].memory_bytes == 9728 * MIB
    assert found.notes == ()


@pytest.mark.parametrize(
    ("entry", "label"),
    [
        (SMALL, "1xh100_80gb_hbm3_mig_6b45d0a5"),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/7/0", "1xh100_80gb_hbm3_mig_gpu_8932f937_7_0"),
    ],
)
def test_a_slice_that_nothing_lists_is_named_after_itself(entry: str, label: str) -> None:
    """Its memory is not known, and no figure of the card stands for it."""
    found = seen_by_cuda(cards(f"{H100}, 81559 MiB, 580.0"), None, entry)
    machine = machine_of(found.devices, 64 * 2**30)
    assert machine.label == label
    assert machine.hardware.memory_bytes is machine.hardware.peak_bf16_flops is None
    assert found.notes == (
        f"{entry} is a MIG slice, and nvidia-smi -L lists no such slice: its profile and memory are unknown",
    )


def test_a_card_that_hides_its_memory_is_not_taken_for_a_whole_one() -> None:
    """A container that has a slice may not see it; one whose driver says that it is whole is."""
    hidden = "NVIDIA A100-SXM4-40GB, [Insufficient Permissions], 535.1"
    found = seen_by_cuda(cards(hidden), None, None)
    machine = machine_of(found.devices, None)
    assert machine.label == "1xa100_sxm4_40gb_mig"
    assert machine.hardware.memory_bytes is machine.hardware.peak_bf16_flops is None
    assert found.notes[0].startswith("GPU 0 is in MIG mode or hides its memory, and nvidia-smi -L lists no ")
    for row, slices in ((f"{hidden}, GPU-1, Disabled", None), (hidden, ())):
        assert machine_of(seen_by_cuda(cards(row), slices, None).devices, None).label == "1xa100_40gb"


def test_of_an_unlisted_slice_the_card_is_known_by_its_uuid_or_as_the_only_kind() -> None:
    """Else it is a GPU."""
    mixed = cards(WHOLE, "NVIDIA A100-SXM4-40GB, 40960 MiB, 580.65, GPU-22222222-1, Enabled")
    names = [seen_by_cuda(mixed, None, entry).devices[0].name for entry in ("MIG-GPU-22222222-1/1/0", SMALL)]
    assert names == ["NVIDIA A100-SXM4-40GB MIG-GPU-22222222/1/0", "GPU MIG-6b45d0a5"]


def test_a_slice_that_is_not_among_those_listed_is_refused() -> None:
    """CUDA would see no device, and the CPU would be measured."""
    found = seen_by_cuda(BOTH, parse_listing(LISTING)[1], "MIG-00000000")
    assert found.devices == ()
    assert found.fault == (
        "CUDA_VISIBLE_DEVICES=MIG-00000000 is not a MIG slice here; there are: "
        f"{LARGE} (3g.40gb), {SMALL} (1g.10gb+me)"
    )


def test_a_card_in_mig_mode_without_a_slice_cannot_be_used() -> None:
    """The others can."""
    assert seen_by_cuda(BOTH, (), "1").fault == (
        "GPU 1 is in MIG mode without a slice; make one (nvidia-smi mig -cgi PROFILE -C)"
    )
    assert seen_by_cuda(BOTH, (), None) == Visible(BOTH[:1])


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ("NVIDIA L4, [Unknown Error], 550.54.15", "[Unknown Error]"),
        ("[Unknown Error], [Unknown Error], [Unknown Error]", "[Unknown Error]"),
        ("NVIDIA L4, [GPU is lost], 550.54.15, [GPU is lost], [GPU is lost]", "[GPU is lost]"),
        ("[N/A], 23034 MiB, 550.54.15", "[N/A]"),
    ],
)
def test_a_card_of_which_the_driver_answers_with_an_error_is_a_fault(row: str, answer: str) -> None:
    """Where it is among those that are to be used."""
    two = cards("NVIDIA L4, 23034 MiB, 550.54.15", row)
    assert seen_by_cuda(two, (), None).fault == f"nvidia-smi answers {answer} for GPU 1; mend or hide it"
    assert seen_by_cuda(two, (), "0").devices == two[:1]


def test_a_mask_that_leaves_nothing_by_mistake_is_a_fault() -> None:
    """Whoever wants the CPU says so."""
    assert seen_by_cuda(BOTH, (), "7").fault == (
        "CUDA_VISIBLE_DEVICES=7 leaves none of the 2 GPUs; name each once, by number or UUID"
    )
    assert all(hides_all(mask) for mask in ("", " ", "-1", "-1,0", "NoDevFiles", "none", "void"))
    assert not any(hides_all(mask) for mask in (None, "0", "0,-1", "x", "all", "GPU-1", "-", SMALL))


def test_a_share_of_a_gpu_under_mps_is_no_whole_one() -> None:
    """Half its threads make half its FLOP/s; a limit on its memory is not the card's memory."""
    whole = Visible(BOTH[:1])
    half = shared(whole, {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"})
    assert machine_of(half.devices, None).label == "1xh100_80gb_hbm3_mps_50"
    assert half.devices[0].memory_bytes == 81559 * MIB
    assert half.notes[0].startswith("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=50: ")
    for percentage in ("100", "0", "", "all", "1000"):
        assert shared(whole, {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": percentage}) == whole
    limited = shared(whole, {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=2G"})
    assert machine_of(limited.devices, None).hardware.memory_bytes is None


@pytest.mark.parametrize(
    "name", ["GRID A100D-20C", "NVIDIA A100-40C", "NVIDIA L40S-48Q", "NVIDIA A100-1-5C", "GRID T4-8C"]
)
def test_a_virtual_gpu_is_no_whole_one(name: str) -> None:
    """It has its own name and memory, and no figures."""
    hardware = machine_of(cards(f"{name}, 20480 MiB, 535.54"), None).hardware
    assert hardware.name not in library.names("hardware")
    assert (hardware.memory_bytes, hardware.peak_bf16_flops) == (20480 * MIB, None)


T4, L4 = "NVIDIA T4, 15360 MiB, 535.1, GPU-4, [N/A]", "NVIDIA L4, 23034 MiB, 535.1, GPU-{}, [N/A]"


@pytest.mark.parametrize(
    ("mask", "order", "environment", "label"),
    [
        (None, None, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,2"}, "2xl4"),
        ("1", None, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "1xt4"),
        ("2,0", "PCI_BUS_ID", {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "2xl4"),
        ("GPU-4,GPU-1", "FASTEST_FIRST", {"CUDA_VISIBLE_DEVICES": "GPU-4"}, "1xt4"),
        ("GPU-9,GPU-1", None, {}, "2xl4"),
    ],
)
def test_gpus_of_several_kinds_are_counted_as_nvidia_smi_does(
    mask: str | None, order: str | None, environment: dict[str, str], label: str
) -> None:
    """And those of the first kind are all that CUDA has."""
    found = seen_by_cuda(cards(L4.format(1), T4, L4.format(9)), (), mask, order)
    assert found.environment == environment
    assert machine_of(found.devices, None).label == label


def test_gpus_of_several_kinds_that_cannot_be_told_apart_are_refused() -> None:
    """Whose numbers would be another's; GPUs of one kind are alike in any order."""
    mixed = cards(L4.format(1), T4)
    assert str(seen_by_cuda(mixed, (), "0", "FASTEST_FIRST").fault).startswith(
        "CUDA_DEVICE_ORDER=FASTEST_FIRST does not say which "
    )
    unknown = cards("NVIDIA L4, 23034 MiB, 535.1", "NVIDIA T4, 15360 MiB, 535.1")
    assert str(seen_by_cuda(unknown, (), "GPU-4").fault).startswith("nvidia-smi -L does not say which ")
    alike = cards(L4.format(1), L4.format(2))
    assert seen_by_cuda(alike, (), "1", "FASTEST_FIRST") == Visible(alike[1:])


@pytest.mark.parametrize(
    ("name", "reported", "is_this"),
    [
        ("h100_80gb", H100, True),
        ("h100_80gb", f"{H100} MIG 1g.10gb", False),
        ("h100_80gb", "NVIDIA L4", False),
        ("a100_40gb", "NVIDIA A100-PCIE-40GB", True),
    ],
)
def test_a_gpu_with_stated_figures_is_held_to_its_name(name: str, reported: str, is_this: bool) -> None:
    """By what torch says of it; one without figures has none to be wrong."""
    assert (why_not_this(library.hardware(name), reported) is None) is is_this
    assert why_not_this(HardwareSpec("h100_80gb_hbm3_mig_6b45d0a5", "gpu"), f"{H100} MIG 1g.10gb") is None


def test_what_a_driver_says_besides_is_kept() -> None:
    """A warning before the table, and a card that is missing in it."""
    lost = "Unable to determine the device handle for GPU0000:07:00.0: Unknown Error"
    assert messages(f"\nWARNING: infoROM is corrupted\n{H100}, 81559 MiB, 580.0\n{lost}\n") == [
        "WARNING: infoROM is corrupted", lost,
    ]  # fmt: skip
