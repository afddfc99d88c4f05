"""ServiceAccount tokens: parse one, check its claims, verify its signature.

A parsed token is not verified yet: its signature and its claims are checked separately. A reason never
repeats the token.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from mirror.addresses.issuer_urls import describe_difference
from mirror.model import IssuerName, IssuerUrl, Key, KeyName, KeyRecord, Kid, Ledger, Reason, Status, key_name
from mirror.text import in_words, moment
from mirror.trust.jwks import MAX_KID_CHARACTERS, is_printable_text, public_key
from mirror.trust.parsing import Rejected, decode, describe_json, quote, read_object, reject, shell_argument

MAX_TOKEN_BYTES = 20_000
"""The longest token that STS accepts (API reference of AssumeRoleWithWebIdentity, WebIdentityToken)."""
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""The algorithms that at least one relying party accepts (facts.md, table "Relying parties")."""
LATEST_SECONDS = 253_402_300_799
"""The last second of the year 9999, the last that a datetime can hold."""

_IGNORED = ("jwk", "jku", "x5u", "x5c")
_FRESH = "Take a fresh token: `kubectl create token NAME --audience AUDIENCE`, or the pod's own projected file."
_SIGNER = "Only RSA and EC keys sign ServiceAccount tokens for clouds: find out who made this token."


