"""The report page in use, in a real browser: filters, sorting, records, keyboard, copies and the picker."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci.pick.__main__ import choose
from ci.pick.__main__ import main as pick
from ci.pick.answers import Target, answer
from ci.pick.table import as_json
from ci.report.__main__ import main
from ci.report.markdown import escaped
from ci.report.page.fields import GROUPS
from ci.report.read.samples import Sample, curves, newest, read_samples
from ci.tests.browser import Shown
from ci.tests.report_histories import HARM, MEASURED, PUBLISHED, harmful, many, record, write
from fixtures.core.base.text import significant

pytestmark = pytest.mark.slow
FIELDS = {field.name: field for fields in GROUPS.values() for field in fields}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three histories."""
    folder = tmp_path_factory.mktemp("runs")
    many(folder / "many.json", 400)
    harmful(folder / "harmful.json")
    alike = [
        record("twin", hardware, batch, 1 + batch / 8)
        for hardware in ("1xl4", "1xh100")
        for batch in (1, 4, 8)
    ]
    write(folder / "twins.json", alike)
    return folder


def page_of(folder: Path, *runs: Path) -> Path:
    """The file of a page of these runs."""
    file = folder / f"{'_'.join(run.stem for run in runs)}.html"
    if not file.exists():
        assert main([*map(str, runs), "-o", str(file)]) == 0
    return file


@pytest.fixture
def shown(browser: Any, folder: Path) -> Iterator[Shown]:
    """The page of the published points and a measured run."""
    one = Shown(
        browser, page_of(folder, PUBLISHED, MEASURED), permissions=["clipboard-read", "clipboard-write"]
    )
    yield one
    one.close()


@pytest.fixture
def harmed(browser: Any, folder: Path) -> Iterator[Shown]:
    """The page of a history that means harm."""
    one = Shown(
        browser, page_of(folder, folder / "harmful.json"), permissions=["clipboard-read", "clipboard-write"]
    )
    yield one
    one.close()


def samples() -> list[Sample]:
    """The cases of that page."""
    return newest(read_samples([PUBLISHED, MEASURED]))


def rows(page: Any) -> list[list[str]]:
    """What the table of cases shows."""
    found: list[list[str]] = (
        page.evaluate("""() => [...document.querySelectorAll("#table tbody tr")].map((row) =>
      [...row.cells].map((cell) => cell.textContent))""")
    )
    return found


def headings(page: Any) -> list[str]:
    """The columns of the table of cases."""
    names: list[str] = page.locator("#table thead th").all_text_contents()
    return names


def test_a_sweep_can_be_chosen(shown: Shown) -> None:
    """Its cases, those that ran out of memory among them; what has no sweep stands as none."""
    page = shown.page
    menu = page.locator("details[data-facet=sweep]")
    menu.locator("summary").click()
    labels = set(menu.locator("label span").all_inner_texts())
    assert labels == {"throughput", "none"}
    menu.get_by_label("throughput").check()
    expected = [one for one in samples() if one.record.sweeps == ("throughput",)]
    assert {one.latency_s is None for one in expected} == {True, False}
    assert page.locator("#count").inner_text().startswith(f"{len(expected)} of {len(samples())} cases, ")
    page.get_by_role("button", name="Show all").click()


