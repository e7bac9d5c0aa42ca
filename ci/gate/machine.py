"""The baselines of the machine that measured a run, by what the machine is, not by a folder's name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ci.gate.accept import hardware_of
from fixtures.core.base.names import ascii_slug
from fixtures.core.store.history import History, read_accepted

_CPU = "cpu"


class Machine(NamedTuple):
    """A label, such as `1xcpu`, and its device's name; of a CPU its cores too, which the label does not tell.

    `name` is None where nothing was measured that could tell.
    """

    label: str
    name: str | None
    cores: int | None

    @property
    def folder(self) -> str:
        """The name of its folder of baselines: the label; for a CPU also its name and cores."""
        if self.cores is None or self.name is None:
            return self.label
        return f"{self.label}_{ascii_slug(self.name)}_{self.cores}_cores"

    def __str__(self) -> str:
        """For people."""
        cores = None if self.cores is None else f"{self.cores} cores"
        return ", ".join(filter(None, [self.label, self.name, cores]))

    def is_that_of(self, other: Machine) -> bool:
        """Whether both are the same, as far as both are known."""
        return self.label == other.label and (None in (self.name, other.name) or self == other)


def machine_of(run: History) -> Machine:
    """The machine of a run; raises InputError where the run has several, or none."""
    label = hardware_of(run)
    for one in run.measured:
        machine = one.record.machine
        return Machine(label, machine.reported_name, machine.cores if machine.device == _CPU else None)
    return Machine(label, None, None)


def folders_of(machine: Machine, baselines: Path) -> list[Path]:
    """The folders of `baselines` whose runs are of that machine, as the first of each says."""
    found = []
    for folder in sorted(path for path in baselines.glob(f"{machine.label}*") if path.is_dir()):
        first = min(folder.glob("*.json"), default=None)
        if first is not None and machine_of(read_accepted(first)).is_that_of(machine):
            found.append(folder)
    return found
