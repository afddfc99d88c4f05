"""One conversation with one apiserver: both documents over one HTTP/1.1 connection, each step under the deadline."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import httpx

from mirror import __version__
from mirror.config.settings import Limits
from mirror.model import TRANSIENT_CODES, Answer, Reason, Unusable
from mirror.source.failures import Failure
from mirror.source.faults import explain
from mirror.source.replies import DISCOVERY, HTTP_OK, JWKS, Document, Login, Reply, date_of, judge, retry_after_seconds
from mirror.source.tls import certificate_expires_at

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
class Heard:
    """What one conversation gave: the bodies that were taken, by document, or every reason why not.

    `retry_after_seconds` is the server's wish where it had one.
    """

    bodies: Mapping[str, bytes]
    reasons: tuple[Reason, ...] = ()
    date: datetime | None = None
    retry_after_seconds: int | None = None
    certificate_expires_at: datetime | None = None

    def outcome(self, apiserver: str) -> Answer | Unusable:
        """The value for the pass, under the apiserver's configured text."""
        if self.reasons:
            return Unusable(apiserver, self.reasons, self.date, self.certificate_expires_at)
        discovery, jwks = (self.bodies[document.where] for document in (DISCOVERY, JWKS))
        return Answer(apiserver, discovery, jwks, self.date, self.certificate_expires_at)


async def converse(apiserver: str, access: Access, limits: Limits, deadline: float) -> Heard:
    """Ask `apiserver` for discovery, then for the JWKS, over a connection of its own.

    After an answer that refuses discovery the JWKS is asked for all the same, so that the operator hears of both;
    not after a broken connection or a server in trouble.

    Args:
        apiserver: `https://host[:port]`.
        access: TLS, login and proxy.
        limits: Of these the connection and body limits.
        deadline: When all must have ended, in the event loop's time.
    """
    heard = Heard({})
    try:
        transport = _transport(access)
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        return Heard({}, (explain(error, where="", connect_seconds=limits.connect_seconds),))
    line = _Line(transport, apiserver, access, limits, deadline)
    try:
        async with transport:
            for document in (DISCOVERY, JWKS):
                reply = await line.fetch(document)
                heard = _add(heard, document, reply, line)
                if isinstance(reply, Reason) or any(reason.code in TRANSIENT_CODES for reason in heard.reasons):
                    break
    finally:
        await line.hang_up()
    return heard


@dataclass(frozen=True, slots=True)
class _Line:
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


def _add(heard: Heard, document: Document, reply: Reply | Reason, line: _Line) -> Heard:
    if isinstance(reply, Reason):
        return replace(heard, bodies={}, reasons=(*heard.reasons, reply))
    max_body_bytes, secret = line.limits.max_body_bytes, line.access.token
    flaw = judge(document, reply, line.access.login, max_body_bytes=max_body_bytes, secret=secret)
    return Heard(
        {**heard.bodies, document.where: reply.body},
        (*heard.reasons, flaw) if flaw else heard.reasons,
        date_of(reply) or heard.date,
        retry_after_seconds(reply) if flaw else heard.retry_after_seconds,
        reply.certificate_expires_at,
    )


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
