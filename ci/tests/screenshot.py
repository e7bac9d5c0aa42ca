"""Make the screenshot of the report page that stands in the README anew.

.venv/bin/python -m ci.tests.screenshot
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ci.report.__main__ import main
from ci.tests.browser import Shown, launched
from ci.tests.conftest import ROOT

PICTURE = ROOT / "ci" / "report" / "page" / "screenshot.png"
SIZE = (1240, 1300)


def take(file: Path) -> None:
    """Of the published history: the picker, the filters and two figures, in the light."""
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        page = Path(folder) / "report.html"
        assert main([str(ROOT / "ci" / "baselines" / "published"), "-o", str(page)]) == 0
        shown = Shown(browser, page, SIZE, color_scheme="light", reduced_motion="reduce")
        shown.page.locator("details[data-facet=suite] summary").click()
        shown.page.get_by_role("checkbox", name="hardware").check()
        shown.page.keyboard.press("Escape")
        shown.page.locator("#question [name=goal]").fill("1.3")
        shown.page.wait_for_function("() => document.querySelector('#answer tr.missed')")
        shown.page.evaluate("() => document.activeElement.blur()")
        shown.draw_all()
        shown.page.evaluate("() => scrollTo(0, 0)")
        shown.page.screenshot(path=file)
        shown.close()


if __name__ == "__main__":
    take(PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size} bytes")
