"""The gate's verdicts: each kind by its own cause, none of them green that should not be."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from ci.gate import counters
from ci.gate.__main__ import main
from ci.gate.fingerprint import fingerprint
from ci.gate.verdicts import Word, exit_code, judge
from ci.tests import many_histories
from ci.tests.conftest import ROOT, write_suite
from ci.tests.fake_engine import FakeEngine
from fixtures.core.base.errors import InputError
from fixtures.core.store.history import History, read_accepted, read_history
from fixtures.core.store.slim import as_text, slim

pytest_plugins = ["pytester"]

REAL_TEXT = (ROOT / "ci/histories/1xcpu/default_20261124.json").read_text()
REAL = json.loads(REAL_TEXT)
CASE = "mpt125m-1xcpu-hf-b1-in128-out32"
OWN_FOLDER = "1xcpu_amd_epyc_family_25_model_17_avx_512_bf16_2_cores"


def run(
    folder: Path, name: str, factor: float = 1.0, change: Callable[[dict[str, Any]], object] = lambda _: None
) -> Path:
    """The curated run once more, with other seconds: each case's noise is that of its place and the name."""
    values = deepcopy(REAL)
    rng = np.random.default_rng([ord(letter) for letter in name])
    for bench in values["benchmarks"]:
        noise = float(np.exp(rng.normal(0, 0.005)))
        slower = factor if bench["param"] == CASE else 1.0
        bench["stats"]["data"] = [one * noise * slower for one in bench["stats"]["data"]]
    values["datetime"] = f"2026-11-24T00:00:{len(list(folder.glob('*'))):02d}"
    change(values)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(values))
    return file


def histories(folder: Path, *names: str) -> list[History]:
    """Runs in which nothing has changed."""
    folder.mkdir(exist_ok=True)
    return [read_history(run(folder, name)) for name in names]


@pytest.fixture
def baseline(tmp_path: Path) -> list[History]:
    """Ten runs."""
    return histories(tmp_path / "stored", *(f"r{k}" for k in range(10)))


def of(verdicts: Sequence[Any], case_id: str = CASE) -> Any:
    """One case's."""
    return next(one for one in verdicts if one.case_id == case_id)


def judged(tmp_path: Path, baseline: list[History], **changes: Any) -> list[Any]:
    """Two runs of one candidate against the baseline."""
    return judge([read_history(run(tmp_path, f"new{k}", **changes)) for k in range(2)], baseline)


def bench(values: dict[str, Any]) -> dict[str, Any]:
    """The case's own."""
    return next(one for one in values["benchmarks"] if one["param"] == CASE)


def test_nothing_has_changed(tmp_path: Path, baseline: list[History]) -> None:
    """All pass, with the smallest slowdown that would have been seen."""
    found = judged(tmp_path, baseline)
    assert {one.word for one in found} == {Word.PASS}
    assert len(found) == 24
    assert all(0 < one.visible <= 0.05 and one.low < 1 < one.high for one in found)


def test_an_accepted_case_that_would_move_the_cursor_is_left_out(tmp_path: Path) -> None:
    """As one of any other history is."""
    shared = {"record_version": 1, "case": {}, "fingerprint": {}}
    cases = {"fine": [0, 1.0, 1, 1, 1], "\x1b[2J": [0, 1.0, 1, 1, 1], "": [0, 1.0, 1, 1, 1]}
    values = {"accepted": {"shared": [shared], "cases": cases}, "benchmarks": []}
    (tmp_path / "run.json").write_text(as_text(values))
    assert [one.case_id for one in read_accepted(tmp_path / "run.json").measured] == ["fine"]


@pytest.mark.parametrize(
    ("factor", "word"), [(1.08, Word.REGRESSED), (0.9, Word.IMPROVED), (1.01, Word.PASS)]
)
def test_one_case_has_changed(tmp_path: Path, baseline: list[History], factor: float, word: Word) -> None:
    """It alone has another verdict; the ratio is the factor, within the noise."""
    found = judged(tmp_path, baseline, factor=factor)
    assert of(found).word == word
    assert of(found).ratio == pytest.approx(factor, rel=0.02)
    assert {one.word for one in found if one.case_id != CASE} == {Word.PASS}


