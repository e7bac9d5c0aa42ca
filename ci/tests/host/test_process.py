"""What a session changes in its process: an interrupt's traceback."""

from __future__ import annotations

import signal
import sys

import pytest

from fixtures.host.process import number_lines

FAR = 10**10


def busy() -> None:
    """A loop whose jump back, where Python looks for signals, has no line in Python 3.11."""
    below = 0
    for number in range(FAR):
        if number & 1:
            below -= 1
            if below > 0:
                break


def test_an_interrupt_is_shown() -> None:
    """The frames stay; the one that was interrupted has the nearest line before."""
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.02)
    try:
        busy()
    except KeyboardInterrupt:
        caught = pytest.ExceptionInfo[BaseException].from_current()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    if sys.version_info < (3, 12):
        with pytest.raises(TypeError):
            caught.getrepr(funcargs=True)
    number_lines(caught)
    assert [entry.name for entry in caught.traceback] == ["test_an_interrupt_is_shown", "busy"]
    first = busy.__code__.co_firstlineno
    assert first < caught.traceback[-1].lineno + 1 <= first + 7
    assert "KeyboardInterrupt" in str(caught.getrepr(funcargs=True))
