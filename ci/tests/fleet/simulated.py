"""A place on a virtual clock: nodes that fail as they are told to, behind the real driver.

python -m ci.tests.fleet.simulated [MODELS NODES [random]]    the tables of fixtures/fleet/README.md
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ci.tests.conftest import ROOT
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.store.journal import Entry, line, session_line
from fixtures.fleet.adopt import adopt
from fixtures.fleet.driver import Driver
from fixtures.fleet.place import Ended, Node, Running, Shard, State, Waiting
from fixtures.fleet.split import least_s, split

HEADER = {"protocol": {"rounds": 5}, "isolated": False, "versions": {"torch": "2"}, "threads": None}
START_S = 10.0  # of a shard, as the plan counts it
DIES, PREEMPTED, LIES, CRASHES, AT_ONCE = "dies", "is preempted", "lies", "crashes", "crashes at once"


@cache
def template() -> str:
    """A benchmark of a history, as JSON."""
    stored = json.loads((ROOT / "ci/histories/1xcpu/default_20261124.json").read_text())
    return json.dumps(stored["benchmarks"][0])


def cases_of(models: int, each: int, device: str = "cpu") -> list[Case]:
    """Models, each with so many batch sizes, on one device."""
    hardware = HardwareSpec(device, "cpu" if device == "cpu" else "gpu")
    specs = [ModelSpec(f"m{number}", {"model_type": "mamba"}) for number in range(models)]
    points = [Point(1 + size, 4, 2) for size in range(each)]
    return [Case(model, hardware, 1, EngineSpec("hf"), point) for model in specs for point in points]


def result_line(case: Case, median_s: float = 1.0) -> bytes:
    """The journal's line of a measured case."""
    benchmark = json.loads(template())
    record = benchmark["extra_info"]
    record["case"] = case.as_dict()
    record["machine"] = {**record["machine"], "device": case.hardware.name}
    record["record_version"], record["latency_median_s"] = 5, median_s
    benchmark.update(param=case.id, name=f"test_generate[{case.id}]")
    benchmark["stats"]["data"] = [median_s] * 5
    return line({"case": case.id, "benchmark": benchmark})


def nodes_of(number: int, device: str = "cpu") -> list[Node]:
    """Nodes with one device each."""
    spec = cases_of(1, 1, device)[0].hardware
    header = {**HEADER, "machine": {"device": device, "node": "any"}}
    return [Node(f"n{index}", Machine(spec, 1), header) for index in range(number)]


@dataclass
class Job:
    """A shard: when it starts and ends, what it has written by then, and how it ends."""

    shard: Shard
    node: str
    start_s: float
    lines: list[tuple[float, bytes]]
    end_s: float
    code: int | None
    size: int = 0
    sent: bytearray = field(default_factory=bytearray)


