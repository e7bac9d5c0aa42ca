"""`--set KEY=VALUE`: any key of a suite from the command line, and never another one by mistake."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.core.base.errors import InputError
from fixtures.core.base.node import Node, Plain
from fixtures.core.base.yamlfile import parse_yaml
from fixtures.core.spec import library
from fixtures.core.spec.foundry.file import read_foundry
from fixtures.core.spec.settings import apply_settings, parse_setting, set_dotted
from fixtures.core.spec.suite import Entry, Protocol, Selector, Suite, read_suite

SUITE = """\
rounds: 9
entries:
  - models: [mpt7b, llama7b]
    hardware: [1xa100_80gb]
    engines: [hf_eager, hf]
    sweeps: [throughput, latency]
  - models: [mpt7b]
    sweeps:
      - name: mine
        grids:
          - {batch_sizes: [1, 2], input_lengths: [8], output_lengths: [1]}
          - {batch_sizes: [3], input_lengths: [8], output_lengths: [2]}
"""


def changed(*settings: str, text: str = SUITE) -> Suite:
    """The suite with settings."""
    return read_suite("own", apply_settings(parse_yaml(text, "s.yaml"), settings))


def refusal(*settings: str, text: str = SUITE) -> str:
    """What is said of settings that cannot be."""
    with pytest.raises(InputError) as caught:
        changed(*settings, text=text)
    return str(caught.value)


def names(entry: Entry) -> list[list[str]]:
    """An entry's models and engines."""
    return [[spec.name for spec in entry.models], [spec.name for spec in entry.engines]]


def lengths(entry: Entry) -> list[tuple[Any, ...]]:
    """An entry's grids."""
    return [(grid.batch_sizes, grid.input_lengths, grid.output_lengths) for grid in entry.grids]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("rounds=3", "rounds", 3),
        (" rounds = 3", "rounds", 3),
        ("batch_sizes=[1,4]", "batch_sizes", [1, 4]),
        ("engines.hf.dtype=float32", "engines.hf.dtype", "float32"),
        ("a=b=c", "a", "b=c"),
        ("a={b: 1e3}", "a", {"b": 1000.0}),
        ("a=", "a", None),
        ("a=null", "a", None),
    ],
)
def test_a_setting_is_a_dotted_key_and_a_yaml_value(text: str, key: str, value: Plain) -> None:
    """Parted by the first `=`."""
    found, node = parse_setting(text)
    assert (found, node.plain(), node.where, node.key) == (key, value, "--set", key)


@pytest.mark.parametrize("text", ["", "rounds", "=3", " =3", ".a=1", "a.=1", "a..b=1"])
def test_a_setting_of_another_form_is_refused_with_an_example(text: str) -> None:
    """Whole."""
    assert refusal(text) == f"--set {text}: write KEY=VALUE, such as --set batch_sizes=[1,4]"


