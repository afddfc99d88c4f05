"""Flags and kubeadm's configuration: what apiservers are told, at rest, in a rotation and in a migration."""

import json
import shlex
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from mirror.config.settings import FormerIssuerSettings
from mirror.errors import UsageError
from mirror.federation.render.base import ControlPlane
from mirror.model import IssuerUrl
from support.rendering import BASE, ENTRY, ISSUER, comments, notes, objects, text

JWKS_URI = f"{BASE}/cluster/identifier/openid/v1/jwks"
DEFAULT = "https://kubernetes.default.svc.cluster.local"
OLD, NEW = "/etc/kubernetes/pki/sa", "/etc/kubernetes/pki/sa-new"
MOVED = replace(ENTRY, former_issuers=(FormerIssuerSettings(IssuerUrl(f"{BASE}/old"), date(2027, 1, 31)),))
ROTATION = ControlPlane(is_rotation=True)

# kubeadm API reference: the members of ClusterConfiguration that are used here, and their types. No package of schemas
# has kubeadm's own kinds, so this table stands in for one; what is not in it is refused.
_TEXT, _FLAG = str, bool
_VOLUME = {"name": _TEXT, "hostPath": _TEXT, "mountPath": _TEXT, "readOnly": _FLAG, "pathType": _TEXT}
_ARGUMENTS: dict[str, Any] = {"v1beta4": [{"name": _TEXT, "value": _TEXT}], "v1beta3": {str: _TEXT}}


def shape(version: str) -> dict[str, Any]:
    component = {"extraArgs": _ARGUMENTS[version], "extraVolumes": [_VOLUME]}
    return {"apiVersion": _TEXT, "kind": _TEXT, "apiServer": component, "controllerManager": component}


def demand(value: Any, wanted: Any, where: str = "") -> None:
    """The value has the members and types of the table, and no other."""
    if isinstance(wanted, list):
        assert isinstance(value, list), where
        for number, each in enumerate(value):
            demand(each, wanted[0], f"{where}[{number}]")
    elif isinstance(wanted, dict):
        assert isinstance(value, dict), where
        for key, each in value.items():
            assert key in wanted or str in wanted, f"{where}.{key}"
            demand(each, wanted.get(key, wanted.get(str)), f"{where}.{key}")
    else:
        assert isinstance(value, wanted), where


def flags(found: list[str]) -> list[tuple[str, str]]:
    pairs = [each.removeprefix("--").partition("=") for each in found]
    return [(name, value) for name, _, value in pairs]


def arguments(found: dict[str, Any], component: str = "apiServer") -> list[tuple[str, str]]:
    extra = found[component]["extraArgs"]
    return list(extra.items()) if isinstance(extra, dict) else [(each["name"], each["value"]) for each in extra]


def values(pairs: list[tuple[str, str]], name: str) -> list[str]:
    return [value for each, value in pairs if each == name]


def test_flags_are_those_of_the_article_corrected() -> None:
    """The exact issuer with its slash, our jwks_uri, its own audience, no feature gate (facts 9, 12, 30)."""
    (found,) = objects("apiserver-flags")
    assert found == [
        f"--service-account-issuer={ISSUER}",
        f"--service-account-jwks-uri={JWKS_URI}",
        f"--api-audiences={ISSUER}",
        f"--service-account-key-file={OLD}.pub",
        f"--service-account-signing-key-file={OLD}.key",
    ]


@pytest.mark.parametrize("control_plane", [ControlPlane(), ROTATION], ids=["plain", "rotation"])
def test_every_form_says_the_same(control_plane: ControlPlane) -> None:
    """YAML, JSON, a command line and kubeadm's two configurations have one set of flags."""
    steps = 3 if control_plane.is_rotation else 1
    lists = objects("apiserver-flags", control_plane=control_plane)
    read = json.loads(text("apiserver-flags", "json", control_plane=control_plane))
    assert [each["flags"] for each in read] == lists if steps > 1 else [read] == lists
    lines = [
        line for line in text("apiserver-flags", "shell", control_plane=control_plane).splitlines() if line[0] != "#"
    ]
    assert [shlex.split(line)[1:] for line in lines] == lists
    assert [arguments(each) for each in objects("kubeadm", control_plane=control_plane)] == list(map(flags, lists))
    assert len(lists) == steps


@pytest.mark.parametrize("version", ["v1beta4", "v1beta3"])
@pytest.mark.parametrize("is_rotation", [False, True])
def test_kubeadm_configuration_has_only_known_members(version: str, is_rotation: bool) -> None:
    """Of the documented types; and a file outside of kubeadm's own folder is mounted."""
    plane = ControlPlane(
        is_rotation=is_rotation, new_signing_key_file="/etc/keys/new.key", new_key_files=("/etc/keys/new.pub",)
    )
    for found in objects("kubeadm", version, control_plane=plane):
        demand(found, shape(version))
        assert (found["apiVersion"], found["kind"]) == (f"kubeadm.k8s.io/{version}", "ClusterConfiguration")
        for component in ("apiServer", "controllerManager"):
            used = (
                [value for name, value in arguments(found, component) if name.endswith("-file")]
                if component in found
                else []
            )
            mounted = [each["mountPath"] for each in found.get(component, {}).get("extraVolumes", [])]
            assert all(each.startswith(("/etc/kubernetes/pki/", *mounted)) for each in used)


