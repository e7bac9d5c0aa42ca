"""The project's own yamls: each loads, each figure has its source, each number is that of the real thing."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from ci.docs.models import PART, README, table
from fixtures.core.base.errors import InputError
from fixtures.core.base.node import Node, as_node
from fixtures.core.base.yamlfile import parse_yaml, read_yaml
from fixtures.core.cost.sweep import expand
from fixtures.core.spec import library
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.spec.suite import read_suite

KINDS = ("models", "hardware", "engines", "sweeps", "suites")
FILES = [(kind, name) for kind in KINDS for name in library.names(kind)]
MODELS = library.names("models")
DEVICES = library.names("hardware")
REPORTED = [name for name in DEVICES if library.hardware(name).reported_names]
MACHINES = [Machine(library.hardware(name), n) for name in DEVICES for n in (1, 2, 4)]
ARITHMETIC = re.compile(r"(?:by hand|hand arithmetic:) ([0-9*+^() ]+[0-9)])")


def entry(kind: str, name: str) -> dict[str, Node]:
    """What the library's file says, key by key."""
    return library.find(kind, as_node(name, "")).mapping()


def plain(kind: str, name: str) -> dict[str, Any]:
    """The same in plain values."""
    value = library.find(kind, as_node(name, "")).plain()
    assert isinstance(value, dict)
    return value


def test_every_file_is_of_a_known_kind() -> None:
    """A yaml in another folder, or with another ending, would be found by nobody."""
    found = {path.relative_to(library.YAMLS) for path in library.YAMLS.rglob("*") if path.is_file()}
    known = {Path(kind) / f"{name}.yaml" for kind, name in FILES}
    counts = {
        Path("counts") / f"{model}.json" for model in MODELS
    }  # made by fixtures.engines.counting.recount
    physics = {path for path in found if path.parts[0] == "physics"}  # by ci.physics
    made = {*counts, *physics, Path("splits.json")}  # that one by ci.census
    others = {Path("README.md"), Path("foundry_keys.yaml")}
    assert {path for path in found - known if path.parts[0] != "mcli"} == made | others
    assert len(known) == len(FILES) > 40


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_every_file_has_a_name_for_ids_and_a_description_of_one_line(kind: str, name: str) -> None:
    """The name is the file's."""
    assert as_node(name, "").name() == name
    description = entry(kind, name)["description"].text()
    assert len(description) > 10
    assert "\n" not in description


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_complete_and_has_its_sources(name: str) -> None:
    """Without its figures there is no telling whether it fits."""
    model = library.model(name)
    assert model.parameters
    assert model.kv_values_per_token
    assert model.context_len
    for source in ("source", "parameters_source"):
        assert len(entry("models", name)[source].text()) > 20


@pytest.mark.parametrize("name", MODELS)
def test_the_arithmetic_beside_a_models_parameters_gives_their_number(name: str) -> None:
    """As printed in its source; `^` is a power."""
    source = entry("models", name)["parameters_source"].text()
    (formula,) = ARITHMETIC.findall(source)
    assert eval(formula.replace("^", "**"), {"__builtins__": {}}) == library.model(name).parameters


@pytest.mark.parametrize("name", [name for name in MODELS if library.model(name).active_parameters])
def test_the_arithmetic_beside_active_parameters_gives_their_number(name: str) -> None:
    """The formula of all parameters, with the experts that a token uses."""
    source, whole = (
        entry("models", name)[f"{key}_source"].text() for key in ("active_parameters", "parameters")
    )
    (formula,) = ARITHMETIC.findall(source)
    active = eval(formula.replace("^", "**"), {"__builtins__": {}})
    assert active == library.model(name).active_parameters
    assert active < (library.model(name).parameters or 0)
    of = library.model(name).architecture
    experts = next(of[key] for key in ("num_experts", "num_local_experts", "n_routed_experts") if key in of)
    (all_of_them,) = ARITHMETIC.findall(whole)
    assert formula.count(f"{of['num_experts_per_tok']}*") >= 1
    assert len(all_of_them) - len(formula) == len(str(experts)) - len(str(of["num_experts_per_tok"]))