def test_filters_leave_what_was_chosen(shown: Shown) -> None:
    """In the table, the figures and the count; several values of one facet, and both facets together."""
    page = shown.page
    menu = page.locator("details[data-facet=model]")
    menu.locator("summary").click()
    menu.get_by_label("falcon125m").check()
    menu.get_by_label("llama125m").check()
    expected = [one for one in samples() if one.model in ("falcon125m", "llama125m")]
    assert [row[0] for row in rows(page)] == [one.model for one in expected]
    assert menu.locator("summary").inner_text() == "model: 2 chosen"
    figures = page.locator("figure:not([hidden]) figcaption").all_inner_texts()
    assert figures
    assert all("125m" in caption or "1xcpu" in caption or "cpu" in caption for caption in figures)
    assert page.locator("#count").inner_text().startswith(f"{len(expected)} of {len(samples())} cases, ")
    menu.get_by_label("llama125m").uncheck()
    shown.draw_all()
    page.wait_for_timeout(100)
    marks = page.locator("figure:not([hidden]) .mark").evaluate_all(
        "(all) => all.map((one) => one.__data__.datum.case)"
    )
    assert marks
    assert all(case.startswith("falcon125m-") for case in marks)
    page.locator("#find").fill("OUT11")
    page.wait_for_function("() => document.querySelectorAll('#table tbody tr').length === 1")
    assert rows(page)[0][headings(page).index("out")] == "11"
    page.locator("#find").fill("nothing at all")
    page.wait_for_selector("#no-figures:not([hidden])")
    assert rows(page) == []
    page.get_by_role("button", name="Show all").click()
    assert page.locator("#count").inner_text().startswith(f"{len(samples())} of {len(samples())} cases, ")


def test_any_column_sorts_the_table(shown: Shown) -> None:
    """By its numbers, up and down, what is not known last; all rows, not those alone that are shown."""
    page = shown.page
    page.locator("#more").press("Enter")
    assert len(rows(page)) == len(samples())
    for label, name in (("latency s", "latency_mean_s"), ("TTFT ms", "ttft_s"), ("hardware", "hardware")):
        field, column = FIELDS[name], headings(page).index(label)
        known = [one for one in samples() if field.value(one) is not None]
        for descending in (False, True):
            page.get_by_role("columnheader", name=label).get_by_role("button").press("Enter")
            way = "descending" if descending else "ascending"
            assert page.locator("#table th[aria-sort$=ending]").get_attribute("aria-sort") == way
            texts = [row[column] for row in rows(page)]
            expected = [
                field.text(field.value(one))
                for one in sorted(known, key=lambda one: field.value(one) or 0, reverse=descending)
            ]
            assert texts[: len(known)] == expected
            assert set(texts[len(known) :]) <= {"", "out of memory"}
    page.get_by_role("columnheader", name="hardware").get_by_role("button").press("Enter")
    assert page.locator("#table th[aria-sort$=ending]").count() == 0
    assert [row[0] for row in rows(page)] == [one.model for one in samples()]


PAIRS = """
(place) => Object.fromEntries(
  [...place.querySelectorAll("dl div")].map(({ children }) => [...children].map((one) => one.textContent)))
"""


def record_in(place: Any) -> dict[str, str]:
    """The terms and values that a record shows."""
    found: dict[str, str] = place.evaluate(PAIRS)
    return found


def point_at(page: Any, mark: Any) -> None:
    """Move the pointer there, once nothing scrolls any more, and wait for the record."""
    mark.scroll_into_view_if_needed()
    page.wait_for_timeout(150)
    mark.hover()
    page.locator("#hover").wait_for()


def test_pointing_at_a_mark_tells_its_whole_record(shown: Shown) -> None:
    """Beside the pointer, gone when it leaves; a click keeps it."""
    page = shown.page
    case_id = "falcon125m-1xcpu-hf-b1-in32-out31"
    page.locator("#find").fill(case_id)
    page.wait_for_function("() => document.querySelectorAll('#table tbody tr').length === 1")
    page.locator("figure:not([hidden])").first.scroll_into_view_if_needed()
    mark = page.locator(f"figure:not([hidden]) .mark[aria-label^='{case_id}']").first
    point_at(page, mark)
    hover = page.locator("#hover")
    (sample,) = [one for one in samples() if one.case_id == case_id]
    expected = {field.label: field.text(field.value(sample)) for field in FIELDS.values() if field.label}
    expected = {label: text for label, text in expected.items() if text}
    assert expected.pop("depth") == "0"  # which is said only where a case has one
    assert expected["interval s"] == "0.762-0.916"
    assert len(expected) > 40
    assert {key: text for key, text in record_in(hover).items() if key in expected} == expected
    mark.click()
    dialog = page.locator("dialog[open]")
    assert dialog.get_by_role("heading", level=2).inner_text() == case_id
    assert expected.items() <= record_in(dialog).items()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.mouse.move(2, 2)
    hover.wait_for(state="hidden")


