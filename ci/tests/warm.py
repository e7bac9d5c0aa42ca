"""A Python that starts warm: what it runs is a fork of one process that has imported the large libraries.

`stand_in` writes a program to call in the place of Python. Called with `[-P] [-u] -m MODULE ...`, `-mMODULE`
or a script, it hands its arguments, environment, folder, limits, input and output to that process, whose
fork does what a new Python would do. SIGINT and SIGTERM reach the fork; whatever else ends the program kills
it; its exit code or signal becomes the program's own. Called otherwise, or without WARM_PYTHON in its
environment, the program becomes the real Python. What the fork starts by `sys.executable` starts warm too.

Three things are not as in a real start: the fork has a pid of its own, for which /proc and `ps` show the
first process's arguments and environment (`Warm.environ` has its own); a library that reads a variable when
it is imported has read the first process's; and so has Python, for the encoding of its streams.
OMP_NUM_THREADS counts anew.
"""

from __future__ import annotations

import gc
import importlib
import marshal
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

# A GPU's driver does not survive a fork.
IS_POSSIBLE = sys.platform == "linux" and not Path("/proc/driver/nvidia/version").exists()
VARIABLE = "WARM_PYTHON"
CALL = "WARM_CALL"  # in `Warm.environ` alone: the arguments of a fork
# Libraries alone, none of this project: a command's own checkout has that.
LIBRARIES = (
    "pytest", "pytest_benchmark.plugin", "xdist.plugin", "pdb",
    "numpy", "scipy.stats", "scipy.optimize", "yaml", "msgspec",
    "torch", "torch._dynamo", "torch.profiler", "torch.utils.flop_counter",
    "torch.distributed.tensor", "torch.distributed.launcher.api", "torch.distributed.elastic.multiprocessing",
    "transformers.modeling_utils", "transformers.generation", "transformers.models.auto.modeling_auto",
    "transformers.models.falcon.modeling_falcon", "transformers.models.llama.modeling_llama",
    "transformers.models.mpt.modeling_mpt", "transformers.models.qwen3.modeling_qwen3",
    "deepspeed", "deepspeed.module_inject.auto_tp", "deepspeed.inference.engine",
)  # fmt: skip

# It starts in some 20 ms: without site, and with few modules.
CLIENT = """\
#!{python} -ISB
import marshal, os, resource, signal, socket, sys

def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False

streams = [number for number in range(3) if is_open(number)]
arguments, options = sys.argv[1:], []
while arguments and arguments[0] in ("-P", "-u"):
    options.append(arguments.pop(0))
if arguments and arguments[0][:2] == "-m" != arguments[0]:
    arguments[:1] = ["-m", arguments[0][2:]]
if {variable!r} not in os.environ or not (arguments[:1] == ["-m"] or os.path.isfile("".join(arguments[:1]))):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
limits = [(number, resource.getrlimit(number)) for number in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)]
is_deaf, leads = signal.getsignal(signal.SIGINT) == signal.SIG_IGN, os.getsid(0) == os.getpid()
place = os.getcwd(), dict(os.environ), sorted(os.sched_getaffinity(0)), limits, leads, is_deaf, streams
told = marshal.dumps((sys.argv[0], options, arguments, *place))
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ[{variable!r}])
    socket.send_fds(server, [len(told).to_bytes(8, "big")], streams)
    server.sendall(told)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: server.send(bytes([number])))
    code = int(server.recv(16) or b"70")
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Warm:
    """The process that forks, until `close`; none where that is not possible, and all starts are real.

    `python` is to be called with this `environment`.
    """

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.python = sys.executable
        if not IS_POSSIBLE:
            return
        self._files = tempfile.TemporaryDirectory(prefix="warm")  # a socket's path has at most 107 bytes
        self._folder = Path(self._files.name)
        tools = Path(sys.executable).parent
        if (tools / "ninja").exists():  # DeepSpeed looks for it beside its Python
            (self._folder / "ninja").symlink_to(tools / "ninja")
        read_at_import = ("PYTHONPATH", "OMP_NUM_THREADS")  # a fork sets its own number of threads
        env = {name: value for name, value in os.environ.items() if name not in read_at_import}
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, self._folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**env, "DS_ACCELERATOR": "cpu", "OPENBLAS_NUM_THREADS": "1"}, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()) != b"ready\n":
            assert line, "the process that is to fork has ended"
        self.environment[VARIABLE] = str(self._folder / "socket")
        self.python = str(stand_in(self._folder / "python"))

    def environ(self, pid: int) -> bytes:
        """The environment of a process, as in /proc; raises OSError where it has ended."""
        with suppress(FileNotFoundError, AttributeError):
            return (self._folder / str(pid)).read_bytes()
        return Path(f"/proc/{pid}/environ").read_bytes()

    def close(self) -> None:
        """End the process; forks that still run stay."""
        if self.environment:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._files.cleanup()


def is_stand_in(pid: int) -> bool:
    """Whether a process is the program, which waits for its fork."""
    return b"-ISB" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def stand_in(file: Path) -> Path:
    """Write the program for this process's Python."""
    file.write_text(CLIENT.format(python=sys.executable, variable=VARIABLE))
    file.chmod(0o755)
    return file


