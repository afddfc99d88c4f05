"""One HTTP/1.1 connection to one apiserver: two documents, one deadline.

`KeptConnections` keeps connections from one pass to the next: a handshake costs more than two questions.
"""

import asyncio
import re
import resource
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from socket import IPPROTO_TCP, TCP_USER_TIMEOUT
from typing import Any, Literal

import httpcore
import httpx

from mirror import __version__
from mirror.apiserver.errors import FailureKind, _FailureTable, printable, redacted, redacted_body
from mirror.apiserver.network import AsyncioBackend
from mirror.apiserver.tls import certificate_expires_at
from mirror.config.settings import LimitSettings
from mirror.log import log_call
from mirror.model import MEDIA_TYPE_DISCOVERY, MEDIA_TYPE_JWKS, TRANSIENT_CODES, Answer, IssuerName, Reason, Unusable
from mirror.transport_errors import TransportCause, cause_of

LoginMethod = Literal["anonymous", "token", "certificate"]
"""How we log in at an apiserver: it decides what helps against a 401 or 403."""

HTTP_OK = 200
_MAX_DATE_CHARACTERS = 33  # the longest of the three forms: "Wednesday, 06-Nov-94 08:49:37 GMT"
_MAX_RETRY_AFTER_DIGITS = 5


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """One document that is asked for, such as the two that every apiserver serves (facts.md#1 and #4).

    `media_types` are those that we take; parameters such as a charset are ignored. For the JWKS `application/json` is
    one of them: apiservers never send it, but gateways in front of them do, and the body is validated anyway.
    `failures` are statuses that mean something else here than for the two documents.
    """

    where: str
    path: str
    accept: str
    media_types: frozenset[str]
    failures: Mapping[int, _FailureTable] = field(default_factory=dict)


DISCOVERY = DocumentRequest(
    "discovery",
    "/.well-known/openid-configuration",
    MEDIA_TYPE_DISCOVERY,
    frozenset({MEDIA_TYPE_DISCOVERY}),
)
JWKS = DocumentRequest(
    "jwks",
    "/openid/v1/jwks",
    f"{MEDIA_TYPE_JWKS}, {MEDIA_TYPE_DISCOVERY}",
    frozenset({MEDIA_TYPE_JWKS, MEDIA_TYPE_DISCOVERY}),
)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One HTTP response: header names in lower case, and the body up to the size limit.

    `complete` is false if the body was longer than the limit. `certificate_expires_at` (aware, UTC) is the expiry of
    the server's certificate.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    certificate_expires_at: datetime | None = None


_BY_LOGIN: Mapping[tuple[int, LoginMethod], FailureKind] = {
    (401, "anonymous"): FailureKind.UNAUTHORIZED_ANONYMOUS,
    (401, "token"): FailureKind.UNAUTHORIZED_TOKEN,
    (401, "certificate"): FailureKind.UNAUTHORIZED_CERTIFICATE,
    (403, "anonymous"): FailureKind.FORBIDDEN_ANONYMOUS,
    (403, "token"): FailureKind.FORBIDDEN_TOKEN,
    (403, "certificate"): FailureKind.FORBIDDEN_CERTIFICATE,
}
"""What helps with these statuses depends on the login."""
_BY_STATUS: Mapping[int, FailureKind] = {
    **dict.fromkeys((301, 302, 303, 307, 308), FailureKind.REDIRECT),
    404: FailureKind.NOT_FOUND,
    406: FailureKind.NOT_ACCEPTABLE,
    408: FailureKind.REQUEST_TIMEOUT,
    429: FailureKind.RATE_LIMITED,
}
_STATUS_MESSAGE = re.compile(rb'"message"\s*:\s*"((?:[^"\\]|\\.)*)')
_USER_INFO = re.compile(r"//[^/?#]*@")


def check_response(
    document: DocumentRequest, reply: HttpResponse, login: LoginMethod, *, max_body_bytes: int, secret: str = ""
) -> Reason | None:
    """Why `reply` is not taken for `document`, or None when it is.

    Args:
        document: What was asked for.
        reply: What came.
        login: How we asked; it decides the remedy of 401 and 403.
        max_body_bytes: The limit that cut the body short, for the sentence.
        secret: The token that was sent, which no sentence repeats even where the answer does.
    """
    flaw = _flaw(document, reply, login, max_body_bytes)
    return _flaw(document, _without(secret, reply), login, max_body_bytes) if flaw and secret else flaw


