"""What the commands share: a parser, values of options, and one line with exit code 4 for bad input."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from fixtures.core.base.errors import InputError
from fixtures.core.base.places import why
from fixtures.core.base.text import printable

BAD_INPUT = 4

Main = Callable[[Sequence[str]], int]


class Parser(argparse.ArgumentParser):
    """Raises InputError for wrong arguments."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")


def positive(text: str) -> int:
    """A whole number of at least 1, for a parser."""
    value = int(text)
    if not 1 <= value <= 10**7:
        raise ValueError(text)
    return value


positive.__name__ = "whole number of at least 1"  # in a parser's message


def stops_for_bad_input(name: str) -> Callable[[Main], Main]:
    """Make a command write one line for an InputError or OSError, and return exit code 4."""

    def of(main: Main) -> Main:
        @functools.wraps(main)
        def guarded(arguments: Sequence[str]) -> int:
            try:
                return main(arguments)
            except InputError as error:
                print(f"{name}: {error}", file=sys.stderr)
            except OSError as error:
                print(printable(f"{name}: {error.filename}: {error.strerror}"), file=sys.stderr)
            return BAD_INPUT

        return guarded

    return of


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn an OSError into an InputError that names this place and a remedy."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{place}: cannot be written: {why(error)}") from None
