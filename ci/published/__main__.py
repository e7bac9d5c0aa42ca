"""Writes the published latencies as a history: a100_2023.csv -> a100_2023.json beside it.

python -m ci.published  write the file

Every point becomes a record with the case id of its figure's suite, so a new measurement has the same id.
Unpublished values are None. A case of the suite that the figure lacks ran out of memory; its outcome says so.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec.structs import replace as changed
from pytest_benchmark.stats import Stats

from ci.command import stops_for_bad_input
from fixtures.core.base.errors import InputError
from fixtures.core.base.files import write_whole
from fixtures.core.base.streams import run_main
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.cost.sweep import points
from fixtures.core.result.against_bound import make_limits
from fixtures.core.result.metrics import ms_per_output_token, output_tokens_per_s
from fixtures.core.result.out_of_memory import out_of_memory
from fixtures.core.result.record import RECORD_VERSION, Record
from fixtures.core.result.record_case import Provenance, RecordedCase, RecordedProtocol
from fixtures.core.result.record_machine import RecordedMachine
from fixtures.core.result.record_times import Parallel, Split
from fixtures.core.result.scaling import relate, tokens_per_s_per_device
from fixtures.core.spec import library
from fixtures.core.spec.case import DTYPE_BYTES, Case, Point
from fixtures.core.spec.suite import read_suite

FOLDER = Path(__file__).resolve().parents[1] / "baselines" / "published"
CSV, JSON = FOLDER / "a100_2023.csv", FOLDER / "a100_2023.json"
FIGURES = ("latency", "hardware", "models")  # each has the name of its suite
PUBLISHED = "published"
COMMIT = "8c8dd48f"
PROVENANCE = Provenance(
    what="llm-foundry, scripts/inference/benchmarking/README.md",
    url=f"https://github.com/mosaicml/llm-foundry/blob/{COMMIT}/scripts/inference/benchmarking/README.md",
    commit=COMMIT,
    resolution_s=0.001,
    limits_by="the published mean; a median is not known",
)


def history() -> dict[str, Any]:
    """The content of the file: a benchmark for each distinct point, in the csv's order, and the outcomes.

    Raises ValueError if two figures have different latencies for a point, or a suite lacks its case.
    """
    cases: dict[str, dict[tuple[str, ...], Case]] = {figure: {} for figure in FIGURES}
    sweeps: dict[str, set[str]] = {}
    for figure, of in cases.items():
        for each, sweep in cases_of(figure):
            of[_key(each)] = each
            sweeps.setdefault(each.id, set()).update(filter(None, [sweep]))
    by_id: dict[str, tuple[Case, float, list[str]]] = {}
    for figure, key, latency_s in _rows():
        case = cases[figure].get(key)
        if case is None:
            raise ValueError(f"suite {figure} has no case for {key}")
        entry = by_id.setdefault(case.id, (case, latency_s, []))
        if entry[1] != latency_s:
            raise ValueError(f"{case.id} is published with two latencies: {entry[1]} s and {latency_s} s")
        entry[2].append(figure)
    records = [_record(*each, sorted(sweeps[each[0].id])) for each in by_id.values()]
    absent = {case.id: case for of in cases.values() for case in of.values() if case.id not in by_id}
    return {
        "machine_info": {"inference": None},
        "commit_info": {"id": COMMIT, "time": None, "dirty": False, "project": "llm-foundry", "branch": None},
        "benchmarks": [_benchmark(record) for record in relate(records)],
        "outcomes": [_outcome(case, sorted(sweeps[case.id])) for case in absent.values()],
        "datetime": "2023",
        "version": None,
    }


def cases_of(figure: str) -> Iterator[tuple[Case, str | None]]:
    """The cases of a figure's suite on the named devices, with the name of the sweep.

    Cases that do not fit are included.
    """
    for entry in read_suite(figure, library.suite(figure)).entries:
        for selector in entry.hardware:
            if selector.device not in library.names("hardware"):
                continue
            hardware = library.hardware(selector.device)
            for model in entry.models:
                for engine in entry.engines:
                    any_point = Case(model, hardware, selector.devices, engine, Point(1, 1, 1))
                    for point, sweep, _ in points(entry, any_point):
                        yield replace(any_point, point=point), sweep


def written(values: dict[str, Any]) -> str:
    """The text of the file, a line a case, so that a diff shows which case changed."""
    compact = {name: json.dumps(part, separators=(",", ":")) for name, part in values.items()}
    for name in ("benchmarks", "outcomes"):
        lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in values[name])
        compact[name] = f"[\n{lines}\n]"
    return "{\n" + ",\n".join(f'"{name}":{text}' for name, text in compact.items()) + "\n}\n"


def _rows() -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Figure, key of the case, latency in s."""
    with CSV.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["model"], row["hardware"], row["batch_size"], row["input_len"], row["output_len"])
            yield row["figure"], key, int(row["latency_ms"]) / 1000


