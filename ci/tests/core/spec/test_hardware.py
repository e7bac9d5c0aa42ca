"""What drivers report -> the machine; the reports are recorded ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.base.errors import InputError
from fixtures.core.spec import library
from fixtures.core.spec.case import HardwareSpec
from fixtures.core.spec.devices.driver import Device, parse_amd, parse_nvidia, visible
from fixtures.core.spec.devices.machine import Machine, machine_of, parse_cpuinfo, parse_machine

FUZZ = settings(deadline=None, derandomize=True, max_examples=80)
MIB = 1024 * 1024

# nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
A100_80 = "NVIDIA A100-SXM4-80GB, 81920 MiB, 535.129.03"
A100_40 = "NVIDIA A100-SXM4-40GB, 40960 MiB, 535.129.03"
A100_40_PCIE = "NVIDIA A100-PCIE-40GB, 40960 MiB, 525.60.13"
H100 = "NVIDIA H100 80GB HBM3, 81559 MiB, 580.159.04"
H200 = "NVIDIA H200, 143771 MiB, 580.159.03"
L4 = "NVIDIA L4, 23034 MiB, 550.54.15"
A10G = "NVIDIA A10G, 23028 MiB, 550.54.15"
P4 = "NVIDIA P4, 7680 MiB, 550.54.15"
FAILED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n"
)


@pytest.mark.parametrize(
    ("line", "name", "mib", "driver", "label"),
    [
        (A100_80, "NVIDIA A100-SXM4-80GB", 81920, "535.129.03", "1xa100_80gb"),
        (A100_40, "NVIDIA A100-SXM4-40GB", 40960, "535.129.03", "1xa100_40gb"),
        (A100_40_PCIE, "NVIDIA A100-PCIE-40GB", 40960, "525.60.13", "1xa100_40gb"),
        (H100, "NVIDIA H100 80GB HBM3", 81559, "580.159.04", "1xh100_80gb"),
        (H200, "NVIDIA H200", 143771, "580.159.03", "1xh200_141gb"),
        (L4, "NVIDIA L4", 23034, "550.54.15", "1xl4"),
        (A10G, "NVIDIA A10G", 23028, "550.54.15", "1xa10g"),
    ],
)
def test_a_device_of_the_library_is_known_by_what_its_driver_reports(
    line: str, name: str, mib: int, driver: str, label: str
) -> None:
    """With its figures."""
    devices = parse_nvidia(line + "\n")
    assert devices == (Device(name, mib * MIB, driver),)
    machine = machine_of(devices, None)
    assert machine.label == label
    assert machine.hardware == library.hardware(label[2:])


def test_a_device_that_the_library_has_not_is_named_after_its_report() -> None:
    """It has the memory that it reports, and no other figures."""
    machine = machine_of(parse_nvidia(P4), None)
    assert machine == Machine(HardwareSpec("p4", "gpu", memory_bytes=7680 * MIB), 1)
    assert machine_of([Device("Tesla V100-SXM2-32GB", None, None)], 7) == Machine(
        HardwareSpec("tesla_v100_sxm2_32gb", "gpu"), 1
    )


def test_eight_devices_of_which_three_are_others_are_five_of_the_first_kind() -> None:
    """A case runs on devices of one kind."""
    devices = parse_nvidia("\n".join([A100_80, A100_80, P4, A100_80, L4, A100_80, P4, A100_80]))
    assert len(devices) == 8
    assert machine_of(devices, None).label == "5xa100_80gb"
    assert machine_of(devices[2:], None).label == "2xp4"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        FAILED,
        "No devices were found\n",
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.129",
        "name, memory.total [MiB], driver_version",
        "NVIDIA L4, 23034 MiB",
        ", 23034 MiB, 550.54.15",
        "NVIDIA L4, 23034, 550.54.15",
        "NVIDIA L4, 23034 MiB, 550.54.15, more",
    ],
)
def test_text_that_is_no_list_of_devices_has_none(text: str) -> None:
    """So that the machine is its CPU."""
    assert parse_nvidia(text) == ()
    assert machine_of(parse_nvidia(text), 64 * 2**30) == Machine(
        HardwareSpec("cpu", "cpu", memory_bytes=64 * 2**30), 1
    )


def test_a_warning_among_the_devices_is_no_device() -> None:
    """The others count."""
    text = f"WARNING: infoROM is corrupted at gpu 0000:00:1E.0\n{L4}\n{L4}\n"
    assert machine_of(parse_nvidia(text), None).label == "2xl4"


@pytest.mark.parametrize("memory", ["[N/A]", "[Not Supported]"])
def test_a_device_that_does_not_report_its_memory_has_that_of_the_library(memory: str) -> None:
    """As those that share it with the CPU."""
    devices = parse_nvidia(f"NVIDIA H200, {memory}, 580.159.03")
    assert devices == (Device("NVIDIA H200", None, "580.159.03"),)
    assert machine_of(devices, None).hardware == library.hardware("h200_141gb")


def test_the_memory_of_this_very_device_counts_rather_than_the_librarys() -> None:
    """A part of it may be set aside; the other figures stay."""
    spec = machine_of([Device("nvidia h200", 1000, None)], None).hardware
    assert (spec.name, spec.memory_bytes) == ("h200_141gb", 1000)
    assert spec.peak_bf16_flops == library.hardware("h200_141gb").peak_bf16_flops
    assert spec.peak_bandwidth_bytes_per_s == 4.8e12
    assert spec.reported_names == ("NVIDIA H200",)


def mi300x(series: str = "Card Series", name: str = "AMD Instinct MI300X OAM") -> dict[str, str]:
    """One card as rocm-smi's JSON has it."""
    return {
        "VRAM Total Memory (B)": "206141652992",
        "VRAM Total Used Memory (B)": "297713664",
        series: name,
        "Card Model": "0x74a1",
        "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
        "Card SKU": "M3000100",
        "Subsystem ID": "0x74a1",
        "Device Rev": "0x00",
        "Node ID": "2",
        "GUID": "28851",
        "GFX Version": "gfx942",
    }


