"""A project of its own for each test: this one's plugins and benchmarks in a folder that is thrown away."""

from __future__ import annotations

import gc
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scipy.stats  # noqa: F401  pytester forgets what its runs import, and numpy cannot be imported twice

from ci.tests.fake_engine import FAKE_KIND, FakeEngine, FakeWatch
from ci.tests.warm import Warm
from fixtures.core.spec.engine_kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
_NUMBERS = itertools.count()


def pytest_make_parametrize_id(val: object) -> str | None:
    """An id that can be printed and sent: pytest.ini keeps pytest from escaping ids."""
    if isinstance(val, str) and not val.isprintable():
        return val.encode("unicode_escape").decode()
    return None


# Minutes each, the longest first; each is of one process, and what begins last is what others wait for.
LONGEST = (
    "docs/test_readme.py",
    "engines/test_rank_failures.py",
    "engines/test_ranks.py",
    "gate/paired/test_checkouts.py",
    "fleet/test_on_ray.py",
    "keep/test_stopped.py",
    "engines/test_compiled.py",
    "core/cost/test_largest.py",
    "engines/test_isolate.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, those of the longest files before all: what begins last keeps one process busy."""
    places = {ROOT / "ci" / "tests" / name: place for place, name in enumerate(LONGEST)}
    assert all(file.exists() for file in places), "LONGEST names a file that is not there"

    def place(item: pytest.Item) -> tuple[int, bool]:
        return places.get(item.path, len(places)), item.get_closest_marker("slow") is None

    items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """What is there by now stays: a test that collects garbage need not go through torch's objects too."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_xdist() -> Iterator[None]:
    """Sessions that a test starts are nobody's workers, whatever this one is: else they measure nothing."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
        yield


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """A process that forks for the commands of tests."""
    started = Warm()
    yield started
    started.close()


@pytest.fixture
def starts_warm(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test starts by `sys.executable` is a fork of that process."""
    monkeypatch.setattr(sys, "executable", warm.python)
    for name, value in warm.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of locks of their own: tests beside each other and real measurements do not wait."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("INFERENCE_LOCK_FOLDER", str(tmp_path_factory.mktemp("locks")))
        yield


@pytest.fixture(autouse=True)
def own_locks(locks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one a test: what a test that failed has left running holds up no other."""
    folder = Path(os.environ["INFERENCE_LOCK_FOLDER"]) / str(next(_NUMBERS))
    folder.mkdir()
    monkeypatch.setenv("INFERENCE_LOCK_FOLDER", str(folder))


# pytest-benchmark asks a process of its own for the CPU, which takes 1 s and is looked at nowhere.
WITHOUT_CPU_INFO = """
from pytest_benchmark import plugin as _plugin

_plugin.get_cpu_info = dict
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """conftest.py, pytest.ini and the benchmarks in a new folder; the modules are those of this checkout."""
    monkeypatch.setattr("pytest_benchmark.plugin.get_cpu_info", dict)  # and is undone after this test
    (pytester.path / "conftest.py").write_text((ROOT / "conftest.py").read_text() + WITHOUT_CPU_INFO)
    ini = (ROOT / "pytest.ini").read_text().replace("pythonpath = .", f"pythonpath = {ROOT}")
    unused = "-p no:hypothesispytest -p no:anyio"  # they would be imported each time
    ini = ini.replace("addopts = ", f"addopts = {unused} ")
    (pytester.path / "pytest.ini").write_text(ini)
    (pytester.path / "benchmarks").mkdir()
    shutil.copy(ROOT / "benchmarks" / "test_generate.py", pytester.path / "benchmarks")
    return pytester


FAKED = """
import json
from ci.tests.fake_engine import FAKE_KIND, FakeEngine, FakeWatch
from fixtures.core.spec.engine_kinds import KINDS

KINDS["hf"] = FAKE_KIND


def pytest_configure(config):
    from fixtures.measure import measure

    measure.Watch = FakeWatch


def pytest_sessionfinish(session):
    (session.config.rootpath / "log.json").write_text(json.dumps(FakeEngine.log))
"""


@pytest.fixture
def faked(project: pytest.Pytester) -> pytest.Pytester:
    """A project whose own processes use the fake engine too, and leave its log in log.json."""
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + FAKED)
    return project


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeEngine]]:
    """The fake engine in the place of transformers'."""
    monkeypatch.setitem(KINDS, "hf", FAKE_KIND)
    monkeypatch.setattr("fixtures.measure.measure.Watch", FakeWatch)
    monkeypatch.setattr("fixtures.measure.heat.sleep", lambda _: None)
    FakeEngine.reset()
    yield FakeEngine
    FakeEngine.reset()


def write_suite(folder: Path, *models: str, **keys: Any) -> str:
    """A suite of models whose architecture sets no limit to lengths, in a file; the name of the file."""
    inline = [{"name": name, "architecture": {"model_type": "mamba"}} for name in models]
    sweep = {
        "name": "small",
        "batch_sizes": keys.pop("batch_sizes", [1]),
        "input_lengths": keys.pop("input_lengths", [4]),
        "output_lengths": keys.pop("output_lengths", [2]),
    }
    suite = {"models": inline, "hardware": ["1xany"], "sweeps": [sweep], **keys}
    (folder / "suite.yaml").write_text(json.dumps(suite))
    return "suite.yaml"


def histories(folder: Path) -> list[dict[str, Any]]:
    """The histories that a project's folder holds, the oldest first."""
    files = sorted(folder.glob(".benchmarks/*/*.json"))
    return [json.loads(file.read_text()) for file in files]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser; a test that asks for it is skipped where there is none and none can be installed."""
    from ci.tests.browser import launched

    with launched() as started:
        yield started
