"""Writes the census into README.md, between two marks: counts, then a table with a row a type."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from ci.census.store import ENGINES, NOT_RUN, Census
from ci.docs.marked import Marked
from fixtures.core.base.columns import markdown

README = Path(__file__).with_name("README.md")
PART = Marked("census", "ci.census", README)
_LONGEST = 110  # characters of a reason

Finding = dict[str, Any]


def counts(census: Census) -> str:
    """The counts of outcomes, a line an engine."""
    hf = [of_type["hf"] for of_type in census.types.values() if "hf" in of_type]
    outcomes = Counter(finding["outcome"] for finding in hf)
    measured = [finding for finding in hf if finding["outcome"] == "measured"]
    switched = sum(finding.get("as_decoder") == "measured" for finding in hf)
    lines = [
        f"{len(census.types)} causal types: {outcomes['measured']} measured, {outcomes['refused']} refused "
        f"({switched} of them measured as decoders, by a switch of their config), "
        f"{outcomes['failed']} failed. "
        f"Of those measured, {sum(not finding['bound'] for finding in measured)} have a bound, "
        f"{sum(finding['planned'] for finding in measured)} a plan."
    ]
    for engine in ENGINES[1:]:
        splits = Counter(of[engine]["outcome"] for of in census.types.values() if engine in of)
        unknown = sum(splits.values()) - splits["works"] - splits["cannot"] - splits["no plan"]
        lines.append(
            f"`{engine}` over two devices: {splits['works']} work, {splits['cannot']} cannot be split"
            + (f", {splits['no plan']} have no plan" if engine == "hf_tp" else "")
            + f", {unknown} are unknown."
        )
    made = ", ".join(f"{package} {version}" for package, version in census.versions.items())
    return "\n\n".join([*lines, f"Made on {census.date} with {made}."])


def table(census: Census) -> str:
    """The table, a row a type."""
    rows = [["type", "`hf`", "bound", "plan", *(f"`{engine}`" for engine in ENGINES[1:])]]
    for name, of_type in sorted(census.types.items()):
        hf = of_type.get("hf", {"outcome": ""})
        is_measured = "measured" in (hf["outcome"], hf.get("as_decoder"))
        cells = [
            f"`{name}`",
            _outcome(hf),
            ("yes" if not hf["bound"] else _short(hf["bound"])) if is_measured else "",
            ("yes" if hf["planned"] else "no") if is_measured else "",
            *(_split(of_type.get(engine, {"outcome": ""})) for engine in ENGINES[1:]),
        ]
        rows.append(cells)
    return "\n".join(markdown(rows))


def _outcome(finding: Finding) -> str:
    if finding.get("as_decoder"):
        switched = finding["as_decoder"]
        return f"refused: {_short(finding['reason'])}; as a decoder: {switched}"
    reason = finding.get("reason")
    return f"{finding['outcome']}: {_short(reason)}" if reason else str(finding["outcome"])


def _split(finding: Finding) -> str:
    outcome, reason = str(finding["outcome"]), str(finding.get("reason"))
    if outcome == "cannot":
        return _short(reason)
    if outcome in ("not known", "failed"):
        return "" if reason == NOT_RUN else f"{outcome}: {_short(reason)}"
    return "" if outcome == "refused" else outcome


def _short(text: str) -> str:
    """The text, shortened and escaped; the table escapes its bars itself."""
    text = re.sub(r"\s+", " ", text)
    cut = text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + " ..."
    return re.sub(r"([<>*_`\[\]\\])", r"\\\1", cut)


def with_table(readme: str, census: Census) -> str:
    """The README with this census between its marks; raises ValueError if it lacks the marks."""
    return PART.within(readme, f"{counts(census)}\n\n{table(census)}")
