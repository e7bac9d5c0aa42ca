"""The census: what is tried, kept, and written of it; a sample of it for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ci.census import __main__ as command
from ci.census import store, table
from ci.census.store import Census
from ci.tests.conftest import ROOT
from fixtures.core.spec.arch.source import mapped_types
from fixtures.core.spec.splitting import TRIED

MEASURED = {"outcome": "measured", "bound": None, "planned": True}
UNBOUND = {"outcome": "measured", "bound": "its forward returns no cache", "planned": False}
REFUSED = {**MEASURED, "outcome": "refused", "reason": "an encoder", "as_decoder": "measured"}
WORKS = {"outcome": "works", "over_even": 1.1}
CANNOT = {"outcome": "cannot", "reason": "phi3 split by deepspeed does not run: a|b"}
NOT_KNOWN = {"outcome": "not known", "reason": "hf does not run it"}


@pytest.fixture
def census(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Census:
    """Of four types, with versions that are the installed ones."""
    monkeypatch.setattr(
        store, "installed", lambda: {"transformers": "5.0", "torch": "2.0", "deepspeed": "0.19"}
    )
    made = Census(tmp_path / "census.json")
    made.begin()
    for name, hf, deepspeed, hf_tp in (
        ("llama", MEASURED, WORKS, WORKS),
        ("phi3", MEASURED, CANNOT, WORKS),
        ("bert", REFUSED, CANNOT, {"outcome": "no plan"}),
        ("mamba", UNBOUND, NOT_KNOWN, {"outcome": "no plan"}),
        ("odd", {"outcome": "failed", "reason": "ValueError: a"}, NOT_KNOWN, NOT_KNOWN),
    ):
        for engine, finding in zip(("hf", "deepspeed", "hf_tp"), (hf, deepspeed, hf_tp), strict=True):
            made.note(name, engine, finding)
    return made


def test_what_is_found_is_on_the_disk_at_once_and_counts_for_the_same_versions(
    census: Census, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep goes on where it was; with another version of anything it begins anew."""
    again = Census(tmp_path / "census.json")
    again.begin()
    assert again.types == census.types
    assert again.has("phi3", "hf_tp")
    assert not again.has("phi4", "hf")
    monkeypatch.setattr(store, "installed", lambda: {"transformers": "5.1"})
    again.begin()
    assert again.types == {}


def test_what_does_not_run_whole_is_not_split(census: Census) -> None:
    """A decoder that is refused as it is, and then measured, is."""
    names = ("llama", "bert", "odd", "never tried")
    assert [census.runs(name) for name in names] == [True, True, False, True]


def test_the_list_of_splits_has_what_works_and_why_the_rest_cannot(census: Census) -> None:
    """With the versions that each engine depends on; what was not tried is neither."""
    found = json.loads(store.splits(census))
    assert found["deepspeed"] == {
        "versions": {"transformers": "5.0", "deepspeed": "0.19"},
        "works": ["llama"],
        "cannot": {"bert": CANNOT["reason"], "phi3": CANNOT["reason"]},
    }
    assert found["hf_tp"]["works"] == ["llama", "phi3"]
    assert found["hf_tp"]["cannot"] == {}


def test_the_table_has_a_row_a_type_and_counts_first(census: Census) -> None:
    """By hand: 3 of 5 measured, one refused that a switch makes a decoder, one that fails."""
    lines = table.with_table(f"head\n{table.PART.begin}\nold\n{table.PART.end}\ntail\n", census).splitlines()
    assert lines[0] == "head"
    assert lines[-1] == "tail"
    assert lines[3] == (
        "5 causal types: 3 measured, 1 refused (1 of them measured as decoders, by a switch of their "
        "config), 1 failed. "
        "Of those measured, 2 have a bound, 2 a plan."
    )
    assert lines[5] == "`deepspeed` over two devices: 1 work, 2 cannot be split, 2 are unknown."
    assert lines[7] == ("`hf_tp` over two devices: 2 work, 0 cannot be split, 2 have no plan, 1 are unknown.")
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == [
        r"| `bert` | refused: an encoder; as a decoder: measured | yes | yes "
        r"| phi3 split by deepspeed does not run: a\|b | no plan |",
        "| `llama` | measured | yes | yes | works | works |",
        "| `mamba` | measured | its forward returns no cache | no |  | no plan |",
        "| `odd` | failed: ValueError: a |  |  |  |  |",
        r"| `phi3` | measured | yes | yes | phi3 split by deepspeed does not run: a\|b | works |",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "lama"], "'lama' is not a causal type; did you mean"),
        (["--engines", "vllm"], "'vllm' is not an engine of the census"),
        (["--jobs", "0"], "--jobs 0: write a number of at least 1"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is tried."""
    assert command.main(arguments) == 4
    assert said in capsys.readouterr().err


def test_the_committed_census_is_of_the_locked_versions_and_of_every_type() -> None:
    """A new version of transformers or DeepSpeed asks for a new census."""
    lock = (ROOT / "ci/setup/requirements.lock").read_text(encoding="utf-8")
    committed = Census()
    for package in ("transformers", "deepspeed"):
        assert f"{package}=={committed.versions[package]}" in lock
    if committed.versions["transformers"] == store.installed()["transformers"]:
        assert sorted(committed.types) == sorted(mapped_types())
    assert all(set(of_type) == set(store.ENGINES) for of_type in committed.types.values())


def test_table_and_list_of_splits_are_those_of_the_committed_census() -> None:
    """Written by the same command."""
    readme = table.README.read_text(encoding="utf-8")
    assert readme == table.with_table(readme, Census())
    assert TRIED.read_text(encoding="utf-8") == store.splits(Census())


class Here:
    """A rank in this process."""

    def __init__(self) -> None:
        from fixtures.engines.processes.worker import Rank

        self._rank = Rank()

    def ask(self, name: str, *arguments: Any) -> Any:
        """Its answer."""
        return self._rank.ask(name, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "outcome", "bound"),
    [
        ("llama", "measured", True), ("phi3", "measured", True), ("qwen2_moe", "measured", True),
        ("mamba", "measured", False), ("bert", "refused", True), ("prophetnet", "refused", None),
    ],
)  # fmt: skip
def test_a_sample_is_tried_for_real(
    model_type: str, outcome: str, bound: bool | None, tmp_path: Path
) -> None:
    """Dense, fused, with experts, a state space, and two that are no causal model by themselves."""
    from ci.census.sweep import find

    found = find(model_type, "hf", Here(), tmp_path)  # type: ignore[arg-type]
    assert found["outcome"] == outcome, found
    if bound is not None:
        assert (found["bound"] is None) == bound
