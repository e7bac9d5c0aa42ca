"""Which configs are causal language models, held to transformers' own mappings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import ROOT
from ci.tests.core.base.test_bad_input import ends_with_one_line
from ci.tests.fake_engine import FakeEngine
from fixtures.choose.hub_config import read_config
from fixtures.core.base.errors import InputError
from fixtures.core.spec.arch.causal import check_causal, text_part
from fixtures.core.spec.arch.source import causal_class, config_class, model_types

pytest_plugins = ["pytester"]


def refusal(config: dict[str, Any], trusted: bool = False) -> str:
    """What is said of a config that is refused."""
    with pytest.raises(InputError) as caught:
        check_causal(config, trusted)
    return str(caught.value)


def test_the_types_are_those_of_the_installed_transformers() -> None:
    """Each with the config class and the causal language model that the library's own tables name."""
    from transformers.models.auto import configuration_auto, modeling_auto

    configs: dict[str, str] = vars(configuration_auto)["CONFIG_MAPPING_NAMES"]
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    assert model_types() == dict(configs)
    assert {name: causal_class(name) for name in causal} == dict(causal)
    shared = {configs[name] for name in causal}
    assert {name for name in configs if causal_class(name)} == {n for n in configs if configs[n] in shared}


@pytest.mark.slow
def test_config_classes_declare_what_they_have() -> None:
    """Of every causal type: the switch, the other names of the context, and the parts, by their classes."""
    import transformers  # noqa: F401
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for name in (name for name in model_types() if causal_class(name)):
        real, ours = CONFIG_MAPPING[name], config_class(name)
        assert ours is not None, name
        assert ours.aliases == real.attribute_map, name
        assert set(ours.parts) == set(real.sub_configs), name
        assert ("is_decoder" in ours.defaults) == hasattr(real, "is_decoder"), name
        assert ours.defaults.get("is_decoder") == getattr(real, "is_decoder", None), name


def test_reading_the_types_imports_nothing() -> None:
    """Neither torch nor transformers, in a process of its own."""
    program = (
        "import sys\n"
        "from fixtures.core.spec.arch.causal import check_causal\n"
        "check_causal({'model_type': 'llama4', 'vision_config': {}})\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("gemma3_text", "Gemma3ForCausalLM"),
        ("openai-gpt", "OpenAIGPTLMHeadModel"),
        ("gpt-sw3", "GPT2LMHeadModel"),
        ("modernbert-decoder", "ModernBertDecoderForCausalLM"),
        ("xglm", "XGLMForCausalLM"),
        ("llama", "LlamaForCausalLM"),
        ("gemma3", "Gemma3ForConditionalGeneration"),
        ("t5", None),
        ("vit", None),
        ("auto", None),
        ("openai", None),
    ],
)
def test_a_type_has_the_model_of_transformers(kind: str, model: str | None) -> None:
    """By the library's mapping: names of folders (openai, auto) are not types."""
    assert causal_class(kind) == model


@pytest.mark.parametrize("kind", ["llama", "mistral", "mpt", "falcon", "gpt_neox", "gptj", "bloom", "opt"])
def test_a_causal_language_model_is_taken_as_it_is(kind: str) -> None:
    """With its own head, under any spelling that a checkpoint's own code gives it, or none."""
    assert check_causal({"model_type": kind}) == ()
    own: dict[str, Any] = {"model_type": kind, "architectures": [causal_class(kind)]}
    assert check_causal(own) == ()
    assert check_causal({**own, "architectures": ["MPTForCausalLM"], "auto_map": {}}) == ()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "t5"}, "t5 is not a causal language model"),
        ({"model_type": "vit"}, "vit is not a causal language model"),
        ({"model_type": "clip", "text_config": {}}, "clip is not a causal language model"),
        ({"model_type": "distilbert"}, "distilbert is not a causal language model"),
        (
            {"model_type": "llava", "text_config": {"model_type": "mistral"}},
            "llava is not a causal language model; its text_config is one, of type mistral: "
            "use that alone as config.json",
        ),
        ({}, "its config.json has no model_type"),
        ({"model_type": None}, "its config.json has no model_type"),
        (
            {"architectures": ["LlamaForCausalLM"]},
            "its config.json has no model_type; LlamaForCausalLM is of the type llama: "
            'add "model_type": "llama"',
        ),
        (
            {"model_type": "lama"},
            "transformers has no model_type 'lama'; did you mean 'llama'? another version",
        ),
        ({"model_type": "auto"}, "transformers has no model_type 'auto'"),
        (
            {"model_type": "chatglm", "auto_map": {"AutoModelForCausalLM": "modeling.X"}},
            "transformers has no model_type 'chatglm'; it needs its own code; add --trust-remote-",
        ),
        (
            {"model_type": "t5", "auto_map": {"AutoModelForCausalLM": "modeling.X"}},
            "t5 is not a causal language model; it needs its own code; add --trust-remote-code",
        ),
    ],
)
def test_what_is_no_causal_language_model_is_refused(config: dict[str, Any], expected: str) -> None:
    """With what would be right, where something would."""
    assert refusal(config).startswith(expected)


