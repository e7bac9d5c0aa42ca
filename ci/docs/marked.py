"""Writes or checks the part of a README that a command makes, between two marks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Marked:
    """A part of a README by its name, and the module that makes it: `python -m MODULE [--check]`."""

    name: str
    module: str
    readme: Path

    @property
    def begin(self) -> str:
        """The mark before the part."""
        return f"<!-- {self.name}: python -m {self.module} -->"

    @property
    def end(self) -> str:
        """The mark after the part."""
        return f"<!-- end of {self.name} -->"

    def within(self, readme: str, text: str) -> str:
        """The README with this text between its marks; raises ValueError if it lacks the marks."""
        head, begin, rest = readme.partition(self.begin)
        _, end, tail = rest.partition(self.end)
        if not begin or not end:
            raise ValueError(f"the README has no lines {self.begin} and {self.end}")
        return f"{head}{begin}\n\n{text}\n\n{end}{tail}"

    def write_or_check(self, make: Callable[[], str], arguments: Sequence[str]) -> int:
        """Write the README with what `make` returns; with --check, only say if it is not current.

        Returns the exit code: 1 if it is not current, 2 for other arguments.
        """
        command = self.module.rpartition(".")[2]
        if list(arguments) not in ([], ["--check"]):
            print(f"{command}: takes --check or nothing", file=sys.stderr)
            return 2
        old = self.readme.read_text(encoding="utf-8")
        new = self.within(old, make())
        if not arguments:
            self.readme.write_text(new, encoding="utf-8")
        elif old != new:
            print(
                f"{'/'.join(self.readme.parts[-3:])}: not current; run python -m {self.module}",
                file=sys.stderr,
            )
            return 1
        return 0
