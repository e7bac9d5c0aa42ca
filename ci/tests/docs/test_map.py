"""The map in fixtures/README.md: each room and each function that it names is there."""

from __future__ import annotations

import ast
import re

import pytest

from ci.tests.conftest import ROOT

FIXTURES = ROOT / "fixtures"
MAP = (FIXTURES / "README.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `([a-z_./]+)` \|", MAP, re.M)
FUNCTIONS = re.findall(r"`([A-Za-z_.]+)` in `([a-z_/]+\.py)`", MAP)


def defined(source: str) -> set[str]:
    """Functions by name, methods as `Class.method`, and classes."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return names


def test_every_room_is_on_the_map_and_there() -> None:
    """No folder of code is missing, and none is named that is gone."""
    folders = {
        f"{path.parent.relative_to(FIXTURES)}/"
        for path in FIXTURES.rglob("*.py")
        if path.parent != FIXTURES and path.parent.parent in (FIXTURES, FIXTURES / "core")
    }
    files = {path.name for path in FIXTURES.glob("*.py") if path.stem != "__init__"}
    assert set(ROOMS) == folders - {"core/"} | files


@pytest.mark.parametrize(("function", "file"), FUNCTIONS)
def test_every_function_is_where_the_map_says(function: str, file: str) -> None:
    """One function an arrow."""
    assert function in defined((FIXTURES / file).read_text(encoding="utf-8"))


def test_every_hook_is_in_the_life_of_a_session() -> None:
    """The table names each hook of the plugin, and no hook that is gone."""
    hooks = {name for name in defined((FIXTURES / "plugin.py").read_text("utf-8")) if name[:7] == "pytest_"}
    assert set(re.findall(r"`(pytest_\w+)`", MAP)) == hooks


def test_there_are_arrows() -> None:
    """What is gone through above is not empty, and stays a short map."""
    assert len(FUNCTIONS) >= 10
    assert len(ROOMS) <= 20
