"""What an engine must have, and what holds for one that has nothing else."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import Any

import pytest

from ci.tests.conftest import ROOT
from fixtures.core.spec.case import Case
from fixtures.engines.protocol import Engine, WorkNotDone

SEVEN = {"load", "prepare", "generate", "token_s", "verify", "memory", "close"}


class Smallest(Engine):
    """The seven methods; its tokens are zeros, one too few where it forgets."""

    def __init__(self, forgets: bool = False) -> None:
        self._forgets = forgets

    def load(self, case: Case, seed: int) -> dict[str, Any]:
        """Nothing."""
        return {"load_s": 0.0, "parameters": 0, "parameter_bytes": 0, "vocab_size": 9}

    def prepare(self, prompts: Sequence[Sequence[int]], output_len: int) -> tuple[list[int], int]:
        """One sequence."""
        return list(prompts[0]), output_len

    def generate(self, work: tuple[list[int], int]) -> list[int]:
        """Zeros."""
        return work[0] + [0] * (work[1] - self._forgets)

    def token_s(self, work: tuple[list[int], int]) -> Sequence[float]:
        """All at once."""
        return [0.0] * work[1]

    def verify(self, work: tuple[list[int], int], tokens: list[int]) -> None:
        """By their number."""
        if len(tokens) != len(work[0]) + work[1]:
            raise WorkNotDone(f"{len(tokens)} tokens came back")

    def memory(self) -> tuple[int | None, int | None]:
        """Not known."""
        return None, None

    def close(self) -> None:
        """Nothing."""


def test_an_engine_has_seven_methods_and_the_readme_lists_them() -> None:
    """Whoever lacks one cannot be made."""
    assert Engine.__abstractmethods__ == SEVEN
    lines = (ROOT / "fixtures/engines/README.md").read_text(encoding="utf-8").splitlines()
    rows = [match[1] for line in lines if (match := re.match(r" +\| `(\w+)\(.*\)` \|", line))]
    assert set(rows) == SEVEN
    assert len(rows) == 7
    without: Any = type("Without", (Smallest,), {"memory": Engine.memory})
    with pytest.raises(TypeError, match="memory"):
        without()


def test_whatever_else_is_asked_of_an_engine_has_an_answer() -> None:
    """One that says it cannot; its check is a verified call, its clock this process's."""
    engine = Smallest()
    work = engine.prepare([[1, 2]], 3)
    engine.check(work)
    with pytest.raises(WorkNotDone, match="4 tokens came back"):
        Smallest(forgets=True).check(work)
    assert not engine.lost
    assert engine.pids() == [os.getpid()]
    before = time.perf_counter()
    assert before <= engine.clock() <= time.perf_counter()
    engine.synchronize()
    engine.reset_peak_memory()
    assert engine.peak_memory_bytes() is None
    assert engine.measure_peaks(10**6) is None
    assert engine.communication(work) is None
