"""What a CPU can do by its flags: against processors whose makers state it, and what is said of a peak."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.core.spec.devices.machine import parse_cpuinfo
from fixtures.core.spec.devices.processor import ceiling, instructions, lowered, multiplies, named

# of /proc/cpuinfo, as far as arithmetic goes
BASE = "fpu sse sse2 ssse3 sse4_1 sse4_2 avx f16c"
MILAN = f"{BASE} fma avx2"
SKYLAKE = f"{MILAN} avx512f avx512dq avx512cd avx512bw avx512vl"
GENOA = f"{SKYLAKE} avx512_bf16 avx512_vnni"
SAPPHIRE_RAPIDS = f"{GENOA} avx512_fp16 amx_bf16 amx_tile amx_int8"
ALTRA = "fp asimd evtstrm aes atomics fphp asimdhp cpuid asimdrdm"
GRAVITON3 = f"{ALTRA} sve i8mm bf16 svebf16"


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("fpu sse sse2", "SSE"),
        (BASE, "AVX"),
        (f"{BASE} avx2", "AVX"),  # a hypervisor that hides fma
        (MILAN, "AVX2"),
        (SKYLAKE, "AVX-512"),
        (f"{MILAN} avx512f avx512cd avx512er avx512pf", "AVX2"),  # Knights Landing: torch takes AVX2 there
        (GENOA, "AVX-512 bf16"),
        (f"{MILAN} avx512_bf16", "AVX2"),  # AVX-512 is hidden in part
        (SAPPHIRE_RAPIDS, "AMX bf16 fp16"),
        (SAPPHIRE_RAPIDS.replace("amx_tile", ""), "AVX-512 bf16 fp16"),
        ("fp asimd evtstrm", "NEON"),
        (ALTRA, "NEON fp16"),
        (GRAVITON3, "SVE bf16 fp16"),
        ("rv64imafdcv", None),
        ("", None),
    ],
)
def test_instructions_are_the_widest_that_can_be_used(flags: str, name: str | None) -> None:
    """And the 16-bit dtypes that they multiply."""
    assert instructions(flags.split()) == name


@pytest.mark.parametrize(
    ("flags", "dtypes", "cores", "clock_hz", "tera"),
    [
        # EPYC 7763: AMD states 2.51 TFLOP/s in fp64 at 2.45 GHz, and fp32 is twice that
        (MILAN, ["float32"], 64, 2.45e9, 5.02),
        (MILAN, ["bfloat16", "float32"], 64, 2.45e9, 5.02),  # emulated in fp32
        # Xeon Platinum 8380: 40 cores x 2 units x 16 lanes x 2 FLOPs x 2.3 GHz
        (SKYLAKE, ["bfloat16", "float32"], 40, 2.3e9, 5.89),
        # EPYC 9655, Zen 5: 96 cores x 2 units x 16 lanes x 2 pairs x 2 FLOPs x 2.6 GHz
        (GENOA, ["bfloat16", "float32"], 96, 2.6e9, 31.9),
        (GENOA, ["float16", "float32"], 96, 2.6e9, 16.0),
        # Xeon Platinum 8480+: Intel states 2048 int8 operations a cycle and core, and half of it in bf16
        (SAPPHIRE_RAPIDS, ["bfloat16", "float32"], 56, 2.0e9, 115.0),
        (SAPPHIRE_RAPIDS, ["float32"], 56, 2.0e9, 7.17),
        # A64FX of Fugaku: Fujitsu states 6.76 TFLOP/s in fp32 at 2.2 GHz
        ("fp asimd sve", ["float32"], 48, 2.2e9, 6.76),
        # two hidden cores of a virtual machine: no core has a higher clock than 6.2 GHz
        (MILAN, ["bfloat16", "float32"], 2, None, 0.397),
    ],
)
def test_the_ceiling_is_that_of_the_arithmetic_units(
    flags: str, dtypes: list[str], cores: int, clock_hz: float | None, tera: float
) -> None:
    """Of processors whose makers state it."""
    found = ceiling(instructions(flags.split()), dtypes, cores, clock_hz)
    assert found is not None
    assert found.flops_per_s / 1e12 == pytest.approx(tera, rel=5e-3)


def test_without_instructions_or_cores_there_is_no_ceiling() -> None:
    """As of RISC-V, POWER and macOS."""
    assert ceiling(None, ["float32"], 2) is None
    assert ceiling("vector", ["float32"], 2) is None
    assert ceiling("AVX2", ["float32"], None) is None


def test_a_peak_that_the_units_cannot_make_is_said_in_one_line() -> None:
    """Two cores of AVX2 make 397 GFLOP/s at the most, and 3.2 would be a tenth of a slow core's quarter."""
    two = ceiling("AVX2", ["float32"], 2)
    assert two is not None
    assert [two.doubt(x) for x in (1.7e9, 1e11, 4e11, 4.1e11)] == [None] * 4  # 5 % is the measurement's error
    assert two.doubt(4.3e11) == (
        "the measured peak of 430 GFLOP/s is above what 2 cores can do: 32 FLOPs a cycle at 6.2 GHz, the "
        "highest clock of any, are 397"
    )
    assert two.doubt(1.5e9) == (
        "the measured peak of 1.5 GFLOP/s is far below what 2 cores can do, 32 FLOPs a cycle each: they are "
        "busy, held back by a quota, or their instructions are not used"
    )
    known = ceiling("AVX2", ["float32"], 1, 3.0e9)
    assert known is not None
    assert "32 FLOPs a cycle at 3 GHz, its highest clock, are 96" in str(known.doubt(1.2e11))