def test_code_that_is_trusted_is_not_judged_here() -> None:
    """But it has to have a causal language model."""
    own: dict[str, Any] = {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling.X"}}
    assert check_causal(own, trusted=True) == ()
    other: dict[str, Any] = {"model_type": "own", "auto_map": {"AutoModel": "modeling.X"}}
    assert "has no AutoModelForCausalLM" in refusal(other, trusted=True)


# Those whose causal class warns or asserts that it wants `is_decoder=True`: read in their sources.
ENCODERS = """bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert reformer
rembert roberta roberta-prelayernorm roc_bert roformer xlm-roberta xlm-roberta-xl xmod"""
BOTH = """bart bigbird_pegasus blenderbot blenderbot-small marian mbart mvp pegasus plbart prophetnet
whisper"""


@pytest.mark.parametrize("kind", ENCODERS.split())
def test_an_encoder_is_measured_only_as_a_decoder(kind: str) -> None:
    """As its config says; what it is by default attends in both directions."""
    assert refusal({"model_type": kind}).startswith(f"{kind} is not a causal language model but an encoder;")
    assert check_causal({"model_type": kind, "is_decoder": True}) == ()


@pytest.mark.parametrize("kind", BOTH.split())
def test_a_decoder_that_needs_an_encoder_is_measured_only_alone(kind: str) -> None:
    """Where its config says that it is; `transformers` saves such decoders so."""
    assert "an encoder and a decoder" in refusal({"model_type": kind})
    assert "an encoder and a decoder" in refusal({"model_type": kind, "is_encoder_decoder": True})
    assert check_causal({"model_type": kind, "is_encoder_decoder": False}) == ()


@pytest.mark.parametrize("kind", ["musicgen", "musicgen_melody"])
def test_a_decoder_that_cannot_be_built_alone_is_refused(kind: str) -> None:
    """Of a config with an encoder's and a decoder's own, whatever it says: its class sets the switch."""
    for said in ({}, {"is_encoder_decoder": False}):
        assert refusal({"model_type": kind, **said}).endswith("but an encoder and a decoder")


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt_neox_japanese", "trocr", "biogpt", "xglm"])
def test_a_switch_that_nothing_reads_refuses_nothing(kind: str) -> None:
    """These have `is_decoder` false, or may say so, and are causal all the same."""
    assert check_causal({"model_type": kind, "is_decoder": False}) == ()


@pytest.mark.parametrize(
    ("config", "switch"),
    [
        ({"model_type": "xlm"}, '"causal": true'),
        ({"model_type": "xlnet"}, '"attn_type": "uni"'),
        ({"model_type": "llama", "is_causal": False}, '"is_causal": true'),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, '_attention": false'),
        (
            {"model_type": "gemma3", "text_config": {"use_bidirectional_attention": True}},
            '_attention": false',
        ),
        ({"model_type": "gemma4_text", "use_bidirectional_attention": "all"}, '_attention": false'),
    ],
)
def test_attention_in_both_directions_is_refused(config: dict[str, Any], switch: str) -> None:
    """Whatever the family's switch is called; the line names the value that makes it causal."""
    said = refusal(config)
    assert "not a causal language model here but attends in both directions" in said
    assert switch in said


def test_switches_that_say_causal_are_taken() -> None:
    """Those of a family that has another use for the name too."""
    assert check_causal({"model_type": "xlm", "causal": True}) == ()
    assert check_causal({"model_type": "gemma4_text", "use_bidirectional_attention": "vision"}) == ()
    assert check_causal({"model_type": "mpt", "attn_config": {"attn_type": "multihead_attention"}}) == ()
    assert check_causal({"model_type": "llama", "causal": False}) == ()


