"""Measured answers as a table for people, and as JSON values for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ci.pick.answers import Answer, At, Target
from fixtures.core.base.columns import aligned
from fixtures.core.base.text import seconds, significant

_HEADING = (
    "hardware",
    "engine",
    "source",
    "batch",
    "latency s",
    "tokens/s",
    "tokens/s per device",
    "$/M tokens",
)


def lines(answers: Sequence[Answer], target: Target) -> list[str]:
    """A table of the answers that meet the target, then interpolated points, dominated and missing curves."""
    met = [answer for answer in answers if answer.best is not None]
    table = aligned([_HEADING, *map(_cells, met)], words=range(3))
    found = table if met else [f"nothing meets {_asked(target)}"]
    between = [f"  {answer.label}: {_point(answer.between)}" for answer in answers if answer.between]
    dominated = [f"  {each.label} by {', '.join(each.dominated_by)}" for each in met if each.dominated_by]
    missed = [f"  {answer.label}: {_missed(answer, target)}" for answer in answers if answer.best is None]
    for heading, group in (
        ("interpolated along batch size between two measured ones, not measured:", between),
        (
            "dominated (no better in latency, tokens/s, tokens/s per device or known price, worse in one):",
            dominated,
        ),
        (f"without a measured point that meets {_asked(target)}:", missed),
    ):
        if group:
            found += ["", heading, *group]
    return found


def as_json(answers: Sequence[Answer], target: Target, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for and every answer, in SI units."""
    return {
        "asked": {**asked, "latency_s": target.latency_s, "output_tokens_per_s": target.tokens_per_s},
        "answers": [_plain(answer) for answer in answers],
    }


def _plain(answer: Answer) -> dict[str, Any]:
    sample = next(
        (s for s in answer.curve.samples if answer.best and s.point.batch_size == answer.best.batch_size),
        None,
    )
    return {
        "hardware": answer.curve.hardware,
        "devices": answer.devices,
        "engine": answer.curve.engine,
        "source": answer.curve.source,
        "meets": answer.best is not None,
        "case": sample and sample.case_id,
        "history": sample and sample.file,
        "best": _point_plain(answer.best),
        "output_tokens_per_s_per_device": answer.per_device,
        "usd_per_million_output_tokens": answer.usd_per_million_tokens,
        "interpolated": _point_plain(answer.between),
        "nearest": _point_plain(answer.nearest),
        "dominated_by": list(answer.dominated_by),
        "out_of_memory_at_batch": min(answer.curve.ran_out, default=None),
    }


def _point_plain(at: At | None) -> dict[str, Any] | None:
    if at is None:
        return None
    return {
        "batch_size": at.batch_size,
        "latency_s": at.latency_s,
        "output_tokens_per_s": at.tokens_per_s,
    }


def _cells(answer: Answer) -> tuple[str, ...]:
    best, cost = answer.best, answer.usd_per_million_tokens
    assert best is not None
    return (
        answer.curve.hardware,
        answer.curve.engine,
        answer.curve.source,
        str(best.batch_size),
        significant(best.latency_s, 4),
        significant(best.tokens_per_s, 4),
        significant(answer.per_device or 0, 4),
        "-" if cost is None else significant(cost),
    )


def _point(at: At) -> str:
    return f"batch {at.batch_size}, {seconds(at.latency_s)}, {significant(at.tokens_per_s, 4)} tokens/s"


def _missed(answer: Answer, target: Target) -> str:
    what = "the least latency is" if target.latency_s is not None else "the highest throughput is at"
    return f"{what} {_point(answer.nearest)}"


def _asked(target: Target) -> str:
    if target.latency_s is not None:
        return f"a latency of {seconds(target.latency_s)}"
    return f"{significant(target.tokens_per_s or 0)} tokens/s"
