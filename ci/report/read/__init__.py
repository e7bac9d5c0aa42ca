"""Samples and curves from histories, and what figures and pages derive from them."""
