"""The paired rule on noise that it does not like: known answers, and error rates by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from ci.gate.calibrate.paired_families import QUIET, SHARED
from ci.gate.calibrate.simulate import Planted, Regime, Simulated, paired
from ci.gate.paired import tail
from ci.gate.paired.command import _seed
from ci.gate.paired.comparison import Comparison
from ci.gate.paired.pairs_file import Pair, PairsFile
from ci.gate.paired.sequential import MEAN, TAIL, Rule, Series, by_signs
from ci.gate.paired.sides import Took
from ci.gate.verdicts import Word

FIVE, TWICE = math.log1p(0.05), math.log(2)
RULE = Rule(FIVE, 0.005)


def decided(ratios: Iterable[float], rule: Rule = RULE) -> tuple[int, int, int]:
    """What one case alone comes to, what found it slower, and its pairs."""
    series = Series(rule, 1)
    for one in ratios:
        if series.is_open[0]:
            series.add(np.array([one]))
    return int(series.decided[0]), int(series.by[0]), int(series.taken[0])


class Kept(PairsFile):
    """Pairs that no file has."""

    def __init__(self) -> None:
        super().__init__(Path(), {})

    def pairs(self, series: int) -> list[Pair]:
        """None."""
        return []

    def add(self, series: int, ratios: Mapping[str, float], ended: Mapping[str, tuple[Word, str]]) -> None:
        """Nowhere."""


def compared(log_s: Callable[[int, bool], float], seed: int, pairs: int = 60) -> Comparison:
    """One case, whose processes take as long as their number and their side say, and a little noise."""
    rng, number = np.random.default_rng([seed, 7]), iter(range(10**6))

    def measure(is_new: bool) -> Callable[[Sequence[str]], dict[str, Took]]:
        return lambda ids: {one: Took(log_s(next(number), is_new) + rng.normal(0, 0.01), None) for one in ids}

    sides = measure(False), measure(True)
    return Comparison(["a"], sides, FIVE, Kept(), lambda _: None, pairs, seed=seed)


def test_a_period_of_four_processes_is_no_slowdown() -> None:
    """Base, new, new, base would meet every new process at the same moment of it."""
    ones = [compared(lambda number, _: 0.04 * (-1) ** ((number + 1) // 2), seed, 40) for seed in range(20)]
    words = [one.run()[0].word for one in ones]
    assert words.count(Word.REGRESSED) == 0
    assert words.count(Word.PASS) <= 4  # of which few tell how much they differ


def test_the_order_is_a_coins_and_the_same_again() -> None:
    """Half of the pairs, in no order, by seed and series."""
    one = compared(lambda *_: 0.0, 1)
    coins = np.array([[one.is_new_first(series, pair) for pair in range(400)] for series in (1, 2)])
    assert (np.abs(coins.mean(axis=1) - 0.5) < 0.1).all()
    for lag in (1, 2, 3, 4):
        assert abs((coins[0, lag:] == coins[0, :-lag]).mean() - 0.5) < 0.1
    assert abs((coins[0] == coins[1]).mean() - 0.5) < 0.1
    again = [compared(lambda *_: 0.0, seed).is_new_first(1, 5) for seed in (1, *range(40))]
    assert again[0] == coins[0, 5]
    assert {True, False} == set(again)


def test_a_seed_is_kept_with_the_pairs(tmp_path: Path) -> None:
    """What is asked for, else that of the file, else a new one."""
    file = tmp_path / "p"
    PairsFile(file, {"seed": 5}).start()
    assert _seed(None, file) == 5
    assert _seed(7, file) == 7
    assert _seed(None, None) != _seed(None, None)


def test_pairs_that_are_like_the_one_before_count_for_less() -> None:
    """100 cases by themselves, and all together: by 0.8 it is no slowdown, nor a PASS of one."""
    for in_step, cases, runs in ((0.0, 100, 8), (1.0, 8, 60)):
        regime = Regime("", core=0.06, ratios_like_before=0.8, in_step=in_step)
        rates = paired(Simulated(regime), runs, cases=cases, most_pairs=60)
        assert rates.alarms <= 1
        assert rates.passed[0.05] <= 0.06 * runs


@pytest.mark.parametrize("planted", [0.0, 0.5, 0.8])
def test_the_autocorrelation_is_found_again(planted: float) -> None:
    """Of 200 cases, 30 pairs each, to a tenth; that of one case alone may lie higher."""
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 1, (200, 130))
    for k in range(1, 130):
        rows[:, k] = planted * rows[:, k - 1] + math.sqrt(1 - planted**2) * rows[:, k]
    series = Series(Rule(1e-6, 1e-9, 1e-9), 200)
    for column in rows[:, 100:].T:
        series.add(column)
    least = min(map(series.like_before, range(200)))
    assert least == pytest.approx(planted, abs=0.1)


def test_an_autocorrelation_that_shows_is_taken_half_an_error_higher() -> None:
    """One case of 40 is alike from pair to pair, by Kendall's estimate; none of the others is."""
    rng = np.random.default_rng(4)
    rows = rng.normal(0, 1, (40, 100))
    for k in range(1, 100):
        rows[7, k] = 0.6 * rows[7, k - 1] + 0.8 * rows[7, k]
    series = Series(Rule(1e-6, 1e-9, 1e-9), 40)
    for column in rows.T:
        series.add(column)
    low, high = np.sort(rows[7])[[20, 79]]
    rest = np.clip(rows[7], low, high)
    rest = rest - rest.mean()
    lag = float((rest[1:] * rest[:-1]).sum() / (rest**2).sum())
    assert series.like_before(7) == pytest.approx((100 * lag + 1) / 96 + math.sqrt(100) / 96 / 2)
    assert max(series.like_before(row) for row in range(40) if row != 7) < 0.4


