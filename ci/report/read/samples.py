"""Samples, the cases of histories, and curves, the samples of one model, machine and pair of lengths."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from fixtures.core.result.metrics import output_tokens_per_s
from fixtures.core.result.out_of_memory import OUT_OF_MEMORY, Outcome
from fixtures.core.result.record import RECORD_VERSION, Record
from fixtures.core.result.record_case import RecordedCase
from fixtures.core.spec.case import Point
from fixtures.core.spec.model_names import suffixes
from fixtures.core.store.history import History, find_histories, read_history
from fixtures.core.store.runs import once

Key = TypeVar("Key", bound=Hashable)

MEASURED, PUBLISHED = "measured", "published"
CPU = "cpu"
_DIGITS = 10  # of an input length


@dataclass(frozen=True)
class Sample:
    """A case of a run, and its mean latency in s; None if it ran out of memory.

    `kind` is the device. If the samples are from several CPUs, the CPU's name is added to `kind`, `case_id`
    and `hardware`; if several models have the same name, the difference is added to `case_id` and `model`.
    `source` is "measured" or "published"; `taken` is when the run ended, `file` the name of the history.
    `seconds` are those of the timed rounds, if the file has them; `history` is the whole run.
    A case that ran out of memory has an `outcome`; its `record` has only case and source.
    """

    case_id: str
    model: str
    hardware: str
    device: str
    kind: str
    devices: int
    engine: str
    point: Point
    source: str
    latency_s: float | None
    taken: str
    file: str
    record: Record = field(repr=False, compare=False)
    seconds: tuple[float, ...] = field(default=(), repr=False, compare=False)
    history: History | None = field(default=None, repr=False, compare=False)
    outcome: Outcome | None = field(default=None, repr=False, compare=False)

    @property
    def machines(self) -> int:
        """The number of devices to buy: the ranks of one CPU count as one."""
        return 1 if self.device == CPU else self.devices

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens/s of all devices together."""
        return None if self.latency_s is None else output_tokens_per_s(self.point, self.latency_s)


@dataclass(frozen=True)
class Curve:
    """Samples that differ only in batch size, the smallest first; the batches `ran_out` ran out of memory."""

    model: str
    hardware: str
    engine: str
    input_len: int
    output_len: int
    source: str
    samples: tuple[Sample, ...]
    ran_out: tuple[int, ...] = ()


def read_samples(paths: Iterable[Path]) -> list[Sample]:
    """Every case of all runs, each run once, in the order of the files.

    Raises InputError for a file that is not a history.
    """
    return of_histories(once([read_history(file) for file in find_histories(paths)])[0])


def of_histories(histories: Iterable[History]) -> list[Sample]:
    """The cases of all runs in order; names distinguish cases of different CPUs, and different models."""
    samples = [sample for history in histories for sample in of_history(history)]
    names = [processor(sample) for sample in samples]
    if len(set(names) - {None}) > 1:
        samples = [
            sample if name is None else _on(sample, name) for sample, name in zip(samples, names, strict=True)
        ]
    added = suffixes([sample.record.identity for sample in samples])
    return [
        _of_model(sample, suffix) if suffix else sample for sample, suffix in zip(samples, added, strict=True)
    ]


def processor(sample: Sample) -> str | None:
    """The name and cores of a sample's CPU; None for a GPU, whose device name is enough."""
    name, cores = sample.record.machine.reported_name, sample.record.machine.cores
    return f"{name}, {cores} cores" if sample.device == CPU and name and cores else None


def recorded_model(sample: Sample) -> str:
    """The model's name in the history."""
    return sample.record.case.model.name


def _on(sample: Sample, name: str) -> Sample:
    return replace(
        sample,
        case_id=f"{sample.case_id}, {name}",
        hardware=f"{sample.hardware}, {name}",
        kind=f"{sample.kind}, {name}",
    )


