"""Error rates of the rule for stored runs by simulation, and the table that says so."""

from __future__ import annotations

import pytest

from ci.gate.calibrate.families import APART, TUNED
from ci.gate.calibrate.rates import STORED_HEAD, of_stored
from ci.tests.conftest import ROOT


@pytest.mark.parametrize("name", [*TUNED, *APART])
def test_error_rates_of_every_kind_of_noise(name: str) -> None:
    """60 candidates of 40 cases each; the table has a thousand. Two alarms may be chance."""
    rates = of_stored({**TUNED, **APART}[name], 60, cases=40, seed=20)
    assert rates.alarms <= 2
    assert rates.passed <= 6


def test_what_is_found_beats_a_test_case_by_case() -> None:
    """Student's t case by case finds 99 of 100 where it is quiet, 88 where 1 % of values are 30 % high."""
    assert of_stored(TUNED["quiet"], 100, seed=21).found >= 99
    assert of_stored(TUNED["1 % of values +30 %"], 100, seed=21).found > 88


def test_the_readmes_table_is_what_the_command_writes() -> None:
    """The row that takes a second is worked out again, digit by digit; every kind of noise has one."""
    text = (ROOT / "ci/gate/README.md").read_text()
    rows = text[text.index(STORED_HEAD[0]) :].partition("\n\n")[0].splitlines()
    assert tuple(rows[:2]) == STORED_HEAD
    names = {row.split("|")[1].strip() for row in rows}
    assert {*TUNED, *(f"apart: {name}" for name in APART)} <= names
    cells = of_stored(TUNED["quiet"], 500, cases=1).cells()
    assert f"| quiet | 10, 3, 1 | {' | '.join(cells)} |" in rows
