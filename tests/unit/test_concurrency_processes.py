"""As PID 1 of a container, without an init: every process that a killed or failing git leaves behind is reaped."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mirror.concurrency import is_exhausted, refused_starts
from support.machine import demand

PROGRAM = """
import json, os, sys, threading, time
from pathlib import Path
from mirror.history.git_command import run
from mirror.concurrency import sweep

failing, hanging = sys.argv[1:3]
stopped = 0
for number in range(200):
    hangs = number % 4 == 0
    ssh = {"GIT_SSH_COMMAND": hanging if hangs else failing, "GIT_SSH_VARIANT": "simple"}
    environ = {"PATH": os.environ["PATH"], **ssh}
    done = run(["git", "ls-remote", "ssh://host/path"], environ=environ,
               timeout_seconds=0.2 if hangs else 20, stop=threading.Event())
    assert not done.ok
    stopped += bool(done.stopped)
time.sleep(0.5)
sweep()
states = [path.read_text().rpartition(")")[2].split()[0] for path in Path("/proc").glob("[0-9]*/stat")]
print(json.dumps({"pid": os.getpid(), "zombies": states.count("Z"), "processes": len(states), "stopped": stopped}))
"""


def test_200_failing_fetches_leave_nothing_behind_as_pid_1(tmp_path: Path) -> None:
    """Each leaves an orphan, and 60 processes are allowed: without reaping the sixtieth call would fail."""
    if os.geteuid() != 0:
        pytest.skip("a process namespace needs root")
    for program in ("unshare", "setpriv", "prlimit"):
        demand(program, variable="OIDC_MIRROR_REQUIRE_NETNS", package="util-linux")
    failing, hanging = tmp_path / "failing", tmp_path / "hanging"
    failing.write_text("#!/bin/sh\n(sleep 0.05; true) &\nexit 1\n")
    hanging.write_text("#!/bin/sh\nsleep 1000 &\nsleep 1000\n")
    for each in (failing, hanging):
        each.chmod(0o755)
    # A limit of processes holds for no root; the right to read stays, because Python may lie in root's home.
    right = "-all,+dac_override"
    user = ["setpriv", f"--reuid={64000 + os.getpid() % 1000}", "--clear-groups", "--regid=65532"]
    user += [f"--inh-caps={right}", f"--ambient-caps={right}", f"--bounding-set={right}"]
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *user, "prlimit", "--nproc=60"]
    words += [sys.executable, "-c", PROGRAM, str(failing), str(hanging)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert reported["pid"] == 1
    assert reported["stopped"] == 50
    assert reported["zombies"] == 0
    assert reported["processes"] < 10


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        pytest.param(BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), True, id="fork"),
        pytest.param(OSError(errno.ENOMEM, "Cannot allocate memory"), True, id="memory"),
        pytest.param(RuntimeError("can't start new thread"), True, id="thread"),
        pytest.param(RuntimeError("another"), False, id="another"),
        pytest.param(FileNotFoundError(errno.ENOENT, "git"), False, id="no-program"),
    ],
)
def test_limit_of_processes_is_distinguished_from_a_defect(error: Exception, exhausted: bool) -> None:
    """It is counted, so that a daemon that can start nothing any more is not called healthy."""
    before = refused_starts()
    assert is_exhausted(error) is exhausted
    assert refused_starts() == before + exhausted
