"""Base and new side by side: fresh processes that take turns, until each case is decided or time is up."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci.gate import counters
from ci.gate.paired import tail
from ci.gate.paired.decide import NOT_SLOWER, SECOND, SLOWER, Decision, decide
from ci.gate.paired.pairs_file import PairsFile
from ci.gate.paired.sequential import COVERAGE, LEAST_PAIRS, MOST_PAIRS, TAIL, Rule, Series, interval
from ci.gate.paired.sides import Took
from ci.gate.verdicts import Verdict, Word
from fixtures.core.base.text import counted, duration

_ALIKE = 0.2  # an autocorrelation that is worth a word

Measure = Callable[[Sequence[str]], Mapping[str, Took]]


@dataclass
class Comparison:
    """Runs pairs; `measure` has the two sides, base first.

    `threshold` is a log ratio. `kept` has every pair on the disk, so that a stopped comparison can go on. A
    coin, of `seed`, says which side of a pair comes first: whatever returns with a period, or slows down the
    second process of a pair, falls on either side by chance. With `same_work`, a counter that differs is red
    by itself.
    """

    cases: Sequence[str]
    measure: tuple[Measure, Measure]
    threshold: float
    kept: PairsFile
    say: Callable[[str], None]
    most_pairs: int = MOST_PAIRS
    limit_s: float = math.inf
    same_work: bool = True
    seed: int = 0
    ended: dict[str, tuple[Word, str]] = field(default_factory=dict)  # by something else than time
    _decision: Decision | None = None

    def run(self) -> list[Verdict]:
        """Both series; the verdicts of all cases."""
        start = time.monotonic()
        rule = Rule.of_run(self.threshold, len(self.cases), self.most_pairs)

        def fill(number: int, series: Series, rows: NDArray[np.intp]) -> None:
            cases = [self.cases[row] for row in rows.tolist()]
            if number == SECOND:
                self.say(f"{len(cases)} slower, such as {cases[0]}: a second series measures again")
            self._fill(number, cases, series, start)

        self._decision = decide(rule, len(self.cases), fill)
        return [self._verdict(row, self._decision) for row in range(len(self.cases))]

    def pairs(self, case_id: str) -> list[float]:
        """The log ratios of a case, of both series."""
        if self._decision is None:
            return []
        return _pairs(self._decision.series_of(self.cases.index(case_id)))

    def _fill(self, number: int, cases: list[str], series: Series, start: float) -> None:
        """Add the pairs that are kept, then measure more until the series is decided or the budget spent."""
        for pair in self.kept.pairs(number):
            self._add(series, cases, pair.ratios, pair.ended)
        while series.goes_on:
            if time.monotonic() - start > self.limit_s:
                self.say("the time is up")
                return
            ids = [case_id for row, case_id in enumerate(cases) if series.is_open[row]]
            ratios, ended = self._measured(ids, new_first=self.is_new_first(number, series.pairs))
            self.kept.add(number, ratios, ended)
            self._add(series, cases, ratios, ended)
            spent = duration(time.monotonic() - start)
            still = int(series.is_open.sum())
            self.say(f"series {number}, pair {series.pairs}: {still} of {len(cases)} cases are open, {spent}")
        if series.is_open.any():
            self.say(f"series {number}: {self.most_pairs} pairs are used up")

    def is_new_first(self, series: int, pair: int) -> bool:
        """The coin of a pair of a series, always the same."""
        return bool(np.random.default_rng([self.seed, series, pair]).integers(2))

    def _measured(
        self, ids: Sequence[str], new_first: bool
    ) -> tuple[dict[str, float], dict[str, tuple[Word, str]]]:
        """Measure one pair: the log ratios, and what ended the cases that have none."""
        times: dict[int, Mapping[str, Took]] = {}
        for side in (1, 0) if new_first else (0, 1):
            times[side] = self.measure[side](ids)
        ratios: dict[str, float] = {}
        ended: dict[str, tuple[Word, str]] = {}
        for case_id in ids:
            base, new = times[0].get(case_id), times[1].get(case_id)
            if base is None or base.log_s is None:
                ended[case_id] = (Word.MISSING, "the base did not measure it")
            elif new is None:
                ended[case_id] = (Word.MISSING, "the new side did not measure it")
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
        """Add a pair. Cases that it lacks are no longer open: a larger budget decided them before."""
        rows = [row for row in range(len(cases)) if series.is_open[row]]
        for row in rows:
            if (case_id := cases[row]) not in ratios:
                if case_id in ended:
                    self.ended[case_id] = ended[case_id]
                series.leave_out(row)
        series.add(np.array([ratios[cases[row]] for row in rows if cases[row] in ratios]))

    def _verdict(self, row: int, decision: Decision) -> Verdict:
        case_id, decided, of_series = self.cases[row], decision.decided[row], decision.series_of(row)
        logs = _pairs(of_series)
        figures: dict[str, float] = {}
        if len(logs) >= LEAST_PAIRS:
            of_pairs = zip(("ratio", "low", "high"), interval(logs), strict=True)
            figures = {name: math.exp(value) for name, value in of_pairs} | {"coverage": COVERAGE}
        elif logs:
            figures = {"ratio": math.exp(statistics.median(logs))}
        if case_id in self.ended:
            word, reason = self.ended[case_id]
            return Verdict(case_id, word, reason, **figures)
        pairs = counted(len(logs), "pair")
        counts = [series.slow(row) for series, row in of_series]
        new, base = sum(one[0] for one in counts), sum(one[1] for one in counts)
        slow = tail.said(new, base, len(logs))
        if decided == NOT_SLOWER:
            word = Word.IMPROVED if decision.first.is_faster(row) else Word.PASS
            reason = "; ".join(filter(None, (pairs, slow)))
            return Verdict(case_id, word, reason, **figures, visible=math.expm1(self.threshold))
        if decided == SLOWER:
            parts = [slow, f"in two series, {pairs}"]
            if decision.first.by[row] != TAIL:
                parts.reverse()
            return Verdict(case_id, Word.REGRESSED, "; ".join(filter(None, parts)), **figures)
        return Verdict(case_id, Word.INCONCLUSIVE, self._open(*of_series[-1], pairs, slow), **figures)

    def _open(self, series: Series, row: int, pairs: str, slow: str) -> str:
        """Why a case is open, and how many pairs a series needs."""
        if series.deviation(row) is None:
            return f"{pairs}; each series takes at least {LEAST_PAIRS}"
        needed, sd, followed = series.needed(row)
        differ = f"{pairs}; they differ by {100 * sd:.1f} %"
        if needed > min(int(series.taken[row]), self.most_pairs):
            alike = f" and are like the one before ({followed:.1f})" if followed >= _ALIKE else ""
            parts = [f"{differ}{alike}, so about {needed} a series are needed", slow]
        elif series.is_same_but_slow(row):
            parts = [pairs, slow, f"about {series.until_told(row)} a series would tell"]
        else:
            more = f"about {series.until_decided(row)} a series would tell"
            parts = [f"{differ}, between the same and slower", more, slow]
        return "; ".join(filter(None, parts))


def _pairs(of_series: Sequence[tuple[Series, int]]) -> list[float]:
    """The log ratios of a case in its series."""
    return [ratio for series, row in of_series for ratio in series.of(row)]


def measured_by(side: Any, options: Sequence[str]) -> Measure:
    """A side's fresh process."""
    return lambda ids: side.measure(ids, options)
