"""Estimated points of machines, batches and lengths that nobody measured, by what they mean for a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ci.pick.estimator import Estimator
from ci.pick.rows import CLASSES, ESTIMATED, MAY, MEETS, NOT, Found, Question, Row, has_figures, meets, rank
from ci.report.read.cases import engine_of
from ci.report.read.samples import Curve, Sample
from fixtures.core.cost.memory import largest_batch, predict_beside, room_bytes
from fixtures.core.cost.stored_counts import Counts
from fixtures.core.estimate.estimate import Refused
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.spec.splitting import why_not_split

NUMBERS = (1, 2, 4, 8)  # of devices, where none are named
MOST = 4096  # sequences
_HOST_TOKENS = 32  # that a point at batch 1 needs at the least, to tell the host's time


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
    rows = [row for curve in curves if (row := _best_measured(question, curve, prices)) is not None]
    filled = {(row.label, row.engine) for row in rows if row.verdict == MEETS}
    refused = []
    for case, curve in cases_on(model, lengths, on, engines, curves):
        found = _estimated(question, case, curve, estimator, prices)
        if isinstance(found, str):
            refused.append((f"{case.devices}x{case.hardware.name} {case.engine.name}", found))
        elif found is not None and (found.verdict == ESTIMATED or (found.label, found.engine) not in filled):
            rows.append(found)
    ranked = sorted(rows, key=lambda row: (CLASSES.index(row.verdict), rank(row, question)))
    return Found(tuple(ranked), tuple(refused))


def cases_on(
    model: ModelSpec,
    lengths: tuple[int, int],
    on: Sequence[tuple[int, HardwareSpec]],
    engines: Sequence[EngineSpec],
    curves: Sequence[Curve],
) -> Iterator[tuple[Case, Curve | None]]:
    """One sequence on each machine by each engine, with the curve that was measured there at these lengths.

    Without engines: those that were measured there, else what would usually run on so many devices.
    """
    for n, hardware in on:
        here = [
            curve
            for curve in curves
            if (curve.samples[0].device, curve.samples[0].devices) == (hardware.name, n)
            and (curve.input_len, curve.output_len) == lengths
        ]
        chosen = list(engines) or list({curve.engine: engine_of(curve.samples[0]) for curve in here}.values())
        for engine in chosen or [usual_engine(model, n)]:
            same = next((curve for curve in here if curve.engine == engine.name), None)
            yield Case(model, hardware, n, engine, Point(1, *lengths)), same


def usual_engine(model: ModelSpec, devices: int) -> EngineSpec:
    """What would run a model on so many devices: where AutoTP cannot split it, transformers' own plan."""
    if devices == 1:
        return EngineSpec("hf")
    engines = [EngineSpec(kind, kind) for kind in ("deepspeed", "hf_tp")]
    gpu = HardwareSpec("gpu", "gpu")
    cases = [Case(model, gpu, devices, engine, Point(1, 1, 1)) for engine in engines]
    return next((one.engine for one in cases if why_not_split(one) is None), engines[0])


def _best_measured(question: Question, curve: Curve, prices: Mapping[str, float]) -> Row | None:
    """The best measured point of a curve, else the one that is nearest; None if none has what is asked."""
    rows = measured_rows(question, curve, prices)
    return min(rows, key=lambda row: (CLASSES.index(row.verdict), rank(row, question)), default=None)


def measured_rows(question: Question, curve: Curve, prices: Mapping[str, float]) -> list[Row]:
    """The points of a curve that have the figures that are asked for."""
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
        if not has_figures(question, ttft_s, tpot_s):
            continue
        rows.append(
            Row(
                MEETS if meets(question, tokens, sample.latency_s, ttft_s, tpot_s) else NOT,
                hardware, sample.devices, sample.engine, sample.point,
                sample.latency_s, sample.latency_s, sample.latency_s,
                ttft_s, tpot_s, None, sample.machines, prices.get(sample.device),
                sample.record.joules_per_output_token, source=sample.source, case_id=sample.case_id,
            )
        )  # fmt: skip
    return rows


def _estimated(
    question: Question, case: Case, curve: Curve | None, estimator: Estimator, prices: Mapping[str, float]
) -> Row | str | None:
    """The best unmeasured batch; the reason where nothing is estimated, None where all was measured."""
    reason = estimator.refusal(case)
    if reason is not None:
        return reason
    largest = most_sequences(case, estimator, curve)
    if largest is None and not question.batches:
        return f"device {case.hardware.name}: its memory is not known; name batches by --batch"
    largest = MOST if largest is None else largest
    least = min(question.batches, default=1)
    if largest < least:
        return too_large(least)
    known = {row.point.batch_size for row in measured_rows(question, curve, prices)} if curve else set()
    allowed = question.batches or _batches(question, largest)
    batches = [batch for batch in allowed if batch <= largest and batch not in known]
    if not batches:
        return None
    rows: dict[int, Row | Refused] = {}

    def at(batch: int) -> Row | Refused:
        if batch not in rows:
            point = replace(case.point, batch_size=batch)
            rows[batch] = estimated_row(question, replace(case, point=point), estimator, prices)
        return rows[batch]

    for batch in batches:
        row = at(batch)
        if isinstance(row, Refused):
            return row.reason
    if not question.batches:
        _refine(batches, at, question, known)
    found = [row for row in rows.values() if isinstance(row, Row) and row.point.batch_size not in known]
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


def too_large(sequences: int) -> str:
    """Why so many are not estimated."""
    what = "one sequence does" if sequences == 1 else f"{sequences} sequences do"
    return f"{what} not fit its memory, as predicted"


def most_sequences(case: Case, estimator: Estimator, curve: Curve | None = None) -> int | None:
    """The most sequences that the memory holds as predicted, and fewer than ran out; None where not known."""
    counts, room = estimator.counts_of(case.model, case.engine), room_bytes(case.hardware, case.devices)
    if counts is None or room is None:
        return None

    ran_out = min(curve.ran_out, default=MOST + 1) if curve else MOST + 1
    fits = largest_batch(
        lambda batch: needed_bytes(case, replace(case.point, batch_size=batch), counts), room
    )
    return min(fits, ran_out - 1)


def needed_bytes(case: Case, point: Point, counts: Counts) -> int:
    """Bytes that a point of a case needs on each device, as predicted."""
    return predict_beside(replace(case, point=point), counts.footprint, None).total_bytes


def estimated_row(
    question: Question, case: Case, estimator: Estimator, prices: Mapping[str, float]
) -> Row | Refused:
    """The estimate of a case, and whether it meets."""
    found, point = estimator.of(case), case.point
    if isinstance(found, Refused):
        return found
    tokens, tpot_s = point.batch_size * point.output_len, found.tpot_s

    def within(factor: float) -> bool:
        high_tpot_s = None if tpot_s is None else tpot_s * factor
        return meets(question, tokens, found.latency_s * factor, found.ttft_s * factor, high_tpot_s)

    return Row(
        verdict=ESTIMATED if within(found.half_width) else MAY if within(1.0) else NOT,
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
        number=1 if case.hardware.kind == "cpu" else case.devices,
        usd_per_hour=prices.get(case.hardware.name),
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
