"""A model's counts as functions of lengths: `formula.js` and `estimate.js` know no kinds of layers.

A layer of any kind is a rate up to some position, bytes up to some entry, bytes of experts by the chance that
a token misses them, and bytes of memory as polynomials from a length on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fixtures.core.cost.bounds import Cache, Work, pairs_by_cache, state_bytes
from fixtures.core.cost.footprint import Footprint, Terms
from fixtures.core.cost.routing import inclusion
from fixtures.core.cost.stored_counts import Counts
from fixtures.core.estimate.model import UNIFORM, Model, Uneven, copied_experts
from fixtures.core.spec.case import RANDOM_ROUTING
from fixtures.core.spec.engine_kinds import KINDS

_DISPATCHED = (
    "layers", "heads", "width", "kappa", "sigma", "omega", "blocks", "chunk", "chunk_flops", "padded_flops",
    "padded_bytes",
)  # fmt: skip


def coefficients(counts: Counts, engine_kind: str) -> dict[str, Any]:
    """Of a model whose operators were counted, on a GPU."""
    work, dispatch = counts.work, counts.dispatch
    assert dispatch is not None, "refused otherwise"
    model = Model.of(work, dispatch)
    return {
        "a": work.flops_constant,
        "b": work.flops_per_token,
        "c": work.flops_per_pair,
        "again": work.flops_per_cached,
        **{name: getattr(dispatch, name) for name in _DISPATCHED},
        "operators": _operators(model),
        "attention": _attention(work) if isinstance(model, Uneven) else [[work.flops_per_pair, None]],
        "read": _read(work, UNIFORM if work.routing == RANDOM_ROUTING else work.routing),
        "copied": copied_experts(work),
        "kept": float(model.kept(1, 1)),
        "least": _least(work),
        "footprint": _footprint(counts.footprint, KINDS[engine_kind].embedding_stays_whole),
    }


def _operators(model: Model) -> list[float]:
    """Of a step; of a pass over T > 1 tokens, a constant and so many a token."""
    two, three = model.operators(2), model.operators(3)
    return [model.operators(1), two - 2 * (three - two), three - two]


def _attention(work: Work) -> list[list[float | None]]:
    """[FLOPs a pair, the most earlier positions that a token attends to]; None is all."""
    return [
        [a_pair / cache.every, None] if cache.window is None else [a_pair, cache.window - 1]
        for a_pair, cache in pairs_by_cache(work)
    ]


def _read(work: Work, routing: str) -> list[Any]:
    """Bytes of every pass, and [bytes of experts, the chance that a token misses each] of the rest."""
    always, groups = work.weight_bytes, []
    for each in work.experts if routing != RANDOM_ROUTING else ():
        size = each.layers * each.expert_bytes
        always -= each.chosen * size
        missed = 1 - inclusion(routing, each.number, each.chosen)
        if work.idle_flops:
            missed = np.zeros(each.number)
        chances, numbers = np.unique(missed, return_counts=True)
        groups += [[size * n, chance] for chance, n in zip(chances.tolist(), numbers.tolist(), strict=True)]
    return [always, groups]


def _least(work: Work) -> dict[str, Any]:
    """What a lower bound takes: FLOPs of no more positions and experts than must be, and the least bytes.

    An entry stands for `every` tokens. Of e entries the last one attends to
    min(e, 1 + base + (e - 1) % block), and min(e, base + e % block) are read for the next.
    """
    read = [one for one in work.caches if one.chosen is None and one.every == 1]
    fixed = sum(one.layers * one.fixed_bytes for one in read)
    return {
        "per_token": work.flops_per_token - work.idle_flops,
        "pairs": [
            [a_pair, *_reach(one)]
            for a_pair, one in pairs_by_cache(work) or [(work.flops_per_pair, Cache(1, 1))]
        ],
        "caches": [[one.layers * one.bytes_per_token, *_reach(one)] for one in work.caches],
        "fixed_bytes": fixed + state_bytes(work, 1),
        "read": _read(work, work.routing),
    }


def _reach(cache: Cache) -> tuple[int, int | None, int]:
    """Its `every`, `base` and `block`; a `base` of None is no limit."""
    if cache.chosen is not None:
        return cache.every, (cache.chosen - 1) * cache.block, cache.block
    return cache.every, None if cache.window is None else cache.window - 1, 1


def _footprint(footprint: Footprint, embedding_stays_whole: bool) -> dict[str, Any]:
    steps = footprint.decode
    assert steps is not None, "an engine without a cache is refused"
    caches = footprint.caches
    return {
        "weight_bytes": footprint.weight_bytes,
        "whole_bytes": footprint.embedding_bytes if embedding_stays_whole else 0,
        "tied": footprint.tied,
        "chunk": footprint.chunk,
        "fixed_bytes": sum(one.layers * one.fixed_bytes for one in caches),
        "caches": [_held(one) for one in caches if one.bytes_per_token or one.begun_bytes],
        "prefill": _prefill(footprint),
        "decode": [list(one.live) for one in steps.instants],
        "reach": None if footprint.reach(_FAR) == _FAR else footprint.reach(_FAR),
    }


_FAR = 2**40  # tokens: more than any window


def _held(cache: Cache) -> list[int | None]:
    """[Bytes an entry, bytes of a token of a begun one, `every`, the most tokens] of a cache; None is all."""
    most = None if cache.window is None else cache.window - 1
    return [cache.layers * cache.bytes_per_token, cache.layers * cache.begun_bytes, cache.every, most]


def _prefill(footprint: Footprint) -> list[list[Any]]:
    """[From so many tokens on, the coefficients of 1, T, T^2, B, BT, BT^2 of each moment] of a first pass.

    As in `Footprint.pass_bytes` without cached tokens: a window that is full brings a mask and what attends.
    """
    plain = [instant.live for instant in footprint.prefill.instants]
    windows = sorted(
        {one.window for one in footprint.caches if one.window is not None and one.bytes_per_token}
    )
    if any(live.bt2 for live in plain):
        return [[0, list(map(list, plain))]]
    truths, numbers = min(footprint.mask_bytes, 1), max(footprint.mask_bytes - 1, 0)
    all_repeated = footprint.repeated_bytes or (0,) * len(footprint.caches)
    found: list[list[Any]] = [[0, list(map(list, plain))]]
    moments = list(plain)
    for number, window in enumerate(windows, 1):
        same = [each.live for each in footprint.prefill.attending if each.window == window] or plain
        for cache, repeated in zip(footprint.caches, all_repeated, strict=True):
            if cache.window == window and cache.bytes_per_token:
                moments += [_plus(live, Terms(bt=repeated, bt2=numbers)) for live in same]
        found.append([window, [list(_plus(live, Terms(t2=number * truths))) for live in moments]])
    return found


def _plus(one: Sequence[float], other: Sequence[float]) -> Terms:
    return Terms(*(a + b for a, b in zip(one, other, strict=True)))
