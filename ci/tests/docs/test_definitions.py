"""The table of definitions, out of docstrings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ci.docs.definitions import PART, table
from fixtures.core.fields import defined, definition
from fixtures.core.result import metrics


def speed(distance_m: float) -> float:
    """Metres of one second,
    told in two lines.

    Formula: distance / 1 s
    Unit: m/s
    Undefined: never
    Source: school
    """
    return distance_m


def test_a_row_is_a_docstring() -> None:
    """The first paragraph in one line, then the four fields."""
    assert table({"speed": speed}).splitlines()[2:] == [
        "| speed | Metres of one second, told in two lines. | distance / 1 s | m/s | never | school |"
    ]


def test_a_metric_without_a_field_is_refused() -> None:
    """By its name and the field's."""

    def bare() -> None:
        """Says nothing else."""

    with pytest.raises(ValueError, match=r"bare has no line 'Formula: \.\.\.'"):
        definition(bare)


def test_every_function_of_the_metrics_is_in_the_table() -> None:
    """None is defined on the side."""
    own = [one for one in vars(metrics).values() if getattr(one, "__module__", "") == metrics.__name__]
    assert set(defined().values()) == set(own)


def test_the_file_is_written_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check tells of a table that is not current with exit code 1, and writing it makes it current."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{PART.begin}\nold\n{PART.end}\nafter\n")
    main = partial(replace(PART, readme=readme).write_or_check, table)
    assert main(["--check"]) == 1
    assert "not current" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{PART.end}\nafter\n")
    assert "| TTFT |" in text
    assert "old" not in text
    assert main(["--what"]) == 2


def test_a_file_without_marks_is_refused() -> None:
    """Rather than written at its end."""
    with pytest.raises(ValueError, match="has no lines"):
        PART.within("nothing here", "text")
