"""Tries every type with every engine, and finds its outcome, bound, plan and split."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ci.census import trying
from ci.census.store import NOT_RUN, Census
from ci.census.tiny import LAYERS, as_decoder, tiny
from fixtures.core.base.errors import InputError, in_one_line
from fixtures.core.spec.case import ModelSpec

Say = Callable[[str], None]


def sweep(
    census: Census, model_types: Sequence[str], engines: Sequence[str], jobs: int, again: bool, say: Say
) -> None:
    """Try the types that have not been tried, or all of them `again`; store each finding at once.

    `jobs` sets of processes work in parallel, each on another type.
    """
    for engine in engines:
        todo: queue.SimpleQueue[str] = queue.SimpleQueue()
        for name in model_types:
            if again or not census.has(name, engine):
                todo.put(name)
        threads = [
            threading.Thread(target=_work, args=(census, engine, todo, say), daemon=True) for _ in range(jobs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _work(census: Census, engine: str, todo: queue.SimpleQueue[str], say: Say) -> None:
    workers = trying.Workers(1 if engine == "hf" else 2)
    try:
        with tempfile.TemporaryDirectory() as folder:
            while True:
                try:
                    name = todo.get_nowait()
                except queue.Empty:
                    return
                start = time.monotonic()
                if engine != "hf" and not census.runs(name):
                    finding = {"outcome": "not known", "reason": NOT_RUN}
                else:
                    finding = find(name, engine, workers, Path(folder))
                census.note(name, engine, finding)
                line = in_one_line(f"{finding['outcome']} {finding.get('reason') or ''}")
                say(f"{name} {engine} {time.monotonic() - start:.1f} s: {line}")
    finally:
        workers.close()


def find(model_type: str, engine: str, workers: trying.Workers, folder: Path) -> trying.Finding:
    """The finding of an engine with a small model of a type; a refused type is also tried as a decoder."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    refused: trying.Finding = {}
    try:
        keys = tiny(config_class, LAYERS if engine == "hf" else trying.SPLIT_LAYERS)
    except Exception as error:
        return {"outcome": "failed", "reason": in_one_line(f"{type(error).__name__}: {error}")}
    try:
        model = trying.read(keys, folder)
    except InputError as error:
        refused = {"outcome": "refused", "reason": trying.without_place(str(error))}
        switched = _switched(as_decoder(keys, config_class), folder)
        if switched is None:
            return refused
        model = switched
    if engine != "hf":
        return trying.split(model, engine, workers, folder)
    finding = trying.measured(model, workers)
    return {**finding, **refused, "as_decoder": finding["outcome"]} if refused else finding


def _switched(keys: dict[str, Any], folder: Path) -> ModelSpec | None:
    try:
        return trying.read(keys, folder)
    except InputError:
        return None
