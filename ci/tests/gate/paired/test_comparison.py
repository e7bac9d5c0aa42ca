"""Pairs of processes that take turns, with sides that are not real: the order, the words, what is kept."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ci.gate.calibrate.paired_families import REGIMES
from ci.gate.calibrate.simulate import Regime, Simulated
from ci.gate.output import markdown, table
from ci.gate.paired.comparison import Comparison
from ci.gate.paired.pairs_file import PairsFile
from ci.gate.paired.sequential import LEAST_PAIRS
from ci.gate.paired.sides import Took
from ci.gate.verdicts import Word
from ci.tests.records import recorded
from fixtures.core.base.errors import InputError

FIVE = math.log1p(0.05)


AT_ONCE = 10  # pairs that are slower without any noise


QUIET, _, BAD = REGIMES


class Sides:
    """Two sides without processes, with what is planted on the new one."""

    def __init__(self, regime: Regime, seed: int, planted: Mapping[str, float] | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.regime = regime
        self.planted = planted or {}

    def base(self, ids: Sequence[str]) -> dict[str, Took]:
        """Half of a pair's variance."""
        noise = Simulated(self.regime)
        noise.start(self.rng, np.zeros(len(ids), int))
        logs = noise._one(self.rng, np.arange(len(ids)))
        return {one: Took(float(log), None) for one, log in zip(ids, logs, strict=True)}

    def new(self, ids: Sequence[str]) -> dict[str, Took]:
        """The other half, and what is planted."""
        return {
            name: Took((one.log_s or 0) + self.planted.get(name, 0.0), None)
            for name, one in self.base(ids).items()
        }


def compared(noise: Sides, file: Path, cases: int = 100, pairs: int = 400, **about: Any) -> Comparison:
    """So many cases; goes on with the file where it is there."""
    ids = [f"case{k}" for k in range(cases)]
    kept = PairsFile(file, {"cases": ids, **about})
    kept.go_on() if file.exists() else kept.start()
    return Comparison(ids, (noise.base, noise.new), FIVE, kept, lambda _: None, pairs)


def test_the_sides_take_turns_and_decided_cases_are_left_out(tmp_path: Path) -> None:
    """By a coin for each pair; what is red is measured by itself, in a second series."""
    noise = Sides(QUIET, 3, {"case1": 2 * FIVE})
    order: list[str] = []
    seen: list[list[str]] = []

    def base(ids: Sequence[str]) -> Mapping[str, Took]:
        order.append("base")
        return noise.base(ids)

    def new(ids: Sequence[str]) -> Mapping[str, Took]:
        order.append("new")
        seen.append(list(ids))
        return noise.new(ids)

    comparison = compared(noise, tmp_path / "p", cases=3)
    comparison.measure = (base, new)
    verdicts = comparison.run()
    firsts = [one == "new" for one in order[::2]]
    assert all({*order[k : k + 2]} == {"base", "new"} for k in range(0, len(order), 2))
    assert firsts[:17] == [comparison.is_new_first(1, pair) for pair in range(17)]
    assert firsts[17:] == [comparison.is_new_first(2, pair) for pair in range(len(firsts) - 17)]
    assert [one.word for one in verdicts] == [Word.PASS, Word.REGRESSED, Word.PASS]
    assert seen[-1] == ["case1"]


def test_what_is_faster_is_improved_and_what_is_the_same_is_not(tmp_path: Path) -> None:
    """Each with its ratio and an interval; a little faster is a pass."""
    planted = {"case0": -2 * FIVE, "case1": -0.2 * FIVE}
    verdicts = compared(Sides(QUIET, 6, planted), tmp_path / "p", cases=4).run()
    assert [one.word for one in verdicts] == [Word.IMPROVED, Word.PASS, Word.PASS, Word.PASS]
    for one in verdicts:
        truth = math.exp(planted.get(one.case_id, 0.0))
        assert one.low is not None
        assert one.high is not None
        assert one.low < truth < one.high
        assert one.ratio == pytest.approx(math.sqrt(one.low * one.high))
    assert "  95 % interval  " in table(verdicts)[0]
    assert " | 95 % interval | " in markdown(verdicts)


def test_a_slowdown_that_the_second_series_does_not_find_is_none(tmp_path: Path) -> None:
    """It was the machine."""
    comparison = compared(Sides(QUIET, 3), tmp_path / "p", cases=2)
    quiet = comparison.measure
    calls: list[int] = []

    def new(ids: Sequence[str]) -> dict[str, Took]:
        calls.append(len(ids))
        slower = 2 * FIVE if len(calls) <= AT_ONCE else 0.0
        return {name: Took((one.log_s or 0) + slower, None) for name, one in quiet[1](ids).items()}

    comparison.measure = (quiet[0], new)
    assert {one.word for one in comparison.run()} == {Word.PASS}
    assert len(calls) >= 2 * LEAST_PAIRS


def test_a_slowdown_that_the_second_series_leaves_open_is_not_red(tmp_path: Path) -> None:
    """Nor green."""
    comparison = compared(Sides(QUIET, 3), tmp_path / "p", cases=2, pairs=12)
    calls: list[int] = []

    def new(ids: Sequence[str]) -> dict[str, Took]:
        calls.append(len(ids))
        return {name: Took(2 * FIVE if len(calls) <= AT_ONCE else FIVE / 2, None) for name in ids}

    comparison.measure = (lambda ids: {name: Took(0.0, None) for name in ids}, new)
    assert {one.word for one in comparison.run()} == {Word.INCONCLUSIVE}
    assert len(calls) == AT_ONCE + 12


