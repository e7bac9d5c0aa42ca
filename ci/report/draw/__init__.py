"""The kit that figures are made with: plain values -> Vega-Lite -> SVG."""