class Simulated:
    """`fixtures.fleet.place.Place` on a clock of its own.

    `seconds` is what each case takes, `speed` a node's multiple of it. `faults` has for the number of a
    submission how it fails: after half of its cases, or without the node's coming back. A shard crashes in
    the case `poison`.
    """

    name = "simulated"
    hosts = 1

    def __init__(
        self,
        nodes: Sequence[Node],
        cases: Mapping[str, Case],
        seconds: Mapping[str, float],
        faults: Mapping[int, str] | None = None,
        speed: Mapping[str, float] | None = None,
    ) -> None:
        self.unfit: Mapping[str, str] = {}
        self.up = {node.name: node for node in nodes}
        self.all = dict(self.up)
        self.cases, self.seconds, self.faults, self.speed = cases, seconds, faults or {}, speed or {}
        self.now_s, self.submitted, self.lost_s, self.longest_s = 0.0, 0, 0.0, 0.0
        self.jobs: dict[str, Job] = {}
        self.waits_s, self.cancelled, self.shards = 0.0, [], []  # type: ignore[var-annotated]
        self.bodies: dict[str, bytes] = {}
        self.begun: dict[str, tuple[float, float, tuple[str, ...]]] = {}  # shard -> start, end, nodes
        self.poison: str | None = None
        self.back_s: float | None = None  # when nodes that have died are up again

    def clock(self) -> float:
        return self.now_s

    def sleep(self, _seconds: float) -> None:
        """To the next thing that happens, at least a second on."""
        times = [at for job in self.jobs.values() for at, _ in job.lines[:1]]
        times += [job.end_s for job in self.jobs.values()] + [job.start_s for job in self.jobs.values()]
        soon_s = self.now_s + 1.0
        self.now_s = max(min((at for at in times if at > self.now_s), default=soon_s), soon_s)

    def nodes(self) -> Sequence[Node]:
        if self.back_s is not None and self.now_s >= self.back_s:
            self.up = dict(self.all)
        return list(self.up.values())

    def submit(self, shard: Shard) -> str:
        self.submitted += 1
        self.shards.append(shard)
        node, fault = shard.nodes[0], self.faults.get(self.submitted)
        start_s = self.now_s + self.waits_s
        at, lines = start_s + START_S, [(start_s, session_line(self.up[node].header))]
        for case_id in shard.cases:
            took_s = self.seconds[case_id] * self.speed.get(node, 1.0)
            self.longest_s = max(self.longest_s, took_s)
            at += took_s
            body = self.bodies.get(case_id) or result_line(self.cases[case_id], took_s)
            lines.append((at, body))
        if fault is not None:
            left = lines[: 1 + (0 if fault == AT_ONCE else len(shard.cases) // 2)]
            end_s = (left[-1][0] if len(left) > 1 else start_s + START_S) + self.seconds[shard.cases[0]] / 2
            self.lost_s += end_s - left[-1][0]
            code = {LIES: 0, CRASHES: 139, AT_ONCE: 139}.get(fault)
            self.jobs[shard.name] = Job(shard, node, start_s, left, end_s, code)
            if fault == DIES:
                del self.up[node]
        elif self.poison in shard.cases:
            left = lines[: 1 + shard.cases.index(self.poison)]
            self.jobs[shard.name] = Job(shard, node, start_s, left, left[-1][0] + START_S, 139)
        else:
            self.jobs[shard.name] = Job(shard, node, start_s, lines, at, 0)
        job = self.jobs[shard.name]
        self.begun[shard.name] = (job.start_s, job.end_s, shard.nodes)
        return shard.name

    def state(self, handle: str) -> State:
        job = self.jobs[handle]
        if self.now_s < job.start_s:
            return Waiting("Resources")
        return Ended(job.code, job.node, "") if self.now_s >= job.end_s else Running(job.node)

    def read(self, handle: str, offset: int) -> bytes:
        job = self.jobs[handle]
        while job.lines and job.lines[0][0] <= self.now_s:
            job.sent += job.lines.pop(0)[1]
        sent = bytes(job.sent[: 2**20])
        assert offset == job.size  # the driver reads each byte once
        job.size += len(sent)
        del job.sent[: len(sent)]
        return sent

    def cancel(self, handle: str) -> None:
        self.cancelled.append(handle)
        self.jobs.pop(handle, None)

    def find(self, run_id: str) -> Mapping[str, str]:
        return {name: name for name in self.jobs if name.startswith(f"{run_id}-")}

    def close(self) -> None:
        pass


@dataclass
class Outcome:
    """What a run came to."""

    driver: Driver
    place: Simulated
    taken: dict[str, tuple[Entry, dict[str, Any]]]
    lost: dict[str, str]
    said: list[str]
    left: list[str]
    marks: dict[str, list[str]]  # of each case, when it was taken
    at_s: dict[str, float]  # when


def run(
    place: Simulated,
    cases: Sequence[Case],
    load_s: float = 0.0,
    journal: Path | None = None,
    carried: Collection[str] = (),
    **others: Any,
) -> Outcome:
    """Run the cases through the real driver, but those carried over from a run with that journal."""
    of_id = {case.id: case for case in cases}
    nodes = list(place.nodes())
    taken: dict[str, tuple[Entry, dict[str, Any]]] = {}
    lost: dict[str, str] = {}
    said: list[str] = []
    left: list[str] = []
    marks: dict[str, list[str]] = {}
    at_s: dict[str, float] = {}

    def take(entry: Entry, where: dict[str, Any]) -> None:
        assert entry.case_id not in taken, "once"
        taken[entry.case_id] = (entry, where)
        at_s[entry.case_id] = place.clock()
        marks[entry.case_id] = driver.comparison.marks(where["node"])

    driver = Driver(
        place=place,
        nodes=nodes,
        cases=of_id,
        headers={node.name: node.header for node in nodes},
        run_id="run",
        make_shard=lambda shard: shard,
        take=take,
        lose=lost.__setitem__,
        leave=left.append,
        say=said.append,
        clock=place.clock,
        sleep=place.sleep,
        **others,
    )
    expected = {case.id: (place.seconds[case.id], load_s) for case in cases}
    kinds = {node.machine.hardware.name: len(nodes) for node in nodes}
    to_come = {case.id: case for case in cases if case.id not in carried}
    adopted = [] if journal is None else list(adopt(driver, journal, to_come))
    references = {case.load_key: case.id for case in reversed(cases)}
    driver.run(split(list(to_come.values()), expected, kinds, references), adopted)
    return Outcome(driver, place, taken, lost, said, left, marks, at_s)


def at_scale(models: int, each: int, nodes: int, seed: int = 1, grow: bool = True) -> dict[str, float]:
    """Cases over nodes, of which some die and some shards fail; the figures of the README.

    A load's cases take 20 to 200 s, the larger their batch the longer if they `grow`.
    """
    draw = random.Random(seed)
    cases = cases_of(models, each)
    seconds: dict[str, float] = {}
    for first in range(0, len(cases), each):
        drawn = [draw.uniform(20, 200) for _ in range(each)]
        drawn = sorted(drawn) if grow else drawn
        seconds |= {case.id: value for case, value in zip(cases[first : first + each], drawn, strict=True)}
    faults = {
        n: draw.choice([DIES, PREEMPTED, LIES, CRASHES]) for n in range(1, 40 * nodes) if draw.random() < 0.03
    }
    place = Simulated(nodes_of(nodes), {case.id: case for case in cases}, seconds, faults)
    place.bodies = {case.id: result_line(case) for case in cases}
    expected = {case.id: (seconds[case.id], 0.0) for case in cases}
    least = least_s(split(cases, expected, {"cpu": nodes}), {"cpu": nodes})
    began = time.process_time()
    done = run(place, cases)
    return {
        "cases": len(cases),
        "nodes": nodes,
        "shards": place.submitted,
        "failed shards": sum(1 for number in faults if number <= place.submitted),
        "nodes lost": nodes - len(place.up),
        "taken": len(done.taken),
        "lost": len(done.lost),
        "CPU s": time.process_time() - began,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "makespan / bound": place.now_s / least,
        "s lost a failed shard / longest case": place.lost_s
        / max(sum(1 for number in faults if number <= place.submitted), 1)
        / place.longest_s,
    }


if __name__ == "__main__":
    models, nodes = (int(word) for word in sys.argv[1:3] or ("200", "500"))
    for name, value in at_scale(models, 50, nodes, grow="random" not in sys.argv).items():
        print(f"| {name} | {value:.2f} |" if isinstance(value, float) else f"| {name} | {value} |")
