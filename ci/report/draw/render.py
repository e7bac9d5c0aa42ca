"""Renders Vega-Lite specs as SVG with vl-convert, which needs no browser and no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fixtures.core.base.errors import InputError


def svg(spec: Mapping[str, Any]) -> str:
    """The figure as SVG with real text; the same spec gives the same SVG.

    Raises InputError if vl-convert is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise InputError("figures need vl-convert-python, which is not installed here") from None
    return str(vl_convert.vegalite_to_svg(dict(spec)))
