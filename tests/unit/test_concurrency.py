"""Calls that end on time, whatever they wait for."""

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Event

import pytest

from mirror.concurrency import Bounded

LONG_SECONDS = 30.0


@pytest.fixture
def hang() -> Iterator[Event]:
    """Set at the end, so that no thread outlives its test."""
    event = Event()
    yield event
    event.set()


def test_call_gives_its_value() -> None:
    """What the call returns is returned."""
    assert Bounded(LONG_SECONDS).run(lambda: "value") == "value"


def test_call_that_fails_raises_its_error() -> None:
    """What the call raises is raised, as it is."""
    error = KeyError("no")

    def fail() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        Bounded(LONG_SECONDS).run(fail)
    assert caught.value is error


def test_call_that_hangs_is_left_behind(hang: Event) -> None:
    """When the time is over the caller goes on, and what comes later harms nobody."""
    bounded = Bounded(0.05)
    with pytest.raises(TimeoutError):
        bounded.run(hang.wait)
    assert bounded.run(lambda: 1) == 1


def test_late_outcome_is_dropped(hang: Event) -> None:
    """A call that ends after its time, well or badly, ends in silence: nobody waits any more."""
    ended = Event()

    def late() -> None:
        hang.wait()
        ended.set()
        raise KeyError

    with pytest.raises(TimeoutError):
        Bounded(0.05).run(late)
    hang.set()
    assert ended.wait(LONG_SECONDS)


def test_cancelled_calls_end_at_once_and_none_begins_after(hang: Event) -> None:
    """An interrupt waits for no socket."""
    bounded, begun = Bounded(LONG_SECONDS), Event()

    def wait() -> None:
        begun.set()
        hang.wait()

    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bounded.run, wait)
        assert begun.wait(LONG_SECONDS)
        bounded.cancel()
        assert isinstance(running.exception(), CancelledError)
    with pytest.raises(CancelledError):
        bounded.run(lambda: pytest.fail("it was begun"))
    assert time.monotonic() - began < LONG_SECONDS / 2
