"""A real browser for the tests of the report page: started, watched, and gone through with no way out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import ROOT

# no sandbox, for it needs what containers do not have; nothing in the background that would ask a network
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-quic",
)  # fmt: skip
WIDE, PHONE = (1400, 900), (390, 844)
VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective}`));
"""
ALL_DRAWN = """
() => [...document.querySelectorAll("figure:not([hidden])")].every((one) => one.querySelector("svg"))
"""


def find_browser() -> str:
    """The path of a browser, installed where it can be; a test that asks without one is skipped."""
    try:
        done = subprocess.run([ROOT / "ci" / "browser"], capture_output=True, text=True, timeout=400)
    except subprocess.TimeoutExpired:
        pytest.skip("ci/browser: installing a browser took more than 400 s")
    if done.returncode != 0:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip()


@contextmanager
def launched() -> Iterator[Any]:
    """The browser, until the end of the block; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not in this environment")
    path = find_browser()
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


class Shown:
    """A page that is shown, with all that it asked for and complained of."""

    def __init__(self, browser: Any, file: Path | str, size: tuple[int, int] = WIDE, **context: Any) -> None:
        """Open a file or an address in a context of its own, and wait until the page says it is ready."""
        viewport = {"width": size[0], "height": size[1]}
        self.context = browser.new_context(viewport=viewport, **context)
        self.context.set_default_timeout(15_000)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.add_init_script(VIOLATIONS)
        self.url = file.as_uri() if isinstance(file, Path) else file
        self.page.goto(self.url)
        self.page.wait_for_selector("html[data-ready]")

    def draw_all(self) -> None:
        """Have every figure drawn, as before printing."""
        self.page.evaluate("() => { dispatchEvent(new Event('beforeprint')); }")
        self.page.wait_for_function(ALL_DRAWN)

    def close(self) -> None:
        """Close it; it has asked for itself alone, and has complained of nothing."""
        self.context.close()
        asked = [url for url in self.requests if not url.startswith("data:")]
        assert asked == [self.url]
        assert self.complaints == []
