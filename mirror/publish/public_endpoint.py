"""The public URL as the world gets it: an anonymous GET with one hard deadline, whatever hangs."""

import asyncio
import ssl
from concurrent.futures import CancelledError
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import httpx

from mirror.config.settings import Readback
from mirror.ports import Look, NotSeen, Seen
from mirror.publish.causes import cancelled, cause_of_error, cause_of_status, too_large, too_slow, unusable_ca_file
from mirror.publish.judgement import judge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["PublicWeb", "judge"]

TOTAL_SECONDS = 5.0  # AWS STS gives up after that (fact 27)
# Of the total, for name and TCP, and again for TLS: together less than the deadline, because httpcore leaves the socket
# of a handshake open when it is cancelled from outside, and closes it when its own time is over.
CONNECT_SHARE = 0.48
MAX_BODY_BYTES = 1024 * 1024
MAX_ERROR_BODY_BYTES = 8 * 1024
POOL_CONNECTIONS = 16
KEEPALIVE_SECONDS = 2.0
_HEADERS = {"User-Agent": "oidc-mirror", "Accept": "*/*", "Accept-Encoding": "identity"}

_Kind = tuple[Path | None, int, tuple[str, int] | None, str]
"""What connections must have in common to be shared: CA file, its mtime in ns, connect_to, and then the TLS name."""


class PublicWeb:
    """Looks at public URLs as AWS would: no credentials, no proxy, no redirect. Safe for many threads.

    One event loop in a thread of its own does the asking, because only a cancelled task ends a look on time whatever
    hangs: name resolution, handshake, headers or a dribbled body. Connections are kept between looks; `close` ends all.
    """

    def __init__(self, *, total_seconds: float = TOTAL_SECONDS, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._total_seconds = total_seconds
        self._max_body_bytes = max_body_bytes
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._transports: dict[_Kind, httpx.AsyncHTTPTransport] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def look(self, url: str, *, readback: Readback) -> Look:
        """GET `url` within 5 s in all, and say what came.

        TLS is verified, against `readback.ca_file` alone when it is set. With `readback.connect_to` the connection
        goes there while the name in TLS and `Host` stay those of the URL, as with curl's `--connect-to`.

        Returns:
            What came with status 200, or why nothing did; it never raises for what the web does.
        """
        task = asyncio.run_coroutine_threadsafe(self._look(url, readback), self._running_loop())
        try:
            return task.result()
        except CancelledError:
            return NotSeen(cancelled())

    def close(self) -> None:
        """End the connections and the thread; another look starts them again."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon: a hung look must not keep the process from its end.
                self._thread = Thread(target=self._loop.run_forever, name="public-web", daemon=True)
                self._thread.start()
            return self._loop

    async def _end(self) -> None:
        looks = asyncio.all_tasks() - {asyncio.current_task()}
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
        for transport in self._transports.values():
            await transport.aclose()
        self._transports.clear()

    async def _look(self, url: str, readback: Readback) -> Look:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._total_seconds):
                answer = await self._get(_https(url), readback)
        except TimeoutError:
            return NotSeen(too_slow(self._total_seconds))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return NotSeen(cause_of_error(error))
        return answer if isinstance(answer, NotSeen) else _seen(*answer, loop.time() - began)

    async def _get(self, url: httpx.URL, readback: Readback) -> tuple[httpx.Response, bytes] | NotSeen:
        try:
            transport = self._transport(url, readback)
        except (OSError, ssl.SSLError) as error:
            return NotSeen(unusable_ca_file(error))
        response = await transport.handle_async_request(_request(url, readback, self._total_seconds))
        try:
            return await self._read(response)
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response) -> tuple[httpx.Response, bytes] | NotSeen:
        if response.status_code != httpx.codes.OK:
            beginning = await _up_to(response, MAX_ERROR_BODY_BYTES)
            headers = response.headers
            location, region = headers.get("location", ""), headers.get("x-amz-bucket-region", "")
            return NotSeen(cause_of_status(response.status_code, location, beginning, region=region))
        body = await _up_to(response, self._max_body_bytes)
        if len(body) > self._max_body_bytes:
            return NotSeen(too_large(self._max_body_bytes))
        return response, body

    def _transport(self, url: httpx.URL, readback: Readback) -> httpx.AsyncHTTPTransport:
        """The shared connections; runs in the loop's thread alone. A bare transport knows no cookies and no netrc."""
        changed = 0 if readback.ca_file is None else readback.ca_file.stat().st_mtime_ns
        # Pools go by address, and with connect_to all names have one: a connection verified for one of them must not
        # carry another's request.
        name = "" if readback.connect_to is None else url.host
        kind = (readback.ca_file, changed, readback.connect_to, name)
        if kind not in self._transports:
            limits = httpx.Limits(max_connections=POOL_CONNECTIONS, keepalive_expiry=KEEPALIVE_SECONDS)
            self._transports[kind] = httpx.AsyncHTTPTransport(
                verify=_context(readback.ca_file), trust_env=False, limits=limits
            )
        return self._transports[kind]


def _https(url: str) -> httpx.URL:
    parsed = httpx.URL(url)
    if parsed.scheme != "https":
        raise httpx.UnsupportedProtocol(f"{url} is no https URL")
    return parsed


def _context(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    return ssl.create_default_context(cafile=str(ca_file))


def _request(url: httpx.URL, readback: Readback, total_seconds: float) -> httpx.Request:
    timeout = httpx.Timeout(total_seconds, connect=CONNECT_SHARE * total_seconds).as_dict()
    extensions: dict[str, Any] = {"timeout": timeout}
    headers = {"Host": url.netloc.decode("ascii"), **_HEADERS}
    if readback.connect_to is not None:
        host, port = readback.connect_to
        extensions["sni_hostname"] = url.host  # httpcore verifies the certificate against this name
        url = url.copy_with(host=host, port=port)
    return httpx.Request("GET", url, headers=headers, extensions=extensions)


async def _up_to(response: httpx.Response, max_bytes: int) -> bytes:
    """The raw body; a longer one is broken off a little after `max_bytes`."""
    body = b""
    async with aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_raw())) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > max_bytes:
                break
    return body


def _seen(response: httpx.Response, body: bytes, seconds: float) -> Seen:
    return Seen(
        body=body,
        content_type=response.headers.get("content-type", ""),
        cache_control=response.headers.get("cache-control", ""),
        last_modified=_date(response.headers.get("last-modified", "")),
        seconds=seconds,
    )


def _date(text: str) -> datetime | None:
    """An HTTP date (RFC 9110, section 5.6.7), aware in UTC; None when it is missing or unreadable."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
