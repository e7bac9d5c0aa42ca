"""Cases as a summary in Markdown, for a terminal and for a pull request."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from ci.report.read.cases import latency_of
from ci.report.read.samples import Sample
from fixtures.core.base.text import significant
from fixtures.core.result.record import Limits, Split
from fixtures.core.store.history import History

MOST_ROWS = 400  # a comment on GitHub has 65,536 characters
_BAR = "\\|"  # in a table's cell, within code too
_MOST_FAILED = 20
_HEADING = (
    "model", "hardware", "engine", "batch", "in", "out", "latency s", "interval s", "tokens/s", "TTFT ms",
    "TPOT ms", "of bound", "source",
)  # fmt: skip
_PLAIN = re.compile(r"(?!www\.)[A-Za-z0-9]+([_.-][A-Za-z0-9]+)*\Z")


def summary(samples: Sequence[Sample], runs: Sequence[History]) -> str:
    """What there is in one line, what failed, and a table; the runs are those that the samples are from."""
    sources = Counter(one.source for one in samples if one.latency_s is not None)
    ran_out = sum(one.latency_s is None for one in samples)
    said = [f"{number} {source}" for source, number in sources.items()]
    said += [f"{ran_out} out of memory"] if ran_out else []
    runs = [run for run in runs if run.measured or run.outcomes or run.failed]
    failed = {case_id: why for run in runs for case_id, why in run.failed.items()}
    said += [f"{len(failed)} failed"] if failed else []
    lines = [
        f"{_number(len(samples), 'case')} of {_number(len(runs), 'run')}: {', '.join(said) or 'nothing'}."
    ]
    lines += ["", *_failures(failed)] if failed else []
    lines += ["", table(samples[:MOST_ROWS]).rstrip("\n")] if samples else []
    lines += [f"\n{escaped(line)}" for line in _emulated(samples)]
    if len(samples) > MOST_ROWS:
        lines += ["", f"{len(samples) - MOST_ROWS} more cases are not shown; name fewer runs to see them."]
    return "\n".join(lines) + "\n"


def _emulated(samples: Sequence[Sample]) -> list[str]:
    """What dtypes were emulated, each once on a device: with it, not by the engine, such cases are slow."""
    found: dict[tuple[str, str | None], str] = {}
    for one in samples:
        peaks = (one.record.limits or Limits()).peaks
        if peaks.emulated:
            found.setdefault((one.kind, peaks.dtype), peaks.emulated[:300])
    return list(found.values())


def table(samples: Sequence[Sample]) -> str:
    """A row a case; one that ran out of memory says so in the place of its latency."""
    lines = [f"| {' | '.join(_HEADING)} |", "| --- | --- | --- |" + " ---: |" * 9 + " --- |"]
    lines += [f"| {' | '.join(cell.replace('|', _BAR) for cell in _cells(one))} |" for one in samples]
    return "\n".join(lines) + "\n"


def _cells(one: Sample) -> list[str]:
    split, point = one.record.split or Split(), one.point
    found = latency_of(one)
    of_bound = (one.record.limits or Limits()).of_bound
    ttft, tpot = split.ttft_s, split.tpot_s
    interval = found and found.low and found.high and f"{significant(found.low)}-{significant(found.high)}"
    return [
        *map(escaped, (one.model, one.hardware, one.engine)),
        *map(str, (point.batch_size, point.input_len, point.output_len)),
        "out of memory" if found is None else significant(found.value),
        interval or "",
        "" if one.tokens_per_s is None else significant(one.tokens_per_s),
        "" if ttft is None else significant(1000 * ttft),
        "" if tpot is None else significant(1000 * tpot),
        "" if of_bound is None else f"{significant(100 * of_bound)} %",
        one.source,
    ]


def _failures(failed: dict[str, str]) -> Iterator[str]:
    for case_id, why in list(failed.items())[:_MOST_FAILED]:
        yield f"- {escaped(case_id)} failed: {escaped(why[:200])}"
    if len(failed) > _MOST_FAILED:
        yield f"- and {len(failed) - _MOST_FAILED} more"


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands: what could be more than a word is code.

    >>> escaped("a100_80gb"), escaped("<b>"), escaped("@you `x`")
    ('a100_80gb', '`<b>`', '`` @you `x` ``')
    """
    if _PLAIN.match(text):
        return text
    one_line = "".join(letter if letter.isprintable() else " " for letter in text) or " "
    runs = [len(run) for run in re.findall(r"`+", one_line)]
    fence = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
    needs_room = one_line.strip() != "" and (one_line[0] in "` " or one_line[-1] in "` ")
    room = " " if needs_room else ""
    return f"{fence}{room}{one_line}{room}{fence}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
