"""The journal as data: whatever of it was written is read, and nothing else is taken for a measurement."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.tests.conftest import ROOT
from fixtures.core.base.errors import InputError
from fixtures.core.cost.sweep import expand
from fixtures.core.result.out_of_memory import out_of_memory
from fixtures.core.result.record import RECORD_VERSION
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, Point
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.spec.suite import read_suite
from fixtures.core.store.journal import Entry, Journal, carried, line, read_journal, session_line

CURATED = json.loads((ROOT / "ci/histories/1xcpu/default_20261124.json").read_text())["benchmarks"]
for _bench in CURATED:
    _bench["extra_info"]["record_version"] = RECORD_VERSION  # no other can be gone on with
CASES = {
    case.id: case
    for case in expand(
        read_suite("default", library.suite("default")), Machine(library.hardware("cpu"), 1, cores=2)
    ).cases
}
CURATED = [one for one in CURATED if one["param"] in CASES]  # the suite has changed since
SESSION: dict[str, Any] = {
    "protocol": {"rounds": 5},
    "versions": {"torch": "2.13", "deepspeed": None},
    "machine": {"label": "1xcpu"},
}
ID = CURATED[0]["param"]


def entry(values: dict[str, Any], session: Any = SESSION) -> Journal:
    """A journal of one case."""
    return Journal({ID: Entry(ID, session, values)}, 0, False)


def test_what_was_written_is_read_and_carried(tmp_path: Path) -> None:
    """All of a real history, in two sessions; of a case that stands there twice, the later one."""
    file = tmp_path / "j.jsonl"
    lines = [line({"case": one["param"], "benchmark": one}) for one in CURATED]
    earlier = {"case": ID, "failure": "it hung"}
    parts = [session_line(SESSION), line(earlier), *lines[:9], session_line(SESSION), *lines[9:]]
    file.write_bytes(b"".join(parts))
    journal = read_journal(file)
    assert (journal.torn, journal.complete) == (0, False)
    taken, refused = carried(journal, CASES, SESSION)
    assert [taken[one["param"]].values["benchmark"] for one in CURATED] == CURATED
    assert refused == {}
    with file.open("ab") as more:
        more.write(line({"ended": "now", "complete": True}))
    assert read_journal(file).complete
    with file.open("ab") as more:
        more.write(session_line(SESSION))
    assert not read_journal(file).complete


def test_a_file_that_was_cut_anywhere_gives_what_was_whole(tmp_path: Path) -> None:
    """At every byte; what is added after that is read too."""
    file = tmp_path / "j.jsonl"
    names = ["a", "b", "c"]
    whole = b"".join([session_line(SESSION), *(line({"case": name, "failure": "x"}) for name in names)])
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(1, len(whole) + 1):
        file.write_bytes(whole[:cut])
        journal = read_journal(file)
        finished = sum(end - 1 <= cut for end in ends)  # but for its line break
        assert list(journal.entries) == names[: max(finished - 1, 0)]
        assert journal.torn == (cut not in ends and cut + 1 not in ends)
        again = b"" if cut in ends else b"\n"
        file.write_bytes(whole[:cut] + again + session_line(SESSION) + line({"case": "d", "failure": "x"}))
        assert list(read_journal(file).entries) == [*journal.entries, "d"]


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        ({**SESSION, "versions": {"torch": "2.12"}}, "versions torch is '2.13', but was '2.12'"),
        ({**SESSION, "machine": {}}, "machine label is '1xcpu', but was 'None'"),
        ({**SESSION, "protocol": {"rounds": 5, "seed": 1}}, "protocol seed is None, but was '1'"),
        ({**SESSION, "machine": 3}, "machine is {'label': '1xcpu'}, but was '3'"),
        ({}, "protocol is {'rounds': 5}, but was 'None'"),
    ],
)  # fmt: skip
def test_another_machine_version_or_protocol_is_measured_again(session: Any, reason: str) -> None:
    """And it says which."""
    assert carried(entry({"benchmark": CURATED[0]}, session), CASES, SESSION) == ({}, {ID: reason})


def test_another_case_by_the_same_name_is_measured_again() -> None:
    """A model that has become another one keeps its id."""
    other = deepcopy(CURATED[0])
    other["extra_info"]["case"]["model"]["architecture"]["n_layers"] = 13
    _, refused = carried(entry({"benchmark": other}), CASES, SESSION)
    assert refused == {ID: "the case has another model, device or engine"}
    lost = out_of_memory(CASES[ID], "no room", "prefill").as_dict()
    assert carried(entry({"outcome": lost}), CASES, SESSION)[1] == {}
    lost["case"]["batch_size"] = 3
    assert carried(entry({"outcome": lost}), CASES, SESSION)[1] == refused


def test_failures_and_cases_that_were_not_chosen_are_passed_over() -> None:
    """Nothing is said of them."""
    assert carried(entry({"failure": "it hung"}), CASES, SESSION) == ({}, {})
    assert carried(entry({"benchmark": CURATED[0]}), {}, SESSION) == ({}, {})


@pytest.mark.parametrize(
    "values",
    [
        {"outcome": 3, "benchmark": CURATED[0]},
        {"outcome": {}},
        {"outcome": {key: x for key, x in out_of_memory(CASES[ID], "x").as_dict().items() if key != "after"}},
        {"outcome": {key: x for key, x in out_of_memory(CASES[ID], "x").as_dict().items() if key != "phase"}},
        {"benchmark": {**CURATED[0], "param": []}},
        {"benchmark": {**CURATED[0], "param": CURATED[1]["param"]}},
        {"benchmark": {**CURATED[0], "group": json.loads("[" * 500 + "]" * 500)}},
        {},
    ],
    ids=str.split("both empty no_after no_phase list another deep neither"),
)  # fmt: skip
def test_what_would_end_the_session_later_is_refused(values: dict[str, Any]) -> None:
    """An entry is used again when the history is written, and where a later case runs out of memory."""
    taken, refused = carried(entry(values), CASES, SESSION)
    assert (taken, list(refused)) == ({}, [ID])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3),
    max_leaves=4,
)


def paths(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything within."""
    inner = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    return [path, *(found for key, value in inner for found in paths(value, (*path, key)))]


