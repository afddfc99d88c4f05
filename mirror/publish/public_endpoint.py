"""Anonymous GET of a public URL within one hard deadline, and why it fails."""

import asyncio
import re
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

from mirror.config.settings import ReadbackSettings
from mirror.log import log_call
from mirror.model import Reason
from mirror.ports import PublicFailure, PublicResponse, PublicResult
from mirror.publish.publisher import compare
from mirror.transport_errors import TransportCause, cause_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


__all__ = ["PublicHttpClient", "compare"]

TOTAL_SECONDS = 5.0  # AWS STS gives up after that (facts.md#27)
# Of the total, for name and TCP, and again for TLS: together less than the deadline, because httpcore leaves the socket
# of a handshake open when it is cancelled from outside, and closes it when its own time is over.
CONNECT_SHARE = 0.48
MAX_BODY_BYTES = 1024 * 1024
MAX_ERROR_BODY_BYTES = 8 * 1024
MAX_WORDS = 200
POOL_CONNECTIONS = 16
KEEPALIVE_SECONDS = 2.0
_HEADERS = {"User-Agent": "oidc-mirror", "Accept": "*/*", "Accept-Encoding": "identity"}

_Kind = tuple[Path | None, int, tuple[str, int] | None, str | None, str]
"""What connections must have in common to be shared: CA file, its mtime in ns, connect_to, proxy, and the TLS name."""


class PublicHttpClient:
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

    def get_document(self, url: str, *, readback: ReadbackSettings) -> PublicResult:
        """GET `url` within 5 s in all, and say what came.

        TLS is verified, against `readback.ca_file` alone when it is set. With `readback.connect_to` the connection
        goes there while the name in TLS and `Host` stay those of the URL, as with curl's `--connect-to`.

        Returns:
            What came with status 200, or why nothing did; it never raises for what the web does.
        """
        task = asyncio.run_coroutine_threadsafe(self._look(url, readback), self._running_loop())
        try:
            found = task.result()
        except CancelledError:
            found = PublicFailure(cancelled())
        outcome = found.reason.code if isinstance(found, PublicFailure) else httpx.codes.OK.value
        log_call("http.request", url=url, outcome=outcome)
        return found

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

    async def _look(self, url: str, readback: ReadbackSettings) -> PublicResult:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._total_seconds):
                answer = await self._get(_https(url), readback)
        except TimeoutError:
            return PublicFailure(too_slow(self._total_seconds))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return PublicFailure(cause_of_error(error))
        return answer if isinstance(answer, PublicFailure) else _seen(*answer, loop.time() - began)

    async def _get(self, url: httpx.URL, readback: ReadbackSettings) -> tuple[httpx.Response, bytes] | PublicFailure:
        try:
            transport = self._transport(url, readback)
        except (OSError, ssl.SSLError) as error:
            return PublicFailure(unusable_ca_file(error))
        response = await transport.handle_async_request(_request(url, readback, self._total_seconds))
        try:
            return await self._read(response)
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response) -> tuple[httpx.Response, bytes] | PublicFailure:
        if response.status_code != httpx.codes.OK:
            beginning = await _up_to(response, MAX_ERROR_BODY_BYTES)
            headers = response.headers
            location, region = headers.get("location", ""), headers.get("x-amz-bucket-region", "")
            return PublicFailure(cause_of_status(response.status_code, location, beginning, region=region))
        coding = response.headers.get("content-encoding", "").strip()
        if coding.lower() not in ("", "identity"):
            return PublicFailure(content_coding(coding))
        body = await _up_to(response, self._max_body_bytes)
        if len(body) > self._max_body_bytes:
            return PublicFailure(too_large(self._max_body_bytes))
        return response, body

    def _transport(self, url: httpx.URL, readback: ReadbackSettings) -> httpx.AsyncHTTPTransport:
        """The shared connections; runs in the loop's thread alone. A bare transport knows no cookies and no netrc."""
        changed = 0 if readback.ca_file is None else readback.ca_file.stat().st_mtime_ns
        # Pools go by address, and with connect_to all names have one: a connection verified for one of them must not
        # carry another's request.
        name = "" if readback.connect_to is None else url.host
        kind = (readback.ca_file, changed, readback.connect_to, readback.proxy, name)
        if kind not in self._transports:
            limits = httpx.Limits(max_connections=POOL_CONNECTIONS, keepalive_expiry=KEEPALIVE_SECONDS)
            self._transports[kind] = httpx.AsyncHTTPTransport(
                # Trusts that file alone; without it what this machine and `SSL_CERT_FILE` trust (not certifi).
                verify=ssl.create_default_context(cafile=readback.ca_file),
                trust_env=False,
                limits=limits,
                proxy=readback.proxy,
            )
        return self._transports[kind]


def _https(url: str) -> httpx.URL:
    parsed = httpx.URL(url)
    if parsed.scheme != "https":
        raise httpx.UnsupportedProtocol(f"{url} is not an https URL")
    return parsed


def _request(url: httpx.URL, readback: ReadbackSettings, total_seconds: float) -> httpx.Request:
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


