"""The fields of a case on the page, by groups: rows of `fixtures.core.fields`, and fields of no record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ci.report.read.samples import Sample
from fixtures.core import fields as rows
from fixtures.core.base.text import gigabytes
from fixtures.core.result.out_of_memory import Outcome

DEPTH = "depth"
RARE: Mapping[str, Callable[[Sample], Any]] = {  # fields only where a case has them
    DEPTH: lambda sample: sample.point.depth,
    "input_lens": lambda sample: sample.point.input_text if sample.point.ragged else None,
}
LONGEST = 600  # characters of a field
TABLE, FILE, BOTH = frozenset({rows.PAGE}), frozenset({rows.CSV}), frozenset({rows.PAGE, rows.CSV})
_OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class Field:
    """A field of a case.

    `name` is its CSV header, with the SI unit; `label` is for people, empty if another field shows the same.
    `value` is the raw value, None if unknown; `written` formats it for people, and `missing` replaces None.
    `stands` says whether it is a column of the table, the CSV or both; the record of a case shows all fields.
    """

    name: str
    label: str
    value: Callable[[Sample], Any]
    written: Callable[[Any], str] = str
    numeric: bool = False
    stands: frozenset[str] = frozenset()
    missing: str = ""

    def text(self, value: float | str | None) -> str:
        """The value for people, cut to the longest text that the page shows."""
        return _short(self.missing if value is None else self.written(value)) or ""


def _of_row(row: rows.Field) -> Field:
    """The field of a row; a column has its unit in the heading, other fields beside the value."""
    stands = row.shown & BOTH
    in_table = rows.PAGE in stands

    def value(sample: Sample) -> Any:
        raw = _OF_SAMPLE[row.name](sample) if row.name in _OF_SAMPLE else row.value(sample.record)
        return raw if row.numeric else _short(raw)

    return Field(
        row.name,
        row.heading if in_table else row.label,
        value,
        row.written if in_table else row.with_unit,
        row.numeric,
        stands,
        _OUT_OF_MEMORY if row.name == "latency_mean_s" else "",
    )


def _short(value: Any) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _words(
    name: str, label: str, value: Callable[[Sample], Any], stands: frozenset[str] = frozenset()
) -> Field:
    return Field(name, label, lambda sample: _short(value(sample)), stands=stands)


def _number(name: str, label: str, value: Callable[[Sample], Any], written: Callable[[Any], str],
            stands: frozenset[str] = frozenset()) -> Field:  # fmt: skip
    return Field(name, label, value, written, True, stands)


def _lost(value: Callable[[Outcome], Any]) -> Callable[[Sample], Any]:
    """A value of the outcome of a case that ran out of memory; None for other cases."""
    return lambda sample: None if sample.outcome is None else value(sample.outcome)


def _gb(value: float) -> str:
    return gigabytes(value) + " GB"


_OF_SAMPLE: Mapping[str, Callable[[Sample], Any]] = {
    "latency_mean_s": lambda sample: sample.latency_s,
    "output_tokens_per_s": lambda sample: sample.tokens_per_s,
}
_CASE = (
    _words("model", "model", lambda sample: sample.model, BOTH),
    _words("hardware", "hardware", lambda sample: sample.hardware, BOTH),
    _words("engine", "engine", lambda sample: sample.engine, BOTH),
    _number("batch_size", "batch", lambda sample: sample.point.batch_size, str, BOTH),
    _number("input_len", "tokens in", lambda sample: sample.point.input_len, str, BOTH),
    _words("input_lens", "input lengths", lambda sample: RARE["input_lens"](sample), BOTH),
    _number("output_len", "out", lambda sample: sample.point.output_len, str, BOTH),
    _number(DEPTH, "depth", lambda sample: sample.point.depth, str, BOTH),
    _words("source", "source", lambda sample: sample.source, BOTH),
    _words("hub", "name on the hub", lambda sample: sample.record.case.model.hub),
    _words("weights", "weights", lambda sample: sample.record.case.model.weights),
    _words(
        "checkpoint_format", "checkpoint format", lambda sample: sample.record.case.model.checkpoint_format
    ),
    _words("dtype", "dtype", lambda sample: sample.record.case.engine.dtype),
    _words(
        "attention",
        "attention",
        lambda sample: sample.record.attention or sample.record.case.engine.attention,
    ),
    _words("cache", "KV cache", lambda sample: "on" if sample.record.case.engine.use_cache else "off"),
)
_LOST = (
    _words("phase", "OOM phase", _lost(lambda outcome: outcome.phase)),
    _number("needed_bytes", "predicted need", _lost(lambda outcome: outcome.needed_bytes), _gb),
    _number("free_bytes", "free then", _lost(lambda outcome: outcome.free_bytes), _gb),
    _words("after", "not tried, because of", _lost(lambda outcome: outcome.after)),
    _words("detail", "detail", _lost(lambda outcome: outcome.detail or None)),
)
_RUN = (
    _words("taken", "taken", lambda sample: sample.taken or None, FILE),
    _words("history", "history", lambda sample: sample.file, FILE),
)
_ORDER = (
    "latency", "speed", "prefill and decode", "physical limit", "memory", "several devices", "machine", "run",
)  # fmt: skip
_BESIDE = {"memory": _LOST, "run": _RUN}
GROUPS: Mapping[str, tuple[Field, ...]] = {
    "case": _CASE,
    **{
        group: (*(_of_row(row) for row in rows.FIELDS if row.group == group), *_BESIDE.get(group, ()))
        for group in _ORDER
    },
}
