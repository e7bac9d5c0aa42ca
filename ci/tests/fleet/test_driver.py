"""The driver on a virtual clock: each case once, whatever becomes of shards and nodes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ci.tests.fleet.simulated import (
    AT_ONCE,
    CRASHES,
    DIES,
    LIES,
    PREEMPTED,
    Outcome,
    Simulated,
    at_scale,
    cases_of,
    nodes_of,
    result_line,
    run,
)
from fixtures.core.base.strict_json import dumps
from fixtures.core.store.journal import session_line
from fixtures.fleet.place import Ended
from fixtures.fleet.probed import alike, node_of
from fixtures.fleet.split import everywhere, least_s, split
from fixtures.fleet.stream import Stream


def simulated(
    models: int, each: int, nodes: int, faults: dict[int, str] | None = None, **others: Any
) -> tuple[Simulated, Outcome]:
    """Cases of 100 s through the driver."""
    cases = cases_of(models, each)
    by_id = {case.id: case for case in cases}
    speed = others.pop("speed", None)
    place = Simulated(nodes_of(nodes), by_id, dict.fromkeys(by_id, 100.0), faults, speed)
    for key in [key for key in others if hasattr(place, key)]:
        setattr(place, key, others.pop(key))
    return place, run(place, cases, **others)


def test_one_node_measures_all_in_order() -> None:
    """Without a second node no case is measured twice: 6 x 100 s, and the start of each shard."""
    place, done = simulated(1, 6, 1)
    assert list(done.taken) == [case.id for case in cases_of(1, 6)]
    assert place.now_s == 600 + 10 * place.submitted
    assert done.taken["m0-1xcpu-hf-b1-in4-out2"][1] == {
        "place": "simulated", "node": "n0", "shard": "run-1", "devices": [], "tries": 1,
    }  # fmt: skip
    assert sorted(place.cancelled) == sorted(shard.name for shard in place.shards)  # nothing is left there


def test_shards_share_a_load_and_no_node() -> None:
    """A shard has the cases of one load; two shards are never on one node at once."""
    place, done = simulated(3, 8, 2)
    assert len(done.taken) == 24
    for shard in place.shards:
        assert len({case_id.partition("-")[0] for case_id in shard.cases}) == 1
        assert len(shard.nodes) == 1


@pytest.mark.parametrize("fault", [PREEMPTED, LIES, CRASHES, DIES])
def test_a_shard_that_fails_loses_nothing(fault: str) -> None:
    """Its finished cases count, the others are measured again, with the try in the record of one."""
    place, done = simulated(1, 16, 2, {1: fault})
    assert len(done.taken) == 16
    assert not done.lost
    tried = {i: where for i, (_, where) in done.taken.items() if where["tries"] > 1}
    ((culprit, where),) = tried.items()
    first = place.shards[0]
    assert culprit == first.cases[len(first.cases) // 2]  # the first without a line
    assert where["tries"] == 2
    assert where["failed_tries"][0].startswith("n0: ")
    assert ("n0" in place.up) == (fault != DIES)
    if fault == LIES:
        assert "without entries of all its cases" in where["failed_tries"][0]


def test_a_case_that_another_shard_has_sent_is_done() -> None:
    """As after a driver that was killed: it counts once, and is not tried again."""
    place, done = simulated(1, 2, 1, finished={"m0-1xcpu-hf-b1-in4-out2"})
    assert list(done.taken) == ["m0-1xcpu-hf-b2-in4-out2"]
    assert (done.lost, place.submitted) == ({}, 2)  # a shard each, and no more


def test_tries_are_bounded() -> None:
    """Every shard fails in its first case: each case is given up after three tries, and the run ends."""
    place, done = simulated(1, 2, 3, dict.fromkeys(range(1, 100), CRASHES))
    assert set(done.lost) | set(done.taken) == {case.id for case in cases_of(1, 2)}
    assert place.submitted < 20
    assert any("lost" in reason for reason in done.lost.values())


def test_a_node_on_which_nothing_works_is_left_out() -> None:
    """Two shards in a row end there without a case."""
    place, done = simulated(1, 1, 1, dict.fromkeys(range(1, 100), CRASHES))
    assert list(done.lost.values()) == ["lost: no node with 1xcpu is left"]
    assert place.submitted == 2
    assert "warning: n0 is left out from here on: 2 shards in a row ended there without a case" in done.said


def test_a_cluster_may_shrink_to_nothing() -> None:
    """What no node is left for is lost, with the shape that it needs; what was sent counts."""
    _, done = simulated(1, 32, 2, {1: DIES, 2: DIES})
    assert done.taken
    assert len(done.taken) + len(done.lost) == 32
    assert set(done.lost.values()) == {"lost: no node with 1xcpu is left"}


def test_a_node_that_is_up_again_is_taken_back() -> None:
    """n0, the only one with work left, dies at 370 s, and is up again at 500 s: it measures the rest."""
    place, done = simulated(1, 32, 2, {1: DIES}, back_s=500.0)
    assert len(done.taken) == 32
    (name,) = [said.partition(" ")[0] for said in done.said if said.endswith(" is up again")]
    later = [
        shard.name for shard in place.shards if shard.nodes == (name,) and place.begun[shard.name][0] > 500
    ]
    assert any(where["shard"] in later for _, where in done.taken.values())


def test_a_slow_node_is_named() -> None:
    """Its reference case takes 20 % longer than on the others, which agree."""
    _, done = simulated(2, 12, 3, speed={"n1": 1.2})
    assert [said for said in done.said if "+20 %" in said and said.startswith("warning: n1 differs")]
    references = done.driver.comparison.medians_s["m0-1xcpu-hf-b1-in4-out2"]
    assert {node: s for node, s in references.items() if node != "n1"} == dict.fromkeys(
        set(references) - {"n1"}, 100.0
    )


def test_a_node_is_named_before_its_other_cases_count() -> None:
    """All that n1 measures has the mark as soon as it is taken, and nothing else has one."""
    _, done = simulated(2, 12, 3, speed={"n1": 1.2})
    for case_id, (_, where) in done.taken.items():
        marks = ["node: n1 differs by +20 % in m0-1xcpu-hf-b1-in4-out2"] if where["node"] == "n1" else []
        assert done.marks[case_id] == marks


def test_all_nodes_measure_the_first_cases_of_loads() -> None:
    """Of the cheapest load by all three; of the others by those that take cases of theirs."""
    place, done = simulated(2, 12, 3)
    first = "m0-1xcpu-hf-b1-in4-out2"
    assert set(done.driver.comparison.medians_s[first]) == {"n0", "n1", "n2"}
    for shard in place.shards:
        reference = shard.cases[0].partition("-")[0] + first[2:]
        begun = done.driver.comparison.medians_s[reference]
        assert shard.nodes[0] in begun
    assert sum(len(shard.cases) for shard in place.shards) == 24 + sum(
        len(nodes) - 1 for nodes in done.driver.comparison.medians_s.values()
    )


def test_no_other_node_is_waited_for_too_long() -> None:
    """n1 takes a hundred times as long: what n0 sends is taken once it has waited for as long as it took.

    It began at 0 s, had the first case at 110 s and waits until 220 s; the clock goes on from case to case.
    """
    cases = cases_of(1, 12)
    by_id = {case.id: case for case in cases}
    place = Simulated(nodes_of(2), by_id, dict.fromkeys(by_id, 100.0), speed={"n1": 100.0})
    done = run(place, cases, load_s=200.0)
    assert len(done.taken) == 12
    assert [done.at_s[case.id] for case in cases[:4]] == [310.0, 310.0, 310.0, 410.0]
    assert done.marks[cases[0].id] == []


def test_other_cases_wait_for_the_other_node() -> None:
    """n1 takes 90 % longer: n0, which had two cases by then, is known to differ before any counts."""
    _, done = simulated(1, 24, 2, speed={"n1": 1.9})
    assert len(done.taken) == 24
    assert all(marks[0].startswith("node: n") for marks in done.marks.values())


def test_a_comparison_that_fails_costs_nothing_else() -> None:
    """The second shard, which is n1's first, crashes in the case that it measures for comparison alone."""
    _, done = simulated(1, 12, 2, {2: AT_ONCE})
    assert len(done.taken) == 12
    assert not done.lost
    assert all(where["tries"] == 1 for _, where in done.taken.values())


