"""Files of another user, and this process as another user for a while; both need root."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SERVICE_UID = 64321
OTHER_UID = 64322


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own lie below one of mode 0700."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of another user")
    with tempfile.TemporaryDirectory(prefix="oidc-mirror-users-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def as_user(uid: int, gid: int | None = None) -> Iterator[None]:
    """Everything that this process does in the block, it does as `uid`; so do its children."""
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(uid if gid is None else gid, uid if gid is None else gid, 0)
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def give(path: Path, uid: int, gid: int | None = None) -> Path:
    """Make the path the user's, with all below it."""
    for each in (path, *path.rglob("*")):
        os.chown(each, uid, uid if gid is None else gid, follow_symlinks=False)
    return path


def reported_as(uid: int, call: Callable[[], str]) -> str:
    """What `call` gives in a process that is `uid` for good, as a service is."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  nothing of pytest may go on in it
        with suppress(BaseException):
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(write, call().encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as said:
        found = said.read()
    os.waitpid(child, 0)
    return found
