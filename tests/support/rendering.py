"""One cluster whose pieces are rendered, and the pieces as values read back from their text."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mirror.config.settings import Issuer, PublishSettings, RepositorySettings, Settings
from mirror.federation.render import KINDS
from mirror.federation.render.base import ControlPlane, MirrorIdentity, RenderRequest, Workload, text_of
from mirror.model import IssuerName, IssuerUrl

BASE = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com"
ISSUER = IssuerUrl(f"{BASE}/cluster/identifier/")
AUDIENCES = ("cluster.identifier.kubernetes.domain", "sts.amazonaws.com")
PUBLISH = PublishSettings("oidc-bucket", "ap-southeast-2", BASE)
ENTRY = Issuer(IssuerName("syd-prod"), ISSUER, PUBLISH, apiservers=("https://10.0.0.11:6443",), audiences=AUDIENCES)
ACCOUNT = "111122223333"
VERSIONS = ("1.25", "1.29", "1.33", "1.37")
Object = dict[str, Any]


def request(
    kind: str,
    form: str | None = None,
    *,
    issuer: Issuer = ENTRY,
    workload: Workload | None = None,
    control_plane: ControlPlane | None = None,
    login: MirrorIdentity | None = None,
) -> RenderRequest:
    return RenderRequest(
        Settings(Path("state"), RepositorySettings(Path("git")), (issuer,)),
        issuer,
        form or KINDS[kind].default_format,
        workload or Workload(),
        control_plane or ControlPlane(),
        login or MirrorIdentity(),
    )


def text(kind: str, form: str | None = None, **asked: Any) -> str:
    return text_of(KINDS[kind].render(request(kind, form, **asked)))


def notes(kind: str, form: str | None = None, **asked: Any) -> str:
    return " ".join(KINDS[kind].render(request(kind, form, **asked)).notes)


def objects(kind: str, form: str | None = None, **asked: Any) -> list[Any]:
    """Every document of a YAML piece, read back."""
    return list(yaml.safe_load_all(text(kind, form, **asked)))


def comments(kind: str, form: str | None = None, **asked: Any) -> str:
    """The comments of a piece as running text."""
    lines = text(kind, form, **asked).splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def demand_valid(found: Object) -> None:
    """No member that one of the versions does not know, none missing."""
    _demand_valid(json.dumps(found))


@cache
def _demand_valid(found: str) -> None:
    import kubernetes_validate  # noqa: PLC0415  a tenth of a second, for a few tests

    for version in VERSIONS:
        kubernetes_validate.validate(json.loads(found), version, strict=True)


def with_audiences(*audiences: str) -> Issuer:
    return replace(ENTRY, audiences=audiences)
