"""Reading tokens: captured tokens of a real kube-apiserver are parsed correctly.

Checks of claims: which are right, which are wrong, and since when.

The signing key of a token: captured tokens with captured key sets, and every status of a key.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from mirror.model import IssuerName, Key, KeyPolicy, KeyRecord, Ledger, Reason, Revocation, Status, Thumbprint, trimmed
from mirror.trust.jwks import KeySet, read_jwks
from mirror.trust.parsing import Rejected
from mirror.trust.tokens import (
    MAX_TOKEN_BYTES,
    Token,
    TokenCheck,
    TokenCheckStatus,
    check_claims,
    expired_since,
    is_signed_by,
    leading_token,
    read_token,
    recorded_signer,
    signing_key,
)
from support.captures import FOLDER, capture
from support.keys import RSA_KEYS
from support.situations import ISSUER
from support.tokens import AUDIENCE, captured, captured_names, claims, compact, mint, signer


@pytest.mark.parametrize("name", captured_names())
def test_captured_token_is_read_as_the_apiserver_meant_it(name: str) -> None:
    """Every claim equals that in the decoded file beside the token, if there is one; times become datetimes."""
    token = read_token(captured(name))
    assert isinstance(token, Token)
    assert token.subject.startswith("system:serviceaccount:")
    decoded = FOLDER / f"{name}.json"
    if decoded.exists():
        meant = json.loads(decoded.read_text())["claims"]
        assert token.claims == meant
        assert token.expires_at == datetime.fromtimestamp(meant["exp"], UTC)


def test_token_without_times_and_audience_is_read() -> None:
    """A Secret's token has neither exp nor aud. It is read; other checks judge it."""
    token = read_token(mint(signer(), claims(0, exp=None, nbf=None, iat=None, aud=None)))
    assert isinstance(token, Token)
    assert (token.expires_at, token.not_before, token.issued_at, token.audiences) == (None, None, None, ())


def test_single_audience_may_be_a_text() -> None:
    """A string as `aud` is an array of one (RFC 7519, section 4.1.3)."""
    token = read_token(mint(signer(), claims(0, aud="one")))
    assert isinstance(token, Token)
    assert token.audiences == ("one",)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_line_break_at_the_end_is_let_pass(end: bytes) -> None:
    """Files may end with a line break; projected tokens do not."""
    assert isinstance(read_token(mint(signer(), claims(0)) + end), Token)


def test_fraction_of_a_second_is_kept() -> None:
    """A NumericDate may have a fraction (RFC 7519, section 2)."""
    token = read_token(mint(signer(), claims(0, exp=1.5)))
    assert isinstance(token, Token)
    assert token.expires_at == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)


