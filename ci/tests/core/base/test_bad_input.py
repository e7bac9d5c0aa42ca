"""Bad input: one line that says where and what would be right, exit code 4, and nothing is loaded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ci.tests.fake_engine import FakeEngine

pytest_plugins = ["pytester"]

SWEEP = {"name": "s", "batch_sizes": [1], "input_lengths": [4], "output_lengths": [2]}
GOOD: dict[str, Any] = {"models": ["mpt125m"], "hardware": ["1xany"], "sweeps": [SWEEP]}


def ends_with_one_line(project: pytest.Pytester, *arguments: str) -> str:
    """Run; the single ERROR line of an end with exit code 4."""
    result = project.runpytest("benchmarks", "--benchmark-only", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str()
    errors = [line for line in result.errlines if line.strip()]
    assert len(errors) == 1, errors
    assert errors[0].startswith("ERROR: ")
    assert "Traceback" not in result.stdout.str()
    assert FakeEngine.log == []
    return errors[0]


def test_two_models_are_not_the_last_of_them(project: pytest.Pytester, fake: type[FakeEngine]) -> None:
    """Measured would be one; in one spelling or the other, and twice the same is the same."""
    line = ends_with_one_line(project, "--model", "mpt125m", "--model=llama125m")
    assert line.startswith("ERROR: --model is given for mpt125m and llama125m; ")
    result = project.runpytest("benchmarks", "--collect-only", "--model=mpt125m", "--model", "mpt125m")
    assert result.ret == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"modelz": ["mpt125m"]}, "did you mean 'models'"),
        ({"sweepz": []}, "did you mean 'sweeps'"),
        ({"models": "mpt125m"}, "models: must be a list, and is text"),
        ({"models": []}, "models: is an empty list"),
        ({"models": ["mtp125m"]}, "did you mean 'mpt125m'"),
        ({"models": ["mpt125m", "mpt125m"]}, "is in this list twice"),
        ({"hardware": ["1xa100"]}, "no device is named 'a100'; did you mean 'a10g'"),
        ({"hardware": ["a100_80gb"]}, "write {n}x{device}"),
        ({"engines": ["sglang"]}, "no engine is named 'sglang'"),
        ({"sweeps": ["throughputs"]}, "did you mean 'throughput'"),
        ({"sweeps": [{**SWEEP, "batch_sizes": [0]}]}, "batch_sizes: is 0; it must be at least 1"),
        ({"sweeps": [{**SWEEP, "input_lengths": [-4]}]}, "input_lengths: is -4"),
        ({"sweeps": [{**SWEEP, "output_lengths": ["ten"]}]}, "a whole number of at least 1, and is text"),
        ({"sweeps": [{**SWEEP, "output_lengths": [2048]}]}, "over the context of mpt125m (2048)"),
        ({"sweeps": [{**SWEEP, "batch_sizes": [2, 2]}]}, "2 is in this list twice"),
        ({"rounds": 0}, "rounds: is 0; it must be at least 1"),
        ({"rounds": True}, "rounds: must be a whole number of at least 1, and is true or false"),
        ({"models": [{"name": "Big Model", "architecture": {"model_type": "x"}}]}, "lower case letters"),
        ({"models": [{"name": "x", "architecture": {}}]}, "the key 'model_type' is missing"),
    ],
)
def test_a_suite_that_is_not_right(
    project: pytest.Pytester, fake: type[FakeEngine], change: dict[str, Any], expected: str
) -> None:
    """The line names the file, its line, the key, and what would be right."""
    (project.path / "mine.yaml").write_text(json.dumps({**GOOD, **change}, indent=1))
    line = ends_with_one_line(project, "--suite", "mine.yaml")
    assert line.startswith("ERROR: mine.yaml:")
    assert expected in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", "mine.yaml:1: must be a mapping"),
        ("", "mine.yaml: is empty"),
        ("models: [mpt125m\nrounds: 3\n", "is not valid yaml"),
        ("rounds: 3\nrounds: 4\n", "mine.yaml:2: rounds: is set twice"),
    ],
)
def test_a_file_that_is_no_suite(
    project: pytest.Pytester, fake: type[FakeEngine], text: str, expected: str
) -> None:
    """Not a mapping, nothing at all, no yaml, a key twice."""
    (project.path / "mine.yaml").write_text(text)
    assert expected in ends_with_one_line(project, "--suite", "mine.yaml")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--suite", "defualt"], "--suite defualt: no such file, and no suite has that name; did you mean"),
        (["--set", "batch_sizes"], "--set batch_sizes: write KEY=VALUE"),
        (["--set", "batchsizes=[1]"], "did you mean 'batch_sizes'"),
        (["--set", "batch_sizes=[]"], "--set: batch_sizes: is an empty list"),
        (["--set", "sweeps.none.batch_sizes=[1]"], "this suite uses no sweep 'none'"),
        (["--hardware", "four_a100"], "write {n}x{device}"),
        (["--hardware", "4xa100_80g"], "did you mean 'a100_80gb'"),
        (["--model", "./nowhere"], "./nowhere: no such folder"),
        (["--model", "empty"], "empty: has no config.json"),
        (["--model", "odd"], "transformers has no model_type 'odd'; it needs its own code"),
        (["--model", "broken"], "its config.json cannot be read"),
        (["--model", "mpt7b", "--weights", "checkpoint"], "give --model the folder or hub id"),
        (["--weights", "checkpoint"], "this suite has no checkpoint; give one by --model"),
    ],
)
def test_options_that_are_not_right(
    project: pytest.Pytester, fake: type[FakeEngine], arguments: list[str], expected: str
) -> None:
    """The line names the option."""
    for name, text in {"odd": '{"model_type": "odd", "auto_map": {}}', "broken": "{"}.items():
        project.mkdir(name).joinpath("config.json").write_text(text)
    project.mkdir("empty")
    assert expected in ends_with_one_line(project, *arguments)


def test_a_hub_that_cannot_be_reached(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub id is looked up before anything loads; without a network that is said in one line."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    line = ends_with_one_line(project, "--model", "nobody/no-model-of-this-name")
    assert "its config.json cannot be fetched from the hub" in line
    assert "give a local folder" in line


@pytest.mark.parametrize("option", [["--rounds", "0"], ["--rounds", "x"], ["--warmup-rounds", "-1"]])
def test_numbers_of_rounds(project: pytest.Pytester, fake: type[FakeEngine], option: list[str]) -> None:
    """pytest's own parser says it, with the same exit code."""
    result = project.runpytest("benchmarks", "--benchmark-only", *option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*whole number of at least*"])


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_xdist_is_refused(project: pytest.Pytester) -> None:
    """Cases beside each other would time each other."""
    done = project.runpytest_subprocess("benchmarks", "--benchmark-only", "-n", "2")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: -n: cases must run one at a time*"])
