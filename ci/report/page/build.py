"""The page as one text: template, style, scripts and data put together, and a policy that allows no more."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from string import Template

from ci.curves import Sample
from ci.report.page.data import Drawing, packed, page_data
from fixtures.core.errors import InputError

HERE = Path(__file__).parent
STYLES = ("base.css", "controls.css", "figures.css", "table.css", "print.css")
SCRIPTS = (
    "dom.js", "words.js", "data.js", "pick.js", "record.js", "filters.js", "picker.js", "theme.js",
    "marks.js", "figures.js", "copy.js", "table.js", "main.js",
)  # fmt: skip


def page(samples: Sequence[Sample], drawings: Iterable[Drawing]) -> str:
    """The HTML of these cases and figures; the same for the same.

    Raises InputError where vl-convert, which brings Vega along, is not installed.
    """
    style = "\n".join(_read(name) for name in STYLES)
    own = "\n".join(_read(name) for name in SCRIPTS)
    scripts = {"vega": _vega(), "script": f'(() => {{\n"use strict";\n{own}\n}})();'}
    return Template(_read("template.html")).substitute(
        policy=policy(scripts.values(), style),
        style=style,
        data=packed(page_data(samples, drawings)),
        **scripts,
    )


def policy(scripts: Iterable[str], style: str) -> str:
    """What the browser may do for the page: run these scripts and use this style, and nothing else.

    No eval (Vega's expressions are interpreted), no request but for the icon inside the page, no form that
    is sent, and no text that becomes markup: the one policy of trusted types lets the empty text through.
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


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed, in a scope of their own, for `vegaEmbed` alone."""
    try:
        import vl_convert
    except ImportError:
        raise InputError("the page needs vl-convert-python, which is not in this environment") from None
    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    return f"(() => {{{bundle}}})();".replace("</script", "<\\/script").replace("<!--", "<\\!--")