def test_a_setting_with_line_breaks_is_refused_in_one_line() -> None:
    """As every complaint."""
    assert refusal("a\nb") == "--set a\\nb: write KEY=VALUE, such as --set batch_sizes=[1,4]"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "batch_sizes=[1",
            "--set:1: is not valid yaml: while parsing a flow sequence expected ',' or ']', "
            "but got '<stream end>'",
        ),
        ("rounds=x", "--set: rounds: must be a whole number of at least 1, and is text"),
        ("rounds=0", "--set: rounds: is 0; it must be at least 1"),
        ("batch_sizes=4", "--set: batch_sizes: must be a list, and is a whole number"),
        ("batch_sizes=[1,1]", "--set: batch_sizes: 1 is in this list twice; list it once"),
        ("output_lengths=[1,0]", "--set: output_lengths: is 0; it must be at least 1"),
        (
            "sweeps.mine.batch_sizes=[]",
            "--set: sweeps.mine.batch_sizes: is an empty list; it needs at least one entry",
        ),
        (
            "engines.hf.dtype=int8",
            "--set: engines.hf.dtype: 'int8' is not known; known: bfloat16, float16, float32",
        ),
        (
            "engines.hf.dtyp=float16",
            "--set: engines.hf.dtyp: unknown key; did you mean 'dtype'? "
            "known: attention, autocast, description, dtype, kind, prefill_chunk, routing, use_cache",
        ),
        (
            "models.mpt7b.vocab_size=100",
            "--set: models.mpt7b.vocab_size: unknown key; known: active_parameters, "
            "active_parameters_source, architecture, description, hub, kv_values_per_token, parameters, "
            "parameters_source, published, source",
        ),
        (
            "sweeps.mine.bathc_sizes=[1]",
            "--set: sweeps.mine.bathc_sizes: unknown key; did you mean 'batch_sizes'? "
            "known: batch_sizes, depths, description, grids, input_lengths, name, output_lengths",
        ),
        (
            "models.mpt30b.architecture.n_layers=2",
            "--set: models.mpt30b.architecture.n_layers: this suite uses no model 'mpt30b'; "
            "did you mean 'mpt7b'? known: llama7b, mpt7b",
        ),
        (
            "engines.hf_fp16.use_cache=false",
            "--set: engines.hf_fp16.use_cache: this suite uses no engine 'hf_fp16'; known: hf, hf_eager",
        ),
        (
            "sweeps.latency_short.batch_sizes=[1]",
            "--set: sweeps.latency_short.batch_sizes: this suite uses no sweep 'latency_short'; "
            "did you mean 'latency'? known: latency, mine, throughput",
        ),
        (
            "hardware=[1xh10_80gb]",
            "--set: hardware: no device is named 'h10_80gb'; did you mean 'h100_80gb'? known: ",
        ),
        ("models=[mtp7b]", "--set: models: no model is named 'mtp7b'; did you mean 'mpt7b'? known: "),
    ],
)
def test_a_setting_that_is_not_right_is_refused_by_its_key(setting: str, message: str) -> None:
    """And told what would be right."""
    assert refusal(setting).startswith(message)


@pytest.mark.parametrize(
    "setting",
    ["round=3", "rounds.x=3", "entries=[]", "description=x", "models.mpt7b=x", "batch_sizes.x=1", "x.y.z=1"],
)
def test_a_key_that_a_suite_has_not_is_refused_with_those_that_it_has(setting: str) -> None:
    """All of them."""
    key = setting.partition("=")[0]
    message = refusal(setting)
    assert message.startswith(f"--set: {key}: a suite has no such key; ")
    assert message.endswith(
        "known: batch_sizes, depths, engines, engines.NAME.KEY, hardware, input_lengths, minutes, models, "
        "models.NAME.KEY, output_lengths, rounds, seed, sweeps, sweeps.NAME.KEY, warmup_rounds"
    )


def test_no_settings_change_nothing() -> None:
    """Not even a place."""
    root = parse_yaml(SUITE, "s.yaml")
    assert apply_settings(root, []) == root


def test_the_protocol_can_be_set() -> None:
    """The last of several wins."""
    assert changed("rounds=2", "warmup_rounds=0", "seed=5", "rounds=3").protocol == Protocol(3, 0, 5)
    assert changed("rounds=").protocol.rounds == Protocol().rounds


def test_the_minutes_can_be_set() -> None:
    """They are no part of the protocol: a session with more of them goes on with the same run."""
    assert (changed("minutes=2.5").minutes, changed("minutes=2.5").protocol) == (2.5, changed().protocol)
    assert changed("minutes=0", text="minutes: 4\n" + SUITE).minutes == 0
    said = "--set: minutes: is -1; it must be a finite number above zero, or 0 for no limit"
    assert refusal("minutes=-1") == said


def test_models_hardware_engines_and_sweeps_are_set_in_every_entry() -> None:
    """Whether it had them or not."""
    first, second = changed("models=[mpt1b]", "hardware=[2xgpu]", "engines=[deepspeed]").entries
    for entry in (first, second):
        assert names(entry) == [["mpt1b"], ["deepspeed"]]
        assert entry.hardware == (Selector(2, "gpu"),)
    assert len(lengths(first)) == len(lengths(second)) == 2
    (first, second) = changed("sweeps=[throughput]").entries
    assert lengths(first) == lengths(second) == [((1, 2, 4, 8, 16, 32, 64), (512,), (64,))]
    assert names(second) == [["mpt7b"], ["hf"]]


def test_entries_that_settings_make_equal_are_one() -> None:
    """As where all four keys are set."""
    everything = ("models=[mpt1b]", "hardware=[1xany]", "engines=[hf]", "sweeps=[throughput]")
    (entry,) = changed(*everything, "batch_sizes=[2]").entries
    assert lengths(entry) == [((2,), (512,), (64,))]


