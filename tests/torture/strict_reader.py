"""A second, strict parser of an apiserver's documents: slow, obvious, and without code of `mirror`.

It implements the acceptance rules again in the simplest way, one `demand` for each, with its own curve arithmetic.
joserfc and PyJWT check each key as well. Documents that `mirror.trust` accepts must be accepted here, with the same
keys; documents that are rejected here must be rejected there.
"""

import base64
import hashlib
import json
import unicodedata
from functools import cache
from typing import Any

import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from torture.strict_json import NotBelievedError, demand, everything, strict_object
from torture.strict_strength import is_strong

PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv")
CURVES = {
    "P-256": (
        32,
        0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        "ES256",
    ),
    "P-384": (
        48,
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
        "ES384",
    ),
    "P-521": (
        66,
        2**521 - 1,
        0x0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00,
        "ES512",
    ),
}
"""The bytes of a coordinate, the prime p, the b of y² = x³ - 3x + b (FIPS 186-4, D.1.2), and the algorithm."""

GENERATORS = {
    "P-256": (
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    ),
    "P-384": (
        0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
        0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
    ),
    "P-521": (
        0x00C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3DBAA14B5E77EFE75928FE1DC127A2FFA8DE3348B3C1856A429BF97E7E31C2E5BD66,
        0x011839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E662C97EE72995EF42640C550B9013FAD0761353C7086A272C24088BE94769FD16650,
    ),
}
"""The generator of each curve (FIPS 186-4, D.1.2)."""

Believed = frozenset[tuple[str, str, str]]
"""The kid, algorithm and RFC 7638 thumbprint of each key."""


def strict_discovery(body: bytes, issuer: str) -> Believed:
    """Check a discovery document, which has no keys. Raises NotBelievedError if it is not valid for `issuer`."""
    document = strict_object(body)
    demand(type(document.get("issuer")) is str, "issuer is no text")
    demand([ord(a) for a in document["issuer"]] == [ord(b) for b in issuer], "another issuer")
    for name, wanted in (("response_types_supported", "id_token"), ("subject_types_supported", "public")):
        demand(type(document.get(name)) is list, f"{name} is no array")
        demand(any(type(each) is str and each == wanted for each in document[name]), f"{name} lacks {wanted}")
    return frozenset()


def strict_jwks(body: bytes, *, kubernetes_kids: bool) -> Believed:
    """The keys of a JWKS, if all are accepted; keys of an unknown type are left out."""
    document = strict_object(body)
    for each in everything(document):
        demand(not isinstance(each, dict) or not any(name in each for name in PRIVATE), "a private member")
    entries = document.get("keys")
    demand(isinstance(entries, list), "no keys")
    assert isinstance(entries, list)
    demand(1 <= len(entries) <= 200, "too few or too many keys")
    found = set()
    for entry in entries:
        demand(isinstance(entry, dict), "a key is no object")
        demand(isinstance(entry.get("kty"), str), "a key without type")
        if entry["kty"] in ("RSA", "EC"):
            found.add(_key(entry, kubernetes_kids=kubernetes_kids))
    demand(found, "nothing is left")
    kids = [kid for kid, _, _ in found]
    demand(len(kids) == len(set(kids)), "one kid for two keys")
    return frozenset(found)


def _key(entry: dict[str, Any], *, kubernetes_kids: bool) -> tuple[str, str, str]:
    demand(entry.get("use", "sig") == "sig", "use")
    demand(entry.get("key_ops", ["verify"]) == ["verify"], "key_ops")
    kid = entry.get("kid")
    demand(isinstance(kid, str), "kid")
    assert isinstance(kid, str)
    demand(1 <= len(kid) <= 1024, "the kid's length")
    demand(all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in kid), "the kid's characters")
    names, algorithms = (
        (("e", "kty", "n"), _rsa(entry)) if entry["kty"] == "RSA" else (("crv", "kty", "x", "y"), _ec(entry))
    )
    alg = entry.get("alg", algorithms[0])
    demand(alg in algorithms, "alg")
    plain = {name: entry[name] for name in names}
    canonical = json.dumps(plain, separators=(",", ":"), sort_keys=True)
    thumbprint = _encode(hashlib.sha256(canonical.encode()).digest())
    # Two independent libraries must accept every published key.
    jose = _as_libraries_read(json.dumps(plain | {"use": "sig", "alg": alg}, sort_keys=True))
    demand(jose is not None, "a library refuses the key")
    demand(not kubernetes_kids or kid == jose, "the kid is not that of Kubernetes")
    return kid, str(alg), thumbprint


@cache
def _as_libraries_read(text: str) -> str | None:
    """The kid that Kubernetes gives to the key; None unless joserfc and PyJWT both accept it."""
    members = json.loads(text)
    try:
        (key,) = KeySet.import_key_set({"keys": [members]}).keys
        jwt.PyJWK(members)
        assert isinstance(key, RSAKey | ECKey)
        der = key.as_der(private=False)
    except Exception:  # noqa: BLE001  any exception of a library is a rejection
        return None
    return _encode(hashlib.sha256(der).digest())


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def _octets(value: Any) -> bytes:
    demand(isinstance(value, str), "no base64url text")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    demand(value and all(character in alphabet for character in value), "no base64url text")
    try:
        octets = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except ValueError as error:
        raise NotBelievedError("no base64url text") from error
    demand(_encode(octets) == value, "not the shortest base64url text")
    return octets


def _rsa(entry: dict[str, Any]) -> list[str]:
    numbers = []
    for name in ("n", "e"):
        octets = _octets(entry.get(name))
        demand(octets[0] != 0 or len(octets) == 1, "leading zeros")
        numbers.append(int.from_bytes(octets))
    demand(is_strong(*numbers), "a weak key")
    return ["RS256", "RS384", "RS512"]


def _ec(entry: dict[str, Any]) -> list[str]:
    demand(isinstance(entry.get("crv"), str) and entry["crv"] in CURVES, "curve")
    size, p, b, alg = CURVES[entry["crv"]]
    x, y = _octets(entry.get("x")), _octets(entry.get("y"))
    demand(len(x) == len(y) == size, "the length of a coordinate")
    a, c = int.from_bytes(x), int.from_bytes(y)
    demand(a < p and c < p, "a coordinate beyond p")
    demand((c * c - (a * a * a - 3 * a + b)) % p == 0, "not on the curve")
    demand(a not in _small_multiples(entry["crv"]), "a small private key")
    return [alg]


@cache
def _small_multiples(crv: str) -> frozenset[int]:
    """The x coordinates of 1 G to 16 G by the textbook formulas (SEC 1, section 2.2.1)."""
    _, p, _, _ = CURVES[crv]
    x0, y0 = GENERATORS[crv]
    x, y, found = x0, y0, {x0}
    for _ in range(15):
        slope = (3 * x * x - 3) * pow(2 * y, -1, p) if x == x0 else (y - y0) * pow(x - x0, -1, p)
        third = (slope * slope - x - x0) % p
        x, y = third, (slope * (x0 - third) - y0) % p
        found.add(x)
    return frozenset(found)
