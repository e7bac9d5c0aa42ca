"""How often the rule for stored runs is wrong, by simulation through the code that decides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ci.gate.calibrate.families import APART, TUNED, Make
from ci.gate.calibrate.simulate import at_least, at_most, most, percent
from ci.gate.stored.decide import decide
from ci.gate.verdicts import THRESHOLD
from fixtures.core.result.spread import ALPHA

CASES, STORED_RUNS, NEW_RUNS = 100, 10, 3
SHAPES = ((10, 3), (3, 3), (5, 3), (20, 3), (10, 1))  # stored and new runs
SLOWER = ((1 / 3, 0.05), (0.5, 0.05), (1.0, 0.05), (0.5, 1.0))  # shares of cases, by how much
MANY = (1, 8, 24, 1000)  # cases
_DAYS = 0.015  # by how much days differ, where the stored runs are of one

STORED_HEAD = (
    "| noise between runs | stored, new, cases | false alarms a run | +5 % found | PASS of the slower case | "
    "found where it would PASS | clean cases left open |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


@dataclass(frozen=True)
class StoredRates:
    """How many of the runs had a false alarm, and how many slower cases were found, or PASS.

    `sure` counts those that PASS as they are, and that are found with the slowdown in the same noise.
    """

    runs: int
    alarms: int
    slower: int
    found: int
    passed: int
    open: float
    sure: tuple[int, int]  # found, of cases that PASS

    def cells(self) -> list[str]:
        """Shares, with their upper or lower bounds by Clopper and Pearson.

        Slower cases of one run are not independent, so that their bounds count each run as one case.
        """
        found, passed = (round(one / self.slower * self.runs) for one in (self.found, self.passed))
        return [
            most(self.alarms, self.runs),
            f"{percent(self.found / self.slower)} (> {percent(at_least(found, self.runs))})",
            f"{percent(self.passed / self.slower)} (< {percent(at_most(passed, self.runs))})",
            f"{percent(self.sure[0] / self.sure[1])} of {self.sure[1]}" if self.sure[1] else "-",
            percent(self.open),
        ]


def of_stored(
    make: Make,
    runs: int,
    *,
    stored: int = STORED_RUNS,
    new: int = NEW_RUNS,
    cases: int = CASES,
    share: float = 0.0,
    slowdown: float = THRESHOLD,
    is_new_day: bool = False,
    seed: int = 0,
) -> StoredRates:
    """Judge each simulated candidate as it is, and with a share of its cases slower, at least one."""
    rng = np.random.default_rng([seed, stored, new, cases])
    planted = max(round(share * cases), 1)
    alarms = found = passed = 0
    left, sure = 0.0, np.zeros(2, int)
    for _ in range(runs):
        logs = make(rng, cases, stored, new)
        taken = None
        if is_new_day:
            logs[:, stored:] += rng.normal(0, _DAYS)
            taken = np.zeros(stored, np.intp), np.ones(new, np.intp)
        slower, passes = _judged(logs, stored, taken)
        alarms += bool(slower.any())
        left += 1 - float((slower | passes).mean())
        would_pass = passes[:planted]
        logs[:planted, stored:] += math.log1p(slowdown)
        slower, passes = _judged(logs, stored, taken)
        sure += (slower[:planted] & would_pass).sum(), would_pass.sum()
        found += int(slower[:planted].sum())
        passed += int(passes[:planted].sum())
    return StoredRates(runs, alarms, planted * runs, found, passed, left / runs, (int(sure[0]), int(sure[1])))


def _judged(
    logs: NDArray[np.float64], stored: int, taken: tuple[NDArray[np.intp], NDArray[np.intp]] | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which cases are red, and which PASS."""
    decision = decide(
        logs[:, :stored], logs[:, stored:], threshold=math.log1p(THRESHOLD), alpha=ALPHA, taken=taken
    )
    return decision.is_red, decision.is_pass


def stored_table(runs: int, everything: bool) -> Iterator[str]:
    """Lines of a Markdown table; `everything` has more shapes, and the families that were kept apart."""
    yield from STORED_HEAD
    for name, make in TUNED.items():
        for stored, new in SHAPES if everything else SHAPES[:1]:
            rates = of_stored(make, runs, stored=stored, new=new)
            yield _row(name, f"{stored}, {new}, {CASES}", rates)
    if not everything:
        return
    quiet = TUNED["quiet"]
    yield _row("stored runs of one day", "10, 3, 100", of_stored(quiet, runs, is_new_day=True))
    for cases in MANY:
        few = runs if cases <= CASES else max(runs // 10, 1)
        yield _row("quiet", f"10, 3, {cases}", of_stored(quiet, few, cases=cases))
    for share, slowdown in SLOWER:
        rates = of_stored(quiet, runs, share=share, slowdown=slowdown)
        yield _row(f"quiet, {share:.0%} of cases {slowdown:+.0%}", "10, 3, 100", rates)
    for name, make in APART.items():
        yield _row(f"apart: {name}", "10, 3, 100", of_stored(make, runs))


def _row(name: str, shape: str, rates: StoredRates) -> str:
    return f"| {name} | {shape} | {' | '.join(rates.cells())} |"
