"""Latency of `generate`: every model, machine, engine, batch size and length is one item."""


def test_generate(measure, engine, case):
    """Time one case: a batch of prompts in, exactly its number of new tokens out."""
    measure(engine, case)
