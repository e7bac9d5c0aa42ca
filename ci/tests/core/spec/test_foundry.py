"""A benchmarking file of llm-foundry: each key honoured, or named in a warning with the reason."""

from __future__ import annotations

import pytest

from fixtures.core.base.errors import InputError
from fixtures.core.base.node import Node, Plain
from fixtures.core.base.yamlfile import parse_yaml
from fixtures.core.spec import library
from fixtures.core.spec.case import EngineSpec
from fixtures.core.spec.foundry.file import is_foundry, read_foundry
from fixtures.core.spec.foundry.hf import Checkpoint
from fixtures.core.spec.foundry.references import resolve_references
from fixtures.core.spec.settings import set_dotted
from fixtures.core.spec.suite import MAX, Entry, Protocol, Selector, Suite

MPT = """\
benchmark_name: An own MPT, 2023
width: 64
max_seq_len: 256
tokenizer_name: own/tokenizer
global_seed: 3
model:
  name: mpt_causal_lm
  init_device: meta
  d_model: ${width}
  n_heads: 4
  n_layers: 2
  expansion_ratio: 4
  max_seq_len: ${max_seq_len}
  vocab_size: 1000
  resid_pdrop: 0.0
  emb_pdrop: 0.0
  no_bias: true
  norm_type: low_precision_layernorm
  init_std: 0.05
  logit_scale: null
  verbose: 0
  attn_config:
    alibi: true
    alibi_bias_max: 8
    attn_impl: triton
    attn_pdrop: 0.0
    attn_type: multihead_attention
    clip_qkv: 6
    softmax_scale: 0.5
    qk_ln: false
    prefix_lm: false
    attn_uses_sequence_id: false
tokenizer:
  name: ${tokenizer_name}
  kwargs:
    model_max_length: ${max_seq_len}
seed: ${global_seed}
precision: amp_bf16
device: null
model_dtype: fp16
autocast_dtype: bf16
use_deepspeed: false
use_cache: true
num_batches: 4
num_warmup_batches: 1
batch_sizes: [1, 2, max]
input_lengths: [16, 32]
output_lengths: [4]
"""
CHECKPOINT = """\
benchmark_name: checkpoint
tokenizer:
  name: own/Some-Model-7B
model:
  name: hf_causal_lm
  pretrained_model_name_or_path: own/Some-Model-7B
  init_device: cpu
  pretrained: false
  use_auth_token: true
  trust_remote_code: true
  use_flash_attention_2: true
  use_train_metrics: false
  config_overrides:
    num_hidden_layers: 2
    rope_parameters: {rope_type: default}
device: cuda
batch_sizes: [1]
input_lengths: [8]
output_lengths: [1, 2]
"""
CONFIG: dict[str, Plain] = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 64}


def fetch(asked: Node) -> dict[str, Plain]:
    """The config of the checkpoints that there are."""
    if asked.text() not in ("own/Some-Model-7B", "folder/Some.Model/"):
        raise asked.error("is not there")
    return dict(CONFIG)


def read(text: str, *settings: str) -> Suite:
    """The suite of a file's text."""
    return read_foundry("file", set_dotted(parse_yaml(text, "f.yaml"), settings), fetch)


def only(suite: Suite) -> Entry:
    """The one entry of a suite."""
    (entry,) = suite.entries
    return entry


def refusal(text: str, *settings: str) -> str:
    """What is said of a file that cannot be taken."""
    with pytest.raises(InputError) as caught:
        read(text, *settings)
    return str(caught.value)


def line_of(text: str, key: str) -> int:
    """The line on which a key stands."""
    return next(
        number for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith(f"{key}:")
    )


def replaced(text: str, key: str, value: str) -> str:
    """The text with another value on the line of a key."""
    lines = text.splitlines()
    index = line_of(text, key) - 1
    lines[index] = f"{lines[index].partition(':')[0]}: {value}"
    return "\n".join(lines)


