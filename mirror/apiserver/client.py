"""Judging one HTTP answer of an apiserver by status, content type and size: pure, and blind to what the body says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from mirror.apiserver.errors import Failure, Told, shown
from mirror.apiserver.secrets import redacted, redacted_body
from mirror.model import MEDIA_TYPE_DISCOVERY, MEDIA_TYPE_JWKS, Reason

Login = Literal["anonymous", "token", "certificate"]
"""How we log in at an apiserver: it decides what helps against a 401 or 403."""

HTTP_OK = 200
_MAX_DATE_CHARACTERS = 33  # the longest of the three forms: "Wednesday, 06-Nov-94 08:49:37 GMT"
_MAX_RETRY_AFTER_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Document:
    """One document that is asked for, such as the two that every apiserver serves (facts 1 and 4).

    `media_types` are those that we take, parameters such as a charset aside. For the JWKS `application/json` is
    one of them: apiservers never send it, but gateways in front of them do, and the body is validated anyway.
    `failures` are statuses that mean something else here than for the two documents.
    """

    where: str
    path: str
    accept: str
    media_types: frozenset[str]
    failures: Mapping[int, Told] = field(default_factory=dict)


DISCOVERY = Document(
    "discovery",
    "/.well-known/openid-configuration",
    MEDIA_TYPE_DISCOVERY,
    frozenset({MEDIA_TYPE_DISCOVERY}),
)
JWKS = Document(
    "jwks",
    "/openid/v1/jwks",
    f"{MEDIA_TYPE_JWKS}, {MEDIA_TYPE_DISCOVERY}",
    frozenset({MEDIA_TYPE_JWKS, MEDIA_TYPE_DISCOVERY}),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer as it came: header names in lower case, and as much of the body as the limit let in.

    `complete` tells whether that was all of it. `certificate_expires_at` (aware, UTC) is the end of the certificate
    under which it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    certificate_expires_at: datetime | None = None


_FORBIDDEN: Mapping[Login, Failure] = {
    "anonymous": Failure.FORBIDDEN_ANONYMOUS,
    "token": Failure.FORBIDDEN_TOKEN,
    "certificate": Failure.FORBIDDEN_CERTIFICATE,
}
_UNAUTHORIZED: Mapping[Login, Failure] = {
    "anonymous": Failure.UNAUTHORIZED_ANONYMOUS,
    "token": Failure.UNAUTHORIZED_TOKEN,
    "certificate": Failure.UNAUTHORIZED_CERTIFICATE,
}
_BY_STATUS: Mapping[int, Failure] = {
    301: Failure.REDIRECT,
    302: Failure.REDIRECT,
    303: Failure.REDIRECT,
    307: Failure.REDIRECT,
    308: Failure.REDIRECT,
    404: Failure.NOT_FOUND,
    406: Failure.NOT_ACCEPTABLE,
    408: Failure.REQUEST_TIMEOUT,
    429: Failure.RATE_LIMITED,
}
_STATUS_MESSAGE = re.compile(rb'"message"\s*:\s*"((?:[^"\\]|\\.)*)')
_USER_INFO = re.compile(r"//[^/?#]*@")


def judge(document: Document, reply: Reply, login: Login, *, max_body_bytes: int, secret: str = "") -> Reason | None:
    """Why `reply` is not taken for `document`, or None when it is.

    Args:
        document: What was asked for.
        reply: What came.
        login: How we asked; it decides the remedy of 401 and 403.
        max_body_bytes: The limit that cut the body short, for the sentence.
        secret: The token that was sent, which no sentence repeats even where the answer does.
    """
    reply = _without(secret, reply)
    if reply.status != HTTP_OK:
        failure = document.failures.get(reply.status) or _failure_of_status(reply.status, login)
        return failure.reason(_status_detail(reply), where=document.where)
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        return Failure.WRONG_CONTENT_ENCODING.reason(shown(encoding), where=document.where)
    content_type = reply.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() not in document.media_types:
        wanted = " or ".join(sorted(document.media_types))
        return Failure.WRONG_CONTENT_TYPE.reason(f"{shown(content_type)!r}, not {wanted}", where=document.where)
    return None if reply.complete else Failure.TOO_LARGE.reason(str(max_body_bytes), where=document.where)


def date_of(reply: Reply) -> datetime | None:
    """The `Date` header (RFC 9110, section 6.6.1) as aware UTC, None where it is absent or unreadable."""
    text = reply.headers.get("date", "")
    if not 0 < len(text) <= _MAX_DATE_CHARACTERS:
        return None
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def retry_after_seconds(reply: Reply) -> int | None:
    """The `Retry-After` header (RFC 9110, section 10.2.3) where it counts seconds; a date there is not honoured."""
    text = reply.headers.get("retry-after", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_RETRY_AFTER_DIGITS else None


def _failure_of_status(status: int, login: Login) -> Failure:
    if status == 401:  # noqa: PLR2004 - HTTP statuses are known by number
        return _UNAUTHORIZED[login]
    if status == 403:  # noqa: PLR2004 - as above
        return _FORBIDDEN[login]
    if 500 <= status <= 599:  # noqa: PLR2004 - as above
        return Failure.SERVER_ERROR
    return _BY_STATUS.get(status, Failure.BAD_STATUS)


def _without(secret: str, reply: Reply) -> Reply:
    """The reply that every sentence quotes from: whatever is told of it later, the token is not in it."""
    if not secret:
        return reply
    headers = {name: redacted(value, secret) for name, value in reply.headers.items()}
    return replace(reply, headers=headers, body=redacted_body(reply.body, secret, complete=reply.complete))


def _status_detail(reply: Reply) -> str:
    """The status, and what explains it: the target of a redirect, a Status object's message, or the body's start."""
    said = _USER_INFO.sub("//", reply.headers.get("location", "")) or _message(reply.body)
    return f"status {reply.status}" + (f", {shown(said)}" if said.strip() else "")


def _message(body: bytes) -> str:
    # A pattern instead of a JSON parser: this is text for people, out of a body that nobody has validated.
    found = _STATUS_MESSAGE.search(body)
    return (found[1] if found else body).replace(b'\\"', b'"').decode("utf-8", "replace")