def test_everything_can_be_done_by_keyboard(shown: Shown) -> None:
    """From the first Tab: the skip link, a filter, the marks of a figure, a record, a column."""
    page, press = shown.page, shown.page.keyboard.press
    focused = "() => document.activeElement.textContent || document.activeElement.getAttribute('aria-label')"
    press("Tab")
    assert page.evaluate(focused) == "Skip to the content"
    for _ in range(40):
        press("Tab")
        if page.evaluate(focused) == "model":
            break
    press("Enter")
    press("Tab")
    press("Space")
    chosen = page.locator("details[data-facet=model] input:checked").get_attribute("value")
    assert {row[0] for row in rows(page)} == {chosen}
    press("Escape")
    assert page.evaluate(focused) == f"model: {chosen}"
    assert page.locator("details[data-facet][open]").count() == 0
    for _ in range(40):
        press("Tab")
        if page.evaluate("() => document.activeElement.classList.contains('mark')"):
            break
    first = page.evaluate(focused)
    press("ArrowRight")
    second = page.evaluate(focused)
    assert str(chosen) in first
    assert first != second
    assert page.locator("#hover strong").inner_text() == second.split(":")[0]
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") != "none"
    press("Enter")
    assert page.locator("#record-heading").inner_text() == second.split(":")[0]
    press("Escape")
    assert page.evaluate(focused) == second
    page.get_by_role("columnheader", name="batch").get_by_role("button").focus()
    press("Enter")
    assert page.locator("#table th[aria-sort=ascending]").count() == 1


def test_the_table_is_copied_as_csv_with_raw_numbers(shown: Shown) -> None:
    """Every chosen row in the table's order, in SI units; what is not known is empty."""
    page = shown.page
    page.get_by_role("columnheader", name="latency s").get_by_role("button").press("Enter")
    page.locator("#copy-csv").press("Enter")
    page.wait_for_function("() => document.querySelector('#copy-status').textContent.includes('copied')")
    assert page.locator("#copy-status").inner_text() == f"{len(samples())} rows copied as CSV."
    found = list(csv.DictReader(io.StringIO(page.evaluate("() => navigator.clipboard.readText()"))))
    order = sorted(samples(), key=lambda one: one.latency_s or float("inf"))
    assert [row["case"] for row in found] == [one.case_id for one in order]
    for row, one in zip(found, order, strict=True):
        for name, text in row.items():
            value = one.case_id if name == "case" else FIELDS[name].value(one)
            if isinstance(value, int | float):
                assert float(text) == value
            else:
                assert text == (value or "")


def markdown_row(labels: list[str], row: list[str]) -> str:
    """A row as the command line would escape its texts."""
    numeric = {field.label for field in FIELDS.values() if field.numeric}
    cells = [
        text if label in numeric or not text else escaped(text).replace("|", "\\|")
        for label, text in zip(labels, row, strict=True)
    ]
    return f"| {' | '.join(cells)} |"


def test_the_table_is_copied_as_markdown(shown: Shown) -> None:
    """What it shows, escaped as the command line's table is; also where the browser grants no clipboard."""
    page = shown.page
    page.locator("#find").fill("llama125m")
    page.wait_for_function("() => document.querySelectorAll('#table tbody tr').length === 3")
    page.locator("#copy-markdown").press("Enter")
    page.wait_for_function("() => document.querySelector('#copy-status').textContent.includes('copied')")
    text = page.evaluate("() => navigator.clipboard.readText()")
    assert text.splitlines()[0] == f"| {' | '.join(headings(page))} |"
    assert text.splitlines()[2:] == [markdown_row(headings(page), row) for row in rows(page)]
    page.evaluate("""async () => {
      await navigator.clipboard.writeText("something else");
      navigator.clipboard.writeText = () => Promise.reject(new Error("no"));
    }""")
    page.locator("#copy-markdown").press("Enter")
    page.wait_for_function("(text) => navigator.clipboard.readText().then((now) => now === text)", arg=text)


