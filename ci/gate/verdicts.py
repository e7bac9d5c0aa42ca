"""One verdict a case: what a run is worth against the runs that were accepted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ci.gate import counters, fingerprint, stored
from ci.gate.stored import LEAST_RUNS, Noise
from fixtures.core.histories import History, Measured
from fixtures.core.text import significant

THRESHOLD = 0.05  # the slowdown that matters, as a fraction
ALPHA = 0.01  # false alarms a run, over all of its cases


class Word(StrEnum):
    """The verdicts, the worst first."""

    REGRESSED = "REGRESSED"
    OUT_OF_MEMORY = "OUT OF MEMORY"
    MISSING = "MISSING"
    NOT_COMPARABLE = "NOT COMPARABLE"
    INCONCLUSIVE = "INCONCLUSIVE"
    IMPROVED = "IMPROVED"
    NEW = "NEW"
    PASS = "PASS"


RED = {Word.REGRESSED, Word.OUT_OF_MEMORY}
UNKNOWN = {Word.MISSING, Word.NOT_COMPARABLE, Word.INCONCLUSIVE}
COMPARED = {Word.REGRESSED, Word.IMPROVED, Word.PASS}


@dataclass(frozen=True)
class Verdict:
    """Of a case: ratios are new / baseline; `visible` is the smallest slowdown that is seen, as a fraction.

    `low` and `high` hold with the chance `coverage`: against stored runs for all cases of a run together,
    side by side for each case.
    """

    case_id: str
    word: Word
    reason: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    visible: float | None = None
    coverage: float = 1 - ALPHA


def judge(
    runs: Sequence[History], baseline: Sequence[History], threshold: float = THRESHOLD, alpha: float = ALPHA
) -> list[Verdict]:
    """Verdicts of all cases of the runs, which are of one candidate, and of the baseline; the worst first."""
    new, old = _by_case(runs), _by_case(baseline)
    found: list[Verdict] = []
    compared: dict[str, tuple[list[Measured | None], list[Measured | None]]] = {}
    differ = _Differences()
    for case_id in dict.fromkeys((*old, *new, *_lost(runs), *_lost(baseline))):
        ours, theirs = new.get(case_id), old.get(case_id)
        if theirs is None:
            found += [] if ours is None else [Verdict(case_id, Word.NEW, "is not in the baseline")]
        elif ours is None:
            found.append(_gone(case_id, runs))
        else:
            numbers = differ.numbers(ours)
            like = [one if one and differ.from_any(one, numbers) is None else None for one in theirs]
            if any(one is not None for one in like):
                compared[case_id] = (ours, like)
            else:  # by the newest that is there
                reason = differ.from_any(_first(theirs[::-1]), numbers) or ""
                found.append(Verdict(case_id, Word.NOT_COMPARABLE, reason))
    found += _timed(compared, math.log1p(threshold), alpha)
    order = list(Word)
    return sorted(found, key=lambda one: (order.index(one.word), one.case_id))


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0: all is well; 1: something is red; 2: it cannot be judged, or nothing was compared."""
    words = {one.word for one in verdicts}
    if words & RED:
        return 1
    return 2 if words & UNKNOWN or not words & COMPARED else 0


def _by_case(runs: Sequence[History]) -> dict[str, list[Measured | None]]:
    """Each case's measurement in each run."""
    found: dict[str, list[Measured | None]] = {}
    for index, run in enumerate(runs):
        for one in run.measured:
            found.setdefault(one.case_id, [None] * len(runs))[index] = one
    return found


def _lost(runs: Sequence[History]) -> list[str]:
    return [case_id for run in runs for case_id in run.outcomes]


def _gone(case_id: str, runs: Sequence[History]) -> Verdict:
    """A case that was measured before, and now is not."""
    for run in runs:
        if case_id in run.outcomes:
            detail = str(run.outcomes[case_id].get("detail"))[:200]
            return Verdict(case_id, Word.OUT_OF_MEMORY, f"was measured before: {detail}")
        if case_id in run.failed:
            return Verdict(case_id, Word.MISSING, f"failed: {run.failed[case_id][:200]}")
    return Verdict(case_id, Word.MISSING, "was measured before, and is not in the run")


def _first(measured: Sequence[Measured | None]) -> Measured:
    return next(one for one in measured if one is not None)


