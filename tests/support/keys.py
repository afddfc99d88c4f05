"""A pool of real public keys, made once by `make_keys.py`: tests never make RSA keys of their own."""

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from mirror.model import EcKey, Key, Kid, RsaKey, Thumbprint
from mirror.trust.jwks import EC_ALGORITHMS, kubernetes_kid, thumbprint_of


def _key(members: dict[str, str]) -> Key:
    material = {name: text for name, text in members.items() if name != "kty"}
    thumbprint = thumbprint_of(members["kty"], **material)
    if members["kty"] == "RSA":
        return with_kubernetes_kid(RsaKey(Kid(""), "RS256", members["n"], members["e"], thumbprint))
    crv = members["crv"]
    return with_kubernetes_kid(EcKey(Kid(""), EC_ALGORITHMS[crv], crv, members["x"], members["y"], thumbprint))


def with_kubernetes_kid(key: Key) -> Key:
    """The key under the kid that kube-apiserver would give it."""
    return replace(key, kid=kubernetes_kid(key))


def with_kid(key: Key, kid: str) -> Key:
    """The same key material under another kid."""
    return replace(key, kid=Kid(kid))


def jwks_body(*keys: Key) -> bytes:
    """A JWKS of `keys` in this order, as an apiserver sends it."""
    return json.dumps({"keys": [key.members() for key in keys]}, ensure_ascii=False).encode()


def thumbprints(*keys: Key) -> frozenset[Thumbprint]:
    """What `already_checked` would hold for `keys`."""
    return frozenset(key.thumbprint for key in keys)


KEYS: tuple[Key, ...] = tuple(
    _key(members) for members in json.loads(Path(__file__).with_name("public_keys.json").read_text())
)
"""All of them, each with its Kubernetes kid."""

RSA_KEYS: tuple[RsaKey, ...] = tuple(key for key in KEYS if isinstance(key, RsaKey))
EC_KEYS: tuple[EcKey, ...] = tuple(key for key in KEYS if isinstance(key, EcKey))


@cache
def weak_pair() -> tuple[RsaKey, RsaKey]:
    """Two RSA keys of 2048 bits whose moduli have a prime in common, as a broken random number generator makes them."""
    primes = [rsa.generate_private_key(65537, 2048).private_numbers() for _ in range(2)]
    moduli = (primes[0].p * primes[0].q, primes[0].p * primes[1].p)
    keys = []
    for modulus in moduli:
        n = urlsafe_b64encode(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
        key = RsaKey(Kid(""), "RS256", n, "AQAB", thumbprint_of("RSA", n=n, e="AQAB"))
        found = with_kubernetes_kid(key)
        assert isinstance(found, RsaKey)
        keys.append(found)
    return keys[0], keys[1]
