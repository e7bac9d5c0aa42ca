"""Choosing cases: what is listed, in which order, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ci.tests.conftest import write_suite
from ci.tests.fake_engine import FakeEngine
from fixtures.host import machine

pytest_plugins = ["pytester"]


def listed(project: pytest.Pytester, *arguments: str) -> list[str]:
    """The ids of the cases that `--collect-only -q` lists."""
    result = project.runpytest("benchmarks", "--collect-only", "-q", *arguments)
    lines = [line for line in result.outlines if "test_generate[" in line]
    return [line.partition("[")[2].rstrip("]") for line in lines]


def test_a_machine_that_is_not_here_can_be_listed(project: pytest.Pytester) -> None:
    """Four A100: MPT-30B on one, two and four of them."""
    ids = listed(project, "--hardware", "4xa100_80gb", "-k", "mpt30b")
    assert {i.split("-")[1] for i in ids} == {"1xa100_80gb", "2xa100_80gb", "4xa100_80gb"}
    assert all(i.startswith("mpt30b-") for i in ids)
    assert "mpt30b-1xa100_80gb-hf-b64-in512-out64" in ids


def test_expressions_select_as_a_user_expects(project: pytest.Pytester) -> None:
    """Model, machine and batch size, alone and together."""
    where = ("--suite", "hardware", "--hardware", "4xa100_80gb")
    both = listed(project, *where, "-k", "mpt7b and 2xa100_80gb")
    assert {i.split("-")[0] for i in both} == {"mpt7b"}
    assert {i.split("-")[1] for i in both} == {"2xa100_80gb"}
    assert len(both) == 7
    sixteen = listed(project, "--suite", "models", "--hardware", "1xa100_80gb", "-k", "falcon7b and b16-")
    assert sixteen == ["falcon7b-1xa100_80gb-hf_eager-b16-in512-out64"]
    not_mpt = listed(project, "--suite", "models", "--hardware", "1xa100_80gb", "-k", "not mpt")
    assert {i.split("-")[0] for i in not_mpt} == {"llama7b", "falcon7b", "llama30b", "llama13b"}


def test_models_stay_together_in_the_order_of_the_suite(project: pytest.Pytester) -> None:
    """A flat list, model by model, although the suite names a model in two entries."""
    sweep = {"name": "s", "batch_sizes": [1, 2], "input_lengths": [4], "output_lengths": [1]}
    other = {**sweep, "name": "t", "input_lengths": [8]}

    def inline(name: str) -> dict[str, object]:
        return {"name": name, "architecture": {"model_type": "mamba"}}

    entries = [
        {"models": [inline("z"), inline("a")], "sweeps": [sweep]},
        {"models": [inline("z")], "sweeps": [other, sweep]},
    ]
    text = str({"entries": entries}).replace("'", '"')
    (project.path / "suite.yaml").write_text(text)
    ids = listed(project, "--suite", "suite.yaml")
    assert [i[0] + i[-9:] for i in ids] == [
        "z-in4-out1", "z-in4-out1", "z-in8-out1", "z-in8-out1", "a-in4-out1", "a-in4-out1",
    ]  # fmt: skip
    assert len(set(ids)) == 6


def test_cases_for_other_machines_are_one_line(project: pytest.Pytester) -> None:
    """How many and for which hardware, and not one of them listed."""
    result = project.runpytest(
        "benchmarks", "--collect-only", "-q", "--suite", "hardware", "--hardware", "1xl4"
    )
    result.stdout.fnmatch_lines(
        ["*more cases of this suite are for hardware that is not here: *2xa100_40gb (14)*"]
    )
    assert not any("a100" in line for line in result.outlines if "test_generate" in line)


def test_models_that_do_not_fit_are_named(project: pytest.Pytester) -> None:
    """An L4 of 24 GB takes no MPT-30B."""
    result = project.runpytest(
        "benchmarks", "--collect-only", "-q", "--suite", "models", "--hardware", "1xl4"
    )
    # 29,957,200,896 parameters of two bytes; 23034 MiB
    result.stdout.fnmatch_lines(["too large for this machine: *mpt30b on 1xl4 (59.91 GB of 24.15)*"])
    assert not any("mpt30b-" in line for line in result.outlines)


def test_nothing_left_says_what_would_run_it(project: pytest.Pytester) -> None:
    """On an L4, -k mpt30b leaves nothing; the message names machines that would take it."""
    result = project.runpytest(
        "benchmarks", "--collect-only", "-q", "--suite", "models", "--hardware", "1xl4", "-k", "mpt30b"
    )
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["nothing to run: *-k 'mpt30b'; it would run on *1xa100_80gb*"])


def on_cores(monkeypatch: pytest.MonkeyPatch, usable: int) -> None:
    """This process may use so many cores of four."""
    monkeypatch.setattr("fixtures.host.cores.affinity", lambda: usable)
    monkeypatch.setattr("fixtures.host.cores.cpu_quota", lambda _: None)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    machine.detect.cache_clear()


@pytest.fixture(autouse=True)
def detected_anew() -> Iterator[None]:
    """Each test has its own machine."""
    yield
    machine.detect.cache_clear()


ONE_CORE = "2xcpu needs 2 cores, and this process may use 1 (its CPU affinity, as taskset sets it; *has 4)"


def test_two_ranks_on_one_core_say_that_two_would_do(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the cases are looked for or the machine is named; it can be listed."""
    on_cores(monkeypatch, 1)
    result = project.runpytest("benchmarks", "--collect-only", "-q", "--suite", "ranks", "-k", "2xcpu")
    result.stdout.fnmatch_lines([f"nothing to run: *-k '2xcpu'; {ONE_CORE}; it would run on 2xcpu (see *"])
    result = project.runpytest("benchmarks", "--benchmark-only", "--hardware", "2xcpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --hardware 2xcpu: {ONE_CORE}, so its cases can only be listed *"])
    assert len(listed(project, "--suite", "ranks", "--hardware", "2xcpu", "-k", "2xcpu")) == 6


