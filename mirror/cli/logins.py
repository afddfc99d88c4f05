"""As whom the mirror asks an issuer's apiservers: the name in its client certificate or its kubeconfig's token."""

import json
import re
from base64 import urlsafe_b64decode
from dataclasses import replace
from pathlib import Path

from mirror.apiserver.kubeconfig import Kubeconfig, read_kubeconfig
from mirror.config.settings import Issuer
from mirror.federation.render.base import Login
from mirror.files import read_small

MAX_FILE_BYTES = 1024 * 1024
# Nothing else: the name comes from the cluster, and stands in commands that are printed for copying.
_SERVICE_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})")


def login_of(issuer: Issuer, asked: Login) -> Login:
    """`asked`, with what files on this machine say where nobody said it; a file that cannot be read says nothing."""
    if asked.user is not None:
        return replace(asked, way="user")
    if issuer.auth.kubeconfig is not None:
        return _of_kubeconfig(read_kubeconfig(issuer.auth.kubeconfig, issuer.auth.context), asked)
    if issuer.auth.token_file is not None:
        return _of_token(_read(issuer.auth.token_file), asked)
    if issuer.tls.client_cert_file is not None:
        return _of_certificate(_read(issuer.tls.client_cert_file), asked)
    return asked


def _of_kubeconfig(found: object, asked: Login) -> Login:
    if not isinstance(found, Kubeconfig):
        return replace(asked, way="user")
    if found.token or found.token_file is not None:
        return _of_token(found.token if found.token_file is None else _read(found.token_file), asked)
    return _of_certificate(found.client_cert, asked) if found.client_cert else asked


def _of_certificate(pem: bytes, asked: Login) -> Login:
    return replace(asked, way="user", user=common_name(pem))


def _of_token(token: bytes, asked: Login) -> Login:
    """The ServiceAccount of its `sub`, unverified: it only chooses whom a binding would be for.

    One that is not here is taken for the mirror's own; one of nobody's ServiceAccount is some user's.
    """
    found = _SERVICE_ACCOUNT.fullmatch(_subject(token))
    if found is not None:
        return replace(asked, way="service-account", namespace=found[1], service_account=found[2])
    return replace(asked, way="user" if token else "service-account")


def _subject(token: bytes) -> str:
    try:
        payload = token.strip().split(b".")[1]
        claims = json.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except (ValueError, IndexError):
        return ""
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) else ""


def common_name(pem: bytes) -> str | None:
    """The user that Kubernetes makes of a client certificate (Kubernetes documentation, "Authenticating"), if any."""
    from cryptography import x509  # noqa: PLC0415  only for a client certificate
    from cryptography.x509.oid import NameOID  # noqa: PLC0415  the same

    try:
        names = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return None
    # Go keeps the last one of several; a name with control characters is nobody's.
    name = str(names[-1].value) if names else ""
    return name if name and name.isprintable() else None


def _read(path: Path) -> bytes:
    try:
        return read_small(path, MAX_FILE_BYTES)
    except OSError:
        return b""
