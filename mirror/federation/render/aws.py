"""`render iam-role`: a role that exactly the named ServiceAccounts of the issuer's cluster may assume."""

import json
import shlex
from typing import Any

from mirror.aws.iam_policy import Policy, condition_key, partition_of, provider_arn, provider_url, subject, trust_policy
from mirror.errors import UsageError
from mirror.federation.render.base import (
    ACCOUNT_TO_FILL_IN,
    NAMESPACE,
    SERVICE_ACCOUNT,
    Kind,
    Rendered,
    Request,
    made_by,
)
from mirror.federation.render.hcl import Block, Call, Expression, Template
from mirror.federation.render.naming import stack_name, terraform_label
from mirror.federation.render.text import STRICT, Assignment, Lines
from mirror.model import Cloud

MAX_TRUST_POLICY_CHARACTERS = 2048
"""What a role takes as its trust policy by default (IAM user guide, "IAM and AWS STS quotas")."""
_ACCOUNT_COMMAND = '"$(aws sts get-caller-identity --query Account --output text)"'


def _trust(request: Request, provider: Any) -> Policy:
    return trust_policy(request.issuer.issuer, provider, request.workload.all_subjects(), request.audiences())


def _comments(request: Request, how: str) -> tuple[str, ...]:
    return (
        made_by("iam-role", request),
        how,
        "The condition names the token's subject and its audience; without them any pod of the cluster could take it.",
        f"The provider of the issuer must be there first: oidc-mirror render iam-provider {request.issuer.name}",
    )


def _notes(request: Request) -> tuple[str, ...]:
    told = []
    if request.workload.all_subjects() == (subject(NAMESPACE, SERVICE_ACCOUNT),):
        told.append(
            f"The role is for ServiceAccount {SERVICE_ACCOUNT} of namespace {NAMESPACE}: choose others with --namespace"
            " and --service-account."
        )
    told += request.audience_notes(Cloud.AWS)
    patterns = [each for each in request.workload.all_subjects() if "*" in each or "?" in each]
    if patterns:
        told.append(f"The role is for every ServiceAccount that fits {', '.join(patterns)}: prefer to name each.")
    size = len(json.dumps(_trust(request, provider_arn(request.issuer.issuer, "0" * 12, "aws")), separators=(",", ":")))
    if size > MAX_TRUST_POLICY_CHARACTERS:
        told.append(
            f"The trust policy has about {size} characters; AWS takes {MAX_TRUST_POLICY_CHARACTERS} unless the quota is"
            " raised: use several roles."
        )
    return tuple(told)


def _cloudformation(request: Request) -> Rendered:
    workload = request.workload
    where = f":oidc-provider/{provider_url(request.issuer.issuer)}"
    arn = {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}" + where}
    properties: dict[str, Any] = {
        "RoleName": request.role_name(),
        "AssumeRolePolicyDocument": _trust(request, arn),
    }
    if request.role_path() != "/":
        properties["Path"] = request.role_path()
    if workload.managed_policies:
        properties["ManagedPolicyArns"] = list(workload.managed_policies)
    if workload.session_seconds is not None:
        properties["MaxSessionDuration"] = workload.session_seconds
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Role of pods of the Kubernetes cluster {request.issuer.name}",
        "Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": properties}},
        "Outputs": {"RoleArn": {"Value": {"Fn::GetAtt": ["Role", "Arn"]}}},
    }
    how = (
        "Deploy it: aws cloudformation deploy --capabilities CAPABILITY_NAMED_IAM"
        f" --stack-name {stack_name(request.role_name())} --template-file FILE"
    )
    return Rendered("yaml", template, _comments(request, how), _notes(request))


