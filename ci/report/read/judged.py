"""The gate's verdicts on each run, judged by the runs before it; worked out a run at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ci.gate.verdicts import judge
from ci.report.read.samples import Sample
from fixtures.core.store.history import History

BEFORE = 10  # runs that a run is judged by, the newest of those before it that have a case of it


@dataclass
class Judged:
    """Runs, the oldest first, and their verdicts so far: index of the run -> case id -> verdict."""

    runs: Sequence[History]
    ids: Mapping[int, set[str]]  # of a run, by its id(), those of its cases, models of one name apart
    _found: dict[int, dict[str, str]] = field(default_factory=dict)

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
        """The place of each run, so that none is looked for twice."""
        self.places = {id(run): place for place, run in enumerate(self.runs)}

    def verdict(self, run: History, case_id: str) -> str | None:
        """The verdict in one word; None if no earlier run has a case of this run."""
        place = self.places[id(run)]
        if place not in self._found:
            ours = self.ids[id(run)]
            before = [earlier for earlier in self.runs[:place] if self.ids[id(earlier)] & ours][-BEFORE:]
            verdicts = judge([run], before) if before else []
            self._found[place] = {judged.case_id: str(judged.word) for judged in verdicts}
        return self._found[place].get(case_id)
