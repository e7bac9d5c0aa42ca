"""The outputs that the gate's commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ci.gate import output
from ci.gate.verdicts import Verdict, exit_code
from fixtures.core.base.errors import InputError
from fixtures.core.base.files import write_whole
from fixtures.core.base.places import try_whole, why
from fixtures.core.base.text import printable

OUTPUTS = {"markdown": "a table for a pull request", "json": "all", "junit": "for a CI"}


def fraction(text: str) -> float:
    """`5%` or `0.05`."""
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0.001 <= value <= 10:
        raise ValueError(text)
    return value


def whole(text: str) -> int:
    """A whole number of at least 0."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise ValueError(text)
    return value


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """The files that verdicts can be written to."""
    for name, what in OUTPUTS.items():
        parser.add_argument(f"--{name}", type=_output, metavar="FILE", help=f"write {what}")


def _output(text: str) -> Path:
    """A file that can be written, as far as that shows before the work."""
    try:
        try_whole(Path(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: cannot be written: {why(error)}") from None
    return Path(text)


def refuse_inputs(option: argparse.Namespace, inputs: Iterable[Path | None]) -> None:
    """Raise InputError where an output would overwrite an input, or another output."""
    used = {os.path.realpath(one): "a file that this command reads" for one in inputs if one is not None}
    for name in OUTPUTS:
        file = getattr(option, name)
        if file is None:
            continue
        if (what := used.get(os.path.realpath(file))) is not None:
            raise InputError(f"--{name} {file}: is {what}; name another file")
        used[os.path.realpath(file)] = f"the file of --{name}"


def shown(verdicts: Sequence[Verdict], option: argparse.Namespace, said: Sequence[str] = ()) -> int:
    """Print the table and further lines, and write the files that were asked for; returns the exit code."""
    lines = [*output.table(verdicts), *said]
    print("\n".join(map(printable, lines)))
    write_outputs(verdicts, option, said)
    return exit_code(verdicts)


def write_outputs(verdicts: Sequence[Verdict], option: argparse.Namespace, said: Sequence[str]) -> None:
    """Write the files that were asked for."""
    written = {"markdown": output.markdown, "json": output.as_json, "junit": output.junit}
    for name, make in written.items():
        if (file := getattr(option, name)) is not None:
            write_whole(file, make(verdicts, said).encode())