def test_one_run_or_a_small_baseline_cannot_tell(tmp_path: Path, baseline: list[History]) -> None:
    """It says what would be needed; two runs tell nothing of noise."""
    found = judged(tmp_path, baseline[:2])
    assert {one.word for one in found} == {Word.INCONCLUSIVE}
    assert of(found).reason == "the baseline has 2 comparable runs of it, of 3 at the least"
    new = [read_history(run(tmp_path, "new0"))]
    found = judge(new, baseline[:3], threshold=0.01)
    assert of(found).word == Word.INCONCLUSIVE
    assert re.search(r"would not be seen, by .*; (it needs|more stored runs)", of(found).reason)


def test_a_case_of_two_runs_is_inconclusive_beside_others_of_ten(tmp_path: Path) -> None:
    """The noise is known, and the case is not."""
    folder = tmp_path / "stored"
    folder.mkdir()
    stored = [read_history(run(folder, f"r{k}", change=delete if k > 1 else bench)) for k in range(10)]
    found = judged(tmp_path, stored)
    assert of(found).reason == "the baseline has 2 comparable runs of it, of 3 at the least"
    assert {one.word for one in found if one.case_id != CASE} == {Word.PASS}


def test_what_would_be_missed_half_the_time_is_not_green(tmp_path: Path, baseline: list[History]) -> None:
    """A threshold beyond the noise that is not seen in 95 of 100 runs; one that is seen passes."""
    new = [read_history(run(tmp_path, f"new{k}")) for k in range(2)]
    one = of(judge(new, baseline))
    margin = one.high / one.ratio - 1
    assert margin < one.visible
    between = (margin + one.visible) / 2
    assert of(judge(new, baseline, threshold=between)).word == Word.INCONCLUSIVE
    assert of(judge(new, baseline, threshold=1.01 * one.visible)).word == Word.PASS


def test_a_noisy_day_is_inconclusive_not_green(tmp_path: Path, baseline: list[History]) -> None:
    """The stored runs are quiet, this one is not: its cases differ by 15 %."""

    def noisy(values: dict[str, Any]) -> None:
        rng = np.random.default_rng(5)
        for one in values["benchmarks"]:
            factor = float(np.exp(rng.normal(0, 0.15)))
            one["stats"]["data"] = [factor * seconds for seconds in one["stats"]["data"]]

    found = judged(tmp_path, baseline, change=noisy)
    assert {one.word for one in found} <= {Word.INCONCLUSIVE}
    assert re.search(r"by the noise of this run, \d\d\.\d times", of(found).reason)


def test_all_cases_together_are_slower(tmp_path: Path, baseline: list[History]) -> None:
    """What all share is no noise of this run's."""

    def slower(values: dict[str, Any]) -> None:
        for one in values["benchmarks"]:
            one["stats"]["data"] = [1.08 * seconds for seconds in one["stats"]["data"]]

    assert {one.word for one in judged(tmp_path, baseline, change=slower)} == {Word.REGRESSED}


def rename(values: dict[str, Any]) -> None:
    """The case has another id."""
    bench(values)["extra_info"]["case"]["id"] = "renamed"


def delete(values: dict[str, Any]) -> None:
    """The case is gone."""
    values["benchmarks"].remove(bench(values))


def run_out(values: dict[str, Any]) -> None:
    """The case ran out of memory."""
    case = bench(values)["extra_info"]["case"]
    delete(values)
    values["outcomes"] = [{"case": case, "outcome": "out of memory", "detail": "no room"}]


def fail(values: dict[str, Any]) -> None:
    """The case failed."""
    delete(values)
    values["failed"] = {CASE: "it hung"}


def leave_out(values: dict[str, Any]) -> None:
    """There was no time for the case."""
    delete(values)
    values["left_out"] = {CASE: "minutes: 4"}


