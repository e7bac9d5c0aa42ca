"""The figures in README are those that the stored histories give now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ci.docs import readme
from ci.tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_figure_in_readme_is_what_the_command_makes_of_the_stored_histories() -> None:
    """Byte for byte, no other file beside them, none above 60 kB; each has a text for who cannot see it."""
    pytest.importorskip("vl_convert")
    names = readme.shown(README)
    assert len(names) >= 2
    assert {file.name for file in readme.FOLDER.iterdir()} == {f"{name}.svg" for name in names}
    for name, text in readme.drawn(names).items():
        assert (readme.FOLDER / f"{name}.svg").read_bytes() == text.encode(), name
        assert len(text) < 60_000
        assert re.search(rf"!\[[^\]]{{30,}}\]\(ci/docs/figures/{name}\.svg\)", README)


def test_the_check_tells_of_a_figure_that_is_not_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the command that mends it, which writes it; any other argument is refused."""
    monkeypatch.setattr(readme, "FOLDER", tmp_path / "figures")
    monkeypatch.setattr(readme, "drawn", lambda names: {name: f"<svg>{name}</svg>" for name in names})
    assert readme.main(["--check"]) == 1
    assert "run python -m ci.docs.readme" in capsys.readouterr().err
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0
    (tmp_path / "figures" / "other.svg").write_text("")
    assert readme.main(["--check"]) == 1
    assert readme.main(["x"]) == 2