def test_longest_token_is_read() -> None:
    """The limit is that of STS: one more byte is rejected."""
    short = mint(signer(), claims(0, x=""))
    missing = MAX_TOKEN_BYTES - len(short)
    long = mint(signer(), claims(0, x="x" * (missing * 3 // 4)))
    assert MAX_TOKEN_BYTES - 4 <= len(long) <= MAX_TOKEN_BYTES
    assert isinstance(read_token(long), Token)
    assert not isinstance(read_token(mint(signer(), claims(0, x="x" * (missing * 3 // 4 + 6)))), Token)


LOG = b"2026-11-28T14:30:00.123Z INFO mirror.pass took 1.5 s"


@pytest.mark.parametrize(
    ("after", "line"),
    [
        pytest.param(b"\n" + LOG, 2, id="log line"),
        pytest.param(b"\n\n" + LOG + b"\n", 3, id="empty line between"),
        pytest.param(b" " + LOG, 1, id="same line"),
        pytest.param(b"\nx" * 10_000, 2, id="many lines"),
    ],
)
def test_text_after_the_token_is_reported_as_such(after: bytes, line: int) -> None:
    """Text after the token is not mistaken for parts of an encrypted token, and is not repeated in the message."""
    good = mint(signer(), claims(0))
    found = read_token(good + after)
    assert isinstance(found, Rejected)
    (reason,) = found.reasons
    assert (reason.code, f"(line {line})" in reason.sentence) == ("token_shape", True)
    assert "JWE" not in reason.sentence
    assert "mirror.pass" not in reason.sentence + reason.remedy
    assert leading_token(good + after) == good


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(compact({"alg": "RSA-OAEP", "enc": "A256GCM"}, {}, b"x") + b".eA.eA", "JWE", id="encrypted"),
        pytest.param(b"a.b.c.d.e", "it has 5", id="five words"),
        pytest.param(mint(signer(), claims(0)) + b".a.b", "it has 5", id="a token and two words"),
        pytest.param(b"Bearer " + mint(signer(), claims(0)), "spaces", id="with its scheme"),
        pytest.param(b" \n", "spaces", id="blank"),
        pytest.param(b" ", "spaces", id="one blank"),
    ],
)
def test_malformed_token_is_reported(body: bytes, words: str) -> None:
    """A token is reported as encrypted only if its header names an encryption (RFC 7516, section 4.1.2)."""
    found = read_token(body)
    assert isinstance(found, Rejected)
    assert [reason.code for reason in found.reasons] == ["token_shape"]
    assert words in found.reasons[0].sentence


def test_nothing_leads_nothing() -> None:
    """An empty file has no token."""
    assert leading_token(b" \n ") == b""


NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def token(**changes: object) -> Token:
    found = read_token(mint(signer(), claims(NOW.timestamp(), **changes)))
    assert isinstance(found, Token)
    return found


def checks(*audiences: str, **changes: object) -> dict[str, TokenCheck]:
    return {check.subject: check for check in check_claims(token(**changes), ISSUER, audiences, NOW)}


def test_good_token_passes_every_check() -> None:
    """iss, aud, exp, iat and sub pass, each with a readable sentence."""
    found = checks(AUDIENCE)
    assert list(found) == ["iss", "aud", "exp", "iat", "sub"]
    assert {check.finding for check in found.values()} == {TokenCheckStatus.PASSED}
    assert found["exp"].sentence == "expires in 1 h, at 2026-11-25 13:00:00Z"
    assert found["iat"].sentence == "issued 0 s ago, at 2026-11-25 12:00:00Z"


def test_expired_token_says_for_how_long() -> None:
    """The message has the duration in words and the date."""
    found = checks(AUDIENCE, exp=int((NOW - timedelta(hours=3, minutes=12, seconds=5)).timestamp()))["exp"]
    assert found.sentence == "The token expired 3 h 12 min ago, at 2026-11-25 08:47:55Z."
    assert (found.code, found.finding) == ("expired", TokenCheckStatus.FAILED)


def test_expiry_counts_from_its_second() -> None:
    """A token is expired from the second of exp on (RFC 7519, section 4.1.4)."""
    exp = token(exp=int(NOW.timestamp()))
    assert expired_since(exp, NOW) == timedelta(0)
    assert expired_since(exp, NOW - timedelta(microseconds=1)) is None
    assert expired_since(token(exp=None), NOW) is None


def test_missing_claims_are_reported() -> None:
    """Every cloud rejects a token without exp or aud. A missing iat is not reported here."""
    found = checks(AUDIENCE, exp=None, aud=None, iat=None)
    assert (found["exp"].code, found["aud"].code) == ("no_expiry", "no_audience")
    assert "iat" not in found


def test_unconfigured_audiences_are_a_note() -> None:
    """Without configured audiences, a note says that `aud` was not compared."""
    found = checks()["aud"]
    assert (found.finding, found.code) == (TokenCheckStatus.NOTED, "audiences_unknown")
    assert "no `audiences` are configured" in found.sentence


def test_one_common_audience_is_enough() -> None:
    """One audience of the token must be configured. Long lists are shortened to a count."""
    found = checks("a", AUDIENCE, aud=["x", AUDIENCE, *map(str, range(9))])["aud"]
    assert found.finding is TokenCheckStatus.PASSED
    assert "and 6 more" in found.sentence
    assert f'configured: "{AUDIENCE}"' in found.sentence


def test_usual_audience_of_a_cloud_passes_and_is_reported_as_such() -> None:
    """A cloud accepts its usual audience without configuration, and the sentence says so."""
    found = {each.subject: each for each in check_claims(token(), ISSUER, ("other",), NOW, (AUDIENCE,))}
    assert found["aud"].finding is TokenCheckStatus.PASSED
    assert "usual audience" in found["aud"].sentence
    assert "other" not in found["aud"].sentence


def test_foreign_audience_is_reported_with_the_configured_ones() -> None:
    """The message has the token's audience and the configured ones."""
    found = checks("a", "b", aud="c")["aud"]
    assert found.sentence == 'The token is for "c", and configured is "a", "b".'


def test_time_in_the_future_is_reported_with_its_distance() -> None:
    """nbf is checked before iat; the first one in the future is reported."""
    found = checks(AUDIENCE, nbf=int(NOW.timestamp()) + 300)
    assert found["nbf"].sentence == "The token is not valid before 2026-11-25 12:05:00Z, which is in 5 min."
    found = checks(AUDIENCE, nbf=None, iat=int(NOW.timestamp()) + 60)
    assert found["iat"].sentence == "The token says that it was issued at 2026-11-25 12:01:00Z, which is in 1 min."


@pytest.mark.parametrize(
    "subject",
    [
        "system:serviceaccount:lab",
        "system:serviceaccount:lab:Prober",
        "system:serviceaccount::a",
        "system:serviceaccount:a:b:c",
        "system:node:a",
        "system:serviceaccount:-a:b",
        f"system:serviceaccount:{'a' * 64}:b",
        "system:serviceaccount:a:b\n",
    ],
)
def test_subject_that_is_no_service_account_is_a_note(subject: str) -> None:
    """Such a token may be valid, but conditions on ServiceAccounts will not match it."""
    found = checks(AUDIENCE, sub=subject)["sub"]
    assert (found.finding, found.code, found.sentence.isprintable()) == (
        TokenCheckStatus.NOTED,
        "foreign_subject",
        True,
    )


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
    """For RSA, P-256 and P-521, exactly one of the captured keys verifies the token."""
    token, keys = token_of(captured(name)), keys_of(case)
    found = signing_key(token, keys, name=NAME, ledger=None)
    assert not isinstance(found, Reason)
    assert found.kid == token.kid
    assert [key for key in keys if is_signed_by(token, key)] == [found]


@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-384", "P-521"])
def test_minted_token_is_verified(kind: str) -> None:
    """A token of each key type is verified with its own key, and not with another of that type."""
    by, other = signer(kind), signer(kind, 1) if kind != "RSA" else None
    token = token_of(mint(by, claims(0)))
    assert is_signed_by(token, by.key)
    assert other is None or not is_signed_by(token, other.key)
    assert not any(is_signed_by(token, key) for key in RSA_KEYS[:2])


@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-384", "P-521"])
def test_independent_library_agrees(kind: str) -> None:
    """PyJWT accepts and rejects the same tokens, with the JWK that we publish."""
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
    """An external signer may use one kid for two keys (facts.md#7), so both are tried."""
    by, other = signer().called("same"), signer("P-256", 1).called("same")
    assert signing_key(token_of(mint(by, claims(0))), (other.key, by.key), name=NAME, ledger=None) == by.key


def test_unknown_kid_names_the_public_ones() -> None:
    """The reason lists the public kids and where to look."""
    token, keys = token_of(captured("04b-rotated-away-rsa3-only/token-cluster-aud")), keys_of("02-rsa1-ec2-overlap/")
    found = signing_key(token, keys, name=NAME, ledger=None)
    assert isinstance(found, Reason)
    assert found.code == "key_not_public"
    assert all(f'"{key.kid}"' in found.sentence for key in keys)
    assert "--only syd-prod" in found.remedy


def test_many_public_kids_are_counted() -> None:
    """Ten kids are listed, and the others are counted."""
    keys = tuple(replace(RSA_KEYS[0], kid=f"k{number}") for number in range(13))  # type: ignore[arg-type]  # a kid
    found = signing_key(token_of(mint(signer(), claims(0))), keys, name=NAME, ledger=None)
    assert isinstance(found, Reason)
    assert '"k9", and 3 more' in found.sentence


STATES = {
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


@pytest.mark.parametrize(("record", "state", "remedy"), STATES.values(), ids=STATES)
def test_known_key_that_is_not_public_is_reported_with_its_state(record: KeyRecord, state: str, remedy: str) -> None:
    """A held, dropped, revoked or not yet public key is reported with its remedy and the thumbprint in the command."""
    token, ledger = token_of(mint(signer(), claims(0))), Ledger(ISSUER, (record,))
    found = signing_key(token, (RSA_KEYS[0],), name=NAME, ledger=ledger)
    assert isinstance(found, Reason)
    assert (found.code, state in found.sentence, remedy in found.remedy) == ("key_not_public", True, True)
    assert record.key.kid in found.sentence
    assert recorded_signer(token, ledger) == record


def test_odd_names_are_printed_unchanged() -> None:
    """Braces in a kid are printed literally, and a thumbprint that begins with a hyphen does not become an option."""
    by = signer().called("{name} {nobody}")
    record = KeyRecord(replace(by.key, thumbprint=Thumbprint("-x")), Status.HELD, 1, AT, held_because="policy")
    found = signing_key(token_of(mint(by, claims(0))), (), name=NAME, ledger=Ledger(ISSUER, (record,)))
    assert isinstance(found, Reason)
    assert '"{name} {nobody}" (' in found.sentence
    assert found.remedy.endswith("oidc-mirror approve syd-prod -- -x")


def test_held_key_with_a_taken_kid_is_found_by_its_signature() -> None:
    """Another key with this kid is public: the reason reports the held key instead of an invalid signature."""
    by, taken = signer().called("same"), signer("P-256", 1).called("same")
    record = KeyRecord(by.key, Status.HELD, 1, AT, held_because="kid_taken")
    token = token_of(mint(by, claims(0)))
    found = signing_key(token, (taken.key,), name=NAME, ledger=Ledger(ISSUER, (record,)))
    assert isinstance(found, Reason)
    assert (found.code, "held (kid_taken)" in found.sentence) == ("key_not_public", True)


def test_key_without_material_is_no_excuse_for_a_wrong_signature() -> None:
    """Another key with this kid is public. The dropped key has no material, so it is unknown whether it signed."""
    by, taken = signer().called("same"), signer("P-256", 1).called("same")
    record = trimmed(KeyRecord(by.key, Status.DROPPED, 3, AT))
    token = token_of(mint(by, claims(0)))
    found = signing_key(token, (taken.key,), name=NAME, ledger=Ledger(ISSUER, (record,)))
    assert isinstance(found, Reason)
    assert found.code == "bad_signature"


def test_signer_is_preferred_to_a_key_that_is_only_named() -> None:
    """Of two records with one kid, the one whose key made the signature counts."""
    by, gone = signer().called("same"), signer("P-256", 1).called("same")
    held = KeyRecord(by.key, Status.HELD, 1, AT, held_because="kid_taken")
    ledger = Ledger(ISSUER, (trimmed(KeyRecord(gone.key, Status.DROPPED, 3, AT)), held))
    assert recorded_signer(token_of(mint(by, claims(0))), ledger) == held


def test_record_of_the_kid_that_did_not_sign_is_no_signer() -> None:
    """If the material is known, the kid alone does not prove that the key signed."""
    record = KeyRecord(signer("P-256", 1).called(signer().key.kid).key, Status.HELD, 1, AT)
    assert recorded_signer(token_of(mint(signer(), claims(0))), Ledger(ISSUER, (record,))) is None
