"""From a suite and a machine to the cases: every published point is among them, each once, in order."""

from __future__ import annotations

import csv
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.core.base.errors import InputError
from fixtures.core.base.yamlfile import parse_yaml
from fixtures.core.cost.memory import predict
from fixtures.core.cost.stored_counts import find_counts
from fixtures.core.cost.sweep import Layout, Selection, expand, lay_out, resolve
from fixtures.core.spec.case import Case, EngineSpec, HardwareSpec, Point
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.spec.library import hardware, suite
from fixtures.core.spec.library import model as library_model
from fixtures.core.spec.suite import Selector, read_suite

FUZZ = settings(deadline=None, derandomize=True, max_examples=150)
PUBLISHED = Path(__file__).resolve().parents[3] / "baselines" / "published" / "a100_2023.csv"
FIGURES = ("latency", "hardware", "models")
CPU = HardwareSpec("cpu", "cpu", memory_bytes=2**40)

Key = tuple[str, str, int, int, int]


def here(text: str, machine: Machine) -> Selection:
    """What of a suite's text a machine gets."""
    return expand(read_suite("own", parse_yaml(text, "s.yaml")), machine)


def to_confirm(layout: Layout) -> list[Case]:
    """The cases whose largest batch is only predicted, each once."""
    return list(dict.fromkeys(slot.predicted for slot in layout.slots if slot.predicted is not None))


def on(device: str, devices: int = 1) -> Machine:
    """A machine of the library's devices."""
    return Machine(hardware(device), devices)


def ids(selection: Selection) -> list[str]:
    """The ids of the cases in their order."""
    return [case.id for case in selection.cases]


def key(case: Case) -> Key:
    """What of a case a published row says."""
    point = case.point
    machine = f"{case.devices}x{case.hardware.name}"
    return case.model.name, machine, point.batch_size, point.input_len, point.output_len


@cache
def published() -> dict[str, set[Key]]:
    """The points of each published figure."""
    points: dict[str, set[Key]] = {}
    with PUBLISHED.open(newline="") as file:
        for row in csv.DictReader(file):
            point = (int(row["batch_size"]), int(row["input_len"]), int(row["output_len"]))
            points.setdefault(row["figure"], set()).add((row["model"], row["hardware"], *point))
    return points


@cache
def expanded(name: str) -> tuple[Case, ...]:
    """All cases of a suite of the library on the machines that it names."""
    asked = read_suite(name, suite(name))
    machines = {(one.device, one.devices) for entry in asked.entries for one in entry.hardware}
    named = [
        Machine(hardware(device), devices)
        for device, devices in sorted(machines)
        if device not in ("gpu", "any")
    ]
    return tuple(case for machine in named for case in expand(asked, machine).cases)


def test_the_published_points_are_138() -> None:
    """149 rows, of which 11 stand in two figures: 7 batch sizes of MPT-7B and 4 of MPT-30B."""
    figures = published()
    assert {name: len(points) for name, points in figures.items()} == {
        "latency": 48,
        "hardware": 66,
        "models": 35,
    }
    assert len(set.union(*figures.values())) == 138
    assert len(figures["hardware"] & figures["models"]) == 11


@pytest.mark.parametrize("figure", FIGURES)
def test_every_published_point_is_a_case_of_the_suite_of_its_figure(figure: str) -> None:
    """On the machine that was named there."""
    missing = published()[figure] - {key(case) for case in expanded(figure)}
    assert not missing


@pytest.mark.parametrize("figure", FIGURES)
def test_published_points_are_measured_as_they_were_published(figure: str) -> None:
    """One device by plain matrix products, several by DeepSpeed."""
    for case in expanded(figure):
        if key(case) in published()[figure]:
            assert case.engine.name == ("hf_eager" if case.devices == 1 else "deepspeed")


def test_a_machine_of_four_takes_what_one_two_and_four_can() -> None:
    """And one of three what one and two can."""
    asked = read_suite("hardware", suite("hardware"))
    for devices, taken in ((1, {1}), (2, {1, 2}), (3, {1, 2}), (4, {1, 2, 4}), (8, {1, 2, 4})):
        assert {case.devices for case in expand(asked, on("a100_80gb", devices)).cases} == taken


