"""How the apiservers of one issuer are spoken to: TLS, login, proxy and addresses, out of files read in this pass."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.addresses import is_host, is_port
from mirror.apiserver.client import Login
from mirror.apiserver.kubeconfig import Kubeconfig, read_kubeconfig
from mirror.apiserver.line import Access
from mirror.apiserver.lookup_failures import LookupFailure
from mirror.apiserver.tls import Contexts, Material, read_material
from mirror.apiserver.tokens import judge_token, read_token
from mirror.config.fields import place_of_apiserver
from mirror.config.settings import Issuer
from mirror.model import Reason

IN_CLUSTER_NAME = "kubernetes.default.svc"
"""A name that the certificate of every apiserver has; found replicas are asked under it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """`addresses` are asked with `access`, and what discovery finds behind them with `replicas`: under one TLS name."""

    access: Access
    replicas: Access
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What the files of one issuer say, or why they say nothing; `token` and `proxy` are secrets."""

    material: Material | Reason
    addresses: tuple[str, ...] | Reason
    token: str | Reason = field(default="", repr=False)
    proxy: str | None = field(default=None, repr=False)


def open_issuer(issuer: Issuer, contexts: Contexts, environ: Mapping[str, str]) -> Opened | tuple[Reason, ...]:
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
    material = Material(found.ca, name, found.client_cert, found.client_key, place, place)
    addresses = issuer.apiservers or (found.server,)
    return _Credentials(material, addresses, _token_of(issuer, found), issuer.proxy or found.proxy)


def _token_of(issuer: Issuer, found: Kubeconfig) -> str | Reason:
    if found.token_file is not None:
        return read_token(found.token_file, issuer.audiences)
    if not found.token:
        return ""
    return judge_token(found.token, issuer.audiences, place=f"the token of {issuer.auth.kubeconfig}")


def _own_service(environ: Mapping[str, str]) -> tuple[str, ...] | Reason:
    """The pod's own cluster, as kubelet tells every container (the service `kubernetes` of namespace `default`)."""
    host, port = (environ.get(f"KUBERNETES_SERVICE_{word}", "") for word in ("HOST", "PORT"))
    host = f"[{host}]" if ":" in host else host
    if not (is_host(host.lower()) and is_port(port)):
        words = "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name a service"
        return LookupFailure.NOT_IN_CLUSTER.reason(words)
    return (f"https://{host}:{port}",)


def _opened(issuer: Issuer, found: _Credentials, contexts: Contexts) -> Opened | tuple[Reason, ...]:
    material, token, addresses = found.material, found.token, found.addresses
    context = material if isinstance(material, Reason) else contexts.of(material)
    if isinstance(material, Reason) or isinstance(context, Reason):
        return _reasons(token, context, addresses)
    if isinstance(token, Reason) or isinstance(addresses, Reason):
        return _reasons(token, addresses)
    access = Access(context, _login(token, material), token, found.proxy, _proxy_context(found.proxy, contexts))
    if issuer.discover is None:
        return Opened(access, access, addresses)
    name = material.server_name or _name_of_replicas(issuer, addresses[0])
    named = contexts.of(replace(material, server_name=name))
    return (named,) if isinstance(named, Reason) else Opened(access, replace(access, context=named), addresses)


def _reasons(*found: object) -> tuple[Reason, ...]:
    return tuple(each for each in found if isinstance(each, Reason))


def _name_of_replicas(issuer: Issuer, address: str) -> str:
    if issuer.discover == "endpointslices":
        return IN_CLUSTER_NAME
    return place_of_apiserver(address)[0].strip("[]")


def _login(token: str, material: Material) -> Login:
    if token:
        return "token"
    return "certificate" if material.client_cert else "anonymous"


def _proxy_context(proxy: str | None, contexts: Contexts) -> ssl.SSLContext | None:
    return contexts.system() if proxy is not None and proxy.startswith("https:") else None
