"""All kinds at once: issuer, audience, subject, paths and ARNs cannot disagree, because they come from one place."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from mirror.federation.render import KINDS
from mirror.federation.render.base import Workload
from support.rendering import ACCOUNT, ENTRY, ISSUER, objects, text

HERE = ISSUER.removeprefix("https://")
WORKLOADS = [
    pytest.param(Workload(account=ACCOUNT), id="plain"),
    pytest.param(Workload("shop", "cart", role_arn=f"arn:aws:iam::{ACCOUNT}:role/cart"), id="role-arn"),
    pytest.param(
        Workload("shop", "cart", account=ACCOUNT, audience="sts.amazonaws.com", is_webhook=True), id="webhook"
    ),
    pytest.param(Workload(account=ACCOUNT, role_name="r", subjects=("system:serviceaccount:a:b",)), id="subject"),
]


@dataclass(frozen=True, slots=True)
class Said:
    """One word of a piece that names something that other pieces name too."""

    what: str
    value: str


def _trust(policy: Any) -> Iterator[Said]:
    (statement,) = policy["Statement"]
    condition = statement["Condition"]["StringEquals"]
    yield Said("provider", str(statement["Principal"]["Federated"]).rpartition("oidc-provider/")[2].rstrip("'}"))
    for key, value in condition.items():
        issuer, _, claim = key.rpartition(":")
        yield Said("provider", issuer)
        for each in value if isinstance(value, list) else [value]:
            yield Said("accepted audience" if claim == "aud" else "subject", each)


def said(workload: Workload) -> Iterator[Said]:
    """What every kind says, each read back from its text."""
    asked: dict[str, Any] = {"workload": workload}
    for flag in objects("apiserver-flags", **asked)[0]:
        name, _, value = flag.removeprefix("--").partition("=")
        if name == "service-account-issuer":
            yield Said("issuer", value)
        if name == "service-account-jwks-uri":
            yield Said("jwks", value.removeprefix(f"{ENTRY.publish.base_url}/"))
    for argument in objects("kubeadm", **asked)[0]["apiServer"]["extraArgs"]:
        if argument["name"] == "service-account-issuer":
            yield Said("issuer", argument["value"])
    for kind in ("bucket-policy", "writer-policy"):
        for resource in json.loads(text(kind, **asked))["Statement"][0]["Resource"]:
            if resource.endswith("jwks"):
                yield Said("jwks", resource.partition(":::oidc-bucket/")[2])
    provider = json.loads(text("iam-provider", "json", **asked))["Resources"]["Provider"]["Properties"]
    yield Said("issuer", provider["Url"])
    yield from (Said("known audience", each) for each in provider["ClientIdList"])
    role = json.loads(text("iam-role", "json", **asked))["Resources"]["Role"]["Properties"]
    yield Said("role", role["RoleName"])
    yield from _trust(role["AssumeRolePolicyDocument"])
    yield from _trust(json.loads(text("iam-role", "trust-policy", **asked)))
    yield from _of_pods(asked)
    yield from _of_other_clouds(asked)


def _of_pods(asked: dict[str, Any]) -> Iterator[Said]:
    (account,), (pod,) = objects("service-account", **asked), objects("pod", **asked)
    for namespace, name in (
        (account["metadata"]["namespace"], account["metadata"]["name"]),
        (pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]),
    ):
        yield Said("subject", f"system:serviceaccount:{namespace}:{name}")
    reported = account["metadata"].get("annotations", {})
    if reported:
        yield Said("role", reported["eks.amazonaws.com/role-arn"].rpartition("/")[2])
        yield Said("token audience", reported["eks.amazonaws.com/audience"])
        return
    environ = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    yield Said("role", environ["AWS_ROLE_ARN"].rpartition("/")[2])
    yield Said(
        "token audience", pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"]
    )


def _of_other_clouds(asked: dict[str, Any]) -> Iterator[Said]:
    words = shlex.split(text("workload-identity-provider", **asked), comments=True)
    yield from (Said("issuer", each.partition("=")[2]) for each in words if each.startswith("issuer="))
    yield from (Said("subject", each.rpartition("/")[2]) for each in words if each.startswith("--member="))
    credential = json.loads(text("federated-credential", "json", **asked))
    yield Said("issuer", credential["issuer"])
    yield Said("subject", credential["subject"])


@pytest.mark.parametrize("workload", WORKLOADS)
def test_pieces_agree(workload: Workload) -> None:
    """One issuer, one provider, one JWKS, one subject, one role; and the pod's audience is one that both accept."""
    found: dict[str, set[str]] = {}
    for each in said(workload):
        found.setdefault(each.what, set()).add(each.value)
    assert found["issuer"] == {ISSUER}
    assert found["provider"] == {HERE}
    assert found["jwks"] == {"cluster/identifier/openid/v1/jwks"}
    assert found["subject"] == set(workload.all_subjects())
    assert len(found["role"]) == len(found["token audience"]) == 1
    assert found["token audience"] <= found["accepted audience"] <= found["known audience"]
    assert found["known audience"] == ({workload.audience} if workload.audience else set(ENTRY.audiences))


@pytest.mark.parametrize(("kind", "form"), [(each.name, form) for each in KINDS.values() for form in each.formats])
def test_no_piece_knows_another_issuer(kind: str, form: str) -> None:
    """Wherever a piece has a text that looks like the issuer, it is the issuer, whole, or our place below it."""
    written = text(kind, form, workload=Workload(account=ACCOUNT))
    for each in re.findall(r"oidc-bucket\.s3\.ap-southeast-2\.amazonaws\.com[A-Za-z0-9./_-]*", written):
        assert each in (HERE, f"{HERE}openid/v1/jwks", f"{HERE}.well-known/openid-configuration")


def test_yaml_says_what_json_says() -> None:
    """CloudFormation's two syntaxes are one template."""
    for kind in ("iam-provider", "iam-role"):
        assert yaml.safe_load(text(kind, "cloudformation")) == json.loads(text(kind, "json"))
