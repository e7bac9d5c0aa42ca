"""Assembles the page from template, style, scripts and data, with a policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from string import Template

from ci.report.page.data import Drawing, packed, page_data
from ci.report.read.samples import Sample
from fixtures.core.base.errors import InputError

HERE = Path(__file__).parent
STYLES = ("base.css", "controls.css", "figures.css", "table.css", "print.css")
SCRIPTS = (
    "dom.js", "words.js", "data.js", "pick.js", "formula.js", "estimate.js", "look.js", "record.js",
    "filters.js", "rows.js", "picker.js", "theme.js", "marks.js", "figures.js", "copy.js", "table.js",
    "main.js",
)  # fmt: skip


def page(samples: Sequence[Sample], drawings: Iterable[Drawing], vega: Callable[[], str]) -> str:
    """The HTML page of these cases and figures; `vega` is what `making_vega` yields. It is deterministic."""
    style = "\n".join(_read(name) for name in STYLES)
    own = "\n".join(_read(name) for name in SCRIPTS)
    data = packed(page_data(samples, drawings))
    scripts = {"vega": vega(), "script": f'(() => {{\n"use strict";\n{own}\n}})();'}
    return Template(_read("template.html")).substitute(
        policy=policy(scripts.values(), style),
        style=style,
        data=data,
        **scripts,
    )


def policy(scripts: Iterable[str], style: str) -> str:
    """The content-security policy: the browser may run these scripts and use this style, nothing else.

    It forbids eval (Vega's expressions are interpreted), requests other than the embedded icon, sending
    forms, and turning text into markup: the only policy of trusted types accepts just the empty text.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types default",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@contextmanager
def making_vega() -> Iterator[Callable[[], str]]:
    """Make Vega's script in a process beside the body; calling the yielded function returns the script.

    The script has its own scope. Raises InputError if vl-convert, which contains Vega, is not installed.
    """
    if find_spec("vl_convert") is None:
        raise InputError("the page needs vl-convert-python, which is not installed here")
    command = [sys.executable, str(HERE / "vega.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            yield lambda: _script(process)
        finally:
            process.kill()  # if it still runs


def _script(process: subprocess.Popen[str]) -> str:
    """The script that the process writes, escaped so that it cannot end an HTML element."""
    bundle, _ = process.communicate()
    if process.returncode != 0:
        raise InputError(f"vl-convert gave no Vega: it ended with exit code {process.returncode}")
    return f"(() => {{{bundle}}})();".replace("</script", "<\\/script").replace("<!--", "<\\!--")
