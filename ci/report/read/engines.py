"""Engines side by side: each case against the one of a base engine that did the same work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ci.gate.paired.sequential import interval
from ci.report.read.cases import Seconds, latency_of
from ci.report.read.samples import Sample, grouped, newest

BASE, BASE_FP32 = "hf", "hf_fp32"
LEAST_RUNS = 4  # fewer pairs of processes give no interval
ROUNDS, PROCESSES, APART = "rounds", "processes", "apart"


@dataclass(frozen=True)
class Row:
    """The engines' samples of one model, machine and point, by engine; some ran out of memory.

    `gains` are base engine's time / own time, by engine, above 1 where the engine is faster; an interval is
    by the `by` of it: the "rounds" of both in one run, pairs of "processes", or rounds of runs "apart".
    `over` names the base engine of each.
    """

    model: str
    hardware: str
    batch_size: int
    input_text: str
    output_len: int
    depth: int
    samples: Mapping[str, Sample]
    gains: Mapping[str, Seconds]
    by: Mapping[str, str]
    over: Mapping[str, str]


def side_by_side(samples: Sequence[Sample], base: str = BASE) -> list[Row]:
    """A row for each model, machine and point that two engines or more ran.

    An engine that ran together with the base engine in four runs or more is compared by these runs: the
    trimmed mean of the log ratios, with Student's interval around it, as the gate's rule of pairs has it.
    Otherwise the newest run with both counts, or else the newest of each, and the interval takes the worst
    ends of both medians' intervals.
    """
    rows = []
    for (model, hardware, batch, first, last, depth, _), group in grouped(samples, _place).items():
        latest = {sample.engine: sample for sample in newest(group)}
        if len(latest) < 2:
            continue
        gains, by, over = {}, {}, {}
        timed = {engine: sample for engine, sample in latest.items() if sample.latency_s is not None}
        for engine, sample in timed.items():
            own = _base_of(sample, timed, base)
            if own in timed and engine != own:
                gains[engine], by[engine] = _gain(group, sample, timed[own])
                over[engine] = own
        rows.append(Row(model, hardware, batch, first, last, depth, latest, gains, by, over))
    return rows


def alone(samples: Sequence[Sample], rows: Sequence[Row]) -> list[Sample]:
    """The samples of cases that are in no row: one engine alone ran them."""
    shown = {(sample.case_id, sample.source) for row in rows for sample in row.samples.values()}
    return [sample for sample in newest(samples) if (sample.case_id, sample.source) not in shown]


def over_another(rows: Sequence[Row], base: str = BASE) -> str:
    """A line on the engines that are held against another base than `base`; empty if there are none."""
    names = dict.fromkeys((engine, over) for row in rows for engine, over in row.over.items() if over != base)
    said = [f"{engine} over {over}" for engine, over in names]
    return f"in their own dtype: {', '.join(said)}" if said else ""


def engines_of(rows: Sequence[Row], base: str = BASE) -> list[str]:
    """The engines of the rows: the base first, the others by name, as runs may be in any order."""
    names = {engine for row in rows for engine in row.samples}
    return sorted(names, key=lambda engine: (engine != base, engine))


def _base_of(sample: Sample, latest: Mapping[str, Sample], base: str) -> str:
    """The engine that a sample is held against: in the same dtype where that ran."""
    in_fp32 = sample.record.case.engine.dtype == "float32"
    if base == BASE and in_fp32 and BASE_FP32 in latest and sample.engine != BASE_FP32:
        return BASE_FP32
    return base


def _gain(group: Sequence[Sample], own: Sample, base: Sample) -> tuple[Seconds, str]:
    """The gain of a case, and what its interval is by; `own` and `base` are the newest of their engines."""
    ratios, together = [], None
    timed = [sample for sample in group if sample.latency_s is not None]
    for of_run in grouped(
        sorted(timed, key=lambda sample: sample.taken), lambda sample: sample.file
    ).values():
        by_engine = {sample.engine: sample for sample in of_run}
        if own.engine not in by_engine or base.engine not in by_engine:
            continue
        together = by_engine[own.engine], by_engine[base.engine]
        medians = [sample.record.latency_median_s for sample in together]
        if medians[0] is not None and medians[1] is not None:
            ratios.append(math.log(medians[1] / medians[0]))
    if len(ratios) >= LEAST_RUNS:
        return Seconds(*map(math.exp, interval(ratios))), PROCESSES
    way = APART if together is None else ROUNDS
    ours_s, theirs_s = map(latency_of, together or (own, base))
    assert ours_s, "samples without a latency were left out"
    assert theirs_s, "samples without a latency were left out"
    value = theirs_s.value / ours_s.value
    if ours_s.low is None or ours_s.high is None or theirs_s.low is None or theirs_s.high is None:
        return Seconds(value), way
    return Seconds(value, theirs_s.low / ours_s.high, theirs_s.high / ours_s.low), way


def _place(sample: Sample) -> tuple[str, str, int, str, int, int, str]:
    point = sample.point
    return (
        *(sample.model, sample.hardware),
        *(point.batch_size, point.input_text, point.output_len, point.depth),
        sample.source,
    )
