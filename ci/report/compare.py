"""`--compare engine`: engines side by side as tables in Markdown, a row a model and point."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ci.report.markdown import escaped, failures
from ci.report.read.cases import engine_of
from ci.report.read.engines import (
    APART,
    BASE,
    LEAST_RUNS,
    PROCESSES,
    Row,
    alone,
    engines_of,
    over_another,
    side_by_side,
)
from ci.report.read.samples import Sample
from fixtures.core.base.columns import markdown
from fixtures.core.base.text import counted, gigabytes, significant
from fixtures.core.fields import at
from fixtures.core.result.record import Record
from fixtures.core.spec.engine_kinds import KINDS, Ragged
from fixtures.core.store.history import History
from fixtures.core.tables import DEPTH, without_depth

_CASE = ("model", "hardware", "batch", "in", "out", DEPTH)
_NAMED = 6  # of cases without a row
_COMPILED_S, _FORMAT_BYTES = at("compiled.seconds"), at("weight_format.bytes")


def comparison(samples: Sequence[Sample], runs: Sequence[History] = (), base: str = BASE) -> str:
    """Tables of speed against the base engine, share of the limit, seconds before the rounds, and memory.

    `runs` are the samples' runs. Lines name what has no row: cases of one engine alone, and what failed.
    """
    rows = side_by_side(samples, base)
    without = "\n".join(filter(None, (_alone(alone(samples, rows)), _failed(samples, runs))))
    if not rows:
        none = "No two engines ran the same model, machine and point in these runs.\n"
        return "\n".join(filter(None, (none, without)))
    engines = engines_of(rows, base)
    parts = [
        _table(f"Latency of {base} / latency of the engine: above 1 is faster", rows, engines, _gain(base)),
        _notes(rows, base),
        _padding(rows),
        _routed(rows),
        _table(
            "% of limit: the least time for the engine's own bytes / its latency", rows, engines, _of(_limit)
        ),
        _table("Load, and compilation where there is one, in s", rows, engines, _of(_before)),
        _table("Peak memory in GB, and packed weights where there are any", rows, engines, _of(_memory)),
        without,
    ]
    return "\n".join(part for part in parts if part)


def _table(title: str, rows: Sequence[Row], engines: Sequence[str], cell: Callable[[Row, str], str]) -> str:
    lines = [(*_CASE, *engines)]
    for row in rows:
        numbers = map(str, (row.batch_size, row.input_text, row.output_len, row.depth))
        lines.append((*map(escaped, (row.model, row.hardware)), *numbers, *(cell(row, e) for e in engines)))
    shown = without_depth(lines)
    return "\n".join([f"{title}\n", *markdown(shown, right=range(2, len(shown[0])))]) + "\n"


def _gain(base: str) -> Callable[[Row, str], str]:
    def cell(row: Row, engine: str) -> str:
        sample = row.samples.get(engine)
        if sample is not None and sample.latency_s is None:
            return "out of memory"
        if sample is not None and engine == base:
            return f"1 ({significant(sample.latency_s or 0.0)} s)"
        gain = row.gains.get(engine)
        if gain is None:
            return ""
        ends = "" if gain.low is None or gain.high is None else f" ({gain.low:.2f}-{gain.high:.2f})"
        return f"{gain.value:.2f}{ends}"

    return cell


def _notes(rows: Sequence[Row], base: str) -> str:
    ways = {way for row in rows for way in row.by.values()}
    if not ways:
        return f"No run has the engine {base} for the same work, so there are no ratios.\n"
    other = over_another(rows, base)
    first = f"{other[0].upper()}{other[1:]}. " if other else ""
    if ways == {PROCESSES}:
        return first + "Intervals are 95 %, over runs that have both engines.\n"
    some = "Some intervals" if PROCESSES in ways else "Intervals"
    apart = (
        f"Some engines have no run in common with {base}: the machine may have changed between their runs. "
        if APART in ways
        else ""
    )
    return (
        first
        + apart
        + (
            f"{some} take the worst ends of two medians' intervals over the rounds of one process each; what "
            f"differs from process to process is not in them. {LEAST_RUNS} runs with both give intervals "
            "over processes: `python -m ci.report.turns` measures them.\n"
        )
    )


def _padding(rows: Sequence[Row]) -> str:
    """What padding computes of ragged batches, and which engines do not pad; empty without such batches."""
    ragged = [row for row in rows if "_" in row.input_text]
    if not ragged:
        return ""
    ways: dict[Ragged, dict[str, None]] = {}
    times: dict[str, float] = {}
    for row in ragged:
        for engine, sample in row.samples.items():
            lengths = sample.point.ragged
            times[row.input_text] = max(lengths) * len(lengths) / sum(lengths)
            kind = KINDS.get(sample.record.case.engine.kind)
            if kind is not None:
                ways.setdefault(kind.ragged, {})[engine] = None
    padded, own = (", ".join(sorted(ways.get(way, ()))) for way in (Ragged.PADDED, Ragged.UNPADDED))
    more = ", ".join(f"{text}: {value:.2f}" for text, value in times.items())
    return (
        "Sequences of different input lengths, padded to the longest, have more prompt positions "
        f"({more} times as many). These engines pad: {padded or 'none'}. These do not: {own or 'none'}; "
        "their ratio to an engine that pads is what that is worth.\n"
    )


def _routed(rows: Sequence[Row]) -> str:
    """Which engines choose experts otherwise than the engine that they are held against; empty without."""
    pairs = {
        (engine, over): None
        for row in rows
        for engine, over in row.over.items()
        if engine_of(row.samples[engine]).routing != engine_of(row.samples[over]).routing
    }
    if not pairs:
        return ""
    named = ", ".join(f"{engine} than {over}" for engine, over in pairs)
    return f"Tokens choose other experts, so that a ratio is of other work too: in {named}.\n"


def _alone(samples: Sequence[Sample]) -> str:
    """A line that names cases without a row; empty without."""
    if not samples:
        return ""
    named = ", ".join(escaped(sample.case_id) for sample in samples[:_NAMED])
    more = f", and {len(samples) - _NAMED} more" if len(samples) > _NAMED else ""
    return f"Without a row, of one engine alone: {counted(len(samples), 'case')}: {named}{more}.\n"


def _failed(samples: Sequence[Sample], runs: Sequence[History]) -> str:
    """A line for each case that failed wherever it ran; empty without."""
    done = {sample.record.case.id for sample in samples}
    lines = failures({name: why for run in runs for name, why in run.failed.items() if name not in done})
    return "".join(f"{line}\n" for line in lines)


def _of(written: Callable[[Record], str]) -> Callable[[Row, str], str]:
    def cell(row: Row, engine: str) -> str:
        sample = row.samples.get(engine)
        return "" if sample is None else written(sample.record)

    return cell


def _limit(record: Record) -> str:
    share = at("limits.of_bound")(record)
    return "" if share is None else significant(100 * share)


def _before(record: Record) -> str:
    compiled_s = _COMPILED_S(record)
    parts = [value for value in (record.load_s, compiled_s) if value is not None]
    cold = "" if compiled_s is None else (" cold" if at("compiled.cold")(record) else " from cache")
    return " + ".join(map(significant, parts)) + cold


def _memory(record: Record) -> str:
    peak, packed = record.peak_memory_bytes, _FORMAT_BYTES(record)
    parts = ["" if peak is None else gigabytes(peak)]
    if packed is not None:
        parts.append(f"({gigabytes(packed)} packed)")
    return " ".join(filter(None, parts))
