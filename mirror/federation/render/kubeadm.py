"""`render kubeadm`: the same flags as a ClusterConfiguration (kubeadm API reference, v1beta4 and v1beta3)."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from mirror.errors import UsageError
from mirror.federation.render.apiserver import (
    Flag,
    Stage,
    comments,
    controller_manager_key,
    flags,
    issuers,
    notes,
    stages,
)
from mirror.federation.render.base import ControlPlane, Kind, Rendered, Request, Step, made_by

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


def _list(found: tuple[Flag, ...]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in found]


def _component(found: tuple[Flag, ...], files: tuple[str, ...], arguments: _Arguments) -> dict[str, Any]:
    component: dict[str, Any] = {"extraArgs": arguments(found)}
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


def _configuration(request: Request, stage: Stage, version: str, arguments: _Arguments) -> dict[str, Any]:
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


def _rendered(request: Request, told: tuple[Stage, ...], version: str, arguments: _Arguments) -> Rendered:
    steps = tuple(Step(each.comments, _configuration(request, each, version, arguments)) for each in told)
    head = (made_by("kubeadm", request), *_HOW, *comments(request))
    return Rendered("yaml", steps if len(steps) > 1 else steps[0], head, notes(request))


def _v1beta4(request: Request) -> Rendered:
    return _rendered(request, stages(request), "v1beta4", _list)


def _v1beta3(request: Request) -> Rendered:
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


KIND = Kind(
    "kubeadm",
    "The same flags as kubeadm's ClusterConfiguration.",
    {"v1beta4": _v1beta4, "v1beta3": _v1beta3},
)
