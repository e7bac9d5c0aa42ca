"""What two measurements must share before their times can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fixtures.core.result.record import Record
from fixtures.core.spec.arch.same import fingerprint as fingerprint_of
from fixtures.core.spec.engine_kinds import KINDS, OPTIONS, libraries_of

_ENGINE = ("kind", *OPTIONS)
_RUNS_THEM = ("pytest", "pytest-benchmark")
_PROTOCOL = ("rounds", "warmup_rounds", "seed")


def fingerprint(record: Record) -> dict[str, Any]:
    """The model, engine, machine, versions and protocol of a record, by field.

    The versions are of what the engine depends on, a compiler too; of an unknown kind, all versions.
    """
    case, machine, versions = record.case, record.machine, record.versions
    kind = case.engine.kind
    libraries: Iterable[str] = (name for name in versions if name not in _RUNS_THEM)
    if kind in KINDS:
        libraries = libraries_of(kind, case.engine.attention)
    return {
        "model": {name: value for name, value in case.model.as_dict().items() if name != "hub"},
        **{f"engine {name}": getattr(case.engine, name) for name in _ENGINE},
        "device": machine.reported_name,
        "devices": case.devices,
        "driver": machine.driver,
        "cuda": record.cuda,
        "cores": machine.cores,
        "threads": record.threads,
        "isolated": bool(record.isolated),
        **{name: versions.get(name) for name in libraries},
        **{f"protocol {name}": getattr(record.protocol, name) for name in _PROTOCOL},
    }


def difference(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], whose: str = "the baseline's"
) -> str | None:
    """The first field in which two fingerprints differ, and both values; None where they can be compared."""
    for name, value in ours.items():
        if theirs.get(name) != value:
            if isinstance(value, Mapping):
                if _is_one_model(value, theirs.get(name)):
                    continue
                return f"{name} differs"
            return f"{name} is {_shown(value)}, {whose} is {_shown(theirs.get(name))}"
    return None


def _is_one_model(ours: Mapping[str, Any], theirs: Any) -> bool:
    """Whether two configs only write the same architecture in two ways."""
    if not isinstance(theirs, Mapping):
        return False
    both = [{name: one[name] for name in one if name != "architecture"} for one in (ours, theirs)]
    architectures = [fingerprint_of(one.get("architecture")) for one in (ours, theirs)]
    return both[0] == both[1] and None not in architectures and architectures[0] == architectures[1]


def _shown(value: object) -> str:
    """On one line, and not longer than a line."""
    return repr(value)[:60]
