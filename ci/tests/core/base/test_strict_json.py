"""What is written is JSON that any reader takes; what JSON has no number for is read and kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ci.gate.output import as_json
from ci.tests.conftest import histories, write_suite
from ci.tests.fake_engine import FakeEngine
from fixtures.choose.hub_config import read_config
from fixtures.core.base.errors import InputError
from fixtures.core.base.strict_json import dumps, tagged, untagged
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, ModelSpec, Point
from fixtures.core.store.journal import line
from fixtures.core.store.slim import as_text

pytest_plugins = ["pytester"]

INF = {"__float__": "Infinity"}


def strict(text: str | bytes) -> Any:
    """Read as a browser does: a bare NaN or Infinity is an error."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_float_that_json_has_not_is_tagged_as_transformers_does() -> None:
    """All three, at any depth; everything else is as `json` writes it."""
    assert tagged([math.inf, (-math.inf,), {"a": math.nan, "b": 1.5, "c": None, "d": True, "e": "NaN"}]) == [
        {"__float__": "Infinity"},
        [{"__float__": "-Infinity"}],
        {"a": {"__float__": "NaN"}, "b": 1.5, "c": None, "d": True, "e": "NaN"},
    ]
    assert dumps({"b": 1.5, "a": [1, "é"]}, indent=1) == json.dumps({"b": 1.5, "a": [1, "é"]}, indent=1)
    assert strict(dumps({"b": [math.inf]})) == {"b": [INF]}


def test_a_tag_is_read_back_and_what_only_looks_like_one_is_left() -> None:
    """Infinities and NaN by their names; another name, another key beside it, or no name at all stay."""
    back = untagged({"a": [0.0, INF, {"__float__": "-Infinity"}]})
    assert back == {"a": [0.0, math.inf, -math.inf]}
    assert math.isnan(untagged({"__float__": "NaN"}))
    for left in ({"__float__": "huge"}, {**INF, "b": 1}, {"__float__": 1}, {"__float__": ["NaN"]}, {}):
        assert untagged(left) == left


def test_tags_are_those_of_the_installed_transformers() -> None:
    """Its own reader makes the same of what is written here."""
    from transformers import PreTrainedConfig

    values = {"a": [0.0, math.inf, {"b": -math.inf}]}
    assert PreTrainedConfig._decode_special_floats(tagged(values)) == values
    assert PreTrainedConfig._encode_special_floats(values) == tagged(values)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [0.0, {"__float__": "Infinity"}]}',
        '{"a": [0.0, Infinity]}',
        '\ufeff{"a": [0.0, Infinity]}',
        '{"a": 1,\r\n "a": [0.0, 1e999]}\r\n',
    ],
)
def test_a_config_is_read_however_it_was_saved(tmp_path: Path, text: str) -> None:
    """Tagged as transformers 5 saves it, bare as earlier ones do, from an editor of another system."""
    (tmp_path / "config.json").write_bytes(text.encode())
    assert read_config(str(tmp_path)) == {"a": [0.0, INF]}


@pytest.mark.parametrize(
    "content",
    [b'{"a": infinity}', b'{"a": 1,}', b"[1]", b"\xef\xbb\xbf", b'{"a": "\x80"}'],
    ids=["word", "comma", "list", "nothing", "bytes"],
)
def test_what_is_no_config_is_one_line(tmp_path: Path, content: bytes) -> None:
    """As before: no JSON, no mapping, nothing, no UTF-8."""
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"its config.json (cannot be read|is not a mapping)"):
        read_config(str(tmp_path))


def test_a_record_has_the_architecture_in_strict_json() -> None:
    """Of the number itself, and of its tag: the same record."""
    hardware, point = HardwareSpec("cpu", "cpu"), Point(1, 2, 3)
    for value in (math.inf, INF):
        model = ModelSpec("m", {"model_type": "mamba2", "time_step_limit": [0.0, value]})  # type: ignore[list-item]
        case = Case(model, hardware, 1, EngineSpec("hf"), point)
        assert case.as_dict()["model"]["architecture"]["time_step_limit"] == [0.0, INF]


def test_a_config_is_built_with_the_number() -> None:
    """The library's own class refuses the tag."""
    from fixtures.engines.build import make_config

    config = make_config({"model_type": "mamba2", "time_step_limit": [0.0, INF]}, "auto", None)
    assert list(config.time_step_limit) == [0.0, math.inf]


def test_files_are_strict_json() -> None:
    """A journal's line, an accepted history, the gate's verdicts."""
    assert strict(line({"a": math.inf})) == {"a": INF}
    assert strict(as_text({"benchmarks": [{"a": math.nan}], "b": -math.inf}))["b"] == {
        "__float__": "-Infinity"
    }
    assert strict(as_json([]))["exit_code"] is not None


def test_a_history_is_strict_json_in_each_of_its_places(
    project: pytest.Pytester, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage, --benchmark-json and the journal, also with a number that an engine has made up."""
    monkeypatch.setattr(FakeEngine, "load", lambda self, case, seed, load=FakeEngine.load: {
        **load(self, case, seed), "operators": {"odd": math.nan},
    })  # fmt: skip
    suite = write_suite(project.path, "tiny")
    text = (
        (project.path / suite)
        .read_text()
        .replace('"mamba"', '"mamba2", "time_step_limit": [0.0, ' + json.dumps(INF) + "]")
    )
    (project.path / suite).write_text(text)
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", suite, "--benchmark-json=a.json")
    assert result.ret == 0
    files = [project.path / "a.json", *project.path.glob(".benchmarks/*/*.json")]
    lines = [
        line for file in project.path.glob(".benchmarks/journal/*") for line in file.read_text().splitlines()
    ]
    assert len(files) == 2
    assert len(lines) >= 2
    records = [strict(file.read_text())["benchmarks"][0]["extra_info"] for file in files]
    list(map(strict, lines))
    assert histories(project.path)
    for record in records:
        assert record["case"]["model"]["architecture"]["time_step_limit"] == [0.0, INF]
        assert record["operators"]["odd"] == {"__float__": "NaN"}
