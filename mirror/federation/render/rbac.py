"""`render rbac`: what the mirror's login needs in the cluster, and nothing more (fact 15)."""

from collections.abc import Iterator
from typing import Any

from mirror.federation.render.kind import Kind, Login, Rendered, Request, made_by

DISCOVERY_ROLE = "system:service-account-issuer-discovery"
"""The ClusterRole of every cluster that may read both documents (fact 15)."""
UNKNOWN_USER = "COMMON-NAME-OF-THE-CERTIFICATE"
_GROUP = "rbac.authorization.k8s.io"
_BINDING = "oidc-mirror"
_APISERVERS = "oidc-mirror-apiservers"
Object = dict[str, Any]


def is_anonymous(request: Request) -> bool:
    """Whether the mirror shows the apiservers no credentials."""
    auth = request.issuer.auth
    return not (_has_token(request) or auth.kubeconfig or request.login.is_user or request.issuer.tls.client_cert_file)


def _has_token(request: Request) -> bool:
    return request.issuer.auth.in_cluster or request.issuer.auth.token_file is not None


def objects(request: Request) -> tuple[Object, ...]:
    """The objects, in the order of their making."""
    found: list[Object] = []
    if is_anonymous(request):
        found.append(_binding({"kind": "Group", "name": "system:unauthenticated"}))
    elif request.login.is_user:
        found.append(_binding({"kind": "User", "name": request.login.user or UNKNOWN_USER}))
    else:
        found.append(_service_account(request.login))
    if request.issuer.discover == "endpointslices":
        found += _apiservers_role(request)
    return tuple(found)


def _binding(subject: dict[str, str]) -> Object:
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _BINDING},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": DISCOVERY_ROLE},
        "subjects": [{"apiGroup": _GROUP, **subject}],
    }


def _service_account(login: Login) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": login.service_account, "namespace": login.namespace},
        "automountServiceAccountToken": False,
    }


def _apiservers_role(request: Request) -> Iterator[Object]:
    """That the list of apiservers may be read; it is kept in `default`."""
    yield {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "Role",
        "metadata": {"name": _APISERVERS, "namespace": "default"},
        "rules": [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}],
    }
    yield {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": _APISERVERS, "namespace": "default"},
        "roleRef": {"apiGroup": _GROUP, "kind": "Role", "name": _APISERVERS},
        "subjects": [_asking(request)],
    }


def _asking(request: Request) -> dict[str, str]:
    login = request.login
    if is_anonymous(request):
        return {"apiGroup": _GROUP, "kind": "Group", "name": "system:unauthenticated"}
    if login.is_user:
        return {"apiGroup": _GROUP, "kind": "User", "name": login.user or UNKNOWN_USER}
    return {"kind": "ServiceAccount", "name": login.service_account, "namespace": login.namespace}


def _comments(request: Request) -> Iterator[str]:
    yield made_by("rbac", request)
    yield "Apply it:"
    yield "  kubectl apply -f FILE"
    login = request.login
    if is_anonymous(request):
        yield "The issuer has no `auth`: whoever reaches the apiservers may now read both documents, which are public."
        yield (
            "The better way needs no binding: any ServiceAccount token of the cluster may read them (group"
            " system:serviceaccounts is bound to the same ClusterRole in every cluster). Give the mirror one in"
            " `auth.token_file`, or run it in the cluster with `auth.in_cluster: true`, and delete this binding."
        )
    elif login.is_user:
        yield "The mirror's user may read the two documents, and nobody else gets anything."
        if login.user is None:
            yield f"Its name could not be read here: write the certificate's CN in place of {UNKNOWN_USER}."
    else:
        yield (
            "A ServiceAccount token needs no binding: group system:serviceaccounts is bound to ClusterRole"
            f" {DISCOVERY_ROLE} in every cluster. So this is the ServiceAccount alone."
        )
        yield "Its namespace must be there. A token for a mirror outside of the cluster, to be renewed before it ends:"
        yield f"  kubectl create namespace {login.namespace}"
        yield f"  kubectl -n {login.namespace} create token {login.service_account}"
    if request.issuer.discover == "endpointslices":
        yield "`discover: endpointslices` reads the addresses of the apiservers, which are listed in namespace default."


def _notes(request: Request) -> tuple[str, ...]:
    if request.login.is_user and request.login.user is None:
        return (f"The mirror's user name could not be read: replace {UNKNOWN_USER}, or give --user.",)
    return ()


def _yaml(request: Request) -> Rendered:
    found = objects(request)
    value = found if len(found) > 1 else found[0]
    return Rendered("yaml", value, tuple(_comments(request)), _notes(request))


def _json(request: Request) -> Rendered:
    value = {"apiVersion": "v1", "kind": "List", "items": list(objects(request))}
    return Rendered("json", value, notes=(*tuple(_comments(request))[1:], *_notes(request)))


KIND = Kind(
    "rbac",
    "What the mirror's login needs in the cluster: a ServiceAccount token needs no binding.",
    {"yaml": _yaml, "json": _json},
    needs_login=True,
)
