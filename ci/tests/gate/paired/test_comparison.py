"""Pairs of processes that take turns: error rates, the order, and a real comparison of two checkouts."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ci.gate.__main__ import main
from ci.gate.calibrate.paired_families import HARDER, REGIMES, paired_table
from ci.gate.calibrate.simulate import HEAD, Regime, Replayed, Simulated, at_least, at_most, paired, row
from ci.gate.output import markdown, table
from ci.gate.paired.comparison import Comparison
from ci.gate.paired.pairs_file import PairsFile
from ci.gate.paired.sequential import LEAST_PAIRS, Rule, Series, interval, trimmed
from ci.gate.paired.sides import Side, Took, opened
from ci.gate.verdicts import Word
from ci.tests.conftest import FAKED, ROOT
from ci.tests.records import recorded
from fixtures.core.base.errors import InputError

FIVE = math.log1p(0.05)
AT_ONCE = 10  # pairs that are slower without any noise
RULE = Rule(FIVE, 0.005)
QUIET, _, BAD = REGIMES


def decide(ratios: Sequence[float], rule: Rule = RULE) -> int:
    """What one case alone comes to: 1 slower, -1 not slower, 0 open."""
    series = Series(rule, 1)
    for one in ratios:
        if series.is_open[0]:
            series.add(np.array([one]))
    return int(series.decided[0])


def test_bounds_by_hand() -> None:
    """Wald's: log(0.02 / 0.99) and log(0.98 / 0.01); of a run, red has to be red twice in all cases."""
    low, high = Rule(FIVE, 0.01, 0.02).bounds()
    assert low == pytest.approx(-3.9020, abs=1e-4)
    assert high == pytest.approx(4.5850, abs=1e-4)
    assert Rule.of_run(FIVE, 5000).alpha == pytest.approx(0.001)
    assert Rule.of_run(FIVE, 1).alpha == 0.005
    # of n pairs the likelihood's mean is n d^2 / 2 sd^2, its deviation sqrt(n) d / sd: of 110, 13.75 and
    # 5.244, so that 4.585 lies 1.75 deviations below, and of 133, 16.625 and 5.766, 2.09; 97.5 % is 1.96
    assert 110 < Rule(0.02, 0.01, 0.02).pairs_needed(0.04) < 133
    assert Rule(FIVE, 0.01).pairs_needed(1e-9) == 15


def test_the_trimmed_mean_and_its_variance_by_hand() -> None:
    """Yuen's, of six: the outermost two count as their neighbours; scipy has the same mean and error."""
    rng = np.random.default_rng(8)
    for pairs in (6, 7, 10, 23):
        rows = rng.standard_t(2, (4, pairs))
        mean, variance, drawn_in, dof = trimmed(rows)
        for of_case, one, square in zip(rows, mean, variance, strict=True):
            assert one == pytest.approx(stats.trim_mean(of_case, 0.2))
            error = stats.mstats.trimmed_stde(of_case, limits=(0.2, 0.2), inclusive=(1, 1))
            kept = pairs - 2 * int(0.2 * pairs)
            # scipy's divides by the share that is kept, Yuen by its degrees of freedom
            yuen = error * (1 - 0.4) * math.sqrt((pairs - 1) * pairs / (kept * (kept - 1)))
            assert math.sqrt(square / pairs) == pytest.approx(yuen)
        assert dof == pairs - 2 * int(0.2 * pairs) - 1
        assert drawn_in.mean(axis=1) == pytest.approx(0)
    (mean,), (variance,), _, dof = trimmed(np.array([[9.0, 1.0, 2.0, 3.0, 4.0, -7.0]]))
    # 1 1 2 3 4 4 around 2.5: squares 9.5; six pairs, four kept: 6 * 9.5 / (4 * 3)
    assert (mean, variance, dof) == (2.5, 4.75, 3)


def test_a_decision_takes_pairs() -> None:
    """Fifteen to be the same; what lies in the middle is never decided.

    Pairs of one case alone may be alike by half of sqrt(n) / (n - 4): eleven, by 0.24, count for 6.8, and ten
    for 5.8 of the 6 that it takes.
    """
    assert decide([1.0] * 10) == 0
    assert decide([FIVE] * 11) == 1
    assert decide([0.0] * 14) == 0
    assert decide([0.0] * 15) == -1
    assert decide([FIVE / 2] * 40) == 0
    assert decide([0.0, 0.02] * 30) == -1