def test_three_ranks_on_two_cores_are_of_no_library(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever numbers a suite names; what this machine has is not asked for again."""
    on_cores(monkeypatch, 2)
    suite = write_suite(project.path, "m", hardware=["3xcpu", "16xcpu"])
    result = project.runpytest("benchmarks", "--collect-only", "-q", "--suite", suite)
    result.stdout.fnmatch_lines(["nothing to run: *; 3xcpu needs 3 cores, *; it would run on 3xcpu (*"])
    suite = write_suite(project.path, "m", hardware=["1xcpu", "2xcpu"])
    ranks = ("--suite", suite, "-k", "2xcpu")
    result = project.runpytest("benchmarks", "--collect-only", "-q", "--hardware", "1xcpu", *ranks)
    result.stdout.fnmatch_lines(["nothing to run: *-k '2xcpu'; it would run on 2xcpu (*"])


def test_a_machine_is_not_said_to_be_what_it_lacks(project: pytest.Pytester) -> None:
    """Where the cases that it has are left out by a mark."""
    suite = write_suite(project.path, "m", hardware=["1xcpu"])
    result = project.runpytest("benchmarks", "--collect-only", "-q", "--suite", suite, "-m", "slow")
    result.stdout.fnmatch_lines(["nothing to run: *no other hardware would change that*"])


def test_a_word_that_matches_nothing_anywhere_says_so(project: pytest.Pytester) -> None:
    """No hardware would help against a typing error."""
    result = project.runpytest("benchmarks", "--collect-only", "-q", "-k", "mtp30b")
    result.stdout.fnmatch_lines(["nothing to run: *no other hardware would change that*"])


def test_a_machine_that_is_not_here_is_not_measured(project: pytest.Pytester, fake: type[FakeEngine]) -> None:
    """--hardware of another machine is for lists only."""
    result = project.runpytest("benchmarks", "--benchmark-only", "--hardware", "4xa100_80gb")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --hardware 4xa100_80gb: this machine is *--collect-only*"])
    assert fake.log == []


def test_set_reaches_every_sweep(project: pytest.Pytester) -> None:
    """One key for all sweeps of the default suite."""
    arguments = ["--set", "batch_sizes=[2,4]", "--set", "input_lengths=[64]", "--set", "output_lengths=[32]"]
    ids = listed(project, "--hardware", "1xcpu", *arguments)
    assert {i.partition("-hf-")[2] for i in ids} == {"b2-in64-out32", "b4-in64-out32"}
    assert len(ids) == 8


def test_any_other_model_takes_the_default_sweeps_of_this_machine(project: pytest.Pytester) -> None:
    """A context of 256 is enough for the sweeps of a CPU; that those of a GPU are longer does not matter."""
    folder = project.mkdir("My-Model.v2")
    (folder / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 256}')
    ids = listed(project, "--model", str(folder), "--hardware", "1xcpu")
    assert len(ids) == 6
    assert all(i.startswith("my_model_v2-1xcpu-hf-b") for i in ids)


def test_sentinels_are_chosen_by_that_word(project: pytest.Pytester) -> None:
    """Those whose ids match a pattern of the yaml, whatever the machine; none where it names none."""
    sentinels = {"sentinels": ["*-b2-in4-*", "m-8xh100*"], "batch_sizes": [1, 2], "input_lengths": [4, 8]}
    suite = write_suite(project.path, "m", **sentinels)
    assert [i[-10:] for i in listed(project, "--suite", suite, "-k", "sentinel")] == ["b2-in4-out2"[-10:]]
    assert listed(project, "--suite", "models", "--hardware", "1xa100_80gb", "-k", "sentinel") == []
    default = listed(project, "--hardware", "1xa100_80gb", "-k", "sentinel and mpt30b")
    assert default == ["mpt30b-1xa100_80gb-hf-b8-in512-out64"]


def test_an_unknown_engine_is_one_line(project: pytest.Pytester) -> None:
    """With the name that was likely meant; exit code 4."""
    result = project.runpytest("benchmarks", "--collect-only", "--engines", "hf_int9")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --engines: no engine is named 'hf_int9'; did you mean 'hf_int?'? *"])


@pytest.mark.parametrize(
    "asked", [["--engines", "hf_uniform"], ["--set", "engines.hf.routing=power_law_1.2"]]
)
def test_a_routing_of_a_model_without_experts_is_refused(project: pytest.Pytester, asked: list[str]) -> None:
    """One line, before anything loads; a mixture is planned."""
    suite = write_suite(project.path, models=["llama125m"], engines=["hf"])
    result = project.runpytest("benchmarks", "--suite", suite, *asked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: engine hf_*: llama125m has no experts *"])
    ids = listed(project, "--suite", suite, "--model", "mixtral8x7b", "--hardware", "1xh200_141gb", *asked)
    assert ids
    assert all("-hf_" in case_id for case_id in ids)
