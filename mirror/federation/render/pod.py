"""`render pod`: a pod that has the role, as an example to copy from; it asks AWS who it is."""

from collections.abc import Iterator
from typing import Any

from mirror.federation.render.base import Kind, Rendered, Request, made_by
from mirror.federation.render.workloads import TOKEN_FILE, TOKEN_FOLDER, WEBHOOK, environment, names, notes

Object = dict[str, Any]

_NOBODY = 65_534
_TOKEN, _SCRATCH = "oidc-token", "tmp"


def _pod(request: Request, container: Object) -> Object:
    namespace, account = names(request)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": account.replace(".", "-")[:63].rstrip("-"), "namespace": namespace},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _NOBODY,
                "runAsGroup": _NOBODY,
                "fsGroup": _NOBODY,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(request, container)],
            "volumes": _volumes(request),
        },
    }


def _container(request: Request, further: Object) -> Object:
    mounts: list[Object] = [{"name": _SCRATCH, "mountPath": "/tmp"}]  # noqa: S108  a folder of the pod
    if not request.workload.is_webhook:
        mounts.insert(0, {"name": _TOKEN, "mountPath": str(TOKEN_FOLDER), "readOnly": True})
    return {
        "name": "main",
        "image": request.workload.image,
        "args": ["sts", "get-caller-identity"],
        **further,
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _volumes(request: Request) -> list[Object]:
    scratch: Object = {"name": _SCRATCH, "emptyDir": {}}
    if request.workload.is_webhook:
        return [scratch]
    token = {
        "audience": request.audience(),
        "expirationSeconds": request.workload.expiration_seconds,
        "path": TOKEN_FILE.name,
    }
    return [{"name": _TOKEN, "projected": {"sources": [{"serviceAccountToken": token}]}}, scratch]


def _env(request: Request) -> list[Object]:
    found = {"HOME": "/tmp"}  # noqa: S108  a folder of the pod; the aws CLI keeps its cache at home
    if not request.workload.is_webhook:
        found = environment(request) | found
    return [{"name": name, "value": value} for name, value in found.items()]


def _comments(request: Request) -> Iterator[str]:
    _, account = names(request)
    yield made_by("pod", request)
    yield "Apply it, and read who it is:"
    yield "  kubectl apply -f FILE"
    yield f"The ServiceAccount comes first: oidc-mirror render service-account {request.issuer.name}"
    if request.workload.is_webhook:
        yield f"{WEBHOOK} mounts the token and sets the environment, from the annotations of ServiceAccount {account}."
    else:
        yield (
            "The token is for the cloud alone: its audience is one of the provider's. The kubelet renews it at 80 % of"
            " its life, and the SDKs read the file again."
        )
        yield "The SDKs take role and token from the environment when nothing before it in their chain has credentials."
    yield (
        "fsGroup makes the token's file readable for who is not root: kubelets before 1.19 write it with mode 0600 for"
        " root."
    )
    yield "Write the image with a digest, or your own."


def _told(request: Request) -> tuple[str, ...]:
    return () if request.workload.is_webhook else tuple(notes(request))


def _yaml(request: Request) -> Rendered:
    value = _pod(request, {"env": _env(request)})
    return Rendered("yaml", value, tuple(_comments(request)), _told(request))


def _json(request: Request) -> Rendered:
    value = _pod(request, {"env": _env(request)})
    return Rendered("json", value, notes=(*tuple(_comments(request))[1:], *_told(request)))


def _configmap(request: Request) -> Rendered:
    """The same with the environment in a ConfigMap, which several workloads can share."""
    namespace, account = names(request)
    name = f"{account[:249].rstrip('.-')}-aws"  # 253 characters at most, as every object
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {each["name"]: each["value"] for each in _env(request)},
    }
    pod = _pod(request, {"envFrom": [{"configMapRef": {"name": name}}]})
    return Rendered("yaml", (settings, pod), tuple(_comments(request)), _told(request))


KIND = Kind(
    "pod",
    "A pod that has the role: a projected token and what the AWS SDKs read, in its env or in a ConfigMap.",
    {"yaml": _yaml, "configmap": _configmap, "json": _json},
)
