"""The fixture that collects the ratios of these benchmarks, and a line for each at the end."""

from __future__ import annotations

from typing import Any

import pytest

from ci.overhead.harness import RATIOS, Harness


@pytest.fixture
def harness(benchmark: Any, request: pytest.FixtureRequest) -> Harness:
    """The collector of this benchmark's ratios."""
    return Harness(benchmark, request.config)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A line for each ratio."""
    for ratio in config.stash.get(RATIOS, []):
        sign = "at most" if ratio.at_most else "at least"
        terminalreporter.write_line(
            f"{ratio.what}: {ratio.value:.4g} ({ratio.low:.4g} to {ratio.high:.4g}), "
            f"aim: {sign} {ratio.limit:g}, {'met' if ratio.met else 'NOT MET'}"
        )