SYSTEM = {"system": {"Driver version": "6.8.5"}}


@pytest.mark.parametrize("series", ["Card Series", "Card series"])
@pytest.mark.parametrize("name", ["AMD Instinct MI300X OAM", "AMD Instinct MI300X"])
def test_amds_devices_are_known_by_the_series_of_their_cards(series: str, name: str) -> None:
    """As newer and older versions of rocm-smi write it; the driver is the system's."""
    cards = {f"card{index}": mi300x(series, name) for index in range(8)}
    devices = parse_amd(json.dumps(cards | SYSTEM) + "\n")
    assert devices == (Device(name, 206141652992, "6.8.5"),) * 8
    machine = machine_of(devices, None)
    assert machine.label == "8xmi300x"
    assert machine.hardware == library.hardware("mi300x")


def test_a_warning_before_amds_report_is_passed_over() -> None:
    """Idle cards say that they are."""
    warning = "WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status\n\n"
    report = json.dumps({"card0": mi300x(), "card1": mi300x()} | SYSTEM)
    assert machine_of(parse_amd(warning + report), None).label == "2xmi300x"


def test_an_amd_device_that_the_library_has_not_is_named_after_its_report() -> None:
    """Without a driver's version, and without memory where that is no number."""
    card = mi300x(name="AMD Instinct MI250X") | {"VRAM Total Memory (B)": "N/A"}
    (device,) = parse_amd(json.dumps({"card0": card}))
    assert device == Device("AMD Instinct MI250X", None, None)
    assert machine_of([device], None) == Machine(HardwareSpec("instinct_mi250x", "gpu"), 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{",
        "ERROR: No DRM devices available. Exiting",
        "device,Driver version\nsystem,6.8.5\n",
        json.dumps(SYSTEM),
        json.dumps({"gpu0": mi300x()} | SYSTEM),
        json.dumps({"card0": mi300x(name="N/A")} | SYSTEM),
        json.dumps({"card0": {"Card Model": "0x74a1"}} | SYSTEM),
        json.dumps({"card0": "AMD Instinct MI300X", "system": None}),
    ],
)
def test_a_report_of_amd_without_a_card_that_has_a_name_has_no_devices(text: str) -> None:
    """What rocm-smi prints for --showdriverversion --csv is among them."""
    assert parse_amd(text) == ()


FOUR = tuple(Device(name, 1, None) for name in "abcd")


