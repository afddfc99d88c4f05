"""Sockets for httpcore by the transports of asyncio, with TLS by anyio.

httpcore's own backend leaves the sockets to anyio too, whose scopes and checkpoints around each read and write take a
sixth of the CPU time of a request (docs/adr/0013).
"""

import asyncio
import select
import ssl
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket
from typing import Any, cast

import anyio
import httpcore
from anyio.abc import ByteStream
from anyio.streams.tls import TLSAttribute, TLSStream

from mirror.redaction import describe

_MOST_UNREAD_BYTES = 65536
"""With more than this the loop reads no further until all of it was taken."""
_NEXT_ADDRESS_AFTER_SECONDS = 0.25
"""So long one address of a host has before the next one is tried beside it (RFC 8305, section 8)."""


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Opens connections. Options of sockets and local addresses, which nobody asks for here, are ignored."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,  # noqa: ARG002 - as above
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - as above
    ) -> httpcore.AsyncNetworkStream:
        """A connection to `host`, within `timeout` seconds.

        Raises:
            httpcore.ConnectTimeout: It was not established in time.
            httpcore.ConnectError: It could not be established.
        """
        with _translated(httpcore.ConnectError, httpcore.ConnectTimeout):
            async with _within(timeout):
                connected = await _connected(host, port)
                _, connection = await asyncio.get_running_loop().create_connection(_Socket, sock=connected)
        return _Stream(connection, connection)


