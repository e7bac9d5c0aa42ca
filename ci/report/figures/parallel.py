"""Speed-up and efficiency of several devices over batch size, and the batch from which they are faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ci.report.draw.chart import AROUND, Axis, batch_axis, chart
from ci.report.draw.figure import DASHED, DOTTED, Cases, Figure, line, point
from ci.report.figures.latency import machine
from ci.report.read.samples import Sample, grouped, lengths
from ci.report.read.speed_ups import gain, pairs, share_of_hardware, wins

SPEED_UP, EFFICIENCY = "speed-up", "efficiency"
_HARDWARE = "speed-up / hardware, as a multiple of the one device's"


def speed_ups(cases: Cases) -> Iterator[Figure]:
    """A figure for each model and pair of lengths with cases on several devices and on one."""
    for key, group, compared in _groups(cases):
        points = tuple(_point(sample, base, 1.0) for sample, base in compared)
        lines = [*line("one", _across(compared, 1.0), DASHED, "as fast as one device"), *_ideals(compared)]
        title = "Speed-up over one device: {}, input {}, output {}".format(*key)
        name, notes = f"speed_up {' '.join(map(str, key))}", tuple(wins(group))
        yield Figure(SPEED_UP, name, title, "hardware", points, notes, tuple(lines))


def efficiencies(cases: Cases) -> Iterator[Figure]:
    """The same figures, with the speed-up divided by the hardware used."""
    for key, _, compared in _groups(cases):
        shares = [
            (sample, base, share) for sample, base in compared if (share := share_of_hardware(sample, base))
        ]
        if shares:
            points = tuple(_point(sample, base, 100 * share) for sample, base, share in shares)
            lines = tuple(line("ideal", _across(compared, 100.0), DASHED, "nothing lost"))
            title = "Efficiency of several devices: {}, input {}, output {}".format(*key)
            name = f"efficiency {' '.join(map(str, key))}"
            yield Figure(EFFICIENCY, name, title, "hardware", points, (_HARDWARE,), lines)


KINDS = {SPEED_UP: speed_ups, EFFICIENCY: efficiencies}


def spec(figure: Figure) -> dict[str, Any]:
    """Batch size on a logarithmic axis, the figure's value on a linear one."""
    title = "speed-up" if figure.kind == SPEED_UP else "efficiency, %"
    y = Axis("value", title, AROUND, ("low", "high"))
    return chart(figure, batch_axis(figure), y, order="batch_size")


def _groups(cases: Cases) -> Iterator[tuple[tuple[str, str, int], list[Sample], list[tuple[Sample, Sample]]]]:
    """(Model and lengths, their cases, the pairs of these) for pairs with two batch sizes or more."""
    place = grouped(cases.latest, lambda sample: (sample.model, *lengths(sample)))
    for key, group in place.items():
        compared = pairs(group)
        if len({sample.point.batch_size for sample, _ in compared}) > 1:
            yield key, group, compared


def _point(sample: Sample, base: Sample, scale: float) -> dict[str, Any]:
    """The point with the speed-up times `scale`."""
    value, low, high = (None if end is None else scale * end for end in gain(sample, base))
    return point(sample, machine(sample), batch_size=sample.point.batch_size, value=value, low=low, high=high)


def _across(compared: Sequence[tuple[Sample, Sample]], y: float) -> list[tuple[float, float]]:
    batches = [sample.point.batch_size for sample, _ in compared]
    return [(float(batch), y) for batch in (min(batches), max(batches))]


def _ideals(compared: Sequence[tuple[Sample, Sample]]) -> Iterator[dict[str, Any]]:
    """A line for each number n of GPUs at the ideal speed-up, n."""
    for n in sorted({sample.devices for sample, _ in compared if sample.device != "cpu"}):
        places = _across(compared, float(n))
        yield from line(f"ideal {n}", places, DOTTED, f"{n} devices, nothing lost", at_left=True)
