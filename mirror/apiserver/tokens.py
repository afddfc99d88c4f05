"""The bearer token of an issuer: read in every pass, and never sent when a cloud would take it."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Collection, Mapping
from pathlib import Path

from mirror.apiserver.errors import Failure, shown
from mirror.files import read_small, why_unreadable
from mirror.model import AZURE_AUDIENCES, GOOGLE_PREFIXES, STS_AUDIENCE, Reason

MAX_TOKEN_BYTES = 16 * 1024
CLOUD_AUDIENCES = frozenset({STS_AUDIENCE, *AZURE_AUDIENCES})
"""Audiences that AWS and Entra take by default: such a token is a login to a cloud, not to an apiserver.

Those of Google begin with one of `GOOGLE_PREFIXES`.
"""


def read_token(path: Path, audiences: Collection[str], *, clouds: Collection[str] = CLOUD_AUDIENCES) -> str | Reason:
    """The token in `path`, or why it is not sent.

    The file is read anew each time, because projected tokens change on disk (fact 20). A final newline is let
    pass; the token itself must be visible ASCII (RFC 9110, section 11.6.2). Whether it has expired is for the
    apiserver to say.

    Args:
        path: The configured `auth.token_file`.
        audiences: The issuer's audiences for relying parties; a JWT for one of them is refused.
        clouds: Audiences that are refused besides.
    """
    try:
        content = read_small(path, MAX_TOKEN_BYTES)
    except OSError as error:
        return Failure.TOKEN_UNREADABLE.reason(f"{path}: {why_unreadable(error)}")
    return judge_token(content.removesuffix(b"\n").removesuffix(b"\r"), audiences, place=str(path), clouds=clouds)


def judge_token(
    token: bytes, audiences: Collection[str], *, place: str, clouds: Collection[str] = CLOUD_AUDIENCES
) -> str | Reason:
    """The token as text, or why it is not sent; `place` names where it stands, for the sentence."""
    flaw = _flaw(token)
    if flaw:
        return Failure.TOKEN_MALFORMED.reason(f"{place} {flaw}")
    found = _audiences_of(token)
    wrong = found & {*clouds, *audiences} | {each for each in found if clouds and each.startswith(GOOGLE_PREFIXES)}
    if wrong:
        return Failure.WRONG_TOKEN.reason(", ".join(map(shown, sorted(wrong))))
    return token.decode("ascii")


def _flaw(token: bytes) -> str:
    if not token.strip():
        return "is empty"
    if b"\n" in token or b"\r" in token:
        return "has several lines"
    if not all(0x21 <= byte <= 0x7E for byte in token):  # noqa: PLR2004 - the first and last visible ASCII character
        return "has spaces, control characters or non-ASCII characters"
    return ""


def _audiences_of(token: bytes) -> frozenset[str]:
    audience = claims_of(token).get("aud")
    return frozenset(each for each in (audience if isinstance(audience, list) else [audience]) if isinstance(each, str))


def claims_of(token: bytes) -> Mapping[str, object]:
    """The claims of a JWT (RFC 7519, section 4), unverified; none for an opaque token."""
    parts = token.split(b".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515, section 3.1: header, payload, signature
        return {}
    try:
        claims = json.loads(urlsafe_b64decode(parts[1].rstrip(b"=") + b"=" * (-len(parts[1].rstrip(b"=")) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
