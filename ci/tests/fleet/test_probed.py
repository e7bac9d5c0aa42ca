"""What nodes say of themselves: any answer is a node, or is told in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.fleet.probed import clock_at, json_line, node_of

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
reports = st.fixed_dictionaries(
    {"reported_name": anything},
    optional=dict.fromkeys(("device", "devices", "memory_bytes", "driver", "node"), anything),
)
answers = st.fixed_dictionaries(
    {"report": reports | anything},
    optional=dict.fromkeys(("versions", "threads", "cores", "devices", "fault", "time_s"), anything),
)


@settings(deadline=None, derandomize=True)
@given(answers)
def test_any_answer_is_a_node_or_none(answer: dict[str, Any]) -> None:
    """Of a bounded size, whatever it says."""
    node = node_of("n", answer, clock_at(answer, 1000.0))
    assert node is None or 1 <= node.machine.devices <= 64
    assert node is None or len(node.devices) <= 64


def test_a_node_has_64_devices_at_most() -> None:
    """A number is data of another machine: a list of so many would fill the memory."""
    node = node_of("n", {"report": {"reported_name": "NVIDIA H200", "devices": 2**31 - 1}})
    assert node is not None
    assert node.machine.devices == 64


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=60), st.dictionaries(st.text(max_size=8), st.integers(), max_size=3))
def test_what_a_node_prints_before_its_answer_is_passed_over(banner: str, answer: dict[str, int]) -> None:
    """Start-up files of a site greet their users."""
    assert json_line(f"{banner}\n{json.dumps(answer)}\n") == answer


@pytest.mark.parametrize(
    ("printed", "shown"),
    [("", "''"), ("Welcome\n\x1b[2J to it", "'\\\\x1b[2J to it'"), ("[1]", "'[1]'"), ("[" * 10**5, "'[[")],
)
def test_an_answer_that_is_none_is_shown(printed: str, shown: str) -> None:
    """In one short line."""
    with pytest.raises(ValueError, match="its probe prints ") as error:
        json_line(printed)
    assert str(error.value).startswith(f"its probe prints {shown}")
    assert len(str(error.value)) < 150


@pytest.mark.parametrize(
    ("then_s", "off_s"), [(1000.0, 0.0), (1050.0, 0.0), (1060.0, 0.0), (1160.0, 100.0), (900.0, -100.0)]
)
def test_a_clock_is_off_by_what_the_probe_does_not_explain(
    monkeypatch: pytest.MonkeyPatch, then_s: float, off_s: float
) -> None:
    """It was asked for at 1000 s and came at 1060 s: a node that was busy meanwhile has the right time."""
    monkeypatch.setattr("time.time", lambda: 1060.0)
    answer = {"report": {"reported_name": "NVIDIA H200"}, "time_s": then_s}
    node = node_of("n", answer, clock_at(answer, 1000.0))
    assert node is not None
    assert node.clock_off_s == off_s