def without(text: str, key: str) -> str:
    """The text without the line of a key."""
    lines = text.splitlines()
    del lines[line_of(text, key) - 1]
    return "\n".join(lines)


def test_a_file_of_llm_foundry_is_told_from_a_suite_by_its_keys() -> None:
    """`model` in the singular, or a name of the benchmark."""
    for text, whether in (
        (MPT, True),
        (CHECKPOINT, True),
        ("model: {}", True),
        ("benchmark_name: x", True),
        ("models: [mpt7b]", False),
        ("{}", False),
    ):
        assert is_foundry(parse_yaml(text, "f.yaml")) is whether
    with pytest.raises(InputError, match=r"^f\.yaml:1: must be a mapping"):
        is_foundry(parse_yaml("[]", "f.yaml"))


def test_an_mpt_file_becomes_a_suite() -> None:
    """Its model by its dimensions, one grid, whatever machine is here."""
    suite = read(MPT)
    entry = only(suite)
    assert suite.name == "an_own_mpt_2023"
    assert suite.protocol == Protocol(rounds=4, warmup_rounds=1, seed=3)
    (model,) = entry.models
    assert model.name == "mpt_d64_h4_l2_c256_v1000_clip6_0_scale0_5"
    assert (model.hub, model.parameters) == (None, None)
    assert model.architecture == {
        "model_type": "mpt",
        "d_model": 64,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 256,
        "vocab_size": 1000,
        "initializer_range": 0.05,
        "attn_config": {"alibi": True, "alibi_bias_max": 8, "clip_qkv": 6.0, "softmax_scale": 0.5},
    }
    assert entry.hardware == (Selector(1, "any"),)
    assert entry.engines == (EngineSpec("hf_fp16_autocast_bf16", "hf", "float16", "auto", True, "bfloat16"),)
    (grid,) = entry.grids
    assert (grid.batch_sizes, grid.input_lengths, grid.output_lengths) == ((1, 2, MAX), (16, 32), (4,))


def test_a_checkpoint_file_becomes_a_suite() -> None:
    """Its model by the name of the checkpoint, its overrides over the checkpoint's config."""
    suite = read(CHECKPOINT)
    entry = only(suite)
    (model,) = entry.models
    assert (
        model.name == "some_model_7b_num_hidden_layers_2_rope_parameters_rope_type_default"
    )  # another model
    assert model.hub == "own/Some-Model-7B"
    assert model.architecture == {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "rope_parameters": {"rope_type": "default"},
    }
    assert CONFIG["num_hidden_layers"] == 32
    assert entry.hardware == (Selector(1, "gpu"),)
    assert entry.engines == (EngineSpec("hf_flash", attention="flash"),)
    assert suite.protocol == Protocol()


def test_a_checkpoint_is_read_as_the_command_line_allows() -> None:
    """What a warning advises can be done, and then is not advised any more."""
    root = parse_yaml(replaced(CHECKPOINT, "pretrained", "true"), "f.yaml")
    for allowed in (Checkpoint(), Checkpoint(weights=True), Checkpoint(trusted=True), Checkpoint(True, True)):
        suite = read_foundry("file", root, fetch, allowed)
        (model,) = only(suite).models
        assert model.weights == ("own/Some-Model-7B" if allowed.weights else None)
        assert model.remote_code == ("own/Some-Model-7B" if allowed.trusted else None)
        for advice, followed in (("--weights ", allowed.weights), ("--trust-remote-code", allowed.trusted)):
            assert any(advice in line for line in suite.warnings) is not followed
    mpt = read_foundry("file", parse_yaml(MPT, "f.yaml"), fetch, Checkpoint(True, True))
    assert only(mpt).models == only(read(MPT)).models


