"""`render apiserver-flags` and `render kubeadm`: the flags of kube-apiserver that make its tokens verifiable. Pure.

None needs a feature gate: the issuer's discovery and token projection are stable since Kubernetes 1.21 and 1.20.
"""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mirror.addresses import jwks_uri
from mirror.errors import UsageError
from mirror.federation.render.base import ControlPlane, Rendered, Renderer, RenderRequest
from mirror.model import AZURE_AUDIENCES, GOOGLE_PREFIXES, STS_AUDIENCE, IssuerUrl

Flag = tuple[str, str]
"""Name without dashes, and value; a name may stand several times."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One state of every apiserver: what it verifies with, what it signs with, and what to do around it."""

    comments: tuple[str, ...]
    key_files: tuple[str, ...]
    signing_key_file: str


def former_issuers(request: RenderRequest) -> tuple[str, ...]:
    """The issuers that the cluster had before: those of the configuration, then those of `--keep-issuer`."""
    configured = (str(each.issuer) for each in request.issuer.former_issuers)
    former = dict.fromkeys((*configured, *request.control_plane.kept_issuers))
    return tuple(each for each in former if each != request.issuer.issuer)


def migration_step(request: RenderRequest) -> int | None:
    """The step of an issuer migration, or None for a cluster that has arrived.

    `--keep-issuer` names the present issuer of a live cluster, so without `--migration` it means the first step.

    Raises:
        UsageError: There is no other issuer to migrate from, or a rotation is asked for in the same call.
    """
    plane = request.control_plane
    step = plane.migration_step or (1 if plane.kept_issuers else None)
    if step is not None and plane.rotation_step is not None:
        raise UsageError(
            "--rotation and an issuer migration (--migration, --keep-issuer) stand in one call.",
            remedy="Finish one before you begin the other: two changes at once cannot be taken back one by one.",
        )
    if step is not None and not former_issuers(request):
        raise UsageError(
            f"--migration {step}: {request.issuer.name} has no other issuer.",
            remedy="Name the cluster's present issuer: --keep-issuer URL, or `former_issuers` in the configuration.",
        )
    return step


def issuers(request: RenderRequest) -> tuple[str, ...]:
    """All accepted issuers. Tokens and the discovery document name the first one (facts.md#11)."""
    new, former = str(request.issuer.issuer), former_issuers(request)
    match migration_step(request):
        case 1:
            return (former[0], new, *former[1:])
        case 3:
            return (new,)
        case _:
            return (new, *former)


def api_audiences(request: RenderRequest) -> tuple[str, ...]:
    """What the apiserver takes tokens for: by default its issuers, as kube-apiserver itself does without the flag."""
    return tuple(dict.fromkeys((*issuers(request), *request.control_plane.api_audiences)))


def public_jwks_uri(request: RenderRequest) -> str:
    """The `jwks_uri` of the first issuer, whose document the apiserver serves; kube-apiserver takes https only."""
    first = issuers(request)[0]
    return jwks_uri(IssuerUrl(first) if first.startswith("https://") else request.issuer.issuer)


def flags(request: RenderRequest, stage: Stage) -> tuple[Flag, ...]:
    """Every flag of a stage. The key file and the issuer repeat, the signing key file never does (facts.md#9)."""
    return (
        *(("service-account-issuer", each) for each in issuers(request)),
        ("service-account-jwks-uri", public_jwks_uri(request)),
        ("api-audiences", ",".join(api_audiences(request))),
        *(("service-account-key-file", each) for each in stage.key_files),
        ("service-account-signing-key-file", stage.signing_key_file),
    )


