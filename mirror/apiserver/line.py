"""One HTTP/1.1 connection to one apiserver: a request, its answer, and what went wrong on the wire as a value."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from mirror import __version__
from mirror.apiserver.client import HTTP_OK, Document, Login, Reply
from mirror.apiserver.errors import Failure
from mirror.apiserver.tls import certificate_expires_at
from mirror.apiserver.transport_errors import explain
from mirror.config.settings import Limits
from mirror.model import Reason

_MAX_ERROR_BODY_BYTES = 16 * 1024
_MIN_PIECE_BYTES = 256


@dataclass(frozen=True, slots=True)
class Access:
    """How the apiservers of one issuer are spoken to. `proxy` may carry a password: neither it nor the token prints."""

    context: ssl.SSLContext
    login: Login = "anonymous"
    token: str = field(default="", repr=False)
    proxy: str | None = field(default=None, repr=False)
    proxy_context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One connection, or what it will be, and the rules for speaking over it."""

    transport: httpx.AsyncHTTPTransport
    apiserver: str
    access: Access
    limits: Limits
    deadline: float
    _opened: list[Any] = field(default_factory=list)

    async def hang_up(self) -> None:
        """Close the socket; once more does no harm."""
        while self._opened:
            await self._opened.pop().aclose()

    async def fetch(self, document: Document) -> Reply | Reason:
        """What came for `document`, or what went wrong on the wire."""
        try:
            request = _request(self.apiserver, document, self.access, self.limits)
            request.extensions["trace"] = self._note
            async with asyncio.timeout_at(self.deadline):
                return await _reply(self.transport, request, self.limits)
        except TimeoutError:
            return Failure.TOTAL_TIMEOUT.reason(f"{self.limits.total_seconds:g}", where=document.where)
        except Exception as error:  # noqa: BLE001 - whatever one apiserver provokes, the others' answers must survive
            seconds, token = self.limits.connect_seconds, self.access.token
            return explain(error, where=document.where, connect_seconds=seconds, secret=token)

    async def _note(self, event: str, info: Mapping[str, Any]) -> None:
        # httpcore loses the socket when the deadline cancels a TLS handshake: remember it, so as to close it.
        if event == "connection.connect_tcp.complete":
            self._opened.append(info["return_value"])


@asynccontextmanager
async def connected(apiserver: str, access: Access, limits: Limits, deadline: float) -> AsyncIterator[Line | Reason]:
    """A line to `apiserver`, `https://host[:port][/prefix]`, that is hung up at the end; or why there can be none.

    Args:
        apiserver: Who is spoken to.
        access: TLS, login and proxy.
        limits: Of these the connection and body limits.
        deadline: When all must have ended, in the event loop's time.
    """
    try:
        transport = _transport(access)
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        yield explain(error, where="", connect_seconds=limits.connect_seconds)
        return
    line = Line(transport, apiserver, access, limits, deadline)
    try:
        async with transport:
            yield line
    finally:
        await line.hang_up()


async def _reply(transport: httpx.AsyncHTTPTransport, request: httpx.Request, limits: Limits) -> Reply:
    response = await transport.handle_async_request(request)
    try:
        taken = response.status_code == HTTP_OK
        body, complete = await _read(response, limits.max_body_bytes if taken else _MAX_ERROR_BODY_BYTES)
    finally:
        await response.aclose()
    expires_at = certificate_expires_at(response.extensions["network_stream"].get_extra_info("ssl_object"))
    return Reply(response.status_code, response.headers, body, complete, expires_at)


async def _read(response: httpx.Response, max_bytes: int) -> tuple[bytes, bool]:
    """The body as it came over the wire, at most `max_bytes` of it, and whether that was all."""
    body, cost_bytes = bytearray(), 0
    async for piece in response.aiter_raw():
        body += piece
        # Chunks of one byte cost six on the wire and far more in time: without a price for each, one hostile
        # apiserver keeps the loop of all others busy until its deadline.
        cost_bytes += max(len(piece), _MIN_PIECE_BYTES)
        if cost_bytes > max(max_bytes, _MIN_PIECE_BYTES):
            return bytes(body[:max_bytes]), False
    return bytes(body), True


def _request(apiserver: str, document: Document, access: Access, limits: Limits) -> httpx.Request:
    """The request for `document`.

    Raises:
        ValueError: The address is no https URL (the configuration refuses it; a token must never go out in clear).
        httpx.InvalidURL: The address is no URL at all.
    """
    url = httpx.URL(apiserver.rstrip("/") + document.path)
    if url.scheme != "https":
        raise ValueError(url.scheme)
    headers = {
        "Accept": document.accept,
        "Accept-Encoding": "identity",
        "User-Agent": f"oidc-mirror/{__version__}",
    }
    if access.token:
        headers["Authorization"] = f"Bearer {access.token}"
    # Reading has no limit of its own: the deadline counts all of it, dribbled bytes too.
    return httpx.Request("GET", url, headers=headers, extensions={"timeout": {"connect": limits.connect_seconds}})


def _transport(access: Access) -> httpx.AsyncHTTPTransport:
    """A transport for one conversation: microseconds to make, because the TLS context is there already.

    Raises:
        httpx.InvalidURL, ValueError, ImportError: The proxy's address cannot be used.
    """
    proxy = None if access.proxy is None else httpx.Proxy(access.proxy, ssl_context=access.proxy_context)
    return httpx.AsyncHTTPTransport(verify=access.context, trust_env=False, proxy=proxy)
