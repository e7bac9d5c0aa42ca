"""The machine, as the drivers' own tools report it: real processes with recorded answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures import machine

A100 = "NVIDIA A100-SXM4-80GB, 81920 MiB, 535.104.05\n"
Tool = Callable[..., None]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tool]:
    """Puts a program of that name, which prints this text, where drivers' tools are looked for."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def put(name: str, text: str, code: int = 0) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {code}\n")
        path.chmod(0o755)

    def forget() -> None:
        for cached in (machine.detect, machine._devices):
            cached.cache_clear()

    forget()
    yield put
    forget()


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


def test_a_driver_that_fails_leaves_the_cpu(tool: Tool) -> None:
    """Whatever it prints, a tool that ends with an error knows of no device."""
    tool("nvidia-smi", A100, code=9)
    assert machine.detect().label == "1xcpu"
    assert machine.report()["driver"] is None


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