def _of_model(sample: Sample, suffix: str) -> Sample:
    return replace(sample, case_id=f"{sample.case_id}, {suffix}", model=f"{sample.model} ({suffix})")


def of_history(history: History) -> list[Sample]:
    """The cases of a run, those that ran out of memory last; incomplete cases are left out."""
    samples = [
        _sample(sample.record, sample.seconds, history)
        for sample in history.measured
        if sample.record.latency_mean_s is not None
    ]
    for outcome in history.outcomes.values():
        if outcome.outcome == OUT_OF_MEMORY:
            of_case = Record(
                record_version=RECORD_VERSION,
                case=outcome.case,
                source=outcome.source,
                provenance=outcome.provenance,
                sweeps=outcome.sweeps,
            )
            samples.append(_sample(of_case, (), history, outcome))
    return [sample for sample in samples if sample is not None]


def _sample(
    record: Record, seconds: tuple[float, ...], history: History, outcome: Outcome | None = None
) -> Sample | None:
    case = record.case
    texts = (case.model.name, case.hardware, case.device, case.engine.name)
    numbers = (case.devices, case.batch_size, case.input_len, case.output_len)
    lengths = _lengths(case)
    if not all((*texts, *numbers, *lengths)) or case.batch_size % len(lengths):
        return None
    ragged = lengths if case.is_ragged else ()
    return Sample(
        case_id=case.id,
        model=case.model.name,
        hardware=case.hardware,
        device=case.device,
        kind=case.device,
        devices=case.devices,
        engine=case.engine.name,
        point=Point(case.batch_size, max(lengths), case.output_len, ragged, case.depth),
        source=PUBLISHED if record.source == PUBLISHED else MEASURED,
        latency_s=record.latency_mean_s,
        taken=history.taken,
        file=history.file.name,
        record=record,
        seconds=seconds,
        history=history,
        outcome=outcome,
    )


def _lengths(case: RecordedCase) -> tuple[int, ...]:
    """The input lengths that the sequences have in turn; (0,) for an id whose lengths no batch can have."""
    if not case.is_ragged:
        return (case.input_len,)
    parts = [part for part in case.input_text.split("_") if part]
    return tuple(map(int, parts)) if max(map(len, parts)) < _DIGITS else (0,)


def lengths(sample: Sample) -> tuple[str, int]:
    """Input and output length, as figures and tables name them."""
    return sample.point.input_text, sample.point.output_len


def newest(samples: Iterable[Sample]) -> list[Sample]:
    """The newest sample of each case and source; the fastest would promise too much."""
    latest: dict[tuple[str, str], Sample] = {}
    for sample in samples:
        key = (sample.case_id, sample.source)
        if key not in latest or sample.taken >= latest[key].taken:
            latest[key] = sample
    return list(latest.values())


def curves(samples: Iterable[Sample]) -> list[Curve]:
    """The curves of the samples, in the order in which they first appear; each case must be there once.

    Cases at a depth and ragged ones have none: a curve is of one pair of lengths, and an empty cache before.
    """
    groups: dict[tuple[str, str, str, int, int, str], list[Sample]] = {}
    for sample in samples:
        if sample.point.depth or sample.point.ragged:
            continue
        lengths = (sample.point.input_len, sample.point.output_len)
        groups.setdefault((sample.model, sample.hardware, sample.engine, *lengths, sample.source), []).append(
            sample
        )
    result = []
    for key, group in groups.items():
        group.sort(key=lambda sample: sample.point.batch_size)
        with_number = tuple(sample for sample in group if sample.latency_s is not None)
        ran_out = tuple(sample.point.batch_size for sample in group if sample.latency_s is None)
        result.append(Curve(*key, with_number, ran_out))
    return result


def grouped(samples: Iterable[Sample], by: Callable[[Sample], Key]) -> dict[Key, list[Sample]]:
    """Samples by a key, in the order in which they first appear."""
    groups: dict[Key, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(by(sample), []).append(sample)
    return groups
