"""`python -m ci.gate trends FOLDER...`: where a case became slower or faster over many runs. Advice only.

The gate compares one run with those before it, and never sees what creeps in by 1 % a month. Here PELT (R.
Killick et al., JASA 107(500), 2012) cuts the log of a case's median, over all runs, where its level changes.
The cost is the sum of absolute deviations, so that a single disturbed run is no change.

Then it names the cases whose time moves with the case that ran before them (`ci.gate.predecessors`).
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ci.command import Parser
from ci.gate.fingerprint import difference, fingerprint
from ci.gate.predecessors import ALPHA, Moved, lines_of, moved
from fixtures.core.base.columns import markdown
from fixtures.core.base.errors import InputError
from fixtures.core.store.history import History
from fixtures.core.store.runs import read_runs

LEAST_RUNS = 8
_LEAST_APART = 3  # runs between two changes: fewer could be disturbed ones
_PENALTY = 3.0  # by simulation: of 100 cases of which none has changed, less than two have a change
_MAD = 1.4826  # of a normal distribution: standard deviation / median absolute deviation


@dataclass(frozen=True)
class Change:
    """A change of a case, at the first run after it. `ratio` is of medians, after / before."""

    case_id: str
    run: History
    ratio: float
    why: str | None


def change_points(logs: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Where a new level begins.

    The unit is the scatter from run to run, by the median of differences of neighbours: a level that changes
    counts in one of them only. Raises InputError where ruptures is not installed.
    """
    try:
        from ruptures import Pelt
    except ImportError:
        remedy = "pip install 'ruptures>=1.1.10'"
        raise InputError(f"trends: ruptures is not installed; {remedy}") from None
    if len(logs) < LEAST_RUNS:
        return []
    steps = np.abs(np.diff(logs))
    sd = max(_MAD * float(np.median(steps)) / math.sqrt(2), 1e-6)
    found = Pelt(model="l1", min_size=_LEAST_APART, jump=1).fit(np.asarray(logs) / sd)
    return [int(one) for one in found.predict(pen=_PENALTY * math.log(len(logs)))[:-1]]


def changes(runs: Sequence[History]) -> tuple[list[Change], int, int]:
    """Changes of all cases, the largest slowdown first; how many cases were followed, how many too short."""
    lines = lines_of(runs)
    found: list[Change] = []
    followed = 0
    for (case_id, _), line in lines.items():
        if len(line) < LEAST_RUNS:
            continue
        followed += 1
        logs = [log for _, _, log in line]
        cuts = [0, *change_points(logs), len(line)]
        levels = [statistics.median(logs[a:b]) for a, b in pairwise(cuts)]
        for at, before, after in zip(cuts[1:-1], levels[:-1], levels[1:], strict=True):
            first, last = (fingerprint(line[k][1].record) for k in (at, at - 1))
            why = difference(first, last, "before it")
            found.append(Change(case_id, line[at][0], math.exp(after - before), why))
    found.sort(key=lambda one: (-one.ratio, one.case_id))
    return found, followed, len(lines) - followed


def table(found: Sequence[Change]) -> list[str]:
    """Lines of a Markdown table, which reads well in a terminal too."""
    rows = [("case", "since", "commit", "after / before", "differs")]
    for one in found:
        taken, commit = one.run.taken[:19] or "-", (one.run.commit.id or "-")[:12]
        rows.append((one.case_id, taken, commit, f"{one.ratio:.3f}", one.why or "-"))
    return markdown(rows)


def table_of_moved(found: Sequence[Moved]) -> list[str]:
    """Lines of a Markdown table."""
    rows = [("case", "ran after", "after it / else", "runs after it", "runs", "p")]
    for one in found:
        counts = (str(one.after), str(one.runs))
        rows.append((one.case_id, one.before, f"{one.ratio:.3f}", *counts, f"{one.p:.1g}"))
    return markdown(rows)


def main(words: Sequence[str]) -> int:
    """Print the changes, and the cases that move with the case before them; always returns 0."""
    parser = Parser(
        prog="python -m ci.gate trends", description="Where cases became slower or faster: advice."
    )
    parser.add_argument("history", nargs="+", type=Path, help="histories, or folders of them")
    parser.add_argument("-k", metavar="TEXT", default="", help="only cases with this text in their id")
    option = parser.parse_args(words)
    change_points([])  # says what is missing before anything is read
    found_runs = read_runs(option.history, lambda line: print(f"trends: {line}", file=sys.stderr))
    runs = [run.only(lambda one: option.k in one) for run in found_runs]
    found, followed, short = changes(runs)
    if found:
        print("\n".join(table(found)))
    count = Counter("slower" if one.ratio > 1 else "faster" for one in found)
    print(
        f"trends: {followed} cases over up to {len(runs)} runs, {count['slower']} changes to slower, "
        f"{count['faster']} to faster; {short} cases have fewer than {LEAST_RUNS} runs"
    )
    after, tested = moved(found_runs)
    after = [one for one in after if option.k in one.case_id]
    if after:
        print("\n" + "\n".join(table_of_moved(after)))
    if tested:
        print(
            f"trends: {len(after)} changes with the case before, of {tested} cases with {LEAST_RUNS} runs or "
            f"more in random orders; false alarms: {100 * ALPHA:g} %"
        )
    return 0
