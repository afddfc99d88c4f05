"""A TLS proxy in front of an S3 server that causes faults between a client and its store."""

import socket
import ssl
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread

from support.s3 import Certificates

Request = tuple[bytes, bytes]
"""The head of a request with its empty line, and its body."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The fault of the next request with a first line that begins with `method`.

    `effect`: whether the store still gets the request. `answer`: the bytes that the client gets instead of the
    store's (None: the store's own). `cut_after`: how many bytes of it arrive before the connection ends, with `resets`
    by a TCP reset. `stall_seconds`: how long the answer waits.
    """

    method: str
    effect: bool = False
    answer: bytes | None = None
    cut_after: int | None = None
    resets: bool = False
    stall_seconds: float = 0.0


def error_answer(
    status: int, code: str, message: str = "as the test asks", *, extra: str = "", header: str = ""
) -> bytes:
    """An S3 error document as HTTP bytes."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>"
    return answer(status, body.encode(), "Content-Type: application/xml\r\n" + header)


def answer(status: int, body: bytes, headers: str = "") -> bytes:
    """An HTTP/1.1 answer after which the connection ends."""
    head = f"HTTP/1.1 {status} Test\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@dataclass(slots=True)
class FaultProxy:
    """Passes every request to `backend_port`, unless a fault waits for it. `requests` are the heads that came."""

    port: int
    backend_port: int
    backend_tls: ssl.SSLContext
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[bytes] = field(default_factory=list)
    stopping: Event = field(default_factory=Event)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def methods(self) -> list[str]:
        """The methods of all requests so far, in order."""
        return [head.split(b" ", 1)[0].decode() for head in self.requests]

    def serve(self, client: ssl.SSLSocket) -> None:
        """Answer one request of `client`, and end the connection."""
        request = _read_message(client)
        if request is None:
            return
        self.requests.append(request[0])
        fault = self._fault_for(request[0])
        reply = self._pass_on(request) if fault is None or fault.effect or fault.answer is None else b""
        if fault is not None:
            reply = reply if fault.answer is None else fault.answer
            self.stopping.wait(fault.stall_seconds)
            reply = reply if fault.cut_after is None else reply[: fault.cut_after]
        with suppress(OSError):
            client.sendall(reply)
        if fault is not None and fault.resets:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends RST

    def _fault_for(self, head: bytes) -> Fault | None:
        if self.faults and head.startswith(self.faults[0].method.encode()):
            return self.faults.popleft()
        return None

    def _pass_on(self, request: Request) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", self.backend_port), timeout=10) as raw,
            self.backend_tls.wrap_socket(raw, server_hostname="localhost") as backend,
        ):
            head, body = request
            backend.sendall(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) + body)
            reply = b""
            while chunk := backend.recv(65536):
                reply += chunk
            return reply


def _read_message(client: ssl.SSLSocket) -> Request | None:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = client.recv(65536)
        if not chunk:
            return None
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if fields.get(b"expect") == b"100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
    while len(body) < int(fields.get(b"content-length", b"0")):
        body += client.recv(65536)
    return head + b"\r\n\r\n", body


@contextmanager
def running_fault_proxy(certificates: Certificates, backend_port: int) -> Iterator[FaultProxy]:
    """Serve on a free loopback port until the block ends; one thread a connection, none outlives the block."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.chain_file, certificates.key_file)
    trusting = ssl.create_default_context(cafile=str(certificates.ca_file))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = FaultProxy(listener.getsockname()[1], backend_port, trusting)
        acceptor = Thread(target=_accept, args=(proxy, listener, context))
        acceptor.start()
        try:
            yield proxy
        finally:
            proxy.stopping.set()
            listener.shutdown(socket.SHUT_RDWR)  # `accept` returns at once
            acceptor.join()


def _accept(proxy: FaultProxy, listener: socket.socket, context: ssl.SSLContext) -> None:
    workers: list[Thread] = []
    while not proxy.stopping.is_set():
        with suppress(OSError):
            connection, _ = listener.accept()
            worker = Thread(target=_handle, args=(proxy, connection, context))
            worker.start()
            workers.append(worker)
    for worker in workers:
        worker.join()


def _handle(proxy: FaultProxy, connection: socket.socket, context: ssl.SSLContext) -> None:
    connection.settimeout(5)
    with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as client:
        proxy.serve(client)