def test_threads_that_are_not_used_make_nothing() -> None:
    """One of 64 threads: 50 GFLOP/s are no doubt; all of them ought to make more than ten cores do."""
    many = ceiling("AVX-512", ["float32"], 64)
    assert many is not None
    assert many.doubt(5e10, threads=1) is None
    assert "64 cores" in str(many.doubt(5e10, threads=64))
    assert "64 cores" in str(many.doubt(5e10, threads=128))
    assert "above what 64 cores can do" in str(many.doubt(1e14, threads=1))


@given(flops=st.floats(1e6, 1e16), cores=st.integers(1, 512), threads=st.none() | st.integers(1, 1024))
def test_a_doubt_is_one_line(flops: float, cores: int, threads: int | None) -> None:
    """Whatever the figures; what lies between a fifth of the ceiling and it is never doubted."""
    found = ceiling("AMX bf16", ["bfloat16"], cores)
    assert found is not None
    said = found.doubt(flops, threads)
    assert said is None or "\n" not in said
    assert found.doubt(found.flops_per_s * 0.2, threads) is found.doubt(found.flops_per_s, threads) is None


@pytest.mark.parametrize(
    ("environment", "kind", "told"),
    [
        ({}, "AVX2", []),
        ({"ATEN_CPU_CAPABILITY": "default"}, "AVX2", ["ATen default"]),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, "AVX2", []),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, "AVX-512 bf16", ["ATen avx2"]),
        ({"ATEN_CPU_CAPABILITY": "avx512"}, "AMX bf16", []),
        ({"ATEN_CPU_CAPABILITY": "AVX2"}, "AVX-512", []),  # torch takes no other way of writing it
        ({"ATEN_CPU_CAPABILITY": ""}, "AVX2", []),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, "AMX bf16", ["oneDNN avx2"]),
        ({"DNNL_MAX_CPU_ISA": "avx512_core"}, "AMX bf16", ["oneDNN avx512_core"]),
        ({"ONEDNN_MAX_CPU_ISA": "ALL"}, "AMX bf16", []),
        ({"ONEDNN_MAX_CPU_ISA": "\x1b[31m"}, "AMX bf16", []),
        ({"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, "AVX2", ["MKL sse4_2"]),
    ],
)  # fmt: skip
def test_libraries_that_are_told_to_use_less_make_another_machine(
    environment: dict[str, str], kind: str, told: list[str]
) -> None:
    """Each by the variable that it reads."""
    assert lowered(environment, kind) == told


def test_an_emulated_dtype_is_one_without_instructions() -> None:
    """Whatever libraries are told; fp32 is never emulated."""
    assert [multiplies(kind, "bfloat16") for kind in ("AVX2", "AVX-512", "NEON fp16", "")] == [False] * 4
    assert [multiplies(kind, "bfloat16") for kind in ("AVX-512 bf16", "SVE bf16 fp16")] == [True] * 2
    assert not multiplies("AVX-512 bf16", "float16")
    assert multiplies("AMX bf16 fp16, oneDNN avx2", "float16")
    assert not multiplies("AVX2, oneDNN bf16", "bfloat16")
    assert multiplies("", "float32")


def test_processors_of_one_name_are_told_by_their_instructions() -> None:
    """A hypervisor that hides AVX-512 makes another processor of it."""
    head = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: "
    found = [parse_cpuinfo(head + flags, "x86_64") for flags in (MILAN, GENOA)]
    assert found == [("AMD EPYC (family 25, model 17)", kind) for kind in ("AVX2", "AVX-512 bf16")]
    assert parse_cpuinfo(f"Features\t: {ALTRA}\nCPU implementer\t: 0x41", "aarch64") == (
        "aarch64 (implementer 0x41)",
        "NEON fp16",
    )
    assert named("AMD EPYC (model 17)", ["AVX2", "ATen default"]) == "AMD EPYC (model 17, AVX2, ATen default)"
    assert named("arm", ["NEON"]) == "arm (NEON)"
    assert named("arm", []) == "arm"