def test_the_picker_answers_what_is_asked(shown: Shown) -> None:
    """The first question's answer, another target, prices, and a target that is none."""
    page = shown.page
    answers = page.locator("#answer")
    assert answers.locator("tbody tr.best").first.locator("td").first.inner_text() == "1187"
    assert "4xa100_80gb" in answers.locator(".verdict").inner_text()
    assert answers.locator("tr.between").first.locator("td").all_inner_texts()[:3] == ["1269", "1.967", "39"]
    assert "not measured" in answers.locator("tr.between").first.inner_text()
    page.get_by_label("Target").select_option("throughput")
    page.get_by_label("Tokens/s", exact=True).fill("500")
    page.wait_for_function("() => document.querySelectorAll('#answer tr.missed').length === 2")
    assert answers.locator("tr.best td:nth-child(3)").all_inner_texts() == [
        "1.471",
        "1.617",
        "1.630",
        "1.763",
    ]
    page.locator("#prices summary").click()
    page.get_by_label("a100_80gb", exact=True).fill("1.8")
    cost = significant(1.8 * 4 / 3600 / (16 * 64 / 1.471) * 1e6)
    assert answers.locator("tr.best").first.locator("td").nth(4).inner_text() == cost
    page.get_by_label("Tokens/s", exact=True).fill("-3")
    page.wait_for_function("() => document.querySelector('#question-error').textContent")
    assert answers.inner_text() == ""
    page.locator("#question [name=model]").select_option("falcon125m")
    page.get_by_label("Tokens/s", exact=True).fill("1")
    page.wait_for_function("() => document.querySelectorAll('#answer tr.best').length === 1")
    assert "1xcpu" in answers.inner_text()


ASK = """
(questions) => questions.map(({ model, input_len, output_len, target, prices }) => {
  const { data, pick } = window.benchmarks;
  const curves = data.curves.filter((one) =>
    one.model === model && one.input_len === input_len && one.output_len === output_len);
  return pick(curves, target, prices).map(({ place, ...one }) => ({
    ...one,
    case: place === null ? null : data.cases[place].id,
    history: place === null ? null : data.cases[place].value("history"),
  }));
})
"""


def test_the_page_and_the_command_give_the_same_answers(browser: Any, folder: Path) -> None:
    """To the last bit, in 500 questions of published, measured and made-up curves."""
    runs = (PUBLISHED, MEASURED.parent / "default_20261124.json", folder / "many.json", folder / "twins.json")
    found = curves(newest(read_samples(runs)))
    known = [one for one in found if one.samples]
    rng = random.Random(7)
    questions: list[dict[str, Any]] = []
    expected = []
    for i in range(500):
        curve = known[-1] if i < 20 else rng.choice(known)  # the last has a twin that is alike in all
        at = rng.choice(curve.samples)
        spread = rng.choice([1.0, rng.uniform(0.5, 2.0)])  # a target that a point just meets, too
        seconds, speed = (at.latency_s or 0) * spread, (at.tokens_per_s or 0) * spread
        target = Target(latency_s=seconds) if rng.random() < 0.5 else Target(tokens_per_s=speed)
        prices = {one.samples[0].device: rng.uniform(0.5, 9) for one in known if rng.random() < 0.3}
        asked = {"model": curve.model, "input_len": curve.input_len, "output_len": curve.output_len}
        chosen = choose(found, curve.model, curve.input_len, curve.output_len)
        values = as_json(answer(chosen, target, prices), target, asked)
        wished = {key: values["asked"][key] for key in ("latency_s", "output_tokens_per_s")}
        questions.append({**asked, "target": wished, "prices": prices})
        expected.append(json.loads(json.dumps(values["answers"])))
    shown = Shown(browser, page_of(folder, *runs))
    answers = shown.page.evaluate(ASK, questions)
    shown.close()
    assert answers == expected
    told = [one for several in expected for one in several]
    for key in (
        "best",
        "interpolated",
        "usd_per_million_output_tokens",
        "dominated_by",
        "out_of_memory_at_batch",
    ):
        assert any(one[key] for one in told), key
    assert any(not one["meets"] for one in told)