def test_the_deviation_is_found_from_above() -> None:
    """By many pairs nearly as it is, by few too large; single ones that lie far out hardly count."""
    rng = np.random.default_rng(1)

    def deviation(rows: np.ndarray) -> float:
        series = Series(Rule(1e-6, 1e-9, 1e-9), len(rows))  # which never decides
        for column in rows.T:
            series.add(column)
        return series.deviation(0) or 0.0

    # of the 20 % trimmed mean of a normal distribution 0.02 / sqrt(0.87)
    many = rng.normal(0, 0.02, (100, 30))
    own = math.sqrt(trimmed(many[:1])[1][0])
    assert deviation(many) == pytest.approx(max(own, 0.0215), rel=0.06)
    few = np.array([deviation(rng.normal(0, 0.02, (1, 6))) for _ in range(400)])
    assert np.mean(few > 0.0215) > 0.85
    assert deviation(np.c_[many, np.full(100, 9.0)]) == pytest.approx(max(own, 0.0215), rel=0.15)
    noisy = np.r_[rng.normal(0, 0.2, (1, 30)), many]
    assert deviation(noisy) > 0.12  # its own, where that is larger
    series = Series(RULE, 1)
    assert series.deviation(0) is None


def test_what_all_cases_share_tells_as_much_as_one_case() -> None:
    """A hundred cases that move together are no more certain than one."""
    rng = np.random.default_rng(2)
    too_small = {}
    for name in ("together", "apart"):
        found = []
        for _ in range(200):
            shared, own = rng.normal(0, 0.1, 6), rng.normal(0, 0.1, (100, 6))
            rows = shared + 0.01 * own if name == "together" else own
            series = Series(RULE, 100)
            for column in rows.T:
                series.add(column)
            _, own, _, dof = trimmed(rows)
            run = np.zeros(100, int)
            safety = series._safety(run, dof, np.ones(100))
            found.append((series._pooled(run, own, dof) * safety)[0])
        too_small[name] = float(np.mean(np.array(found) < 0.1**2 / 0.87))
    assert too_small["together"] < 0.25  # 0.5 were it taken for certain
    assert too_small["apart"] < 0.25
    # apart, it is known to a few per cent
    assert np.median(found) == pytest.approx(0.1**2 / 0.87, rel=0.25)


@pytest.mark.parametrize("regime", [*REGIMES, *HARDER], ids=lambda regime: regime.name)
def test_error_rates_of_runs_of_100_cases(regime: Regime) -> None:
    """At most 1 % false alarms, +5 % found in 95 % where cases PASS; by as many runs as time allows."""
    runs, cases = 20, 10 if regime is BAD else 50
    pairs = 800 if regime is BAD else 200
    rates = paired(Simulated(regime), runs, seed=1, cases=cases, most_pairs=pairs)
    assert rates.alarms <= 1
    assert rates.passed[0.05] <= 2
    assert rates.found[0.05] >= 0.95 * runs - 2
    assert rates.found[0.1] == runs
    assert rates.pairs is not None
    assert 15 <= rates.pairs < 200
    assert rates.open is not None
    assert rates.open < 0.2
    default = paired(Simulated(regime), 10, seed=2, cases=25)
    assert default.alarms == default.passed[0.05] == 0
    assert default.open == 1.0 or regime is not BAD  # nothing passes that could not be found


@pytest.mark.parametrize("cases", [1, 3, 10])
def test_error_rates_of_few_cases(cases: int) -> None:
    """Of which the noise is known less well."""
    rates = paired(Simulated(REGIMES[1]), 200, seed=2, cases=cases)
    assert at_least(rates.alarms, 200) < 0.01
    assert rates.found.get(0.05, 200) >= 0.95 * 200


def test_shares_have_bounds_by_clopper_and_pearson() -> None:
    """As scipy's exact test has them; none of 300 is at most 1 %, by the rule of three."""
    for found, of in ((0, 300), (3, 1000), (97, 100), (20, 20)):
        exact = stats.binomtest(found, of).proportion_ci(0.9, "exact")
        assert at_most(found, of) == pytest.approx(exact.high)
        assert at_least(found, of) == pytest.approx(exact.low)
    assert at_most(0, 299) == pytest.approx(0.01, rel=0.01)


def test_the_table_has_every_rule_and_regime() -> None:
    """Of one run each."""
    head, _, *rows = paired_table(1, everything=False)
    assert len(rows) == len(REGIMES) + len(HARDER)
    assert {row.count("|") for row in rows} == {head.count("|")}


