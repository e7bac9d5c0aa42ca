"""Every pair goes to the disk once it is measured: a line of JSON each, after a line that says of what."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ci.gate.verdicts import Word
from fixtures.core.base.errors import InputError
from fixtures.core.store.decode import from_json
from fixtures.core.store.history import LARGEST_BYTES

Ended = Mapping[str, tuple[Word, str]]  # by case, what ended it, and why


class Pair(msgspec.Struct, frozen=True):
    """A pair of a series: the log ratio of each case that was measured, and what ended the others."""

    series: int
    ratios: dict[str, float]
    ended: dict[str, tuple[Word, str]]


class _Head(msgspec.Struct):
    about: dict[str, Any]


_Line = TypeVar("_Line", _Head, Pair)


class PairsFile:
    """The file of one comparison. `about` says what is compared, so that no other pairs are mixed in."""

    def __init__(self, file: Path, about: Mapping[str, Any]) -> None:
        self.file = file
        self.about = json.loads(json.dumps(about))
        self._read: list[Pair] = []

    def start(self) -> None:
        """Make the file, which must not exist."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("x", encoding="utf-8") as lines:
            lines.write(json.dumps({"about": self.about}) + "\n")

    def go_on(self) -> None:
        """Read what an earlier start measured.

        Raises InputError for another kind of file, or another comparison, and says what differs.
        """
        about, self._read, is_whole = read_pairs(self.file)
        for name in {**about, **self.about}:
            if about.get(name) != self.about.get(name):
                raise InputError(
                    f"--resume {self.file}: {name} was {str(about.get(name))[:80]!r}, and now is "
                    f"{str(self.about.get(name))[:80]!r}; start anew without --resume"
                )
        if not is_whole:
            with self.file.open("ab") as lines:
                lines.write(b"\n")

    def pairs(self, series: int) -> list[Pair]:
        """The pairs of a series that were read."""
        return [pair for pair in self._read if pair.series == series]

    def add(self, series: int, ratios: Mapping[str, float], ended: Ended) -> None:
        """Add a pair, which is on the disk when this returns."""
        line = json.dumps({"series": series, "ratios": ratios, "ended": ended}) + "\n"
        with self.file.open("ab") as lines:
            lines.write(line.encode())
            lines.flush()
            os.fsync(lines.fileno())


def read_pairs(file: Path) -> tuple[dict[str, Any], list[Pair], bool]:
    """What is compared, the pairs, and whether the last line is whole; torn lines are left out.

    Raises InputError for a file without pairs.
    """
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{file}: is larger than {LARGEST_BYTES} bytes; name a file of pairs")
        whole = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; name a file of pairs") from None
    first, *others = whole.split(b"\n")
    head = _decoded(first, _Head)
    if head is None:
        raise InputError(f"{file}: holds no pairs; name a file of pairs")
    pairs = [pair for line in others if (pair := _decoded(line, Pair)) is not None]
    if not all(math.isfinite(one) for pair in pairs for one in pair.ratios.values()):
        raise InputError(f"{file}: holds ratios that are not finite; name another")
    return head.about, pairs, whole.endswith(b"\n")


def _decoded(line: bytes, kind: type[_Line]) -> _Line | None:
    """What a line holds; None for a torn or another one."""
    try:
        return msgspec.convert(from_json(line), kind)
    except (msgspec.ValidationError, ValueError, RecursionError):
        return None
