"""python -m ci.pick RUN... --model mpt7b --input 512 --output 64 --latency 2s

Lists for every hardware the highest throughput that meets the latency target, the best first; with
--throughput 500, the least latency at that many output tokens/s. RUN is a history, or a folder of histories.

--estimate adds machines, batches and lengths that nobody measured, each with a 90 % interval, and answers
--ttft, --tpot and --fewest-devices too.

Exit codes: 1 where nothing meets the target (of an estimate, the upper end of its interval), 4 for bad input.
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

from ci.pick.answers import Answer, Target, answer
from ci.pick.estimates import (
    ESTIMATED,
    MEETS,
    RANKS,
    Found,
    Question,
    look,
    machines,
    plain,
)
from ci.pick.estimator import Estimator, model_of
from ci.pick.table import as_json, estimated_lines, lines
from ci.report.read.samples import Curve, Sample, curves, newest, of_histories, recorded_model
from fixtures.core.base.errors import InputError, one_of
from fixtures.core.base.node import as_node
from fixtures.core.base.streams import run_main
from fixtures.core.base.values import positive
from fixtures.core.base.yamlfile import read_yaml
from fixtures.core.spec import library
from fixtures.core.spec.case import ModelSpec
from fixtures.core.spec.devices.machine import parse_machine
from fixtures.core.store.runs import read_runs

MISSED, BAD_INPUT = 1, 4
_LATENCY = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?(ms|s)\Z")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?\Z")


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, with exit code 4."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


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


def read_prices(file: Path, devices: Collection[str]) -> dict[str, float]:
    """Read prices of one device for an hour, `usd_per_hour: {a100_80gb: 1.8}`.

    Raises InputError for anything else, and for a device that is neither in `devices` nor in the library: its
    price would be ignored silently.
    """
    keys = read_yaml(file, str(file)).mapping(("usd_per_hour",), required=("usd_per_hour",))
    prices = keys["usd_per_hour"].mapping()
    known = {*devices, *library.names("hardware")}
    for device, node in prices.items():
        if device not in known:
            raise node.error(f"no device is named {device!r}; {one_of(device, known)}")
    return {device: node.number() for device, node in prices.items()}


def choose(found: Sequence[Curve], model: str, input_len: int, output_len: int) -> list[Curve]:
    """The curves of a model at these lengths.

    Raises InputError, which lists the choices, if there are none or several models have that name.
    """
    of_model = [curve for curve in found if curve.model == model and curve.samples]
    if not of_model:
        of_model = [curve for curve in found if curve.samples and recorded_model(curve.samples[0]) == model]
        several = sorted({curve.model for curve in of_model})
        if len(several) > 1:
            raise InputError(
                f"--model {model}: {len(several)} models have this name; give one of "
                + ", ".join(map(repr, several[:12]))
            )
    if not of_model:
        known = {curve.model for curve in found if curve.samples}
        raise InputError(f"--model {model}: no run has measured it; {one_of(model, known)}")
    here = [curve for curve in of_model if (curve.input_len, curve.output_len) == (input_len, output_len)]
    if not here:
        pairs = sorted({(curve.input_len, curve.output_len) for curve in of_model})
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
    parser.add_argument("--latency", help="the longest latency of a call, such as 2s or 500ms")
    parser.add_argument("--throughput", metavar="TOKENS_PER_S", help="the least output tokens/s, such as 500")
    estimates = parser.add_argument_group("with --estimate")
    estimates.add_argument(
        "--estimate", action="store_true", help="estimate what was not measured, with intervals"
    )
    estimates.add_argument("--ttft", help="the longest time to the first token")
    estimates.add_argument("--tpot", help="the longest time per output token after the first")
    estimates.add_argument("--fewest-devices", action="store_true", help="rank by the number of devices")
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
    return parser.parse_args(list(arguments))


_TARGETS = ("latency", "throughput", "ttft", "tpot")
_ESTIMATES = ("ttft", "tpot", "fewest_devices", "rank", "hardware", "engine", "batch", "counts", "host")


def _check(options: argparse.Namespace) -> None:
    """Raise InputError for options that exclude each other."""
    given = [name for name in _TARGETS if getattr(options, name) is not None]
    if not options.estimate:
        for name in _ESTIMATES:
            if getattr(options, name) not in (None, False):
                raise InputError(f"--{name.replace('_', '-')} needs --estimate")
    if len(given) > 1:
        raise InputError(f"--{given[1]} is not allowed with --{given[0]}: one target at a time")
    if not given and not options.fewest_devices:
        more = ", --ttft, --tpot or --fewest-devices" if options.estimate else ""
        raise InputError(f"a target is required: --latency or --throughput{more}")


def _question(options: argparse.Namespace) -> Question:
    def seconds(name: str) -> float | None:
        written = getattr(options, name)
        return None if written is None else parse_latency(written, f"--{name}")

    return Question(
        latency_s=seconds("latency"),
        tokens_per_s=None if options.throughput is None else parse_throughput(options.throughput),
        ttft_s=seconds("ttft"),
        tpot_s=seconds("tpot"),
        rank="fewest" if options.fewest_devices else options.rank or "tokens",
        batches=tuple(sorted(parse_batch(text) for text in options.batch.split(",")))
        if options.batch
        else (),
    )


def parse_batch(written: str) -> int:
    """Read a whole number of sequences; raises InputError for anything else."""
    if not re.fullmatch(r"[1-9][0-9]{0,6}", written.strip()):
        raise InputError(
            f"--batch {written}: write whole numbers above zero, separated by commas, such as 1,8"
        )
    return int(written)


def read_host(file: Path) -> tuple[float, float]:
    """Seconds an operator and the sd of its ln; raises InputError for a file that has not both."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        tau_s, sd_ln = positive(values["tau_s"]), positive(values["sd_ln"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--host {file}: is not what python -m ci.physics host writes ({error})") from None
    if tau_s is None or sd_ln is None:
        raise InputError(f"--host {file}: its tau_s and sd_ln must be numbers above zero")
    return tau_s, sd_ln


