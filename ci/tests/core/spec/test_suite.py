"""A suite's yaml, read: every key has its meaning or is refused with what would be right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.core.base.errors import InputError
from fixtures.core.base.node import as_node
from fixtures.core.base.yamlfile import parse_yaml
from fixtures.core.cost.sweep import expand
from fixtures.core.result.record_case import RecordedCase
from fixtures.core.spec import library
from fixtures.core.spec.case import EngineSpec, ModelSpec
from fixtures.core.spec.devices.machine import Machine
from fixtures.core.spec.engine_kinds import KINDS, Ragged
from fixtures.core.spec.suite import MAX, Protocol, Selector, Suite, read_suite
from fixtures.engines import why_not
from fixtures.measure.prompts import make_prompts

SMALL = "{name: small, batch_sizes: [1], input_lengths: [2], output_lengths: [3]}"


def read(text: str) -> Suite:
    """The suite of a text."""
    return read_suite("own", parse_yaml(text, "s.yaml"))


def test_the_shortest_suite_is_models_and_sweeps() -> None:
    """On whatever is here, with transformers, 3 warm-up and 5 timed rounds."""
    suite = read(f"models: [mpt7b]\nsweeps: [{SMALL}]")
    (entry,) = suite.entries
    assert (suite.name, suite.warnings) == ("own", ())
    assert suite.protocol == Protocol(rounds=5, warmup_rounds=3, seed=17)
    assert suite.minutes == 0
    assert entry.models == (library.model("mpt7b"),)
    assert entry.hardware == (Selector(1, "any"),)
    assert entry.engines == (EngineSpec("hf"),)
    (grid,) = entry.grids
    assert (grid.batch_sizes, grid.input_lengths, grid.output_lengths) == ((1,), (2,), (3,))


def test_every_key_of_a_suite_is_read() -> None:
    """In the order written."""
    suite = read(
        f"""
        description: own
        rounds: 2
        warmup_rounds: 0
        seed: 0
        entries:
          - models: [mpt30b, mpt7b]
            hardware: [4xa100_40gb, 1xgpu, 2xany, 1xcpu]
            engines: [hf_eager, deepspeed]
            sweeps: [throughput, {SMALL}]
          - models: [llama7b]
            sweeps: [latency]
        """
    )
    first, second = suite.entries
    assert suite.protocol == Protocol(2, 0, 0)
    assert [model.name for model in first.models] == ["mpt30b", "mpt7b"]
    assert first.hardware == (
        Selector(4, "a100_40gb"),
        Selector(1, "gpu"),
        Selector(2, "any"),
        Selector(1, "cpu"),
    )
    assert [engine.name for engine in first.engines] == ["hf_eager", "deepspeed"]
    assert [engine.attention for engine in first.engines] == ["eager", "auto"]
    assert [grid.batch_sizes for grid in first.grids] == [(1, 2, 4, 8, 16, 32, 64), (1,)]
    assert [model.name for model in second.models] == ["llama7b"]
    assert [grid.batch_sizes for grid in second.grids] == [(1, 4, 16, 64, MAX)]
    assert [grid.output_lengths for grid in second.grids] == [(1, 11, 101, 1001)]


@pytest.mark.parametrize(("text", "minutes"), [("4", 4), ("0.5", 0.5), ("0", 0), ("0.0", 0), ("null", 0)])
def test_a_suite_states_its_minutes(text: str, minutes: float) -> None:
    """0 is no limit, as is nothing at all."""
    suite = read(f"minutes: {text}\nmodels: [mpt7b]\nsweeps: [latency]")
    assert (suite.minutes, suite.protocol) == (minutes, Protocol())


def test_definitions_can_stand_in_the_suite_itself() -> None:
    """A model, an engine, and a sweep of several grids."""
    suite = read(
        """
        models: [{name: tiny, parameters: 9, architecture: {model_type: mpt}}]
        engines: [{name: mine, dtype: float16}]
        sweeps:
          - grids:
              - {batch_sizes: [max, 2], input_lengths: [4], output_lengths: [5]}
              - {batch_sizes: [1], input_lengths: [6, 7], output_lengths: [8]}
        """
    )
    (entry,) = suite.entries
    assert entry.models == (ModelSpec("tiny", {"model_type": "mpt"}, parameters=9),)
    assert entry.engines == (EngineSpec("mine", dtype="float16"),)
    assert [grid.batch_sizes for grid in entry.grids] == [(MAX, 2), (1,)]
    assert [grid.input_lengths for grid in entry.grids] == [(4,), (6, 7)]
    assert [grid.where.where for grid in entry.grids] == ["s.yaml:6", "s.yaml:7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- x", "s.yaml:1: must be a mapping of keys to values, and is a list"),
        ("models: [mpt7b]", "s.yaml:1: the key 'sweeps' is missing"),
        ("\nsweeps: [latency]", "s.yaml:2: the key 'models' is missing"),
        ("entries: []", "s.yaml:1: entries: is an empty list; it needs at least one entry"),
        ("entries: [{models: [mpt7b]}]", "s.yaml:1: entries: the key 'sweeps' is missing"),
        (
            "models: [mpt7b]\nsweps: [latency]",
            "s.yaml:2: sweps: unknown key; did you mean 'sweeps'? known: description, engines, entries, "
            "hardware, minutes, models, rounds, seed, sentinels, sweeps, warmup_rounds",
        ),
        (
            "entries:\n  - models: [mpt7b]\n    sweeps: [latency]\n    rounds: 3",
            "s.yaml:4: entries.rounds: unknown key; known: engines, hardware, models, sweeps",
        ),
        (
            "models: [mpt7b]\nentries:\n  - {models: [mpt7b], sweeps: [latency]}",
            "s.yaml:1: models: cannot stand beside 'entries'; move it into each entry",
        ),
        ("models: mpt7b\nsweeps: [latency]", "s.yaml:1: models: must be a list, and is text"),
        ("models: []\nsweeps: [latency]", "s.yaml:1: models: is an empty list; it needs at least one entry"),
        ("models: [1]\nsweeps: [latency]", "s.yaml:1: models: must be text, and is a whole number"),
        (
            "models:\n  - mpt7b\n  - mpt7b\nsweeps: [latency]",
            "s.yaml:3: models: 'mpt7b' is in this list twice; list it once",
        ),
        (
            "models: [{architecture: {model_type: mpt}}]\nsweeps: [latency]",
            "s.yaml:1: models: an inline definition needs a 'name'; it becomes part of the case ids",
        ),
        (
            "models: [{name: A-1, architecture: {model_type: mpt}}]\nsweeps: [latency]",
            "s.yaml:1: models.name: 'A-1' cannot be part of a case id; "
            "use lower case letters and digits, joined by single underscores, such as 'a_1'",
        ),
        (
            "models: [mpt7b]\nengines: [{name: x, knd: hf}]\nsweeps: [latency]",
            "s.yaml:2: engines.knd: unknown key; did you mean 'kind'? "
            "known: attention, autocast, description, dtype, kind, prefill_chunk, routing, use_cache",
        ),
        (
            "models: [mpt7b]\nhardware: [a100_80gb]\nsweeps: [latency]",
            "s.yaml:2: hardware: 'a100_80gb' is not a machine; write {n}x{device}, such as 1xa100_80gb",
        ),
        (
            "models: [mpt7b]\nhardware: [0xcpu]\nsweeps: [latency]",
            "s.yaml:2: hardware: '0xcpu' is not a machine; write {n}x{device}, such as 1xa100_80gb",
        ),
        (
            "models: [mpt7b]\nsweeps:\n  - batch_sizes: [2]\n"
            "    grids: [{batch_sizes: [1], input_lengths: [1], output_lengths: [1]}]",
            "s.yaml:3: sweeps.batch_sizes: cannot stand beside 'grids'; move it into a grid",
        ),
        (
            "models: [mpt7b]\nsweeps:\n  - {batch_sizes: [1], input_lengths: [1]}",
            "s.yaml:3: sweeps: the key 'output_lengths' is missing",
        ),
        (
            "models: [mpt7b]\nsweeps:\n  - {batch_size: [1], input_lengths: [1], output_lengths: [1]}",
            "s.yaml:3: sweeps.batch_size: unknown key; did you mean 'batch_sizes'? "
            "known: batch_sizes, depths, description, grids, input_lengths, name, output_lengths",
        ),
        (
            "models: [mpt7b]\nsweeps: [{batch_sizes: [most], input_lengths: [1], output_lengths: [1]}]",
            "s.yaml:2: sweeps.batch_sizes: must be a whole number of at least 1, and is text",
        ),
        (
            "models: [mpt7b]\nsweeps: [{batch_sizes: [1], input_lengths: [max], output_lengths: [1]}]",
            "s.yaml:2: sweeps.input_lengths: must be a whole number of at least 1, and is text",
        ),
        (
            "models: [mpt7b]\nsweeps: [{batch_sizes: [1], input_lengths: [1], output_lengths: [0]}]",
            "s.yaml:2: sweeps.output_lengths: is 0; it must be at least 1",
        ),
        (
            "rounds: 0\nmodels: [mpt7b]\nsweeps: [latency]",
            "s.yaml:1: rounds: is 0; it must be at least 1",
        ),
        (
            "models: [mpt7b]\nsweeps: [latency]\nminutes: -1",
            "s.yaml:3: minutes: is -1; it must be a finite number above zero, or 0 for no limit",
        ),
        (
            "models: [mpt7b]\nsweeps: [latency]\nminutes: .inf",
            "s.yaml:3: minutes: '.inf' is not text, a finite number of at most 64 bits, true, false or null",
        ),
        (
            "models: [mpt7b]\nsweeps: [latency]\nminutes: soon",
            "s.yaml:3: minutes: must be a number above zero, or 0 for no limit, and is text",
        ),
        (
            "models: [mpt7b]\nsweeps: [latency]\nminutes: false",
            "s.yaml:3: minutes: must be a number above zero, or 0 for no limit, and is true or false",
        ),
        (
            "models: [mpt7b]\nsweeps: [latency]\nwarmup_rounds: -1",
            "s.yaml:3: warmup_rounds: is -1; it must be at least 0",
        ),
        ("models: [mpt7b]\nsweeps: [latency]\nseed: -1", "s.yaml:3: seed: is -1; it must be at least 0"),
        (
            "models: [{name: mpt7b, architecture: {model_type: mpt}}, mpt7b]\nsweeps: [latency]",
            "s.yaml:1: models: two different definitions are named 'mpt7b'; "
            "rename one, as names are part of case ids",
        ),
        (
            "entries:\n- {models: [mpt7b], engines: [hf], sweeps: [latency]}\n"
            "- {models: [mpt7b], engines: [{name: hf, dtype: float32}], sweeps: [latency]}",
            "s.yaml:3: entries.engines.name: two different definitions are named 'hf'; "
            "rename one, as names are part of case ids",
        ),
    ],
)
def test_a_suite_that_is_not_right_is_refused_by_line_and_key(text: str, message: str) -> None:
    """And told what would be right."""
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (
            "models: [mtp7b]\nsweeps: [latency]",
            "s.yaml:1: models: no model is named 'mtp7b'; did you mean 'mpt7b'?",
        ),
        (
            "models: [mpt7b]\nsweeps: [latncy]",
            "s.yaml:2: sweeps: no sweep is named 'latncy'; did you mean 'latency'?",
        ),
        (
            "models: [mpt7b]\nengines: [hf, hf_egaer]\nsweeps: [latency]",
            "s.yaml:2: engines: no engine is named 'hf_egaer'; did you mean 'hf_eager'?",
        ),
        (
            "models: [mpt7b]\nhardware: [2xa10_80gb]\nsweeps: [latency]",
            "s.yaml:2: hardware: no device is named 'a10_80gb'; did you mean 'a100_80gb'?",
        ),
    ],
)
def test_a_name_that_nothing_has_is_refused_with_the_nearest_one(text: str, start: str) -> None:
    """And with all that there are."""
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value).startswith(f"{start} known: ")


def test_one_definition_may_stand_in_several_entries() -> None:
    """The same name for the same thing."""
    inline = "{name: tiny, architecture: {model_type: mpt}}"
    entries = (f"- {{models: [{inline}], sweeps: [{sweep}]}}" for sweep in ("latency", "throughput"))
    suite = read("\n".join(["entries:", *entries]))
    assert suite.entries[0].models == suite.entries[1].models


def test_a_key_that_is_null_has_its_default() -> None:
    """As if it were not there."""
    suite = read("rounds: null\nwarmup_rounds: ~\nseed:\nmodels: [mpt7b]\nsweeps: [latency]")
    assert suite.protocol == Protocol()


def test_a_grid_is_the_same_wherever_it_stands() -> None:
    """Its place is for errors only."""
    one, two = (
        read_suite("s", as_node({"models": ["mpt7b"], "sweeps": ["latency"]}, where)).entries
        for where in "ab"
    )
    assert one == two


def ragged(batches: str, inputs: str) -> Suite:
    """Of one sweep."""
    sweep = f"{{name: s, batch_sizes: {batches}, input_lengths: {inputs}, output_lengths: [3]}}"
    return read(f"models: [llama125m]\nengines: [hf, hf_paged, hf_compiled]\nsweeps: [{sweep}]")


def test_a_batch_may_have_several_input_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id has all of them, in one field; its sequences take them in turn; equal batches are as before."""
    selection = expand(ragged("[2, 4]", "[[128, 16], 16]"), Machine(library.hardware("cpu"), 1))
    assert [case.id.partition("hf-")[2] for case in selection.cases if case.engine.name == "hf"] == [
        "b2-in128_16-out3", "b4-in128_16-out3", "b2-in16-out3", "b4-in16-out3",
    ]  # fmt: skip
    case = selection.cases[1]
    assert (case.point.input_len, case.point.lengths) == (128, (128, 16, 128, 16))
    recorded = RecordedCase.of(case)
    assert recorded.as_dict() == case.as_dict()
    assert (recorded.input_lens, recorded.input_text, recorded.is_ragged) == ((128, 16), "128_16", True)
    assert list(map(len, make_prompts(case.point, 100, 1))) == [128, 16, 128, 16]
    assert make_prompts(case.point, 100, 1) == make_prompts(case.point, 100, 1)
    plain = RecordedCase.of(selection.cases[2])
    assert (plain.input_text, plain.is_ragged, "input_lens" in plain.as_dict()) == ("16", False, False)
    monkeypatch.setitem(KINDS, "hf_compiled", replace(KINDS["hf_compiled"], ragged=Ragged.NOT))
    reasons = {case.engine.name: why_not(case) for case in selection.cases if case.point.ragged}
    assert reasons["hf"] is None
    assert reasons["hf_paged"] is None
    assert "takes batches of one input length; hf and hf_paged take ragged ones" in (
        reasons["hf_compiled"] or ""
    )


@pytest.mark.parametrize(
    ("batches", "inputs", "message"),
    [
        (
            "[3]",
            "[[128, 16]]",
            r"s.yaml:3.*is 3; a batch of the 2 input lengths 128, 16 has 2 seq",
        ),
        ("[max]", "[[128, 16]]", "is max; a batch of the 2 input lengths"),
        (
            "[2]",
            "[[16, 16]]",
            "a ragged batch needs two different input lengths; write equal",
        ),
        ("[2]", "[[16, x]]", "must be a whole number of at least 1"),
        ("[2]", "[[16, 128], [16, 128]]", "is in this list twice"),
        ("[2]", "[[16, 2047]]", r"input 2047 .*\+ output 3 is 2050 tokens, over the context of llama125m"),
    ],
)
def test_a_ragged_batch_that_is_not_right_is_refused(batches: str, inputs: str, message: str) -> None:
    """Where it stands, with what would be right."""
    with pytest.raises(InputError, match=message):
        expand(ragged(batches, inputs), Machine(library.hardware("cpu"), 1))
