"""A time limit shared out among models: by hand, and for any times within the stated factors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.tests.core.forecast.test_planning import PEAKS, seen
from fixtures.core.cost.bounds import Peaks
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.forecast.budget import (
    OVER,
    SURE,
    UNSURE,
    Budget,
    Need,
    left_out_line,
    needs_of,
    share_s,
)
from fixtures.core.forecast.forecast import LOAD_START_S, Planner
from fixtures.core.forecast.past_runs import Past
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point


def need(name: str, calls_s: float | None, load_s: float = 0.0, first_s: float = 0.0) -> Need:
    """`model/point`."""
    return Need(name, name.partition("/")[0], calls_s, None if calls_s is None else first_s, load_s)


@pytest.mark.parametrize(
    ("left_s", "others_s", "share"),
    [
        (90, [], 90),
        (90, [math.inf], 45),
        (90, [math.inf, math.inf], 30),
        (90, [10, 20], 60),  # they need no more
        (90, [100, 10], 40),  # 80 for two
        (90, [10, 35, 50], 90 - 10 - 80 / 3 - 80 / 3),
        (-5, [10], 0),
    ],
)
def test_a_share_is_as_much_as_any_gets_or_what_the_others_leave(
    left_s: float, others_s: list[float], share: float
) -> None:
    """Worked out by hand."""
    assert share_s(left_s, others_s) == pytest.approx(share)


@settings(deadline=None, derandomize=True)
@given(left_s=st.floats(0, 1e4), wants=st.lists(st.floats(0, 1e4) | st.just(math.inf), max_size=6))
def test_all_shares_together_are_what_is_left(left_s: float, wants: list[float]) -> None:
    """Each in turn uses what it wants of its share: nobody who wants an equal part gets less."""
    now, equal = left_s, left_s / max(len(wants), 1)
    for index, wanted in enumerate(wants):
        share = share_s(now, wants[index + 1 :])
        used = min(share, wanted)
        assert used >= min(wanted, equal) - 1e-6
        now -= used
    assert now >= -1e-6
    if sum(wants) >= left_s and wants:
        assert now == pytest.approx(0, abs=1e-6)


def test_what_does_not_fit_is_not_begun() -> None:
    """Two models have 50 s each of 100. a: load 10, 30, then 20 do not fit, 5 do; b's load begins at 45."""
    needs = [
        need("a/1", 30, 10),
        need("a/2", 20, 10),
        need("a/3", 5, 10),
        need("b/1", 40, 10),
        need("b/2", 9),
    ]
    budget = Budget(100, needs)
    assert budget.begins("a/1", 0, False)
    assert budget.still_begins(10)
    budget.ended(40)
    assert not budget.begins("a/2", 40, True)
    assert budget.begins("a/3", 40, True)
    assert budget.begins("b/1", 45, False)  # 10 + 40 of the 55 that are left
    assert not budget.begins("b/2", 95, True)
    assert budget.left_out == ["a/2", "b/2"]
    assert Budget(100, needs).would_leave_out(0) == ["a/2", "b/2"]


def test_what_a_model_does_not_use_goes_to_those_after_it() -> None:
    """a was to take 50 of 100 s, and took 5: then the next has 95."""
    budget = Budget(100, [need("a/1", 50), need("b/1", 80), need("b/2", 20)])
    assert budget.begins("a/1", 0, True)
    assert budget.begins("b/1", 5, True)
    assert Budget(100, [need("a/1", 50), need("b/1", 80)]).would_leave_out(0) == ["b/1"]


def second_begins(seconds: float, *others: Need) -> bool:
    """Whether a second case of a model begins at once in 100 s, the first having taken no time."""
    budget = Budget(100, [need("a/0", 0), need("a/1", seconds), *others])
    assert budget.begins("a/0", 0, True)
    budget.ended(0)
    return budget.begins("a/1", 0, True)


def test_what_others_do_not_want_is_ones_own() -> None:
    """A model may take 90 of 100 s, because 10 are enough for the other; not 91."""
    assert second_begins(90, need("b/1", 10))
    assert not second_begins(91, need("b/1", 10))
    assert second_begins(50, need("b/1", None))
    assert not second_begins(51, need("b/1", None))  # half is b's


