"""Hostile tokens: which code each gets, and that no part of a token or its signature is ever printed."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest as hmac_digest

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import IssuerName, Key, Ledger, Reason
from mirror.trust.parsing import Rejected
from mirror.trust.tokens import Token, TokenCheckStatus, check_claims, read_token, signing_key
from support.situations import ISSUER
from support.tokens import AUDIENCE, Signer, captured, claims, compact, mint, part, signer, text

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
CLAIMS = claims(NOW.timestamp())
NAME = IssuerName("syd-prod")


def refused(body: bytes) -> list[str]:
    found = read_token(body)
    assert isinstance(found, Rejected)
    _prints_nothing(body, " ".join(f"{r.sentence} {r.remedy} {r.where}" for r in found.reasons))
    return [reason.code for reason in found.reasons]


def _prints_nothing(body: bytes, reported: str) -> None:
    """Neither the signature nor the parts of the token are in the output."""
    assert all(piece.decode("latin-1") not in reported for piece in body.split(b".") if len(piece) > 12)
    assert reported.isprintable()


def judged(body: bytes, *public: Key) -> str:
    """The code why no key of `public` signed it; empty if one did."""
    token = read_token(body)
    assert isinstance(token, Token)
    found = signing_key(token, public, name=NAME, ledger=None)
    if not isinstance(found, Reason):
        return ""
    _prints_nothing(body, f"{found.sentence} {found.remedy}")
    return found.code


def header(**members: object) -> bytes:
    by = signer()
    return compact({"alg": by.key.alg, "kid": by.key.kid} | members, CLAIMS, b"signature")


def payload(**changes: object) -> bytes:
    return mint(signer(), CLAIMS | changes)


def raw(head: bytes, body: bytes) -> bytes:
    return compact(head, body, b"signature")


GOOD = mint(signer(), CLAIMS)
HEAD, BODY, SIGNATURE = GOOD.split(b".")

SHAPES = {
    "empty": (b"", ["token_empty"]),
    "line-break-alone": (b"\n", ["token_empty"]),
    "opaque": (b"abcdef", ["token_shape"]),
    "two-parts": (HEAD + b"." + BODY, ["token_shape"]),
    "four-parts": (GOOD + b".x", ["token_shape"]),
    "encrypted": (b"a.b.c.d.e", ["token_shape"]),
    "bearer-prefix": (b"Bearer " + GOOD, ["token_shape"]),
    "two-lines": (GOOD + b"\n" + GOOD, ["token_shape"]),
    "blank-inside": (HEAD + b". " + BODY + b"." + SIGNATURE, ["token_shape"]),
    "NUL": (GOOD + b"\0", ["token_shape"]),
    "not-ASCII": (GOOD + "é".encode(), ["token_shape"]),
    "JSON-serialisation": (json.dumps({"payload": "x", "signatures": []}).encode(), ["token_shape"]),
    "huge": (b"a." + b"b" * 1_000_000 + b".c", ["token_too_large"]),
    "only-dots": (b"..", ["token_encoding"] * 3),
    "no-signature": (HEAD + b"." + BODY + b".", ["token_encoding"]),
    "padding": (HEAD + b"=." + BODY + b"." + SIGNATURE, ["token_encoding"]),
    "plain-base64": (HEAD + b"." + BODY + b".+/+/", ["token_encoding"]),
    "header-no-JSON": (raw(b"{", json.dumps(CLAIMS).encode()), ["not_json"]),
    "claims-no-JSON": (raw(json.dumps({"alg": "RS256", "kid": "k"}).encode(), b"no"), ["not_json"]),
    "claims-an-array": (raw(json.dumps({"alg": "RS256", "kid": "k"}).encode(), b"[]"), ["not_object"]),
    "byte-order-mark": (raw(b"\xef\xbb\xbf{}", json.dumps(CLAIMS).encode()), ["not_json"]),
    "duplicate-alg": (
        raw(b'{"alg":"RS256","alg":"none","kid":"k"}', json.dumps(CLAIMS).encode()),
        ["duplicate_member"],
    ),
    "duplicate-sub": (
        raw(b'{"alg":"RS256","kid":"k"}', b'{"iss":"a","sub":"good","sub":"evil"}'),
        ["duplicate_member"],
    ),
    "deep": (raw(b'{"alg":"RS256","kid":"k"}', b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), ["too_deep"]),
    "lone-surrogate": (raw(b'{"alg":"RS256","kid":"\\ud800"}', json.dumps(CLAIMS).encode()), ["lone_surrogate"]),
    "everything-at-once": (
        raw(b'{"alg":"none","crit":[]}', b"{}"),
        ["token_alg_none", "token_crit", "token_no_kid"] + ["token_claim"] * 2,
    ),
}

HEADERS = {
    "none": (header(alg="none"), ["token_alg_none"]),
    "NONE": (header(alg="NoNe"), ["token_alg_none"]),
    "HS256": (header(alg="HS256"), ["token_alg_symmetric"]),
    "hs512": (header(alg="hs512"), ["token_alg_symmetric"]),
    "PS256": (header(alg="PS256"), ["token_alg_unknown"]),
    "EdDSA": (header(alg="EdDSA"), ["token_alg_unknown"]),
    "lower-case": (header(alg="rs256"), ["token_alg_unknown"]),
    "alg-a-number": (header(alg=256), ["token_alg_unknown"]),
    "alg-an-array": (header(alg=["RS256"]), ["token_alg_unknown"]),
    "alg-null": (header(alg=None), ["token_alg_unknown"]),
    "alg-steers-terminal": (header(alg="\x1b[31mRS256"), ["token_alg_unknown"]),
    "crit": (header(crit=["exp"]), ["token_crit"]),
    "crit-null": (header(crit=None), ["token_crit"]),
    "unencoded-payload": (header(crit=["b64"], b64=False), ["token_crit"]),
    "no-kid": (header(kid=None), ["token_no_kid"]),
    "kid-a-number": (header(kid=7), ["token_no_kid"]),
    "kid-empty": (header(kid=""), ["token_no_kid"]),
    "kid-with-line-break": (header(kid="a\nlevel=error forged"), ["token_no_kid"]),
    "kid-steers-terminal": (header(kid="\x1b]0;x\x07"), ["token_no_kid"]),
    "kid-right-to-left": (header(kid="\u202egpj.exe"), ["token_no_kid"]),
    "kid-too-long": (header(kid="k" * 1025), ["token_no_kid"]),
}

WRONG_CLAIMS = {
    "iss-missing": (mint(signer(), {k: v for k, v in CLAIMS.items() if k != "iss"}), 1),
    "iss-a-number": (payload(iss=1), 1),
    "iss-empty": (payload(iss=""), 1),
    "sub-missing": (mint(signer(), {k: v for k, v in CLAIMS.items() if k != "sub"}), 1),
    "sub-an-object": (payload(sub={"a": 1}), 1),
    "aud-a-number": (payload(aud=1), 1),
    "aud-empty-array": (payload(aud=[]), 1),
    "aud-with-number": (payload(aud=[AUDIENCE, 1]), 1),
    "aud-with-null": (payload(aud=[None]), 1),
    "aud-nested": (payload(aud=[[AUDIENCE]]), 1),
    "aud-an-object": (payload(aud={AUDIENCE: True}), 1),
    "exp-a-text": (payload(exp="1795411294"), 1),
    "exp-true": (payload(exp=True), 1),
    "exp-negative": (payload(exp=-1), 1),
    "exp-huge": (payload(exp=10**300), 1),
    "exp-a-huge-float": (payload(exp=1e300), 1),
    "exp-year-10000": (payload(exp=253_402_300_800), 1),
    "exp-null": (payload(exp=None), 1),
    "nbf-an-array": (payload(nbf=[1]), 1),
    "iat-an-object": (payload(iat={}), 1),
    "all-times": (payload(exp="a", nbf="b", iat="c"), 3),
}


@pytest.mark.parametrize(("body", "codes"), SHAPES.values(), ids=SHAPES)
def test_text_that_is_no_token_is_refused(body: bytes, codes: list[str]) -> None:
    """Each with its code, all reasons at once, and nothing of it in any sentence."""
    assert refused(body) == codes


@pytest.mark.parametrize(("body", "codes"), HEADERS.values(), ids=HEADERS)
def test_hostile_header_is_refused_before_any_key_is_looked_at(body: bytes, codes: list[str]) -> None:
    """No `none`, no shared secret, no unknown critical header, no kid that could control a terminal."""
    assert refused(body) == codes


@pytest.mark.parametrize(("body", "count"), WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
def test_claim_of_the_wrong_type_is_refused(body: bytes, count: int) -> None:
    """A well signed token does not make a wrong claim right."""
    assert refused(body) == ["token_claim"] * count


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_number_that_is_none_is_refused(number: str) -> None:
    """JSON that only some parsers accept is rejected."""
    body = json.dumps(CLAIMS | {"exp": 0}).replace('"exp": 0', f'"exp": {number}')
    assert refused(compact({"alg": "RS256", "kid": "k"}, body.encode(), b"s")) == ["not_json"]


def test_public_key_as_a_shared_secret_is_refused() -> None:
    """The classic: HS256 over the public key's PEM, its DER or its modulus."""
    by = signer("RSA")
    public = by.private.public_key()
    for encoding in (Encoding.PEM, Encoding.DER):
        secret = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        message = f"{part({'alg': 'HS256', 'kid': by.key.kid})}.{part(CLAIMS)}".encode()
        assert refused(message + b"." + text(hmac_digest(secret, message, sha256)).encode()) == ["token_alg_symmetric"]


