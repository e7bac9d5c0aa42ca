"""Parameters of a CPU: kept where they beat today's rule, from the project's own histories."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from ci.physics import processors, validate
from ci.physics.fitting import CPU, CPU_PRIORS, Form, fit, predicted
from fixtures.core.estimate.formula import Parameters
from fixtures.core.estimate.physics import FOLDER, read_physics

POINTS = processors.points()


def test_two_processors_have_points() -> None:
    """18 of the one with instructions for bf16, 8 of one that emulates it."""
    assert {name.rpartition("(")[2]: len(rows) for name, rows in POINTS.items()} == {
        "family 25, model 17, AVX-512 bf16), 2 cores": 18,
        "family 25, model 17, AVX2), 2 cores": 8,
    }


def test_the_file_is_what_a_fit_gives_and_beats_the_constant() -> None:
    """Whatever is left out: the batch, the lengths, the model."""
    text = processors.text_of(POINTS)
    assert text is not None
    kept, now = yaml.safe_load((FOLDER / "hf_cpu.yaml").read_text()), yaml.safe_load(text)
    for name, parameter in now["parameters"].items():
        assert kept["parameters"][name]["value"] == pytest.approx(parameter["value"], rel=1e-3)
    for row in kept["errors"]["left_out"].values():
        assert row["physics"]["median"] < row["today"]["median"]
        assert row["physics"]["p90"] < row["today"]["p90"]
    physics = read_physics("hf", "cpu")
    assert physics is not None
    v = physics.parameters
    assert (v.p, v.q, v.gamma) == (1.0, 1.0, 1.0)
    assert v.pack > 1
    assert physics.fitted.dtypes == ("bfloat16",)


def test_planted_parameters_of_a_processor_come_back() -> None:
    """Those that points of 125M tell: host, products, weights and how often these are read."""
    planted = replace(CPU.fixed, tau_s=7e-6, e_flops=0.5, e_weights=0.6, pack=3.0, e_cache=0.4, e_scores=0.5)
    (works,) = ([one.work for one in rows] for name, rows in POINTS.items() if processors.FITTED in name)
    flat = Form({name: (middle, 10.0) for name, (middle, _) in CPU_PRIORS.items()}, CPU.fixed)
    found = fit(works, list(predicted(works, planted)), flat).parameters
    for name in ("tau_s", "e_flops", "e_weights", "pack"):
        assert getattr(found, name) == pytest.approx(getattr(planted, name), rel=0.02), name


def test_where_the_formula_is_no_better_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then today's constant stays."""
    monkeypatch.setattr(validate, "today", lambda data, _: validate.seconds(data))
    assert processors.text_of(POINTS) is None
    assert Parameters().pack == 0
