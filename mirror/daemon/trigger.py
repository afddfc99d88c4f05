"""Let the daemon that holds a state directory make a pass now, and wait for it (`run --now`)."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mirror.errors import MirrorError, UsageError
from mirror.files import lock_owner
from mirror.reconcile.local_state import LastPass, load_last_pass

MAX_WAIT_SECONDS = 900.0
"""A pass that runs is waited for, and then the one that was asked for."""
_PAUSE_SECONDS = 0.1
_PROC = Path("/proc")


def find_daemon(state_dir: Path, *, owner: Callable[[Path], int | None] = lock_owner, proc: Path = _PROC) -> int | None:
    """The process that holds the directory, where it takes SIGUSR1; None where nobody does, or it is one pass alone.

    SIGUSR1 ends a process that does not catch it, as `run --once` does not.
    """
    pid = owner(state_dir / "lock")
    return pid if pid and _catches(pid, signal.SIGUSR1, proc) else None


def make_pass(state_dir: Path, pid: int, *, max_seconds: float = MAX_WAIT_SECONDS) -> LastPass:
    """Signal the daemon `pid`, and give how its next whole pass ended.

    Raises:
        UsageError: This user may not signal it.
        MirrorError: It ended, or no pass did in time.
    """
    with _opened(pid) as process:
        if find_daemon(state_dir) != pid:  # the number may be another process's by now; what is open stays the same
            raise _ended(pid)
        sent_at = datetime.now(UTC)
        _signal(process, pid)
        deadline = time.monotonic() + max_seconds
        while time.monotonic() < deadline:
            found = load_last_pass(state_dir)
            if found is not None and found.whole_since is not None and found.whole_since >= sent_at:
                return found
            if select.select([process], [], [], _PAUSE_SECONDS)[0]:
                raise _ended(pid)
    raise MirrorError(
        f"Process {pid} ended no pass within {max_seconds:g} s.",
        remedy="Check its log, or /healthz; it may be stuck.",
    )


@contextmanager
def _opened(pid: int) -> Iterator[int]:
    try:
        process = os.pidfd_open(pid)
    except OSError:
        raise _ended(pid) from None
    try:
        yield process
    finally:
        os.close(process)


def _signal(process: int, pid: int) -> None:
    try:
        signal.pidfd_send_signal(process, signal.SIGUSR1)
    except PermissionError:
        raise UsageError(
            f"This user may not signal process {pid}, which holds the state directory.",
            remedy="Run it as root or as the user of that process: `sudo oidc-mirror-admin --once --now`, "
            "or `systemctl kill -s USR1 oidc-mirror`.",
        ) from None
    except ProcessLookupError:
        raise _ended(pid) from None


def _ended(pid: int) -> MirrorError:
    return MirrorError(
        f"Process {pid}, which held the state directory, ended before its pass did.",
        remedy="Run `oidc-mirror --once --now` again: it makes a pass itself when no daemon runs.",
    )


def _catches(pid: int, number: signal.Signals, proc: Path) -> bool:
    """Whether a process has a handler for a signal (proc(5), SigCgt: a mask in hexadecimal, signal 1 first)."""
    try:
        status = (proc / str(pid) / "status").read_text()
        (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(mask, 16) >> (number - 1) & 1)
    except (OSError, ValueError, IndexError):
        return False