class Call(NamedTuple):
    """What the program was called with, and where; `streams` are those of its three that are open."""

    program: str
    options: list[str]
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    cores: list[int]
    limits: list[tuple[int, tuple[int, int]]]
    leads_a_session: bool
    ignores_ctrl_c: bool
    streams: list[int]


def serve(folder: Path) -> Call | None:
    """Fork for each call until the input ends; returns in the forks, with their calls."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    return _fork(connection, folder)
    return None


def _fork(connection: socket.socket, folder: Path) -> Call:
    """Fork again, and return there; here wait for its end, pass on signals, and end it with the program."""
    size, descriptors, *_ = socket.recv_fds(connection, 8, 3)
    call = Call(*marshal.loads(connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)))
    begins, begun = os.pipe()
    pid = os.fork()
    for number, descriptor in zip(call.streams, descriptors, strict=True):
        if pid == 0:
            os.dup2(descriptor, number)
        os.close(descriptor)
    if pid == 0:
        for number in {0, 1, 2}.difference(call.streams):
            os.close(number)
        connection.close()
        os.close(begun)
        os.read(begins, 1)
        os.close(begins)
        return call
    environ = folder / str(pid)
    shown = {**call.environment, CALL: " ".join(call.arguments)}
    environ.write_text("\0".join(f"{name}={value}" for name, value in shown.items()))
    os.close(begins)
    os.close(begun)
    end = os.pidfd_open(pid)
    while end not in select.select([connection.fileno(), end], [], [])[0]:
        told = connection.recv(1)
        os.kill(pid, told[0] if told else signal.SIGKILL)
        if not told:
            break
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):
        environ.unlink()
    with suppress(OSError):
        connection.sendall(str(code).encode())
    os._exit(0)


def become(call: Call) -> None:
    """Do what a Python that is called so does."""
    if call.leads_a_session:
        os.setsid()
    os.chdir(call.folder)
    os.environ.clear()
    os.environ.update(call.environment)
    tempfile.tempdir = None  # TMPDIR counts anew
    os.sched_setaffinity(0, call.cores)
    for number, limit in call.limits:
        resource.setrlimit(number, limit)
    signal.signal(signal.SIGINT, signal.SIG_IGN if call.ignores_ctrl_c else signal.default_int_handler)
    torch: Any = sys.modules["torch"]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(call.cores)))
    sys.executable = str(Path(call.program).absolute())
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number not in call.streams:
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)
    streams: Any = (sys.stdout, sys.stderr)
    for stream in filter(None, streams):
        is_unbuffered = "-u" in call.options or "PYTHONUNBUFFERED" in os.environ
        stream.reconfigure(
            line_buffering=stream is sys.stderr or stream.isatty(), write_through=is_unbuffered
        )
    more = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    is_module = call.arguments[0] == "-m"
    sys.argv = call.arguments[is_module:]
    here = call.folder if is_module else str(Path(sys.argv[0]).resolve().parent)
    sys.path[:0] = [*([] if "-P" in call.options else [here]), *more]
    if is_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def main(folder: Path) -> None:
    """Import, and serve."""
    for library in LIBRARIES:
        importlib.import_module(library)
    importlib.import_module("_pytest.config").get_config()  # imports pytest's own plugins
    for plugin in {"pytest_benchmark", "xdist", "anyio"}.intersection(sys.modules):
        sys.modules[plugin].__doc__ = "PYTEST_DONT_REWRITE"  # else pytest warns that they are imported
    gc.collect()
    gc.freeze()
    call = serve(folder)
    if call is not None:
        become(call)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
