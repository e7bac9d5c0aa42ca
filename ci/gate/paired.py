"""Base and new side by side: fresh processes that take turns, until each case is decided or time is up."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ci.gate import sequential
from ci.gate.sides import Side
from ci.gate.verdicts import Verdict, Word
from fixtures.core.errors import InputError
from fixtures.core.text import duration

ALPHA, BETA = 0.002, 0.01  # of one series; what is red is red in two that know nothing of each other
MOST_PAIRS = 40
FIRST, SECOND = 1, 2

Measure = Callable[[Sequence[str]], Mapping[str, float]]


@dataclass
class Series:
    """The log ratios of each case's pairs so far, and what was decided."""

    ratios: dict[str, list[float]] = field(default_factory=dict)
    slower: dict[str, bool] = field(default_factory=dict)


@dataclass
class Comparison:
    """Runs pairs; `measure` has the two sides, base first, each giving log seconds by case.

    `file` keeps every pair as a line of JSON, so that what was stopped can be gone on with.
    """

    cases: Sequence[str]
    measure: tuple[Measure, Measure]
    threshold: float
    file: Path
    say: Callable[[str], None]
    most_pairs: int = MOST_PAIRS
    limit_s: float = math.inf
    alpha: float = ALPHA
    series: dict[int, Series] = field(default_factory=lambda: {FIRST: Series(), SECOND: Series()})
    lost: dict[str, str] = field(default_factory=dict)

    def run(self) -> list[Verdict]:
        """Both series; the verdicts of all cases."""
        start = time.monotonic()
        self._read()
        self._run_series(FIRST, self.cases, start)
        red = [case_id for case_id, slower in self.series[FIRST].slower.items() if slower]
        if red:
            self.say(f"{len(red)} slower, such as {red[0]}: measured again, on its own")
            self._run_series(SECOND, red, start)
        return [self._verdict(case_id) for case_id in self.cases]

    def _run_series(self, number: int, cases: Sequence[str], start: float) -> None:
        series = self.series[number]
        pairs = max((len(one) for one in series.ratios.values()), default=0)
        self._decide(series)
        while pairs < self.most_pairs:
            open_ones = [one for one in cases if one not in series.slower and one not in self.lost]
            if not open_ones:
                return
            if time.monotonic() - start > self.limit_s:
                self.say("the time is spent")
                return
            pairs += 1
            found: dict[str, list[float]] = {}
            for side in (0, 1) if pairs % 2 else (1, 0):  # base, new, new, base
                took = self.measure[side](open_ones)
                for case_id in open_ones:
                    if case_id in took:
                        found.setdefault(case_id, []).append(took[case_id] * (1 if side else -1))
                    else:
                        self.lost[case_id] = "the new side" if side else "the base"
            ratios = {case_id: sum(both) for case_id, both in found.items() if len(both) == 2}
            self._add(series, ratios)
            self._keep(number, ratios)
            self._decide(series)
            spent = duration(time.monotonic() - start)
            still = len([one for one in open_ones if one not in series.slower])
            self.say(f"series {number}, pair {pairs}: {still} of {len(cases)} cases are open, {spent}")

    def _decide(self, series: Series) -> None:
        sd = self._deviation()
        for case_id, ratios in series.ratios.items():
            if case_id not in series.slower:
                decided = sequential.decide(ratios, sd, self.threshold, self.alpha, BETA)
                if decided is not None:
                    series.slower[case_id] = decided

    def _deviation(self) -> float | None:
        """Of a pair, by all that there are: how much they scatter tells nothing of where they lie."""
        return sequential.deviation(
            {f"{number} {name}": r for number, one in self.series.items() for name, r in one.ratios.items()}
        )

    def _verdict(self, case_id: str) -> Verdict:
        first, second = self.series[FIRST], self.series[SECOND]
        ratios = [*first.ratios.get(case_id, ()), *second.ratios.get(case_id, ())]
        ratio = math.exp(statistics.median(ratios)) if ratios else None
        pairs = f"{len(ratios)} pairs"
        if case_id in self.lost:
            return Verdict(case_id, Word.MISSING, f"{self.lost[case_id]} has no number for it", ratio)
        slower, confirmed = first.slower.get(case_id), second.slower.get(case_id)
        if slower is False or (slower and confirmed is False):
            return Verdict(case_id, Word.PASS, pairs, ratio, visible=math.expm1(self.threshold))
        if slower and confirmed:
            return Verdict(case_id, Word.REGRESSED, f"in two series, {pairs}", ratio)
        sd = self._deviation()
        if sd is None:
            return Verdict(case_id, Word.INCONCLUSIVE, f"{pairs} are too few", ratio)
        needed = sequential.pairs_needed(sd, self.threshold, self.alpha, BETA)
        reason = f"{pairs}; they differ by {100 * sd:.1f} %, so about {needed} are needed"
        return Verdict(case_id, Word.INCONCLUSIVE, reason, ratio)

    def _add(self, series: Series, ratios: Mapping[str, float]) -> None:
        for case_id, ratio in ratios.items():
            series.ratios.setdefault(case_id, []).append(ratio)

    def _keep(self, number: int, ratios: Mapping[str, float]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as lines:
            lines.write(json.dumps({"series": number, "ratios": ratios}).encode() + b"\n")

    def _read(self) -> None:
        """What an earlier start has found; a line that is torn is left out."""
        if not self.file.exists():
            return
        for text in self.file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                values = json.loads(text)
                found, series = dict(values["ratios"]), self.series[values["series"]]
                ratios = {case_id: float(found[case_id]) for case_id in self.cases if case_id in found}
            except (ValueError, KeyError, TypeError):
                continue
            if not all(map(math.isfinite, ratios.values())):
                raise InputError(f"{self.file}: holds ratios that are none; remove it")
            self._add(series, ratios)
        self.say(f"gone on with {self.file.name}")


def measured_by(side: Side, options: Sequence[str]) -> Measure:
    """A side's fresh process, with a history that is thrown away."""

    def measure(ids: Sequence[str]) -> Mapping[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            return side.measure(ids, options, Path(folder) / "history.json")

    return measure
