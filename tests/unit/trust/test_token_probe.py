"""The probe: a token that the cluster signed is compared with the public keys."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mirror.model import Event, IssuerName, IssuerUrl, KeyRecord, Ledger, Level, Revocation, Status, trimmed
from mirror.trust.token_probe import ProbeResult, is_fresh, read_probe_token, verify_probe_token
from mirror.trust.tokens import Token, read_token
from support.situations import ISSUER
from support.tokens import captured, claims, mint, signer

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
FORMER = IssuerUrl(f"{ISSUER}/old")
NAME = IssuerName("syd-prod")


def believed(body: bytes, now: datetime = NOW) -> Token | Event:
    return read_probe_token(body, (ISSUER, FORMER), file="/run/token", now=now)


def judged(record: KeyRecord | None, *, kid: str | None = None, public: bool = False) -> ProbeResult:
    by = signer() if kid is None else signer().called(kid)
    token = read_token(mint(by, claims(0)))
    assert isinstance(token, Token)
    keys = (signer().key,) if public else (signer("P-256", 1).key,)
    return verify_probe_token(token, keys, name=NAME, ledger=Ledger(ISSUER, () if record is None else (record,)))


def test_fresh_token_of_the_issuer_is_a_probe() -> None:
    """A fresh token is a probe for any audience, also one of a former issuer."""
    assert isinstance(believed(mint(signer(), claims(NOW.timestamp(), aud="any-audience"))), Token)
    assert isinstance(believed(mint(signer(), claims(NOW.timestamp(), iss=FORMER))), Token)
    assert isinstance(believed(mint(signer(), claims(NOW.timestamp(), exp=None))), Token)


@pytest.mark.parametrize(
    ("body", "cause", "part"),
    [
        (b"", "token_empty", "The token is empty."),
        (b"garbage", "token_shape", "not three parts"),
        (mint(signer(), claims(0)), "expired", "It expired 20782 d 11 h ago"),
        (mint(signer(), claims(NOW.timestamp(), iss=ISSUER + "/")), "wrong_issuer", "only in the trailing slash"),
        (captured("06-issuer-https-default/token-cluster-aud"), "wrong_issuer", "they differ from"),
    ],
    ids=["empty", "garbage", "expired", "slash", "other-cluster"],
)
def test_unusable_token_is_a_warning(body: bytes, cause: str, part: str) -> None:
    """An unusable token proves nothing, so it is a warning with the file, the cause and the remedy."""
    found = believed(body)
    assert isinstance(found, Event)
    assert (found.name, found.level, found.fields["cause"]) == ("probe.unusable", Level.WARNING, cause)
    assert part in found.sentence
    assert "/run/token" in found.sentence


def test_public_signing_key_is_not_reported() -> None:
    """If the signing key is public, no pass reports an event."""
    assert judged(None, public=True) == ProbeResult()


@pytest.mark.parametrize("status", [None, Status.PUBLISHED, Status.RETIRING, Status.DROPPED])
def test_signing_key_that_is_not_public_is_a_failure(status: Status | None) -> None:
    """An error event with its cause and the kid, and a failure, because pods will lose their access."""
    since = NOW if status is Status.RETIRING else None
    record = None if status is None else trimmed(KeyRecord(signer().key, status, 1, NOW, missing_since=since))
    found = judged(record)
    assert [(e.name, e.level) for e in found.events] == [("signing_key.not_public", Level.ERROR)]
    assert found.events[0].fields == {"kid": signer().key.kid, "cause": "key_not_public"}
    assert [reason.code for reason in found.failures] == ["signing_key.not_public"]
    assert "pods will lose their access" in found.failures[0].sentence
    assert found.failures[0].remedy


def test_signing_key_that_is_held_is_no_failure_of_its_own() -> None:
    """The held key already sets exit status 3; the error describes the consequences."""
    found = judged(KeyRecord(signer().key, Status.HELD, 1, NOW, held_because="policy"))
    assert (len(found.events), found.failures) == (1, ())
    assert "held (policy)" in found.events[0].sentence


def test_signing_key_that_is_revoked_is_no_failure() -> None:
    """An operator revoked the key: it is reported until the cluster signs with another one."""
    found = judged(trimmed(KeyRecord(signer().key, Status.REVOKED, 1, NOW, revocation=Revocation(NOW, "stolen"))))
    assert (len(found.events), found.failures) == (1, ())


def test_kid_of_a_public_key_alone_proves_nothing() -> None:
    """The token's kid is that of a public key, but another key signed it: that is reported."""
    found = judged(None, kid=signer("P-256", 1).key.kid)
    assert [event.fields["cause"] for event in found.events] == ["bad_signature"]
    assert len(found.failures) == 1


@pytest.mark.parametrize(("hours", "fresh"), [(0, True), (25, True), (26, False)])
def test_token_past_its_renewal_shows_an_older_key(hours: int, fresh: bool) -> None:
    """A long-lived token, or one without iat, does not show which key signs now."""
    issued = int(NOW.timestamp()) - 3600 * hours
    token = read_token(mint(signer(), claims(issued, exp=4_000_000_000)))
    assert isinstance(token, Token)
    assert is_fresh(token, NOW) == fresh
    assert not is_fresh(replace(token, issued_at=None), NOW)
