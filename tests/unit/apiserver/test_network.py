"""The sockets under httpcore: how broken and late connections are reported to it, and that none stays open."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from socket import AF_INET, IPPROTO_TCP, SO_LINGER, SOCK_STREAM, SOL_SOCKET, create_server, socket
from typing import Any

import httpcore
import pytest

from mirror.apiserver.network import AsyncioBackend
from mirror.apiserver.poller import ResolverLoop
from mirror.transport_errors import TransportCause, cause_of
from support.tls import authority, server_context

pytestmark = pytest.mark.server

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


NO_FAMILY = "of a family that this machine does not have"


def run(steps: Awaitable[None], *, addresses: Sequence[str] = ("127.0.0.1",)) -> None:
    """Run `steps` in a loop that finds `addresses` for every name."""

    def resolve(_: object, port: int, *__: object) -> list[Any]:
        families = [255 if address == NO_FAMILY else AF_INET for address in addresses]
        found = zip(families, addresses, strict=True)
        return [(family, SOCK_STREAM, IPPROTO_TCP, "", (address, port)) for family, address in found]

    async def limited() -> None:
        async with asyncio.timeout(20):
            await steps

    with asyncio.Runner(loop_factory=partial(ResolverLoop, resolve)) as runner:
        runner.run(limited())


@asynccontextmanager
async def serving(
    talk: Talk, context: ssl.SSLContext | None = None, *, port: int = 0
) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A server that lets `talk` have each connection: its port, and what is set when one was ended by the client."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                await talk(reader, writer)
                await reader.read()
        finally:
            writer.transport.abort()
            ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], ended


async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Nothing is said."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(4))


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(4)
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(4)
    writer.close()


def trusting(*authorities: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name in authorities:
        authority(name).configure_trust(context)
    return context


def test_bytes_go_both_ways_and_the_end_is_no_error() -> None:
    """After the other side's end, reading gives nothing."""

    async def answer_and_leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await echo(reader, writer)
        writer.close()

    async def steps() -> None:
        async with serving(answer_and_leave) as (port, _):
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port, timeout=5)  # nobody looks it up
            await stream.write(b"")
            await stream.write(b"ping", timeout=5)
            assert await stream.read(100, timeout=5) == b"ping"
            assert await stream.read(100) == b""
            await stream.aclose()

    run(steps())


def test_tls_within_tls_as_through_a_secure_proxy() -> None:
    """The tunnel of a proxy that is spoken to by https carries another TLS."""

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        await writer.start_tls(server_context("inner.test"))
        await echo(reader, writer)

    async def steps() -> None:
        async with serving(twice, server_context("outer.test")) as (port, ended):
            stream = await AsyncioBackend().connect_tcp("outer.test", port)
            assert stream.get_extra_info("ssl_object") is None
            for name in ("outer.test", "inner.test"):
                stream = await stream.start_tls(trusting("cluster"), name, timeout=5)
                assert stream.get_extra_info("ssl_object").server_hostname == name
                await stream.write(b"ping")
                assert await stream.read(100) == b"ping"
            await stream.aclose()
            await ended.wait()

    run(steps())


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.5", "127.0.0.6")], ids=["one", "two"])
def test_refused_connection_says_so(addresses: Sequence[str]) -> None:
    """With several addresses asyncio joins the texts of all errors, without a number."""

    async def steps() -> None:
        async with serving(silent) as (port, _):
            pass
        with pytest.raises(httpcore.ConnectError) as raised:
            await AsyncioBackend().connect_tcp("many.test", port, timeout=5)
        assert cause_of(raised.value) == (TransportCause.UNREACHABLE, "Connection refused")

    run(steps(), addresses=addresses)


def test_unknown_name_says_so() -> None:
    """A name without any address."""

    async def steps() -> None:
        with pytest.raises(httpcore.ConnectError) as raised:
            await AsyncioBackend().connect_tcp("nowhere.invalid", 1, timeout=5)
        assert cause_of(raised.value)[0] is TransportCause.UNREACHABLE

    run(steps(), addresses=())


@pytest.mark.parametrize("dead", ["127.0.0.5", NO_FAMILY], ids=["refuses", "no such family"])
def test_next_address_is_tried_when_one_is_dead(dead: str) -> None:
    """A host of which one address works can be reached, also by a machine without IPv6."""

    async def steps() -> None:
        async with serving(echo) as (port, _):
            stream = await AsyncioBackend().connect_tcp("many.test", port, timeout=5)
            await stream.write(b"ping")
            assert await stream.read(100) == b"ping"
            await stream.aclose()

    run(steps(), addresses=(dead, "127.0.0.1"))


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.5", "127.0.0.1")], ids=["one", "two"])
def test_connect_that_is_cancelled_in_any_round_leaves_no_socket(addresses: Sequence[str]) -> None:
    """The deadline of an apiserver may come when the connection was just made."""

    async def steps() -> None:
        async with serving(silent) as (port, _):
            for rounds in range(12):
                before = descriptors()
                connecting = asyncio.ensure_future(AsyncioBackend().connect_tcp("many.test", port))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                connecting.cancel()
                with suppress(asyncio.CancelledError):
                    await (await connecting).aclose()
                await asyncio.sleep(0.01)  # the server ends its side
                assert descriptors() <= before

    run(steps(), addresses=addresses)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_slow_address_is_overtaken_by_the_next_one() -> None:
    """A route that leads nowhere costs a quarter of a second, not the whole limit."""

    async def steps() -> None:
        with create_server(("127.0.0.7", 0), backlog=0) as full:
            port = full.getsockname()[1]
            queued = [socket() for _ in range(3)]  # fill its queue: it answers no further one
            for each in queued:
                each.setblocking(False)
                each.connect_ex(("127.0.0.7", port))
            async with serving(silent, port=port) as (_, ended):
                stream = await AsyncioBackend().connect_tcp("many.test", port, timeout=5)
                assert stream.get_extra_info("socket").getpeername() == ("127.0.0.1", port)
                await stream.aclose()
                await ended.wait()
            for each in queued:
                each.close()

    run(steps(), addresses=("127.0.0.7", "127.0.0.1"))


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", b""], ids=["bytes", "end of TLS"])
def test_what_came_while_others_were_asked_is_noticed(unasked: bytes) -> None:
    """The loop runs on while a connection waits. It must not take in what would be read as the next answer."""

    async def steps() -> None:
        async def answer_and_go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await echo(reader, writer)
            await asyncio.sleep(0.02)
            if unasked:
                writer.write(unasked)
            else:
                writer.close()

        async with serving(answer_and_go_on, server_context("kubernetes.test")) as (port, ended):
            plain = await AsyncioBackend().connect_tcp("127.0.0.1", port)
            stream = await plain.start_tls(trusting("cluster"), "kubernetes.test")
            await stream.write(b"ping")
            assert await stream.read(100) == b"ping"
            assert not stream.get_extra_info("is_readable")
            await asyncio.sleep(0.1)
            assert stream.get_extra_info("is_readable")
            await stream.aclose()
            await ended.wait()

    run(steps())


