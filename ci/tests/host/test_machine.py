"""The machine, as the drivers' own tools report it: real processes with recorded answers."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci.tests.conftest import write_suite
from fixtures.host import drivers, machine

pytest_plugins = ["pytester"]

A100 = "NVIDIA A100-SXM4-80GB, 81920 MiB, 535.104.05\n"
MASKS = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
)
Tool = Callable[..., None]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tool]:
    """Puts a program of that name, which prints this text, where drivers' tools are looked for.

    The kernel and the buses of this system show nothing.
    """
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(drivers, "_ROOT", tmp_path)
    for name in MASKS:
        monkeypatch.setenv(name, "")  # so that what a session sets is undone
        monkeypatch.delenv(name)

    def put(name: str, text: str | bytes, code: int = 0, errors: str = "") -> None:
        path = tmp_path / name
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(
            b"#!/bin/sh\ncat <<'END'\n" + data + f"END\necho '{errors}' >&2\nexit {code}\n".encode()
        )
        path.chmod(0o755)

    def forget() -> None:
        machine.detect.cache_clear()
        machine._visible.cache_clear()

    forget()
    yield put
    forget()


def seen(folder: Path, path: str, text: str = "") -> None:
    """Something that the kernel shows."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)


def test_four_gpus(tool: Tool) -> None:
    """Four of a kind, with the driver's version and the memory it reports."""
    tool("nvidia-smi", A100 * 4)
    here = machine.detect()
    assert here.label == "4xa100_80gb"
    assert here.hardware.memory_bytes == 81920 * 2**20
    report = machine.report()
    assert report["driver"] == "535.104.05"
    assert report["reported_name"] == "NVIDIA A100-SXM4-80GB"


