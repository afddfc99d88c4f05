"""The daemon's HTTP server: `/healthz`, `/readyz`, `/metrics` and the status page; no request changes anything.

Every answer is made from what the daemon remembers: a request never asks an apiserver, git or the bucket.
"""

import asyncio
import errno
import ipaddress
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mirror.concurrency import BUSY_SECONDS, within
from mirror.daemon.metrics import CONTENT_TYPE
from mirror.daemon.scheduler import HealthResult
from mirror.errors import BUSY_CODE, UsageError
from mirror.redaction import describe

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_PAGES = "This daemon serves /, /healthz, /readyz, /metrics and /status.json."


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the answers come from, each asked at a request.

    `page` gives HTML for the parameters of the URL, and the hash of its style sheet.

    `status` gives what `status --output json` prints, from memory.
    """

    health: Callable[[], HealthResult]
    readiness: Callable[[], HealthResult]
    metrics: Callable[[], bytes]
    page: Callable[[Mapping[str, str]], tuple[str, str]]
    status: Callable[[], bytes] = lambda: b"{}"


def application(sources: Sources, *, listen_host: str) -> Starlette:
    """The application; `listen_host` is the configured address, which decides which `Host` headers are accepted."""

    def page(request: Request) -> Response:
        html, style_hash = sources.page(request.query_params)
        # The page filters itself by a form, which is sent with GET and can change nothing.
        policy = _HEADERS["Content-Security-Policy"].replace("form-action 'none'", "form-action 'self'")
        policy = f"{policy}; style-src 'sha256-{style_hash}'"
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    made = Starlette(
        routes=[  # plain functions: starlette runs them in threads, so that a large page holds up no probe
            Route("/", page),
            Route("/healthz", lambda _: _health_response(sources.health())),
            Route("/readyz", lambda _: _health_response(sources.readiness())),
            Route("/metrics", lambda _: Response(sources.metrics(), headers={"Content-Type": CONTENT_TYPE})),
            Route("/status.json", lambda _: Response(sources.status(), media_type="application/json")),
        ],
        middleware=[Middleware(_Guard, listen_host=listen_host)],
        exception_handlers={HTTPException: _refusal},
    )
    made.router.redirect_slashes = False  # it would build a URL from the client's Host header
    return made


def _health_response(verdict: HealthResult) -> Response:
    return PlainTextResponse(f"{verdict.sentence}\n", HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE)


def _refusal(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    headers = error.headers if isinstance(error, HTTPException) else None
    sentence = "Only GET and HEAD." if status == HTTPStatus.METHOD_NOT_ALLOWED else f"There is no such page. {_PAGES}"
    return PlainTextResponse(f"{sentence}\n", status, headers=headers)


class _Guard:
    """Refuses names that this server was not given, and adds what browsers should know to every answer."""

    def __init__(self, app: ASGIApp, listen_host: str) -> None:
        self._app = app
        self._listen_host = listen_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Date", formatdate(usegmt=True))
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if accepts(Headers(scope=scope).get("host", ""), self._listen_host):
            await self._app(scope, receive, send_with_headers)
            return
        sentence = "This server goes by its address, `localhost`, or the name in `http.listen`.\n"
        await PlainTextResponse(sentence, HTTPStatus.MISDIRECTED_REQUEST)(scope, receive, send_with_headers)


def accepts(host: str, listen_host: str) -> bool:
    """Whether a request with this `Host` header is answered.

    On loopback only addresses and known names are accepted: another page may point any other name here (DNS
    rebinding), which may not read what only this machine should. Elsewhere the network decides who may ask.
    """
    if not _is_loopback(listen_host):
        return True
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower() in ("localhost", listen_host.lower()) or _is_address(name)


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


MOST_CONNECTIONS = 256
"""A pass must not run out of file descriptors because of its spectators."""
MOST_OF_A_CLIENT = 64
"""Connections of one address; several browsers and a Prometheus may share one behind a proxy."""
HEAD_SECONDS = 5.0
"""How long a request may take to arrive."""
ANSWER_SECONDS = 15.0
"""How long a client may take to read the answer."""
_IDLE_SECONDS = 5
_JOIN_SECONDS = 0.2


_LISTEN_REMEDY = "Give `http.listen` a free address of this machine, or switch the pages off with `http: false`."


def listen(address: tuple[str, int], *, busy_seconds: float = BUSY_SECONDS) -> socket.socket:
    """A socket that listens on `address` (host, port; port 0: any free one). A port that is taken is waited for.

    Raises:
        UsageError: It is in use, not of this machine, or needs rights that this user has not.
    """
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made: list[socket.socket] = []

    def attempt() -> bool:
        try:
            made.append(socket.create_server((host, port), family=family))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True

    try:
        is_free = within(busy_seconds, attempt)
    except OSError as error:
        raise UsageError(
            f"The status page cannot listen on {host}:{port}.",
            cause=error.strerror or describe(error),
            remedy=_LISTEN_REMEDY,
        ) from error
    if not is_free:
        sentence = (
            f"The status page cannot listen on {host}:{port}: the port is taken, and stayed so {busy_seconds:g} s."
        )
        raise UsageError(sentence, remedy=_LISTEN_REMEDY, code=BUSY_CODE)
    return made[0]


class _Protocol(H11Protocol):
    """A connection that may not dawdle. Where there are too many, an old one makes room for a new one.

    No connection is rejected, because the new one may be a probe: an old one had its time for a request.
    """

    head_seconds = HEAD_SECONDS
    answer_seconds = ANSWER_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base has it
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._timer = self.loop.call_later(self.head_seconds, transport.abort)
        others = [each for each in self.connections if isinstance(each, _Protocol) and each is not self]
        # One that is aborted stays among them until the next turn of the loop, and many may be accepted in one turn.
        others = [each for each in others if not each.transport.is_closing()]
        mine = [each for each in others if each.client is not None and each.client[:1] == (self.client or ())[:1]]
        for crowd, most in ((mine, MOST_OF_A_CLIENT), (others, MOST_CONNECTIONS)):
            if len(crowd) >= most:
                min(crowd, key=_Protocol._worth).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_asked = self._is_asked()
        super().data_received(data)
        if self._is_asked() and not was_asked:
            self._wait(self.answer_seconds)

    def on_response_complete(self) -> None:
        self._wait(self.head_seconds)
        super().on_response_complete()

    def _wait(self, seconds: float) -> None:
        self._timer.cancel()
        self._waits_since = self.loop.time()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _is_asked(self) -> bool:
        cycle: Any = self.cycle  # None until the first request
        return cycle is not None and not cycle.response_complete

    def _worth(self) -> tuple[bool, float]:
        return self._is_asked(), self._waits_since


class _QuietServer(uvicorn.Server):
    """Sleeps until it is asked or stopped; uvicorn's own loop wakes up ten times a second, to renew a `Date` header."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = threading.Event()  # set by `stop`, perhaps before there is a loop to notify
        self._wake: Callable[[], object] = lambda: None

    async def main_loop(self) -> None:
        """Until `stop`."""
        await self.on_tick(0)
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._wake = partial(loop.call_soon_threadsafe, stopped.set)
        if not self._stop.is_set():
            await stopped.wait()
        self._wake = lambda: None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, and then hang up on clients that never finish their request."""
        loop = asyncio.get_running_loop()
        for listener in sockets or ():
            loop.remove_reader(listener)
        # Turns of the loop that asyncio takes to make a connection of what it has just accepted. When the server closes
        # in between, asyncio 3.11 drops the accepted socket without closing it.
        for _ in range(3):
            await asyncio.sleep(0)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the sockets are closed in the next turn of the loop

    def stop(self) -> None:
        """End soon; from any thread."""
        self.should_exit = True
        self._stop.set()
        with suppress(RuntimeError):  # the loop has ended in between
            self._wake()


class Server:
    """Serves `app` on a listening socket until it is stopped; it owns the socket.

    A request must arrive within `head_seconds`.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, *, head_seconds: float = HEAD_SECONDS) -> None:
        self._listener = listener
        protocol: type[_Protocol] = type("Protocol", (_Protocol,), {"head_seconds": head_seconds})
        self._server = _QuietServer(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,  # `_Guard` writes it
                proxy_headers=False,
                backlog=MOST_CONNECTIONS,  # it is also how many are accepted before one can be evicted
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=1,
            )
        )
        # A daemon thread: a client that hangs must not keep the process from its end.
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="http", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Take no further request, and end."""
        self._server.stop()
        self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():  # a server that is still busy would fail on a closed socket, loudly
            self._listener.close()
