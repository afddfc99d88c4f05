"""No test outlives its limit, and no process outlives its test, however this run was started.

At its limit a test's processes are killed, so that whatever waits for them ends, and the test fails. What a test leaves
behind, and what those processes had started in turn, is killed and reaped when the test has ended.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_SET_CHILD_SUBREAPER, _GET_CHILD_SUBREAPER = 36, 37
"""`prctl(2)`: the orphans of our descendants become our children."""

GRACE_SECONDS = 10.0
"""How long a test that is past its limit may take for its clean-up, until its processes are killed again."""


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose parent ends; Linux alone can do so."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopts_orphans() -> bool:
    """Whether `adopt_orphans` was called here, and can do it."""
    found = ctypes.c_int(0)
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return found.value == 1


def use_default_signals() -> None:
    """Let the processes that tests start end by SIGINT and SIGHUP, although this process ignores them.

    `nohup` and background jobs ignore them. An ignored signal is inherited, a signal with a handler is not
    (`execve(2)`). Python itself gives SIGPIPE back its default in every process that it starts.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def open_standard_streams() -> None:
    """Open `/dev/null` for each of stdin, stdout and stderr that is closed, else the next file would take its place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def children(of: int | None = None) -> frozenset[int]:
    """The child processes of this process or of `of`, including zombies."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # a process, or a thread of it, that has just ended
        for task in Path(f"/proc/{of or 'self'}/task").iterdir():
            found.update(map(int, (task / "children").read_text().split()))
    return frozenset(found)


_SERVERS: set[int] = set()


@contextlib.contextmanager
def serving(pid: int) -> Iterator[None]:
    """A server that its own fixture ends, for any test that needs it first: nothing here kills it."""
    _SERVERS.add(pid)
    try:
        yield
    finally:
        _SERVERS.discard(pid)


def kill_children(kept: frozenset[int]) -> frozenset[int]:
    """Kill every child except `kept`, and all their descendants; gives the children, which are not reaped yet."""
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
    """Kill and reap every child except `kept`, and then whatever they had started."""
    while found := kill_children(kept):
        for pid in found:
            with contextlib.suppress(ChildProcessError):  # its `Popen` was faster
                os.waitpid(pid, 0)


@contextlib.contextmanager
def limited(seconds: float, at_limit: Callable[[], None]) -> Iterator[None]:
    """Call `at_limit` in the main thread after so many seconds, and again each `GRACE_SECONDS` until the block ends."""
    previous = signal.signal(signal.SIGALRM, lambda *_: at_limit())
    signal.setitimer(signal.ITIMER_REAL, seconds, GRACE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
