"""Calls that end on time, for anything that they wait for.

Each issuer is processed directly if no request is needed, and in threads otherwise.

Many things at once, and an early end.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Event

import pytest

from mirror.concurrency import DeadlineExecutor, thread_map, worker_command

LONG_SECONDS = 30.0


@pytest.fixture
def hang() -> Iterator[Event]:
    """Set at the end, so that no thread outlives its test."""
    event = Event()
    yield event
    event.set()


def test_call_gives_its_value() -> None:
    """What the call returns is returned."""
    assert DeadlineExecutor(LONG_SECONDS).call(lambda: "value") == "value"


def test_call_that_fails_raises_its_error() -> None:
    """What the call raises is raised, as it is."""
    error = KeyError("no")

    def fail() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        DeadlineExecutor(LONG_SECONDS).call(fail)
    assert caught.value is error


def test_call_that_hangs_is_left_behind(hang: Event) -> None:
    """When the time is over the caller continues, and a later result is harmless."""
    bounded = DeadlineExecutor(0.05)
    with pytest.raises(TimeoutError):
        bounded.call(hang.wait)
    assert bounded.call(lambda: 1) == 1


def test_late_outcome_is_dropped(hang: Event) -> None:
    """A call that ends after its time, with or without an error, reports nothing: no caller waits any more."""
    ended = Event()

    def late() -> None:
        hang.wait()
        ended.set()
        raise KeyError

    with pytest.raises(TimeoutError):
        DeadlineExecutor(0.05).call(late)
    hang.set()
    assert ended.wait(LONG_SECONDS)


def test_cancelled_calls_end_at_once_and_none_begins_after(hang: Event) -> None:
    """An interrupt waits for no socket."""
    bounded, begun = DeadlineExecutor(LONG_SECONDS), Event()

    def wait() -> None:
        begun.set()
        hang.wait()

    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bounded.call, wait)
        assert begun.wait(LONG_SECONDS)
        bounded.cancel()
        assert isinstance(running.exception(), CancelledError)
    with pytest.raises(CancelledError):
        bounded.call(lambda: pytest.fail("it was begun"))
    assert time.monotonic() - began < LONG_SECONDS / 2


def test_results_keep_the_order() -> None:
    """The results keep the order of the inputs, whichever ends first."""
    assert thread_map(lambda n: n * n, range(50), workers=4, cancel=lambda: None) == tuple(n * n for n in range(50))


@pytest.mark.parametrize("broken", [0, 1])
def test_early_end_cancels_what_runs(broken: int) -> None:
    """An exception ends the others by `cancel`, whichever raises it, and what has not begun never begins."""
    ended, began = Event(), []

    def work(number: int) -> None:
        began.append(number)
        if number == broken:
            raise KeyboardInterrupt
        assert ended.wait(30)

    with pytest.raises(KeyboardInterrupt):
        thread_map(work, range(100), workers=2, cancel=ended.set)
    assert ended.is_set()
    assert len(began) < 100


def test_worker_imports_from_where_this_process_does() -> None:
    """Nothing in the current directory can take the place of our own modules."""
    assert "-P" in worker_command("mirror.new_keys")
    assert repr(sys.path) in worker_command("mirror.new_keys")[-1]
