"""How the daemon's process uses memory: the heaps of a process of its own are counted."""

import platform
import subprocess
import sys

import pytest

from support.processes import thread_heaps

# Eight threads that allocate at the same time.
PROGRAM = """
import ctypes, pathlib, sys, threading
from mirror.cli.startup import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(8)
def allocate():
    barrier.wait()
    malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
sys.stdout.write(pathlib.Path("/proc/self/maps").read_text())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives threads heaps of their own")
@pytest.mark.parametrize(("how", "has_own"), [("usual", True), ("shared", False)])
def test_threads_share_one_heap(how: str, has_own: bool) -> None:
    """After `share_one_heap` no thread has a heap of its own; without it some have."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    assert (thread_heaps(done.stdout) > 0) is has_own
