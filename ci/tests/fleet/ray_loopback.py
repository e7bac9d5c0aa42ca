"""A driver that is killed, and shards that lie, on a real Ray cluster whose two nodes are whole.

They take minutes where something hangs: `ci/test ci/tests/fleet/ray_loopback.py` runs them.
"""

from __future__ import annotations

import signal

import pytest

from ci.tests.conftest import histories, write_suite
from ci.tests.fleet.test_on_ray import Project, Served, by_case, cluster, ended, project_there, until

__all__ = ["cluster", "project_there"]  # fixtures
pytest_plugins = ["pytester"]

# The second shard, which has the first case alone, begins when its fault is there, however soon it starts.
LATE = """
if "--as-shard" in sys.argv:
    folder = pathlib.Path(sys.argv[sys.argv.index("--as-shard") + 1]).parent
    is_second = (folder / "cases.txt").read_text().count("\\n") == 1
    while is_second and not any((HERE / f"{name}_m_b1").exists() for name in ("fault", "at")):
        time.sleep(0.02)
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_is_followed_by_another(project_there: Project) -> None:
    """One shard has ended by then, one still runs: nothing is measured twice, but m_b1 on both nodes.

    The second shard measures m_b1 to compare the nodes.
    """
    project = project_there
    write_suite(project.path, "m", "n", batch_sizes=[1, 2])
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + LATE)
    project.fault("m_b2")
    driver = project.start("--on", project.place)
    project.reaches("m_b2")
    project.takes("m_b1")
    until(lambda: sum("shard" in line for line in project.lines()) == 2, "both shards are there")
    project.fault("m_b1")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    project.goes_on("m_b2")
    project.reaches("m_b1")  # the device is free again, so the first one has ended
    session = project.start("--on", project.place, "--resume")
    assert session.stdout is not None
    told = ""
    for line in session.stdout:
        told += line
        if told.count("of the run that is resumed is still there") == 2:
            break
    project.goes_on("m_b1")
    told += ended(session)
    assert session.returncode == 0, told
    ran = project.ran()
    assert (ran["m_b1"], ran["m_b2"], ran["n_b2"]) == (2, 1, 1)
    (history,) = histories(project.path)
    assert sorted(by_case(history)) == ["m_b1", "m_b2", "n_b1", "n_b2"]
    assert "1 of 4 cases are in it" in told


@pytest.mark.slow
def test_what_a_shard_cannot_be_trusted_with(project_there: Project, cluster: Served) -> None:
    """It ends with code 0 too early, sends what is none of its business, or is preempted: one line each."""
    project = project_there
    write_suite(project.path, "lies", "shouts", "points", "floods", "is_preempted", batch_sizes=[1, 2])
    project.fault("lies_b2", "")
    project.fault("shouts_b2", '{"case": "\\u001b[2Jx"}\n{"case": "x\\u001b[2J", "failure": "\\u001b[31m"}\n')
    project.fault("points_b2", '{"case": "../../etc/passwd", "failure": "x"}\n')
    project.fault("floods_b2", b'{"case": "' + b"x" * (9 * 2**20) + b'"}\n')
    project.fault("is_preempted_b2")
    session = project.start("--on", project.place)
    project.reaches("is_preempted_b2")
    project.takes("is_preempted_b1")
    cluster.ask(f"preempt {project.shard_of('is_preempted_b2')['shard']}")
    told = ended(session)
    assert session.returncode == 0, told
    assert "\x1b" not in told
    (history,) = histories(project.path)
    placed = {case: record["placement"] for case, record in by_case(history).items()}
    assert len(placed) == 10
    why = {
        case: reason.partition(": ")[2] for case, where in placed.items() for reason in where["failed_tries"]
    }
    expected = {
        "lies_b2": "exit code 0",
        "shouts_b2": "it sends an id that is not printable",
        "points_b2": "it sends ../../etc/passwd, which is not its case",
        "floods_b2": "it sends more than a journal has",
        "is_preempted_b2": "it was preempted",
    }
    assert why.keys() == expected.keys()
    assert all(why[case].startswith(reason) for case, reason in expected.items()), why
    assert all(case.endswith("_b1") or project.ran()[case] == 2 for case in placed)
