"""Notifications to systemd: sd_notify(3) over a path or an abstract socket."""

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.daemon.daemon import SystemdNotifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    with tempfile.TemporaryDirectory(prefix="n") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        path = str(Path(folder) / "notify")
        heard.bind(path if request.param == "path" else f"\0{path}")
        heard.settimeout(5)
        yield heard, path if request.param == "path" else f"@{path}"


def test_states_arrive_in_one_datagram(manager: tuple[socket.socket, str]) -> None:
    """Assignments are lines of one message. A status is always one line."""
    heard, name = manager
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
    notifier.send("READY=1", notifier.status("2 current\nREADY=0 of 2"))
    assert heard.recv(4096) == b"READY=1\nSTATUS=2 current READY=0 of 2"


def test_reloading_says_when(manager: tuple[socket.socket, str]) -> None:
    """Type=notify-reload requires the monotonic time in microseconds."""
    heard, name = manager
    SystemdNotifier({"NOTIFY_SOCKET": name}).reloading()
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=[0-9]{6,}", heard.recv(4096))


@pytest.mark.parametrize("name", ["", "@", "relative", "/nowhere/at/all", "vsock:2:1"])
def test_without_a_manager_nothing_happens(name: str) -> None:
    """A missing socket, a wrong name and a stopped manager are all ignored."""
    SystemdNotifier({"NOTIFY_SOCKET": name}).send("READY=1")


def test_manager_that_does_not_read_blocks_nothing(manager: tuple[socket.socket, str]) -> None:
    """If the manager's queue is full, the message is lost and the daemon continues."""
    _, name = manager
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
    for _ in range(2000):
        notifier.send("WATCHDOG=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "120000000"}, 120.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(os.getpid())}, 120.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_watchdog_is_this_process_own(environ: dict[str, str], seconds: float | None) -> None:
    """See sd_watchdog_enabled(3)."""
    assert SystemdNotifier(environ).watchdog_seconds == seconds
