"""python -m ci.physics fit            fit the published points and write yamls/physics
python -m ci.physics fit --check    fit again and compare; nothing is written
python -m ci.physics host           time this machine's operators by tiny models, some ten seconds

Exit codes: 1 where a file differs from a new fit by more than a thousandth, 4 for bad input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from ci.command import Parser, stops_for_bad_input
from ci.physics import files, processors
from ci.physics.points import CI, elsewhere, published
from fixtures.core.base.errors import InputError
from fixtures.core.base.files import write_whole
from fixtures.core.base.streams import run_main
from fixtures.core.estimate.host_time import PLACE
from fixtures.core.estimate.physics import FOLDER

DIFFERS = 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m ci.physics", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="fit the published points")
    fit.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    fit.add_argument("--folder", type=Path, default=FOLDER, help="of the files (default: yamls/physics)")
    host = commands.add_parser("host", help="time this machine's operators")
    host.add_argument(
        "--to", type=Path, default=PLACE, metavar="FILE", help=f"default: {PLACE}, which --plan reads"
    )
    return parser.parse_args(list(arguments))


def fit(folder: Path, check: bool) -> int:
    """Write the files, or say where they differ."""
    texts = files.texts(files.work_out(published(), elsewhere()))
    of_cpu = processors.text_of(processors.points())
    if of_cpu is not None:
        texts["hf_cpu.yaml"] = of_cpu
    else:
        print("physics: hf_cpu.yaml: no better than today's constant, which stays")
    if not check:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(folder / name, text.encode())
            print(f"physics: wrote {folder / name}")
        return 0
    found = []
    for name, text in texts.items():
        file = folder / name
        old = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
        found += [f"{name}: {line}" for line in files.differences(old, yaml.safe_load(text))]
    for line in found:
        print(f"physics: {line}", file=sys.stderr)
    if found:
        print(f"physics: {len(found)} values moved; {files.COMMAND} writes them", file=sys.stderr)
    else:
        print(f"physics: {', '.join(texts)} are what a new fit gives")
    return DIFFERS if found else 0


def host(file: Path) -> int:
    """Measure in a process of its own, which imports torch; keep it for `--plan` and `ci.pick --host`."""
    command = [sys.executable, "-m", "fixtures.host.operator_time"]
    done = subprocess.run(command, cwd=CI.parent, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise InputError(f"the host's time was not measured: {last}")
    found = json.loads(done.stdout.splitlines()[-1])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, (json.dumps(found, indent=1) + "\n").encode())
    each = ", ".join(f"{name} {1e6 * value:.1f}" for name, value in found["families"].items())
    print(f"physics: {1e6 * found['tau_s']:.1f} us an operator on {found['device']} ({each})")
    for path in sorted(FOLDER.glob("*.yaml")):
        kept = yaml.safe_load(path.read_text(encoding="utf-8"))
        fitted_s = kept["parameters"]["tau_s"]["value"]
        times = found["tau_s"] / fitted_s
        print(f"physics: {path.stem}: {1e6 * fitted_s:.1f} us fitted; this host x {times:.2f}")
    print(f"physics: wrote {file}; python -m ci.pick RUN... --estimate --host {file} takes it")
    return 0


@stops_for_bad_input("physics")
def main(arguments: Sequence[str]) -> int:
    """Run a command; the exit code."""
    options = _options(arguments)
    return host(options.to) if options.command == "host" else fit(options.folder, options.check)


if __name__ == "__main__":
    run_main(main)
