"""What the page's picker needs to estimate as `ci.pick --estimate` does: counts, parameters, machines.

`formula.js`, `estimate.js` and `look.js` are the same formula, classes and order once more. A pair is a model
with an engine; a machine is a number of devices of the library's hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ci.pick.estimates import MOST, machines, usual_engine
from ci.pick.estimator import Estimator, model_of
from ci.report.read.cases import case_of, engine_of
from ci.report.read.samples import Curve, Sample
from fixtures.core.cost.bounds import Work
from fixtures.core.cost.footprint import Footprint, Pass
from fixtures.core.cost.memory import GPU_MARGIN_BYTES, room_bytes
from fixtures.core.cost.stored_counts import Counts
from fixtures.core.estimate.estimate import LEVEL, UNLIKE, Known, why_not, without_figures
from fixtures.core.estimate.model import MIXTURE, kinds_of
from fixtures.core.estimate.physics import BORROWS, FARTHEST, Physics, read_physics
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.spec.engine_kinds import KINDS
from fixtures.core.spec.splitting import why_not_split

GPU = "gpu"
_ANY = HardwareSpec(GPU, GPU, peak_bf16_flops=1.0, peak_bandwidth_bytes_per_s=1.0, link_bytes_per_s=1.0)
_ONE = Point(1, 1, 1)


@dataclass
class Estimates:
    """Collects the values of models, engines and machines, each once."""

    samples: Sequence[Sample]
    curves: Sequence[Curve]
    _pairs: dict[tuple[str, EngineSpec], dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Machines as `ci.pick` has them, and the estimator of all samples that it can read."""
        on_gpus = [
            sample
            for sample in self.samples
            if (case := case_of(sample)) is not None and case.hardware.kind == GPU
        ]
        self.estimator = Estimator(on_gpus)
        self.machines = machines((), on_gpus)
        self.models = {curve.model: model_of(curve.samples[0]) for curve in self.curves}
        self.models |= {name: library.model(name) for name in library.names("models")}

    def pair_of(self, curve: Curve) -> int | None:
        """The place of a curve's pair; None for hardware that is not estimated."""
        sample = curve.samples[0]
        case = case_of(sample)
        if case is None or case.hardware.kind != GPU:
            return None
        return self._pair(self.models[curve.model], engine_of(sample))

    def values(self) -> dict[str, Any]:
        """All but the curves' pairs, as plain values; call `pair_of` for each curve before."""
        numbers = sorted({n for n, _ in self.machines})
        models = [
            {
                "name": model.name,
                "context_len": model.context_len,
                "usual": {str(n): self._pair(model, usual_engine(model, n)) for n in numbers},
            }
            for model in self.models.values()
        ]
        hardware = {spec.name: spec for _, spec in self.machines}
        kinds = {pair["kind"] for pair in self._pairs.values()}
        physics = {kind: found for kind in sorted(kinds) if (found := read_physics(kind, GPU)) is not None}
        return {
            "level": LEVEL,
            "unlike": UNLIKE,
            "farthest": FARTHEST,
            "most": MOST,
            "margin_bytes": GPU_MARGIN_BYTES,
            "physics": {kind: _physics(one) for kind, one in physics.items()},
            "hardware": [_hardware(spec) for spec in hardware.values()],
            "machines": [[n, list(hardware).index(spec.name)] for n, spec in self.machines],
            "models": models,
            "pairs": list(self._pairs.values()),
            "known": [found for kind, one in physics.items() for found in self._known(kind, one)],
        }

    def _pair(self, model: ModelSpec, engine: EngineSpec) -> int:
        key = (model.name, engine)
        if key not in self._pairs:
            self._pairs[key] = self._pair_values(model, engine)
        return list(self._pairs).index(key)

    def _pair_values(self, model: ModelSpec, engine: EngineSpec) -> dict[str, Any]:
        counts = self.estimator.counts_of(model, engine)
        case = Case(model, _ANY, 1, engine, _ONE)
        reason = why_not(case, counts, read_physics(engine.kind, GPU))
        if reason is None and counts is not None and (others := _not_here(counts.work)):
            reason = f"model {model.name}: {others}, which ci.pick --estimate has and this page has not"
        values: dict[str, Any] = {"engine": engine.name, "kind": engine.kind, "refused": reason}
        if reason is not None or counts is None:
            return values
        numbers = sorted({n for n, _ in self.machines})
        cases = {n: Case(model, _ANY, n, engine, _ONE) for n in numbers}
        split = {str(n): why for n, case in cases.items() if (why := why_not_split(case)) is not None}
        values |= {"split": split, "borrowed": engine.kind in BORROWS, "kinds": kinds_of(counts.work)}
        return {**values, **_counts(counts, KINDS[engine.kind].embedding_stays_whole)}

    def _known(self, kind: str, physics: Physics) -> Iterator[dict[str, Any]]:
        """What was measured of each device with engines of a kind; nothing of most."""
        devices = {sample.device for sample in self.estimator.samples}
        for name in sorted(devices):
            case = Case(
                next(iter(self.models.values())), library.hardware(name), 1, EngineSpec(kind, kind), _ONE
            )
            known = self.estimator.known(case, physics)
            if known.measured:
                yield {"hardware": name, "kind": kind, **_known_values(known)}


