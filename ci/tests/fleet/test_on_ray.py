"""What becomes of a run on a real Ray cluster when nodes, shards and drivers fail; one cluster for all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from ci.tests.conftest import ROOT, histories, write_suite
from ci.tests.fleet.test_on import fields
from ci.tests.warm import VARIABLE
from fixtures.core.base.errors import InputError
from fixtures.fleet import emulated, on_ray, shard
from fixtures.fleet.place import Shard

pytest_plugins = ["pytester"]

OPTIONS = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml", "--wait-device", "600")
MARK = "INFERENCE_TEST_CLUSTER"  # in the environment of all processes that a test starts
LONGEST_S = 180.0

# In a shard, the first call of a case notes it, and does once what a file says that is named after it.
FAULTS = """
import os, pathlib, sys, time

HERE = pathlib.Path(__file__).parent
generate = FakeEngine.generate


def failing(self, work):
    name = f"{self.name}_b{work[0]}"
    if self._calls() == 0:
        with (HERE / "ran").open("a") as ran:
            ran.write(name + "\\n")
        fault = HERE / f"fault_{name}"
        if "--as-shard" in sys.argv and fault.exists():
            text = fault.read_bytes()
            fault.rename(HERE / f"at_{name}")
            while text == b"wait" and not (HERE / f"go_{name}").exists():
                time.sleep(0.02)
            if text != b"wait":
                with open(sys.argv[sys.argv.index("--as-shard") + 1], "ab") as journal:
                    journal.write(text)
                os._exit(0)
    return generate(self, work)


FakeEngine.generate = failing
"""


def marked(mark: str) -> list[psutil.Process]:
    """The processes with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def until(holds: Callable[[], Any], what: str) -> Any:
    """What it gives once that is true."""
    end_s = time.monotonic() + LONGEST_S
    while not (value := holds()):
        assert time.monotonic() < end_s, f"never: {what}"
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def ending(mark: str) -> Iterator[None]:
    """Kill what is left of a test's processes, which is an error."""
    try:
        yield
    finally:
        end_s = time.monotonic() + 15
        while (left := marked(mark)) and time.monotonic() < end_s:
            time.sleep(0.1)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
    assert not left


class Served:
    """The cluster, and the process that holds it."""

    def __init__(self, nodes: int, mark: str) -> None:
        self.environ = os.environ | {
            MARK: mark,
            "RAY_health_check_initial_delay_ms": "0",  # a dead node is known to be dead in seconds
            "RAY_health_check_period_ms": "300",
            "RAY_health_check_failure_threshold": "3",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ci.tests.fleet.served", str(nodes)],
            cwd=ROOT,
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        told = self._answer()
        self.raylets: dict[str, int] = told["raylets"]
        self.place = f"ray://{told['address']}"
        self.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": told["token"]}

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, line: str) -> None:
        """Have it done."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self.raylets = self._answer()

    def close(self) -> None:
        """In order, or else at once: the cluster ends with its process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Served]:
    """Two nodes on loopback."""
    mark = uuid.uuid4().hex
    with ending(mark):
        served = Served(2, mark)
        with contextlib.closing(served):
            yield served


