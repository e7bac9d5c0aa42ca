"""python -m ci.pick RUN... --model mpt7b --input 512 --output 64 --latency 2s

For every hardware the highest throughput whose latency meets the target, the best first; with --throughput
500 the least latency for that many output tokens/s. RUN is a history, or a folder of them.

Exit codes: 1 where nothing meets the target, 4 for bad input.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ci.pick.answers import Target, answer
from ci.pick.table import as_json, lines
from ci.report.read.samples import Curve, curves, newest, of_histories, recorded_model
from fixtures.core.base.errors import InputError, one_of
from fixtures.core.base.streams import run_main
from fixtures.core.base.yamlfile import read_yaml
from fixtures.core.spec import library
from fixtures.core.store.runs import read_runs

MISSED, BAD_INPUT = 1, 4
_LATENCY = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?(ms|s)\Z")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?\Z")


class _Parser(argparse.ArgumentParser):
    """One line and exit code 4 for arguments that are not right."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def parse_latency(written: str) -> float:
    """Seconds out of `2s` or `500ms`; raises InputError for anything else."""
    match = _LATENCY.match(written)
    value = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"--latency {written}: write a time above zero with its unit, such as 2s or 500ms")
    return value


def parse_throughput(written: str) -> float:
    """Output tokens/s; raises InputError for what is no number above zero."""
    value = float(written) if _NUMBER.match(written) else 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"--throughput {written}: write output tokens/s above zero, such as 500")
    return value


def read_prices(file: Path, devices: Collection[str]) -> dict[str, float]:
    """`usd_per_hour: {a100_80gb: 1.8}`, of one device an hour; raises InputError for anything else.

    A device is one of these or of the library: another name is a slip, and its price would go unsaid.
    """
    keys = read_yaml(file, str(file)).mapping(("usd_per_hour",), required=("usd_per_hour",))
    prices = keys["usd_per_hour"].mapping()
    known = {*devices, *library.names("hardware")}
    for device, node in prices.items():
        if device not in known:
            raise node.error(f"no device is named {device!r}; {one_of(device, known)}")
    return {device: node.number() for device, node in prices.items()}


def choose(found: Sequence[Curve], model: str, input_len: int, output_len: int) -> list[Curve]:
    """The curves of this model at these lengths.

    Raises InputError where there are none, or several models have that name; it says what there is.
    """
    of_model = [one for one in found if one.model == model and one.samples]
    if not of_model:
        of_model = [one for one in found if one.samples and recorded_model(one.samples[0]) == model]
        several = sorted({one.model for one in of_model})
        if len(several) > 1:
            raise InputError(
                f"--model {model}: {len(several)} models have this name; give one of "
                + ", ".join(map(repr, several[:12]))
            )
    if not of_model:
        known = {one.model for one in found if one.samples}
        raise InputError(f"--model {model}: no run has a number of it; {one_of(model, known)}")
    here = [one for one in of_model if (one.input_len, one.output_len) == (input_len, output_len)]
    if not here:
        pairs = sorted({(one.input_len, one.output_len) for one in of_model})
        known_pairs = ", ".join(f"{first}/{last}" for first, last in pairs[:12]) + ", ..." * (len(pairs) > 12)
        raise InputError(
            f"--input {input_len} --output {output_len}: no run has these lengths of {model}; "
            f"known: {known_pairs}"
        )
    return here


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m ci.pick", description=__doc__.partition("\n\n")[2], allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a history, or a folder of them")
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True, type=int, metavar="TOKENS")
    parser.add_argument("--output", required=True, type=int, metavar="TOKENS")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--latency", help="not to be passed, such as 2s or 500ms")
    target.add_argument("--throughput", metavar="TOKENS_PER_S", help="to be reached, such as 500")
    parser.add_argument("--price", type=Path, metavar="FILE", help="yaml with usd_per_hour: {device: price}")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(list(arguments))


def main(arguments: Sequence[str]) -> int:
    """Print the answers; the exit code."""
    try:
        options = _options(arguments)
        target = (
            Target(latency_s=parse_latency(options.latency))
            if options.latency is not None
            else Target(tokens_per_s=parse_throughput(options.throughput))
        )
        runs = read_runs(options.runs, lambda line: print(f"pick: {line}", file=sys.stderr))
        samples = newest(of_histories(runs))
        devices = {one.device for one in samples}
        prices: Mapping[str, float] = read_prices(options.price, devices) if options.price else {}
        found = curves(samples)
        answers = answer(choose(found, options.model, options.input, options.output), target, prices)
    except InputError as error:
        print(f"pick: {error}", file=sys.stderr)
        return BAD_INPUT
    if options.json:
        asked = {"model": options.model, "input_len": options.input, "output_len": options.output}
        print(json.dumps(as_json(answers, target, asked), indent=2, allow_nan=False))
    else:
        print("\n".join(lines(answers, target)))
    return 0 if any(one.best is not None for one in answers) else MISSED


if __name__ == "__main__":
    gc.disable()  # a short life, and hundreds of thousands of small things that all stay
    run_main(main)
