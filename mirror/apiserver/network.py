"""Sockets for httpcore by the streams of asyncio, with TLS by anyio.

httpcore's own backend leaves the sockets to anyio too, whose scopes and checkpoints around each read and write take a
fifth of the CPU time of a request (docs/adr/0013).
"""

import asyncio
import os
import re
import select
import ssl
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from typing import Any

import anyio
import httpcore
from anyio.abc import ByteStream
from anyio.streams.tls import TLSAttribute, TLSStream

from mirror.redaction import describe

_NEXT_ADDRESS_AFTER_SECONDS = 0.25
"""So long one address of a host has before the next one is tried beside it (RFC 8305, section 8)."""
_NUMBER = re.compile(r"\[Errno (\d+)\]")


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
                reader, writer = await asyncio.open_connection(
                    host, port, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_SECONDS
                )
        connection = _Socket(reader, writer)
        return _Stream(connection, connection)


class _Socket(ByteStream):
    """A TCP connection, for anyio's TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def socket(self) -> Any:
        """The socket, for its options."""
        return self._writer.get_extra_info("socket")

    def is_readable(self) -> bool:
        """Whether something came that nobody asked for; most often the end."""
        if self._reader.at_eof() or self.socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self._reader.read(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        self._writer.write(item)
        await self._writer.drain()

    async def send_eof(self) -> None:
        self._writer.write_eof()

    async def aclose(self) -> None:
        """Close it at once: nothing is left to be sent, and nobody waits for the other side."""
        self._writer.transport.abort()
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
    except OSError as error:  # errors of TLS are among them
        raise broken(describe(error)) from _with_number(error)
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise broken(describe(error)) from error


def _with_number(error: OSError) -> OSError:
    """`error` itself, or the last one where asyncio joined the texts of several: one for each address of the host."""
    numbers = _NUMBER.findall(describe(error)) if error.errno is None else []
    return OSError(int(numbers[-1]), os.strerror(int(numbers[-1]))) if numbers else error
