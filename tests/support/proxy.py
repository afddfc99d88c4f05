"""A CONNECT proxy for tests, on loopback: it tunnels to its configured target, or refuses, and records the requests."""

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self


class Proxy:
    """A plain HTTP proxy that ends with its `with` block; `seen` is what clients sent before their tunnels stood."""

    def __init__(
        self,
        *,
        refuse: bool = False,
        reroute: tuple[str, int] | None = None,
        routes: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        self.refuse = refuse
        self.reroute = reroute
        """Where every tunnel really ends, whatever host is asked for: the proxy as the DNS of a test's world."""
        self.routes = routes or {}
        """The same for single targets such as `10.0.0.11:6443`."""
        self.tunnels: list[str] = []
        self.seen = b""
        self._listener = socket.socket()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in tuple(self._threads):
            thread.join(5)
        for each in (self._listener, *self._sockets):
            each.close()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            self._start(self._tunnel, client)

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            self.seen += head
            target = head.split(b" ", 2)[1].decode()
            self.tunnels.append(target)
            if self.refuse:
                client.sendall(b"HTTP/1.1 403 Not For You\r\ncontent-length: 0\r\n\r\n")
                return
            host, _, port = target.rpartition(":")
            server = socket.create_connection(self.routes.get(target) or self.reroute or (host, int(port)))
            self._sockets.append(server)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._start(_copy, server, client)
            _copy(client, server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
