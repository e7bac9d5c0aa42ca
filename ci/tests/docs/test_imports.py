"""What may import what: listing cases costs no import of torch, and the arrows point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ci.tests.conftest import ROOT

HEAVY = {"torch", "transformers", "deepspeed", "accelerate"}


def imports(path: Path) -> set[str]:
    """The modules that a file imports at its top level, or anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def hooks(path: Path) -> list[str]:
    """The hooks of pytest that a file has."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
    return [name for name in found if name.startswith("pytest_")]


def modules(folder: str) -> list[Path]:
    """The Python files of a folder and of those below it, without tests."""
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if "tests" not in path.parts]


def name_of(path: Path) -> str:
    """As in an id: `fixtures-core-cost-sweep`."""
    return "-".join(path.relative_to(ROOT).with_suffix("").parts)


CORE = modules("fixtures/core")
LAYERS = ("base", "spec", "cost", "result", "store", "estimate", "forecast")  # each imports those before it
# each room knows itself and those before it
ORDER = ("core", "engines", "host", "session", "choose", "load", "measure", "keep", "fleet", "show", "plugin")
ROOMS = modules("fixtures")
# of what comes after the numbers; the census tries the engines, what measuring costs is measured on them, and
# the gate's planted slowdown is a plugin of sessions that measure
CI = [path for path in modules("ci") if not {"census", "overhead", "sleeping.py"} & set(path.parts)]
LIGHT = [path for path in modules("fixtures") if "engines" not in path.parts] + CI


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_is_pure(path: Path) -> None:
    """The standard library, PyYAML, msgspec, numpy and scipy for statistics, and the core itself."""
    for name in imports(path):
        root = name.partition(".")[0]
        known = sys.stdlib_module_names | {"yaml", "msgspec", "numpy", "scipy"}
        assert root in known or name.startswith("fixtures.core"), name


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_layers_import_downwards(path: Path) -> None:
    """A layer knows itself and those before it."""
    layer = path.relative_to(ROOT).parts[2]
    if layer in LAYERS:
        ours = [name.split(".")[2] for name in imports(path) if name.startswith("fixtures.core.")]
        assert set(ours) <= set(LAYERS[: LAYERS.index(layer) + 1])


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_rooms_import_downwards(path: Path) -> None:
    """plugin > show > fleet > keep > measure > load > choose > session > host > engines > core."""
    room = path.relative_to(ROOT / "fixtures").parts[0].removesuffix(".py")
    if room in ORDER:
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("fixtures.")}
        assert ours <= set(ORDER[: ORDER.index(room) + 1])


def test_each_hook_stands_once_and_in_the_plugin() -> None:
    """Other rooms have functions that it calls."""
    found = {(path.name, name) for path in ROOMS for name in hooks(path)}
    assert {name for name, _ in found} == {"plugin.py"}
    names = hooks(ROOT / "fixtures/plugin.py")
    assert len(names) == len(set(names)) > 15
    assert not [path for path in ROOMS if path.name != "plugin.py" and "hookimpl" in path.read_text()]
    assert 'pytest_plugins = ["fixtures.plugin"]' in (ROOT / "conftest.py").read_text()
    assert hooks(ROOT / "conftest.py") == []


def test_a_session_has_one_key_and_no_module_has_its_state() -> None:
    """What a room wants to keep is a field of the Session."""
    assert [path.name for path in ROOMS if "StashKey" in path.read_text()] == ["session.py"]
    assert (ROOT / "fixtures/session.py").read_text().count("pytest.StashKey[") == 1
    for path in ROOMS:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        assert not any(isinstance(node, ast.Global) for node in nodes), path
        is_session = path.name == "session.py"
        assert is_session or not any(isinstance(n, ast.Attribute) and n.attr == "stash" for n in nodes), path


@pytest.mark.parametrize("path", LIGHT, ids=name_of)
def test_heavy_libraries_stay_in_the_engines(path: Path) -> None:
    """Outside of fixtures/engines nobody imports torch."""
    roots = {name.partition(".")[0] for name in imports(path)}
    assert not roots & HEAVY


@pytest.mark.parametrize("path", CI, ids=name_of)
def test_what_comes_after_the_numbers_needs_the_core_alone(path: Path) -> None:
    """ci -> fixtures/core."""
    ours = {name for name in imports(path) if name.startswith("fixtures")}
    assert all(name.startswith("fixtures.core") for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["benchmarks", "--collect-only", "-q"],
        ["benchmarks", "--collect-only", "-q", "--hardware", "4xa100_80gb", "-k", "mpt30b"],
        ["benchmarks", "--plan", "-q"],
        ["benchmarks", "--plan", "-q", "--hardware", "1xa100_80gb", "-k", "mpt30b"],
        ["--help"],
    ],
)
def test_listing_never_imports_torch(arguments: list[str]) -> None:
    """In a process of its own, by what is in sys.modules at its end."""
    program = (
        "import sys, pytest\n"
        f"code = pytest.main({arguments!r})\n"
        f"print('heavy:', sorted({HEAVY!r} & set(sys.modules)))\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"
