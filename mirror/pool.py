"""Do the same for many things at once, and end soon when somebody leaves early."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each_at_once(
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
