"""How the report page looks, in a real browser: on a phone, in the dark, on paper, to a screen reader."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci.report.__main__ import main
from ci.tests.browser import PHONE, WIDE, Shown
from ci.tests.report_histories import MEASURED, PUBLISHED, many

pytestmark = pytest.mark.slow

# Of every text that can be seen: its own colour and what lies behind it, mixed as they are painted.
CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const parts = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((one, i) => a * one + (1 - a) * below[i]).concat(1);
  const ground = (element) => {
    const own = parts(getComputedStyle(element).backgroundColor);
    if (own[3] === 1) return own;
    return over(own, element.parentElement ? ground(element.parentElement) : [255, 255, 255, 1]);
  };
  const luminance = (colour) => colour.slice(0, 3).map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, i) => sum + one * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.matches("script, style, noscript, option") || element.closest(".unseen, .skip")) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const colour = over(parts(element.closest("svg") ? style.fill : style.color), below);
    const [light, dark] = [luminance(colour), luminance(below)].sort((a, b) => b - a);
    found.push([(light + 0.05) / (dark + 0.05), parseFloat(style.fontSize), text.slice(0, 40)]);
  }
  return found;
}
"""
OVERFLOW = """
() => [...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  const seen = one.checkVisibility() && !one.closest(".scroller, .unseen, svg, .hover");
  return seen && box.right > innerWidth + 1;
}).map((one) => one.outerHTML.slice(0, 120))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the published points and a measured run, with two figures of each kind."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    assert main([str(PUBLISHED), str(MEASURED), "-o", str(file), "--most", "20"]) == 0
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_text_can_be_read_and_nothing_sticks_out(
    size: tuple[int, int], scheme: str, browser: Any, file: Path
) -> None:
    """Contrast of every text by WCAG 2.2, 1.4.3; no text below 10 pixels; no scrolling sideways."""
    shown = Shown(browser, file, size, color_scheme=scheme)
    shown.draw_all()
    page = shown.page
    page.get_by_label("Estimate what was not measured").check()
    page.locator("#answer details").evaluate_all("(all) => { for (const one of all) one.open = true; }")
    page.locator("#answer dl dd").last.wait_for()
    page.locator("details[data-facet=model] summary").click()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 1000
    assert [one for one in found if one[0] < 4.5] == []
    assert [one for one in found if one[1] < 10] == []
    assert page.evaluate("() => document.documentElement.scrollWidth") == size[0]
    assert page.evaluate(OVERFLOW) == []
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 20, 24)") is (scheme == "dark")
    page.keyboard.press("Escape")
    page.locator("#table tbody button").first.press("Enter")
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
    assert page.evaluate(OVERFLOW) == []
    shown.close()


def test_a_change_to_the_dark_recolours_the_figures(browser: Any, tmp_path: Path) -> None:
    """Black marks too: WCAG 2.2, 1.4.11 asks for a contrast of 3."""
    file = tmp_path / "report.html"
    assert main([str(many(tmp_path / "run.json", 160)), "-o", str(file)]) == 0
    shown = Shown(browser, file, color_scheme="light")
    shown.page.locator("#figures").scroll_into_view_if_needed()
    shown.page.wait_for_selector("figure:not([hidden]) .mark")
    fills = "[...document.querySelectorAll('figure .mark')].map((one) => getComputedStyle(one).fill)"
    light = set(shown.page.evaluate(f"() => {fills}"))
    assert {"rgb(27, 31, 36)", "rgb(0, 114, 178)"} < light
    shown.page.emulate_media(color_scheme="dark")
    shown.page.wait_for_function(f"() => !{fills}.includes('rgb(0, 114, 178)')")
    shown.draw_all()
    colours = set(shown.page.evaluate(f"() => {fills}"))
    assert "rgb(231, 234, 238)" in colours
    assert len(colours) == len(light)
    for colour in colours:
        assert (luminance(colour) + 0.05) / (luminance("rgb(26, 31, 37)") + 0.05) > 4
    shown.close()


def luminance(colour: str) -> float:
    """Of `rgb(r, g, b)`; WCAG 2.2, "relative luminance"."""
    parts = [int(one) / 255 for one in colour[4:-1].split(",")]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_paper_has_every_figure_and_nothing_to_press(browser: Any, file: Path) -> None:
    """Black on white in the dark too, before any figure was seen."""
    shown = Shown(browser, file, color_scheme="dark")
    page = shown.page
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF-")
    assert page.locator("figure svg").count() == page.locator("figure").count() > 5
    page.emulate_media(media="print")
    for selector in ("nav", "#facets", ".find", "#copy-csv", "#more"):
        assert not page.locator(selector).first.is_visible()
    assert page.evaluate("() => getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
    shown.close()


@pytest.mark.parametrize("opened", ["menu", "record"])
def test_a_screen_reader_finds_its_way(opened: str, browser: Any, file: Path) -> None:
    """By axe-core's rules of WCAG 2.2 A and AA and its best practices."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    shown = Shown(browser, file)
    shown.page.locator("#find").fill("125m")  # the rules look at each cell of the table
    shown.page.wait_for_function("() => document.querySelectorAll('#table tbody tr').length < 30")
    shown.page.evaluate("() => document.querySelector('#figures').scrollIntoView()")
    shown.page.wait_for_selector("figure:not([hidden]) .mark")
    if opened == "menu":
        shown.page.locator("details[data-facet=engine] summary").click()
    else:
        shown.page.locator("#table tbody button").first.press("Enter")
    found = axe.run(shown.page)
    assert [
        (one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found.response["violations"]
    ] == []
    assert len(found.response["passes"]) > 20
    shown.close()


@pytest.fixture
def served(file: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of the page on this machine, and what is asked of its server."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(file.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/report.html", asked
        server.shutdown()


def test_a_server_is_asked_for_the_page_alone(browser: Any, served: tuple[str, list[str]]) -> None:
    """No icon, no font, no map of a source."""
    url, asked = served
    shown = Shown(browser, url)
    shown.draw_all()
    shown.page.wait_for_timeout(300)
    shown.close()
    assert asked == ["/report.html"]
