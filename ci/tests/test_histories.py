"""Histories read back: what is in them, and one line for what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import ROOT
from fixtures.core.errors import InputError
from fixtures.core.histories import find_histories, read_history
from fixtures.core.record import RECORD_VERSION

CURATED = ROOT / "ci" / "baselines" / "1xcpu"
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
    assert found.measured[3].record == values["benchmarks"][3]["extra_info"]
    assert (found.taken, found.commit["id"]) == (values["datetime"], values["commit_info"]["id"])


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
    assert dict(found.outcomes) == {"y": lost}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"benchmarks": 1}', '{"benchmarks": []}', "[" * 100_000, "\0",
     '{"machine_info": 1}', '{"benchmarks": [], "machine_info": {}, "outcomes": 3}'],
)  # fmt: skip
def test_a_file_that_is_no_history_is_one_line(tmp_path: Path, text: str) -> None:
    """It names the file and what to do."""
    (tmp_path / "torn.json").write_text(text)
    with pytest.raises(InputError, match=r"^.*/torn\.json: is no history \(.*remove it") as error:
        read_history(tmp_path / "torn.json")
    assert len(str(error.value)) < 400


def test_bytes_that_are_no_text_and_folders_are_no_histories(tmp_path: Path) -> None:
    """Nor is a file that is gone."""
    (tmp_path / "torn.json").write_bytes(b"\xff\xfe")
    for file in (tmp_path / "torn.json", tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match="is no history"):
            read_history(file)


def test_a_file_larger_than_any_history_is_not_read(tmp_path: Path) -> None:
    """It takes no room on the disk either."""
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(InputError, match="is larger than"):
        read_history(tmp_path / "big.json")


@pytest.mark.parametrize("version", [RECORD_VERSION + 1, 0, -1])
def test_a_record_of_a_version_that_is_not_known_is_refused(tmp_path: Path, version: int) -> None:
    """A later one may mean something else by the same name."""
    file = written(tmp_path, history({**CASE, "record_version": version}))
    with pytest.raises(InputError, match=f"x has a record of version {version}, and this reads 1 to"):
        read_history(file)


def test_a_case_that_stands_in_a_file_twice_is_refused(tmp_path: Path) -> None:
    """Which of the two would count?"""
    with pytest.raises(InputError, match="x stands in it twice"):
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
