"""`render apiserver-flags` and `render kubeadm`: the flags of kube-apiserver that make its tokens verifiable. Pure.

None needs a feature gate: the issuer's discovery and token projection are stable since Kubernetes 1.21 and 1.20.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mirror.addresses import jwks_uri
from mirror.errors import UsageError
from mirror.federation.render.base import ControlPlane, Rendered, Renderer, RenderRequest, Step, made_by
from mirror.model import AZURE_AUDIENCES, GOOGLE_PREFIXES, STS_AUDIENCE

Flag = tuple[str, str]
"""Name without dashes, and value; a name may stand several times."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One state of every apiserver: what it verifies with, what it signs with, and what to know about it."""

    comments: tuple[str, ...]
    key_files: tuple[str, ...]
    signing_key_file: str


def issuers(request: RenderRequest) -> tuple[str, ...]:
    """All accepted issuers, the one that is signed with and that the document names first (fact 11)."""
    former = (str(each.issuer) for each in request.issuer.former_issuers)
    return tuple(dict.fromkeys((str(request.issuer.issuer), *former, *request.control_plane.kept_issuers)))


def api_audiences(request: RenderRequest) -> tuple[str, ...]:
    """What the apiserver takes tokens for: by default its issuers, as kube-apiserver itself does without the flag."""
    return tuple(dict.fromkeys((*issuers(request), *request.control_plane.api_audiences)))


def flags(request: RenderRequest, stage: Stage) -> tuple[Flag, ...]:
    """Every flag of a stage. The key file and the issuer repeat, the signing key file never does (facts 9, 11)."""
    return (
        *(("service-account-issuer", each) for each in issuers(request)),
        ("service-account-jwks-uri", jwks_uri(request.issuer.issuer)),
        ("api-audiences", ",".join(api_audiences(request))),
        *(("service-account-key-file", each) for each in stage.key_files),
        ("service-account-signing-key-file", stage.signing_key_file),
    )


def comments(request: RenderRequest) -> Iterator[str]:
    """What holds for every stage."""
    yield "The issuer is exactly the configured text: a slash more or less, and every token is another issuer's."
    if len(issuers(request)) > 1:
        yield (
            "Several issuers: tokens name the first one, the others are accepted until their tokens are gone. Keep this"
            " order."
        )
    yield "jwks-uri is the public place of the keys; apiservers go on serving them at their own /openid/v1/jwks."
    yield (
        "api-audiences are the apiserver's own. The clouds' audience does not belong there: it would make a token that"
        " a pod shows to a cloud good at the apiserver, and every default token good at the cloud."
    )
    if len(issuers(request)) == 1:
        yield (
            "A live cluster that had another issuer: add --keep-issuer ITS-ISSUER, or all its pods are logged out at"
            " once."
        )
    yield (
        "The key file's flag may repeat and is all that is public; the public half of the signing key must be among"
        " them. No feature gate is needed since Kubernetes 1.21."
    )


def notes(request: RenderRequest) -> tuple[str, ...]:
    """What asks for a second look."""
    clouds = {*request.issuer.audiences, STS_AUDIENCE, *AZURE_AUDIENCES}
    shared = [each for each in api_audiences(request) if each in clouds or each.startswith(GOOGLE_PREFIXES)]
    return tuple(
        f"The audience {each} is a cloud's: as an audience of the apiserver it makes every pod's default token good at"
        " the cloud, and every token that is shown to the cloud good at the apiserver."
        for each in shared
    )


def stages(request: RenderRequest) -> tuple[Stage, ...]:
    """How it shall be: one stage, or the three of a rotation in their order (facts 10, 22, 23)."""
    plane = request.control_plane
    if not plane.is_rotation:
        return (Stage((), plane.key_files, plane.signing_key_file),)
    both = tuple(dict.fromkeys((*plane.key_files, *plane.new_key_files)))
    return (
        Stage(tuple(_verify_both(request)), both, plane.signing_key_file),
        Stage(tuple(_sign_with_new(request)), both, plane.new_signing_key_file),
        Stage(tuple(_forget_old(request)), plane.new_key_files, plane.new_signing_key_file),
    )


