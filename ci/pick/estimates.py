"""Estimated points of machines, batches and lengths that nobody measured, by what they mean for a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ci.pick.answers import usd_per_million_tokens
from ci.pick.estimator import Estimator, engine_of
from ci.report.read.samples import Curve, Sample
from fixtures.core.cost.memory import largest_batch, predict, room_bytes
from fixtures.core.estimate.estimate import (
    Estimate,
    Refused,
)
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point

MEETS, ESTIMATED, MAY, NOT = "meets", "meets, estimated", "may meet", "does not meet"
CLASSES = (MEETS, ESTIMATED, MAY, NOT)
RANKS = ("tokens", "device", "cost", "fewest")
NUMBERS = (1, 2, 4, 8)  # of devices, where none are named
_MOST = 4096  # sequences
_HOST_TOKENS = 32  # that a point at batch 1 needs at the least, to tell the host's time


@dataclass(frozen=True)
class Question:
    """What is asked: at most these seconds, at least these output tokens/s; all None: that it fits."""

    latency_s: float | None = None
    tokens_per_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    rank: str = "tokens"
    batches: tuple[int, ...] = ()

    @property
    def is_throughput(self) -> bool:
        """Whether more of it is better."""
        return self.tokens_per_s is not None


@dataclass(frozen=True)
class Row:
    """A point of a machine, measured where `estimate` is None; `low_s` and `high_s` are of the latency."""

    verdict: str
    hardware: HardwareSpec
    devices: int
    engine: str
    point: Point
    latency_s: float
    low_s: float
    high_s: float
    ttft_s: float | None
    tpot_s: float | None
    estimate: Estimate | None = None
    usd_per_million_tokens: float | None = None
    measure: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """As in a case id."""
        return f"{self.devices}x{self.hardware.name}"

    @property
    def tokens_per_s(self) -> float:
        """Output tokens of all sequences."""
        return self.point.batch_size * self.point.output_len / self.latency_s


@dataclass(frozen=True)
class Found:
    """Rows, the best first, and (machine, reason) of what is not estimated."""

    rows: tuple[Row, ...]
    refused: tuple[tuple[str, str], ...] = ()


def machines(
    labels: Iterable[tuple[int, HardwareSpec]], samples: Sequence[Sample]
) -> list[tuple[int, HardwareSpec]]:
    """Those that are asked for; else every GPU of the library in each number, and those of the samples."""
    found = dict.fromkeys(labels)
    if not found:
        gpus = [gpu for gpu in library.all_hardware() if gpu.kind == "gpu"]
        names = library.names("hardware")
        seen = [
            (sample.devices, library.hardware(sample.device))
            for sample in samples
            if sample.device in names and library.hardware(sample.device).kind == "gpu"
        ]
        found = dict.fromkeys([*((n, gpu) for gpu in gpus for n in NUMBERS), *seen])
    return list(found)


def look(
    question: Question,
    model: ModelSpec,
    lengths: tuple[int, int],
    on: Sequence[tuple[int, HardwareSpec]],
    engines: Sequence[EngineSpec],
    curves: Sequence[Curve],
    estimator: Estimator,
    prices: Mapping[str, float],
) -> Found:
    """A row a machine and engine: the best batch of the best class, measured or estimated.

    `curves` are those of this model at these lengths; what they measured is estimated nowhere, and where a
    measured point meets, no estimate that may not is beside it.
    """
    rows = [_measured(question, curve, prices) for curve in curves]
    filled = {(row.label, row.engine) for row in rows if row.verdict == MEETS}
    refused = []
    for n, hardware in on:
        here = [
            curve
            for curve in curves
            if (curve.samples[0].device, curve.samples[0].devices) == (hardware.name, n)
        ]
        chosen = list(engines) or list({curve.engine: engine_of(curve.samples[0]) for curve in here}.values())
        for engine in chosen or [_usual(n)]:
            case = Case(model, hardware, n, engine, Point(1, *lengths))
            same = next((curve for curve in here if curve.engine == engine.name), None)
            found = _estimated(question, case, same, estimator, prices)
            if isinstance(found, str):
                refused.append((f"{n}x{hardware.name} {engine.name}", found))
            elif found is not None and (
                found.verdict == ESTIMATED or (found.label, found.engine) not in filled
            ):
                rows.append(found)
    ranked = sorted(rows, key=lambda row: (CLASSES.index(row.verdict), rank(row, question)))
    return Found(tuple(ranked), tuple(refused))


def _usual(devices: int) -> EngineSpec:
    """What would run on so many devices."""
    return EngineSpec("hf") if devices == 1 else EngineSpec("deepspeed", "deepspeed")


def rank(row: Row, question: Question) -> tuple[float, ...]:
    """What is to be small inside a class."""
    speed = row.latency_s if question.is_throughput else -row.tokens_per_s
    if row.verdict == NOT:
        return (_off(row, question),)
    first = {
        "tokens": 0.0,
        "device": -row.tokens_per_s / row.devices,
        "cost": row.usd_per_million_tokens if row.usd_per_million_tokens is not None else float("inf"),
        "fewest": float(row.devices),
    }[question.rank]
    return first, speed


def _off(row: Row, question: Question) -> float:
    """How far a row is from what is asked: more is farther."""
    for asked, got in (
        (question.latency_s, row.latency_s),
        (question.ttft_s, row.ttft_s),
        (question.tpot_s, row.tpot_s),
    ):
        if asked is not None and got is not None:
            return got / asked
    return question.tokens_per_s / row.tokens_per_s if question.tokens_per_s else 0.0


def _meets(
    question: Question, tokens: int, latency_s: float, ttft_s: float | None, tpot_s: float | None
) -> bool:
    """Whether a call of so many output tokens in these seconds is what is asked."""
    return (
        (question.latency_s is None or latency_s <= question.latency_s)
        and (question.tokens_per_s is None or tokens / latency_s >= question.tokens_per_s)
        and (question.ttft_s is None or (ttft_s is not None and ttft_s <= question.ttft_s))
        and (question.tpot_s is None or (tpot_s is not None and tpot_s <= question.tpot_s))
    )


def _measured(question: Question, curve: Curve, prices: Mapping[str, float]) -> Row:
    """The best measured point of a curve, else the one that is nearest."""
    rows = []
    for sample in curve.samples:
        assert sample.latency_s is not None
        split, names = sample.record.split, library.names("hardware")
        ttft_s, tpot_s = (None, None) if split is None else (split.ttft_s, split.tpot_s)
        if sample.point.output_len == 1:
            ttft_s = sample.latency_s
        tokens = sample.point.batch_size * sample.point.output_len
        hardware = (
            library.hardware(sample.device) if sample.device in names else HardwareSpec(sample.device, "gpu")
        )
        rows.append(
            Row(
                MEETS if _meets(question, tokens, sample.latency_s, ttft_s, tpot_s) else NOT,
                hardware, sample.devices, sample.engine, sample.point,
                sample.latency_s, sample.latency_s, sample.latency_s,
                ttft_s, tpot_s, None, _usd(prices, sample.device, sample.machines, tokens / sample.latency_s),
            )
        )  # fmt: skip
    return min(rows, key=lambda row: (CLASSES.index(row.verdict), rank(row, question)))


def _usd(prices: Mapping[str, float], device: str, number: int, tokens_per_s: float) -> float | None:
    price = prices.get(device)
    return None if price is None else usd_per_million_tokens(price, number, tokens_per_s)


def _estimated(
    question: Question, case: Case, curve: Curve | None, estimator: Estimator, prices: Mapping[str, float]
) -> Row | str | None:
    """The best unmeasured batch; the reason where nothing is estimated, None where all was measured."""
    reason = estimator.refusal(case)
    if reason is not None:
        return reason
    largest = _largest(case, estimator, curve)
    if largest is None and not question.batches:
        return f"device {case.hardware.name}: its memory is not known; name batches by --batch"
    largest = _MOST if largest is None else largest
    if largest < 1:
        return "one sequence does not fit its memory, as predicted"
    measured = {sample.point.batch_size for sample in curve.samples} if curve else set()
    allowed = question.batches or _batches(question, largest)
    batches = [batch for batch in allowed if batch <= largest and batch not in measured]
    if not batches:
        return None
    rows: dict[int, Row | Refused] = {}

    def at(batch: int) -> Row | Refused:
        if batch not in rows:
            rows[batch] = _row(question, case, batch, estimator, prices)
        return rows[batch]

    for batch in batches:
        row = at(batch)
        if isinstance(row, Refused):
            return row.reason
    if not question.batches:
        _refine(batches, at, question, measured)
    found = [row for row in rows.values() if isinstance(row, Row) and row.point.batch_size not in measured]
    best = min(found, key=lambda row: (CLASSES.index(row.verdict), rank(row, question)))
    return replace(best, measure=_to_measure(best, case)) if best.verdict == MAY else best


def _batches(question: Question, largest: int) -> list[int]:
    """Powers of two and the largest; where all that is asked is that it fits, one sequence."""
    if question == replace(question, latency_s=None, tokens_per_s=None, ttft_s=None, tpot_s=None):
        return [1]
    return sorted({*(2**i for i in range(largest.bit_length()) if 2**i <= largest), largest})


def _refine(
    batches: Sequence[int], at: Callable[[int], Row | Refused], question: Question, measured: set[int]
) -> None:
    """Between two batches of which one is of a better class, the last whole one that still is, by halving."""

    def verdict(batch: int) -> int:
        row = at(batch)
        return CLASSES.index(row.verdict) if isinstance(row, Row) else len(CLASSES)

    best = min(map(verdict, batches))
    inside = [batch for batch in batches if verdict(batch) == best]
    good = min(inside) if question.is_throughput else max(inside)
    beyond = [b for b in batches if (b < good if question.is_throughput else b > good)]
    if not beyond or best == CLASSES.index(NOT):
        return
    bad = max(beyond) if question.is_throughput else min(beyond)
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if verdict(middle) == best else (good, middle)
    step = 1 if question.is_throughput else -1
    while good in measured and good > 0:
        good += step
        if good > 0:
            at(good)


def _largest(case: Case, estimator: Estimator, curve: Curve | None) -> int | None:
    """The most sequences that the memory holds as predicted, and fewer than ran out; None where not known."""
    counts, room = estimator.counts_of(case.model, case.engine), room_bytes(case.hardware, case.devices)
    if counts is None or room is None:
        return None

    def needed(batch: int) -> int:
        at = replace(case.point, batch_size=batch)
        return predict(at, counts.footprint, case.hardware.kind, case.devices, case.engine.kind).total_bytes

    ran_out = min(curve.ran_out, default=_MOST + 1) if curve else _MOST + 1
    return min(largest_batch(needed, room), ran_out - 1)


def _row(
    question: Question, case: Case, batch: int, estimator: Estimator, prices: Mapping[str, float]
) -> Row | Refused:
    point = replace(case.point, batch_size=batch)
    found = estimator.of(replace(case, point=point))
    if isinstance(found, Refused):
        return found
    tokens, wide = batch * point.output_len, found.half_width
    tpot_s = found.tpot_s

    def meets(factor: float) -> bool:
        high_tpot_s = None if tpot_s is None else tpot_s * factor
        return _meets(question, tokens, found.latency_s * factor, found.ttft_s * factor, high_tpot_s)

    return Row(
        verdict=ESTIMATED if meets(wide) else MAY if meets(1.0) else NOT,
        hardware=case.hardware,
        devices=case.devices,
        engine=case.engine.name,
        point=point,
        latency_s=found.latency_s,
        low_s=found.low_s,
        high_s=found.high_s,
        ttft_s=found.ttft_s,
        tpot_s=tpot_s,
        estimate=found,
        usd_per_million_tokens=_usd(prices, case.hardware.name, case.devices, tokens / found.latency_s),
    )


def _to_measure(row: Row, case: Case) -> tuple[str, ...]:
    """The command that measures what tells most: one sequence for the host, and the row's own batch."""
    batches = sorted({1, row.point.batch_size})
    tokens = max(row.point.output_len, _HOST_TOKENS)
    return (
        f"ci/bench --hardware {row.label} --model {case.model.name} --set engines=[{case.engine.name}] "
        f"--set batch_sizes=[{','.join(map(str, batches))}] --set input_lengths=[{row.point.input_len}] "
        f"--set output_lengths=[{tokens}]",
    )


def plain(found: Found) -> dict[str, Any]:
    """For programs, in SI units."""
    return {
        "rows": [
            {
                "verdict": row.verdict,
                "hardware": row.label,
                "devices": row.devices,
                "engine": row.engine,
                "batch_size": row.point.batch_size,
                "latency_s": row.latency_s,
                "output_tokens_per_s": row.tokens_per_s,
                "output_tokens_per_s_per_device": row.tokens_per_s / row.devices,
                "ttft_s": row.ttft_s,
                "tpot_s": row.tpot_s,
                "usd_per_million_output_tokens": row.usd_per_million_tokens,
                "estimate": row.estimate and row.estimate.as_dict(),
                "measure": list(row.measure),
            }
            for row in found.rows
        ],
        "refused": [{"machine": machine, "reason": reason} for machine, reason in found.refused],
    }
