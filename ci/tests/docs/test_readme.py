"""The READMEs' commands, each run in a copy of the project, and their figures, held to their histories."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ci.docs.definitions import PART, README, table
from ci.tests.conftest import ROOT
from ci.tests.records import recorded
from ci.tests.warm import Warm, stand_in
from fixtures.core.base.text import significant
from fixtures.core.fields import defined
from fixtures.core.result.record import Record
from fixtures.core.tables import other_table, results_table

# The project's own first: its commands make what those of the folders' READMEs build on.
SOURCES = [
    ROOT / "README.md",
    *(f for top in ("ci", "fixtures", "yamls") for f in (ROOT / top).rglob("README.md")),
]
READMES = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES)
COMMANDS = list(
    dict.fromkeys(
        command
        for block in re.findall(r"^```sh\n(.*?)^```", READMES, re.M | re.S)
        for command in block.splitlines()
    )
)
FILES = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", READMES, re.M | re.S)
ENVIRONMENT = ROOT / ".venv"
# What is said in a command itself comes later, and wins: ranks start for the commands that ask for them.
# The models are small: no case is left out, however busy the machine is.
QUICK = "--rounds=1 --warmup-rounds=0 --minutes=0 -k 'not 2xcpu'"
CONFIG = {
    "model_type": "llama", "vocab_size": 128, "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128,
}  # fmt: skip

# By hand, of two layers of width 96 and 512 tokens: embeddings, layers, the last norm.
SMALL = {
    "mpt125m": 512 * 96 + 2 * (12 * 96**2 + 2 * 96) + 96,
    "llama125m": 2 * 512 * 96 + 2 * (4 * 96**2 + 3 * 96 * 256 + 2 * 96) + 96,
    "falcon125m": 512 * 96 + 2 * (96 * (96 + 2 * 8) + 96**2 + 8 * 96**2 + 2 * 96) + 2 * 96,
    "qwen3_0_6b": 512 * 96 + 2 * (96 * (16 + 8 + 8 + 16) * 128 + 3 * 96 * 256 + 2 * 96 + 2 * 128) + 96,
}

# By a real Python: each way to start is gone through as a user does, and `overhead` compares starts.
REAL = (
    'ci/bench -k "mpt125m and b1-" --rounds 3',
    ".venv/bin/pytest benchmarks --benchmark-only -k mpt125m",
    "ci/bench ci/overhead -k help",
    "ci/test",
)

needs_environment = pytest.mark.skipif(
    not (ENVIRONMENT / "stamp").exists(), reason="the commands need the environment that ci/test makes"
)


def shrink(file: Path, parameters: int) -> None:
    """Leave a model of the library two layers, a width of 96, its heads, and 512 tokens."""
    text = file.read_text(encoding="utf-8")
    layers, width, kept = (
        int(re.findall(rf"^ *(?:{key}): (\d+)", text, re.M)[0])
        for key in ("num_hidden_layers|n_layers", "hidden_size|d_model", "kv_values_per_token")
    )
    narrower = 1 if "  head_dim: " in text else width // 96
    keys = {
        r"  (?:num_hidden|n)_layers": 2,
        r"  (?:hidden_size|d_model)": 96,
        r"  intermediate_size": 256,
        r"  vocab_size": 512,
        r"parameters": parameters,
        r"kv_values_per_token": kept // (layers // 2 * narrower),
    }
    for key, value in keys.items():
        text = re.sub(rf"^({key}): \d+", rf"\g<1>: {value}", text, flags=re.M)
    file.write_text(text, encoding="utf-8")


def make_environment(venv: Path) -> None:
    """This one, by links; its Python and the programs that it runs start warm."""
    (venv / "bin").mkdir(parents=True)
    for path in [*ENVIRONMENT.iterdir(), *(ENVIRONMENT / "bin").iterdir()]:
        if path.name not in ("bin", "python", "pytest", "torchrun"):
            (venv / path.relative_to(ENVIRONMENT)).symlink_to(path)
    python = stand_in(venv / "bin" / "python")
    for name in ("pytest", "torchrun"):
        _, rest = (ENVIRONMENT / "bin" / name).read_text(encoding="utf-8").split("\n", 1)
        (venv / "bin" / name).write_text(f"#!{python}\n{rest}", encoding="utf-8")
        (venv / "bin" / name).chmod(0o755)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a new user has it, with this one's environment, the READMEs' files and a checkpoint."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("readme") / "project"
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", ".*_cache", ".benchmarks", ".hypothesis", "__pycache__"
    )
    shutil.copytree(ROOT, folder, ignore=ignored)
    make_environment(folder / ".venv")
    for name, text in FILES:
        (folder / name).write_text(text, encoding="utf-8")
    ranks = folder / "yamls" / "suites" / "ranks.yaml"
    two, one = (f"[{models}]\n    engines: [deepspeed]" for models in ("mpt125m, llama125m", "mpt125m"))
    text = ranks.read_text(encoding="utf-8")
    assert two in text
    ranks.write_text(text.replace(two, one), encoding="utf-8")  # the ranks of each model start anew
    for name, parameters in SMALL.items():
        shrink(folder / "yamls" / "models" / f"{name}.yaml", parameters)
    keys: dict[str, Any] = dict(CONFIG)
    config = AutoConfig.for_model(keys.pop("model_type"), **keys)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "checkpoint")
    return folder


def test_there_are_commands_and_files() -> None:
    """What the tests below go through is not empty."""
    assert len(COMMANDS) > 10
    assert [name for name, _ in FILES] == ["mine.yaml", "foundry.yaml"]


@needs_environment
@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(command: str, copy: Path, warm: Warm) -> None:
    """With fewer rounds, and the tests' own command without running them within themselves."""
    told, expected = command, 0
    if command == "ci/test":
        told = "ci/test --collect-only -q ci/tests/core/spec/test_case.py"
    if command.startswith("ci/gpu"):  # gone through on a CPU in test_gpu.py
        expected = 3
    if "--gate" in command or "gate paired" in command:  # of one round, or one pair: it cannot judge
        expected = 2
    # the copy's small models are none that parameters were fitted to
    folder = ROOT if command.endswith("ci.physics fit --check") else copy
    starts = {} if command in REAL else warm.environment
    env = {**os.environ, **starts, "PYTEST_ADDOPTS": QUICK, "PYTHON": sys.executable}
    done = subprocess.run(told, shell=True, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == expected, done.stdout + done.stderr
    if "--plan" in told:
        assert re.search(r"^expected: .* for [1-9]\d* of", done.stdout, re.M)
    elif "bench" in told and "--collect-only" not in told and "overhead" not in told:
        assert re.search(r"history: (\.benchmarks/|run\.json)", done.stdout)
        # What is resumed may have been measured already, by a command above that its minutes ended.
        ends = "passed|skipped" if "--resume" in told else "passed"
        assert re.search(rf"\b[1-9]\d* ({ends})", done.stdout)
        assert ("resumed from" in done.stdout or "nothing to resume" in done.stdout) == ("--resume" in told)


def test_every_link_to_a_file_leads_to_one() -> None:
    """Of each README, from its own folder."""
    links = [
        (source, link)
        for source in SOURCES
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", source.read_text(encoding="utf-8"))
    ]
    assert len(links) > 3
    assert [str(source) for source, link in links if not (source.parent / link).exists()] == []


def stored(name: str) -> list[dict[str, Any]]:
    """The benchmarks of the histories of that name in ci/histories, the oldest first."""
    files = sorted((ROOT / "ci" / "histories" / "1xcpu").glob(f"{name}_*.json"))
    return [bench for file in files for bench in json.loads(file.read_text(encoding="utf-8"))["benchmarks"]]


def as_read(records: list[dict[str, Any]]) -> list[Record]:
    """The records, decoded."""
    return [recorded(**one) for one in records]


def shown(lines: list[str]) -> str:
    """The text of a table, which is not empty."""
    assert len(lines) > 3
    return "\n".join(lines)


def test_the_table_is_that_of_the_history() -> None:
    """Every row of the table, digit by digit; the project's README has those of one model on one device."""
    records = [bench["extra_info"] for bench in stored("default")]
    assert len(records) == 24
    assert shown(results_table(as_read(records))) in READMES
    few = [one for one in as_read(records) if one.case.model.name == "mpt125m" and one.case.devices == 1]
    assert shown(results_table(few)) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_is_read_in_a_minute() -> None:
    """Details stand beside what they are about."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 165
    assert "ci/bench" in lines[:15]


def test_the_table_of_prefill_and_decode_is_that_of_its_history() -> None:
    """And every case of several output lengths has its second way."""
    records = [bench["extra_info"] for bench in stored("latency")]
    assert len(records) == 9
    assert all(record["split"]["fit"] for record in records)
    assert shown(other_table("split", as_read(records))) in READMES


def test_the_table_of_bounds_is_that_of_its_history() -> None:
    """Each case has one, and none is beyond it."""
    records = [bench["extra_info"] for bench in stored("latency")]
    assert len(records) == 9
    assert all(0 < record["limits"]["of_bound"] < 1 for record in records)
    assert shown(other_table("limits", as_read(records))) in READMES


def test_the_table_of_a_cpu_that_emulates_bf16_is_that_of_its_histories() -> None:
    """The peak is that of fp32 for both engines, and neither goes beyond it."""
    records = [bench["extra_info"] for bench in stored("avx2")]
    assert len(records) == 12
    shares = [record["limits"][name] for record in records for name in ("of_bound", "mfu", "mbu")]
    assert max(one for one in shares if one is not None) < 1
    rates = [record["limits"]["peaks"]["by_dtype"]["float32"] for record in records]
    assert [record["limits"]["peaks"]["measured"]["flops_per_s"] for record in records] == rates
    assert shown(other_table("limits", as_read(records))) in READMES


def test_the_table_of_several_devices_is_that_of_the_history() -> None:
    """Both engines are in it, and each has its speed-up."""
    records = [bench["extra_info"] for bench in stored("default")]
    split = [record for record in records if record["case"]["devices"] > 1]
    assert {record["case"]["engine"]["kind"] for record in split} == {"deepspeed", "hf_tp"}
    assert all(record["parallel"]["speed_up"] for record in split)
    assert shown(other_table("parallel", as_read(records))) in READMES


def test_the_ratios_are_those_of_the_history() -> None:
    """Every ratio of the harness, as its history has it."""
    every = [ratio for bench in stored("harness") for ratio in bench["extra_info"]["ratios"]]
    ratios = {ratio["what"]: ratio for ratio in every}  # of one that was measured again, the last
    assert len(ratios) == 22
    for ratio in ratios.values():
        assert f"| {ratio['what']} | {significant(ratio['value'])} |" in READMES


def test_the_table_of_metrics_is_that_of_their_docstrings() -> None:
    """As `python -m ci.docs.definitions` writes it."""
    text = README.read_text(encoding="utf-8")
    assert PART.within(text, table()) == text
    assert all(f"| {name} |" in text for name in defined())
