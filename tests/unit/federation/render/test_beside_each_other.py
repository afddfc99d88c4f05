"""Two namespaces, two issuers, three clouds: every rendered file beside the others, and before independent judges.

Nothing is shared that should not be: no role, stack, label, pool, credential, subject or audience of two workloads.
"""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from mirror.config.settings import Issuer, RepositorySettings, Settings
from mirror.federation.render import KINDS
from mirror.federation.render.base import Rendered, Renderer, RenderRequest, Workload, text_of
from mirror.model import IssuerName, IssuerUrl, TokenAudiences
from support import cfn_linter
from support.iam_linter import lint, lint_trust
from support.rendering import ACCOUNT, BASE, ENTRY

pytestmark = pytest.mark.unmeasured  # test_kinds.py renders the same templates

AWS, GOOGLE, AZURE = ("sts.amazonaws.com", "aws.example.com"), ("google.example.com",), ("api://AzureADTokenExchange",)
ISSUERS = tuple(
    replace(
        ENTRY,
        name=IssuerName(name),
        issuer=IssuerUrl(f"{BASE}/{path}"),
        audiences_by_cloud=TokenAudiences(AWS, GOOGLE, AZURE),
    )
    for name, path in (("prod", "prod"), ("gcp-prod", "gcp/prod"))
)
SETTINGS = Settings(Path("state"), RepositorySettings(Path("git")), ISSUERS)
NAMESPACES = ("default", "shop")
FORMATS = [(kind, form) for kind in KINDS.values() for form in kind.formats]
ODD = Workload(
    "kube-system",
    "web.v2",
    managed_policies=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
    session_seconds=7200,
    subjects=("system:serviceaccount:kube-system:web.v2", "odd'$(id)\"subject"),
)


@dataclass(frozen=True, slots=True)
class Where:
    """One deployment: a namespace of an issuer's cluster; the ServiceAccount is called alike everywhere."""

    issuer: Issuer
    namespace: str

    @property
    def subject(self) -> str:
        return f"system:serviceaccount:{self.namespace}:web"

    def rendered(self, kind: Renderer, form: str) -> Rendered:
        workload = Workload(self.namespace, "web", account=ACCOUNT)
        return kind.render(RenderRequest(SETTINGS, self.issuer, form, workload))

    def text(self, kind: str, form: str) -> str:
        return text_of(self.rendered(KINDS[kind], form))


DEPLOYMENTS = tuple(Where(*each) for each in product(ISSUERS, NAMESPACES))
PAIRS = [
    pytest.param(*pair, id="-".join(f"{w.issuer.name}/{w.namespace}" for w in pair))
    for pair in combinations(DEPLOYMENTS, 2)
]


def names_of(where: Where) -> dict[str, set[str]]:
    """What each file of a deployment calls its own, by what it names."""
    role = json.loads(where.text("iam-role", "json"))["Resources"]["Role"]["Properties"]["RoleName"]
    commands = "\n".join(where.rendered(KINDS["iam-role"], "cloudformation").comments)
    stack = re.search(r"--stack-name (\S+)", commands)
    assert stack is not None
    blocks = hcl2.loads(where.text("iam-role", "terraform"))
    labels = {
        f"{kind}.{label}"
        for section in ("resource", "data")
        for each in blocks[section]
        for kind, inside in each.items()
        for label in inside
    }
    credential = json.loads(where.text("federated-credential", "json"))
    return {
        "role": {role},
        "stack": {stack[1]},
        "label": labels,
        "credential": {credential["name"]},
        "subject and issuer": {f"{credential['issuer']} {credential['subject']}"},
    }


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_deployments_share_no_name(one: Where, other: Where) -> None:
    """The files of both in one folder, account, project or identity replace nothing."""
    first, second = names_of(one), names_of(other)
    assert {what: first[what] & second[what] for what in first} == {what: set() for what in first}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_role_and_binding_let_in_their_own_subject_alone(one: Where, other: Where) -> None:
    """The condition of each role has one issuer and one subject; a pool is one issuer's."""
    for where in (one, other):
        policy = json.loads(where.text("iam-role", "trust-policy"))
        (statement,) = policy["Statement"]
        here = where.issuer.issuer.removeprefix("https://")
        assert statement["Principal"] == {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{here}"}
        assert statement["Condition"]["StringEquals"][f"{here}:sub"] == where.subject
        script = where.text("workload-identity-provider", "cli")
        assert f"condition='assertion.sub in [\"{where.subject}\"]'" in script
        assert script.count("--member=") == 1
    pools = {
        re.findall(r"^pool=(\S+)$", each.text("workload-identity-provider", "cli"), re.MULTILINE)[0]
        for each in (one, other)
    }
    assert len(pools) == (1 if one.issuer is other.issuer else 2)


@pytest.mark.parametrize("where", DEPLOYMENTS, ids=lambda w: f"{w.issuer.name}/{w.namespace}")
def test_each_file_speaks_of_its_own_cloud(where: Where) -> None:
    """No audience of one cloud stands in a file for another, and no file names another issuer or namespace."""
    of_cloud: dict[str, tuple[str, ...]] = {"iam-provider": AWS, "iam-role": AWS, "service-account": AWS, "pod": AWS}
    of_cloud |= {"workload-identity-provider": GOOGLE, "federated-credential": AZURE}
    everything = {*AWS, *GOOGLE, *AZURE}
    other = next(each for each in ISSUERS if each is not where.issuer)
    for kind, form in FORMATS:
        written = text_of(where.rendered(kind, form))
        foreign = everything - set(of_cloud.get(kind.name, ()))
        assert not [
            each for each in foreign if f'"{each}"' in written or f"={each}" in written or f" {each}\n" in written
        ]
        if kind.name not in ("bucket-policy", "writer-policy"):  # these are of the bucket, which both share
            assert not re.search(rf"{re.escape(other.issuer)}(?![\w/-])", written)
            assert not any(f":{each}:web" in written for each in NAMESPACES if each != where.namespace)


def shells() -> Iterator[tuple[str, str]]:
    for where, (kind, form) in product(DEPLOYMENTS, FORMATS):
        piece = where.rendered(kind, form)
        if piece.syntax == "shell":
            yield f"{kind.name} {form} of {where.issuer.name}/{where.namespace}", text_of(piece)
    for kind, form in FORMATS:
        for workload in (ODD, Workload()):
            plain = RenderRequest(SETTINGS, replace(ISSUERS[0], audiences_by_cloud=None), form, workload)
            if kind.formats[form](replace(plain, workload=Workload(account=ACCOUNT))).syntax == "shell":
                yield f"{kind.name} {form} of an odd workload", text_of(kind.render(plain))


def shellcheck(text: str) -> str:
    done = subprocess.run(
        ["shellcheck", "--severity=style", "-"], input=text, text=True, capture_output=True, check=False
    )
    return done.stdout + done.stderr


needs_shellcheck = pytest.mark.skipif(
    shutil.which("shellcheck") is None and not os.environ.get("OIDC_MIRROR_REQUIRE_SHELLCHECK"),
    reason="shellcheck is not installed: scripts/debian-packages test",
)


@needs_shellcheck
@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in shells()])
def test_scripts_pass_shellcheck(text: str) -> None:
    """shellcheck finds nothing in any script, however odd a subject is, and each names its shell."""
    assert text.startswith("#!/bin/sh\n")
    assert shellcheck(text) == ""


