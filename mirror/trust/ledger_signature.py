"""The signature of a ledger: a detached JWS in its own file (RFC 7515, appendix F), made and verified with ssh keys.

Given values have exactly one signature form. Other forms that a JWS library would accept (JSON forms, several
signatures, unprotected members, loose base64, `b64`, `crit`) are rejected before the library sees them.
"""

import json
import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Literal, TypeAlias, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS, InvalidJWSSignature

from mirror.model import IssuerUrl, Reason
from mirror.trust.parsing import decode, quote, read_object

Role: TypeAlias = Literal["mirror", "operator"]
TYP = "oidc-mirror-ledger"
"""The `typ` of the header: the same key may sign other things (RFC 7515, section 4.1.9)."""
MAX_SIGNATURE_BYTES = 4096
"""The longest accepted signature file. Ours with a 255-character issuer and an RSA key of 8192 bits is shorter."""
MIN_RSA_BITS = 3072
MAX_RSA_BITS = 8192

_ALGORITHMS = {"ssh-ed25519": "EdDSA", "ecdsa-sha2-nistp256": "ES256", "ssh-rsa": "RS256"}
"""The one algorithm of each key type (RFC 8037, section 3.1; RFC 7518, sections 3.3 and 3.4)."""
_FIXED_BYTES = {"EdDSA": 64, "ES256": 64}
"""The length of a signature, where it does not depend on the key: jwcrypto accepts other lengths for ES256."""
_ROLES = ("mirror", "operator")
_MEMBERS = ("alg", "issuer", "kid", "repository", "role", "typ")
_KID = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


@dataclass(frozen=True, slots=True)
class SignatureHeader:
    """The statement of a valid signature: the signer (`kid`, `role`), the issuer of the ledger, and the repository."""

    alg: str
    issuer: IssuerUrl
    kid: str
    repository: str
    role: Role


@dataclass(frozen=True, slots=True)
class VerificationFailure:
    """Why a ledger does not count.

    `code` is `damaged` (the form is wrong), `foreign` (another `typ`, issuer or repository), `unknown_signer` (no
    listed key has this kid) or `false` (the signature does not fit the bytes). `kid` is what the header claims;
    empty where there is no readable header.
    """

    code: Literal["damaged", "foreign", "unknown_signer", "false"]
    sentence: str
    kid: str = ""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that ledgers are verified with.

    `kid` is the ssh fingerprint, as `ssh-keygen -lf` prints it; `line` is `TYPE BASE64`, as `allowed_signers` has it.
    """

    kid: str
    alg: str
    line: str
    jwk: JWK = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that ledgers are signed with; its private half is never printed."""

    kid: str
    alg: str
    line: str
    jwk: JWK = field(repr=False, compare=False)

    def public(self) -> PublicKey:
        """Give the public half."""
        return PublicKey(self.kid, self.alg, self.line, JWK(**self.jwk.export_public(as_dict=True)))


# --------------------------------------------------------------------------------------------- keys from files

_PrivateMaterial: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_PublicMaterial: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_BEGIN, _END = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"-----END OPENSSH PRIVATE KEY-----"
_MAGIC = b"openssh-key-v1\0"
_UNFIT_TYPES = {
    "ssh-dss": "a DSA key",
    "ecdsa-sha2-nistp384": "an ECDSA key on the curve P-384",
    "ecdsa-sha2-nistp521": "an ECDSA key on the curve P-521",
    "sk-ssh-ed25519@openssh.com": "a key of a hardware token",
    "sk-ecdsa-sha2-nistp256@openssh.com": "a key of a hardware token",
}
_CERTIFICATE = "-cert-v01@openssh.com"
_NEW_KEY = "Make a new key: ssh-keygen -t ed25519 -N '' -f FILE"
_CONVERT = "Rewrite the file in the format of OpenSSH, without a passphrase: ssh-keygen -p -N '' -f FILE"


def read_private_key(body: bytes) -> PrivateKey | Reason:
    """Read an OpenSSH private key file without passphrase (OpenSSH, PROTOCOL.key).

    Args:
        body: the bytes of the file.

    Returns:
        The key (ed25519, ECDSA on P-256, RSA of 3072 to 8192 bits), or why it cannot sign ledgers: `key_empty`,
        `key_public`, `key_format`, `key_damaged`, `key_encrypted`, `key_type`, `key_weak`. In the remedy `FILE`
        stands for the file's path.
    """
    text = body.strip()
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        return _no_private_key(text)
    blob = _base64(text[len(_BEGIN) : -len(_END)])
    if blob is None or not blob.startswith(_MAGIC):
        return _DAMAGED
    cipher, kdf, _, rest = _strings(blob[len(_MAGIC) :], 3)
    if (cipher, kdf) != (b"none", b"none"):
        return Reason("key_encrypted", "The signing key has a passphrase, which the mirror cannot enter.", _CONVERT)
    declared = _text(_strings(_strings(rest[4:], 1)[0], 1)[0])  # the number of keys, then the public half
    if declared not in _ALGORITHMS:
        return Reason("key_type", f"The signing key is {_named(declared)}, which cannot sign ledgers.", _NEW_KEY)
    try:
        private = cast("_PrivateMaterial", load_ssh_private_key(text, None))
    except (ValueError, TypeError, NotImplementedError, UnsupportedAlgorithm):
        return _DAMAGED
    kind, line = _described(private.public_key())
    if not _is_strong(private.public_key()):
        return Reason("key_weak", f"The signing key is an RSA key of {_bits(private.public_key())}.", _NEW_KEY)
    return PrivateKey(_fingerprint(line), _ALGORITHMS[kind], line, JWK.from_pyca(private))


