"""Histories read back: what is in them, and one line for what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import ROOT
from ci.tests.records import recorded
from fixtures.core.base.errors import InputError
from fixtures.core.result.out_of_memory import Outcome
from fixtures.core.result.record import RECORD_VERSION
from fixtures.core.result.record_case import RecordedCase
from fixtures.core.store.history import LARGEST_BYTES, find_histories, read_all, read_history

CURATED = ROOT / "ci" / "histories" / "1xcpu"
CASE: dict[str, Any] = {"record_version": 4, "case": {"id": "x"}}


def written(folder: Path, values: Any) -> Path:
    """A file of these values."""
    file = folder / "one.json"
    file.write_text(json.dumps(values))
    return file


def history(*records: Any, **more: Any) -> dict[str, Any]:
    """What pytest-benchmark writes, as far as it is looked at."""
    return {"machine_info": {}, "benchmarks": [{"extra_info": record} for record in records], **more}


def test_a_curated_history_is_read_as_it_was_written() -> None:
    """Cases in their order with their rounds, time and commit."""
    file = CURATED / "default_20261124.json"
    values = json.loads(file.read_text())
    found = read_history(file)
    assert [one.case_id for one in found.measured] == [one["param"] for one in values["benchmarks"]]
    assert list(found.measured[3].seconds) == values["benchmarks"][3]["stats"]["data"]
    record = values["benchmarks"][3]["extra_info"]
    kind = "AVX-512 bf16"  # as of version 5 a CPU's name has it
    name = f"AMD EPYC (family 25, model 17, {kind})"
    record["machine"] |= {"reported_name": name, "processor": name, "instructions": kind}
    assert found.measured[3].record == recorded(**record)
    assert found.odd == ()
    assert (found.taken, found.commit.id) == (values["datetime"], values["commit_info"]["id"])


def test_what_is_no_case_is_left_out(tmp_path: Path) -> None:
    """Ratios of the suite's own cost, another project's benchmarks, odd types."""
    assert read_history(CURATED / "harness_20261124.json").measured == ()
    odd = [{"case": {"id": "a"}}, {"record_version": True, "case": {"id": "a"}}, None, {"record_version": 4}]
    odd.append({"record_version": 4, "case": {"id": "two\nlines"}})
    assert read_history(written(tmp_path, history(*odd))).measured == ()


def test_outcomes_stand_by_their_case(tmp_path: Path) -> None:
    """Those without a case are left out."""
    lost = {"case": {"id": "y"}, "outcome": "out of memory"}
    found = read_history(written(tmp_path, history(CASE, outcomes=[lost, {}, 3])))
    assert dict(found.outcomes) == {"y": Outcome(case=RecordedCase(id="y"), outcome="out of memory")}


def test_what_was_left_out_for_time_stands_with_its_reason(tmp_path: Path) -> None:
    """None in a history of earlier versions, or in one that says something odd of it."""
    found = read_history(written(tmp_path, history(CASE, left_out={"y": "minutes: 4", "z": 3})))
    assert dict(found.left_out) == {"y": "minutes: 4", "z": "3"}
    assert dict(found.only(lambda case_id: case_id == "z").left_out) == {"z": "3"}
    for values in (history(CASE), history(CASE, left_out=["y"])):
        assert dict(read_history(written(tmp_path, values)).left_out) == {}
    assert read_history(written(tmp_path, history(CASE, left_out=["y"]))).odd == (
        "$.left_out: does not map case ids to reasons",
    )


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"benchmarks": 1}', '{"benchmarks": []}', "[" * 100_000, "\0",
     '{"machine_info": 1}', '{"benchmarks": [], "machine_info": {}, "outcomes": 3}'],
)  # fmt: skip
def test_a_file_that_is_no_history_is_one_line(tmp_path: Path, text: str) -> None:
    """It names the file and what to do."""
    (tmp_path / "torn.json").write_text(text)
    with pytest.raises(InputError, match=r"^.*/torn\.json: not a history: .*remove it") as error:
        read_history(tmp_path / "torn.json")
    assert len(str(error.value)) < 400


def test_bytes_that_are_no_text_and_folders_are_no_histories(tmp_path: Path) -> None:
    """Nor is a file that is gone."""
    (tmp_path / "torn.json").write_bytes(b"\xff\xfe")
    for file in (tmp_path / "torn.json", tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match="not a history"):
            read_history(file)


def test_a_file_larger_than_any_history_is_not_read(tmp_path: Path) -> None:
    """It takes no room on the disk either."""
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(InputError, match="larger than"):
        read_history(tmp_path / "big.json")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("failed", ["x"], "$.failed does not map case ids to reasons"),
        ("failed", 3, "$.failed does not map case ids to reasons"),
        ("failed", "x-b1", "$.failed does not map case ids to reasons"),
        ("data", 0.5, "$.benchmarks[0].stats.data is not a list of seconds"),
    ],
)
def test_a_run_whose_outcomes_cannot_be_read_is_refused(
    tmp_path: Path, key: str, value: object, why: str
) -> None:
    """What it cannot say may be the very failure that counts, so nothing of it passes."""
    values = history(CASE)
    if key == "data":
        values["benchmarks"][0]["stats"] = {"data": value}
    else:
        values[key] = value
    with pytest.raises(InputError) as caught:
        read_history(written(tmp_path, values))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [RECORD_VERSION + 1, 0, -1])
def test_a_record_of_a_version_that_is_not_known_is_refused(tmp_path: Path, version: int) -> None:
    """A later one may mean something else by the same name."""
    file = written(tmp_path, history({**CASE, "record_version": version}))
    with pytest.raises(InputError, match=f"x has a record of version {version}; this version reads 1 to"):
        read_history(file)


def test_a_case_that_stands_in_a_file_twice_is_refused(tmp_path: Path) -> None:
    """Which of the two would count?"""
    with pytest.raises(InputError, match="it has x twice"):
        read_history(written(tmp_path, history(CASE, CASE)))


def test_folders_give_all_their_histories_and_each_file_once(tmp_path: Path) -> None:
    """Below them too; a path that is not there or an empty folder is one line."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    one, two = tmp_path / "a" / "1.json", tmp_path / "a" / "b" / "2.json"
    for file in (one, two, tmp_path / "a" / "notes.md"):
        file.write_text("")
    assert find_histories([two, tmp_path]) == [two, one]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no history in this folder"):
        find_histories([tmp_path / "empty"])
    with pytest.raises(InputError, match="no such file or folder"):
        find_histories([tmp_path / "none"])


