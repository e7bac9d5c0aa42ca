"""A Slurm on this machine's loopback, of Debian's packages: several nodes that are all this machine.

    python -m ci.setup.slurm install             install Debian's packages where they are missing
    python -m ci.setup.slurm up FOLDER NODE...   start a cluster; NODE is cpu, cpu:CORES or gpu:TYPE:COUNT
    python -m ci.setup.slurm down FOLDER         cancel its jobs, and end its daemons

`up` prints the line that sets SLURM_CONF. FOLDER gets the configuration, the key, the state and the logs.
Every daemon listens on 127.0.0.1 only, at a free port. A GPU of such a node is only a name: its device file
is that of a terminal, so Slurm schedules it, and no program finds a GPU there. Each node has locks of its
own in FOLDER, as machines have, so nodes measure at once and disturb each other.

Exit codes: 3 if Slurm is missing and cannot be installed, or does not start; 4 for wrong arguments.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

FAILED, WRONG = 3, 4
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_SBIN = "/usr/sbin:/sbin"  # a plain user's PATH often lacks it
_NODE = re.compile(r"cpu(:[1-9][0-9]?)?|gpu:[a-z0-9_]+:[1-9][0-9]?")
_STARTED_S, _ENDED_S = 20.0, 10.0
_APT = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "DPkg::Lock::Timeout=120"]

_CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/prolog
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0,bf_interval=2
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=1
KillWait=3
SlurmdTimeout=5
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


# Slurm sets in a task what its prolog prints; two ranks of one case may be on two nodes.
_PROLOG = """\
#!/bin/sh
echo "export INFERENCE_LOCK_FOLDER={folder}/$SLURMD_NODENAME/locks"
"""


class Unavailable(Exception):
    """Slurm is not here, or does not start; the text is one line."""


def path() -> str:
    """PATH with the folders of daemons."""
    return os.pathsep.join(filter(None, [os.environ.get("PATH", ""), _SBIN]))


def missing() -> list[str]:
    """Slurm's programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program, path=path()) is None]


