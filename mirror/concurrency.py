"""Do the same for many items at once, end early, bound how long a call may take, and count the cores.

Child processes of PID 1: whatever they leave behind is reaped, and a machine that gives no further one is noticed. In a
container the program is PID 1, so the kernel hands it the children that a killed or failing git left behind. They
would stay zombies and use up the container's limit of processes. Each child of ours leads a process group of
its own, and everything that it started is reaped by that group; an init such as tini is not needed.
"""

import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
BUSY_SECONDS = 10.0
"""How long a lock that is held, or a port that is taken, is waited for: what ends just now then does no harm."""
_PAUSE_SECONDS = 0.1


def within(seconds: float, attempt: Callable[[], bool]) -> bool:
    """Whether `attempt` succeeded within `seconds`; it is made at least once, then several times a second."""
    deadline = time.monotonic() + seconds
    while not attempt():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


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
            CancelledError: `cancel` was called, before or during the call.
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
    # Never "running" in the words of Future: only then can it be cancelled; after that its result is not used.
    with suppress(InvalidStateError):
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  it is raised again in the waiting thread
            future.set_exception(error)


def thread_map(
    work: Callable[[T], R], things: Iterable[T], *, workers: int, cancel: Callable[[], None]
) -> tuple[R, ...]:
    """The results of `work`, in the order of `things`, from at most `workers` threads.

    What one of them raises ends the others after what they are at, and is raised. When waiting for them ends early
    (Ctrl-C, SIGTERM), `cancel` makes what runs end soon: a pool of threads waits for its threads, and a hung connection
    would hold the process for as long as its time limit.
    """
    waiting = deque(enumerate(things))
    results: dict[int, R] = {}

    def carry_out() -> None:
        # A future for each thing would cost more than most things do.
        while True:
            try:
                number, thing = waiting.popleft()
            except IndexError:
                return
            try:
                results[number] = work(thing)
            except BaseException:
                waiting.clear()
                raise

    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            running = [pool.submit(carry_out) for _ in range(min(workers, len(waiting)))]
            for future in as_completed(running):
                future.result()
        except BaseException:
            waiting.clear()
            pool.shutdown(wait=False, cancel_futures=True)
            cancel()
            raise
    return tuple(results[number] for number in range(len(results)))


CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def worker_command(module: str) -> tuple[str, ...]:
    """The words that start a process of ours, which calls `main` of `module`; further words are its arguments.

    It imports from where this process does, and from nowhere else: `python -m` would begin in the current directory,
    which may belong to any user.
    """
    isolated = ("-I",) if sys.flags.isolated else ()
    program = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    return (sys.executable, "-P", *isolated, "-c", program)


def available_cpus(
    *,
    cgroups: Path = CGROUPS,
    own_cgroup: Path = OWN_CGROUP,
    affinity: Callable[[], int] = lambda: len(os.sched_getaffinity(0)),
) -> int:
    """At least one.

    The limit of a container or a unit is a share of time (`cpu.max` of cgroup v2): with half a core, sixteen cores
    only run into it sooner.

    Args:
        cgroups: Where the control groups are mounted.
        own_cgroup: The file that names our own.
        affinity: How many cores we may run on.
    """
    try:
        name = own_cgroup.read_text(encoding="utf-8").partition("0::")[2].splitlines()[0]
        quota, period = (cgroups / name.lstrip("/") / "cpu.max").read_text(encoding="ascii").split()
        return max(1, min(affinity(), int(quota) // int(period)))
    except (OSError, ValueError, IndexError, ZeroDivisionError):  # no such limit: "max", or cgroup v1
        return affinity()


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
    """Reap every ended process of the remaining groups; gives how many groups still have members."""
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
