"""`yamls/physics/*.yaml` as text: everything that a fit and its validation found, and what they rest on."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ci.physics import validate
from ci.physics.fitting import Fit
from ci.physics.points import CI, ELSEWHERE, PUBLISHED, Datum, published, setup_of
from ci.physics.validate import Errors, Tried
from fixtures.core.estimate.machine import calibrated
from fixtures.core.estimate.physics import MEASURED, NEVER_SEEN, Fitted, Physics

WHAT = {
    "tau_s": ("s", "host time of a dispatched operator"),
    "e_flops": ("fraction of peak", "what matrix products reach of the FLOP/s"),
    "e_weights": ("fraction of peak", "what reading weights reaches of the bandwidth"),
    "e_cache": (
        "fraction of peak",
        "what reading and copying the cache reaches; with gamma under 1, on an A100 80GB",
    ),
    "e_scores": (
        "fraction of peak",
        "what scores and activations reach; with gamma under 1, on an A100 80GB",
    ),
    "gamma": ("exponent", "how far cache and score kernels follow the bandwidth"),
    "alpha_s": ("s", "host time of a collective"),
    "e_link": ("fraction of peak", "what an all-reduce reaches of the link"),
    "p": ("exponent", "how host and device overlap: 1 adds, more is nearer to the larger"),
    "q": ("exponent", "how FLOPs and weights overlap"),
    "pack": ("times", "how much more often a pass over several tokens reads the weights"),
}
OF_SEVERAL = ("alpha_s", "e_link")  # of more than one device
# Of ln g between machines, at the least: random effects over twelve public set-ups, more than are kept here.
LEAST_BETWEEN = {"host_sd_ln": 0.35, "device_sd_ln": 0.15}
BASIS = (
    "the larger of what the set-ups of validated_on show (`seen`) and of what a review of twelve public "
    "set-ups found (`reviewed`, not worked out here)"
)
TOLERANCE = 1e-3  # of a value
COMMAND = "python -m ci.physics fit"
CURVE, HARDWARE, MODEL = "curve", "hardware", "model"


@dataclass(frozen=True)
class Result:
    """The fit of all published points and all that was found by leaving some of them out."""

    whole: Fit
    without: Mapping[str, Any]
    today: Mapping[str, Any]
    physics: Physics
    contents: Mapping[str, Any]


def half_widths(data: Sequence[Datum], without: Mapping[str, Any]) -> dict[str, float]:
    """By novelty; a model may be of a family that was not fitted."""

    def of(left_out: str) -> float:
        return validate.half_width(data, without[left_out], left_out)

    found = {
        "other batch": of("batch"),
        "other lengths": max(of("lengths"), of("curve")),
        "other model": max(of("model"), of("family")),
        "other count": max(of("count"), of("hardware")),
    }
    return {key: round(value, 4) for key, value in found.items()}


def work_out(data: Sequence[Datum], others: Sequence[Datum]) -> Result:
    """Fit the published points, and validate on the others; some 70 fits."""
    whole = validate.fitted(data)
    without = {left_out: validate.leave_out(data, left_out, whole) for left_out in validate.LEFT_OUT}
    today = {left_out: validate.today(data, left_out) for left_out in validate.LEFT_OUT}
    measured = validate.seconds(data)
    own = float(np.sqrt(np.mean(np.log(measured / without[CURVE]) ** 2)))
    draft = Physics(
        name="draft",
        parameters=whole.parameters,
        host_sd_ln=LEAST_BETWEEN["host_sd_ln"],
        device_sd_ln=LEAST_BETWEEN["device_sd_ln"],
        own_sd_ln=own,
        machine_scale={},
        half_width=half_widths(data, without),
        fitted=Fitted(
            max(one.case.point.input_len for one in data),
            max(one.case.point.output_len for one in data),
            ("bfloat16", "float16"),
        ),
        sha256="",
    )
    seen = spread(draft, others)
    between = {key: max(least, seen[key]) for key, least in LEAST_BETWEEN.items()}
    draft = replace(draft, host_sd_ln=between["host_sd_ln"], device_sd_ln=between["device_sd_ln"])
    machines = machine_rows(draft, others)
    ttft, tpot = validate.ttft_and_tpot(data, without[CURVE])
    contents = {
        "between_machines": {**between, "basis": BASIS, "seen": seen, "reviewed": LEAST_BETWEEN},
        "own_sd_ln": round(own, 4),
        "machine_scale": machines["scale"],
        "half_width": dict(draft.half_width),
        "fitted": {
            "input_len": draft.fitted.input_len,
            "output_len": draft.fitted.output_len,
            "dtypes": list(draft.fitted.dtypes),
            "batch_size": max(one.case.point.batch_size for one in data),
            "models": sorted({one.case.model.name for one in data}),
            "devices": sorted({f"{one.case.devices}x{one.case.hardware.name}" for one in data}),
        },
        "errors": {
            "in_sample": Errors.of(validate.expected(data, whole), measured).as_dict(),
            "left_out": {
                left_out: {
                    "groups": len({one.group(left_out) for one in data}),
                    "today": Errors.of(today[left_out], measured).as_dict(),
                    "physics": Errors.of(without[left_out], measured).as_dict(),
                }
                for left_out in validate.LEFT_OUT
            },
            "ttft": ttft.as_dict(),
            "tpot": tpot.as_dict(),
            "coverage_hardware": round(validate.coverage(data, without[HARDWARE], HARDWARE), 4),
            "coverage_model": round(validate.coverage(data, without[MODEL], MODEL), 4),
            "elsewhere": machines["errors"],
        },
        "fitted_from": [file_of(PUBLISHED, len(data))],
        "validated_on": [
            {
                "setup": name,
                "url": f"https://{_row(name)['source']}",
                "commit": _row(name)["commit"],
                "conditions": _row(name)["conditions"],
                "points": len(rows),
                **machines["by_setup"][name],
            }
            for name, rows in validate.setups(others).items()
        ],
    }
    return Result(whole, without, today, draft, contents)


def machine_rows(physics: Physics, others: Sequence[Datum]) -> dict[str, Any]:
    """What the set-ups of other sources say: scales by points, errors, coverage, factors."""
    setups = validate.setups(others)
    by_points = {
        points: {name: one for name, rows in setups.items() if (one := validate.tried(rows, physics, points))}
        for points in range(validate.LAST + 1)
    }
    tries = {
        False: list(by_points[0].values()),
        True: [one for points, found in by_points.items() if points for one in found.values()],
    }
    scales = {
        name: round(validate.scale(tries[calibrated_]), 3)
        for name, calibrated_ in ((NEVER_SEEN, False), (MEASURED, True))
    }
    factors = {
        name: calibrated(physics, [(one.work, one.seconds) for one in rows]) for name, rows in setups.items()
    }
    errors: dict[Any, Any] = {}
    for points, found in by_points.items():
        expected = np.concatenate([one.expected_s for one in found.values()])
        measured = np.concatenate([validate.seconds(one.data) for one in found.values()])
        errors[f"points_{points}"] = {
            "setups": len(found),
            "points": len(measured),
            **Errors.of(expected, measured).as_dict(),
            "covered": round(validate.covered_machines(list(found.values()), tries[points > 0]), 4),
        }
    errors["today"] = Errors.of(_today(others), validate.seconds(others)).as_dict()
    by_setup = {}
    for name, rows in setups.items():
        one = by_points[1].get(name)
        by_setup[name] = {
            "today_median": Errors.of(_today(rows), validate.seconds(rows)).as_dict()["median"],
            **Errors.of(by_points[0][name].expected_s, validate.seconds(rows)).as_dict(),
            "median_after_one_point": one and _median(one),
            "g_host": round(math.exp(factors[name].ln_host), 3),
            "g_device": round(math.exp(factors[name].ln_device), 3),
        }
    return {"scale": scales, "errors": errors, "by_setup": by_setup}


def spread(physics: Physics, others: Sequence[Datum]) -> dict[str, float]:
    """sd of ln g between set-ups, each by all of its points."""
    rows = validate.setups(others).values()
    found = [calibrated(physics, [(one.work, one.seconds) for one in setup]) for setup in rows]
    return {
        "host_sd_ln": round(float(np.std([one.ln_host for one in found], ddof=1)), 3),
        "device_sd_ln": round(float(np.std([one.ln_device for one in found], ddof=1)), 3),
    }


def _median(of: Tried) -> float:
    return Errors.of(of.expected_s, validate.seconds(of.data)).as_dict()["median"]


def _today(others: Sequence[Datum]) -> Any:
    past = published()
    return np.array([one.least_s / validate.share_of_bound(one, past) for one in others])


def _row(setup: str) -> dict[str, str]:
    """The first row of a set-up."""
    with (ELSEWHERE / "hf.csv").open(encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            if setup == setup_of(row):
                return row
    raise KeyError(setup)


def file_of(path: Path, points: int) -> dict[str, Any]:
    """A file that was fitted, with its hash."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": str(path.relative_to(CI.parent)), "sha256": digest, "points": points}