class Project:
    """A project whose cases fail as they are told to, and a session on the cluster."""

    def __init__(self, path: Path, environ: dict[str, str], place: str) -> None:
        self.path, self.place = path, place
        names = [key for key in os.environ if key.startswith(("INFERENCE_", VARIABLE))]
        self.environ = environ | {key: os.environ[key] for key in names}
        self._sessions: list[subprocess.Popen[str]] = []

    def fault(self, case: str, text: str | bytes = "wait") -> None:
        """What the case's first call does: wait, or send the text and end with code 0."""
        (self.path / f"fault_{case}").write_bytes(text.encode() if isinstance(text, str) else text)

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """A session."""
        words = [sys.executable, "-P", "-m", "pytest", *OPTIONS, *arguments]
        session = subprocess.Popen(
            words,
            cwd=self.path,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._sessions.append(session)
        return session

    def reaches(self, case: str) -> None:
        """Wait until a shard is in its fault."""
        until((self.path / f"at_{case}").exists, f"{case} begins")

    def takes(self, case: str) -> None:
        """Wait until the driver has a case's record."""
        name, _, batch = case.rpartition("_")
        case_id = f"{name}-1xcpu-hf-{batch}-in4-out2"
        until(lambda: any(line.get("case") == case_id for line in self.lines()), f"{case} is taken")

    def goes_on(self, case: str) -> None:
        """End its wait."""
        (self.path / f"go_{case}").touch()

    def lines(self) -> list[dict[str, Any]]:
        """All complete lines of journals."""
        files = sorted((self.path / ".benchmarks" / "journal").glob("*.jsonl"))
        lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def shard_of(self, case: str) -> dict[str, Any]:
        """The driver's last line about a shard with this case."""
        name, _, batch = case.rpartition("_")
        shards = [line for line in self.lines() if "shard" in line]
        return next(
            line for line in reversed(shards) if any(f"{name}-1xcpu-hf-{batch}-" in i for i in line["cases"])
        )

    def ran(self) -> Counter[str]:
        """How often each case was begun."""
        return Counter((self.path / "ran").read_text().split())

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions:
            session.kill()
            session.wait()


@pytest.fixture
def project_there(faked: pytest.Pytester, cluster: Served) -> Iterator[Project]:
    """A project of its own, which the nodes have too."""
    conftest = faked.path / "conftest.py"
    conftest.write_text(conftest.read_text() + FAULTS)
    (faked.path / "fixtures").symlink_to(ROOT / "fixtures")
    (faked.path / "ci").symlink_to(ROOT / "ci")
    with contextlib.closing(Project(faked.path, cluster.environ, f"{cluster.place}{faked.path}")) as made:
        yield made


def ended(session: subprocess.Popen[str]) -> str:
    """What a session says, after its end."""
    return session.communicate(timeout=2 * LONGEST_S)[0]


def by_case(history: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Records by model and batch size, such as m_b1."""
    found = {}
    for one in history["benchmarks"]:
        model, _, _, batch, *_ = one["param"].split("-")
        found[f"{model}_{batch}"] = one["extra_info"]
    return found


def is_as_here(there: dict[str, Any], here: dict[str, Any]) -> None:
    """The same ids in the same order and the same fields, but for placements."""
    assert [one["param"] for one in there["benchmarks"]] == [one["param"] for one in here["benchmarks"]]
    assert list(there["failed"]) == list(here["failed"])
    assert [one["case"]["id"] for one in there["outcomes"]] == [one["case"]["id"] for one in here["outcomes"]]
    for one, other in zip(here["benchmarks"], there["benchmarks"], strict=True):
        differs = fields(other["extra_info"]) ^ fields(one["extra_info"])
        assert all(name.startswith(".placement") for name in differs), differs


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_a_node_that_dies_costs_one_case(project_there: Project, cluster: Served) -> None:
    """Its raylet and workers are killed inside a case; the shard ends with them, and another node goes on."""
    project = project_there
    write_suite(project.path, "m", "crashes", batch_sizes=[1, 2, 3])
    here = project.start()
    ended(here)
    for left in (project.path / "ran", *project.path.glob(".benchmarks/journal/*")):
        left.unlink()
    project.fault("m_b2")
    session = project.start("--on", project.place)
    project.reaches("m_b2")
    project.takes("m_b1")
    node = project.shard_of("m_b2")["nodes"][0]
    raylet = psutil.Process(cluster.raylets[node])
    workers = raylet.children()
    shards = [process for worker in workers for process in worker.children()]
    for process in (raylet, *workers):
        process.kill()
    told = ended(session)
    assert (here.returncode, session.returncode) == (1, 1), told
    assert not [process for process in shards if process.is_running()]
    assert f"on {node} ended early: its node died" in told
    assert f"warning: {node} is left out from here on: it is not up any more" in told
    first, second = histories(project.path)
    is_as_here(second, first)
    placed = {case: record["placement"] for case, record in by_case(second).items()}
    assert placed["m_b2"]["failed_tries"] == [f"{node}: its node died"]
    assert {case: one["tries"] for case, one in placed.items()} == {"m_b1": 1, "m_b2": 2, "m_b3": 1}
    assert placed["m_b1"]["node"] == node
    assert placed["m_b2"]["node"] == placed["m_b3"]["node"] != node
    ran = project.ran()
    assert (ran["m_b2"], ran["m_b3"]) == (2, 1)
    cluster.ask("add")


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_what_the_cluster_cannot_do_is_one_line(project_there: Project) -> None:
    """A shape that no node has, a wrong token, a checkout that is not there, an address that nobody is at."""
    project = project_there
    write_suite(project.path, "m")
    host = project.place.removesuffix(str(project.path))
    expected: tuple[tuple[tuple[str, ...], dict[str, str], str], ...] = (
        (
            ("--on", project.place, "--hardware", "8xh200_141gb"),
            {},
            "--hardware 8xh200_141gb: no node has it; there is ",
        ),
        (("--on", project.place), {"RAY_AUTH_TOKEN": "0" * 64}, "--on ray: no cluster answers ("),
        (("--on", f"{host}/nowhere"), {}, "--on ray: no node can be probed; emulated-"),
        (
            ("--on", "ray://127.0.0.1:1"),
            {},
            "--on ray://127.0.0.1:1: it does not answer (Connection refused)",
        ),
    )
    sessions = [project.start(*arguments, **environ) for arguments, environ, _ in expected]
    for session, (*_, line) in zip(sessions, expected, strict=True):
        told = ended(session)
        assert session.returncode == pytest.ExitCode.USAGE_ERROR, told
        (said,) = [one for one in told.splitlines() if one.startswith("ERROR: ")]
        assert line in said
        assert "Traceback" not in told


@pytest.mark.slow
def test_an_emulated_cluster_ends_with_its_driver(project_there: Project) -> None:
    """Even if it is killed. It listens on loopback alone, with a token, and without a dashboard."""
    project, mark = project_there, uuid.uuid4().hex
    write_suite(project.path, "m", batch_sizes=[1, 2])
    project.fault("m_b2")
    with ending(mark):
        names = [key for key in project.environ if key.startswith("RAY_AUTH")]
        project.environ = {key: value for key, value in project.environ.items() if key not in names}
        driver = project.start("--on", "ray", "--emulate", "1", **{MARK: mark})
        project.reaches("m_b2")
        processes = marked(mark)
        for process in processes:
            for one in process.net_connections("inet"):
                if one.status == psutil.CONN_LISTEN:
                    assert one.laddr.ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1"), process.cmdline()
        of_ray = [process for process in processes if process.name() in ("raylet", "gcs_server")]
        assert len(of_ray) == 3
        assert {process.environ()["RAY_AUTH_MODE"] for process in of_ray} == {"token"}
        assert {process.environ()["RAY_USAGE_STATS_ENABLED"] for process in of_ray} == {"0"}
        commands = [" ".join(process.cmdline()) for process in processes]
        assert all("--disable-frontend" in one for one in commands if "dashboard.py" in one)
        driver.send_signal(signal.SIGKILL)
        driver.wait()


def test_ray_leaves_sigterm_to_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that comes while an emulated cluster starts ends with a traceback, after half a minute."""
    from ray._private import node, utils

    of_ray: Any = node.Node

    monkeypatch.setattr("atexit.register", lambda _hook: None)
    monkeypatch.setattr(utils, "set_sigterm_handler", utils.set_sigterm_handler)
    before = signal.getsignal(signal.SIGTERM)
    try:
        for is_left in (False, True):
            signal.signal(signal.SIGTERM, before)
            if is_left:
                emulated.leave_sigterm()
            of_ray._register_shutdown_hooks(SimpleNamespace())
            assert (signal.getsignal(signal.SIGTERM) is before) == is_left
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_is_the_sessions_once_ray_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Ray's core handles it too, and aborts at the end: no exit code 2."""
    from ray._private import utils

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(utils, "set_sigterm_handler", utils.set_sigterm_handler)
    monkeypatch.setattr(on_ray, "Emulated", lambda _number: SimpleNamespace(address="", close=lambda: None))
    monkeypatch.setattr("ray.init", lambda **_: signal.signal(signal.SIGTERM, lambda *_: None))
    on_ray.open_ray(None, 2, Path())
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_emulated_cluster_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error has Ray's reason; Ctrl-C stays what it is."""
    monkeypatch.setattr(on_ray, "Emulated", raising(RuntimeError("The node timed out. This could be.")))
    with pytest.raises(
        InputError, match=r"^--on ray --emulate 2: Ray does not start \(The node timed out\)$"
    ):
        on_ray.open_ray(None, 2, Path())
    monkeypatch.setattr(on_ray, "Emulated", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        on_ray.open_ray(None, 2, Path())


def raising(error: BaseException) -> Callable[[int], None]:
    """What raises it when it is called."""

    def raises(_number: int) -> None:
        raise error

    return raises


class Probes:
    """Ray, as far as probes go: `answers` has what each node says, or what getting its answer raises."""

    class exceptions:
        class RayError(Exception): ...

        class GetTimeoutError(RayError): ...

    def __init__(self, answers: dict[str, Any], **resources: float) -> None:
        self.answers, self.resources, self.limits_s = answers, {"CPU": 1.0, **resources}, list[float]()

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": one,
                "NodeName": one,
                "Alive": True,
                "Resources": {f"node:{one}": 1.0, **self.resources},
            }
            for one in self.answers
        ]

    def remote(self, *_told: Any, **_asked: Any) -> Any:
        at = lambda scheduling_strategy: SimpleNamespace(remote=lambda *_: scheduling_strategy)  # noqa: E731
        return lambda _probe: SimpleNamespace(options=at)

    def get(self, node: str, timeout: float) -> Any:
        self.limits_s.append(timeout)
        if isinstance(answer := self.answers[node], Exception):
            raise answer
        return json.dumps(answer).encode()


def probed_by(ray: Probes, monkeypatch: pytest.MonkeyPatch) -> on_ray.RayPlace:
    """A place on that Ray."""
    place = object.__new__(on_ray.RayPlace)
    known: dict[str, Any] = {"_probed": {}, "_ids": {}, "unfit": {}, "_root": None, "_environ": {}}
    vars(place).update(known, _ray=ray, _emulated=None)
    monkeypatch.setattr(on_ray.RayPlace, "_at", lambda _place, node: node)
    return place


def test_nodes_that_do_not_answer_are_left_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """All have the same two minutes, once; each is named with its reason."""
    late = Probes.exceptions.GetTimeoutError("Get timed out")
    ray = Probes({"n1": shard.probe(), "n2": late, "n3": late, "n4": {"fault": "no\npython"}, "n5": {}})
    place, now_s = probed_by(ray, monkeypatch), iter([1000.0, *range(1000, 2000, 60)])
    monkeypatch.setattr(on_ray, "time", SimpleNamespace(time=lambda: next(now_s)))
    for _ in range(3):
        assert [node.name for node in place.nodes()] == ["n1"]
    assert ray.limits_s == [120.0, 60.0, 0.0, 0.0, 0.0]
    assert list(place.unfit.values()) == [
        "n2: its probe takes over 120 s",
        "n3: its probe takes over 120 s",
        "n4: no python",
        "n5: it does not say what it is",
    ]


@pytest.mark.parametrize(
    ("gpus", "devices"), [({"GPU": 4.0}, 4), ({"GPU": 2.5}, 2), ({"GPU": 0.5}, 0), ({}, 0)]
)
def test_a_node_has_the_whole_gpus_that_ray_gives(
    monkeypatch: pytest.MonkeyPatch, gpus: dict[str, float], devices: int
) -> None:
    """Of four that are detected; what Ray counts beside them is nothing to it."""
    report = {
        "device": "h100",
        "reported_name": "NVIDIA H100 80GB HBM3",
        "memory_bytes": 80 * 2**30,
        "devices": 4,
    }
    answers = {"gpu": {"report": report, "versions": {}, "cores": 8}, "cpu": shard.probe()}
    place = probed_by(Probes(answers, **gpus, bandwidth=0.5, accelerator_type__H100=1.0), monkeypatch)
    sizes = {node.name: node.machine.ranks for node in place.nodes() if node.machine.hardware.kind == "gpu"}
    assert sizes == ({"gpu": devices} if devices else {})
    told = {"gpu": "gpu: 4xh100_80gb is detected there, and Ray has no GPU to give"}
    assert place.unfit == ({} if devices else told)


def test_names_of_nodes_are_one_line_and_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever somebody names a node; two of one name have their ids too."""
    ray = Probes({"A.example.org": shard.probe(), "rack 1, node\x1b[2J": shard.probe()})
    place = probed_by(ray, monkeypatch)
    assert [node.name for node in place.nodes()] == ["A.example.org", "rack 1_ node\\x1b[2J"]
    listed = ray.nodes()
    for one in listed:
        one["NodeName"] = "one,two"
    ray.nodes = lambda: listed  # type: ignore[method-assign]
    place = probed_by(ray, monkeypatch)
    assert [node.name for node in place.nodes()] == ["one_two-A.exampl", "one_two-rack 1, "]


def test_what_is_printed_before_an_answer_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a node's start-up files."""
    ray = Probes({"n1": shard.probe()})
    told = json.dumps(ray.answers["n1"])
    monkeypatch.setattr(ray, "get", lambda *_, **__: f"Welcome!\n\n{told}\n".encode())
    assert [node.name for node in probed_by(ray, monkeypatch).nodes()] == ["n1"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"\0\0\0\4\0\0\0\0\0", None),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Ray answers there; the port is that of ray start"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no Ray answers there"),
        (b"", "no Ray answers there"),
    ],
    ids=["grpc", "http", "ssh", "closed"],
)
def test_a_port_that_is_not_rays_is_refused_at_once(answer: bytes, told: str | None) -> None:
    """A dashboard's, or that of ssh: Ray itself would try for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        try:
            if told is None:
                on_ray._reach(host)
            else:
                with pytest.raises(InputError, match=f"^--on ray://{host}: {told}"):
                    on_ray._reach(host)
        finally:
            thread.join()


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "head:", "head:x", ":", "a" * 70 + ":1", "[::1]", "127.0.0.1:0"]
)
def test_an_address_that_is_none_is_one_line(host: str) -> None:
    """With what would be right, or why nobody answers."""
    with pytest.raises(InputError, match=r"(write ray://HOST:PORT|does not answer \()"):
        on_ray._reach(host)


def test_a_shard_that_nobody_asks_for_frees_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after its end: its process, its folder, then the actor."""
    over = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda _code: over.set())
    monkeypatch.setattr(shard, "start", lambda *_told: subprocess.Popen(["true"], start_new_session=True))
    actor = on_ray.OnNode(dataclasses.asdict(Shard("r-1", ("a",), 1, ("n1",), kept_s=0.0)), None, {})
    assert over.wait(10)
    assert actor.read(0) == b""
    assert actor.state()[:2] == (True, 0)
