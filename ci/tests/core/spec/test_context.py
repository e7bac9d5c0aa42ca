"""The context of an architecture, from wherever its config has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ci.tests.core.base.test_bad_input import ends_with_one_line
from ci.tests.fake_engine import FakeEngine
from fixtures.core.spec.arch.context import context_len
from fixtures.core.spec.arch.source import causal_class, config_class, model_types
from fixtures.core.spec.case import ModelSpec

pytest_plugins = ["pytester"]

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
DEEPSEEK = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}
LINEAR = {"type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("kind", "keys", "tokens"),
    [
        ("llama", {"max_position_embeddings": 128}, 128),
        ("opt", {"max_position_embeddings": 128}, 128),
        ("gpt2", {"n_positions": 7, "n_ctx": 5}, 7),
        ("gpt2", {"max_position_embeddings": 7}, 7),
        ("gpt-sw3", {"n_positions": 7}, 7),
        ("dbrx", {"max_seq_len": 9}, 9),
        ("mpt", {"max_seq_len": 4096}, 4096),
        ("kimi_linear", {"model_max_length": 9}, 9),
        ("whisper", {"max_target_positions": 12, "max_source_positions": 1500}, 12),
        ("cohere", {"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ("mistral", {"max_position_embeddings": 32, "sliding_window": 8}, 32),
    ],
)
def test_a_type_calls_it_by_its_own_name(kind: str, keys: dict[str, Any], tokens: int) -> None:
    """As the library's config class does; a sliding window is no limit."""
    assert context_len({"model_type": kind, **keys}) == tokens


@pytest.mark.parametrize(
    "architecture",
    [
        {"model_type": "gemma3", "text_config": {"max_position_embeddings": 8}},
        {
            "model_type": "gemma3",
            "max_position_embeddings": 99,
            "text_config": {"max_position_embeddings": 8},
        },
        {"model_type": "llama4", "text_config": {"max_position_embeddings": 8}},
        {"model_type": "qwen3_5", "text_config": {"max_position_embeddings": 8}},
        {"model_type": "fuyu", "text_config": {"model_type": "persimmon", "max_position_embeddings": 8}},
        {"model_type": "fuyu", "max_position_embeddings": 8},
        {"model_type": "got_ocr2", "text_config": {"max_position_embeddings": 8}},
        {"model_type": "musicgen", "decoder": {"max_position_embeddings": 8}},
        {"model_type": "own", "llm_config": {"max_position_embeddings": 8}},
        {"model_type": "own", "language_config": {"n_positions": 8}, "max_position_embeddings": 99},
        {"model_type": "own", "thinker_config": {"text_config": {"seq_length": 8}}},
        {"model_type": "own", "decoder": {"max_target_positions": 8}},
        {"model_type": "own", "max_seq_length": 8},
        {"n_ctx": 8},
    ],
)
def test_it_is_that_of_the_part_for_language(architecture: dict[str, Any]) -> None:
    """Wherever that stands, in a type of transformers or one of its own code."""
    assert context_len(architecture) == 8


@pytest.mark.parametrize(
    ("kind", "keys", "tokens"),
    [
        ("qwen2", {"max_position_embeddings": 32768, "rope_scaling": YARN}, 131072),
        ("qwen2", {"max_position_embeddings": 131072, "rope_scaling": YARN}, 131072),
        ("qwen2", {"max_position_embeddings": 262144, "rope_parameters": YARN}, 262144),
        ("qwen2", {"max_position_embeddings": 100, "rope_scaling": {"type": "yarn", "factor": 2}}, 200),
        ("llama", {"max_position_embeddings": 4096, "rope_scaling": LINEAR}, 16384),
        ("llama", {"max_position_embeddings": 4096, "rope_parameters": {**LINEAR, "rope_theta": 1e4}}, 16384),
        ("llama", {"max_position_embeddings": 100, "rope_scaling": {"type": "dynamic", "factor": 1.5}}, 150),
        ("llama", {"max_position_embeddings": 131072, "rope_scaling": LLAMA3}, 131072),
        ("llama", {"max_position_embeddings": 100, "rope_scaling": None}, 100),
        ("llama", {"max_position_embeddings": 100, "rope_scaling": {"type": "linear", "factor": "4"}}, 100),
        ("llama", {"max_position_embeddings": 100, "rope_scaling": {"factor": 4.0}}, 100),
        ("llama", {"max_position_embeddings": 100, "rope_scaling": "linear"}, 100),
        ("gemma3_text", {"max_position_embeddings": 131072, "rope_scaling": LINEAR}, 131072),
        ("gemma3_text", {"max_position_embeddings": 100, "rope_parameters": {"full_attention": LINEAR}}, 100),
        ("phi3", {"max_position_embeddings": 100, "rope_scaling": {"type": "longrope", "factor": 4.0}}, 100),
        ("phi3", {"max_position_embeddings": 100, "original_max_position_embeddings": 50}, 100),
        ("deepseek_v3", {"max_position_embeddings": 163840, "rope_scaling": DEEPSEEK}, 163840),
        ("own", {"max_position_embeddings": 32768, "rope_scaling": YARN}, 131072),
    ],
)
def test_scaled_rotary_positions_reach_further(kind: str, keys: dict[str, Any], tokens: int) -> None:
    """Qwen2.5's README: 32,768 and YaRN by 4 are 131,072; Llama 3.1 and DeepSeek-V3 state the longer one."""
    assert context_len({"model_type": kind, **keys}) == tokens
    if kind in ("llama", "qwen2"):
        text = {key: value for key, value in keys.items() if value is not None}
        assert context_len({"model_type": "llava", "text_config": {"model_type": kind, **text}}) == tokens


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [("gpt2", 1024), ("opt", 2048), ("biogpt", 1024), ("mpt", 2048), ("gptj", 2048), ("bert", 512)],
)
def test_a_table_of_positions_has_a_size_though_a_config_does_not_say_it(kind: str, tokens: int) -> None:
    """The defaults of their papers' models: one position more is no row of the table."""
    assert context_len({"model_type": kind}) == tokens


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("bloom", {"seq_length": 2048}),
        ("mamba", {"max_position_embeddings": 8}),
        ("mamba2", {}),
        ("rwkv", {"context_length": 1024}),
        ("recurrent_gemma", {}),
        ("xlnet", {}),
        ("llama", {}),
        ("jamba", {}),
        ("nemotron_h", {}),
        ("own", {}),
        ("own", {"max_position_embeddings": -1}),
        ("gemma3", {"text_config": {}}),
    ],
)
def test_what_nothing_limits_has_no_context(kind: str, keys: dict[str, Any]) -> None:
    """ALiBi made as it is needed, a state, rotary positions of which nobody says how far they go."""
    assert context_len({"model_type": kind, **keys}) is None


