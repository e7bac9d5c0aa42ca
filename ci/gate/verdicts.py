"""One verdict a case: a run against the runs that were accepted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from ci.gate import counters, fingerprint
from ci.gate.stored.decide import Decision, decide, spells
from fixtures.core.base.text import counted, printable, significant
from fixtures.core.result.spread import ALPHA, LEAST_RUNS
from fixtures.core.store.history import History, Measured

THRESHOLD = 0.05  # the slowdown that matters, as a fraction
LEFT_OUT = "left out for time"
_LARGEST_LOG = 700.0

_Sides = tuple[list[Measured | None], list[Measured | None]]  # a case in each run: new, stored


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
    """What became of a case. Ratios are new / baseline; `visible` is the smallest visible slowdown.

    The truth lies between `low` and `high` with the chance `coverage`: against stored runs for all cases
    together, side by side for each case.
    """

    case_id: str
    word: Word
    reason: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    visible: float | None = None
    coverage: float = 1 - ALPHA

    def __post_init__(self) -> None:
        """Text comes out of histories: no control sequence in it reaches a terminal or a file."""
        for name in ("case_id", "reason"):
            object.__setattr__(self, name, printable(getattr(self, name)))


def judge(
    runs: Sequence[History], baseline: Sequence[History], threshold: float = THRESHOLD, alpha: float = ALPHA
) -> list[Verdict]:
    """Verdicts of all cases of one candidate's runs and of the baseline; the worst first.

    The worst outcome of a case in any run counts. The order of the runs does not matter.
    """
    runs, baseline = in_order(runs), in_order(baseline)
    new, old = _by_case(runs), _by_case(baseline)
    found: list[Verdict] = []
    compared: dict[str, _Sides] = {}
    differ = _Differences()
    for case_id in dict.fromkeys((*old, *new, *_lost(runs), *_lost(baseline))):
        ours = new.get(case_id, [])
        theirs = [None if one is None or one.invalid else one for one in old.get(case_id, [])]
        lost = _worst_of(case_id, runs, ours)
        if case_id not in old:
            found += _not_stored(case_id, lost, ours, baseline)
        elif lost is not None:
            found.append(Verdict(case_id, *lost))
        elif not any(ours):
            found.append(Verdict(case_id, Word.MISSING, "was measured before, and is not in the run"))
        elif not any(theirs):
            found.append(Verdict(case_id, Word.INCONCLUSIVE, "no stored run has valid times of it"))
        else:
            numbers = differ.numbers(ours)
            like = [one if one and differ.from_any(one, numbers) is None else None for one in theirs]
            if any(like):
                compared[case_id] = (ours, like)
            else:  # by the newest that is there
                reason = differ.from_any(_first(theirs[::-1]), numbers) or ""
                found.append(Verdict(case_id, Word.NOT_COMPARABLE, reason))
    found += _timed(compared, runs, baseline, math.log1p(threshold), alpha)
    order = list(Word)
    return sorted(found, key=lambda one: (order.index(one.word), one.case_id))


def in_order(runs: Sequence[History]) -> list[History]:
    """The oldest run first; runs without a time come before all others."""
    return sorted(runs, key=lambda one: (one.taken_s or 0.0, str(one.file)))


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0: pass; 1: a case is red; 2: a case cannot be judged, or nothing was compared."""
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
    return [case_id for run in runs for case_id in (*run.outcomes, *run.failed, *run.left_out)]


def _worst_of(
    case_id: str, runs: Sequence[History], ours: Sequence[Measured | None]
) -> tuple[Word, str] | None:
    """What kept a run from measuring a case; None where nothing did."""
    of = f" in {{}} of {len(runs)} runs" if len(runs) > 1 else ""
    short = [run for run in runs if case_id in run.outcomes]
    if short:
        detail = short[0].outcomes[case_id].detail[:200]
        return Word.OUT_OF_MEMORY, f"out of memory{of.format(len(short))}: {detail}"
    failed = [run for run in runs if case_id in run.failed]
    if failed:
        return Word.MISSING, f"failed{of.format(len(failed))}: {failed[0].failed[case_id][:200]}"
    invalid = [one for one in ours if one is not None and one.invalid]
    if invalid:
        first = invalid[0]
        rounds = f"{first.invalid} of {first.invalid + len(first.seconds)} rounds have no valid time"
        return Word.INCONCLUSIVE, f"{rounds}{of.format(len(invalid))}: zero, negative or not a number"
    late = [run for run in runs if case_id in run.left_out]
    if late and not any(ours):
        reason = f"{LEFT_OUT}{of.format(len(late))}: {late[0].left_out[case_id][:200]}"
        return Word.MISSING, f"{reason}; --minutes 0 measures it"
    return None


def _not_stored(
    case_id: str,
    lost: tuple[Word, str] | None,
    ours: Sequence[Measured | None],
    baseline: Sequence[History],
) -> list[Verdict]:
    """The verdict of a case that no stored run measured; none where nothing changed."""
    before = "is not in the baseline"
    is_late = lost is not None and lost[1].startswith(LEFT_OUT)
    if any(case_id in run.outcomes for run in baseline):
        before = "ran out of memory in the baseline"
        if lost is not None and lost[0] == Word.OUT_OF_MEMORY:
            return []  # as before
    elif any(case_id in run.failed for run in baseline):
        before = "failed in the baseline"
    elif any(case_id in run.left_out for run in baseline):
        before = f"was {LEFT_OUT} in the baseline"
        if is_late:
            return []  # as before
    if lost is None:
        return [Verdict(case_id, Word.NEW, before)] if any(ours) else []
    word = Word.NEW if lost[0] == Word.OUT_OF_MEMORY or is_late else lost[0]
    return [Verdict(case_id, word, f"{before}; {lost[1]}")]