def _model(asked: str, found: Sequence[Curve]) -> ModelSpec:
    """The model of the library, a yaml or the runs; raises InputError if none has it."""
    if asked.endswith(".yaml"):
        file = Path(asked)
        return library.read_model(file.stem, read_yaml(file, asked))
    if asked in library.names("models"):
        return library.model(asked)
    known = {curve.model: curve.samples[0] for curve in found if curve.samples}
    if asked not in known:
        raise InputError(f"--model {asked}: neither a run nor yamls/models has it; {one_of(asked, known)}")
    return model_of(known[asked])


def _estimates(
    options: argparse.Namespace,
    samples: Sequence[Sample],
    found: Sequence[Curve],
    prices: Mapping[str, float],
) -> Found:
    """Every row, measured ones too."""
    model = _model(options.model, found)
    lengths = (options.input, options.output)
    if min(lengths) < 1:
        raise InputError(f"--input {lengths[0]} --output {lengths[1]}: write tokens above zero")
    here = [
        curve for curve in found
        if curve.samples and curve.model == model.name and (curve.input_len, curve.output_len) == lengths
    ]  # fmt: skip
    labels = [parse_machine(label) for label in options.hardware.split(",")] if options.hardware else []
    on = machines([(machine.devices, machine.hardware) for machine in labels], samples)
    engines = [
        library.read_engine(name, library.find("engines", as_node(name, "--engine")))
        for name in (options.engine.split(",") if options.engine else ())
    ]
    host = None if options.host is None else read_host(options.host)
    estimator = Estimator(samples, options.counts, host)
    return look(_question(options), model, lengths, on, engines, here, estimator, prices)


def main(arguments: Sequence[str]) -> int:
    """Print the answers; the exit code."""
    try:
        options = _options(arguments)
        _check(options)
        target = None
        if options.latency is not None:
            target = Target(latency_s=parse_latency(options.latency))
        elif options.throughput is not None:
            target = Target(tokens_per_s=parse_throughput(options.throughput))
        runs = read_runs(options.runs, lambda line: print(f"pick: {line}", file=sys.stderr))
        samples = newest(of_histories(runs))
        devices = {sample.device for sample in samples}
        prices: Mapping[str, float] = read_prices(options.price, devices) if options.price else {}
        found = curves(samples)
        estimates = _estimates(options, samples, found, prices) if options.estimate else None
        answers = _answers(options, found, target, prices)
    except InputError as error:
        print(f"pick: {error}", file=sys.stderr)
        return BAD_INPUT
    if options.json:
        asked = {"model": options.model, "input_len": options.input, "output_len": options.output}
        if options.estimate:
            asked |= {name: getattr(options, name) for name in ("ttft", "tpot", "fewest_devices")}
        values = as_json(answers, target or Target(), asked)
        print(
            json.dumps(values if estimates is None else values | plain(estimates), indent=2, allow_nan=False)
        )
    else:
        shown = lines(answers, target) if target and (answers or estimates is None) else []
        if estimates is not None:
            shown += [""] * bool(shown) + estimated_lines(estimates, with_measured=target is None)
        print("\n".join(shown))
    meets = any(each.best is not None for each in answers) or any(
        row.verdict in (MEETS, ESTIMATED) for row in (estimates.rows if estimates else ())
    )
    return 0 if meets else MISSED


def _answers(
    options: argparse.Namespace, found: Sequence[Curve], target: Target | None, prices: Mapping[str, float]
) -> list[Answer]:
    """What was measured; where estimates are asked for, nothing need be."""
    if target is None:
        return []
    try:
        return answer(choose(found, options.model, options.input, options.output), target, prices)
    except InputError:
        if options.estimate:
            return []
        raise


if __name__ == "__main__":
    gc.disable()  # a short process with hundreds of thousands of small objects, none of which become garbage
    run_main(main)
