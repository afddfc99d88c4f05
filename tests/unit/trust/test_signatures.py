"""Who signed a token: real tokens on real key sets, and every fate that a key can have."""

from dataclasses import replace
from datetime import UTC, datetime

import jwt
import pytest

from mirror.model import IssuerName, Key, KeyPolicy, KeyRecord, Ledger, Reason, Revocation, Status, Thumbprint, trimmed
from mirror.trust.jwks import KeySet, read_jwks
from mirror.trust.signatures import is_signed_by, recorded_signer, signing_key
from mirror.trust.tokens import Token, read_token
from support.captures import capture
from support.keys import RSA_KEYS
from support.situations import ISSUER
from support.tokens import captured, claims, mint, signer

NAME = IssuerName("syd-prod")
AT = datetime(2026, 11, 23, tzinfo=UTC)


def keys_of(case: str) -> tuple[Key, ...]:
    found = read_jwks(capture(f"{case}jwks").body(), policy=KeyPolicy())
    assert isinstance(found, KeySet)
    return found.keys


def token_of(body: bytes) -> Token:
    token = read_token(body)
    assert isinstance(token, Token)
    return token


CASES = {
    "01-rsa1/sa-token-cluster-aud": "01-rsa1/anonymous-bound-",
    "02-rsa1-ec2-overlap/token-cluster-aud": "02-rsa1-ec2-overlap/",
    "03-ec2-signs-rsa1-kept/token-default-aud": "03-ec2-signs-rsa1-kept/",
    "04-rsa1-ec2-rsa3/token-cluster-aud": "04-rsa1-ec2-rsa3/",
    "04b-rotated-away-rsa3-only/token-cluster-aud": "04b-rotated-away-rsa3-only/",
    "04d-all-algs/token-cluster-aud": "04d-all-algs/",
}


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)
def test_captured_token_is_verified_by_the_key_that_it_names(name: str, case: str) -> None:
    """RSA, P-256 and P-521: exactly one of the apiserver's own keys made it."""
    token, keys = token_of(captured(name)), keys_of(case)
    found = signing_key(token, keys, name=NAME, ledger=None)
    assert not isinstance(found, Reason)
    assert found.kid == token.kid
    assert [key for key in keys if is_signed_by(token, key)] == [found]


@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-384", "P-521"])
def test_minted_token_is_verified(kind: str) -> None:
    """Each key type with its own algorithm; another key of the type did not make it."""
    by, other = signer(kind), signer(kind, 1) if kind != "RSA" else None
    token = token_of(mint(by, claims(0)))
    assert is_signed_by(token, by.key)
    assert other is None or not is_signed_by(token, other.key)
    assert not any(is_signed_by(token, key) for key in RSA_KEYS[:2])


@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-384", "P-521"])
def test_independent_library_agrees(kind: str) -> None:
    """PyJWT takes what we take, and refuses what we refuse, by the JWK that we publish."""
    by = signer(kind)
    body = mint(by, claims(0))
    touched = body[:-8] + (b"A" if body[-8:-7] != b"A" else b"B") + body[-7:]
    for each in (body, touched):
        try:
            jwt.decode(
                each, jwt.PyJWK(by.key.members()), [by.key.alg], options={"verify_exp": False, "verify_aud": False}
            )
            accepted = True
        except jwt.InvalidSignatureError:
            accepted = False
        assert accepted == is_signed_by(token_of(each), by.key) == (each == body)


def test_second_key_of_one_kid_is_tried_too() -> None:
    """An external signer may name two keys alike (fact 7)."""
    by, other = signer().called("same"), signer("P-256", 1).called("same")
    assert signing_key(token_of(mint(by, claims(0))), (other.key, by.key), name=NAME, ledger=None) == by.key


def test_unknown_kid_names_the_public_ones() -> None:
    """People compare kids: those that are public are told, and where to look."""
    token, keys = token_of(captured("04b-rotated-away-rsa3-only/token-cluster-aud")), keys_of("02-rsa1-ec2-overlap/")
    found = signing_key(token, keys, name=NAME, ledger=None)
    assert isinstance(found, Reason)
    assert found.code == "key_not_public"
    assert all(f'"{key.kid}"' in found.sentence for key in keys)
    assert "--only syd-prod" in found.remedy


def test_many_public_kids_are_counted() -> None:
    """Ten are named, the others are a number."""
    keys = tuple(replace(RSA_KEYS[0], kid=f"k{number}") for number in range(13))  # type: ignore[arg-type]  # a kid
    found = signing_key(token_of(mint(signer(), claims(0))), keys, name=NAME, ledger=None)
    assert isinstance(found, Reason)
    assert '"k9", and 3 more' in found.sentence