@pytest.mark.parametrize("name", [name for name in MODELS if "published" in entry("models", name)])
def test_parameters_are_those_that_are_published(name: str) -> None:
    """To 1.5 %, which is a vision encoder; some publishers' active ones lack one or both embeddings."""
    model, published = library.model(name), entry("models", name)["published"].mapping()
    assert published["source"].text().startswith(f"https://huggingface.co/{model.hub}: ")
    assert model.parameters == pytest.approx(
        published["parameters"].number(), rel=0.03 if name == "kimi_k2" else 0.015
    )
    if model.active_parameters is not None:
        of: dict[str, Any] = model.architecture
        embedding = of["vocab_size"] * of["hidden_size"]
        figure = published["active_parameters"].number()
        counted = [model.active_parameters - embedding * left_out for left_out in range(3)]
        assert min(abs(value / figure - 1) for value in counted) < 0.03


def test_the_table_of_models_is_current() -> None:
    """In the README beside them, with every model that has published figures."""
    readme = README.read_text(encoding="utf-8")
    assert PART.within(readme, table()) == readme


@pytest.mark.parametrize("name", [name for name in MODELS if library.model(name).kv_values_per_token])
def test_a_models_cache_holds_a_key_and_a_value_of_every_key_value_head(name: str) -> None:
    """2 * layers * key-value heads * head size, or a latent, from the architecture's own keys.

    Layers without attention have none; the full ones of Gemma 4 have heads of their own.
    """
    of: dict[str, Any] = library.model(name).architecture
    if "kv_lora_rank" in of:
        values = of["num_hidden_layers"] * (of["kv_lora_rank"] + of["qk_rope_head_dim"])
        assert library.model(name).kv_values_per_token == values + keys_of_indexers(of)
        return
    if "compress_rates" in of:
        sparse, heavy = of["compress_rates"].values()
        kinds = [
            of["layer_types"].count(f"{kind}_attention")
            for kind in ("sliding", "compressed_sparse", "heavily_compressed")
        ]
        entries_of = (
            kinds[1] * (of["head_dim"] + of["index_head_dim"]) / sparse + kinds[2] * of["head_dim"] / heavy
        )
        values = of["head_dim"] * (2 * kinds[0] + kinds[1] + kinds[2]) + entries_of
        assert library.model(name).kv_values_per_token == values
        return
    if of["model_type"] == "mpt":
        layers, heads, size = of["n_layers"], of["n_heads"], of["d_model"] // of["n_heads"]
    else:
        layers, queries = of.get("num_hidden_layers"), of["num_attention_heads"]
        heads = 1 if of.get("multi_query") else of["num_key_value_heads"]
        size = of.get("head_dim", of["hidden_size"] // queries)
    kinds = kinds_of_layers(of) or ["full_attention"] * layers
    full = of.get("num_global_key_value_heads", heads) * of.get("global_head_dim", size)
    values = {
        "full_attention": full,
        "attention": full,
        "sliding_attention": heads * size,
        "minimax_m3_sparse": full,
    }
    assert library.model(name).kv_values_per_token == (
        2 * sum(values.get(kind, 0) for kind in kinds) + keys_of_indexers(of)
    )


def kinds_of_layers(architecture: dict[str, Any]) -> list[str]:
    """One after another; empty where they are alike."""
    kinds: list[str] = architecture.get("layer_types", architecture.get("layers_block_type", []))
    return kinds


def keys_of_indexers(architecture: dict[str, Any]) -> int:
    """Their values a token, over all layers that have an indexer."""
    layers = architecture.get("num_hidden_layers", 0)
    kinds = architecture.get("indexer_types") or architecture.get("layer_types") or ["full"] * layers
    having = sum(kind in ("full", "minimax_m3_sparse") for kind in kinds)
    return having * int(architecture.get("index_head_dim", 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_models_parameters_are_those_that_transformers_builds(name: str) -> None:
    """On torch's meta device, which has shapes and no memory; tied weights are one."""
    transformers: Any = pytest.importorskip("transformers")
    torch: Any = pytest.importorskip("torch")
    architecture = dict(library.model(name).architecture)
    config = transformers.AutoConfig.for_model(architecture.pop("model_type"), **architecture)
    with torch.device("meta"):
        built = transformers.AutoModelForCausalLM.from_config(config)
    assert sum(weight.numel() for weight in built.parameters()) == library.model(name).parameters


def has_plain_cache(name: str) -> bool:
    """Whether two layers of the model keep what each layer does; those with indexers are counted whole."""
    model = library.model(name)
    return model.kv_values_per_token is not None and "index_head_dim" not in model.architecture


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if has_plain_cache(name)])
def test_a_models_cache_is_as_large_as_the_one_that_transformers_fills(name: str) -> None:
    """2 sequences of 5 tokens on the meta device, counted off the cache's tensors.

    Through 2 of its layers, or through as many as have its kinds of layers in their proportion.
    """
    transformers: Any = pytest.importorskip("transformers")
    torch: Any = pytest.importorskip("torch")
    architecture: dict[str, Any] = dict(library.model(name).architecture)
    depth = "n_layers" if architecture["model_type"] == "mpt" else "num_hidden_layers"
    kinds = kinds_of_layers(architecture)
    layers = architecture.get(depth, len(kinds))
    few = next((n for n in range(2, layers) if in_proportion(kinds, n)), layers)
    for key in ("layer_types", "layers_block_type", "no_rope_layers"):
        if key in architecture:
            architecture[key] = architecture[key][:few]
    if "layers_block_type" not in architecture:
        architecture[depth] = few
    config = transformers.AutoConfig.for_model(architecture.pop("model_type"), **architecture)
    with torch.device("meta"):
        built = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        ids = torch.zeros((2, 5), dtype=torch.long)
        cache = built(ids, use_cache=True).past_key_values
    attending = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
    held = sum(layer.keys.numel() + layer.values.numel() for layer in attending)
    assert len(cache.layers) == few
    assert held / (2 * 5) * layers / few == library.model(name).kv_values_per_token


def in_proportion(kinds: list[str], few: int) -> bool:
    """Whether the first layers have the kinds of all layers in their proportion."""
    return all(kinds[:few].count(kind) * len(kinds) == kinds.count(kind) * few for kind in set(kinds))


@pytest.mark.parametrize("name", DEVICES)
def test_every_figure_of_a_device_has_a_source(name: str) -> None:
    """And every source a figure; a device without a figure says why."""
    of, sources = plain("hardware", name), plain("hardware", name)["sources"]
    assert set(sources) == set(of) - {"description", "kind", "vendor", "sources"}
    assert {"peak_bf16_flops", "peak_fp8_flops", "link_between_nodes_bytes_per_s", "tdp_w"} < set(sources)
    for figure in sources:
        assert len(sources[figure]) > 20
        if of[figure]:
            assert "http" in sources[figure] or "prints" in sources[figure] or "giving" in sources[figure]
    if name in REPORTED:
        assert of["memory_bytes"]
        assert of["peak_bandwidth_bytes_per_s"]
        assert of["peak_bf16_flops"] or of["peak_fp16_flops"]
    elif name != "cpu":
        assert "for plans and estimates only" in of["description"]


@pytest.mark.parametrize("name", REPORTED)
def test_the_memory_of_a_device_is_what_its_driver_reports(name: str) -> None:
    """The source quotes the line, in MiB for NVIDIA and in bytes for AMD."""
    spec = library.hardware(name)
    source = plain("hardware", name)["sources"]["memory_bytes"]
    nvidia = re.search(r"'([^',]+), ([0-9]+) MiB'", source)
    amd = re.search(r"'VRAM Total Memory \(B\): ([0-9]+)'", source)
    if nvidia:
        assert nvidia[1] in spec.reported_names
        assert spec.memory_bytes == int(nvidia[2]) * 1024 * 1024
    elif "[N/A]" in source:  # memory that is the CPU's too, of which the driver reports no total
        assert spec.memory_bytes == 128e9
    else:
        assert amd
        assert spec.memory_bytes == int(amd[1])


def test_figures_of_devices_are_in_si_units() -> None:
    """A device of our days: 10 to 1000 GB, 10 TFLOP/s to 20 PFLOP/s, 0.1 to 20 TB/s, 50 to 2000 W."""
    ranges = {
        "memory_bytes": (1e10, 1e12),
        "peak_bf16_flops": (1e13, 1e16),
        "peak_fp16_flops": (1e13, 1e16),
        "peak_fp8_flops": (1e14, 2e16),
        "peak_int8_flops": (1e14, 2e16),
        "peak_fp4_flops": (1e14, 2e16),
        "peak_bandwidth_bytes_per_s": (1e11, 2e13),
        "link_bytes_per_s": (1e10, 2e12),
        "link_between_nodes_bytes_per_s": (1e10, 2e11),
        "devices_per_node": (1, 8),
        "tdp_w": (50, 2000),
    }
    for spec in library.all_hardware():
        for key, (least, most) in ranges.items():
            value = getattr(spec, key)
            assert value is None or least <= value <= most, (spec.name, key)
    assert [spec.name for spec in library.all_hardware()] == sorted(DEVICES)


def test_narrower_values_are_not_multiplied_more_slowly() -> None:
    """On tensor cores fp8 takes at most the time of bf16, and fp4 at most that of fp8."""
    for spec in library.all_hardware():
        assert spec.peak_bf16_flops is None or spec.peak_fp16_flops in (None, spec.peak_bf16_flops)
        rates = [spec.peak_bf16_flops, spec.peak_fp8_flops, spec.peak_fp4_flops]
        stated = [rate for rate in rates if rate is not None]
        assert stated == sorted(stated)


def test_no_two_devices_report_the_same_name() -> None:
    """Whatever the case of its letters."""
    reported = [name.lower() for spec in library.all_hardware() for name in spec.reported_names]
    assert len(reported) == len(set(reported)) > 10


@pytest.mark.parametrize("name", library.names("engines"))
def test_every_engine_loads_under_its_own_name(name: str) -> None:
    """Which says what it is."""
    node = library.find("engines", as_node(name, ""))
    assert library.read_engine(name, node) == library.read_engine(None, node)


@pytest.mark.parametrize("name", library.names("sweeps"))
def test_every_sweep_has_points_for_mpt7b(name: str) -> None:
    """In a suite of one line; longer ones than its context for llama31_8b."""
    longer = name in ("rag", "reasoning", "summary", "prefill", "prefill_32k", "depth", "depth_short")
    model = "llama31_8b" if longer else "mpt7b"
    suite = read_suite("s", parse_yaml(f"models: [{model}]\nsweeps: [{name}]", "s.yaml"))
    assert expand(suite, Machine(library.hardware("a100_80gb"), 1)).cases


@pytest.mark.parametrize("name", library.names("suites"))
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.label)
def test_every_suite_expands_on_every_machine(name: str, machine: Machine) -> None:
    """Each case once, a model's cases together, a load's cases together."""
    cases = expand(read_suite(name, library.suite(name)), machine).cases
    ids = [case.id for case in cases]
    assert len(set(ids)) == len(ids)
    for key in ([case.model.name for case in cases], [case.load_key for case in cases]):
        changes = sum(before != after for before, after in itertools.pairwise(key))
        assert changes == max(len(set(key)) - 1, 0)
    if (machine.hardware.kind == "gpu" and name != "ranks") or name == "default":
        assert cases
    if name == "ranks":
        assert len(cases) == (4 + 6 * (machine.ranks > 1) if machine.hardware.kind == "cpu" else 0)


