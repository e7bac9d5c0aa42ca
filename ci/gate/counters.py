"""Counts that repeat exactly: a difference is a finding on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from fixtures.core.result.record import Record
from fixtures.core.spec.engine_kinds import runs_as_counted

_COUNTED = ("parameters", "parameter_bytes", "attention", "vocab_size", "graph_breaks")
_TOKENS = ("batch_size", "input_len", "output_len", "depth")
_LIBRARIES = ("torch", "transformers")
_BY_LIBRARY = ("operators", "graph")  # other versions call other operators for the same work


def counters(record: Record) -> dict[str, Any]:
    """By name: parameters and bytes, FLOPs and bytes of the work, operators, graphs, tokens, attention.

    Operators are counted on meta, and so are none of an engine that calls others.
    """
    found = {name: getattr(record, name) for name in _COUNTED}
    found |= {name: getattr(record.case, name) or None for name in _TOKENS}
    found["graphs"] = None if record.compiled is None else record.compiled.graphs
    found["graph_calls"] = None if record.compiled is None else record.compiled.calls
    work = {} if record.work is None else asdict(record.work)
    operators = record.operators if runs_as_counted(record.case.engine) else None
    found |= dict(_flat(work, "work")) | dict(_flat(operators or {}, "operators"))
    return {name: value for name, value in found.items() if value is not None}


def _flat(values: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} {key}")
        else:
            yield f"{name} {key}", value


def changed(run: Record | None, baseline: Record | None) -> str | None:
    """The first counter that differs, and both values; None where all agree, or one side has none.

    Operators and graphs are compared only between the same versions of torch and transformers.
    """
    if run is None or baseline is None or _is_alike(run, baseline):
        return None
    ours, theirs = counters(run), counters(baseline)
    same_library = all(run.versions.get(name) == baseline.versions.get(name) for name in _LIBRARIES)
    for name, value in ours.items():
        if name.startswith(_BY_LIBRARY) and not same_library:
            continue
        if name in theirs and value != theirs[name]:
            return f"{name} is {str(value)[:60]}, and was {str(theirs[name])[:60]}"
    return None


def missing(run: Record, baseline: Record) -> str | None:
    """The first counter that the baseline has and the run lacks; None where it has all of them."""
    if _is_alike(run, baseline):
        return None
    ours = counters(run)
    return next((name for name in counters(baseline) if name not in ours), None)


def _is_alike(run: Record, baseline: Record) -> bool:
    """Whether no counter can differ: a quick check before each counter is compared."""
    return (
        run.operators == baseline.operators
        and run.work == baseline.work
        and run.compiled == baseline.compiled
        and all(getattr(run, name) == getattr(baseline, name) for name in _COUNTED)
        and all(getattr(run.case, name) == getattr(baseline.case, name) for name in _TOKENS)
    )
