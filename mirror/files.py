"""Files of the state directory, written atomically, and small files of operators, read with a bound.

A draft carries a `flock` while its writer lives; the kernel gives it up when the writer dies. Who gets the lock of a
draft therefore knows that its writer has ended.
"""

import contextlib
import fcntl
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from errno import EFBIG, EINVAL
from functools import partial
from pathlib import Path

from mirror.errors import HistoryError, UsageError

DAMAGED = (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
"""What reading one of our JSON files and taking it apart raises, if it is missing, unreadable or of another form."""
_IN_MEMORY = "/dev/shm"  # noqa: S108  its names are made by tempfile


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write `text` next to `path` and rename it into place; drafts of killed writers are removed.

    The file gets `mode` as far as the process's umask lets it.

    Raises:
        HistoryError: The folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temp_file(draft, f".{glob.escape(path.name)}.*", partial(draft.touch, mode)):
            draft.write_text(text)
            draft.replace(path)
    except OSError as error:
        raise _unwritable(path, draft, error) from error


def _unwritable(path: Path, draft: Path, error: OSError) -> HistoryError:
    with contextlib.suppress(OSError):  # a disk that is read-only says so for absent files too
        draft.unlink()
    return HistoryError(
        f"The state directory {path.parent} cannot be written.",
        cause=str(error.strerror),
        remedy="Give the mirror's user the right to write there, or free space on the disk.",
    )


@contextlib.contextmanager
def temporary_folder(prefix: str, *, also: Path) -> Iterator[str]:
    """A temporary folder: where the system keeps such ones, else in memory, else in `also`.

    A container with a read-only root may have no /tmp.

    Raises:
        UsageError: There is no place for one.
    """
    for place in (None, _IN_MEMORY, str(also)):
        try:
            made = tempfile.TemporaryDirectory(prefix=prefix, dir=place)
        except OSError:
            continue
        with made as folder:
            yield folder
        return
    raise UsageError(
        f"There is no place for temporary files: not /tmp, not {_IN_MEMORY}, not {also}.",
        remedy="Mount a writable folder at /tmp (an emptyDir in Kubernetes, `--tmpfs /tmp`), or name one in $TMPDIR.",
    )


def update_atomically(path: Path, change: Callable[[], str | None]) -> None:
    """Write what `change` makes of the file as it is now (None: nothing), as `write_atomically` does.

    Of several processes that do so at the same time each one's `change` sees what the one before has written.

    Raises:
        HistoryError: The folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with lock_temp_file(path.parent):  # while it is held, no process looks for abandoned drafts either
            text = change()
            if text is not None:
                remove_stale_temp_files(path.parent, f".{glob.escape(path.name)}.*")
                draft.write_text(text)
                draft.replace(path)
    except OSError as error:
        raise _unwritable(path, draft, error) from error


@contextlib.contextmanager
def temp_file(draft: Path, abandoned: str, make: Callable[[], None]) -> Iterator[None]:
    """Let `make` create `draft`, which is locked while the block runs; unlocked drafts named `abandoned` are removed.

    Raises:
        OSError: It cannot be made.
    """
    with contextlib.ExitStack() as held:
        with lock_temp_file(draft.parent):  # no other process removes a draft that its maker has not locked yet
            remove_stale_temp_files(draft.parent, abandoned)
            make()
            held.enter_context(lock_temp_file(draft))
        yield


@contextlib.contextmanager
def lock_temp_file(draft: Path) -> Iterator[None]:
    """Mark `draft`, a file or a folder, as in use while the block runs.

    Raises:
        OSError: It cannot be opened.
    """
    opened = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def remove_stale_temp_files(folder: Path, pattern: str) -> None:
    """Remove the unused drafts of that name; what cannot be removed stays."""
    for draft in folder.glob(pattern):
        with contextlib.suppress(OSError):
            opened = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
            finally:
                os.close(opened)


def read_small(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most `max_bytes` bytes; symbolic links are followed.

    Raises:
        OSError: it is missing, may not be read, is too large, or is no regular file (opening a pipe would hang).
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(EINVAL, "it is not a regular file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(EFBIG, f"it is larger than {max_bytes} bytes")
    return content


def why_unreadable(error: OSError) -> str:
    """What the system says about `error`, without the file's name."""
    return error.strerror or os.strerror(error.errno or EINVAL)


LOCKS = Path("/proc/locks")
_LOCK_FIELDS = 6


def lock_owner(path: Path, *, locks: Path = LOCKS) -> int | None:
    """The process that holds the `flock` on a file; None if there is none, or the system does not say."""
    try:
        inode = path.stat().st_ino
        lines = locks.read_text().splitlines()
    except OSError:
        return None
    # By inode alone: some file systems (btrfs, overlayfs) show another device there than stat does.
    for fields in (line.split() for line in lines if "->" not in line):  # the arrow marks who waits
        if len(fields) >= _LOCK_FIELDS and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return int(fields[4])
    return None