def test_a_case_that_crashes_its_process_is_lost_alone() -> None:
    """On one node, which is not left out for it."""
    cases = cases_of(1, 6)
    by_id = {case.id: case for case in cases}
    place = Simulated(nodes_of(1), by_id, dict.fromkeys(by_id, 100.0))
    place.poison = cases[0].id
    done = run(place, cases)
    assert list(done.lost) == [cases[0].id]
    assert set(done.taken) == {case.id for case in cases[1:]}


def test_waiting_is_shown_with_the_schedulers_reason() -> None:
    """Nobody's shard has started yet."""
    shown: list[tuple[int, int, str]] = []
    simulated(1, 2, 1, waits_s=50.0, show=lambda *told: shown.append(told))
    assert (0, 1, "Resources") in shown
    assert (1, 0, "") in shown


def test_after_the_limit_nothing_is_handed_out() -> None:
    """What no shard has is left out by name."""
    _, done = simulated(1, 8, 1, is_late=lambda: True)
    assert sorted(done.left) == sorted(case.id for case in cases_of(1, 8))


def test_a_run_that_stops_leaves_no_shard_behind() -> None:
    """As after -x or Ctrl-C."""

    def interrupt(*_told: object) -> None:
        raise KeyboardInterrupt

    cases = cases_of(1, 4)
    by_id = {case.id: case for case in cases}
    place = Simulated(nodes_of(2), by_id, dict.fromkeys(by_id, 1.0))
    with pytest.raises(KeyboardInterrupt):
        run(place, cases, show=interrupt)
    assert place.jobs == {}


