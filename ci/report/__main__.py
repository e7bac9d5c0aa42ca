"""python -m ci.report RUN... [-o report.html] [--figures DIR] [--markdown] [--estimate]
                     [--compare engine]

Writes one HTML page with figures, a picker and every case (-o), or figures as SVG files (--figures), or
prints a summary of the cases, or engines side by side (--compare engine), in Markdown. RUN is a history, or
a folder of histories. If a case is in several, the newest counts, and its trend shows all of them. Exit code
4 for bad input.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from ci.command import Parser, positive, stops_for_bad_input, writing
from ci.report.compare import comparison
from ci.report.draw.chart import svg
from ci.report.figures import figures, spec
from ci.report.markdown import summary
from ci.report.page.build import making_vega, page
from ci.report.page.data import Drawing
from ci.report.read.samples import Sample, newest, of_histories
from fixtures.core.base.errors import InputError
from fixtures.core.base.files import write_whole
from fixtures.core.base.places import try_folder, try_new
from fixtures.core.base.streams import run_main
from fixtures.core.base.text import counted
from fixtures.core.store.runs import read_runs

MOST = 60  # figures: each takes about a tenth of a second to draw
MOST_ON_PAGE = 300  # the page draws a figure on scrolling to it; each has some kilobytes


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m ci.report", description=__doc__.partition("\n\n")[2], allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a history, or a folder of them")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the page to FILE, as HTML")
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="write the figures into DIR, as SVG files"
    )
    parser.add_argument(
        "--most",
        type=positive,
        metavar="N",
        help=f"draw at most N figures, the kinds in turn (default: {MOST} files, {MOST_ON_PAGE} on a page)",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="draw estimates with 90 %% intervals in figures of latency, dashed, by the latency formula",
    )
    parser.add_argument("--markdown", action="store_true", help="print a summary and the cases as a table")
    parser.add_argument(
        "--compare", choices=("engine",), help="print engines side by side, as ratios to hf, as tables"
    )
    options = parser.parse_args(list(arguments))
    for place, attempt in ((options.output, try_new), (options.figures, try_folder)):
        if place is not None:
            with writing(place):
                attempt(place)
    if not (options.output or options.figures or options.markdown or options.compare):
        raise InputError("nothing to write; give -o report.html, --figures DIR, --markdown or --compare")
    for name in ("most", "estimate"):
        if getattr(options, name) and not (options.output or options.figures):
            raise InputError(f"--{name} is of figures; it needs -o report.html or --figures DIR")
    return options


def write_text(file: Path, text: str) -> None:
    """Write a file atomically, and make its folder; raises InputError if it cannot be written."""
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())


def draw(folder: Path, samples: Sequence[Sample], most: int, estimate: bool = False) -> None:
    """Write at most `most` figures as SVG files; draws all of them before it writes the first."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    drawn = {figure.name: svg(spec(figure)) for figure in figures(samples, most, estimate)}
    for name, text in drawn.items():
        write_text(folder / f"{name}.svg", text)
    if not drawn:
        print("report: these runs give no figures; a figure needs several cases", file=sys.stderr)
    elif len(drawn) == most:
        print(
            f"report: drew {counted(most, 'figure')}, the most allowed; raise --most to draw more",
            file=sys.stderr,
        )


def write_page(file: Path, samples: Sequence[Sample], most: int, estimate: bool = False) -> None:
    """Write the HTML page, with at most `most` figures."""
    with making_vega() as vega:
        drawings = [
            Drawing(figure.kind, figure.name, figure.title, spec(figure))
            for figure in figures(samples, most, estimate)
        ]
        write_text(file, page(newest(samples), drawings, vega))
    if len(drawings) == most:
        print(
            f"report: the page has {counted(most, 'figure')}, the most allowed; raise --most to draw more",
            file=sys.stderr,
        )


@stops_for_bad_input("report")
def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = _options(arguments)
    runs = read_runs(options.runs, lambda line: print(f"report: {line}", file=sys.stderr))
    every = of_histories(runs)
    if options.output:
        write_page(options.output, every, options.most or MOST_ON_PAGE, options.estimate)
    if options.figures:
        draw(options.figures, every, options.most or MOST, options.estimate)
    if options.markdown:
        print(summary(newest(every), runs), end="")
    if options.compare:
        print(comparison(every, runs), end="")
    return 0


if __name__ == "__main__":
    gc.disable()  # hundreds of thousands of small objects, none of them garbage
    run_main(main)