@settings(deadline=None, derandomize=True, max_examples=300)
@given(path=st.sampled_from([p for p in paths(CURATED[0]) if p]), value=anything)
def test_a_journal_of_anything_is_refused_or_can_be_shown(path: tuple[Any, ...], value: Any) -> None:
    """One part of a benchmark replaced by any tree: never an error, and the case stays what it is."""
    benchmark = deepcopy(CURATED[0])
    *parents, last = path
    inner = benchmark
    for key in parents:
        inner = inner[key]
    inner[last] = value
    taken, refused = carried(entry({"benchmark": benchmark}), CASES, SESSION)
    assert {*taken, *refused} == {ID}
    if taken:
        assert benchmark["extra_info"]["case"] == json.loads(json.dumps(CASES[ID].as_dict()))
        assert all(seconds > 0 for seconds in benchmark["stats"]["data"])


@settings(deadline=None, derandomize=True)
@given(values=st.dictionaries(st.sampled_from(["outcome", "phase", "detail", "free_bytes"]), anything))
def test_an_outcome_of_anything_is_refused_or_one(values: dict[str, Any]) -> None:
    """Out of memory is the only one, and it has its words."""
    lost = {**out_of_memory(CASES[ID], "no room", "prefill").as_dict(), **values}
    taken, _ = carried(entry({"outcome": lost}), CASES, SESSION)
    if taken:
        assert lost["outcome"] == "out of memory"
        assert isinstance(lost["detail"], str)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]\n", "not a journal"),
        ('{"case": "a"}\n', "not a journal: the first line is not a session header"),
        ('{"benchmarks": []', "not a journal; name a file of"),
        ('{"journal": 2, "session": {}}\n', "is a journal of version 2, but this suite reads version 1"),
        ('{"journal": "\\u0007"}\n', "is a journal of version"),
        ("\0", "not a journal"),
    ],
)
def test_a_file_that_is_no_journal_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    """It names the file."""
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(InputError, match=rf"x\.jsonl: {said}") as error:
        read_journal(tmp_path / "x.jsonl")
    assert "\n" not in str(error.value)


def test_no_file_a_folder_a_pipe_and_too_large_a_file_are_one_line(tmp_path: Path) -> None:
    """The last two are not read."""
    with (tmp_path / "big").open("wb") as file:
        file.truncate(256 * 2**20 + 1)
    os.mkfifo(tmp_path / "pipe")
    wrong = {
        "none": "cannot be read",
        ".": "cannot be read",
        "big": "larger than",
        "pipe": "is not a file on",
    }
    for name, said in wrong.items():
        with pytest.raises(InputError, match=said):
            read_journal(tmp_path / name)


def test_the_case_of_the_curated_history_is_this_libraries() -> None:
    """Else nothing above would have been carried."""
    assert CASES[ID].point == Point(1, 128, 32)
    assert isinstance(CASES[ID], Case)
