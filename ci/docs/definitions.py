"""Writes the table of metrics in fixtures/core/README.md from the docstrings that define them.

python -m ci.docs.definitions          write the table
python -m ci.docs.definitions --check  exit code 1 if it is not current
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ci.docs.marked import Marked
from fixtures.core.base.columns import markdown
from fixtures.core.base.streams import run_main
from fixtures.core.fields import PARTS, defined, definition

README = Path(__file__).resolve().parents[2] / "fixtures" / "core" / "README.md"
PART = Marked("metrics", "ci.docs.definitions", README)


def table(metrics: Mapping[str, Callable[..., Any]] | None = None) -> str:
    """The table in Markdown, a row a metric."""
    rows: list[tuple[str, ...]] = [("metric", "what it is", *map(str.lower, PARTS[1:]))]
    for name, metric in (defined() if metrics is None else metrics).items():
        has = definition(metric)
        rows.append((name, *(has[part] for part in PARTS)))
    return "\n".join(markdown(rows))


if __name__ == "__main__":
    run_main(partial(PART.write_or_check, table))