def controller_manager_key(stage: Stage) -> Flag:
    """What kube-controller-manager signs the old tokens in Secrets with: the same key, or they die with the old one."""
    return ("service-account-private-key-file", stage.signing_key_file)


def _verify_both(request: RenderRequest) -> Iterator[str]:
    plane, name = request.control_plane, request.issuer.name
    yield "Step 1 of 3: every apiserver verifies with the old and the new key, and still signs with the old one."
    yield from _make_pair(plane)
    yield "Restart one apiserver after the other: key files are read at its start only."
    held = " It is held: oidc-mirror approve publishes it." if request.issuer.keys.new_keys == "hold" else ""
    yield f"A pass of the mirror makes the new key public; oidc-mirror status {name} names it.{held}"
    yield "Then wait until it is public and every cache has it; step 2 comes when this has returned 0:"
    yield f"  oidc-mirror wait {name} KEY"


def _make_pair(plane: ControlPlane) -> Iterator[str]:
    private = plane.new_signing_key_file
    yield "The new pair, made once and copied to every control plane host:"
    yield f"  openssl genrsa -out {private} 2048"
    yield f"  openssl rsa -in {private} -pubout -out {plane.new_key_files[0]}"


def _sign_with_new(request: RenderRequest) -> Iterator[str]:
    yield "Step 2 of 3: sign with the new key; the old one still verifies. Again one apiserver after the other."
    yield "kube-controller-manager signs tokens in Secrets: give it the new --service-account-private-key-file too."
    yield (
        "Then wait until the tokens of the old key are gone: the longest expiry that a pod asks for"
        f" ({request.workload.expiration_seconds} s here), and for clients that read their token once up to a year"
        " (metric serviceaccount_stale_tokens_total). Tokens in Secrets have no expiry: make those anew."
    )


def _forget_old(request: RenderRequest) -> Iterator[str]:
    hours = request.issuer.keys.retain_removed.total_seconds() / 3600
    yield "Step 3 of 3: forget the old key. One apiserver after the other."
    yield f"The mirror takes it from the public set {hours:g} h after every apiserver stopped showing it."


_MANIFEST = "Put them into `command` of each kube-apiserver's manifest, in place of the flags of the same names."
_SHELL = "Put them into the command line of each kube-apiserver, in place of the flags of the same names."


def _words(request: RenderRequest, stage: Stage) -> list[str]:
    return [f"--{name}={value}" for name, value in flags(request, stage)]


def _comments(request: RenderRequest, how: str) -> tuple[str, ...]:
    return (made_by("apiserver-flags", request), how, *comments(request))


def _yaml(request: RenderRequest) -> Rendered:
    rollout = stages(request)
    steps = tuple(Step(each.comments, _words(request, each)) for each in rollout)
    value: Any = steps if len(steps) > 1 else steps[0]
    return Rendered("yaml", value, _comments(request, _MANIFEST), notes(request))


def _json(request: RenderRequest) -> Rendered:
    rollout = stages(request)
    value: Any = [{"step": list(each.comments), "flags": _words(request, each)} for each in rollout]
    if len(rollout) == 1:
        value = value[0]["flags"]
    return Rendered("json", value, notes=(*_comments(request, _MANIFEST)[1:], *notes(request)))


def _shell(request: RenderRequest) -> Rendered:
    commands = tuple(Step(each.comments, ("kube-apiserver", *_words(request, each))) for each in stages(request))
    return Rendered("shell", commands, _comments(request, _SHELL), notes(request))


APISERVER_FLAGS = Renderer(
    "apiserver-flags",
    "The flags of every kube-apiserver of the issuer; with --rotation the three steps of a key's rotation.",
    {"yaml": _yaml, "shell": _shell, "json": _json},
)


