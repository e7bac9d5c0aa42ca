"""Tests and measures on a host without network and .venv, with the running Python.

    ci/gpu --minutes 25                       the tests, then the suite `models`
    ci/gpu --suite latency -- -k mpt7b        another suite; what follows `--` goes to pytest
    ci/gpu --fetch 3.12                       with network, beforehand: into wheels/, for that Python

Histories go to ci/histories/<hardware>/, to be committed. The measurement runs even if a test failed, and
saves what it measured before the time ran out. Small packages that the host lacks come from wheels/: fill
that folder with --fetch on a machine with network, and copy it along.

Exit codes: 0 success, 1 a test or a case failed, 3 a package or the GPU is missing, 4 bad input.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAILED, MISSING, BAD_INPUT = 1, 3, 4
PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "pytest": "pytest",
    "pytest_benchmark": "pytest-benchmark",
    "yaml": "pyyaml",
    "numpy": "numpy",
    "scipy": "scipy",
    "msgspec": "msgspec",
}
WHEELS = ROOT / "wheels"
# GPU hosts may lack these
FETCHED = ("hypothesis", "msgspec", "nvidia-ml-py", "psutil", "sortedcontainers")
TEST_PACKAGES = {"hypothesis": "hypothesis"}
SHARE_OF_TESTS = 0.3  # of the time budget; the rest is for the measurement
GRACE_S = 120.0  # for the case in flight to end and the history to be written


def missing(packages: dict[str, str]) -> list[str]:
    """The names of the packages that are not installed."""
    return [name for module, name in packages.items() if importlib.util.find_spec(module) is None]


def fetch(python: str) -> int:
    """Download the wheels of FETCHED for a version of Python, as ci/setup/requirements.lock has them."""
    lock = (Path(__file__).with_name("requirements.lock")).read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lock if line.partition("==")[0] in FETCHED]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", python, "--dest", str(WHEELS), *pinned]
    return FAILED if subprocess.run(command).returncode else 0


def add_wheels(folder: Path) -> None:
    """Add packages from WHEELS that this Python lacks to the path of this process and its children."""
    for wheel in sorted(WHEELS.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            names = {name.partition("/")[0].partition(".")[0] for name in archive.namelist()}
            if not any(importlib.util.find_spec(name) for name in names if name.isidentifier()):
                archive.extractall(folder)
    if not any(folder.iterdir()):
        return
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(folder))))


def has_gpu() -> bool:
    """Whether torch sees a GPU; asked in a separate process, so that this one holds no device."""
    ask = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", ask]).returncode == 0


def pytest(arguments: Sequence[str], limit_s: float) -> int:
    """Run pytest; after `limit_s` seconds interrupt it, so that it can save its results, then kill it."""
    command = [sys.executable, "-P", "-m", "pytest", "-c", str(ROOT / "pytest.ini"), "--rootdir", str(ROOT)]
    # a background job of a shell ignores SIGINT, and its children inherit that
    hear = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([*command, *arguments], preexec_fn=hear)
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            print(f"gpu: out of time; sending {stop.name} to pytest", file=sys.stderr)
            process.send_signal(stop)
            limit_s = GRACE_S / 4
    return process.wait()


def keep(history: Path, histories: Path, suite: str) -> Path:
    """Move a history to its hardware's folder, named after suite and time; returns its new path."""
    label = json.loads(history.read_text(encoding="utf-8"))["machine_info"]["inference"]["label"]
    folder = histories / label
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime())
    return Path(shutil.move(history, folder / f"{Path(suite).stem}_{stamp}.json"))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="ci/gpu", description="Test and measure on a GPU host as it is.")
    parser.add_argument(
        "--minutes",
        type=float,
        default=25.0,
        help="the time budget of tests and measurement (default: %(default)g)",
    )
    parser.add_argument("--suite", default="models", help="what to measure (default: %(default)s)")
    parser.add_argument(
        "--histories", "--baselines", type=Path, default=ROOT / "ci" / "histories", metavar="FOLDER"
    )
    parser.add_argument("--skip-tests", action="store_true", help="measure without testing first")
    parser.add_argument("--fetch", metavar="PYTHON", help="download what a host with that Python may lack")
    parser.add_argument("--cpu", action="store_true", help="do the same on a CPU")
    parser.add_argument("pytest", nargs="*", metavar="-- PYTEST_OPTION")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = parse(arguments)
    if options.fetch:
        return fetch(options.fetch)
    with tempfile.TemporaryDirectory() as folder:
        add_wheels(Path(folder))
        return test_and_measure(options)


def test_and_measure(options: argparse.Namespace) -> int:
    """The tests, then the suite, within the minutes; the exit code."""
    start = time.monotonic()
    if lacking := missing(PACKAGES if options.skip_tests else {**PACKAGES, **TEST_PACKAGES}):
        print(f"gpu: {sys.executable} has no {', '.join(lacking)}", file=sys.stderr)
        return MISSING
    if not options.cpu and not has_gpu():
        print(
            f"gpu: the torch of {sys.executable} sees no GPU; add --cpu to measure on the CPU",
            file=sys.stderr,
        )
        return MISSING
    total_s = 60 * options.minutes
    failed = False
    if not options.skip_tests:
        tests = [str(ROOT / "ci" / "tests"), "--benchmark-disable", "-q"]
        failed = pytest(tests, SHARE_OF_TESTS * total_s) != 0
    with tempfile.TemporaryDirectory() as folder:
        history = Path(folder) / "history.json"
        left_s = total_s - (time.monotonic() - start)
        measure = [str(ROOT / "benchmarks"), "--benchmark-only", "--suite", options.suite]
        measure += ["--benchmark-json", str(history), "--minutes", str(left_s / 60), *options.pytest]
        code = pytest(measure, left_s + GRACE_S)
        if history.exists() and history.stat().st_size:
            print(f"gpu: history in {keep(history, options.histories, options.suite)}")
    if code == BAD_INPUT:
        return BAD_INPUT
    return FAILED if failed or code != 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