def test_a_name_that_the_library_has_not_is_refused_with_the_nearest_one() -> None:
    """At the place that asked; a path is no name."""
    with pytest.raises(InputError) as caught:
        library.find("models", as_node("mtp7b", "s.yaml:3", "models"))
    assert str(caught.value).startswith(
        "s.yaml:3: models: no model is named 'mtp7b'; did you mean 'mpt7b'? known: deepseek_v3, "
    )
    for name in ("../models/mpt7b", "mpt7b.yaml", "MPT7B"):
        with pytest.raises(InputError, match="no model is named"):
            library.find("models", as_node(name, ""))


def test_a_place_in_the_library_is_shown_from_the_projects_root() -> None:
    """With its line."""
    root = library.find("models", as_node("mpt7b", ""))
    assert root.where == "yamls/models/mpt7b.yaml:4"
    assert root.mapping()["hub"].where == "yamls/models/mpt7b.yaml:5"


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("models", "parameters: 1", "s.yaml:1: the key 'architecture' is missing"),
        (
            "models",
            "architecture:\n  n_layers: 1",
            "s.yaml:1: architecture: the key 'model_type' is missing",
        ),
        (
            "models",
            "architecture: {model_type: 1}",
            "s.yaml:1: architecture.model_type: must be text, and is",
        ),
        (
            "models",
            "architecture: {model_type: mpt}\nparams: 1",
            "s.yaml:2: params: unknown key; did you mean",
        ),
        (
            "models",
            "architecture: {model_type: mpt}\nparameters: 1.5",
            "s.yaml:2: parameters: must be a whole number of at least 1, and is a number",
        ),
        (
            "engines",
            "kind: onnx",
            "s.yaml:1: kind: 'onnx' is not known; known: deepspeed, deepspeed_kernels, hf, ",
        ),
        ("engines", "dtype: bf16", "s.yaml:1: dtype: 'bf16' is not known; "),
        ("engines", "autocast: float32", "s.yaml:1: autocast: 'float32' is not known; "),
        ("engines", "use_cache: 1", "s.yaml:1: use_cache: must be true or false, and is a whole number"),
        ("hardware", "memory_bytes: 1", "s.yaml:1: the key 'kind' is missing"),
        ("hardware", "kind: tpu", "s.yaml:1: kind: 'tpu' is not known; "),
        ("hardware", "kind: gpu\nmemory_bytes: -1", "s.yaml:2: memory_bytes: is -1; it must be at least 1"),
        ("hardware", "kind: gpu\nmemory: 1", "s.yaml:2: memory: unknown key; did you mean 'memory_bytes'?"),
    ],
)
def test_a_definition_that_is_not_right_is_refused_by_line_and_key(kind: str, text: str, reason: str) -> None:
    """And told what would be right."""
    readers: dict[str, Any] = {
        "models": library.read_model,
        "engines": library.read_engine,
        "hardware": library.read_hardware,
    }
    with pytest.raises(InputError) as caught:
        readers[kind]("own", parse_yaml(text, "s.yaml"))
    assert str(caught.value).startswith(reason)


