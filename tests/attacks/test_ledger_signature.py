"""Signatures that a JWS library or a careless parser would accept: none of them makes a ledger count.

Each is made with the real key wherever that is possible, so that nothing but its form stands between it and belief.
"""

import hmac
import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwcrypto.jws import JWS

from mirror.model import IssuerUrl
from mirror.trust.ledger_signature import PublicKey, SignatureHeader, VerificationFailure, sign_ledger, verify_ledger
from support.signers import KINDS, material, signer

ISSUER = IssuerUrl("https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/a")
BODY = b'{"issuer": "https://x", "keys": []}\n'
KEY = signer()
MEMBERS: dict[str, Any] = {
    "alg": "EdDSA",
    "issuer": ISSUER,
    "kid": KEY.kid,
    "repository": "prod",
    "role": "mirror",
    "typ": "oidc-mirror-ledger",
}
GOOD = sign_ledger(BODY, issuer=ISSUER, repository="prod", role="mirror", key=KEY)


def encoded(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")


def raw_signature(message: bytes, kind: str = "ed25519") -> bytes:
    """What the key of that kind says to any message at all (RFC 7518, section 3; RFC 8037, section 3.1)."""
    private = material(kind)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(message)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)
    return private.sign(message, padding.PKCS1v15(), hashes.SHA256())


def compact(header: bytes, payload: bytes = BODY, kind: str = "ed25519") -> bytes:
    """A detached JWS with a header of any bytes, signed by the real key."""
    message = encoded(header) + b"." + encoded(payload)
    return encoded(header) + b".." + encoded(raw_signature(message, kind)) + b"\n"


def with_members(**members: Any) -> bytes:
    """Signed by the real key, in the form that we write, with other members; None takes one away."""
    changed = {name: value for name, value in {**MEMBERS, **members}.items() if value is not None}
    return compact(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode())


def judged(signature: bytes, *keys: PublicKey, body: bytes = BODY) -> SignatureHeader | VerificationFailure:
    listed = {key.kid: key for key in keys or (KEY.public(),)}
    return verify_ledger(body, signature, issuer=ISSUER, repository="prod", keys=listed)


def code(signature: bytes, *keys: PublicKey) -> str:
    found = judged(signature, *keys)
    assert isinstance(found, VerificationFailure)
    assert found.sentence.isprintable()
    return found.code


HEADER, _, SIGNATURE = GOOD.rstrip(b"\n").split(b".")
CANONICAL = json.dumps(MEMBERS, sort_keys=True, separators=(",", ":"))


def test_ledger_before_the_attacks_is_accepted() -> None:
    """The helper makes exactly what the program signs; else this file would prove nothing."""
    assert compact(CANONICAL.encode()) == GOOD
    assert isinstance(judged(GOOD), SignatureHeader)


def json_form(*, flat: bool, **more: Any) -> bytes:
    """A JSON serialization (RFC 7515, section 7.2) of the true signature."""
    one = {"protected": HEADER.decode(), "signature": SIGNATURE.decode(), **more}
    return json.dumps({**one} if flat else {"signatures": [one, one]}).encode() + b"\n"


