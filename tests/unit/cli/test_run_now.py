"""`--now` signals only the process that holds the directory and catches SIGUSR1."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.cli.run import find_daemon, make_pass
from mirror.errors import MirrorError
from mirror.reconcile.local_state import LastPass, load_last_pass, save_last_pass
from mirror.report import ExitStatus
from support.fakes import MOMENT

HOLDER = """
import fcntl, signal, sys, time
sys.path[:0] = {path!r}
from datetime import UTC, datetime, timedelta
from pathlib import Path
from mirror.reconcile.local_state import LastPass, load_last_pass, save_last_pass
from mirror.report import ExitStatus
state = Path(sys.argv[1])
def running(*_):
    began = datetime.now(UTC) - timedelta(minutes=1)
    save_last_pass(state, LastPass(began, ExitStatus.CURRENT, whole_since=began))
    time.sleep(0.3)
    now = datetime.now(UTC)
    save_last_pass(state, LastPass(now, ExitStatus.HELD, whole_since=now))
def ending(*_):
    sys.exit(0)
handler = {{"running": running, "ending": ending, "ignoring": lambda *_: None}}.get(sys.argv[2])
if handler:
    signal.signal(signal.SIGUSR1, handler)
lock = (state / "lock").open("w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
while True:
    time.sleep(0.05)
"""


@contextmanager
def holder(state_dir: Path, how: str) -> Iterator[int]:
    """A process that holds the directory. `how` is its handling of SIGUSR1."""
    words = [sys.executable, "-c", HOLDER.format(path=sys.path), str(state_dir), how]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process.pid
        finally:
            process.kill()


def test_pass_that_runs_already_is_not_the_one_that_was_asked_for(tmp_path: Path) -> None:
    """A pass that began before the signal does not count, nor does an older one."""
    save_last_pass(tmp_path, LastPass(MOMENT, ExitStatus.FAILED, whole_since=MOMENT))
    with holder(tmp_path, "running") as pid:
        assert find_daemon(tmp_path) == pid
        before = datetime.now(UTC)
        found = make_pass(tmp_path, pid)
    assert found.exit_status is ExitStatus.HELD
    assert found.whole_since is not None
    assert found.whole_since >= before


def test_process_that_does_not_catch_the_signal_is_no_daemon(tmp_path: Path) -> None:
    """The signal would end a single pass, so the command waits for the lock instead."""
    with holder(tmp_path, "none") as pid:
        assert find_daemon(tmp_path) is None
        with pytest.raises(MirrorError, match="ended before"):
            make_pass(tmp_path, pid)
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"


def test_directory_is_not_held(tmp_path: Path) -> None:
    """The lock file is missing, is free, or has a holder without a readable status."""
    assert find_daemon(tmp_path) is None
    (tmp_path / "lock").touch()
    assert find_daemon(tmp_path) is None
    with (tmp_path / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert find_daemon(tmp_path, proc=tmp_path) is None


def test_daemon_that_ends_instead_is_reported(tmp_path: Path) -> None:
    """The end of the daemon is reported at once, not after the timeout."""
    with holder(tmp_path, "ending") as pid, pytest.raises(MirrorError, match=f"Process {pid}.* ended before"):
        make_pass(tmp_path, pid)


def test_daemon_that_makes_no_pass_is_left(tmp_path: Path) -> None:
    """After the timeout the command gives up. The daemon may be stuck."""
    with holder(tmp_path, "ignoring") as pid, pytest.raises(MirrorError, match=r"ended no pass within 0\.2 s"):
        make_pass(tmp_path, pid, max_seconds=0.2)


def test_process_that_is_gone_is_reported(tmp_path: Path) -> None:
    """The pid belongs to no process."""
    with holder(tmp_path, "ignoring") as pid:
        pass
    with pytest.raises(MirrorError, match="ended before"):
        make_pass(tmp_path, pid)


def test_mark_of_a_whole_pass_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The mark keeps its microseconds. A file without a mark gives none."""
    began = MOMENT + timedelta(microseconds=123456)
    save_last_pass(tmp_path, LastPass(MOMENT, ExitStatus.CURRENT, whole_since=began))
    found = load_last_pass(tmp_path)
    assert found is not None
    assert found.whole_since == began
