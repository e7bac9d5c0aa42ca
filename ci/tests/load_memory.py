"""Run by torchrun in two ranks: how much host memory loading takes in each of them.

    python -m torch.distributed.run --nproc-per-node 2 -m ci.tests.load_memory random|checkpoint FOLDER

A line of JSON for each engine and rank. `constant_bytes` is the largest matrix, made whole for a moment, and
the pool of random values, which is drawn in fp32 and kept twice over in the model's dtype.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch

from fixtures.core.spec import library
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.engine_kinds import KINDS
from fixtures.engines import build, open_here
from fixtures.engines.hf import HfEngine
from fixtures.engines.memory import peak_memory_bytes, reset_peak_memory
from fixtures.engines.processes import group

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 4096, "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 5, "num_attention_heads": 16, "num_key_value_heads": 16,
    "max_position_embeddings": 64,
}  # fmt: skip
LARGE = ModelSpec("large", LLAMA)
SMALL = ModelSpec("small", {**LLAMA, "num_hidden_layers": 1, "vocab_size": 64})
CPU = torch.device("cpu")
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h


def main(weights: str, folder: str) -> None:
    """Load with each engine and print what it took."""
    # What is freed goes back at once, so that the peak is what is held and not what malloc keeps of it.
    malloc = ctypes.CDLL(None).mallopt
    assert malloc(_M_ARENA_MAX, 1)
    assert malloc(_M_MMAP_THRESHOLD, 65536)
    device = group.join("cpu", 120)
    path = None
    if weights == "checkpoint":
        path = folder
        if os.environ["RANK"] == "0":
            whole = HfEngine()
            whole.load(case("hf", 1, LARGE), seed=17)
            whole.model.save_pretrained(folder, max_shard_size="100MB")
            whole.close()
        group.barrier(device)
    for kind in ("hf_tp", "deepspeed"):
        if kind == "deepspeed" and find_spec("deepspeed") is None:
            continue
        first = open_here(KINDS[kind], 120)  # imports, and operators that are compiled, are not the model's
        first.load(case(kind, 2, SMALL), seed=1)
        first.close()
        gc.collect()
        reset_peak_memory(CPU)
        before = peak_memory_bytes(CPU)
        engine = open_here(KINDS[kind], 120)
        facts = engine.load(case(kind, 2, replace(LARGE, weights=path)), seed=17)
        after = peak_memory_bytes(CPU)
        assert before is not None
        assert after is not None
        rank = int(os.environ["RANK"])
        said = {
            "kind": kind,
            "rank": rank,
            "peak_bytes": after - before,
            "share_bytes": facts["shards"]["bytes_by_rank"][rank],
            "whole_bytes": facts["parameter_bytes"],
            "constant_bytes": 2 * 8192 * 2048 + build._POOL * (4 + 4 + 2 * 2),
        }
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        engine.close()
        del engine, first
        gc.collect()
    group.leave(in_step=True)


def case(kind: str, devices: int, model: ModelSpec) -> Case:
    """A model on so many ranks."""
    return Case(model, library.hardware("cpu"), devices, EngineSpec(kind, kind=kind), Point(1, 1, 1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