def test_the_command_line_itself_agrees(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m ci.pick --json`, as it is called."""
    asked = ["--model", "mpt30b", "--input", "512", "--output", "64", "--latency", "3s", "--json"]
    assert pick([str(PUBLISHED), str(MEASURED), *asked]) == 0
    values = json.loads(capsys.readouterr().out)
    target = {"latency_s": 3.0, "output_tokens_per_s": None}
    question = {"model": "mpt30b", "input_len": 512, "output_len": 64, "target": target, "prices": {}}
    assert shown.page.evaluate(ASK, [question]) == [values["answers"]]


def test_a_text_that_means_harm_is_shown_as_text(harmed: Shown) -> None:
    """In the table, filters, figures, records and the picker; nothing of it runs, and nothing is fetched."""
    page = harmed.page
    harmed.draw_all()
    assert {row[0] for row in rows(page)} == set(HARM)
    assert (
        page.locator("img, script[src], iframe, object, body svg [onload], a[href^=javascript]").count() == 0
    )
    page.locator("details[data-facet=model] summary").click()
    assert set(page.locator("details[data-facet=model] label span").all_inner_texts()) == set(HARM)
    page.keyboard.press("Escape")
    options = page.locator("#question [name=model] option").all_inner_texts()
    assert set(options) == set(HARM)
    page.locator("#table tbody button").first.press("Enter")
    record = record_in(page.locator("dialog[open]"))
    assert record["processor"] == HARM[0]
    assert record["marks"] == f"{HARM[0]}; {HARM[0]}"
    page.keyboard.press("Escape")
    point_at(page, page.locator("figure:not([hidden]) .mark").first)
    assert page.evaluate("() => window.harmed") is None
    page.locator("#copy-csv").press("Enter")
    page.wait_for_function("() => document.querySelector('#copy-status').textContent.includes('copied')")
    found = list(csv.DictReader(io.StringIO(page.evaluate("() => navigator.clipboard.readText()"))))
    page.locator("#copy-markdown").press("Enter")
    page.wait_for_function("() => document.querySelector('#copy-status').textContent.includes('Markdown')")
    lines = page.evaluate("() => navigator.clipboard.readText()").splitlines()[2:]
    assert lines == [markdown_row(headings(page), row) for row in rows(page)]
    models = [row["model"] for row in found]
    assert "'" + HARM[2] in models  # no formula for a spreadsheet
    assert HARM[2] not in models
    assert len(models) == 3 * len(HARM)


def test_the_policy_is_kept_by_the_browser(browser: Any, folder: Path) -> None:
    """No eval, no request, no markup out of text, no inline code: each is refused, and is complained of."""
    shown = Shown(browser, page_of(folder, PUBLISHED, MEASURED))
    page = shown.page
    # out of a timer, for what the test itself evaluates is exempt
    page.evaluate("""() => setTimeout(async () => {
      const refusal = (call) => Promise.try(call).then(() => "none", (error) => error.name);
      window.refused = await Promise.all([
        refusal(() => new Function("return 1")()),
        refusal(() => fetch("https://example.org/")),
        refusal(() => { document.body.innerHTML = "<b>x</b>"; }),
      ]);
    })""")
    page.wait_for_function("() => window.refused")
    assert page.evaluate("() => window.refused") == ["EvalError", "TypeError", "TypeError"]
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.append("window.ran = 1;");
      document.body.append(script);
    }""")
    assert page.evaluate("() => window.ran") is None
    assert any("connect-src" in one for one in shown.complaints)
    shown.complaints.clear()
    shown.requests[1:] = []
    shown.close()