def of_record(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """One value of the case's record is another."""

    def change(values: dict[str, Any]) -> None:
        inner = bench(values)["extra_info"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "word", "reason"),
    [
        (rename, Word.MISSING, "was measured before, and is not in the run"),
        (delete, Word.MISSING, "was measured before, and is not in the run"),
        (fail, Word.MISSING, "failed in 2 of 2 runs: it hung"),
        (run_out, Word.OUT_OF_MEMORY, "out of memory in 2 of 2 runs: no room"),
        (leave_out, Word.MISSING, "left out for time in 2 of 2 runs: minutes: 4; --minutes 0 measures it"),
        (of_record("versions", "torch", value="9"), Word.NOT_COMPARABLE, "torch is '9', the baseline's is "
         "'2.13.0+cpu'"),
        (of_record("protocol", "rounds", value=7), Word.NOT_COMPARABLE, "protocol rounds is 7, the "
         "baseline's is 5"),
        (of_record("case", "model", "name", value="x"), Word.NOT_COMPARABLE, "model is another one"),
        (of_record("case", "engine", "attention", value="x"), Word.NOT_COMPARABLE, "engine attention is 'x', "
         "the baseline's is 'auto'"),
        (of_record("threads", value=1), Word.NOT_COMPARABLE, "threads is 1, the baseline's is 2"),
        (of_record("isolated", value=True), Word.NOT_COMPARABLE, "isolated is True, the baseline's is False"),
        (of_record("machine", "reported_name", value="x"), Word.NOT_COMPARABLE, "device is 'x', the "
         "baseline's is 'AMD EPYC (family 25, model 17, AVX-512 bf16)'"),
        (of_record("parameters", value=1), Word.REGRESSED, "a counter has changed: parameters is 1, and was "
         "123636480"),
        (of_record("work", "flops_per_token", value=1), Word.REGRESSED, "a counter has changed: work "
         "flops_per_token is 1.0, and was 169869312.0"),
    ],
)  # fmt: skip
def test_each_cause_has_its_verdict(
    tmp_path: Path, baseline: list[History], change: Callable[[dict[str, Any]], None], word: Word, reason: str
) -> None:
    """And only that case has it."""
    found = judged(tmp_path, baseline, change=change)
    assert (of(found).word, of(found).reason) == (word, reason)
    assert {one.word for one in found if one.case_id != CASE} <= {Word.PASS, Word.NEW}
    assert (Word.NEW in {one.word for one in found}) == (change is rename)


def test_calls_of_operators_are_a_counter_between_the_same_versions(
    tmp_path: Path, baseline: list[History]
) -> None:
    """A stored record from before they were counted says nothing; a run that lacks them is not green."""

    def counted(decode: int, torch: str = "2.13.0+cpu") -> Callable[[dict[str, Any]], None]:
        def change(values: dict[str, Any]) -> None:
            bench(values)["extra_info"]["operators"] = {"prefill": 100, "decode": decode}
            bench(values)["extra_info"]["versions"]["torch"] = torch

        return change

    assert of(judged(tmp_path, baseline, change=counted(90))).word == Word.PASS
    folder = tmp_path / "counted"
    folder.mkdir()
    before = [read_history(run(folder, f"r{k}", change=counted(90))) for k in range(10)]
    assert of(judged(tmp_path, before, change=counted(90))).word == Word.PASS
    lacking = of(judged(tmp_path, before))
    assert lacking.word == Word.INCONCLUSIVE
    assert lacking.reason == "a counter of the baseline is not in the run: operators prefill"
    found = of(judged(tmp_path, before, change=counted(91)))
    assert (found.word, found.reason) == (
        Word.REGRESSED,
        "a counter has changed: operators decode is 91, and was 90",
    )
    new, old = (read_history(run(tmp_path, "other", change=counted(91, "9"))), before[0])
    records = [next(m.record for m in one.measured if m.case_id == CASE) for one in (new, old)]
    assert counters.changed(*records) is None


def test_deepspeeds_version_matters_to_its_cases_alone(tmp_path: Path, baseline: list[History]) -> None:
    """Those of other engines stay comparable."""

    def change(values: dict[str, Any]) -> None:
        for one in values["benchmarks"]:
            one["extra_info"]["versions"]["deepspeed"] = "9"

    found = judged(tmp_path, baseline, change=change)
    others = {one.case_id for one in found if one.word == Word.NOT_COMPARABLE}
    assert others == {one["param"] for one in REAL["benchmarks"] if "deepspeed" in one["param"]}


def test_what_was_out_of_memory_before_is_no_finding(tmp_path: Path) -> None:
    """Measured now, it is new."""
    folder = tmp_path / "stored"
    folder.mkdir()
    before = [read_history(run(folder, f"r{k}", change=run_out)) for k in range(10)]
    assert CASE not in {one.case_id for one in judged(tmp_path, before, change=run_out)}
    assert of(judged(tmp_path, before)).word == Word.NEW


