"""The gate's verdicts on each run, judged by the runs before it, run by run on demand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ci.gate.verdicts import judge
from ci.report.read.samples import Sample
from fixtures.core.store.history import History

BEFORE = 10  # runs to judge a run by: the newest earlier ones that share a case with it


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