_DAMAGED = Reason("key_damaged", "The signing key is damaged: it is cut off or changed.", _NEW_KEY)


def _no_private_key(text: bytes) -> Reason:
    if not text:
        return Reason("key_empty", "The file of the signing key is empty.", _NEW_KEY)
    if any(_text(word) in _KNOWN_TYPES for word in text.split(maxsplit=2)[:2]):
        remedy = "Name the file of the private half, the one without .pub."
        return Reason("key_public", "The signing key is a public key.", remedy)
    if text.startswith(b"-----BEGIN ") and b" PRIVATE KEY-----" in text.split(b"\n", 1)[0]:
        sentence = "The signing key is a PEM file, not an OpenSSH private key."
        return Reason("key_format", sentence, f"Make a new key, or where it is an RSA or ECDSA key: {_CONVERT}")
    return Reason("key_format", "The signing key is no OpenSSH private key.", _NEW_KEY)


def read_allowed_signers(body: bytes) -> tuple[PublicKey, ...] | tuple[Reason, ...]:
    """Read the file of accepted signers of ledgers: lines `TYPE BASE64 [comment]`, blank lines and `#` comments.

    Args:
        body: the bytes of the file.

    Returns:
        The keys in the order of the lines, or every reason why the file is refused, each with `where` as `line 3`:
        `signers_encoding`, `signers_empty`, `signers_private`, `signers_options`, `signers_type`, `signers_no_key`,
        `signers_weak`, `signers_twice`. Never an empty tuple.
    """
    try:
        lines = body.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        number = body.count(b"\n", 0, error.start) + 1
        sentence = f"The allowed signers are not UTF-8 at byte {error.start}."
        return (Reason("signers_encoding", sentence, _WRITE_LINE, f"line {number}"),)
    used = [(n, line) for n, line in enumerate(map(str.strip, lines), 1) if line and not line.startswith("#")]
    found = [(number, _signer(line, number)) for number, line in used]
    reasons = [*(each for _, each in found if isinstance(each, Reason)), *_repeated(found)]
    if not found:
        reasons.append(Reason("signers_empty", "The allowed signers list no key.", _WRITE_LINE, "line 1"))
    if reasons:
        return tuple(sorted(reasons, key=lambda reason: int(reason.where.removeprefix("line "))))
    return tuple(each for _, each in found if isinstance(each, PublicKey))


_KNOWN_TYPES = frozenset(
    {
        *_ALGORITHMS,
        *_UNFIT_TYPES,
        *(name.removesuffix("@openssh.com") + _CERTIFICATE for name in (*_ALGORITHMS, *_UNFIT_TYPES)),
    }
)
_WRITE_LINE = "Write one line `TYPE BASE64 [comment]` for each key, as it stands in the signer's .pub file."


def _signer(line: str, number: int) -> PublicKey | Reason:
    words = line.split()
    where, kind = f"line {number}", words[0]
    if line.startswith("-----"):
        sentence = "A PEM line stands among the allowed signers, perhaps of a private key."
        return Reason("signers_private", sentence, f"Remove it, and change the key if it is one. {_WRITE_LINE}", where)
    if kind not in _KNOWN_TYPES and any(word in _KNOWN_TYPES for word in words[1:]):
        sentence = f"Names or options stand before the key: {quote(kind)}."
        return Reason("signers_options", sentence, f"Remove them. {_WRITE_LINE}", where)
    if kind in _KNOWN_TYPES and kind not in _ALGORITHMS:
        sentence = f"The key is {_named(kind)}, which cannot sign ledgers."
        remedy = "List an ed25519, ECDSA P-256 or RSA key instead: ssh-keygen -t ed25519 -N '' -f signing_key"
        return Reason("signers_type", sentence, remedy, where)
    key = _public_key(kind, words[1]) if kind in _ALGORITHMS and len(words) > 1 else None
    if key is None:
        sentence = f"The line beginning with {quote(kind)} is not an ssh public key."
        return Reason("signers_no_key", sentence, f"Correct or remove it. {_WRITE_LINE}", where)
    if not _is_strong(key):
        remedy = "List a stronger key instead: ssh-keygen -t ed25519 -N '' -f signing_key"
        return Reason("signers_weak", f"The key is an RSA key of {_bits(key)}.", remedy, where)
    text = f"{kind} {words[1]}"
    return PublicKey(_fingerprint(text), _ALGORITHMS[kind], text, JWK.from_pyca(key))


