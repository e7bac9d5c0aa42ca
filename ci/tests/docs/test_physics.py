"""The tables of ci/physics/README.md, out of yamls/physics."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from ci.docs.physics import PART, README, tables
from fixtures.core.estimate.physics import FOLDER


def test_the_readme_has_the_tables_of_now() -> None:
    """As `python -m ci.docs.physics` writes them."""
    assert PART.write_or_check(tables, ["--check"]) == 0


def test_a_table_says_what_a_file_has() -> None:
    """By hand, of the row of a machine left out and of a parameter."""
    kept = yaml.safe_load((FOLDER / "deepspeed_gpu.yaml").read_text())
    row = kept["errors"]["left_out"]["hardware"]
    today, formula = (
        " / ".join(f"{100 * row[whose][key]:.1f}" for key in ("median", "p90", "worst"))
        for whose in ("today", "physics")
    )
    assert f"| one machine | 6 | {today} | {formula} |" in tables()
    assert f"| `tau_s` | {kept['parameters']['tau_s']['value']:.3g} | " in tables()


def test_a_table_that_is_old_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 until it is written; 2 for other arguments; marks are needed."""
    readme = tmp_path / "README.md"
    readme.write_text(f"a\n{PART.begin}\nold\n{PART.end}\nb\n")
    main = partial(replace(PART, readme=readme).write_or_check, tables)
    assert main(["--check"]) == 1
    assert "run python -m ci.docs.physics" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert readme.read_text().startswith("a\n")
    assert main(["--chek"]) == 2
    with pytest.raises(ValueError, match="has no lines"):
        PART.within("nothing", "text")
    assert README.is_file()
