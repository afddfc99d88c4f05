"""Child processes of PID 1: whatever they leave behind is reaped, and a machine that gives no further one is noticed.

In a container the program is PID 1, so the kernel hands it the children that a killed or failing git left behind. They
would stay zombies and use up the container's limit of processes. Each child of ours leads a process group of
its own, and everything that it started is reaped by that group; an init such as tini is not needed.
"""

import errno
import os
import time
from contextlib import suppress
from threading import Lock

REAP_SECONDS = 0.5
_POLL_SECONDS = 0.01
_EXHAUSTED = frozenset({errno.EAGAIN, errno.ENOMEM})
_NO_THREAD = "can't start new thread"

EXHAUSTED_REMEDY = (
    "No further process or thread is allowed here, or memory is used up: see what runs (`ps -eLf`), and raise the "
    "limit: `pids.max` of the container, `TasksMax=` of the unit, `ulimit -u` of the user."
)

_lock = Lock()
_groups: set[int] = set()
_refused = [0]


def reap(group: int, *, killed: bool = False) -> None:
    """Reap what the process group `group` left behind, now or at a later call; its leader is reaped already.

    A group that was `killed` is waited for, at most `REAP_SECONDS`; one that goes on by itself (an ssh master) is not.
    """
    with _lock:
        _groups.add(group)
    deadline = time.monotonic() + (REAP_SECONDS if killed else 0)
    while sweep() and group in _groups and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def sweep() -> int:
    """Reap whoever has ended in any group that was left behind; gives how many groups still have members."""
    with _lock:
        for group in tuple(_groups):
            if not _has_members(group):
                _groups.discard(group)
        return len(_groups)


def _has_members(group: int) -> bool:
    """Whether the group has children of ours that still run; those that have ended are reaped."""
    # The number stays taken until the last member is reaped (fork(2), setpgid(2)): it never means another group.
    with suppress(ChildProcessError):
        while True:
            pid, _ = os.waitpid(-group, os.WNOHANG)
            if pid == 0:
                return True
    return False


def is_exhausted(error: BaseException) -> bool:
    """Whether the system refused a further process or thread; counted, see `refused_starts`."""
    found = (isinstance(error, OSError) and error.errno in _EXHAUSTED) or (
        isinstance(error, RuntimeError) and _NO_THREAD in str(error)
    )
    if found:
        with _lock:
            _refused[0] += 1
    return found


def refused_starts() -> int:
    """How many processes and threads could not be started since this process began."""
    return _refused[0]
