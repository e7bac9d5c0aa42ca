"""Prefill and decode, two ways, on a device of known law: what is reported, and that faults are seen."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import FakeEngine, Law
from fixtures.core.result.phases import make_split, relate
from fixtures.core.result.record import Record
from fixtures.core.result.record_case import RecordedCase
from fixtures.core.spec.case import Point

pytest_plugins = ["pytester"]

Fake = type[FakeEngine]


def measured(project: pytest.Pytester, *arguments: str, **keys: Any) -> tuple[list[dict[str, Any]], str]:
    """The benchmarks of one run's history by output length, and what was printed."""
    suite = write_suite(project.path, keys.pop("model", "m"), **keys)
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", suite, *arguments)
    (history,) = histories(project.path)
    return history["benchmarks"], result.stdout.str()


def test_both_ways_find_the_law(project: pytest.Pytester, fake: Fake) -> None:
    """Prefill 0.5 s, a token 0.02 s and 0.1 ms more each: from single tokens, and from whole calls alone."""
    fake.law = Law(prefill_s=0.5, token_s=0.02, growth_s=1e-4)
    benches, text = measured(
        project, "--tables", "split", batch_sizes=[4], input_lengths=[8], output_lengths=[1, 11, 31]
    )
    for bench, n in zip(benches, (1, 11, 31), strict=True):
        split = bench["extra_info"]["split"]
        gaps = [0.02 + 1e-4 * k for k in range(n - 1)]
        assert split["ttft_s"] == pytest.approx(0.5)
        assert split["gaps_s"] == pytest.approx(gaps)
        assert split["prefill_tokens_per_s"] == pytest.approx(4 * 8 / 0.5)
        assert split["fit"]["first_s"]["value"] == pytest.approx(0.5)
        assert split["fit"]["further_s"]["value"] == pytest.approx(0.02)
        assert split["fit"]["growth_s"]["value"] == pytest.approx(1e-4)
        assert split["ttft_disagreement"] == {"value": pytest.approx(0, abs=1e-6), "beyond": None}
        if n == 1:
            assert split["tpot_s"] is split["decode_tokens_per_s"] is split["tpot_disagreement"] is None
            continue
        assert split["tpot_s"] == pytest.approx(sum(gaps) / (n - 1))
        assert split["decode_tokens_per_s"] == pytest.approx(4 * (n - 1) / sum(gaps))
        assert split["tpot_disagreement"] == {"value": pytest.approx(0, abs=1e-6), "beyond": None}
    assert "TTFT ms" in text
    assert "+0 % / +0 %" in text.replace("-0 %", "+0 %")
    assert "MARKED" not in text


def test_ways_that_differ_are_marked(project: pytest.Pytester, fake: Fake) -> None:
    """Single tokens that do not tell of half the prefill: whole calls do, and both cases say so."""
    fake.law = Law(prefill_s=0.5, token_s=0.02)
    benches, text = measured(project, model="forgets_half_the_prefill", output_lengths=[2, 12])
    assert benches[1]["extra_info"]["split"]["ttft_disagreement"]["value"] == pytest.approx(1.0)
    assert benches[1]["extra_info"]["marks"][0] == "two ways: TTFT by the fit +100 % (surely beyond 10 %)"
    assert "MARKED two ways in 2 cases: forgets_half_the_prefill-1x" in text


def test_moments_beyond_the_call_have_no_number(project: pytest.Pytester, fake: Fake) -> None:
    """A clock that disagrees with the call's own fails the case."""
    suite = write_suite(project.path, "tells_late_moments")
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*times of 2 tokens, the last after 0.004 s, do not*a call of 0.002*"])


def test_one_length_has_no_second_way(project: pytest.Pytester, fake: Fake) -> None:
    """Absent, and not called an agreement."""
    (bench,), _ = measured(project, output_lengths=[8])
    split = bench["extra_info"]["split"]
    assert (split["fit"], split["ttft_disagreement"], split["tpot_disagreement"]) == (None, None, None)


def test_quantiles_of_gaps_take_enough_of_them(project: pytest.Pytester, fake: Fake) -> None:
    """5 rounds of 7 gaps: p50 and p90; 5 of 60, with a stall in each: p99 too, and it is in p99 alone."""
    fake.law = Law(stall_s={30: 0.5})
    (short, long), _ = measured(project, output_lengths=[8, 61])
    few, many = (bench["extra_info"]["split"]["itl_s"] for bench in (short, long))
    assert few == {"p50": pytest.approx(0.001), "p90": pytest.approx(0.001), "p99": None, "gaps": 35}
    assert many["gaps"] == 300
    assert many["p90"] == pytest.approx(0.001)
    assert many["p99"] == pytest.approx(0.501)