def test_a_definition_has_defaults_for_what_it_does_not_say() -> None:
    """An engine is transformers in bf16 with its cache; figures are not known."""
    engine = library.read_engine("own", parse_yaml("description: x", "s.yaml"))
    assert (engine.name, engine.kind, engine.dtype, engine.attention) == ("own", "hf", "bfloat16", "auto")
    assert (engine.use_cache, engine.autocast) == (True, None)
    model = library.read_model("own", parse_yaml("architecture: {model_type: mpt}", "s.yaml"))
    assert (model.parameters, model.kv_values_per_token, model.hub) == (None, None, None)
    assert model.active_parameters is None
    device = library.read_hardware("own", parse_yaml("kind: gpu\nreported_names: []", "s.yaml"))
    assert (device.memory_bytes, device.peak_bf16_flops, device.reported_names) == (None, None, ())


def test_a_definition_is_read_into_the_fields_of_its_names() -> None:
    """Each from its own key."""
    model = library.model("mpt7b")
    assert (model.name, model.hub, model.context_len) == ("mpt7b", "mosaicml/mpt-7b", 4096)
    assert library.model("qwen3_30b_a3b").active_parameters == 3353032704
    device = library.read_hardware(
        "own",
        parse_yaml(
            "kind: gpu\nmemory_bytes: 10\npeak_bf16_flops: 2e3\npeak_bandwidth_bytes_per_s: 30\n"
            "peak_fp16_flops: 3\npeak_fp8_flops: 4\npeak_int8_flops: 5\npeak_fp4_flops: 6\n"
            "link_bytes_per_s: 7\nlink_between_nodes_bytes_per_s: 8\ntdp_w: 9\ndevices_per_node: 2\n"
            "reported_names: [A, B]",
            "s.yaml",
        ),
    )
    assert (device.name, device.kind, device.memory_bytes) == ("own", "gpu", 10)
    assert (device.peak_bf16_flops, device.peak_bandwidth_bytes_per_s) == (2000.0, 30.0)
    assert (device.peak_fp16_flops, device.peak_fp8_flops) == (3.0, 4.0)
    assert (device.peak_int8_flops, device.peak_fp4_flops) == (5.0, 6.0)
    assert (device.link_bytes_per_s, device.link_between_nodes_bytes_per_s) == (7.0, 8.0)
    assert (device.tdp_w, device.devices_per_node) == (9.0, 2)
    assert device.reported_names == ("A", "B")
    engine = library.read_engine(
        None, parse_yaml("kind: deepspeed\ndtype: float16\nattention: eager\nautocast: bfloat16", "s.yaml")
    )
    assert engine.name == "deepspeed_eager_fp16_autocast_bf16"
    assert (engine.kind, engine.dtype, engine.attention, engine.autocast) == (
        "deepspeed",
        "float16",
        "eager",
        "bfloat16",
    )


def test_the_yamls_are_where_the_library_looks_for_them() -> None:
    """Beside the fixtures."""
    assert (
        read_yaml(library.YAMLS / "models" / "mpt7b.yaml", "x").mapping()["hub"].text() == "mosaicml/mpt-7b"
    )


SHAPES = {
    "chat": (1024, 1024),
    "rag": (8192, 1024),
    "reasoning": (1024, 8192),
    "summary": (4096, 512),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_cpus_sweep_is_its_sister_at_a_sixteenth(name: str) -> None:
    """Of both lengths; the long one ends with the largest batch."""
    long, short = plain("sweeps", name), plain("sweeps", f"{name}_short")
    assert (long["input_lengths"], long["output_lengths"]) == tuple([length] for length in SHAPES[name])
    assert long["batch_sizes"][-1] == "max"
    for key in ("input_lengths", "output_lengths"):
        assert short[key] == [length // 16 for length in long[key]]
