"""What the points of compiled engines identify: too little for parameters of their own.

A compiled engine does not dispatch operators one by one and reads keys and values once, unexpanded: `tau_s`
stands for the seconds of a pass beside its work, and scores and activations stay in the kernels.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ci.physics import validate
from ci.physics.fitting import PRIORS, Form
from ci.physics.points import ELSEWHERE, Datum, datum_of
from ci.physics.validate import Errors
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.estimate.formula import Parameters
from fixtures.core.estimate.physics import read_physics

TOLD = 0.5  # of a parameter's prior sd: points that leave more of it tell nothing of the parameter
LARGEST = 0.15  # p90 of models left out that an estimate may have, as of the eager engines
OF_SEVERAL = ("alpha_s", "e_link")
_NOT_SAID = {"attention": "auto", "head": "last", "split": "", "ops": "", "base": "", "kappa": ""}


@dataclass(frozen=True)
class Verdict:
    """What the points of one engine tell.

    `left` is by parameter the sd of its ln after the fit over that before; `batches` are the sizes measured.
    `model` and `today` are errors with one model left out, of the formula and of the share of the bound.
    """

    engine: str
    points: int
    batches: tuple[int, ...]
    in_sample: Errors
    model: Errors
    today: Errors
    left: Mapping[str, float]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why no file of parameters is made; empty where one may be."""
        found = []
        if len(self.batches) == 1:
            found.append(f"all at batch {self.batches[0]}")
        unknown = [name for name, left in self.left.items() if left > TOLD]
        if unknown:
            found.append(f"{', '.join(unknown)} not told")
        if self.model.p90 > LARGEST:
            found.append(f"p90 of models left out {100 * self.model.p90:.0f} %")
        return tuple(found)


def points() -> dict[str, list[Datum]]:
    """The points of `compiled.csv` by engine."""
    found: dict[str, list[Datum]] = {}
    with (ELSEWHERE / "compiled.csv").open(encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            datum = datum_of({**_NOT_SAID, **row})
            case, model = datum.case, datum.work.model
            counts = find_counts(case.model, case.engine) or find_counts(
                case.model, case.engine, ELSEWHERE / "counts"
            )
            assert counts is not None
            unexpanded = sum(cache.layers * cache.bytes_per_token for cache in counts.work.caches)
            once = replace(model, ops=0.0, base=1.0, kappa=unexpanded / model.c, sigma=0.0, omega=0.0)
            found.setdefault(row["engine"], []).append(replace(datum, work=replace(datum.work, model=once)))
    return found


def form_of(data: Sequence[Datum]) -> Form:
    """Priors: of the eager engine on a GPU what kernels reach, a wide one for a pass's own milliseconds."""
    eager = read_physics("hf", "gpu")
    assert eager is not None
    priors = {
        "tau_s": (1e-3, 1.0),
        "e_flops": (eager.parameters.e_flops, PRIORS["e_flops"][1]),
        "e_weights": (eager.parameters.e_weights, PRIORS["e_weights"][1]),
        "e_cache": PRIORS["e_cache"],
    }
    if any(one.case.devices > 1 for one in data):
        priors |= {name: PRIORS[name] for name in OF_SEVERAL}
    return Form(priors, Parameters(p=1.0, q=2.0, gamma=1.0))


def judge(engine: str, data: Sequence[Datum]) -> Verdict:
    """Fit the points of one engine, and leave out each model."""
    form, measured = form_of(data), validate.seconds(data)
    whole = validate.fitted(data, form=form)
    without = validate.leave_out(data, "model", whole, form)
    return Verdict(
        engine=engine,
        points=len(data),
        batches=tuple(sorted({one.case.point.batch_size for one in data})),
        in_sample=Errors.of(validate.expected(data, whole), measured),
        model=Errors.of(without, measured),
        today=Errors.of(validate.today(data, "model"), measured),
        left={name: whole.sd_ln[name] / form.priors[name][1] for name in form.priors},
    )
