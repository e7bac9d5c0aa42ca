"""Standard output and error whose reader is gone: the work is done, and the exit code stays."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TextIO, cast

import pytest

from ci.tests.conftest import ROOT, histories, write_suite
from fixtures.core.base.files import write_whole
from fixtures.core.base.streams import Forgiving, lost

pytest_plugins = ["pytester"]
RUN = "$PYTHON -m pytest -p no:anyio benchmarks --benchmark-only --suite suite.yaml"
PICK = "$PYTHON -m ci.pick ci/baselines/published --model mpt7b --input 512 --output 64"
NO_UNIT = "pick: --latency 2: write a time above zero with its unit, such as 2s or 500ms\n"


def test_a_stream_forgives_a_reader_that_is_gone() -> None:
    """Nothing is left in its buffer for the interpreter to fail on at its end."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        stream = Forgiving(pipe)
        assert stream.write("a" * 100_000) == 100_000
        print("more", file=cast(TextIO, stream))
        stream.flush()
        assert stream.error is not None
        assert stream.error.errno == errno.EPIPE
        assert lost(stream) is None
    stream.write("and after it is closed")


def test_a_stream_tells_of_a_full_disk() -> None:
    """What nobody wanted to miss is lost there."""
    with Path("/dev/full").open("w") as full:
        stream = Forgiving(full)
        stream.write("text")
        assert lost(stream) == "No space left on device"


def test_letters_that_cannot_be_encoded_are_no_lost_reader(tmp_path: Path) -> None:
    """pytest writes them otherwise, so it has to know."""
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        stream = Forgiving(out)
        with pytest.raises(UnicodeEncodeError):
            stream.write("é")
        assert stream.error is None


def test_a_file_behind_a_link_or_a_device_stays_what_it_is(tmp_path: Path) -> None:
    """Only what is a file, or is not there, is written beside and renamed."""
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", b"one")
    write_whole(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"two"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", b"three")
    assert os.read(reader, 100) == b"three"
    os.close(reader)
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, b"")
    assert not list(tmp_path.parent.glob("*.part"))


def in_a_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Its last exit code is that of the first command of a pipe."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": shlex.quote(sys.executable)},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
@pytest.mark.parametrize(
    "ends",
    ["| head -1", "2>&1 | head -1", ">&-", "-s >&-", ">&- 2>&- <&-", ">/dev/full"],
)
def test_a_session_without_a_reader_measures_and_saves(faked: pytest.Pytester, ends: str) -> None:
    """Exit code 0, no traceback, and the history has every case."""
    write_suite(faked.path, "m", batch_sizes=[1, 2, 3])
    done = in_a_shell(f"{RUN} {ends}", faked.path)
    assert done.returncode == 0, done.stderr
    full = "warning: standard output could not be written: No space left on device\n"
    assert done.stderr == (full if "full" in ends else "")
    (history,) = histories(faked.path)
    assert len(history["benchmarks"]) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        ("--latency 2s | head -1", 0, ""),
        ("--latency 2s >&-", 0, ""),
        ("--latency 1ms >&- 2>&-", 1, ""),
        (
            "--latency 2 >&-",
            4,
            NO_UNIT,
        ),
        ("--latency 2s > /dev/full", 4, "standard output cannot be written: No space left on device\n"),
    ],
)
def test_a_command_without_a_reader_ends_as_it_would(ends: str, code: int, said: str) -> None:
    """Its verdict is in the exit code."""
    done = in_a_shell(f"{PICK} --output 64 {ends}", ROOT)
    assert (done.returncode, done.stderr) == (code, said)