def test_sweeps_that_settings_make_equal_are_one() -> None:
    """Where they have no name to tell them apart."""
    sweep = "{{batch_sizes: [{}], input_lengths: [8], output_lengths: [1]}}"
    text = f"models: [mpt7b]\nsweeps: [{sweep.format(1)}, {sweep.format(2)}]"
    (entry,) = changed("batch_sizes=[4]", text=text).entries
    assert lengths(entry) == [((4,), (8,), (1,))]


def test_lengths_are_set_in_every_grid_of_every_sweep() -> None:
    """Grids that become equal are one."""
    suite = changed("batch_sizes=[5, max]")
    assert [lengths(entry) for entry in suite.entries] == [
        [((5, "max"), (512,), (64,)), ((5, "max"), (128, 2048), (1, 11, 101, 1001))],
        [((5, "max"), (8,), (1,)), ((5, "max"), (8,), (2,))],
    ]
    suite = changed("output_lengths=[7]", "input_lengths=[6, 4]", "batch_sizes=[5]")
    assert [lengths(entry) for entry in suite.entries] == [
        [((5,), (6, 4), (7,)), ((5,), (6, 4), (7,))],
        [((5,), (6, 4), (7,))],
    ]


def test_lengths_of_one_sweep_leave_the_others_as_they_are() -> None:
    """A sweep of the library, and one of the suite's own, in one go."""
    suite = changed("sweeps.latency.output_lengths=[2]", "sweeps.mine.input_lengths=[3]")
    first, second = suite.entries
    assert lengths(first) == [
        ((1, 2, 4, 8, 16, 32, 64), (512,), (64,)),
        ((1, 4, 16, 64, "max"), (128, 2048), (2,)),
    ]
    assert lengths(second) == [((1, 2), (3,), (1,)), ((3,), (3,), (2,))]


def test_grids_of_a_sweep_can_be_set_as_a_whole() -> None:
    """As a list of mappings."""
    grids = "[{batch_sizes: [1], input_lengths: [2], output_lengths: [3]}]"
    assert lengths(changed(f"sweeps.mine.grids={grids}").entries[1]) == [((1,), (2,), (3,))]


def test_an_engine_that_is_changed_has_another_name() -> None:
    """Its numbers are no longer those of the library's."""
    first, second = changed("engines.hf_eager.dtype=float32", "engines.hf.use_cache=false").entries
    assert names(first)[1] == ["hf_eager_dtype_float32", "hf_use_cache_false"]
    eager, nocache = first.engines
    assert (eager.dtype, eager.attention, eager.use_cache) == ("float32", "eager", True)
    assert (nocache.dtype, nocache.attention, nocache.use_cache) == ("bfloat16", "auto", False)
    assert names(second)[1] == ["hf"]  # nothing is said there, so nothing is changed there


def test_a_model_that_is_changed_has_another_name_in_every_entry() -> None:
    """And no figures of the old one: 2 layers do not weigh as much as 32."""
    suite = changed("models.mpt7b.architecture.n_layers=2")
    assert [names(entry)[0] for entry in suite.entries] == [
        ["mpt7b_n_layers_2", "llama7b"],
        ["mpt7b_n_layers_2"],
    ]
    model, old = suite.entries[0].models[0], library.model("mpt7b")
    assert model.architecture == {**old.architecture, "n_layers": 2}
    assert (model.parameters, model.kv_values_per_token) == (None, None)
    assert old.parameters == 6649286656
    assert suite.entries[0].models[1] == library.model("llama7b")


def test_a_models_figures_can_be_set_by_themselves() -> None:
    """Which leaves the other ones."""
    model = changed("models.mpt7b.parameters=10").entries[0].models[0]
    assert (model.name, model.parameters) == ("mpt7b_parameters_10", 10)
    assert model.kv_values_per_token == 262144
    nested = changed("models.mpt7b.architecture.attn_config.clip_qkv=6").entries[0].models[0]
    assert nested.name == "mpt7b_clip_qkv_6"
    config = nested.architecture["attn_config"]
    assert isinstance(config, dict)
    assert (config["clip_qkv"], config["alibi"]) == (6, True)


