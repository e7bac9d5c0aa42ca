"""Run by torchrun in two ranks: each engine against the unsharded model, and each kind of silent failure.

Prints one line of JSON a finding, from rank 0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.engine_kinds import KINDS
from fixtures.engines import open_here
from fixtures.engines.hf import HfEngine
from fixtures.engines.processes import group
from fixtures.measure.prompts import make_prompts

POINT = Point(2, 10, 12)
MPT = {"model_type": "mpt", "d_model": 256, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 640}
LLAMA = {
    "model_type": "llama", "vocab_size": 640, "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
QWEN = {**LLAMA, "model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
FALCON = {
    "model_type": "falcon", "vocab_size": 640, "hidden_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "mpt": MPT,
    "llama": LLAMA,
    "qwen3": QWEN,
    "mixtral": MIXTRAL,
    "falcon": FALCON,
}


def rank(kind: str) -> Any:
    """The engine of this rank."""
    return open_here(KINDS[kind], 60)


def case(kind: str, name: str, devices: int = 2) -> Case:
    """A small model in fp32."""
    spec = EngineSpec(f"{kind}_fp32", kind=kind, dtype="float32")
    return Case(ModelSpec(name, MODELS[name]), library.hardware("cpu"), devices, spec, POINT)


def tokens(engine: Any) -> list[list[int]]:
    """What it makes of seeded prompts, after its own check."""
    work = engine.prepare(make_prompts(POINT, 640, 17), POINT.output_len)
    engine.check(work)
    made: list[list[int]] = engine.generate(work).tolist()
    return made


def unsharded(name: str) -> list[list[int]]:
    """The same model in one process."""
    whole = HfEngine()
    one = replace(case("hf", name), devices=1)
    whole.load(one, seed=17)
    return tokens(whole)


def say(**finding: Any) -> None:
    """One line, from rank 0."""
    if dist.get_rank() == 0:
        print(json.dumps(finding), flush=True)


def compare(kind: str, name: str) -> None:
    """The tokens of the split model beside those of the whole one."""
    engine = rank(kind)
    facts = engine.load(case(kind, name), seed=17)
    found = tokens(engine)
    work = engine.prepare(make_prompts(POINT, 640, 17), 4)
    talk = engine.communication(work)
    say(
        what=f"{kind} {name}",
        same=found == unsharded(name),
        facts={key: facts[key] for key in ("shards", "split_modules", "parameters", "parameter_bytes")},
        communication=talk,
    )
    engine.close()


def refused(what: str, attempt: Callable[[], Any]) -> None:
    """The error that an attempt ends with."""
    try:
        attempt()
    except Exception as error:
        say(what=what, error=type(error).__name__, text=str(error))
    else:
        say(what=what, error=None, text="")


def without_splitting(name: str) -> None:
    """AutoTP looks at each layer and leaves it as it is."""
    from deepspeed.module_inject.auto_tp import AutoTP

    original = AutoTP._replace
    AutoTP._replace = lambda _self, child, _name, _conv: child
    try:
        rank("deepspeed").load(case("deepspeed", name), seed=17)
    finally:
        AutoTP._replace = original


def without_communication(name: str) -> None:
    """The row-wise layers do not add up what the ranks have."""
    from deepspeed.module_inject.layers import LinearAllreduce

    engine = rank("deepspeed")
    engine.load(case("deepspeed", name), seed=17)
    original = LinearAllreduce.forward
    LinearAllreduce.forward = lambda self, given: torch.matmul(given, self.weight.T)
    try:
        tokens(engine)
    finally:
        LinearAllreduce.forward = original


def multi_query(name: str) -> None:
    """One head of keys and values for all, which two ranks cannot share out."""
    engine = rank("deepspeed")
    engine.load(case("deepspeed", name), seed=17)
    tokens(engine)


def with_other_tokens(name: str) -> None:
    """One rank's output head is not what the others have."""
    engine: Any = rank("hf_tp")
    engine.load(case("hf_tp", name), seed=17)
    if dist.get_rank() == 1:
        generate = engine.generate
        engine.generate = lambda work: torch.cat([work.prompts, (generate(work)[:, 10:] + 1) % 640], 1)
    tokens(engine)


def main() -> None:
    """All of it in one start, which takes longer than each."""
    for kind, name in (
        ("deepspeed", "mpt"), ("deepspeed", "llama"), ("deepspeed", "qwen3"),
        ("hf_tp", "llama"), ("hf_tp", "qwen3"), ("hf_tp", "mixtral"),
    ):  # fmt: skip
        compare(kind, name)
    refused("mpt not split", lambda: without_splitting("mpt"))
    refused("experts whole", lambda: rank("deepspeed").load(case("deepspeed", "mixtral"), seed=17))
    refused("falcon", lambda: multi_query("falcon"))
    refused("no plan", lambda: rank("hf_tp").load(case("hf_tp", "mpt"), seed=17))
    kernels = "deepspeed_kernels"
    refused("no kernels", lambda: rank(kernels).load(case(kernels, "mpt"), seed=17))
    refused("silent ranks", lambda: without_communication("llama"))
    refused("other tokens", lambda: with_other_tokens("llama"))
    sys.stdout.flush()
    group.leave(in_step=True)


if __name__ == "__main__":
    main()
