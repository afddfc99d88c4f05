"""ServiceAccount and pod: the token that is mounted, what the SDKs read, and what a webhook reads instead."""

import json
from typing import Any

import pytest

from mirror.errors import UsageError
from mirror.federation.render.base import Workload
from support.rendering import ACCOUNT, comments, demand_valid, notes, objects, text, with_audiences

ARN = f"arn:aws:iam::{ACCOUNT}:role/teams/deployer"
FULL = Workload("shop", "cart.v2", role_arn=ARN, expiration_seconds=43_200, image="registry.invalid/cart@sha256:0")
WORKLOADS = [
    pytest.param(Workload(), id="default"),
    pytest.param(FULL, id="full"),
    pytest.param(Workload(is_webhook=True, account=ACCOUNT), id="webhook"),
]


def env(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def token(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = (each["projected"]["sources"] for each in pod["spec"]["volumes"] if "projected" in each)
    assert isinstance(found[0]["serviceAccountToken"], dict)
    return found[0]["serviceAccountToken"]


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize(("kind", "form"), [("service-account", "yaml"), ("pod", "yaml"), ("pod", "configmap")])
def test_object_fits_the_schemas_of_old_and_new_clusters(kind: str, form: str, workload: Workload) -> None:
    """Strictly: an unknown member is a mistake."""
    for found in objects(kind, form, workload=workload):
        demand_valid(found)


@pytest.mark.parametrize("kind", ["service-account", "pod", "rbac"])
def test_json_is_the_same_object(kind: str) -> None:
    """For tools that take no YAML."""
    read = json.loads(text(kind, "json", workload=FULL))
    assert (read["items"] if kind == "rbac" else [read]) == objects(kind, workload=FULL)


def test_pod_finds_its_token_where_the_environment_says() -> None:
    """The file is the mounted one; audience and life are those asked for."""
    (pod,) = objects("pod", workload=FULL)
    (container,) = pod["spec"]["containers"]
    mount = container["volumeMounts"][0]
    found = token(pod)
    assert env(container)["AWS_WEB_IDENTITY_TOKEN_FILE"] == f"{mount['mountPath']}/{found['path']}"
    assert found == {"audience": "sts.amazonaws.com", "expirationSeconds": 43_200, "path": "token"}
    assert (mount["name"], mount["readOnly"]) == (pod["spec"]["volumes"][0]["name"], True)
    assert env(container)["AWS_ROLE_ARN"] == ARN
    assert env(container)["AWS_REGION"] == "ap-southeast-2"
    assert env(container)["AWS_STS_REGIONAL_ENDPOINTS"] == "regional"
    assert container["image"] == FULL.image


def test_pod_can_read_its_token_without_being_root() -> None:
    """Old kubelets write the file with mode 0600 for root; fsGroup opens it to the group."""
    (pod,) = objects("pod")
    context = pod["spec"]["securityContext"]
    assert (context["runAsNonRoot"], context["fsGroup"]) == (True, context["runAsGroup"])
    assert "before 1.19" in comments("pod")


def test_pod_is_that_of_its_service_account() -> None:
    """Names agree, and a name with dots makes a pod's name."""
    (account,), (pod,) = objects("service-account", workload=FULL), objects("pod", workload=FULL)
    assert pod["metadata"] == {"name": "cart-v2", "namespace": account["metadata"]["namespace"]}
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"] == "cart.v2"


def test_config_map_has_what_the_environment_would() -> None:
    """And the pod takes all of it."""
    settings, shared = objects("pod", "configmap")
    (pod,) = objects("pod")
    assert settings["data"] == env(pod["spec"]["containers"][0])
    (source,) = shared["spec"]["containers"][0]["envFrom"]
    assert source == {"configMapRef": {"name": settings["metadata"]["name"]}}
    assert shared["metadata"]["namespace"] == settings["metadata"]["namespace"]


def test_webhook_reads_annotations_and_the_pod_has_nothing() -> None:
    """What it would mount is not mounted twice."""
    asked = Workload(is_webhook=True, account=ACCOUNT)
    (account,), (pod,) = objects("service-account", workload=asked), objects("pod", workload=asked)
    assert account["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": f"arn:aws:iam::{ACCOUNT}:role/syd-prod-default-app",
        "eks.amazonaws.com/audience": "sts.amazonaws.com",
        "eks.amazonaws.com/token-expiration": "3600",
        "eks.amazonaws.com/sts-regional-endpoints": "true",
    }
    assert env(pod["spec"]["containers"][0]) == {"HOME": "/tmp"}
    assert [list(each) for each in pod["spec"]["volumes"]] == [["name", "emptyDir"]]
    assert "webhook" in comments("pod", workload=asked)
    assert "annotations" not in objects("service-account")[0]["metadata"]


@pytest.mark.parametrize(("kind", "is_webhook"), [("pod", False), ("service-account", True)])
def test_missing_account_is_not_guessed(kind: str, is_webhook: bool) -> None:
    """The ARN cannot be taken for a real one, and a note says what to give."""
    asked = Workload(is_webhook=is_webhook)
    assert "arn:aws:iam::ACCOUNT:role/syd-prod-default-app" in text(kind, workload=asked)
    assert "--account" in notes(kind, workload=asked)
    assert notes(kind, workload=Workload(is_webhook=is_webhook, account=ACCOUNT)) == ""


@pytest.mark.parametrize(
    ("subjects", "found"),
    [
        pytest.param(("system:serviceaccount:a:b",), ("a", "b"), id="one"),
        pytest.param(("system:serviceaccount:a:*", "system:serviceaccount:c:d"), ("c", "d"), id="pattern-first"),
        pytest.param(
            ("system:serviceaccount:a:b", "system:serviceaccount:default:app"), ("default", "app"), id="asked"
        ),
    ],
)
def test_pod_is_one_of_the_subjects(subjects: tuple[str, ...], found: tuple[str, str]) -> None:
    """A pod that the role refuses is never printed."""
    (pod,) = objects("pod", workload=Workload(subjects=subjects))
    assert (pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]) == found


def test_subject_of_no_service_account_makes_no_pod() -> None:
    """Refused, with the words that help."""
    with pytest.raises(UsageError, match="No subject names a ServiceAccount"):
        text("pod", workload=Workload(subjects=("spiffe://a/b",)))


@pytest.mark.parametrize(
    ("audiences", "asked", "found"),
    [
        pytest.param(("a", "sts.amazonaws.com"), None, "sts.amazonaws.com", id="usual"),
        pytest.param(("api://AzureADTokenExchange", "a", "b"), None, "a", id="no-other-clouds"),
        pytest.param(("api://AzureADTokenExchange",), None, "sts.amazonaws.com", id="only-another-clouds"),
        pytest.param(("a", "b"), "b", "b", id="asked"),
    ],
)
def test_token_has_the_audience_of_its_cloud(audiences: tuple[str, ...], asked: str | None, found: str) -> None:
    """One for one cloud is good at no other, where the configuration has enough of them."""
    (pod,) = objects("pod", issuer=with_audiences(*audiences), workload=Workload(audience=asked))
    assert token(pod)["audience"] == found


def test_audience_that_is_not_configured_is_refused() -> None:
    """An audience that is configured for no cloud is rejected."""
    with pytest.raises(UsageError, match="no such audience"):
        text("pod", workload=Workload(audience="other"))
