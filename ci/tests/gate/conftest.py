"""What tests of the gate share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.tests.gate.curated import (
    histories,
)
from fixtures.core.store.history import History


@pytest.fixture
def baseline(tmp_path: Path) -> list[History]:
    """Ten runs."""
    return histories(tmp_path / "stored", *(f"r{k}" for k in range(10)))
