"""Every rendered piece, before an independent judge: cfn-lint, python-hcl2, the shell, parliament."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from mirror.config.settings import Issuer, PublishSettings, RepositorySettings, Settings
from mirror.errors import UsageError
from mirror.federation.render import FORMATS, KINDS
from mirror.federation.render.base import RenderRequest, Workload, text_of
from mirror.model import IssuerName, IssuerUrl
from support import cfn_linter
from support.iam_linter import lint, lint_trust

BASE = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com"
ISSUER = IssuerUrl(f"{BASE}/cluster/identifier/")
HERE = ISSUER.removeprefix("https://")
PUBLISH = PublishSettings("oidc-bucket", "ap-southeast-2", BASE)
ENTRY = Issuer(IssuerName("syd-prod"), ISSUER, PUBLISH, audiences=("sts.amazonaws.com",))
SETTINGS = Settings(Path("state"), RepositorySettings(Path("git")), (ENTRY,))
WORKLOADS = {
    "plain": Workload(),
    "full": Workload(
        subjects=("system:serviceaccount:a:b", "system:serviceaccount:c:*"),
        role_name="deployer",
        managed_policies=("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::111122223333:policy/x"),
        session_seconds=7200,
        account="111122223333",
    ),
}
STATEMENT: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {"StringEquals": {f"{HERE}:aud": "sts.amazonaws.com", f"{HERE}:sub": "system:serviceaccount:default:app"}},
    "full": {
        "StringEquals": {f"{HERE}:aud": "sts.amazonaws.com"},
        "StringLike": {f"{HERE}:sub": ["system:serviceaccount:a:b", "system:serviceaccount:c:*"]},
    },
}

of_workload = pytest.mark.parametrize("workload", list(WORKLOADS))


def rendered(kind: str, form: str, workload: str = "plain", issuer: Issuer = ENTRY) -> str:
    settings = replace(SETTINGS, issuers=(issuer,))
    return text_of(KINDS[kind].render(RenderRequest(settings, issuer, form, WORKLOADS[workload])))


def notes(kind: str, form: str, workload: Workload, settings: Settings = SETTINGS) -> str:
    return " ".join(KINDS[kind].render(RenderRequest(settings, settings.issuers[0], form, workload)).notes)


def comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("# "))


@of_workload
@pytest.mark.parametrize("kind", ["iam-provider", "iam-role"])
@pytest.mark.parametrize("form", ["cloudformation", "json"])
def test_cloudformation_passes_its_linter(kind: str, form: str, workload: str) -> None:
    """cfn-lint knows the schema of each resource, and finds nothing wrong in either syntax."""
    assert cfn_linter.findings(rendered(kind, form, workload)) == ()


def test_cloudformation_linter_would_see_a_wrong_template() -> None:
    """The judge of the test above tells a property that does not exist."""
    assert cfn_linter.findings(rendered("iam-provider", "cloudformation").replace("ClientIdList", "ClientIDs")) != ()


def test_cloudformation_provider_is_the_issuer_without_thumbprint() -> None:
    """The URL is the issuer's exact text, and nothing is set that AWS finds out itself (facts.md#29)."""
    template = yaml.safe_load(rendered("iam-provider", "cloudformation"))
    assert template["Resources"]["Provider"]["Properties"] == {"Url": ISSUER, "ClientIdList": ["sts.amazonaws.com"]}
    assert template == json.loads(rendered("iam-provider", "json"))