def test_a_checkpoint_in_a_folder_is_named_by_the_folder() -> None:
    """With or without a slash at its end."""
    text = replaced(CHECKPOINT, "pretrained_model_name_or_path", "folder/Some.Model/")
    assert (
        only(read(text)).models[0].name == "some_model_num_hidden_layers_2_rope_parameters_rope_type_default"
    )
    whole = (
        CHECKPOINT.partition("  config_overrides")[0]
        + "device: cuda"
        + CHECKPOINT.partition("device: cuda")[2]
    )
    text = replaced(whole, "pretrained_model_name_or_path", "folder/Some.Model/")
    assert only(read(text)).models[0].name == "some_model"


def test_a_file_without_a_name_of_its_own_has_the_files() -> None:
    """A null one too."""
    assert read(without(MPT, "benchmark_name")).name == "file"
    assert read(replaced(MPT, "benchmark_name", "null")).name == "file"


def test_what_is_not_said_has_the_defaults_of_this_suite() -> None:
    """bf16 with the cache, 5 timed rounds after 3."""
    text = MPT
    for key in (
        "model_dtype",
        "autocast_dtype",
        "use_deepspeed",
        "use_cache",
        "num_batches",
        "num_warmup_batches",
    ):
        text = without(text, key)
    text = without(without(without(text, "device"), "seed"), "global_seed")
    suite = read(text)
    assert only(suite).engines == (EngineSpec("hf"),)
    assert only(suite).hardware == (Selector(1, "any"),)
    assert suite.protocol == Protocol(rounds=5, warmup_rounds=3, seed=17)


LIBRARYS_1B = """\
model:
  name: mpt_causal_lm
  d_model: 2048
  n_heads: 16
  n_layers: 24
  expansion_ratio: 4
  max_seq_len: 2048
  vocab_size: 50368
  no_bias: true
  attn_config:
    alibi: true
    attn_impl: torch
batch_sizes: [1]
input_lengths: [8]
output_lengths: [1]
"""


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ((), "mpt1b"),
        (("model.attn_config.alibi_bias_max=8",), "mpt1b"),
        (("model.attn_config.clip_qkv=null", "model.attn_config.softmax_scale=null"), "mpt1b"),
        (("model.init_std=0.1",), "mpt1b"),
        (("model.attn_config.alibi_bias_max=16",), "mpt_d2048_h16_l24_alibi16"),
        (("model.attn_config.clip_qkv=6",), "mpt_d2048_h16_l24_clip6_0"),
        (("model.attn_config.softmax_scale=0.5",), "mpt_d2048_h16_l24_scale0_5"),
        (("model.max_seq_len=4096",), "mpt_d2048_h16_l24_c4096"),
        (("model.vocab_size=50432",), "mpt_d2048_h16_l24_v50432"),
        (("model.n_layers=23",), "mpt_d2048_h16_l23"),
        (("model.n_heads=32",), "mpt_d2048_h32_l24"),
        (("model.d_model=1024",), "mpt_d1024_h16_l24"),
    ],
)
def test_an_architecture_that_the_library_has_goes_by_its_name(change: tuple[str, ...], name: str) -> None:
    """And is the library's, with its figures; what its speed does not depend on may differ."""
    (model,) = only(read(LIBRARYS_1B, *change)).models
    assert model.name == name
    assert (model == library.model("mpt1b")) is (name == "mpt1b")
    assert not read(LIBRARYS_1B).warnings


