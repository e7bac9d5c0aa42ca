"""Makes and keeps the environment in `.venv` that the benchmarks and the tests run in, and that of vLLM.

    python3 ci/setup/environment.py         make .venv if needed, and print the path of its Python
    python3 ci/setup/environment.py vllm    make .venv-vllm if needed, for the engine vllm, and print the same
    python3 ci/setup/environment.py lock    make ci/setup/requirements.lock again from pyproject.toml

An environment is made from its lock, and made again only when the lock or the minor version of Python
changes. A stamp, written last, marks it as complete: an interrupted install has no stamp, and the next start
makes the environment anew.

Exit codes: 3 if the environment could not be made, 4 for an unsupported Python.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "ci" / "setup"
LOCK = SETUP / "requirements.lock"
OLDEST, NEWEST = (3, 11), (3, 13)
FAILED, WRONG_PYTHON = 3, 4
SHOWN_LINES = 15

LOCK_HEADER = """\
# Every package of the environment, with its exact version, for Python 3.11, 3.12 and 3.13.
# `python3.11 ci/setup/environment.py lock` makes it out of the dependencies in pyproject.toml: do so when
# those change, or to move on to newer versions. A changed lock means a new .venv at the next start.
# Python 3.11 makes it because what supports the oldest Python supports the newer ones too. torch
# has no local version such as +cpu and its CUDA libraries, which it pins itself, are left out, so
# that this one file fits every machine.
"""
# What torch brings along on a machine with a GPU, and pip, which every environment has.
NOT_LOCKED = re.compile(r"(nvidia(?!-ml-py)|cuda)-|(triton|pip)==")
# Packages without a source that builds in minutes: where no wheel exists, the environment goes without them.
ONLY_WHERE = {"cyllama": 'sys_platform == "linux" and platform_machine == "x86_64"'}

# A third of all code, of which a start imports few files or none: those are compiled then.
COMPILED_LATER = "/site-packages/(.*/tests|transformers/models|ray/(data|llm|rllib|serve|train|tune))/"


class Environment:
    """An environment in a folder of the project, made from a lock with these options of pip."""

    def __init__(self, folder: str, lock: str, size: str, *options: str) -> None:
        self.venv: Path = ROOT / folder
        self.python: Path = self.venv / "bin" / "python"
        self.stamp: Path = self.venv / "stamp"
        self.lock: Path = SETUP / lock
        self.size = size
        self.options = options


MAIN = Environment(".venv", LOCK.name, "about 1.3 GB, one to three minutes")


def of_vllm() -> Environment:
    """That of the engine vllm: the build for CPUs, or with an NVIDIA driver the one for CUDA.

    The lock for CPUs has every package but torchvision, torchaudio and torchcodec, beside which vLLM cannot
    be imported there; so pip adds none. The one for CUDA, which was never tried, names vLLM alone.
    """
    if Path("/proc/driver/nvidia/version").exists():
        return Environment(".venv-vllm", "vllm_cuda.lock", "about 10 GB")
    return Environment(".venv-vllm", "vllm.lock", "about 3.5 GB, some minutes", "--no-deps")


def stop(code: int, message: str) -> NoReturn:
    """Exit with a code, after one line that says why."""
    print(f"environment: {message}", file=sys.stderr)
    raise SystemExit(code)


def use_wished_python() -> None:
    """Start this script again with `$PYTHON` if that is set, and check that the Python fits."""
    wished = os.environ.pop("PYTHON", "")
    if wished:
        try:
            os.execvp(wished, [wished, *sys.argv])
        except OSError as error:
            stop(WRONG_PYTHON, f"$PYTHON {wished!r} does not start: {error.strerror}")
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        running = f"{minor_version()} ({sys.executable})"
        stop(WRONG_PYTHON, f"needs Python 3.11, 3.12 or 3.13; this is {running}; set $PYTHON to one of them")


def minor_version() -> str:
    """Return the version of the running Python, such as '3.11'."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def wanted_stamp(lock: bytes, version: str, name: str = LOCK.name) -> str:
    """Return the stamp of an environment that was made from this lock with this Python."""
    return f"python {version}, {name} {hashlib.sha256(lock).hexdigest()}\n"


