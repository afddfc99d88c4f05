"""The public documents: the bytes of kube-apiserver."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given

from mirror.errors import UsageError
from mirror.model import (
    Documents,
    IssuerUrl,
    Key,
    KeyPolicy,
    KeyRecord,
    Ledger,
    Revocation,
    Status,
    key_id,
)
from mirror.trust.discovery import Discovery, read_discovery
from mirror.trust.documents import documents, render
from mirror.trust.jwks import KeySet, read_jwks
from support.captures import capture
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.strategies import issuers, key_sets

ISSUER = IssuerUrl("https://oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster/identifier")
OPAQUE = KeyPolicy(kid="opaque")
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def believed(body: bytes) -> tuple[Key, ...]:
    read = read_jwks(body, policy=OPAQUE)
    assert isinstance(read, KeySet)
    return read.keys


@pytest.mark.parametrize(
    ("discovery", "jwks"),
    [
        ("01-rsa1/anonymous-bound-discovery", "01-rsa1/anonymous-bound-jwks"),
        ("04b-rotated-away-rsa3-only/discovery", "04b-rotated-away-rsa3-only/jwks"),
    ],
)
def test_one_key_gives_the_apiservers_own_bytes(discovery: str, jwks: str) -> None:
    """For one key both documents are byte for byte what kube-apiserver sent (facts 2, 3)."""
    captured = Documents(capture(discovery).body(), capture(jwks).body())
    assert documents(ISSUER, believed(captured.jwks)) == captured


@pytest.mark.parametrize("case", ["02-rsa1-ec2-overlap", "04-rsa1-ec2-rsa3", "04d-all-algs"])
def test_several_keys_are_the_apiservers_sorted(case: str) -> None:
    """For several keys the JWKS is kube-apiserver's with the keys in our order, the discovery document the same."""
    shown = json.loads(capture(f"{case}/jwks").body())
    shown["keys"].sort(key=lambda key: key["kid"])
    built = documents(ISSUER, believed(capture(f"{case}/jwks").body()))
    assert built.jwks == json.dumps(shown, separators=(",", ":")).encode()
    assert built.discovery == capture(f"{case}/discovery").body()


def test_go_escapes_are_kept() -> None:
    """Text is escaped as Go's json.Marshal does: HTML characters and line separators, nothing else."""
    key = with_kid(RSA_KEYS[0], 'a<b>&"c\\ é日')
    assert b'"kid":"a\\u003cb\\u003e\\u0026\\"c\\\\ \xc3\xa9\xe6\x97\xa5"' in documents(ISSUER, (key,)).jwks
    built = documents(ISSUER, (key,), {"x": "\u2028\u2029\u007f"})
    assert built.discovery.endswith(b',"x":"\\u2028\\u2029\x7f"}')


def test_extra_members_follow_sorted() -> None:
    """Members of `discovery_extra` come after the five, sorted at every level."""
    extra = {"z": 1, "authorization_endpoint": "https://x", "claims": {"b": 1, "a": [2, 1]}}
    plain, built = documents(ISSUER, (RSA_KEYS[0],)), documents(ISSUER, (RSA_KEYS[0],), extra)
    tail = b',"authorization_endpoint":"https://x","claims":{"a":[2,1],"b":1},"z":1}'
    assert built.discovery == plain.discovery[:-1] + tail
    assert built.jwks == plain.jwks


def test_extra_members_cannot_replace_ours() -> None:
    """The configuration cannot make the documents say what the mirror does not believe."""
    with pytest.raises(UsageError, match="cannot set issuer, jwks_uri"):
        documents(ISSUER, (RSA_KEYS[0],), {"jwks_uri": "https://evil", "issuer": "x", "a": 1})


@pytest.mark.parametrize("value", [float("nan"), "\ud800"])
def test_extra_members_that_json_cannot_say_are_refused(value: object) -> None:
    """No document is built that strict readers refuse."""
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        documents(ISSUER, (RSA_KEYS[0],), {"a": value})


def record(key: Key, status: Status, **fields: object) -> KeyRecord:
    return replace(KeyRecord(key, status, 1, NOW), **fields)  # type: ignore[arg-type]  # fields of KeyRecord by name


def test_ledger_renders_its_public_keys() -> None:
    """Published and retiring keys are public; held, dropped and revoked ones never."""
    held = record(RSA_KEYS[0], Status.HELD, held_because="policy")
    dropped = record(RSA_KEYS[1], Status.DROPPED)
    revoked = record(RSA_KEYS[2], Status.REVOKED, revocation=Revocation(NOW, "stolen"))
    public = record(EC_KEYS[0], Status.PUBLISHED), record(EC_KEYS[1], Status.RETIRING, missing_since=NOW)
    built = render(Ledger(ISSUER, (held, dropped, revoked, *public)), {"a": 1})
    assert built == documents(ISSUER, (EC_KEYS[0], EC_KEYS[1]), {"a": 1})


def test_ledger_without_public_keys_renders_nothing() -> None:
    """Nothing goes public for an issuer whose keys are all held or revoked."""
    held = record(RSA_KEYS[0], Status.HELD, held_because="policy")
    revoked = record(RSA_KEYS[1], Status.REVOKED, revocation=Revocation(NOW, "stolen"))
    assert render(Ledger(ISSUER)) is None
    assert render(Ledger(ISSUER, (held, revoked))) is None


def test_last_revocation_renders_the_empty_set() -> None:
    """The empty set is public after `revoke --last`, and only then."""
    revoked = record(RSA_KEYS[0], Status.REVOKED, revocation=Revocation(NOW, "stolen", last=True))
    built = render(Ledger(ISSUER, (revoked,)))
    assert built is not None
    assert built.jwks == b'{"keys":[]}'


@given(issuers(), key_sets(max_size=4))
def test_built_documents_are_believed_and_built_again(issuer: IssuerUrl, keys: tuple[Key, ...]) -> None:
    """What the mirror publishes passes its own checks and gives the same bytes again, whatever the order."""
    built = documents(issuer, tuple(reversed(keys)))
    uri = json.loads(built.discovery)["jwks_uri"]
    assert read_discovery(built.discovery, issuer=issuer, jwks_uri=uri) == Discovery(issuer)
    assert believed(built.jwks) == tuple(sorted(keys, key=key_id))
    assert documents(issuer, believed(built.jwks)) == built
