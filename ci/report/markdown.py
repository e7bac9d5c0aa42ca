"""Cases as a summary in Markdown, for a terminal and for a pull request."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ci.gate.predecessors import moved
from ci.report.read.samples import Sample
from fixtures.core.base.columns import markdown
from fixtures.core.base.text import counted
from fixtures.core.fields import MARKDOWN, shown_in
from fixtures.core.result.record_times import Limits
from fixtures.core.store.history import History
from fixtures.core.tables import DEPTH, without_depth

MOST_ROWS = 400  # a comment on GitHub has 65,536 characters
_MOST_FAILED = _MOST_MOVED = 20
_CASE = ("model", "hardware", "engine", "batch", "in", "out", DEPTH)
_FIELDS = shown_in(MARKDOWN)
_PLAIN = re.compile(r"(?!www\.)[A-Za-z0-9]+([_.-][A-Za-z0-9]+)*\Z")


def summary(samples: Sequence[Sample], runs: Sequence[History]) -> str:
    """A line of counts, the failures, a table of the samples, and notes; `runs` are the samples' runs.

    The notes name dtypes that a device emulates, and cases whose time moves with the case before them.
    """
    sources = Counter(sample.source for sample in samples if sample.latency_s is not None)
    ran_out = sum(sample.latency_s is None for sample in samples)
    counts = [f"{number} {source}" for source, number in sources.items()]
    counts += [f"{ran_out} out of memory"] if ran_out else []
    runs = [run for run in runs if run.measured or run.outcomes or run.failed]
    failed = {case_id: why for run in runs for case_id, why in run.failed.items()}
    counts += [f"{len(failed)} failed"] if failed else []
    lines = [
        f"{counted(len(samples), 'case')} of {counted(len(runs), 'run')}: {', '.join(counts) or 'nothing'}."
    ]
    lines += ["", *failures(failed)] if failed else []
    lines += ["", table(samples[:MOST_ROWS]).rstrip("\n")] if samples else []
    lines += [f"\n{escaped(line)}" for line in _emulated(samples)]
    lines += [f"\n{escaped(each.text)}" for each in moved(runs)[0][:_MOST_MOVED]]
    if len(samples) > MOST_ROWS:
        lines += ["", f"{len(samples) - MOST_ROWS} more cases are not shown; name fewer runs to see them."]
    return "\n".join(lines) + "\n"


def _emulated(samples: Sequence[Sample]) -> list[str]:
    """A note for each dtype that a device emulates: it makes cases slow, not the engine."""
    notes: dict[tuple[str, str | None], str] = {}
    for sample in samples:
        peaks = (sample.record.limits or Limits()).peaks
        if peaks.emulated:
            notes.setdefault((sample.kind, peaks.dtype), peaks.emulated[:300])
    return list(notes.values())


def table(samples: Sequence[Sample]) -> str:
    """A Markdown table with a row a case; "out of memory" takes the place of a latency."""
    heading = (*_CASE, *(field.heading for field in _FIELDS), "source")
    rows = without_depth([heading, *map(_cells, samples)])
    return "\n".join(markdown(rows, right=range(3, len(rows[0]) - 1))) + "\n"


def _cells(sample: Sample) -> list[str]:
    point = sample.point
    own = {"latency_mean_s": sample.latency_s, "output_tokens_per_s": sample.tokens_per_s}
    values = [(field, own.get(field.name) or field.value(sample.record)) for field in _FIELDS]
    written = ["" if value is None else field.written(value) for field, value in values]
    if sample.latency_s is None:
        written[0] = "out of memory"
    numbers = map(str, (point.batch_size, point.input_text, point.output_len, point.depth))
    return [*map(escaped, (sample.model, sample.hardware, sample.engine)), *numbers, *written, sample.source]


def failures(failed: Mapping[str, str]) -> Iterator[str]:
    """A line for each failed case, and one for the rest of many."""
    for case_id, why in list(failed.items())[:_MOST_FAILED]:
        yield f"- {escaped(case_id)} failed: {escaped(why[:200])}"
    if len(failed) > _MOST_FAILED:
        yield f"- and {len(failed) - _MOST_FAILED} more"


def escaped(text: str) -> str:
    """Text that Markdown shows literally: anything but a plain word becomes code.

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
