"""python -m ci.pick RUN... --model mpt7b --input 512 --output 64 --latency 2s

Lists for every hardware the highest throughput that meets the latency target, the best first; with
--throughput 500, the least latency at that many output tokens/s. RUN is a history, or a folder of histories.

--estimate adds machines, batches and lengths that nobody measured, each with a 90 % interval, and answers
--ttft, --tpot and --fewest-devices too; --most-sequences and --longest-input find how far each machine goes.

Exit codes: 1 where nothing meets the target (of an estimate, the upper end of its interval), 4 for bad input.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Mapping, Sequence

from ci.command import stops_for_bad_input
from ci.pick.answers import Answer, Target, answer
from ci.pick.estimated_table import estimated_lines, limit_lines
from ci.pick.estimates import look, machines
from ci.pick.estimator import Estimator
from ci.pick.inputs import given_model, read_prices
from ci.pick.limits import INPUT, SEQUENCES, find_limits
from ci.pick.options import parse_latency, parse_throughput, question_of, read_options
from ci.pick.rows import ESTIMATED, MEETS
from ci.pick.table import as_json, lines
from ci.report.read.samples import Curve, Sample, curves, newest, of_histories, recorded_model
from fixtures.core.base.errors import InputError, one_of
from fixtures.core.base.node import as_node
from fixtures.core.base.streams import run_main
from fixtures.core.base.text import counted
from fixtures.core.estimate.host_time import read_host_time
from fixtures.core.spec import library
from fixtures.core.spec.devices.machine import parse_machine
from fixtures.core.store.runs import read_runs

MISSED = 1


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


@stops_for_bad_input("pick")
def main(arguments: Sequence[str]) -> int:
    """Print the answers; the exit code."""
    options = read_options(arguments, __doc__.partition("\n\n")[2])
    runs = read_runs(options.runs, lambda line: print(f"pick: {line}", file=sys.stderr))
    samples = newest(of_histories(runs))
    _tell_left_out(samples, options.model)
    prices = read_prices(options.price, {sample.device for sample in samples}) if options.price else {}
    if options.estimate:
        return _estimate(options, samples, prices)
    target = _target(options)
    answers = _answers(options, curves(samples), target, prices)
    if options.json:
        _print_json(as_json(answers, target, _asked(options)))
    else:
        print("\n".join(lines(answers, target)))
    return 0 if any(each.best is not None for each in answers) else MISSED


def _target(options: argparse.Namespace) -> Target:
    """What the measured table answers: a latency or a throughput."""
    if options.latency is not None:
        return Target(latency_s=parse_latency(options.latency))
    return Target(tokens_per_s=parse_throughput(options.throughput))


def _asked(options: argparse.Namespace) -> dict[str, object]:
    return {"model": options.model, "input_len": options.input, "output_len": options.output}


def _print_json(values: Mapping[str, object]) -> None:
    print(json.dumps(values, indent=2, allow_nan=False))


def _estimate(options: argparse.Namespace, samples: Sequence[Sample], prices: Mapping[str, float]) -> int:
    """Print estimates, below what was measured where latency or throughput alone is asked for."""
    question, found = question_of(options), curves(samples)
    model = given_model(options.model, found)
    here = [curve for curve in found if curve.samples and curve.model == model.name]
    labels = _names(options.hardware)
    on = machines([(one.devices, one.hardware) for one in map(parse_machine, labels)], samples)
    engines = [
        library.read_engine(name, library.find("engines", as_node(name, "--engine")))
        for name in _names(options.engine)
    ]
    if options.counts is not None and not options.counts.is_dir():
        raise InputError(
            f"--counts {options.counts}: no such folder; name one that recount wrote counts into"
        )
    host = None if options.host is None else read_host_time(options.host, f"--host {options.host}")
    estimator = Estimator(samples, options.counts, host)
    asked = _asked(options) | {name: getattr(options, name) for name in ("ttft", "tpot", "fewest_devices")}
    if options.most_sequences or options.longest_input:
        what = [SEQUENCES] * options.most_sequences + [INPUT] * options.longest_input
        lengths = (options.input or 1, options.output)
        limits = [find_limits(one, question, model, lengths, on, engines, here, estimator) for one in what]
        if options.json:
            _print_json({"asked": asked | {"latency": options.latency}} | {
                one: found.as_dict() for one, found in zip(what, limits, strict=True)
            })  # fmt: skip
        else:
            print("\n\n".join("\n".join(limit_lines(one, question, lengths)) for one in limits))
        return 0 if any(limit.most for one in limits for limit in one.limits) else MISSED
    lengths = (options.input, options.output)
    same = [curve for curve in here if (curve.input_len, curve.output_len) == lengths]
    estimates = look(question, model, lengths, on, engines, same, estimator, prices)
    alone = options.ttft is None and options.tpot is None
    target = _target(options) if alone and (options.latency or options.throughput) else None
    answers = [] if target is None else _answers(options, found, target, prices)
    if options.json:
        _print_json(as_json(answers, target or Target(), asked) | estimates.as_dict())
    else:
        shown = lines(answers, target) if target and answers else []
        shown += [""] * bool(shown) + estimated_lines(estimates, with_measured=target is None)
        print("\n".join(shown))
    meets = any(row.verdict in (MEETS, ESTIMATED) for row in estimates.rows)
    return 0 if meets or any(each.best is not None for each in answers) else MISSED


def _names(written: str | None) -> list[str]:
    """Names separated by commas, each once."""
    return list(dict.fromkeys(name.strip() for name in ([] if written is None else written.split(","))))


def _tell_left_out(samples: Sequence[Sample], model: str) -> None:
    """A line on a model's cases that no curve has: those at a depth, and ragged batches."""
    of_model = [sample for sample in samples if model in (sample.model, recorded_model(sample))]
    others = [sample for sample in of_model if sample.point.depth or sample.point.ragged]
    if others:
        verb = "is" if len(others) == 1 else "are"
        print(
            f"pick: {counted(len(others), 'case')} at a depth or with ragged lengths {verb} left out: "
            "calls of one input length on an empty cache are compared",
            file=sys.stderr,
        )


def _answers(
    options: argparse.Namespace, found: Sequence[Curve], target: Target, prices: Mapping[str, float]
) -> list[Answer]:
    """What was measured; where estimates are asked for, nothing need be."""
    try:
        return answer(choose(found, options.model, options.input, options.output), target, prices)
    except InputError:
        if options.estimate:
            return []
        raise


if __name__ == "__main__":
    gc.disable()  # a short process with hundreds of thousands of small objects, none of which become garbage
    run_main(main)
