"""kubeconfig files for tests, in the shape that kubectl writes."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from support.tls import authority


def ca_data(name: str = "cluster") -> str:
    """`certificate-authority-data` of the CA of that name."""
    return b64encode(authority(name).cert_pem.bytes()).decode()


def content(
    server: str, *, cluster: Mapping[str, Any] | None = None, user: Mapping[str, Any] | None = None, **changes: object
) -> dict[str, Any]:
    """One context `admin@syd`; `cluster` and `user` add members, None takes one away, `changes` replace sections."""
    where = {"server": server, "certificate-authority-data": ca_data()} | dict(cluster or {})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [{"name": "syd", "cluster": {key: value for key, value in where.items() if value is not None}}],
        "contexts": [{"name": "admin@syd", "context": {"cluster": "syd", "user": "admin", "namespace": "default"}}],
        "users": [{"name": "admin", "user": dict(user or {})}],
        "current-context": "admin@syd",
    } | changes


def write(path: Path, data: object) -> Path:
    """`data` as YAML in `path`."""
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def kubeconfig(folder: Path, server: str, **parts: Any) -> Path:
    """The kubeconfig of `content`, written into `folder`."""
    return write(folder / "kubeconfig", content(server, **parts))
