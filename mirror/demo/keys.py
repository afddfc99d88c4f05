"""Throw-away ServiceAccount keys; only their public halves ever leave this module."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@dataclass(frozen=True, slots=True)
class DemoKey:
    """A public key as kube-apiserver shows it."""

    jwk: Mapping[str, str]

    @property
    def kid(self) -> str:
        """Its key id."""
        return self.jwk["kid"]


def new_key() -> DemoKey:
    """Generate an RSA 2048 key and forget its private half (kid: fact 7)."""
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    numbers = public.public_numbers()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    members = {
        "use": "sig",
        "kty": "RSA",
        "kid": _base64url(hashlib.sha256(spki).digest()),
        "alg": "RS256",
        "n": _base64url(numbers.n.to_bytes(256, "big")),
        "e": _base64url(numbers.e.to_bytes(3, "big")),
    }
    return DemoKey(members)


def _base64url(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()
