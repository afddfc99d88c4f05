"""Apiserver flags and kubeadm's configuration, in normal operation, during a rotation and during a migration."""

import json
import re
import shlex
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from typing import Any

import pytest
import yaml

from mirror.config.settings import FormerIssuerSettings
from mirror.errors import UsageError
from mirror.federation.render.base import ControlPlane
from mirror.model import IssuerUrl
from support.rendering import BASE, ENTRY, ISSUER, comments, notes, objects, text

JWKS_URI = f"{BASE}/cluster/identifier/openid/v1/jwks"
DEFAULT = "https://kubernetes.default.svc.cluster.local"
OLD, NEW = "/etc/kubernetes/pki/sa", "/etc/kubernetes/pki/sa-new"
MOVED = replace(ENTRY, former_issuers=(FormerIssuerSettings(IssuerUrl(f"{BASE}/old"), date(2027, 1, 31)),))
ROTATION = tuple(ControlPlane(rotation_step=step) for step in (1, 2, 3))
MIGRATION = tuple(ControlPlane(kept_issuers=(DEFAULT,), migration_step=step) for step in (1, 2, 3))

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
    """The exact issuer with its slash, our jwks_uri, its own audience, no feature gate (facts.md#9, #12, #30)."""
    (found,) = objects("apiserver-flags")
    assert found == [
        f"--service-account-issuer={ISSUER}",
        f"--service-account-jwks-uri={JWKS_URI}",
        f"--api-audiences={ISSUER}",
        f"--service-account-key-file={OLD}.pub",
        f"--service-account-signing-key-file={OLD}.key",
    ]


@pytest.mark.parametrize("control_plane", [ControlPlane(), *ROTATION, *MIGRATION])
def test_every_form_says_the_same(control_plane: ControlPlane) -> None:
    """YAML, JSON, a command line and kubeadm's two configurations have one set of flags."""
    lists = objects("apiserver-flags", control_plane=control_plane)
    assert [json.loads(text("apiserver-flags", "json", control_plane=control_plane))] == lists
    lines = [
        line for line in text("apiserver-flags", "shell", control_plane=control_plane).splitlines() if line[0] != "#"
    ]
    assert [shlex.split(line)[1:] for line in lines] == lists
    assert [arguments(each) for each in objects("kubeadm", control_plane=control_plane)] == list(map(flags, lists))


def read_as_kubeadm(written: str) -> list[dict[str, Any]]:
    """Every document, or the error with which kubeadm refuses the file (kubeadm, util.GroupVersionKindsFromBytes).

    kubeadm splits at the lines `---` as Kubernetes' YAML reader does, so that comments alone are a document too.
    """
    documents = [yaml.safe_load(each) for each in re.split(r"^---$", f"\n{written}", flags=re.MULTILINE)]
    for each in documents:
        if not (isinstance(each, dict) and each.get("kind") and each.get("apiVersion")):
            raise ValueError("kind and apiVersion is mandatory information that must be specified")
    kinds = [each["kind"] for each in documents]
    if len(kinds) != len(set(kinds)):
        raise ValueError(f"kind {kinds[0]} is specified twice")
    return documents


@pytest.mark.parametrize("version", ["v1beta4", "v1beta3"])
@pytest.mark.parametrize("control_plane", [ControlPlane(), *ROTATION])
def test_kubeadm_takes_each_step_as_a_file(version: str, control_plane: ControlPlane) -> None:
    """Each document has kind and apiVersion, and no kind stands twice."""
    (found,) = read_as_kubeadm(text("kubeadm", version, control_plane=control_plane))
    assert found["kind"] == "ClusterConfiguration"


@pytest.mark.parametrize("control_plane", MIGRATION)
def test_kubeadm_takes_each_step_of_a_migration_as_a_file(control_plane: ControlPlane) -> None:
    """Only the format with lists can name two issuers."""
    read_as_kubeadm(text("kubeadm", control_plane=control_plane))


@pytest.mark.parametrize(
    ("written", "refusal"),
    [
        ("# how\n---\nkind: A\napiVersion: v1\n", "mandatory"),
        ("kind: A\napiVersion: v1\n---\nkind: A\napiVersion: v1\n", "twice"),
        ("- flag\n", "mandatory"),
    ],
)
def test_reader_of_kubeadm_refuses_what_kubeadm_refuses(written: str, refusal: str) -> None:
    """The two texts that were printed once, and one that is no object."""
    with pytest.raises(ValueError, match=refusal):
        read_as_kubeadm(written)


