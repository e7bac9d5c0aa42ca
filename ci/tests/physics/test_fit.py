"""Fitting: planted parameters come back, files say what a fit says, slips are refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ci.physics import files, fitting, processors, validate
from ci.physics.__main__ import main
from ci.physics.fitting import PRIORS, Form, fit, predicted
from ci.physics.points import ELSEWHERE, PUBLISHED, elsewhere, published
from fixtures.core.base.errors import InputError
from fixtures.core.estimate.formula import Parameters
from fixtures.core.estimate.physics import FOLDER, Physics, read_physics

DATA = published()
FLAT = Form({name: (middle, 10.0) for name, (middle, _) in PRIORS.items()}, Parameters())


def test_the_published_points_are_138_on_27_curves() -> None:
    """Six machines, six models of three families, nine pairs of lengths, seven batch sizes."""
    assert len(DATA) == 138
    sizes = {"curve": 27, "hardware": 6, "model": 6, "family": 3, "lengths": 9, "batch": 7, "device": 2}
    assert {key: len({one.group(key) for one in DATA}) for key in sizes} == sizes
    assert all(one.work.model.head_everywhere == 1 for one in DATA)
    assert all(one.least_s <= one.seconds for one in DATA)


def test_planted_parameters_come_back() -> None:
    """Within 2 %, from seconds that the formula made of them, whatever the search starts at."""
    planted = Parameters(
        tau_s=6e-6, e_flops=0.6, e_weights=0.9, e_cache=0.2, e_scores=0.4, gamma=0.6, alpha_s=4e-5,
        e_link=0.4, p=3.0, q=2.2,
    )  # fmt: skip
    works = [one.work for one in DATA]
    found = fit(works, predicted(works, planted), FLAT).parameters
    for name in PRIORS:
        assert getattr(found, name) == pytest.approx(getattr(planted, name), rel=0.02), name


def test_an_outlier_moves_little() -> None:
    """One point in 138 that is twice as slow: parameters stay within their own spread."""
    works, seconds = [one.work for one in DATA], np.array([one.seconds for one in DATA])
    whole = fit(works, list(seconds))
    seconds[40] *= 2
    moved = fit(works, list(seconds), start=whole.parameters)
    for name in ("tau_s", "e_flops", "e_weights", "e_cache", "e_scores"):
        shift = abs(np.log(getattr(moved.parameters, name) / getattr(whole.parameters, name)))
        assert shift < 2 * whole.sd_ln[name], name


def test_the_kept_parameters_are_those_of_a_new_fit() -> None:
    """Within a thousandth, and both files have the same; the hashes are of the files that are here."""
    whole = validate.fitted(DATA)
    for kind in ("hf", "deepspeed"):
        physics = read_physics(kind, "gpu")
        assert physics is not None
        for name, spread in physics.sd_ln.items():
            assert getattr(physics.parameters, name) == pytest.approx(
                getattr(whole.parameters, name), rel=1e-3
            )
            assert spread == pytest.approx(whole.sd_ln[name], rel=1e-2)
        kept = yaml.safe_load((FOLDER / f"{kind}_gpu.yaml").read_text())
        assert kept["fitted_from"] == [files.file_of(PUBLISHED, 138)]
    assert read_physics("hf_tp", "gpu") == read_physics("deepspeed", "gpu")
    assert read_physics("vllm", "gpu") is None


def test_what_is_kept_of_other_sources() -> None:
    """76 points of six set-ups, each with its source, its commit and its conditions."""
    others = elsewhere()
    assert len(others) == 76
    assert len(validate.setups(others)) == 6
    assert not {one.case.id for one in others} & {one.case.id for one in DATA}
    for row in yaml.safe_load((FOLDER / "hf_gpu.yaml").read_text())["validated_on"]:
        assert row["url"].startswith("https://github.com/")
        assert row["commit"]
        assert row["conditions"]
    with pytest.raises(InputError, match=r"hf\.csv:2: is no point"):
        elsewhere(_broken())


def _broken() -> Path:
    import tempfile

    folder = Path(tempfile.mkdtemp())
    header = (ELSEWHERE / "hf.csv").read_text().splitlines()[0]
    (folder / "hf.csv").write_text(f"{header}\n{','.join(['x'] * len(header.split(',')))}\n")
    return folder


def test_differences_are_told_by_place() -> None:
    """A thousandth is none; versions may differ; a key that is gone is one."""
    old = {"a": {"b": 1.0, "c": [1.0, 2.0]}, "versions": {"numpy": "1"}, "gone": 1}
    new = {"a": {"b": 1.0009, "c": [1.0, 2.01]}, "versions": {"numpy": "2"}}
    assert files.differences(old, new) == ["a.c[1]: 2.0 there, 2.01 now", "gone: 1 there, None now"]


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        ({"parameters": {"tau": {}}}, "parameters.tau: unknown key"),
        ({"parameters": {"tau_s": {"value": -1, "sd_ln": 0.1}}}, "tau_s.value: is -1"),
        ({"half_width": {"other batch": "wide"}}, "half_width.other batch: must be a number above zero"),
        ({"more": 1}, "more: unknown key"),
        ({"own_sd_ln": None}, "own_sd_ln: must be a number above zero"),
    ],
)
def test_a_slip_in_a_file_is_named(slip: dict[str, Any], told: str, tmp_path: Path) -> None:
    """By file and line."""
    contents = {**yaml.safe_load((FOLDER / "hf_gpu.yaml").read_text()), **slip}
    (tmp_path / "hf_gpu.yaml").write_text(yaml.safe_dump(contents, sort_keys=False))
    with pytest.raises(InputError, match=r"yamls/physics/hf_gpu\.yaml:[0-9]+: ") as caught:
        read_physics("hf", "gpu", tmp_path)
    assert told in str(caught.value)


def test_arguments_that_are_not_right(capsys: pytest.CaptureFixture[str]) -> None:
    """One line and exit code 4."""
    for arguments in ([], ["fat"], ["fit", "--chek"]):
        assert main(arguments) == 4
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_new_fit_gives_the_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All values of them; where one moved, it is named and the exit code is 1. It is fitted once for both."""
    result, text = files.work_out(published(), elsewhere()), processors.text_of(processors.points())
    monkeypatch.setattr(files, "work_out", lambda *_: result)
    monkeypatch.setattr(processors, "text_of", lambda _: text)
    assert main(["fit", "--check"]) == 0
    assert "are what a new fit gives" in capsys.readouterr().out
    for file in FOLDER.glob("*.yaml"):
        text = file.read_text()
        contents = yaml.safe_load(text)
        contents["parameters"]["tau_s"]["value"] *= 1.01
        (tmp_path / file.name).write_text(yaml.safe_dump(contents, sort_keys=False))
    assert main(["fit", "--check", "--folder", str(tmp_path)]) == 1
    assert "hf_gpu.yaml: parameters.tau_s.value: " in capsys.readouterr().err


def test_the_norms_and_the_priors_are_of_known_parameters() -> None:
    """Each fitted parameter has a unit and a meaning."""
    assert set(files.WHAT) == {*PRIORS, *fitting.CPU_PRIORS}
    assert isinstance(read_physics("hf", "gpu"), Physics)
    assert replace(Parameters(), tau_s=1.0).tau_s == 1.0
