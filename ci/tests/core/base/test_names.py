"""Names for ids: what a folder is called stays its name, in any script, and can be asked for by -k."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ci.tests.fake_engine import FakeEngine
from fixtures.core.base.names import ascii_slug, is_name, slug

pytest_plugins = ["pytester"]

FUZZ = settings(deadline=None, derandomize=True, max_examples=200)
NAME = "模型_7" + "\N{CYRILLIC SMALL LETTER BE}"

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 256,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "meta_llama_llama_3_1_8b"),
        ("  A--b__c  ", "a_b_c"),
        ("模型-7Б", NAME),
        ("Qwen/通义", "qwen_通义"),
        ("naïve", "naïve"),
        ("nai\u0308ve", "naïve"),  # as macOS writes it
        ("ПРОЕКТ 2", "проект_2"),
        ("Straße", "straße"),
        ("İstanbul", "istanbul"),
        ("I\u0307stanbul", "istanbul"),
        ("IĞDIR", "iğdir"),
        ("نموذج", "نموذج"),
        ("דגם", "דגם"),
        ("モデル", "モデル"),
        ("모델", "모델"),
        ("\N{FULLWIDTH DIGIT TWO}", "\N{FULLWIDTH DIGIT TWO}"),
        ("model🤖", "model"),
        ("🤖", "robot_face"),
        ("❤️‍🔥", "heavy_black_heart_variation_selector_16_zero_width_joiner_fire"),
        ("…", "horizontal_ellipsis"),
        ("---", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_a_name_keeps_letters_and_digits(text: str, name: str) -> None:
    """And joins them by single underscores; what has none is called as its characters are."""
    assert slug(text) == name
    assert is_name(name)


def test_names_that_differ_in_vowels_differ() -> None:
    """Marks are not what -k takes: a hash stands for them."""
    hindi = ["हिन्दी", "हन्द", "हिन्दि"]
    names = [slug(one) for one in hindi]
    assert len(set(names)) == 3
    assert all(re.fullmatch("हनद_[0-9a-f]{6}", name) for name in names)
    assert slug(unicodedata.normalize("NFD", hindi[0])) == names[0]


@FUZZ
@given(st.text())
@example("ᄀ\u0307ᅡ")
@example("\u1e9e\u0130")
def test_any_text_gives_a_name_that_is_part_of_an_id(text: str) -> None:
    """It stays what it is when it is made again, -k takes it, and a file can be called so."""
    name = slug(text)
    assert slug(name) == name
    assert name.isprintable()
    assert len(name.encode()) <= 255
    assert "-" not in name  # which parts the fields of an id
    assert Expression.compile(f"model_{name}").evaluate(lambda word, /, **_: word == f"model_{name}")


@FUZZ
@given(st.text(st.characters(max_codepoint=127)))
def test_ids_of_ascii_names_stay_what_they_were(text: str) -> None:
    """Baselines are known by them."""
    assert slug(text) == ascii_slug(text) == (re.sub("[^a-z0-9]+", "_", text.lower()).strip("_") or "unnamed")


@pytest.mark.parametrize("letter", ["a", "模", "é"])
def test_a_long_name_is_cut_and_told_from_others(letter: str) -> None:
    """By bytes, as a file's is; what fits stays."""
    fits = letter * (255 // len(letter.encode()))
    assert slug(fits) == fits
    one, other = slug(fits + letter), slug(fits + 2 * letter)
    assert one != other
    assert one.startswith(letter * 50)
    assert len(one.encode()) <= 255


@pytest.mark.parametrize("name", ["Big", "a-b", "a__b", "_a", "a b", "", "模型-7", "e\u0301", "हिन्दी", "🤖"])
def test_what_is_no_name_as_it_stands(name: str) -> None:
    """A suite has to write it as its ids have it."""
    assert not is_name(name)


def test_a_checkpoint_in_another_script_is_measured_under_its_name(
    project: pytest.Pytester, fake: type[FakeEngine]
) -> None:
    """Its id is the same on the screen, in the history and for -k, and a run of it is resumed."""
    folder: Path = project.path / "模型-7Б"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    asked = ("benchmarks", "--model", str(folder), "--set", "batch_sizes=[1]", "--rounds", "2")
    listed = project.runpytest(*asked, "--collect-only", "-q", "-k", "模型 and 1xcpu").stdout.str()
    ids = re.findall(r"\[(.*?)\]", listed)
    assert ids
    assert {one.partition("-")[0] for one in ids} == {NAME}
    of_others = project.runpytest(*asked, "--collect-only", "-q", "-k", "模型8")
    assert of_others.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    measured = (*asked, "--benchmark-only", "-k", f"{NAME} and 1xcpu and hf-b")
    ran = project.runpytest(*measured, "--benchmark-json=out.json")
    assert ran.ret == 0, ran.stdout.str()
    benchmarks = json.loads((project.path / "out.json").read_text())["benchmarks"]
    for bench in benchmarks:
        case_id = bench["extra_info"]["case"]["id"]
        assert (bench["param"], bench["name"]) == (case_id, f"test_generate[{case_id}]")
        assert case_id.startswith(f"{NAME}-1xcpu-hf-b1-")
    by_id = project.runpytest(benchmarks[0]["fullname"], "--model", str(folder), "--collect-only", "-q",
                              "--set", "batch_sizes=[1]")  # fmt: skip
    assert by_id.stdout.str().count("::") == 1
    journal = next((project.path / ".benchmarks" / "journal").glob("*.jsonl"))
    again = project.runpytest(*measured, f"--resume-from={journal}").stdout.str()
    assert f"{len(benchmarks)} of {len(benchmarks)} cases are in it" in again