def test_a_warning_is_the_place_of_a_key_and_why_it_has_no_effect() -> None:
    """In one line each, in the order of the file's parts."""
    tokens = "prompts are random token ids of the model's vocabulary, so no tokenizer is read"

    def warning(key: str, reason: str, path: str = "") -> str:
        return f"f.yaml:{line_of(MPT, key)}: {path}{key}: {reason}"

    no = "has no effect here: "
    model, attention = "model.", "model.attn_config."
    assert set(read(MPT).warnings) == {
        warning("benchmark_name", no + "names this run only; ids have the hardware and engine in use"),
        warning("tokenizer_name", no + tokens),
        warning("tokenizer", no + tokens),
        warning("precision", no + "the numbers run in model_dtype"),
        warning("init_device", no + "the model is built on the device at once", model),
        warning("resid_pdrop", no + "dropout is off at inference", model),
        warning("emb_pdrop", no + "dropout is off at inference", model),
        warning("logit_scale", no + "transformers' MPT does not scale its logits", model),
        warning("verbose", no + "it only prints", model),
        warning(
            "attn_impl",
            no + "transformers' MPT has one attention, plain matrix products ('torch')",
            attention,
        ),
        warning("attn_pdrop", no + "dropout is off at inference", attention),
        warning("attn_uses_sequence_id", no + "sequences are not packed here", attention),
    }


def test_the_warnings_of_a_checkpoint_file() -> None:
    """What of it has a meaning elsewhere only."""
    keys = {
        line.partition(": has no effect here: ")[0].rpartition(": ")[2] for line in read(CHECKPOINT).warnings
    }
    assert keys == {
        "benchmark_name",
        "tokenizer",
        "model.init_device",
        "model.pretrained",
        "model.use_auth_token",
        "model.trust_remote_code",
        "model.use_train_metrics",
    }


