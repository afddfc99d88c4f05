"""A ServiceAccount token: bytes from anywhere become a `Token`, or every reason why they are none.

Nothing of it is believed yet: its signature is looked at in `signatures`, its claims in `claims`. A reason never
repeats the token.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

from mirror.model import Kid, Reason
from mirror.trust.base64url import decode
from mirror.trust.jwk import MAX_KID_CHARACTERS, is_printable_text
from mirror.trust.parsing import read_object
from mirror.trust.refused import Refused, refused
from mirror.trust.words import described, quoted

MAX_TOKEN_BYTES = 20_000
"""What STS takes at most (API reference of AssumeRoleWithWebIdentity, WebIdentityToken)."""
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""What any of the relying parties accepts (their table in the facts)."""
LATEST_SECONDS = 253_402_300_799
"""The last second of the year 9999, the last that a date has."""

_IGNORED = ("jwk", "jku", "x5u", "x5c")
_FRESH = "Take a fresh token: `kubectl create token NAME --audience AUDIENCE`, or the pod's own projected file."
_SIGNER = "Only RSA and EC keys sign ServiceAccount tokens for clouds: look at who made this token."


@dataclass(frozen=True, slots=True)
class Token:
    """A well-formed token (RFC 7519), not yet believed. Dates are aware, UTC.

    `ignored` names members of the header that carry or point at keys: no relying party may use them.
    """

    alg: str
    kid: Kid
    issuer: str
    subject: str
    audiences: tuple[str, ...]
    expires_at: datetime | None
    not_before: datetime | None
    issued_at: datetime | None
    claims: Mapping[str, object]
    ignored: tuple[str, ...] = ()
    signing_input: bytes = field(default=b"", repr=False)
    signature: bytes = field(default=b"", repr=False)


def read_token(body: bytes) -> Token | Refused:
    """Read a JWS in compact form (RFC 7515, section 7.1) whose payload is a set of claims (RFC 7519, section 4).

    Args:
        body: the token; one line break at its end is let pass.

    Returns:
        The token, or all reasons: `token_empty`, `token_too_large`, `token_shape`, `token_encoding`, the codes of
        `read_object`, `token_crit`, `token_alg_none`, `token_alg_symmetric`, `token_alg_unknown`, `token_no_kid` and
        `token_claim`.
    """
    text = body.removesuffix(b"\n").removesuffix(b"\r")
    flaw = _flaw(text)
    if flaw is not None:
        return Refused((flaw,))
    header_text, claims_text, signature_text = text.split(b".")
    header, claims = _object(header_text, "header"), _object(claims_text, "claims")
    signature = decode(signature_text.decode("ascii"))
    reasons = header if isinstance(header, tuple) else _header_reasons(header)
    reasons += claims if isinstance(claims, tuple) else _claim_reasons(claims)
    if signature is None:
        reasons += (_encoding("signature"),)
    if reasons or isinstance(header, tuple) or isinstance(claims, tuple) or signature is None:
        return refused(reasons)
    return _built(header, claims, text.rpartition(b".")[0], signature)


def leading_token(body: bytes) -> bytes:
    """Give what stands before the first white space of `body`: the token, where a file has more text after it."""
    words = body.split(maxsplit=1)
    return words[0] if words else b""


def _flaw(text: bytes) -> Reason | None:
    """Why the bytes are not even three parts of visible text."""
    if not text:
        return Reason("token_empty", "The token is empty.", _FRESH, "token")
    if not all(0x21 <= byte <= 0x7E for byte in text):  # noqa: PLR2004 - visible ASCII
        return _more_text(text)
    if len(text) > MAX_TOKEN_BYTES:
        sentence = f"The token has more than {MAX_TOKEN_BYTES} bytes, the most that STS takes."
        return Reason("token_too_large", sentence, _FRESH, "token")
    parts = text.count(b".") + 1
    if parts == 3:  # noqa: PLR2004 - RFC 7515, section 7.1
        return None
    what = "it is encrypted (JWE)" if parts == 5 and _is_encrypted(text) else f"it has {parts}"  # noqa: PLR2004 - RFC 7516, section 3.1
    sentence = f"The token is not three parts of base64url with dots between them: {what} (RFC 7515, section 7.1)."
    return Reason("token_shape", sentence, _FRESH, "token")


def _more_text(text: bytes) -> Reason:
    """Tell of white space or other characters that no token has, without showing the text."""
    first = leading_token(text)
    after = text[text.index(first) + len(first) :] if first else b""
    if first.count(b".") == 2 and after.strip():  # noqa: PLR2004 - RFC 7515, section 7.1
        line = text[: len(text) - len(after.lstrip())].count(b"\n") + 1
        sentence = (
            f"After the token stands more text (line {line}), such as a log line or a second token. Whoever reads the"
            " file sends all of it."
        )
        return Reason("token_shape", sentence, "Write the token alone into the file.", "token")
    sentence = "The token holds spaces, line breaks or other characters that no token has (RFC 7515, section 7.1)."
    return Reason("token_shape", sentence, _FRESH, "token")


