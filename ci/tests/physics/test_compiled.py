"""Why compiled engines have no parameters: what their points leave open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ci.physics import compiled, validate
from ci.physics.compiled import Verdict, judge, points
from ci.physics.fitting import predicted
from ci.physics.validate import Errors
from ci.tests.conftest import ROOT

POINTS = points()


def test_every_point_is_of_one_sequence() -> None:
    """55 of four engines on one kind of device; each takes at least the bound."""
    assert {engine: len(data) for engine, data in POINTS.items()} == {
        "gpt-fast": 7, "lmdeploy": 24, "vllm": 20, "trtllm": 4,
    }  # fmt: skip
    every = [one for data in POINTS.values() for one in data]
    assert {one.case.point.batch_size for one in every} == {1}
    assert {one.case.hardware.name for one in every} == {"a100_80gb"}
    assert all(one.seconds >= one.least_s for one in every)
    kappa = {one.case.model.name: one.work.model.kappa for one in every}
    assert (kappa["llama7b"], kappa["llama2_70b"]) == pytest.approx((1, 1 / 8))  # 8 of 64 heads


def test_no_engine_is_told_by_its_points() -> None:
    """Each has a reason; the README has the table."""
    readme = (ROOT / "ci" / "physics" / "README.md").read_text()
    for engine, data in POINTS.items():
        verdict = judge(engine, data)
        assert verdict.reasons
        errors = (verdict.in_sample, verdict.model, verdict.today)
        cells = [" / ".join(f"{100 * part:.1f}" for part in (of.median, of.p90, of.worst)) for of in errors]
        assert (
            f"| {engine} | {verdict.points} | {' | '.join(cells)} | {'; '.join(verdict.reasons)} |" in readme
        )


def test_planted_seconds_of_enough_batches_would_be_told() -> None:
    """Points of 1 to 64 sequences made by the form give its parameters back, and no reason to refuse."""
    data = []
    for one in POINTS["vllm"]:
        for batch in (1, 8, 64):
            for kind in ("prefill", "decode"):
                point = replace(one.case.point, batch_size=batch)
                work = replace(one.work, batch=batch, kind=kind)
                data.append(replace(one, case=replace(one.case, point=point), work=work))
    form = compiled.form_of(data)
    planted = replace(form.fixed, tau_s=2e-3, e_flops=0.6, e_weights=0.7, e_cache=0.6)
    seconds = predicted([one.work for one in data], planted)
    data = [replace(one, seconds=float(took)) for one, took in zip(data, seconds, strict=True)]
    found = validate.fitted(data, form=form).parameters
    assert [found.tau_s, found.e_flops, found.e_weights, found.e_cache] == pytest.approx(
        [2e-3, 0.6, 0.7, 0.6], rel=0.02
    )
    assert judge("planted", data).reasons == ()


def test_reasons_are_batches_parameters_and_models() -> None:
    """One each."""
    none = Errors(0.0, 0.0, 0.0)
    fine = Verdict("x", 9, (1, 8), none, none, none, {"tau_s": 0.1})
    assert fine.reasons == ()
    assert replace(fine, batches=(1,)).reasons == ("all at batch 1",)
    assert replace(fine, left={"tau_s": 0.1, "e_cache": 0.6}).reasons == ("e_cache not told",)
    assert replace(fine, model=Errors(0.1, 0.2, 0.3)).reasons == ("p90 of models left out 20 %",)
    assert np.isfinite(compiled.LARGEST)
