"""Tries every type with every engine, and finds its outcome, bound, plan and split.

Small models go through the functions of the suite, in processes that may crash.
"""

from __future__ import annotations

import json
import queue
import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ci.census.store import NOT_RUN, Census
from ci.census.tiny import LAYERS, as_decoder, tiny
from fixtures.choose.hub_config import model_spec
from fixtures.core.base.errors import InputError, in_one_line
from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.engine_kinds import KINDS
from fixtures.core.spec.foundry.hf import Checkpoint
from fixtures.core.spec.splitting import has_plan, works_instead
from fixtures.engines.processes.start import Launcher, Lone
from fixtures.engines.processes.workers import Processes
from fixtures.engines.protocol import CannotLoad, Limits, OutOfMemory, RankFailed, WorkNotDone
from fixtures.measure.prompts import make_prompts

Say = Callable[[str], None]
POINT = Point(2, 10, 8)
SEED = 17
SPLIT_LAYERS = 6  # enough that no single matrix is much of the model, as in a large one
MUCH_WHOLE = 75  # % of the bytes; the image tower of a large model has less
STEP_S = 300.0  # for a step of a small model; the first compiles DeepSpeed's operator
_HF = EngineSpec("hf")  # as a user measures
_EXACT = "float32"  # in this dtype a split model makes the tokens of the whole one
_FAILURES = (CannotLoad, WorkNotDone, OutOfMemory, RankFailed)

Finding = dict[str, Any]


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
    workers = Workers(1 if engine == "hf" else 2)
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


def find(model_type: str, engine: str, workers: Workers, folder: Path) -> Finding:
    """The finding of an engine with a small model of a type; a refused type is also tried as a decoder."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    refused: Finding = {}
    try:
        keys = tiny(config_class, LAYERS if engine == "hf" else SPLIT_LAYERS)
    except Exception as error:
        return {"outcome": "failed", "reason": in_one_line(f"{type(error).__name__}: {error}")}
    try:
        model = read(keys, folder)
    except InputError as error:
        refused = {"outcome": "refused", "reason": without_place(str(error))}
        switched = _switched(as_decoder(keys, config_class), folder)
        if switched is None:
            return refused
        model = switched
    if engine != "hf":
        return split(model, engine, workers, folder)
    finding = measured(model, workers)
    return {**finding, **refused, "as_decoder": finding["outcome"]} if refused else finding


def _switched(keys: dict[str, Any], folder: Path) -> ModelSpec | None:
    try:
        return read(keys, folder)
    except InputError:
        return None


class Workers:
    """A process for each rank, reused for the next types, and restarted after a type that crashes them."""

    def __init__(self, ranks: int, limit_s: float = STEP_S) -> None:
        self._start: Any = Lone if ranks == 1 else partial(Launcher, ranks, "cpu")
        self._limits = Limits(limit_s)
        self._processes: Processes | None = None

    def ask(self, name: str, *arguments: Any) -> Any:
        """The first process's answer; raises what an engine raises."""
        if self._processes is None or not self._processes.alive:
            self.close()
            self._processes = Processes(self._start, self._limits)
        return self._processes.ask(name, *arguments)[0]

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.close()
        self._processes = None


def read(keys: dict[str, Any], folder: Path) -> ModelSpec:
    """Read the small model as `--model` reads a folder; raises InputError if that refuses it."""
    checkpoint = folder / str(keys["model_type"])
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    return model_spec(str(checkpoint), Checkpoint())


def without_place(text: str) -> str:
    """A refusal's message without its folder."""
    return re.sub(r"^--model \S+: ", "", text)


def measured(model: ModelSpec, workers: Workers) -> Finding:
    """A case on one device in bf16, from load to a verified call, and whether its work can be counted."""
    case = Case(model, library.hardware("cpu"), 1, _HF, POINT)
    try:
        facts = _load(workers, case)
        counts = workers.ask("count", case)
        _generate(workers, facts)
    except _FAILURES as error:
        return {"outcome": "failed", "reason": str(error)}
    planned = counts["footprint"] is not None
    return {"outcome": "measured", "bound": counts.get("not_counted"), "planned": planned}


def split(model: ModelSpec, kind: str, workers: Workers, folder: Path) -> Finding:
    """Compare the model over two ranks with itself in one process; it works if the tokens are equal.

    If not, compare again with a checkpoint's weights: random weights of a whole and a split matrix are equal
    only if the architecture fills it with normal values.
    """
    whole = Case(model, library.hardware("cpu"), 1, EngineSpec("hf_fp32", dtype=_EXACT), POINT)
    halves = Case(model, library.hardware("cpu"), 2, EngineSpec(f"{kind}_fp32", kind, _EXACT), POINT)
    if kind == "hf_tp" and not has_plan(model):
        return {"outcome": "no plan"}
    try:
        facts = _load(workers, halves)
        tokens = _generate(workers, facts)
    except (OutOfMemory, RankFailed) as error:  # perhaps of this run only
        return {"outcome": "failed", "reason": str(error)}
    except (CannotLoad, WorkNotDone) as error:
        reason = re.sub(r"^rank \d+: ", "", str(error)).removesuffix(f"; {works_instead(halves)}")
        return {"outcome": "cannot" if _is_of_type(reason, halves) else "not known", "reason": reason}
    try:
        _load(workers, whole)
        expected = _generate(workers, facts)
    except _FAILURES as error:
        return {"outcome": "not known", "reason": f"hf in fp32: {error}"}
    if tokens != expected and model.weights is None:
        again = split(_with_weights(model, folder), kind, workers, folder)
        is_told = again["outcome"] == "works" or "makes other tokens" in again["reason"]
        return again if is_told else {"outcome": "not known", "reason": again["reason"]}
    if tokens != expected:
        name = model.architecture["model_type"]
        return {"outcome": "cannot", "reason": f"{name} split by {kind} makes other tokens than {name} whole"}
    return {"outcome": "works", "over_even": facts["shards"]["over_even"]}


def _with_weights(model: ModelSpec, folder: Path) -> ModelSpec:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    keys: dict[str, Any] = dict(model.architecture)
    config = AutoConfig.for_model(keys.pop("model_type"), **keys)
    torch.manual_seed(SEED)
    checkpoint = folder / f"{model.name}_weights"
    AutoModelForCausalLM.from_config(config).save_pretrained(checkpoint)
    return replace(model, weights=str(checkpoint))


def _is_of_type(reason: str, case: Case) -> bool:
    """Whether a larger model of the type could not be split either.

    If little of the small model stays whole, the share in a larger one is unknown; experts are most of any.
    """
    whole = re.search(r"matrices are whole on a rank, (\d+)% of the model", reason)
    if whole is not None:
        return int(whole[1]) >= MUCH_WHOLE or ".experts." in reason
    return not reason.startswith(f"{case.load_key} cannot be set up")


def _load(workers: Workers, case: Case) -> Finding:
    facts: Finding = workers.ask("load", KINDS[case.engine.kind], STEP_S, case, SEED)
    return facts


def _generate(workers: Workers, facts: Finding) -> list[list[int]]:
    """The tokens of a call, after a checked call."""
    workers.ask("prepare", make_prompts(POINT, facts["vocab_size"], SEED), POINT.output_len)
    workers.ask("check")
    workers.ask("timed")
    workers.ask("verify")
    tokens: list[list[int]] = workers.ask("made")
    return tokens
