"""The table of metrics in fixtures/core/README.md, made of the docstrings that define them.

python -m ci.docs.definitions          write the table
python -m ci.docs.definitions --check  exit code 1 where it is not current
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fixtures.core.base.streams import run_main
from fixtures.core.result.metrics import METRICS

README = Path(__file__).resolve().parents[2] / "fixtures" / "core" / "README.md"
BEGIN, END = "<!-- metrics: python -m ci.docs.definitions -->", "<!-- end of metrics -->"
FIELDS = ("Formula", "Unit", "Undefined", "Source")


def definition(metric: Callable[..., Any]) -> dict[str, str]:
    """A metric's description and its four fields, from its docstring; raises ValueError if one is missing."""
    text = inspect.getdoc(metric) or ""
    what, _, rest = text.partition("\n\n")
    found = {"What": " ".join(what.split())}
    for field in FIELDS:
        match = re.search(rf"^{field}: (.+)$", rest, re.M)
        if match is None:
            raise ValueError(f"{metric.__name__} has no line '{field}: ...' in its docstring")
        found[field] = match[1]
    return found


def table(metrics: Mapping[str, Callable[..., Any]] = METRICS) -> str:
    """The table in Markdown, a row a metric."""
    lines = ["| metric | what it is | formula | unit | undefined | source |", "| --- " * 6 + "|"]
    for name, metric in metrics.items():
        has = definition(metric)
        cells = (name, has["What"], *(has[field] for field in FIELDS))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def with_table(readme: str) -> str:
    """The README with the current table between its marks; raises ValueError if it lacks the marks."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README.name} has no lines {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


def main(arguments: Sequence[str]) -> int:
    """Write or check; the exit code."""
    if list(arguments) not in ([], ["--check"]):
        print("definitions: takes --check or nothing", file=sys.stderr)
        return 2
    old = README.read_text(encoding="utf-8")
    new = with_table(old)
    if not arguments:
        README.write_text(new, encoding="utf-8")
    elif old != new:
        print(
            "fixtures/core/README.md: the table of metrics is not current; run python -m ci.docs.definitions",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    run_main(main)