def odd_files(folder: Path) -> dict[str, str]:
    """Files that are no history, each of its own kind, in a folder; why, by name."""
    (folder / "folder.json").mkdir()
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "gone.json").symlink_to("nowhere")
    (folder / "latin.json").write_bytes('{"machine_info": "é"}'.encode("latin-1"))
    texts = {
        "empty": "",
        "blank": "\n \n",
        "torn": json.dumps(history(CASE))[:-9],
        "words": "not JSON",
        "list": "[1, 2]",
        "number": "3",
        "null": "null",
        "deep": "[" * 100_000,
        "later": json.dumps(history({**CASE, "record_version": 99})),
        "twice": json.dumps(history(CASE, CASE)),
        "other": '{"results": []}',
    }
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text)
    with (folder / "huge.json").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    return {
        "folder": "Is a directory",
        "loop": "Too many levels of symbolic links",
        "gone": "No such file",
        "latin": "it is not UTF-8 text",
        "empty": "it is empty",
        "blank": "it is empty",
        "torn": "it is not JSON: ",
        "words": "it is not JSON: ",
        "list": "it lacks keys that pytest-benchmark writes",
        "number": "it lacks keys that pytest-benchmark writes",
        "null": "it lacks keys that pytest-benchmark writes",
        "deep": "it is nested too deeply",
        "later": "has a record of version 99",
        "twice": "not one run: it has ",
        "other": "it lacks keys that pytest-benchmark writes",
        "huge": "larger than",
    }