def test_answer_before_a_reset_is_read() -> None:
    """An early error is the reason that an operator needs."""

    async def steps() -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"503")
            await reset(reader, writer)

        async with serving(refuse) as (port, _):
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port)
            await asyncio.sleep(0.05)
            assert await stream.read(100) == b"503"
            await stream.aclose()

    run(steps())


def test_server_that_sends_without_end_leaves_the_loop_to_others() -> None:
    """Each read is a round of the loop, whatever waits to be read."""

    async def steps() -> None:
        async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()

        async with serving(flood) as (port, _):
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port)
            rounds = 0

            async def count() -> None:
                nonlocal rounds
                while True:
                    rounds += 1
                    await asyncio.sleep(0)

            others = asyncio.ensure_future(count())
            for _ in range(50):
                await stream.read(1024)
            assert rounds >= 50
            others.cancel()
            await stream.aclose()

    run(steps())


def test_handshake_that_does_not_end_closes_the_socket() -> None:
    """A server without an answer costs `timeout` seconds, and no open file."""

    async def steps() -> None:
        async with serving(silent) as (port, ended):
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port)
            with pytest.raises(httpcore.ConnectTimeout):
                await stream.start_tls(trusting("cluster"), "kubernetes.test", timeout=0.05)
            await ended.wait()

    run(steps())


def test_cancelled_handshake_closes_the_socket() -> None:
    """The deadline of an apiserver cancels whatever is going on."""

    async def steps() -> None:
        async with serving(silent) as (port, ended):
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await stream.start_tls(trusting("cluster"), "kubernetes.test")
            await ended.wait()

    run(steps())


@pytest.mark.parametrize(
    ("talk", "context", "cause"),
    [
        (silent, server_context("kubernetes.test", by="another"), TransportCause.TLS_UNTRUSTED),
        (silent, server_context("other.test"), TransportCause.TLS_WRONG_NAME),
        (reset, None, TransportCause.UNREACHABLE),
        (leave, None, TransportCause.UNREACHABLE),
    ],
    ids=["another CA", "another name", "reset", "end"],
)
def test_failed_handshake_closes_the_socket(talk: Talk, context: ssl.SSLContext | None, cause: TransportCause) -> None:
    """The cause is kept for the reason that is reported. Versions of Python have different errors for an early end."""

    async def steps() -> None:
        async with serving(talk, context) as (port, _):
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port)
            with pytest.raises(httpcore.ConnectError) as raised:
                await stream.start_tls(trusting("cluster"), "kubernetes.test", timeout=5)
            assert cause_of(raised.value)[0] is cause
            assert stream.get_extra_info("is_readable")
            assert stream.get_extra_info("socket").fileno() < 0

    run(steps())


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_broken_connection_is_an_error_for_reader_and_writer(*, secure: bool) -> None:
    """httpcore knows its own exceptions only."""

    async def steps() -> None:
        async with serving(reset, server_context("kubernetes.test") if secure else None) as (port, _):
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port)
            if secure:
                stream = await stream.start_tls(trusting("cluster"), "kubernetes.test")
            await stream.write(b"ping and more")
            with pytest.raises(httpcore.ReadError) as raised:
                await stream.read(100)
            assert cause_of(raised.value) == (TransportCause.UNREACHABLE, "Connection reset by peer")
            with pytest.raises(httpcore.WriteError):
                await stream.write(b"ping")
            await stream.aclose()

    run(steps())


def test_reading_and_writing_have_limits() -> None:
    """A limit is in seconds; the connection can go on after a read that was late."""

    async def steps() -> None:
        async with serving(silent) as (port, _):
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port)
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(100, timeout=0.01)
            await stream.write(b"more", timeout=5)
            await stream.aclose()

    run(steps())


def test_what_comes_unasked_is_noticed() -> None:
    """A connection that waits is readable when the other side ended it. httpcore then does not use it."""

    async def steps() -> None:
        go, left = asyncio.Event(), asyncio.Event()

        async def leave_then(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go.wait()
            writer.close()
            await writer.wait_closed()
            left.set()

        async with serving(leave_then) as (port, _):
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port)
            assert not stream.get_extra_info("is_readable")
            assert stream.get_extra_info("server_addr") is None
            go.set()
            await left.wait()
            assert stream.get_extra_info("is_readable")
            assert await stream.read(100) == b""
            assert stream.get_extra_info("is_readable")
            await stream.aclose()
            await stream.aclose()

    run(steps())