def test_the_readmes_table_is_what_the_command_writes() -> None:
    """The row that takes a second is worked out again, digit by digit."""
    text = (ROOT / "ci/gate/README.md").read_text()
    rows = text[text.index(HEAD[0]) :].partition("\n\n")[0].splitlines()
    assert tuple(rows[:2]) == HEAD
    assert len(rows) == 2 + len(REGIMES) + len(HARDER)
    assert row("paired, quiet", paired(Simulated(QUIET), 1000)) == rows[2]
    for line in rows[2 : 2 + len(REGIMES) + len(HARDER)]:
        alarms, passed = (re.findall(r"< ([0-9.]+) %", cell)[0] for cell in line.split(" | ")[1:6:4])
        assert float(alarms) <= 1
        assert float(passed) <= 5


def test_noise_that_was_measured_is_replayed() -> None:
    """Of a process all cases together; each as often as the others, none from another's pairs."""
    pairs = np.arange(12.0).reshape(3, 4) + 100
    noise, rng = Replayed([pairs[:, :1], pairs[:, 1:]]), np.random.default_rng(0)
    run = np.repeat([0, 1], 7)
    noise.start(rng, run)
    found = np.array([noise.pair(rng, np.arange(14), np.zeros(2, bool)) for _ in range(400)])
    turned, found = found < 0, np.abs(found) - 100
    assert abs(turned[:, 0].mean() - 0.5) < 0.1
    case, column = found // 4, found % 4
    assert (case == case[0]).all()
    assert sorted(np.bincount(case[0].astype(int))) in ([4, 4, 6], [4, 5, 5])
    assert set(np.unique(column)) == {0, 1, 2, 3}
    together = (column[:, 0] == column[:, 1]).mean()
    assert together == 1 or together < 0.5
    assert together < 1 or (turned[:, 0] == turned[:, 1]).all()  # a process is turned as a whole
    assert (column[:, 0] == column[:, 7]).mean() < 0.5  # another run, another process


def test_the_mean_of_few_measured_pairs_is_no_slowdown() -> None:
    """Eight pairs of unchanged code lie 5 % on one side, as happens where they differ by 10 %: no alarm."""
    few = np.random.default_rng(3).normal(0, 0.1, (3, 8))
    few += FIVE - few.mean(axis=1, keepdims=True)
    rates = paired(Replayed([few]), 20)
    assert rates.alarms <= 1
    assert rates.found[0.1] >= 18


SEVEN = recorded(parameters=7)


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
    assert firsts[:15] == [comparison.is_new_first(1, pair) for pair in range(15)]
    assert firsts[15:] == [comparison.is_new_first(2, pair) for pair in range(len(firsts) - 15)]
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


