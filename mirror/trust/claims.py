"""What a token claims, against what it should: iss, aud, exp, nbf, iat and sub, each said in words."""

import re
from datetime import datetime, timedelta

from mirror.addresses.issuer_urls import difference
from mirror.model import IssuerUrl, Reason
from mirror.trust.checks import Check, failed, noted, passed
from mirror.trust.tokens import Token
from mirror.trust.words import quoted

_FRESH = "Take a fresh token; an application must read its token file anew, because kubelet renews it."
_SUBJECT = re.compile(
    r"system:serviceaccount:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
)
_SHOWN_AUDIENCES = 5


def check_claims(
    token: Token, issuer: IssuerUrl, audiences: tuple[str, ...], now: datetime, usual: tuple[str, ...] = ()
) -> tuple[Check, ...]:
    """Check every claim that relying parties look at, in the order in which people read them.

    Args:
        token: a well-formed token.
        issuer: the issuer that it should be of, compared code point by code point (fact 30).
        audiences: those that the clouds are told about; none when they are not configured.
        now: aware, UTC.
        usual: what clouds accept for which no audience is configured.
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


def _issuer(token: Token, issuer: IssuerUrl) -> Check:
    if token.issuer == issuer:
        return passed("iss", f"{quoted(issuer)}, to the letter")
    how = difference(token.issuer, issuer)
    sentence = f"The token's iss is {quoted(token.issuer)}, the issuer {quoted(issuer)}; {how}."
    return failed("iss", Reason("wrong_issuer", sentence, "They are compared code point by code point (fact 30)."))


def _audience(token: Token, audiences: tuple[str, ...], usual: tuple[str, ...]) -> Check:
    told = ", ".join(quoted(each) for each in token.audiences[:_SHOWN_AUDIENCES])
    if len(token.audiences) > _SHOWN_AUDIENCES:
        told += f" and {len(token.audiences) - _SHOWN_AUDIENCES} more"
    if not token.audiences:
        sentence = "The token has no aud; every cloud wants one."
        return failed("aud", Reason("no_audience", sentence, "Use a projected token with an audience (fact 21)."))
    if not audiences:
        sentence = f"{told}; not compared, because no `audiences` are configured for this issuer"
        return noted("aud", "audiences_unknown", sentence, "Add the clouds' audiences to the issuer's entry.")
    common = [each for each in token.audiences if each in audiences]
    if common:
        return passed("aud", f"{told}; configured: {', '.join(map(quoted, common[:_SHOWN_AUDIENCES]))}")
    if any(each in usual for each in token.audiences):
        return passed("aud", f"{told}; the usual audience of a cloud for which none is configured")
    wanted = ", ".join(map(quoted, audiences[:_SHOWN_AUDIENCES]))
    sentence = f"The token is for {told}, and configured is {wanted}."
    remedy = "The pod's projected volume, the provider in the cloud and `audiences` must name one audience."
    return failed("aud", Reason("wrong_audience", sentence, remedy))


def _expiry(token: Token, now: datetime) -> Check:
    if token.expires_at is None:
        sentence = "The token has no exp: it would live for ever, and no cloud takes it."
        return failed("exp", Reason("no_expiry", sentence, "Use a projected token, not one of a Secret."))
    since = expired_since(token, now)
    if since is not None:
        sentence = f"The token expired {in_words(since)} ago, at {moment(token.expires_at)}."
        return failed("exp", Reason("expired", sentence, _FRESH))
    return passed("exp", f"expires in {in_words(token.expires_at - now)}, at {moment(token.expires_at)}")


def _beginning(token: Token, now: datetime) -> Check | None:
    """The claims nbf and iat: what lies in the future is wrong; they are told only then, or with the token's age."""
    for name, code, at, what in (
        ("nbf", "not_yet_valid", token.not_before, "is not valid before"),
        ("iat", "issued_in_future", token.issued_at, "says that it was issued at"),
    ):
        if at is not None and at > now:
            sentence = f"The token {what} {moment(at)}, which is in {in_words(at - now)}."
            remedy = "Compare this machine's clock with those of the apiservers."
            return failed(name, Reason(code, sentence, remedy))
    if token.issued_at is None:
        return None
    return passed("iat", f"issued {in_words(now - token.issued_at)} ago, at {moment(token.issued_at)}")


def _subject(token: Token) -> Check:
    if _SUBJECT.fullmatch(token.subject):
        return passed("sub", quoted(token.subject))
    sentence = f"{quoted(token.subject)} is not system:serviceaccount:NAMESPACE:NAME"
    return noted("sub", "foreign_subject", sentence, "Conditions on :sub that are written for pods do not fit it.")


def moment(at: datetime) -> str:
    """A date for people: `2026-11-23 08:00:00Z`."""
    return f"{at:%Y-%m-%d %H:%M:%SZ}"


def in_words(span: timedelta) -> str:
    """A span for people, in its two largest units: `3 h 12 min`, `2 d 5 h`, `40 s`."""
    seconds = int(span.total_seconds())
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    first = next((at for at, (_, size) in enumerate(units) if seconds >= size), len(units) - 1)
    parts: list[str] = []
    for unit, size in units[first : first + 2]:
        parts += [f"{seconds // size} {unit}"] if seconds >= size or not parts else []
        seconds %= size
    return " ".join(parts)
