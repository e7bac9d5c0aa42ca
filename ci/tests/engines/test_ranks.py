"""Models that lie in two ranks on a CPU: the same work, its proof, and who starts the ranks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import ROOT, histories
from ci.tests.warm import Warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="the ranks are told of each other's end by Linux"
    ),
]
pytest_plugins = ["pytester"]

Finding = dict[str, Any]
TINY = {
    "name": "tiny",
    "architecture": {
        "model_type": "llama", "vocab_size": 640, "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
    },
}  # fmt: skip
LAUNCH = ("-P", "-m", "torch.distributed.run")


def has(package: str) -> bool:
    """Whether it is installed; a GPU host may have no deepspeed."""
    from importlib.util import find_spec

    return find_spec(package) is not None


def tiny_suite(folder: Path, **keys: Any) -> None:
    """Two points on two ranks, and one on one device."""
    suite = {
        "models": [TINY],
        "hardware": ["1xcpu", "2xcpu"],
        "engines": ["hf_tp"],
        "sweeps": [{"name": "s", "batch_sizes": [1, 2], "input_lengths": [16], "output_lengths": [8]}],
        "rounds": 2,
        "warmup_rounds": 1,
        **keys,
    }
    (folder / "suite.yaml").write_text(json.dumps(suite))


def environment(**more: str) -> dict[str, str]:
    """Of a plain shell, whatever runs these tests; a machine of one core has two ranks all the same."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "PYTEST_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def without_threads(env: dict[str, str]) -> dict[str, str]:
    """The same, with nothing said about threads."""
    return {name: value for name, value in env.items() if name != "OMP_NUM_THREADS"}


def pytest_command(*more: str) -> list[str]:
    """pytest on the benchmarks of the folder."""
    return [
        "pytest",
        "benchmarks",
        "--benchmark-only",
        "--suite",
        "suite.yaml",
        "--rank-timeout",
        "120",
        *more,
    ]


@pytest.fixture(scope="session")
def findings(warm: Warm) -> dict[str, Finding]:
    """What `same_tokens` finds, by what it is about."""
    if not has("deepspeed"):
        pytest.skip("deepspeed is not installed")
    done = subprocess.run(
        [warm.python, *LAUNCH, "--standalone", "--nproc-per-node", "2", "-m", "ci.tests.same_tokens"],
        cwd=ROOT, env=environment(**warm.environment), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["what"]: line for line in lines}


@pytest.mark.parametrize(
    "what",
    ["deepspeed mpt", "deepspeed llama", "deepspeed qwen3", "hf_tp llama", "hf_tp qwen3", "hf_tp mixtral"],
)
def test_the_tokens_are_those_of_the_unsharded_model(findings: dict[str, Finding], what: str) -> None:
    """In fp32, token by token: every slice of every matrix is where it belongs."""
    assert findings[what]["same"]


