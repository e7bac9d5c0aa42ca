"""python -m ci.report.turns [--turns N] [--to FOLDER] [-- WORDS...]

Measures the suite `engines` N times (default: 6), each time in a new process and a new random order of the
engines, and prints the engines side by side (`ci.report FOLDER --compare engine`). The runs are the pairs
over which the ratios have their intervals. FOLDER gets turn_1.json and so on; WORDS go to pytest.
Turns that are in FOLDER are not measured again. Exit code 4 for bad input.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ci.command import Parser, positive, stops_for_bad_input, writing
from ci.gate.paired.sides import OPTIONS, ROOT
from ci.report.__main__ import main as report
from ci.report.read.engines import LEAST_RUNS
from fixtures.core.base.errors import InputError
from fixtures.core.base.places import try_folder
from fixtures.core.base.streams import run_main

_TURNS = 6
_GOES_ON = (0, 1)  # pytest's exit codes: all well, or a case failed, and the others count
_PROTOCOL = ("--rounds", "3", "--warmup-rounds", "1", "--minutes", "0")  # WORDS may give others


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m ci.report.turns", description=__doc__.partition("\n\n")[2], allow_abbrev=False
    )
    parser.add_argument("--turns", type=positive, default=_TURNS, metavar="N", help="processes (default: 6)")
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="for the histories (default: a new one in .benchmarks)"
    )
    options = parser.parse_args(list(words))
    if options.turns < LEAST_RUNS:
        raise InputError(f"--turns {options.turns}: fewer than {LEAST_RUNS} give no interval")
    if options.to is None:
        options.to = ROOT / ".benchmarks" / "turns" / time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    with writing(options.to):
        try_folder(options.to)
    return options


def command(turn: int, history: Path, words: Sequence[str]) -> list[str]:
    """The command of a turn; its number is the seed of its order."""
    suite = (
        []
        if any(word.partition("=")[0] in ("--suite", "--model") for word in words)
        else ["--suite", "engines"]
    )
    return [
        *(sys.executable, "-P", "-m", "pytest", *OPTIONS, "benchmarks", "--benchmark-only"),
        *(*suite, *_PROTOCOL, "--order", f"random:{turn}", *words, "--benchmark-json", str(history)),
    ]


@stops_for_bad_input("turns")
def main(arguments: Sequence[str]) -> int:
    """Measure what FOLDER lacks, and print the tables; returns the exit code."""
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    words = list(arguments[cut + 1 :])
    options = _options(arguments[:cut])
    folder = options.to.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for turn in range(1, options.turns + 1):
        history = folder / f"turn_{turn}.json"
        if history.exists():
            continue
        print(f"turn {turn} of {options.turns}: {history}", flush=True)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        code = subprocess.run(command(turn, history, words), cwd=ROOT, env=ours).returncode
        if code not in _GOES_ON or not history.exists():
            return code or 1
    return report([str(folder), "--compare", "engine"])


if __name__ == "__main__":
    run_main(main)
