"""Which causal types of transformers this suite measures, plans and splits: all of them tried, small."""