@of_workload
def test_cloudformation_role_has_literal_condition_keys(workload: str) -> None:
    """Subject and audience stand under the issuer's exact text; account and partition are CloudFormation's to know."""
    template = yaml.safe_load(rendered("iam-role", "cloudformation", workload))
    properties = template["Resources"]["Role"]["Properties"]
    (statement,) = properties["AssumeRolePolicyDocument"]["Statement"]
    arn = {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:oidc-provider/{HERE}"}
    assert statement["Principal"] == {"Federated": arn}
    assert statement["Condition"] == STATEMENT[workload]
    asked = WORKLOADS[workload]
    assert properties.get("ManagedPolicyArns", []) == list(asked.managed_policies)
    assert properties.get("MaxSessionDuration") == asked.session_seconds
    assert properties["RoleName"] == (asked.role_name or "syd-prod-default-app")


@of_workload
@pytest.mark.parametrize("kind", ["iam-provider", "iam-role"])
def test_terraform_is_parsed_by_another_reader(kind: str, workload: str) -> None:
    """python-hcl2 reads every block."""
    blocks = hcl2.loads(rendered(kind, "terraform", workload))
    assert len(blocks["resource"]) == 1 + (kind == "iam-role") * len(WORKLOADS[workload].managed_policies)


@of_workload
def test_terraform_role_names_subject_and_audience(workload: str) -> None:
    """What Terraform would encode as the trust policy has the same condition as every other format."""
    text = rendered("iam-role", "terraform", workload)
    assert f'"{HERE}:aud" = "sts.amazonaws.com"' in text
    sub = next(value[f"{HERE}:sub"] for value in STATEMENT[workload].values() if f"{HERE}:sub" in value)
    assert f'"{HERE}:sub" = {json.dumps(sub)}' in text
    label = WORKLOADS[workload].role_name or "syd-prod-default-app"
    where = f"arn:${{data.aws_partition.{label}.partition}}:iam::${{data.aws_caller_identity.{label}.account_id}}"
    assert f'"Federated" = "{where}:oidc-provider/{HERE}"' in text


def test_terraform_text_is_never_read_as_a_template() -> None:
    """An audience that looks like an expression means itself."""
    odd = replace(ENTRY, audiences=('${file("x")}', "%{if}", 'quo"te'))
    text = rendered("iam-provider", "terraform", issuer=odd)
    assert '["$${file(\\"x\\")}", "%%{if}", "quo\\"te"]' in text


def run(script: str, folder: Path, answers: str = "") -> tuple[int, str, list[list[str]]]:
    """Run a script in the shell. Returns its exit status, stderr, and the arguments of each call of `aws`.

    The fake `aws` prints an account id; `answers` are additional lines of its script.
    """
    log = folder / "log"
    log.unlink(missing_ok=True)
    fake = folder / "aws"
    reported = f"[ $1 = sts ] && echo 111122223333\n{answers}\nexit 0\n"
    fake.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" end >> {log}\n{reported}")
    fake.chmod(0o755)
    environ = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(["sh"], input=script, text=True, capture_output=True, env=environ, check=False)
    return done.returncode, done.stderr, [each.split("\0")[:-1] for each in log.read_text().split("end\0")[:-1]]


NO_ROLE = 'if [ "$2" = get-role ]; then echo "An error occurred (NoSuchEntity)" >&2; exit 254; fi'


def calls(script: str, folder: Path, answers: str = NO_ROLE) -> list[list[str]]:
    """What `aws` is called with when the shell runs a script to its end, in an account that has nothing yet."""
    status, stderr, found = run(script, folder, answers)
    assert (status, stderr) == (0, "")
    return found


@of_workload
def test_commands_make_the_role_when_the_shell_runs_them(workload: str, tmp_path: Path) -> None:
    """The shell's quoting keeps the trust policy intact, with the account from AWS or from the arguments."""
    found = calls(rendered("iam-role", "cli", workload), tmp_path)
    create = next(each for each in found if each[1] == "create-role")
    policy = json.loads(create[create.index("--assume-role-policy-document") + 1])
    assert lint_trust(policy) == []
    assert policy["Statement"][0]["Principal"] == {"Federated": f"arn:aws:iam::111122223333:oidc-provider/{HERE}"}
    assert policy["Statement"][0]["Condition"] == STATEMENT[workload]
    attached = [each[-1] for each in found if each[1] == "attach-role-policy"]
    assert attached == list(WORKLOADS[workload].managed_policies)
    assert any(each[0] == "sts" for each in found) is (workload == "plain")


