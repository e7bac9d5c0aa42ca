"""The moments of each sequence: what a record keeps of them, and where it is shown."""

from __future__ import annotations

import pytest

from ci.tests.records import recorded
from fixtures.core.fields import CSV, FIELDS, SPLIT, shown_in
from fixtures.core.result.sequences import MOST, OfCall, make_sequences
from fixtures.core.spec.case import Point
from fixtures.core.tables import other_table

POINT = Point(2, 8, 3, (8, 5))
FAST, SLOW = [[0.1, 0.2, 0.5], [0.2, 0.3, 0.4]], [[0.3, 0.4, 0.9], [0.4, 0.6, 0.8]]


def test_a_sequence_has_the_medians_of_its_own_moments() -> None:
    """Of calls of 0.5 and 0.9 s: halfway between both; all moments are those of the faster."""
    found = make_sequences(POINT, [0.9, 0.5], [OfCall.of(SLOW), OfCall.of(FAST)])
    assert found is not None
    assert found.input_lens == (8, 5)
    assert found.ttft_s == pytest.approx([0.2, 0.3])
    assert found.last_token_s == pytest.approx([0.7, 0.6])
    assert found.tpot_s == pytest.approx([(0.2 + 0.3) / 2, (0.1 + 0.2) / 2])
    assert found.token_s == (tuple(FAST[0]), tuple(FAST[1]))


def test_one_token_has_no_tpot_and_a_call_without_moments_leaves_no_sequences() -> None:
    """As in the whole case."""
    single = make_sequences(Point(2, 8, 1), [0.5], [OfCall.of([[0.1], [0.4]])])
    assert single is not None
    assert single.tpot_s is None
    assert make_sequences(POINT, [0.9, 0.5], [OfCall.of(SLOW), OfCall.of(None)]) is None
    assert make_sequences(POINT, [], []) is None


@pytest.mark.parametrize(
    ("batch", "output_len", "whole"), [(64, 64, True), (64, 65, False), (64, 1024, False)]
)
def test_what_is_kept_is_bounded(batch: int, output_len: int, whole: bool) -> None:
    """4,096 moments of a call; beyond, two of a sequence, and three numbers of it in the record."""
    moments = [[0.001 * (step + 1) for step in range(output_len)] for _ in range(batch)]
    call = OfCall.of(moments)
    assert call is not None
    assert (call.token_s is not None) is whole is (batch * output_len <= MOST)
    kept = make_sequences(Point(batch, 8, output_len), [2.0], [call])
    assert kept is not None
    assert (kept.token_s is not None) is whole
    assert len(kept.ttft_s) == len(kept.last_token_s) == len(kept.tpot_s or ()) == batch


def test_screen_file_and_page_have_them() -> None:
    """Each by a row of the fields; the table at the end has columns only where a case has moments."""
    values = {
        "input_lens": [8, 5], "ttft_s": [0.1, 0.2], "tpot_s": [0.03, 0.02], "last_token_s": [0.5, 0.4],
    }  # fmt: skip
    known = recorded(sequences=values, split={"ttft_s": 0.2})
    unknown = recorded(split={"ttft_s": 0.2})
    assert known.as_dict()["sequences"]["ttft_s"] == [0.1, 0.2]
    assert "sequences" not in unknown.as_dict()
    assert "TTFT of sequences ms" not in other_table(SPLIT, [unknown])[0]
    heading, _, *lines = other_table(SPLIT, [unknown, known])
    assert "TTFT of sequences ms" in heading
    assert "100-200" in lines[-1]
    assert "20.0-30.0" in lines[-1]
    in_file = {field.name: field.value(known) for field in shown_in(CSV)}
    assert in_file["first_sequence_ttft_s"] == 0.1
    assert in_file["first_sequence_last_token_s"] == 0.4
    assert (in_file["fastest_sequence_tpot_s"], in_file["slowest_sequence_tpot_s"]) == (0.02, 0.03)
    texts = {field.name: field.value(known) for field in FIELDS}
    assert texts["sequences_last"] == "400-500"