def test_a_case_of_its_own_noise_is_judged_by_it() -> None:
    """One of twelve is twenty times as noisy: by the pooled variance it would be red or PASS by chance."""
    rng = np.random.default_rng(5)
    found: list[int] = []
    for _ in range(40):
        series = Series(Rule.of_run(FIVE, 12), 12)
        for _ in range(20):
            noise = np.r_[0.2, np.full(11, 0.01)] * rng.normal(0, 1, 12)
            series.add(noise[series.is_open])
        found.append(int(series.decided[0]))
        assert (series.deviation(0) or 0.0) > 0.08
    assert found.count(1) + found.count(-1) <= 1


def test_signs_by_hand() -> None:
    """Twelve and three of one size: 9 / sqrt(15); the two largest of fifteen are drawn in to the third."""
    rows = np.array([[0.1] * 12 + [-0.1] * 3, [1.0, -2.0, 3.0, 4.0] * 3 + [900.0, -7.0, 800.0]])
    total, squares = 3 * (1 - 2 + 3 + 4) + 7 - 7 + 7, 3 * (1 + 4 + 9 + 16) + 3 * 49
    assert by_signs(rows) == pytest.approx([9 / math.sqrt(15), total / math.sqrt(squares)])


def test_two_sizes_that_fall_on_one_side_by_chance_are_no_slowdown() -> None:
    """The trimmed mean of twelve and three has no scatter left; coins fall so once in 50."""
    rng = np.random.default_rng(4)
    ratios = np.r_[np.full(12, 0.1), np.full(3, -0.1)] + rng.normal(0, 0.005, 15)
    assert decided(rng.permutation(ratios))[0] == 0
    assert decided(rng.permutation(FIVE - ratios))[0] == 0


@pytest.mark.parametrize("second", [0.03, 0.1])
def test_the_second_process_of_a_pair_may_be_slower(second: float) -> None:
    """In every pair; it falls on either side."""
    rates = paired(Simulated(Regime("", core=0.01, second=second)), 100, cases=8)
    assert rates.alarms <= 1
    assert rates.passed[0.05] <= 5


def test_no_slow_process_of_seventeen_is_a_pass() -> None:
    """0.8^17 is 2.3 %: a fifth that are slow would have shown. One that is slow takes thirty pairs."""
    assert binom.pmf(0, 16, 0.2) > tail.MISSED > binom.pmf(0, 17, 0.2)
    assert decided([0.0] * 40) == (-1, 0, 17)
    assert decided([TWICE] + [0.0] * 40)[2] > 25
    assert decided([TWICE, -TWICE] + [0.0] * 40)[0] == -1
    few = [TWICE, 0.0, 0.0, 0.0, 0.0] * 3
    assert decided(few)[0] == 0


def test_slow_processes_are_red_by_themselves() -> None:
    """The ninth: log 1.8 nine times is log(0.96 / 0.005); where the base has as many, it is none."""
    ratios = [0.0, 0.0, 0.0, 0.0, TWICE] * 20
    assert 8 * math.log(1.8) < math.log(0.96 / 0.005) < 9 * math.log(1.8)
    assert decided(ratios) == (1, TAIL, 45)
    both = [0.0, 0.0, TWICE, 0.0, 0.0, -TWICE] * 16
    assert decided(both)[0] != 1
    assert decided([0.5] * 40)[:2] == (1, MEAN)


