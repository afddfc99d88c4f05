"""A stand-in for `kubectl` in the guide: applies manifests, creates ServiceAccount tokens, and shows the log of a pod.

Run it as `python kubectl.py FOLDER ARGUMENTS…`. It stores applied manifests in FOLDER. The log of a pod is the output
of the command in `render pod`, `aws sts get-caller-identity`; boto3 makes that call here.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import boto3.session
import yaml

from support.situations import ISSUER
from support.tokens import claims, derived_signer, mint

GUIDE_KEY = "guide 1"
NAMESPACE = "default"


def answer(folder: Path, words: list[str]) -> str:
    """The output of kubectl."""
    match words:
        case ["apply", "-f", "-"]:
            return "\n".join(apply(folder, each) for each in yaml.safe_load_all(sys.stdin))
        case ["create", "token", name, "--audience", audience]:
            return token(name, audience, 3600)
        case ["logs", name]:
            return log(folder, json.loads(place(folder, "Pod", name).read_text())["spec"])
        case _:
            sys.exit(f"not in this world: kubectl {' '.join(words)}")


def place(folder: Path, kind: str, name: str) -> Path:
    return folder / f"{kind}-{name}.json"


def apply(folder: Path, manifest: dict[str, Any]) -> str:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    assert manifest["metadata"]["namespace"] == NAMESPACE, manifest
    place(folder, kind, name).write_text(json.dumps(manifest))
    return f"{kind.lower()}/{name} created"


def token(account: str, audience: str, seconds: int) -> str:
    """A token as the cluster issues it, one second old."""
    now = int(time.time()) - 1
    payload = claims(now, sub=f"system:serviceaccount:{NAMESPACE}:{account}", aud=[audience], exp=now + seconds)
    return mint(derived_signer(GUIDE_KEY), payload | {"iss": ISSUER}).decode()


def log(folder: Path, pod: dict[str, Any]) -> str:
    """The output of the container: its identity, with the credentials that an SDK finds in the pod."""
    assert place(folder, "ServiceAccount", pod["serviceAccountName"]).exists(), "the ServiceAccount comes first"
    (container,) = pod["containers"]
    assert container["args"] == ["sts", "get-caller-identity"], container
    environ = {each["name"]: each["value"] for each in container["env"]}
    projected = pod["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    file = folder / "pod-token"
    file.write_text(token(pod["serviceAccountName"], projected["audience"], projected["expirationSeconds"]))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del os.environ[name]  # a pod has no access keys
    os.environ.update(environ | {"AWS_WEB_IDENTITY_TOKEN_FILE": str(file)})
    found = boto3.session.Session().client("sts").get_caller_identity()
    return json.dumps({name: found[name] for name in ("UserId", "Account", "Arn")}, indent=4)


if __name__ == "__main__":
    print(answer(Path(sys.argv[1]), sys.argv[2:]))