def test_a_spike_does_not_move_the_median(project: pytest.Pytester, fake: Fake) -> None:
    """The third timed round takes ten times as long: mean and interval show it."""
    fake.law = Law(factor=lambda call: 10.0 if call == 5 else 1.0)
    (bench,), _ = measured(project, output_lengths=[4])
    record = bench["extra_info"]
    assert record["latency_median_s"] == pytest.approx(0.004)
    assert record["latency_mean_s"] == pytest.approx((4 * 0.004 + 0.04) / 5)
    assert record["latency_interval"] == {
        "low": pytest.approx(0.004), "high": pytest.approx(0.04), "coverage": pytest.approx(0.9375)
    }  # fmt: skip
    assert record["latency_spread"] == pytest.approx(0)
    assert record["marks"] == []


@pytest.mark.parametrize("warm", [False, True])
def test_drift_over_the_timed_rounds_is_marked(project: pytest.Pytester, fake: Fake, warm: bool) -> None:
    """5 % a round is; a warm-up that was slow is not, and its trace is kept."""
    fake.law = Law(factor=lambda call: 3.0 - call if warm and call < 3 else 1 + 0.05 * call * (not warm))
    (bench,), text = measured(project, output_lengths=[4])
    record = bench["extra_info"]
    if warm:
        assert record["warmup_s"] == pytest.approx([0.012, 0.008, 0.004])
        assert record["marks"] == []
        return
    assert record["drift"]["change"] == pytest.approx(4 * 0.05 / 1.25)
    assert "MARKED" in text
    assert "drift: +16 % from first to last round" in text


@pytest.mark.parametrize(
    ("law", "rounds", "reason"),
    [
        (Law(), 6, "precision"),
        (Law(factor=lambda call: 1 + 0.2 * (call % 2)), 100, "rounds"),
        (Law(prefill_s=4, factor=lambda call: 1 + 0.2 * (call % 2)), 14, "time"),
    ],
    ids=["precision", "rounds", "time"],
)
def test_auto_goes_on_until_it_is_sure_or_a_limit_is_met(
    project: pytest.Pytester, fake: Fake, law: Law, rounds: int, reason: str
) -> None:
    """Six quiet rounds are enough; rounds that never settle end at 100, or after 60 s."""
    fake.law = law
    (bench,), _ = measured(project, "--rounds", "auto", "--warmup-rounds=0", output_lengths=[2])
    record = bench["extra_info"]
    assert len(bench["stats"]["data"]) == len(record["split"]["ttft_rounds_s"]) == rounds
    assert record["stopped_by"] == reason
    assert record["protocol"]["rounds"] == "auto"


def test_auto_narrows_what_jitter_hides(project: pytest.Pytester, fake: Fake) -> None:
    """2.5 % of noise takes more than six rounds to know the median to 1 %, and then it is."""
    rng = random.Random(5)
    noise = [rng.gauss(1, 0.025) for _ in range(120)]
    fake.law = Law(factor=lambda call: noise[call])
    (bench,), _ = measured(project, "--rounds", "auto", "--warmup-rounds=0", output_lengths=[2])
    record = bench["extra_info"]
    interval = record["latency_interval"]
    assert 10 < len(bench["stats"]["data"]) < 100
    assert interval["coverage"] >= 0.95
    assert (interval["high"] - interval["low"]) / 2 / record["latency_median_s"] <= 0.01


def test_a_sweep_selects_its_cases_by_name(project: pytest.Pytester, fake: Fake) -> None:
    """`-k` finds a case by its sweep's name, which is not in its id."""
    suite = write_suite(project.path, "m")
    for word, code in (("small", 0), ("SMALL and m", 0), ("large", 5)):
        assert project.runpytest("benchmarks", "--benchmark-only", "--suite", suite, "-k", word).ret == code


def test_to_relate_twice_changes_nothing() -> None:
    """The history and the table both do."""
    moments = [[0.5, 1.5], [0.5, 1.5]]

    def record(n: int) -> Record:
        case = RecordedCase(id=f"c{n}", batch_size=1, input_len=4, output_len=n)
        split = make_split(Point(1, 4, n), [2.0, 2.0], [one[:n] for one in moments])
        return Record(record_version=5, case=case, split=split)

    both = [(record(1), [1.0, 1.0]), (record(2), [2.0, 2.0])]  # by whole calls 1 s, and 1 s a token
    once = relate(both)
    assert relate([(one, seconds) for one, (_, seconds) in zip(once, both, strict=True)]) == once
    assert [len(one.marks) for one in once] == [1, 2]
    assert [one.marks for one, _ in both] == [(), ()]


def test_the_moments_of_real_tokens_are_those_of_the_call() -> None:
    """Real generation on a CPU: one moment a token, rising, the last one just before the call is over."""
    import time

    from ci.tests.engines.test_hf import ALL, loaded, work_of

    for name in ("mpt", "llama"):
        hf, _ = loaded(ALL[name])
        for n in (1, 2, 12):
            work = work_of(hf, Point(3, 10, n))
            hf.generate(work)
            start = time.perf_counter()
            hf.generate(work)
            whole_s = time.perf_counter() - start
            moments = hf.token_s(work)
            assert len(moments) == n
            assert all(a < b for a, b in itertools.pairwise(moments))
            assert moments[0] > 0
            assert moments[-1] <= whole_s