@pytest.mark.parametrize(("mask", "label"), [("0", "1xa100_80gb"), ("1,3", "2xa100_80gb"), ("", "1xcpu")])
def test_only_the_visible_ones_count(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, mask: str, label: str
) -> None:
    """CUDA_VISIBLE_DEVICES hides the others, from torch as from here."""
    tool("nvidia-smi", A100 * 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    assert machine.detect().label == label


MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.129\n"
NO_DRIVER = "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.\n"
NO_DEVICES = "No devices were found\n"
REMEDY = "the GPUs here cannot be identified; fix the driver, or --hardware 1xcpu measures the CPU instead"


@pytest.mark.parametrize(
    ("text", "code", "fault"),
    [
        (MISMATCH, 18, f"nvidia-smi lists no GPU (exit code 18: {MISMATCH.splitlines()[0]}): {REMEDY}"),
        (A100, 15, f"nvidia-smi fails (exit code 15: {A100.strip()}): {REMEDY}"),
        ("Unknown Error\n", 0, f"nvidia-smi lists no GPU (exit code 0: Unknown Error): {REMEDY}"),
        ("", 255, f"nvidia-smi lists no GPU (exit code 255: it prints nothing): {REMEDY}"),
        (
            "A, [Unknown Error], 1\n",
            0,
            "nvidia-smi answers [Unknown Error] for GPU 0; mend or hide it, or "
            "--hardware 1xcpu measures the CPU instead",
        ),
    ],
)
def test_a_driver_that_fails_is_no_machine_without_a_gpu(
    tool: Tool, text: str, code: int, fault: str
) -> None:
    """One line says what it answers and what to do."""
    tool("nvidia-smi", text, code)
    assert machine.fault() == fault


@pytest.mark.parametrize(("text", "code"), [(NO_DRIVER, 9), (NO_DEVICES, 6), (NO_DEVICES, 0), ("", 0)])
@pytest.mark.parametrize(
    ("sign", "kind"),
    [
        ("", ""),
        ("dev/nvidia0", ""),
        ("proc/driver/nvidia/gpus/0000:3b:00.0", ""),
        ("sys/bus/pci/devices/0000:3b:00.0", "0x030200\n"),
        ("sys/bus/pci/devices/0000:3b:00.1", "0x040300\n"),
    ],
)
def test_no_device_is_a_cpu_where_the_system_shows_no_gpu_either(
    tool: Tool, tmp_path: Path, text: str, code: int, sign: str, kind: str
) -> None:
    """nvidia-smi may be there without a GPU; a sound device of NVIDIA's is none. It is said either way."""
    tool("nvidia-smi", text, code)
    if kind:
        seen(tmp_path, f"{sign}/class", kind)
        seen(tmp_path, f"{sign}/vendor", "0x10de\n")
    elif sign:
        seen(tmp_path, sign)
    if not sign or kind.startswith("0x04"):
        assert (machine.fault(), machine.detect().label) == (None, "1xcpu")
        (note,) = machine.notes()
        assert note.endswith("and the system has none: measuring the CPU")
    else:
        fault = machine.fault()
        assert fault is not None
        assert sign.rpartition("/")[2] in fault


def test_a_gpu_without_the_drivers_tool_is_a_fault(tool: Tool, tmp_path: Path) -> None:
    """As in a container that was given the device alone."""
    seen(tmp_path, "dev/nvidia0")
    assert machine.fault() == f"{tmp_path}/dev/nvidia0 exists but nvidia-smi does not: {REMEDY}"


def test_who_hides_the_gpus_measures_the_cpu_whatever_the_driver(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the mask, or by --hardware 1xcpu, which sets it for all processes of the session."""
    tool("nvidia-smi", MISMATCH, 18)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert (machine.fault(), machine.notes(), machine.detect().label) == (None, (), "1xcpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    machine._visible.cache_clear()
    assert machine.fault() is not None
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    machine.hide_gpus()
    assert (machine.fault(), machine.detect().label) == (None, "1xcpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == os.environ["HIP_VISIBLE_DEVICES"] == ""


def _runs(stat: Path) -> bool:
    """Whether the process of this file of /proc is there, and not over."""
    try:
        return ") Z " not in stat.read_text()
    except OSError:
        return False


def test_a_driver_that_does_not_answer_is_a_fault(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended, and what it has started too."""
    tool("nvidia-smi", A100)
    path = tmp_path / "nvidia-smi"
    path.write_text(path.read_text().replace("cat", f"sleep 60 & echo $! > {tmp_path}/pid; wait\ncat", 1))
    monkeypatch.setattr(drivers, "LIMIT_S", 0.5)
    started = time.monotonic()
    assert machine.fault() == f"nvidia-smi lists no GPU (it does not answer within 0.5 s): {REMEDY}"
    assert time.monotonic() - started < 5
    stat = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    while _runs(stat):  # the kernel ends it when it gets a core
        assert time.monotonic() - started < 30
        time.sleep(0.01)


def test_a_tool_that_cannot_be_started_is_a_fault(tool: Tool, tmp_path: Path) -> None:
    """Such as one for another processor."""
    (tmp_path / "nvidia-smi").write_bytes(b"\x7fELF nothing")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert "it cannot be started: Exec format error" in str(machine.fault())


def test_a_warning_is_passed_on_and_bytes_that_are_no_utf8_are_no_crash(tool: Tool) -> None:
    """14 is a corrupted infoROM: all else is told."""
    tool("nvidia-smi", b"WARNING: infoROM is corrupted at gpu 0\xe9\nNVIDIA L4\xff, 23034 MiB, 550.1\n", 14)
    here = machine.detect()
    assert (here.label, here.hardware.memory_bytes) == ("1xl4", 23034 * 2**20)
    assert here.hardware.peak_bf16_flops is None  # it is not known to be an L4
    assert machine.notes() == ("nvidia-smi says: WARNING: infoROM is corrupted at gpu 0\ufffd",)


def test_a_slice_is_found_in_the_drivers_listing(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that answers each question, as a driver before 450 that knows no slices."""
    listing = (
        "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-1)\n  MIG 1g.10gb     Device  0: (UUID: MIG-6b45d0a5-0a0b)\n"
    )
    tool("nvidia-smi", A100)
    path = Path(str(shutil.which("nvidia-smi")))
    path.write_text(
        '#!/bin/sh\ncase "$*" in *mig.mode*) echo invalid; exit 2;; esac\n'
        f"if [ \"$1\" = -L ]; then printf '{listing}'; else printf '{A100}'; fi\n"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-6b45d0a5-0a0b")
    assert machine.detect().label == "1xa100_sxm4_80gb_mig_1g_10gb"
    assert machine.report()["reported_name"] == "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
    assert machine.report()["memory_bytes"] == 10 * 10**9


def test_no_driver_is_a_cpu_with_its_memory(tool: Tool) -> None:
    """The memory is this machine's."""
    here = machine.detect()
    assert here.label == "1xcpu"
    total_kb = int(Path("/proc/meminfo").read_text().split()[1])
    assert here.hardware.memory_bytes == pytest.approx(total_kb * 1024, rel=0.02)


AMD = (
    '{"card0": {"VRAM Total Memory (B)": "206141652992", "Card Series": "AMD Instinct MI300X OAM"},'
    ' "system": {"Driver version": "6.8.5"}}\n'
)


def test_an_amd_gpu_is_asked_for_json(tool: Tool, tmp_path: Path) -> None:
    """The CSV of rocm-smi leaves the cards out beside the driver's version, so JSON is asked for."""
    tool("rocm-smi", AMD)
    path = tmp_path / "rocm-smi"
    path.write_text(path.read_text().replace("cat", 'case "$*" in *--json*) ;; *) exit 2 ;; esac\ncat', 1))
    assert machine.detect().label == "1xmi300x"
    assert machine.report()["driver"] == "6.8.5"


@pytest.mark.parametrize(
    ("name", "mask", "label"),
    [
        ("HIP_VISIBLE_DEVICES", "-1", "1xcpu"),
        ("ROCR_VISIBLE_DEVICES", "", "1xcpu"),
        ("CUDA_VISIBLE_DEVICES", "0", "1xmi300x"),
        ("HIP_VISIBLE_DEVICES", "0", "1xmi300x"),
    ],
)
def test_masks_of_amd(tool: Tool, monkeypatch: pytest.MonkeyPatch, name: str, mask: str, label: str) -> None:
    """ROCR's comes before HIP's, which CUDA's stands for."""
    tool("rocm-smi", AMD)
    monkeypatch.setenv(name, mask)
    assert machine.detect().label == label


def test_a_session_ends_for_a_driver_that_fails_unless_the_cpu_is_asked_for(
    tool: Tool, project: pytest.Pytester
) -> None:
    """One line and exit code 4; another machine can be listed all the same."""
    tool("nvidia-smi", MISMATCH, 18)
    suite = ["benchmarks", "--collect-only", "-q", "--suite", write_suite(project.path, "m")]
    result = project.runpytest(*suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [f"ERROR: {machine.fault()}"]
    other = project.runpytest(*suite, "--hardware", "1xl4")
    other.stdout.fnmatch_lines(["*m-1xl4-hf-b1-in4-out2*"])
    cpu = project.runpytest(*suite, "--hardware", "1xcpu")
    cpu.stdout.fnmatch_lines(["*m-1xcpu-hf-b1-in4-out2*"])


def test_what_a_driver_says_stands_above_the_cases(tool: Tool, project: pytest.Pytester) -> None:
    """A machine without a GPU says why the CPU is measured."""
    tool("nvidia-smi", NO_DRIVER, 9)
    result = project.runpytest("benchmarks", "--collect-only", "--suite", write_suite(project.path, "m"))
    result.stdout.fnmatch_lines(["warning: nvidia-smi lists no GPU (exit code 9: NVIDIA-SMI has failed *"])


def test_more_gpus_than_are_visible_are_said_to_be_missing(
    tool: Tool, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of four here; others among them are not taken for such GPUs."""
    tool("nvidia-smi", A100 * 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    arguments = ["benchmarks", "--suite", write_suite(project.path, "m", hardware=["4xgpu"])]
    said = "4xa100_80gb needs 4 such GPUs, and 2 are visible of 4 (CUDA_VISIBLE_DEVICES=0,1)"
    result = project.runpytest(*arguments, "--collect-only", "-q", "-k", "4xa100_80gb")
    result.stdout.fnmatch_lines([f"nothing to run: *; {said}; it would run on 4xa100_80gb *"])
    result = project.runpytest(*arguments, "--benchmark-only", "--hardware", "4xa100_80gb")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --hardware 4xa100_80gb: {said}, so its cases can only *"])
    tool("nvidia-smi", A100 * 2 + "NVIDIA L4, 23034 MiB, 535.1\n" * 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    machine.detect.cache_clear()
    machine._visible.cache_clear()
    assert machine.shortage(4) == (
        "4xa100_80gb needs 4 such GPUs, and 2 are visible beside others (NVIDIA L4)"
    )


def test_of_several_kinds_the_first_is_all_that_cuda_has(tool: Tool) -> None:
    """Counted as nvidia-smi counts; else the fastest came first, under another's name."""
    tool("nvidia-smi", "NVIDIA T4, 15360 MiB, 535.1\n" + A100 + "NVIDIA T4, 15360 MiB, 535.1\n")
    assert machine.detect().label == "2xt4"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,2"
    (note,) = machine.notes()
    assert note.endswith("choose NVIDIA A100-SXM4-80GB with CUDA_VISIBLE_DEVICES")


def test_amds_driver_that_fails_is_a_fault_where_the_kernel_shows_one(tool: Tool, tmp_path: Path) -> None:
    """Without the tool it is said: not every machine with /dev/kfd has a GPU that computes."""
    seen(tmp_path, "dev/kfd")
    assert machine.notes()[0].startswith(f"{tmp_path}/dev/kfd exists but rocm-smi does not")
    machine._visible.cache_clear()
    tool("rocm-smi", "ERROR: no driver\n", 1)
    assert machine.fault() == (
        "rocm-smi fails (exit code 1: ERROR: no driver); fix the driver, or "
        "--hardware 1xcpu measures the CPU instead"
    )
