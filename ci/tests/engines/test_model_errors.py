"""What a model's own code raises, in one line, and what stays an error of the suite."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.measure.test_measuring import Fake
from fixtures.engines.model_errors import described, model_errors, traced
from fixtures.engines.protocol import CannotLoad, ModelFailed, OutOfMemory, RankFailed, WorkNotDone

pytest_plugins = ["pytester"]


def module(folder: Path, text: str) -> dict[str, Any]:
    """What a file of a model defines, once it has run."""
    folder.mkdir(parents=True)
    file = folder / "modeling_odd.py"
    file.write_text(text)
    made = ModuleType("modeling_odd")
    exec(compile(text, str(file), "exec"), made.__dict__)
    return made.__dict__


def raised(call: Any, *arguments: Any) -> BaseException:
    """What a call raises."""
    try:
        call(*arguments)
    except BaseException as error:
        return error
    raise AssertionError("it returned")


CODE = """
import subprocess

class Silent(Exception):
    def __str__(self):
        raise RuntimeError

def forward(what):
    raise what

def elsewhere():
    subprocess.run(["true"], input=b"", stdin=1)

"""


@pytest.mark.parametrize("folder", ["transformers/models/odd", "modules/transformers_modules/odd/hash"])
def test_the_place_is_in_the_models_own_file(tmp_path: Path, folder: str) -> None:
    """Of an architecture of the library and of one that came with a checkpoint, libraries below it or not."""
    code = module(tmp_path / folder, CODE)
    assert described(raised(code["forward"], KeyError("x"))) == "KeyError: 'x' (modeling_odd.py:9)"
    text = described(raised(code["elsewhere"]))
    assert text == "ValueError: stdin and input arguments may not both be used. (modeling_odd.py:12)"


def test_a_check_that_another_error_wraps_is_placed_where_it_was_made(tmp_path: Path) -> None:
    """A config class raises within the library's own check of it."""
    code = module(tmp_path / "transformers" / "models" / "odd", CODE)

    def wrap() -> None:
        try:
            code["forward"](ValueError("5 heads of 64"))
        except ValueError as error:
            raise TypeError("Class validation error:\n    5 heads of 64") from error

    assert described(raised(wrap)) == "TypeError: Class validation error: 5 heads of 64 (modeling_odd.py:9)"


def test_without_a_models_file_the_library_that_raised_is_named() -> None:
    """The innermost frame that is not of this suite."""
    text = described(raised(subprocess.run, ["true"], 0, None, 1, 1, 1, None, True, False, "nowhere", {1: 2}))
    assert text.startswith("TypeError: ")
    assert "(subprocess.py:" in text
    assert described(ValueError("never raised")) == "ValueError: never raised"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\n   lines\tand \x1b[31mred"), r"ValueError: two lines and \x1b[31mred"),
        (AssertionError(), "AssertionError"),
        (SystemExit(3), "SystemExit: 3"),
        (ValueError("x" * 301), "ValueError: " + "x" * 300 + " ..."),
        (ValueError("x" * 300), "ValueError: " + "x" * 300),
    ],
)
def test_a_message_is_one_line_of_a_lines_length(error: BaseException, text: str) -> None:
    """Line breaks, escape sequences, nothing at all, and very much."""
    assert described(error) == text


def test_an_error_that_cannot_say_what_it_is_has_its_type(tmp_path: Path) -> None:
    """Its class is the model's too."""
    code = module(tmp_path / "transformers_modules", CODE)
    assert described(raised(code["forward"], code["Silent"]())) == "Silent (modeling_odd.py:9)"


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), NotImplementedError(), UserWarning("w"), SystemExit("no")]
)
def test_whatever_a_model_raises_has_one_name(error: BaseException) -> None:
    """With the whole traceback as text."""
    with pytest.raises(ModelFailed) as found, model_errors():
        raise error
    assert str(found.value).startswith(type(error).__name__)
    assert "test_whatever_a_model_raises_has_one_name" in (found.value.trace or "")
    assert traced(error) == found.value.trace


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemory("no room"),
        WorkNotDone("less"),
        CannotLoad("no"),
        RankFailed("gone"),
        ModelFailed("twice"),
        MemoryError(),
        KeyboardInterrupt(),
    ],
)
def test_what_has_a_name_already_keeps_it(error: BaseException) -> None:
    """Ctrl-C and want of memory are handled as ever."""
    with pytest.raises(type(error)) as found, model_errors():
        raise error
    assert found.value is error


LINE = "fails_inside-1xcpu-hf-b2-in4-out2: KeyError: 'router' (fake_engine.py:"


@pytest.mark.parametrize(("style", "is_long"), [("auto", False), ("line", False), ("long", True)])
def test_a_model_that_fails_costs_its_case_one_line(
    project: pytest.Pytester, fake: Fake, style: str, is_long: bool
) -> None:
    """The traceback is there for who asks for it, and other cases go on, of the same model too."""
    suite = write_suite(project.path, "fails_inside", "good", batch_sizes=[2, 1], hardware=["1xcpu"])
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", suite, f"--tb={style}")
    result.assert_outcomes(passed=3, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert any(LINE in text for text in result.outlines)
    assert any("Traceback (most recent call last)" in text for text in result.outlines) == is_long
    (history,) = histories(project.path)
    assert len(history["benchmarks"]) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("starts_warm")
def test_the_line_and_the_traceback_come_from_a_process_of_the_models_own(faked: pytest.Pytester) -> None:
    """As from this one."""
    suite = write_suite(faked.path, "fails_inside", batch_sizes=[2, 1], hardware=["1xcpu"])
    arguments = ["--suite", suite, "--isolate", "--tb=long"]
    result = faked.runpytest_subprocess("benchmarks", "--benchmark-only", *arguments)
    result.assert_outcomes(passed=1, failed=1)
    assert any(LINE in text for text in result.outlines)
    assert any("Traceback (most recent call last)" in text for text in result.outlines)