def test_a_budget_that_is_spent_is_inconclusive(tmp_path: Path) -> None:
    """With what would be needed."""
    verdicts = compared(Sides(BAD, 4), tmp_path / "p", cases=2, pairs=6).run()
    assert {one.word for one in verdicts} == {Word.INCONCLUSIVE}
    assert re.search(r"^6 pairs; they differ by [0-9.]+ %, so about [0-9]+ a series are", verdicts[0].reason)
    verdicts = compared(Sides(BAD, 4), tmp_path / "q", cases=2, pairs=5).run()
    assert verdicts[0].reason == "5 pairs; each series takes at least 6"
    late = compared(Sides(QUIET, 4), tmp_path / "r", cases=2)
    late.limit_s = -1
    assert {one.word for one in late.run()} == {Word.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("took", "word", "reason"),
    [
        (None, Word.MISSING, "the new side did not measure it"),
        (Took(None, None), Word.OUT_OF_MEMORY, "the base was measured"),
        (
            Took(0.0, recorded(parameters=7)),
            Word.REGRESSED,
            "a counter has changed: parameters is 7, and was 6",
        ),
    ],
)
def test_a_case_that_cannot_be_compared_is_said(
    tmp_path: Path, took: Took | None, word: Word, reason: str
) -> None:
    """The others go on; so it is after a stop."""
    noise = Sides(QUIET, 5)
    comparison = compared(noise, tmp_path / "p", cases=2)

    def base(ids: Sequence[str]) -> Mapping[str, Took]:
        return {name: Took(one.log_s, recorded(parameters=6)) for name, one in noise.base(ids).items()}

    def new(ids: Sequence[str]) -> Mapping[str, Took]:
        found = {name: one for name, one in base(ids).items() if name != "case0"}
        return found if took is None or "case0" not in ids else {**found, "case0": took}

    comparison.measure = (base, new)
    for again in (False, True):
        verdicts = (compared(noise, tmp_path / "p", cases=2) if again else comparison).run()
        assert [verdict.word for verdict in verdicts] == [word, Word.PASS]
        assert verdicts[0].reason == reason


def test_another_engines_counters_may_differ(tmp_path: Path) -> None:
    """Where the sides are not to do the same work, time alone decides."""
    noise = Sides(QUIET, 5)
    comparison = compared(noise, tmp_path / "p", cases=2)
    comparison.same_work = False
    comparison.measure = (
        lambda ids: {name: Took(one.log_s, recorded(parameters=6)) for name, one in noise.base(ids).items()},
        lambda ids: {name: Took(one.log_s, recorded(parameters=7)) for name, one in noise.base(ids).items()},
    )
    assert {one.word for one in comparison.run()} == {Word.PASS}


def test_what_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    """At any pair, a torn line among them, and stopped again: the same verdicts as without a stop."""
    whole = compared(Sides(QUIET, 6, {"case1": FIVE}), tmp_path / "whole", cases=4).run()
    head, *kept = (tmp_path / "whole").read_text().splitlines(keepends=True)
    for cut in range(len(kept) + 1):
        file = tmp_path / f"cut{cut}"
        file.write_text(head + "".join(kept[:cut]) + '{"series": 1, "rat')
        first = compared(Sides(QUIET, 7, {"case1": FIVE}), file, cases=4, pairs=cut + 1)
        first.run()
        again = compared(Sides(QUIET, 8, {"case1": FIVE}), file, cases=4).run()
        assert [one.word for one in again] == [one.word for one in whole]
        lines = file.read_text().splitlines()
        assert len([line for line in lines if line and not line.endswith("}")]) == 1
        assert lines[1 : cut + 1] == [line.rstrip() for line in kept[:cut]]


def test_pairs_of_another_comparison_are_not_mixed_in(tmp_path: Path) -> None:
    """Nor is anything else that a file holds."""
    compared(Sides(QUIET, 6), tmp_path / "p", cases=2, threshold=0.05).run()
    with pytest.raises(InputError, match=r"threshold was '0.05', and now is '0.1'; start anew"):
        compared(Sides(QUIET, 6), tmp_path / "p", cases=2, threshold=0.1)
    with pytest.raises(InputError, match="cases was"):
        compared(Sides(QUIET, 6), tmp_path / "p", cases=3, threshold=0.05)
    for name, content in (("empty", ""), ("list", "[]\n"), ("bin", "\x00\x01"), ("deep", "[" * 100_000)):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="holds no pairs"):
            compared(Sides(QUIET, 6), tmp_path / name)
    with pytest.raises(InputError, match="No such file"):
        PairsFile(tmp_path / "none", {}).go_on()
    head = (tmp_path / "p").read_text().splitlines()[0]
    (tmp_path / "p").write_text(head + '\n{"series": 1, "ratios": {"case0": NaN}, "ended": {}}\n')
    with pytest.raises(InputError, match="ratios that are not finite"):
        compared(Sides(QUIET, 6), tmp_path / "p", cases=2, threshold=0.05)
