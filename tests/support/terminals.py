"""Run a command as a user at a terminal does."""

import os
import pty
import signal
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shown:
    """How a command on a terminal ended, and everything that it showed there."""

    status: int
    text: str


def at_terminal(
    command: Sequence[str],
    environ: Mapping[str, str],
    folder: Path,
    *,
    typed: str = "",
    columns: int = 80,
    interrupt_at: str = "",
) -> Shown:
    """Run `command` to its end with stdin, stdout and stderr on one terminal; `typed` is typed ahead.

    Where `interrupt_at` is given, Ctrl-C follows as soon as that text was shown.
    """
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, columns))
    os.write(controller, typed.encode())
    plain = {**environ, "NO_COLOR": "1"}
    with subprocess.Popen(command, env=plain, cwd=folder, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = bytearray()
        try:
            while piece := os.read(controller, 65536):
                shown += piece
                if interrupt_at and interrupt_at.encode() in shown:
                    process.send_signal(signal.SIGINT)
                    interrupt_at = ""
        except OSError:  # Linux reports this when the other end is closed
            pass
        status = process.wait()
    os.close(controller)
    return Shown(status, shown.decode("utf-8", "replace").replace("\r\n", "\n"))
