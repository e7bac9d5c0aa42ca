"""A quantised checkpoint's format, in the spellings of the tools that write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ci.tests.conftest import write_suite
from ci.tests.measure.test_measuring import Fake, only_record
from fixtures.choose.hub_config import read_config
from fixtures.core.spec.arch.quantised import checkpoint_format

pytest_plugins = ["pytester"]

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
W4A8 = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "kv_cache_scheme": {"num_bits": 8},
    "config_groups": {
        "group_0": {"input_activations": {"num_bits": 8}, "weights": {"num_bits": 4, "type": "int"}}
    },
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (FP8, "fp8 (e4m3)"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq (4-bit)"),
        ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "awq (4-bit)"),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            "bitsandbytes (4-bit, nf4)",
        ),
        ({"load_in_8bit": True, "llm_int8_threshold": 6.0}, "bitsandbytes (8-bit)"),
        ({"quant_method": "bitsandbytes", "_load_in_8bit": True}, "bitsandbytes (8-bit)"),
        (W4A8, "compressed-tensors (4-bit, pack-quantized)"),
        ({"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, "mxfp4"),
        ({"quant_method": "quanto", "weights": "int8", "activations": None}, "quanto (int8)"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "torchao (int4_weight_only)"),
        (
            {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}},
            "torchao (Int8WeightOnlyConfig)",
        ),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 2}}}, "hqq (2-bit)"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "modelopt (NVFP4)"),
        ({"quant_method": "exl2", "bits": 4.65}, "exl2 (4.65-bit)"),
        ({"quant_method": "bitnet"}, "bitnet"),
        ({"bits": 4, "group_size": 64}, "4-bit"),
        ({"activation_scheme": "static"}, "a format without a name"),
        ("fp8", "fp8"),
        ({"quant_method": "odd\x1b[31m\nname"}, "odd__31m_name"),
        (None, None),
        ({}, None),
        ("", None),
        ("none", None),
        (False, None),
        ({"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": False}, None),
        ({"quant_method": None, "load_in_4bit": False, "load_in_8bit": False}, None),
    ],
)
def test_the_formats_of_the_tools_that_write_them(value: Any, text: str | None) -> None:
    """The method's name and what tells two of a method apart; nothing where a config says none."""
    assert checkpoint_format({"model_type": "llama", "quantization_config": value}) == text


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"compression_config": {**W4A8, "quant_method": "sparseml"}}, "sparseml (4-bit, pack-quantized)"),
        ({"text_config": {"quantization_config": FP8}}, "fp8 (e4m3)"),
        ({"thinker_config": {"text_config": {"quantization_config": FP8}}}, "fp8 (e4m3)"),
        ({"vision_config": {"quantization_config": FP8}}, None),
        ({"audio_config": {"quantization_config": FP8}, "text_config": {}}, None),
        ({"quantization": {"bits": 4}, "quantization_config": {"bits": 4}}, "4-bit"),
        ({"quantization_config": FP8, "text_config": {"quantization_config": FP8}}, "fp8 (e4m3)"),
        ({"attn_config": {"alibi": True}}, None),
    ],
)
def test_where_a_config_says_it(config: Any, text: str | None) -> None:
    """At the top, in the part that is measured, in the older name and in MLX's; never of another tower."""
    assert checkpoint_format({"model_type": "llama", **config}) == text


def test_a_config_that_is_nested_very_deeply_is_no_crash() -> None:
    """Only so deep is looked."""
    config: Any = {"quantization_config": FP8}
    for _ in range(5000):
        config = {"a": config}
    assert checkpoint_format(config) is None


def write_model(folder: Path, **keys: Any) -> None:
    """A checkpoint's folder, `quantised`, without weights."""
    (folder / "quantised").mkdir()
    (folder / "quantised" / "config.json").write_text(json.dumps({**LLAMA, **keys}))


def test_a_quantised_checkpoint_is_measured_unquantised_and_says_so(
    project: pytest.Pytester, fake: Fake
) -> None:
    """One line before anything runs, and in the record; a checkpoint in plain numbers has neither."""
    write_model(project.path, quantization_config=FP8)
    suite = write_suite(project.path, "plain", engines=["hf", "hf_eager", "hf_fp32"], batch_sizes=[1, 2])
    arguments = ("benchmarks", "--benchmark-only", "--suite", suite, "-k", "hf-b1 or hf_eager or hf_fp32-b2")
    result = project.runpytest(*arguments, "--model", "quantised", "--rounds=1")
    lines = [line for line in result.outlines if "fp8 (e4m3)" in line]
    assert lines == [
        "warning: quantised: its checkpoint holds the weights in fp8 (e4m3); here they are unquantised, in "
        "bfloat16 or float32: speed and memory differ from the checkpoint's"
    ]
    assert result.ret == 0