def _seen(response: httpx.Response, body: bytes, seconds: float) -> PublicResponse:
    return PublicResponse(
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


_NOT_PUBLIC = (
    "Allow public s3:GetObject on exactly the published keys in the bucket policy "
    "(`oidc-mirror render bucket-policy`, `oidc-mirror provision bucket`), and switch off Block Public Access "
    "(BlockPublicPolicy and RestrictPublicBuckets) for the bucket and for the account. "
    "S3 also answers 403, not 404, for an object that does not exist when the policy grants no listing."
)
_NOT_THERE = "Check that the issuer's path, `publish.prefix` and `publish.base_url` lead to the object that was put."
_WRONG_HOST = "Relying parties follow no redirect: use the host of the bucket's own region in the issuer and base_url."
_PROXY = (
    "Where only a proxy leads out, set `publish.readback.proxy`: HTTPS_PROXY, through which objects are put, is not "
    "used for reading."
)
_DNS = f"Check the host in the issuer and its DNS record: the name must resolve for the whole world. {_PROXY}"
_SLOW = f"Check the network and the CDN in front of the bucket, if there is one. {_PROXY}"
_UNREACHABLE = f"Check that the public host listens on port 443 and that this machine may reach it. {_PROXY}"
_TRUST = (
    "Serve a certificate that a public CA issued; for tests and closed networks name the CA in "
    "`publish.readback.ca_file`."
)
_SERVER = "Check the store or the CDN in front of it; the next pass checks again."

# What S3 says at a host of another region than the bucket's ("Error responses" of its API reference).
_OTHER_REGION = frozenset({"PermanentRedirect", "TemporaryRedirect", "Redirect", "IllegalLocationConstraintException"})


def cause_of_status(status: int, location: str, body: bytes, *, region: str = "") -> Reason:
    """Why an answer with a `status` other than 200 is unusable; `body` is the beginning of its body.

    `region` is what S3 says of the bucket in `x-amz-bucket-region`.
    """
    said = _store_code(body)
    if said.removeprefix(", ") in _OTHER_REGION:
        sentence = f"The host is not that of the bucket's region: HTTP {status}{said}."
        known = f" The bucket is in {region}." if re.fullmatch(r"[a-z0-9-]{2,40}", region) else ""
        return Reason("wrong_region", sentence + known, _WRONG_HOST)
    if status in {301, 302, 303, 307, 308}:
        sentence = f"The public URL redirects (HTTP {status}{said}) to {location or 'nowhere'}."
        return Reason("redirect", sentence, _WRONG_HOST)
    if status in {401, 403}:
        return Reason("forbidden", f"The public URL is not public: HTTP {status}{said}.", _NOT_PUBLIC)
    if status in {404, 410}:
        return Reason("not_found", f"Nothing is published at the public URL: HTTP {status}{said}.", _NOT_THERE)
    return Reason("wrong_status", f"The public URL answers HTTP {status}{said} instead of 200.", _SERVER)


_CAUSES = {
    TransportCause.TLS_UNTRUSTED: ("tls_untrusted", "The public host's certificate is not trusted: {}.", _TRUST),
    TransportCause.TLS_EXPIRED: ("tls_expired", "The public host's certificate is not valid today: {}.", "Renew it."),
    TransportCause.TLS_WRONG_NAME: (
        "tls_wrong_name",
        "The public host's certificate is for another name: {}.",
        "Use a host that the certificate covers; for S3 a bucket name without dots.",
    ),
    TransportCause.TLS_FAILED: ("tls_failed", "TLS with the public host failed: {}.", _TRUST),
    TransportCause.DNS: (
        "dns",
        "The public host's name does not resolve: {}.",
        _DNS,
    ),
    TransportCause.PROXY_REFUSED: (
        "proxy",
        "The proxy made no tunnel to the public host: {}.",
        "Correct `publish.readback.proxy`, or allow it to connect to that host.",
    ),
    TransportCause.CONNECT_TIMEOUT: ("unreachable", "The public host cannot be reached: {}.", _UNREACHABLE),
    TransportCause.UNREACHABLE: ("unreachable", "The public host cannot be reached: {}.", _UNREACHABLE),
}
_NOT_HTTP = ("protocol_error", "The public host did not answer as HTTP asks: {}.", _SERVER)


def cause_of_error(error: Exception) -> Reason:
    """Why no answer came at all, from the error of httpx and the layers below it."""
    cause, words = cause_of(error)
    code, sentence, remedy = _CAUSES.get(cause, _NOT_HTTP)
    return Reason(code, sentence.format(words.rstrip(".")[:MAX_WORDS]), remedy)


def unusable_ca_file(error: Exception) -> Reason:
    """`publish.readback.ca_file` could not be loaded."""
    remedy = "Name a readable PEM file with the CA's certificate in `publish.readback.ca_file`."
    return Reason("ca_file", f"The CA file of the read-back cannot be loaded: {cause_of(error)[1]}.", remedy)


def too_slow(seconds: float) -> Reason:
    """The whole answer did not come in time."""
    sentence = f"The public URL did not answer in full within {seconds:g} s, and AWS waits no longer."
    return Reason("too_slow", sentence, _SLOW)


def content_coding(coding: str) -> Reason:
    """The answer is encoded although the request did not allow it: relying parties decode it, or fail."""
    sentence = f"The public URL answers with Content-Encoding `{coding[:60]}`, which no document of ours has."
    remedy = (
        "The next pass repairs the object; a proxy or CDN in front of it must not encode "
        "a body that the request did not allow it to encode."
    )
    return Reason("content_coding", sentence, remedy)


def too_large(max_bytes: int) -> Reason:
    """More bytes came than any document of ours has."""
    sentence = f"The public URL answers with more than {max_bytes} bytes."
    return Reason("too_large", sentence, "Something else than our document is served there: see who does.")


def cancelled() -> Reason:
    """The mirror was asked to end before the answer came."""
    return Reason("cancelled", "Reading the public URL was cancelled, because the mirror stops.", _SERVER)


def _store_code(body: bytes) -> str:
    """The code of an S3 error document, such as `, AccessDenied`; empty when there is none."""
    found = re.search(rb"<Code>([A-Za-z0-9.]{1,60})</Code>", body)
    return f", {found[1].decode()}" if found else ""
