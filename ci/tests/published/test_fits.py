"""The largest batches that are predicted to fit beside those that were published: none is contradicted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ci.published import fits
from ci.tests.conftest import ROOT

LENGTHS = (512, 64)


def test_no_published_batch_is_predicted_not_to_fit() -> None:
    """Of the eleven curves; the twelfth, MPT-30B on one A100 of 40 GB, has no batch in either column."""
    found = {(one.model, one.hardware): one for one in fits.curves()}
    assert len(found) == 12
    missing = found.pop(("mpt30b", "1xa100_40gb"))
    assert (missing.published, missing.predicted) == (0, 0)
    assert all(1 <= one.published <= one.predicted <= 64 for one in found.values())


@pytest.mark.parametrize(
    ("model", "hardware", "batches", "sentence"),
    [
        ("mpt30b", "1xa100_40gb", (0, 0), "loading it needs 60.0 GB, and there are 41.3 GB"),
        ("mpt7b", "1xa100_80gb", (64, 64), "alike, as far as the sweep went"),
        ("mpt30b", "4xa100_40gb", (32, 32), "alike"),
        (
            "mpt7b",
            "1xa100_40gb",
            (32, 64),
            # 64 * 511 * 50432 * 2 bytes more: 3.3 GB, with which it would not fit
            "batch 64 takes 38.6 GB of 41.3 GB today; with logits for all positions, as the software of 2023 "
            "made them, 41.9 GB",
        ),
        (
            "mpt30b",
            "2xa100_40gb",
            (4, 16),
            "batch 8 takes 35.5 GB of 41.3 GB today; with logits for all positions, as the software of 2023 "
            "made them, 35.9 GB, and what else it held is not published",
        ),
    ],
)
def test_each_difference_has_its_sentence(
    model: str, hardware: str, batches: tuple[int, int], sentence: str
) -> None:
    """What fits today, and what the logits of 2023 add to it."""
    curve = next(one for one in fits.curves() if (one.model, one.hardware) == (model, hardware))
    assert (curve.published, curve.predicted) == batches
    assert fits.why(curve) == sentence


def test_the_table_is_printed_without_torch() -> None:
    """A row a curve under its heading, by a command; exit code 0."""
    program = (
        "import sys\nfrom ci.published import fits\n"
        "code = fits.main([])\nassert 'torch' not in sys.modules\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[2].split() == ["model", "hardware", "published", "predicted", "why"]
    assert len(lines) == 3 + 12
    assert lines[3].split()[:4] == ["mpt30b", "1xa100_40gb", "none", "none"]


def test_a_contradiction_is_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Were MPT-30B published at batch 32 on one A100 of 80 GB, it would be 1."""
    monkeypatch.setattr(fits, "published", lambda: {("mpt30b", "1xa100_80gb", *LENGTHS): 32})
    assert fits.main([]) == 1
    assert "mpt30b  1xa100_80gb  32         16 " in capsys.readouterr().out
    assert fits.main(["x"]) == 4