def test_an_odd_file_in_a_folder_costs_itself_alone(tmp_path: Path) -> None:
    """The others count; one line a file names it and says why. NaN and another project's runs are no harm."""
    expected = odd_files(tmp_path)
    nan = {**CASE, "latency_mean_s": float("nan"), "case": {"id": "y"}}
    for name, values in {
        "a_good": history(CASE),
        "nan": history(nan),
        "others": {"machine_info": {}, "benchmarks": [{"name": "test_x", "stats": {"mean": 1}}]},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    (tmp_path / "bom.json").write_text("\ufeff" + json.dumps(history({**CASE, "case": {"id": "z"}})))
    said: list[str] = []
    runs = read_all([tmp_path], said.append)
    assert sorted(one.case_id for run in runs for one in run.measured) == ["x", "y", "z"]
    assert len(runs) == 4
    assert len(said) == len(expected)
    for name, why in expected.items():
        (line,) = [line for line in said if f"/{name}.json: " in line]
        assert line.startswith("passed over: ")
        assert why in line


def test_an_odd_file_that_is_named_is_an_error(tmp_path: Path) -> None:
    """Beside a folder of good ones too; so is a folder with odd files alone."""
    for name in odd_files(tmp_path):
        if name != "folder":  # that is a folder of histories by its own right
            with pytest.raises(InputError, match=f"{name}.json"):
                read_all([CURATED, tmp_path / f"{name}.json"], pytest.fail)
    with pytest.raises(InputError, match="passed over: "):
        read_all([tmp_path], pytest.fail)


def test_a_value_of_another_kind_costs_itself_alone_and_is_said_with_its_path(tmp_path: Path) -> None:
    """The rest of the case is read, and all others; a number that is none is unknown, and nothing is said."""
    broken = {**CASE, "limits": {"of_bound": "half", "mfu": 0.5, "mbu": float("nan")}, "load_s": -1}
    broken |= {"warmup_s": [1.0, "x"], "state": {"neighbours": [{"name": "y"}]}}
    file = written(tmp_path, history({"case": {"id": "foreign"}}, broken, {**CASE, "case": {"id": "z"}}))
    run = read_history(file)
    one, other = run.measured
    assert one.record.limits is not None
    assert (one.record.limits.of_bound, one.record.limits.mfu, one.record.limits.mbu) == (None, 0.5, None)
    assert (one.record.load_s, one.record.warmup_s, other.case_id) == (None, (), "z")
    where = "$.benchmarks[1].extra_info."
    assert sorted(run.odd) == [
        f"{where}limits.of_bound: Expected `float | null`, got `str`",
        f"{where}state.neighbours: Object missing required field `cores`",
        f"{where}warmup_s: Expected `float`, got `str`",
    ]
    said: list[str] = []
    read_all([file], said.append)
    (line,) = said
    assert line.endswith(", and 2 more")
    assert "one.json: left out: $.benchmarks[1].extra_info." in line


WHERE = {"case": "case.id"}


@pytest.mark.parametrize(
    "path", ["case", "case.id", "machine.label", "split.itl_s.gaps", "versions", "work.caches", "suite"]
)
def test_what_a_case_cannot_be_without_costs_the_case(tmp_path: Path, path: str) -> None:
    """Its id; without anything else it is still itself."""
    made: dict[str, Any] = json.loads((CURATED / "avx2_20261128.json").read_text())
    values = made["benchmarks"][0]["extra_info"]
    *parents, last = path.split(".")
    inside = values
    for name in parents:
        inside = inside[name]
    inside[last] = [3]
    run = read_history(written(tmp_path, made))
    assert len(run.measured) == len(made["benchmarks"]) - path.startswith("case")
    assert run.odd[0].startswith(f"$.benchmarks[0].extra_info.{WHERE.get(path, path)}: ")