def paths(node: Node, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The dotted keys of all single values and lists."""
    found = []
    for key, part in node.mapping().items():
        path = (*prefix, key)
        found += paths(part, path) if isinstance(part.value, dict) else [path]
    return found


ALL_KEYS = [
    (text, ".".join(path)) for text in (MPT, CHECKPOINT) for path in paths(parse_yaml(text, "f.yaml"))
]
EXTRA_KEYS = [
    "own",
    "dist_timeout",
    "model.own",
    "model.ffn_config.ffn_type",
    "model.ffn_config.own",
    "model.loss_fn",
    "model.fc_type",
    "model.use_cache",
    "model.learned_pos_emb",
    "model.embedding_fraction",
    "model.tie_word_embeddings",
    "model.tokenizer_name",
    "model.init_config.name",
    "model.attn_pdrop",
    "model.attn_config.own",
    "model.attn_config.rope",
    "model.attn_config.kv_n_heads",
    "model.attn_config.sliding_window_size",
    "model.attn_config.qk_gn",
]
ALL_KEYS += [(MPT, key) for key in EXTRA_KEYS]
ALL_KEYS += [(CHECKPOINT, key) for key in ("own", "model.own", "seed", "precision")]
OTHER_VALUES = {
    "device": "cpu",
    "model_dtype": "bf16",
    "autocast_dtype": "fp16",
    "model.no_bias": "false",
    "model.attn_config.alibi": "false",
    "width": "128",
    "model.d_model": "128",
    "model.n_heads": "8",
    "model.pretrained_model_name_or_path": "folder/Some.Model/",
}


def other_value(text: str, key: str) -> str:
    """A value that a key of a file does not have, of its type."""
    old: Plain = parse_yaml(text, "f.yaml").plain()
    for name in key.split("."):
        old = old.get(name) if isinstance(old, dict) else None
    if key in OTHER_VALUES:
        return OTHER_VALUES[key]
    if isinstance(old, bool):
        return str(not old).lower()
    return "[7]" if isinstance(old, list) else "29"


def merged(base: Node, over: Node) -> Node:
    """A tree with the values of another one in their places."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return Node(over.value, base.where, base.key)
    below = {name: merged(base.value.get(name, part), part) for name, part in over.value.items()}
    return Node({**base.value, **below}, base.where, base.key)


def outcome(root: Node) -> Suite | str:
    """The suite, or why there is none."""
    try:
        return read_foundry("file", root, fetch)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize(("text", "key"), ALL_KEYS)
def test_every_key_changes_the_suite_or_is_named_by_a_warning_or_refused(text: str, key: str) -> None:
    """No key is silently without effect: another value of it shows."""
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(key.split("."))]
    placed = parse_yaml("\n".join(lines) + f" {other_value(text, key)}", "f.yaml")
    before, after = read(text), outcome(merged(parse_yaml(text, "f.yaml"), placed))
    if isinstance(after, str):
        assert f"{key}: " in after
        return
    whole = key.split(".")[0] if key.startswith("tokenizer.") else key.removesuffix(".name")
    said = (
        f": {key}: has no effect",
        f": {whole}: has no effect",
        f"{key.partition('.')[2] or key} is not true",
    )
    named = any(part in line for line in after.warnings for part in said)
    changed = (after.name, after.entries, after.protocol) != (before.name, before.entries, before.protocol)
    assert changed or named


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "expansion_ratio",
            "2",
            "2 cannot be built: transformers' MPT has an MLP of 4 times the width; write 4",
        ),
        (
            "norm_type",
            "rmsnorm",
            "'rmsnorm' cannot be built: transformers' MPT has LayerNorm; write 'low_precision_layernorm'",
        ),
        (
            "attn_config.attn_type",
            "multiquery_attention",
            "'multiquery_attention' cannot be built: transformers' MPT has multi-head attention; "
            "write 'multihead_attention'",
        ),
        (
            "attn_config.attn_type",
            "grouped_query_attention",
            "'grouped_query_attention' cannot be built: transformers' MPT has multi-head attention; "
            "write 'multihead_attention'",
        ),
        (
            "attn_config.qk_ln",
            "true",
            "True cannot be built: transformers' MPT has no norm of queries and keys; write False",
        ),
        (
            "attn_config.qk_gn",
            "true",
            "True cannot be built: transformers' MPT has no norm of queries and keys; write False",
        ),
        ("attn_config.prefix_lm", "true", "True cannot be built: transformers' MPT is causal; write False"),
        ("attn_config.rope", "true", "True cannot be built: transformers' MPT has ALiBi; write False"),
        (
            "attn_config.sliding_window_size",
            "128",
            "128 cannot be built: transformers' MPT attends to all positions; write -1",
        ),
        (
            "tie_word_embeddings",
            "false",
            "False cannot be built: transformers' MPT ties its embeddings; write True",
        ),
        (
            "ffn_config.ffn_type",
            "mptglu",
            "'mptglu' cannot be built: transformers' MPT has one kind of MLP; write 'mptmlp'",
        ),
        (
            "ffn_config.expansion_ratio",
            "2",
            "2 cannot be built: transformers' MPT has an MLP of 4 times the width; write 4",
        ),
        ("d_model", "0", "is 0; it must be at least 1"),
        ("n_heads", "x", "must be a whole number of at least 1, and is text"),
        ("init_std", "-1", "is -1; it must be a finite number above zero"),
        ("attn_config.clip_qkv", "0", "is 0; it must be a finite number above zero"),
        ("attn_config.alibi_bias_max", "1.5", "must be a whole number of at least 1, and is a number"),
        ("no_bias", "1", "must be true or false, and is a whole number"),
        ("attn_config.alibi", "x", "must be true or false, and is text"),
        ("attn_config", "[]", "must be a mapping of keys to values, and is a list"),
    ],
)
def test_an_mpt_that_transformers_cannot_build_is_refused(key: str, value: str, message: str) -> None:
    """By its key, with what it can."""
    assert refusal(MPT, f"model.{key}={value}") == f"--set: model.{key}: {message}"


def test_what_transformers_mpt_always_is_may_be_said() -> None:
    """Each of them."""
    fixed = (
        "model.norm_type=layernorm",
        "model.tie_word_embeddings=true",
        "model.ffn_config.ffn_type=mptmlp",
    )
    attention = (
        "model.attn_config.rope=false",
        "model.attn_config.sliding_window_size=-1",
        "model.attn_config.qk_gn=false",
    )
    assert read(MPT, *fixed, *attention) == read(MPT)