@pytest.mark.parametrize(
    ("mask", "left"),
    [
        (None, "abcd"),
        ("", ""),
        ("0", "a"),
        ("1,0", "ba"),
        (" 3 , 2 ", "dc"),
        ("-1", ""),
        ("0,-1,1", "a"),
        ("4", ""),
        ("2,9,1", "c"),
        ("x", ""),
        ("0,,1", "a"),
        ("\u00b2", ""),
        ("\u0661", ""),
        ("1,1", ""),
        ("0,1,0", ""),
        ("+2,1gpu2", "cb"),
        ("99999999999999999999", ""),
        ("NoDevFiles", ""),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "a"),
        ("GPU-8932f937,GPU-a1b2c3d4", "ab"),
        ("GPU-1,0", "a"),
        ("1,GPU-1", "b"),
        ("GPU-1,GPU-2,GPU-3,GPU-4,GPU-5", "abcd"),
    ],
)
def test_a_mask_leaves_the_devices_that_cuda_would_leave(mask: str | None, left: str) -> None:
    """In its order, up to the first entry that is none."""
    assert "".join(device.name for device in visible(FOUR, mask)) == left


def test_a_mask_that_leaves_nothing_leaves_the_cpu() -> None:
    """As CUDA_VISIBLE_DEVICES= is used."""
    devices = visible(parse_nvidia(f"{A100_80}\n{A100_80}"), "")
    assert machine_of(devices, 5).label == "1xcpu"
    assert machine_of(visible(parse_nvidia(f"{A100_80}\n{L4}"), "1"), 5).label == "1xl4"


@FUZZ
@given(st.text(), st.text())
def test_no_report_and_no_mask_breaks_the_detection(text: str, mask: str) -> None:
    """It becomes some machine."""
    for devices in (parse_nvidia(text), parse_nvidia(f"{text}, 1 MiB, {mask}"), parse_amd("{" + text)):
        assert machine_of(visible(devices, mask), None).devices >= 1


@FUZZ
@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda j: st.dictionaries(st.text(), j)))
def test_no_json_breaks_the_detection(part: object) -> None:
    """Whatever a card says."""
    for report in ({"card0": part}, {"card0": {"Card Series": part, "VRAM Total Memory (B)": part}}):
        assert len(parse_amd(json.dumps(report | {"system": part}))) <= 1


def test_a_machine_that_is_not_here_is_named_by_number_and_device() -> None:
    """As in a case's id."""
    assert parse_machine("4xa100_80gb") == Machine(library.hardware("a100_80gb"), 4)
    assert parse_machine("16xcpu").label == "16xcpu"


@pytest.mark.parametrize(
    "label", ["a100_80gb", "0xcpu", "01xcpu", "4x", "4xA100", "4xcpu\n", "-1xcpu", "\u0661xcpu", ""]
)
def test_a_label_of_another_form_is_refused_with_an_example(label: str) -> None:
    """In one line."""
    with pytest.raises(InputError) as caught:
        parse_machine(label)
    shown = label.replace("\n", "\\n")
    assert str(caught.value) == f"--hardware {shown}: write {{n}}x{{device}}, such as 4xa100_80gb"


def test_a_label_of_an_unknown_device_is_refused_with_the_nearest_one() -> None:
    """`gpu` and `any` are no devices."""
    with pytest.raises(InputError) as caught:
        parse_machine("2xa10_80gb")
    assert str(caught.value).startswith(
        "--hardware 2xa10_80gb: no device is named 'a10_80gb'; did you mean 'a100_80gb'? known: a100_40gb, "
    )
    with pytest.raises(InputError, match="no device is named 'gpu'"):
        parse_machine("1xgpu")


def test_the_machine_that_is_here_can_be_named_though_the_library_has_it_not() -> None:
    """A slice of a GPU, say."""
    here = HardwareSpec("h100_80gb_hbm3_mig_1g_10gb", "gpu")
    assert parse_machine("1xh100_80gb_hbm3_mig_1g_10gb", here) == Machine(here, 1)
    with pytest.raises(InputError, match="no device is named"):
        parse_machine("1xh100_80gb_hbm3_mig_2g_20gb", here)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\n"
            "processor\t: 1\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: another\n",
            "AMD EPYC (family 25, model 17)",
        ),
        (
            "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n",
            "aarch64 (implementer 0x41, part 0xd0c)",
        ),
        ("", "aarch64"),
        ("model name: x: y", "x: y"),
    ],
)
def test_processors_of_one_brand_are_told_apart(text: str, name: str) -> None:
    """A virtual machine may say "AMD EPYC" of each of them; one with AVX-512 is twice as fast."""
    assert parse_cpuinfo(text, "aarch64") == (name, None)