def test_a_place_that_refuses_counts_a_try() -> None:
    """Then the case is tried again."""
    from fixtures.core.base.errors import InputError

    cases = cases_of(1, 1)
    place = Simulated(nodes_of(1), {cases[0].id: cases[0]}, {cases[0].id: 1.0})
    works, calls = place.submit, []

    def submit(shard: Any) -> str:
        calls.append(shard.name)
        if len(calls) == 1:
            raise InputError("the queue is full")
        return works(shard)

    place.submit = submit  # type: ignore[method-assign]
    done = run(place, cases)
    assert done.taken[cases[0].id][1]["failed_tries"] == ["n0: the queue is full"]


def fed(*lines: bytes) -> tuple[list[str], Stream]:
    """The ids that a stream takes of a shard with one case."""
    case = cases_of(1, 1)[0]
    stream = Stream({case.id: case}, nodes_of(1)[0].header)
    return [entry.case_id for line in lines for entry in stream.feed(line)], stream


def test_what_a_shard_sends_is_data() -> None:
    """A line is taken only whole, of the shard's case, on its device, after the header of its node."""
    case, other = cases_of(1, 2)
    header, good = session_line(nodes_of(1)[0].header), result_line(case)
    assert fed(header, good) == ([case.id], fed(header, good)[1])
    assert fed(header, good[:100], good[100:-1])[0] == []  # the line has not ended
    assert fed(good)[0] == []  # no header
    odd: dict[bytes, str] = {
        result_line(other): "is not its case",
        b"\xff\xfe\n": "not JSON",
        b"[" * 10**5 + b"\n": "not JSON",
        good.replace(b'"device": "cpu"', b'"device": "h200"'): "another model, device or engine",
        b'{"case": "\x1b[2J"}\n': "not JSON",
        b'{"case": "\\u001b[2J"}\n': "not printable",
    }
    for line, why in odd.items():
        ids, stream = fed(header, line)
        assert ids == []
        assert why in str(stream.refused)
    assert "1 is 2" not in str(fed(header.replace(b'"2"', b'"3"'), good)[1].refused)
    assert "its versions torch" in str(fed(header.replace(b'"2"', b'"3"'), good)[1].refused)


def test_escape_sequences_of_a_failure_do_not_reach_the_screen() -> None:
    """They are written out, on one line, and cut."""
    case = cases_of(1, 1)[0]
    line = json.dumps({"case": case.id, "failure": "bad\x1b[2J\n" + "x" * 10**4}).encode() + b"\n"
    stream = Stream({case.id: case}, nodes_of(1)[0].header)
    list(stream.feed(session_line(nodes_of(1)[0].header)))
    (entry,) = stream.feed(line)
    assert entry.values["failure"].startswith("bad\\x1b[2J xxx")
    assert len(entry.values["failure"]) == 400


def test_a_shard_cannot_fill_the_memory() -> None:
    """A line without an end is dropped at 8 MiB and a bit."""
    stream = fed()[1]
    for _ in range(20):
        list(stream.feed(b"x" * 2**20))
    assert stream.refused == "it sends more than a journal has"
    assert len(stream._rest) < 10 * 2**20


def test_nodes_of_one_kind_are_alike() -> None:
    """One of three has another torch: it is left out by name. One with another clock is named, and stays."""
    nodes = nodes_of(3)
    nodes[1] = dataclasses.replace(nodes[1], header={**nodes[1].header, "versions": {"torch": "1"}})
    nodes[2] = dataclasses.replace(nodes[2], clock_off_s=95.0)
    said: list[str] = []
    assert [node.name for node in alike(nodes, said.append)] == ["n0", "n2"]
    assert said == [
        "warning: n1 is left out: unlike other nodes with cpu, its versions torch is '1', theirs '2'",
        "warning: the clock of n2 is off by +95 s",
    ]