def test_an_interval_holds_what_is_so_in_95_of_100() -> None:
    """Of pairs of a normal distribution, and of ones of which some are disturbed; by hand for six."""
    rng = np.random.default_rng(9)
    for disturbed in (0.0, 0.1):
        rows = rng.normal(0.01, 0.05, (2000, 12))
        rows += (rng.random(rows.shape) < disturbed) * rng.normal(0, 0.5, rows.shape)
        holds = [low < 0.01 < high for _, low, high in (interval(list(one)) for one in rows)]
        assert np.mean(holds) == pytest.approx(0.95, abs=0.025)
    # mean 2.5 and variance 4.75 as above, six pairs, Student's 3.1824 of three degrees of freedom
    assert interval([9.0, 1.0, 2.0, 3.0, 4.0, -7.0]) == pytest.approx((2.5, -0.3316, 5.3316), abs=1e-4)


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
    assert verdicts[0].reason == "5 pairs, of 6 at the least in each series"
    late = compared(Sides(QUIET, 4), tmp_path / "r", cases=2)
    late.limit_s = -1
    assert {one.word for one in late.run()} == {Word.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("took", "word", "reason"),
    [
        (None, Word.MISSING, "the new side has no number for it"),
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
    with pytest.raises(InputError, match="ratios that are none"):
        compared(Sides(QUIET, 6), tmp_path / "p", cases=2, threshold=0.05)


def git(folder: Path, *words: str) -> None:
    """In a repository of its own."""
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    identity = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, env=env)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This project with the fake engine, committed; calls take 2 ms by its clock, with a little noise."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("benchmarks", "fixtures", "yamls", "ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pytest.ini", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    noise = "\nimport random\nfrom ci.tests.fake_engine import Law\n"
    noise += "FakeEngine.law = Law(factor=lambda _, f=random.gauss(1, 0.004): f)\n"
    (folder / "conftest.py").write_text((folder / "conftest.py").read_text() + FAKED + noise)
    model = {"name": "m", "architecture": {"model_type": "mamba"}}
    sweep = {"name": "s", "batch_sizes": [1, 2], "input_lengths": [4], "output_lengths": [2]}
    suite = {"models": [model], "hardware": ["1xany"], "sweeps": [sweep], "rounds": 2, "warmup_rounds": 0}
    (folder / "suite.yaml").write_text(json.dumps(suite))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def gate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in that checkout."""
    command = [
        sys.executable,
        "-m",
        "ci.gate",
        "paired",
        "--base",
        "HEAD",
        *words,
        "--",
        "--suite",
        "suite.yaml",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_a_planted_slowdown_goes_red_and_its_twin_stays_green(checkout: Path) -> None:
    """Against HEAD in a worktree of its own, which is gone afterwards; real processes, real histories."""
    engine = checkout / "ci" / "tests" / "fake_engine.py"
    call = "law.token_times(output_len, call)"
    slower = f"[(1.1 if batch_size == 2 else 1.0) * moment for moment in {call}]"
    engine.write_text(engine.read_text().replace(call, slower))
    done = gate(checkout)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"m-1xcpu-hf-b2-in4-out2  REGRESSED  1\.(09|10)", done.stdout), done.stdout
    assert re.search(r"m-1xcpu-hf-b1-in4-out2  PASS  ", done.stdout), done.stdout
    assert not list((checkout / ".benchmarks" / "paired").glob("*/"))
    listed = subprocess.run(["git", "worktree", "list"], cwd=checkout, capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1


@pytest.mark.slow
def test_a_session_is_judged_by_accepted_ones(checkout: Path) -> None:
    """`--gate`: green, and red where a call takes longer; cases that were not chosen are not missing."""
    conftest, engine = checkout / "conftest.py", checkout / "ci" / "tests" / "fake_engine.py"
    conftest.write_text(conftest.read_text().replace("gauss(1, 0.004)", "gauss(1, 0.0002)"))

    def session(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "--suite", "suite.yaml"]
        return subprocess.run([*command, *words], cwd=checkout, capture_output=True, text=True)

    for k in range(3):
        assert session("--benchmark-json", "run.json").returncode == 0
        accept = [sys.executable, "-m", "ci.gate", "accept", "run.json", "--name", f"r{k}"]
        done = subprocess.run(
            [*accept, "--allow", "partial,dirty,contended"], cwd=checkout, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    done = session("--gate", "-k", "b1-")
    assert done.returncode == 0, done.stdout
    assert "gate: pass (1 PASS)" in done.stdout
    call = "law.token_times(output_len, call)"
    engine.write_text(engine.read_text().replace(call, f"[1.1 * moment for moment in {call}]"))
    done = session("--gate", "-k", "b2-")
    assert done.returncode == 1, done.stdout
    assert "gate: regressed (1 REGRESSED)" in done.stdout


@pytest.mark.slow
def test_an_interrupted_comparison_is_gone_on_with(checkout: Path) -> None:
    """Its worktree is gone, its pairs are kept; another threshold's are not taken for them."""
    command = [sys.executable, "-m", "ci.gate", "paired", "--base", "HEAD", "-k", "b1-"]
    options = ["--", "--suite", "suite.yaml"]
    with subprocess.Popen([*command, *options], cwd=checkout, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("series 1, pair 1"):
                process.send_signal(signal.SIGTERM)
        assert process.wait() == 130
    (file,) = (checkout / ".benchmarks" / "paired").glob("*")
    assert len(file.read_text().splitlines()) == 2
    listed = subprocess.run(["git", "worktree", "list"], cwd=checkout, capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1
    resumed = [*command, "--resume", str(file), "--pairs", "1"]
    done = subprocess.run([*resumed, *options], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "1 pair, of 6 at the least" in done.stdout
    done = subprocess.run(
        [*resumed, "--threshold", "7%", *options], cwd=checkout, capture_output=True, text=True
    )
    assert done.returncode == 4
    assert re.fullmatch(r"ERROR: --resume .*: threshold was '0.05', and now is '0.07'; .*\n", done.stderr)


def test_bases_are_refs_environments_and_engines(tmp_path: Path) -> None:
    """What is none of them is one line."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").touch()
    with opened(str(tmp_path / "env"), ROOT) as side:
        assert side.python == str(tmp_path / "env" / "bin" / "python")
    with opened("engine=hf_eager", ROOT) as side:
        assert side._own("m-1xcpu-hf-b1-in4-out2") == "m-1xcpu-hf_eager-b1-in4-out2"
    for base in ("no such ref", "--help", ""):
        with pytest.raises(InputError, match=r"is no git ref, no environment"), opened(base, tmp_path):
            pass


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4."""
    assert main(["paired"]) == 4
    assert main(["paired", "--base", "none such"]) == 4
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.slow
def test_a_choice_of_nothing_is_one_line() -> None:
    """pytest's own last line."""
    with pytest.raises(InputError, match="new: no case is chosen: "):
        Side("new", ROOT).ids(["-k", "no such case"])
