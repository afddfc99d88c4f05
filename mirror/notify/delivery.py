"""Send one HTTP request to a URL that is a secret: two tries, each within one hard deadline, no redirect.

No failure raises: it is a `Reason`, and none of its words has the URL.
"""

import ssl
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from mirror.concurrency import DeadlineExecutor
from mirror.config.settings import NotifySettings
from mirror.files import read_small, why_unreadable
from mirror.log import log_call
from mirror.model import Reason
from mirror.redaction import remember
from mirror.transport_errors import cause_of

TOTAL_SECONDS = 8.0
"""A try: name, connection, TLS, request and status together."""
PAUSE_SECONDS = 1.0
TRIES = 2
MAX_URL_BYTES = 4096
SHORTEST_SECRET = 16
"""A shorter path is an ordinary word, which must not be taken out of every text."""
_FOR_A_MOMENT = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def read_url(key: str, path: Path) -> str | Reason:
    """The URL in the file that `key` names: one line, http or https, without user info. It is read for each message."""
    remedy = f"Put one line with the URL into the file that `{key}` names, and let the mirror's user read it."
    try:
        url = read_small(path, MAX_URL_BYTES).decode("ascii").strip()
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except OSError as error:
        return Reason("notify.unreadable", f"{key}: {path} cannot be read: {why_unreadable(error)}.", remedy)
    except ValueError:  # the exception may quote the URL
        return Reason("notify.unreadable", f"{key}: {path} holds no URL.", remedy)
    secrets = (each for each in (parts.path, parts.query) if len(each) >= SHORTEST_SECRET)
    remember(url, *secrets)
    plain = url.isprintable() and " " not in url and "@" not in parts.netloc
    if not has_host or not plain or parts.scheme not in ("http", "https"):
        return Reason("notify.unreadable", f"{key}: {path} holds no http or https URL without user info.", remedy)
    return url


def send(
    settings: NotifySettings,
    method: str,
    url: str,
    body: bytes | None = None,
    *,
    total_seconds: float = TOTAL_SECONDS,
    pause: Callable[[float], None] = time.sleep,
) -> Reason | None:
    """Send the request, and once more when that may help; None when a status 2xx came.

    Args:
        settings: The CA file and the proxy.
        method: `GET` or `POST`.
        url: From `read_url`.
        body: JSON.
        total_seconds: The deadline of each try.
        pause: Waits before the second try.
    """
    failure: Reason | None = None
    for number in range(TRIES):
        if number:
            pause(PAUSE_SECONDS)
        try:
            status = DeadlineExecutor(total_seconds).call(lambda: _status(settings, method, url, body, total_seconds))
        except (TimeoutError, CancelledError):
            failure = _failed(url, f"no answer within {total_seconds:g} s")
        except Exception as error:  # noqa: BLE001  whatever a library raises, a pass must not end by it
            failure = _failed(url, cause_of(error)[1])
        else:
            log_call("http.request", url=_host(url), outcome=status)
            if HTTPStatus(200) <= status < HTTPStatus.MULTIPLE_CHOICES:
                return None
            failure = _failed(url, f"it answered with status {status}")
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _FOR_A_MOMENT:
                break
    return failure


def _status(settings: NotifySettings, method: str, url: str, body: bytes | None, seconds: float) -> int:
    """One try. A bare transport knows no redirect, no cookie, no netrc and no proxy of the environment."""
    context = ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
    headers = {"User-Agent": "oidc-mirror", "Accept": "*/*"}
    headers |= {} if body is None else {"Content-Type": "application/json"}
    request = httpx.Request(
        method, url, headers=headers, content=body, extensions={"timeout": httpx.Timeout(seconds).as_dict()}
    )
    with httpx.HTTPTransport(verify=context, trust_env=False, proxy=settings.proxy) as transport:
        response = transport.handle_request(request)
        response.close()  # whatever it says, the status is enough
        return response.status_code


def _failed(url: str, why: str) -> Reason:
    remedy = "Check the URL in the file, `notify.ca_file` and `notify.proxy`, then run `oidc-mirror check --notify`."
    return Reason("notify.failed", f"{_host(url)} did not take the message: {why}.", remedy)


def _host(url: str) -> str:
    """What may be printed of a URL whose path is a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"