def test_what_was_left_out_in_one_run_is_judged_by_the_other(tmp_path: Path, baseline: list[History]) -> None:
    """A run that is resumed has what its first half lacks."""
    runs = [read_history(run(tmp_path, "half", change=leave_out)), read_history(run(tmp_path, "whole"))]
    assert of(judge(runs, baseline)).word == Word.PASS
    halves = judge([runs[0]], baseline)
    assert of(halves).reason == "left out for time: minutes: 4; --minutes 0 measures it"
    assert exit_code(halves) == 2


def test_what_the_baseline_left_out_is_new_or_no_finding(tmp_path: Path) -> None:
    """Nothing was lost where it is left out again; an accepted run says so too."""
    folder = tmp_path / "stored"
    folder.mkdir()
    before = [read_history(run(folder, f"r{k}", change=leave_out)) for k in range(10)]
    assert CASE not in {one.case_id for one in judged(tmp_path, before, change=leave_out)}
    found = of(judged(tmp_path, before))
    assert (found.word, found.reason) == (Word.NEW, "was left out for time in the baseline")
    other = [read_history(run(folder, f"d{k}", change=delete)) for k in range(10)]
    found = of(judged(tmp_path, other, change=leave_out))
    assert (found.word, found.reason[:43]) == (Word.NEW, "is not in the baseline; left out for time i")
    values = json.loads(run(folder, "short", change=leave_out).read_text())
    (folder / "accepted.json").write_text(as_text(slim(values, {}, {})))
    assert dict(read_accepted(folder / "accepted.json").left_out) == {CASE: "minutes: 4"}


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
        (["accept", "new.json", "--allow", "durty"], "--allow durty: is no reason to refuse a run; did "
         "you mean 'dirty'?"),
        ([], "the following arguments are required: run"),
        (["new.json", "--baseline", "new.json"], "has no run but the one that is judged"),
        (["new.json", "--json", "none/x.json", "--baseline", "old.json"], "No such file"),
        (["new.json", "--json", "old.json", "--baseline", "old.json"], "--json old.json: is a history"),
        (["new.json", "--cases", "latin", "--baseline", "old.json"], "--cases latin: is no text in UTF-8"),
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


def accepted(tmp_path: Path, new: Path, *options: str) -> int:
    """Accept it into a folder of baselines."""
    return main(["accept", str(new), "--folder", str(tmp_path / "baselines"), *options])


def quiet(values: dict[str, Any]) -> None:
    """No round was disturbed."""
    for one in values["benchmarks"]:
        one["extra_info"]["state"]["disturbed"] = [[]] * 5


def test_a_run_is_accepted_with_its_fingerprints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the machine's name and its time; once."""
    new = run(tmp_path, "new", change=quiet)
    assert accepted(tmp_path, new) == 0, capsys.readouterr().err
    (file,) = (tmp_path / "baselines" / OWN_FOLDER).glob("*")
    assert file.name == "20261124T000000.json"
    values = json.loads(file.read_text())
    shared, median_s, *point = values["accepted"]["cases"][CASE]
    assert values["accepted"]["shared"][shared]["fingerprint"]["torch"] == "2.13.0+cpu"
    assert (median_s, point) == (read_history(new).measured[0].median_s, [1, 128, 32])
    stats = [{**one["stats"], "data": None} for one in json.loads(new.read_text())["benchmarks"]]
    assert [{**one["stats"], "data": None} for one in values["benchmarks"]] == stats
    assert accepted(tmp_path, new) == 4
    assert "is accepted already, as 20261124T000000.json; a run counts once" in capsys.readouterr().err
    other = run(tmp_path, "other", change=quiet)
    assert accepted(tmp_path, other, "--name", "../x") == 4
    assert accepted(tmp_path, other, "--name", "again") == 0


def dirty(values: dict[str, Any]) -> None:
    """Of a tree with changes."""
    values["commit_info"]["dirty"] = True


def disturbed(values: dict[str, Any]) -> None:
    """One round of the case."""
    bench(values)["extra_info"]["state"]["disturbed"] = [[], ["contention"], [], [], []]


