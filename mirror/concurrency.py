"""Do the same for many items at once, end early, and bound how long a call may take.

Do something for each issuer: here and now where nobody must be asked, in threads where the bucket or git must be.
Most issuers of most passes need nothing but what was read before they are decided. A thousand of them in a pool of
threads would only take the interpreter's lock from each other.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Lock, Thread
from typing import Any, NoReturn, TypeVar, cast

from mirror.ports import Ports

T = TypeVar("T")


class DeadlineExecutor:
    """Carries every call out in a daemon thread of its own, which is left behind when its time is over.

    The timeouts of a socket count silence only: a store that sends one byte now and then, a resolver that hangs or a
    program that should give credentials would hold a pass for as long as they like. Safe for many threads.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = Lock()
        self._waiting: set[Future[Any]] = set()
        self._cancelled = False

    def call(self, call: Callable[[], T]) -> T:
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


R = TypeVar("R")


def thread_map(
    work: Callable[[T], R], things: Iterable[T], *, workers: int, cancel: Callable[[], None]
) -> tuple[R, ...]:
    """The results of `work`, in the order of `things`, from at most `workers` threads.

    When waiting for them ends early (Ctrl-C, SIGTERM), `cancel` makes what runs end soon: a pool of threads waits for
    its threads, and a hung connection would hold the process for as long as its time limit.
    """
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = [pool.submit(work, thing) for thing in things]
        try:
            return tuple(future.result() for future in running)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            cancel()
            raise


class _PortUsed(BaseException):
    """The work wants to ask the outside world. No `Exception`, because work turns those into its issuer's failure."""


class _InterruptingPort:
    """Stands for every port: whoever asks it anything is interrupted before anything has happened."""

    def __getattr__(self, name: str) -> NoReturn:
        raise _PortUsed(name)


def thread_map_with_ports(
    work: Callable[[T, Ports], R], things: Sequence[T], ports: Ports, *, workers: int
) -> tuple[R, ...]:
    """The results of `work`, in the order of `things`; what `work` raises is raised here.

    Args:
        work: What is to be done. Until it first asks a port it changes nothing, because then it is begun anew.
        things: One argument of `work` each.
        ports: The outside world.
        workers: How many ask at the same time.
    """
    nobody = _interrupting_ports(ports)
    done: dict[int, R] = {}
    for at, thing in enumerate(things):
        try:
            done[at] = work(thing, nobody)
        except _PortUsed:
            continue
    asking = [at for at in range(len(things)) if at not in done]
    if asking:
        answers = thread_map(lambda at: work(things[at], ports), asking, workers=workers, cancel=ports.cancel)
        done.update(zip(asking, answers, strict=True))
    return tuple(done[at] for at in range(len(things)))


def _interrupting_ports(ports: Ports) -> Ports:
    nobody = cast("Any", _InterruptingPort())
    return replace(ports, source=nobody, history=nobody, view=nobody, cdn=nobody, bucket=lambda _: nobody)
