"""Draws the figures of README from the histories in ci/histories and ci/baselines.

python -m ci.docs.readme          write them into ci/docs/figures/
python -m ci.docs.readme --check  exit code 1 if one is not current
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ci.report.__main__ import write_text
from ci.report.draw.chart import svg
from ci.report.figures import figures, spec
from ci.report.read.samples import read_samples
from fixtures.core.base.streams import run_main

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "ci" / "docs" / "figures"
# The folders of machines in ci/histories, such as 1xcpu; others have no histories.
STORED = [*sorted((ROOT / "ci" / "histories").glob("[1-9]*x*")), ROOT / "ci" / "baselines"]


def shown(readme: str) -> list[str]:
    """The names of the figures that a README shows, without duplicates."""
    return list(dict.fromkeys(re.findall(r"\(ci/docs/figures/(\w+)\.svg\)", readme)))


def drawn(names: Sequence[str]) -> dict[str, str]:
    """These figures of the stored histories, as SVG; raises KeyError for an unknown name."""
    by_name = {figure.name: figure for figure in figures(read_samples(STORED))}
    return {name: svg(spec(by_name[name])) for name in names}


def main(arguments: Sequence[str]) -> int:
    """Write or check; the exit code."""
    if list(arguments) not in ([], ["--check"]):
        print("readme: takes --check or nothing", file=sys.stderr)
        return 2
    new = drawn(shown((ROOT / "README.md").read_text(encoding="utf-8")))
    if not arguments:
        for name, text in new.items():
            write_text(FOLDER / f"{name}.svg", text)
        return 0
    stored = {file.stem: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.svg")}
    if stored != new:
        print("ci/docs/figures: not current; run python -m ci.docs.readme", file=sys.stderr)
    return int(stored != new)


if __name__ == "__main__":
    run_main(main)
