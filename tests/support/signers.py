"""Throw-away ssh keys that sign ledgers, as files of OpenSSH. All but RSA ones are the same in every run."""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mirror.model import Reason
from mirror.trust.ledger_signature import LedgerTrust, PrivateKey, Role, read_private_key

KINDS = ("ed25519", "P-256", "RSA")
Material: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_CURVES: dict[str, Any] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}


@cache
def material(kind: str = "ed25519", number: int = 0, bits: int = 3072) -> Material:
    """A private key of a kind; another `number` is another key. `bits` are those of an RSA key."""
    seed = sha256(f"{kind} {number}".encode()).digest()
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    if kind == "RSA":
        return rsa.generate_private_key(65537, bits)
    return ec.derive_private_key(int.from_bytes(seed) >> 8, _CURVES[kind]())


@cache
def key_file(kind: str = "ed25519", number: int = 0) -> bytes:
    """The bytes of the OpenSSH private key file of `material`."""
    return material(kind, number).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


@cache
def signer(kind: str = "ed25519", number: int = 0) -> PrivateKey:
    """The key as the mirror reads it."""
    key = read_private_key(key_file(kind, number))
    assert not isinstance(key, Reason)
    return key


def ledger_trust(
    number: int = 0, *others: int, kind: str = "ed25519", role: Role = "mirror", repository: str = "oidc-mirror"
) -> LedgerTrust:
    """A signer with the key `number` of a kind that accepts its own signature, and those of the `others`."""
    listed = [signer(kind, each) for each in (number, *others)]
    return LedgerTrust(repository, {each.kid: each.public() for each in listed}, listed[0], role)


def public_line(kind: str = "ed25519", number: int = 0) -> str:
    """The line of `allowed_signers`, with a comment and a line feed."""
    return f"{signer(kind, number).line} {kind}-{number}\n"


def write_key(path: Path, kind: str = "ed25519", number: int = 0) -> Path:
    """Write the private key file, readable only by its owner; return the path."""
    path.write_bytes(key_file(kind, number))
    path.chmod(0o600)
    return path