def test_the_first_case_of_a_model_comes_before_the_last_models() -> None:
    """Four models, 25 s each: the first one's case takes 51, then three share what is left."""
    budget = Budget(100, [need(f"{model}/{i}", 51 if model == "a" else 20) for model in "abcd" for i in "01"])
    assert budget.begins("a/0", 0, True)
    assert budget.goes_on(10, 41)
    budget.ended(51)
    assert not budget.begins("a/1", 51, True)
    assert budget.begins("b/0", 51, True)  # 49 for three
    budget.ended(71)
    assert not budget.begins("b/1", 71, True)
    assert budget.begins("c/0", 71, True)
    budget.ended(91)
    assert not budget.begins("c/1", 91, True)
    assert not budget.begins("d/0", 91, True)
    assert Budget(100, [need("a/1", 100), need("b/1", 1)]).begins("a/1", 0, True)
    assert not Budget(100, [need("a/1", 101), need("b/1", 1)]).begins("a/1", 0, True)


def test_the_expectation_is_corrected_by_what_was_taken() -> None:
    """Twice as long as expected: 30 s count as 60; a model has a ratio of its own as soon as it can."""
    needs = [need("a/1", 10), need("a/2", 30), need("b/1", 20), need("b/2", 20)]
    budget = Budget(200, needs)
    assert budget.begins("a/1", 0, True)
    budget.ended(20)  # and 0 s of further rounds
    # b wants 80 by a's ratio: a has 120 of 200, until 120
    assert not budget.begins("a/2", 61, True)
    assert budget.begins("b/1", 159, True)
    budget.ended(176, more_s=7)
    assert budget.begins("b/2", 189, True)  # 10 s by b's own ratio
    budget = Budget(100, [need("a/1", 10, 5), need("b/1", 10, 5)])
    assert budget.begins("a/1", 0, False)
    assert budget.still_begins(30)
    budget.ended(40)
    assert not budget.begins("b/1", 61, False)  # 30 s for its load, too
    assert Budget(100, [need("b/1", 10, 5)]).begins("b/1", 61, False)


def test_a_new_expectation_takes_the_place_of_the_old_one() -> None:
    """Of what is to come, for everybody's share, and of the case that has begun, now that it is loaded."""
    budget = Budget(100, [need("a/1", 10), need("a/2", 40), need("b/1", None)])
    assert budget.begins("a/1", 0, True)
    budget.expect(need("a/1", 96))
    assert not budget.still_begins(5)
    budget.expect(need("b/1", 10))
    assert budget.begins("a/2", 5, True)
    assert budget.still_begins(50)  # of 90 s
    assert budget.left_out == ["a/1"]


def test_a_first_call_tells_of_the_others() -> None:
    """In a share of 50 s: it may end at 60, where each further call takes a quarter more than the first."""
    for rest_s, goes_on in ((28, True), (29, False)):
        needs = [need("a/0", 0), need("a/1", 10), need("a/2", 5), need("b/1", None)]
        budget = Budget(100, needs)
        assert budget.begins("a/0", 0, True)
        budget.ended(0)
        assert budget.begins("a/1", 0, True)
        assert budget.goes_on(25, rest_s) is goes_on
        assert budget.left_out == ([] if goes_on else ["a/1"])
        assert budget.begins("a/2", 25, True) is goes_on  # 5 s are 27 by what is known of the other
    assert budget.has_time(40, 10)
    assert not budget.has_time(40, 11)


def test_a_load_and_a_first_call_may_take_three_times_as_long() -> None:
    """Load 20 and first call 20 s: 120 of 120 s, and not a second more."""
    assert Budget(100, [need("a/1", 30, 20, 20)]).begins("a/1", 0, False)
    assert not Budget(100, [need("a/1", 30, 20, 20)]).begins("a/1", 0.1, False)


def test_what_is_not_known_takes_the_mean_of_those_before() -> None:
    """The first begins while there is time: nothing of it can be expected before it is loaded."""
    budget = Budget(100, [need(f"a/{number}", None) for number in range(4)])
    assert budget.begins("a/0", 99, False)
    budget.ended(101)
    assert not budget.begins("a/1", 101, True)
    assert budget.begins("a/2", 90, True)
    budget.ended(108)
    assert not budget.begins("a/3", 90.5, True)  # 10 s
    assert budget.left_out == ["a/1", "a/3"]


def test_the_line_names_each_case_and_says_what_to_do() -> None:
    """A model of which all is left out is named once, with the number of its cases."""
    ids = {
        "m-1xcpu-hf": ["b1-in2-out3", "b2-in2-out3", "b4-in2-out3"],
        "n-1xcpu-hf": ["b1-in2-out3", "b2-in2-out3"],
        "o-1xcpu-hf": ["b1-in2-out3"],
    }
    loads = {f"{load}-{point}": load for load, points in ids.items() for point in points}
    left = [i for i in loads if not i.startswith("m-1xcpu-hf-b1")]
    budget = Budget(90, [Need(i, load, 1, 1) for i, load in loads.items()])
    assert budget.line() is None
    budget.left_out += left
    assert budget.line() == left_out_line(left, loads, 90)
    assert left_out_line(left, loads, 90) == (
        "left out for time (5 of 6 cases, minutes: 1.5): m-1xcpu-hf b2-in2-out3, b4-in2-out3; "
        "n-1xcpu-hf (all 2); o-1xcpu-hf b1-in2-out3; "
        "--resume measures what is left, --minutes 0 sets no limit"
    )