def test_code_of_its_own_is_not_read_as_the_librarys() -> None:
    """A type of the same name may call it otherwise; the usual names are all that is known of it."""
    architecture: dict[str, Any] = {"model_type": "bloom", "seq_length": 64}
    assert ModelSpec("m", architecture).context_len is None
    assert ModelSpec("m", architecture, remote_code="folder").context_len == 64


@pytest.mark.parametrize("kind", sorted(kind for kind in model_types() if causal_class(kind)))
def test_every_causal_type_is_read(kind: str) -> None:
    """A config of each, no model built: none fails, and what it is given under the class's name is found."""
    declared = config_class(kind)
    assert declared is not None
    name = declared.aliases.get("max_position_embeddings", "max_position_embeddings")
    given: dict[str, Any] = {"model_type": kind, name: 48, "max_seq_len": 48, "max_target_positions": 48}
    parts: dict[str, Any] = {part: {**given, "model_type": of} for part, of in declared.parts.items() if of}
    assert context_len({**given, **parts}) in (48, None)
    if name in declared.defaults and name != "context_length":
        assert context_len({**given, **parts}) == 48


@pytest.mark.parametrize("way", ["model", "suite", "foundry"])
def test_a_case_over_it_is_refused_where_the_lengths_stand(
    project: pytest.Pytester, fake: type[FakeEngine], way: str
) -> None:
    """Before anything loads, by --model, a suite or a file of llm-foundry."""
    architecture = {"model_type": "gemma3", "text_config": {"max_position_embeddings": 8}}
    project.mkdir("it").joinpath("config.json").write_text(json.dumps(architecture))
    lengths = {"batch_sizes": [1], "input_lengths": [6], "output_lengths": [3]}
    of_foundry = {"name": "hf_causal_lm", "pretrained_model_name_or_path": str(project.path / "it")}
    models = [{"name": "it", "architecture": architecture}]
    suite = {"model": of_foundry, **lengths} if way == "foundry" else {"models": models, "sweeps": [lengths]}
    (project.path / "mine.yaml").write_text(json.dumps(suite))
    asked = ["--model", "it"] if way == "model" else []
    line = ends_with_one_line(project, "--suite", "mine.yaml", *asked)
    assert line.startswith("ERROR: mine.yaml:1: ")
    by = ", by --model it: text_config.max_position_embeddings" if way == "model" else ""
    assert line.endswith(f"is 9 tokens, over the context of it (8{by}); shorten the lengths")


@pytest.mark.slow
def test_it_is_what_transformers_own_config_says() -> None:
    """Of every causal type: the number in the built config, under transformers' own name of it."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    for kind in (kind for kind in model_types() if causal_class(kind)):
        try:
            config = AutoConfig.for_model(kind)
        except StrictDataclassError:  # one cannot be built from its own defaults
            continue
        text = config.get_text_config(decoder=True)
        declared = config_class(kind)
        name = (declared.aliases if declared else {}).get(
            "max_position_embeddings", "max_position_embeddings"
        )
        default = context_len({"model_type": kind})
        if default is not None and kind not in ("mpt", "whisper"):
            assert default == getattr(text, name), kind
