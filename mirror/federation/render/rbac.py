"""`render rbac`: what the mirror's login needs in the cluster, and nothing more (facts.md#15)."""

from collections.abc import Iterator
from typing import Any, assert_never

from mirror.federation.render.base import MirrorIdentity, Rendered, Renderer, RenderRequest, made_by

DISCOVERY_ROLE = "system:service-account-issuer-discovery"
"""The ClusterRole of every cluster that may read both documents (facts.md#15)."""
UNKNOWN_USER = "USER-NAME-OF-THE-MIRROR"
_GROUP = "rbac.authorization.k8s.io"
_BINDING = "oidc-mirror"
_APISERVERS = "oidc-mirror-apiservers"
RbacObject = dict[str, Any]


def objects(request: RenderRequest) -> tuple[RbacObject, ...]:
    """The objects, in the order of their making."""
    login = request.login
    subject = _subject(login)
    found = [_service_account(login) if login.way == "service-account" else _binding(subject)]
    if request.issuer.discover == "endpointslices":
        found += _apiservers_role(subject)
    return tuple(found)


def _binding(subject: dict[str, str]) -> RbacObject:
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _BINDING},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": DISCOVERY_ROLE},
        "subjects": [subject],
    }


def _service_account(login: MirrorIdentity) -> RbacObject:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": login.service_account, "namespace": login.namespace},
        "automountServiceAccountToken": False,
    }


def _apiservers_role(subject: dict[str, str]) -> Iterator[RbacObject]:
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
        "subjects": [subject],
    }


def _subject(login: MirrorIdentity) -> dict[str, str]:
    match login.way:
        case "anonymous":
            return {"apiGroup": _GROUP, "kind": "Group", "name": "system:unauthenticated"}
        case "user":
            return {"apiGroup": _GROUP, "kind": "User", "name": login.user or UNKNOWN_USER}
        case "service-account":
            return {"kind": "ServiceAccount", "name": login.service_account, "namespace": login.namespace}
        case _:
            assert_never(login.way)


def _comments(request: RenderRequest) -> Iterator[str]:
    yield made_by("rbac", request)
    login = request.login
    yield "Apply it:"
    if login.way == "service-account":
        yield f"  kubectl create namespace {login.namespace}"
    yield "  kubectl apply -f FILE"
    if login.way == "anonymous":
        yield "The mirror sends no credentials: anyone who can reach the apiservers can then read both documents."
        yield (
            "The better way needs no binding: any ServiceAccount token of the cluster may read them (group"
            " system:serviceaccounts is bound to the same ClusterRole in every cluster). Give the mirror one in"
            " `auth.token_file`, or run it in the cluster with `auth.in_cluster: true`, and delete this binding."
        )
    elif login.way == "user":
        yield "Only the mirror's user may read the two documents."
        if login.user is None:
            yield f"Its name could not be read here: write it, a certificate's CN, in place of {UNKNOWN_USER}."
    else:
        yield (
            "A ServiceAccount token needs no binding: group system:serviceaccounts is bound to ClusterRole"
            f" {DISCOVERY_ROLE} in every cluster. So only the ServiceAccount is created."
        )
        if not request.issuer.auth.in_cluster:
            yield "A token for the mirror outside of the cluster, to be renewed before it ends:"
            yield f"  kubectl -n {login.namespace} create token {login.service_account}"
    if request.issuer.discover == "endpointslices":
        yield "`discover: endpointslices` reads the addresses of the apiservers, which are listed in namespace default."


def _notes(request: RenderRequest) -> tuple[str, ...]:
    if request.login.way == "user" and request.login.user is None:
        return (f"The mirror's user name could not be read: replace {UNKNOWN_USER}, or give --user.",)
    return ()


def _yaml(request: RenderRequest) -> Rendered:
    found = objects(request)
    value = found if len(found) > 1 else found[0]
    return Rendered("yaml", value, tuple(_comments(request)), _notes(request))


def _json(request: RenderRequest) -> Rendered:
    value = {"apiVersion": "v1", "kind": "List", "items": list(objects(request))}
    return Rendered("json", value, notes=(*tuple(_comments(request))[1:], *_notes(request)))


KIND = Renderer(
    "rbac",
    "What the mirror's login needs in the cluster: a ServiceAccount token needs no binding.",
    {"yaml": _yaml, "json": _json},
    needs_login=True,
)
