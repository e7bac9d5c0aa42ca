"""`--gate` judges the history of each kind of device that `--on` measured."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.show import gated


@pytest.mark.parametrize(
    ("codes", "worst"), [((0, 0), 0), ((0, 2), 2), ((2, 1), 1), ((1, 70), 70), ((0, 4), 2), ((1, 2), 1)]
)
def test_the_worst_kind_is_the_exit_code(
    codes: tuple[int, int], worst: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each history is judged, with files of its own; bad input of the gate's own is not the user's."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return SimpleNamespace(
            stdout=f"verdict {len(commands)}\n", stderr="", returncode=codes[len(commands) - 1]
        )

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(gated, "saved_history", lambda _: tmp_path / "a.json")
    judged = SimpleNamespace(items=[], exitstatus=pytest.ExitCode.OK)
    session: Any = SimpleNamespace(
        ranks=SimpleNamespace(session=judged),
        option=SimpleNamespace(gate=True, gate_files="out"),
        only_lists=False,
        others={"h200": tmp_path / "b.json"},
        config=SimpleNamespace(invocation_params=SimpleNamespace(dir=tmp_path)),
    )
    lines: list[str] = []
    gated.judge(session, SimpleNamespace(write_line=lines.append))
    assert judged.exitstatus == worst
    assert lines == ["verdict 1", "verdict 2"]
    assert [Path(command[3]).name for command in commands] == ["a.json", "b.json"]
    files = [[Path(command[i + 1]).name for i in range(6, 12, 2)] for command in commands]
    assert files == [
        ["gate.md", "gate.json", "gate.xml"],
        ["gate-h200.md", "gate-h200.json", "gate-h200.xml"],
    ]
