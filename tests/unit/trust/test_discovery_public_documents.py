"""The public documents as a relying party reads them: which are usable, and every reason for rejecting others."""

import json

import pytest

from mirror.addresses import jwks_uri
from mirror.model import Note
from mirror.trust.discovery import (
    PublicDiscovery,
    PublicKeys,
    caching_note,
    documents,
    media_type_note,
    read_public_discovery,
    read_public_jwks,
)
from mirror.trust.parsing import Rejected
from support.captures import capture
from support.keys import RSA_KEYS, jwks_body
from support.situations import ISSUER
from support.tokens import signer

OURS = documents(ISSUER, (RSA_KEYS[0], signer().key))
GOOD = json.loads(OURS.discovery)


def changed(**members: object) -> bytes:
    return json.dumps({k: v for k, v in (GOOD | members).items() if v is not None}).encode()


def test_our_own_documents_are_read() -> None:
    """The mirror's own documents are accepted without a note."""
    assert read_public_discovery(OURS.discovery, ISSUER) == PublicDiscovery(jwks_uri(ISSUER), ("ES256", "RS256"))
    found = read_public_jwks(OURS.jwks, already_checked=frozenset())
    assert isinstance(found, PublicKeys)
    assert (set(found.keys), found.notes) == ({RSA_KEYS[0], signer().key}, ())


def test_captured_document_is_read() -> None:
    """The captured bytes of an apiserver are accepted."""
    body = capture("02-rsa1-ec2-overlap/discovery").body()
    assert isinstance(read_public_discovery(body, ISSUER), PublicDiscovery)


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"", ["not_json"]),
        (b"<html>", ["not_json"]),
        (b"[]", ["not_object"]),
        (b'{"issuer":"a","issuer":"b"}', ["duplicate_member"]),
        (b"{}", ["wrong_issuer", "wrong_jwks_uri"] + ["missing_member"] * 3),
        (changed(issuer=ISSUER + "/"), ["wrong_issuer"]),
        (changed(issuer=7), ["wrong_issuer"]),
        (changed(jwks_uri="http://example.com/jwks"), ["wrong_jwks_uri"]),
        (changed(jwks_uri="/openid/v1/jwks"), ["wrong_jwks_uri"]),
        (changed(jwks_uri="https://a b"), ["wrong_jwks_uri"]),
        (changed(jwks_uri="https://example.com/\n"), ["wrong_jwks_uri"]),
        (changed(jwks_uri="https://example.com/" + "x" * 2048), ["wrong_jwks_uri"]),
        (changed(jwks_uri=None), ["wrong_jwks_uri"]),
        (changed(response_types_supported=None), ["missing_member"]),
        (changed(subject_types_supported=[]), ["missing_member"]),
        (changed(id_token_signing_alg_values_supported="RS256"), ["missing_member"]),
        (changed(id_token_signing_alg_values_supported=["RS256", 1]), ["missing_member"]),
    ],
)
def test_unusable_discovery_is_refused(body: bytes, codes: list[str]) -> None:
    """All reasons at once, each with a remedy."""
    found = read_public_discovery(body, ISSUER)
    assert isinstance(found, Rejected)
    assert [reason.code for reason in found.reasons] == codes
    assert all(reason.remedy for reason in found.reasons)


def test_slash_is_named() -> None:
    """The message points out a slash at the end, which is easy to overlook."""
    found = read_public_discovery(changed(issuer=ISSUER + "/"), ISSUER)
    assert isinstance(found, Rejected)
    assert "only in the trailing slash" in found.reasons[0].sentence


def test_foreign_jwks_uri_is_a_note() -> None:
    """Relying parties follow a `jwks_uri` on another host, so it is only a note."""
    found = read_public_discovery(changed(jwks_uri="https://keys.example.com/jwks"), ISSUER)
    assert isinstance(found, PublicDiscovery)
    assert (found.jwks_uri, [note.code for note in found.notes]) == (
        "https://keys.example.com/jwks",
        ["foreign_jwks_uri"],
    )


def test_key_of_unknown_type_is_a_note() -> None:
    """Some relying parties reject the whole set for such a key (facts.md#31)."""
    keys = json.loads(jwks_body(RSA_KEYS[0]))["keys"]
    found = read_public_jwks(
        json.dumps({"keys": [*keys, {"kty": "AKP", "kid": "x"}]}).encode(), already_checked=frozenset()
    )
    assert isinstance(found, PublicKeys)
    assert [note.code for note in found.notes] == ["unknown_key_skipped"]
    assert "left out" not in found.notes[0].sentence


@pytest.mark.parametrize("body", [b"{}", b'{"keys":[]}', b'{"keys":[{"kty":"RSA"}]}', b"no"])
def test_unusable_jwks_is_refused(body: bytes) -> None:
    """The rules are those for an apiserver's answer."""
    assert isinstance(read_public_jwks(body, already_checked=frozenset()), Rejected)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("no-cache", "no-cache"),
        ("public, max-age=0", "max-age=0"),
        ("Private , MAX-AGE = 60", "private"),
        ("no-store, no-cache", "no-cache, no-store"),
    ],
)
def test_header_that_forbids_caching_is_a_note(header: str, part: str) -> None:
    """Many logins at once make AWS fetch too often (facts.md#27)."""
    note = caching_note(header)
    assert isinstance(note, Note)
    assert f"says {part}:" in note.sentence


@pytest.mark.parametrize("header", ["", "public, max-age=300", "max-age=60"])
def test_header_that_allows_caching_is_none(header: str) -> None:
    """A header that allows caching causes no note."""
    assert caching_note(header) is None


@pytest.mark.parametrize(
    ("content_type", "is_reported"),
    [
        ("application/json", False),
        ("Application/JSON; charset=utf-8", False),
        ("binary/octet-stream", True),
        ("", True),
    ],
)
def test_other_content_type_is_a_note(content_type: str, is_reported: bool) -> None:
    """Parameters and case are ignored; the default content type of S3 causes a note (facts.md#35)."""
    assert (media_type_note(content_type, ("application/json",)) is not None) == is_reported


def test_key_with_key_ops_is_reported() -> None:
    """STS rejects key_ops, so its presence is recorded for the answer about AWS; our own documents never have it."""
    own = documents(ISSUER, (RSA_KEYS[0],)).jwks
    read = read_public_jwks(own, already_checked=frozenset())
    assert isinstance(read, PublicKeys)
    assert not read.with_key_ops
    foreign = json.dumps({"keys": [RSA_KEYS[0].members() | {"key_ops": ["verify"]}]}).encode()
    read = read_public_jwks(foreign, already_checked=frozenset())
    assert isinstance(read, PublicKeys)
    assert read.with_key_ops


def test_copy_with_an_empty_kid_is_a_note() -> None:
    """The JWKS in AWS's own guide has each key twice, once with an empty kid, and AWS accepts it."""
    entry = json.loads(OURS.jwks)["keys"][0]
    found = read_public_jwks(json.dumps({"keys": [entry, {**entry, "kid": ""}]}).encode(), already_checked=frozenset())
    assert isinstance(found, PublicKeys)
    assert [str(key.kid) for key in found.keys] == [entry["kid"]]
    assert [note.code for note in found.notes] == ["empty_kid"]


@pytest.mark.parametrize("body", [b"[]", b'{"keys": 1}', b"{", b'{"keys": [1, {"kid": ""}]}'])
def test_key_with_an_empty_kid_alone_is_refused(body: bytes) -> None:
    """No token can name a key with an empty kid, so it is rejected; so is a JWKS that is not a key set."""
    assert isinstance(read_public_jwks(body, already_checked=frozenset()), Rejected)
