"""The holder of a lock is found without taking the lock."""

import fcntl
import os
from pathlib import Path

from mirror.check.clients import lock_holder


def test_holder_is_named_by_its_process(tmp_path: Path) -> None:
    """The holder is read from the real /proc/locks. The lock itself stays untouched."""
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    with path.open("w") as file:
        assert lock_holder(path) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        held = lock_holder(path)
        assert held is not None
        assert held.startswith(f"process {os.getpid()} (")
    assert lock_holder(path) is None


def test_other_locks_waiting_ones_and_odd_lines_do_not_count(tmp_path: Path) -> None:
    """Only a held FLOCK on this file counts. A process that has ended has no name."""
    path, locks = tmp_path / "lock", tmp_path / "locks"
    path.touch()
    inode = path.stat().st_ino
    locks.write_text(
        f"1: POSIX  ADVISORY  WRITE 1 fd:01:{inode} 0 EOF\n"
        f"2: -> FLOCK  ADVISORY  WRITE 2 fd:01:{inode} 0 EOF\n"
        "3: FLOCK\n"
        f"4: FLOCK  ADVISORY  WRITE 3 fd:01:{inode + 1} 0 EOF\n"
    )
    assert lock_holder(path, locks=locks) is None
    locks.write_text(f"1: FLOCK  ADVISORY  WRITE 4711 fd:01:{inode} 0 EOF\n")
    assert lock_holder(path, locks=locks, processes=tmp_path) == "process 4711"


def test_machine_without_lock_information_is_no_holder(tmp_path: Path) -> None:
    """Without /proc/locks, no holder is reported."""
    (tmp_path / "lock").touch()
    assert lock_holder(tmp_path / "lock", locks=tmp_path / "none") is None
