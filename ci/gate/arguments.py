"""What the gate's commands have in common: their parser, and what they show and write."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ci.gate import output
from ci.gate.verdicts import Verdict, exit_code
from fixtures.core.errors import InputError
from fixtures.core.places import try_whole, why
from fixtures.core.whole import write_whole


class Parser(argparse.ArgumentParser):
    """Ends with the exit code of bad input."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message} (see --help)")


def fraction(text: str) -> float:
    """`5%` or `0.05`."""
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0.001 <= value <= 10:
        raise ValueError(text)
    return value


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if not 1 <= value <= 10**7:
        raise ValueError(text)
    return value


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """The files that verdicts can be written to."""
    for name, what in (("markdown", "a table for a pull request"), ("json", "all"), ("junit", "for a CI")):
        parser.add_argument(f"--{name}", type=_output, metavar="FILE", help=f"write {what}")


def _output(text: str) -> Path:
    """A file that can be written, as far as can be told before the work."""
    try:
        try_whole(Path(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: cannot be written: {why(error)}") from None
    return Path(text)


def shown(verdicts: Sequence[Verdict], option: argparse.Namespace) -> int:
    """Print the table, write the files that were asked for; the exit code comes back."""
    print("\n".join(output.table(verdicts)))
    written = {"markdown": output.markdown, "json": output.as_json, "junit": output.junit}
    for name, make in written.items():
        if (file := getattr(option, name)) is not None:
            write_whole(file, make(verdicts).encode())
    return exit_code(verdicts)
