"""Benchmarks of the suite itself: what measuring, judging and reporting cost."""