def test_the_record_says_what_the_checkpoint_has(project: pytest.Pytester, fake: Fake) -> None:
    """Beside what was measured: another model than one whose checkpoint is in plain numbers."""
    write_model(project.path, quantization_config=FP8)
    suite = write_suite(project.path, "plain")
    project.runpytest("benchmarks", "--benchmark-only", "--suite", suite, "--model", "quantised")
    case = only_record(project)["extra_info"]["case"]
    assert case["model"]["checkpoint_format"] == "fp8 (e4m3)"
    assert case["model"]["weights"] == "random"
    assert case["engine"]["dtype"] == "bfloat16"


def test_a_plain_checkpoint_has_no_such_field(project: pytest.Pytester, fake: Fake) -> None:
    """So that it can be held against what was stored before there was one."""
    write_model(project.path, quantization_config=None)
    suite = write_suite(project.path, "plain")
    result = project.runpytest("benchmarks", "--benchmark-only", "--suite", suite, "--model", "quantised")
    assert "checkpoint_format" not in only_record(project)["extra_info"]["case"]["model"]
    result.stdout.no_fnmatch_line("*unquantised*")


def test_weights_in_a_format_that_no_engine_runs_are_refused(project: pytest.Pytester, fake: Fake) -> None:
    """Before anything is loaded: else they would be read as what they are not."""
    write_model(project.path, text_config={"quantization_config": {"quant_method": "awq", "bits": 4}})
    (project.path / "quantised" / "model.safetensors").touch()
    result = project.runpytest("benchmarks", "--model", "quantised", "--weights", "checkpoint")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *the weights of quantised are in awq (4-bit), which no engine here*"]
    )
    assert not fake.log


@pytest.mark.parametrize(
    ("name", "beside", "text"),
    [
        ("quantize_config.json", {"bits": 4, "group_size": 128}, "gptq (4-bit)"),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128}, "awq (4-bit)"),
        ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}}, "modelopt (FP8)"),
        ("other_config.json", {"bits": 4}, None),
    ],
)
def test_the_format_may_stand_in_a_file_beside_the_config(
    tmp_path: Path, name: str, beside: dict[str, Any], text: str | None
) -> None:
    """As older quantisers wrote it; what the config itself says goes first."""
    write_model(tmp_path)
    (tmp_path / "quantised" / name).write_text(json.dumps(beside))
    assert checkpoint_format(read_config(str(tmp_path / "quantised"))) == text
    own = {**LLAMA, "quantization_config": FP8}
    (tmp_path / "quantised" / "config.json").write_text(json.dumps(own))
    assert read_config(str(tmp_path / "quantised")) == own


@pytest.mark.slow
def test_weights_in_another_format_than_the_config_says_are_refused(tmp_path: Path) -> None:
    """Tensors of other names would leave the model's own random; one's own head is nobody's concern."""
    from safetensors.torch import load_file, save_file

    from fixtures.core.spec import library
    from fixtures.core.spec.case import Case, EngineSpec, ModelSpec, Point
    from fixtures.engines.hf import HfEngine
    from fixtures.engines.protocol import CannotLoad

    def case(weights: str | None) -> Case:
        model = ModelSpec("small", LLAMA, weights=weights)
        return Case(model, library.hardware("cpu"), 1, EngineSpec("hf"), Point(1, 4, 2))

    hf = HfEngine()
    hf.load(case(None), seed=17)
    hf.model.save_pretrained(tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    without_head = {name: tensor for name, tensor in whole.items() if name != "lm_head.weight"}
    save_file(without_head, tmp_path / "model.safetensors", {"format": "pt"})
    HfEngine().load(case(str(tmp_path)), seed=17)
    packed = {name.replace("down_proj.weight", "down_proj.qweight"): t for name, t in whole.items()}
    save_file(packed, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CannotLoad, match=r"no tensor model\.layers\.0\.mlp\.down_proj\.weight and 1 more"):
        HfEngine().load(case(str(tmp_path)), seed=17)
