"""Keys that sign ledgers, and their signatures made and checked without the program's code or libraries.

A signature is a detached JWS (RFC 7515, appendix F): `HEADER..SIGNATURE` and a line feed. It is written here from the
RFCs with `cryptography` and base64 alone: an independent implementation of what the program makes and accepts.
"""

import json
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

TYP = "oidc-mirror-ledger"
NAME = "oidc-mirror"
"""The default of `repository.name`."""


def encode(data: bytes) -> str:
    """base64url without padding (RFC 7515, section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def canonical(members: dict[str, str]) -> bytes:
    """The JSON of a header as the contract has it: sorted, compact."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Signer:
    """An ed25519 key; `name` is the comment of its line."""

    name: str
    private: Ed25519PrivateKey

    def line(self) -> str:
        """`TYPE BASE64 COMMENT`, as in a `.pub` file and in `allowed_signers`."""
        public = self.private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return f"{public.decode()} {self.name}"

    def fingerprint(self) -> str:
        """As `ssh-keygen -lf` prints it: SHA-256 of the wire form, standard base64 without padding."""
        blob = self.line().split()[1]
        digest = sha256(urlsafe_b64decode(blob.replace("+", "-").replace("/", "_"))).digest()
        return "SHA256:" + b64encode(digest).rstrip(b"=").decode()

    def private_file(self, path: Path) -> Path:
        """Write the key as an OpenSSH private key file without passphrase."""
        path.write_bytes(self.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        path.chmod(0o600)
        return path

    def header(self, issuer: str, *, repository: str = NAME, role: str = "mirror") -> dict[str, str]:
        return {
            "alg": "EdDSA",
            "issuer": issuer,
            "kid": self.fingerprint(),
            "repository": repository,
            "role": role,
            "typ": TYP,
        }

    def sign(self, body: bytes, issuer: str, *, repository: str = NAME, role: str = "mirror") -> bytes:
        """The text of `keys.json.jws` for the ledger `body`."""
        return self.sign_header(body, canonical(self.header(issuer, repository=repository, role=role)))

    def sign_header(self, body: bytes, header: bytes) -> bytes:
        """A good signature of `body` under any header."""
        protected = encode(header)
        signature = self.private.sign(f"{protected}.{encode(body)}".encode())
        return f"{protected}..{encode(signature)}\n".encode()

    def verified(self, body: bytes, signature: bytes) -> dict[str, str] | None:
        """The header of a signature file that this key made for exactly this body; None where it did not."""
        try:
            protected, payload, made = signature.decode("ascii").removesuffix("\n").split(".")
            self.private.public_key().verify(decode(made), f"{protected}.{encode(body)}".encode())
            header = json.loads(decode(protected))
        except (ValueError, InvalidSignature):
            return None
        is_canonical = payload == "" and decode(protected) == canonical(header) and signature.endswith(b"\n")
        return header if is_canonical and header.get("kid") == self.fingerprint() else None


@cache
def signer(name: str) -> Signer:
    """The key of that name, the same one in every process."""
    return Signer(name, Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest()))


def signers_file(path: Path, *signers: Signer) -> Path:
    """Write a file for `repository.allowed_signers`."""
    path.write_text("".join(f"{each.line()}\n" for each in signers))
    return path
