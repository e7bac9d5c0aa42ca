"""Cases whose time moves with the case that ran before them: a hot device, a full cache.

Only sessions with `--order random` tell: there the order was drawn, so that a case which is slower after
another one is slower because of it, or by chance. For each case and each case before it, the exact test of H.
B. Mann and D. R. Whitney (Annals of Mathematical Statistics 18(1), 1947) compares the runs after that case
with all others. It asks only which runs are slower, so that no kind of noise makes false alarms. The level is
`ALPHA` for all tests together (Bonferroni).
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fixtures.core.spec.model_names import suffixes
from fixtures.core.store.history import History, Measured

ALPHA = 0.01  # that any case is named although none moves
LEAST_RUNS = 8  # of a case, in random orders
LEAST_AFTER = 3  # of these after the same case, and as many after others
ELSEWHERE = "another model"  # the case before was of another load, whichever it was
FIRST = "nothing (the first of its session)"
_AROUND = 5  # runs on each side, whose median is a run's level: what creeps in is not the predecessor's
_FAR = 2.0  # standard deviations of a sum of ranks: nearer ones need no exact test
_LOAD = re.compile(r"-b[0-9]+-in[0-9_]+-out[0-9]+")
Line = list[tuple[History, Measured, float]]


@dataclass(frozen=True)
class Moved:
    """A case that is slower or faster after another one, by `ratio` of medians, in `after` of `runs` runs."""

    case_id: str
    before: str
    ratio: float
    after: int
    runs: int
    p: float

    @property
    def text(self) -> str:
        """In words."""
        return (
            f"{self.case_id}: {100 * (self.ratio - 1):+.1f} % after {self.before}, in {self.after} of "
            f"{self.runs} runs (p = {self.p:.1g})"
        )


def lines_of(runs: Sequence[History]) -> dict[tuple[str, Any], Line]:
    """The runs of each case, the oldest first, each with the log of its median in s.

    A case on another machine, or of another model of the same name, is another case.
    """
    lines: dict[tuple[str, Any], Line] = {}
    every = [(run, one) for run in sorted(runs, key=lambda one: one.taken) for one in run.measured]
    told = suffixes([one.record.identity for _, one in every])
    for (run, one), suffix in zip(every, told, strict=True):
        if one.median_s is not None:
            case_id = f"{one.case_id}, {suffix}" if suffix else one.case_id
            device = one.record.machine.reported_name
            lines.setdefault((case_id, device), []).append((run, one, math.log(one.median_s)))
    return lines


def moved(runs: Sequence[History]) -> tuple[list[Moved], int]:
    """The cases that move, the largest change first; and how many were tested, in enough random orders."""
    cases = {}
    for (case_id, _), line in lines_of(runs).items():
        drawn: dict[int, tuple[str, float]] = {}  # by seed: one that is repeated tells nothing new
        for _, one, log in line:
            turn = one.record.turn
            if turn is not None and turn.seed is not None:
                drawn.setdefault(turn.seed, (_label(one.case_id, turn.after), log))
        if len(drawn) >= LEAST_RUNS:
            cases[case_id] = list(drawn.values())
    return named(cases), len(cases)


def named(cases: dict[str, list[tuple[str, float]]]) -> list[Moved]:
    """The cases that move; each has, run by run, the case before it and the log of its median."""
    found = [each for case_id, line in cases.items() for each in _tests(case_id, line)]
    kept = [each for each in found if each.p * len(found) <= ALPHA]
    return sorted(kept, key=lambda each: (-abs(math.log(each.ratio)), each.case_id, each.before))


def _tests(case_id: str, line: Sequence[tuple[str, float]]) -> Iterator[Moved]:
    """A test for each case that ran before often enough; p is 1 where it is not worth an exact test."""
    from scipy.stats import mannwhitneyu, rankdata

    logs = [log for _, log in line]
    levels = [statistics.median(logs[max(at - _AROUND, 0) : at + _AROUND + 1]) for at in range(len(logs))]
    off = [log - level for log, level in zip(logs, levels, strict=True)]
    ranks = rankdata(off)
    for before, count in Counter(label for label, _ in line).items():
        if min(count, len(line) - count) < LEAST_AFTER:
            continue
        sides: tuple[list[float], list[float]] = [], []
        for (label, _), value in zip(line, off, strict=True):
            sides[label != before].append(value)
        total = sum(rank for (label, _), rank in zip(line, ranks, strict=True) if label == before)
        spread = math.sqrt(count * (len(line) - count) * (len(line) + 1) / 12)
        is_far = abs(total - count * (len(line) + 1) / 2) > _FAR * spread
        p = float(mannwhitneyu(*sides, method="exact").pvalue) if is_far else 1.0
        ratio = math.exp(statistics.median(sides[0]) - statistics.median(sides[1]))
        yield Moved(case_id, before, ratio, count, len(line), p)


def _label(case_id: str, after: str | None) -> str:
    """The case before, by name if it was of the same load; those of other loads come too rarely."""
    if after is None:
        return FIRST
    return after if _LOAD.split(after)[0] == _LOAD.split(case_id)[0] else ELSEWHERE
