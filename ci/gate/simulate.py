"""The gate's own error rates: runs in which nothing, or one case, has changed, through the code that gates.

Noise is simulated, seeded. `core` is the standard deviation of the log ratio of two processes right after
each other; in a share `disturbed` of pairs something takes one of them an exponential 0.5 longer, in its log.
Between stored runs lie days: `shared` is what all cases of a run have in common, `own` each case's own.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci.gate import stored
from ci.gate.paired import Comparison
from ci.gate.verdicts import ALPHA, THRESHOLD, Word

CASES = 100
STORED_RUNS, NEW_RUNS = 10, 3
MOST_PAIRS = 400
SLOWDOWNS = (0.02, 0.05, 0.10)


@dataclass(frozen=True)
class Regime:
    """How noisy a machine is; logs of times. Assumed, from a quiet host to one that is shared with many."""

    name: str
    core: float
    disturbed: float
    shared: float
    own: float


REGIMES = (
    Regime("quiet", core=0.01, disturbed=0.0, shared=0.002, own=0.008),
    Regime("shared", core=0.06, disturbed=0.1, shared=0.05, own=0.05),
    Regime("bad", core=0.15, disturbed=0.2, shared=0.2, own=0.3),
)


class Pairs:
    """Two sides without processes: log seconds by case, with what is planted on the new one."""

    def __init__(self, regime: Regime, seed: int, planted: Mapping[str, float] | None = None) -> None:
        import numpy as np

        self._rng: Any = np.random.default_rng(seed)
        self._regime = regime
        self._planted = planted or {}

    def base(self, ids: Sequence[str]) -> dict[str, float]:
        """Half of a pair's variance."""
        return {one: self._one() for one in ids}

    def new(self, ids: Sequence[str]) -> dict[str, float]:
        """The other half, and what is planted."""
        return {one: self._one() + self._planted.get(one, 0.0) for one in ids}

    def _one(self) -> float:
        disturbed = self._rng.random() < self._regime.disturbed / 2
        return float(
            self._rng.normal(0, self._regime.core / math.sqrt(2)) + disturbed * self._rng.exponential(0.5)
        )


@dataclass(frozen=True)
class Rates:
    """Of runs of 100 cases: the share with a false alarm, that of slower cases found; pairs a case."""

    alarms: float
    found: Mapping[float, float]
    pairs: float | None


def paired(regime: Regime, runs: int, seed: int = 0) -> Rates:
    """Of the sequential test: each run has one case for each slowdown, the others have not changed."""
    planted = {f"slower {slowdown}": math.log1p(slowdown) for slowdown in SLOWDOWNS}
    ids = [*planted, *(f"case {k}" for k in range(CASES - len(planted)))]
    alarms, found, pairs = 0, dict.fromkeys(SLOWDOWNS, 0), []
    for run in range(runs):
        noise = Pairs(regime, seed + run, planted)
        with tempfile.TemporaryDirectory() as folder:
            comparison = Comparison(
                ids,
                (noise.base, noise.new),
                math.log1p(THRESHOLD),
                Path(folder) / "pairs",
                lambda _: None,
                MOST_PAIRS,
            )
            red = {one.case_id for one in comparison.run() if one.word == Word.REGRESSED}
        alarms += bool(red - set(planted))
        for slowdown in SLOWDOWNS:
            found[slowdown] += f"slower {slowdown}" in red
        pairs += [len(r) for name, r in comparison.series[1].ratios.items() if name not in planted]
    return Rates(alarms / runs, {s: n / runs for s, n in found.items()}, statistics.fmean(pairs))


def of_stored(regime: Regime, runs: int, seed: int = 0) -> Rates:
    """Of ten stored runs and three new ones: what is called red, and of the slower ones what is."""
    import numpy as np

    rng: Any = np.random.default_rng(seed)
    alarms, found = 0, dict.fromkeys(SLOWDOWNS, 0)
    for _ in range(runs):
        total = STORED_RUNS + NEW_RUNS
        logs = rng.normal(0, regime.shared, total) + rng.normal(0, regime.own, (CASES, total))
        for k, slowdown in enumerate(SLOWDOWNS):
            logs[k, STORED_RUNS:] += math.log1p(slowdown)
        known = stored.noise({str(k): list(row[:STORED_RUNS]) for k, row in enumerate(logs)})
        assert known is not None
        changes = [float(row[STORED_RUNS:].mean() - row[:STORED_RUNS].mean()) for row in logs]
        known = stored.with_own(known, [(one, stored.scale(STORED_RUNS, NEW_RUNS)) for one in changes])
        cut = stored.compare(0.0, STORED_RUNS, NEW_RUNS, known, CASES, math.log1p(THRESHOLD), ALPHA).cut
        red = [one > cut for one in changes]
        alarms += any(red[len(SLOWDOWNS) :])
        for k, slowdown in enumerate(SLOWDOWNS):
            found[slowdown] += red[k]
    return Rates(alarms / runs, {s: n / runs for s, n in found.items()}, None)


def error_table(runs: int, seed: int = 0) -> list[str]:
    """Lines of a Markdown table."""
    lines = [
        "| rule, noise | false alarms a run | +2 % found | +5 % found | +10 % found | pairs a clean case |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rules = {"paired": paired, f"{NEW_RUNS} runs against {STORED_RUNS} stored": of_stored}
    for name, rates_of in rules.items():
        for regime in REGIMES:
            rates = rates_of(regime, runs, seed)
            cells = [f"{100 * share:.3g} %" for share in (rates.alarms, *rates.found.values())]
            cells.append("-" if rates.pairs is None else f"{rates.pairs:.1f}")
            lines.append(f"| {name}, {regime.name} | {' | '.join(cells)} |")
    return lines
