"""llm-foundry's older names mean what they meant; a slip in a name is no new key."""

from __future__ import annotations

import pytest

from ci.tests.core.spec.test_foundry import MPT, refusal, replaced
from fixtures.core.base.node import Node, Plain
from fixtures.core.base.yamlfile import parse_yaml
from fixtures.core.spec import library
from fixtures.core.spec.case import EngineSpec
from fixtures.core.spec.foundry.file import read_foundry
from fixtures.core.spec.settings import set_dotted
from fixtures.core.spec.suite import Protocol, Suite

MOSAIC_GPT = """\
benchmark_name: MosaicDeepspeed_1xA100-40GB-fp16-GPT-1B
max_seq_len: 2048
tokenizer_name: gpt2
tokenizer:
  name: ${tokenizer_name}
model:
  name: mosaic_gpt
  init_device: cpu
  tokenizer_name: ${tokenizer_name}
  d_model: 2048
  n_heads: 16
  n_layers: 24
  mlp_ratio: 4
  max_seq_len: ${max_seq_len}
  vocab_size: 50368
  init_std: 0.02
  attn_pdrop: 0.0
  resid_pdrop: 0.0
  emb_pdrop: 0.0
  no_bias: true
  alibi: true
  alibi_bias_max: 16
  attn_impl: flash
  attn_clip_qkv: 6
  softmax_scale: 0.5
  attn_qk_ln: false
  prefix_lm: false
fsdp_config:
  sharding_strategy: FULL_SHARD
load_model_path: MosaicGPT.pt
batch_sizes: [1]
input_lengths: [128]
output_lengths: [8]
num_runs: 10
"""


def no_checkpoint(asked: Node) -> dict[str, Plain]:
    """There is none."""
    raise asked.error("is not there")


def read(text: str, *settings: str) -> Suite:
    """The suite of a file's text."""
    return read_foundry("file", set_dotted(parse_yaml(text, "f.yaml"), settings), no_checkpoint)


def engine(*lines: str) -> EngineSpec:
    """The engine of the file with further keys."""
    ((engine,),) = (entry.engines for entry in read(MOSAIC_GPT + "\n".join(lines)).entries)
    return engine


def test_a_file_of_march_2023_is_read_as_it_was_meant() -> None:
    """Its keys of attention stand beside the others, its rounds are runs, its MLP has a ratio."""
    suite = read(MOSAIC_GPT)
    ((model,),) = (entry.models for entry in suite.entries)
    assert model.architecture == {
        "model_type": "mpt",
        "d_model": 2048,
        "n_heads": 16,
        "n_layers": 24,
        "max_seq_len": 2048,
        "vocab_size": 50368,
        "attn_config": {"alibi": True, "alibi_bias_max": 16, "clip_qkv": 6.0, "softmax_scale": 0.5},
    }
    assert suite.protocol == Protocol(rounds=10)
    warned = {line.partition(": has no effect")[0].rpartition(": ")[2] for line in suite.warnings}
    assert warned == {
        "benchmark_name",
        "tokenizer_name",
        "tokenizer",
        "fsdp_config",
        "load_model_path",
        *(f"model.{key}" for key in ("init_device", "tokenizer_name", "attn_pdrop", "resid_pdrop")),
        *(f"model.{key}" for key in ("emb_pdrop", "attn_impl")),
    }


