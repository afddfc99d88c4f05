"""TLS material, token, proxy and addresses of one issuer, read from files in every pass."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.addresses import is_host, is_port
from mirror.apiserver.client import ConnectionSettings, LoginMethod
from mirror.apiserver.errors import DiscoveryFailureKind, FailureKind, printable
from mirror.apiserver.kubeconfig import Kubeconfig, read_kubeconfig
from mirror.apiserver.tls import TlsContextCache, TlsMaterial, read_material
from mirror.config.fields import place_of_apiserver
from mirror.config.settings import Issuer
from mirror.files import read_small, why_unreadable
from mirror.model import AZURE_AUDIENCES, GOOGLE_PREFIXES, STS_AUDIENCE, Reason
from mirror.trust.parsing import unverified_claims

IN_CLUSTER_NAME = "kubernetes.default.svc"
"""A name that the certificate of every apiserver has; found replicas are asked under it."""


@dataclass(frozen=True, slots=True)
class IssuerConnection:
    """`addresses` are asked with `access`, and what discovery finds behind them with `replicas`: under one TLS name."""

    access: ConnectionSettings
    replicas: ConnectionSettings
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What the files of one issuer say, or why they say nothing; `token` and `proxy` are secrets."""

    material: TlsMaterial | Reason
    addresses: tuple[str, ...] | Reason
    token: str | Reason = field(default="", repr=False)
    proxy: str | None = field(default=None, repr=False)


def open_issuer_connection(
    issuer: Issuer, contexts: TlsContextCache, environ: Mapping[str, str]
) -> IssuerConnection | tuple[Reason, ...]:
    """Read the issuer's files; or every reason why its apiservers cannot be asked.

    Args:
        issuer: Whose apiservers are to be asked.
        contexts: The TLS contexts of this pass.
        environ: The environment, in which a pod finds the service of its cluster.
    """
    path = issuer.auth.kubeconfig
    found = _by_files(issuer, environ) if path is None else _by_kubeconfig(issuer, path)
    return found if isinstance(found, tuple) else _opened(issuer, found, contexts)


def _by_files(issuer: Issuer, environ: Mapping[str, str]) -> _Credentials:
    path = issuer.auth.token_file
    token = "" if path is None else read_token(path, issuer.audiences)
    addresses = _own_service(environ) if issuer.auth.in_cluster and not issuer.apiservers else issuer.apiservers
    return _Credentials(read_material(issuer.tls), addresses, token, issuer.proxy)


def _by_kubeconfig(issuer: Issuer, path: Path) -> _Credentials | tuple[Reason, ...]:
    found = read_kubeconfig(path, issuer.auth.context)
    if isinstance(found, tuple):
        return found
    place = f"the kubeconfig {path}"
    name = issuer.tls.server_name or found.server_name
    material = TlsMaterial(found.ca, name, found.client_cert, found.client_key, place, place)
    addresses = issuer.apiservers or (found.server,)
    return _Credentials(material, addresses, _token_of(issuer, found), issuer.proxy or found.proxy)


def _token_of(issuer: Issuer, kubeconfig: Kubeconfig) -> str | Reason:
    if kubeconfig.token_file is not None:
        return read_token(kubeconfig.token_file, issuer.audiences)
    if not kubeconfig.token:
        return ""
    return check_token(kubeconfig.token, issuer.audiences, place=f"the token of {issuer.auth.kubeconfig}")


def _own_service(environ: Mapping[str, str]) -> tuple[str, ...] | Reason:
    """The pod's own cluster, as kubelet describes it in every container (service `kubernetes` in `default`)."""
    host, port = (environ.get(f"KUBERNETES_SERVICE_{word}", "") for word in ("HOST", "PORT"))
    host = f"[{host}]" if ":" in host else host
    if not (is_host(host.lower()) and is_port(port)):
        words = "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name a service"
        return DiscoveryFailureKind.NOT_IN_CLUSTER.reason(words)
    return (f"https://{host}:{port}",)


