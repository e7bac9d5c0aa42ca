"""`python -m ci.gate RUN...` judges a run, `python -m ci.gate accept RUN` makes one a baseline.

`python -m ci.gate paired --base BASE` measures base and new side by side, and judges them;
`python -m ci.gate calibrate` prints how often the gate itself is wrong;
`python -m ci.gate trends FOLDER` shows where cases became slower or faster over many runs, as advice.

Exit codes: 0 pass, 1 regressed, 2 cannot judge, 4 bad input, 70 a fault of the gate itself, 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ci.command import BAD_INPUT, Parser
from ci.gate.accept import WHYS, accept, allowed
from ci.gate.arguments import add_outputs, fraction, refuse_inputs, shown, write_outputs
from ci.gate.machine import folders_of, machine_of
from ci.gate.output import advice
from ci.gate.verdicts import THRESHOLD, exit_code, in_order, judge
from fixtures.core.base.errors import InputError
from fixtures.core.base.streams import run_main
from fixtures.core.base.text import printable
from fixtures.core.store.history import History, find_histories, read_accepted, read_history
from fixtures.core.store.runs import once, without

BASELINES = Path(__file__).resolve().parents[1] / "baselines"
FAULT, INTERRUPTED = 70, 130
_ROOMS = {  # of commands that take a moment to import
    "paired": "ci.gate.paired.command",
    "calibrate": "ci.gate.calibrate.command",
    "trends": "ci.gate.trends",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and words[0] in _ROOMS:
            return int(import_module(_ROOMS[words[0]]).main(words[1:]))
        return _accept(words[1:]) if words[:1] == ["accept"] else _judge(words)
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
    except OSError as error:
        print(f"ERROR: {printable(f'{error.filename}: {error.strerror}')}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # nothing unforeseen may look like a regression
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = printable(f"{type(error).__name__}: {error}")[:200]
        print(f"FAULT of the gate, in {Path(place.filename).name}:{place.lineno}: {what}", file=sys.stderr)
        return FAULT
    return BAD_INPUT


def _judge(words: Sequence[str]) -> int:
    parser = Parser(
        prog="python -m ci.gate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "run", nargs="+", type=Path, help="histories, or folders of them: runs of one candidate"
    )
    parser.add_argument(
        "--baseline",
        action="append",
        type=Path,
        help="the runs to compare with (default: those of ci/baselines/ that are of this machine)",
    )
    parser.add_argument(
        "--threshold", type=fraction, default=THRESHOLD, help="the slowdown that matters (default: 5%%)"
    )
    parser.add_argument("-k", metavar="TEXT", default="", help="only cases with this text in their id")
    parser.add_argument(
        "--cases", type=Path, metavar="FILE", help="only cases whose ids are lines of this file"
    )
    add_outputs(parser)
    option = parser.parse_args(words)
    histories = [read_history(file) for file in find_histories(option.run)]
    refuse_inputs(option, [option.cases, *(run.file for run in histories)])
    runs, copies = once(histories)
    for run in runs:
        if not (run.measured or run.outcomes or run.failed or run.left_out):
            raise InputError(f"{run.file}: has no case of this suite; name another run")
    machines = dict.fromkeys(machine_of(run) for run in runs) if option.baseline is None else ()
    paths = option.baseline or [folder for machine in machines for folder in folders_of(machine, BASELINES)]
    if not paths:
        return _without_baseline(runs[0], option)
    baseline, left_out = _baseline(paths, [*histories, *runs])
    refuse_inputs(option, [run.file for run in baseline])
    listed = None if option.cases is None else _lines(option.cases)

    def is_chosen(case_id: str) -> bool:
        return option.k in case_id and (listed is None or case_id in listed)

    runs, baseline = ([run.only(is_chosen) for run in side] for side in (runs, baseline))
    verdicts = judge(runs, baseline, option.threshold)
    return shown(verdicts, option, [*copies, *left_out, *advice(verdicts, runs, baseline)])


def _lines(file: Path) -> set[str]:
    """The case ids in a file."""
    try:
        return set(file.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError:
        raise InputError(f"--cases {file}: not UTF-8 text; write one case id a line") from None


def _without_baseline(run: History, option: argparse.Namespace) -> int:
    """Say so in one line, on the screen and in the files that were asked for."""
    line = printable(
        f"gate: cannot be judged, no baseline of this machine ({machine_of(run)}) is in ci/baselines; "
        f"python -m ci.gate accept {run.file} makes one"
    )
    print(line)
    write_outputs([], option, [line])
    return exit_code([])


def _baseline(paths: Sequence[Path], judged: Sequence[History]) -> tuple[list[History], list[str]]:
    """The stored runs of the newest epoch, each once, and lines about what was left out.

    They exclude the judged runs. Raises InputError where none is left.
    """
    stored, lines = once(read_accepted(file) for file in find_histories(paths))
    others = without(stored, judged)
    if len(others) < len(stored):
        count = len(stored) - len(others)
        which = "one run that is judged itself" if count == 1 else f"{count} runs that are judged themselves"
        lines.append(f"left out of the baseline: {which}")
    if not others:
        raise InputError(
            f"{paths[0]}: has only the run that is judged; accept other runs, or name another baseline"
        )
    newest = max(run.epoch for run in others)
    kept = [run for run in others if run.epoch == newest]
    if len(kept) < len(others):
        lines.append(f"left out of the baseline: {len(others) - len(kept)} of earlier epochs")
    return in_order(kept), lines


def _accept(words: Sequence[str]) -> int:
    parser = Parser(prog="python -m ci.gate accept", description="Make a run a baseline.")
    parser.add_argument("run", type=Path, help="a history")
    parser.add_argument("--allow", default="", metavar="WHY,...", help=f"accept despite: {', '.join(WHYS)}")
    parser.add_argument("--name", help="name of the baseline (default: when the run ended)")
    parser.add_argument(
        "--folder", type=Path, default=BASELINES, help="of all baselines (default: ci/baselines)"
    )
    parser.add_argument(
        "--new-epoch",
        metavar="WHY",
        help="why earlier runs no longer count: a new driver, ...",
    )
    option = parser.parse_args(words)
    run = read_history(option.run)
    machine = machine_of(run)
    folders = folders_of(machine, option.folder)
    stored = [read_accepted(file) for file in find_histories(folders)]
    folder = folders[0] if folders else option.folder / machine.folder
    others = without(stored, [run])
    if len(others) < len(stored):
        same = next(run for run in stored if run not in others)
        raise InputError(f"{option.run}: is accepted already, as {same.file.name}; a run counts once")
    file = accept(run, folder, in_order(stored), allowed(option.allow), option.name, option.new_epoch)
    print(f"accepted: {file}")
    return 0


if __name__ == "__main__":
    gc.disable()  # the process ends soon, and keeps hundreds of thousands of small objects
    run_main(main)
