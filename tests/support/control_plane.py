"""A model of control plane nodes: what kube-apiserver and kube-controller-manager do with their key files.

Both read key files at their start only, and neither starts without them. kube-apiserver shows the keys of
`--service-account-key-file`, in the order of the flags, and accepts tokens of those; it signs with
`--service-account-signing-key-file`. kube-controller-manager signs the tokens in Secrets, which have no expiry, with
`--service-account-private-key-file`. Tests compare the documents of this model with captures of a real one.
"""

import json
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from jwcrypto.jwk import JWK

PKI = "/etc/kubernetes/pki"
"""Where the flags say that key files are."""
KEY_FILE = "--service-account-key-file"
SIGNING_KEY_FILE = "--service-account-signing-key-file"
PRIVATE_KEY_FILE = "--service-account-private-key-file"
_CURVE_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
Flags = tuple[tuple[str, str], ...]


class NotStartedError(Exception):
    """A program of the control plane did not start."""


@dataclass
class Node:
    """One node. `folder` stands for `PKI`; flags are those of the manifests, which hold from the next start on."""

    folder: Path
    issuer: str
    apiserver_flags: Flags
    controller_manager_flags: Flags
    _public: tuple[dict[str, str], ...] = ()
    _signing: bytes = b""
    _secrets_signing: bytes = b""
    _pems: dict[str, bytes] = field(default_factory=dict)

    def start(self) -> None:
        """Both programs.

        Raises:
            NotStartedError: A key file is missing.
        """
        self.restart_apiserver()
        self.restart_controller_manager()

    def restart_apiserver(self) -> None:
        public = [self._read(path) for name, path in self.apiserver_flags if name == KEY_FILE]
        self._signing = self._read(dict(self.apiserver_flags)[SIGNING_KEY_FILE])
        self._public = tuple(jwk_of(pem) for pem in public)
        self._pems = {jwk["kid"]: pem for jwk, pem in zip(self._public, public, strict=True)}

    def restart_controller_manager(self) -> None:
        self._secrets_signing = self._read(dict(self.controller_manager_flags)[PRIVATE_KEY_FILE])

    def _read(self, path: str) -> bytes:
        try:
            return (self.folder / path.removeprefix(f"{PKI}/")).read_bytes()
        except FileNotFoundError as error:
            raise NotStartedError(f"{path}: no such file or directory") from error

    def jwks(self) -> bytes:
        """As the apiserver sends it at /openid/v1/jwks."""
        return compact({"keys": self._public})

    def discovery(self) -> bytes:
        """As the apiserver sends it, with its `--service-account-jwks-uri` below the issuer."""
        return compact(
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/openid/v1/jwks",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": sorted({each["alg"] for each in self._public}),
            }
        )

    @property
    def signing_kid(self) -> str:
        """The kid of the key that signs now."""
        return kid_of(self._signing)

    def mint(self, **claims: Any) -> str:
        """A token of the TokenRequest API."""
        return signed(self._signing, {"iss": self.issuer, "sub": "system:serviceaccount:default:web", **claims})

    def mint_for_secret(self) -> str:
        """The token that kube-controller-manager puts into a Secret of type kubernetes.io/service-account-token."""
        return signed(self._secrets_signing, {"iss": "kubernetes/serviceaccount"})

    def accepts(self, token: str) -> bool:
        """Whether the apiserver authenticates the token; its time is judged elsewhere."""
        pem = self._pems.get(jwt.get_unverified_header(token)["kid"])
        return pem is not None and verifies(token, pem)


def compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def jwk_of(pem: bytes) -> dict[str, str]:
    """The key of a public PEM, with the members in the order in which kube-apiserver sends them."""
    key = load_pem_public_key(pem)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    kid = urlsafe_b64encode(sha256(der).digest()).rstrip(b"=").decode()
    members = JWK.from_pyca(key).export_public(as_dict=True)
    if isinstance(key, RSAPublicKey):
        return {"use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256", "n": members["n"], "e": members["e"]}
    crv = members["crv"]
    alg = _CURVE_ALGORITHMS[crv]
    return {"use": "sig", "kty": "EC", "kid": kid, "crv": crv, "alg": alg, "x": members["x"], "y": members["y"]}


def kid_of(private_pem: bytes) -> str:
    """The kid of the public half."""
    return _public_jwk(private_pem)["kid"]


def signed(private_pem: bytes, claims: dict[str, Any]) -> str:
    jwk = _public_jwk(private_pem)
    key = _private_key(private_pem)
    return jwt.encode(claims | {"iat": int(time.time())}, key, jwk["alg"], {"kid": jwk["kid"]})


@cache
def _private_key(pem: bytes) -> Any:
    """The key of a private PEM: OpenSSL checks it for 60 ms each time that it is loaded."""
    return load_pem_private_key(pem, None)


@cache
def _public_jwk(private_pem: bytes) -> dict[str, str]:
    key = _private_key(private_pem).public_key()
    return jwk_of(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def verifies(token: str, public_pem: bytes) -> bool:
    try:
        jwt.decode(token, public_pem, ["RS256", "ES256"], {"verify_aud": False, "verify_iat": False})
    except jwt.InvalidTokenError:
        return False
    return True


def relying_party_accepts(token: str, jwks: bytes) -> bool:
    """Whether a cloud that has this JWKS accepts the token."""
    kid = jwt.get_unverified_header(token)["kid"]
    keys = [each for each in jwt.PyJWKSet.from_json(jwks.decode()).keys if each.key_id == kid]
    try:
        jwt.decode(token, keys[0], ["RS256", "ES256"], {"verify_aud": False, "verify_iat": False})
    except (IndexError, jwt.InvalidTokenError):
        return False
    return True
