"""An error names the option or the line that the user wrote, and what else it takes two for."""

from __future__ import annotations

import json

import pytest

from ci.tests.core.base.test_bad_input import ends_with_one_line
from ci.tests.fake_engine import FakeEngine

pytest_plugins = ["pytester"]
SHORT = "yamls/sweeps/throughput_short.yaml"  # of the default suite: input 128 in line 3, output 32 in line 4
MINE = """\
models: [mpt125m]
hardware: [1xany]
sweeps:
  - batch_sizes: [1]
    input_lengths:
      - 8
      - 2040
    output_lengths: [2, 4]
"""
FOUNDRY = """\
batch_sizes: [1]
input_lengths: [2040]
output_lengths: [4]
model:
  name: mpt_causal_lm
  d_model: 64
  n_heads: 2
  n_layers: 1
  vocab_size: 64
  max_seq_len: 2048
"""


@pytest.fixture
def files(project: pytest.Pytester) -> pytest.Pytester:
    """A checkpoint's folder that takes 32 tokens, a suite and a file of llm-foundry's that both take 2048."""
    folder = project.mkdir("tiny")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_positions": 32}))
    (project.path / "mine.yaml").write_text(MINE)
    (project.path / "foundry.yaml").write_text(FOUNDRY)
    return project


IN, OUT = f"({SHORT}:3: input_lengths)", f"({SHORT}:4: output_lengths)"
TINY = ", over the context of tiny (32"
BY_MODEL = f"{TINY}, by --model tiny: n_positions); "


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--model", "tiny", "--set", "input_lengths=[100]"],
            f"--set: input_lengths: input 100 + output 32 {OUT} is 132 tokens{BY_MODEL}",
        ),
        (
            ["--model", "tiny", "--set", "output_lengths=[1,100]"],
            f"--set: output_lengths: input 128 {IN} + output 100 is 228 tokens{BY_MODEL}",
        ),
        (
            ["--model", "tiny", "--set", "input_lengths=[30]", "--set", "output_lengths=[3]"],
            f"--set: input_lengths: input 30 + output 3 is 33 tokens{BY_MODEL}",
        ),
        (
            ["--model", "tiny"],
            f"--model tiny: n_positions: input 128 {IN} + output 32 {OUT} "
            f"is 160 tokens{TINY}); set shorter lengths by --set",
        ),
        (
            ["--model", "tiny", "--suite", "mine.yaml"],
            f"mine.yaml:7: sweeps.input_lengths: input 2040 + output 4 is 2044 tokens{BY_MODEL}",
        ),
        (
            ["--suite", "mine.yaml", "--set", "output_lengths=[9,2]"],
            "--set: output_lengths: input 2040 (mine.yaml:7: sweeps.input_lengths) + output 9 is 2049 "
            "tokens, over the context of mpt125m (2048); shorten the lengths",
        ),
        (
            ["--suite", "mine.yaml", "--set", "models.mpt125m.architecture.max_seq_len=64"],
            "mine.yaml:7: sweeps.input_lengths: input 2040 + output 4 is 2044 tokens, over the context of "
            "mpt125m_max_seq_len_64 (64, by --set: models.mpt125m.architecture.max_seq_len); shorten",
        ),
        (
            ["--suite", "foundry.yaml", "--set", "output_lengths=[9]"],
            "--set: output_lengths: input 2040 (foundry.yaml:2: input_lengths) + output 9 is 2049 tokens, ",
        ),
        (
            ["--suite", "foundry.yaml", "--set", "model.max_seq_len=64"],
            "foundry.yaml:2: input_lengths: input 2040 + output 4 is 2044 tokens, over the context of ",
        ),
        (
            ["--model", "tiny", "--set", "input_lengths=[8]", "--set", "output_lengths=[2]",
             "--set", "batch_sizes=[1,max]"],
            "--set: batch_sizes: batch size 'max' cannot be predicted for tiny on cpu",
        ),
        (
            ["--set", "engines=[{name: hf, dtype: float32}, hf]"],
            "--set: engines: two different definitions are named 'hf'",
        ),
        (["--model", "nowhere/at/all"], "--model nowhere/at/all: no such folder"),
        (["--model", "mine.yaml/x/y"], "--model mine.yaml/x/y: no such folder"),
        (["--model", " "], "--model is empty"),
        (["--resume-from", ""], "--resume-from is empty"),
    ],
)  # fmt: skip
def test_what_the_user_wrote_is_named(
    files: pytest.Pytester, fake: type[FakeEngine], arguments: list[str], expected: str
) -> None:
    """First by option, then by line; a file of the library only where nothing else is to blame."""
    assert ends_with_one_line(files, *arguments).startswith(f"ERROR: {expected}")


def test_a_context_that_foundrys_file_is_given_is_named(files: pytest.Pytester) -> None:
    """By the option that gave it."""
    line = ends_with_one_line(files, "--suite", "foundry.yaml", "--set", "model.max_seq_len=64")
    assert line.endswith("(64, by --set: model.max_seq_len); shorten the lengths")


@pytest.mark.parametrize("minutes", ["nan", "-1", "inf", "soon"])
def test_a_time_that_no_clock_can_be_held_against_is_refused(project: pytest.Pytester, minutes: str) -> None:
    """A limit of nan would never be reached."""
    result = project.runpytest("benchmarks", "--collect-only", f"--minutes={minutes}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--minutes: invalid number of minutes of at least 0 value: '{minutes}'"])
