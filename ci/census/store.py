"""Stores the findings of the census by type and engine, with versions; each write is atomic."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fixtures.core.base.files import write_whole
from fixtures.core.spec.splitting import release

FILE = Path(__file__).with_name("census.json")
ENGINES = ("hf", "deepspeed", "hf_tp")
PACKAGES = ("transformers", "torch", "deepspeed")
# the libraries that a split depends on
_OF = {"hf_tp": ("transformers", "torch"), "deepspeed": ("transformers", "deepspeed")}

NOT_RUN = "hf does not run it"

Findings = dict[str, dict[str, dict[str, Any]]]  # type -> engine -> finding


def installed() -> dict[str, str | None]:
    """The installed versions of the libraries that the census tries."""
    return {name: release(name) for name in PACKAGES}


class Census:
    """The findings of a file, and their versions."""

    def __init__(self, file: Path = FILE) -> None:
        self._file = file
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.versions: dict[str, str | None] = content.get("versions", {})
        self.date: str = content.get("date", "")
        self.types: Findings = content.get("types", {})
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start with the installed versions; drop findings of other versions."""
        if self.versions != installed():
            self.versions, self.types = installed(), {}

    def has(self, model_type: str, engine: str) -> bool:
        """Whether this type has been tried with this engine."""
        return engine in self.types.get(model_type, {})

    def runs(self, model_type: str) -> bool:
        """Whether hf measured the type, as it is or as a decoder; True if not tried."""
        hf = self.types.get(model_type, {}).get("hf")
        return hf is None or "measured" in (hf["outcome"], hf.get("as_decoder"))

    def note(self, model_type: str, engine: str, finding: dict[str, Any]) -> None:
        """Store a finding; it is on the disk when this returns."""
        with self._lock:
            self.types.setdefault(model_type, {})[engine] = finding
            self.date = datetime.now(UTC).date().isoformat()
            self._write()

    def keep(self, model_types: Sequence[str]) -> None:
        """Drop the findings of all other types."""
        self.types = {name: self.types[name] for name in model_types if name in self.types}

    def _write(self) -> None:
        types = {name: self.types[name] for name in sorted(self.types)}
        content = {"date": self.date, "versions": self.versions, "types": types}
        write_whole(self._file, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def splits(census: Census) -> str:
    """The text of yamls/splits.json: the types that each engine splits, and why it cannot split others."""
    content = {engine: _of(census, engine) for engine in ENGINES[1:]}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _of(census: Census, engine: str) -> dict[str, Any]:
    findings: Mapping[str, Mapping[str, Any]] = {
        name: of_type[engine] for name, of_type in sorted(census.types.items()) if engine in of_type
    }
    return {
        "versions": {package: census.versions.get(package) for package in _OF[engine]},
        "works": [name for name, finding in findings.items() if finding["outcome"] == "works"],
        "cannot": {
            name: finding["reason"] for name, finding in findings.items() if finding["outcome"] == "cannot"
        },
    }
