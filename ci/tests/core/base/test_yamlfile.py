"""From yaml text to values that know their place: whatever the text, a value or one line that helps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.base.errors import InputError, one_of
from fixtures.core.base.node import Node, Plain, as_node, optional
from fixtures.core.base.yamlfile import parse_value, parse_yaml, read_yaml
from fixtures.core.cost.sweep import expand
from fixtures.core.spec.case import HardwareSpec
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.spec.foundry.file import is_foundry, read_foundry
from fixtures.core.spec.library import hardware
from fixtures.core.spec.suite import read_suite

FUZZ = settings(deadline=None, derandomize=True, max_examples=150)
CPU = HardwareSpec("cpu", "cpu", memory_bytes=2**40)
MACHINES = (Machine(CPU, 1), Machine(hardware("a100_80gb"), 2))

NAMED = """\
description: names of the library
rounds: 3
warmup_rounds: 0
seed: 5
entries:
  - models: [mpt7b, llama7b]
    hardware: [1xa100_80gb, 2xgpu, 1xany]
    engines: [hf, hf_nocache]
    sweeps: [throughput]
  - models: [mpt30b]
    sweeps: [latency]
"""
INLINE = """\
models:
  - name: tiny
    parameters: 1000
    kv_values_per_token: 64
    architecture:
      model_type: mpt
      max_seq_len: 128
      attn_config: {alibi: true, clip_qkv: null}
hardware:
  - 1xany
engines:
  - name: slow
    kind: hf
    dtype: float32
sweeps:
  - name: own
    grids:
      - batch_sizes: [1, max]
        input_lengths: [16]
        output_lengths: [1, 2]
      - {batch_sizes: [2], input_lengths: [8], output_lengths: [8]}
"""
SHORT = """\
seed: 5
models: [{name: tiny, architecture: {model_type: mpt}}]
hardware: [1xany]
engines:
  - name: slow
    dtype: float32
    use_cache: false
sweeps:
  - {batch_sizes: [1], input_lengths: [16], output_lengths: [1, 2]}
"""
FOUNDRY = """\
benchmark_name: own-mpt
max_seq_len: 64
global_seed: 3
model:
  name: mpt_causal_lm
  d_model: 32
  n_heads: 2
  n_layers: 2
  expansion_ratio: 4
  max_seq_len: ${max_seq_len}
  vocab_size: 100
  no_bias: true
  attn_config:
    alibi: true
    clip_qkv: 6
tokenizer:
  name: ${model.name}
seed: ${global_seed}
device: null
model_dtype: bf16
use_deepspeed: false
num_batches: 2
batch_sizes: [1, 2]
input_lengths: [16]
output_lengths: [4]
"""
CHECKPOINT = """\
model:
  name: hf_causal_lm
  pretrained_model_name_or_path: own/checkpoint
  use_flash_attention_2: false
  config_overrides: {num_hidden_layers: 2}
