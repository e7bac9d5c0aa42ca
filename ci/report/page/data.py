"""The page's data: cases, curves, figures and terms, as plain values and packed as text."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ci.report.page.estimates import Estimates
from ci.report.page.fields import FILE, GROUPS, RARE, TABLE, Field
from ci.report.read.samples import Curve, Sample, curves
from fixtures.core.base.errors import InputError
from fixtures.core.fields import defined, definition

FACETS = ("model", "hardware", "engine", "suite", "sweep", "source")  # the page's filters


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: its kind, name and title, and its Vega-Lite spec including the data."""

    kind: str
    name: str
    title: str
    spec: Mapping[str, Any]


def page_data(samples: Sequence[Sample], drawings: Iterable[Drawing]) -> dict[str, Any]:
    """All values of the page.

    `fields` are those that at least one case has. A case has its texts in the order of the fields, and the
    raw values of the fields that are columns. A curve's `samples` are batch, latency in s and index of the
    case; its `pair` is its model with its engine among the estimates.
    """
    left_out = {name for name, of in RARE.items() if not any(map(of, samples))}
    every = [
        (group, field) for group, fields in GROUPS.items() for field in fields if field.name not in left_out
    ]
    values = [[field.value(sample) for _, field in every] for sample in samples]
    texts = [[field.text(value) for (_, field), value in zip(every, row, strict=True)] for row in values]
    has_text = [any(column) for column in zip(*texts, strict=True)] or [False] * len(every)
    used = [i for i, (_, field) in enumerate(every) if field.stands or has_text[i]]
    columns = [i for i in used if every[i][1].stands]
    places = {(sample.case_id, sample.source): i for i, sample in enumerate(samples)}
    known_curves = [curve for curve in curves(samples) if curve.samples]
    estimates = Estimates(samples, known_curves)
    return {
        "facets": list(FACETS),
        "fields": [_field(*every[i]) for i in used],
        "cases": [
            {"id": sample.case_id, "texts": [written[i] for i in used], "values": [row[i] for i in columns]}
            for sample, row, written in zip(samples, values, texts, strict=True)
        ],
        "curves": [_curve(curve, places, estimates.pair_of(curve)) for curve in known_curves],
        "estimates": estimates.values(),
        "figures": [
            {"kind": drawing.kind, "name": drawing.name, "title": drawing.title, "spec": drawing.spec}
            for drawing in drawings
        ],
        "terms": [{"name": name, **definition(metric)} for name, metric in defined().items()],
        "runs": len({sample.file for sample in samples}),
        "newest": max((sample.taken for sample in samples), default=""),
    }


def packed(data: Mapping[str, Any]) -> str:
    """The values as gzipped JSON in base64: an eighth of the size, and nothing that HTML could interpret.

    Raises InputError for NaN and infinities, which JSON lacks.
    """
    try:
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise InputError("a figure has a value that is NaN or infinite; the page cannot show it") from None
    return base64.b64encode(gzip.compress(text.encode("ascii"), 6, mtime=0)).decode("ascii")


def _field(group: str, field: Field) -> dict[str, Any]:
    return {
        "group": group,
        "name": field.name,
        "label": field.label,
        "numeric": field.numeric,
        "table": field.stands >= TABLE,
        "file": field.stands >= FILE,
    }


def _curve(curve: Curve, places: Mapping[tuple[str, str], int], pair: int | None) -> dict[str, Any]:
    first = curve.samples[0]
    return {
        "model": curve.model,
        "hardware": curve.hardware,
        "device": first.device,
        "devices": first.devices,
        "machines": first.machines,
        "engine": curve.engine,
        "source": curve.source,
        "input_len": curve.input_len,
        "output_len": curve.output_len,
        "samples": [
            [sample.point.batch_size, sample.latency_s, places[sample.case_id, sample.source]]
            for sample in curve.samples
        ],
        "ran_out": list(curve.ran_out),
        "pair": pair,
    }
