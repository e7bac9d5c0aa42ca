"""Out of memory as a result: which phase, which cases are not tried after it, and what the history has."""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.tests.conftest import histories, write_suite
from ci.tests.engines.test_rank_failures import Session, try_all
from ci.tests.engines.test_ranks import TINY
from ci.tests.fake_engine import FAKE_KIND, FakeEngine
from ci.tests.warm import Warm, is_stand_in
from fixtures.core.cost.footprint import Footprint, Instant, Pass, Terms
from fixtures.core.cost.memory import CPU_MARGIN_BYTES
from fixtures.core.result.out_of_memory import needed_bytes, out_of_memory, ran_out_with_less
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.spec.engine_kinds import KINDS
from fixtures.core.tables import results_table
from fixtures.engines.counting.kept import KeptCounts
from fixtures.engines.protocol import Limits
from fixtures.load.model import Handle

pytest_plugins = ["pytester"]

POINTS = st.builds(Point, *[st.integers(1, 4)] * 3)
CASE = Case(library.model("mpt7b"), library.hardware("a100_80gb"), 1, EngineSpec("hf"), Point(1, 512, 64))


def at(point: Point, model: ModelSpec = CASE.model) -> Case:
    """The case at another point."""
    return replace(CASE, point=point, model=model)


@given(POINTS, POINTS, st.sampled_from(["prefill", "decode", None]))
def test_a_case_is_hopeless_where_nothing_of_it_is_less(less: Point, more: Point, phase: str | None) -> None:
    """Batch, prompt and output are each at least as much; after a prefill the output says nothing."""
    found = ran_out_with_less(at(more), [(at(less), out_of_memory(at(less), "", phase))])
    pairs = [(more.batch_size, less.batch_size), (more.input_len, less.input_len)]
    if phase != "prefill":
        pairs.append((more.output_len, less.output_len))
    assert (found is not None) == (all(a >= b for a, b in pairs) and more != less)


def test_another_model_has_its_own_memory() -> None:
    """And a case tells nothing of itself."""
    small, large = Point(1, 1, 1), Point(9, 9, 9)
    ran_out = [(at(small), out_of_memory(at(small), "", "prefill"))]
    assert ran_out_with_less(at(large), ran_out)
    assert ran_out_with_less(at(large, library.model("mpt30b")), ran_out) is None
    assert ran_out_with_less(at(small), ran_out) is None


def test_the_bytes_of_a_phase_are_predicted_where_counts_are_stored() -> None:
    """mpt7b has 6.65 billion parameters of two bytes; of an architecture of one's own nothing is known."""
    load, prefill = needed_bytes(CASE, "load"), needed_bytes(CASE, "prefill")
    assert load is not None
    assert prefill is not None
    assert 13.2e9 < load < 13.5e9 < prefill < 15e9
    own = replace(CASE, model=ModelSpec("own", {"model_type": "llama"}))
    assert needed_bytes(own, "prefill") is None


