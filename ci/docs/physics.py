"""Writes the tables of ci/physics/README.md from yamls/physics.

python -m ci.docs.physics          write them
python -m ci.docs.physics --check  exit code 1 if they are not current
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ci.docs.marked import Marked
from fixtures.core.base.columns import markdown
from fixtures.core.base.streams import run_main
from fixtures.core.estimate.physics import FOLDER

README = Path(__file__).resolve().parents[1] / "physics" / "README.md"
PART = Marked("physics", "ci.docs.physics", README)
_NAMES = {
    "curve": "one curve of a published figure",
    "batch": "one batch size",
    "lengths": "one pair of lengths",
    "hardware": "one machine",
    "device": "one kind of device",
    "count": "one number of devices",
    "model": "one model",
    "family": "one family of models",
}
_POINTS = {
    "points_0": "nothing",
    "points_1": "one point",
    "points_2": "two points",
    "points_3": "three points",
    "points_4": "four points",
}


def _read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return values


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _errors(row: Mapping[str, float]) -> str:
    return " / ".join(_percent(row[key]) for key in ("median", "p90", "worst"))


def tables() -> str:
    """Errors, intervals, other sources and parameters, in Markdown."""
    gpu, cpu = _read("deepspeed_gpu"), _read("hf_cpu")
    errors, elsewhere = gpu["errors"], gpu["errors"]["elsewhere"]
    left_out = ("left out", "groups", "today's rule", "formula")
    lines = ["Published points on GPUs, |predicted / measured - 1|, median / p90 / worst in %:", ""]
    lines += markdown([left_out, *_left_out(gpu)])
    lines += [
        "",
        f"In sample {_errors(errors['in_sample'])}. TTFT, curve left out: {_errors(errors['ttft'])}; "
        f"TPOT: {_errors(errors['tpot'])}. Of points whose machine was left out the 90 % interval holds "
        f"{_percent(errors['coverage_hardware'])} %, of those whose model was "
        f"{_percent(errors['coverage_model'])} %.",
        "",
        "Set-ups of other sources, none of them in the fit, after so many measured points of the machine:",
        "",
        *markdown(
            [
                ("measured of the machine", "set-ups", "points", "formula", "within the interval, %"),
                *(_elsewhere(key, row) for key, row in elsewhere.items() if key != "today"),
            ]
        ),
        "",
        f"Today's rule on the same points: {_errors(elsewhere['today'])}.",
        "",
        *markdown(
            [
                ("set-up", "conditions", "points", "today, median", "formula", "host x", "device x"),
                *map(_validated, gpu["validated_on"]),
            ]
        ),
        "",
        "Half-widths x of the 90 % interval [t / x, t x]:",
        "",
        *markdown([("what is new", "GPU", "CPU"), *_half_widths(gpu, cpu)]),
        "",
        "A CPU (models of 125M parameters on two cores with instructions for bf16):",
        "",
        *markdown([left_out, *_left_out(cpu)]),
        "",
        "Parameters:",
        "",
        *markdown([("parameter", "GPU", "x/ 1 sd", "CPU", "unit", "what"), *_parameters(gpu, cpu)]),
    ]
    return "\n".join(lines)


def _left_out(values: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (_NAMES[key], str(row["groups"]), _errors(row["today"]), _errors(row["physics"]))
        for key, row in values["errors"]["left_out"].items()
    ]


def _elsewhere(key: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return _POINTS[key], str(row["setups"]), str(row["points"]), _errors(row), _percent(row["covered"])


def _validated(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["setup"],
        row["conditions"],
        str(row["points"]),
        _percent(row["today_median"]),
        _errors(row),
        f"{row['g_host']:.2f}",
        f"{row['g_device']:.2f}",
    )


def _half_widths(gpu: Mapping[str, Any], cpu: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """By novelty; of a machine never seen where the host, and where the devices set the time."""
    rows: list[tuple[str, ...]] = [
        (
            novelty,
            f"{value:.2f}",
            f"{cpu['half_width'][novelty]:.2f}" if novelty in cpu["half_width"] else "-",
        )
        for novelty, value in gpu["half_width"].items()
    ]
    for key, what in (("host_sd_ln", "host"), ("device_sd_ln", "device")):
        widths = [
            math.exp(fit["machine_scale"]["machine never seen"] * math.hypot(fit["own_sd_ln"], sd))
            for fit in (gpu, cpu)
            for sd in (fit["between_machines"][key],)
        ]
        rows.append((f"machine never seen, all of it {what}", *(f"{width:.2f}" for width in widths)))
    return rows


def _parameters(gpu: Mapping[str, Any], cpu: Mapping[str, Any]) -> list[tuple[str, ...]]:
    first, other = gpu["parameters"], cpu["parameters"]
    rows: list[tuple[str, ...]] = []
    for name in (*first, *(name for name in other if name not in first)):
        stated = first.get(name) or other[name]
        sd_ln = first.get(name, {}).get("sd_ln")
        values = [f"{fit[name]['value']:.3g}" if name in fit else "-" for fit in (first, other)]
        spread = "-" if sd_ln is None else f"{math.exp(sd_ln):.2f}"
        rows.append((f"`{name}`", values[0], spread, values[1], stated["unit"], stated["what"]))
    return rows


if __name__ == "__main__":
    run_main(partial(PART.write_or_check, tables))