def test_a_model_that_is_changed_twice_goes_by_its_new_name() -> None:
    """As the refusal of the old one says."""
    twice = changed("models.mpt7b.architecture.n_layers=2", "models.mpt7b_n_layers_2.architecture.d_model=64")
    (model,) = twice.entries[1].models
    assert model.name == "mpt7b_n_layers_2_d_model_64"
    assert (model.architecture["n_layers"], model.architecture["d_model"]) == (2, 64)
    message = refusal("models.mpt7b.architecture.n_layers=2", "models.mpt7b.architecture.d_model=64")
    assert message.endswith("this suite uses no model 'mpt7b'; known: llama7b, mpt7b_n_layers_2")


def test_a_suite_without_entries_takes_settings_too() -> None:
    """It is an entry itself."""
    text = "models: [mpt7b]\nsweeps: [throughput]"
    suite = changed(
        "batch_sizes=[2]", "engines=[hf_eager]", "engines.hf_eager.dtype=float16", "rounds=1", text=text
    )
    (entry,) = suite.entries
    assert names(entry) == [["mpt7b"], ["hf_eager_dtype_float16"]]
    assert lengths(entry) == [((2,), (512,), (64,))]
    assert suite.protocol.rounds == 1


FOUNDRY = """\
max_seq_len: 64
model:
  name: mpt_causal_lm
  d_model: 32
  n_heads: 2
  n_layers: 2
  max_seq_len: ${max_seq_len}
  vocab_size: 100
  no_bias: true
  attn_config: {alibi: true}
num_batches: 2
batch_sizes: [1]
input_lengths: [4]
output_lengths: [4]
"""


def foundry(*settings: str) -> Suite:
    """A file of llm-foundry's form with settings."""

    def fetch(asked: Node) -> dict[str, Plain]:
        raise asked.error("is not asked for here")

    return read_foundry("own", set_dotted(parse_yaml(FOUNDRY, "f.yaml"), settings), fetch)


def test_settings_of_a_foundry_file_reach_any_dotted_key() -> None:
    """Those that it has, and those that it has not."""
    suite = foundry(
        "batch_sizes=[1, 8]", "model.n_layers=3", "model.attn_config.clip_qkv=6", "model_dtype=fp32"
    )
    (entry,) = suite.entries
    assert lengths(entry) == [((1, 8), (4,), (4,))]
    architecture = entry.models[0].architecture
    assert architecture["n_layers"] == 3
    assert architecture["attn_config"] == {"alibi": True, "clip_qkv": 6.0}
    assert entry.engines[0].dtype == "float32"
    assert suite.protocol.rounds == 2


def test_references_of_a_foundry_file_see_what_was_set() -> None:
    """As OmegaConf, which merges the command line first."""
    (entry,) = foundry("max_seq_len=128").entries
    assert entry.models[0].architecture["max_seq_len"] == 128


def test_the_last_setting_of_a_key_wins() -> None:
    """A whole mapping too."""
    assert foundry("num_batches=3", "num_batches=4").protocol.rounds == 4
    (entry,) = foundry("model.attn_config.clip_qkv=6", "model.attn_config={alibi: true}").entries
    assert entry.models[0].architecture["attn_config"] == {"alibi": True}


@pytest.mark.parametrize(
    ("setting", "start"),
    [
        ("num_batch=3", "--set: num_batch: unknown key; did you mean 'num_batches'? known: "),
        ("bogus.key=3", "--set: bogus.key: unknown key; "),
        ("num_batches=x", "--set: num_batches: must be a whole number of at least 1, and is text"),
        ("model.d_model=x", "--set: model.d_model: must be a whole number of at least 1, and is text"),
        ("batch_sizes=1", "--set: batch_sizes: must be a list, and is a whole number"),
        (
            "max_seq_len.x=3",
            "f.yaml:7: model.max_seq_len: must be a whole number of at least 1, and is a mapping",
        ),
        ("model.name=gpt2", "--set: model.name: 'gpt2' is not known; known: hf_causal_lm, mpt_causal_lm"),
    ],
)
def test_a_setting_that_a_foundry_file_has_no_use_for_is_refused(setting: str, start: str) -> None:
    """By its key."""
    with pytest.raises(InputError) as caught:
        foundry(setting)
    assert str(caught.value).startswith(start)