def _opened(
    issuer: Issuer, credentials: _Credentials, contexts: TlsContextCache
) -> IssuerConnection | tuple[Reason, ...]:
    material, token, addresses = credentials.material, credentials.token, credentials.addresses
    context = material if isinstance(material, Reason) else contexts.of(material)
    if isinstance(material, Reason) or isinstance(context, Reason):
        return _reasons(token, context, addresses)
    if isinstance(token, Reason) or isinstance(addresses, Reason):
        return _reasons(token, addresses)
    proxy = credentials.proxy
    proxy_context = contexts.system() if proxy is not None and proxy.startswith("https:") else None
    access = ConnectionSettings(context, _login(token, material), token, proxy, proxy_context)
    if issuer.discover is None:
        return IssuerConnection(access, access, addresses)
    own_name = place_of_apiserver(addresses[0])[0].strip("[]") if issuer.discover == "dns" else IN_CLUSTER_NAME
    named = contexts.of(replace(material, server_name=material.server_name or own_name))
    return (
        (named,) if isinstance(named, Reason) else IssuerConnection(access, replace(access, context=named), addresses)
    )


def _reasons(*found: object) -> tuple[Reason, ...]:
    return tuple(each for each in found if isinstance(each, Reason))


def _login(token: str, material: TlsMaterial) -> LoginMethod:
    if token:
        return "token"
    return "certificate" if material.client_cert else "anonymous"


MAX_TOKEN_BYTES = 16 * 1024
CLOUD_AUDIENCES = frozenset({STS_AUDIENCE, *AZURE_AUDIENCES})
"""Audiences that AWS and Entra take by default: such a token is a login to a cloud, not to an apiserver.

Those of Google begin with one of `GOOGLE_PREFIXES`.
"""


def read_token(path: Path, audiences: Collection[str], *, clouds: Collection[str] = CLOUD_AUDIENCES) -> str | Reason:
    """The token in `path`, or why it is not sent.

    The file is read in each pass, because projected tokens change on disk (facts.md#20). A final newline is let
    pass; the token itself must be visible ASCII (RFC 9110, section 11.6.2). Whether it has expired is for the
    apiserver to say.

    Args:
        path: The configured `auth.token_file`.
        audiences: The issuer's audiences for relying parties; a JWT for one of them is refused.
        clouds: Audiences that are refused besides.
    """
    try:
        content = read_small(path, MAX_TOKEN_BYTES)
    except OSError as error:
        return FailureKind.TOKEN_UNREADABLE.reason(f"{path}: {why_unreadable(error)}")
    return check_token(content.removesuffix(b"\n").removesuffix(b"\r"), audiences, place=str(path), clouds=clouds)


def check_token(
    token: bytes, audiences: Collection[str], *, place: str, clouds: Collection[str] = CLOUD_AUDIENCES
) -> str | Reason:
    """The token as text, or why it is not sent; `place` names where it stands, for the sentence."""
    flaw = _flaw(token)
    if flaw:
        return FailureKind.TOKEN_MALFORMED.reason(f"{place} {flaw}")
    audience = unverified_claims(token).get("aud")
    found = {each for each in (audience if isinstance(audience, list) else [audience]) if isinstance(each, str)}
    wrong = found & {*clouds, *audiences} | {each for each in found if clouds and each.startswith(GOOGLE_PREFIXES)}
    if wrong:
        return FailureKind.WRONG_TOKEN.reason(", ".join(map(printable, sorted(wrong))))
    return token.decode("ascii")


def _flaw(token: bytes) -> str:
    if not token.strip():
        return "is empty"
    if b"\n" in token or b"\r" in token:
        return "has several lines"
    if not all(0x21 <= byte <= 0x7E for byte in token):  # noqa: PLR2004 - the first and last visible ASCII character
        return "has spaces, control characters or non-ASCII characters"
    return ""
