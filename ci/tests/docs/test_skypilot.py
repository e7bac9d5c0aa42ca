"""The task for SkyPilot, by the fields of its documentation, and by its own parser where that is there."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TASK = ROOT / "yamls" / "mcli" / "skypilot.yaml"

# What docs.skypilot.co/en/latest/reference/yaml-spec.html says of the fields that a task here may have.
TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": TEXT,
        "workdir": TEXT,
        "num_nodes": {"type": "integer", "minimum": 1},
        "resources": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "infra": TEXT,
                "accelerators": {"type": "string", "pattern": "^[A-Za-z0-9-]+(:[1-9][0-9]*)?$"},
                "disk_size": {"type": "integer", "minimum": 1},
                "use_spot": {"type": "boolean"},
                "autostop": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "idle_minutes": {"type": "integer", "minimum": 0},
                        "down": {"type": "boolean"},
                    },
                },
            },
        },
        "envs": {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}},
        "setup": TEXT,
        "run": TEXT,
    },
}


def task() -> dict[str, Any]:
    """The task, as yaml has it."""
    found: dict[str, Any] = yaml.safe_load(TASK.read_text(encoding="utf-8"))
    return found


def test_the_task_has_the_fields_of_the_documentation() -> None:
    """Several GPUs, and a suite that is there."""
    jsonschema.validate(task(), SCHEMA)
    assert task()["resources"]["accelerators"] == "A100-80GB:4"
    assert (ROOT / "yamls" / "suites" / f"{task()['envs']['SUITE']}.yaml").is_file()


def test_the_commands_are_those_of_the_checkout() -> None:
    """Planned first, so that an error of the suite shows before the node measures."""
    assert shlex.split(task()["setup"]) == ["ci/bench", "--suite", "$SUITE", "--plan"]
    assert shlex.split(task()["run"]) == ["ci/bench", "--suite", "$SUITE", "--resume"]
    assert os.access(ROOT / "ci" / "bench", os.X_OK)


@pytest.mark.parametrize(
    "change",
    [
        {"setups": "true"},
        {"resources": {"accelerator": "A100:4"}},
        {"resources": {"accelerators": "A100-80GB: 4"}},
        {"num_nodes": 0},
    ],
)
def test_a_mistake_is_noticed(change: dict[str, Any]) -> None:
    """The check above can fail."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(task() | change, SCHEMA)


def test_skypilot_takes_the_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its own parser, where it is installed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
    sky = pytest.importorskip("sky", reason="SkyPilot is no part of the environment: it brings 95 packages")
    read = sky.Task.from_yaml(str(TASK))
    (resources,) = read.resources
    assert resources.accelerators == {"A100-80GB": 4}
    assert read.envs == {"SUITE": "hardware"}
