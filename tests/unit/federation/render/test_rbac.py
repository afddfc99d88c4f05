"""What each way to log in gets in the cluster, and that nothing else does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.config.settings import AuthSettings, Issuer, TlsSettings
from mirror.federation.render.base import MirrorIdentity
from mirror.federation.render.rbac import UNKNOWN_USER
from support.rendering import ENTRY, comments, demand_valid, notes, objects, text

ROLE = "system:service-account-issuer-discovery"
GROUP = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}
TOKEN = replace(ENTRY, auth=AuthSettings(token_file=Path("/run/token")))
INSIDE = replace(ENTRY, auth=AuthSettings(token_file=Path("/run/token"), in_cluster=True), discover="endpointslices")
CERTIFICATE = replace(ENTRY, tls=TlsSettings(client_cert_file=Path("mirror.crt"), client_key_file=Path("mirror.key")))
KUBECONFIG = replace(ENTRY, auth=AuthSettings(kubeconfig=Path("admin.conf")))
MIRROR = MirrorIdentity("oidc", "mirror", way="service-account")


def user(name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}


CASES = [
    pytest.param(ENTRY, MirrorIdentity(), [GROUP], id="anonymous"),
    pytest.param(TOKEN, MIRROR, [], id="token"),
    pytest.param(KUBECONFIG, MIRROR, [], id="kubeconfig-token"),
    pytest.param(CERTIFICATE, MirrorIdentity(user="mirror", way="user"), [user("mirror")], id="certificate"),
    pytest.param(KUBECONFIG, MirrorIdentity(user="admin", way="user"), [user("admin")], id="kubeconfig-certificate"),
    pytest.param(CERTIFICATE, MirrorIdentity(way="user"), [user(UNKNOWN_USER)], id="certificate-elsewhere"),
]


@pytest.mark.parametrize(("issuer", "login", "subjects"), CASES)
def test_login_gets_a_binding_for_itself_alone(issuer: Issuer, login: MirrorIdentity, subjects: list[Any]) -> None:
    """Exactly one binding to exactly its subject, or none where every cluster has one (facts.md#15)."""
    found = objects("rbac", issuer=issuer, login=login)
    bindings = [each for each in found if each["kind"] == "ClusterRoleBinding"]
    assert [each["subjects"] for each in bindings] == [subjects] * bool(subjects)
    assert all(each["roleRef"]["name"] == ROLE for each in bindings)
    assert [each["kind"] for each in found if each not in bindings] == ["ServiceAccount"] * (not subjects)
    for each in found:
        demand_valid(each)


def test_anonymous_access_names_the_better_way() -> None:
    """The comment says that a ServiceAccount token needs no binding."""
    assert "any ServiceAccount token of the cluster may read them" in comments("rbac")


def test_token_needs_no_binding_and_the_comment_says_so() -> None:
    """What is printed is the ServiceAccount alone, without a token that is mounted by itself."""
    (found,) = objects("rbac", issuer=TOKEN, login=MIRROR)
    assert found["metadata"] == {"name": "mirror", "namespace": "oidc"}
    assert found["automountServiceAccountToken"] is False
    assert "A ServiceAccount token needs no binding" in comments("rbac", issuer=TOKEN, login=MIRROR)
    assert "unauthenticated" not in text("rbac", issuer=TOKEN, login=MIRROR)


def test_unknown_name_is_reported() -> None:
    """A certificate that is elsewhere leaves a name that nobody has, and a note to replace it."""
    assert UNKNOWN_USER in notes("rbac", issuer=CERTIFICATE, login=MirrorIdentity(way="user"))
    assert notes("rbac", issuer=CERTIFICATE, login=MirrorIdentity(user="mirror", way="user")) == ""


@pytest.mark.parametrize(
    ("issuer", "login", "subject"),
    [
        pytest.param(
            INSIDE, MIRROR, {"kind": "ServiceAccount", "name": "mirror", "namespace": "oidc"}, id="in-cluster"
        ),
        pytest.param(
            replace(CERTIFICATE, discover="endpointslices"), MirrorIdentity(user="m", way="user"), user("m"), id="user"
        ),
        pytest.param(replace(ENTRY, discover="endpointslices"), MirrorIdentity(), GROUP, id="anonymous"),
    ],
)
def test_discovery_reads_the_slices_of_default(issuer: Issuer, login: MirrorIdentity, subject: dict[str, str]) -> None:
    """A Role in `default` that lists EndpointSlices and nothing else, bound to who asks."""
    *_, role, binding = objects("rbac", issuer=issuer, login=login)
    assert role["rules"] == [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}]
    assert (role["metadata"]["namespace"], binding["metadata"]["namespace"]) == ("default", "default")
    assert (binding["subjects"], binding["roleRef"]["name"]) == ([subject], role["metadata"]["name"])
    for each in (role, binding):
        demand_valid(each)