# ---------------------------------------------------------------------------------------------- signatures


def resigned(by: Signer, alg: str, signature: bytes | None = None) -> bytes:
    """A token of the key's kid that says `alg`, signed with that digest or with `signature`."""
    message = f"{part({'alg': alg, 'kid': by.key.kid})}.{part(CLAIMS)}".encode()
    return message + b"." + text(by.sign(message, alg) if signature is None else signature).encode()


@pytest.mark.parametrize(
    ("kind", "alg"),
    [
        ("RSA", "ES256"),
        ("RSA", "RS512"),
        ("P-256", "RS256"),
        ("P-256", "ES384"),
        ("P-384", "ES256"),
        ("P-521", "RS512"),
    ],
)
def test_algorithm_that_is_not_the_keys_own_is_refused(kind: str, alg: str) -> None:
    """Also where the key could have made it: which algorithm counts follows from the public key alone."""
    by = signer(kind)
    assert judged(resigned(by, alg), by.key) == "alg_mismatch"


def test_key_in_the_header_is_ignored() -> None:
    """An attacker's own key in jwk, jku, x5u or x5c, under the right kid, verifies nothing; it is reported by name."""
    right, evil = signer(), signer("P-256", 1)
    members = {"jwk": evil.key.members(), "jku": "https://evil.example.com", "x5u": "https://evil", "x5c": ["MII"]}
    body = mint(evil.called(right.key.kid), CLAIMS, **members)
    assert judged(body, right.key) == "bad_signature"
    token = read_token(body)
    assert isinstance(token, Token)
    assert token.ignored == ("jwk", "jku", "x5u", "x5c")