def test_the_same_model_under_both_names_is_one_model() -> None:
    """So both have one history, here that of the library's."""
    text = MOSAIC_GPT
    for setting in ("alibi_bias_max: 16", "attn_clip_qkv: 6", "softmax_scale: 0.5"):
        text = text.replace(f"  {setting}\n", "")
    ((model,),) = (entry.models for entry in read(text).entries)
    assert model == library.model("mpt1b")


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ((), "hf"),
        (("autocast_precision: bf16", "model_dtype: fp32"), "hf_fp32_autocast_bf16"),
        (("autocast_precision: fp16", "model_dtype: bf16"), "hf_autocast_fp16"),
        (("autocast_precision: null", "model_dtype: fp16"), "hf_fp16"),
        (("precision: amp_bf16",), "hf"),
        (("precision: amp_fp16",), "hf_fp16"),
        (("precision: fp32",), "hf_fp32"),
        (("precision: amp_bf16", "model_dtype: fp16"), "hf_fp16"),
        (("precision: amp_bf16", "use_precision_context: true"), "hf_fp32_autocast_bf16"),
        (("precision: amp_fp16", "use_precision_context: false"), "hf_fp32"),
        (("precision: fp32", "use_precision_context: true"), "hf_fp32"),
        (
            ("precision: amp_bf16", "use_precision_context: true", "use_deepspeed: true"),
            "deepspeed_autocast_bf16",
        ),
        (
            ("precision: amp_fp16", "use_precision_context: false", "use_deepspeed: true"),
            "deepspeed_fp16",
        ),
        (
            ("precision: amp_fp16", "use_precision_context: true", "model_dtype: fp32"),
            "hf_fp32_autocast_fp16",
        ),
    ],
)
def test_an_older_precision_is_a_dtype_and_autocast(lines: tuple[str, ...], name: str) -> None:
    """As the script of that time ran the model."""
    assert engine(*lines).name == name


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("autocast_precision: fp32", "autocast_precision: 'fp32' is not known; known: bf16, fp16"),
        ("precision: amp_fp8", "precision: 'amp_fp8' is not known; did you mean 'amp_fp16'? known: *"),
        ("use_precision_context: true", "use_precision_context: needs 'precision'"),
        (
            "autocast_precision: bf16\nautocast_dtype: fp16",
            "autocast_precision: is the old name of 'autocast_dtype', which is set too; remove one",
        ),
        ("num_batches: 3", "num_runs: is the old name of 'num_batches', which is set too; remove one"),
    ],
)
def test_an_older_name_is_refused_by_its_own_name(lines: str, message: str) -> None:
    """Where its value is not right, or today's name stands there too."""
    said = refusal(MOSAIC_GPT + lines)
    assert said.startswith("f.yaml:")
    assert message.rstrip("*") in said


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("mlp_ratio", "2", "2 cannot be built: transformers' MPT has an MLP of 4 times the width; write 4"),
        ("attn_qk_ln", "true", "True cannot be built: transformers' MPT has no norm of queries and keys;"),
        ("prefix_lm", "true", "True cannot be built: transformers' MPT is causal; write False"),
        ("attn_clip_qkv", "0", "is 0; it must be a finite number above zero"),
        ("attn_type", "multiquery_attention", "'multiquery_attention' cannot be built:"),
        ("kv_n_head", "2", "unknown key; did you mean 'n_heads'?"),
        ("attn_config.kv_n_head", "2", "unknown key; did you mean 'kv_n_heads'?"),
        ("ffn_config.own", "2", "unknown key; known: expansion_ratio, ffn_act_fn, ffn_hidden_size, ffn_type"),
        ("attn_config.kv_n_heads", "2", "2 cannot be built: transformers' MPT has keys and values for every"),
        ("ffn_config.ffn_hidden_size", "100", "100 cannot be built: transformers' MPT has an MLP of 4 times"),
        (
            "block_overrides",
            "{order: []}",
            "{'order': []} cannot be built: the blocks of",
        ),
        (
            "residual_modification",
            "layer",
            "'layer' cannot be built: transformers' MPT adds",
        ),
    ],
)
def test_what_transformers_mpt_cannot_be_is_refused_by_the_name_in_the_file(
    setting: str, value: str, message: str
) -> None:
    """The newer keys of llm-foundry's models too."""
    assert f"model.{setting}: {message}" in refusal(MOSAIC_GPT, f"model.{setting}={value}")


def test_a_setting_wins_over_the_files_older_name() -> None:
    """And an older name given as a setting over today's in the file."""
    assert read(MOSAIC_GPT, "num_batches=3").protocol.rounds == 3
    assert read(MPT, "num_runs=7").protocol.rounds == 7
    ((model,),) = (entry.models for entry in read(MPT, "model.attn_clip_qkv=3").entries)
    attention = model.architecture["attn_config"]
    assert isinstance(attention, dict)
    assert attention["clip_qkv"] == 3.0


def test_runs_that_the_older_script_timed_otherwise_are_warned_of() -> None:
    """It timed num_runs + 1 - num_warmup_batches of them: as many as here for one warm-up call."""
    said = "counts the timed calls here; its script timed num_runs + 1 - num_warmup_batches"
    for warmup, warned in ((1, 0), (3, 1)):
        suite = read(f"{MOSAIC_GPT}num_warmup_batches: {warmup}")
        assert suite.protocol == Protocol(rounds=10, warmup_rounds=warmup)
        assert sum(said in line for line in suite.warnings) == warned


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("num_batches", "num_batchs"),
        ("num_warmup_batches", "num_warmup_batch"),
        ("autocast_dtype", "autocast_type"),
        ("model_dtype", "model_dtpye"),
        ("use_deepspeed", "use_deepspeeed"),
        ("use_cache", "use_cach"),
        ("input_lengths", "input_length"),
        ("batch_sizes", "batch_size"),
        ("n_layers", "n_layer"),
        ("no_bias", "nobias"),
        ("init_std", "init_stdd"),
        ("clip_qkv", "clip_kqv"),
        ("alibi_bias_max", "alibi_max_bias"),
        ("attn_config", "atn_config"),
    ],
)
def test_a_slip_in_a_name_is_refused_with_the_name_that_was_meant(right: str, wrong: str) -> None:
    """Else what the file says would silently be the default."""
    text = MPT.replace(f"{right}:", f"{wrong}:", 1)
    assert text != MPT
    said = refusal(text)
    assert said.startswith("f.yaml:")
    assert said.endswith(f"{wrong}: unknown key; did you mean {right!r}?")


def test_a_key_like_another_that_is_there_is_warned_of_only() -> None:
    """It may be what a fork of llm-foundry reads, or what a reference points to."""
    assert any("batch_size: has no effect here" in line for line in read(f"{MPT}batch_size: 1").warnings)
    text = replaced(MPT, "batch_sizes", "['${batch_size}']") + "\nbatch_size: 4"
    assert not any(": batch_size" in line for line in read(text).warnings)
