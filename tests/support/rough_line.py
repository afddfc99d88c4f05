"""A TCP proxy that simulates a bad network: it delays, splits, stalls or breaks connections.

It forwards bytes unchanged, TLS included, so it works in front of apiservers, S3 servers and git servers. It needs
neither privileges nor a kernel module (netem).
"""

import select
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from threading import Event, Thread
from typing import Literal

PIECE_BYTES = 16 * 1024
POLL_SECONDS = 0.1
Ending = Literal["", "silent", "closed", "reset"]


@dataclass(frozen=True, slots=True)
class LineFaults:
    """The faults of one connection.

    It forwards pieces of at most `piece_bytes`, each after `delay_seconds`. After `most_bytes` in both directions
    together, it stalls ("silent"), closes, or sends a TCP reset. With the ending "" it forwards everything.
    """

    delay_seconds: float = 0.0
    piece_bytes: int = PIECE_BYTES
    ending: Ending = ""
    most_bytes: int = 0

    @property
    def name(self) -> str:
        """One word, for the counts."""
        dribbled = "dribbled" if self.piece_bytes < PIECE_BYTES else ""
        return self.ending or dribbled or ("delayed" if self.delay_seconds else "fine")


def no_faults() -> LineFaults:
    return LineFaults()


def random_faults(chance: Random) -> LineFaults:
    """Half of the connections are good; the others are slow, or break anywhere in handshake, request or response."""
    most_bytes = int(chance.choice((0, 100, 2000, 6000)) * chance.uniform(0.5, 2.0))
    delayed = LineFaults(delay_seconds=chance.uniform(0.01, 0.1))
    dribbled = LineFaults(delay_seconds=0.001, piece_bytes=chance.randrange(20, 400))
    silent = LineFaults(ending="silent", most_bytes=most_bytes)
    closed = LineFaults(ending="closed", most_bytes=most_bytes)
    reset = LineFaults(ending="reset", most_bytes=most_bytes)
    return chance.choices((no_faults(), delayed, dribbled, silent, closed, reset), weights=(9, 2, 2, 2, 3, 3))[0]


@dataclass(slots=True)
class RoughLine:
    """A proxy to the loopback port `target`. It calls `faults` for each connection; `met` counts the results."""

    target: int
    port: int
    faults: Callable[[], LineFaults] = no_faults
    met: Counter[str] = field(default_factory=Counter)
    workers: list[Thread] = field(default_factory=list)
    ended: Event = field(default_factory=Event)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def clear(self) -> None:
        """Forward everything from now on; close existing connections and wait until they have ended."""
        self.faults = no_faults
        self.ended.set()
        while self.workers:
            self.workers.pop().join()
        self.ended = Event()

    def carry(self, client: socket.socket, ended: Event) -> None:
        """Forward bytes between `client` and the target with the faults that `faults` gives, until one side closes."""
        faults = self.faults()
        self.met[faults.name] += 1
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self.target), timeout=10) as server:
            client.settimeout(10)
            if _talk(client, server, faults, ended) == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends RST


def _talk(client: socket.socket, server: socket.socket, faults: LineFaults, ended: Event) -> Ending:
    """Forward until one side closes or the fault occurs. Returns how the connection ended."""
    left_bytes, listening = faults.most_bytes, [client, server]
    while not ended.is_set():
        for source in select.select(listening, [], [], POLL_SECONDS)[0]:
            data = source.recv(faults.piece_bytes)
            if not data and (source is client or faults.ending != "silent"):
                return "closed"
            if not data:
                listening.remove(source)  # the client does not notice that the target closed
            ended.wait(faults.delay_seconds)
            carried = data[:left_bytes] if faults.ending else data
            (server if source is client else client).sendall(carried)
            left_bytes -= len(carried)
            if len(carried) < len(data) and faults.ending != "silent":
                return faults.ending
    return "closed"


@contextmanager
def running_rough_line(target: int) -> Iterator[RoughLine]:
    """A proxy on a free loopback port, until the block ends. It uses one thread for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line, ending = RoughLine(target, listener.getsockname()[1]), Event()
        listener.settimeout(POLL_SECONDS)
        acceptor = Thread(target=_accept, args=(line, listener, ending))
        acceptor.start()
        try:
            yield line
        finally:
            ending.set()
            acceptor.join()
            line.clear()


def _accept(line: RoughLine, listener: socket.socket, ending: Event) -> None:
    while not ending.is_set():
        with suppress(TimeoutError):
            client, _ = listener.accept()
            worker = Thread(target=line.carry, args=(client, line.ended))
            line.workers.append(worker)
            worker.start()
