"""The order of cases, the rest between them, and what their records say of it."""

from __future__ import annotations

from typing import Any

import pytest

from ci.tests.choose.test_time_budget import TWO_SECONDS
from ci.tests.conftest import histories, write_suite
from ci.tests.core.forecast.test_planning import case, seen
from ci.tests.fake_engine import FakeEngine
from fixtures.core.forecast.forecast import Planner
from fixtures.core.forecast.past_runs import Past
from fixtures.core.spec.case import Point
from fixtures.session import Session

pytest_plugins = ["pytester"]

Fake = type[FakeEngine]
RUN = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml")
CASES = [f"{model}-1xcpu-hf-b{batch}-in4-out2" for model in "abc" for batch in (1, 2, 3, 4)]


def turns(project: pytest.Pytester) -> dict[str, Any]:
    """The `turn` of each case of the newest history, in the history's order."""
    records = [bench["extra_info"] for bench in histories(project.path)[-1]["benchmarks"]]
    return {record["case"]["id"]: record["turn"] for record in records}


def test_the_suites_order_is_the_default(project: pytest.Pytester, fake: Fake) -> None:
    """Each record names the case before; the first has none."""
    write_suite(project.path, *"abc", batch_sizes=[1, 2, 3, 4], rounds=1)
    project.runpytest(*RUN).assert_outcomes(passed=12)
    before = [None, *CASES]
    assert turns(project) == {
        case_id: {"order": "listed", "seed": None, "delay_s": 0.0, "after": after}
        for case_id, after in zip(CASES, before, strict=False)
    }


def test_a_random_order_keeps_the_cases_of_a_load_together(project: pytest.Pytester, fake: Fake) -> None:
    """Models and batches both change places; each model is loaded once; a seed repeats the order."""
    write_suite(project.path, *"abc", batch_sizes=[1, 2, 3, 4], rounds=1)
    result = project.runpytest(*RUN, "--order", "random:2")
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["order: random, seed 2; --order random:2 repeats it"])
    first = turns(project)
    ids = list(first)
    assert sorted(ids) == CASES
    assert [turn["after"] for turn in first.values()] == [None, *ids[:-1]]
    assert {(turn["order"], turn["seed"]) for turn in first.values()} == {("random", 2)}
    models = "".join(case_id[0] for case_id in ids)
    assert models in [4 * a + 4 * b + 4 * c for a, b, c in ("acb", "bac", "bca", "cab", "cba")]
    assert any([i for i in ids if i[0] == m] != [i for i in CASES if i[0] == m] for m in "abc")
    project.runpytest(*RUN, "--order=random:2")
    assert turns(project) == first
    project.runpytest(*RUN, "--order=random:3")
    assert list(turns(project)) != ids


def test_a_new_seed_is_drawn_each_time(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is printed, and in every record."""
    write_suite(project.path, "a", batch_sizes=[1, 2], rounds=1)
    monkeypatch.setattr("fixtures.choose.cases.randbelow", lambda below: below - 1)
    result = project.runpytest(*RUN, "--order", "random")
    result.stdout.fnmatch_lines(["order: random, seed 999999; --order random:999999 repeats it"])
    assert {turn["seed"] for turn in turns(project).values()} == {999_999}


def test_a_rest_between_cases(project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every case but the first, once its model is loaded; a case that failed has run too."""
    write_suite(project.path, "a", "forgets", "b", batch_sizes=[1, 2], rounds=1)

    def rest(seconds: float) -> None:
        fake.log.append(("rest", seconds))

    monkeypatch.setattr("fixtures.measure.measure.time.sleep", rest)
    project.runpytest(*RUN, "--delay", "2.5").assert_outcomes(passed=4, failed=2)
    steps = [entry for entry in fake.log if entry[0] in ("load", "rest", "prepare")]
    assert steps.count(("rest", 2.5)) == 5
    assert [entry[0] for entry in steps[:5]] == ["load", "prepare", "rest", "prepare", "load"]
    assert all(steps[at + 1][0] == "prepare" for at, entry in enumerate(steps) if entry[0] == "rest")
    found = turns(project)
    assert [turn["delay_s"] for turn in found.values()] == [0.0, 2.5, 2.5, 2.5]
    assert found["b-1xcpu-hf-b1-in4-out2"]["after"] == "forgets-1xcpu-hf-b2-in4-out2"


def test_a_rest_is_expected() -> None:
    """Two cases of 4 s: 8 s, and with 3 s between them 11 s, whoever asks again for the second."""
    planner = Planner(Past((seen(case()),)), 8, delay_s=3.0)
    plain = Planner(Past((seen(case()),)), 8)
    pair = [case(), case(Point(2, 128, 32))]
    rested, others = planner.expect_all(pair), plain.expect_all(pair)
    more = [(rested[i].calls_s or 0) - (others[i].calls_s or 0) for i in others]
    assert more == pytest.approx([0, 3])
    assert (planner.expect_all(pair[1:])[pair[1].id].calls_s or 0) == pytest.approx(
        (others[pair[1].id].calls_s or 0) + 3
    )


def test_a_resumed_session_begins_anew(
    project: pytest.Pytester, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the journal has keeps its place; what is measured now follows what ran now."""
    monkeypatch.setattr(Session, "elapsed_s", property(lambda _: FakeEngine.now_s))
    fake.law, FakeEngine.now_s = TWO_SECONDS, 0.0
    write_suite(project.path, "m", batch_sizes=[1, 2, 3, 4], rounds=2, warmup_rounds=1, minutes=0.2)
    project.runpytest(*RUN).assert_outcomes(passed=2, skipped=2)
    FakeEngine.now_s = 0.0
    project.runpytest(*RUN, "--resume").assert_outcomes(passed=2, skipped=2)
    ids = [f"m-1xcpu-hf-b{batch}-in4-out2" for batch in (1, 2, 3, 4)]
    after = {case_id: turn["after"] for case_id, turn in turns(project).items()}
    assert after == dict(zip(ids, [None, ids[0], None, ids[2]], strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--order", "sorted"], "*--order: no order is 'sorted'; write listed, random or random:SEED"),
        (["--order", "random:x"], "*--order: no order is 'random:x'; write listed, random or random:SEED"),
        (["--delay=-1"], "*--delay: invalid number of seconds of at least 0 value: *"),
    ],
)
def test_what_is_no_order_is_refused(project: pytest.Pytester, options: list[str], message: str) -> None:
    """Exit code 4, before anything loads."""
    write_suite(project.path, "a")
    result = project.runpytest(*RUN, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