def test_the_table_says_in_which_phase() -> None:
    """Where that is known."""
    lines = results_table([out_of_memory(CASE, "", "decode"), out_of_memory(at(Point(2, 2, 2)), "")])
    assert lines[-2].endswith("out of memory in decode")
    assert lines[-1].endswith("out of memory")


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest on the benchmarks of the project."""
    return project.runpytest("benchmarks", "--benchmark-only", *arguments)


def test_what_can_only_need_more_is_not_tried(project: pytest.Pytester, fake: type[FakeEngine]) -> None:
    """Batch 4 runs out, 8 is not tried, and both reach the history; the next model has all its cases."""
    suite = write_suite(project.path, "no_room_for_four", "good", batch_sizes=[2, 4, 8])
    result = run(project, "--suite", suite, "-rs")
    result.assert_outcomes(passed=4, skipped=2)
    assert [entry[1] for entry in fake.log if entry[0] == "prepare"] == [2, 4, 2, 4, 8]
    (history,) = histories(project.path)
    four, eight = history["outcomes"]
    assert (four["case"]["batch_size"], eight["case"]["batch_size"]) == (4, 8)
    assert {four["outcome"], eight["outcome"]} == {"out of memory"}
    assert (four["after"], four["detail"]) == (None, "no room for 4")
    assert eight["after"] == four["case"]["id"]
    result.stdout.fnmatch_lines(
        [f"*SKIPPED*out of memory: not tried, {four['case']['id']} ran out of memory with less*"]
    )


def test_a_model_without_room_is_the_outcome_of_its_cases(
    project: pytest.Pytester, fake: type[FakeEngine]
) -> None:
    """Those that were chosen, and no others."""
    suite = write_suite(project.path, "no_room", "good", batch_sizes=[1, 2, 4])
    run(project, "--suite", suite, "-k", "not b2-").assert_outcomes(passed=2, skipped=2)
    (history,) = histories(project.path)
    assert [(one["case"]["model"]["name"], one["case"]["batch_size"]) for one in history["outcomes"]] == [
        ("no_room", 1),
        ("no_room", 4),
    ]


def test_a_model_that_is_larger_than_the_machine_is_the_outcome_of_its_cases(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not collected, and stands in table and history; only the chosen cases, and nothing in a list."""
    one = HardwareSpec("cpu", "cpu", memory_bytes=10**9)
    monkeypatch.setattr("fixtures.host.machine.detect", lambda: Machine(one, 1, 2))
    write_suite(project.path, "wide", "good", batch_sizes=[1, 2, "max"])
    suite = json.loads((project.path / "suite.yaml").read_text())
    suite["models"][0] |= {"parameters": 10**9}  # 2 GB in bf16
    suite["models"][1] |= {"parameters": 10**6, "kv_values_per_token": 10**7}
    (project.path / "suite.yaml").write_text(json.dumps(suite))
    run(project, "--suite", "suite.yaml", "--collect-only")
    assert histories(project.path) == []
    result = run(project, "--suite", "suite.yaml", "-k", "b2-")
    result.assert_outcomes(passed=1, deselected=2)
    (history,) = histories(project.path)
    (found,) = history["outcomes"]
    assert found["case"]["id"] == "wide-1xcpu-hf-b2-in4-out2"
    assert (found["phase"], found["free_bytes"]) == ("load", 10**9)
    assert found["detail"] == "not tried, the weights are 2.00 GB, 1xcpu has 1.00"
    result.stdout.fnmatch_lines(["wide", "  1xcpu hf * 2 * 4 * 2 *out of memory in load"])
    for keyword in ("wide", "test_generate and wide"):
        run(project, "--suite", "suite.yaml", "-k", keyword)
        only = histories(project.path)[-1]
        assert (only["benchmarks"], len(only["outcomes"])) == ([], 2)