def test_cases_come_in_the_order_written_and_model_by_model() -> None:
    """Grids, then input lengths, batch sizes, output lengths."""
    selection = here(
        """
        models: [mpt30b, mpt7b]
        engines: [hf_eager, hf]
        sweeps:
          - grids:
              - {batch_sizes: [2, 1], input_lengths: [8, 4], output_lengths: [3, 1]}
              - {batch_sizes: [1], input_lengths: [2], output_lengths: [2]}
        """,
        on("h100_80gb"),
    )
    points = ["b2-in8-out3", "b2-in8-out1", "b1-in8-out3", "b1-in8-out1"]
    points += ["b2-in4-out3", "b2-in4-out1", "b1-in4-out3", "b1-in4-out1", "b1-in2-out2"]
    assert ids(selection) == [
        f"{model}-1xh100_80gb-{engine}-{point}"
        for model in ("mpt30b", "mpt7b")
        for engine in ("hf_eager", "hf")
        for point in points
    ]


def test_a_model_and_a_load_that_come_back_in_a_later_entry_join_the_first() -> None:
    """So that each is loaded once; the first to be written is the first to run."""
    sweep = "sweeps: [{{batch_sizes: [{}], input_lengths: [1], output_lengths: [1]}}]"
    selection = here(
        f"""
        entries:
          - {{models: [mpt7b, mpt1b], engines: [hf, hf_eager], {sweep.format(2)}}}
          - {{models: [mpt125m, mpt7b], engines: [hf], {sweep.format(1)}}}
        """,
        Machine(CPU, 1),
    )
    assert ids(selection) == [
        "mpt7b-1xcpu-hf-b2-in1-out1",
        "mpt7b-1xcpu-hf-b1-in1-out1",
        "mpt7b-1xcpu-hf_eager-b2-in1-out1",
        "mpt1b-1xcpu-hf-b2-in1-out1",
        "mpt1b-1xcpu-hf_eager-b2-in1-out1",
        "mpt125m-1xcpu-hf-b1-in1-out1",
    ]


def test_a_case_that_is_asked_for_twice_is_measured_once() -> None:
    """By two selectors, two entries, two sweeps."""
    entry = "models: [mpt7b], hardware: [1xa100_80gb, 1xgpu, 1xany], sweeps: [throughput, {}]"
    others = [
        f"{{batch_sizes: [{sizes}], input_lengths: [512], output_lengths: [64]}}"
        for sizes in ("64, 128", "3")
    ]
    selection = here(
        "\n".join(["entries:", *(f"- {{{entry.format(other)}}}" for other in others)]), on("a100_80gb")
    )
    # 1 to 64 of throughput, 128 of the next sweep (its 64 is there already), 3 of the second entry
    assert [case.point.batch_size for case in selection.cases] == [1, 2, 4, 8, 16, 32, 64, 128, 3]
    assert {case.load_key for case in selection.cases} == {"mpt7b-1xa100_80gb-hf"}


NUMBERS = st.lists(st.sampled_from([1, 2, 3, 5, 8]), min_size=1, max_size=3, unique=True)
GRID = st.fixed_dictionaries({"batch_sizes": NUMBERS, "input_lengths": NUMBERS, "output_lengths": NUMBERS})
ENTRY = st.fixed_dictionaries(
    {
        "models": st.lists(st.sampled_from(["mpt7b", "mpt1b", "llama7b"]), min_size=1, unique=True),
        "engines": st.lists(st.sampled_from(["hf", "hf_eager", "hf_fp16"]), min_size=1, unique=True),
        "hardware": st.lists(
            st.sampled_from(["1xany", "2xany", "1xgpu", "2xa100_80gb", "4xgpu", "1xcpu"]),
            min_size=1,
            unique=True,
        ),
        "sweeps": st.lists(GRID, min_size=1, max_size=2, unique_by=str),
    }
)


