"""Estimates of cases by the latency formula, with what the samples of a machine say of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ci.report.read.cases import engine_of
from ci.report.read.samples import PUBLISHED, Sample
from fixtures.core.cost.bounds import Peaks, stated_peaks
from fixtures.core.cost.stored_counts import Counts, architecture_key, find_counts
from fixtures.core.estimate.estimate import (
    Estimate,
    Known,
    Measured,
    Refused,
    estimate,
    too_far,
    why_not,
)
from fixtures.core.estimate.formula import Devices
from fixtures.core.estimate.host_time import HostTime
from fixtures.core.estimate.machine import Work, calibrated, never_seen, with_host
from fixtures.core.estimate.model import Model
from fixtures.core.estimate.physics import Physics, read_physics
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec
from fixtures.core.spec.splitting import why_not_split

_MOST_POINTS = 500  # that a machine's factors are made of, the newest: more would only take time


@dataclass
class Estimator:
    """Estimates cases by what is fitted, with what the samples of a machine say of it.

    `counts` is a folder of counts of models that the library has not. `host` is what
    `python -m ci.physics host` measured on the machine that is asked about.
    """

    samples: Sequence[Sample]
    counts: Path | None = None
    host: HostTime | None = None
    _known: dict[tuple[str, str], Known] = field(default_factory=dict)
    _counts: dict[tuple[object, str, EngineSpec], Counts | None] = field(default_factory=dict)

    def of(self, case: Case) -> Estimate | Refused:
        """What a case is expected to take."""
        physics = read_physics(case.engine.kind, case.hardware.kind)
        if physics is None:
            return estimate(case, None, None, Known())
        counts, known = self.counts_of(case.model, case.engine), self.known(case, physics)
        return estimate(case, counts, physics, known, self.peaks(case))

    def peaks(self, case: Case) -> Peaks | None:
        """The datasheet's; of a CPU the medians of those measured beside its samples in the same dtype."""
        if case.hardware.kind != "cpu":
            return stated_peaks(case.hardware, case.devices, case.engine.product_dtype)
        found = [
            peaks
            for sample in self.of_device(case.hardware.name)
            if engine_of(sample).product_dtype == case.engine.product_dtype
            if (limits := sample.record.limits) and (rates := limits.peaks.measured) and (peaks := rates.both)
        ]
        if not found:
            return None
        return Peaks(
            statistics.median(each.flops_per_s for each in found),
            statistics.median(each.bandwidth_bytes_per_s for each in found),
        )

    def of_device(self, name: str) -> list[Sample]:
        """Its measured samples; where CPUs of several kinds are in the runs, of the one measured last."""
        found = [sample for sample in self.samples if sample.device == name and sample.latency_s]
        last = max(found, key=lambda sample: sample.taken, default=None)
        return [sample for sample in found if last is not None and sample.kind == last.kind]

    def refusal(self, case: Case) -> str | None:
        """Why a case is not estimated whatever its batch; None where it may be."""
        physics = read_physics(case.engine.kind, case.hardware.kind)
        counts = self.counts_of(case.model, case.engine)
        reason = why_not(case, counts, physics)
        if reason is None and physics is not None:
            reason = too_far(case.point, physics) or _over_context(case) or why_not_split(case)
        return reason

    def counts_of(self, model: ModelSpec, engine: EngineSpec) -> Counts | None:
        """The library's, else of the folder."""
        key = (model.remote_code, architecture_key(model), engine)
        if key not in self._counts:
            found = find_counts(model, engine)
            if found is None and self.counts is not None:
                found = find_counts(model, engine, self.counts)
            self._counts[key] = found
        return self._counts[key]

    def known(self, case: Case, physics: Physics) -> Known:
        """What the samples say of a device with this kind of engine.

        Published points are those of the fit: its parameters are their machine's own. Others give the
        factors of their machine, and count rather than published ones.
        """
        key = (case.hardware.name, case.engine.kind)
        if key not in self._known:
            here = [
                sample
                for sample in self.of_device(key[0])
                if sample.record.case.engine.kind == key[1] and not sample.point.ragged
            ]
            own = [sample for sample in here if sample.source != PUBLISHED]
            measured = tuple(Measured(sample.model, sample.devices, sample.point) for sample in own or here)
            machine = None
            if own:
                newest = sorted(own, key=lambda sample: sample.taken)[-_MOST_POINTS:]
                points = [
                    (work, sample.latency_s)
                    for sample in newest
                    if (work := self._work(sample, case.hardware))
                ]
                machine = calibrated(physics, [(work, seconds) for work, seconds in points if seconds])
            elif not here:
                machine = never_seen(physics)
                if self.host is not None:
                    machine = with_host(machine, physics, self.host)
            self._known[key] = Known(measured, machine)
        return self._known[key]

    def _work(self, sample: Sample, hardware: HardwareSpec) -> Work | None:
        """A measured sample for the formula; None where its model has no counts."""
        model, engine = model_of(sample), engine_of(sample)
        counts = self.counts_of(model, engine)
        peaks = self.peaks(Case(model, hardware, sample.devices, engine, sample.point))
        if counts is None or counts.dispatch is None or peaks is None:
            return None
        devices = Devices(
            peaks.flops_per_s / sample.machines,
            peaks.bandwidth_bytes_per_s / sample.machines,
            hardware.link_bytes_per_s or 1.0,
            sample.machines,
        )
        shape = (sample.point.batch_size, sample.point.input_len, sample.point.output_len)
        of_model = Model.of(counts.work, counts.dispatch, on_cpu=hardware.kind == "cpu")
        return Work(
            of_model, devices, *shape, engine.use_cache, depth=sample.point.depth, chunk=engine.prefill_chunk
        )


def _over_context(case: Case) -> str | None:
    context, tokens = case.model.context_len, case.point.context + case.point.output_len
    if context is None or tokens <= context:
        return None
    return f"model {case.model.name}: {tokens} tokens are over its context of {context}"


def model_of(sample: Sample) -> ModelSpec:
    """The model of a sample, by the architecture that its record has."""
    return ModelSpec(sample.model, dict(sample.record.case.model.architecture))
