"""How far a machine goes: the most sequences, and the longest input, that fit and meet the targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ci.pick.estimates import (
    MOST,
    cases_on,
    estimated_row,
    measured_rows,
    most_sequences,
    needed_bytes,
    too_large,
)
from ci.pick.estimator import Estimator
from ci.pick.rows import ESTIMATED, MEETS, NOT, Question, Row
from ci.report.read.samples import Curve
from fixtures.core.cost.memory import largest_batch, room_bytes
from fixtures.core.estimate.estimate import Refused
from fixtures.core.estimate.physics import FARTHEST, read_physics
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point

SEQUENCES, INPUT = "sequences", "input"
MEMORY, CONTEXT, REACH, TRIED = "memory", "model's context", f"{FARTHEST} x the longest fitted", "most tried"


@dataclass(frozen=True)
class Limit:
    """The largest batch, or the longest input in tokens, of a machine.

    `most` meets the targets by measurement or by the interval's upper end, `by_estimate` by the estimate
    itself; 0 where not even one does. `row` is the point at `most`, or at 1.
    """

    what: str
    most: int
    by_estimate: int
    limited_by: str
    row: Row


@dataclass(frozen=True)
class Limits:
    """The machines that go farthest first, and (machine, reason) of what is not estimated."""

    limits: tuple[Limit, ...]
    refused: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For programs, in SI units."""
        return {
            "limits": [
                {
                    "what": limit.what,
                    "most": limit.most,
                    "by_estimate": limit.by_estimate,
                    "limited_by": limit.limited_by,
                    "context_len": limit.row.point.input_len + limit.row.point.output_len,
                    "at": limit.row.as_dict(),
                }
                for limit in self.limits
            ],
            "refused": [{"machine": machine, "reason": reason} for machine, reason in self.refused],
        }


def find_limits(
    what: str,
    question: Question,
    model: ModelSpec,
    lengths: tuple[int, int],
    on: Sequence[tuple[int, HardwareSpec]],
    engines: Sequence[EngineSpec],
    curves: Sequence[Curve],
    estimator: Estimator,
) -> Limits:
    """The limit of each machine and engine: of sequences at these lengths, or of the input's length.

    For the input, `question.batches` says how many sequences at once, one where it is empty. `curves` are
    those of this model; what they measured counts instead of an estimate.
    """
    found, refused = [], []
    for batch in (question.batches if what == INPUT else ()) or (1,):
        for case, curve in cases_on(model, lengths, on, engines, curves):
            case = replace(case, point=replace(case.point, batch_size=batch))
            limit = _limit(what, question, case, curve, curves, estimator)
            if isinstance(limit, str):
                refused.append((f"{case.devices}x{case.hardware.name} {case.engine.name}", limit))
            else:
                found.append(limit)
    found.sort(
        key=lambda limit: (
            limit.row.point.batch_size * (what == INPUT),
            -limit.most,
            -limit.by_estimate,
            limit.row.devices,
        )
    )
    return Limits(tuple(found), tuple(dict.fromkeys(refused)))


def _limit(
    what: str,
    question: Question,
    case: Case,
    curve: Curve | None,
    curves: Sequence[Curve],
    estimator: Estimator,
) -> Limit | str:
    """The limit of a machine; the reason where nothing is estimated."""
    lowest = replace(case, point=replace(case.point, input_len=1)) if what == INPUT else case
    reason = estimator.refusal(lowest)
    if reason is not None:
        return reason
    cap, capped_by = _most_that_fit(what, case, curve, estimator)
    if cap is None:
        return f"device {case.hardware.name}: its memory is not known"
    if cap < 1:
        return (
            too_large(case.point.batch_size) if capped_by == MEMORY else f"no input is within the {capped_by}"
        )
    key = "batch_size" if what == SEQUENCES else "input_len"
    known = _measured(key, question, case, curves)
    rows: dict[int, Row | Refused] = dict(known)

    def at(size: int) -> Row | Refused:
        if size not in rows:
            point = Point(**{**vars(case.point), key: size})
            rows[size] = estimated_row(question, replace(case, point=point), estimator, {})
        return rows[size]

    first = at(1)
    if isinstance(first, Refused):
        return first.reason

    def meets(size: int, verdicts: Sequence[str]) -> bool:
        row = at(size)
        return isinstance(row, Row) and row.verdict in verdicts

    most = _last(lambda size: meets(size, (MEETS, ESTIMATED)), cap, known)
    by_estimate = _last(lambda size: not meets(size, (NOT,)), cap, known)
    row, above = at(max(most, 1)), at(most + 1)
    assert isinstance(row, Row)
    limited_by = capped_by if most >= cap or isinstance(above, Refused) else missed(question, above)
    return Limit(what, most, max(by_estimate, most), limited_by, row)


def _last(passes: Callable[[int], bool], cap: int, also: Iterable[int]) -> int:
    """The largest size up to `cap` that passes; 0 if none of those tried does.

    Time grows with size, so what meets a target at a size meets it below; an interval may be narrower at a
    larger size, so the search looks at powers of two, sizes half way and measured ones, then halves.
    """
    powers = [2**i for i in range(cap.bit_length())]
    tried = sorted(
        {size for size in (*powers, *(3 * size // 2 for size in powers), *also, cap) if size <= cap}
    )
    good = max((size for size in tried if passes(size)), default=0)
    bad = min((size for size in tried if size > good), default=cap + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if passes(middle) else (good, middle)
    return good


def _most_that_fit(
    what: str, case: Case, curve: Curve | None, estimator: Estimator
) -> tuple[int | None, str]:
    """The size that memory, the model and the fit allow, and which of them is the least."""
    if what == SEQUENCES:
        most = most_sequences(case, estimator, curve)
        return most, TRIED if most == MOST else MEMORY
    counts, room = estimator.counts_of(case.model, case.engine), room_bytes(case.hardware, case.devices)
    physics = read_physics(case.engine.kind, case.hardware.kind)
    if counts is None or room is None or physics is None:
        return None, MEMORY
    caps = {
        MEMORY: largest_batch(
            lambda tokens: needed_bytes(case, replace(case.point, input_len=tokens), counts), room
        ),
        REACH: FARTHEST * physics.fitted.input_len,
    }
    context = case.model.context_len
    if context is not None:
        caps[CONTEXT] = context - case.point.output_len
    by = min(caps, key=lambda name: caps[name])
    return caps[by], by


def _measured(key: str, question: Question, case: Case, curves: Sequence[Curve]) -> dict[int, Row]:
    """Measured points of the machine that differ in this size alone and have what is asked for."""
    here = (case.hardware.name, case.devices, case.engine.name)
    found = {}
    for curve in curves:
        for row in measured_rows(question, curve, {}):
            same = replace(row.point, **{key: getattr(case.point, key)}) == case.point
            if same and (row.hardware.name, row.devices, row.engine) == here:
                found[int(getattr(row.point, key))] = row
    return found


def missed(question: Question, row: Row) -> str:
    """The targets that a row misses, by the upper end of an estimate."""
    wide = row.high_s / row.latency_s
    asked = {
        "TPOT": (question.tpot_s, row.tpot_s),
        "TTFT": (question.ttft_s, row.ttft_s),
        "latency": (question.latency_s, row.latency_s),
    }
    over = [
        name
        for name, (target, got) in asked.items()
        if target is not None and (got is None or got * wide > target)
    ]
    return ", ".join(over)
