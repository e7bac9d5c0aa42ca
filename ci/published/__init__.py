"""Figures that others published, as histories, and what a prediction makes of them."""
