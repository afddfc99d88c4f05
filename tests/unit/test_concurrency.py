"""Calls that end on time, whatever they wait for.

Each issuer here and now where nobody must be asked, and in threads where somebody must be.

Many things at once, and an early end.
"""

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Event, current_thread, main_thread

import pytest

from mirror.concurrency import DeadlineExecutor, thread_map, thread_map_with_ports
from mirror.config.settings import PublishSettings
from mirror.model import IssuerUrl, ObjectKey
from mirror.ports import Ports
from support.fakes import FakeWorld

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
    """When the time is over the caller goes on, and what comes later harms nobody."""
    bounded = DeadlineExecutor(0.05)
    with pytest.raises(TimeoutError):
        bounded.call(hang.wait)
    assert bounded.call(lambda: 1) == 1


def test_late_outcome_is_dropped(hang: Event) -> None:
    """A call that ends after its time, well or badly, ends in silence: nobody waits any more."""
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


PUBLISH = PublishSettings("bucket", "region", "https://oidc.example.com")


def test_work_that_asks_nobody_is_done_in_this_thread() -> None:
    """No thread is begun for what is only computed, and results keep the order."""
    ports = FakeWorld().ports()

    def work(number: int, _: Ports) -> tuple[int, bool]:
        return number, current_thread() is main_thread()

    assert thread_map_with_ports(work, range(5), ports, workers=2) == tuple((number, True) for number in range(5))


@pytest.mark.parametrize("port", ["bucket", "history", "view"])
def test_work_that_asks_is_done_in_a_thread_with_the_real_ports(port: str) -> None:
    """Whoever asks gets a real answer in its place, even where it takes every exception for its own."""
    ports = FakeWorld().ports()
    asks = {
        "bucket": lambda given: given.bucket(PUBLISH).get(ObjectKey("a")),
        "history": lambda given: given.history.last_changed_at("public/a"),
        "view": lambda given: given.view.get_document("https://a.example/", readback=PUBLISH.readback),
    }

    def work(number: int, given: Ports) -> object:
        if number != 1:
            return number
        try:
            return (asks[port](given), current_thread() is main_thread(), given is ports)
        except Exception as error:  # noqa: BLE001  as the steps of a pass do
            return error

    first, asked, last = thread_map_with_ports(work, range(3), ports, workers=2)
    assert (first, last) == (0, 2)
    assert asked == (asks[port](ports), False, True)


def test_exception_of_work_is_raised() -> None:
    """A defect is not taken for a wish to ask."""

    def work(_: IssuerUrl, __: Ports) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        thread_map_with_ports(work, [IssuerUrl("https://a.example")], FakeWorld().ports(), workers=1)


def test_results_keep_the_order() -> None:
    """Whoever is faster, the results stand as the things did."""
    assert thread_map(lambda n: n * n, range(50), workers=4, cancel=lambda: None) == tuple(n * n for n in range(50))


def test_early_end_cancels_what_runs() -> None:
    """An exception ends the others by `cancel`, and what has not begun never begins."""
    ended, began = Event(), []

    def work(number: int) -> None:
        began.append(number)
        if number == 0:
            raise KeyboardInterrupt
        assert ended.wait(30)

    with pytest.raises(KeyboardInterrupt):
        thread_map(work, range(100), workers=2, cancel=ended.set)
    assert ended.is_set()
    assert len(began) < 100
