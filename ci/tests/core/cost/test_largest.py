"""The largest batch: searched with a handful of calls, kept for what it depends on, and tried for real."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.tests.conftest import histories, write_suite
from ci.tests.engines.test_rank_failures import Session
from ci.tests.fake_engine import FakeEngine
from ci.tests.warm import Warm
from fixtures.core.base.errors import InputError
from fixtures.core.cost.max_batch import CALLS, Search, file_of, find_kept, kept, key_of
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, Point
from fixtures.engines.processes import max_batch as largest
from fixtures.engines.protocol import CannotLoad, OutOfMemory, RankEnded, RankFailed, WorkNotDone

pytest_plugins = ["pytester"]

CASE = Case(library.model("mpt7b"), library.hardware("a100_80gb"), 1, EngineSpec("hf"), Point(9, 512, 64))
VERSIONS: dict[str, str | None] = {"torch": "2.13", "deepspeed": None}
MACHINE = {"node": "n", "reported_name": "A100", "memory_bytes": 1, "driver": "5", "cores": 2}


def search(predicted: int, most: int) -> Search:
    """To its end, where so many fit."""
    found = Search(predicted)
    while (batch := found.next()) is not None:
        assert batch > 0
        assert batch not in found.tried
        found.tried[batch] = batch <= most
    return found


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_a_search_finds_only_what_it_saw_fit_within_a_handful_of_calls(most: int, predicted: int) -> None:
    """However wrong the prediction is."""
    found = search(predicted, most)
    assert 1 <= len(found.tried) <= CALLS == 5
    assert found.found <= most
    assert found.found == 0 or found.tried[found.found]


@given(st.integers(1, 3000), st.floats(0.9, 1.1))
def test_a_good_prediction_leads_to_the_largest_within_five_percent(most: int, factor: float) -> None:
    """One within 10 % of the truth, which is what predictions are."""
    found = search(max(round(most * factor), 1), most)
    assert found.found >= 0.95 * most - 1


def test_searches_by_hand() -> None:
    """Right at once; a little too high; far too high; one sequence that does not fit."""
    assert search(100, 100).tried == {100: True, 110: False, 105: False, 102: False}
    assert search(100, 97).tried == {100: False, 90: True, 95: True, 97: True, 98: False}
    assert search(1000, 50).tried == {1000: False, 900: False, 630: False, 252: False, 25: True}
    assert search(1, 0).tried == {1: False}
    assert search(8, 100).tried == {8: True, 9: True, 11: True, 15: True, 22: True}


def test_what_was_found_is_kept_for_all_that_it_depends_on(tmp_path: Path) -> None:
    """And for nothing else: each part of it changes the file."""
    key = key_of(CASE, VERSIONS, MACHINE)
    assert find_kept(tmp_path, key) is None
    file_of(tmp_path, key).write_text(kept(key, {90: True, 100: False, 95: True}))
    assert find_kept(tmp_path, key) == 95
    assert find_kept(tmp_path, key_of(replace(CASE, point=Point(7, 512, 64)), VERSIONS, MACHINE)) == 95
    others = [
        (replace(CASE, point=Point(9, 512, 65)), VERSIONS, MACHINE),
        (replace(CASE, devices=2), VERSIONS, MACHINE),
        (replace(CASE, model=library.model("mpt30b")), VERSIONS, MACHINE),
        (replace(CASE, engine=EngineSpec("hf", attention="eager")), VERSIONS, MACHINE),
        (CASE, {**VERSIONS, "torch": "2.14"}, MACHINE),
        (CASE, VERSIONS, {**MACHINE, "driver": "6"}),
    ]
    assert [find_kept(tmp_path, key_of(*other)) for other in others] == [None] * len(others)
    file_of(tmp_path, key).write_text(kept(key, {1: False}))
    assert find_kept(tmp_path, key) == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"largest": 2}', '{"largest": 1, "key": {}, "tried": []}', "[" * 10**5, "\udcff"],
)
def test_a_file_that_holds_none_is_one_line(tmp_path: Path, text: str) -> None:
    """It says what to do."""
    key = key_of(CASE, VERSIONS, MACHINE)
    file_of(tmp_path, key).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"is not a stored largest batch \(.*remove it"):
        find_kept(tmp_path, key)


@given(st.lists(st.lists(st.none() | st.integers() | st.booleans() | st.floats(), min_size=2, max_size=2)))
def test_a_file_of_anything_gives_a_batch_or_none(tried: list[Any]) -> None:
    """A whole number of sequences, that is said to have fitted."""
    key = key_of(CASE, VERSIONS, MACHINE)
    folder = Path(os.environ["INFERENCE_LOCK_FOLDER"])  # one of its own for these tests
    file_of(folder, key).write_text(json.dumps({"largest": 1, "key": key, "tried": tried}))
    found = find_kept(folder, key)
    assert found == 0 or [found, True] in tried


class FakeTrial(largest.Trial):
    """A process that takes 20 sequences, and predicts 22."""

    def load(self) -> int | None:
        """As scripted."""
        FakeEngine.log.append(("trial",))
        return 22

    def fits(self, batch: int) -> bool:
        """Up to 20."""
        return batch <= 20


def test_max_is_confirmed_once_and_then_known(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the models that were chosen, at the longest output; a list or a plan tries nothing."""
    monkeypatch.setattr(largest, "Trial", FakeTrial)
    write_suite(project.path, "m", "other", batch_sizes=[1, "max"], output_lengths=[2, 3])
    suite = json.loads((project.path / "suite.yaml").read_text())
    for model in suite["models"]:
        model |= {"parameters": 1000, "kv_values_per_token": 10**8}
    (project.path / "suite.yaml").write_text(json.dumps(suite))
    asked = ("benchmarks", "--suite", "suite.yaml", "-k", "m-1x")
    project.runpytest(*asked, "--collect-only")
    project.runpytest(*asked, "--plan")
    assert ("trial",) not in fake.log
    result = project.runpytest(*asked, "--benchmark-only")
    result.assert_outcomes(passed=4, deselected=4)
    result.stdout.fnmatch_lines(
        [
            "largest batch of m-1x* input 4 output 3: 22 predicted",
            "  22 does not fit",
            "  19 fits",
            "  20 fits",
            "  21 does not fit",
            "  20 is saved for this machine and these versions",
        ]
    )
    assert fake.log.count(("trial",)) == 1
    result = project.runpytest(*asked, "--benchmark-only")
    assert fake.log.count(("trial",)) == 1
    for history in histories(project.path):
        sizes = [bench["extra_info"]["case"]["batch_size"] for bench in history["benchmarks"]]
        assert sizes == [1, 1, 20, 20]


