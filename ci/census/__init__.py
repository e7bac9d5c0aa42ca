"""Tries which causal types of transformers this suite measures, plans and splits, with small models."""
