"""What repeats exactly: a difference is a finding on any machine, without noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fixtures.core.base.values import part

_COUNTED = ("parameters", "parameter_bytes", "attention", "vocab_size", "graph_breaks")


def counters(record: Mapping[str, Any]) -> dict[str, Any]:
    """By name: parameters and bytes, FLOPs and bytes of the work, operators, tokens, what attention ran."""
    case = part(record, "case")
    flat = [one for name in ("work", "operators") for one in _flat(part(record, name), name)]
    tokens = {name: case.get(name) for name in ("batch_size", "input_len", "output_len")}
    return {**{name: record[name] for name in _COUNTED if name in record}, **tokens, **dict(flat)}


def _flat(values: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} {key}")
        else:
            yield f"{name} {key}", value


def changed(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> str | None:
    """The first counter of both that differs, and both values; None where all are the same.

    Other versions of torch and transformers call other operators for the same work, which is no finding.
    """
    ours, theirs = counters(run), counters(baseline)
    same_library = all(_version(run, name) == _version(baseline, name) for name in ("torch", "transformers"))
    for name in ours:
        if name.startswith("operators") and not same_library:
            continue
        if name in theirs and ours[name] != theirs[name]:
            return f"{name} is {str(ours[name])[:60]}, and was {str(theirs[name])[:60]}"
    return None


def missing(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> str | None:
    """The first counter that the baseline has and the run lacks; None where it has all of them."""
    ours = counters(run)
    return next(
        (name for name, value in counters(baseline).items() if value is not None and ours.get(name) is None),
        None,
    )


def _version(record: Mapping[str, Any], library: str) -> Any:
    return part(record, "versions").get(library)
