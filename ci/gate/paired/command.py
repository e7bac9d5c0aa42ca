"""`python -m ci.gate paired --base BASE`: base and new measured side by side, and judged."""

from __future__ import annotations

import math
import os
import secrets
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ci.command import Parser, positive
from ci.gate.arguments import add_outputs, fraction, refuse_inputs, shown, whole
from ci.gate.paired.comparison import Comparison, measured_by
from ci.gate.paired.pairs_file import PairsFile, read_pairs
from ci.gate.paired.sequential import MOST_PAIRS
from ci.gate.paired.sides import ROOT, Side, opened
from ci.gate.verdicts import THRESHOLD
from fixtures.core.base.errors import InputError


def main(words: Sequence[str]) -> int:
    """Measure until every case is decided; returns the gate's exit code."""
    parser = Parser(
        prog="python -m ci.gate paired",
        description="Measure base and new in fresh processes that take turns, on this machine.",
        epilog="Words after -- go to pytest on both sides, as in: -- --suite latency --rounds 3",
    )
    parser.add_argument(
        "--base", required=True, help="a git ref, another environment's folder, or engine=NAME"
    )
    parser.add_argument(
        "-k",
        metavar="EXPRESSION",
        help="only these cases, as pytest's -k; `sentinel` has those that the yaml names as sentinels",
    )
    parser.add_argument(
        "--threshold", type=fraction, default=THRESHOLD, help="the slowdown that matters (default: 5%%)"
    )
    parser.add_argument(
        "--pairs", type=positive, default=MOST_PAIRS, help="pairs of a series at most (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=whole, help="seed of the order within each pair (default: drawn, printed and kept)"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no pair after so long")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="continue with the pairs in this file")
    add_outputs(parser)
    cut = list(words).index("--") if "--" in words else len(words)
    option, options = parser.parse_args(words[:cut]), list(words[cut + 1 :])
    refuse_inputs(option, [option.resume])
    if math.isnan(option.minutes):
        raise InputError("--minutes nan: must be a number")
    new = Side("new", ROOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    with opened(option.base) as base:
        ids = new.ids([*options, *(["-k", option.k] if option.k else [])])
        about: dict[str, Any] = {
            "base": base.name,
            "base state": base.state(),
            "new state": new.state(),
            "options": options,
            "threshold": option.threshold,
            "cases": ids,
            "seed": _seed(option.seed, option.resume),
        }
        kept = _kept(option.resume, about)
        print(
            f"{len(ids)} cases, base {base.name}; seed {about['seed']}; pairs are kept in {kept.file}",
            flush=True,
        )
        comparison = Comparison(
            ids,
            (measured_by(base, options), measured_by(new, options)),
            math.log1p(option.threshold),
            kept,
            lambda line: print(line, flush=True),
            option.pairs,
            60 * option.minutes,
            same_work=base.engine is None,
            seed=about["seed"],
        )
        try:
            return shown(comparison.run(), option)
        except KeyboardInterrupt:
            print(f"--resume {kept.file} continues", flush=True)
            raise


def _seed(asked: int | None, resume: Path | None) -> int:
    """The seed that was asked for, or that of the resumed pairs, or a new one."""
    kept = read_pairs(resume)[0].get("seed") if asked is None and resume is not None else asked
    return kept if isinstance(kept, int) and kept >= 0 else secrets.randbelow(2**32)


def _kept(resume: Path | None, about: dict[str, Any]) -> PairsFile:
    """The file of the pairs: the resumed one, or a new one."""
    if resume is not None:
        kept = PairsFile(resume, about)
        kept.go_on()
        return kept
    started = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    kept = PairsFile(ROOT / ".benchmarks" / "paired" / f"{started}_{os.getpid()}.jsonl", about)
    kept.start()
    return kept
