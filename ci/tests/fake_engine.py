"""An engine of known law on a scripted clock: its time is stated, its faults are asked for by name."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fixtures.core.cost.bounds import Work
from fixtures.core.cost.footprint import Footprint
from fixtures.core.result.readings import GpuReading, Reading
from fixtures.core.spec.case import Case
from fixtures.core.spec.engine_kinds import EngineKind
from fixtures.engines.model_errors import model_errors
from fixtures.engines.protocol import CannotLoad, OutOfMemory, WorkNotDone

STEP_S = 0.001
FAKE_KIND = EngineKind("ci.tests.fake_engine:FakeEngine", needs=(), libraries=("torch", "transformers"))
# what a model of this name does in its second call of a batch of two: only in a process of its own
ENDS: dict[str, Callable[[], object]] = {
    "reads_nowhere": lambda: ctypes.string_at(0),
    "aborts": lambda: (print("free(): invalid pointer", file=sys.stderr, flush=True), os.abort()),
    "is_killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exits": lambda: (print("cannot go on", file=sys.stderr, flush=True), os._exit(7)),
    "hangs": lambda: time.sleep(3600),
    "stops": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


@dataclass(frozen=True)
class Law:
    """Seconds of a call: prefill, each further token, what each costs more than the one before it.

    `factor` takes the number of the call, from 0 at the first after the check, and scales all of it: jitter,
    spikes, drift, throttling are functions of that number. `others` are the cores that other processes use
    during it, `reasons` why the GPU is throttled in it. `stall_s` is by the number of the gap.
    """

    prefill_s: float = STEP_S
    token_s: float = STEP_S
    growth_s: float = 0.0
    factor: Callable[[int], float] = lambda _call: 1.0
    others: Callable[[int], float] = lambda _call: 0.0
    reasons: Callable[[int], tuple[str, ...]] = lambda _call: ()
    watts: float = 100.0
    stall_s: dict[int, float] = field(default_factory=dict)

    def token_times(self, output_len: int, call: int) -> list[float]:
        """The moments of the tokens of one call, in s from its start."""
        now, moments = self.prefill_s, [self.prefill_s]
        for gap in range(output_len - 1):
            now += self.token_s + gap * self.growth_s + self.stall_s.get(gap, 0.0)
            moments.append(now)
        return [moment * self.factor(call) for moment in moments]


class Weights:
    """Stands for a model: it can be seen to be gone, and holds itself as modules hold their parents."""

    def __init__(self) -> None:
        self.itself = self


class FakeWatch:
    """Stands for `fixtures.measure.watch.Watch`: the machine as the law has it, one GPU in it."""

    def __init__(self, pids: Sequence[int], gpus: int) -> None:
        FakeEngine.log.append(("watch", tuple(pids), gpus))

    def read(self) -> Reading:
        """By the scripted clock."""
        made = FakeEngine
        gpu = GpuReading(0, energy_j=made.law.watts * made.now_s, throttle_reasons=made.reasons)
        return Reading(made.now_s, own_cpu_s=made.now_s, busy_cpu_s=made.now_s + made.others_s, gpus=(gpu,))

    def neighbours(self) -> list[dict[str, Any]]:
        """One process."""
        return [{"name": "neighbour", "cores": 0.5}]


class FakeEngine:
    """Follows its law. A model's name says what goes wrong: fails_to_load, no_room, forgets, ...

    Its clock goes on in its calls only, so that what is reported can be worked out exactly.
    """

    log: ClassVar[list[tuple[Any, ...]]] = []
    weights: ClassVar[list[weakref.ref[Weights]]] = []
    made: ClassVar[list[weakref.ref[Weights]]] = []  # by calls that ran out of memory
    name = ""
    model: Weights | None = None
    lost = False
    law: ClassVar[Law] = Law()
    now_s: ClassVar[float] = 0.0
    others_s: ClassVar[float] = 0.0  # CPU seconds of other processes
    reasons: ClassVar[tuple[str, ...]] = ()
    work: ClassVar[Work | None] = None
    footprint: ClassVar[Footprint | None] = None
    room: ClassVar[tuple[int | None, int | None]] = (None, None)  # bytes held and free
    peaks: ClassVar[list[dict[str, float]]] = []  # what measuring them gives, the last of them ever after
    _token_s: Sequence[float] = ()

    @classmethod
    def clock(cls) -> float:
        """Scripted seconds."""
        return FakeEngine.now_s

    @classmethod
    def reset(cls) -> None:
        """Forget what earlier tests did."""
        cls.log.clear()
        cls.weights.clear()
        cls.made.clear()
        cls.law = Law()
        cls.reasons, cls.work, cls.footprint, cls.room = (), None, None, (None, None)
        cls.peaks.clear()

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
        return {
            "load_s": 0.0,
            "parameters": 10,
            "parameter_bytes": 20,
            "vocab_size": 100,
            "cuda": f"seed {seed}",
        }

    def count(self, case: Case) -> dict[str, Any]:
        """What was scripted."""
        self.log.append(("count", case.load_key))
        footprint = FakeEngine.footprint
        return {
            "work": None if self.work is None else self.work.as_dict(),
            "footprint": None if footprint is None else footprint.as_dict(),
        }

    def measure_peaks(self, size_bytes: int) -> Mapping[str, float] | None:
        """What was scripted."""
        self.log.append(("measure_peaks", size_bytes))
        return self.peaks.pop(0) if len(self.peaks) > 1 else next(iter(self.peaks), None)

    def pids(self) -> Sequence[int]:
        """None of its own."""
        return [1234]

    def prepare(self, prompts: Sequence[Sequence[int]], output_len: int) -> Any:
        """The shape of the work."""
        if self.made:
            self.log.append(("left", sum(ref() is not None for ref in self.made)))
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
            made = Weights()  # held by the traceback, as all is that a call has made
            self.made.append(weakref.ref(made))
            raise OutOfMemory("no room for 4")
        if self.name == "crashes" and self._calls() == 3:
            held_by_the_traceback = self.model
            raise RuntimeError(f"device-side assert in {held_by_the_traceback}")
        if self.name == "fails_inside" and batch_size == 2:
            with model_errors():
                raise KeyError("router")
        if self.name == "takes_its_time":
            time.sleep(0.1)
        if batch_size == 2 and self.name in ENDS and self._calls() == 2:
            ENDS[self.name]()
        law, call = FakeEngine.law, self._calls() - 1
        self._token_s = law.token_times(output_len, call)
        FakeEngine.now_s += self._token_s[-1]
        FakeEngine.others_s += self._token_s[-1] * law.others(call)
        FakeEngine.reasons = law.reasons(call)
        short = {"forgets": 3, "forgets_at_the_end": 8}.get(self.name) == self._calls()
        return (batch_size, input_len + output_len - short)

    def token_s(self, work: Any) -> Sequence[float]:
        """The law's own, or a wrong one."""
        if self.name == "tells_late_moments":
            return [2 * moment for moment in self._token_s]
        if self.name == "forgets_half_the_prefill":
            return [self._token_s[0] / 2, *self._token_s[1:]]
        return self._token_s

    def sequence_token_s(self, work: Any) -> None:
        """All sequences have the moments of `token_s`."""

    def communication(self, work: Any) -> None:
        """It has nobody to talk to."""

    def _calls(self) -> int:
        since = len(self.log) - [entry[0] for entry in reversed(self.log)].index("check")
        return [entry[0] for entry in self.log[since:]].count("generate")

    def verify(self, work: Any, tokens: Any) -> None:
        """The shape that was asked for."""
        self.log.append(("verify",))
        FakeEngine.reasons = ()
        if tokens != (work[0], work[1] + work[2]):
            raise WorkNotDone(f"{tokens} tokens came back")

    def synchronize(self) -> None:
        """Note that it was called."""
        self.log.append(("synchronize",))

    def case_facts(self, work: Any) -> Mapping[str, Any]:
        """None."""
        return {}

    def reset_peak_memory(self) -> None:
        """Note that it was called."""
        self.log.append(("reset_peak_memory",))

    def memory(self) -> tuple[int | None, int | None]:
        """As scripted."""
        return FakeEngine.room

    def peak_memory_bytes(self) -> int | None:
        """A figure of its own."""
        return 1234

    def close(self) -> None:
        """Let go of the model."""
        self.log.append(("close", self.name))
        self.model = None
