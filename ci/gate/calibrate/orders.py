"""How often `ci.gate.predecessors` names a case that does not move, or misses one that does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ci.gate.calibrate.simulate import least, most
from ci.gate.predecessors import ELSEWHERE, FIRST, named

Noise = Callable[[np.random.Generator, int], np.ndarray]
LOADS, CASES = 3, 4
_HEAD = (
    "| noise from run to run | runs | slower after one case | a case is named that does not move | found |",
    "| --- | --- | --- | --- | --- |",
)


def _quiet(random: np.random.Generator, count: int) -> np.ndarray:
    return random.normal(0, 0.01, count)


def _shared(random: np.random.Generator, count: int) -> np.ndarray:
    """Noise of 3 % of each case, and of 3 % of all cases of a run."""
    return random.normal(0, 0.03, count) + random.normal(0, 0.03)


def _spikes(random: np.random.Generator, count: int) -> np.ndarray:
    """Noise of 1 %, and a tenth of the values 50 % slower."""
    return random.normal(0, 0.01, count) + 0.4 * (random.random(count) < 0.1)


NOISES: dict[str, Noise] = {
    "1 %": _quiet,
    "3 %, and 3 % of the whole run": _shared,
    "1 %, a tenth +50 %": _spikes,
}


def simulated(noise: Noise, runs: int, slower: float, random: np.random.Generator) -> set[tuple[str, str]]:
    """Cases that are named, with the case before, in so many runs of 3 loads of 4 cases in random orders.

    `0.1` is slower by `slower` (of a log) right after `0.0`; times creep by 0.3 % from run to run besides.
    """
    lines: dict[str, list[tuple[str, float]]] = {}
    for run in range(runs):
        order = [(load, case) for load in random.permutation(LOADS) for case in random.permutation(CASES)]
        extra = noise(random, len(order)) + 0.003 * run
        for at, (load, case) in enumerate(order):
            before = order[at - 1] if at else None
            same = before is not None and before[0] == load
            label = FIRST if before is None else f"{before[0]}.{before[1]}" if same else ELSEWHERE
            log = extra[at] + (slower if (label, load, case) == ("0.0", 0, 1) else 0.0)
            lines.setdefault(f"{load}.{case}", []).append((label, log))
    return {(each.case_id, each.before) for each in named(lines)}


def order_table(repeats: int) -> Iterator[str]:
    """Lines of the table; `repeats` simulated sets of runs a row."""
    yield from _HEAD
    for name, noise in NOISES.items():
        for runs in (15, 30, 60):
            for slower in (0.0, 0.05, 0.1):
                random = np.random.default_rng(runs)
                found = [simulated(noise, runs, slower, random) for _ in range(repeats)]
                false = sum(any(case_id != "0.1" or not slower for case_id, _ in each) for each in found)
                right = sum(("0.1", "0.0") in each for each in found)
                cells = (f"+{100 * slower:.0f} %", most(false, repeats), least(right, repeats))
                yield f"| {name} | {runs} | {' | '.join(cells if slower else (*cells[:2], '-'))} |"
