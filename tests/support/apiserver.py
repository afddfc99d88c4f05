"""An apiserver for tests: real TLS on a free loopback port, answers as raw bytes, and a responder for each fault.

with Apiserver() as server:
    server.serve(discovery=capture("01-rsa1/anonymous-bound-discovery").raw, jwks=...)
    server.once(capture("23-too-many-requests/discovery-429").raw)     # the next request only
    server.respond_with(endless_body)                                  # from now on
    ... server.url, server.requests ...
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Literal, Self

from support.captures import capture
from support.tls import server_context

DISCOVERY_PATH = "/.well-known/openid-configuration"
JWKS_PATH = "/openid/v1/jwks"
Greeting = Literal["tls", "hang", "close", "plain"]
"""What happens to a new connection: TLS and HTTP, a handshake never answered, an end, or an HTTP error without TLS."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was read: `connection` counts connections from 0; header names are in lower case."""

    connection: int
    method: str
    target: str
    headers: Mapping[str, str]


class Connection:
    """The server's end of one connection, which a responder gets."""

    def __init__(self, number: int, sock: socket.socket, ended: threading.Event) -> None:
        self.number = number
        self.sock = sock
        self.ended = ended

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def wait(self, seconds: float | None = None) -> None:
        """Do nothing for so long, or until the server ends."""
        self.ended.wait(seconds)

    def reset(self) -> None:
        """End the connection with a TCP reset, as a crashing server does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.close(self.sock)


Responder = Callable[[Connection, bytes], None]
"""Answers one request in place of the server; the bytes are what it would have sent."""


def raw_answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """An answer such as `raw_answer("302 Found", location="https://elsewhere")`; Content-Length is counted."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


# ------------------------------------------------------------------------------------------------- responders


def always(raw: bytes) -> Responder:
    return lambda connection, _: connection.send(raw)


def never_answer(connection: Connection, _: bytes) -> None:
    connection.wait()


def close_without_answer(connection: Connection, _: bytes) -> None:
    connection.sock.close()


def reset_without_answer(connection: Connection, _: bytes) -> None:
    connection.reset()


def answer_then_reset(connection: Connection, raw: bytes) -> None:
    connection.send(raw)
    connection.reset()


def reset_in_body(connection: Connection, raw: bytes) -> None:
    connection.send(raw[:-20])
    connection.wait(0.05)  # a reset overtakes what the client has not read yet
    connection.reset()


def close_in_body(connection: Connection, raw: bytes) -> None:
    connection.send(raw[:-20])
    connection.sock.close()


def dribble_headers(connection: Connection, raw: bytes) -> None:
    _dribble(connection, raw)


def dribble_body(connection: Connection, raw: bytes) -> None:
    head, gap, body = raw.partition(b"\r\n\r\n")
    connection.send(head + gap)
    _dribble(connection, body)


def endless_headers(connection: Connection, _: bytes) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n")
    _repeat(connection, b"x-filler: " + b"y" * 4000 + b"\r\n")


def endless_continues(connection: Connection, _: bytes) -> None:
    _repeat(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 200)


def endless_body(connection: Connection, _: bytes) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
    _repeat(connection, b"[" * 16_384)


def endless_tiny_chunks(connection: Connection, _: bytes) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    _repeat(connection, b"1\r\n[\r\n" * 2_000)