def test_a_model_that_cannot_be_tried_keeps_its_prediction(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why; the case itself then fails or is skipped."""

    def load(self: largest.Trial) -> int | None:
        raise largest.CannotTry("attention 'flash' is not installed")

    monkeypatch.setattr(largest.Trial, "load", load)
    write_suite(project.path, "m", batch_sizes=["max"])
    suite = json.loads((project.path / "suite.yaml").read_text())
    suite["models"][0] |= {"parameters": 1000, "kv_values_per_token": 10**8}
    (project.path / "suite.yaml").write_text(json.dumps(suite))
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", "suite.yaml")
    result.stdout.fnmatch_lines(
        ["largest batch of m-* cannot be tried: attention 'flash' is not installed; using the predicted *"]
    )
    result.assert_outcomes(passed=1)
    assert not (project.path / ".benchmarks" / "largest").exists()


class Remote:
    """Stands for an engine in a process of its own: 4 bytes are held, of a batch 1 each, and 100 are free.

    A call of more than 20 sequences ends in the way that was asked for.
    """

    loads = 0
    given_back = 0
    ends_in: Exception = OutOfMemory("no room")

    def __init__(self, *_: Any) -> None:
        self.lost = False

    def load(self, case: Case, seed: int) -> dict[str, Any]:
        """Counted."""
        Remote.loads += 1
        return {"vocab_size": 100}

    def count(self, case: Case) -> dict[str, Any]:
        """What it holds is not known."""
        return {"footprint": None}

    def memory(self) -> tuple[int, int]:
        """Held and free."""
        return 4, 100

    def prepare(self, prompts: list[list[int]], output_len: int) -> None:
        """As many sequences as asked for."""
        self.batch = len(prompts)

    def generate(self, work: None) -> None:
        """It may be its last call."""
        if self.batch > 20:
            self.lost = isinstance(Remote.ends_in, RankFailed)
            raise Remote.ends_in

    def verify(self, work: None, tokens: None) -> None:
        """As it should be."""

    def give_back(self) -> None:
        """Counted."""
        Remote.given_back += 1

    def close(self) -> None:
        """It is gone."""


@pytest.mark.parametrize(
    ("kind", "ends_in", "fits", "loads"),
    [
        ("hf", OutOfMemory("no room"), False, 1),
        ("hf", RankEnded("the model's process was killed by SIGKILL"), False, 2),
        ("hf", RankFailed("did not answer within 9 s"), "did not answer", 1),
        ("deepspeed", OutOfMemory("rank 1: no room"), False, 1),
        ("deepspeed", RankEnded("rank 1 was killed by SIGSEGV"), "killed by SIGSEGV", 1),
        ("hf", WorkNotDone("3 tokens came back"), "3 tokens came back", 1),
    ],
)
def test_how_a_trial_ends_says_whether_a_batch_fits(
    kind: str, ends_in: Exception, fits: bool | str, loads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of memory does, and the end of a process alone; nothing else is taken for want of room."""
    monkeypatch.setattr(largest, "RemoteEngine", Remote)
    monkeypatch.setattr(Remote, "loads", 0)
    monkeypatch.setattr(Remote, "given_back", 0)
    monkeypatch.setattr(Remote, "ends_in", ends_in)
    trial = largest.Trial(replace(CASE, engine=EngineSpec(kind, kind)), 17, 60)
    assert trial.load() is None
    assert trial.fits(20)
    assert Remote.given_back == 1
    if isinstance(fits, str):
        with pytest.raises(largest.CannotTry, match=fits):
            trial.fits(21)
    else:
        assert trial.fits(21) is fits
        assert trial.fits(1)
    assert Remote.loads == loads


def test_a_model_that_finds_no_room_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that cannot be loaded."""
    monkeypatch.setattr(largest, "RemoteEngine", Remote)
    for error, said in ((OutOfMemory("8 GB"), "out of memory: 8 GB"), (CannotLoad("no flash"), "no flash")):

        def load(*_: Any, error: Exception = error) -> dict[str, Any]:
            raise error

        monkeypatch.setattr(Remote, "load", load)
        with pytest.raises(largest.CannotTry, match=said):
            largest.Trial(CASE, 17, 60).load()


LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1700 * 2**20, 1700 * 2**20))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited as on Linux")
def test_a_real_search_ends_at_what_the_address_space_allows(project: pytest.Pytester, warm: Warm) -> None:
    """1.8 GB, of which scores of eager attention take what there is: some dozen sequences of 256 tokens.

    In fp32, as bf16 takes minutes on a CPU that emulates it.
    """
    heads = {"num_attention_heads": 16, "num_key_value_heads": 4, "num_hidden_layers": 1}
    widths = {"hidden_size": 64, "intermediate_size": 64, "vocab_size": 640}
    tiny = {
        "architecture": {"model_type": "llama", **widths, **heads},
        "name": "tiny", "parameters": 10**5, "kv_values_per_token": 32,
    }  # fmt: skip
    sweep = {"name": "s", "batch_sizes": ["max"], "input_lengths": [256], "output_lengths": [2]}
    engine = {"name": "eager_fp32", "kind": "hf", "attention": "eager", "dtype": "float32"}
    suite = {"models": [tiny], "hardware": ["1xcpu"], "engines": [engine], "sweeps": [sweep], "rounds": 1}
    (project.path / "suite.yaml").write_text(json.dumps({**suite, "warmup_rounds": 0}))
    conftest = project.path / "conftest.py"
    conftest.write_text(LIMIT + conftest.read_text())
    session = Session(project.path, warm)
    session.start("-rs")
    assert session.end(limit_s=600) == 0, session.log
    (file,) = (project.path / ".benchmarks" / "largest").glob("*")
    tried = dict(json.loads(file.read_text())["tried"])
    assert any(tried.values()), session.log
    assert False in tried.values()
    assert len(tried) <= CALLS
    found = max(batch for batch, fits in tried.items() if fits)
    assert 10 < found < 1500
    (history,) = histories(project.path)
    sizes = [bench["extra_info"]["case"]["batch_size"] for bench in history["benchmarks"]]
    assert sizes == [found], session.log
    assert session.processes() == []