def _key(case: Case) -> tuple[str, ...]:
    point = case.point
    numbers = (point.batch_size, point.input_len, point.output_len)
    return case.model.name, f"{case.devices}x{case.hardware.name}", *map(str, numbers)


def _record(case: Case, latency_s: float, figures: Sequence[str], sweeps: Sequence[str]) -> Record:
    counts = find_counts(case.model, case.engine)
    work = None if counts is None else counts.work
    throughput = output_tokens_per_s(case.point, latency_s)
    parallel = Parallel(output_tokens_per_s_per_device=tokens_per_s_per_device(throughput, case.devices))
    parameters = case.model.parameters
    return Record(
        record_version=RECORD_VERSION,
        source=PUBLISHED,
        provenance=changed(PROVENANCE, figures=tuple(figures)),
        suite=figures[0],
        sweeps=tuple(sweeps),
        case=RecordedCase.of(case),
        protocol=RecordedProtocol(rounds=5, warmup_rounds=3),
        latency_mean_s=latency_s,
        output_tokens_per_s=throughput,
        ms_per_output_token=ms_per_output_token(case.point, latency_s),
        limits=make_limits(case, work, None, latency_s, Split()),
        parameters=parameters,
        parameter_bytes=None if parameters is None else parameters * DTYPE_BYTES[case.engine.dtype],
        work=work,
        parallel=parallel if case.devices > 1 else None,
        machine=RecordedMachine(
            label=f"{case.devices}x{case.hardware.name}", device=case.hardware.name, devices=case.devices
        ),
    )


def _benchmark(record: Record) -> dict[str, Any]:
    """The record in the format of pytest-benchmark.

    Single rounds were not published, so `data` is empty. pytest-benchmark's commands need every statistic;
    they are computed from a single value, the published mean, and state no spread over the five calls.
    """
    stats, case = Stats(), record.case
    stats.update(record.latency_mean_s)
    name = f"test_generate[{case.id}]"
    return {
        "group": None,
        "name": name,
        "fullname": f"benchmarks/test_generate.py::{name}",
        "params": {"engine": f"{case.model.name}-{case.hardware}-{case.engine.name}", "case": case.id},
        "param": case.id,
        "extra_info": record.as_dict(),
        "stats": {**stats.as_dict(), "iterations": 1, "data": []},
    }


def _outcome(case: Case, sweeps: Sequence[str]) -> dict[str, Any]:
    outcome = out_of_memory(case, "absent from the published figure", sweeps=sweeps)
    return changed(outcome, source=PUBLISHED, provenance=PROVENANCE).as_dict()


@stops_for_bad_input("published")
def main(arguments: Sequence[str]) -> int:
    """Write the file; the exit code."""
    if arguments:
        raise InputError("takes no arguments")
    write_whole(JSON, written(history()).encode())
    return 0


if __name__ == "__main__":
    run_main(main)