def test_autotp_unties_the_head_of_mpt_and_keeps_the_embedding_whole(findings: dict[str, Finding]) -> None:
    """By hand, in fp32: all of the embedding, half of a copy as the head, half of each layer, all norms."""
    embedding, layer, norm = 640 * 256, 12 * 256**2, 256
    held = 4 * (embedding + embedding // 2 + 2 * layer // 2 + 5 * norm)
    even = 4 * (embedding + 2 * layer + 5 * norm) / 2
    shards = findings["deepspeed mpt"]["facts"]["shards"]
    assert shards["bytes_by_rank"] == [held, held]
    assert shards["even_bytes"] == even
    assert shards["over_even"] == pytest.approx(held / even)
    assert shards["untied"] == ["lm_head.weight"]
    assert shards["kept_whole"] == {"transformer.wte.weight": 4 * embedding}


def test_transformers_plan_splits_embedding_and_head_too(findings: dict[str, Finding]) -> None:
    """By hand: half of everything but the norms; tied ones stay tied."""
    layer = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512
    for what, tables in (("hf_tp llama", 2), ("hf_tp qwen3", 1)):
        norms = 5 * 256 + (2 * 2 * 32 if "qwen" in what else 0)
        held = 4 * ((tables * 640 * 256 + 2 * layer) // 2 + norms)
        shards = findings[what]["facts"]["shards"]
        assert shards["bytes_by_rank"] == [held, held], what
        assert (shards["kept_whole"], shards["untied"]) == ({}, [])


def test_the_collectives_are_counted(findings: dict[str, Finding]) -> None:
    """DeepSpeed: two all-reduces a layer and one for the head, four passes; transformers: one more each."""
    assert findings["deepspeed llama"]["communication"]["calls"] == 4 * (2 * 2 + 1)
    assert findings["hf_tp llama"]["communication"]["calls"] == 4 * (2 * 2 + 2)
    for what in ("deepspeed mpt", "hf_tp llama"):
        talk = findings[what]["communication"]
        assert 0 < talk["seconds"] < talk["call_s"]
        assert talk["share"] == pytest.approx(talk["seconds"] / talk["call_s"])


def test_what_autotp_put_in_is_counted_by_class(findings: dict[str, Finding]) -> None:
    """A fused query-key-value matrix, two column-wise and two row-wise ones a layer; the head."""
    assert findings["deepspeed mpt"]["facts"]["split_modules"] == {
        "fused_LinearLayer": 2, "LinearLayer": 2, "LinearAllreduce": 4, "LmHeadLinearAllreduce": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        ("mpt not split", "CannotLoad", "8 matrices are whole on a rank"),
        ("experts whole", "CannotLoad", "mlp.experts.gate_up_proj"),
        ("falcon", "CannotRun", "falcon split by deepspeed does not run: RuntimeError: shape"),
        ("no plan", "CannotLoad", "no tensor-parallel plan for mpt"),
        ("no kernels", "CannotLoad", "kernel injection did nothing: DeepSpeed has no policy for mpt"),
        ("silent ranks", "WorkNotDone", "8 collectives ran in 8 forward passes, where the split needs 40"),
        ("other tokens", "WorkNotDone", "rank 1 generated different tokens"),
    ],
)
def test_what_did_not_take_effect_fails_by_name(
    findings: dict[str, Finding], what: str, kind: str, text: str
) -> None:
    """Each of them ran through before it was looked at; Falcon's is why the suite refuses it beforehand."""
    assert findings[what]["error"] == kind
    assert text in findings[what]["text"]


def cases_of(history: dict[str, Any]) -> list[str]:
    """The ids in a history."""
    return [bench["extra_info"]["case"]["id"] for bench in history["benchmarks"]]


def launched(project: pytest.Pytester, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """A session in processes that something else starts."""
    return subprocess.run(
        command, cwd=project.path, env=environment(**env), capture_output=True, text=True, timeout=600
    )


TWO = ["tiny-2xcpu-hf_tp-b1-in16-out8", "tiny-2xcpu-hf_tp-b2-in16-out8"]


def check_threads(project: pytest.Pytester, by_rank: list[int]) -> None:
    """Of every case in the history."""
    (history,) = histories(project.path)
    assert [bench["extra_info"]["threads_by_rank"] for bench in history["benchmarks"]] == [by_rank] * 2


def test_ranks_that_a_launcher_bound_to_cores_have_a_thread_for_each(
    project: pytest.Pytester, warm: Warm
) -> None:
    """One core each; what they share out where they are not bound is looked at with the starters below."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core has no place for two ranks")
    tiny_suite(project.path)
    assert as_slurm(project, warm, bound=True).returncode == 0
    check_threads(project, [1, 1])


def check_launched(
    project: pytest.Pytester, done: subprocess.CompletedProcess[str], before: tuple[str, ...] = ()
) -> None:
    """The cases are there once, in one history, after those `before` them; one process has reported."""
    assert done.returncode == 0, done.stdout + done.stderr
    (history,) = histories(project.path)
    assert cases_of(history) == [*before, *TWO]
    assert done.stdout.count("test session starts") == 1
    assert done.stdout.count("latency s") == 1
    for bench in history["benchmarks"][len(before) :]:
        assert len(bench["stats"]["data"]) == 2
        shards = bench["extra_info"]["shards"]  # older plans of transformers leave the embedding whole
        assert shards["not_split"] == []
        assert max(shards["bytes_by_rank"]) < 0.7 * bench["extra_info"]["parameter_bytes"]


def test_ranks_on_two_hosts_are_one_session(project: pytest.Pytester, warm: Warm) -> None:
    """Two launchers of one rank each, which know each other by address alone; both engines."""
    engines = ["hf_tp", "deepspeed"] if has("deepspeed") else ["hf_tp"]
    tiny_suite(project.path, engines=engines)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = [
        subprocess.Popen(
            [
                warm.python, *LAUNCH, "--nnodes=2", f"--node_rank={number}", "--nproc_per_node=1",
                "--master_addr=127.0.0.1", f"--master_port={port}",
                "-m", *pytest_command("-k", "2xcpu and b1"),
            ],
            cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=environment(
                **warm.environment, INFERENCE_LOCK_FOLDER=str(project.path / f"locks_of_host_{number}")
            ),
        )
        for number in range(2)
    ]  # fmt: skip
    written = "".join(host.communicate(timeout=600)[0] for host in hosts)
    assert [host.returncode for host in hosts] == [0, 0], written
    (history,) = histories(project.path)
    assert cases_of(history) == [f"tiny-2xcpu-{engine}-b1-in16-out8" for engine in engines]
    assert written.count("latency s") == 1


@pytest.mark.parametrize("starter", ["torchrun", "deepspeed", "slurm"])
def test_whoever_starts_the_ranks_the_cases_are_the_same(
    project: pytest.Pytester, warm: Warm, starter: str
) -> None:
    """torchrun, the deepspeed launcher; a step of Slurm by what srun sets; pytest itself in the test below.

    Slurm sets no number of threads: with all cores each, two ranks would be many times slower.
    """
    tiny_suite(project.path)
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core has no place for two ranks")
    if starter == "deepspeed":
        if not has("deepspeed"):
            pytest.skip("deepspeed is not installed")
        command = [
            warm.python,
            str(Path(sys.executable).parent / "deepspeed"),
            "--num_accelerators",
            "2",
            "--no_local_rank",
        ]
        env = {
            **warm.environment,
            "DS_ACCELERATOR": "cpu",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        check_launched(
            project, launched(project, [*command, "--module", *pytest_command("-k", "2xcpu")], **env)
        )
    elif starter == "torchrun":
        command = [warm.python, *LAUNCH, "--nproc_per_node", "2", "-m", *pytest_command("-k", "2xcpu")]
        check_launched(project, launched(project, command, **warm.environment))
    else:
        check_launched(project, as_slurm(project, warm))
        check_threads(project, [len(os.sched_getaffinity(0)) // 2] * 2)


def as_slurm(project: pytest.Pytester, warm: Warm, bound: bool = False) -> subprocess.CompletedProcess[str]:
    """Two tasks of a step, with what srun sets for each; each may be bound to a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_JOB_ID": str(os.getpid())}
    tasks = [
        subprocess.Popen(
            [warm.python, "-m", *pytest_command()],
            cwd=project.path,
            env=without_threads(
                environment(**warm.environment, **step, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank))
            ),
            preexec_fn=partial(os.sched_setaffinity, 0, {cores[rank]} if bound else cores),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    written = [task.communicate(timeout=600)[0] for task in tasks]
    codes = [task.returncode for task in tasks]
    return subprocess.CompletedProcess("srun", max(codes), "".join(written), "")


def test_one_session_has_the_curve_over_devices(project: pytest.Pytester, warm: Warm) -> None:
    """One device and two ranks that pytest starts; the speed-up is there, and what it is over."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core has no place for two ranks")
    tiny_suite(project.path, engines=["hf", "hf_tp"])
    chosen = ("--tables", "parallel", "-k", "hf-b1 or 2xcpu")
    done = launched(project, [warm.python, "-m", *pytest_command(*chosen)], **warm.environment)
    check_launched(project, done, before=("tiny-1xcpu-hf-b1-in16-out8",))
    (history,) = histories(project.path)
    records = [bench["extra_info"] for bench in history["benchmarks"]]
    one, two, _ = records
    assert (one["case"]["devices"], two["case"]["devices"]) == (1, 2)
    gain = one["latency_mean_s"] / two["latency_mean_s"]
    assert two["parallel"]["speed_up"] == pytest.approx(gain)
    assert two["parallel"]["over"] == one["case"]["id"]
    assert two["parallel"]["efficiency"] == pytest.approx(gain / 2)  # two threads against one
    (row,) = [
        line.split() for line in done.stdout.splitlines() if "1xcpu hf " in line.partition("2xcpu hf_tp")[2]
    ]
    assert row[5:9] == [f"{gain:.2f}", "1xcpu", "hf", f"{gain / 2:.2f}"]


@pytest.mark.parametrize("weights", ["random", "checkpoint"])
def test_a_rank_holds_little_more_than_its_share(tmp_path: Path, warm: Warm, weights: str) -> None:
    """The highest peak while loading, over what an idle rank needs, is its share and one matrix."""
    program = ["-m", "ci.tests.load_memory", weights, str(tmp_path)]
    done = subprocess.run(
        [warm.python, *LAUNCH, "--standalone", "--nproc-per-node", "2", *program],
        cwd=ROOT, env=environment(**warm.environment), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            assert found["peak_bytes"] < 1.2 * found["share_bytes"] + found["constant_bytes"], found
            assert found["share_bytes"] < 0.7 * found["whole_bytes"]
