"""Keeping the token that we sent out of what we tell: an answer may repeat it anywhere."""

from urllib.parse import quote

_INSTEAD = "***"


def redacted(text: str, secret: str) -> str:
    """`text` without `secret`, as it is or percent-encoded; nothing is taken away where there is no secret."""
    for form in {secret, quote(secret, safe="")} - {""}:
        text = text.replace(form, _INSTEAD)
    return text


def redacted_body(body: bytes, secret: str, *, complete: bool) -> bytes:
    """`body` without `secret`; where it was cut short, also without an end that may be the beginning of one."""
    for form in {secret.encode(), quote(secret, safe="").encode()} - {b""}:
        body = body.replace(form, _INSTEAD.encode())
    return body if complete else body[: max(0, len(body) - len(secret))]