def test_signature_in_der_form_is_refused() -> None:
    """ECDSA signatures are R and S side by side (RFC 7518, section 3.4); what OpenSSL makes is none."""
    by = signer()
    message = f"{HEAD.decode()}.{BODY.decode()}".encode()
    plain = by.sign(message)
    der = encode_dss_signature(int.from_bytes(plain[:32]), int.from_bytes(plain[32:]))
    assert judged(message + b"." + text(plain).encode(), by.key) == ""
    assert judged(message + b"." + text(der).encode(), by.key) == "bad_signature"


@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-521"])
def test_signature_that_was_touched_is_refused(kind: str) -> None:
    """Cut off, made longer, one bit flipped, all zeros, or of another message."""
    by = signer(kind)
    message, _, _ = mint(by, CLAIMS).rpartition(b".")
    right = by.sign(message)
    other = by.sign(message + b"x")
    flipped = bytes([right[0] ^ 1]) + right[1:]
    for wrong in (right[:-1], right[1:], right + b"\0", b"\0" + right, flipped, bytes(len(right)), b"\1", other):
        assert judged(message + b"." + text(wrong).encode(), by.key) == "bad_signature"
    assert judged(message + b"." + text(right).encode(), by.key) == ""


def test_claims_that_were_touched_are_refused() -> None:
    """The signature covers the bytes as they came."""
    head, _, signature = captured("02-rsa1-ec2-overlap/token-cluster-aud").strip().split(b".")
    forged = head + b"." + part(CLAIMS | {"sub": "system:serviceaccount:kube-system:admin"}).encode() + b"." + signature
    by = signer()
    assert judged(forged, by.key) == "key_not_public"
    assert judged(HEAD + b"." + part(CLAIMS | {"sub": "x"}).encode() + b"." + SIGNATURE, by.key) == "bad_signature"


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "' OR 1=1 --", "{name}", "{0.__class__}", "%s", "k" * 1024, "ключ"]
)
def test_hostile_kid_is_a_text_and_nothing_else(kid: str) -> None:
    """It is looked up among the public keys, and shown quoted and short."""
    assert judged(mint(signer().called(kid), CLAIMS), signer("P-256", 1).key) == "key_not_public"


