"""What the suite itself costs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ci.overhead.harness import Harness, Ratio
from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
from fixtures.core.spec.library import hardware, model
from fixtures.core.spec.suite import Protocol
from fixtures.engines import open_engine
from fixtures.engines.protocol import Limits
from fixtures.measure.prompts import make_prompts
from fixtures.measure.rounds import Rounds
from fixtures.measure.watch import Watch

_SMALL: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
}
_SMALL |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}


def _case(spec: ModelSpec, point: Point) -> Case:
    return Case(spec, hardware("cpu"), 1, EngineSpec("hf"), point)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread: for small products, threads wait more than they compute."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_measured_against_bare_loop(harness: Harness, benchmark: Any) -> None:
    """A call as the suite times it, with readings of the machine, against the same call in a bare loop.

    The two take turns at coming first. A model that the suite has not touched serves as the base.
    """
    from fixtures.engines.hf import HfEngine

    point = Point(1, 16, 16)
    case = _case(ModelSpec("small", _SMALL), point)
    engine, other = open_engine(case, Limits(60)), open_engine(case, Limits(60))
    assert isinstance(other, HfEngine)
    engine.load(case, seed=17)
    other.load(case, seed=17)
    other.model._forward_pre_hooks.clear()  # removes the suite's hooks from this model
    work = engine.prepare(make_prompts(point, 512, 17), point.output_len)
    watch = Watch(engine.pids(), 0)
    loop: list[float] = []
    bare: list[float] = []
    reads: list[float] = []

    def timed(call: Callable[[], object], seconds: list[float]) -> None:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)

    def without_the_suite() -> None:
        other.model.generate(work.prompts, attention_mask=work.mask, generation_config=work.settings)

    def in_a_loop() -> None:
        engine.generate(work)

    def between_rounds() -> None:
        """bare, loop, measured; bare, measured, loop; and so on."""
        if len(loop) < len(bare):
            timed(in_a_loop, loop)
        timed(lambda: (watch.read(), watch.read()), reads)
        timed(without_the_suite, bare)
        if len(bare) % 2:
            timed(in_a_loop, loop)

    rounds = Rounds(engine, work, watch.read, between_rounds)
    rounds.run(benchmark, Protocol(rounds=1000, warmup_rounds=20))
    if len(loop) < len(bare):
        timed(in_a_loop, loop)
    assert statistics.median(bare) > 0.01, "the call is too short to stand for one of 10 ms"
    ours = [call.seconds for call in rounds.timed]
    loop, bare, reads = loop[20:], bare[20:], reads[20:]

    def in_twos(seconds: Sequence[float]) -> list[float]:
        return [sum(two) for two in zip(seconds[::2], seconds[1::2], strict=True)]

    harness.ratio("measured latency / bare loop", in_twos(ours), in_twos(loop), 1.005)
    first = [(ours if k % 2 else loop)[k] for k in range(len(bare))]  # the calls right after the bare ones
    steps = [0.01 + (a - b) / point.output_len for a, b in zip(first, bare, strict=True)]
    harness.ratio("a step of 10 ms, watched / bare", steps, [0.01] * len(steps), 1.005)
    around = [0.01 + seconds for seconds in reads]
    harness.ratio("10 ms and reading the machine before and after / 10 ms", around, [0.01] * len(around), 1.5)


def test_building_a_model(harness: Harness, benchmark: Any) -> None:
    """MPT-1B from nothing: random bf16 weights in place, against from_config in fp32 and a cast."""
    import torch
    from transformers import AutoModelForCausalLM

    from fixtures.engines.build import build_random, make_config
    from fixtures.engines.memory import peak_memory_bytes, reset_peak_memory

    spec = model("mpt1b")
    assert spec.parameters
    cpu = torch.device("cpu")
    slow: list[float] = []
    peaks: list[int] = []

    def from_config() -> None:
        start = time.perf_counter()
        config = make_config(spec.architecture, "auto", None)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(torch.bfloat16)
        slow.append(time.perf_counter() - start)

    def ours() -> Any:
        config = make_config(spec.architecture, "auto", None)
        return build_random(config, torch.bfloat16, cpu, 17, remote_code=False)

    def before() -> None:
        from_config()
        reset_peak_memory(cpu)
        peaks.append(peak_memory_bytes(cpu) or 0)

    def after() -> None:
        peaks[-1] = (peak_memory_bytes(cpu) or 0) - peaks[-1]

    benchmark.pedantic(ours, setup=before, teardown=after, rounds=3, warmup_rounds=1)
    harness.ratio(
        "from_config + cast / built in place", slow[1:], benchmark.stats.stats.data, 8, at_most=False
    )
    peak = max(peaks) / (2 * spec.parameters)
    harness.note(Ratio("memory peak of building / the model's bytes", peak, peak, peak, 1.15, at_most=True))


def test_collecting_10000_cases(harness: Harness, benchmark: Any, tmp_path: Path) -> None:
    """--collect-only of 10,000 cases, against a bare file with as many parameters."""
    numbers = list(range(1, 101))
    suite = {
        "models": ["mpt125m"],
        "hardware": ["1xcpu"],
        "sweeps": [{"name": "many", "batch_sizes": numbers, "input_lengths": numbers, "output_lengths": [1]}],
    }
    (tmp_path / "many.yaml").write_text(json.dumps(suite))
    names = [f"mpt125m-1xcpu-hf-b{b}-in{t}-out1" for b in numbers for t in numbers]
    (tmp_path / "test_bare.py").write_text(
        f"import pytest\n@pytest.mark.parametrize('case', {names!r})\ndef test_bare(case):\n    pass\n"
    )
    bare = harness.pytest_process("--collect-only", "-q", "test_bare.py", folder=tmp_path)
    ours = harness.pytest_process(
        "benchmarks/test_generate.py", "--collect-only", "-q", "--suite", str(tmp_path / "many.yaml")
    )
    base: list[float] = []
    benchmark.pedantic(ours, setup=lambda: base.append(bare()), rounds=5, warmup_rounds=1)
    harness.ratio("collecting 10,000 cases / a bare file", benchmark.stats.stats.data, base[1:], 2)


def test_help(harness: Harness, benchmark: Any, tmp_path: Path) -> None:
    """pytest --help of this project, against that of an empty folder."""
    bare = harness.pytest_process("--help", folder=tmp_path)
    base: list[float] = []
    benchmark.pedantic(
        harness.pytest_process("--help"), setup=lambda: base.append(bare()), rounds=10, warmup_rounds=1
    )
    harness.ratio("pytest --help / bare pytest's", benchmark.stats.stats.data, base[1:], 2)


def test_way_to_the_ranks_and_back(harness: Harness, benchmark: Any) -> None:
    """Wall time of asking two ranks for a call, against the seconds that they report for it."""
    point = Point(1, 16, 16)
    case = Case(ModelSpec("small", _SMALL), hardware("cpu"), 2, EngineSpec("hf_tp", kind="hf_tp"), point)
    engine = open_engine(case, Limits(120))
    inside: list[float] = []
    try:
        engine.load(case, seed=17)
        work = engine.prepare(make_prompts(point, 512, 17), point.output_len)

        def asked() -> None:
            start = engine.clock()
            engine.generate(work)
            inside.append(engine.clock() - start)

        benchmark.pedantic(asked, rounds=100, warmup_rounds=5)
    finally:
        engine.close()
    assert statistics.median(inside) > 0.01, "the call is too short to stand for one of 10 ms"
    harness.ratio("asking two ranks / their own clock", benchmark.stats.stats.data, inside[5:], 1.05)


@pytest.mark.usefixtures("one_thread")
def test_isolation(harness: Harness, benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time of a 10 ms call in a process of its own, against the same call in this process.

    The two take turns. A case reports the isolated process's own clock, without the way there and back; that
    is compared with the call in this process too.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    point = Point(1, 16, 16)
    case = _case(ModelSpec("small", _SMALL), point)
    here, apart = open_engine(case, Limits(120)), open_engine(case, Limits(120), isolate=True)
    prompts = make_prompts(point, 512, 17)
    base: list[float] = []
    inside: list[float] = []
    try:
        works = []
        for engine in (here, apart):
            engine.load(case, seed=17)
            works.append(engine.prepare(prompts, point.output_len))

        def in_this_process() -> None:
            start = time.perf_counter()
            here.generate(works[0])
            base.append(time.perf_counter() - start)

        def isolated() -> None:
            start = apart.clock()
            apart.generate(works[1])
            inside.append(apart.clock() - start)

        benchmark.pedantic(isolated, setup=in_this_process, rounds=300, warmup_rounds=10)
    finally:
        apart.close()
    assert statistics.median(base) > 0.01, "the call is too short to stand for one of 10 ms"
    base, inside = base[10:], inside[10:]
    harness.ratio("a call, isolated / in process", benchmark.stats.stats.data, base, 1.05)
    harness.ratio("its own clock, isolated / in process", inside, base, 1.05)


@pytest.mark.parametrize(
    ("chosen", "cases", "aim"),
    [
        ("1xcpu or 1xgpu", "the default session's cases on one device", 0.85),
        ("2xcpu", "its cases in ranks", 0.6),
    ],
    ids=["one device", "ranks"],
)
def test_share_of_measuring(
    harness: Harness, benchmark: Any, tmp_path: Path, chosen: str, cases: str, aim: float
) -> None:
    """Seconds inside the clock, warm-up and discarded rounds included, over the wall time of a session.

    Also the worst error of predicted memory against the measured peak in that session.
    """
    file = tmp_path / "history.json"
    session = harness.pytest_process(
        "benchmarks/test_generate.py", "-k", chosen, "--benchmark-json", str(file)
    )
    wall_s = benchmark.pedantic(session, rounds=1)
    measured_s = 0.0
    off: list[float] = []
    for bench in json.loads(file.read_text())["benchmarks"]:
        record = bench["extra_info"]
        measured_s += sum(bench["stats"]["data"] + record["warmup_s"] + record["state"]["discarded_s"])
        off.append(abs(record["predicted_memory_error"]))
    worst = max(off)
    harness.note(
        Ratio(f"peak memory of {cases}: predicted / measured - 1", worst, min(off), worst, 0.1, at_most=True)
    )
    share = measured_s / wall_s
    harness.note(Ratio(f"measuring / {cases}", share, share, share, aim, at_most=False))
