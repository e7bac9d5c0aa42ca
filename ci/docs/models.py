"""Writes the table of models in yamls/README.md: counted against published figures.

python -m ci.docs.models          write the table
python -m ci.docs.models --check  exit code 1 if it is not current
"""

from __future__ import annotations

from functools import partial

from ci.docs.marked import Marked
from fixtures.core.base.columns import markdown
from fixtures.core.base.node import Node, as_node
from fixtures.core.base.streams import run_main
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.spec import library
from fixtures.core.spec.case import EngineSpec, ModelSpec

README = library.YAMLS / "README.md"
PART = Marked("models", "ci.docs.models", README)
_HEAD = (
    "model", "parameters, 10^9", "published", "active, 10^9", "published", "cache, bytes a token",
    "by hand", "beyond the windows", "state, bytes a sequence", "published figures are from",
)  # fmt: skip


def entries(name: str) -> dict[str, Node]:
    """The yaml of a model of the library, key by key."""
    return library.find("models", as_node(name, "")).mapping()


def table() -> str:
    """The table in Markdown: a row a model, parameters in billions, cache in bytes of bf16."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for name in library.names("models"):
        of = entries(name)
        if "published" in of:
            rows.append(_row(library.model(name), of["published"].mapping()))
    return "\n".join(markdown(rows))


def _row(model: ModelSpec, published: dict[str, Node]) -> tuple[str, ...]:
    active, counts = model.active_parameters, find_counts(model, EngineSpec("hf"))
    cached = beyond = state = "not counted"
    if counts is not None:
        caches = counts.work.caches
        cached = f"{sum(cache.layers * cache.bytes_per_token // cache.every for cache in caches):,}"
        beyond = f"{sum(c.layers * c.bytes_per_token // c.every for c in caches if c.window is None):,}"
        state = f"{sum(c.layers * c.fixed_bytes for c in caches):,}"
    return (
        model.name,
        f"{(model.parameters or 0) / 1e9:.2f}",
        f"{published['parameters'].number() / 1e9:g}",
        f"{active / 1e9:.2f}" if active else "",
        f"{published['active_parameters'].number() / 1e9:g}" if active else "",
        cached,
        f"{2 * model.kv_values_per_token:,}" if model.kv_values_per_token else "",
        beyond,
        state,
        published["source"].text(),
    )


if __name__ == "__main__":
    run_main(partial(PART.write_or_check, table))