def test_commands_make_the_provider_when_the_shell_runs_them(tmp_path: Path) -> None:
    """Audiences with white space and quotes arrive as they are."""
    odd = replace(ENTRY, audiences=("b c", "a'$(id)"))
    assert calls(rendered("iam-provider", "cli", issuer=odd), tmp_path)[1:] == [
        ["iam", "create-open-id-connect-provider", "--url", ISSUER, "--client-id-list", "a'$(id)", "b c"]
    ]


def test_commands_add_audiences_to_the_provider_that_exists(tmp_path: Path) -> None:
    """Run a second time they make nothing twice; a provider whose URL only begins alike is another one."""
    arn = f"arn:aws:iam::111122223333:oidc-provider/{HERE}"
    both = replace(ENTRY, audiences=("a", "sts.amazonaws.com"))
    listed = f'if [ "$2" = list-open-id-connect-providers ]; then echo "{arn}x {arn}"; fi'
    found = calls(rendered("iam-provider", "cli", issuer=both), tmp_path, listed)[1:]
    assert [(each[1], each[3], each[5]) for each in found] == [
        ("add-client-id-to-open-id-connect-provider", arn, "a"),
        ("add-client-id-to-open-id-connect-provider", arn, "sts.amazonaws.com"),
    ]
    other = f'if [ "$2" = list-open-id-connect-providers ]; then echo "{arn}x"; fi'
    assert (
        calls(rendered("iam-provider", "cli", issuer=both), tmp_path, other)[1][1] == "create-open-id-connect-provider"
    )


def test_commands_stop_at_the_first_error(tmp_path: Path) -> None:
    """Nothing is made when AWS cannot be asked."""
    failing = "echo AccessDenied >&2; exit 254"
    for kind in ("iam-provider", "iam-role"):
        status, _, found = run(rendered(kind, "cli", "full"), tmp_path, failing)
        assert status != 0
        assert len(found) == 1


def role_answer(issuer: Issuer, workload: Workload) -> str:
    """What IAM shows of a role that was made for a workload."""
    request = RenderRequest(SETTINGS, issuer, "trust-policy", replace(workload, account="111122223333"))
    policy = text_of(KINDS["iam-role"].render(request)).replace("'", "")
    return f"if [ \"$2\" = get-role ]; then echo '{policy}'; fi"


def test_commands_leave_the_role_that_exists_for_the_same_subjects(tmp_path: Path) -> None:
    """Others may have added statements to its trust policy; what is missing is attached all the same."""
    found = calls(rendered("iam-role", "cli", "full"), tmp_path, role_answer(ENTRY, WORKLOADS["full"]))
    assert [each[1] for each in found] == ["get-role", "attach-role-policy", "attach-role-policy"]


@pytest.mark.parametrize(
    ("issuer", "workload"),
    [
        pytest.param(ENTRY, Workload("shop"), id="another namespace"),
        pytest.param(ENTRY, Workload(service_account="app2"), id="a name that begins alike"),
        pytest.param(replace(ENTRY, issuer=IssuerUrl(f"{BASE}/other")), Workload(), id="another issuer"),
    ],
)
def test_commands_stop_at_a_role_of_others(issuer: Issuer, workload: Workload, tmp_path: Path) -> None:
    """The second deployment does not replace the first one's subject, nor attach policies to its role."""
    asked = replace(WORKLOADS["full"], subjects=(), role_name="shared")
    text = text_of(KINDS["iam-role"].render(RenderRequest(SETTINGS, ENTRY, "cli", asked)))
    status, stderr, found = run(text, tmp_path, role_answer(issuer, workload))
    assert (status, [each[1] for each in found]) == (1, ["get-role"])
    assert "exists and is not for these subjects" in stderr


def test_trust_policy_alone_needs_the_account() -> None:
    """The ARN of the provider holds it, and no account is guessed."""
    assert lint_trust(json.loads(rendered("iam-role", "trust-policy", "full"))) == []
    with pytest.raises(UsageError, match="account"):
        rendered("iam-role", "trust-policy")


