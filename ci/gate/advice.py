"""What to do next: what was compared, the command that makes sure, what a baseline lacks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from ci.gate.verdicts import Verdict, Word
from fixtures.core.base.text import counted
from fixtures.core.store.history import History

_NAMED = 4  # cases in a command
_MANY = 3  # cases that are slower


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
    if len(slower) >= _MANY:
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
