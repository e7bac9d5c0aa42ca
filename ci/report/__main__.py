"""python -m ci.report RUN... [-o report.html] [--figures DIR] [--markdown]

One page for a browser with figures, a picker and every case; figures as SVG files in DIR; the cases as a
table in Markdown on the screen. RUN is a history, or a folder of them; of a case in several the newest
counts. Exit code 4 for bad input.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ci.curves import newest, read_samples
from ci.report.figures import figures
from ci.report.markdown import table
from ci.report.page.build import page
from ci.report.page.data import Drawing
from ci.report.render import svg
from ci.report.specs import spec
from fixtures.core.errors import InputError

BAD_INPUT = 4


class _Parser(argparse.ArgumentParser):
    """One line and exit code 4 for arguments that are not right."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m ci.report", description=__doc__.partition("\n\n")[2], allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a history, or a folder of them")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the page there, as HTML")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="write every figure there, as SVG")
    parser.add_argument("--markdown", action="store_true", help="print the cases as a table")
    options = parser.parse_args(list(arguments))
    if not options.output and not options.figures and not options.markdown:
        raise InputError("nothing is asked for; give -o report.html, --figures DIR, --markdown or several")
    return options


def write_whole(file: Path, text: str) -> None:
    """Write a file so that it is there as a whole or not at all; raises InputError where it cannot be."""
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise InputError(f"{file}: cannot be written: {error.strerror}") from None


def main(arguments: Sequence[str]) -> int:
    """Write and print what was asked for; the exit code."""
    try:
        options = _options(arguments)
        samples = newest(read_samples(options.runs))
        files: dict[Path, str] = {}
        if options.output or options.figures:
            drawings = [Drawing(one.kind, one.name, one.title, spec(one)) for one in figures(samples)]
        if options.output:
            files[options.output] = page(samples, drawings)
        if options.figures:
            files |= {options.figures / f"{one.name}.svg": svg(one.spec) for one in drawings}
        for file, text in files.items():
            write_whole(file, text)
    except InputError as error:
        print(f"report: {error}", file=sys.stderr)
        return BAD_INPUT
    if options.markdown:
        print(table(samples), end="")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that has seen enough is no error
    sys.exit(main(sys.argv[1:]))
