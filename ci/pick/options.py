"""The command line of `ci.pick`, and what its values mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ci.command import Parser
from ci.pick.rows import RANKS, Question
from fixtures.core.base.errors import InputError

_LATENCY = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?(ms|s)\Z")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?\Z")


def parse_latency(written: str, option: str = "--latency") -> float:
    """Read seconds from `2s` or `500ms`; raises InputError for anything else."""
    match = _LATENCY.match(written)
    value = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"{option} {written}: write a time above zero with its unit, such as 2s or 500ms")
    return value


def parse_throughput(written: str) -> float:
    """Read output tokens/s; raises InputError for anything but a number above zero."""
    value = float(written) if _NUMBER.match(written) else 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"--throughput {written}: write output tokens/s above zero, such as 500")
    return value


def parse_batch(written: str) -> int:
    """Read a whole number of sequences; raises InputError for anything else."""
    if not re.fullmatch(r"[1-9][0-9]{0,6}", written.strip()):
        raise InputError(
            f"--batch {written}: write whole numbers above zero, separated by commas, such as 1,8"
        )
    return int(written)


def read_options(arguments: Sequence[str], description: str) -> argparse.Namespace:
    """The options; raises InputError for what is wrong, missing or excludes each other."""
    parser = Parser(prog="python -m ci.pick", description=description, allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a history, or a folder of them")
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", type=int, metavar="TOKENS")
    parser.add_argument("--output", required=True, type=int, metavar="TOKENS")
    parser.add_argument("--latency", help="the longest latency of a call, such as 2s or 500ms")
    parser.add_argument("--throughput", metavar="TOKENS_PER_S", help="the least output tokens/s, such as 500")
    estimates = parser.add_argument_group("with --estimate")
    estimates.add_argument(
        "--estimate", action="store_true", help="estimate what was not measured, with intervals"
    )
    estimates.add_argument("--ttft", help="the longest time to the first token")
    estimates.add_argument("--tpot", help="the longest time per output token after the first")
    estimates.add_argument("--fewest-devices", action="store_true", help="rank by the number of devices")
    estimates.add_argument(
        "--most-sequences", action="store_true", help="the largest batch that fits and meets the targets"
    )
    estimates.add_argument(
        "--longest-input", action="store_true",
        help="the longest input of --batch sequences (default: 1) that fits and meets the targets",
    )  # fmt: skip
    estimates.add_argument("--rank", choices=RANKS, help="what to rank by within a class (default: tokens)")
    estimates.add_argument(
        "--hardware", metavar="LABELS", help="the machines, such as 1xh100_80gb,2xa100_80gb"
    )
    estimates.add_argument("--engine", metavar="NAMES", help="engines of yamls/engines, separated by commas")
    estimates.add_argument("--batch", metavar="SIZES", help="only these batch sizes, such as 1,8")
    estimates.add_argument("--counts", type=Path, metavar="FOLDER", help="stored counts of your own model")
    estimates.add_argument(
        "--host", type=Path, metavar="FILE", help="of python -m ci.physics host on the machine asked about"
    )
    parser.add_argument(
        "--price", type=Path, metavar="FILE", help="a yaml with usd_per_hour: {device: price}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(list(arguments))
    _check(options, arguments)
    return options


_TARGETS = ("latency", "throughput", "ttft", "tpot")
_ESTIMATES = (
    "ttft", "tpot", "fewest_devices", "most_sequences", "longest_input", "rank", "hardware", "engine",
    "batch", "counts", "host",
)  # fmt: skip


def _check(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Raise InputError for options that are given twice, that lack another or exclude each other."""
    given = [f"--{name}" for name in _TARGETS if getattr(options, name) is not None]
    written = [word.partition("=")[0] for word in arguments]
    for word in given:
        if written.count(word) > 1:
            raise InputError(f"{word} is given twice")
    if not options.estimate:
        for name in _ESTIMATES:
            if getattr(options, name) not in (None, False):
                raise InputError(f"--{name.replace('_', '-')} needs --estimate")
    if len(given) > 1 and (not options.estimate or options.throughput is not None):
        raise InputError(f"{given[1]} is not allowed with {given[0]}: one target at a time")
    limits = options.most_sequences or options.longest_input
    if not given and not options.fewest_devices and not limits:
        more = (
            ", --ttft, --tpot, --fewest-devices, --most-sequences or --longest-input"
            if options.estimate
            else ""
        )
        raise InputError(f"a target is required: --latency or --throughput{more}")
    if limits:
        _check_limits(options)
    if options.input is None and (options.most_sequences or not limits):
        raise InputError("--input is required: the tokens of a sequence's input")
    if options.estimate and min(options.output, 1 if options.input is None else options.input) < 1:
        raise InputError(f"--input {options.input} --output {options.output}: write tokens above zero")
    if options.tpot is not None and options.output == 1:
        raise InputError(
            "--tpot: one output token has no time per token after it; --output must be 2 or more"
        )
    if options.fewest_devices and options.rank is not None:
        raise InputError(f"--rank {options.rank} is not allowed with --fewest-devices, which ranks too")
    if options.rank == "cost" and options.price is None:
        raise InputError("--rank cost needs --price, a yaml of prices")


def _check_limits(options: argparse.Namespace) -> None:
    """Raise InputError for options that have no meaning for limits."""
    name = "--most-sequences" if options.most_sequences else "--longest-input"
    for other in ("throughput", "fewest_devices", "rank", "price"):
        if getattr(options, other) not in (None, False):
            raise InputError(f"--{other.replace('_', '-')} is not allowed with {name}")
    if options.most_sequences and not options.longest_input and options.batch is not None:
        raise InputError("--batch is not allowed with --most-sequences, which looks for it")
    if options.longest_input and not options.most_sequences and options.input is not None:
        raise InputError("--input is not allowed with --longest-input, which looks for it")


def question_of(options: argparse.Namespace) -> Question:
    """What is asked; raises InputError for a value that is not right."""

    def seconds(name: str) -> float | None:
        written = getattr(options, name)
        return None if written is None else parse_latency(written, f"--{name}")

    return Question(
        latency_s=seconds("latency"),
        tokens_per_s=None if options.throughput is None else parse_throughput(options.throughput),
        ttft_s=seconds("ttft"),
        tpot_s=seconds("tpot"),
        rank="fewest" if options.fewest_devices else options.rank or "tokens",
        batches=()
        if options.batch is None
        else tuple(sorted({parse_batch(text) for text in options.batch.split(",")})),
    )
