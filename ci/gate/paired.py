"""Base and new side by side: fresh processes that take turns, until each case is decided or time is up."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ci.gate import counters
from ci.gate.pairs_file import PairsFile
from ci.gate.sequential import COVERAGE, LEAST_PAIRS, Rule, Series, interval
from ci.gate.sides import Took
from ci.gate.verdicts import Verdict, Word
from fixtures.core.base.text import duration

MOST_PAIRS = 40
FIRST, SECOND = 1, 2

Measure = Callable[[Sequence[str]], Mapping[str, Took]]


@dataclass
class Comparison:
    """Runs pairs; `measure` has the two sides, base first.

    `threshold` is a log ratio. `kept` has every pair on the disk, so that what was stopped can be gone on
    with. Where the two sides are to do the same work, `same_work`, a counter that differs is red by itself.
    """

    cases: Sequence[str]
    measure: tuple[Measure, Measure]
    threshold: float
    kept: PairsFile
    say: Callable[[str], None]
    most_pairs: int = MOST_PAIRS
    limit_s: float = math.inf
    same_work: bool = True
    ended: dict[str, tuple[Word, str]] = field(default_factory=dict)  # by something else than time
    _series: dict[int, tuple[list[str], Series]] = field(default_factory=dict)

    def run(self) -> list[Verdict]:
        """Both series; the verdicts of all cases."""
        start = time.monotonic()
        first = self._run_series(FIRST, list(self.cases), start)
        red = [case_id for row, case_id in enumerate(self.cases) if first.decided[row] == 1]
        if red:
            self.say(f"{len(red)} slower, such as {red[0]}: measured again, on its own")
            self._run_series(SECOND, red, start)
        return [self._verdict(case_id) for case_id in self.cases]

    def pairs(self, case_id: str) -> list[float]:
        """The log ratios of a case, of both series."""
        return [one for cases, series in self._of(case_id) for one in series.of(cases.index(case_id))]

    def _run_series(self, number: int, cases: list[str], start: float) -> Series:
        series = Series(Rule.of_run(self.threshold, len(self.cases)), len(cases))
        self._series[number] = (cases, series)
        for ratios, ended in self.kept.pairs(number):
            self._add(series, cases, ratios, ended)
        while series.is_open.any():
            if series.pairs >= self.most_pairs:
                self.say(f"series {number}: {self.most_pairs} pairs are spent")
                break
            if time.monotonic() - start > self.limit_s:
                self.say("the time is spent")
                break
            ratios, ended = self._measured(
                [case_id for row, case_id in enumerate(cases) if series.is_open[row]], series.pairs
            )
            self.kept.add(number, ratios, ended)
            self._add(series, cases, ratios, ended)
            spent = duration(time.monotonic() - start)
            still = int(series.is_open.sum())
            self.say(f"series {number}, pair {series.pairs}: {still} of {len(cases)} cases are open, {spent}")
        return series

    def _measured(
        self, ids: Sequence[str], done: int
    ) -> tuple[dict[str, float], dict[str, tuple[Word, str]]]:
        """One pair: log ratios, and what of the others there is to say. Base, new, new, base."""
        took: dict[int, Mapping[str, Took]] = {}
        for side in (0, 1) if done % 2 == 0 else (1, 0):
            took[side] = self.measure[side](ids)
        ratios: dict[str, float] = {}
        ended: dict[str, tuple[Word, str]] = {}
        for case_id in ids:
            base, new = took[0].get(case_id), took[1].get(case_id)
            if base is None or base.log_s is None:
                ended[case_id] = (Word.MISSING, "the base has no number for it")
            elif new is None:
                ended[case_id] = (Word.MISSING, "the new side has no number for it")
            elif new.log_s is None:
                ended[case_id] = (Word.OUT_OF_MEMORY, "the base was measured")
            elif self.same_work and (reason := counters.changed(new.record, base.record)) is not None:
                ended[case_id] = (Word.REGRESSED, f"a counter has changed: {reason}")
            else:
                ratios[case_id] = new.log_s - base.log_s
        return ratios, ended

    def _add(
        self,
        series: Series,
        cases: Sequence[str],
        ratios: Mapping[str, float],
        ended: Mapping[str, tuple[Word, str]],
    ) -> None:
        """A pair; what it has nothing of is open no longer."""
        rows = [row for row in range(len(cases)) if series.is_open[row]]
        for row in rows:
            if (case_id := cases[row]) not in ratios:
                self.ended[case_id] = ended.get(case_id, (Word.MISSING, "a pair has no number for it"))
                series.leave_out(row)
        series.add(np.array([ratios[cases[row]] for row in rows if cases[row] in ratios]))

    def _of(self, case_id: str) -> list[tuple[list[str], Series]]:
        return [one for one in self._series.values() if case_id in one[0]]

    def _verdict(self, case_id: str) -> Verdict:
        logs = self.pairs(case_id)
        figures: dict[str, float] = {}
        if len(logs) >= LEAST_PAIRS:
            of_pairs = zip(("ratio", "low", "high"), interval(logs), strict=True)
            figures = {name: math.exp(value) for name, value in of_pairs} | {"coverage": COVERAGE}
        elif logs:
            figures = {"ratio": math.exp(statistics.median(logs))}
        if case_id in self.ended:
            word, reason = self.ended[case_id]
            return Verdict(case_id, word, reason, **figures)
        pairs = f"{len(logs)} pair{'s' * (len(logs) != 1)}"
        decided = [int(series.decided[cases.index(case_id)]) for cases, series in self._of(case_id)]
        if -1 in decided:
            cases, first = self._of(case_id)[0]
            word = Word.IMPROVED if first.is_faster(cases.index(case_id)) else Word.PASS
            return Verdict(case_id, word, pairs, **figures, visible=math.expm1(self.threshold))
        if decided == [1, 1]:
            return Verdict(case_id, Word.REGRESSED, f"in two series, {pairs}", **figures)
        cases, series = self._of(case_id)[-1]
        sd = series.deviation(cases.index(case_id))
        if sd is None:
            few = f"{pairs}, of {LEAST_PAIRS} at the least in each series"
            return Verdict(case_id, Word.INCONCLUSIVE, few, **figures)
        needed = series.rule.pairs_needed(sd)
        reason = f"{pairs}; they differ by {100 * sd:.1f} %, so about {needed} a series are needed"
        return Verdict(case_id, Word.INCONCLUSIVE, reason, **figures)


def measured_by(side: Any, options: Sequence[str]) -> Measure:
    """A side's fresh process."""
    return lambda ids: side.measure(ids, options)
