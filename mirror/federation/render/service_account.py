"""`render service-account`: the ServiceAccount of the pods; for a webhook with what it reads there."""

from collections.abc import Iterator
from typing import Any

from mirror.federation.render.base import Kind, Rendered, Request, made_by
from mirror.federation.render.workloads import WEBHOOK, annotations, names, notes

Object = dict[str, Any]


def service_account(request: Request) -> Object:
    """The object."""
    namespace, name = names(request)
    metadata: Object = {"name": name, "namespace": namespace}
    if request.workload.is_webhook:
        metadata["annotations"] = annotations(request)
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def _comments(request: Request) -> Iterator[str]:
    namespace, name = names(request)
    yield made_by("service-account", request)
    yield "Apply it:"
    yield "  kubectl apply -f FILE"
    yield f"Its tokens have the subject system:serviceaccount:{namespace}:{name}, which the role's condition names."
    if request.workload.is_webhook:
        yield f"{WEBHOOK} mounts a token into the pods that use it, and sets their environment: pods need nothing else."
    else:
        yield "It needs no annotation: the pod asks for its token itself, see `render pod`."


def _told(request: Request) -> tuple[str, ...]:
    return tuple(notes(request)) if request.workload.is_webhook else ()


def _yaml(request: Request) -> Rendered:
    return Rendered("yaml", service_account(request), tuple(_comments(request)), _told(request))


def _json(request: Request) -> Rendered:
    return Rendered("json", service_account(request), notes=(*tuple(_comments(request))[1:], *_told(request)))


KIND = Kind(
    "service-account",
    "The ServiceAccount of the pods; with --webhook annotated for amazon-eks-pod-identity-webhook.",
    {"yaml": _yaml, "json": _json},
)
