"""The suite itself: no test outlives its limit, and no process outlives its test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1]
STUBBORN = "trap '' INT HUP TERM; echo $$ >> {pids}; sleep 60 & echo $! >> {pids}; wait"
"""A process that only SIGKILL ends, and one that it started."""
IGNORES_SIGNALS = "trap '' INT HUP PIPE; exec"


def run(folder: Path, test: str, *, by: str = "exec", limit: int = 1) -> tuple[str, list[int]]:
    """Run one test in a suite of its own, started by such a line of a shell; its output, and its processes' ids."""
    pids = folder / "pids"
    pids.touch()
    (folder / "conftest.py").write_text(
        "from support.limits import *\nfrom support.limits import _no_process_outlives_its_test\n"
    )
    (folder / "test_it.py").write_text(test)
    (folder / "stubborn").write_text(STUBBORN.format(pids=pids))
    plugins = "-p no:cacheprovider -p no:xdist -p no:cov"
    words = f"'{sys.executable}' -m pytest {plugins} --rootdir=. -o timeout={limit} test_it.py"
    done = subprocess.run(
        ["sh", "-c", f"{by} {words}"],
        env=os.environ | {"PYTHONPATH": str(SUPPORT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr, [int(line) for line in pids.read_text().split()]


def alive(pid: int) -> bool:
    """Whether there is such a process, including a zombie."""
    return Path(f"/proc/{pid}").exists()


WAITS = """
import subprocess
def test_waits_in_its_clean_up():
    with subprocess.Popen(["sh", "stubborn"], stdout=subprocess.PIPE) as process:
        try:
            process.wait()
        finally:
            process.terminate()
            process.stdout.read()
"""
LEAVES = """
import os, subprocess, sys, time
def test_leaves_processes():
    process = subprocess.Popen(["sh", "stubborn"], start_new_session=True)
    while open("pids").read().count("\\n") < 2:
        time.sleep(0.01)
"""
SIGNALS = """
import signal, subprocess, sys
def test_child_has_default_signals():
    code = "import signal; print(signal.getsignal(1) == signal.SIG_DFL, signal.getsignal(2).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert done.split() == ["True", "default_int_handler"]
    assert subprocess.run(["sh", "-c", "kill -PIPE $$; echo alive"], capture_output=True, check=False).stdout == b""
"""
CLOSED = """
import os, subprocess, tempfile
def test_standard_streams_are_open():
    with open("new", "w") as new:
        assert new.fileno() > 2
    assert subprocess.run(["cat"], check=True).returncode == 0
"""


@pytest.mark.parametrize("by", ["exec", IGNORES_SIGNALS], ids=["as usual", "signals ignored"])
def test_that_waits_for_a_process_ends_at_its_limit(tmp_path: Path, by: str) -> None:
    """It fails as one that took too long, and neither the process nor what that had started is left."""
    said, pids = run(tmp_path, WAITS, by=by)
    assert "Timeout (>1.0s) from pytest-timeout" in said
    assert "1 failed" in said
    assert len(pids) == 2
    assert not [pid for pid in pids if alive(pid)]


def test_processes_that_a_test_leaves_are_ended(tmp_path: Path) -> None:
    """Those of another process group and session too, and their children."""
    said, pids = run(tmp_path, LEAVES, limit=60)
    assert "1 passed" in said
    assert len(pids) == 2
    assert not [pid for pid in pids if alive(pid)]


def test_run_that_ignores_signals_starts_processes_that_do_not(tmp_path: Path) -> None:
    """As under `nohup`, and as a background job: what a test starts still ends by Ctrl-C and hang-up."""
    said, _ = run(tmp_path, SIGNALS, by=IGNORES_SIGNALS, limit=60)
    assert "1 passed" in said, said


def test_run_without_standard_streams_opens_none_of_its_files_in_their_place(tmp_path: Path) -> None:
    """With stdin closed a test's first file would be the stdin of everything that it starts."""
    said, _ = run(tmp_path, CLOSED, by="exec 0<&-; exec", limit=60)
    assert "1 passed" in said, said