async def _connected(host: str, port: int) -> socket:
    """A socket that is connected to `host`: its addresses are tried in turn, a slow one goes on beside the next.

    Raises:
        OSError: The host has no address, or the last one that failed did so for this reason.
    """
    loop = asyncio.get_running_loop()
    waiting = await _addresses(host, port)
    if not waiting:
        raise OSError(f"{host} has no address")
    attempts: dict[asyncio.Task[None], socket] = {}
    failed = OSError()
    try:
        while waiting or attempts:
            if waiting:
                family, address = waiting.pop(0)
                try:
                    made = socket(family, SOCK_STREAM)
                except OSError as impossible:  # such as IPv6 on a machine without it: another address may do
                    failed = impossible
                    continue
                made.setblocking(False)
                attempt = asyncio.ensure_future(loop.sock_connect(made, address))
                attempt.add_done_callback(_was_seen)
                attempts[attempt] = made
            seconds = _NEXT_ADDRESS_AFTER_SECONDS if waiting else None
            done, _ = await asyncio.wait(attempts, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    connected = attempts.pop(attempt)
                    connected.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                    return connected
                attempts.pop(attempt).close()
                failed = error if isinstance(error, OSError) else OSError(describe(error))
        raise failed
    finally:
        for attempt, made in attempts.items():
            attempt.cancel()
            # The loop forgets it first: else it would watch the next socket of the same number for this one.
            loop.remove_writer(made)
            made.close()


async def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Family and address of each place to connect to; nobody is asked for those of an IP address.

    Raises:
        OSError: The name could not be resolved.
    """
    with suppress(ValueError):
        is_v4 = ip_address(host).version == 4  # noqa: PLR2004 - the number is the name
        return [(AF_INET, (host, port)) if is_v4 else (AF_INET6, (host, port, 0, 0))]
    # As bytes: a text goes through Python's idna, whose errors are none of the resolver's.
    found = await asyncio.get_running_loop().getaddrinfo(host.encode("ascii"), port, type=SOCK_STREAM)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _was_seen(attempt: asyncio.Future[None]) -> None:
    """Else the loop would report an attempt that failed while another one, or the end of all, came first."""
    if not attempt.cancelled():
        attempt.exception()


class _Socket(asyncio.Protocol, ByteStream):
    """A TCP connection, for anyio's TLS. The loop reads on while nobody does; `is_readable` reports that too."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._woken: asyncio.Future[None] | None = None

    # -- what the loop calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # of TCP it is one

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _MOST_UNREAD_BYTES:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._error = True, exc
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # -- what TLS calls -----------------------------------------------------------------------------------

    @property
    def socket(self) -> Any:
        """The socket, for its options."""
        return self.transport.get_extra_info("socket")

    def is_readable(self) -> bool:
        """Whether something came that nobody asked for; most often the end."""
        if self._received or self._ended or self.socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._received or self._ended:
            await asyncio.sleep(0)  # a server that sends without end must not keep the loop for itself
        else:
            self._woken = asyncio.get_running_loop().create_future()
            await self._woken
        if self._received:
            data = bytes(self._received[:max_bytes])
            del self._received[:max_bytes]
            if not self._received:
                self.transport.resume_reading()
            return data
        if self._error is not None:
            raise self._error
        raise anyio.EndOfStream

    async def send(self, item: bytes) -> None:
        if self._error is not None:
            raise self._error
        self.transport.write(item)  # a request is small: the transport may keep what the system does not take at once

    async def send_eof(self) -> None:
        raise NotImplementedError  # HTTP/1.1 ends no direction of a connection alone

    async def aclose(self) -> None:
        """Close it at once: nothing is left to be sent, and nobody waits for the other side. Again does no harm."""
        self.transport.abort()
        await asyncio.sleep(0)  # the loop closes it in its next round, and has none after the last connection of a pass


class _Stream(httpcore.AsyncNetworkStream):
    """What httpcore reads and writes: `stream` is `connection`, or TLS over it."""

    def __init__(self, connection: _Socket, stream: ByteStream) -> None:
        self._connection = connection
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """At least one byte and at most `max_bytes`; none at the end.

        Raises:
            httpcore.ReadTimeout, httpcore.ReadError: Nothing came in time, or the connection broke.
        """
        with _translated(httpcore.ReadError, httpcore.ReadTimeout):
            async with _within(timeout):
                try:
                    return await self._stream.receive(max_bytes)
                except anyio.EndOfStream:
                    return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        """Send all of `buffer`.

        Raises:
            httpcore.WriteTimeout, httpcore.WriteError: It was not taken in time, or the connection broke.
        """
        if not buffer:
            return
        with _translated(httpcore.WriteError, httpcore.WriteTimeout):
            async with _within(timeout):
                await self._stream.send(buffer)

    async def aclose(self) -> None:
        """Close the socket; once more does no harm."""
        await self._connection.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
    ) -> httpcore.AsyncNetworkStream:
        """The same connection under TLS, within `timeout` seconds. If that fails or is cancelled, it is closed.

        Raises:
            httpcore.ConnectTimeout: The handshake did not end in time.
            httpcore.ConnectError: It failed.
        """
        try:
            with _translated(httpcore.ConnectError, httpcore.ConnectTimeout):
                async with _within(timeout):
                    secured = await TLSStream.wrap(
                        self._stream,
                        ssl_context=ssl_context,
                        hostname=server_hostname,
                        server_side=False,
                        standard_compatible=False,  # many servers close without a goodbye; HTTP knows its lengths
                    )
        except BaseException:
            await self.aclose()
            raise
        return _Stream(self._connection, secured)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore and `mirror.apiserver.client` ask for; None for anything else."""
        if info == "is_readable":
            return self._connection.is_readable()
        if info == "socket":
            return self._connection.socket
        ssl_object = TLSAttribute.ssl_object
        return self._stream.extra(ssl_object, None) if info == "ssl_object" else None  # noqa: S610 - no query of a database


def _within(seconds: float | None) -> AbstractAsyncContextManager[object]:
    # Most often there is no limit: the deadline of the caller counts all of a request.
    return nullcontext() if seconds is None else asyncio.timeout(seconds)


@contextmanager
def _translated(broken: type[Exception], late: type[Exception]) -> Iterator[None]:
    """Raise what httpcore expects of a backend instead of what the system and anyio raise."""
    try:
        yield
    except TimeoutError as error:
        raise late(describe(error)) from error
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError) as error:  # errors of TLS are among the first
        raise broken(describe(error)) from error
