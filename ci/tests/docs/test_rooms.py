"""The map of ci/ names each of its folders and commands, and nothing that is not there."""

from __future__ import annotations

import re

from ci.tests.conftest import ROOT


def test_the_map_of_ci_has_every_folder_and_command() -> None:
    """A name in backquotes that ends with a slash is a folder; commands are the files without an ending."""
    text = (ROOT / "ci" / "README.md").read_text(encoding="utf-8")
    here = list((ROOT / "ci").iterdir())
    folders = {path.name for path in here if path.is_dir() and path.name != "__pycache__"}
    rooms = {path.name for path in (ROOT / "ci" / "report").iterdir() if (path / "__init__.py").exists()}
    assert set(re.findall(r"`(\w+)/`", text)) == folders | rooms
    commands = {path.name for path in here if path.is_file() and not path.suffix}
    assert commands <= set(re.findall(r"`(\w+)`", text))