def install() -> None:
    """Install Debian's packages where programs are missing; raises Unavailable."""
    if not missing():
        return
    if shutil.which("apt-get") is None:
        raise Unavailable("no Slurm, and no apt-get to install it with")
    if os.geteuid() != 0:
        raise Unavailable("no Slurm; as root: apt-get install slurm-wlm munge")
    print("installing Debian's slurm-wlm and munge...", file=sys.stderr)
    packages = ["install", "-y", "-qq", "--no-install-recommends", "slurm-wlm", "munge"]
    for step in (["update", "-qq"], packages):
        done = subprocess.run(
            ["apt-get", *_APT, *step],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()
            raise Unavailable(f"apt-get {step[0]} failed: {said[-1] if said else done.returncode}")
    if missing():
        raise Unavailable(f"apt-get installed no {missing()[0]}")


def up(folder: Path, nodes: Sequence[str]) -> Path:
    """Start a cluster whose nodes are named n1, n2, ...; returns its slurm.conf. Raises Unavailable."""
    if missing():
        raise Unavailable(f"no {missing()[0]}; as root: python -m ci.setup.slurm install")
    folder = folder.resolve()
    configuration = _configure(folder, nodes)
    try:
        munged = ["--num-threads=1", "--force", *(f"--{o}={folder}/{f}" for o, f in _MUNGE.items())]
        _run(["munged", *munged], configuration)
        _run(["slurmctld", "-f", str(configuration)], configuration)
        for number in range(1, len(nodes) + 1):
            _run(["slurmd", "-f", str(configuration), "-N", f"n{number}"], configuration)
        _wait_for_nodes(folder, configuration)
    except BaseException:
        down(folder)
        raise
    return configuration


_MUNGE = {
    "socket": "munge.sock",
    "key-file": "munge.key",
    "pid-file": "munged.pid",
    "log-file": "munged.log",
    "seed-file": "munged.seed",
}


def down(folder: Path) -> None:
    """Cancel the cluster's jobs, and end its daemons by their pids."""
    folder = folder.resolve()
    configuration = folder / "slurm.conf"
    with suppress(Unavailable):
        _run(["scancel", "--state=PENDING"], configuration)
        _run(["scancel", "--state=RUNNING"], configuration)
        deadline = time.monotonic() + _ENDED_S
        while _run(["squeue", "-h"], configuration) and time.monotonic() < deadline:
            time.sleep(0.1)
    # Munge last: the others end with messages that it signs.
    for pattern in ("slurmd.*.pid", "slurmctld.pid", "munged.pid"):
        pids = [pid for file in folder.glob(pattern) if (pid := _daemon(file, folder))]
        for pid in pids:
            _kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _ENDED_S
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in pids:
            _kill(pid, signal.SIGKILL)


def _configure(folder: Path, nodes: Sequence[str]) -> Path:
    """Write the cluster's files into its folder, which is made."""
    for inside in ("", "state", *(f"n{number}" for number in range(1, len(nodes) + 1))):
        (folder / inside).mkdir(mode=0o755, parents=True, exist_ok=True)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    port, *ports = _free_ports(len(nodes) + 1)
    lines, devices = [], []
    for number, (node, own) in enumerate(zip(nodes, ports, strict=True), 1):
        what, _, has = node.partition(":")
        cores, gres = (has or "2", "") if what == "cpu" else ("2", f" Gres={node}")
        place = "NodeHostname=localhost NodeAddr=127.0.0.1"
        lines.append(f"NodeName=n{number} {place} Port={own} CPUs={cores}{gres}")
        if gres:
            kind, _, count = has.partition(":")
            files = f"/dev/tty[1-{count}]" if int(count) > 1 else "/dev/tty1"
            devices.append(f"NodeName=n{number} Name=gpu Type={kind} File={files}")
    prolog = folder / "prolog"
    prolog.write_text(_PROLOG.format(folder=folder), encoding="utf-8")
    prolog.chmod(0o755)
    (folder / "gres.conf").write_text("\n".join(devices) + "\n", encoding="utf-8")
    configuration = folder / "slurm.conf"
    user = pwd.getpwuid(os.geteuid()).pw_name
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, port=port, user=user, nodes="\n".join(lines)), encoding="utf-8"
    )
    return configuration


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _run(command: Sequence[str], configuration: Path) -> str:
    """Run one of Slurm's programs; returns its output. Raises Unavailable with its last line."""
    program = shutil.which(command[0], path=path()) or command[0]
    env: Mapping[str, str] = {**os.environ, "SLURM_CONF": str(configuration)}
    try:
        done = subprocess.run(
            [program, *command[1:]],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_STARTED_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise Unavailable(f"{command[0]} failed: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout.strip()


def _wait_for_nodes(folder: Path, configuration: Path) -> None:
    """Return when every node is idle; raises Unavailable with the logs' last error if one is not in time."""
    deadline = time.monotonic() + _STARTED_S
    states = ""
    while time.monotonic() < deadline:
        with suppress(Unavailable):
            states = _run(["sinfo", "-h", "-N", "-o", "%T"], configuration)
            if set(states.split()) == {"idle"}:
                return
        time.sleep(0.05)
    errors = [
        line
        for file in sorted(folder.glob("slurm*.log"))
        for line in file.read_text(errors="replace").splitlines()
        if "error:" in line or "fatal:" in line
    ]
    what = f"the nodes are {', '.join(sorted(set(states.split()))) or 'silent'}"
    raise Unavailable(f"Slurm did not start within {_STARTED_S:g} s: {errors[-1] if errors else what}")


def _daemon(file: Path, folder: Path) -> int | None:
    """The pid in a file, if that process is still a daemon of this folder."""
    with suppress(OSError, ValueError):
        pid = int(file.read_text())
        if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def _kill(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    try:
        match arguments:
            case ["install"]:
                install()
            case ["up", folder, *nodes] if nodes and all(map(_NODE.fullmatch, nodes)):
                print(f"export SLURM_CONF={up(Path(folder), nodes)}")
            case ["down", folder]:
                down(Path(folder))
            case _:
                usage = "install | up FOLDER NODE... | down FOLDER; NODE: cpu, cpu:CORES or gpu:TYPE:COUNT"
                print(f"slurm: usage: python -m ci.setup.slurm {usage}", file=sys.stderr)
                return WRONG
    except Unavailable as error:
        print(f"slurm: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
