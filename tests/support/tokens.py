"""Tokens: those that a real kube-apiserver minted, and fresh or hostile ones made with throw-away keys."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256, shake_256
from typing import Any

import gmpy2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwcrypto.jwk import JWK

from mirror.model import EcKey, Key, Kid, RsaKey, Thumbprint
from mirror.trust.jwks import EC_ALGORITHMS, thumbprint_of
from support.captures import FOLDER
from support.keys import with_kubernetes_kid
from support.situations import ISSUER

AUDIENCE = "cluster.identifier.kubernetes.domain"
SUBJECT = "system:serviceaccount:lab:prober"
_DIGESTS = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


@dataclass(frozen=True, slots=True)
class Signer:
    """A throw-away key: `key` is its public half as the mirror knows it."""

    key: Key
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    def sign(self, message: bytes, alg: str | None = None) -> bytes:
        """The signature in the form of RFC 7518; `alg` selects another digest than the key's own."""
        digest = _DIGESTS[(alg or self.key.alg)[2:]]
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(message, padding.PKCS1v15(), digest)
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(digest)))
        size = (self.private.key_size + 7) // 8
        return r.to_bytes(size) + s.to_bytes(size)

    def called(self, kid: str) -> "Signer":
        """The same key under another kid."""
        return replace(self, key=replace(self.key, kid=Kid(kid)))


@cache
def signer(kind: str = "P-256", number: int = 0) -> Signer:
    """A key of a curve, the same one in each run, or an `RSA` key of this run; another `number` is another key."""
    if kind == "RSA":
        return _rsa_signer(rsa.generate_private_key(65537, 2048))
    secret = int.from_bytes(sha256(f"{kind} {number}".encode()).digest())
    private = ec.derive_private_key(secret, _CURVES[kind])
    members = JWK.from_pyca(private.public_key()).export_public(as_dict=True)
    x, y = members["x"], members["y"]
    thumbprint = Thumbprint(thumbprint_of("EC", crv=kind, x=x, y=y))
    return Signer(with_kubernetes_kid(EcKey(Kid(""), EC_ALGORITHMS[kind], kind, x, y, thumbprint)), private)


def _rsa_signer(private: rsa.RSAPrivateKey) -> Signer:
    members = JWK.from_pyca(private.public_key()).export_public(as_dict=True)
    thumbprint = thumbprint_of("RSA", n=members["n"], e=members["e"])
    return Signer(with_kubernetes_kid(RsaKey(Kid(""), "RS256", members["n"], members["e"], thumbprint)), private)


def derived_signer(seed: str) -> Signer:
    """An RSA key that is the same in every run, so that documents can name its kid. Its private half is not secret."""
    p, q = (_prime(f"{seed} {which}") for which in "pq")
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    parts = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
    return _rsa_signer(rsa.RSAPrivateNumbers(p, q, d, *parts, public).private_key())


def _prime(seed: str) -> int:
    """A prime of 1024 bits, the two highest of which are set: the product of two has 2048."""
    return int(gmpy2.next_prime(int.from_bytes(shake_256(seed.encode()).digest(128)) | 3 << 1022))


def claims(now: float, **changes: Any) -> dict[str, Any]:
    """What a projected token of an hour claims; a change to None takes a claim away."""
    plain = {"aud": [AUDIENCE], "exp": int(now) + 3600, "iat": int(now), "iss": ISSUER, "nbf": int(now), "sub": SUBJECT}
    return {name: value for name, value in (plain | changes).items() if value is not None}


def mint(by: Signer, payload: Mapping[str, Any], **header: Any) -> bytes:
    """A token; further members of the header, or others than the right ones."""
    head = {"alg": by.key.alg, "kid": by.key.kid} | header
    message = f"{part(head)}.{part(payload)}".encode()
    return message + b"." + text(by.sign(message)).encode()


def compact(header: object, payload: object, signature: bytes) -> bytes:
    """A token of any three parts; bytes stand as they are, everything else as JSON."""
    return f"{part(header)}.{part(payload)}.{text(signature)}".encode()


def part(value: object) -> str:
    """A part of a token."""
    return text(value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode())


def text(octets: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def captured(name: str) -> bytes:
    """A token of a real kube-apiserver, such as `01-rsa1/sa-token-cluster-aud`, as the file has it."""
    return (FOLDER / f"{name}.jwt").read_bytes()


def captured_names() -> tuple[str, ...]:
    """All of them."""
    return tuple(sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.jwt")))
