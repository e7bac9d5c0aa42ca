"""The time of an operator on this machine, from tiny models in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ci.physics import processors, validate
from ci.physics.__main__ import main
from ci.physics.validate import Errors
from ci.tests.conftest import ROOT
from ci.tests.warm import Warm
from fixtures.core.base.errors import InputError
from fixtures.core.estimate.host_time import HostTime, read_host_time
from fixtures.core.estimate.machine import never_seen, with_host
from fixtures.core.estimate.physics import read_physics
from fixtures.host import machine

MEASURED = {"tau_s": 6e-6, "sd_ln": 0.2, "families": {"llama": 6e-6}, "device": "cpu"}
HERE = {"device": "cpu", "reported_name": "A", "processor": "A", "cores": 2}


def ends(monkeypatch: pytest.MonkeyPatch, code: int, out: str, error: str = "") -> None:
    """The measuring process ends so."""

    def run(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert arguments[1:] == ["-m", "fixtures.host.operator_time"]
        return subprocess.CompletedProcess(arguments, code, out, error)

    monkeypatch.setattr(subprocess, "run", run)


def test_what_was_measured_is_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a file that `ci.pick --host` takes; beside what was fitted."""
    ends(monkeypatch, 0, f"a warning\n{json.dumps(MEASURED)}\n")
    file = tmp_path / "deep" / "host.json"
    assert main(["host", "--to", str(file)]) == 0
    assert read_host_time(file, "") == HostTime(6e-6, 0.2)
    text = capsys.readouterr().out
    assert "physics: 6.0 us an operator on cpu (llama 6.0)" in text
    assert "hf_gpu: 9.0 us fitted; this host x 0.67" in text


def test_a_process_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last, with exit code 4; nothing is written."""
    ends(monkeypatch, 1, "", "Traceback\nImportError: no torch\n")
    assert main(["host", "--to", str(tmp_path / "host.json")]) == 4
    assert capsys.readouterr().err == "physics: the host's time was not measured: ImportError: no torch\n"
    assert not (tmp_path / "host.json").exists()


@pytest.mark.slow
def test_this_machine_dispatches_an_operator_in_microseconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: Warm
) -> None:
    """Between 1 and 100 of its own time, whatever else runs."""
    monkeypatch.setattr(sys, "executable", warm.python)
    for name, value in warm.environment.items():
        monkeypatch.setenv(name, value)
    assert main(["host", "--to", str(tmp_path / "host.json")]) == 0
    found = read_host_time(tmp_path / "host.json", "")
    assert 1e-6 < found.tau_s < 1e-4
    assert found.sd_ln < 1.5
    assert found.is_of(machine.report())
    assert not found.is_of({**machine.report(), "cores": 999})


def test_a_file_says_whose_time_it_is(tmp_path: Path) -> None:
    """The same processor with as many cores, and for a GPU its name; without a machine it is nobody's."""
    file = tmp_path / "host.json"
    file.write_text(json.dumps({**MEASURED, "machine": HERE}))
    found = read_host_time(file, "here")
    assert found.is_of({**HERE, "node": "other", "memory_bytes": 3})
    for key in HERE:
        assert not found.is_of({**HERE, key: "other"})
    file.write_text(json.dumps(MEASURED))
    assert not read_host_time(file, "here").is_of({})
    for text in ("{", "[]", "3", '{"tau_s": 1}', '{"tau_s": -1, "sd_ln": 1}', '{"tau_s": true, "sd_ln": 1}'):
        file.write_text(text)
        with pytest.raises(InputError, match=r"^here: "):
            read_host_time(file, "here")


def test_what_a_measured_host_changes_is_what_the_readme_says() -> None:
    """Of the 8 committed cases of this processor: median / p90 / worst in %, without and with its host."""
    physics = read_physics("hf", "cpu")
    assert physics is not None
    (rows,) = (rows for name, rows in processors.points().items() if "AVX2" in name)
    host = read_host_time(ROOT / "ci" / "physics" / "host_amd_epyc_avx2.json", "")
    before = never_seen(physics)
    lines = []
    for told, machine_ in (("no", before), ("yes", with_host(before, physics, host))):
        v = machine_.parameters(physics.parameters)
        errors = Errors.of([float(one.work.seconds(v)) for one in rows], validate.seconds(rows))
        shown = " / ".join(f"{100 * value:.1f}" for value in (errors.median, errors.p90, errors.worst))
        lines.append(f"| {told} | {shown} |")
    readme = (ROOT / "ci" / "physics" / "README.md").read_text()
    assert "\n".join(lines) in readme