PKI = PurePosixPath("/etc/kubernetes/pki")
"""What kubeadm mounts into both pods anyway."""
_HOW = (
    "A new cluster:",
    "  kubeadm init --config FILE",
    "A live one: put these members into its own ClusterConfiguration. On one control plane host after the other:",
    "  kubectl -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' > FILE",
    "  kubeadm init phase control-plane apiserver --config FILE",
    "  kubeadm init phase control-plane controller-manager --config FILE",
    "And once:",
    "  kubeadm init phase upload-config kubeadm --config FILE",
)

_Arguments = Callable[[tuple[Flag, ...]], Any]


def _list(flags: tuple[Flag, ...]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in flags]


def _component(flags: tuple[Flag, ...], files: tuple[str, ...], arguments: _Arguments) -> dict[str, Any]:
    component: dict[str, Any] = {"extraArgs": arguments(flags)}
    if volumes := _volumes(files):
        component["extraVolumes"] = volumes
    return component


def _volumes(files: tuple[str, ...]) -> list[dict[str, Any]]:
    """The folders of key files that kubeadm does not mount by itself."""
    parents = dict.fromkeys(PurePosixPath(each).parent for each in files)
    folders = [each for each in parents if not each.is_relative_to(PKI)]
    return [
        {
            "name": f"service-account-keys-{number}",
            "hostPath": str(folder),
            "mountPath": str(folder),
            "readOnly": True,
            "pathType": "Directory",
        }
        for number, folder in enumerate(folders, start=1)
    ]


def _configuration(request: RenderRequest, stage: Stage, version: str, arguments: _Arguments) -> dict[str, Any]:
    files = (*stage.key_files, stage.signing_key_file)
    found: dict[str, Any] = {
        "apiVersion": f"kubeadm.k8s.io/{version}",
        "kind": "ClusterConfiguration",
        "apiServer": _component(flags(request, stage), files, arguments),
    }
    if stage.signing_key_file != ControlPlane().signing_key_file:
        manager = (controller_manager_key(stage),)
        found["controllerManager"] = _component(manager, (stage.signing_key_file,), arguments)
    return found


def _rendered(request: RenderRequest, stages: tuple[Stage, ...], version: str, arguments: _Arguments) -> Rendered:
    steps = tuple(Step(each.comments, _configuration(request, each, version, arguments)) for each in stages)
    head = (made_by("kubeadm", request), *_HOW, *comments(request))
    return Rendered("yaml", steps if len(steps) > 1 else steps[0], head, notes(request))


def _v1beta4(request: RenderRequest) -> Rendered:
    return _rendered(request, stages(request), "v1beta4", _list)


def _v1beta3(request: RenderRequest) -> Rendered:
    if len(issuers(request)) > 1:
        raise UsageError(
            "v1beta3 cannot name several issuers: a flag stands once in its map.",
            remedy="Use --format v1beta4 (kubeadm 1.31 and newer), or put the flags of `render apiserver-flags` into"
            " each manifest; without the second issuer its tokens would be refused at once.",
        )
    return _rendered(request, tuple(_in_one_file(each) for each in stages(request)), "v1beta3", dict)


def _in_one_file(stage: Stage) -> Stage:
    """The same stage for a map, which has a name once: one key file may hold several keys (fact 9)."""
    if len(stage.key_files) == 1:
        return stage
    first = PurePosixPath(stage.key_files[0])
    # Another name than those of its parts: `cat` would empty the file before it reads it.
    names = (str(first.with_name(f"sa-all{end}.pub")) for end in ("", *range(2, len(stage.key_files) + 2)))
    together = next(each for each in names if each not in stage.key_files)
    how = (
        "v1beta3's map cannot repeat service-account-key-file, but one file may hold several keys. On every host:",
        f"  cat {' '.join(stage.key_files)} > {together}",
    )
    return Stage((*stage.comments, *how), (together,), stage.signing_key_file)


KUBEADM = Renderer(
    "kubeadm",
    "The same flags as kubeadm's ClusterConfiguration.",
    {"v1beta4": _v1beta4, "v1beta3": _v1beta3},
)