autocast_dtype: bf16
batch_sizes: [1]
input_lengths: [16]
output_lengths: [4]
"""
# What yaml has and a suite has not, and what is wrong in it.
NASTY = [
    "!!python/object/apply:os.system [ls]", "!!python/name:os.system x", "!!binary aGk=", "!!binary '*'",
    "!!timestamp 2023-01-01", "!!timestamp x", "!!int ''", "!!float ''", "!!bool x", "!!null x",
    "!own {a: 1}", "!!set {a, b}", "!!omap [a: 1]", "!<tag:yaml.org,2002:int> 1", "&a [*a]", "*a", "&a 1",
    "<<: {a: 1}", "<<", "=", ".nan", "-.inf", ".inf", "1e400", "1:30", "1:30.5", "0x", "0b_", "9" * 5000,
    "0x" + "f" * 5000, "-7", "2023-01-01", "2001-12-14t21:59:43.10-05:00", "\t", "\0", "\x1b[31m", "\x85",
    "\u2028", "\ufeff", "\ud800", "'\\'", '"\\UFFFFFFFF"', '"\\ud800"', '"\\x00"', "? [a]", "? a", "1: 2",
    "null: 2", "true: 2", "1.5: 2", "{a: {b: [{c: d}]}}", "[]", "{}", "''", "~", "on", "0", "-0", "1.0",
    "1e3", "max", "[max, 1]", "[1, 1]", "[1, true]", "[[1]]", "[mpt7b]", "mpt7b", "[{name: x}]", "[{}]",
    "1xcpu", "[0xcpu, 1xany]", "99999999xgpu", "${model}", "${max_seq_len}", "${", "${}", "${a.b}",
    "${oc.env:HOME}", "x${seed}y", "[" * 400, "{a: " * 400, "---", "...", "%YAML 1.1",
    "%YAML " + "9" * 5000 + ".1", "%TAG ! x", "|", ">-", "|99", "#", ": x", "- x", "{", "]", "'", '"', "@x",
    "`x", "%x", "a b: c: d", "\u00e9\u4e2d\U0001f600", "x" * 300,
]  # fmt: skip


def fetch(asked: Node) -> dict[str, Plain]:
    """The config of whatever checkpoint."""
    return {"model_type": "llama", "num_hidden_layers": 1, "of": asked.text()}


def complaint(text: str) -> str | None:
    """What the suite says of a text; None where it takes it. Only InputError is caught."""
    try:
        root = parse_yaml(text, "s.yaml")
        suite = read_foundry("s", root, fetch) if is_foundry(root) else read_suite("s", root)
        for machine in MACHINES:
            for case in expand(suite, machine).cases:
                assert case.id
    except InputError as error:
        return str(error)
    return None


def assert_one_line(message: str | None) -> None:
    """A complaint is one printable line that begins with the name of a file."""
    if message is None:
        return
    assert message.isprintable()  # so there is no line break in it
    assert message.startswith(("s.yaml", "yamls/"))
    assert len(message.partition(": ")[2]) > 10


@pytest.mark.parametrize("text", [NAMED, INLINE, SHORT, FOUNDRY, CHECKPOINT])
def test_what_is_mutated_below_is_taken_as_it_stands(text: str) -> None:
    """Else the mutations would stop at the first line."""
    assert complaint(text) is None


@FUZZ
@given(st.text())
def test_any_text_is_a_suite_or_one_line(text: str) -> None:
    """Whatever characters."""
    assert_one_line(complaint(text))


@FUZZ
@given(st.text(alphabet="ab1:-[]{}&*!|>'\"%@`#?,= \n\t.~<${}\\x"))
def test_any_text_in_the_letters_of_yaml_is_a_suite_or_one_line(text: str) -> None:
    """Whatever syntax."""
    assert_one_line(complaint(text))


@pytest.mark.parametrize("nasty", NASTY)
def test_a_nasty_value_is_taken_or_is_one_line(nasty: str) -> None:
    """As a whole file, as a line of its own, and as the value of every key."""
    assert_one_line(complaint(nasty))
    for base in (SHORT, CHECKPOINT):
        assert_one_line(complaint(f"{base}{nasty}"))
        lines = base.splitlines()
        for index, line in enumerate(lines):
            changed = f"{line.partition(':')[0]}: {nasty}"
            assert_one_line(complaint("\n".join([*lines[:index], changed, *lines[index + 1 :]])))


LINES = st.integers(0, 30)
MUTATION = st.one_of(
    st.tuples(st.just("delete"), LINES, LINES, st.just("")),
    st.tuples(st.just("copy"), LINES, LINES, st.just("")),
    st.tuples(st.just("indent"), LINES, st.integers(0, 8), st.just("")),
    st.tuples(st.just("value"), LINES, LINES, st.sampled_from(NASTY)),
    st.tuples(st.just("insert"), LINES, LINES, st.sampled_from(NASTY)),
    st.tuples(st.just("cut"), LINES, LINES, st.just("")),
    st.tuples(st.just("value"), LINES, LINES, st.text(max_size=8)),
)


def mutated(text: str, mutations: list[tuple[str, int, int, str]]) -> str:
    """The text with some of its lines changed."""
    lines = text.splitlines()
    for what, at, other, new in mutations:
        at, other = at % len(lines), other % len(lines)
        if what == "delete":
            del lines[at]
        elif what == "copy":
            lines.insert(at, lines[other])
        elif what == "indent":
            lines[at] = " " * other + lines[at].lstrip()
        elif what == "value":
            lines[at] = f"{lines[at].partition(':')[0]}: {new}"
        elif what == "insert":
            lines.insert(at, new)
        else:
            lines[at] = lines[at][:other]
        if not lines:
            return ""
    return "\n".join(lines)


@FUZZ
@given(st.sampled_from([NAMED, INLINE, FOUNDRY, CHECKPOINT]), st.lists(MUTATION, min_size=1, max_size=5))
def test_a_broken_suite_is_a_suite_or_one_line(text: str, mutations: list[tuple[str, int, int, str]]) -> None:
    """Lines deleted, copied, cut, indented and given other values."""
    assert_one_line(complaint(mutated(text, mutations)))


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["max", "hf", "mpt7b", "1xany", "name", "${model}", "${seed}", 1, 2**63, 10**400]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "architecture", "model_type", "grids", "a", "batch_sizes"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=5,
)


@FUZZ
@given(st.sampled_from([NAMED, INLINE, FOUNDRY, CHECKPOINT]), st.data())
def test_a_suite_with_a_value_of_another_type_is_a_suite_or_one_line(text: str, data: st.DataObject) -> None:
    """Any part of the tree, replaced by any tree."""
    root: Any = [parse_yaml(text, "").plain()]
    spot, key = root, 0
    while data.draw(st.booleans(), "deeper"):
        below = spot[key]
        if not isinstance(below, dict | list) or not below:
            break
        keys = sorted(below) if isinstance(below, dict) else range(len(below))
        spot, key = below, data.draw(st.sampled_from(keys), "key")
    spot[key] = data.draw(JSON, "value")
    assert_one_line(complaint(json.dumps(root[0])))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9),
        ("-2.5E-3", -0.0025),
        (".5e1", 5.0),
        ("'1e9'", "1e9"),
        ("1e9x", "1e9x"),
        ("1.0e-5", 1e-5),
        ("12", 12),
        ("1_000", 1000),
        ("0x10", 16),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775807", 1 - 2**63),
        ("2023-01-01", "2023-01-01"),
        ("true", True),
        ("null", None),
        ("", None),
        ("'null'", "null"),
        ("[1, {b: c}]", [1, {"b": "c"}]),
        ("{}", {}),
    ],
)
def test_a_scalar_is_what_it_looks_like(text: str, value: Plain) -> None:
    """Numbers as in YAML 1.2, dates as text."""
    plain = parse_yaml(f"a: {text}", "s.yaml").plain()
    assert plain == {"a": value}
    assert isinstance(plain, dict)
    assert type(plain["a"]) is type(value)


def test_every_value_knows_its_line_and_its_dotted_key() -> None:
    """A mapping or list that of its key; the items of a list carry the list's key."""
    root = parse_yaml("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n", "s.yaml")
    a = root.mapping()["a"].mapping()
    assert (root.where, root.key) == ("s.yaml:1", "")
    assert [root.mapping()["a"].where, a["c"].where] == ["s.yaml:1", "s.yaml:3"]
    assert (a["b"].where, a["b"].key) == ("s.yaml:2", "a.b")
    first, second = a["c"].items()
    assert (first.where, first.key) == ("s.yaml:4", "a.c")
    d = second.mapping()["d"]
    assert (d.where, d.key) == ("s.yaml:5", "a.c.d")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml: is empty; write a mapping of keys to values"),
        ("# nothing", "s.yaml: is empty; write a mapping of keys to values"),
        ("a: 1\nb: 2\na: 3", "s.yaml:3: a: is set twice in this mapping"),
        ("a:\n  b: 1\n  b: 2", "s.yaml:3: a.b: is set twice in this mapping"),
        ("a: 1\n2: 3", "s.yaml:2: a key must be text"),
        ("a:\n  ? [x]\n  : 3", "s.yaml:2: a: a key must be text"),
        ("a:\n  yes: 3", "s.yaml:2: a: a key must be text"),
        ("'': 3", "s.yaml:1: a key must be text"),
        ("a: 1\n<<: 3", "s.yaml:2: << merges a mapping, or a list of mappings"),
        ("a: 1\nb: {<<: [{c: 1}, 3]}", "s.yaml:2: b: << merges a mapping, or a list of mappings"),
        (
            "a:\n  - .nan",
            "s.yaml:2: a: '.nan' is not text, a finite number of at most 64 bits, true, false or null",
        ),
        (
            "\na: 1e400",
            "s.yaml:2: a: '1e400' is not text, a finite number of at most 64 bits, true, false or null",
        ),
        (
            "a: 9223372036854775808",
            "s.yaml:1: a: '9223372036854775808' is not text, a finite number of at most 64 bits, "
            "true, false or null",
        ),
        ("\na: =", "s.yaml:2: a: '=' is not text, a finite number of at most 64 bits, true, false or null"),
        (
            "\na: " + "9" * 5000,
            f"s.yaml:2: a: '{'9' * 200}' is not text, a finite number of at most 64 bits, "
            "true, false or null",
        ),
        ("a: 1\nb: *x", "s.yaml:2: is not valid yaml: found undefined alias 'x'"),
        (
            "a: 1\nb: &x {c: [*x]}",
            "s.yaml:2: is not valid yaml: the alias *x is inside the value that it refers to",
        ),
        (
            "a: &x 9223372036854775808",
            "s.yaml:1: a: '9223372036854775808' is not text, a finite number of at "
            "most 64 bits, true, false or null",
        ),
        ("a: 1\nb: !!set {x}", "s.yaml:2: is not valid yaml: tags (!name) are not allowed"),
        ("a: !!str 1", "s.yaml:1: is not valid yaml: tags (!name) are not allowed"),
        ("a: !!python/name:str 1", "s.yaml:1: is not valid yaml: tags (!name) are not allowed"),
        (
            "a: 1\n---\nb: 1",
            "s.yaml:2: is not valid yaml: expected a single document in the stream "
            "but found another document",
        ),
        (
            "a: 1\n\tb: 1",
            "s.yaml:2: is not valid yaml: while scanning for the next token found character '\\t' "
            "that cannot start any token",
        ),
        (
            "a: [1\nb: 2",
            "s.yaml:2: is not valid yaml: while parsing a flow sequence expected ',' or ']', but got ':'",
        ),
        (
            "a\0",
            "s.yaml: is not valid yaml: unacceptable character #x0000: special characters are not allowed in "
            '"<unicode string>", position 1',
        ),
        ('a: "\\UFFFFFFFF"', "s.yaml: is not valid yaml: Python int too large to convert to C int"),
        ("a:\n " + "[" * 1000, "s.yaml:2: is not valid yaml: nested more than 50 levels deep"),
        ('"a\\nb": 1\n"a\\nb": 2', "s.yaml:2: a\\nb: is set twice in this mapping"),
        ('"\\e[31m": 1\n1: 2', "s.yaml:2: a key must be text"),
    ],
)
def test_text_that_is_no_yaml_for_a_suite_is_refused_by_file_line_and_key(text: str, message: str) -> None:
    """With what is wrong about it."""
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "s.yaml")
    assert str(caught.value) == message


