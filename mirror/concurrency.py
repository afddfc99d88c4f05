"""Calls that end on time, whatever the library below them waits for."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from threading import Lock, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Bounded:
    """Carries every call out in a daemon thread of its own, which is left behind when its time is over.

    The timeouts of a socket count silence only: a store that sends one byte now and then, a resolver that hangs or a
    program that should give credentials would hold a pass for as long as they like. Safe for many threads.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = Lock()
        self._waiting: set[Future[Any]] = set()
        self._cancelled = False

    def run(self, call: Callable[[], T]) -> T:
        """What `call` returns, or raises.

        Raises:
            TimeoutError: It did not end within `seconds`.
            CancelledError: `cancel` was called, before or meanwhile.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._cancelled:
                raise CancelledError
            self._waiting.add(future)
        try:
            Thread(target=_carry_out, args=(call, future), name="bucket", daemon=True).start()
            return future.result(self._seconds)
        finally:
            future.cancel()
            with self._lock:
                self._waiting.discard(future)

    def cancel(self) -> None:
        """End the waiting of every call at once, and refuse all further ones; callable from any thread."""
        with self._lock:
            self._cancelled = True
            waiting = tuple(self._waiting)
        for future in waiting:
            future.cancel()


def _carry_out(call: Callable[[], T], future: "Future[T]") -> None:
    # Never "running" in the words of Future: only so can it be cancelled; then nobody wants what comes of it.
    with suppress(InvalidStateError):
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  it is raised again where somebody waits
            future.set_exception(error)