@pytest.mark.parametrize("version", ["v1beta4", "v1beta3"])
@pytest.mark.parametrize("step", [None, 1, 2, 3])
def test_kubeadm_configuration_has_only_known_members(version: str, step: int | None) -> None:
    """Of the documented types; and a file outside of kubeadm's own folder is mounted."""
    plane = ControlPlane(
        rotation_step=step, new_signing_key_file="/etc/keys/new.key", new_key_files=("/etc/keys/new.pub",)
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


def rotation(kind: str = "apiserver-flags", form: str | None = None) -> list[Any]:
    """What the three steps print, in their order."""
    return [each for plane in ROTATION for each in objects(kind, form, control_plane=plane)]


def test_rotation_verifies_then_signs_then_forgets() -> None:
    """facts.md#10, #22, #23: both keys verify before the new one signs and while the old one's tokens live."""
    found = list(map(flags, rotation()))
    verifying = [values(each, "service-account-key-file") for each in found]
    signing = [values(each, "service-account-signing-key-file") for each in found]
    assert verifying == [[f"{OLD}.pub", f"{NEW}.pub"], [f"{OLD}.pub", f"{NEW}.pub"], [f"{NEW}.pub"]]
    assert signing == [[f"{OLD}.key"], [f"{NEW}.key"], [f"{NEW}.key"]]


def test_each_step_names_the_wait_before_the_next_one() -> None:
    """Caches before the new key signs, tokens and Secrets before the old one goes, `retain_removed` after it."""
    first, second, third = (comments("apiserver-flags", control_plane=each) for each in ROTATION)
    assert "step 1 of 3" in first
    assert "oidc-mirror wait syd-prod KEY" in first
    assert "until the tokens of the old key are gone" in second
    assert "type=kubernetes.io/service-account-token" in second
    assert "Renew the mirror's own token" in second
    assert "24 h after" in third
    held = replace(ENTRY, keys=replace(ENTRY.keys, new_keys="hold"))
    assert "oidc-mirror approve" in comments("apiserver-flags", control_plane=ROTATION[0], issuer=held)


class ControllerManager:
    """Does what kube-controller-manager does with its key file: it does not start without, and signs with it."""

    def __init__(self, files: set[str]) -> None:
        self.files = files

    def start(self, found: dict[str, Any]) -> str:
        given = arguments(found, "controllerManager") if "controllerManager" in found else []
        (key_file,) = values(given, "service-account-private-key-file") or [f"{OLD}.key"]
        if key_file not in self.files:
            raise FileNotFoundError(key_file)
        return key_file


def test_controller_manager_starts_in_each_step_and_after_the_old_key_is_deleted() -> None:
    """It has the new key from step 2 on; without that it would not start again once `sa.key` is gone."""
    host = {f"{OLD}.key", f"{NEW}.key"}
    manager = ControllerManager(host)
    first, second, third = rotation("kubeadm")
    assert [manager.start(each) for each in (first, second, third)] == [f"{OLD}.key", f"{NEW}.key", f"{NEW}.key"]
    host.remove(f"{OLD}.key")
    assert manager.start(third) == f"{NEW}.key"
    with pytest.raises(FileNotFoundError):
        manager.start(first)


@dataclass(frozen=True)
class Replica:
    """Does what kube-apiserver does with issuers: its tokens name the first, and it accepts each that it lists."""

    listed: tuple[str, ...]

    def refuses_tokens_of(self, other: "Replica") -> bool:
        return other.listed[0] not in self.listed


def test_replicas_of_neighbouring_steps_accept_each_others_tokens() -> None:
    """In a rollout some replicas are a step ahead. From the old cluster to the end nobody refuses a fresh token."""
    steps = [Replica((DEFAULT,))]
    for plane in MIGRATION:
        (found,) = map(flags, objects("apiserver-flags", control_plane=plane))
        steps.append(Replica(tuple(values(found, "service-account-issuer"))))
    assert [each.listed for each in steps] == [(DEFAULT,), (DEFAULT, ISSUER), (ISSUER, DEFAULT), (ISSUER,)]
    assert [b.refuses_tokens_of(a) or a.refuses_tokens_of(b) for a, b in pairwise(steps)] == [False] * 3
    # The shorter ways that were printed once: straight to the new issuer, and straight to "new first".
    assert steps[0].refuses_tokens_of(steps[3])
    assert steps[0].refuses_tokens_of(steps[2])


def test_present_issuer_stays_first_without_a_step() -> None:
    """`--keep-issuer` alone is the first step: the one that harms nobody."""
    kept = ControlPlane(kept_issuers=(DEFAULT,))
    assert objects("kubeadm", control_plane=kept) == objects("kubeadm", control_plane=MIGRATION[0])
    assert "Migration, step 1 of 3" in comments("kubeadm", control_plane=kept)
    assert "--migration 2" in comments("kubeadm", control_plane=kept)
    assert "oidc-mirror verify syd-prod" in comments("kubeadm", control_plane=MIGRATION[1])


def test_discovery_document_names_the_keys_of_its_own_issuer() -> None:
    """Where the first issuer is no https URL the flag keeps ours: kube-apiserver takes https only."""
    plain = replace(MIGRATION[0], kept_issuers=("kubernetes/serviceaccount",))
    for plane, uri in zip((*MIGRATION, plain), (f"{DEFAULT}/openid/v1/jwks", *[JWKS_URI] * 3), strict=True):
        (found,) = map(flags, objects("apiserver-flags", control_plane=plane))
        assert values(found, "service-account-jwks-uri") == [uri]


def test_steps_that_make_no_sense_are_refused() -> None:
    """A migration from nowhere, and two changes at once; each with the remedy."""
    with pytest.raises(UsageError, match="no other issuer") as refused:
        text("kubeadm", control_plane=ControlPlane(migration_step=2))
    assert "--keep-issuer URL" in refused.value.remedy
    with pytest.raises(UsageError, match="one call"):
        text("kubeadm", control_plane=replace(MIGRATION[0], rotation_step=1))


def test_controller_manager_signs_with_the_new_key_too() -> None:
    """Else the tokens in Secrets die with the old key."""
    names = [
        arguments(each, "controllerManager") if "controllerManager" in each else [] for each in rotation("kubeadm")
    ]
    new = [("service-account-private-key-file", f"{NEW}.key")]
    assert names == [[], new, new]


def test_map_gets_one_file_with_all_keys() -> None:
    """v1beta3 cannot repeat a name; a file may hold several keys (facts.md#9), and the comment makes it."""
    found = rotation("kubeadm", "v1beta3")
    assert [values(arguments(each), "service-account-key-file") for each in found] == [
        ["/etc/kubernetes/pki/sa-all.pub"],
        ["/etc/kubernetes/pki/sa-all.pub"],
        [f"{NEW}.pub"],
    ]
    assert f"cat {OLD}.pub {NEW}.pub > /etc/kubernetes/pki/sa-all.pub" in comments(
        "kubeadm", "v1beta3", control_plane=ROTATION[0]
    )


def test_file_with_all_keys_is_none_of_its_parts() -> None:
    """`cat a b > a` would lose a."""
    plane = ControlPlane(key_files=("/etc/kubernetes/pki/sa-all.pub", "/etc/kubernetes/pki/sa-all2.pub"))
    (found,) = objects("kubeadm", "v1beta3", control_plane=plane)
    assert values(arguments(found), "service-account-key-file") == ["/etc/kubernetes/pki/sa-all3.pub"]


def test_former_issuers_stay_accepted_behind_the_new_one() -> None:
    """facts.md#11: the first one signs; the old tokens' audience is the old issuer."""
    plane = ControlPlane(kept_issuers=(DEFAULT,), migration_step=2)
    (found,) = map(flags, objects("apiserver-flags", issuer=MOVED, control_plane=plane))
    assert values(found, "service-account-issuer") == [ISSUER, f"{BASE}/old", DEFAULT]
    assert values(found, "api-audiences") == [f"{ISSUER},{BASE}/old,{DEFAULT}"]
    assert values(found, "service-account-jwks-uri") == [JWKS_URI]


def test_migration_of_the_configuration_needs_no_option() -> None:
    """`former_issuers` says where it comes from: at rest the new one is first, `--migration 1` puts it second."""
    listed = []
    for step in (None, 1, 2, 3):
        plane = ControlPlane(migration_step=step)
        (found,) = map(flags, objects("apiserver-flags", issuer=MOVED, control_plane=plane))
        listed.append(values(found, "service-account-issuer"))
    new, old = str(ISSUER), f"{BASE}/old"
    assert listed == [[new, old], [old, new], [new, old], [new]]


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
