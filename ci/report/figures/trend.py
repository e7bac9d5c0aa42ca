"""Trends: a case's median over its runs, and what the gate says of each run by those before it.

A note names a case whose time moves with the case that ran before it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ci.gate.predecessors import moved
from ci.gate.verdicts import judge
from ci.report.draw.chart import AROUND, Axis, chart
from ci.report.draw.figure import DASHED, RAN_OUT, Cases, Figure, line, plain
from ci.report.read.samples import MEASURED, Sample, grouped
from fixtures.core.base.text import seconds
from fixtures.core.store.history import History

TREND = "trend"
BEFORE = 10  # runs to judge a run by: the newest earlier ones that share a case with it
_LEAST_RUNS, _MOST_RUNS = 3, 20  # in a figure; of more, the newest
_NOT_JUDGED = "not judged"
_DOT = "M-.5,0A.5,.5,0,1,1,.5,0A.5,.5,0,1,1,-.5,0Z"
_SHAPES = {
    "PASS": "circle", "IMPROVED": "triangle-down", "REGRESSED": "triangle-up", "INCONCLUSIVE": "diamond",
    "NOT COMPARABLE": "square", RAN_OUT.upper(): "cross", _NOT_JUDGED: _DOT,
}  # fmt: skip


@dataclass
class Judged:
    """Runs, the oldest first, and their verdicts so far: index of the run -> case id -> verdict."""

    runs: Sequence[History]
    ids: Mapping[int, set[str]]  # id() of a run -> ids of its cases, distinct for each model
    _verdicts: dict[int, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Judged:
        """All runs of these samples."""
        runs: dict[int, History] = {}
        ids: dict[int, set[str]] = {}
        for sample in samples:
            if sample.history is not None:
                runs[id(sample.history)] = sample.history
                ids.setdefault(id(sample.history), set()).add(sample.case_id)
        return cls(sorted(runs.values(), key=lambda run: (run.taken, run.file.name)), ids)

    def __post_init__(self) -> None:
        """Index the runs by id()."""
        self.places = {id(run): place for place, run in enumerate(self.runs)}

    def verdict(self, run: History, case_id: str) -> str | None:
        """The verdict in one word; None if no earlier run has a case of this run."""
        place = self.places[id(run)]
        if place not in self._verdicts:
            ours = self.ids[id(run)]
            before = [earlier for earlier in self.runs[:place] if self.ids[id(earlier)] & ours][-BEFORE:]
            verdicts = judge([run], before) if before else []
            self._verdicts[place] = {judged.case_id: str(judged.word) for judged in verdicts}
        return self._verdicts[place].get(case_id)


def figures(cases: Cases) -> Iterator[Figure]:
    """A figure for each model, machine, lengths and depth with enough runs of a case, a curve a batch."""
    measured = [sample for sample in cases.every if sample.source == MEASURED and sample.history is not None]
    judged = Judged.of(measured)
    moves = moved(judged.runs)[0]
    for key, group in grouped(measured, _place).items():
        by_case = [
            runs
            for runs in grouped(group, lambda sample: sample.case_id).values()
            if len(runs) >= _LEAST_RUNS
        ]
        places = sorted({judged.places[id(sample.history)] for runs in by_case for sample in runs})
        shown = {place: number for number, place in enumerate(places[-_MOST_RUNS:], 1)}
        points = [point for runs in by_case for point in _points(runs, judged, shown)]
        if points:
            title = "Trend: {} on {}, {}, input {}, output {}{}".format(*key)
            note = f"verdicts are the gate's, of each run by the {BEFORE} before it"
            ids = {sample.record.case.id for runs in by_case for sample in runs}
            notes = [each.text for each in moves if each.case_id.partition(", ")[0] in ids]
            newest = f"; the newest {len(shown)} of {len(places)} runs" * (len(shown) < len(places))
            lines = tuple(line("one", [(1.0, 1.0), (float(len(shown)), 1.0)], DASHED))
            name = f"trend {' '.join(map(str, key))}"
            yield Figure(
                TREND, name, title, "batch (its median)", tuple(points), (note + newest, *notes), lines
            )


KINDS = {TREND: figures}


def spec(figure: Figure) -> dict[str, Any]:
    """The chart with the runs in order, each labelled by day and commit."""
    runs = {str(values["number"]): values["run"] for values in figure.points}
    x = Axis("number", "run", AROUND, values=sorted(map(int, runs)))
    encoding = x.encoding(figure, "x")
    encoding["axis"] |= {
        "labelExpr": f"({json.dumps(runs)})[datum.value]", "labelAngle": -40, "labelOverlap": True,
    }  # fmt: skip
    y = Axis("ratio", "latency / its median over the runs", AROUND, also=("low", "high"))
    drawn = chart(figure, encoding, y, order="number", look="verdict", shapes=_SHAPES, look_title="verdict")
    changed = "datum.verdict === 'REGRESSED' || datum.verdict === 'IMPROVED'"
    drawn["layer"][-1]["encoding"]["size"] = {"condition": {"test": changed, "value": 160}, "value": 55}
    return drawn


def _place(sample: Sample) -> tuple[str, str, str, str, int, str]:
    point = sample.point
    at = f", depth {point.depth}" if point.depth else ""
    return sample.model, sample.hardware, sample.engine, point.input_text, point.output_len, at


def _points(of_case: Sequence[Sample], judged: Judged, shown: dict[int, int]) -> Iterator[dict[str, Any]]:
    """The points of a case in the shown runs; one that ran out of memory is at the top of its curve."""
    ours = [
        (sample, run) for sample in of_case if (run := sample.history) and judged.places[id(run)] in shown
    ]
    medians = [value for sample, _ in ours if (value := _median_s(sample)) is not None]
    if not medians:
        return
    middle, highest = statistics.median(medians), max(medians)
    for sample, run in ours:
        median_s, ends = _median_s(sample), sample.record.latency_interval
        low, high = (None, None) if ends is None else (ends.low, ends.high)
        verdict = judged.verdict(run, sample.record.case.id) or _NOT_JUDGED
        yield plain({
            "case": sample.case_id,
            "series": f"{sample.point.batch_size} ({seconds(middle)})",
            "source": sample.source,
            "number": shown[judged.places[id(run)]],
            "run": _run_name(run),
            "ratio": (highest if median_s is None else median_s) / middle,
            "low": None if low is None or high is None else low / middle,
            "high": None if low is None or high is None else high / middle,
            "verdict": verdict if verdict in _SHAPES else _NOT_JUDGED,
        })  # fmt: skip


def _median_s(sample: Sample) -> float | None:
    """The median latency in s, which the gate compares; None if the case ran out of memory."""
    return sample.record.latency_median_s or sample.latency_s


def _run_name(run: History) -> str:
    """The run's day and commit; without both, its file's name."""
    commit = (run.commit.id or "")[:7]
    name = run.file.name.encode("utf-8", "replace").decode()  # a file's name can be any bytes
    return " ".join(filter(None, (run.taken[:10], commit))) or name
