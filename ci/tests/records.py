"""Records for tests, out of what of them matters."""

from __future__ import annotations

from typing import Any

from fixtures.core.result.record import RECORD_VERSION, Record
from fixtures.core.store.decode import decoded


def recorded(**values: Any) -> Record:
    """As a history with these values is read: what is not of its kind is left out."""
    record, _ = decoded({"record_version": RECORD_VERSION, "case": {"id": "x"}, **values}, Record)
    assert record is not None
    return record
