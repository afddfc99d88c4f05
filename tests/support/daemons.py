"""Runs the daemon as a process against real servers: observes it from outside and ends it by signals."""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from support.program import MIRROR, Process, start
from support.worlds import World

PATIENCE_SECONDS = 60.0
"""Seconds that a test waits for an event: CI machines may be slow, and speed is not tested."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """The resources of a process: resident bytes and open file descriptors."""

    resident_bytes: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A response of the daemon's HTTP server."""

    status: int
    body: str
    headers: Mapping[str, str]


@dataclass
class Daemon:
    """A running daemon. Its logs are JSON lines of level debug in `err`, its reports JSON lines in `out`."""

    process: Process
    folder: Path
    port: int

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The log events so far, in order: all of them, or those with these names."""
        lines = (self.folder / "err").read_text().split("\n")[:-1]
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [each for each in found if not names or each["event"] in names]

    def wait_for(self, name: str, *, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are `count` events called `name`, and return them."""
        self.wait_until(lambda: len(self.events(name)) >= count, f"{count} times {name}")
        return self.events(name)

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.tail()}"
            assert time.monotonic() < deadline, f"not seen: {what}; {self.tail()}"
            time.sleep(0.02)

    def tail(self) -> str:
        return (self.folder / "err").read_text()[-3000:]

    def get(self, path: str, *, method: str = "GET", host: str | None = None) -> Answered:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers={} if host is None else {"Host": host})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, answer.read().decode(), headers)
        finally:
            connection.close()

    def footprint(self) -> Footprint:
        folder = Path(f"/proc/{self.process.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        return Footprint(pages * os.sysconf("SC_PAGE_SIZE"), len(list((folder / "fd").iterdir())))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Stop the daemon. Returns its exit status and the seconds until it ended."""
        began = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_SECONDS)
        return status, time.monotonic() - began


def free_port() -> int:
    """A free port below Linux's ephemeral ports (32768 and up), so that no other process gets it by chance."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311  not a secret
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def running_daemon(world: World, *words: str, interval: str = "1s", **environ: str) -> Iterator[Daemon]:
    """Run the daemon with the configuration of `world`, its own interval and port; it is killed at the end."""
    port = free_port()
    world.config["interval"] = interval
    world.config["http"] = {"listen": f"127.0.0.1:{port}"}
    config = world.folder / "mirror.yaml"
    config.write_text(json.dumps(world.config))
    command = [*MIRROR, "--log-level", "debug", "--config", str(config), "run", *words]
    with (world.folder / "out").open("wb") as out, (world.folder / "err").open("wb") as err:
        process = start(command, world.environ() | environ, stdout=out.fileno(), stderr=err.fileno())
    try:
        yield Daemon(process, world.folder, port)
    finally:
        process.kill()
        process.wait(10)
