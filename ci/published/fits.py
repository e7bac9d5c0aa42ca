"""Compares the largest batches that are predicted to fit with the largest published ones.

python -m ci.published.fits  print the 11 curves of the `hardware` figures, with a sentence for each
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ci.command import stops_for_bad_input
from fixtures.core.base.columns import aligned
from fixtures.core.base.errors import InputError
from fixtures.core.base.streams import run_main
from fixtures.core.cost.footprint import Footprint
from fixtures.core.cost.memory import Prediction, largest_batch, predict, room_bytes
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.spec import library
from fixtures.core.spec.case import EngineSpec, Point

PUBLISHED = Path(__file__).resolve().parents[1] / "baselines" / "published" / "a100_2023.csv"
FIGURE, LAST_BATCH = "hardware", 64  # the last of that figure's sweep
POWERS = [1 << exponent for exponent in range(12)]
NOT_PUBLISHED = (
    "mpt30b",
    "1xa100_40gb",
    512,
    64,
)  # not in the figure: the weights do not fit
_BF16_BYTES = 2


@dataclass(frozen=True)
class Curve:
    """A model on a machine at a pair of lengths: its largest published (0: none) and predicted batch."""

    model: str
    hardware: str
    input_len: int
    output_len: int
    published: int
    predicted: int


def published(figure: str = FIGURE) -> dict[tuple[str, str, int, int], int]:
    """The largest batch of each curve: (model, hardware, input length, output length) -> batch."""
    largest: dict[tuple[str, str, int, int], int] = {}
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["figure"] == figure:
                key = (row["model"], row["hardware"], int(row["input_len"]), int(row["output_len"]))
                largest[key] = max(largest.get(key, 0), int(row["batch_size"]))
    return largest


def predicted(model: str, hardware: str, input_len: int, output_len: int) -> int:
    """The largest power of two that is predicted to fit, in bf16 with eager attention; 0 if none does."""
    room = _room_bytes(hardware)
    return largest_batch(
        lambda batch: _needed(model, hardware, Point(batch, input_len, output_len)).total_bytes, room, POWERS
    )


def curves() -> list[Curve]:
    """The published curves of the figure, and the one that is missing from it."""
    largest = {**published(), NOT_PUBLISHED: 0}
    return [Curve(*key, largest[key], min(predicted(*key), LAST_BATCH)) for key in sorted(largest)]


def why(curve: Curve) -> str:
    """A sentence on why the predicted and the published batch differ, or that they agree.

    The software of 2023 made logits for all T positions (B * T * vocabulary values); today's makes them only
    for the last one. The sentence compares both for the smallest batch that was not published.
    """
    if curve.predicted == curve.published == 0:
        need = _needed(curve.model, curve.hardware, Point(1, 1, 1)).load_bytes
        return f"loading it needs {_gb(need)}, and there are {_gb(_room_bytes(curve.hardware))}"
    if curve.predicted == curve.published:
        return "alike" + (", as far as the sweep went" if curve.published == LAST_BATCH else "")
    batch = 2 * curve.published
    point = Point(batch, curve.input_len, curve.output_len)
    needs = _needed(curve.model, curve.hardware, point).total_bytes
    vocabulary = library.model(curve.model).architecture["vocab_size"]
    assert isinstance(vocabulary, int)
    logits = (batch * curve.input_len - batch) * vocabulary * _BF16_BYTES
    room = _room_bytes(curve.hardware)
    sentence = (
        f"batch {batch} takes {_gb(needs)} of {_gb(room)} today; with logits for all positions, as the "
        f"software of 2023 made them, {_gb(needs + logits)}"
    )
    return sentence if needs + logits > room else f"{sentence}, and what else it held is not published"


def table(curves: Sequence[Curve]) -> list[str]:
    """The lines of the table, a row a curve."""
    heading = ("model", "hardware", "published", "predicted", "why")
    return aligned([heading, *map(_cells, curves)], words=range(len(heading)))


def _cells(curve: Curve) -> tuple[str, ...]:
    batches = (str(batch or "none") for batch in (curve.published, curve.predicted))
    return curve.model, curve.hardware, *batches, why(curve)


def _needed(model: str, hardware: str, point: Point) -> Prediction:
    count, _, _ = hardware.partition("x")
    return predict(point, _footprint(model), "gpu", int(count), "hf" if count == "1" else "deepspeed")


def _footprint(model: str) -> Footprint:
    counts = find_counts(library.model(model), EngineSpec("hf_eager", attention="eager"))
    assert counts is not None, "every model of the library has stored counts"
    return counts.footprint


def _room_bytes(hardware: str) -> int:
    count, _, device = hardware.partition("x")
    room = room_bytes(library.hardware(device), int(count))
    assert room is not None, "the datasheet of an A100 states its memory"
    return room


def _gb(value: int) -> str:
    return f"{value / 1e9:.1f} GB"


@stops_for_bad_input("fits")
def main(arguments: Sequence[str]) -> int:
    """Print the table; returns 1 if a published point is predicted not to fit, 4 for bad input, else 0."""
    if arguments:
        raise InputError("takes no arguments")
    compared = curves()
    print(f"largest batch, input 512, output 64, sweep to {LAST_BATCH}; A100, bf16, eager attention\n")
    print("\n".join(table(compared)))
    return int(any(curve.predicted < curve.published for curve in compared))


if __name__ == "__main__":
    run_main(main)
