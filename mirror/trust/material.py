"""What a key is made of: its numbers, its RFC 7638 thumbprint and the kid that Kubernetes gives it."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto.jwk import JWK

from mirror.model import Key, Kid, RsaKey, Thumbprint
from mirror.trust.base64url import decode_coordinate, decode_uint, encode

CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
"""The curves of RFC 7518, section 6.2.1.1, by their JWK names."""

EC_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
"""The one algorithm of each curve (RFC 7518, section 3.4; fact 8)."""

RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
"""What relying parties accept for RSA (their table in the facts); PS256 and its sisters none of them does."""

MOST_REMEMBERED = 2**15
"""For how many keys each what follows from a key alone is remembered: ledgers, replicas and passes show it again."""


def with_first_alg(key: Key, algs: Iterable[str]) -> Key:
    """Give the key with that `alg` which comes first in the alphabet: of its own and those of `algs` that fit it.

    No thumbprint covers `alg` (RFC 7638), so replicas and ledgers may differ in it: this way all agree.
    """
    fitting = RSA_ALGORITHMS if isinstance(key, RsaKey) else ()
    return replace(key, alg=min((key.alg, *(alg for alg in algs if alg in fitting))))


def coordinate_bytes(crv: str) -> int:
    """Give how long a coordinate of the curve `crv` is: 32, 48 or 66 bytes (RFC 7518, section 6.2.1.2)."""
    return (CURVES[crv].key_size + 7) // 8


def is_on_curve(crv: str, x: int, y: int) -> bool:
    """Tell whether (`x`, `y`) is a point of the curve `crv`, and not the one at infinity."""
    try:
        ec.EllipticCurvePublicNumbers(x, y, CURVES[crv]).public_key()
    except ValueError:
        return False
    return True


@lru_cache(MOST_REMEMBERED)
def thumbprint_of(kty: str, *, n: str = "", e: str = "", crv: str = "", x: str = "", y: str = "") -> Thumbprint:
    """Give the SHA-256 thumbprint of a key's required members (RFC 7638, section 3.2)."""
    members = {"kty": kty, "n": n, "e": e} if kty == "RSA" else {"kty": kty, "crv": crv, "x": x, "y": y}
    return Thumbprint(str(JWK(**members).thumbprint()))


@lru_cache(MOST_REMEMBERED)
def kubernetes_kid(key: Key) -> Kid:
    """Give the kid that kube-apiserver computes: SHA-256 of the DER SubjectPublicKeyInfo (fact 7).

    Args:
        key: a believed key.
    """
    der = public_key(key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Kid(encode(sha256(der).digest()))


def public_key(key: Key) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """Give the key as the library verifies with it.

    Args:
        key: a believed key.
    """
    if isinstance(key, RsaKey):
        return rsa.RSAPublicNumbers(decode_uint(key.e) or 0, decode_uint(key.n) or 0).public_key()
    size = coordinate_bytes(key.crv)
    x, y = decode_coordinate(key.x, size) or 0, decode_coordinate(key.y, size) or 0
    return ec.EllipticCurvePublicNumbers(x, y, CURVES[key.crv]).public_key()
