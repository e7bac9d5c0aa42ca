"""A field of a case, and how it is read out of a record that anybody may have written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ci.report.read.samples import Sample
from fixtures.core.base.values import positive

LONGEST = 600  # characters of a field
TABLE, FILE, BOTH = frozenset({"table"}), frozenset({"file"}), frozenset({"table", "file"})
NOWHERE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Field:
    """One thing to know of a case.

    `name` is what it is called in a CSV file, with SI units; `label` is for people, empty where another field
    tells them the same. `value` is raw, and None where it is not known; `written` makes text for people of
    it, and `missing` stands for None. `stands`: whether it is a column of the table, of the CSV or both; the
    record of a case has all.
    """

    name: str
    label: str
    value: Callable[[Sample], float | str | None]
    written: Callable[[Any], str]
    numeric: bool = False
    stands: frozenset[str] = NOWHERE
    missing: str = ""

    def text(self, value: float | str | None) -> str:
        """Its value for people."""
        return self.missing if value is None else self.written(value)


def number(
    name: str,
    label: str,
    where: str | Callable[[Sample], float | None],
    written: Callable[[float], str],
    stands: frozenset[str] = NOWHERE,
    missing: str = "",
) -> Field:
    """A field that is a number: its path in the record, or how it is found, and how it is written."""
    value = finite(where) if isinstance(where, str) else where
    return Field(name, label, value, written, True, stands, missing)


def words(
    name: str,
    label: str,
    where: str | Callable[[Sample], str | None],
    stands: frozenset[str] = NOWHERE,
) -> Field:
    """A field that is text: its path in the record, or how it is found."""
    found = text_at(where) if isinstance(where, str) else where

    def value(sample: Sample) -> str | None:
        text = found(sample)
        return text if text is None or len(text) <= LONGEST else text[: LONGEST - 1] + "…"

    return Field(name, label, value, str, False, stands)


def at(path: str) -> Callable[[Sample], Any]:
    """What stands at a path such as `split.ttft_s`; None where the path ends before."""
    *parents, last = path.split(".")

    def value(sample: Sample) -> Any:
        inside: Any = sample.record
        if sample.outcome is not None and hasattr(sample.outcome, parents[0] if parents else last):
            inside = sample.outcome
        for parent in parents:
            inside = getattr(inside, parent, None)
        return inside.get(last) if isinstance(inside, dict) else getattr(inside, last, None)

    return value


def text_at(path: str) -> Callable[[Sample], str | None]:
    """The text there, None for anything else."""
    value = at(path)

    def found(sample: Sample) -> str | None:
        one = value(sample)
        return one if isinstance(one, str) and one and one.isprintable() else None

    return found


def positive_at(path: str) -> Callable[[Sample], float | None]:
    """The number above zero there, None for anything else."""
    value = at(path)
    return lambda sample: positive(value(sample))


def finite(path: str) -> Callable[[Sample], float | None]:
    """The number there, which may be zero or below; None for anything else."""
    value = at(path)

    def found(sample: Sample) -> float | None:
        one = value(sample)
        if not isinstance(one, int | float) or isinstance(one, bool) or not abs(one) < 1e30:
            return None
        return float(one) if math.isfinite(one) else None

    return found
