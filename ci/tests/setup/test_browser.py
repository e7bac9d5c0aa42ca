"""Where the browser for the tests of the report page comes from, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ci.tests.browser import find_browser
from ci.tests.conftest import ROOT


def asked(**env: str) -> tuple[int, str, str]:
    """Exit code, output and what is said of `ci/browser`."""
    done = subprocess.run(["/bin/sh", ROOT / "ci" / "browser"], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def tool(folder: Path, name: str, script: str) -> Path:
    """A program in a folder."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def test_a_browser_that_starts_is_named(tmp_path: Path) -> None:
    """The first that tells its version, and not a stand-in that only says what to install."""
    tool(tmp_path, "chromium", "echo 'install me'; exit 1")
    chrome = tool(tmp_path, "google-chrome", "echo Google Chrome 150.0.1")
    assert asked(PATH=f"{tmp_path}:{os.defpath}:/usr/bin:/bin")[:2] == (0, f"{chrome}\n")
    assert asked(PATH="/usr/bin:/bin", INFERENCE_BROWSER=str(chrome))[:2] == (0, f"{chrome}\n")


def test_it_is_installed_where_that_can_be(tmp_path: Path) -> None:
    """By apt-get, its lists first; where that fails the last line says why."""
    for name in ("grep", "tail", "cat", "chmod", "sh"):
        (tmp_path / name).symlink_to(
            next(p for p in (Path("/bin") / name, Path("/usr/bin") / name) if p.exists())
        )
    assert asked(PATH=str(tmp_path))[0::2] == (3, "browser: no Chromium, and no apt-get to install it with\n")
    tool(tmp_path, "id", "echo 1000")
    chromium = tmp_path / "chromium"
    script = f"""
        case "$*" in
        *" update "*) : ;;
        *install*) echo '#!/bin/sh\necho Chromium 150.0' > {chromium}; chmod +x {chromium} ;;
        esac
    """
    tool(tmp_path, "apt-get", script)
    assert asked(PATH=str(tmp_path))[0::2] == (3, "browser: no Chromium; as root: apt-get install chromium\n")
    tool(tmp_path, "id", "echo 0")
    assert asked(PATH=str(tmp_path))[:2] == (0, f"{chromium}\n")
    chromium.unlink()
    tool(tmp_path, "apt-get", "echo 'E: no network'; exit 100")
    code, _, said = asked(PATH=str(tmp_path))
    assert (code, said.splitlines()[-1]) == (3, "browser: apt-get update failed: E: no network")


def test_without_one_the_tests_are_skipped_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where somebody goes without on purpose."""
    monkeypatch.setenv("INFERENCE_BROWSER", "none")
    with pytest.raises(pytest.skip.Exception, match="INFERENCE_BROWSER is 'none'"):
        find_browser()
