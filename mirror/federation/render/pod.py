"""`render service-account` and `render pod`: a ServiceAccount and a pod that have the role. Pure."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from mirror.errors import UsageError
from mirror.federation.render.base import ACCOUNT_TO_FILL_IN, Rendered, Renderer, RenderRequest, account_of, made_by

TOKEN_FOLDER = PurePosixPath("/var/run/secrets/oidc-token")
TOKEN_FILE = TOKEN_FOLDER / "token"
WEBHOOK = "amazon-eks-pod-identity-webhook"
REGIONAL = "regional"


def names(request: RenderRequest) -> tuple[str, str]:
    """Namespace and ServiceAccount: those of the options if they are a subject, else of the first subject that has any.

    Raises:
        UsageError: No subject is a ServiceAccount's exact one.
    """
    workload = request.workload
    asked = (workload.namespace, workload.service_account)
    found = [account for each in workload.all_subjects() if (account := account_of(each)) is not None]
    if not found:
        raise UsageError(
            "No subject names a ServiceAccount that a pod could have.",
            remedy="Give --namespace and --service-account, or --subject system:serviceaccount:NAMESPACE:NAME.",
        )
    return asked if asked in found else found[0]


def exact_subjects(request: RenderRequest) -> tuple[str, ...]:
    """All subjects, for a cloud that compares them as they are.

    Raises:
        UsageError: One is a pattern.
    """
    subjects = request.workload.all_subjects()
    if any(mark in each for each in subjects for mark in "*?"):
        raise UsageError(
            "This cloud takes no patterns of subjects.",
            remedy="Name each: --subject system:serviceaccount:NAMESPACE:NAME.",
        )
    return subjects


def environment(request: RenderRequest) -> dict[str, str]:
    """What the AWS SDKs and the aws CLI read (AWS SDKs and Tools reference guide, "Assume role with web identity")."""
    region = request.issuer.publish.region
    return {
        "AWS_ROLE_ARN": request.role_arn(),
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(TOKEN_FILE),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_STS_REGIONAL_ENDPOINTS": REGIONAL,
    }


def annotations(request: RenderRequest) -> dict[str, str]:
    """What amazon-eks-pod-identity-webhook reads from a ServiceAccount (its README)."""
    return {
        "eks.amazonaws.com/role-arn": request.role_arn(),
        "eks.amazonaws.com/audience": request.audience(),
        "eks.amazonaws.com/token-expiration": str(request.workload.expiration_seconds),
        "eks.amazonaws.com/sts-regional-endpoints": "true",
    }


def notes(request: RenderRequest) -> Iterator[str]:
    """What asks for a second look."""
    if ACCOUNT_TO_FILL_IN in request.role_arn().split(":"):
        yield f"The role's account is not known: replace {ACCOUNT_TO_FILL_IN}, or give --account or --role-arn."


PodObject = dict[str, Any]

_NOBODY = 65_534
_TOKEN, _SCRATCH = "oidc-token", "tmp"


def _pod(request: RenderRequest, container: PodObject) -> PodObject:
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


def _container(request: RenderRequest, further: PodObject) -> PodObject:
    mounts: list[PodObject] = [{"name": _SCRATCH, "mountPath": "/tmp"}]  # noqa: S108  a folder of the pod
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


def _volumes(request: RenderRequest) -> list[PodObject]:
    scratch: PodObject = {"name": _SCRATCH, "emptyDir": {}}
    if request.workload.is_webhook:
        return [scratch]
    token = {
        "audience": request.audience(),
        "expirationSeconds": request.workload.expiration_seconds,
        "path": TOKEN_FILE.name,
    }
    return [{"name": _TOKEN, "projected": {"sources": [{"serviceAccountToken": token}]}}, scratch]


def _env(request: RenderRequest) -> list[PodObject]:
    found = {"HOME": "/tmp"}  # noqa: S108  a folder of the pod; the aws CLI keeps its cache at home
    if not request.workload.is_webhook:
        found = environment(request) | found
    return [{"name": name, "value": value} for name, value in found.items()]


def _pod_comments(request: RenderRequest) -> Iterator[str]:
    _, account = names(request)
    yield made_by("pod", request)
    yield "Apply it, and read who it is:"
    yield "  kubectl apply -f FILE"
    yield f"The ServiceAccount comes first: oidc-mirror render service-account {request.issuer.name}"
    if request.workload.is_webhook:
        yield f"{WEBHOOK} mounts the token and sets the environment, from the annotations of ServiceAccount {account}."
    else:
        yield (
            "The token is only for the cloud: its audience is one of the provider's. The kubelet renews it at 80 % of"
            " its life, and the SDKs read the file again."
        )
        yield "The SDKs take role and token from the environment when nothing before it in their chain has credentials."
    yield (
        "fsGroup makes the token's file readable for who is not root: kubelets before 1.19 write it with mode 0600 for"
        " root."
    )
    yield "Write the image with a digest, or your own."


def _pod_notes(request: RenderRequest) -> tuple[str, ...]:
    return () if request.workload.is_webhook else tuple(notes(request))


def _pod_yaml(request: RenderRequest) -> Rendered:
    value = _pod(request, {"env": _env(request)})
    return Rendered("yaml", value, tuple(_pod_comments(request)), _pod_notes(request))


def _configmap(request: RenderRequest) -> Rendered:
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
    return Rendered("yaml", (settings, pod), tuple(_pod_comments(request)), _pod_notes(request))


POD = Renderer(
    "pod",
    "A pod that has the role: a projected token and what the AWS SDKs read, in its env or in a ConfigMap.",
    {"yaml": _pod_yaml, "configmap": _configmap, "json": lambda request: _pod_yaml(request).as_json()},
)


def service_account(request: RenderRequest) -> PodObject:
    """The object."""
    namespace, name = names(request)
    metadata: PodObject = {"name": name, "namespace": namespace}
    if request.workload.is_webhook:
        metadata["annotations"] = annotations(request)
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def _account_comments(request: RenderRequest) -> Iterator[str]:
    namespace, name = names(request)
    yield made_by("service-account", request)
    yield "Apply it:"
    yield "  kubectl apply -f FILE"
    yield f"Its tokens have the subject system:serviceaccount:{namespace}:{name}, which the role's condition names."
    if request.workload.is_webhook:
        yield f"{WEBHOOK} mounts a token into the pods that use it, and sets their environment: pods need nothing else."
    else:
        yield "It needs no annotation: the pod asks for its token itself, see `render pod`."


def _account_notes(request: RenderRequest) -> tuple[str, ...]:
    return tuple(notes(request)) if request.workload.is_webhook else ()


def _account_yaml(request: RenderRequest) -> Rendered:
    return Rendered("yaml", service_account(request), tuple(_account_comments(request)), _account_notes(request))


SERVICE_ACCOUNT_KIND = Renderer(
    "service-account",
    "The ServiceAccount of the pods; with --webhook annotated for amazon-eks-pod-identity-webhook.",
    {"yaml": _account_yaml, "json": lambda request: _account_yaml(request).as_json()},
)
