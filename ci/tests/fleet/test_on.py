"""`--on` as a user gives it: one line for what cannot be, and the same run as without it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ci.tests.conftest import ROOT, histories, write_suite
from ci.tests.fleet.simulated import cases_of, nodes_of
from fixtures.core.base.errors import InputError
from fixtures.fleet.cluster import _refuse_isolated
from fixtures.fleet.local import LocalPlace
from fixtures.fleet.place import Node

pytest_plugins = ["pytester"]

OPTIONS = ("benchmarks", "--benchmark-only", "--suite", "suite.yaml")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--on", "rya"], "*--on rya: no place is named 'rya'; did you mean 'ray'? known: ray*"),
        (["--emulate", "2"], "*--emulate: write --on ray --emulate N*"),
        (
            ["--on", "local", "--hardware", "8xh200_141gb"],
            "*--hardware 8xh200_141gb: no node has it; there is *xcpu*",
        ),
        (["--on", "local", "-n", "2"], "*-n: cases must run one at a time*"),
    ],
)
def test_what_cannot_be_is_one_line(project: pytest.Pytester, arguments: list[str], told: str) -> None:
    """Exit code 4, before anything is handed out."""
    write_suite(project.path, "m")
    result = project.runpytest(*OPTIONS, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


def test_a_library_that_is_not_there_is_named(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what has it."""
    monkeypatch.setattr("fixtures.fleet.places.find_spec", lambda _name: None)
    write_suite(project.path, "m")
    result = project.runpytest(*OPTIONS, "--on", "ray")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--on ray: the library ray is not installed; pip install '.[[]ray]' has it*"]
    )


def test_isolation_does_not_go_with_several_nodes() -> None:
    """Nodes of 1 and 2 ranks: a case of 2 is for the second alone, a case of 4 is refused by name."""
    one, other = nodes_of(2)
    nodes = [one, dataclasses.replace(other, machine=dataclasses.replace(other.machine, devices=2, cores=2))]
    small, wide = (
        dataclasses.replace(case, devices=n) for case, n in zip(cases_of(2, 1), (2, 4), strict=True)
    )
    cluster: Any = SimpleNamespace(nodes=nodes, session=SimpleNamespace(isolates=True))
    _refuse_isolated(cluster, [small])
    with pytest.raises(InputError, match=f"^--isolate and --case-timeout: {wide.id} needs several nodes"):
        _refuse_isolated(cluster, [small, wide])
    cluster.session.isolates = False
    _refuse_isolated(cluster, [small, wide])


def test_a_plan_lists_the_clusters_cases(project: pytest.Pytester) -> None:
    """Nothing runs."""
    write_suite(project.path, "m", batch_sizes=[1, 2])
    result = project.runpytest(*OPTIONS, "--on", "local", "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*m-1xcpu-hf-b1-in4-out2*", "*m-1xcpu-hf-b2-in4-out2*"])
    assert histories(project.path) == []


def test_a_node_that_cannot_measure_is_named(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason; the others measure."""
    nodes = LocalPlace.nodes

    def two(place: LocalPlace) -> Sequence[Node]:
        place.unfit = {"n2": "n2 was not probed: Unable to allocate resources"}
        return nodes(place)

    monkeypatch.setattr(LocalPlace, "nodes", two)
    write_suite(project.path, "m")
    result = project.runpytest(*OPTIONS, "--on", "local", "--collect-only")
    result.stdout.fnmatch_lines(["warning: left out: n2 was not probed: Unable to allocate resources"])


def fields(values: Any, path: str = "") -> set[str]:
    """The paths of all keys."""
    if not isinstance(values, dict):
        return {path}
    return {path, *(one for key, value in values.items() for one in fields(value, f"{path}.{key}"))}


@pytest.mark.slow
def test_an_emulated_ray_cluster_measures_what_this_machine_does(faked: pytest.Pytester) -> None:
    """The same ids in the same order, outcomes and fields, but for where each was measured; what is recorded
    is the detected device."""
    write_suite(faked.path, "m", "crashes", batch_sizes=[1, 2])
    (faked.path / "fixtures").symlink_to(ROOT / "fixtures")
    (faked.path / "ci").symlink_to(ROOT / "ci")
    here = faked.runpytest_subprocess(*OPTIONS)
    there = faked.runpytest_subprocess(*OPTIONS, "--on", "ray", "--emulate", "2")
    assert here.parseoutcomes() == there.parseoutcomes() == {"passed": 2, "failed": 2}
    assert (here.ret, there.ret) == (1, 1)
    first, second = histories(faked.path)
    assert [one["param"] for one in first["benchmarks"]] == [one["param"] for one in second["benchmarks"]]
    assert list(first["failed"]) == list(second["failed"])  # the reasons name an address in memory
    for one, other in zip(first["benchmarks"], second["benchmarks"], strict=True):
        more = fields(other["extra_info"]) - fields(one["extra_info"])
        assert all(name.startswith(".placement") for name in more)
        placement = other["extra_info"]["placement"]
        assert placement["place"] == "ray, emulated"
        assert placement["node"].startswith("emulated-")
        assert other["extra_info"]["machine"] == one["extra_info"]["machine"]
    (journal,) = sorted((faked.path / ".benchmarks/journal").glob("*.jsonl"))[1:]
    assert json.loads(journal.read_text().splitlines()[-1])["complete"] is False
