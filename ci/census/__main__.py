"""Tries a small model of every causal type of the installed transformers with the suite's engines.

python -m ci.census                         try what the installed versions have not tried
python -m ci.census --only llama,phi3       try only these types
python -m ci.census --engines hf,hf_tp      try only these engines
python -m ci.census --again                 try again what has been tried
python -m ci.census --check                 check that README.md and yamls/splits.json match the findings

Findings go into census.json beside this file, a type at a time, so a stopped sweep continues where it was.
README.md's table and yamls/splits.json are made from it. Exit codes: 0 done, or current; 1 stopped, or not
current; 4 bad input.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ci.census.store import ENGINES, FILE, Census, installed, splits
from ci.census.table import README, counts, with_table
from ci.command import Parser, stops_for_bad_input
from fixtures.core.base.errors import InputError, one_of
from fixtures.core.base.files import write_whole
from fixtures.core.base.streams import run_main
from fixtures.core.spec.arch.source import mapped_types
from fixtures.core.spec.splitting import TRIED


@stops_for_bad_input("census")
def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Parser(
        prog="python -m ci.census", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="TYPES", help="only these model types, separated by commas")
    parser.add_argument(
        "--engines",
        metavar="ENGINES",
        default=",".join(ENGINES),
        help="engines, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="how many types to try at a time (default: 1)"
    )
    parser.add_argument("--again", action="store_true", help="try again what was tried already")
    parser.add_argument(
        "--check", action="store_true", help="try nothing; exit with 1 if a file is not current"
    )
    option = parser.parse_args(arguments)
    types = mapped_types()
    wanted = _chosen(option.only, types, "a causal type") if option.only else types
    engines = _chosen(option.engines, ENGINES, "an engine of the census")
    if option.check:
        return _check(types)
    if option.jobs < 1:
        raise InputError(f"--jobs {option.jobs}: write a number of at least 1")
    return _sweep(types, wanted, engines, option.jobs, option.again)


def _chosen(text: str, choices: Sequence[str], what: str) -> list[str]:
    """The names in a list; raises InputError for an unknown name."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in choices:
            raise InputError(f"{name!r} is not {what}; {one_of(name, choices)}")
    return names


def _sweep(
    types: Sequence[str], wanted: Sequence[str], engines: Sequence[str], jobs: int, again: bool
) -> int:
    from ci.census.sweep import sweep

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # such small models gain nothing from more
    census = Census()
    census.begin()
    census.keep(types)
    try:
        sweep(census, wanted, engines, jobs, again, lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        print(
            f"census: stopped; finished types are in {FILE.name}, and the same command continues",
            file=sys.stderr,
        )
        return 1
    write_whole(TRIED, splits(census).encode())
    README.write_text(with_table(README.read_text(encoding="utf-8"), census), encoding="utf-8")
    print(counts(census))
    return 0


def _check(types: Sequence[str]) -> int:
    census = Census()
    stale = []
    if census.versions != installed():
        stale.append(f"{FILE.name} was made with {census.versions}; installed: {installed()}")
    missing = [name for name in types if any(not census.has(name, engine) for engine in ENGINES)]
    gone = sorted(set(census.types) - set(types))
    if missing or gone:
        stale.append(f"{FILE.name} lacks {missing or 'nothing'}; not causal types: {gone or 'none'}")
    if not TRIED.is_file() or TRIED.read_text(encoding="utf-8") != splits(census):
        stale.append(f"{TRIED.name} does not match {FILE.name}")
    readme = README.read_text(encoding="utf-8")
    if readme != with_table(readme, census):
        stale.append(f"{README.name} does not match {FILE.name}")
    for line in stale:
        print(f"census: {line}; run python -m ci.census", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    run_main(main)
