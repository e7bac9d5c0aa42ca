"""`python -m ci.gate RUN...` judges a run, `python -m ci.gate accept RUN` makes one a baseline.

`python -m ci.gate paired --base BASE` measures base and new side by side, and judges that;
`python -m ci.gate calibrate` prints how often the gate itself is wrong;
`python -m ci.gate trends FOLDER` where over many runs cases became slower or faster, as advice.

Exit codes: 0 pass, 1 regressed, 2 cannot judge, 4 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from ci.gate.accept import WHYS, accept, allowed, hardware_of
from ci.gate.arguments import Parser, add_outputs, fraction, shown
from ci.gate.verdicts import THRESHOLD, judge
from fixtures.core.errors import InputError
from fixtures.core.histories import History, find_histories, read_accepted, read_history
from fixtures.core.runs import once, without
from fixtures.core.streams import run_main

BASELINES = Path(__file__).resolve().parents[1] / "baselines"
BAD_INPUT, INTERRUPTED = 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code comes back."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        commands = {"accept": _accept, "paired": _paired, "calibrate": _calibrate, "trends": _trends}
        command = commands.get(words[0]) if words else None
        return _judge(words) if command is None else command(words[1:])
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
    except OSError as error:
        print(f"ERROR: {error.filename}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
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
        help="the runs to compare with (default: those of ci/baselines/ for this hardware)",
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
    read = [read_history(file) for file in find_histories(option.run)]
    for run in read:
        hardware_of(run)
    runs = _each_once(read)
    baseline = _baseline(option.baseline, runs, [*read, *runs])
    listed = None if option.cases is None else set(option.cases.read_text(encoding="utf-8").splitlines())

    def is_chosen(case_id: str) -> bool:
        return option.k in case_id and (listed is None or case_id in listed)

    verdicts = judge(
        [run.only(is_chosen) for run in runs], [run.only(is_chosen) for run in baseline], option.threshold
    )
    return shown(verdicts, option)


def _baseline(
    paths: Sequence[Path] | None, runs: Sequence[History], leave_out: Sequence[History]
) -> list[History]:
    """The stored runs, each once, the oldest first; a run that is judged is none of them by any name."""
    if paths is None:
        folders = [BASELINES / hardware_of(run) for run in runs]
        paths = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        if not paths:
            raise InputError(
                f"{folders[0]}: no baseline for this hardware; accept a run, or name one by --baseline"
            )
    found = [read_accepted(file) for file in find_histories(paths)]
    return sorted(_each_once(without(found, leave_out)), key=lambda run: run.taken)


def _each_once(runs: Sequence[History]) -> list[History]:
    """What counts of them; the rest is told."""
    found, said = once(runs)
    for line in said:
        print(f"gate: {line}", file=sys.stderr)
    return found


def _accept(words: Sequence[str]) -> int:
    parser = Parser(prog="python -m ci.gate accept", description="Make a run a baseline.")
    parser.add_argument("run", type=Path, help="a history")
    parser.add_argument("--allow", default="", metavar="WHY,...", help=f"accept although: {', '.join(WHYS)}")
    parser.add_argument("--name", help="of the baseline (default: when the run ended)")
    parser.add_argument(
        "--folder", type=Path, default=BASELINES, help="of all baselines (default: ci/baselines)"
    )
    option = parser.parse_args(words)
    run = read_history(option.run)
    folder = option.folder / hardware_of(run)
    baseline = _baseline([folder], [run], []) if list(folder.glob("*.json")) else []
    file = accept(run, option.folder, baseline, allowed(option.allow), option.name)
    print(f"accepted: {file}")
    return 0


def _paired(words: Sequence[str]) -> int:
    from ci.gate.command_paired import main  # numpy takes a moment

    return main(words)


def _trends(words: Sequence[str]) -> int:
    from ci.gate.trends import main

    return main(words)


def _calibrate(words: Sequence[str]) -> int:
    from ci.gate.command_calibrate import main

    return main(words)


if __name__ == "__main__":
    gc.disable()  # a short life, and hundreds of thousands of small things that all stay
    run_main(main)