class _Differences:
    """Of fingerprints; records that have theirs in common are looked at once."""

    def __init__(self) -> None:
        self._prints: list[Mapping[str, Any]] = []
        self._same: dict[str, int] = {}
        self._number: dict[int, int] = {}
        self._found: dict[tuple[int, tuple[int, ...]], str | None] = {}

    def numbers(self, measured: Sequence[Measured | None]) -> tuple[int, ...]:
        """Those of their fingerprints, each once."""
        return tuple(dict.fromkeys(self._of(one) for one in measured if one is not None))

    def from_any(self, stored: Measured, numbers: tuple[int, ...]) -> str | None:
        """The first field in which one of these fingerprints differs from a stored measurement's."""
        key = (self._of(stored), numbers)
        if key not in self._found:
            theirs = self._prints[key[0]]
            reasons = (fingerprint.difference(self._prints[one], theirs) for one in numbers)
            self._found[key] = next((one for one in reasons if one is not None), None)
        return self._found[key]

    def _of(self, one: Measured) -> int:
        """The number of a measurement's fingerprint; the same ones have the same."""
        number = self._number.get(id(one.alike))
        if number is None:
            found = fingerprint.fingerprint(one.record)
            number = self._same.setdefault(repr(found), len(self._prints))
            if number == len(self._prints):
                self._prints.append(found)
            self._number[id(one.alike)] = number
        return number


def _timed(
    compared: Mapping[str, tuple[list[Measured | None], list[Measured | None]]],
    threshold: float,
    alpha: float,
) -> list[Verdict]:
    """Counters first, then time."""
    found: list[Verdict] = []
    news: dict[str, list[float | None]] = {}
    olds: dict[str, list[float | None]] = {}
    for case_id, (ours, theirs) in compared.items():
        reason = counters.changed(_first(ours).record, _first(theirs[::-1]).record)
        if reason is not None:
            found.append(Verdict(case_id, Word.REGRESSED, f"a counter has changed: {reason}"))
            continue
        new, old = [_log(one) for one in ours], [_log(one) for one in theirs]
        if any(one is not None for one in new) and any(one is not None for one in old):
            news[case_id], olds[case_id] = new, old
        else:
            found.append(Verdict(case_id, Word.NOT_COMPARABLE, "a record has no median"))
    known = stored.noise(olds)
    changes = {
        name: (_mean(new) - _mean(olds[name]), _count(new), _count(olds[name])) for name, new in news.items()
    }
    if known is not None:
        known = stored.with_own(known, [(c, stored.scale(n_old, n)) for c, n, n_old in changes.values()])
    return found + [
        _verdict(name, change, new, old, known, len(changes), threshold, alpha)
        for name, (change, new, old) in changes.items()
    ]


def _verdict(
    case_id: str,
    change: float,
    new: int,
    old: int,
    known: Noise | None,
    cases: int,
    threshold: float,
    alpha: float,
) -> Verdict:
    if known is None or old < LEAST_RUNS:
        reason = (
            f"the baseline has {old} comparable run{'s' * (old != 1)} of it, of {LEAST_RUNS} at the least"
        )
        return Verdict(case_id, Word.INCONCLUSIVE, reason, ratio=math.exp(change))
    one = stored.compare(change, old, new, known, cases, threshold, alpha)
    figures: dict[str, Any] = {
        "ratio": math.exp(change),
        "low": math.exp(change - one.margin),
        "high": math.exp(change + one.margin),
        "visible": math.expm1(one.visible),
    }
    if change > one.cut:
        return Verdict(case_id, Word.REGRESSED, f"{_percent(change)} slower", **figures)
    if change < -one.cut:
        return Verdict(case_id, Word.IMPROVED, f"{_percent(-change)} faster", **figures)
    if one.visible <= threshold:
        return Verdict(case_id, Word.PASS, "", **figures)
    needed = stored.runs_needed(old, known, cases, threshold, alpha)
    seen = (
        f"a slowdown below {100 * figures['visible']:.1f} % would not be seen, by the noise of {known.own_by}"
    )
    remedy = (
        "it needs a larger baseline or a quieter machine" if needed is None else f"it needs {needed} runs"
    )
    return Verdict(case_id, Word.INCONCLUSIVE, f"{seen}; {remedy}", **figures)


def _percent(change: float) -> str:
    """A log ratio as a percentage of the faster one."""
    return f"{significant(100 * math.expm1(change), 2)} %"


def _log(one: Measured | None) -> float | None:
    median_s = None if one is None else one.median_s
    return None if median_s is None else math.log(median_s)


def _mean(logs: Sequence[float | None]) -> float:
    return statistics.fmean(one for one in logs if one is not None)


def _count(logs: Sequence[float | None]) -> int:
    return sum(one is not None for one in logs)
