"""Picks the hardware for a latency or throughput target, from histories."""
