"""How much single runs differ, by hand and by tables of Student's distribution."""

from __future__ import annotations

import math

import pytest

from fixtures.core.result.spread import Noise, noise_of


def test_noise_of_three_runs_by_hand() -> None:
    """Logs of 0, 0.01 and 0.02 have a variance of 0.0001, of 2 degrees of freedom; two runs tell nothing."""
    found = noise_of({"a": [1.0, math.exp(0.01), math.exp(0.02)], "b": [1.0, 2.0]})
    assert list(found) == ["a"]
    assert found["a"].deviation == pytest.approx(0.01)
    assert found["a"].dof == 2
    assert noise_of({"b": [1.0, 2.0]}) == {}


def test_cases_lend_each_other_what_they_know() -> None:
    """Of twenty alike cases, each counts with more than its own two degrees of freedom."""
    found = noise_of({str(n): [1.0, math.exp(0.01 + n / 10000), math.exp(0.02)] for n in range(20)})
    assert all(one.dof > 10 for one in found.values())


def test_the_margin_by_tables() -> None:
    """Student's 99.5 % of 2 degrees of freedom is 9.925; 99.95 %, for ten comparisons, 31.6."""
    noise = Noise(0.01, 2)
    assert noise.margin(others=1, compared=1) == pytest.approx(0.09925 * math.sqrt(2), rel=1e-3)
    assert noise.margin(others=4, compared=1) == pytest.approx(0.09925 * math.sqrt(1 + math.pi / 8), rel=1e-3)
    assert noise.margin(others=1, compared=10) == pytest.approx(0.316 * math.sqrt(2), rel=1e-3)