@FUZZ
@given(st.lists(ENTRY, min_size=1, max_size=3, unique_by=str))
def test_whatever_the_suite_each_case_comes_once_and_each_load_in_one_piece(
    entries: list[dict[str, list[str]]],
) -> None:
    """And those are all the cases there are: the product of each entry, worked out here by loops."""
    selection = here(str({"entries": entries}), on("a100_80gb", 2))
    wanted: set[str] = set()
    elsewhere = Counter[str]()
    for entry in entries:
        for selector in entry["hardware"]:
            devices, _, device = selector.partition("x")
            for grid in entry["sweeps"]:
                assert isinstance(grid, dict)
                for model in entry["models"]:
                    for engine in entry["engines"]:
                        for b in grid["batch_sizes"]:
                            for t in grid["input_lengths"]:
                                for n in grid["output_lengths"]:
                                    if int(devices) <= 2 and device != "cpu":
                                        load = f"{model}-{devices}xa100_80gb-{engine}"
                                        wanted.add(f"{load}-b{b}-in{t}-out{n}")
                                    else:
                                        elsewhere[selector] += 1
    assert len(ids(selection)) == len(set(ids(selection)))
    assert set(ids(selection)) == wanted
    assert selection.elsewhere == elsewhere
    for parts in ([case.model.name for case in selection.cases], [case.load_key for case in selection.cases]):
        pieces = [part for index, part in enumerate(parts) if index == 0 or parts[index - 1] != part]
        assert len(pieces) == len(set(pieces))


@pytest.mark.parametrize(
    ("selector", "label", "found"),
    [
        ("1xany", "1xcpu", True),
        ("1xcpu", "1xcpu", True),
        ("1xgpu", "1xcpu", False),
        ("2xany", "1xcpu", False),
        ("1xany", "1xl4", True),
        ("1xgpu", "1xl4", True),
        ("1xl4", "1xl4", True),
        ("1xcpu", "1xl4", False),
        ("1xa100_80gb", "1xa100_40gb", False),
        ("2xl4", "1xl4", False),
        ("2xl4", "2xl4", True),
        ("2xgpu", "4xl4", True),
        ("4xany", "4xl4", True),
        ("5xany", "4xl4", False),
    ],
)
def test_a_selector_means_a_device_by_name_kind_or_any_where_there_are_enough(
    selector: str, label: str, found: bool
) -> None:
    """And none where there are not."""
    devices, _, device = selector.partition("x")
    number, _, name = label.partition("x")
    machine = on(name, int(number))
    assert machine.label == label
    assert resolve(Selector(int(devices), device), machine) == (machine.hardware if found else None)


def test_a_device_without_figures_is_taken_by_gpu_and_any() -> None:
    """A GPU that the library does not know can be measured all the same."""
    unknown = Machine(HardwareSpec("t4", "gpu"), 1)
    assert resolve(Selector(1, "gpu"), unknown) == unknown.hardware
    assert resolve(Selector(1, "any"), unknown) == unknown.hardware
    assert resolve(Selector(1, "l4"), unknown) is None


def test_cases_for_other_machines_are_counted_by_machine() -> None:
    """2 models * 3 engines * (1 * 2 * 3 + 1) points a selector; `max` counts as one batch size."""
    selection = here(
        """
        models: [mpt7b, mpt1b]
        engines: [hf, hf_eager, hf_fp16]
        hardware: [1xcpu, 2xa100_80gb, 4xgpu, 1xgpu]
        sweeps:
          - {batch_sizes: [max], input_lengths: [4, 8], output_lengths: [1, 2, 3]}
          - {batch_sizes: [1], input_lengths: [4], output_lengths: [4]}
        """,
        on("a100_80gb"),
    )
    assert selection.elsewhere == {"1xcpu": 42, "2xa100_80gb": 42, "4xgpu": 42}
    assert len(selection.cases) == 42
    assert not selection.too_large