def test_what_rules_out_a_tail_by_another_way() -> None:
    """The likelihoods, each at its best rate, by scipy's search."""

    def likelihood(new: int, base: int, pairs: int, more: float) -> float:
        def lost(rate: float) -> float:
            return -float(binom.logpmf(new, pairs, rate + more) + binom.logpmf(base, pairs, rate))

        found = minimize_scalar(lost, bounds=(0.0, 0.999 - more), method="bounded", options={"xatol": 1e-7})
        return -min(float(found.fun), lost(0.0))

    for new, base, pairs in (
        (0, 0, 16),
        (0, 0, 17),
        (1, 0, 28),
        (1, 0, 33),
        (3, 2, 40),
        (6, 1, 60),
        (4, 4, 60),
    ):
        less = likelihood(new, base, pairs, 0.0) - likelihood(new, base, pairs, 0.2)
        counts = np.array([[new], [base], [pairs]])
        is_ruled_out = tail.ruled_out(counts[0], counts[1], counts[2], np.zeros(1))[0]
        assert is_ruled_out == (less >= -math.log(0.025)), (new, base, pairs, less)


def test_two_states_are_no_tail() -> None:
    """Whichever of them the middle pair is in."""
    rng = np.random.default_rng(6)
    for _ in range(8):
        ratios = rng.choice((-0.2, 0.2), 60) + rng.normal(0, 0.005, 60)
        assert decided(ratios)[1] != TAIL


def test_a_fifth_of_new_processes_twice_as_slow_does_not_pass() -> None:
    """In 95 of 100, and is red in most; what both sides have is not."""
    rates = paired(Simulated(QUIET), 150, cases=8, planted=[Planted(1.0, often=0.2)])
    assert rates.passed[1.0] <= 0.05 * 150
    assert rates.found[1.0] >= 0.8 * 150
    assert rates.alarms == 0
    both = paired(Simulated(Regime("", core=0.01, burst=0.4)), 100, cases=8)
    assert both.alarms <= 1
    assert both.passed[0.05] <= 5


def test_slow_processes_stand_in_the_reason() -> None:
    """Red, open, and where the second series is clean."""
    found: dict[Word, str] = {}
    for seed in range(4):
        rng = np.random.default_rng(seed)

        def log_s(_: int, is_new: bool, draw: np.random.Generator = rng) -> float:
            return TWICE * (is_new and draw.random() < 0.2)

        one = compared(log_s, seed, 100)
        (verdict,) = one.run()
        found[verdict.word] = verdict.reason
    assert "slow in " in found[Word.REGRESSED]
    assert found[Word.REGRESSED].startswith("slow in ")
    assert " processes, the base in 0; in two series, " in found[Word.REGRESSED]
    number = iter(range(10**6))
    late = compared(lambda _, is_new: TWICE * (is_new and next(number) in range(0, 90, 5)), 3, 60)
    late.most_pairs = 60
    (verdict,) = late.run()
    assert verdict.word in {Word.INCONCLUSIVE, Word.REGRESSED}
    assert "slow in " in verdict.reason


def test_a_budget_that_cannot_find_the_threshold_passes_nothing() -> None:
    """By what pairs differ; with a longer series the same pairs are a PASS."""
    ratios = np.random.default_rng(8).normal(0, 0.06, 400)
    few, many = (decided(ratios[:n], Rule(FIVE, 0.005, most_pairs=n)) for n in (40, 400))
    assert few == (0, 0, 40)
    assert many[0] == -1
    rates = paired(Simulated(SHARED), 60, cases=8, most_pairs=60)
    found, of = rates.sure
    assert of - found <= 0.05 * 60


def test_a_smaller_budget_is_gone_on_with(tmp_path: Path) -> None:
    """What a larger one had decided is not missing."""

    def measure(ids: Sequence[str]) -> dict[str, Took]:
        return {one: Took(float(rng.normal(0, 0.03)), None) for one in ids}

    words: list[Any] = []
    for pairs in (300, 20):
        rng = np.random.default_rng(2)
        kept = PairsFile(tmp_path / "p", {})
        kept.start() if pairs == 300 else kept.go_on()
        one = Comparison(["a", "b"], (measure, measure), FIVE, kept, lambda _: None, pairs)
        words.append({verdict.word for verdict in one.run()})
    assert words == [{Word.PASS}, {Word.INCONCLUSIVE}]
