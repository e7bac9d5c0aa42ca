"""`python -m ci.gate RUN...` judges a run, `python -m ci.gate accept RUN` makes one a baseline.

`python -m ci.gate paired --base BASE` measures base and new side by side, and judges that;
`python -m ci.gate calibrate` prints how often the gate itself is wrong.

Exit codes: 0 pass, 1 regressed, 2 cannot judge, 4 bad input.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ci.gate import output
from ci.gate.accept import WHYS, accept, allowed, hardware_of
from ci.gate.paired import MOST_PAIRS, Comparison, measured_by
from ci.gate.sides import ROOT, Side, opened
from ci.gate.simulate import error_table
from ci.gate.verdicts import THRESHOLD, Verdict, exit_code, judge
from fixtures.core.errors import InputError
from fixtures.core.histories import History, find_histories, read_history

BASELINES = Path(__file__).resolve().parents[1] / "baselines"
BAD_INPUT = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code comes back."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = (
            {"accept": _accept, "paired": _paired, "calibrate": _calibrate}.get(words[0]) if words else None
        )
        return _judge(words) if command is None else command(words[1:])
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
    except OSError as error:
        print(f"ERROR: {error.filename}: {error.strerror}", file=sys.stderr)
    return BAD_INPUT


class _Parser(argparse.ArgumentParser):
    """Ends with the exit code of bad input."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message} (see --help)")


def _judge(words: Sequence[str]) -> int:
    parser = _Parser(
        prog="python -m ci.gate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "run", nargs="+", type=Path, help="histories, or folders of them: runs of one candidate"
    )
    parser.add_argument(
        "--baseline",
        action="append",
        type=Path,
        help="the runs to compare with (default: those of ci/baselines/ for this hardware)",
    )
    parser.add_argument(
        "--threshold", type=_fraction, default=THRESHOLD, help="the slowdown that matters (default: 5%%)"
    )
    parser.add_argument("-k", metavar="TEXT", default="", help="only cases with this text in their id")
    parser.add_argument(
        "--cases", type=Path, metavar="FILE", help="only cases whose ids are lines of this file"
    )
    _add_outputs(parser)
    option = parser.parse_args(words)
    runs = [read_history(file) for file in find_histories(option.run)]
    for run in runs:
        hardware_of(run)
    files = {run.file.resolve() for run in runs}
    baseline = _baseline(option.baseline, runs, files)
    listed = None if option.cases is None else set(option.cases.read_text(encoding="utf-8").splitlines())

    def is_chosen(case_id: str) -> bool:
        return option.k in case_id and (listed is None or case_id in listed)

    verdicts = judge(
        [run.only(is_chosen) for run in runs], [run.only(is_chosen) for run in baseline], option.threshold
    )
    return _shown(verdicts, option)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    for name, what in (("markdown", "a table for a pull request"), ("json", "all"), ("junit", "for a CI")):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write {what}")


def _shown(verdicts: Sequence[Verdict], option: argparse.Namespace) -> int:
    """Print the table, write the files that were asked for; the exit code comes back."""
    print("\n".join(output.table(verdicts)))
    written = {"markdown": output.markdown, "json": output.as_json, "junit": output.junit}
    for name, make in written.items():
        if (file := getattr(option, name)) is not None:
            beside = file.with_name(f"{file.name}.part")
            beside.write_text(make(verdicts), encoding="utf-8")
            beside.replace(file)
    return exit_code(verdicts)


def _paired(words: Sequence[str]) -> int:
    parser = _Parser(
        prog="python -m ci.gate paired",
        description="Measure base and new in fresh processes that take turns, on this machine.",
        epilog="What stands after -- goes to pytest on both sides, as in: -- --suite latency --rounds 3",
    )
    parser.add_argument(
        "--base", required=True, help="a git ref, another environment's folder, or engine=NAME"
    )
    parser.add_argument("-k", metavar="EXPRESSION", help="only these cases, as pytest's -k")
    parser.add_argument(
        "--threshold", type=_fraction, default=THRESHOLD, help="the slowdown that matters (default: 5%%)"
    )
    parser.add_argument(
        "--pairs", type=int, default=MOST_PAIRS, help="at the most, a series (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no pair after so long")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with the pairs in this file")
    _add_outputs(parser)
    cut = list(words).index("--") if "--" in words else len(words)
    option, options = parser.parse_args(words[:cut]), list(words[cut + 1 :])
    started = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    file = option.resume or ROOT / ".benchmarks" / "paired" / f"{started}.jsonl"
    new = Side("new", ROOT)
    with opened(option.base) as base:
        ids = new.ids([*options, *(["-k", option.k] if option.k else [])])
        print(f"{len(ids)} cases, base {base.name}; pairs are kept in {file}", flush=True)
        comparison = Comparison(
            ids,
            (measured_by(base, options), measured_by(new, options)),
            math.log1p(option.threshold),
            file,
            lambda line: print(line, flush=True),
            option.pairs,
            60 * option.minutes,
        )
        return _shown(comparison.run(), option)


def _baseline(paths: Sequence[Path] | None, runs: Sequence[History], leave_out: set[Path]) -> list[History]:
    """The stored runs, the oldest first; a run that is judged is none of them."""
    if paths is None:
        folders = [BASELINES / hardware_of(run) for run in runs]
        paths = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        if not paths:
            raise InputError(
                f"{folders[0]}: no baseline for this hardware; accept a run, or name one by --baseline"
            )
    found = [read_history(file) for file in find_histories(paths) if file.resolve() not in leave_out]
    return sorted(found, key=lambda run: run.taken)


def _accept(words: Sequence[str]) -> int:
    parser = _Parser(prog="python -m ci.gate accept", description="Make a run a baseline.")
    parser.add_argument("run", type=Path, help="a history")
    parser.add_argument("--allow", default="", metavar="WHY,...", help=f"accept although: {', '.join(WHYS)}")
    parser.add_argument("--name", help="of the baseline (default: when the run ended)")
    parser.add_argument(
        "--folder", type=Path, default=BASELINES, help="of all baselines (default: ci/baselines)"
    )
    option = parser.parse_args(words)
    run = read_history(option.run)
    folder = option.folder / hardware_of(run)
    baseline = _baseline([folder], [run], set()) if list(folder.glob("*.json")) else []
    file = accept(run, option.folder, baseline, allowed(option.allow), option.name)
    print(f"accepted: {file}")
    return 0


def _calibrate(words: Sequence[str]) -> int:
    parser = _Parser(prog="python -m ci.gate calibrate", description="The gate's error rates, by simulation.")
    parser.add_argument(
        "--runs", type=int, default=200, help="of 100 cases, a rule and regime (default: 200)"
    )
    for line in error_table(parser.parse_args(words).runs):
        print(line, flush=True)
    return 0


def _fraction(text: str) -> float:
    """`5%` or `0.05`."""
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0.001 <= value <= 10:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that has seen enough is no error
    sys.exit(main())
