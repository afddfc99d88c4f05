"""Ends tests at their timeout, and processes with their test, however the run was started.

At the timeout, the test's processes are killed, so that waiting code returns and the test fails. After each test, its
remaining processes and their descendants are killed and reaped.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_SET_CHILD_SUBREAPER, _GET_CHILD_SUBREAPER = 36, 37
"""`prctl(2)`: orphaned descendants become children of this process."""

GRACE_SECONDS = 10.0
"""Seconds for the clean-up of a test after its timeout; then its processes are killed again."""


def adopt_orphans() -> None:
    """Make this process the parent of every orphaned descendant. Only Linux supports it."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopts_orphans() -> bool:
    """Whether `adopt_orphans` was called and has an effect."""
    found = ctypes.c_int(0)
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return found.value == 1


def use_default_signals() -> None:
    """Let child processes end by SIGINT and SIGHUP, even if this process was started with both ignored.

    `nohup` and background jobs start a process with these signals ignored. Children inherit an ignored signal, but not
    a handler (`execve(2)`). Python itself restores the default of SIGPIPE in every process that it starts.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def open_standard_streams() -> None:
    """Open `/dev/null` for each closed standard stream; else the next open file would become that stream."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def children(of: int | None = None) -> frozenset[int]:
    """The child processes of this process or of `of`, including zombies."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # the process or one of its threads has just ended
        for task in Path(f"/proc/{of or 'self'}/task").iterdir():
            found.update(map(int, (task / "children").read_text().split()))
    return frozenset(found)


_HEAP_BYTES = 64 << 20


def thread_heaps(maps: str) -> int:
    """The heaps that glibc made for threads, by `/proc/PID/maps`: each reserves 64 MiB at such a boundary."""
    rows = [line.split()[:2] for line in maps.splitlines()]
    spans = [[int(end, 16) for end in addresses.split("-")] for addresses, _ in rows]
    return sum(
        used[0] % _HEAP_BYTES == 0 and reserved[1] - used[0] == _HEAP_BYTES and rights == "---p"
        for used, reserved, (_, rights) in zip(spans, spans[1:], rows[1:], strict=False)
    )


_SERVERS: set[int] = set()


@contextlib.contextmanager
def serving(pid: int) -> Iterator[None]:
    """Do not kill this process after a test: it is a server for all tests, and its own fixture ends it."""
    _SERVERS.add(pid)
    try:
        yield
    finally:
        _SERVERS.discard(pid)


def kill_children(kept: frozenset[int]) -> frozenset[int]:
    """Kill every child except `kept`, and all descendants. Returns the killed children, which are not reaped yet."""
    found = children() - kept - _SERVERS
    for pid in found:
        _kill(pid)
    return found


def _kill(pid: int) -> None:
    below = children(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for each in below:
        _kill(each)


def end_children(kept: frozenset[int]) -> None:
    """Kill and reap every child except `kept`, and also the orphans that they leave."""
    while found := kill_children(kept):
        for pid in found:
            with contextlib.suppress(ChildProcessError):  # its `Popen` has just reaped it
                os.waitpid(pid, 0)


@contextlib.contextmanager
def limited(seconds: float, at_limit: Callable[[], None]) -> Iterator[None]:
    """Call `at_limit` in the main thread after `seconds`, and again every `GRACE_SECONDS` until the block ends."""
    previous = signal.signal(signal.SIGALRM, lambda *_: at_limit())
    signal.setitimer(signal.ITIMER_REAL, seconds, GRACE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