def test_biases_and_learned_positions_that_transformers_mpt_has_not_are_warned_of() -> None:
    """Where they are asked for, and where nothing is said, since llm-foundry then has them."""
    bias = "f.yaml:6: model: no_bias is not true, but transformers' MPT has no biases"
    alibi = (
        "f.yaml:6: model: attn_config.alibi is not true, "
        "but transformers' MPT always uses ALiBi instead of learned positions"
    )
    assert not {bias, alibi} & set(read(MPT).warnings)
    assert bias in read(replaced(MPT, "no_bias", "false")).warnings
    assert bias in read(without(MPT, "no_bias")).warnings
    assert alibi in read(replaced(MPT, "alibi", "false")).warnings
    assert alibi in read(without(MPT, "alibi")).warnings


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("batch_sizes", "f.yaml:1: the key 'batch_sizes' is missing"),
        ("input_lengths", "f.yaml:1: the key 'input_lengths' is missing"),
        ("output_lengths", "f.yaml:1: the key 'output_lengths' is missing"),
        ("d_model", "f.yaml:6: model: the key 'd_model' is missing"),
        ("n_layers", "f.yaml:6: model: the key 'n_layers' is missing"),
        ("vocab_size", "f.yaml:6: model: the key 'vocab_size' is missing"),
    ],
)
def test_a_key_that_a_benchmark_needs_is_missed(key: str, message: str) -> None:
    """At the mapping that it belongs to."""
    assert refusal(without(MPT, key)) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (without(MPT, "name"), "f.yaml:6: model: the key 'name' is missing"),
        (
            replaced(CHECKPOINT, "pretrained_model_name_or_path", "own/other"),
            "f.yaml:6: model.pretrained_model_name_or_path: is not there",
        ),
        (
            without(CHECKPOINT, "pretrained_model_name_or_path"),
            "f.yaml:4: model: the key 'pretrained_model_name_or_path' is missing",
        ),
        (
            replaced(CHECKPOINT, "use_flash_attention_2", "1"),
            "f.yaml:11: model.use_flash_attention_2: must be true or false, and is a whole number",
        ),
    ],
)
def test_a_model_that_is_not_right_is_refused_by_line_and_key(text: str, message: str) -> None:
    """And told what would be right."""
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_dtype", "int8", "'int8' is not known; known: bf16, fp16, fp32"),
        ("autocast_dtype", "fp32", "'fp32' is not known; known: bf16, fp16"),
        ("use_deepspeed", "maybe", "must be true or false, and is text"),
        ("use_cache", "1", "must be true or false, and is a whole number"),
        ("num_batches", "0", "is 0; it must be at least 1"),
        ("num_warmup_batches", "-1", "is -1; it must be at least 0"),
        ("seed", "x", "must be a whole number of at least 0, and is text"),
        (
            "device",
            "cuda:1",
            "'cuda:1' is not supported; write null, cpu or cuda, and choose a GPU with CUDA_VISIBLE_DEVICES",
        ),
        ("batch_sizes", "[1, many]", "must be a whole number of at least 1, and is text"),
        ("input_lengths", "8", "must be a list, and is a whole number"),
    ],
)
def test_a_value_that_is_not_right_is_refused_by_line_and_key(key: str, value: str, message: str) -> None:
    """And told what would be right."""
    assert refusal(replaced(MPT, key, value)) == f"f.yaml:{line_of(MPT, key)}: {key}: {message}"


@pytest.mark.parametrize(
    ("device", "selector"),
    [("null", "any"), ("cpu", "cpu"), ("cuda", "gpu"), ("'cuda:0'", "gpu")],
)
def test_the_device_chooses_the_machine(device: str, selector: str) -> None:
    """One of it."""
    assert only(read(replaced(MPT, "device", device))).hardware == (Selector(1, selector),)