def _public_key(kind: str, base64: str) -> _PublicMaterial | None:
    """Give the key of a line; None where there is none, or where our own encoding of the key differs."""
    try:
        key = load_ssh_public_key(f"{kind} {base64}".encode())
    except (ValueError, NotImplementedError, UnsupportedAlgorithm):
        return None
    found = cast("_PublicMaterial", key)
    return found if _described(found) == (kind, f"{kind} {base64}") else None


def _repeated(found: Iterable[tuple[int, PublicKey | Reason]]) -> Iterator[Reason]:
    seen: dict[str, int] = {}
    for number, key in found:
        if isinstance(key, PublicKey) and seen.setdefault(key.kid, number) != number:
            sentence = f"This is the same key as in line {seen[key.kid]}."
            yield Reason("signers_twice", sentence, "Remove one of the two lines.", f"line {number}")


def _strings(data: bytes, count: int) -> tuple[bytes, ...]:
    """Give the first `count` length-prefixed strings (RFC 4251, section 5) and the rest; missing data is empty."""
    found = []
    for _ in range(count):
        end = 4 + int.from_bytes(data[:4])
        found.append(data[4:end])
        data = data[end:]
    return (*found, data)


def _base64(text: bytes) -> bytes | None:
    try:
        return a2b_base64(b"".join(text.split()), strict_mode=True)
    except ValueError:
        return None


def _text(word: bytes) -> str:
    return word.decode("ascii", "replace")


def _named(kind: str) -> str:
    if kind.endswith(_CERTIFICATE):
        return "an ssh certificate"
    return _UNFIT_TYPES.get(kind, f"a key of type {quote(kind)}")


def _described(key: _PublicMaterial) -> tuple[str, str]:
    """Give the ssh type of a key and `TYPE BASE64` (RFC 4253, section 6.6; RFC 5656; RFC 8709)."""
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    return line.split(" ")[0], line


def _fingerprint(line: str) -> str:
    """Give `SHA256:…` of `TYPE BASE64`, as ssh-keygen(1) does: base64 without padding of the blob's digest."""
    return "SHA256:" + b64encode(sha256(a2b_base64(line.split(" ")[1])).digest()).decode("ascii").rstrip("=")


def _is_strong(key: _PublicMaterial) -> bool:
    return not isinstance(key, rsa.RSAPublicKey) or MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS


def _bits(key: _PublicMaterial) -> str:
    size = key.key_size if isinstance(key, rsa.RSAPublicKey) else 0
    return f"{size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are allowed"


# --------------------------------------------------------------------------------------------- sign and verify


def sign_ledger(body: bytes, *, issuer: IssuerUrl, repository: str, role: Role, key: PrivateKey) -> bytes:
    """Give the content of `keys.json.jws`: `HEADER..SIGNATURE` and a line feed (RFC 7515, appendix F).

    Args:
        body: the exact bytes of the ledger.
        issuer: the issuer of the ledger.
        repository: `repository.name`.
        role: who signs.
        key: the key that signs.
    """
    jws = JWS(body)
    jws.allowed_algs = [key.alg]
    header = _header_text(SignatureHeader(key.alg, issuer, key.kid, repository, role))
    jws.add_signature(key.jwk, alg=key.alg, protected=header)
    jws.detach_payload()
    return f"{jws.serialize(compact=True)}\n".encode("ascii")


def verify_ledger(
    body: bytes, signature: bytes, *, issuer: IssuerUrl, repository: str, keys: Mapping[str, PublicKey]
) -> SignatureHeader | VerificationFailure:
    """Return the signer of a ledger, or why the ledger does not count.

    Args:
        body: the exact bytes of the ledger.
        signature: the bytes of `keys.json.jws`.
        issuer: the issuer that the ledger must belong to.
        repository: `repository.name` that it must be signed for.
        keys: the accepted keys, by kid.
    """
    read = _read_signature(signature)
    if isinstance(read, str):
        return VerificationFailure("damaged", read)
    text, header, typ = read
    foreign = _foreign(header, typ, issuer=issuer, repository=repository)
    if foreign:
        return VerificationFailure("foreign", foreign, header.kid)
    key = keys.get(header.kid)
    if key is None:
        sentence = f"No key that is listed here has the kid {header.kid}."
        return VerificationFailure("unknown_signer", sentence, header.kid)
    # The key decides which algorithm verifies (RFC 8725, section 3.1); the header may only agree.
    if header.alg != key.alg:
        sentence = f"The header says {header.alg}, and its key signs with {key.alg}."
        return VerificationFailure("false", sentence, header.kid)
    if not _is_signed(text, body, key):
        return VerificationFailure("false", f"Key {header.kid} did not sign these bytes.", header.kid)
    return header


