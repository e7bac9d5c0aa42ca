"""Estimated rows and limits as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from ci.pick.limits import INPUT, Limit, Limits
from ci.pick.rows import CLASSES, MAY, Found, Question, Row
from fixtures.core.base.columns import aligned
from fixtures.core.base.text import seconds, significant

_ROW = (
    "hardware", "engine", "batch", "latency s", "90 % interval s", "tokens/s", "tokens/s per device",
    "TTFT s", "TPOT s", "J/1000 tokens",
)  # fmt: skip
_COSTS = ("$/M tokens", "at most", "$/M in", "$/M out")
_WORDS = ("set by", "new")
_LIMIT = (
    "by estimate", "latency s", "90 % interval s", "tokens/s", "TTFT s", "TPOT s", "limited by",
)  # fmt: skip
_NO_TDP = "no TDP"


def estimated_lines(found: Found, with_measured: bool) -> list[str]:
    """Rows by class, the best first, with what is new of each and what sets it; what to measure; refusals."""
    rows = [row for row in found.rows if with_measured or row.estimate is not None]
    priced = any(row.usd_per_hour is not None for row in rows)
    heading = (*_ROW, *(_COSTS if priced else ()), *_WORDS)
    cells = [(*_row_cells(row), *(_cost_cells(row) if priced else ()), *_row_words(row)) for row in rows]
    last = len(heading) - 1
    head, *body = aligned([heading, *cells], words={0, 1, last - 1, last})
    lines = []
    for verdict in CLASSES:
        group = [(row, line) for row, line in zip(rows, body, strict=True) if row.verdict == verdict]
        if group:
            lines += ["", f"{verdict}:", head, *(line for _, line in group)]
        if group and verdict == MAY:
            lines += ["measure first, on the machine itself:"]
            lines += [f"  {command}" for row, _ in group for command in row.measure]
    if any(row.joules is None and row.hardware.tdp_w is not None for row in rows):
        lines += [
            "",
            "<= is the devices' TDP for as long as the latency's upper end; the host's power is not in it",
        ]
    return [*lines, *_refusals(found.refused)][1:]


def limit_lines(found: Limits, question: Question, lengths: tuple[int, int]) -> list[str]:
    """Machines by how far they go, the farthest first; refusals."""
    first, last = lengths
    of_input = bool(found.limits) and found.limits[0].what == INPUT
    what = (
        f"longest input with {last} tokens out"
        if of_input
        else f"most sequences of {first} tokens in, {last} out"
    )
    sizes = ("input", "batch") if of_input else ("sequences",)
    rows = [("hardware", "engine", *sizes, *_LIMIT, *_WORDS), *map(_limit_cells, found.limits)]
    lines = [f"{what}, that fit{_asked(question)}:"] if found.limits else []
    last = len(rows[0]) - 1
    lines += aligned(rows, words={0, 1, last - 2, last - 1, last}) if found.limits else []
    return [*lines, *_refusals(found.refused)][0 if lines else 1 :]


def _asked(question: Question) -> str:
    targets = {"latency": question.latency_s, "TTFT": question.ttft_s, "TPOT": question.tpot_s}
    told = [f"{name} {seconds(target)}" for name, target in targets.items() if target is not None]
    if not told:
        return ""
    return f" and meet {' and '.join(told)} by the upper end of the interval"


def _refusals(refused: Sequence[tuple[str, str]]) -> list[str]:
    """A reason a line, with its machines."""
    reasons: dict[str, list[str]] = {}
    for machine, reason in refused:
        reasons.setdefault(reason, []).append(machine)
    lines = [f"  {reason}: {', '.join(names)}" for reason, names in reasons.items()]
    return ["", "not estimated:", *lines] if lines else []


def _row_cells(row: Row) -> tuple[str, ...]:
    joules = row.joules_per_1000_tokens
    energy = _NO_TDP if joules is None else ("<=" if row.joules is None else "") + significant(joules)
    return (
        row.label,
        row.engine,
        str(row.point.batch_size),
        significant(row.latency_s, 4),
        _interval(row),
        significant(row.tokens_per_s, 4),
        significant(row.tokens_per_s / row.devices, 4),
        *map(_or_dash, (row.ttft_s, row.tpot_s)),
        energy,
    )


def _cost_cells(row: Row) -> tuple[str, ...]:
    return tuple(
        map(_or_dash, (row.usd_per_million_tokens, row.usd_at_most, *(row.usd_in_and_out or (None,) * 2)))
    )


def _row_words(row: Row) -> tuple[str, str]:
    return ("-", "-") if row.estimate is None else (row.estimate.set_by, row.estimate.novelty)


def _limit_cells(limit: Limit) -> tuple[str, ...]:
    row = limit.row
    return (
        row.label,
        row.engine,
        str(limit.most),
        *((str(row.point.batch_size),) if limit.what == INPUT else ()),
        str(limit.by_estimate),
        significant(row.latency_s, 4),
        _interval(row),
        significant(row.tokens_per_s, 4),
        *map(_or_dash, (row.ttft_s, row.tpot_s)),
        limit.limited_by,
        *_row_words(row),
    )


def _interval(row: Row) -> str:
    return "measured" if row.estimate is None else f"{significant(row.low_s)} to {significant(row.high_s)}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else significant(value)
