"""Cases as a table in Markdown, for a terminal and for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ci.curves import Sample
from fixtures.core.histories import part, positive
from fixtures.core.text import significant

_HEADING = (
    "model", "hardware", "engine", "batch", "in", "out", "latency s", "tokens/s", "of bound", "source",
)  # fmt: skip
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|&~$])")


def table(samples: Sequence[Sample]) -> str:
    """A row a case; one that ran out of memory says so in the place of its latency."""
    lines = [f"| {' | '.join(_HEADING)} |", "| --- | --- | --- |" + " ---: |" * 6 + " --- |"]
    lines += [f"| {' | '.join(_cells(one))} |" for one in samples]
    return "\n".join(lines) + "\n"


def _cells(one: Sample) -> list[str]:
    of_bound = positive(part(one.record, "limits").get("of_bound"))
    point = one.point
    return [
        *map(escaped, (one.model, one.hardware, one.engine)),
        *map(str, (point.batch_size, point.input_len, point.output_len)),
        "out of memory" if one.latency_s is None else significant(one.latency_s),
        "" if one.tokens_per_s is None else significant(one.tokens_per_s),
        "" if of_bound is None else f"{significant(100 * of_bound)} %",
        one.source,
    ]


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands; underscores within words need no escape.

    >>> escaped("a100_80gb|<b>")
    'a100_80gb\\\\|\\\\<b\\\\>'
    """
    return re.sub(r"(?<=\w)\\_(?=\w)", "_", _SPECIAL.sub(r"\\\1", text))