def _not_here(work: Work) -> str:
    """What the page's formula lacks of a model: all that is uneven but experts; empty if nothing."""
    others = [kind for kind in kinds_of(work) if kind != MIXTURE or work.idle_flops]
    return ", ".join(others)


def _known_values(known: Known) -> dict[str, Any]:
    lengths = {(one.point.input_len, one.point.output_len) for one in known.measured if not one.point.depth}
    return {
        "devices": sorted({one.devices for one in known.measured}),
        "models": sorted({one.model for one in known.measured}),
        "lengths": sorted(lengths),
        "machine": known.machine and asdict(known.machine),
    }


def _physics(physics: Physics) -> dict[str, Any]:
    return {
        "parameters": asdict(physics.parameters),
        "host_sd_ln": physics.host_sd_ln,
        "device_sd_ln": physics.device_sd_ln,
        "own_sd_ln": physics.own_sd_ln,
        "machine_scale": dict(physics.machine_scale),
        "half_width": dict(physics.half_width),
        "input_len": physics.fitted.input_len,
        "output_len": physics.fitted.output_len,
        "sha256": physics.sha256,
    }


def _hardware(spec: HardwareSpec) -> dict[str, Any]:
    case = Case(ModelSpec("any", {}), spec, 1, EngineSpec("hf"), _ONE)
    alone, several = (without_figures(Case(case.model, spec, n, case.engine, _ONE)) for n in (1, 2))
    return {
        "name": spec.name,
        "flops_per_s": spec.peak_bf16_flops,
        "bytes_per_s": spec.peak_bandwidth_bytes_per_s,
        "link_bytes_per_s": spec.link_bytes_per_s or 1.0,
        "room_bytes": room_bytes(spec, 1),
        "tdp_w": spec.tdp_w,
        "refused": alone,
        "refused_several": several,
    }


def _counts(counts: Counts, embedding_stays_whole: bool) -> dict[str, Any]:
    """The counts of a model that is not refused: its layers are alike, and cache every token."""
    work, dispatch, footprint = counts.work, counts.dispatch, counts.footprint
    assert dispatch is not None, "refused otherwise"
    return {
        "a": work.flops_constant,
        "b": work.flops_per_token,
        "c": work.flops_per_pair,
        "weight_bytes": work.weight_bytes,
        "experts": [[one.layers, one.number, one.chosen, one.expert_bytes] for one in work.experts],
        "cache_bytes": sum(one.layers * one.bytes_per_token for one in work.caches),
        **{name: getattr(dispatch, name) for name in _DISPATCHED},
        "footprint": _footprint(footprint, embedding_stays_whole),
    }


_DISPATCHED = ("layers", "heads", "width", "ops", "base", "kappa", "sigma", "omega")


def _footprint(footprint: Footprint, embedding_stays_whole: bool) -> dict[str, Any]:
    return {
        "weight_bytes": footprint.weight_bytes,
        "whole_bytes": footprint.embedding_bytes if embedding_stays_whole else 0,
        "tied": footprint.tied,
        "cache_bytes": sum(one.layers * one.bytes_per_token for one in footprint.caches),
        "prefill": _instants(footprint.prefill),
        "decode": None if footprint.decode is None else _instants(footprint.decode),
    }


def _instants(run: Pass) -> list[list[list[int | float]]]:
    """(live, logits) of each moment, each the coefficients of 1, T, T^2, B, BT, BT^2."""
    return [[list(one.live), list(one.logits)] for one in run.instants]