def test_a_file_longer_than_any_suite_is_refused_before_it_is_parsed() -> None:
    """A million characters are too many by one."""
    assert parse_yaml("a: '" + "x" * 999_995 + "'", "s.yaml").mapping()["a"].text() == "x" * 999_995
    with pytest.raises(
        InputError, match=r"^s\.yaml: has more than 1000000 characters; a suite is a page or two$"
    ):
        parse_yaml("a: '" + "x" * 999_996 + "'", "s.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x 1\nb: *x", {"a": 1, "b": 1}),
        ("a: &x '1'\nb: [*x, *x]", {"a": "1", "b": ["1", "1"]}),
        ("a: &x [1, {c: 2}]\nb: *x", {"a": [1, {"c": 2}], "b": [1, {"c": 2}]}),
        ("a: &x {c: &y 1}\nb: {d: *x, e: *y}", {"a": {"c": 1}, "b": {"d": {"c": 1}, "e": 1}}),
        ("a: &x {c: 1, d: 2}\nb: {<<: *x, d: 3}", {"a": {"c": 1, "d": 2}, "b": {"c": 1, "d": 3}}),
        ("a: &x {c: 1, d: 2}\nb: {d: 3, <<: *x}", {"a": {"c": 1, "d": 2}, "b": {"c": 1, "d": 3}}),
        ("a: &x {c: 1}\nb: {<<: [*x, {c: 2, d: 2}]}", {"a": {"c": 1}, "b": {"c": 1, "d": 2}}),
        (
            "a: &x {c: 1}\nb: &y {<<: *x, d: 2}\ne: {<<: *y}",
            {"a": {"c": 1}, "b": {"c": 1, "d": 2}, "e": {"c": 1, "d": 2}},
        ),
        ("a: &x\nb: *x", {"a": None, "b": None}),
        ("'<<': 1", {"<<": 1}),
    ],
)
def test_an_alias_is_what_was_anchored_and_a_merge_brings_what_is_not_there(text: str, value: Plain) -> None:
    """As PyYAML, which OmegaConf reads with, has it."""
    assert parse_yaml(text, "s.yaml").plain() == value == yaml.safe_load(text)


