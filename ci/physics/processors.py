"""`hf_cpu.yaml`: parameters of a CPU, from the project's own histories, where they beat today's rule.

Host and device are one processor there, so their times add; its peaks are those measured beside a case.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ci.physics import files, validate
from ci.physics.fitting import CPU, CPU_PRIORS
from ci.physics.points import CI, Datum
from ci.physics.validate import Errors
from fixtures.core.base.errors import InputError
from fixtures.core.cost.bounds import bound
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.estimate.formula import Devices
from fixtures.core.estimate.machine import Work, calibrated
from fixtures.core.estimate.model import Model
from fixtures.core.estimate.physics import MEASURED, NEVER_SEEN, Fitted, Physics
from fixtures.core.result.record import Record
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, Point
from fixtures.core.store.history import read_history

FOLDER = CI / "histories" / "1xcpu"
FITTED = "AVX-512 bf16"  # what the processor of the fit is told by: it multiplies bf16
DTYPE = "bfloat16"
LEFT_OUT = ("batch", "lengths", "model")
# Of ln g between CPUs: one CPU is in the fit and one is held against it, so this is assumed. A CPU that
# emulates bf16 is told by its measured peak, and by little else.
BETWEEN = {"host_sd_ln": 0.35, "device_sd_ln": 0.35}


def points(folder: Path = FOLDER) -> dict[str, list[Datum]]:
    """By processor, each case once: the median of its calm runs, else of all."""
    runs: dict[str, dict[str, list[tuple[bool, Datum]]]] = {}
    for file in sorted(folder.glob("*.json")):
        for one in read_history(file).measured:
            datum = _datum(one.record, file)
            if datum is not None:
                disturbed = one.record.state.disturbed if one.record.state else ()
                calm = not disturbed or not all(disturbed)
                runs.setdefault(datum.setup, {}).setdefault(datum.case.id, []).append((calm, datum))
    found: dict[str, list[Datum]] = {}
    for setup, cases in runs.items():
        found[setup] = [_middle(of_case) for of_case in cases.values()]
    return found


def _middle(of_case: Sequence[tuple[bool, Datum]]) -> Datum:
    """The run whose seconds are nearest to the median."""
    data = [one for calm, one in of_case if calm] or [one for _, one in of_case]
    median = statistics.median(one.seconds for one in data)
    return min(data, key=lambda one: abs(one.seconds - median))


def _datum(record: Record, file: Path) -> Datum | None:
    """A record in bf16, with its cache, of a model of the library, whose peaks were measured; else None."""
    case, engine, seconds = record.case, record.case.engine, record.latency_mean_s
    peaks = record.limits and record.limits.peaks.measured and record.limits.peaks.measured.both
    usual = (engine.kind, engine.dtype, engine.use_cache) == ("hf", DTYPE, True)
    flat = not case.is_ragged and not case.depth
    if not (flat and usual and peaks and seconds and case.model.name in library.names("models")):
        return None
    spec = EngineSpec(engine.name, attention=engine.attention or "auto")
    point = Point(case.batch_size, case.input_len, case.output_len)
    whole = Case(library.model(case.model.name), library.hardware("cpu"), 1, spec, point)
    counts = find_counts(whole.model, spec)
    if counts is None or counts.dispatch is None:
        return None
    shape = (point.batch_size, point.input_len, point.output_len)
    devices = Devices(peaks.flops_per_s, peaks.bandwidth_bytes_per_s)
    return Datum(
        case=whole,
        work=Work(Model.of(counts.work, counts.dispatch), devices, *shape),
        seconds=seconds,
        bound=bound(point, True, counts.work, peaks),
        figures=(file.name,),
        setup=f"{record.machine.reported_name}, {record.machine.cores} cores",
    )


def text_of(by_processor: Mapping[str, Sequence[Datum]]) -> str | None:
    """The file; None where the formula is no better than today's rule for each kind of point left out."""
    setup = next((name for name in by_processor if FITTED in name), None)
    if setup is None:
        raise InputError(
            f"ci/histories/1xcpu: has no case on a CPU with {FITTED} whose model has counts; "
            "python -m fixtures.engines.counting.recount counts changed models"
        )
    data = by_processor[setup]
    whole = validate.fitted(data, form=CPU)
    without = {left_out: validate.leave_out(data, left_out, whole, CPU) for left_out in LEFT_OUT}
    measured = validate.seconds(data)
    table = {
        left_out: {
            "groups": len({one.group(left_out) for one in data}),
            "today": Errors.of(validate.today(data, left_out), measured).as_dict(),
            "physics": Errors.of(without[left_out], measured).as_dict(),
        }
        for left_out in LEFT_OUT
    }
    if any(row["physics"]["median"] >= row["today"]["median"] for row in table.values()):  # type: ignore[index]
        return None
    own = float(np.sqrt(np.mean(np.log(measured / without["model"]) ** 2)))
    physics = Physics(
        name="draft", parameters=whole.parameters,
        host_sd_ln=BETWEEN["host_sd_ln"], device_sd_ln=BETWEEN["device_sd_ln"],
        own_sd_ln=own, machine_scale={}, half_width={},
        fitted=Fitted(1, 1, (DTYPE,)), sha256="",
    )  # fmt: skip
    others = {name: list(rows) for name, rows in by_processor.items() if name != setup}
    tried = {
        points: [one for rows in others.values() if (one := validate.tried(rows, physics, points))]
        for points in range(validate.LAST + 1)
    }
    half_widths = {
        f"other {novelty}": round(validate.half_width(data, without[left_out], left_out), 4)
        for novelty, left_out in (("batch", "batch"), ("lengths", "lengths"), ("model", "model"))
    }
    contents = {
        "between_machines": {**BETWEEN, "basis": "assumed: one CPU is in the fit, and one held against it"},
        "own_sd_ln": round(own, 4),
        "machine_scale": {
            NEVER_SEEN: round(validate.scale(tried[0]), 3),
            MEASURED: round(validate.scale([one for n, found in tried.items() if n for one in found]), 3),
        },
        "half_width": half_widths,
        "fitted": {
            "input_len": max(one.case.point.input_len for one in data),
            "output_len": max(one.case.point.output_len for one in data),
            "dtypes": [DTYPE],
            "batch_size": max(one.case.point.batch_size for one in data),
            "models": sorted({one.case.model.name for one in data}),
            "devices": [setup],
        },
        "errors": {
            "in_sample": Errors.of(validate.expected(data, whole), measured).as_dict(),
            "left_out": table,
        },
        "fitted_from": [
            files.file_of(FOLDER / name, sum(one.figures == (name,) for one in data))
            for name in sorted({one.figures[0] for one in data})
        ],
        "validated_on": [_validated(name, rows, physics) for name, rows in others.items()],
    }
    names = [*CPU_PRIORS, "gamma", "p", "q"]
    what = "transformers' eager generate on a CPU; fitted to models of 125M parameters on two cores"
    return files.as_text("hf", "cpu", what, names, whole, contents)


def _validated(name: str, rows: Sequence[Datum], physics: Physics) -> dict[str, Any]:
    zero = validate.tried(rows, physics, 0)
    one = validate.tried(rows, physics, 1)
    every = calibrated(physics, [(row.work, row.seconds) for row in rows])
    assert zero is not None
    return {
        "setup": name,
        "points": len(rows),
        **Errors.of(zero.expected_s, validate.seconds(zero.data)).as_dict(),
        "median_after_one_point": one
        and Errors.of(one.expected_s, validate.seconds(one.data)).as_dict()["median"],
        "g_host": round(float(np.exp(every.ln_host)), 3),
        "g_device": round(float(np.exp(every.ln_device)), 3),
    }