@dataclass(frozen=True, slots=True)
class Token:
    """A well-formed token (RFC 7519), not yet verified. Dates are aware, UTC.

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


def read_token(body: bytes) -> Token | Rejected:
    """Read a JWS in compact form (RFC 7515, section 7.1) whose payload is a set of claims (RFC 7519, section 4).

    Args:
        body: the token; one line break at its end is accepted.

    Returns:
        The token, or all reasons: `token_empty`, `token_too_large`, `token_shape`, `token_encoding`, the codes of
        `read_object`, `token_crit`, `token_alg_none`, `token_alg_symmetric`, `token_alg_unknown`, `token_no_kid` and
        `token_claim`.
    """
    text = body.removesuffix(b"\n").removesuffix(b"\r")
    flaw = _flaw(text)
    if flaw is not None:
        return Rejected((flaw,))
    header_text, claims_text, signature_text = text.split(b".")
    header, claims = _object(header_text, "header"), _object(claims_text, "claims")
    signature = decode(signature_text.decode("ascii"))
    reasons = header if isinstance(header, tuple) else _header_reasons(header)
    reasons += claims if isinstance(claims, tuple) else _claim_reasons(claims)
    if signature is None:
        reasons += (_encoding("signature"),)
    if reasons or isinstance(header, tuple) or isinstance(claims, tuple) or signature is None:
        return reject(reasons)
    return _built(header, claims, text.rpartition(b".")[0], signature)


def leading_token(body: bytes) -> bytes:
    """Give the part of `body` before the first white space: the token, if a file has more text after it."""
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
    """Report white space and other characters that no token can have, without showing the text."""
    first = leading_token(text)
    after = text[text.index(first) + len(first) :] if first else b""
    if first.count(b".") == 2 and after.strip():  # noqa: PLR2004 - RFC 7515, section 7.1
        line = text[: len(text) - len(after.lstrip())].count(b"\n") + 1
        sentence = (
            f"After the token there is more text (line {line}), such as a log line "
            "or a second token. A program that reads the"
            " file sends all of it."
        )
        return Reason("token_shape", sentence, "Write only the token into the file.", "token")
    sentence = "The token holds spaces, line breaks or other characters that no token has (RFC 7515, section 7.1)."
    return Reason("token_shape", sentence, _FRESH, "token")


def _is_encrypted(text: bytes) -> bool:
    """Return whether the first part is the header of a JWE, which names its encryption (RFC 7516, section 4.1.2)."""
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
        sentence = "The token's header has the member crit: it requires an extension that this program does not know."
        reasons.append(
            Reason("token_crit", f"{sentence[:-1]} (RFC 7515, section 4.1.11).", _SIGNER, "token header.crit")
        )
    if not is_printable_text(header.get("kid"), MAX_KID_CHARACTERS):
        sentence = (
            "The token's header names no key: its kid is not 1 to 1024 printable characters (RFC 7515, section 4.1.4)."
        )
        reasons.append(Reason("token_no_kid", sentence, _SIGNER, "token header.kid"))
    return tuple(reason for reason in reasons if reason is not None)


def _alg_reason(alg: object) -> Reason | None:
    """Why the algorithm is rejected; this check runs before any key is used (RFC 8725, section 3.1)."""
    if alg in ALGORITHMS:
        return None
    word = alg.lower() if isinstance(alg, str) else ""
    code, what = "token_alg_unknown", f"{describe_json(alg)}, which no relying party accepts for ServiceAccount tokens"
    if word == "none":
        code, what = "token_alg_none", "none: the token is not signed"
    elif word.startswith("hs"):
        code, what = (
            "token_alg_symmetric",
            f"{quote(word.upper())}: a shared secret; who verifies it could have made it",
        )
    return Reason(code, f"The token's alg is {what} (RFC 8725, section 3.1).", _SIGNER, "token header.alg")


# ------------------------------------------------------------------------------------------------- claims


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_audience(value: object) -> bool:
    return _is_text(value) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))


def _is_moment(value: object) -> bool:
    # In Python a bool is an int, but it is never a valid time.
    return type(value) in (int, float) and 0 <= cast("float", value) <= LATEST_SECONDS


_CLAIMS: tuple[tuple[str, bool, Callable[[object], bool], str], ...] = (
    ("iss", True, _is_text, "a text"),
    ("sub", True, _is_text, "a text"),
    ("aud", False, _is_audience, "a text or an array of texts"),
    ("exp", False, _is_moment, "a number of seconds since 1970 of the years up to 9999"),
    ("nbf", False, _is_moment, "a number of seconds since 1970 of the years up to 9999"),
    ("iat", False, _is_moment, "a number of seconds since 1970 of the years up to 9999"),
)
"""name, whether it is required, its check, and the check in words (RFC 7519, section 4.1)."""


def _claim_reasons(claims: Mapping[str, object]) -> tuple[Reason, ...]:
    return tuple(
        Reason(
            "token_claim",
            f"The claim {name} is {describe_json(claims.get(name))}, not {what} (RFC 7519, section 4.1).",
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


class TokenCheckStatus(StrEnum):
    """The result of a check. `NOTED` is information, not a failure."""

    PASSED = "passed"
    NOTED = "noted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """One check: `subject` names what was checked; `code` is stable, and empty when the check passed."""

    subject: str
    finding: TokenCheckStatus
    sentence: str
    code: str = ""
    remedy: str = ""


def check_passed(subject: str, sentence: str) -> TokenCheck:
    """The check passed."""
    return TokenCheck(subject, TokenCheckStatus.PASSED, sentence)


def check_warning(subject: str, code: str, sentence: str, remedy: str = "") -> TokenCheck:
    """Information, not a failure."""
    return TokenCheck(subject, TokenCheckStatus.NOTED, sentence, code, remedy)


def check_failed(subject: str, reason: Reason) -> TokenCheck:
    """The check failed, with the reason."""
    return TokenCheck(subject, TokenCheckStatus.FAILED, reason.sentence, reason.code, reason.remedy)


_READ_AGAIN = "Take a fresh token; an application must read its token file again, because kubelet renews it."
_SUBJECT = re.compile(
    r"system:serviceaccount:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
)
_SHOWN_AUDIENCES = 5


def check_claims(
    token: Token, issuer: IssuerUrl, audiences: tuple[str, ...], now: datetime, usual: tuple[str, ...] = ()
) -> tuple[TokenCheck, ...]:
    """Check every claim that relying parties use, in the order in which people read them.

    Args:
        token: a well-formed token.
        issuer: the issuer that it should be of, compared code point by code point (facts.md#30).
        audiences: those that the clouds are configured to accept; none when they are not configured.
        now: aware, UTC.
        usual: the audiences that clouds without a configured audience accept.
    """
    checks = (
        _issuer(token, issuer),
        _audience(token, audiences, usual),
        _expiry(token, now),
        _beginning(token, now),
        _subject(token),
    )
    return tuple(check for check in checks if check is not None)


def expired_since(token: Token, now: datetime) -> timedelta | None:
    """For how long the token has been expired; None when it is not (RFC 7519, section 4.1.4)."""
    if token.expires_at is None or now < token.expires_at:
        return None
    return now - token.expires_at


def _issuer(token: Token, issuer: IssuerUrl) -> TokenCheck:
    if token.issuer == issuer:
        return check_passed("iss", f"{quote(issuer)}, to the letter")
    how = describe_difference(token.issuer, issuer)
    sentence = f"The token's iss is {quote(token.issuer)}, the issuer {quote(issuer)}; {how}."
    return check_failed(
        "iss",
        Reason(
            "wrong_issuer",
            sentence,
            "They are compared code point by code point (OpenID Connect Discovery 1.0, section 4.3).",
        ),
    )


def _audience(token: Token, audiences: tuple[str, ...], usual: tuple[str, ...]) -> TokenCheck:
    text = ", ".join(quote(each) for each in token.audiences[:_SHOWN_AUDIENCES])
    if len(token.audiences) > _SHOWN_AUDIENCES:
        text += f" and {len(token.audiences) - _SHOWN_AUDIENCES} more"
    if not token.audiences:
        sentence = "The token has no aud; every cloud wants one."
        return check_failed("aud", Reason("no_audience", sentence, "Use a projected token with an audience."))
    if not audiences:
        sentence = f"{text}; not compared, because no `audiences` are configured for this issuer"
        return check_warning("aud", "audiences_unknown", sentence, "Add the clouds' audiences to the issuer's entry.")
    common = [each for each in token.audiences if each in audiences]
    if common:
        return check_passed("aud", f"{text}; configured: {', '.join(map(quote, common[:_SHOWN_AUDIENCES]))}")
    if any(each in usual for each in token.audiences):
        return check_passed("aud", f"{text}; the usual audience of a cloud for which none is configured")
    wanted = ", ".join(map(quote, audiences[:_SHOWN_AUDIENCES]))
    sentence = f"The token is for {text}, and configured is {wanted}."
    remedy = "The pod's projected volume, the provider in the cloud and `audiences` must name one audience."
    return check_failed("aud", Reason("wrong_audience", sentence, remedy))


def _expiry(token: Token, now: datetime) -> TokenCheck:
    if token.expires_at is None:
        sentence = "The token has no exp: it would never expire, and no cloud accepts it."
        return check_failed("exp", Reason("no_expiry", sentence, "Use a projected token, not one of a Secret."))
    since = expired_since(token, now)
    if since is not None:
        sentence = f"The token expired {in_words(since)} ago, at {moment(token.expires_at)}."
        return check_failed("exp", Reason("expired", sentence, _READ_AGAIN))
    return check_passed("exp", f"expires in {in_words(token.expires_at - now)}, at {moment(token.expires_at)}")


def _beginning(token: Token, now: datetime) -> TokenCheck | None:
    """The claims nbf and iat: a time in the future is an error. They are reported only then, or with the age."""
    for name, code, at, what in (
        ("nbf", "not_yet_valid", token.not_before, "is not valid before"),
        ("iat", "issued_in_future", token.issued_at, "says that it was issued at"),
    ):
        if at is not None and at > now:
            sentence = f"The token {what} {moment(at)}, which is in {in_words(at - now)}."
            remedy = "Compare this machine's clock with those of the apiservers."
            return check_failed(name, Reason(code, sentence, remedy))
    if token.issued_at is None:
        return None
    return check_passed("iat", f"issued {in_words(now - token.issued_at)} ago, at {moment(token.issued_at)}")


def _subject(token: Token) -> TokenCheck:
    if _SUBJECT.fullmatch(token.subject):
        return check_passed("sub", quote(token.subject))
    sentence = f"{quote(token.subject)} is not system:serviceaccount:NAMESPACE:NAME"
    return check_warning(
        "sub", "foreign_subject", sentence, "Conditions on :sub that are written for pods do not fit it."
    )


_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_SHOWN_KIDS = 10


def is_signed_by(token: Token, key: Key) -> bool:
    """Return whether `key` made the token's signature (RFC 7518, sections 3.3 and 3.4).

    The token's alg must be the key's own; another alg of the same family is rejected too.
    """
    if token.alg != key.alg:
        return False
    try:
        _verify(token, key)
    except (InvalidSignature, ValueError):
        return False
    return True


def _verify(token: Token, key: Key) -> None:
    verifier, digest = public_key(key), _HASHES[key.alg[2:]]
    if isinstance(verifier, rsa.RSAPublicKey):
        verifier.verify(token.signature, token.signing_input, padding.PKCS1v15(), digest)
    else:
        size_bytes = (verifier.key_size + 7) // 8
        verifier.verify(_der(token.signature, size_bytes), token.signing_input, ec.ECDSA(digest))


def _der(signature: bytes, size_bytes: int) -> bytes:
    """Give R and S as the library expects them; the signature has both at the curve's full length, one after the other.

    Raises:
        ValueError: it has another length: it is truncated, or already in DER (RFC 7518, section 3.4).
    """
    if len(signature) != 2 * size_bytes:
        raise ValueError("not R and S of full length")
    return encode_dss_signature(int.from_bytes(signature[:size_bytes]), int.from_bytes(signature[size_bytes:]))


def signing_key(token: Token, public: Iterable[Key], *, name: IssuerName, ledger: Ledger | None) -> Key | Reason:
    """Give the public key that signed the token, or why none did.

    Args:
        token: a well-formed token.
        public: the keys of the public JWKS.
        name: the issuer's label, for commands.
        ledger: the known keys of the issuer, public or not; used only for the reason.

    Returns:
        The key, or `key_not_public` (the kid is not in the JWKS), `alg_mismatch`, or `bad_signature`.
    """
    keys = tuple(public)
    named = tuple(key for key in keys if key.kid == token.kid)
    found = next((key for key in named if is_signed_by(token, key)), None)
    if found is not None:
        return found
    record = recorded_signer(token, ledger)
    if record is not None and record.key not in keys and not (named and isinstance(record.key, KeyName)):
        return _not_public(record, name, keys)
    if not named:
        return _unknown(token, keys, name)
    if all(key.alg != token.alg for key in named):
        algorithms = ", ".join(sorted({key.alg for key in named}))
        sentence = f"The public key of kid {quote(token.kid)} signs with {algorithms}, and the token says {token.alg}."
        return Reason("alg_mismatch", sentence, "Only a forged token has another one: find out who made this token.")
    sentence = f"The public key of kid {quote(token.kid)} did not make this signature."
    remedy = "The token was changed or cut off, or another cluster's signer names its key alike: take a fresh one."
    return Reason("bad_signature", sentence, remedy)


def recorded_signer(token: Token, ledger: Ledger | None) -> KeyRecord | None:
    """Give the record of the key that signed the token, in any status; None when none is known.

    If the material is not kept (dropped and most revoked keys), the kid alone identifies it. No decision depends on it.
    """
    records = ledger.records if ledger is not None else ()
    named = [record for record in records if record.key.kid == token.kid]
    signed = (r for r in named if not isinstance(r.key, KeyName) and is_signed_by(token, r.key))
    return next(signed, None) or next((r for r in named if isinstance(r.key, KeyName)), None)


def _not_public(record: KeyRecord, name: IssuerName, keys: tuple[Key, ...]) -> Reason:
    what, remedy = _NOT_PUBLIC_BY_STATUS[record.status]
    words = {"name": name, "key": shell_argument(record.key.thumbprint), "because": record.held_because or "by policy"}
    did = "is named by the token" if isinstance(record.key, KeyName) else "signed it"
    sentence = f"Key {key_name(record.key)} {did} and is not public: "
    text = f"{sentence}{what.format_map(words)}; {_shown(keys)}."
    return Reason("key_not_public", text, remedy.format_map(words))


def _unknown(token: Token, keys: tuple[Key, ...], name: IssuerName) -> Reason:
    sentence = f"The token is signed by kid {quote(token.kid)}, which is not in the public JWKS; {_shown(keys)}."
    remedy = (
        f"Run `oidc-mirror run --dry-run --only {name}`: does an apiserver show this key? The public half of its"
        " signing key must stand in a --service-account-key-file too."
    )
    return Reason("key_not_public", sentence, remedy)


def _shown(keys: tuple[Key, ...]) -> str:
    return f"public is {', '.join(_kids(keys))}" if keys else "no key is public"


def _kids(keys: tuple[Key, ...]) -> Iterator[str]:
    yield from (quote(key.kid) for key in keys[:_SHOWN_KIDS])
    if len(keys) > _SHOWN_KIDS:
        yield f"and {len(keys) - _SHOWN_KIDS} more"


_WAIT = (
    "Wait for the next pass, and see `oidc-mirror status {name}`. "
    "`oidc-mirror wait {name} {key}` returns when it is safe to sign with the key."
)
_NOT_PUBLIC_BY_STATUS: dict[Status, tuple[str, str]] = {
    Status.HELD: ("it is held ({because})", "Check it, then: oidc-mirror approve {name} {key}"),
    Status.PUBLISHED: ("the mirror publishes it, but the public JWKS does not have it (yet)", _WAIT),
    Status.RETIRING: ("the mirror publishes it, but the public JWKS does not have it", _WAIT),
    Status.DROPPED: (
        "it was dropped, since no apiserver had shown it for `retain_removed`",
        "Take a token of the current signing key, or put this one's public half back into --service-account-key-file.",
    ),
    Status.REVOKED: (
        "it is revoked permanently",
        "Give the cluster a new signing key; every token of this one is refused on purpose.",
    ),
}