def test_deepspeed_is_an_engine_of_its_own() -> None:
    """On as many devices as the published figures have and the machine can give; the difference is said."""
    suite = read(replaced(MPT, "use_deepspeed", "true"))
    (engine,) = only(suite).engines
    assert (engine.kind, engine.name) == ("deepspeed", "deepspeed_fp16_autocast_bf16")
    assert only(suite).hardware == tuple(Selector(n, "any") for n in (1, 2, 4, 8))
    assert [warning for warning in suite.warnings if "use_deepspeed: splits the model by AutoTP" in warning]


def test_dtypes_and_cache_are_part_of_the_engine() -> None:
    """And of its name."""
    text = replaced(
        replaced(replaced(MPT, "model_dtype", "fp32"), "autocast_dtype", "null"), "use_cache", "false"
    )
    assert only(read(text)).engines == (EngineSpec("hf_fp32_nocache", dtype="float32", use_cache=False),)


def test_the_numbers_of_batches_are_the_rounds() -> None:
    """No warm-up at all can be asked for; no timed batch cannot."""
    text = replaced(replaced(MPT, "num_batches", "7"), "num_warmup_batches", "0")
    assert read(text).protocol == Protocol(rounds=7, warmup_rounds=0, seed=3)


def test_the_seed_is_the_files_seed_else_its_global_one() -> None:
    """Where both are written out, the one without effect is warned of."""
    assert read(without(MPT, "seed")).protocol.seed == 3
    assert read(replaced(MPT, "seed", "null")).protocol.seed == 3
    both = read(replaced(MPT, "seed", "5"))
    assert both.protocol.seed == 5
    assert "f.yaml:5: global_seed: has no effect here: the file's seed decides" in both.warnings
    for text in (MPT, without(MPT, "seed"), replaced(MPT, "seed", "null")):
        assert not any("global_seed" in line for line in read(text).warnings)


def test_an_attention_of_which_nothing_is_said_is_that_of_transformers_mpt() -> None:
    """With a warning, since llm-foundry's would have learned positions."""
    text = LIBRARYS_1B.replace("  attn_config:\n    alibi: true\n    attn_impl: torch\n", "")
    suite = read(text)
    assert only(suite).models == (library.model("mpt1b"),)
    assert len(suite.warnings) == 1
    assert "attn_config.alibi is not true" in suite.warnings[0]


def test_a_key_that_nothing_refers_to_is_warned_of() -> None:
    """And one that is referred to is not."""
    text = f"{MPT}own: 1\nother: [1]\n"
    line = len(MPT.splitlines())
    unknown = "has no effect here: is not known to this suite, and no ${...} refers to it"
    assert set(read(text).warnings) - set(read(MPT).warnings) == {
        f"f.yaml:{line + 1}: own: {unknown}",
        f"f.yaml:{line + 2}: other: {unknown}",
    }
    used = read(replaced(text, "n_layers", "${own}"))
    assert only(used).models[0].architecture["n_layers"] == 1
    assert not any(": own: " in line for line in used.warnings)


def resolved(text: str) -> tuple[Plain, frozenset[str]]:
    """A text with its references resolved, and what was referred to."""
    root, referenced = resolve_references(parse_yaml(text, "f.yaml"))
    return root.plain(), referenced


