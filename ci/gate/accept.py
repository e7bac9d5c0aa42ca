"""Make runs baselines: whole, clean and quiet ones, or those that `--allow` accepts by reason."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ci.gate.fingerprint import fingerprint
from ci.gate.verdicts import RED, judge
from fixtures.core.base.errors import InputError, one_of
from fixtures.core.base.files import write_whole
from fixtures.core.base.text import printable
from fixtures.core.store.history import History
from fixtures.core.store.slim import as_text, slim

WHYS = {
    "partial": "it lacks cases of the baseline",
    "failed": "cases failed in it",
    "dirty": "it was measured in a tree with uncommitted changes, or without git",
    "contended": "something disturbed its rounds",
    "red": "the gate finds it red",
}
_LABEL = re.compile(r"[1-9][0-9]{0,4}x[a-z0-9_]{1,60}")


def hardware_of(run: History) -> str:
    """The machine's label, such as `1xcpu`; raises InputError where the run has no single one.

    If the run measured nothing, the id of its first case tells the label.
    """
    labels = {one.record.machine.label or "" for one in run.measured}
    if not labels:
        labels = {case_id.split("-")[1] for case_id in (*run.outcomes, *run.failed) if "-" in case_id}
        labels = {min(labels)} if labels else set()
    if len(labels) != 1 or not _LABEL.fullmatch(label := labels.pop()):
        raise InputError(f"{run.file}: has no case of this suite, or mixes machines; name another run")
    return label


def allowed(words: str) -> set[str]:
    """The reasons, separated by commas; raises InputError for an unknown one."""
    reasons = {word.strip() for word in words.split(",") if word.strip()}
    for word in reasons - set(WHYS):
        raise InputError(f"--allow {word}: is not a reason to refuse a run; {one_of(word, WHYS)}")
    return reasons


def refusals(run: History, baseline: Sequence[History]) -> dict[str, str]:
    """Why a run should not become a baseline, by name."""
    found: dict[str, str] = {}
    before = {one.case_id for history in baseline for one in history.measured}
    missing = sorted(before - {one.case_id for one in run.measured} - set(run.outcomes))
    if missing:
        found["partial"] = f"{len(missing)}, such as {missing[0]}"
    if run.failed:
        found["failed"] = f"{len(run.failed)}, such as {min(run.failed)}"
    if run.commit.dirty is not False or not run.commit.id:
        found["dirty"] = str(run.commit.id)[:12]
    contended = [one.case_id for one in run.measured if one.record.state and any(one.record.state.disturbed)]
    if contended:
        found["contended"] = f"of {len(contended)} cases, such as {contended[0]}"
    red = [one.case_id for one in judge([run], baseline) if one.word in RED] if baseline else []
    if red:
        found["red"] = f"{len(red)} cases, such as {red[0]}"
    return found


def accept(
    run: History,
    folder: Path,
    baseline: Sequence[History],
    allow: Collection[str],
    name: str | None,
    new_epoch: str | None = None,
) -> Path:
    """Put a run among the baselines in the folder of its machine; returns its file.

    The run joins the newest epoch. `new_epoch` says why it begins another: the gate compares with the newest
    epoch alone, so that this run may be red or lack cases.

    Raises InputError where the run is refused, or a run of that name exists.
    """
    epoch = max((one.epoch for one in baseline), default=0)
    if new_epoch is not None:
        epoch, baseline = epoch + 1 if baseline else 0, []
    baseline = [one for one in baseline if one.epoch == epoch]
    reasons = {why: what for why, what in refusals(run, baseline).items() if why not in allow}
    if reasons:
        listed = "; ".join(f"{WHYS[why]} ({what})" for why, what in reasons.items())
        raise InputError(
            f"{run.file}: is not accepted: {listed}; --allow {','.join(reasons)} accepts it anyway"
        )
    stem = name or re.sub(r"[^0-9T]", "", run.taken.partition(".")[0])
    if not re.fullmatch(r"[A-Za-z0-9_]{1,80}", stem):
        raise InputError(f"--name {stem!r}: use letters, digits and underscores")
    file = folder / f"{stem}.json"
    if file.exists():
        raise InputError(f"{file}: exists already; choose another --name")
    medians = {one.case_id: one.median_s for one in run.measured}
    values = json.loads(run.file.read_text(encoding="utf-8")) | {"epoch": epoch}
    if new_epoch is not None:
        values["epoch_why"] = printable(new_epoch)
    values = slim(values, medians, {one.case_id: fingerprint(one.record) for one in run.measured})
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, as_text(values).encode())
    return file