FATES = {
    Status.HELD: (
        KeyRecord(signer().key, Status.HELD, 1, AT, held_because="policy"),
        "held (policy)",
        "oidc-mirror approve",
    ),
    Status.DROPPED: (
        trimmed(KeyRecord(signer().key, Status.DROPPED, 3, AT)),
        "is named by the token and is not public: it was dropped",
        "--service-account-key-file",
    ),
    Status.REVOKED: (
        trimmed(KeyRecord(signer().key, Status.REVOKED, 2, AT, revocation=Revocation(AT, "stolen"))),
        "revoked",
        "new signing key",
    ),
    Status.PUBLISHED: (KeyRecord(signer().key, Status.PUBLISHED, 1, AT), "does not have it (yet)", "oidc-mirror wait"),
    Status.RETIRING: (
        KeyRecord(signer().key, Status.RETIRING, 2, AT, missing_since=AT),
        "not have it",
        "status syd-prod",
    ),
}


@pytest.mark.parametrize(("record", "fate", "remedy"), FATES.values(), ids=FATES)
def test_known_key_that_is_not_public_is_told_with_its_fate(record: KeyRecord, fate: str, remedy: str) -> None:
    """Held, dropped, revoked or not there yet: each with the way out, and the thumbprint in the command."""
    token, ledger = token_of(mint(signer(), claims(0))), Ledger(ISSUER, (record,))
    found = signing_key(token, (RSA_KEYS[0],), name=NAME, ledger=ledger)
    assert isinstance(found, Reason)
    assert (found.code, fate in found.sentence, remedy in found.remedy) == ("key_not_public", True, True)
    assert record.key.thumbprint in found.sentence
    assert recorded_signer(token, ledger) == record


def test_odd_names_are_told_as_they_are() -> None:
    """A kid with braces is a text like any other, and a thumbprint that begins with a hyphen is no option."""
    by = signer().called("{name} {nobody}")
    record = KeyRecord(replace(by.key, thumbprint=Thumbprint("-x")), Status.HELD, 1, AT, held_because="policy")
    found = signing_key(token_of(mint(by, claims(0))), (), name=NAME, ledger=Ledger(ISSUER, (record,)))
    assert isinstance(found, Reason)
    assert '(kid "{name} {nobody}")' in found.sentence
    assert found.remedy.endswith("oidc-mirror approve syd-prod -- -x")


def test_held_key_whose_kid_is_taken_is_found_by_its_signature() -> None:
    """The public key of the kid is another one: what is held is told, not a wrong signature."""
    by, taken = signer().called("same"), signer("P-256", 1).called("same")
    record = KeyRecord(by.key, Status.HELD, 1, AT, held_because="kid_taken")
    token = token_of(mint(by, claims(0)))
    found = signing_key(token, (taken.key,), name=NAME, ledger=Ledger(ISSUER, (record,)))
    assert isinstance(found, Reason)
    assert (found.code, "held (kid_taken)" in found.sentence) == ("key_not_public", True)


def test_key_without_material_is_no_excuse_for_a_wrong_signature() -> None:
    """The kid is that of a public key: whether the dropped one of the same kid signed, nobody can tell."""
    by, taken = signer().called("same"), signer("P-256", 1).called("same")
    record = trimmed(KeyRecord(by.key, Status.DROPPED, 3, AT))
    token = token_of(mint(by, claims(0)))
    found = signing_key(token, (taken.key,), name=NAME, ledger=Ledger(ISSUER, (record,)))
    assert isinstance(found, Reason)
    assert found.code == "bad_signature"


def test_signer_is_preferred_to_a_key_that_is_only_named() -> None:
    """Of two records of one kid the one whose key made the signature is meant."""
    by, gone = signer().called("same"), signer("P-256", 1).called("same")
    held = KeyRecord(by.key, Status.HELD, 1, AT, held_because="kid_taken")
    ledger = Ledger(ISSUER, (trimmed(KeyRecord(gone.key, Status.DROPPED, 3, AT)), held))
    assert recorded_signer(token_of(mint(by, claims(0))), ledger) == held


def test_record_of_the_kid_that_did_not_sign_is_no_signer() -> None:
    """A kid alone proves nothing where the material is known."""
    record = KeyRecord(signer("P-256", 1).called(signer().key.kid).key, Status.HELD, 1, AT)
    assert recorded_signer(token_of(mint(signer(), claims(0))), Ledger(ISSUER, (record,))) is None
