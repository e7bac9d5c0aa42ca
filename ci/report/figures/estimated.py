"""Estimated curves beside measured points, by the latency formula: a line in the band of its 90 % interval.

An estimate is never a point and enters no table. Cases that are predicted not to fit get none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ci.pick.estimator import Estimator, model_of
from ci.report.draw.figure import Estimated, estimated_curve
from ci.report.read.cases import case_of
from ci.report.read.samples import PUBLISHED, Sample, grouped
from fixtures.core.base.text import seconds
from fixtures.core.cost.memory import predict_beside, room_bytes
from fixtures.core.estimate.estimate import Estimate
from fixtures.core.estimate.physics import file_of
from fixtures.core.spec.case import Case, Point

_WORDS = {"batch_size": "batch", "output_len": "output"}


@dataclass(frozen=True)
class Along:
    """What a figure's curves go along: a field of a point, and the place of a point by its latency in s."""

    field: str
    place: Callable[[Point, float], tuple[float, float]]


def curves(
    estimators: Mapping[str, Estimator],
    group: Sequence[Sample],
    series_of: Callable[[Sample], str],
    along: Along,
    legend: str,
) -> tuple[tuple[Estimated, ...], tuple[str, ...]]:
    """An estimated curve for each series of a figure over all of the figure's places, and notes on them.

    Empty without estimators; a series that the formula refuses has no curve.
    """
    if not estimators:
        return (), ()
    values = between({getattr(sample.point, along.field) for sample in group})
    result, files = [], set()
    for series, samples in grouped(group, series_of).items():
        case = estimable(samples[0])
        at = [] if case is None else list(_at(estimators[samples[0].kind], case, along.field, values))
        if case is None or len(at) < 2:
            continue
        files.add(file_of(case.engine.kind, case.hardware.kind).stem)
        three = [
            [along.place(point, end) for end in (estimate.low_s, estimate.latency_s, estimate.high_s)]
            for point, estimate in at
        ]
        words = [_in_words(along.field, point, estimate) for point, estimate in (at[0], at[-1])]
        result.append(estimated_curve(series, three, f"estimated, {legend} {series}: {'; '.join(words)}"))
    return tuple(result), tuple(_notes(sorted(files), group))


def estimable(sample: Sample) -> Case | None:
    """The sample's case; None if it is ragged, or its record lacks what an estimate needs."""
    case = case_of(sample)
    return None if case is None or case.point.ragged else replace(case, model=model_of(sample))


def between(values: Iterable[int]) -> list[int]:
    """The values, with powers of two and 1.5 times these in between, so that a curve is smooth.

    >>> between([1, 20])
    [1, 2, 3, 4, 6, 8, 12, 16, 20]
    """
    given = set(values)
    more = {step << i for step in (1, 3) for i in range(max(given).bit_length())}
    return sorted(given | {value for value in more if min(given) < value < max(given)})


def _at(
    estimator: Estimator, case: Case, field: str, values: Iterable[int]
) -> Iterator[tuple[Point, Estimate]]:
    if estimator.refusal(replace(case, point=replace(case.point, output_len=1))) is not None:
        return
    counts, room = estimator.counts_of(case.model, case.engine), room_bytes(case.hardware, case.devices)
    for value in values:
        at = replace(case, point=Point(**{**vars(case.point), field: value}))
        estimate = estimator.of(at)
        if isinstance(estimate, Estimate) and counts is not None:
            needed = predict_beside(at, counts.footprint, None).total_bytes
            if room is None or needed <= room:
                yield at.point, estimate


def _in_words(field: str, point: Point, estimate: Estimate) -> str:
    interval = f"{seconds(estimate.low_s)} to {seconds(estimate.high_s)}"
    latency = seconds(estimate.latency_s)
    return f"{_WORDS[field]} {getattr(point, field)} in {latency}, 90 % interval {interval}"


def _notes(files: Sequence[str], group: Sequence[Sample]) -> Iterator[str]:
    if files:
        yield f"dashed, with the 90 % interval: estimated by yamls/physics ({', '.join(files)}), not measured"
        if any(sample.source == PUBLISHED for sample in group):
            yield "the estimate was fitted to the published points, among others"
