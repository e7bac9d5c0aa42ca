"""Turns of engines: the command of each, which turns are measured, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ci.report import turns
from ci.tests.report.test_compare import of_engine, run


def test_each_turn_is_a_process_with_an_order_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Turn 1 is there; 2, 3 and 4 are measured, each with its seed, and the tables are over processes."""
    pair = [of_engine("hf", 1, 2.0), of_engine("hf_int8", 1, 1.0)]
    run(tmp_path, "turn_1", pair)
    commands: list[list[str]] = []

    def measured(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        run(tmp_path, Path(command[-1]).stem, pair, 5 * len(commands))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", measured)
    assert turns.main(["--turns", "4", "--to", str(tmp_path), "--", "-k", "b1-"]) == 0
    orders = [command[command.index("--order") + 1] for command in commands]
    assert orders == ["random:2", "random:3", "random:4"]
    assert [Path(command[-1]).name for command in commands] == ["turn_2.json", "turn_3.json", "turn_4.json"]
    assert all(command[command.index("--suite") + 1] == "engines" for command in commands)
    assert all(command[-4:-2] == ["-k", "b1-"] for command in commands)
    assert "Intervals are 95 %, over runs that have both engines." in capsys.readouterr().out


def test_a_turn_that_cannot_run_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest's exit code 4 comes through; a suite of the user's own replaces `engines`."""
    commands: list[list[str]] = []

    def refused(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 4)

    monkeypatch.setattr(subprocess, "run", refused)
    assert turns.main(["--to", str(tmp_path), "--", "--suite", "mine.yaml"]) == 4
    (command,) = commands
    assert command.count("--suite") == 1
    assert command[command.index("--suite") + 1] == "mine.yaml"


@pytest.mark.parametrize("words", [["--turns", "3"], ["--turns", "x"], ["--turn", "4"], ["FOLDER"]])
def test_wrong_words_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4."""
    assert turns.main(words) == 4
    said = capsys.readouterr().err
    assert said.startswith("turns: ")
    assert said.count("\n") == 1