def test_empty_set_of_keys_verifies_nothing() -> None:
    """No key, no signer; with an empty ledger too."""
    token = read_token(GOOD)
    assert isinstance(token, Token)
    found = signing_key(token, (), name=NAME, ledger=Ledger(ISSUER))
    assert isinstance(found, Reason)
    assert (found.code, "no key is public" in found.sentence) == ("key_not_public", True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": int(NOW.timestamp())}, "expired"),
        ({"exp": 0}, "expired"),
        ({"nbf": int(NOW.timestamp()) + 1}, "not_yet_valid"),
        ({"nbf": 253_402_300_799}, "not_yet_valid"),
        ({"iat": int(NOW.timestamp()) + 1}, "issued_in_future"),
        ({"iss": ISSUER + "/"}, "wrong_issuer"),
        ({"iss": ISSUER.upper()}, "wrong_issuer"),
        ({"iss": ISSUER + "\u200b"}, "wrong_issuer"),
        ({"iss": ISSUER + "\x1b[2J"}, "wrong_issuer"),
        ({"aud": [AUDIENCE + " "]}, "wrong_audience"),
        ({"aud": [AUDIENCE.upper()]}, "wrong_audience"),
        ({"aud": ["x\r\nforged: line"]}, "wrong_audience"),
    ],
)
def test_well_signed_token_with_a_wrong_claim_is_refused(changes: dict[str, object], code: str) -> None:
    """Exact to the second and the code point; text from the token is printed escaped."""
    token = read_token(payload(**changes))
    assert isinstance(token, Token)
    failures = [c for c in check_claims(token, ISSUER, (AUDIENCE,), NOW) if c.finding is TokenCheckStatus.FAILED]
    assert [check.code for check in failures] == [code]
    assert all(check.sentence.isprintable() for check in failures)


def test_token_does_not_print_its_secret() -> None:
    """Printing or logging the value never shows what a cloud would accept."""
    token = read_token(GOOD)
    shown = repr(token) + str(token)
    assert all(piece not in shown for piece in (SIGNATURE.decode(), BODY.decode(), repr(signer().sign(b""))[2:10]))


@given(st.binary(max_size=300))
def test_random_bytes_never_raise(body: bytes) -> None:
    """Whatever comes is a token or refused with a reason."""
    assert isinstance(read_token(body), Token | Rejected)


@given(
    st.dictionaries(
        st.text(max_size=5) | st.sampled_from(["alg", "kid", "crit", "jwk"]), st.none() | st.text(max_size=5)
    ),
    st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "x"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=3)),
    ),
)
def test_random_members_never_raise(head: dict[str, object], body: dict[str, object]) -> None:
    """Nor does any combination of members and types."""
    assert isinstance(read_token(compact(head, body, b"s")), Token | Rejected)
