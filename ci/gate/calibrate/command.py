"""`python -m ci.gate calibrate`: how often the gate is wrong, by simulation and by real processes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ci.command import Parser, positive
from ci.gate.calibrate.orders import order_table
from ci.gate.calibrate.paired_families import paired_table
from ci.gate.calibrate.rates import stored_table
from ci.gate.calibrate.real import measure, replayed
from ci.gate.calibrate.simulate import HEAD, paired, row
from ci.gate.paired.sequential import MOST_PAIRS


def main(words: Sequence[str]) -> int:
    """Print the table; returns 0."""
    parser = Parser(
        prog="python -m ci.gate calibrate",
        description="The gate's error rates: by simulated noise, real processes, or noise measured before.",
    )
    parser.add_argument(
        "--runs", type=positive, default=1000, help="simulated runs, of 100 cases each (default: %(default)s)"
    )
    parser.add_argument(
        "--real",
        type=positive,
        metavar="N",
        help="compare N times a small model with itself, and with slower ones",
    )
    parser.add_argument(
        "--pairs",
        type=positive,
        default=MOST_PAIRS,
        help="pairs of a real comparison's series at most (default: %(default)s)",
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no real pair after so long")
    parser.add_argument(
        "--replay", type=Path, metavar="FOLDER", help="simulate with the noise of the pairs that --real left"
    )
    parser.add_argument("--all", action="store_true", help="every kind of noise, number of runs and of cases")
    parser.add_argument(
        "--order", action="store_true", help="of `trends`: cases that move with the case that ran before them"
    )
    option = parser.parse_args(words)
    if option.real is not None:
        folder = measure(option.real, option.pairs, option.minutes, lambda line: print(line, flush=True))
        print(f"its pairs are in {folder}; --replay takes their noise, to plant slowdowns into it")
    elif option.replay is not None:
        noise, pairs = replayed(option.replay)
        _print([*HEAD, row(f"paired, noise of {pairs} measured pairs", paired(noise, option.runs))])
    elif option.order:
        _print(order_table(option.runs))
    else:
        _print(stored_table(option.runs, option.all))
        _print([""])
        _print(paired_table(option.runs, option.all))
    return 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)