def is_good(environment: Environment, stamp: str) -> bool:
    """Return whether the environment has this stamp and its Python still starts with the same version."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        if environment.stamp.read_text(encoding="utf-8") != stamp:
            return False
        asked = [str(environment.python), "-I", "-S", "-c", ask]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, UnicodeDecodeError, subprocess.CalledProcessError):
        return False
    return answer.stdout.strip() == minor_version()


@contextmanager
def only_one(venv: Path) -> Iterator[int]:
    """Hold the lock beside an environment; wait for another process that holds it."""
    with Path(f"{venv}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is making {venv.name}; waiting for it...", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def run(what: str, command: Sequence[str | Path], keep: tuple[int, ...] = ()) -> None:
    """Run a command quietly; if it fails, show its last lines and exit with a message that names `what`.

    The command inherits the descriptors in `keep`, such as the lock's: it can outlive this program, and no
    other process may work in `.venv` before it ends.
    """
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    done = subprocess.run(
        command, stdin=none, stdout=pipe, stderr=subprocess.STDOUT, errors="replace", pass_fds=keep
    )
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines()
        print(*lines[-SHOWN_LINES:], sep="\n", file=sys.stderr)
        reasons = [line for line in lines if line.lower().startswith("error: ")]
        reason = reasons[-1][len("error: ") :] if reasons else f"exit code {done.returncode}"
        stop(FAILED, f"{what} failed: {reason}")


def install(venv: Path, what: str, arguments: list[str], keep: tuple[int, ...] = ()) -> None:
    """Make the environment `venv` anew and let pip install what `arguments` name; compile it on all cores."""
    make = [sys.executable, "-I", "-m", "venv", "--clear", str(venv)]
    run(f"making an empty {venv.name}", make, keep)
    # Isolated (-I), so that packages on a $PYTHONPATH do not count as installed.
    pip = [str(venv / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check"]
    run(f"installing {what}", [*pip, "--no-input", "install", "--no-compile", *arguments], keep)
    # pip compiles on one core, which is most of its time. What does not compile, such as a template, stays.
    none = subprocess.DEVNULL
    compiler = [str(venv / "bin" / "python"), "-I", "-m", "compileall", "-qq", "-j", "0"]
    compiler += ["-x", COMPILED_LATER, str(venv / "lib")]
    subprocess.run(compiler, stdin=none, stdout=none, stderr=none, pass_fds=keep)


def ensure(environment: Environment = MAIN) -> None:
    """Make the environment unless it is complete."""
    venv, lock = environment.venv, environment.lock
    stamp = wanted_stamp(lock.read_bytes(), minor_version(), lock.name)
    if is_good(environment, stamp):
        return
    if venv.is_symlink():  # another project may use it
        where = f"{venv.name} links to {venv.readlink()}"
        stop(FAILED, f"{where}, made for another lock or Python; remove the link")
    with only_one(venv) as held:
        if is_good(environment, stamp):  # the process that held the lock has made it
            return
        named = f"ci/setup/{lock.name}"
        print(f"making {venv.name} from {named} ({environment.size})...", file=sys.stderr)
        environment.stamp.unlink(missing_ok=True)  # first, so that half an environment has no stamp
        install(venv, named, [*environment.options, "-r", str(lock)], (held,))
        write_whole(environment.stamp, stamp)


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def portable_pins(frozen: str) -> list[str]:
    """Return the pins of a `pip freeze` that suit every machine, sorted; some apply where wheels exist."""
    pins = [re.split("[+ ;]", line)[0] for line in frozen.splitlines() if "==" in line]
    kept = sorted((pin for pin in pins if not NOT_LOCKED.match(pin)), key=str.lower)
    where = {pin: ONLY_WHERE.get(pin.partition("==")[0]) for pin in kept}
    return [f"{pin} ; {only}" if (only := where[pin]) else pin for pin in kept]


def lock() -> None:
    """Make ci/setup/requirements.lock again from the dependencies in pyproject.toml."""
    import tomllib  # only here, because a Python that is too old has none

    if sys.version_info[:2] != OLDEST:
        stop(WRONG_PYTHON, f"make the lock with Python 3.11; this is {minor_version()}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        extras = project["optional-dependencies"]
        extra = [*extras["llamacpp"], *extras["ray"], *extras["slurm"], *extras["dev"]]
        named = [*project["dependencies"], *extra]
        install(venv, "the dependencies in pyproject.toml", named)
        freeze = [str(venv / "bin" / "python"), "-I", "-m", "pip", "freeze", "--all"]
        frozen = subprocess.run(freeze, stdout=subprocess.PIPE, text=True, check=True).stdout
    write_whole(LOCK, LOCK_HEADER + "\n".join(portable_pins(frozen)) + "\n")


def main(arguments: list[str]) -> None:
    """Run the command."""
    use_wished_python()
    try:
        if arguments == ["lock"]:
            lock()
        elif arguments not in ([], ["vllm"]):
            stop(2, "usage: python3 ci/setup/environment.py [lock | vllm]")
        else:
            environment = of_vllm() if arguments else MAIN
            ensure(environment)
            print(environment.python)
    except (OSError, subprocess.CalledProcessError) as error:
        stop(FAILED, str(error))
    except KeyboardInterrupt:
        stop(130, "interrupted; the next start makes the environment anew")


if __name__ == "__main__":
    main(sys.argv[1:])