def test_a_value_by_an_alias_has_the_line_that_it_is_used_on() -> None:
    """A single value; the parts of a mapping have the lines that they are written on."""
    root = parse_yaml("a: &x 1\nb: &y\n  c: 2\nd: [*x]\ne: *x\nf:\n  <<: *y\n", "s.yaml").mapping()
    assert [item.where for item in root["d"].items()] == ["s.yaml:4"]
    assert (root["e"].where, root["e"].key) == ("s.yaml:5", "e")
    assert (root["f"].mapping()["c"].where, root["f"].mapping()["c"].key) == ("s.yaml:3", "f.c")


LAUGHS: dict[str, tuple[str, Callable[[str], str]]] = {
    "lists": ("[x]", lambda below: f"[{', '.join([below] * 9)}]"),
    "mappings": ("{k: x}", lambda below: "{" + ", ".join(f"k{n}: {below}" for n in range(9)) + "}"),
    "merges": ("{k: x}", lambda below: "{<<: [" + ", ".join([below] * 9) + "]}"),
}


@pytest.mark.parametrize("kind", LAUGHS)
def test_a_billion_laughs_are_refused_before_they_are_laughed(kind: str) -> None:
    """Each line holds the one before it nine times: what aliases stand for is counted, and not made."""
    first, more = LAUGHS[kind]
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{level}: &a{level} {more(f'*a{level - 1}')}" for level in range(1, 30)]
    started = time.process_time()
    with pytest.raises(InputError, match=r"^s\.yaml:[45]: is not valid yaml: more than 10000 values$"):
        parse_yaml("\n".join(lines), "s.yaml")
    assert time.process_time() - started < 2


