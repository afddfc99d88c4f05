"""Signals while the daemon starts."""

import subprocess
import sys

SIGNALLED = """
import os, signal
from mirror.cli.startup import end_quietly
end_quietly()
os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGUSR1)
print("goes on", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("still here")
"""


def test_signals_while_it_starts_are_harmless() -> None:
    """SIGHUP and SIGUSR1 do not end a starting daemon. SIGTERM ends it as quietly as later."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")
