"""What the page gets of a model instead of its kinds of layers, by hand and as the counts themselves say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ci.report.page.coefficients import coefficients
from ci.report.page.estimates import Estimates
from ci.report.read.samples import curves, newest, read_samples
from ci.tests.report_histories import record, write
from fixtures.core.cost.bounds import Cache, Experts, Work
from fixtures.core.cost.footprint import Footprint, Instant, Pass, Terms
from fixtures.core.cost.stored_counts import Counts, Dispatch, find_counts
from fixtures.core.spec import library
from fixtures.core.spec.case import EngineSpec

ZERO = Pass((Instant(Terms(1), Terms()),))


def of(work: Work, dispatch: Dispatch) -> dict[str, object]:
    """Of a model with such work, whose memory does not matter."""
    footprint = Footprint(1, 0, False, work.caches, ZERO, ZERO)
    return coefficients(Counts(work, dispatch=dispatch, footprint=footprint), "hf")


def test_layers_of_every_kind_are_a_few_numbers() -> None:
    """Of 60 FLOPs a pair: 10 for all, 20 within 4, 30 for 2 blocks of 5 entries of 3 tokens."""
    caches = (Cache(1, 7), Cache(2, 8, window=4), Cache(3, 9, chosen=2, block=5, every=3), Cache(4, 0, 11))
    work = Work(1.0, 100.0, 60.0, 5000, caches, pair_flops=(10.0, 20.0, 30.0, 0.0), idle_flops=25.0)
    found = of(work, Dispatch(4, 2, 10, 7.0, 3.0, 3.0, 30.0, 90.0, "5", prefill_ops=2.0, ops_per_token=0.5))
    assert found["operators"] == [4 * 7 + 3, 4 * (7 + 2) + 3, 4 * 0.5]
    assert found["attention"] == [[10.0, None], [20.0, 3], [10.0, None]]
    assert found["kept"] == 2 * 4 * 11  # states, read and written
    assert found["least"] == {
        "per_token": 75.0,
        "pairs": [[10.0, 1, None, 1], [20.0, 1, 3, 1], [30.0, 3, 5, 5]],
        "caches": [[7, 1, None, 1], [16, 1, 3, 1], [27, 3, 5, 5], [0, 1, None, 1]],
        "fixed_bytes": 4 * 11 + 4 * 11,
        "read": [5000, []],
    }


def test_experts_are_bytes_and_the_chance_to_miss_them() -> None:
    """A token chooses 2 of 8: 2 of 3 x 100 bytes always; each is missed by 3 of 4 tokens, or by its rank."""
    mixture = Work(1.0, 1.0, 1.0, 5000, (Cache(1, 1),), experts=(Experts(3, 8, 2, 100),))
    dispatch = Dispatch(4, 2, 10, 7.0, 3.0, 3.0, 30.0, 90.0, "5")
    found = of(mixture, dispatch)
    assert found["read"] == [5000 - 2 * 300, [[300 * 8, 0.75]]]
    assert found["copied"] == 2 * 2 * 300
    assert found["least"] == of(replace(mixture, experts=()), dispatch)["least"]
    steep = replace(mixture, routing="power_law_1", experts=(Experts(3, 3, 2, 100),))
    read = of(steep, dispatch)["read"]
    assert read == [5000 - 600, [[300, 0.0], [300, pytest.approx(0.4)], [300, pytest.approx(0.6)]]]
    assert of(replace(steep, idle_flops=0.5), dispatch)["read"] == [4400, [[900, 0.0]]]


@pytest.mark.parametrize(
    "name", ["mpt7b", "gemma3_27b", "gpt_oss_20b", "mistral7b", "llama4_scout", "deepseek_v4_flash"]
)
def test_a_first_pass_takes_the_bytes_that_were_counted(name: str) -> None:
    """On both sides of each window."""
    counts = find_counts(library.model(name), EngineSpec("hf"))
    assert counts is not None
    pieces = coefficients(counts, "hf")["footprint"]["prefill"]
    for tokens in (1, 127, 128, 511, 512, 1024, 4095, 4096, 8192, 32768):
        moments = [moments for begin, moments in pieces if begin <= tokens][-1]
        for batch in (1, 7):
            found = max(Terms(*terms).at(batch, tokens) for terms in moments)
            assert found == counts.footprint.pass_bytes(batch, tokens, 0)


def test_an_engine_in_pieces_is_refused_by_name(tmp_path: Path) -> None:
    """The command estimates it; a page that took it as one piece would say something else."""
    made = record("own", "1xh100_80gb", 1, 1.0)
    made["case"]["engine"] |= {"name": "hf_chunk64", "prefill_chunk": 64}
    samples = newest(read_samples([write(tmp_path / "a.json", [made])]))
    (curve,) = curves(samples)
    estimates = Estimates(samples, [curve])
    place = estimates.pair_of(curve)
    pair = estimates.values()["pairs"][place]
    assert pair["engine"] == "hf_chunk64"
    assert pair["refused"] == (
        "engine hf_chunk64: pieces of prefill, which ci.pick --estimate has and this page has not"
    )