def test_a_model_too_large_for_a_machine_is_counted_and_left_out() -> None:
    """59.9e9 bytes of MPT-30B in bf16 are more than one A100 of 40 GB has, and fewer than two have."""
    asked = read_suite("hardware", suite("hardware"))
    one, two = (expand(asked, on("a100_40gb", devices)) for devices in (1, 2))
    assert one.too_large == {"mpt30b on 1xa100_40gb": 2}  # 1xa100_40gb and 1xgpu
    assert {case.model.name for case in one.cases} == {"mpt7b"}
    assert {(case.model.name, case.devices) for case in two.cases} == {
        ("mpt7b", 1),
        ("mpt7b", 2),
        ("mpt30b", 2),
    }
    assert not expand(asked, on("a100_80gb")).too_large


def just_fits(batch: int, input_len: int, devices: int = 1) -> bool:
    """Whether MPT-7B takes a batch for 1001 output tokens on n A100 of 80 GB, and not one sequence more."""
    counts = find_counts(library_model("mpt7b"), EngineSpec("hf"))
    assert counts is not None
    room = 81920 * 2**20 - 1536 * 2**20  # what the driver reports of one, and what is never to be had
    sizes = (Point(size, input_len, 1001) for size in (batch, batch + 1))
    needs = [predict(size, counts.footprint, "gpu", devices).total_bytes for size in sizes]
    return needs[0] <= room < needs[1]


def test_max_is_the_largest_batch_that_fits_at_the_longest_output() -> None:
    """MPT-7B on one A100 of 80 GB: about 100 sequences of 1129 tokens, 32 of 3049."""
    text = "models: [mpt7b]\nsweeps: [latency]"
    selection = here(text, on("a100_80gb"))
    for input_len in (128, 2048):
        for output_len in (1, 11, 101, 1001):
            *others, largest = [
                case.point.batch_size
                for case in selection.cases
                if (case.point.input_len, case.point.output_len) == (input_len, output_len)
            ]
            assert others == [1, 4, 16, 64]
            assert just_fits(largest, input_len)
    assert len(selection.cases) == 4 * 5 + 4 * 5
    layout = lay_out(read_suite("own", parse_yaml(text, "s.yaml")), on("a100_80gb"))
    lengths = [(case.point.input_len, case.point.output_len) for case in to_confirm(layout)]
    assert lengths == [(128, 1001), (2048, 1001)]


def test_max_uses_the_memory_of_all_devices_of_the_case() -> None:
    """Two hold more than twice the sequences of one: the weights are shared."""
    sweep = "{batch_sizes: [max], input_lengths: [128], output_lengths: [1001]}"
    text = f"models: [mpt7b]\nhardware: [1xgpu, 2xgpu]\nsweeps: [{sweep}]"
    one, two = (case.point.batch_size for case in here(text, on("a100_80gb", 4)).cases)
    assert just_fits(one, 128)
    assert just_fits(two, 128, devices=2)
    assert two > 2 * one


def test_what_is_known_goes_before_what_is_predicted() -> None:
    """0 is known too: then there is no case. Asked is with the longest output; the order stays."""
    sweep = "{batch_sizes: [1, max], input_lengths: [128, 256], output_lengths: [5, 1]}"
    suite = read_suite("own", parse_yaml(f"models: [mpt7b]\nsweeps: [{sweep}]", "s.yaml"))
    asked = []

    def known(case: Case) -> int | None:
        asked.append((case.point.input_len, case.point.output_len))
        return {128: 7, 256: 0}[case.point.input_len]

    selection = expand(suite, on("a100_80gb"), known)
    points = [(case.point.batch_size, case.point.input_len) for case in selection.cases[::2]]
    assert points == [(1, 128), (7, 128), (1, 256)]
    assert asked == [(128, 5), (256, 5)]
    assert to_confirm(lay_out(suite, on("a100_80gb"), known)) == []