@pytest.mark.parametrize("kind", ["bucket-policy", "writer-policy"])
def test_policies_are_json_that_passes_a_linter(kind: str) -> None:
    """What is printed is the policy and nothing else."""
    assert lint(json.loads(rendered(kind, "json"))) == []


def test_writer_policy_invalidates_only_with_a_distribution() -> None:
    """The right exists exactly when the configuration names a distribution."""
    behind = replace(ENTRY, publish=replace(PUBLISH, cloudfront_distribution="E2QWRUHAPOMQZL"))
    assert "CreateInvalidation" not in rendered("writer-policy", "json")
    assert "distribution/E2QWRUHAPOMQZL" in rendered("writer-policy", "json", issuer=behind)


@pytest.mark.parametrize(
    ("kind", "count", "word"),
    [
        pytest.param("bucket-policy", 10, "provision bucket", id="bucket"),
        pytest.param("bucket-policy", 200, "use several buckets", id="bucket-too-large"),
        pytest.param("writer-policy", 10, "Attach it", id="writer"),
        pytest.param("writer-policy", 55, "put it inline", id="writer-inline"),
        pytest.param("writer-policy", 200, "several roles", id="writer-too-large"),
    ],
)
def test_policy_over_a_limit_says_so(kind: str, count: int, word: str) -> None:
    """The user learns of it before AWS refuses."""
    issuers = tuple(
        replace(ENTRY, name=IssuerName(f"c{n}"), issuer=IssuerUrl(f"{BASE}/cluster/{n:04}")) for n in range(count)
    )
    assert word in notes(kind, "json", Workload(), replace(SETTINGS, issuers=issuers))


@pytest.mark.parametrize(
    ("workload", "word"),
    [
        pytest.param(Workload(), "choose others with --namespace", id="default"),
        pytest.param(WORKLOADS["full"], "prefer to name each", id="pattern"),
        pytest.param(
            Workload(subjects=tuple(f"system:serviceaccount:n:{n:050}" for n in range(40))), "quota", id="long"
        ),
    ],
)
def test_role_that_asks_for_a_second_look_says_so(workload: Workload, word: str) -> None:
    """A default subject, a pattern, or a policy over the quota is reported in a note."""
    assert word in notes("iam-role", "cloudformation", workload)


@pytest.mark.parametrize("kind", ["iam-provider", "iam-role"])
def test_issuer_without_audience_has_the_usual_one(kind: str) -> None:
    """A cloud for which none is configured takes its usual audience, and no other cloud's."""
    for audiences in ((), ("api://AzureADTokenExchange",)):
        text = rendered(kind, "cloudformation", issuer=replace(ENTRY, audiences=audiences))
        assert "sts.amazonaws.com" in text
        assert "AzureAD" not in text


@pytest.mark.parametrize(("kind", "form"), [(k.name, f) for k in KINDS.values() for f in k.formats])
def test_every_piece_says_what_to_do_with_it(kind: str, form: str) -> None:
    """In comments where its syntax has them, else beside it; and the same words make the same bytes."""
    request = RenderRequest(SETTINGS, ENTRY, form, Workload(account="111122223333"))
    text = text_of(KINDS[kind].render(request))
    reported: Any = comments(text) or " ".join(KINDS[kind].render(request).notes)
    assert len(reported) > 40
    assert text_of(KINDS[kind].render(request)) == text
    assert max(map(len, comments(text).splitlines()), default=0) <= 120
    assert form in FORMATS


def test_comment_never_ends_early() -> None:
    """A line break in a name would make the rest of a comment part of the document."""
    piece = KINDS["iam-provider"].render(RenderRequest(SETTINGS, ENTRY, "cloudformation"))
    text = text_of(replace(piece, comments=("one\nEvil: true",)))
    assert text.startswith("# one Evil: true\nAWSTemplate")