_BLANK = JWS()


def _is_signed(text: str, body: bytes, key: PublicKey) -> bool:
    # Each new object deep-copies jwcrypto's table of header members, which takes longer than the rest of verifying.
    jws = copy(_BLANK)
    jws.allowed_algs = [key.alg]
    jws.deserialize(text)
    try:
        jws.verify(key.jwk, alg=key.alg, detached_payload=body)
    except InvalidJWSSignature:
        return False
    return True


def _header_text(header: SignatureHeader, typ: str = TYP) -> str:
    """Give the one valid header for these values: compact, sorted, ASCII."""
    return json.dumps({**asdict(header), "typ": typ}, sort_keys=True, separators=(",", ":"))


def _read_signature(signature: bytes) -> tuple[str, SignatureHeader, str] | str:
    """Give the compact JWS, the content of its header, and its `typ`; or the fault in its form.

    The header's content is still an unverified claim here.
    """
    if len(signature) > MAX_SIGNATURE_BYTES:
        return f"The signature file has more than {MAX_SIGNATURE_BYTES} bytes."
    if not signature.isascii():
        return "The signature file is not ASCII."
    text = signature.decode("ascii")
    parts = text[:-1].split(".")
    if not text.endswith("\n") or len(parts) != 3 or parts[1]:  # noqa: PLR2004  header, payload, signature
        return "The signature file is not one line HEADER..SIGNATURE with a line feed (RFC 7515, appendix F)."
    header, value = decode(parts[0]), decode(parts[2])
    if header is None or value is None:
        return "The signature file is not base64url without padding (RFC 7515, section 2)."
    read = _read_header(header)
    if read is None:
        return "The header of the signature is not what this program writes."
    if len(value) != _FIXED_BYTES.get(read[0].alg, len(value)):
        return f"The signature has {len(value)} bytes, which {read[0].alg} never makes."
    return text[:-1], *read


def _read_header(body: bytes) -> tuple[SignatureHeader, str] | None:
    members = read_object(body, "signature header")
    if isinstance(members, Reason) or tuple(sorted(members)) != _MEMBERS:
        return None
    if not all(isinstance(value, str) for value in members.values()):
        return None
    texts = cast("dict[str, str]", members)
    if texts["alg"] not in _ALGORITHMS.values() or texts["role"] not in _ROLES or not _KID.fullmatch(texts["kid"]):
        return None
    issuer, role = IssuerUrl(texts["issuer"]), cast("Role", texts["role"])
    header = SignatureHeader(texts["alg"], issuer, texts["kid"], texts["repository"], role)
    return (header, texts["typ"]) if _header_text(header, texts["typ"]).encode() == body else None


def _foreign(header: SignatureHeader, typ: str, *, issuer: IssuerUrl, repository: str) -> str:
    """Give what a well-formed signature is for, if it is not for this ledger; else empty."""
    if typ != TYP:
        return f"The signature is of another kind: its typ is {quote(typ)}."
    if header.repository != repository:
        return f"The signature is for the repository {quote(header.repository)}, and this one is {quote(repository)}."
    if header.issuer != issuer:
        return f"The signature is for another issuer: {quote(header.issuer)}."
    return ""


@dataclass(frozen=True, slots=True)
class LedgerVerifier:
    """The accepted signers. `repository` is `repository.name`; `keys` are by kid."""

    repository: str
    keys: Mapping[str, PublicKey]

    def verify(self, body: bytes, signature: bytes, issuer: IssuerUrl) -> SignatureHeader | VerificationFailure:
        """As `verify_ledger`."""
        return verify_ledger(body, signature, issuer=issuer, repository=self.repository, keys=self.keys)


@dataclass(frozen=True, slots=True)
class LedgerTrust(LedgerVerifier):
    """The accepted signers, the own signing key and its role; `keys` includes the public half of `signing_key`."""

    signing_key: PrivateKey
    role: Role

    def own(self) -> "LedgerTrust":
        """The same, with the own key as the only accepted one."""
        kid = self.signing_key.kid
        return replace(self, keys={kid: self.keys[kid]})

    def sign(self, body: bytes, issuer: IssuerUrl) -> bytes:
        """As `sign_ledger`."""
        return sign_ledger(body, issuer=issuer, repository=self.repository, role=self.role, key=self.signing_key)
