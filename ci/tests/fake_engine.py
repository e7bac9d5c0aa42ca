"""An engine of known law, to test the harness with: its time is stated, its faults are asked for by name."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

from fixtures.core.case import Case
from fixtures.engines.protocol import CannotLoad, OutOfMemory, WorkNotDone

STEP_S = 0.001


class Weights:
    """Stands for a model: it can be seen to be gone, and holds itself as modules hold their parents."""

    def __init__(self) -> None:
        self.itself = self


class FakeEngine:
    """Sleeps STEP_S a token. A model's name says what goes wrong: fails_to_load, no_room, forgets, ..."""

    log: ClassVar[list[tuple[Any, ...]]] = []
    weights: ClassVar[list[weakref.ref[Weights]]] = []
    name = ""
    model: Weights | None = None
    lost = False
    clock = staticmethod(time.perf_counter)

    @classmethod
    def reset(cls) -> None:
        """Forget what earlier tests did."""
        cls.log.clear()
        cls.weights.clear()

    def load(self, case: Case, seed: int) -> dict[str, Any]:
        """Note how many models are alive at this moment, this one not among them."""
        self.name = case.model.name
        alive = sum(ref() is not None for ref in self.weights)
        self.log.append(("load", case.load_key, alive))
        self.model = Weights()
        self.weights.append(weakref.ref(self.model))
        if self.name == "fails_to_load":
            raise CannotLoad("attention 'sdpa' was asked for, 'eager' is used")
        if self.name == "no_room":
            raise OutOfMemory("16 GB asked for, 8 GB free")
        return {"load_s": 0.0, "parameters": 10, "parameter_bytes": 20, "vocab_size": 100, "seed": seed}

    def prepare(self, prompts: Sequence[Sequence[int]], output_len: int) -> Any:
        """The shape of the work."""
        self.log.append(("prepare", len(prompts), len(prompts[0]), output_len))
        return (len(prompts), len(prompts[0]), output_len)

    def check(self, work: Any) -> None:
        """An unmeasured call."""
        self.log.append(("check",))
        if self.name == "ignores_the_cache":
            raise WorkNotDone("the KV cache is not used")

    def generate(self, work: Any) -> Any:
        """Sleep as long as the law says."""
        self.log.append(("generate",))
        batch_size, input_len, output_len = work
        if self.name == "no_room_for_four" and batch_size >= 4:
            raise OutOfMemory("no room for 4")
        if self.name == "crashes" and self._calls() == 3:
            held_by_the_traceback = self.model
            raise RuntimeError(f"device-side assert in {held_by_the_traceback}")
        time.sleep(STEP_S * output_len)
        short = {"forgets": 3, "forgets_at_the_end": 8}.get(self.name) == self._calls()
        return (batch_size, input_len + output_len - short)

    def communication(self, work: Any) -> None:
        """It has nobody to talk to."""

    def _calls(self) -> int:
        since = len(self.log) - [entry[0] for entry in reversed(self.log)].index("check")
        return [entry[0] for entry in self.log[since:]].count("generate")

    def verify(self, work: Any, tokens: Any) -> None:
        """The shape that was asked for."""
        self.log.append(("verify",))
        if tokens != (work[0], work[1] + work[2]):
            raise WorkNotDone(f"{tokens} tokens came back")

    def synchronize(self) -> None:
        """Note that it was called."""
        self.log.append(("synchronize",))

    def reset_peak_memory(self) -> None:
        """Note that it was called."""
        self.log.append(("reset_peak_memory",))

    def peak_memory_bytes(self) -> int | None:
        """A figure of its own."""
        return 1234

    def close(self) -> None:
        """Let go of the model."""
        self.log.append(("close", self.name))
        self.model = None