def texts(result: Result) -> dict[str, str]:
    """File name -> contents: one fit serves an engine of one device and one of several."""
    return {
        "hf_gpu.yaml": _text("hf", "transformers' eager generate on one GPU", result, OF_SEVERAL),
        "deepspeed_gpu.yaml": _text(
            "deepspeed", "DeepSpeed tensor parallelism around transformers' eager modules", result, ()
        ),
    }


def _text(engine_kind: str, what: str, result: Result, without: Sequence[str]) -> str:
    names = [name for name in result.whole.sd_ln if name not in without]
    description = f"{what}; fitted to llm-foundry's published points"
    return as_text(engine_kind, "gpu", description, names, result.whole, result.contents)


def as_text(
    engine_kind: str,
    device_kind: str,
    description: str,
    names: Sequence[str],
    whole: Fit,
    contents: Mapping[str, Any],
) -> str:
    """A file, with these parameters of a fit."""
    values = {
        "description": description,
        "engine_kind": engine_kind,
        "device_kind": device_kind,
        "parameters": {
            name: {
                "value": float(f"{getattr(whole.parameters, name):.6g}"),
                "sd_ln": round(whole.sd_ln[name], 4) if name in whole.sd_ln else None,
                "unit": WHAT[name][0],
                "what": WHAT[name][1],
            }
            for name in names
        },
        **contents,
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "scipy")},
        "command": COMMAND,
    }
    heading = f"# Written by {COMMAND}; it is not edited by hand. Errors are |predicted / measured - 1|.\n"
    return heading + yaml.safe_dump(values, sort_keys=False, width=108, allow_unicode=True)


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Where two files say different things, numbers by more than a thousandth; versions may differ."""
    if place == "versions":
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*new, *(key for key in old if key not in new)]
        joined = {key: f"{place}.{key}" if place else str(key) for key in keys}
        return [line for key in keys for line in differences(old.get(key), new.get(key), joined[key])]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line
            for i, (one, other) in enumerate(zip(old, new, strict=True))
            for line in differences(one, other, f"{place}[{i}]")
        ]
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (old, new))
    if numbers and abs(old - new) <= TOLERANCE * max(abs(old), abs(new)):
        return []
    return [] if old == new else [f"{place}: {old!r} there, {new!r} now"]