def _first(measured: Sequence[Measured | None]) -> Measured:
    return next(one for one in measured if one is not None)


class _Differences:
    """Differences of fingerprints; records with the same fingerprint are compared once."""

    def __init__(self) -> None:
        self._prints: list[Mapping[str, Any]] = []
        self._same: dict[str, int] = {}
        self._number: dict[int, int] = {}
        self._found: dict[tuple[int, tuple[int, ...]], str | None] = {}

    def numbers(self, measured: Sequence[Measured | None]) -> tuple[int, ...]:
        """The numbers of their fingerprints, each once."""
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
    compared: Mapping[str, _Sides],
    runs: Sequence[History],
    baseline: Sequence[History],
    threshold: float,
    alpha: float,
) -> list[Verdict]:
    """Verdicts by counters, and of cases whose counters agree by time."""
    found: list[Verdict] = []
    timed: dict[str, tuple[list[float], list[float]]] = {}
    for case_id, (ours, theirs) in compared.items():
        stored_one = _first(theirs[::-1]).record
        records = [one.record for one in ours if one is not None]
        changed = next(filter(None, (counters.changed(one, stored_one) for one in records)), None)
        missing = next(filter(None, (counters.missing(one, stored_one) for one in records)), None)
        old, new = [_log(one) for one in theirs], [_log(one) for one in ours]
        known = sum(map(math.isfinite, old))
        if changed is not None:
            found.append(Verdict(case_id, Word.REGRESSED, f"a counter has changed: {changed}"))
        elif missing is not None:
            reason = f"the run lacks a counter of the baseline: {missing}"
            found.append(Verdict(case_id, Word.INCONCLUSIVE, reason))
        elif not known or not any(map(math.isfinite, new)):
            found.append(Verdict(case_id, Word.NOT_COMPARABLE, "a record has no median"))
        elif known < LEAST_RUNS:
            ratio = _exp(_mean(new) - _mean(old))
            runs_of = counted(known, "comparable run")
            reason = f"the baseline has {runs_of} of it; at least {LEAST_RUNS} are needed"
            found.append(Verdict(case_id, Word.INCONCLUSIVE, reason, ratio=ratio))
        else:
            timed[case_id] = (old, new)
    if not timed:
        return found
    olds, news = (np.array(side) for side in zip(*timed.values(), strict=True))
    times = [[one.taken_s for one in side] for side in (baseline, runs)]
    known_times = [[one for one in side if one is not None] for side in times]
    taken = spells(*known_times) if known_times == times else None
    decision = decide(olds, news, threshold=threshold, alpha=alpha, taken=taken)
    return found + [_verdict(case_id, row, decision, threshold) for row, case_id in enumerate(timed)]


def _verdict(case_id: str, row: int, found: Decision, threshold: float) -> Verdict:
    change, margin, visible = (float(one[row]) for one in (found.change, found.margin, found.visible))
    figures: dict[str, Any] = {
        "ratio": _exp(change),
        "low": _exp(change - margin),
        "high": _exp(change + margin),
        "visible": _exp(visible) - 1,
    }
    if found.is_slower[row]:
        return Verdict(case_id, Word.REGRESSED, f"{_percent(change)} slower", **figures)
    if found.is_red[row] and found.together is not None:
        count = int((found.change > found.together / 2).sum())
        together = f"{count} of {len(found.change)} cases slower together, by {_percent(found.together)}"
        return Verdict(case_id, Word.REGRESSED, together, **figures)
    if found.is_faster[row]:
        return Verdict(case_id, Word.IMPROVED, f"{_percent(-change)} faster", **figures)
    if found.is_pass[row]:
        return Verdict(case_id, Word.PASS, "", **figures)
    hidden_by, needed = found.hidden_by[row], found.runs_needed[row]
    if visible <= threshold:
        way = "slower" if change > 0 else "faster"
        seen = f"{_percent(abs(change))} {way}, which may be as much as the threshold"
    else:
        seen = f"a slowdown below {100 * figures['visible']:.1f} % would not be seen: {hidden_by}"
    remedy = (
        "use more stored runs, a quieter machine or `paired`"
        if needed is None
        else f"it needs {needed} new runs"
        if visible > threshold
        else "more new runs would tell"
    )
    return Verdict(case_id, Word.INCONCLUSIVE, f"{seen}; {remedy}", **figures)


def _percent(change: float) -> str:
    """A log ratio as a percentage of the faster one, or as times where it is a hundred or more."""
    ratio = _exp(change)
    return f"{ratio:.3g} times" if ratio >= 100 else f"{significant(100 * (ratio - 1), 2)} %"


def _exp(log: float) -> float:
    """The ratio of a log, or the largest that a float can be."""
    return math.exp(min(log, _LARGEST_LOG))


def _log(one: Measured | None) -> float:
    median_s = None if one is None else one.median_s
    return math.nan if median_s is None else math.log(median_s)


def _mean(logs: Sequence[float]) -> float:
    return statistics.fmean(one for one in logs if math.isfinite(one))