@dataclass
class Run:
    """A session whose loads, checks and calls take what they take."""

    limit_s: float
    cases: list[tuple[Need, int, float, float, float, float]]
    calls: int
    now_s: float = 0.0
    begun: list[str] = field(default_factory=list)

    def go(self) -> Budget:
        """All of it; a case that is left out after its first call has cost its time."""
        budget = Budget(self.limit_s, [one[0] for one in self.cases])
        loaded = ""
        for wants, _, load_s, check_s, first_s, rest_s in self.cases:
            if not budget.begins(wants.case_id, self.now_s, loaded == wants.load_key):
                continue
            if loaded != wants.load_key:
                self.now_s += load_s
                loaded = wants.load_key
                if not budget.still_begins(self.now_s):
                    continue
            self.now_s += check_s + first_s
            if self.calls > 1:
                if not budget.goes_on(self.now_s, (self.calls - 1) * first_s):
                    continue
                self.now_s += rest_s
            budget.ended(self.now_s)
            self.begun.append(wants.case_id)
        return budget


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Any models and cases; all take a like multiple of what is expected, at most three times it.

    Nothing takes more than UNSURE times what is expected after correction: all multiples are within that of
    each other, and below it.
    """
    least = draw(st.floats(0.05, 1.0) | st.just(1.0))
    multiple = st.sampled_from([least, UNSURE * least]) | st.floats(least, UNSURE * least)
    calls = draw(st.integers(1, 9))
    cases = []
    for model in range(draw(st.integers(1, 4))):
        load_s = draw(st.floats(0.1, 50))
        taken_load_s = load_s * draw(multiple)
        for number in range(draw(st.integers(1, 4))):
            call_s, check_s = draw(st.floats(0.01, 20)), draw(st.floats(0.01, 20))
            first, check = draw(multiple), draw(multiple)
            rest = draw(st.sampled_from([1.0, SURE]))
            wants = Need(f"{model}/{number}", str(model), check_s + calls * call_s, check_s + call_s, load_s)
            taken_s = (taken_load_s, check * check_s, first * call_s, rest * first * call_s * (calls - 1))
            cases.append((wants, calls, *taken_s))
    whole_s = sum(one[0].calls_s or 0.0 for one in cases)
    return Run(draw(st.floats(0.2, 2)) * whole_s, cases, calls)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(run=runs())
def test_never_more_than_a_fifth_over_and_every_case_is_accounted_for(run: Run) -> None:
    """Each case is measured or left out by name, both in their order."""
    budget = run.go()
    assert run.now_s <= OVER * run.limit_s * (1 + 1e-9)
    order = [one[0].case_id for one in run.cases]
    assert sorted([*run.begun, *budget.left_out]) == sorted(order)
    assert run.begun == [i for i in order if i in run.begun]
    assert budget.left_out == [i for i in order if i in budget.left_out]


@settings(deadline=None, derandomize=True, max_examples=100)
@given(run=runs(), start_s=st.floats(0, 400))
def test_no_case_begins_that_is_expected_to_end_after_the_limit(run: Run, start_s: float) -> None:
    """Whatever its share is; and where all takes what is expected, all ends within the limit."""
    needs = [one[0] for one in run.cases]
    left_out = Budget(run.limit_s, needs).would_leave_out(start_s)
    measured = [one for one in needs if one.case_id not in left_out]
    loads = {one.load_key: one.load_s for one in measured}
    total_s = sum(one.calls_s or 0.0 for one in measured) + sum(loads.values())
    assert not measured or start_s + total_s <= run.limit_s * (1 + 1e-9)
    assert Budget(math.inf, needs).would_leave_out(start_s) == []


CPU = HardwareSpec("cpu", "cpu", memory_bytes=16 * 10**9)
MPT = library.model("mpt125m")


def on_cpu(point: Point, model: ModelSpec = MPT) -> Case:
    """On one CPU."""
    return Case(model, CPU, 1, EngineSpec("hf"), point)


def test_needs_are_what_a_plan_expects() -> None:
    """The check and one of eight calls come first; a load is asked for by whichever case begins."""
    planner = Planner(Past((seen(on_cpu(Point(1, 128, 32)), 0.5),)), calls=8)
    cases = [on_cpu(Point(1, 128, 32)), on_cpu(Point(2, 128, 32)), on_cpu(Point(10**6, 128, 32))]
    first, second, short = needs_of(planner, cases)
    assert first.calls_s is not None
    assert first.first_s is not None
    expected = planner.expect(cases[0])
    assert expected.bound is not None
    assert first.calls_s == expected.calls_s
    assert first.calls_s - first.first_s == pytest.approx(7 * expected.bound.total_s / 0.5)
    assert first.load_s == second.load_s > LOAD_START_S
    assert (short.calls_s, short.first_s) == (0, 0)  # does not fit in memory: it is not tried
    (unknown,) = needs_of(planner, [on_cpu(Point(1, 2, 3), ModelSpec("own", {"model_type": "x"}))])
    assert (unknown.calls_s, unknown.first_s, unknown.load_s) == (None, None, 0)


def test_what_a_session_finds_stands_for_what_the_past_said() -> None:
    """Half the speed, twice the time; a model's counts, too. The same peaks are new once."""
    case = on_cpu(Point(1, 128, 32))
    planner = Planner(Past((seen(case, 0.5),)), calls=8)
    before = planner.expect(case).calls_s
    assert before is not None
    assert PEAKS.flops_per_s > 0
    half = Peaks(PEAKS.flops_per_s / 2, PEAKS.bandwidth_bytes_per_s / 2)
    assert planner.learn(case, None, half)
    assert planner.expect(case).calls_s == pytest.approx(2 * before)
    assert not planner.learn(case, None, half)
    own = on_cpu(case.point, ModelSpec("own", {"model_type": "x"}))
    assert planner.expect(own).calls_s is None
    assert not planner.learn(own, find_counts(MPT, EngineSpec("hf")), None)
    assert planner.expect(own).bound == planner.expect(case).bound


