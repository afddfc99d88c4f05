"""Tell systemd how the daemon is: the datagrams of sd_notify(3), without libsystemd."""

import os
import socket
import time
from collections.abc import Mapping

_MICROSECONDS = 1_000_000
_NANOSECONDS_IN_A_MICROSECOND = 1000


class Notifier:
    """Sends states to the socket that systemd named; silent where it named none. Never raises: it is only told.

    `watchdog_seconds` is how often at least `WATCHDOG=1` is expected; None where nobody watches.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environ)

    def send(self, *states: str) -> None:
        """Send assignments such as `READY=1`, all in one datagram."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)  # a manager that does not read must not hold the daemon
                out.sendto("\n".join(states).encode(), self._address)
        except OSError:
            return

    def status(self, text: str) -> str:
        """The assignment that shows `text` in `systemctl status`: one line."""
        return f"STATUS={' '.join(text.split())}"

    def reloading(self) -> None:
        """Reloading begins: systemd 253 wants the time beside it (`Type=notify-reload`)."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // _NANOSECONDS_IN_A_MICROSECOND}")


def _address(text: str) -> str | bytes | None:
    """A path, or the name of an abstract socket, which is written with an `@`."""
    if text.startswith("/"):
        return text
    return b"\0" + os.fsencode(text[1:]) if text.startswith("@") and len(text) > 1 else None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """sd_watchdog_enabled(3): the time is meant for one process alone."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / _MICROSECONDS if text.isdecimal() and text.isascii() and int(text) > 0 else None
