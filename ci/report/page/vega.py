"""Writes Vega, Vega-Lite and Vega-Embed as one script, which sets window.vegaEmbed.

A program of its own: vl-convert takes 2 s and blocks its process meanwhile.
"""

import sys

import vl_convert

sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
sys.stdout.write(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
