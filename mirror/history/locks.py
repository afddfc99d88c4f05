"""Lock files that a killed git left behind, told from those of a living one.

Every git command of ours runs under a shared `flock` on one file of the repository, and git itself inherits it: the
kernel gives it up only when the last process holding it is gone. Who gets it exclusively therefore knows that no git of
any mirror or operator command is alive here. What remains is a git that somebody runs by hand: it holds a reference's
lock for milliseconds, so a lock file that stood still for `SETTLED_SECONDS` is a dead one's.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

BUSY_FILE = "oidc-mirror.busy"
SETTLED_SECONDS = 5.0
ABANDONED_SECONDS = 900.0
_POLL_SECONDS = 0.05
_PATTERNS = ("*.lock", "refs/**/*.lock", "objects/**/*.lock", "gc.pid", "fast_import_crash_*")


@contextlib.contextmanager
def busy(repository: Path) -> Iterator[tuple[int, ...]]:
    """Hold the shared lock; gives the file descriptors that git must inherit, none where the directory is not ours."""
    opened = _open(repository)
    try:
        if opened is not None:
            fcntl.flock(opened, fcntl.LOCK_SH)
        yield () if opened is None else (opened,)
    finally:
        if opened is not None:
            # Only our descriptor is closed: no LOCK_UN, which would take the lock from a git that inherited it.
            os.close(opened)


def remove_stale_locks(repository: Path, *, settled_seconds: float = SETTLED_SECONDS) -> tuple[Path, ...]:
    """Remove what dead git processes left in `repository`, and give what was removed.

    A young file is watched for `settled_seconds` first. While another git of ours is alive, only files older than
    15 minutes go: longer than any of our commands may take.

    Raises:
        OSError: A file could not be removed.
    """
    if not _leftovers(repository):
        return ()
    opened = _open(repository)
    if opened is None:
        return ()
    try:
        if _alone(opened, settled_seconds):
            return _remove(_settled(repository, settled_seconds))
        old = time.time() - ABANDONED_SECONDS
        return _remove([path for path, seen in _leftovers(repository).items() if seen[1] < old * 1e9])
    finally:
        os.close(opened)


def _alone(opened: int, seconds: float) -> bool:
    """Get the lock exclusively; waits up to `seconds`, in which the git of a mirror that was just killed ends."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def _open(repository: Path) -> int | None:
    try:
        return os.open(repository / BUSY_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        # No repository yet, or one that we may only read: then git writes nothing either.
        return None


def _leftovers(repository: Path) -> dict[Path, tuple[int, int]]:
    """Lock files with inode and time of modification in nanoseconds."""
    found = {}
    for pattern in _PATTERNS:
        for path in repository.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found[path] = (status.st_ino, status.st_mtime_ns)
    return found


def _settled(repository: Path, settled_seconds: float) -> list[Path]:
    """Lock files that are old, or that did not change while we waited."""
    before = _leftovers(repository)
    border = (time.time() - settled_seconds) * 1e9
    if any(modified > border for _, modified in before.values()):
        time.sleep(settled_seconds)
    after = _leftovers(repository)
    return [path for path, seen in before.items() if after.get(path) == seen]


def _remove(paths: list[Path]) -> tuple[Path, ...]:
    for path in paths:
        path.unlink(missing_ok=True)
    return tuple(paths)