def _flaw(document: DocumentRequest, reply: HttpResponse, login: LoginMethod, max_body_bytes: int) -> Reason | None:
    if reply.status != HTTP_OK:
        failure = document.failures.get(reply.status) or _failure_of_status(reply.status, login)
        return failure.reason(_status_detail(reply), where=document.where)
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        return FailureKind.WRONG_CONTENT_ENCODING.reason(printable(encoding), where=document.where)
    content_type = reply.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() not in document.media_types:
        wanted = " or ".join(sorted(document.media_types))
        return FailureKind.WRONG_CONTENT_TYPE.reason(f"{printable(content_type)!r}, not {wanted}", where=document.where)
    return None if reply.complete else FailureKind.TOO_LARGE.reason(str(max_body_bytes), where=document.where)


def date_of(reply: HttpResponse) -> datetime | None:
    """The `Date` header (RFC 9110, section 6.6.1) as aware UTC, None where it is absent or unreadable."""
    text = reply.headers.get("date", "")
    return _read_date(text) if 0 < len(text) <= _MAX_DATE_CHARACTERS else None


@lru_cache(64)  # many apiservers answer in the same second
def _read_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def retry_after_seconds(reply: HttpResponse) -> int | None:
    """The `Retry-After` header (RFC 9110, section 10.2.3) where it counts seconds; a date there is not honoured."""
    text = reply.headers.get("retry-after", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_RETRY_AFTER_DIGITS else None


def _failure_of_status(status: int, login: LoginMethod) -> FailureKind:
    if (status, login) in _BY_LOGIN:
        return _BY_LOGIN[status, login]
    if 500 <= status <= 599:  # noqa: PLR2004 - HTTP statuses are known by number
        return FailureKind.SERVER_ERROR
    return _BY_STATUS.get(status, FailureKind.BAD_STATUS)


def _without(secret: str, reply: HttpResponse) -> HttpResponse:
    """The reply that a sentence quotes from, without the token."""
    headers = {name: redacted(value, secret) for name, value in reply.headers.items()}
    return replace(reply, headers=headers, body=redacted_body(reply.body, secret, complete=reply.complete))


def _status_detail(reply: HttpResponse) -> str:
    """The status, and what explains it: the target of a redirect, a Status object's message, or the body's start."""
    said = _USER_INFO.sub("//", reply.headers.get("location", "")) or _message(reply.body)
    return f"status {reply.status}" + (f", {printable(said)}" if said.strip() else "")


def _message(body: bytes) -> str:
    # A pattern instead of a JSON parser: this is text for people, from a body that is not validated.
    found = _STATUS_MESSAGE.search(body)
    return (found[1] if found else body).replace(b'\\"', b'"').decode("utf-8", "replace")


_MAX_ERROR_BODY_BYTES = 16 * 1024
_MIN_PIECE_BYTES = 256


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How the apiservers of one issuer are spoken to. `proxy` may carry a password: neither it nor the token prints."""

    context: ssl.SSLContext
    login: LoginMethod = "anonymous"
    token: str = field(default="", repr=False)
    proxy: str | None = field(default=None, repr=False)
    proxy_context: ssl.SSLContext | None = None


IDLE_SECONDS = 85.0
"""kube-apiserver closes a connection that was idle for 90 s (`IdleTimeout` of its http.Server): ours ends before."""


@dataclass(slots=True)
class Connection:
    """One connection, or what it will be, and the rules for speaking over it.

    `is_kept`: it served an earlier pass, and may be broken since. `stays_open`: it is kept for the next pass.
    """

    pool: httpcore.AsyncConnectionPool
    apiserver: str
    access: ConnectionSettings
    limits: LimitSettings
    deadline: float
    is_kept: bool = False
    stays_open: bool = False
    _connection: httpcore.AsyncConnectionInterface | None = None
    _stream: Any = None
    _requests: dict[str, httpcore.Request] = field(default_factory=dict)
    _certificate_expires_at: datetime | None = None

    async def close(self) -> None:
        """Close the socket; once more does no harm."""
        if self._connection is not None:
            await self._connection.aclose()

    def notice_close(self) -> None:
        """Have the system end it when the other side acknowledges nothing for the time that a new one may take."""
        with suppress(OSError):  # closed already
            socket = self._stream.get_extra_info("socket")
            socket.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, round(self.limits.connect_seconds * 1000))

    async def fetch(self, document: DocumentRequest) -> HttpResponse | Reason:
        """What came for `document`, or what went wrong on the wire."""
        began = asyncio.get_running_loop().time()
        found = await self._fetch(document)
        seconds = asyncio.get_running_loop().time() - began
        outcome = found.code if isinstance(found, Reason) else found.status
        log_call("http.request", url=self.apiserver + document.path, outcome=outcome, seconds=round(seconds, 3))
        return found

    async def _fetch(self, document: DocumentRequest) -> HttpResponse | Reason:
        found = await self._fetch_once(document)
        if not self.is_kept or not isinstance(found, Reason) or asyncio.get_running_loop().time() >= self.deadline:
            return found
        # It died since the last pass, as when an apiserver was restarted: that says nothing about the apiserver.
        await self.close()
        self._connection, self.is_kept = None, False
        return await self._fetch_once(document)

    async def _fetch_once(self, document: DocumentRequest) -> HttpResponse | Reason:
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self._reply(self._request(document))
        except TimeoutError:
            return FailureKind.TOTAL_TIMEOUT.reason(f"{self.limits.total_seconds:g}", where=document.where)
        except Exception as error:  # noqa: BLE001 - whatever one apiserver provokes, the others' answers must survive
            seconds, token = self.limits.connect_seconds, self.access.token
            return reason_for_exception(error, where=document.where, connect_seconds=seconds, secret=token)

    def _request(self, document: DocumentRequest) -> httpcore.Request:
        """The request for `document`, made once for all passes that the connection serves."""
        if document.path not in self._requests:
            self._requests[document.path] = _request(self.apiserver, document, self.access, self.limits)
        return self._requests[document.path]

    async def _reply(self, request: httpcore.Request) -> HttpResponse:
        connection = self._connection
        if connection is None or connection.is_closed() or connection.has_expired():
            await self.close()
            connection = self._connection = self.pool.create_connection(request.url.origin)
            self.is_kept, self._stream = False, None
        response = await connection.handle_async_request(request)
        try:
            taken = response.status == HTTP_OK
            body, complete = await _read(response, self.limits.max_body_bytes if taken else _MAX_ERROR_BODY_BYTES)
        finally:
            await response.aclose()
        if self._stream is None:
            self._stream = response.extensions["network_stream"]
            self._certificate_expires_at = certificate_expires_at(self._stream.get_extra_info("ssl_object"))
        headers = _headers(response.headers)
        return HttpResponse(response.status, headers, body, complete, self._certificate_expires_at)


@asynccontextmanager
async def connect(
    apiserver: str,
    access: ConnectionSettings,
    limits: LimitSettings,
    deadline: float,
    kept: Connection | None = None,
) -> AsyncIterator[Connection | Reason]:
    """A line to `apiserver`, `https://host[:port][/prefix]`; or why there can be none.

    It is hung up at the end, unless it then `stays_open`.

    Args:
        apiserver: Who is spoken to.
        access: TLS, login and proxy.
        limits: Of these the connection and body limits.
        deadline: When all must have ended, in the event loop's time.
        kept: One of an earlier pass, made with the same `access`, that is used instead of a new one.
    """
    if kept is not None:
        line = kept
        line.deadline, line.is_kept, line.stays_open = deadline, True, False
    else:
        try:
            pool = _pool(access)
        except (httpx.InvalidURL, ValueError, ImportError) as error:
            yield reason_for_exception(error, where="", connect_seconds=limits.connect_seconds)
            return
        line = Connection(pool, apiserver, access, limits, deadline)
    try:
        yield line
    finally:
        if not line.stays_open:
            await line.close()


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """The header fields by name in lower case; lines of one name are one list (RFC 9110, section 5.3)."""
    lines: dict[str, list[str]] = {}
    for name, value in raw:
        lines.setdefault(name.decode("ascii").lower(), []).append(value.decode("utf-8", "replace"))
    return {name: ", ".join(values) for name, values in lines.items()}


async def _read(response: httpcore.Response, max_bytes: int) -> tuple[bytes, bool]:
    """The body as it came over the wire, at most `max_bytes` of it, and whether that was all."""
    body, cost_bytes = bytearray(), 0
    async for piece in response.aiter_stream():
        body += piece
        # Chunks of one byte cost six on the wire and far more in time: without a price for each, one hostile
        # apiserver keeps the loop of all others busy until its deadline.
        cost_bytes += max(len(piece), _MIN_PIECE_BYTES)
        if cost_bytes > max(max_bytes, _MIN_PIECE_BYTES):
            return bytes(body[:max_bytes]), False
    return bytes(body), True


def _request(
    apiserver: str, document: DocumentRequest, access: ConnectionSettings, limits: LimitSettings
) -> httpcore.Request:
    url, host = _address(apiserver.rstrip("/") + document.path)
    headers: dict[bytes | str, bytes | str] = {
        "Host": host,
        "Accept": document.accept,
        "Accept-Encoding": "identity",
        "User-Agent": f"oidc-mirror/{__version__}",
    }
    if access.token:
        headers["Authorization"] = f"Bearer {access.token}"
    # Reading has no limit of its own: the deadline counts all of it, dribbled bytes too.
    timeouts = {"timeout": {"connect": limits.connect_seconds}}
    return httpcore.Request("GET", url, headers=headers, extensions=timeouts)


@lru_cache(2**12)  # the same ones in each pass
def _address(text: str) -> tuple[httpcore.URL, str]:
    """The URL of a document, and its `Host` header.

    Raises:
        ValueError: It is no https URL (the configuration refuses it; a token must never go out in clear).
        httpx.InvalidURL: It is no URL at all.
    """
    url = httpx.URL(text)
    if url.scheme != "https":
        raise ValueError(url.scheme)
    return _raw(url), url.netloc.decode("ascii")


def _raw(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _pool(access: ConnectionSettings) -> httpcore.AsyncConnectionPool:
    """What makes connections: microseconds to make, because the TLS context is there already.

    It pools nothing. What httpx and the pool do around each request takes as long as the request itself.

    Raises:
        httpx.InvalidURL, ValueError, ImportError: The proxy's address cannot be used.
    """
    proxy = None
    if access.proxy is not None:
        found = httpx.Proxy(access.proxy)
        proxy = httpcore.Proxy(_raw(found.url), auth=found.raw_auth, ssl_context=access.proxy_context)
    return httpcore.AsyncConnectionPool(
        ssl_context=access.context, proxy=proxy, keepalive_expiry=IDLE_SECONDS, network_backend=AsyncioBackend()
    )


@dataclass(frozen=True, slots=True)
class Response:
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


async def fetch_documents(
    apiserver: str, access: ConnectionSettings, limits: LimitSettings, deadline: float
) -> Response:
    """Ask `apiserver` for discovery, then for the JWKS, over a connection of its own.

    If discovery is rejected, the JWKS is still requested, so that the operator sees the reasons of both;
    not after a broken connection or a server in trouble. The arguments are those of
    `mirror.apiserver.client.connect`.
    """
    async with connect(apiserver, access, limits, deadline) as line:
        return Response({}, (line,)) if isinstance(line, Reason) else await fetch_both(line)


async def fetch_both(line: Connection) -> Response:
    """As `fetch_documents`, over a connection that is there."""
    response = Response({})
    for document in (DISCOVERY, JWKS):
        reply = await line.fetch(document)
        response = _add(response, document, reply, line)
        if isinstance(reply, Reason) or any(reason.code in TRANSIENT_CODES for reason in response.reasons):
            break
    return response


def _add(response: Response, document: DocumentRequest, reply: HttpResponse | Reason, line: Connection) -> Response:
    if isinstance(reply, Reason):
        return replace(response, bodies={}, reasons=(*response.reasons, reply))
    max_body_bytes, secret = line.limits.max_body_bytes, line.access.token
    flaw = check_response(document, reply, line.access.login, max_body_bytes=max_body_bytes, secret=secret)
    return Response(
        {**response.bodies, document.where: reply.body},
        (*response.reasons, flaw) if flaw else response.reasons,
        date_of(reply) or response.date,
        retry_after_seconds(reply) if flaw else response.retry_after_seconds,
        reply.certificate_expires_at,
    )


def reason_for_exception(error: Exception, *, where: str, connect_seconds: float, secret: str = "") -> Reason:
    """The reason behind `error`, which asking for the document `where` raised.

    `connect_seconds` is the limit that a connection had, for the sentence; `secret` the token that was sent.
    """
    cause, words = cause_of(error)
    detail = f"{connect_seconds:g}" if cause is TransportCause.CONNECT_TIMEOUT else printable(redacted(words, secret))
    if cause is TransportCause.DNS:
        return FailureKind.UNREACHABLE.reason(f"DNS: {detail}", where=where)
    return FailureKind[cause.name].reason(detail, where=where)


LONGEST_INTERVAL = timedelta(seconds=75)
"""With a longer one, and the tenth by which a pass may be late, connections would be idle for `client.IDLE_SECONDS`."""
MOST_CONNECTIONS = 2000
"""Each takes some 30 KiB, and an open file."""
MOST_PASSES = 10
LONGEST_SECONDS = 600.0
"""A connection is replaced after so many passes or seconds. Otherwise an unconfigured load balancer would always show
the same replica."""

Place = tuple[IssuerName, int, str]
"""An issuer, which of its apiservers, and that one's address."""


def most_connections(interval: timedelta, files: int | None = None) -> int:
    """How many connections may be kept by a daemon with passes every `interval`; 0 where none would live so long.

    `files`: how many this process may have open; None for what the system says.
    """
    if interval > LONGEST_INTERVAL:
        return 0
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if files is None else files
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // 2)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A connection that waits. `passes` used it; it is used no more after `ends_at`, by the clock of the owner."""

    connection: Connection
    passes: int
    ends_at: float
    in_pass: int


@dataclass(eq=False, repr=False)
class KeptConnections:
    """The connections that the next pass may use. All methods belong to one event loop.

    Args:
        most: How many are kept.
        clock: Seconds of a clock that only goes forward.
        now: The time, aware: when a server's certificate ends, the connection ends with it.
    """

    most: int
    _: KW_ONLY
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _kept: dict[Place, _Kept] = field(init=False, default_factory=dict)
    _taken: dict[Place, _Kept] = field(init=False, default_factory=dict)
    _pass: int = field(init=False, default=0)

    def begin_pass(self) -> None:
        """What is given back from now on was used in this pass."""
        self._pass += 1
        self._taken = {}

    async def take(self, place: Place, access: ConnectionSettings) -> Connection | None:
        """The connection to `place`, if one is kept that was made with this very `access` and is not too old."""
        found = self._kept.pop(place, None)
        if found is None:
            return None
        if found.connection.access != access or self.clock() >= found.ends_at:
            await found.connection.close()
            return None
        self._taken[place] = found
        return found.connection

    def keep(self, place: Place, connection: Connection, response: Response) -> None:
        """Keep `connection`, over which `response` came, unless that refused anything or the connection is too old."""
        before = self._taken.pop(place, None) if connection.is_kept else None
        passes = 1 if before is None else before.passes + 1
        ends_at = self._ends_at(response) if before is None else before.ends_at
        if response.reasons or passes >= MOST_PASSES or self.clock() >= ends_at or len(self._kept) >= self.most:
            return
        connection.stays_open = True
        if before is None:
            connection.notice_close()
        self._kept[place] = _Kept(connection, passes, ends_at, self._pass)

    async def end_pass(self) -> None:
        """Close what this pass did not use: who was asked there is no longer configured, or time was over."""
        for place in [place for place, each in self._kept.items() if each.in_pass != self._pass]:
            await self._kept.pop(place).connection.close()

    async def close(self) -> None:
        """Close all."""
        while self._kept:
            _, found = self._kept.popitem()
            await found.connection.close()

    def _ends_at(self, response: Response) -> float:
        """A certificate is checked when a connection is made: none lives longer than the certificate."""
        seconds = LONGEST_SECONDS
        if response.certificate_expires_at is not None:
            seconds = min(seconds, (response.certificate_expires_at - self.now()).total_seconds())
        return self.clock() + seconds
