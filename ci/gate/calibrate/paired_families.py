"""Kinds of noise between processes that take turns: what the paired rule is tried with, and its tables."""

from __future__ import annotations

from collections.abc import Iterator

from ci.gate.calibrate.simulate import CASES, HEAD, Planted, Regime, Simulated, least, most, paired, row
from ci.gate.paired.sequential import MOST_PAIRS
from fixtures.core.base.text import counted

REGIMES = (
    Regime("quiet", core=0.01),
    Regime("shared", core=0.06, disturbed=0.1),
    Regime("bad", core=0.15, disturbed=0.2),
)
# what the rule does not assume: cases that are slow together, and cases of which some are noisier
HARDER = (
    Regime("shared, in step", core=0.06, disturbed=0.1, in_step=0.5),
    Regime("shared, uneven", core=0.06, disturbed=0.1, uneven=0.5),
)
QUIET, SHARED, BAD = REGIMES
TUNED = (
    *(Regime(f"up and down by 4 % every {n} processes", core=0.01, period=n) for n in (2, 3, 4, 8)),
    Regime("the second process 1 % slower", core=0.01, second=0.01),
    Regime("the second process 3 % slower", core=0.01, second=0.03),
    Regime("the second process 3 % faster, shared", core=0.06, disturbed=0.1, second=-0.03),
    Regime("up and down by 10 % every 4 processes", core=0.01, period=4, height=0.1),
    Regime("the second process 10 % slower", core=0.01, second=0.1),
    Regime("processes like the one before, 0.8", core=0.01, like_before=0.8),
    Regime("pairs like the one before, 0.5", core=0.06, ratios_like_before=0.5),
    Regime("pairs like the one before, 0.8", core=0.06, ratios_like_before=0.8),
    Regime("pairs like the one before, 0.8, core 3 %", core=0.03, ratios_like_before=0.8),
    Regime("pairs like the one before, 0.5, in step", core=0.06, ratios_like_before=0.5, in_step=1),
    Regime("pairs like the one before, 0.8, in step", core=0.06, ratios_like_before=0.8, in_step=1),
    Regime("pairs like the one before, 0.8, a tenth", core=0.06, ratios_like_before=0.8, of_cases=0.1),
    Regime("bursts of +50 % on both sides", core=0.01, burst=0.4),
    Regime("Student t3", core=0.03, tails=3),
)
APART = (  # looked at once the rule was done
    Regime("Student t2", core=0.03, tails=2),
    Regime("up and down by 4 % every 5 processes", core=0.01, period=5),
    Regime("up and down by 2 % every 16 processes, shared", core=0.06, disturbed=0.1, period=16, height=0.02),
    Regime("up and down by 15 % every 6 processes", core=0.02, period=6, height=0.15),
    Regime("the second process 6 % faster, shared", core=0.06, disturbed=0.1, second=-0.06),
    Regime("processes like the one before, 0.95, by 20 %", core=0.02, like_before=0.95, height=0.2),
    Regime("pairs like the one before, 0.3", core=0.04, ratios_like_before=0.3),
    Regime("pairs like the one before, 0.9, core 2 %", core=0.02, ratios_like_before=0.9),
    Regime("pairs like the one before, 0.6, a third", core=0.04, ratios_like_before=0.6, of_cases=0.33),
    Regime("bursts of +20 % on both sides, uneven", core=0.02, uneven=1, burst=0.2),
    Regime("30 % of pairs disturbed", core=0.02, disturbed=0.3),
)
SOMETIMES = (  # what a new side does now and then: in one case, in all, by whole processes
    (QUIET, Planted(1.0, often=0.2)),
    (SHARED, Planted(1.0, often=0.2)),
    (QUIET, Planted(1.0, CASES, often=0.2, as_a_whole=True)),
    (QUIET, Planted(0.5, often=0.1)),
    (SHARED, Planted(0.5, often=0.1)),
)
MANY = (1, 8, 1000)  # cases

PLANTED_HEAD = (
    "| planted | noise, cases, pairs at the most | false alarms a run | REGRESSED | PASS |",
    "| --- | --- | --- | --- | --- |",
)


def paired_table(runs: int, everything: bool, seed: int = 0) -> Iterator[str]:
    """Lines of Markdown tables; `everything` has all families, other budgets, and more that is planted."""
    yield from HEAD
    for regime in (*REGIMES, *HARDER, *(TUNED if everything else ())):
        yield row(f"paired, {regime.name}", paired(Simulated(regime), runs, seed))
    if not everything:
        return
    for regime in (SHARED, BAD):
        for pairs in (40, 800):
            rates = paired(Simulated(regime), runs, seed, most_pairs=pairs)
            yield row(f"paired, {regime.name}, {pairs} pairs", rates)
    for regime in (QUIET, SHARED):
        for cases in MANY:
            rates = paired(Simulated(regime), _fewer(runs, cases), seed, cases=cases)
            yield row(f"paired, {regime.name}, {counted(cases, 'case')}", rates)
    for regime in APART:
        yield row(f"apart: {regime.name}", paired(Simulated(regime), runs, seed))
    yield from ("", *PLANTED_HEAD)
    for regime in (QUIET, SHARED):
        for cases, slower in ((1, 1), (8, 1), (CASES, 33), (CASES, 50), (CASES, CASES), (1000, 1000)):
            yield _planted(regime, Planted(0.05, slower), runs, seed, cases=cases)
    for regime, what in SOMETIMES:
        yield _planted(regime, what, runs, seed)
    yield _planted(QUIET, SOMETIMES[0][1], runs, seed, most_pairs=40)


def _fewer(runs: int, cases: int) -> int:
    return max(runs * 3 // 10, 1) if cases > CASES else runs


def _planted(
    regime: Regime, what: Planted, runs: int, seed: int, cases: int = CASES, most_pairs: int = MOST_PAIRS
) -> str:
    rates = paired(Simulated(regime), _fewer(runs, cases), seed, cases, most_pairs, [what])
    whose = "its only case" if cases == 1 else f"{what.cases} of {cases} cases"
    often = "" if what.often == 1 else f" in {what.often:.0%} of new processes"
    often += ", all cases at once" * what.as_a_whole
    cells = [
        f"{what.slowdown:+.0%} of {whose}{often}",
        f"{regime.name}, {cases}, {most_pairs}",
        "-" if cases == what.cases else most(rates.alarms, rates.runs),
        least(rates.found[what.slowdown], rates.runs),
        most(rates.passed[what.slowdown], rates.runs),
    ]
    return f"| {' | '.join(cells)} |"