def test_aliases_within_aliases_are_as_deep_as_what_they_stand_for() -> None:
    """Fifty levels are taken and no more."""
    lines = ["a0: &a0 {k: x}", *(f"a{level}: &a{level} {{k: *a{level - 1}}}" for level in range(1, 60))]
    with pytest.raises(InputError, match=r"^s\.yaml:49: is not valid yaml: nested more than 50 levels deep$"):
        parse_yaml("\n".join(lines), "s.yaml")
    assert parse_yaml("\n".join(lines[:48]), "s.yaml").mapping()


@FUZZ
@given(
    depth=st.sampled_from((1, 2, 48, 49, 50, 51, 120)),
    pieces=st.lists(st.sampled_from((("[", "]"), ("{a: ", "}"))), min_size=120, max_size=120),
)
def test_fifty_levels_are_taken_and_no_more(depth: int, pieces: list[tuple[str, str]]) -> None:
    """Lists and mappings in any order; the value within them is a level too."""
    opening = "".join(start for start, _ in pieces[:depth])
    closing = "".join(end for _, end in reversed(pieces[:depth]))
    text = f"{opening}1{closing}"
    if depth < 50:
        assert parse_yaml(text, "s.yaml").plain()
    else:
        with pytest.raises(
            InputError, match=r"^s\.yaml:1: is not valid yaml: nested more than 50 levels deep$"
        ):
            parse_yaml(text, "s.yaml")