def test_max_of_nothing_is_no_case() -> None:
    """Weights of 26.6e9 of 26.7e9 bytes leave no room for one sequence; the number beside it stays."""
    sweep = "{batch_sizes: [1, max], input_lengths: [2048], output_lengths: [1]}"
    device = HardwareSpec("small", "gpu", memory_bytes=26_700_000_000)
    selection = here(f"models: [mpt7b]\nengines: [hf_fp32]\nsweeps: [{sweep}]", Machine(device, 1))
    assert [case.point.batch_size for case in selection.cases] == [1]


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        ("models: [mpt7b]", Machine(HardwareSpec("t4", "gpu"), 1)),
        (
            "models: [{name: own, parameters: 9, kv_values_per_token: 9, architecture: {model_type: mpt}}]\n"
            "engines: [hf_nocache]",
            on("a100_80gb"),
        ),
        ("models: [{name: tiny, architecture: {model_type: mpt}}]", on("a100_80gb")),
    ],
)
def test_max_that_cannot_be_worked_out_asks_for_a_number(text: str, machine: Machine) -> None:
    """At the place of the sweep."""
    with pytest.raises(InputError) as caught:
        here(f"{text}\nsweeps:\n  - {{batch_sizes: [max], input_lengths: [1], output_lengths: [1]}}", machine)
    line = text.count("\n") + 3
    model = next(name for name in ("tiny", "own", "mpt7b") if name in text)
    assert str(caught.value) == (
        f"s.yaml:{line}: sweeps.batch_sizes: batch size 'max' cannot be predicted for {model} "
        f"on {machine.hardware.name}: parameters, "
        "kv_values_per_token or the memory is unknown, or the cache is off; write a number"
    )


def test_a_point_longer_than_a_models_context_is_refused_on_every_machine() -> None:
    """Llama-7B takes 2048 tokens: 2000 + 48 are, 2000 + 49 are not; also where the case is for others."""
    text = """\
models: [mpt7b, llama7b]
hardware: [8xb200]
sweeps:
  - batch_sizes: [1]
    input_lengths: [1, 2000]
    output_lengths: [{}, 1]
"""
    assert here(text.format(48), on("l4")).elsewhere == {"8xb200": 8}
    with pytest.raises(InputError) as caught:
        here(text.format(49), on("l4"))
    assert str(caught.value) == (
        "s.yaml:5: sweeps.input_lengths: input 2000 + output 49 is 2049 tokens, "
        "over the context of llama7b (2048); shorten the lengths"
    )


def test_a_sweep_of_the_library_that_is_too_long_is_named_by_its_file() -> None:
    """Where the lengths stand."""
    with pytest.raises(InputError) as caught:
        here("models: [falcon7b]\nsweeps: [latency]", on("l4"))
    assert str(caught.value) == (
        "yamls/sweeps/latency.yaml:3: input_lengths: input 2048 + output 1001 is 3049 tokens, "
        "over the context of falcon7b (2048); shorten the lengths"
    )


def test_a_model_that_does_not_state_its_context_takes_any_length() -> None:
    """There is nothing to refuse it by."""
    text = "models: [{name: tiny, architecture: {model_type: own}}]\nsweeps: [throughput]"
    assert len(here(text, Machine(CPU, 1)).cases) == 7


def test_a_cpu_is_split_between_its_cores() -> None:
    """Two ranks need two cores; a GPU host's devices are its GPUs, however many cores it has."""
    two = Selector(2, "cpu")
    assert resolve(two, Machine(CPU, 1, cores=2)) == CPU
    assert resolve(two, Machine(CPU, 1)) is None
    assert resolve(two, Machine(CPU, 2)) == CPU
    assert resolve(Selector(2, "gpu"), Machine(hardware("h100_80gb"), 1, cores=64)) is None
    assert Machine(CPU, 1, cores=2).label == "1xcpu"


def test_cases_on_two_ranks_have_an_id_of_their_own() -> None:
    """The suite of ranks has both engines there, and the same work on one."""
    ranks = expand(read_suite("ranks", suite("ranks")), Machine(CPU, 1, cores=2))
    split = [case.id for case in ranks.cases if case.devices == 2]
    assert {name.split("-")[2] for name in split} == {"deepspeed", "hf_tp"}
    assert {name.split("-")[0] for name in split} == {"mpt125m", "llama125m"}
    on_one = {tuple(name.split("-")[3:]) for name in ids(ranks) if "-1xcpu-" in name}
    assert {tuple(name.split("-")[3:]) for name in split} <= on_one  # so that each has a speed-up
