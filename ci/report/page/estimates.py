"""What the page's picker needs to estimate as `ci.pick --estimate` does: counts, parameters, machines.

`formula.js`, `estimate.js` and `look.js` are the same formula, classes and order once more; `coefficients.py`
says what they take of a model. A pair is a model with an engine; a machine is a number of devices of the
library's hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ci.pick.estimates import MOST, machines, usual_engine
from ci.pick.estimator import Estimator, model_of
from ci.report.page.coefficients import coefficients
from ci.report.read.cases import case_of, engine_of
from ci.report.read.samples import Curve, Sample
from fixtures.core.cost.bounds import stated_flops_per_s
from fixtures.core.cost.memory import GPU_MARGIN_BYTES, room_bytes
from fixtures.core.estimate.estimate import LEVEL, UNLIKE, Known, why_not, without_figures
from fixtures.core.estimate.model import kinds_of
from fixtures.core.estimate.physics import BORROWS, FARTHEST, Physics, read_physics
from fixtures.core.spec import library
from fixtures.core.spec.case import DTYPE_NAMES, Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.spec.splitting import why_not_split

GPU = "gpu"
_ANY = HardwareSpec(
    GPU, GPU, peak_bf16_flops=1.0, peak_fp16_flops=1.0, peak_bandwidth_bytes_per_s=1.0, link_bytes_per_s=1.0
)
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
        if reason is None and engine.prefill_chunk:
            reason = (
                f"engine {engine.name}: pieces of prefill, which ci.pick --estimate has and this page has not"
            )
        values: dict[str, Any] = {"engine": engine.name, "kind": engine.kind, "refused": reason}
        values["dtype"] = engine.product_dtype
        if reason is not None or counts is None:
            return values
        specs = {spec.name: spec for _, spec in self.machines}
        split = {
            str(n): {
                name: why_not_split(replace(case, hardware=spec, devices=n)) for name, spec in specs.items()
            }
            for n in sorted({n for n, _ in self.machines})
            if why_not_split(replace(case, devices=n)) is not None
        }
        values |= {"split": split, "borrowed": engine.kind in BORROWS, "kinds": kinds_of(counts.work)}
        return {**values, **coefficients(counts, engine.kind)}

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
    def refused(n: int) -> dict[str, str | None]:
        engines = {dtype: EngineSpec("hf", dtype=dtype) for dtype in DTYPE_NAMES}
        return {
            dtype: without_figures(Case(ModelSpec("any", {}), spec, n, engine, _ONE))
            for dtype, engine in engines.items()
        }

    return {
        "name": spec.name,
        "flops_per_s": {dtype: stated_flops_per_s(spec, 1, dtype) for dtype in DTYPE_NAMES},
        "bytes_per_s": spec.peak_bandwidth_bytes_per_s,
        "link_bytes_per_s": spec.link_bytes_per_s or 1.0,
        "room_bytes": room_bytes(spec, 1),
        "tdp_w": spec.tdp_w,
        "refused": refused(1),
        "refused_several": refused(2),
    }
