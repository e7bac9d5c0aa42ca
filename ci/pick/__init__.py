"""Which hardware for a latency, and how soon at a throughput: an answer out of histories."""