@pytest.mark.parametrize(
    ("text", "value", "referenced"),
    [
        ("a: 1\nb: 2", {"a": 1, "b": 2}, set()),
        ("a: 1\nb: ${a}", {"a": 1, "b": 1}, {"a"}),
        ("a: true\nb: ${ a }", {"a": True, "b": True}, {"a"}),
        ("a: null\nb: ${a}", {"a": None, "b": None}, {"a"}),
        ("a: 1\nb: x${a}y${a}", {"a": 1, "b": "x1y1"}, {"a"}),
        ("a: {b: {c: 1}}\nd: ${a.b.c}", {"a": {"b": {"c": 1}}, "d": 1}, {"a"}),
        ("a: {b: 1}\nc: ${a}", {"a": {"b": 1}, "c": {"b": 1}}, {"a"}),
        ("a: [1, 2]\nc: ${a}", {"a": [1, 2], "c": [1, 2]}, {"a"}),
        (
            "a: 1\nb: ${a}\nc: {d: [x, {e: '${b}'}]}",
            {"a": 1, "b": 1, "c": {"d": ["x", {"e": 1}]}},
            {"a", "b"},
        ),
        ("a: ${b.c}\nb: {c: '${d}'}\nd: 2", {"a": 2, "b": {"c": 2}, "d": 2}, {"b", "d"}),
        ("a: {b: 1, c: '${a.b}'}", {"a": {"b": 1, "c": 1}}, {"a"}),
        ("a: '$a {a} ${'", {"a": "$a {a} ${"}, set()),
    ],
)
def test_a_reference_becomes_what_it_points_to(text: str, value: Plain, referenced: set[str]) -> None:
    """Alone with its type, inside text as text, through other references."""
    assert resolved(text) == (value, frozenset(referenced))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: ${b}", "f.yaml:1: a: ${b} refers to a key that is not in this file"),
        ("a: {b: 1}\nc: [1, '${a.x}']", "f.yaml:2: c: ${a.x} refers to a key that is not in this file"),
        ("a: 1\nb: ${a.b}", "f.yaml:2: b: ${a.b} refers to a key that is not in this file"),
        ("a: ${a}", "f.yaml:1: a: ${a} refers to itself"),
        ("a: ${b}\nb: x${c}\nc: ${a}", "f.yaml:1: a: ${b} refers to itself"),
        ("a:\n  b: ${a}", "f.yaml:2: a.b: ${a} refers to itself"),
        (
            "a: ${oc.env:HOME}",
            "f.yaml:1: a: ${oc.env:HOME} is not supported; refer to a dotted key of this file",
        ),
        ("a: ${}", "f.yaml:1: a: ${} is not supported; refer to a dotted key of this file"),
        ("a: ${.b}", "f.yaml:1: a: ${.b} is not supported; refer to a dotted key of this file"),
        ("a: {b: 1}\nc: x${a}", "f.yaml:2: c: ${a} is not a single value, so it cannot stand inside text"),
        ("a: [1]\nc: x${a}", "f.yaml:2: c: ${a} is not a single value, so it cannot stand inside text"),
    ],
)
def test_a_reference_to_nothing_or_itself_is_refused_where_it_stands(text: str, message: str) -> None:
    """Or where the circle closes."""
    with pytest.raises(InputError) as caught:
        resolved(text)
    assert str(caught.value) == message


def test_references_behind_references_end() -> None:
    """20 in a row and 1000 in all are followed; what doubles at every step is stopped."""
    many = "a: 1\n" + "".join(f"k{n}: ${{a}}\n" for n in range(1000))
    assert resolved(many)[1] == {"a"}
    with pytest.raises(InputError, match=r"^f\.yaml:1002: k1000: \$\{a\} expands too far"):
        resolved(f"{many}k1000: ${{a}}\n")
    with pytest.raises(InputError, match=r"^f\.yaml:2: b: becomes a text of 12000 characters; at most 10000"):
        resolved(f"a: {'x' * 6000}\nb: ${{a}}${{a}}\n")
    chain = "k0: 1\n" + "".join(f"k{n}: ${{k{n - 1}}}\n" for n in range(1, 21))
    value, _ = resolved(chain)
    assert isinstance(value, dict)
    assert value["k20"] == 1
    with pytest.raises(
        InputError, match=r"^f\.yaml:2: k1: \$\{k0\} expands too far: at most 20 references in a row"
    ):
        resolved(f"{chain}k21: ${{k20}}\n")
    with pytest.raises(InputError, match="expands too far"):
        resolved("k0: x\n" + "".join(f"k{n}: ${{k{n - 1}}}${{k{n - 1}}}\n" for n in range(1, 15)))
