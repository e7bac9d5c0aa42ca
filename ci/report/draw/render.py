"""Vega-Lite specs -> SVG, by vl-convert, which needs no browser and no network; used here alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fixtures.core.base.errors import InputError


def svg(spec: Mapping[str, Any]) -> str:
    """The drawn figure, text as text; the same for the same spec.

    Raises InputError where vl-convert is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise InputError("figures need vl-convert-python, which is not installed here") from None
    return str(vl_convert.vegalite_to_svg(dict(spec)))