def _terraform(request: Request) -> Rendered:
    workload, label = request.workload, terraform_label(request.role_name())
    arn = Template(
        (
            "arn:",
            Expression(f"data.aws_partition.{label}.partition"),
            ":iam::",
            Expression(f"data.aws_caller_identity.{label}.account_id"),
            f":oidc-provider/{provider_url(request.issuer.issuer)}",
        )
    )
    attributes: dict[str, Any] = {
        "name": request.role_name(),
        "assume_role_policy": Call("jsonencode", _trust(request, arn)),
    }
    if request.role_path() != "/":
        attributes["path"] = request.role_path()
    if workload.session_seconds is not None:
        attributes["max_session_duration"] = workload.session_seconds
    blocks = [
        Block(("data", "aws_caller_identity", label), {}),
        Block(("data", "aws_partition", label), {}),
        Block(("resource", "aws_iam_role", label), attributes),
    ]
    blocks += [
        Block(
            ("resource", "aws_iam_role_policy_attachment", f"{label}_{number}"),
            {"role": Expression(f"aws_iam_role.{label}.name"), "policy_arn": policy},
        )
        for number, policy in enumerate(workload.managed_policies, start=1)
    ]
    return Rendered("hcl", tuple(blocks), _comments(request, "Put it into a .tf file."), _notes(request))


def _cli(request: Request) -> Rendered:
    workload, name = request.workload, request.role_name()
    partition = partition_of(request.issuer.publish.region)
    provider = provider_arn(request.issuer.issuer, request.account() or ACCOUNT_TO_FILL_IN, partition)
    policy = json.dumps(_trust(request, provider))
    words = shlex.quote(policy)
    commands: list[tuple[str, ...]] = []
    if request.account() is None:
        commands.append(Assignment(("account", _ACCOUNT_COMMAND)))
        words = words.replace(f":iam::{ACCOUNT_TO_FILL_IN}:", ":iam::'\"$account\"':", 1)
    commands.append(Assignment(("policy", words)))
    create = ["aws", "iam", "create-role", "--role-name", name]
    if request.role_path() != "/":
        create += ["--path", request.role_path()]
    if workload.session_seconds is not None:
        create += ["--max-session-duration", str(workload.session_seconds)]
    commands.append(Lines(_create_or_leave(request, " ".join(map(shlex.quote, create)))))
    attach = ("aws", "iam", "attach-role-policy", "--role-name", name, "--policy-arn")
    commands += [(*attach, each) for each in workload.managed_policies]
    how = "Run it in the account. A role of this name that trusts somebody else is not touched."
    return Rendered("shell", (STRICT, *commands), _comments(request, how), _notes(request))


def _create_or_leave(request: Request, create: str) -> tuple[str, ...]:
    """Make the role; leave one that is for the same subjects of the same issuer, and stop at any other.

    Nothing is corrected in a role that exists: others may have added statements to its trust policy.
    """
    name = shlex.quote(request.role_name())
    ours = [f'"{condition_key(request.issuer.issuer, "sub")}"', *map(json.dumps, request.workload.all_subjects())]
    checks = [f"  case $found in *{shlex.quote(each)}*) ;; *) is_ours=no ;; esac" for each in ours]
    return (
        f"role={name}",
        'get="aws iam get-role --query Role.AssumeRolePolicyDocument --output json"',
        'if ! found=$($get --role-name "$role" 2>&1); then',
        '  case $found in *NoSuchEntity*) found="" ;; *) echo "$found" >&2 && exit 1 ;; esac',
        "fi",
        'if [ -z "$found" ]; then',
        f'  {create} --assume-role-policy-document "$policy"',
        "else",
        "  is_ours=yes",
        *checks,
        "  if [ $is_ours = no ]; then",
        '    echo "Role $role exists and is not for these subjects of this issuer. Choose another --role-name." >&2',
        "    exit 1",
        "  fi",
        '  echo "Role $role exists for these subjects. It is left as it is."',
        "fi",
    )


def _json(request: Request) -> Rendered:
    template = _cloudformation(request)
    return Rendered("json", template.value, notes=(*template.comments[1:], *template.notes))


def _trust_policy(request: Request) -> Rendered:
    account = request.account()
    if account is None:
        raise UsageError(
            "The trust policy names the provider with its account.", remedy="Give the account: --account 111122223333"
        )
    arn = provider_arn(request.issuer.issuer, account, partition_of(request.issuer.publish.region))
    how = "Use it: aws iam create-role --role-name NAME --assume-role-policy-document file://FILE"
    return Rendered("json", _trust(request, arn), notes=(how, *_notes(request)))


KIND = Kind(
    "iam-role",
    "A role for ServiceAccounts of the cluster, by the exact subject and audience of their tokens.",
    {
        "cloudformation": _cloudformation,
        "terraform": _terraform,
        "cli": _cli,
        "json": _json,
        "trust-policy": _trust_policy,
    },
)