@pytest.mark.parametrize("text", ["- 1\n", "? a\n", "k: [1, 2]\n", "{a, "])
def test_ten_thousand_values_are_taken_and_no_more(text: str) -> None:
    """However short they are: a million characters would take a quarter of a minute."""
    taken: Any = parse_yaml("- 1\n" * 9_999, "s.yaml").value  # and the list itself
    assert len(taken) == 9_999
    with pytest.raises(InputError, match=r"^s\.yaml(:\d+)?: is not valid yaml: more than 10000 values$"):
        parse_yaml("- 1\n" * 10_000, "s.yaml")
    with pytest.raises(InputError, match=r"more than 10000 values$|levels deep$"):
        parse_yaml((text * 300_000)[:999_999], "s.yaml")


def test_a_file_of_any_size_is_read_no_further_than_its_limit(tmp_path: Path) -> None:
    """Four terabytes of nothing on the disk, and /dev/zero, which has no end."""
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(2**42)
    for path in (tmp_path / "big.yaml", Path("/dev/zero")):
        with pytest.raises(
            InputError, match=r"^s\.yaml: has more than 1000000 characters; a suite is a page or two$"
        ):
            read_yaml(path, "s.yaml")


def test_a_file_is_read_with_the_name_that_is_shown_as_the_place(tmp_path: Path) -> None:
    """Line ends of Windows and a byte order mark make no difference."""
    path = tmp_path / "s.yaml"
    path.write_bytes("\ufeffa: é\r\nb: 2\r\n".encode())
    root = read_yaml(path, "shown.yaml")
    assert root.plain() == {"a": "é", "b": 2}
    assert root.mapping()["b"].where == "shown.yaml:2"


