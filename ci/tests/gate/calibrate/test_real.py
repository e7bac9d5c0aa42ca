"""The gate on a machine's own noise: its way through real comparisons, with sides that are not real."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ci.gate.__main__ import main
from ci.gate.calibrate import real
from ci.gate.calibrate.simulate import paired
from ci.gate.paired.pairs_file import read_pairs
from ci.gate.paired.sides import Took
from ci.tests.records import recorded


class Machine:
    """Stands for a checkout: a call takes as long as its suite has layers, with 1 % of noise."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)
        self.asked: list[list[str]] = []

    def ids(self, options: Sequence[str]) -> list[str]:
        """Of the suite's batches."""
        (sweep,) = self._suite(options)["sweeps"]
        return [f"small-b{batch}" for batch in sweep["batch_sizes"]]

    def state(self) -> dict[str, str]:
        """Always the same."""
        return {"commit": "0"}

    def measure(self, ids: Sequence[str], options: Sequence[str]) -> dict[str, Took]:
        """By its layers, and a twentieth more where the plugin is asked for that makes it sleep."""
        layers = self._suite(options)["models"][0]["architecture"]["num_hidden_layers"]
        log_s = math.log(layers * (1.05 if options[2:] == ["-p", "ci.gate.calibrate.sleeping"] else 1.0))
        return {one: Took(log_s + self.rng.normal(0, 0.007), recorded(parameters=layers)) for one in ids}

    def _suite(self, options: Sequence[str]) -> Any:
        return json.loads(Path(options[1]).read_text())


def test_more_layers_are_found_and_the_same_ones_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of twenty more is 5 %; the pairs are kept, and their noise can be drawn from."""
    said: list[str] = []
    machine: Any = Machine()
    folder = real.measure(4, 60, math.inf, said.append, side=machine, folder=tmp_path / "pairs")
    rows = [line.split(" | ") for line in (folder / "table.md").read_text().splitlines()[2:]]
    found = {row[0].removeprefix("| "): row[1:] for row in rows}
    assert list(found) == [one.name for one in real.PLANTED]
    assert found["nothing"][:4] == ["4", "12", "0 % (< 22 %)", "12"]
    for name in ("a sleep in each forward", "1 layer of 20 more"):
        assert found[name][2].startswith("100 % (>")
    assert float(found["1 layer of 20 more"][6]) == pytest.approx(1.05, abs=0.01)
    assert float(found["2 layers of 20 more"][6]) == pytest.approx(1.1, abs=0.01)
    assert said[-1] == (folder / "table.md").read_text().strip()
    files = sorted(folder.glob("*.jsonl"))
    assert len(files) == 4 * 4
    assert read_pairs(files[0])[0]["planted"] == "nothing"

    noise, pairs = real.replayed(folder)
    assert pairs >= 4 * 6
    rates = paired(noise, 20)
    assert rates.alarms == 0
    assert rates.found[0.05] == 20
    assert main(["calibrate", "--replay", str(folder), "--runs", "2"]) == 0
    assert f"| paired, noise of {pairs} measured pairs | 0 % (< " in capsys.readouterr().out


def test_the_suites_differ_in_layers_alone() -> None:
    """And not in a name, so that their cases have the same ids."""
    one, two = real.suite(20), real.suite(21)
    two["models"][0]["architecture"]["num_hidden_layers"] = 20
    assert one == two


def test_no_time_is_no_comparison(tmp_path: Path) -> None:
    """Nor a row of the table."""
    said: list[str] = []
    machine: Any = Machine()
    folder = real.measure(1, 20, 0, said.append, side=machine, folder=tmp_path / "pairs")
    assert len((folder / "table.md").read_text().splitlines()) == 2


def test_a_folder_without_pairs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4."""
    assert main(["calibrate", "--replay", str(tmp_path)]) == 4
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "x.jsonl").write_text("{}")
    assert main(["calibrate", "--replay", str(tmp_path)]) == 4
    assert "x.jsonl: holds no pairs" in capsys.readouterr().err
