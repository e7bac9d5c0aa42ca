"""Which figures a set of cases gives: latency over output length, latency against throughput.

A figure whose every point stands in an earlier one is left out: a second view of two curves adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ci.curves import Sample
from fixtures.core.case import slug
from fixtures.core.histories import part, positive

LENGTH, THROUGHPUT = "length", "throughput"
_LONGEST_NAME = 120  # of a file, without its ending


@dataclass(frozen=True)
class Figure:
    """A figure: its kind, its name (of a file), what its curves are called, and its points as plain values.

    A point has `case`, `series`, `source`, `batch_size`, `output_len`, `tokens_per_s`, `latency_ms`, and the
    ends of the interval, `low_ms` and `high_ms`, which are None where there is none.
    """

    kind: str
    name: str
    title: str
    legend: str
    points: tuple[dict[str, Any], ...]


def figures(samples: Iterable[Sample]) -> list[Figure]:
    """Of each model, machine and input length a figure over output length, then those against throughput."""
    known = [one for one in samples if one.latency_s is not None]
    found: list[Figure] = []
    names: set[str] = set()
    shown: set[tuple[str, str]] = set()
    for kind, title, legend, group_by, series_of, is_figure in _KINDS:
        for key, group in _grouped(known, group_by).items():
            ids = {(one.case_id, one.source) for one in group}
            if not is_figure(group) or ids <= shown:
                continue
            shown |= ids
            name = _new_name(slug(f"{legend} {' '.join(map(str, key))}")[:_LONGEST_NAME], names)
            points = tuple(_point(one, series_of(one)) for one in group)
            found.append(Figure(kind, name, title.format(*key), legend, points))
    return found


def _grouped(samples: Iterable[Sample], by: Callable[[Sample], tuple[Any, ...]]) -> dict[Any, list[Sample]]:
    found: dict[Any, list[Sample]] = {}
    for one in samples:
        found.setdefault(by(one), []).append(one)
    return found


def _new_name(wished: str, taken: set[str]) -> str:
    """The name, with a number where it is another figure's already."""
    name, number = wished, 1
    while name in taken:
        number += 1
        name = f"{wished}_{number}"
    taken.add(name)
    return name


def _point(one: Sample, series: str) -> dict[str, Any]:
    interval = part(one.record, "latency_interval")
    low, high = (positive(interval.get(key)) for key in ("low", "high"))
    return {
        "case": one.case_id,
        "series": series,
        "source": one.source,
        "batch_size": one.point.batch_size,
        "output_len": one.point.output_len,
        "tokens_per_s": one.tokens_per_s,
        "latency_ms": 1000 * (one.latency_s or 0),
        "low_ms": None if low is None or high is None else 1000 * low,
        "high_ms": None if low is None or high is None else 1000 * high,
    }


def _lengths_differ(group: Sequence[Sample]) -> bool:
    """A curve of a batch size has two output lengths or more."""
    lengths = _grouped(group, lambda one: (one.point.batch_size, one.source))
    return any(len({one.point.output_len for one in curve}) > 1 for curve in lengths.values())


def _several(of: Callable[[Sample], str]) -> Callable[[Sequence[Sample]], bool]:
    return lambda group: len({of(one) for one in group}) > 1


def _lengths(one: Sample) -> tuple[int, int]:
    return one.point.input_len, one.point.output_len


# kind, title, what a curve is, what makes a figure, name of a curve, whether it is one
_KINDS: tuple[
    tuple[
        str,
        str,
        str,
        Callable[[Sample], tuple[Any, ...]],
        Callable[[Sample], str],
        Callable[[Sequence[Sample]], bool],
    ],
    ...,
] = (
    (
        LENGTH,
        "Latency over output length: {0} on {1}, {2}, input {3}",
        "batch",
        lambda one: (one.model, one.hardware, one.engine, one.point.input_len),
        lambda one: str(one.point.batch_size),
        _lengths_differ,
    ),
    (
        THROUGHPUT,
        "Latency against throughput: {0}, input {1}, output {2}",
        "hardware",
        lambda one: (one.model, *_lengths(one)),
        lambda one: f"{one.hardware} {one.engine}",
        _several(lambda one: one.hardware),
    ),
    (
        THROUGHPUT,
        "Latency against throughput: models on {0}, {1}, input {2}, output {3}",
        "model",
        lambda one: (one.hardware, one.engine, *_lengths(one)),
        lambda one: one.model,
        _several(lambda one: one.model),
    ),
)