@pytest.mark.parametrize(
    "name",
    ["LlamaForSequenceClassification", "LlamaForTokenClassification", "LlamaModel", "LlamaForRewardModel"],
)
def test_another_head_is_told(name: str) -> None:
    """The model beneath is the same, and a language model's head takes its place."""
    config: dict[str, Any] = {"model_type": "llama", "architectures": [name]}
    assert check_causal(config) == (f"measured as LlamaForCausalLM; the checkpoint is {name}",)
    assert check_causal({**config, "architectures": name}) == check_causal(config)


def test_of_a_model_of_several_parts_it_is_said_what_is_measured() -> None:
    """A part of its own class, or all of it with text alone; nothing of a config without other parts."""
    whole: dict[str, Any] = {"model_type": "gemma3", "vision_config": {}}
    whole["architectures"] = ["Gemma3ForConditionalGeneration"]
    assert check_causal(whole) == ("measured with text alone; vision is built but idle",)
    part: dict[str, Any] = {"model_type": "llama4", "vision_config": {}}
    part["architectures"] = ["Llama4ForConditionalGeneration"]
    assert check_causal(part) == ("measured as its text part, llama4_text, without vision",)
    assert check_causal({"model_type": "emu3", "vq_config": {}}) == (
        "measured as its text part, emu3_text_model, without vq",
    )
    assert check_causal({"model_type": "gemma3", "text_config": {}}) == ()
    with_images = ("measured with text alone; vision is built but idle",)
    assert check_causal({"model_type": "git", "vision_config": {}}) == with_images
    assert check_causal({"model_type": "dbrx", "attn_config": {}, "ffn_config": {}}) == ()


def test_the_text_part_is_where_transformers_finds_it() -> None:
    """In the config, by the class where the config leaves it out, or the config itself."""
    assert text_part("llama", {"a": 1}) == ("llama", {"a": 1})
    assert text_part("gemma3", {"text_config": {"a": 1}}) == ("gemma3_text", {"a": 1})
    assert text_part("gemma3", {}) == ("gemma3_text", {})
    assert text_part("fuyu", {"text_config": {"model_type": "llama"}}) == ("llama", {"model_type": "llama"})
    assert text_part("musicgen", {}) == ("musicgen_decoder", {})


@pytest.mark.parametrize("layer_types", [["full_attention", "sliding_attention"], None])
def test_a_type_is_the_one_that_the_auto_class_takes_it_for(
    tmp_path: Path, layer_types: list[str] | None
) -> None:
    """Its own reader, given the same folder."""
    from transformers import AutoConfig

    config: dict[str, Any] = {"model_type": "mistral", "num_hidden_layers": 2}
    config.update({"layer_types": layer_types} if layer_types else {})
    (tmp_path / "config.json").write_text(json.dumps(config))
    taken = AutoConfig.from_pretrained(tmp_path).model_type
    assert read_config(str(tmp_path))["model_type"] == taken == ("ministral" if layer_types else "mistral")


@pytest.mark.parametrize("way", ["model", "suite", "foundry"])
def test_every_way_to_name_a_model_refuses_it(
    project: pytest.Pytester, fake: type[FakeEngine], way: str
) -> None:
    """--model, the architecture in a suite, a file of llm-foundry: one line, and nothing is loaded."""
    project.mkdir("it").joinpath("config.json").write_text('{"model_type": "t5"}')
    lengths = {"batch_sizes": [1], "input_lengths": [4], "output_lengths": [2]}
    inline = {"name": "it", "architecture": {"model_type": "t5"}}
    of_foundry = {"name": "hf_causal_lm", "pretrained_model_name_or_path": str(project.path / "it")}
    suite = {"models": [inline], "sweeps": [lengths]} if way == "suite" else {"model": of_foundry, **lengths}
    (project.path / "mine.yaml").write_text(json.dumps(suite))
    asked = ["--model", "it"] if way == "model" else ["--suite", "mine.yaml"]
    line = ends_with_one_line(project, *asked)
    assert "t5 is not a causal language model" in line
    where = {
        "model": "--model it: ",
        "suite": "mine.yaml:1: models.architecture: ",
        "foundry": "mine.yaml:1: ",
    }
    assert line.startswith(f"ERROR: {where[way]}")
