"""Measured points as the formula needs them: the published ones, which are fitted, and other sources'."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fixtures.core.base.errors import InputError
from fixtures.core.base.yamlfile import read_yaml
from fixtures.core.cost.bounds import Bound, bound, stated_peaks
from fixtures.core.cost.stored_counts import FOLDER, Counts, find_counts
from fixtures.core.estimate.formula import Devices
from fixtures.core.estimate.machine import Work
from fixtures.core.estimate.model import Model
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.store.history import read_history

CI = Path(__file__).resolve().parents[1]
PUBLISHED = CI / "baselines" / "published" / "a100_2023.json"
ELSEWHERE = CI / "histories" / "elsewhere"
EVERY = "every"  # position that the output head runs on, in prefill


@dataclass(frozen=True)
class Datum:
    """A measured point. `figures` are those that a published one stands in, `setup` who measured it."""

    case: Case
    work: Work
    seconds: float
    bound: Bound
    figures: tuple[str, ...] = ()
    setup: str = ""

    @property
    def least_s(self) -> float:
        """The bound on what was timed."""
        least = self.bound
        return {"e2e": least.total_s, "prefill": least.prefill_s, "decode": least.decode_s}[self.work.kind]

    def group(self, left_out: str) -> Any:
        """What is left out together with it."""
        case, point = self.case, self.case.point
        lengths = (point.input_len, point.output_len)
        curve = (point.batch_size, point.input_len) if "latency" in self.figures else lengths
        hardware = (case.hardware.name, case.devices)
        return {
            "curve": (case.model.name, *hardware, *curve),
            "batch": point.batch_size,
            "lengths": lengths,
            "hardware": hardware,
            "device": case.hardware.name,
            "count": case.devices,
            "model": case.model.name,
            "family": case.model.architecture["model_type"],
        }[left_out]


def published(file: Path = PUBLISHED) -> list[Datum]:
    """The points of llm-foundry's figures; the code of 2023 ran the output head on every position."""
    found = []
    for one in read_history(file).measured:
        record, case = one.record, one.record.case
        engine = case.engine
        spec = EngineSpec(engine.name, engine.kind, engine.dtype or "", engine.attention or "")
        point = Point(case.batch_size, case.input_len, case.output_len)
        model, hardware = library.model(case.model.name), library.hardware(case.device)
        whole = Case(model, hardware, case.devices, spec, point)
        figures = record.provenance.figures if record.provenance else ()
        found.append(_datum(whole, record.latency_mean_s or 0.0, True, "e2e", FOLDER, figures, "published"))
    return found


def elsewhere(folder: Path = ELSEWHERE) -> list[Datum]:
    """The points of other sources: hf.csv; beside it are models that the library lacks, and devices in fp16.

    Raises InputError for a row that is not right.
    """
    file, found = folder / "hf.csv", []
    with file.open(encoding="utf-8", newline="") as text:
        for number, row in enumerate(csv.DictReader(text), start=2):
            try:
                found.append(datum_of(row, folder))
            except (InputError, KeyError, ValueError, TypeError) as error:
                raise InputError(f"{file.name}:{number}: is no point ({error})") from None
    return found


def datum_of(row: Mapping[str, str], folder: Path = ELSEWHERE) -> Datum:
    """A row of a table of points; raises InputError, KeyError or ValueError for one that is not right."""
    name, device = row["model"], row["device"]
    model, counts = _model(name, folder)
    spec = EngineSpec("hf", attention=row["attention"])
    point = Point(int(row["batch_size"]), int(row["input_len"]), int(row["output_len"]))
    devices = 1 if row["split"] == "stages" else int(row["devices"])  # one after another, each for its layers
    case = Case(model, _device(device, folder), devices, spec, point)
    found = _datum(case, float(row["seconds"]), row["head"] == EVERY, row["kind"], counts, (), setup_of(row))
    counted = {key: float(row[key]) for key in ("ops", "base", "kappa") if row[key]}
    return replace(found, work=replace(found.work, model=replace(found.work.model, **counted)))


def setup_of(row: Mapping[str, str]) -> str:
    """Who measured it on what."""
    return f"{row['source'].partition('/')[2]} {row['path']}: {row['device']}"


def _model(name: str, folder: Path) -> tuple[ModelSpec, Path]:
    if name in library.names("models"):
        return library.model(name), FOLDER
    file = folder / "models" / f"{name}.yaml"
    return library.read_model(name, read_yaml(file, file.name)), folder / "counts"


def _device(name: str, folder: Path) -> HardwareSpec:
    file = folder / "devices" / f"{name}.yaml"  # with the peak of the dtype that the points are in
    return (
        library.read_hardware(name, read_yaml(file, file.name)) if file.exists() else library.hardware(name)
    )


def _datum(
    case: Case, seconds: float, everywhere: bool, kind: str, folder: Path, figures: Sequence[str], setup: str
) -> Datum:
    counts, hardware = find_counts(case.model, case.engine, folder), case.hardware
    peaks = stated_peaks(hardware, case.devices, case.engine.product_dtype)
    if counts is None or counts.dispatch is None or peaks is None:
        raise InputError(f"{case.id}: no counts or no peaks")
    return Datum(
        case=case,
        work=work_of(case, counts, everywhere, kind),
        seconds=seconds,
        bound=bound(case.point, case.engine.use_cache, counts.work, peaks),
        figures=tuple(figures),
        setup=setup or hardware.name,
    )


def work_of(case: Case, counts: Counts, everywhere: bool = False, kind: str = "e2e") -> Work:
    """A case on a GPU for the formula."""
    hardware, point = case.hardware, case.point
    assert counts.dispatch is not None
    devices = Devices(
        flops_per_s=hardware.peak_bf16_flops,
        bytes_per_s=hardware.peak_bandwidth_bytes_per_s,
        link_bytes_per_s=hardware.link_bytes_per_s or 1.0,
        number=case.devices,
    )
    model = Model.of(counts.work, counts.dispatch, everywhere)
    shape = (point.batch_size, point.input_len, point.output_len)
    return Work(model, devices, *shape, case.engine.use_cache, kind)
