"""The command: exit codes, outputs, bad input as one line, a session that judges itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ci.gate.__main__ import main
from ci.tests import many_histories
from ci.tests.conftest import ROOT, write_suite
from ci.tests.fake_engine import FakeEngine
from ci.tests.gate.curated import (
    REAL_TEXT,
    delete,
    histories,
    judged,
    leave_out,
    of_record,
    rename,
    run,
    run_out,
)
from ci.tests.gate.test_accept import OWN_FOLDER
from fixtures.core.store.history import History

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 0),
        ({"change": leave_out}, 2),
        ({"factor": 1.08}, 1),
        ({"change": run_out}, 1),
        ({"change": delete}, 2),
        ({"change": rename}, 2),
    ],
)
def test_exit_codes_and_outputs(
    tmp_path: Path, change: dict[str, Any], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the command, with all it writes; the same verdicts in each."""
    histories(tmp_path / "stored", *(f"r{k}" for k in range(10)))
    new = [str(run(tmp_path, f"new{k}", **change)) for k in range(2)]
    files = {name: tmp_path / f"out.{name}" for name in ("markdown", "json", "junit")}
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    assert main([*new, "--baseline", str(tmp_path / "stored"), *options]) == code
    said = capsys.readouterr().out
    values = json.loads(files["json"].read_text())
    assert values["exit_code"] == code
    assert values["summary"] in said
    found = {one["case_id"]: one["word"] for one in values["verdicts"]}
    suite = ElementTree.parse(files["junit"]).getroot()
    assert {case.get("name") for case in suite} == set(found)
    bad = {case.get("name") for case in suite if len(case)}
    assert bad == {name for name, word in found.items() if word not in ("PASS", "NEW", "IMPROVED")}
    rows = [line for line in files["markdown"].read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == len(found) + 2


def test_nothing_compared_is_not_green(tmp_path: Path) -> None:
    """A baseline of other cases, or no case that was chosen."""
    histories(tmp_path / "stored", "a", "b", "c")
    new = str(run(tmp_path, "new"))
    assert main([new, "--baseline", str(tmp_path / "stored"), "-k", "no such case"]) == 2


def test_only_the_chosen_cases_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of others are neither missing nor counted."""
    histories(tmp_path / "stored", *(f"r{k}" for k in range(10)))
    new = [str(run(tmp_path, f"new{k}", change=delete)) for k in range(2)]
    assert main([*new, "--baseline", str(tmp_path / "stored"), "-k", "llama125m"]) == 0
    assert "gate: pass (10 PASS)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.json"], "none.json: no such file or folder"),
        (["torn.json"], "torn.json: not a history"),
        (["empty"], "empty: no history in this folder"),
        (["other.json"], "other.json: has no case of this suite"),
        (["new.json", "--threshold", "x"], "argument --threshold: invalid fraction value: 'x'"),
        (["accept", "new.json", "--allow", "durty"], "--allow durty: is not a reason to refuse a run; did "
         "you mean 'dirty'?"),
        ([], "the following arguments are required: run"),
        (["new.json", "--baseline", "new.json"], "has only the run that is judged"),
        (["new.json", "--json", "none/x.json", "--baseline", "old.json"], "No such file"),
        (["new.json", "--json", "old.json", "--baseline", "old.json"], "--json old.json: is a file that"),
        (["new.json", "--cases", "latin", "--baseline", "old.json"], "--cases latin: not UTF-8 text"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    """Exit code 4."""
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "old")
    run(tmp_path, "new")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text(json.dumps({"machine_info": {}, "benchmarks": [{"extra_info": {}}]}))
    assert main(words) == 4
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("other", ["run.json", "link.json", "stored/b.json", "ids", "out"])
@pytest.mark.parametrize("has_baseline", [True, False])
def test_an_output_that_names_an_input_is_refused(
    tmp_path: Path, other: str, has_baseline: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it is read as, through a link too, or another output; nothing is written."""
    (tmp_path / "stored").mkdir()
    for name in ("run", "stored/b"):
        run(tmp_path, name)
    (tmp_path / "link.json").symlink_to("run.json")
    (tmp_path / "ids").write_text("x\n")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    words = ["run.json", "--cases", "ids", "--json", "out", "--junit", other]
    stored = ["--baseline", "stored"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr("ci.gate.__main__.BASELINES", tmp_path / "none")
        if has_baseline or other.startswith("stored"):
            words += stored
        assert main(words) == 4
    kind = "the file of --json" if other == "out" else "a file that this command reads"
    assert capsys.readouterr().err == f"ERROR: --junit {other}: is {kind}; name another file\n"
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_hostile_names_stay_text(tmp_path: Path, baseline: list[History]) -> None:
    """In Markdown and JUnit."""
    from ci.gate.output import junit, markdown

    name = '<script>|[x](y)*`"&'
    found = judged(tmp_path, baseline, change=of_record("case", "id", value=name))
    cell = next(line for line in markdown(found).splitlines() if "script" in line)
    assert "<script>" not in cell
    assert cell.count(" | ") == 5
    assert any(case.get("name") == name for case in ElementTree.fromstring(junit(found)))


def test_the_command_imports_neither_torch_nor_pytest(tmp_path: Path) -> None:
    """It starts in a moment."""
    new = run(tmp_path, "new")
    code = (
        "import sys; from ci.gate.__main__ import main; "
        f"main([{str(new)!r}, '--baseline', {str(new)!r}]); "
        "sys.exit(sorted({'torch', 'pytest', 'transformers'} & set(sys.modules)) != [])"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def on_a_cpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With two cores and AVX2."""
    monkeypatch.setattr("fixtures.host.machine._processor", lambda: (f"{name}, AVX2)", "AVX2"))
    monkeypatch.setattr("fixtures.host.machine.affinity", lambda: 2)


def test_a_session_judges_itself(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own cases alone; without a baseline for them it cannot, and the exit code says so."""
    on_a_cpu(monkeypatch, "AMD EPYC (family 25, model 1")  # ci/baselines has one
    suite = write_suite(project.path, "m", batch_sizes=[1, 2])
    words = ("benchmarks", "--benchmark-only", "--suite", suite, "--gate", "--gate-files", "out/files")
    result = project.runpytest(*words)
    assert result.ret == 2
    found = json.loads((project.path / "out/files/gate.json").read_text())
    assert [one["word"] for one in found["verdicts"]] == ["NEW", "NEW"]
    assert "2 NEW" in (project.path / "out/files/gate.md").read_text()
    assert ElementTree.parse(project.path / "out/files/gate.xml").getroot().get("tests") == "2"
    result.stdout.fnmatch_lines(["m-1xcpu-hf-b1-in4-out2*NEW*", "gate: cannot be judged (2 NEW)"])
    assert "MISSING" not in result.stdout.str()
    result = project.runpytest("benchmarks", "--suite", suite, "--benchmark-disable", "--gate")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["gate: cannot be judged, no history was saved"])
    on_a_cpu(monkeypatch, "EPYC (of no baseline")
    result = project.runpytest(*words)
    assert result.ret == 2
    result.stdout.fnmatch_lines(["gate: *no baseline of this machine (1xcpu, EPYC (of no baseline, AVX2), *"])
    result.stdout.no_fnmatch_line("gate: cannot be judged (*")


@pytest.mark.slow
def test_five_thousand_cases_are_judged_by_twenty_runs(tmp_path: Path) -> None:
    """In a moment, of which `harness` has the figure; here there is a generous cap."""
    many_histories.accepted(tmp_path)
    folder = tmp_path / "baselines"
    first = folder / OWN_FOLDER / "r0.json"
    assert first.stat().st_size < (tmp_path / "old.json").stat().st_size / 3
    command = [
        sys.executable,
        "-m",
        "ci.gate",
        str(tmp_path / "new.json"),
        "--baseline",
        str(tmp_path / "baselines"),
    ]
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 2), done.stderr
    assert "(5000 PASS)" in done.stdout
    assert time.monotonic() - start < 40


HEAD_ALONE = '{"accepted": {"cases": {"a": [0, 1, 1, 1, 1]}},\n"x": 0\n}\n'


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no case": (lambda file: file.write_text('{"benchmarks": [], "machine_info": {}}'), "has no case of"),
    "another tool's": (lambda file: file.write_text('{"version": "0.1", "results": [1]}'), "not a history"),
    "deep": (lambda file: file.write_text("[" * 100_000), "not a history"),
    "not text": (lambda file: file.write_bytes(b"\xff\xfe\x00"), "not a history"),
    "nothing": (lambda file: file.write_text(""), "not a history"),
    "later": (
        lambda file: file.write_text(REAL_TEXT.replace('"record_version": 4', '"record_version": 99')),
        "version 99",
    ),
    "100 MB": (lambda file: file.open("wb").truncate(100 * 2**20), "larger than"),
    "a folder": (lambda file: file.mkdir(), "no history in this folder"),
    "nowhere": (lambda file: file.symlink_to("/nowhere"), "no such file"),
    "a head alone": (lambda file: file.write_text(HEAD_ALONE), "not a history"),
}


@pytest.mark.parametrize(("write", "said"), BAD.values(), ids=BAD)
def test_bad_histories_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Callable[[Path], object], said: str
) -> None:
    """As a run, as a baseline, and to be accepted: exit code 4."""
    good, bad = run(tmp_path, "good"), tmp_path / "bad.json"
    write(bad)
    words = [[str(bad)], ["accept", str(bad)], [str(good), "--baseline", str(bad)]]
    if "no case" in said:  # which a baseline may lack
        words.pop()
    for one in words:
        assert main(one) == 4
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert said in error or "not a history" in error