def comments(request: RenderRequest) -> Iterator[str]:
    """What holds for every stage."""
    yield "The issuer is exactly the configured text. A slash more or less makes another issuer."
    if len(issuers(request)) > 1:
        yield "Several issuers: tokens name the first one, and the others are accepted. Keep this order."
    yield "jwks-uri is the public URL of the keys. Apiservers still serve them at their own /openid/v1/jwks."
    yield (
        "api-audiences are the apiserver's own. The clouds' audience does not belong there: a token that a pod shows"
        " to a cloud would then be valid at the apiserver, and every default token would be valid at the cloud."
    )
    if migration_step(request) is None and len(issuers(request)) == 1:
        yield (
            "A live cluster that has another issuer now: add --keep-issuer ITS-ISSUER, or every token in the cluster"
            " is refused at once."
        )
    yield (
        "The key file's flag may repeat; its keys are the public ones. The public half of the signing key must be among"
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


def call(kind: str, request: RenderRequest, *step: str) -> str:
    """The command that renders `kind` for these apiservers; `step` are the options of one step.

    It has every option of this call that is not the default, so that what it prints fits what was printed now.
    """
    plane, usual = request.control_plane, ControlPlane()
    words = ["oidc-mirror", "render", kind, request.issuer.name]
    if request.format != _BY_NAME[kind].default_format:
        words += ["--format", request.format]
    for option, values, default in (
        ("--key-file", plane.key_files, usual.key_files),
        ("--signing-key-file", (plane.signing_key_file,), (usual.signing_key_file,)),
        ("--new-key-file", plane.new_key_files, usual.new_key_files),
        ("--new-signing-key-file", (plane.new_signing_key_file,), (usual.new_signing_key_file,)),
        ("--keep-issuer", plane.kept_issuers, ()),
        ("--api-audience", plane.api_audiences, ()),
    ):
        if values != default:
            words += [word for value in values for word in (option, value)]
    return shlex.join((*words, *step))


def stage_of(kind: str, request: RenderRequest) -> Stage:
    """The state that is asked for: at rest, or one step of a rotation or of a migration (facts.md#10, #22, #23).

    One state a call, because kubeadm reads a whole file and refuses two documents of one kind.
    """
    plane = request.control_plane
    both = tuple(dict.fromkeys((*plane.key_files, *plane.new_key_files)))
    match plane.rotation_step:
        case 1:
            return Stage(tuple(_verify_both(kind, request)), both, plane.signing_key_file)
        case 2:
            return Stage(tuple(_sign_with_new(kind, request)), both, plane.new_signing_key_file)
        case 3:
            return Stage(tuple(_forget_old(request)), plane.new_key_files, plane.new_signing_key_file)
        case _:
            return Stage(tuple(_migrate(kind, request)), plane.key_files, plane.signing_key_file)


def _verify_both(kind: str, request: RenderRequest) -> Iterator[str]:
    plane, name = request.control_plane, request.issuer.name
    yield "Rotation, step 1 of 3: verify with the old and the new key, and still sign with the old one."
    yield "Make the new pair once, and copy it to every control plane host:"
    yield f"  openssl genrsa -out {plane.new_signing_key_file} 2048"
    yield f"  openssl rsa -in {plane.new_signing_key_file} -pubout -out {plane.new_key_files[0]}"
    yield "Restart one apiserver after the other: an apiserver reads key files at its start only."
    held = " It waits for approval: oidc-mirror approve publishes it." if request.issuer.keys.new_keys == "hold" else ""
    yield f"The next pass of the mirror publishes the new key. oidc-mirror status {name} shows its kid.{held}"
    yield "Wait until the key is public and caches have expired. Go to step 2 when the first command has returned 0:"
    yield f"  oidc-mirror wait {name} KEY"
    yield f"  {call(kind, request, '--rotation', '2')}"


_FIND_SECRETS = "  kubectl get secrets --all-namespaces --field-selector type=kubernetes.io/service-account-token"


def _sign_with_new(kind: str, request: RenderRequest) -> Iterator[str]:
    yield "Rotation, step 2 of 3: sign with the new key. The old one still verifies. One apiserver after the other."
    yield (
        f"Give kube-controller-manager --service-account-private-key-file={request.control_plane.new_signing_key_file}"
        " on every host too. It signs tokens in Secrets, and it does not start when its key file is gone."
    )
    yield "Tokens in Secrets have no expiry and end with the old key. Find them, delete them and create them again:"
    yield _FIND_SECRETS
    yield (
        "Then wait until the tokens of the old key are gone: the longest expiry that a pod asks for"
        f" ({request.workload.expiration_seconds} s here), and up to a year for clients that read their token once"
        " (metric serviceaccount_stale_tokens_total)."
    )
    yield "Renew the mirror's own token (`auth.token_file`) before step 3: the old one is refused from then on."
    yield f"  {call(kind, request, '--rotation', '3')}"


def _forget_old(request: RenderRequest) -> Iterator[str]:
    hours = request.issuer.keys.retain_removed.total_seconds() / 3600
    yield "Rotation, step 3 of 3: forget the old key. One apiserver after the other."
    yield (
        "Delete the old private key only when every kube-controller-manager runs with the new"
        " --service-account-private-key-file."
    )
    yield f"The mirror removes the old key from the public set {hours:g} h after every apiserver stopped showing it."


def _migrate(kind: str, request: RenderRequest) -> Iterator[str]:
    name, new, former = request.issuer.name, request.issuer.issuer, former_issuers(request)
    match migration_step(request):
        case 1:
            yield f"Migration, step 1 of 3: every apiserver accepts {new}. Tokens still name {former[0]}."
            yield "Restart one apiserver after the other. An apiserver refuses tokens of issuers that it does not list."
            yield "When every apiserver runs with these flags, go to step 2:"
            yield f"  {call(kind, request, '--migration', '2')}"
        case 2:
            yield f"Migration, step 2 of 3: tokens name {new}. The former issuer is still accepted."
            yield "Begin only when every apiserver runs with the flags of step 1."
            yield (
                "Take the first apiserver out of its load balancer and restart it: the mirror reads the new issuer's"
                " documents there. Put it back, and go on with the others, when this command finds them public:"
            )
            yield f"  oidc-mirror verify {name}"
            yield (
                "Then wait until the tokens of the former issuer are gone: the longest expiry that a pod asks for"
                f" ({request.workload.expiration_seconds} s here). Tokens in Secrets have no expiry; recreate them:"
            )
            yield _FIND_SECRETS
            yield "Renew the mirror's own token (`auth.token_file`) before step 3:"
            yield f"  {call(kind, request, '--migration', '3')}"
        case 3:
            yield f"Migration, step 3 of 3: {', '.join(former)} is accepted no longer. One apiserver after the other."
            yield "The mirror serves its documents as long as `former_issuers` lists it."
        case _:
            return


_MANIFEST = "Put them into `command` of each kube-apiserver's manifest, in place of the flags of the same names."
_SHELL = "Put them into the command line of each kube-apiserver, in place of the flags of the same names."


def _made_by(kind: str, request: RenderRequest) -> str:
    """As the other kinds say it, with the options of the step."""
    plane = request.control_plane
    steps = (("--rotation", plane.rotation_step), ("--migration", plane.migration_step))
    words = (word for option, step in steps if step is not None for word in (option, str(step)))
    return f"Made by `{call(kind, request, *words)}` for issuer {request.issuer.issuer}"


def _words(request: RenderRequest, stage: Stage) -> list[str]:
    return [f"--{name}={value}" for name, value in flags(request, stage)]


def _comments(request: RenderRequest, stage: Stage, how: str) -> tuple[str, ...]:
    return (_made_by("apiserver-flags", request), how, *comments(request), *stage.comments)


def _yaml(request: RenderRequest) -> Rendered:
    stage = stage_of("apiserver-flags", request)
    return Rendered("yaml", _words(request, stage), _comments(request, stage, _MANIFEST), notes(request))


def _json(request: RenderRequest) -> Rendered:
    stage = stage_of("apiserver-flags", request)
    said = (each.strip() for each in _comments(request, stage, _MANIFEST)[1:])
    return Rendered("json", _words(request, stage), notes=(*said, *notes(request)))


def _shell(request: RenderRequest) -> Rendered:
    stage = stage_of("apiserver-flags", request)
    command = ("kube-apiserver", *_words(request, stage))
    return Rendered("shell", (command,), _comments(request, stage, _SHELL), notes(request))


APISERVER_FLAGS = Renderer(
    "apiserver-flags",
    "The flags of every kube-apiserver of the issuer; one step of a key rotation with --rotation 1, 2 or 3.",
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


def _kubeadm(request: RenderRequest, stage: Stage, version: str, arguments: _Arguments) -> Rendered:
    files = (*stage.key_files, stage.signing_key_file)
    found: dict[str, Any] = {
        "apiVersion": f"kubeadm.k8s.io/{version}",
        "kind": "ClusterConfiguration",
        "apiServer": _component(flags(request, stage), files, arguments),
    }
    if stage.signing_key_file != ControlPlane().signing_key_file:
        # What kube-controller-manager signs tokens in Secrets with: it does not start without that file.
        manager = (("service-account-private-key-file", stage.signing_key_file),)
        found["controllerManager"] = _component(manager, (stage.signing_key_file,), arguments)
    said = (_made_by("kubeadm", request), *_HOW, *comments(request), *stage.comments)
    return Rendered("yaml", found, said, notes(request))


def _v1beta4(request: RenderRequest) -> Rendered:
    return _kubeadm(request, stage_of("kubeadm", request), "v1beta4", _list)


def _v1beta3(request: RenderRequest) -> Rendered:
    if len(issuers(request)) > 1:
        raise UsageError(
            "v1beta3 cannot name several issuers: its map holds a flag once.",
            remedy="Use --format v1beta4 (kubeadm 1.31 and newer), or put the flags of `render apiserver-flags` into"
            " each manifest; without the second issuer its tokens would be refused at once.",
        )
    return _kubeadm(request, _in_one_file(stage_of("kubeadm", request)), "v1beta3", dict)


def _in_one_file(stage: Stage) -> Stage:
    """The same stage for a map, which has a name once: one key file may hold several keys (facts.md#9)."""
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
    "The same flags as kubeadm's ClusterConfiguration, one document a call.",
    {"v1beta4": _v1beta4, "v1beta3": _v1beta3},
)

_BY_NAME = {each.name: each for each in (APISERVER_FLAGS, KUBEADM)}