def test_what_is_predicted_to_find_no_room_is_not_tried(
    project: pytest.Pytester, fake: type[FakeEngine]
) -> None:
    """28 MB are held and 62 free, the margin is 20: batch 4 needs 92 of 90, which may fit; 5 needs 103."""
    assert CPU_MARGIN_BYTES == 20_000_000
    one = Pass((Instant(Terms(b=11_000_000), Terms()),))
    fake.footprint, fake.room = Footprint(0, 0, False, (), one, one), (28_000_000, 62_000_000)
    suite = write_suite(project.path, "good", batch_sizes=[3, 5, 4, 6], output_lengths=[1])
    result = run(project, "--suite", suite, "-rs")
    result.assert_outcomes(passed=2, skipped=2)
    assert [entry[1] for entry in fake.log if entry[0] == "prepare"] == [3, 4]
    result.stdout.fnmatch_lines(
        ["*SKIPPED*out of memory: not tried, prefill is predicted to need 0.10 GB; 0.03 are held, 0.06 free"]
    )
    (history,) = histories(project.path)
    assert [(one["phase"], one["free_bytes"]) for one in history["outcomes"]] == [
        ("prefill", 62_000_000),
        ("prefill", None),
    ]
    records = [bench["extra_info"] for bench in history["benchmarks"]]
    assert [one["predicted_memory"]["total_bytes"] for one in records] == [81_000_000, 92_000_000]
    assert records[0]["predicted_memory_error"] == 81_000_000 / 1234 - 1


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_the_device_is_clean_after_a_want_of_memory(faked: pytest.Pytester) -> None:
    """What the call had made is gone before the next case, in a process that collects nothing by itself."""
    suite = write_suite(faked.path, "no_room_for_four", batch_sizes=[4, 2, 3])
    conftest = faked.path / "conftest.py"
    conftest.write_text(f"import gc\ngc.disable()\n{conftest.read_text()}")
    result = faked.runpytest_subprocess("benchmarks", "--benchmark-only", "--suite", suite)
    assert result.parseoutcomes() == {"passed": 2, "skipped": 1}
    log = json.loads((faked.path / "log.json").read_text())
    assert [entry[1] for entry in log if entry[0] == "left"] == [0, 0]


def test_a_model_is_gone_before_its_blocks_are_given_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A GPU's allocator keeps them, and another process of this machine would want them."""
    FakeEngine.reset()
    seen: list[int] = []

    def empty_cache() -> None:
        seen.append(sum(ref() is not None for ref in FakeEngine.weights))

    cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=empty_cache)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(KINDS, "hf", FAKE_KIND)
    model = ModelSpec("m", {})
    counts = KeptCounts(tmp_path, {})
    handle = Handle(replace(CASE, model=model), 17, Limits(60), isolate=False, counts=counts)
    handle.ready()
    assert len(FakeEngine.weights) == 1
    handle.release()
    assert seen == [0]
    FakeEngine.reset()


@pytest.mark.slow
@pytest.mark.parametrize("predicted", [True, False], ids=["predicted", "met"])
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited as on Linux")
def test_a_real_model_that_runs_out_costs_its_case_alone(
    project: pytest.Pytester, warm: Warm, predicted: bool
) -> None:
    """512 MB of address space more than after the first case; scores of attention alone would take 2 GB.

    Where that is tried, the allocator's own error says so.
    """
    if not predicted:
        try_all(project)
    other = {**TINY, "name": "other"}
    sweep = {"name": "s", "batch_sizes": [1, 1024, 2048], "input_lengths": [512], "output_lengths": [4]}
    suite: dict[str, Any] = {
        "models": [TINY, other], "hardware": ["1xcpu"], "engines": ["hf_eager"], "sweeps": [sweep],
        "rounds": 1, "warmup_rounds": 0,
    }  # fmt: skip
    (project.path / "suite.yaml").write_text(json.dumps(suite))
    session = Session(project.path, warm)
    session.start("-rs")
    session.wait_for("case 1 of")
    (pid,) = (one for one in session.processes() if not is_stand_in(one))
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + 512 * 2**20
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    assert session.end() == 0, session.log
    assert "2 passed, 4 skipped" in session.log
    (history,) = histories(project.path)
    assert [bench["extra_info"]["case"]["batch_size"] for bench in history["benchmarks"]] == [1, 1]
    tried = [one for one in history["outcomes"] if one["after"] is None]
    # the limit may come after the first model's second case was predicted
    found = [one["detail"].startswith("not tried, prefill is predicted") for one in tried]
    assert found[1] == predicted
    assert predicted or not found[0]
    assert [one["phase"] for one in tried] == ["prefill", "prefill"]
    assert all(one["free_bytes"] >= 0 for one in tried)
    # by the limit and not by the machine's memory; what was mapped when it was set may have been let go since
    assert tried[1]["free_bytes"] < 2**30
    assert [one["case"]["batch_size"] for one in history["outcomes"]] == [1024, 2048, 1024, 2048]