def test_table_of_members_refuses_another() -> None:
    """The judge of the test above can say no."""
    with pytest.raises(AssertionError, match=r"apiServer\.extraArguments"):
        demand({"apiServer": {"extraArguments": []}}, shape("v1beta4"))


def test_rotation_verifies_then_signs_then_forgets() -> None:
    """Facts 10, 22, 23: both keys verify before the new one signs and while the old one's tokens live."""
    found = list(map(flags, objects("apiserver-flags", control_plane=ROTATION)))
    verifying = [values(each, "service-account-key-file") for each in found]
    signing = [values(each, "service-account-signing-key-file") for each in found]
    assert verifying == [[f"{OLD}.pub", f"{NEW}.pub"], [f"{OLD}.pub", f"{NEW}.pub"], [f"{NEW}.pub"]]
    assert signing == [[f"{OLD}.key"], [f"{NEW}.key"], [f"{NEW}.key"]]


def test_rotation_waits_for_caches_before_it_signs() -> None:
    """The wait stands between the first and the second step, and retirement after the last."""
    written = text("apiserver-flags", control_plane=ROTATION)
    words = [
        "Step 1 of 3",
        "oidc-mirror wait syd-prod KEY",
        "Step 2 of 3",
        "until the tokens of the old key are gone",
        "Step 3",
    ]
    places = [written.index(word) for word in words]
    assert places == sorted(places)
    assert "24 h after" in comments("apiserver-flags", control_plane=ROTATION)
    held = replace(ENTRY, keys=replace(ENTRY.keys, new_keys="hold"))
    assert "oidc-mirror approve" in comments("apiserver-flags", control_plane=ROTATION, issuer=held)


def test_controller_manager_signs_with_the_new_key_too() -> None:
    """Else the tokens in Secrets die with the old key."""
    names = [
        arguments(each, "controllerManager") if "controllerManager" in each else []
        for each in objects("kubeadm", control_plane=ROTATION)
    ]
    new = [("service-account-private-key-file", f"{NEW}.key")]
    assert names == [[], new, new]


def test_map_gets_one_file_with_all_keys() -> None:
    """v1beta3 cannot repeat a name; a file may hold several keys (fact 9), and the comment makes it."""
    found = objects("kubeadm", "v1beta3", control_plane=ROTATION)
    assert [values(arguments(each), "service-account-key-file") for each in found] == [
        ["/etc/kubernetes/pki/sa-all.pub"],
        ["/etc/kubernetes/pki/sa-all.pub"],
        [f"{NEW}.pub"],
    ]
    assert f"cat {OLD}.pub {NEW}.pub > /etc/kubernetes/pki/sa-all.pub" in comments(
        "kubeadm", "v1beta3", control_plane=ROTATION
    )


def test_file_with_all_keys_is_none_of_its_parts() -> None:
    """`cat a b > a` would lose a."""
    plane = ControlPlane(key_files=("/etc/kubernetes/pki/sa-all.pub", "/etc/kubernetes/pki/sa-all2.pub"))
    (found,) = objects("kubeadm", "v1beta3", control_plane=plane)
    assert values(arguments(found), "service-account-key-file") == ["/etc/kubernetes/pki/sa-all3.pub"]


def test_former_issuers_stay_accepted_behind_the_new_one() -> None:
    """Fact 11: the first one signs; the old tokens' audience is the old issuer."""
    plane = ControlPlane(kept_issuers=(DEFAULT,))
    (found,) = map(flags, objects("apiserver-flags", issuer=MOVED, control_plane=plane))
    assert values(found, "service-account-issuer") == [ISSUER, f"{BASE}/old", DEFAULT]
    assert values(found, "api-audiences") == [f"{ISSUER},{BASE}/old,{DEFAULT}"]
    assert values(found, "service-account-jwks-uri") == [JWKS_URI]


def test_map_never_drops_an_issuer() -> None:
    """One that is left out would log its pods out: refused, with the way to do it."""
    with pytest.raises(UsageError, match="several issuers") as refused:
        text("kubeadm", "v1beta3", issuer=MOVED)
    assert "v1beta4" in refused.value.remedy


@pytest.mark.parametrize(
    "audience", ["sts.amazonaws.com", "cluster.identifier.kubernetes.domain", "api://AzureADTokenExchange"]
)
def test_audience_of_a_cloud_is_the_apiservers_only_when_asked_for(audience: str) -> None:
    """By default none is; asked for, it comes to the own one, and a note says what that means."""
    assert audience not in objects("apiserver-flags")[0][2]
    assert notes("apiserver-flags") == ""
    asked = ControlPlane(api_audiences=(audience,))
    assert objects("apiserver-flags", control_plane=asked)[0][2] == f"--api-audiences={ISSUER},{audience}"
    assert f"The audience {audience} is a cloud's" in notes("apiserver-flags", control_plane=asked)
