"""The run files for the MosaicML platform, read offline by the platform's own client."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("mcli", reason="the platform's client is in the locked environment, not on every host")
from mcli import FinalRunConfig, RunConfig

from fixtures.core.base.yamlfile import parse_yaml
from fixtures.core.cost.sweep import expand
from fixtures.core.spec.devices.machine import parse_machine
from fixtures.core.spec.suite import read_suite

ROOT = Path(__file__).resolve().parents[3]
RUN_FILE = ROOT / "yamls" / "mcli" / "benchmark.yaml"
SEVERAL = RUN_FILE.with_name("several_gpus.yaml")
# The client passes on whatever an integration holds, so these are from the platform's manual.
GIT_KEYS = {"gitRepo", "gitBranch", "gitCommit", "path", "sshClone", "pipInstall", "host"}

Run = dict[str, Any]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no check depend on the platform, and least of all start a run there."""

    def refuse(*_: object) -> None:
        raise AssertionError("the client wants to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)


class Complaint(Exception):
    """Something the client only warned of."""


class _Complain(logging.Handler):
    """A log handler that makes an error out of every record."""

    def emit(self, record: logging.LogRecord) -> None:
        raise Complaint(record.getMessage())


def request(path: Path) -> Run:
    """Return what the client would send to the platform for a run file; warnings are errors."""
    logger = logging.getLogger("mcli")
    handler = _Complain(logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            final = FinalRunConfig.finalize_config(RunConfig.from_file(path))
            sent: Run = final.to_create_run_api_input()["runInput"]
    finally:
        logger.removeHandler(handler)
    for integration in sent["integrations"]:
        unknown = set(integration["params"]) - GIT_KEYS
        if integration["type"] != "git_repo" or unknown:
            raise Complaint(f"unknown integration {integration['type']} {sorted(unknown)}")
    return sent


def test_the_client_takes_the_run_file() -> None:
    """The client understands every key, and the request holds what a run needs."""
    sent = request(RUN_FILE)
    assert sent["runName"] == "llm-inference-benchmarks"
    assert sent["image"].startswith("mosaicml/pytorch:")
    assert sent["compute"] == {"gpus": 1}
    assert sent["parameters"] == {}


def test_several_gpus_and_a_suite_in_the_run_file() -> None:
    """Four GPUs; the suite that comes as `parameters` is one, with cases for 1, 2 and 4 of a node's GPUs."""
    sent = request(SEVERAL)
    assert sent["compute"] == {"gpus": 4}
    assert sent["image"] == request(RUN_FILE)["image"]
    measure = shlex.split(sent["command"].splitlines()[1])
    assert measure == ["ci/bench", "--suite", "/mnt/config/parameters.yaml"]
    text = yaml.safe_dump(sent["parameters"])  # as the platform writes it
    suite = read_suite("parameters", parse_yaml(text, "parameters.yaml"))
    cases = expand(suite, parse_machine("4xa100_80gb")).cases
    assert {case.devices for case in cases} == {1, 2, 4}


def test_the_command_measures_in_the_cloned_repository() -> None:
    """The command goes where the platform clones to and calls a script that is there."""
    sent = request(RUN_FILE)
    (clone,) = [integration["params"] for integration in sent["integrations"]]
    go, measure = [shlex.split(line) for line in sent["command"].splitlines()]
    assert go == ["cd", clone["path"]]
    assert measure == ["ci/bench", "--suite", "hardware"]
    assert os.access(ROOT / measure[0], os.X_OK)


def test_the_image_brings_a_python_that_fits() -> None:
    """The tag of the image names a version of Python that the environment can be made with."""
    tag = request(RUN_FILE)["image"].partition(":")[2]
    assert any(f"python3.{minor}-" in tag for minor in (11, 12, 13))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"gpu_count": 1}, "gpu_count"),
        ({"compute": {"gpus": 1, "gpu_typ": "a100_80gb"}}, "compute.gpu_typ"),
        ({"scheduling": {"max_retires": 1}}, "scheduling.max_retires"),
        ({"cluster": "c1"}, "deprecated"),
        ({"image": None}, "image name must be provided"),
        ({"image": "not an image"}, "not valid"),
        ({"name": "Not A Name"}, "Invalid run name"),
        ({"integrations": [{"git_repo": "a/b"}]}, "integration_type"),
        ({"integrations": [{"integration_type": "git_repo", "repo": "a/b"}]}, "repo"),
    ],
)
def test_a_mistake_in_a_run_file_is_noticed(tmp_path: Path, change: Run, complaint: str) -> None:
    """The check above can fail: each of these mistakes is an error that names it."""
    run = yaml.safe_load(RUN_FILE.read_text(encoding="utf-8"))
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run | change), encoding="utf-8")
    with pytest.raises(Exception, match=complaint) as caught:
        request(path)
    assert not isinstance(caught.value, AssertionError)
