"""Which task a node gets next."""

from __future__ import annotations

from ci.tests.fleet.simulated import nodes_of
from fixtures.fleet.schedule import Schedule
from fixtures.fleet.split import Task

N0, N1, N2 = nodes_of(3)


def task(load: str, *seconds: float, load_s: float = 10.0) -> Task:
    """Cases 0, 1, ... of a load, of which the first is the reference."""
    cases = [f"{load}{number}" for number in range(len(seconds))]
    return Task("cpu", 1, cases, f"{load}0", dict(zip(cases, seconds, strict=True)), load_s)


def taken(schedule: Schedule, node: object = N0, peers: int = 1) -> list[str] | None:
    """The cases that a node gets."""
    chosen = schedule.take(node, peers, lambda _task: True)  # type: ignore[arg-type]
    return None if chosen is None else chosen.cases


def test_a_node_stays_with_its_load() -> None:
    """Then it takes one that nobody has, the longest first."""
    schedule = Schedule()
    for one in (task("a", 100), task("b", 300), task("c", 200)):
        schedule.add(one)
    schedule.begin("n0", "a0")
    assert [taken(schedule) for _ in range(4)] == [["a0"], ["b0"], ["c0"], None]
    assert not schedule


def test_a_load_is_shared_only_if_that_ends_it_earlier() -> None:
    """n0 needs 210 s for what is left: a start and the reference take n1 less than that, or more."""
    for reference_s, got in ((199.0, ["a1"]), (201.0, None)):
        schedule = Schedule()
        schedule.add(task("a", reference_s, 100, 100), ["a1", "a2"])
        schedule.begin("n0", "a0")
        assert taken(schedule, N1, peers=2) == got


def test_towards_the_end_a_task_has_its_longest_cases_only() -> None:
    """800 s are left for four nodes: half of 200 s each, and one case at least; the reference first."""
    schedule = Schedule()
    schedule.add(task("a", 20, 300, 30, 60, 390, load_s=0.0))
    assert taken(schedule, N0, peers=4) == ["a0"]  # 20 s, and 390 s are more than 100 s
    schedule.begin("n0", "a0")
    assert taken(schedule, N0, peers=4) == ["a4"]
    assert taken(schedule, N0, peers=4) == ["a1"]
    assert taken(schedule, N0, peers=1) == ["a3"]
    assert taken(schedule, N0, peers=1) == ["a2"]


def test_a_task_is_four_times_as_long_as_its_load() -> None:
    """At least, however little is left: 4 x 10 s have room for three cases of 12 s."""
    schedule = Schedule()
    schedule.add(task("a", 12, 12, 12, 12))
    assert taken(schedule, peers=100) == ["a0", "a1", "a2"]


def test_a_case_that_failed_is_tried_on_another_node_at_once() -> None:
    """On its own node after all others."""
    schedule = Schedule()
    schedule.begin("n0", "a0")
    schedule.failed = {"a0": {"n0"}}
    schedule.add(task("a", 10))
    schedule.add(task("b", 500))
    assert taken(schedule, N0) == ["b0"]
    assert taken(schedule, N1, peers=2) == ["a0"]
    schedule.add(task("a", 10))
    assert taken(schedule, N0) == ["a0"]


def test_a_case_that_failed_is_for_a_node_that_has_begun_its_load() -> None:
    """If there is another such node: a third one would have to measure the reference first."""
    schedule = Schedule()
    schedule.failed = {"a1": {"n0"}}
    schedule.add(task("a", 300, 100), ["a1"])
    for node in ("n0", "n1"):
        schedule.begin(node, "a0")
    assert taken(schedule, N2, peers=3) is None
    assert taken(schedule, N1, peers=3) == ["a1"]


def test_what_a_node_that_is_gone_has_begun_is_anybodys() -> None:
    """Though another would not have shared it."""
    schedule = Schedule()
    schedule.add(task("a", 300, 100), ["a1"])
    schedule.begin("n0", "a0")
    assert taken(schedule, N1, peers=2) is None
    schedule.drop("n0")
    assert taken(schedule, N1, peers=2) == ["a1"]
