"""Verdicts for people and for machines: a table, Markdown, JSON, JUnit; and what to do next."""

from __future__ import annotations

import html
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from xml.etree import ElementTree

from ci.gate.verdicts import RED, UNKNOWN, Verdict, Word, exit_code
from fixtures.core.base import columns
from fixtures.core.base.strict_json import dumps
from fixtures.core.base.text import counted, printable
from fixtures.core.store.history import History

_MANY = 4  # cases that share a line
_NAMED = 4  # cases in a command
_TOGETHER = 3  # cases that are slower
_LONG = 1e6
_SAID = {0: "pass", 1: "regressed", 2: "cannot be judged"}


def summary(verdicts: Sequence[Verdict]) -> str:
    """One line: the decision, and how many cases have each verdict."""
    counts = Counter(one.word for one in verdicts)
    parts = [f"{counts[word]} {word}" for word in Word if counts[word]]
    return f"gate: {_SAID[exit_code(verdicts)]} ({', '.join(parts) or 'no case was compared'})"


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """Lines of a table for a terminal, and the summary; cases with the same reason share a line."""
    head = _head(verdicts)
    lines = columns.aligned([head, *map(_cells, grouped(verdicts))], words=range(len(head)))
    lines.insert(1, "-" * max(map(len, lines)))
    return [*lines, "", summary(verdicts)]


def grouped(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Cases without a ratio that share word and reason, as one verdict; the others as they are."""
    alike: dict[tuple[Word, str], list[Verdict]] = {}
    for one in verdicts:
        alike.setdefault((one.word, one.reason if one.ratio is None else one.case_id), []).append(one)
    found: list[Verdict] = []
    for same in alike.values():
        many = f"{len(same)} cases, such as {same[0].case_id}"
        found += same if len(same) < _MANY else [replace(same[0], case_id=many)]
    return found


def markdown(verdicts: Sequence[Verdict], said: Sequence[str] = ()) -> str:
    """For a pull request."""
    rows = [[_escaped(cell) for cell in _cells(one)] for one in grouped(verdicts)]
    lines = [f"**{_escaped(summary(verdicts))}**", "", *columns.markdown([_head(verdicts), *rows])]
    for line in said:
        lines += ["", _escaped(line)]
    return "\n".join(lines) + "\n"


def as_json(verdicts: Sequence[Verdict], said: Sequence[str] = ()) -> str:
    """All verdicts, in plain values."""
    values = {
        "exit_code": exit_code(verdicts),
        "summary": summary(verdicts),
        "verdicts": list(map(asdict, verdicts)),
        "said": list(map(printable, said)),
    }
    return dumps(values, indent=1) + "\n"


def junit(verdicts: Sequence[Verdict], _said: Sequence[str] = ()) -> str:
    """A test case each: red ones are failures, those that cannot be judged are errors."""
    suite = ElementTree.Element("testsuite", name="gate", tests=str(len(verdicts)))
    suite.set("failures", str(sum(one.word in RED for one in verdicts)))
    suite.set("errors", str(sum(one.word in UNKNOWN for one in verdicts)))
    for one in verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname="gate", name=one.case_id)
        if one.word in RED | UNKNOWN:
            tag = "failure" if one.word in RED else "error"
            ElementTree.SubElement(case, tag, message=f"{one.word}: {one.reason}", type=one.word)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _head(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """The names of the columns."""
    covers = dict.fromkeys(f"{100 * one.coverage:.0f} % interval" for one in verdicts if one.low is not None)
    return ("case", "verdict", "ratio", "/".join(covers) or "interval", "visible from", "why")


def _cells(one: Verdict) -> tuple[str, ...]:
    interval = "-" if one.low is None or one.high is None else f"{_short(one.low)}-{_short(one.high)}"
    ratio = "-" if one.ratio is None else _short(one.ratio)
    visible = "-" if one.visible is None else f"+{_short(100 * one.visible, 1)} %"
    return (one.case_id, one.word, ratio, interval, visible, one.reason or "-")


def _short(value: float, places: int = 3) -> str:
    """With so many decimal places; in exponent form where the number would be long."""
    return f"{value:.{places}f}" if value < _LONG else f"{value:.3g}"


def _escaped(text: str) -> str:
    """Text that shows as text in Markdown; a table escapes its bars itself."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-.!~" else html.escape(c) for c in text)


def advice(verdicts: Sequence[Verdict], runs: Sequence[History], baseline: Sequence[History]) -> list[str]:
    """Lines below the table; `baseline` has the oldest run first."""
    if not verdicts:
        return []
    newest = baseline[-1]
    commit = newest.commit.id
    lines = [
        f"compared: {counted(len(runs), 'new run')} with {counted(len(baseline), 'stored run')}, "
        f"the newest of {newest.taken[:19] or 'unknown time'}, commit {(commit or 'unknown')[:12]}"
    ]
    times = [run.taken_s for run in runs if run.taken_s is not None]
    if times and newest.taken_s is not None and min(times) < newest.taken_s:
        lines.append("a new run is older than a stored one: an old run, or a clock that was set back")
    slower = [one for one in verdicts if one.word == Word.REGRESSED and one.ratio is not None]
    if len(slower) >= _TOGETHER:
        compared = sum(one.ratio is not None for one in verdicts)
        ratio = math.exp(statistics.median(math.log(one.ratio) for one in slower if one.ratio))
        lines.append(f"{len(slower)} of {compared} cases are slower together, by {100 * (ratio - 1):.3g} %")
    if slower and commit:
        chosen = " or ".join(one.case_id for one in slower[:_NAMED])
        lines.append(f'to be sure, side by side: python -m ci.gate paired --base {commit[:12]} -k "{chosen}"')
    if any(one.word == Word.NOT_COMPARABLE for one in verdicts):
        lines.append(
            "for a baseline of what runs now, accept ten runs: python -m ci.gate accept RUN --new-epoch WHY"
        )
    return lines