def endless_error_body(connection: Connection, _: bytes) -> None:
    connection.send(b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n")
    _repeat(connection, b"no " * 5_000)


def slowly(seconds: float) -> Responder:
    def answer_late(connection: Connection, raw: bytes) -> None:
        connection.wait(seconds)
        connection.send(raw)

    return answer_late


def _dribble(connection: Connection, data: bytes) -> None:
    for index in range(len(data)):
        connection.send(data[index : index + 1])
        connection.wait(0.02)


def _repeat(connection: Connection, data: bytes) -> None:
    while not connection.ended.is_set():
        connection.send(data)


# ------------------------------------------------------------------------------------------------- server


class Apiserver:
    """A threaded server on loopback that ends with its `with` block.

    Args:
        context: The server's side of TLS; by default a certificate for 127.0.0.1 and kubernetes.default.svc.
        greeting: What happens to new connections; may be changed at any time.
        host: A loopback address of its own, for several servers on one port.
        wanted_port: The port; 0 for a free one.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        greeting: Greeting = "tls",
        host: str = "127.0.0.1",
        wanted_port: int = 0,
    ) -> None:
        self.context = context or server_context("127.0.0.1", "kubernetes.default.svc")
        self.greeting = greeting
        self.host = host
        self.wanted_port = wanted_port
        self.requests: list[Request] = []
        self.connections = 0
        self._answers: dict[str, bytes] = {}
        self._responder: Responder | None = None
        self._next: deque[Responder] = deque()
        self._ended = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        one_key = "01-rsa1/anonymous-bound"
        self.serve(discovery=capture(f"{one_key}-discovery").raw, jwks=capture(f"{one_key}-jwks").raw)

    def serve(self, *, discovery: bytes | None = None, jwks: bytes | None = None) -> None:
        """From now on answer with these raw bytes; omitted ones do not change. Ends a `pull`."""
        if discovery is not None:
            self._answers[DISCOVERY_PATH] = discovery
        if jwks is not None:
            self._answers[JWKS_PATH] = jwks
        self._responder = None

    def answer(self, target: str, raw: bytes) -> None:
        """From now on answer requests for `target` with these raw bytes."""
        self._answers[target] = raw

    def respond_with(self, responder: Responder) -> None:
        """From now on let `responder` answer every request, until the next `serve`."""
        self._responder = responder

    def once(self, *answers: bytes | Responder) -> None:
        """Answer the next requests, one each, with these raw bytes or responders."""
        self._next.extend(always(answer) if isinstance(answer, bytes) else answer for answer in answers)

    def wait_until_all_disconnected(self) -> None:
        """Return when every client has closed its connection.

        Raises:
            AssertionError: One is still open after five seconds.
        """
        deadline = time.monotonic() + 5
        while self._open:
            assert time.monotonic() < deadline, f"{len(self._open)} sockets are still open"
            time.sleep(0.01)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self._listener.bind((self.host, self.wanted_port))
        self._listener.listen(128)
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in tuple(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in tuple(self._threads):
            thread.join(5)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = self.connections
            self.connections += 1
            self._start(partial(self._serve_connection, sock, number))

    def _serve_connection(self, sock: socket.socket, number: int) -> None:
        self._open.add(sock)
        try:
            with sock:
                self._greet(sock, number)
        except (OSError, ValueError):  # the client left, or the server ends: part of the tests
            return
        finally:
            self._open.discard(sock)

    def _greet(self, sock: socket.socket, number: int) -> None:
        if self.greeting == "hang":
            self._ended.wait()
        elif self.greeting == "plain":
            sock.recv(65_536)
            sock.sendall(_NOT_TLS)
        elif self.greeting == "tls":
            with self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as secure:
                self._open.add(secure)
                try:
                    _shake_hands(secure)
                    self._talk(Connection(number, secure, self._ended))
                finally:
                    self._open.discard(secure)

    def _talk(self, connection: Connection) -> None:
        # No makefile(): it would keep the socket open after a responder has closed it.
        for request in _requests(connection):
            self.requests.append(request)
            responder = self._next.popleft() if self._next else self._responder
            raw = self._answers.get(request.target, _NO_SUCH_PATH)
            (responder or always(raw))(connection, raw)
            if connection.sock.fileno() < 0:
                return


_NO_SUCH_PATH = raw_answer("403 Forbidden", b'{"kind":"Status","message":"forbidden"}', content_type="application/json")
_NOT_TLS = raw_answer("400 Bad Request", b"400 Bad Request", content_type="text/plain", connection="close")


def _shake_hands(secure: ssl.SSLSocket) -> None:
    try:
        secure.do_handshake()
    except ssl.SSLError:
        # Bytes left unread would turn the close into a reset, which can overtake the alert on its way to the client.
        while socket.socket.recv(secure, 65_536):
            pass
        raise


def _requests(connection: Connection) -> Iterator[Request]:
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            received = connection.sock.recv(65_536)
            if not received:
                return
            buffer += received
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        yield Request(connection.number, method, target, {name.lower(): value.strip() for name, _, value in pairs})