@needs_shellcheck
def test_shellcheck_would_see_a_wrong_script() -> None:
    """The judge of the test above tells an unquoted variable."""
    assert "SC2086" in shellcheck("#!/bin/sh\nname=$1\nrm $name\n")


@pytest.mark.parametrize("kind", ["iam-provider", "iam-role"])
def test_templates_pass_cfn_lint(kind: str) -> None:
    """Every template of every deployment. Its JSON is the same template; test_kinds.py has it linted too."""
    for where in DEPLOYMENTS:
        template = where.text(kind, "cloudformation")
        assert cfn_linter.findings(template) == ()
        assert yaml.safe_load(template) == json.loads(where.text(kind, "json"))


def test_policies_pass_parliament() -> None:
    """Trust policies, and those of the bucket and of the mirror."""
    for where in DEPLOYMENTS:
        assert lint_trust(json.loads(where.text("iam-role", "trust-policy"))) == []
        for kind in ("bucket-policy", "writer-policy"):
            assert lint(json.loads(where.text(kind, "json"))) == []


def test_terraform_files_fit_into_one_folder() -> None:
    """python-hcl2 reads all of them as one module, in which no block stands twice."""
    providers = {where.text("iam-provider", "terraform") for where in DEPLOYMENTS}  # one an issuer, the same for both
    assert len(providers) == len(ISSUERS)
    module = "\n".join([*sorted(providers), *(where.text("iam-role", "terraform") for where in DEPLOYMENTS)])
    read = hcl2.loads(module)
    found: Counter[tuple[str, str, str]] = Counter(
        (section, kind, label)
        for section in ("resource", "data")
        for each in read[section]
        for kind, inside in each.items()
        for label in inside
    )
    assert found.most_common(1)[0][1] == 1
    assert len(found) == len(ISSUERS) + 3 * len(DEPLOYMENTS)


def test_files_of_kubernetes_stand_in_their_namespace() -> None:
    """ServiceAccounts and pods of two namespaces are two objects; the role of each is its own."""
    objects: list[Any] = [
        each
        for where in DEPLOYMENTS[:2]
        for kind in ("service-account", "pod")
        for each in yaml.safe_load_all(where.text(kind, "yaml"))
    ]
    places = [(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]) for each in objects]
    assert len(set(places)) == len(places)
    arns = {
        variable["value"]
        for each in objects
        if each["kind"] == "Pod"
        for variable in each["spec"]["containers"][0]["env"]
        if variable["name"] == "AWS_ROLE_ARN"
    }
    assert arns == {f"arn:aws:iam::{ACCOUNT}:role/prod-default-web", f"arn:aws:iam::{ACCOUNT}:role/prod-shop-web"}
