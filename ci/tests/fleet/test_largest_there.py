"""`max` with `--on`: nodes search for largest batches; what cannot be tried keeps its prediction."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ci.tests.conftest import ROOT, histories, write_suite
from ci.tests.fleet.simulated import cases_of, nodes_of
from ci.tests.fleet.test_on_ray import until
from fixtures.core.base.errors import InputError
from fixtures.core.cost.max_batch import kept, key_of, of_case
from fixtures.core.spec.case import Case, Point
from fixtures.fleet import largest
from fixtures.fleet.place import Ended, Shard

pytest_plugins = ["pytester"]

NODES = nodes_of(2)
MACHINE = {"device": "cpu", "node": "any"}  # of both


class Nodes:
    """A place whose nodes send what they are told to, and are done at once."""

    name = "nodes"

    def __init__(self, sends: Mapping[str, bytes]) -> None:
        self.sends, self.shards, self.cancelled = sends, list[Shard](), list[str]()

    def find(self, run_id: str) -> dict[str, str]:
        """A search of n0 that a killed driver began."""
        return {f"{run_id}-0": "n0"}

    def submit(self, shard: Shard) -> str:
        """A node that is to send nothing refuses."""
        self.shards.append(shard)
        if shard.nodes[0] not in self.sends:
            raise InputError("the queue is full")
        return shard.nodes[0]

    def state(self, handle: str) -> Ended:
        """Over."""
        return Ended(None, handle, "its node died")

    def read(self, handle: str, offset: int) -> bytes:
        """A few bytes at a time."""
        return self.sends[handle][offset : offset + 7]

    def cancel(self, handle: str) -> None:
        """Noted."""
        self.cancelled.append(handle)


def searched(path: Path, cases: list[Case], sends: Mapping[str, bytes]) -> tuple[Any, Nodes, Any]:
    """What is found, the place, and the session."""
    said: list[str] = []
    option = {
        "on": "nodes",
        "suite": "default", "weights": "random", "settings": [], "trust_remote_code": False, "isolate": False,
        "model": None, "engines": None, "rounds": None, "warmup_rounds": None, "rank_timeout": 900,
        "case_timeout": None, "wait_device": 0.0, "delay": 0.0,
    }  # fmt: skip
    config = SimpleNamespace(rootpath=path, invocation_params=SimpleNamespace(dir=path))
    session: Any = SimpleNamespace(
        config=config, option=SimpleNamespace(**option), say=said.append, said=said, notes=[], elapsed_s=0.0
    )
    place: Any = Nodes(sends)
    return largest.search(session, place, NODES, cases), place, session


def line(case: Case, tried: Mapping[int, bool]) -> bytes:
    """What a node sends of a case."""
    return kept(key_of(case, {"torch": "2"}, MACHINE), tried).encode()


def test_each_node_searches_for_its_part(tmp_path: Path) -> None:
    """What they find is stored, and known without another search; other lines are passed over."""
    one, two = cases_of(2, 1)
    other = replace(one, point=Point(1, 5, 2))
    sends = {
        "n0": b"\xff\n"
        + b"[" * 10**5
        + b"\n[]\n"
        + line(other, {9: True})
        + line(one, {20: True, 22: False}),
        "n1": line(two, {1: False}),
    }
    found, place, session = searched(tmp_path, [one, two], sends)
    assert found == {one: 20, two: 0}
    assert [(shard.nodes, shard.cases) for shard in place.shards] == [
        (("n0",), (one.id,)),
        (("n1",), (two.id,)),
    ]
    for case, shard in zip((one, two), place.shards, strict=True):
        ((name, text),) = shard.files
        assert json.loads(text) == {of_case(case): None}
        assert ("--largest", f"{{folder}}/{name}") == shard.arguments[-2:]
    assert place.cancelled == ["n0", "n1"]
    assert [largest.known(session, NODES, case) for case in (one, two, other)] == [20, 0, None]


@pytest.mark.parametrize(
    ("sends", "why"),
    [
        ({"n0": b""}, "n0: its node died"),
        ({}, "n0: the queue is full"),
        ({"n0": b"no flash"}, "n0: no flash"),
        ({"n0": b"\x1b[2J"}, "n0: its node died"),
    ],
)
def test_what_cannot_be_tried_keeps_its_prediction(tmp_path: Path, sends: dict[str, bytes], why: str) -> None:
    """With the reason; nothing is stored."""
    (case,) = cases_of(1, 1)
    if told := sends.get("n0"):
        values = {"key": key_of(case, {"torch": "2"}, MACHINE), "untried": told.decode()}
        sends = {"n0": json.dumps(values).encode() + b"\n"}
    found, _, session = searched(tmp_path, [case], sends)
    assert found == {}
    assert session.said[-1] == (
        f"largest batch of m0-1xcpu-hf input 4 output 2 cannot be tried: {why}; using the predicted 1"
    )
    assert largest.known(session, NODES, case) is None


def left_behind(path: Path, cases: list[Case], on: str = "nodes") -> Path:
    """The note of a driver that was killed while n0 searched for these cases."""
    note = path / ".benchmarks/fleet/largest7x7.jsonl"
    note.parent.mkdir(parents=True)
    search = {"node": "n0", "cases": [case.id for case in cases]}
    note.write_text(json.dumps({"place": ["nodes", on], "searches": {"largest7x7-0": search}}))
    return note


def test_a_search_that_a_killed_driver_left_is_taken_over(tmp_path: Path) -> None:
    """n0 is not asked again; what it was asked for and does not send, one of the nodes is."""
    one, two, other = cases_of(3, 1)
    note = left_behind(tmp_path, [one, two])
    sends = {"n0": line(one, {20: True}) + line(other, {9: True}), "n1": line(other, {5: True})}
    found, place, session = searched(tmp_path, [other, one, two], sends)
    assert found == {one: 20, other: 9}
    assert [(shard.nodes, shard.cases) for shard in place.shards] == [
        (("n0",), (other.id,)),
        (("n1",), (two.id,)),
    ]
    assert place.cancelled == ["n0", "n0", "n1"]
    assert session.said[0] == ("a search that a killed driver has left, largest7x7-0, is taken over")
    assert not list(note.parent.iterdir())


def test_a_search_that_nobody_needs_is_ended(tmp_path: Path) -> None:
    """One that a killed driver left on this cluster; not that of another driver, or on another cluster."""
    (case,) = cases_of(1, 1)
    note = left_behind(tmp_path, [case])
    with note.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert searched(tmp_path, [], {})[1].cancelled == []
    assert searched(tmp_path, [], {})[1].cancelled == ["n0"]
    assert not note.exists()
    note.parent.rmdir()
    note = left_behind(tmp_path, [case], on="elsewhere")
    assert searched(tmp_path, [], {})[1].cancelled == []
    assert note.exists()


def test_a_driver_notes_what_it_searches_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a node begins, in a file that nobody else can lock, and that is gone at the end."""
    (case,) = cases_of(1, 1)
    notes: list[Any] = []

    def submit(place: Nodes, shard: Shard) -> str:
        (file,) = (tmp_path / ".benchmarks/fleet").iterdir()
        with file.open() as held, pytest.raises(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        notes.append((json.loads(file.read_text()), file.stem, shard.name))
        return "n0"

    monkeypatch.setattr(Nodes, "submit", submit)
    searched(tmp_path, [case], {"n0": line(case, {20: True})})
    ((noted, run, name),) = notes
    assert noted == {"place": ["nodes", "nodes"], "searches": {name: {"node": "n0", "cases": [case.id]}}}
    assert name == f"{run}-0"
    assert not list((tmp_path / ".benchmarks/fleet").iterdir())


def test_a_case_of_several_nodes_is_not_tried(tmp_path: Path) -> None:
    """No node alone has its devices."""
    (case,) = cases_of(1, 1)
    wide = replace(case, devices=2)
    found, place, session = searched(tmp_path, [wide], {})
    assert (found, place.shards) == ({}, [])
    assert "cannot be tried: it needs the devices of several nodes; using" in session.said[-1]


FAKE_TRIAL = """
import fixtures.engines.processes.max_batch as _largest
from ci.tests.core.cost.test_largest import FakeTrial as _FakeTrial

_largest.Trial = _FakeTrial
"""


def asks_for_max(folder: Path) -> None:
    """A project with a suite of `max`, of which 20 fit, and 22 are predicted."""
    write_suite(folder, "m", batch_sizes=["max"], output_lengths=[2, 3])
    suite = json.loads((folder / "suite.yaml").read_text())
    suite["models"][0] |= {"parameters": 1000, "kv_values_per_token": 10**8}
    (folder / "suite.yaml").write_text(json.dumps(suite))
    conftest = folder / "conftest.py"
    conftest.write_text(conftest.read_text() + FAKE_TRIAL)
    for name in ("fixtures", "ci"):
        (folder / name).symlink_to(ROOT / name)


# A trial notes that it begins, and waits.
WAITS = """

class _Waits(_FakeTrial):
    def load(self):
        import time
        from pathlib import Path

        with Path("begun").open("a") as begun:
            begun.write("once ")
        while not Path("go").exists():
            time.sleep(0.02)
        return super().load()


_largest.Trial = _Waits
"""


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_max_is_searched_for_on_a_node_and_then_known(faked: pytest.Pytester) -> None:
    """The same batch as without a cluster: 20, not the prediction; the last run searches no more.

    The first driver is killed while the node searches, and the second one takes that search over.
    """
    asks_for_max(faked.path)
    conftest = faked.path / "conftest.py"
    conftest.write_text(conftest.read_text() + WAITS)
    asked = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml", "--on", "local")
    words = [sys.executable, "-P", "-m", "pytest", *asked]
    with subprocess.Popen(words, cwd=faked.path, stdout=subprocess.DEVNULL) as killed:
        until((faked.path / "begun").exists, "the search begins")
        killed.kill()
    (faked.path / "go").touch()
    result = faked.runpytest_subprocess(*asked, "--resume")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "a search that a killed driver has left, *, is taken over",
            "largest batch of m-1xcpu-hf input 4 output 3: 20 on here",
        ]
    )
    assert (faked.path / "begun").read_text() == "once "
    fleet = faked.path / ".benchmarks/fleet"
    assert not list(fleet.iterdir())
    (fleet / "largest7x7-0").mkdir()
    (fleet / "largest7x7-0/node").write_text("here")
    (fleet / "largest7x7.jsonl").write_text('{"place": ["local", "local"]}')
    again = faked.runpytest_subprocess(*asked)
    again.assert_outcomes(passed=2)
    again.stdout.fnmatch_lines(["a search that a killed driver has left, largest7x7-0, is ended"])
    assert not list(fleet.iterdir())
    again.stdout.no_fnmatch_line("*largest batch*")
    for history in histories(faked.path):
        ids = [one["param"] for one in history["benchmarks"]]
        assert ids == [f"m-1xcpu-hf-b20-in4-out{output}" for output in (2, 3)]