def test_a_probe_becomes_a_node() -> None:
    """By what its GPUs report; an answer that is none is no node."""
    report = {"device": "h200", "reported_name": "NVIDIA H200", "devices": 8, "memory_bytes": 150 * 10**9}
    node = node_of("a", {"report": report, "devices": ["GPU-1", "GPU-\x1b2"], "time_s": 1100.0}, 1000.0)
    assert node is not None
    assert (node.machine.hardware.kind, node.machine.devices) == ("gpu", 8)
    assert node.devices == ("GPU-1", "GPU-\\x1b2")
    assert node.clock_off_s == 100.0
    assert node_of("a", {}) is None
    assert node_of("a", {"report": report, "fault": "nvidia-smi fails"}) is None


def test_long_loads_are_split_by_expected_seconds() -> None:
    """Four nodes: a load of 800 s in parts of at most a quarter of what each node is to take, 50 s."""
    cases = cases_of(1, 16)
    tasks = split(cases, {case.id: (50.0, 0.0) for case in cases}, {"cpu": 4})
    assert [len(task.cases) for task in tasks] == [1] * 16
    assert least_s(tasks, {"cpu": 4}) == (16 * 50 + 10) / 4
    assert len(split(cases, {case.id: (1.0, 0.0) for case in cases}, {"cpu": 4})) == 1  # not worth a start


def test_the_reference_is_the_first_case() -> None:
    """Not the shortest; all nodes of a kind measure those that fit into a tenth of their time, here 300 s."""
    cases = cases_of(3, 10)
    seconds = {case.id: (200.0 - case.point.batch_size, 0.0) for case in cases}
    tasks = split(cases, seconds, {"cpu": 2})
    assert {task.reference for task in tasks} == {f"m{n}-1xcpu-hf-b1-in4-out2" for n in range(3)}
    found = everywhere(tasks, {"cpu": 2})["cpu"]
    assert [(one.reference, one.cases) for one in found] == [("m0-1xcpu-hf-b1-in4-out2", [])]
    assert everywhere(tasks, {"cpu": 1}) == {}


def test_no_case_is_lost_at_a_tenth_of_the_scale() -> None:
    """What the README's table has of 10,000 cases, quickly."""
    figures = at_scale(10, 20, 10)
    assert figures["taken"] + figures["lost"] == 200
    assert figures["lost"] == 0
    assert figures["failed shards"] >= 1
    assert figures["makespan / bound"] < 1.5
    assert figures["s lost a failed shard / longest case"] <= 1


def test_states_are_values() -> None:
    """A lost shard has no code."""
    assert Ended(None) != Ended(0)


@pytest.mark.parametrize(("hosts", "devices", "nodes"), [(2, 2, 3), (2, 3, 12), (2, 4, 3), (4, 3, 3)])
def test_a_case_that_no_node_has_room_for_takes_several(hosts: int, devices: int, nodes: int) -> None:
    """As few as share its ranks evenly, each of one rank here; without so many it is lost, the others not."""
    small, other = cases_of(2, 6)[:6], cases_of(2, 1)[1]
    wide = dataclasses.replace(other, devices=devices)
    cases = [*small, wide]
    by_id = {case.id: case for case in cases}
    place = Simulated(nodes_of(nodes), by_id, dict.fromkeys(by_id, 100.0))
    place.hosts = hosts
    place.bodies[wide.id] = dumps({"case": wide.id, "failure": "of a rank"}).encode() + b"\n"
    done = run(place, cases)
    assert {case.id for case in small} <= set(done.taken)
    shards = [shard for shard in place.shards if wide.id in shard.cases]
    if devices > hosts:
        assert done.lost == {wide.id: f"lost: no node with {devices}xcpu is left"}
        assert shards == []
    else:
        (shard,) = shards
        assert len(set(shard.nodes)) == devices
        assert done.taken[wide.id][1]["node"] == ", ".join(shard.nodes)
        for other_shard in place.shards:  # at the same time nobody else is on them
            assert other_shard is shard or _apart(place, shard.name, other_shard.name)


def _apart(place: Simulated, one: str, other: str) -> bool:
    first, second = place.begun[one], place.begun[other]
    return set(first[2]).isdisjoint(second[2]) or first[1] <= second[0] or second[1] <= first[0]