def test_a_file_that_cannot_be_read_is_refused_by_the_name_that_is_shown(tmp_path: Path) -> None:
    """Missing, a folder, or bytes that are no text."""
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xe9")
    missing = tmp_path / "missing.yaml"
    for path, reason in (
        (missing, "no such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (latin, "cannot be read: it is not UTF-8 text"),
    ):
        with pytest.raises(InputError) as caught:
            read_yaml(path, "shown.yaml")
        assert str(caught.value) == f"shown.yaml: {reason}"


def test_all_parts_of_an_option_stand_at_the_option() -> None:
    """A line number means nothing there."""
    node = parse_value("{x: [1, {y: 2}]}", "--set", "a.b")
    x = node.mapping()["x"]
    y = x.items()[1].mapping()["y"]
    assert [(n.where, n.key) for n in (node, x, y)] == [
        ("--set", "a.b"),
        ("--set", "a.b.x"),
        ("--set", "a.b.x.y"),
    ]
    assert parse_value("", "--set", "a") == Node(None, "--set", "a")
    assert parse_value("  ", "--set", "a") == Node(None, "--set", "a")


def node(value: Plain) -> Node:
    """A value at a place."""
    return as_node(value, "s.yaml:7", "k")


@pytest.mark.parametrize(
    ("call", "value", "reason"),
    [
        (Node.mapping, [1], "must be a mapping of keys to values, and is a list"),
        (Node.mapping, None, "must be a mapping of keys to values, and is nothing"),
        (Node.items, {"a": 1}, "must be a list, and is a mapping"),
        (Node.items, [], "is an empty list; it needs at least one entry"),
        (Node.items, [1, 2, 1], "1 is in this list twice; list it once"),
        (Node.text, 1, "must be text, and is a whole number"),
        (Node.text, " ", "must be text, and is text"),
        (
            Node.name,
            "A-b",
            "'A-b' cannot be part of a case id; "
            "use lower case letters and digits, joined by single underscores, such as 'a_b'",
        ),
        (Node.integer, 1.0, "must be a whole number of at least 1, and is a number"),
        (Node.integer, True, "must be a whole number of at least 1, and is true or false"),
        (Node.integer, "1", "must be a whole number of at least 1, and is text"),
        (Node.integer, 0, "is 0; it must be at least 1"),
        (Node.number, "x", "must be a number above zero, and is text"),
        (Node.number, True, "must be a number above zero, and is true or false"),
        (Node.number, 0, "is 0; it must be a finite number above zero"),
        (Node.number, float("inf"), "is inf; it must be a finite number above zero"),
        (Node.flag, 1, "must be true or false, and is a whole number"),
        (Node.flag, None, "must be true or false, and is nothing"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_is_wanted(call: Any, value: Plain, reason: str) -> None:
    """And what is there instead."""
    with pytest.raises(InputError) as caught:
        call(node(value))
    assert str(caught.value) == f"s.yaml:7: k: {reason}"


def test_a_value_of_the_right_kind_is_given_back() -> None:
    """Numbers become floats where any number will do."""
    assert node("a_1").name() == "a_1"
    assert node(1).integer() == 1
    assert node(0).integer(least=0) == 0
    number = node(3).number()
    assert (number, type(number)) == (3.0, float)
    assert node(0.5).number() == 0.5
    assert node(False).flag() is False
    assert [item.value for item in node([1, 1.0, True, "1"]).items()] == [1, 1.0, True, "1"]
    assert node({"a": {"b": [None]}}).plain() == {"a": {"b": [None]}}


@pytest.mark.parametrize("name", ["", "_a", "a_", "a__b", "a b", "a.b", "a\n", "Ab"])
def test_a_name_that_cannot_be_part_of_an_id_is_refused(name: str) -> None:
    """The grammar of case ids."""
    with pytest.raises(InputError):
        node(name).name()


def test_unknown_and_missing_keys_are_named_with_the_nearest_known_one() -> None:
    """The line is that of the key."""
    root = parse_yaml("a: 1\nmodles: [x]\n", "s.yaml")
    with pytest.raises(InputError) as caught:
        root.mapping(("a", "models", "sweeps"))
    assert str(caught.value) == (
        "s.yaml:2: modles: unknown key; did you mean 'models'? known: a, models, sweeps"
    )
    with pytest.raises(InputError) as caught:
        root.mapping(required=("a", "models"))
    assert str(caught.value) == "s.yaml:1: the key 'models' is missing"
    assert set(root.mapping(("a", "modles"), required=("a",))) == {"a", "modles"}


def test_a_choice_is_one_of_the_known_words() -> None:
    """Anything else is told which they are."""
    assert node("cpu").choice(("gpu", "cpu")) == "cpu"
    for value, shown in (("cpo", "'cpo'"), ([1], "[1]"), (None, "None")):
        with pytest.raises(InputError) as caught:
            node(value).choice(("gpu", "cpu"))  # type: ignore[arg-type]
        assert str(caught.value).startswith(f"s.yaml:7: k: {shown} is not known; ")
        assert str(caught.value).endswith("known: cpu, gpu")


def test_one_of_guesses_only_what_is_near() -> None:
    """The known words are in alphabetical order."""
    assert one_of("mtp7b", ["mpt7b", "falcon"]) == "did you mean 'mpt7b'? known: falcon, mpt7b"
    assert one_of("x", ["b", "a"]) == "known: a, b"


def test_an_optional_entry_that_is_null_counts_as_absent() -> None:
    """False and 0 do not."""
    entries = node({"a": None, "b": 0, "c": False}).mapping()
    assert optional(entries, "a") is None
    assert optional(entries, "d") is None
    assert optional(entries, "b") == Node(0, "s.yaml:7", "k.b")
    assert optional(entries, "c") == Node(False, "s.yaml:7", "k.c")