def slower(values: dict[str, Any]) -> None:
    """Far beyond all noise."""
    bench(values)["stats"]["data"] = [2 * one for one in bench(values)["stats"]["data"]]


@pytest.mark.parametrize(
    ("change", "why", "said"),
    [
        (delete, "partial", f"cases of the baseline are not in it (1, such as {CASE})"),
        (fail, "failed", f"cases of it failed (1, such as {CASE})"),
        (dirty, "dirty", "it was taken from a tree with uncommitted changes, or without git"),
        (disturbed, "contended", f"rounds of it were disturbed (of 1 cases, such as {CASE})"),
        (slower, "red", f"the gate finds it red (1 cases, such as {CASE})"),
    ],
)
def test_a_run_is_refused_unless_told_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, why: str, said: str
) -> None:
    """Another name does not help."""
    for k in range(5):
        assert accepted(tmp_path, run(tmp_path, f"r{k}", change=quiet), "--name", f"r{k}") == 0

    def both(values: dict[str, Any]) -> None:
        quiet(values)
        change(values)

    new = run(tmp_path, "new", change=both)
    assert accepted(tmp_path, new) == 4
    assert said in capsys.readouterr().err
    others = {"partial", "failed", "dirty", "contended", "red"} - {why}
    assert (
        accepted(tmp_path, new, "--allow", ",".join(others - ({"partial"} if why == "failed" else set())))
        == 4
    )
    assert accepted(tmp_path, new, "--allow", f"{why},partial") == 0


def test_a_label_that_leaves_the_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A history is data."""

    def hostile(values: dict[str, Any]) -> None:
        for one in values["benchmarks"]:
            one["extra_info"]["machine"]["label"] = "../../1xcpu"

    assert accepted(tmp_path, run(tmp_path, "new", change=hostile)) == 4
    assert "mixes machines" in capsys.readouterr().err


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


def test_an_accepted_run_says_the_same_as_the_run_itself(tmp_path: Path) -> None:
    """By its first line and by the whole file: id, median, fingerprint and counters of each case."""
    new = run(tmp_path, "new", change=quiet)
    assert accepted(tmp_path, new) == 0
    (file,) = (tmp_path / "baselines" / OWN_FOLDER).glob("*")
    runs = [read_history(new), read_history(file), read_accepted(file)]
    for one in zip(*(history.measured for history in runs), strict=True):
        assert len({each.case_id for each in one}) == 1
        assert [each.median_s for each in one] == [pytest.approx(one[0].median_s)] * 3
        assert fingerprint(one[0].record) == fingerprint(one[1].record) == fingerprint(one[2].record)
        assert counters.counters(one[0].record) == counters.counters(one[1].record)
        assert counters.counters(one[0].record) == counters.counters(one[2].record)
    assert len({history.taken for history in runs}) == 1
    assert file.stat().st_size < 60_000
    text = file.read_text()
    for torn in (text[:-5], text.replace("}", "", 1)):
        file.write_text(torn)
        with pytest.raises(InputError, match="not a history"):
            read_accepted(file)


@pytest.mark.slow
def test_pytest_benchmark_reads_an_accepted_run(tmp_path: Path) -> None:
    """It is still its format."""
    new = run(tmp_path, "new", change=quiet)
    assert accepted(tmp_path, new) == 0
    command = [
        sys.executable,
        "-m",
        "pytest_benchmark",
        "--storage",
        f"file://{tmp_path / 'baselines'}",
        "compare",
    ]
    done = subprocess.run([*command, f"{OWN_FOLDER}/*"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert CASE in done.stdout + done.stderr


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


def test_seconds_that_are_no_numbers_are_not_compared(tmp_path: Path, baseline: list[History]) -> None:
    """A bare NaN, as pytest-benchmark writes it, infinity, and 0: of that case nothing is said in green."""
    for value in (math.nan, math.inf, 0, -1, "1", None):

        def change(values: dict[str, Any], value: Any = value) -> None:
            bench(values)["stats"]["data"] = [value] * 5
            bench(values)["extra_info"]["latency_median_s"] = value

        found = judged(tmp_path, baseline, change=change)
        invalid = "5 of 5 rounds are no times in 2 of 2 runs: zero, negative or not a number"
        assert (of(found).word, of(found).reason) == (Word.INCONCLUSIVE, invalid)
