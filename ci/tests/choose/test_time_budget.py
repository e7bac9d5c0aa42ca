"""A session with a limit, on a scripted clock: what is measured, what is left out, and what is said of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import FakeEngine, Law
from fixtures.core.cost.bounds import Cache, Work
from fixtures.core.cost.footprint import Footprint, Instant, Pass, Terms
from fixtures.core.forecast.pace import Pace
from fixtures.session import Session

pytest_plugins = ["pytester"]

Fake = type[FakeEngine]
OPTIONS = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml")
PROTOCOL: dict[str, Any] = {"rounds": 2, "warmup_rounds": 1}  # three calls
ONE = Pass((Instant(Terms(), Terms()),))
TWO_SECONDS = Law(prefill_s=1.0, token_s=1.0)  # a call of two tokens


@pytest.fixture
def clock(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """The session's seconds are those of the engine's calls; loads and checks take none."""
    monkeypatch.setattr(Session, "elapsed_s", property(lambda _: FakeEngine.now_s))
    FakeEngine.now_s = 0.0
    fake.law = TWO_SECONDS
    return fake


def ids(history: dict[str, Any]) -> list[str]:
    """Models and batch sizes that a history has."""
    cases = [bench["extra_info"]["case"] for bench in history["benchmarks"]]
    return [f"{case['model']['name']}{case['batch_size']}" for case in cases]


def go(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    """A session from 0 s on."""
    FakeEngine.now_s = 0.0
    return project.runpytest(*OPTIONS, *options)


def last_line(project: pytest.Pytester) -> dict[str, Any]:
    """What the newest journal ends with."""
    (journal,) = (project.path / ".benchmarks" / "journal").glob("*.jsonl")
    line: dict[str, Any] = json.loads(journal.read_text().splitlines()[-1])
    return line


def test_what_does_not_fit_is_left_out_and_measured_later(project: pytest.Pytester, clock: Fake) -> None:
    """Six s a case: five of seven in 30 s; --resume measures the two, and the history has all."""
    write_suite(project.path, "m", batch_sizes=[1, 2, 3, 4, 5, 6, 7], minutes=0.5, **PROTOCOL)
    result = go(project, "-rs")
    result.assert_outcomes(passed=5, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "left out for time (2 of 7 cases, minutes: 0.5): m-1xcpu-hf b6-in4-out2, b7-in4-out2; --resume *",
            "history: *",
            "SKIPPED [[]2] *: left out for time (minutes: 0.5)",
        ]
    )
    (history,) = histories(project.path)
    assert ids(history) == ["m1", "m2", "m3", "m4", "m5"]
    late = {f"m-1xcpu-hf-b{batch}-in4-out2": "minutes: 0.5" for batch in (6, 7)}
    assert history["left_out"] == late
    assert last_line(project)["complete"] is False
    result = go(project, "--resume")
    result.assert_outcomes(passed=2, skipped=5)
    result.stdout.no_fnmatch_line("*left out for time*")
    history = histories(project.path)[-1]
    assert ids(history) == [f"m{batch}" for batch in range(1, 8)]
    assert "left_out" not in history
    assert last_line(project)["complete"] is True


def test_models_share_the_time(project: pytest.Pytester, clock: Fake) -> None:
    """15 s each of 30, two cases of 6; what the first has left is the second's: 18."""
    write_suite(project.path, "a", "b", batch_sizes=[1, 2, 3, 4], minutes=0.5, **PROTOCOL)
    go(project).stdout.fnmatch_lines(
        [
            "left out for time (3 of 8 cases, minutes: 0.5): a-1xcpu-hf b3-in4-out2, b4-in4-out2; "
            "b-1xcpu-hf b4-in4-out2; *"
        ]
    )
    (history,) = histories(project.path)
    assert ids(history) == ["a1", "a2", "b1", "b2", "b3"]


def test_a_model_without_time_is_not_loaded(project: pytest.Pytester, clock: Fake) -> None:
    """The first one's case takes all of it, 30 s."""
    clock.law = Law(prefill_s=5.0, token_s=5.0)
    write_suite(project.path, "a", "b", minutes=0.5, **PROTOCOL)
    result = go(project)
    result.assert_outcomes(passed=1, skipped=1)
    assert [entry[1] for entry in clock.log if entry[0] == "load"] == ["a-1xcpu-hf"]
    result.stdout.fnmatch_lines(["left out for time (1 of 2 cases, minutes: 0.5): b-1xcpu-hf b1-in4-out2; *"])