OTHER_FORMS = {
    "flattened JSON": json_form(flat=True),
    "flattened JSON with the payload": json_form(flat=True, payload=encoded(BODY).decode()),
    "general JSON with two signatures": json_form(flat=False),
    "general JSON with an unprotected header": json_form(flat=False, header={"kid": KEY.kid}),
    "payload not detached": HEADER + b"." + encoded(BODY) + b"." + SIGNATURE + b"\n",
    "no line feed": GOOD[:-1],
    "two line feeds": GOOD + b"\n",
    "carriage return": GOOD[:-1] + b"\r\n",
    "two signatures": GOOD * 2,
    "space before": b" " + GOOD,
    "space within": GOOD.replace(b"..", b".. "),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "four parts": GOOD[:-1] + b".\n",
    "two parts": GOOD.replace(b"..", b"."),
    "no signature": HEADER + b"..\n",
    "no header": b".." + SIGNATURE + b"\n",
    "nothing": b"",
    "a line feed": b"\n",
    "dots": b"..\n",
    "padded header": HEADER + b"=" * (-len(HEADER) % 4 or 4) + b".." + SIGNATURE + b"\n",
    "padded signature": GOOD[:-1] + b"==\n",
    "plain base64": HEADER + b".." + b64encode(raw_signature(b"")).rstrip(b"=") + b"+\n",
    "unused bits set": GOOD[:-2] + (b"B" if GOOD[-2:-1] == b"A" else bytes([GOOD[-2] + 1])) + b"\n",
    "line feed in the base64": GOOD[:40] + b"\n" + GOOD[40:],
    "letters beyond ASCII": GOOD.decode().replace("e", "\u0435", 1).encode(),
    "too long": HEADER + b".." + b"A" * 4096 + b"\n",
    "long with zeros": GOOD[:-1] + encoded(b"\0" * 3) + b"\n",
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_other_form_is_damaged(name: str) -> None:
    """The true signature in any other encoding than ours is rejected."""
    assert code(OTHER_FORMS[name]) == "damaged"


def reordered() -> bytes:
    return json.dumps(dict(reversed(MEMBERS.items())), separators=(",", ":")).encode()


OTHER_HEADERS = {
    "reordered members": reordered(),
    "spaces": json.dumps(MEMBERS, sort_keys=True).encode(),
    "line feed": json.dumps(MEMBERS, sort_keys=True, indent=1).encode(),
    "trailing space": f"{CANONICAL} ".encode(),
    "byte order mark": b"\xef\xbb\xbf" + CANONICAL.encode(),
    "UTF-16": CANONICAL.encode("utf-16"),
    "no UTF-8": CANONICAL.replace("prod", "pr\xf6d").encode("latin-1"),
    "needless escape": CANONICAL.replace("prod", "pr\\u006fd").encode(),
    "escaped slash": CANONICAL.replace("/", "\\/").encode(),
    "upper-case escape": CANONICAL.replace("prod", "\\u00F6").encode(),
    "letters that ASCII has not": CANONICAL.replace("prod", "prö").encode(),
    "lone surrogate": CANONICAL.replace("prod", "\\ud800").encode(),
    "duplicate member": CANONICAL.replace('"kid"', '"issuer":"https://evil","kid"').encode(),
    "the same member twice": CANONICAL.replace('"kid"', f'"issuer":"{ISSUER}","kid"').encode(),
    "number out of range": b'{"alg":1e999}',
    "NaN": b'{"alg":NaN}',
    "array": f"[{CANONICAL}]".encode(),
    "text": b'"EdDSA"',
    "null": b"null",
    "empty object": b"{}",
    "deep nesting": b"[" * 2000 + b"]" * 2000,
    "two objects": f"{CANONICAL}{CANONICAL}".encode(),
}


@pytest.mark.parametrize("name", OTHER_HEADERS)
def test_header_of_other_bytes_is_damaged(name: str) -> None:
    """A header with the same meaning, or with none, is rejected although the real key signed it."""
    assert code(compact(OTHER_HEADERS[name])) == "damaged"


OTHER_MEMBERS: dict[str, dict[str, Any]] = {
    "b64 false": {"b64": False, "crit": ["b64"]},
    "b64 true": {"b64": True, "crit": ["b64"]},
    "b64 uncritical": {"b64": False},
    "crit": {"crit": ["exp"], "exp": 1},
    "empty crit": {"crit": []},
    "jwk": {"jwk": json.loads(KEY.public().jwk.export_public())},
    "jku": {"jku": "https://evil.example.com/jwks"},
    "x5c": {"x5c": []},
    "cty": {"cty": "application/json"},
    "one more": {"date": "2026-11-23"},
    **{f"no {name}": {name: None} for name in MEMBERS},
    **{f"{name} is a number": {name: 1} for name in MEMBERS},
    **{f"{name} is a list": {name: ["x"]} for name in MEMBERS},
    "alg none": {"alg": "none"},
    "alg NONE": {"alg": "NONE"},
    "alg HS256": {"alg": "HS256"},
    "alg Ed25519": {"alg": "Ed25519"},
    "alg ES384": {"alg": "ES384"},
    "alg PS256": {"alg": "PS256"},
    "empty alg": {"alg": ""},
    "role admin": {"role": "admin"},
    "empty role": {"role": ""},
    "kid without its kind": {"kid": KEY.kid.removeprefix("SHA256:")},
    "kid of MD5": {"kid": "MD5:43:51:43:a1:b5:fc:8b:b7:0a:3a:a9:b1:0f:66:73:a8"},
    "padded kid": {"kid": f"{KEY.kid}="},
    "kid with a line feed": {"kid": f"{KEY.kid}\n"},
    "kid in base64url": {"kid": "SHA256:" + "-" * 43},
}


@pytest.mark.parametrize("name", OTHER_MEMBERS)
def test_header_with_other_members_is_damaged(name: str) -> None:
    """Six members with values that we would write, and no other: nothing that a library obeys can be slipped in."""
    assert code(with_members(**OTHER_MEMBERS[name])) == "damaged"


@pytest.mark.parametrize(
    "members",
    [
        {"typ": "JWT"},
        {"typ": "OIDC-MIRROR-LEDGER"},
        {"typ": "application/oidc-mirror-ledger"},
        {"typ": ""},
        {"repository": "test"},
        {"repository": "Prod"},
        {"repository": "prod "},
        {"repository": ""},
        {"issuer": f"{ISSUER}/"},
        {"issuer": ISSUER.upper()},
        {"issuer": ""},
        {"issuer": "\x1b[2J" * 200},
    ],
    ids=repr,
)
def test_signature_for_something_else_is_foreign(members: dict[str, str]) -> None:
    """What the same key signed for another purpose, repository or issuer does not count here."""
    assert code(with_members(**members)) == "foreign"


@pytest.mark.parametrize("kind", ["P-256", "RSA"])
def test_alg_of_another_key_is_false(kind: str) -> None:
    """The kid picks the key and the key the algorithm: a header that claims another one is not tried."""
    assert code(with_members(kid=signer(kind).kid), signer(kind).public(), KEY.public()) == "false"
    assert code(with_members(alg=signer(kind).alg)) == "false"


@pytest.mark.parametrize("kind", KINDS)
def test_public_key_is_no_shared_secret(kind: str) -> None:
    """HS256 with the public key as the secret (RFC 8725, section 2.1): it is refused before any key is looked at."""
    key = signer(kind)
    header = json.dumps({**MEMBERS, "alg": "HS256", "kid": key.kid}, sort_keys=True, separators=(",", ":")).encode()
    for secret in (key.line.encode(), b64decode(key.line.split()[1]), key.public().jwk.export_to_pem()):
        value = hmac.digest(secret, encoded(header) + b"." + encoded(BODY), sha256)
        assert code(encoded(header) + b".." + encoded(value) + b"\n", key.public()) == "damaged"


@pytest.mark.parametrize("kind", KINDS)
def test_signature_of_another_key_is_false(kind: str) -> None:
    """A header that names a listed key is worth nothing without its signature."""
    key, other = signer(kind), signer(kind, 1)
    members = {**MEMBERS, "alg": key.alg, "kid": key.kid}
    header = json.dumps(members, sort_keys=True, separators=(",", ":"))
    jws = JWS(BODY)
    jws.add_signature(other.jwk, alg=key.alg, protected=header)
    jws.detach_payload()
    assert code(f"{jws.serialize(compact=True)}\n".encode(), key.public(), other.public()) == "false"


def test_unencoded_payload_is_false() -> None:
    """A signature over the raw bytes, as `b64: false` makes it (RFC 7797), is not one over the encoded ones."""
    value = raw_signature(HEADER + b"." + BODY)
    assert code(HEADER + b".." + encoded(value) + b"\n") == "false"


def test_payload_of_a_ledger_with_dots_has_one_meaning() -> None:
    """A ledger cannot move the border between header and payload."""
    body = b"x." + encoded(BODY)
    assert isinstance(judged(compact(CANONICAL.encode(), body), body=body), SignatureHeader)
    assert isinstance(judged(compact(CANONICAL.encode(), body)), VerificationFailure)


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 66, 96, 128])
@pytest.mark.parametrize("kind", ["ed25519", "P-256"])
def test_signature_of_another_length_is_damaged(kind: str, length: int) -> None:
    """jwcrypto splits an ES256 signature in the middle, whatever its length: only 64 bytes get there."""
    key = signer(kind)
    header = json.dumps({**MEMBERS, "alg": key.alg, "kid": key.kid}, sort_keys=True, separators=(",", ":")).encode()
    value = raw_signature(encoded(header) + b"." + encoded(BODY), kind)
    widened = (b"\0" * 33 + value[:32] + b"\0" * 33 + value[32:])[-length:] if length > 64 else value[:length]
    assert code(encoded(header) + b".." + encoded(widened) + b"\n", key.public()) == "damaged"