def _is_encrypted(text: bytes) -> bool:
    """Tell whether the first part is the header of a JWE, which names its encryption (RFC 7516, section 4.1.2)."""
    header = decode(text.partition(b".")[0].decode("ascii"))
    value = None if header is None else read_object(header, "token header")
    return isinstance(value, dict) and "enc" in value


def _object(text: bytes, part: str) -> dict[str, object] | tuple[Reason, ...]:
    body = decode(text.decode("ascii"))
    if body is None:
        return (_encoding(part),)
    value = read_object(body, f"token {part}")
    return (replace(value, remedy=_FRESH),) if isinstance(value, Reason) else value


def _encoding(part: str) -> Reason:
    sentence = f"The token's {part} is empty or no base64url without padding (RFC 7515, section 2)."
    return Reason("token_encoding", sentence, _FRESH, f"token {part}")


# ------------------------------------------------------------------------------------------------- header


def _header_reasons(header: Mapping[str, object]) -> tuple[Reason, ...]:
    reasons = [_alg_reason(header.get("alg"))]
    if "crit" in header:
        sentence = "The token's header has the member crit: it demands what nobody here understands."
        reasons.append(
            Reason("token_crit", f"{sentence[:-1]} (RFC 7515, section 4.1.11).", _SIGNER, "token header.crit")
        )
    if not is_printable_text(header.get("kid"), MAX_KID_CHARACTERS):
        sentence = "The token's header names no key: its kid is not 1 to 1024 printable characters (fact 32)."
        reasons.append(Reason("token_no_kid", sentence, _SIGNER, "token header.kid"))
    return tuple(reason for reason in reasons if reason is not None)


def _alg_reason(alg: object) -> Reason | None:
    """Why the algorithm is refused, before any key is looked at (RFC 8725, section 3.1)."""
    if alg in ALGORITHMS:
        return None
    word = alg.lower() if isinstance(alg, str) else ""
    code, what = "token_alg_unknown", f"{described(alg)}, which no relying party accepts for ServiceAccount tokens"
    if word == "none":
        code, what = "token_alg_none", "none: the token is not signed"
    elif word.startswith("hs"):
        code, what = (
            "token_alg_symmetric",
            f"{quoted(word.upper())}: a shared secret; who verifies it could have made it",
        )
    return Reason(code, f"The token's alg is {what} (RFC 8725, section 3.1).", _SIGNER, "token header.alg")


# ------------------------------------------------------------------------------------------------- claims


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_audience(value: object) -> bool:
    return _is_text(value) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))


def _is_moment(value: object) -> bool:
    # A truth value is an int to Python, and never a moment.
    return type(value) in (int, float) and 0 <= cast("float", value) <= LATEST_SECONDS


_CLAIMS: tuple[tuple[str, bool, Callable[[object], bool], str], ...] = (
    ("iss", True, _is_text, "a text"),
    ("sub", True, _is_text, "a text"),
    ("aud", False, _is_audience, "a text or an array of texts"),
    ("exp", False, _is_moment, "a number of seconds since 1970 of the years up to 9999"),
    ("nbf", False, _is_moment, "a number of seconds since 1970 of the years up to 9999"),
    ("iat", False, _is_moment, "a number of seconds since 1970 of the years up to 9999"),
)
"""name, whether it must be there, what it must be, and that in words (RFC 7519, section 4.1)."""


def _claim_reasons(claims: Mapping[str, object]) -> tuple[Reason, ...]:
    return tuple(
        Reason(
            "token_claim",
            f"The claim {name} is {described(claims.get(name))}, not {what} (RFC 7519, section 4.1).",
            _FRESH,
            f"token claims.{name}",
        )
        for name, is_required, is_good, what in _CLAIMS
        if (name in claims or is_required) and not is_good(claims.get(name))
    )


def _built(header: Mapping[str, object], claims: Mapping[str, object], signing_input: bytes, signature: bytes) -> Token:
    audience = claims.get("aud", [])
    return Token(
        alg=str(header["alg"]),
        kid=Kid(str(header["kid"])),
        issuer=str(claims["iss"]),
        subject=str(claims["sub"]),
        audiences=(audience,) if isinstance(audience, str) else tuple(cast("list[str]", audience)),
        expires_at=_moment(claims.get("exp")),
        not_before=_moment(claims.get("nbf")),
        issued_at=_moment(claims.get("iat")),
        claims=claims,
        ignored=tuple(name for name in _IGNORED if name in header),
        signing_input=signing_input,
        signature=signature,
    )


def _moment(seconds: object) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(cast("float", seconds), UTC)