def test_a_first_call_shows_that_a_case_takes_too_long(project: pytest.Pytester, clock: Fake) -> None:
    """20 of 30 s, and two such calls to come: it is left out after all, and so is what would take as long."""
    clock.law = Law(prefill_s=10.0, token_s=10.0)
    write_suite(project.path, "m", batch_sizes=[1, 2], minutes=0.5, **PROTOCOL)
    result = go(project)
    result.assert_outcomes(skipped=2)
    assert FakeEngine.now_s == 20
    (history,) = histories(project.path)
    assert history["benchmarks"] == []
    assert set(history["left_out"]) == {"m-1xcpu-hf-b1-in4-out2", "m-1xcpu-hf-b2-in4-out2"}
    result.stdout.fnmatch_lines(
        [
            "left out for time (2 of 2 cases, minutes: 0.5): m-1xcpu-hf (all 2); *",
            "nothing was measured: every case was left out for time",
        ]
    )
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_time_left_is_within_the_limit(
    project: pytest.Pytester, clock: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out takes none: of 30 s the first case has taken 6."""
    monkeypatch.setattr(Pace, "left_s", lambda *_: 1000.0)
    write_suite(project.path, "m", batch_sizes=[1, 2, 3, 4, 5, 6, 7], minutes=0.5, **PROTOCOL)
    go(project).stdout.fnmatch_lines(["case 1 of 7 *, about 24 s left", "case 2 of 7 *, about 18 s left"])
    go(project, "--minutes=0").stdout.fnmatch_lines(["case 1 of 7 *, about 16 min 40 s left"])


@pytest.mark.parametrize("options", [("--minutes", "0"), ("--set", "minutes=0"), ("--minutes", "60")])
def test_the_command_line_has_the_last_word(
    project: pytest.Pytester, clock: Fake, options: tuple[str, ...]
) -> None:
    """No limit, or another one."""
    write_suite(project.path, "m", batch_sizes=[1, 2, 3], minutes=0.1, **PROTOCOL)
    go(project).assert_outcomes(passed=1, skipped=2)
    go(project, *options).assert_outcomes(passed=3)
    assert "left_out" not in histories(project.path)[-1]


def test_a_suite_without_minutes_has_no_limit(project: pytest.Pytester, clock: Fake) -> None:
    """Whatever it takes."""
    clock.law = Law(prefill_s=1e6, token_s=1e6)
    write_suite(project.path, "m", batch_sizes=[1, 2], **PROTOCOL)
    go(project).assert_outcomes(passed=2)


def test_work_and_peaks_of_a_loaded_model_tell_of_its_cases(project: pytest.Pytester, clock: Fake) -> None:
    """A case that they do not allow is not begun, though nothing was known of it before: no call is made.

    By hand: 2 * 5 s of bandwidth a call at the bound, 10 / 0.24 at the assumed efficiency; three calls.
    """
    clock.work = Work(1.0, 1.0, 0.0, 5000, (Cache(1, 1),))
    clock.footprint = Footprint(1, 1, False, (), ONE, ONE)
    clock.peaks.append({"read_bytes_per_s": 1000.0, "copy_bytes_per_s": 1.0, "float32_flops_per_s": 1e9})
    write_suite(project.path, "m", minutes=2, **PROTOCOL)
    go(project).assert_outcomes(skipped=1)
    assert [entry[0] for entry in clock.log if entry[0] in ("load", "check", "generate")] == ["load"]
    clock.law = Law(prefill_s=6.0, token_s=6.0)
    result = go(project, "--minutes", "4")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK


def test_what_was_tried_is_not_left_out(project: pytest.Pytester, clock: Fake) -> None:
    """A case that fails, or that is in the journal, leaves the exit code as it is."""
    write_suite(project.path, "m", batch_sizes=[1, 2], minutes=0.1, **PROTOCOL)
    assert go(project).ret == pytest.ExitCode.OK  # one is measured, one is left out
    clock.law = Law(prefill_s=100.0, token_s=100.0)
    again = go(project, "--resume")
    again.assert_outcomes(skipped=2)
    assert again.ret == pytest.ExitCode.OK
    again.stdout.no_fnmatch_line("nothing was measured*")


def test_more_rounds_than_the_fewest_end_with_the_time(project: pytest.Pytester, clock: Fake) -> None:
    """Calls of 2 and 4 s in turn are known to 1 % never: 6 calls of 18 s, and more while 30 s last."""
    clock.law = Law(prefill_s=1.0, token_s=1.0, factor=lambda call: 1.0 + call % 2)
    write_suite(project.path, "m", rounds="auto", warmup_rounds=0, minutes=0.5)
    go(project).assert_outcomes(passed=1)
    (history,) = histories(project.path)
    record = history["benchmarks"][0]["extra_info"]
    assert history["benchmarks"][0]["stats"]["rounds"] == 10  # 30 s; the next would take as long as the last
    assert record["stopped_by"] == "time"


def test_disturbed_rounds_are_taken_again_where_there_is_time(project: pytest.Pytester, clock: Fake) -> None:
    """Two cores of other processes in each round, and 4 s more only in the second session."""
    clock.law = Law(prefill_s=1.0, token_s=1.0, others=lambda _: 2.0)
    write_suite(project.path, "m", minutes=0.12, **PROTOCOL)
    for options, calls in ((), 3), (("--minutes", "1"), 5):
        clock.log.clear()
        go(project, *options).assert_outcomes(passed=1)
        assert [entry[0] for entry in clock.log].count("generate") == calls


def test_a_plan_says_what_would_be_left_out(project: pytest.Pytester) -> None:
    """Of a machine that is not here, by what was published of it; nothing without a limit."""
    options = ("benchmarks", "--plan", "--suite", "models", "--hardware", "1xa100_80gb")
    lines = project.runpytest(*options, "--minutes", "1").outlines
    (line,) = [line for line in lines if line.startswith("would be left out for time (")]
    assert "of 42 cases, minutes: 1): mpt7b-1xa100_80gb-hf_eager " in line
    assert line.endswith("; --resume measures what is left, --minutes 0 sets no limit")
    assert not [line for line in project.runpytest(*options).outlines if "left out" in line]


def test_without_benchmarking_a_case_is_one_call(project: pytest.Pytester, clock: Fake) -> None:
    """Of 2 s: three fit in 6."""
    suite = write_suite(project.path, "m", batch_sizes=[1, 2, 3, 4], minutes=0.1, **PROTOCOL)
    result = project.runpytest("benchmarks", "--benchmark-disable", "--suite", suite)
    result.assert_outcomes(passed=3, skipped=1)
