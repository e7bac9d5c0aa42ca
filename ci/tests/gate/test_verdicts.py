"""The gate's verdicts: each kind by its own cause, none of them green that should not be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

from ci.gate import counters
from ci.gate.fingerprint import difference, fingerprint
from ci.gate.verdicts import Word, exit_code, judge
from ci.tests.gate.curated import (
    CASE,
    REAL,
    bench,
    delete,
    fail,
    judged,
    leave_out,
    of,
    of_record,
    rename,
    run,
    run_out,
)
from fixtures.core.store.history import History, read_accepted, read_history
from fixtures.core.store.slim import as_text, slim


def test_nothing_has_changed(tmp_path: Path, baseline: list[History]) -> None:
    """All pass, with the smallest slowdown that would have been seen."""
    found = judged(tmp_path, baseline)
    assert {one.word for one in found} == {Word.PASS}
    assert len(found) == 24
    assert all(0 < one.visible <= 0.05 and one.low < 1 < one.high for one in found)


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
    assert of(found).reason == "the baseline has 2 comparable runs of it; at least 3 are needed"
    new = [read_history(run(tmp_path, "new0"))]
    found = judge(new, baseline[:3], threshold=0.01)
    assert of(found).word == Word.INCONCLUSIVE
    assert re.search(r"would not be seen: .*; (it needs|use more stored runs)", of(found).reason)


def test_a_case_of_two_runs_is_inconclusive_beside_others_of_ten(tmp_path: Path) -> None:
    """The noise is known, and the case is not."""
    folder = tmp_path / "stored"
    folder.mkdir()
    stored = [read_history(run(folder, f"r{k}", change=delete if k > 1 else bench)) for k in range(10)]
    found = judged(tmp_path, stored)
    assert of(found).reason == "the baseline has 2 comparable runs of it; at least 3 are needed"
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
    assert re.search(r"seen: the noise of this run, \d\d\.\d times", of(found).reason)


def test_all_cases_together_are_slower(tmp_path: Path, baseline: list[History]) -> None:
    """What all share is no noise of this run's."""

    def slower(values: dict[str, Any]) -> None:
        for one in values["benchmarks"]:
            one["stats"]["data"] = [1.08 * seconds for seconds in one["stats"]["data"]]

    assert {one.word for one in judged(tmp_path, baseline, change=slower)} == {Word.REGRESSED}


def test_two_versions_of_an_engines_own_library_are_not_comparable(baseline: list[History]) -> None:
    """By the kind's row: of llama.cpp the binding counts, of hf it does not."""
    (record, *_) = [one.record for one in baseline[0].measured]
    for kind, told in (("llamacpp_bf16", "cyllama is '0.3', the baseline's is '0.2'"), ("hf", None)):
        case = changed(record.case, engine=changed(record.case.engine, kind=kind))
        old, new = (
            fingerprint(changed(record, case=case, versions={**record.versions, "cyllama": version}))
            for version in ("0.2", "0.3")
        )
        assert difference(new, old) == told


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
        (of_record("case", "model", "name", value="x"), Word.NOT_COMPARABLE, "model differs"),
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
    assert lacking.reason == "the run lacks a counter of the baseline: operators prefill"
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


def test_seconds_that_are_no_numbers_are_not_compared(tmp_path: Path, baseline: list[History]) -> None:
    """A bare NaN, as pytest-benchmark writes it, infinity, and 0: of that case nothing is said in green."""
    for value in (math.nan, math.inf, 0, -1, "1", None):

        def change(values: dict[str, Any], value: Any = value) -> None:
            bench(values)["stats"]["data"] = [value] * 5
            bench(values)["extra_info"]["latency_median_s"] = value

        found = judged(tmp_path, baseline, change=change)
        invalid = "5 of 5 rounds have no valid time in 2 of 2 runs: zero, negative or not a number"
        assert (of(found).word, of(found).reason) == (Word.INCONCLUSIVE, invalid)
