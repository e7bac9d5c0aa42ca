"""The row of an engine is true: its module, its yaml, what it imports; and what follows from it."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from ci.gate.fingerprint import difference, fingerprint
from ci.tests.conftest import ROOT
from ci.tests.records import recorded
from fixtures.core.base.errors import InputError
from fixtures.core.base.node import as_node
from fixtures.core.spec import library, tried
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.engine_kinds import CXX, KINDS, OPTIONS, installed_version, libraries, libraries_of
from fixtures.engines import has_processes, why_not
from fixtures.host.versions import versions

# packages of which the version changes no time: this one reads weights before any is taken
UNTIMED = {"safetensors"}
TORCH = installed_version("torch") or ""


def imported(file: Path, seen: set[Path] | None = None) -> set[str]:
    """The packages that a module imports, anywhere in it, and those of the engines' modules that it uses."""
    seen = set() if seen is None else seen
    found: set[str] = set()
    if file in seen or not file.is_file():
        return found
    seen.add(file)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith("fixtures.engines."):
                found |= imported(file_of(name), seen)
            else:
                found.add(name.partition(".")[0])
    return found - sys.stdlib_module_names - {"fixtures"}


def file_of(module: str) -> Path:
    """Of a module of this project."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_names_the_packages_that_its_module_imports(kind: str) -> None:
    """Neither fewer nor more: what is missing here is skipped too late, and two versions of it look alike."""
    row = KINDS[kind]
    module, _, name = row.opens.partition(":")
    assert re.search(rf"^(class |def |){name}\b", file_of(module).read_text(encoding="utf-8"), re.M)
    assert {*row.needs, *row.needs_on_gpu} == imported(file_of(module))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_names_the_libraries_whose_versions_count(kind: str) -> None:
    """Every package that it imports is of one of them."""
    of_package = packages_distributions()
    row = KINDS[kind]
    needs = {*row.needs, *row.needs_on_gpu} - UNTIMED
    due = {one for name in needs for one in of_package.get(name, [name])}
    assert set(row.libraries) == due


def test_a_package_that_is_imported_within_a_function_is_found(tmp_path: Path) -> None:
    """By an engine that imports what it needs where it loads, and a part of a package."""
    file = tmp_path / "own.py"
    file.write_text(
        "import json\nimport torch.nn\n\n\ndef load():\n    from own_kernels import run\n    run()\n"
    )
    assert imported(file) == {"torch", "own_kernels"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_a_yaml_of_its_name(kind: str) -> None:
    """What a suite names."""
    assert library.read_engine(None, library.find("engines", as_node(kind, ""))).kind == kind


def test_a_record_has_the_versions_of_all_kinds_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in the order of the rows; and those of what runs the tests."""
    assert {"torch", "transformers", "deepspeed", "pytest", "pytest-benchmark"} <= versions().keys()
    assert tuple(versions()) == (*libraries(), "pytest", "pytest-benchmark")
    monkeypatch.setitem(KINDS, "own", replace(KINDS["hf"], libraries=("torch", "own-kernels"), uses=()))
    assert libraries()[-1] == "own-kernels"
    assert libraries().count("torch") == 1
    assert libraries_of("own") == ("torch", "own-kernels")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("hf", {"torch", "transformers"}),
        ("hf_tp", {"torch", "transformers"}),
        ("deepspeed", {"torch", "transformers", "deepspeed"}),
        ("deepspeed_kernels", {"torch", "transformers", "deepspeed"}),
        ("own", {"torch", "own-kernels"}),
        ("of_a_later_version", {"torch", "transformers", "deepspeed", "own-kernels"}),  # any may count
    ],
)
def test_the_gate_tells_versions_of_an_engines_own_libraries_apart(
    kind: str, told: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And of no other: a record has the versions of all; of a kind without a row, any may count."""
    monkeypatch.setitem(KINDS, "own", replace(KINDS["hf"], libraries=("torch", "own-kernels")))
    names = ("torch", "transformers", "deepspeed", "own-kernels", "pytest", "pytest-benchmark")
    same = dict.fromkeys(names, "1")
    ours = recorded(case={"id": "x", "engine": {"kind": kind}}, versions=same)
    apart = set()
    for name in names:
        theirs = changed(ours, versions={**same, name: "2"})
        if difference(fingerprint(ours), fingerprint(theirs)) is not None:
            apart.add(name)
    assert apart == told


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ({"kind": "hf", "attention": "flash"}, {"flash-attn", "mamba-ssm"}),
        ({"kind": "hf_tp", "attention": "flash"}, {"flash-attn", "mamba-ssm"}),
        ({"kind": "hf", "attention": "sdpa"}, {"mamba-ssm"}),
        ({"kind": "hf_int8", "attention": "auto"}, {"mamba-ssm", "torchao"}),
        ({"kind": "hf_int8_compiled"}, {"c++", "torchao", "triton"}),
        ({"kind": "hf_compiled", "attention": "flash"}, {"c++", "flash-attn", "triton"}),
        ({"kind": "vllm"}, {"c++", "triton"}),
        ({"kind": "deepspeed"}, {"c++", "mamba-ssm"}),
        ({"kind": "llamacpp_bf16"}, set()),
        ({"kind": "hf_paged"}, set()),
    ],
)
def test_the_gate_tells_what_an_engine_takes_beside_its_own_libraries(
    engine: dict[str, str], told: set[str]
) -> None:
    """Attention's own library, kernels of recurrent layers, compilers: each only where it is taken."""
    names = ("c++", "flash-attn", "mamba-ssm", "torchao", "triton")
    ours = recorded(case={"id": "x", "engine": engine}, versions=dict.fromkeys(names, "1"))
    assert set(names) <= versions().keys()
    apart = set()
    for name in names:
        theirs = changed(ours, versions={**ours.versions, name: "2"})
        if difference(fingerprint(ours), fingerprint(theirs)) is not None:
            apart.add(name)
    assert apart == told


def test_the_compiler_is_the_one_that_torch_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$CXX, or g++, in its own words. Without one, only what compiles for the CPU is left out."""
    compiler = tmp_path / "own++"
    compiler.write_text('#!/bin/sh\necho "own++ 7.1 for $1"\necho more\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert versions()[CXX] == "own++ 7.1 for --version"
    monkeypatch.setenv("CXX", str(tmp_path / "none++"))
    assert versions()[CXX] is None
    model = ModelSpec("m", {"model_type": "llama"})
    cpu, gpu = library.hardware("cpu"), library.hardware("h200_141gb")
    compiled = EngineSpec("hf_compiled", kind="hf_compiled")
    reason = why_not(Case(model, cpu, 1, compiled, Point(1, 1, 1)))
    assert reason == (
        "the engine kind 'hf_compiled' needs a C++ compiler, and $CXX, or else g++, does not run; install g++"
    )
    assert why_not(Case(model, gpu, 1, compiled, Point(1, 1, 1))) is None
    assert why_not(Case(model, cpu, 1, EngineSpec("hf"), Point(1, 1, 1))) is None


def test_flash_attention_is_left_out_by_name_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, and without its library; before anything loads."""
    model, engine = ModelSpec("m", {"model_type": "llama"}), EngineSpec("hf_flash", attention="flash")
    on_cpu, on_gpu = (
        Case(model, library.hardware(name), 1, engine, Point(1, 1, 1)) for name in ("cpu", "h200_141gb")
    )
    assert why_not(on_cpu) == "attention 'flash' needs a GPU; 'auto' runs on a CPU"
    monkeypatch.setattr(tried, "installed_version", {}.get)
    told = "attention 'flash' needs flash-attn, which is not installed; 'auto' runs without it"
    assert why_not(on_gpu) == told
    monkeypatch.setattr(tried, "installed_version", {"flash-attn": "2.8"}.get)
    assert why_not(on_gpu) is None


def test_an_option_that_a_kind_does_not_take_is_refused_where_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would do nothing, and stand in the name of what is measured."""
    monkeypatch.setitem(KINDS, "own", replace(KINDS["hf"], options=("dtype", "use_cache")))
    assert (
        library.read_engine(None, as_node({"kind": "own", "dtype": "float32"}, "e.yaml")).name == "own_fp32"
    )
    with pytest.raises(InputError, match=r"e.yaml.*'own' takes no attention; it takes dtype, use_cache"):
        library.read_engine(None, as_node({"kind": "own", "attention": "sdpa"}, "e.yaml"))
    assert KINDS["hf"].options == OPTIONS


def never(case: Case) -> str | None:
    """Why no model of this name runs, as a kind's own function says it."""
    return "it takes no model of that name" if case.model.name == "unwelcome" else None


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"refuses": f"{__name__}:never"}, "it takes no model of that name"),
        ({"tried": (("torch", "0.1"),)}, rf"'own' was never tried with torch {re.escape(TORCH)}; install "),
        ({"needs": ("nowhere",), "tried": (("nowhere", "7"),)}, "not installed; install nowhere==7$"),
        ({"needs": ("nowhere",)}, "needs nowhere, which is not installed$"),
        ({"tried": (("torch", TORCH),)}, None),
    ],
)
def test_a_kind_refuses_a_case_before_anything_loads(
    row: dict[str, Any], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own function, by a version that was never tried, by a missing library and what to install."""
    monkeypatch.setitem(KINDS, "own", replace(KINDS["hf"], **row))
    point, model = Point(1, 1, 1), ModelSpec("unwelcome", {"model_type": "llama"})
    reason = why_not(Case(model, library.hardware("cpu"), 1, EngineSpec("own", kind="own"), point))
    assert (reason is None) if told is None else re.search(told, reason or "")


def test_a_kind_whose_library_may_crash_always_has_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also without --isolate; others only with it."""
    monkeypatch.setitem(KINDS, "own", replace(KINDS["hf"], own_process=True))
    hf, own = (
        Case(ModelSpec("m", {}), library.hardware("cpu"), 1, EngineSpec(kind, kind=kind), Point(1, 1, 1))
        for kind in ("hf", "own")
    )
    asked = [has_processes(hf, False), has_processes(hf, True), has_processes(own, False)]
    assert asked == [False, True, True]