def after_loads(limit_s: float, *taken_s: float) -> Budget:
    """A session of models whose loads were to take 10 s each; a case takes nothing."""
    budget = Budget(limit_s, [need(f"{model}/1", 0, 10) for model in range(len(taken_s) + 1)])
    now_s = 0.0
    for model, load_s in enumerate(taken_s):
        assert budget.begins(f"{model}/1", now_s, False)
        now_s += load_s
        assert budget.still_begins(now_s)
        budget.ended(now_s)
    return budget


def test_the_slowest_load_so_far_tells_what_a_load_may_take() -> None:
    """Loads of 60 and 5 s, 10 expected: the mean, 32.5 s, may take three times as long, 97.5 s; 60 is less.

    Of 60, 1, 1 and 1 s the mean is 15.75, three times that 47.25 s, and 60 s are more.
    """
    assert after_loads(200, 60, 5).begins("2/1", 240 - 97.5, False)
    assert not after_loads(200, 60, 5).begins("2/1", 240 - 97.4, False)
    assert after_loads(200, 60, 1, 1, 1).begins("4/1", 240 - 60, False)
    assert not after_loads(200, 60, 1, 1, 1).begins("4/1", 240 - 59, False)


def test_a_load_without_a_forecast_takes_as_long_as_the_longest_before_it() -> None:
    """30 s, three times: 90 of the 120 s that a limit of 100 allows."""
    for now_s, begins in ((30, True), (31, False)):
        budget = Budget(100, [need("a/1", 0), need("b/1", 0)])
        assert budget.begins("a/1", 0, False)
        assert budget.still_begins(30)
        budget.ended(30)
        assert budget.begins("b/1", now_s, False) is begins


@settings(deadline=None, derandomize=True, max_examples=200)
@given(run=runs(), data=st.data())
def test_a_load_may_be_as_slow_as_one_before_it(run: Run, data: st.DataObject) -> None:
    """A first load of 0.1 ms shows how slow loads are: the session stays within a fifth over its limit."""
    slow = data.draw(st.floats(UNSURE, 30), "the first load, taken / expected")
    multiples = {"x": slow}
    small = (Need("x/0", "x", 0, 0, 1e-4), 1, 1e-4, 0.0, 0.0, 0.0)
    run.cases.insert(0, small)
    for at, case in enumerate(run.cases):
        multiple = multiples.setdefault(case[0].load_key, data.draw(st.sampled_from([0.1, slow]), "another"))
        run.cases[at] = (*case[:2], multiple * case[0].load_s, *case[3:])
    run.go()
    assert run.now_s <= OVER * run.limit_s * (1 + 1e-9)