def test_widened_numbers_of_es256_are_damaged() -> None:
    """R and S with leading zeros are the same numbers in another text."""
    key = signer("P-256")
    header = json.dumps({**MEMBERS, "alg": key.alg, "kid": key.kid}, sort_keys=True, separators=(",", ":")).encode()
    value = raw_signature(encoded(header) + b"." + encoded(BODY), "P-256")
    good = encoded(header) + b".." + encoded(value) + b"\n"
    wide = encoded(header) + b".." + encoded(b"\0" + value[:32] + b"\0" + value[32:]) + b"\n"
    assert isinstance(judged(good, key.public()), SignatureHeader)
    assert code(wide, key.public()) == "damaged"


@pytest.mark.parametrize("kind", KINDS)
def test_null_signature_is_false(kind: str) -> None:
    """All zeros, all ones, and R = S = 0 (CVE-2022-21449) sign nothing."""
    key = signer(kind)
    header = json.dumps({**MEMBERS, "alg": key.alg, "kid": key.kid}, sort_keys=True, separators=(",", ":")).encode()
    size = 384 if kind == "RSA" else 64
    for value in (bytes(size), b"\xff" * size, bytes(size - 1) + b"\1"):
        assert code(encoded(header) + b".." + encoded(value) + b"\n", key.public()) == "false"


def test_added_order_makes_no_second_ed25519_signature() -> None:
    """S + L verifies under a lazy check (RFC 8032, section 5.1.7); here it is false."""
    order = 2**252 + 27742317777372353535851937790883648493
    value = raw_signature(HEADER + b"." + encoded(BODY))
    twin = value[:32] + (int.from_bytes(value[32:], "little") + order).to_bytes(32, "little")
    assert code(HEADER + b".." + encoded(twin) + b"\n") == "false"


def test_empty_signer_list_accepts_no_ledger() -> None:
    """An empty set of keys is no permission."""
    found = verify_ledger(BODY, GOOD, issuer=ISSUER, repository="prod", keys={})
    assert isinstance(found, VerificationFailure)
    assert found.code == "unknown_signer"
