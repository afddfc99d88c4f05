"""`render bucket-policy`, `iam-provider`, `iam-role` and `writer-policy`: the resources in AWS. Pure."""

import json
import shlex
from typing import Any

from mirror.aws.iam_policy import (
    MAX_BUCKET_POLICY_BYTES,
    MAX_INLINE_POLICY_CHARACTERS,
    MAX_MANAGED_POLICY_CHARACTERS,
    Policy,
    bucket_policy,
    compact,
    condition_key,
    partition_of,
    provider_arn,
    provider_url,
    subject,
    trust_policy,
    writer_policy,
)
from mirror.errors import UsageError
from mirror.federation.provision.bucket import document_keys, in_same_bucket, written_alike
from mirror.federation.render.base import (
    ACCOUNT_TO_FILL_IN,
    NAMESPACE,
    SERVICE_ACCOUNT,
    STRICT,
    Block,
    Call,
    Expression,
    Lines,
    Rendered,
    Renderer,
    RenderRequest,
    Template,
    made_by,
    stack_name,
    terraform_label,
)
from mirror.model import Cloud

MAX_TRUST_POLICY_CHARACTERS = 2048
"""What a role takes as its trust policy by default (IAM user guide, "IAM and AWS STS quotas")."""


def _trust(request: RenderRequest, provider: Any) -> Policy:
    return trust_policy(request.issuer.issuer, provider, request.workload.all_subjects(), request.audiences())


def _role_comments(request: RenderRequest, how: str) -> tuple[str, ...]:
    return (
        made_by("iam-role", request),
        how,
        "The condition names the token's subject and its audience; without them any pod of the cluster could take it.",
        f"The provider of the issuer must be there first: oidc-mirror render iam-provider {request.issuer.name}",
    )


def _role_notes(request: RenderRequest) -> tuple[str, ...]:
    notes = []
    if request.workload.all_subjects() == (subject(NAMESPACE, SERVICE_ACCOUNT),):
        notes.append(
            f"The role is for ServiceAccount {SERVICE_ACCOUNT} of namespace {NAMESPACE}: choose others with --namespace"
            " and --service-account."
        )
    notes += request.audience_notes(Cloud.AWS)
    patterns = [each for each in request.workload.all_subjects() if "*" in each or "?" in each]
    if patterns:
        notes.append(f"The role is for every ServiceAccount that fits {', '.join(patterns)}: prefer to name each.")
    size = len(json.dumps(_trust(request, provider_arn(request.issuer.issuer, "0" * 12, "aws")), separators=(",", ":")))
    if size > MAX_TRUST_POLICY_CHARACTERS:
        notes.append(
            f"The trust policy has about {size} characters; AWS takes {MAX_TRUST_POLICY_CHARACTERS} unless the quota is"
            " raised: use several roles."
        )
    return tuple(notes)


def _role_cloudformation(request: RenderRequest) -> Rendered:
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
    return Rendered("yaml", template, _role_comments(request, how), _role_notes(request))


def _role_terraform(request: RenderRequest) -> Rendered:
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
    return Rendered("hcl", tuple(blocks), _role_comments(request, "Put it into a .tf file."), _role_notes(request))


def _role_cli(request: RenderRequest) -> Rendered:
    workload, name = request.workload, request.role_name()
    partition = partition_of(request.issuer.publish.region)
    provider = provider_arn(request.issuer.issuer, request.account() or ACCOUNT_TO_FILL_IN, partition)
    words = shlex.quote(json.dumps(_trust(request, provider)))
    lines = []
    if request.account() is None:
        lines.append('account="$(aws sts get-caller-identity --query Account --output text)"')
        words = words.replace(f":iam::{ACCOUNT_TO_FILL_IN}:", ":iam::'\"$account\"':", 1)
    lines.append(f"policy={words}")
    create = ["aws", "iam", "create-role", "--role-name", name]
    if request.role_path() != "/":
        create += ["--path", request.role_path()]
    if workload.session_seconds is not None:
        create += ["--max-session-duration", str(workload.session_seconds)]
    lines += _create_or_leave(request, shlex.join(create))
    attach = ("aws", "iam", "attach-role-policy", "--role-name", name, "--policy-arn")
    attached = ((*attach, each) for each in workload.managed_policies)
    how = "Run it in the account. A role of this name with another trust policy is not changed."
    return Rendered("shell", (STRICT, Lines(lines), *attached), _role_comments(request, how), _role_notes(request))


def _create_or_leave(request: RenderRequest, create: str) -> tuple[str, ...]:
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


def _trust_policy(request: RenderRequest) -> Rendered:
    account = request.account()
    if account is None:
        raise UsageError(
            "The trust policy names the provider with its account.", remedy="Give the account: --account 111122223333"
        )
    arn = provider_arn(request.issuer.issuer, account, partition_of(request.issuer.publish.region))
    how = "Use it: aws iam create-role --role-name NAME --assume-role-policy-document file://FILE"
    return Rendered("json", _trust(request, arn), notes=(how, *_role_notes(request)))


IAM_ROLE = Renderer(
    "iam-role",
    "A role for ServiceAccounts of the cluster, by the exact subject and audience of their tokens.",
    {
        "cloudformation": _role_cloudformation,
        "terraform": _role_terraform,
        "cli": _role_cli,
        "json": lambda request: _role_cloudformation(request).as_json(),
        "trust-policy": _trust_policy,
    },
)


def _bucket_policy(request: RenderRequest) -> Rendered:
    publish = request.issuer.publish
    issuers = in_same_bucket(request.settings, publish)
    policy = bucket_policy(publish.bucket, document_keys(issuers), partition_of(publish.region))
    how = (
        f"This is the whole policy of bucket {publish.bucket} (issuers in it: {len(issuers)}): putting it replaces what"
        f" stands there. `oidc-mirror provision bucket {request.issuer.name}` keeps statements of others."
    )
    notes = [how]
    size = len(compact(policy))
    if size > MAX_BUCKET_POLICY_BYTES:
        notes.append(f"It has {size} bytes, and S3 takes {MAX_BUCKET_POLICY_BYTES}: use several buckets.")
    return Rendered("json", policy, notes=tuple(notes))


BUCKET_POLICY = Renderer(
    "bucket-policy",
    "The bucket's policy: the public reads exactly the published documents of all issuers in it.",
    {"json": _bucket_policy},
)


_NO_THUMBPRINT = (
    "It names no thumbprint, and IAM fills one in. AWS verifies S3, CloudFront and every host with a certificate of a"
    " public CA by its own list of CAs. The thumbprint counts only for another CA, or for a host that demands TLS 1.3."
)


def _audiences(request: RenderRequest) -> list[str]:
    return sorted(set(request.audiences()))


def _provider_comments(request: RenderRequest, how: str) -> tuple[str, ...]:
    return (
        made_by("iam-provider", request),
        how,
        "One provider serves all roles of the account that the cluster's pods assume.",
        _NO_THUMBPRINT,
    )


def _provider_cloudformation(request: RenderRequest) -> Rendered:
    properties: dict[str, Any] = {"Url": str(request.issuer.issuer), "ClientIdList": _audiences(request)}
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"OIDC provider of the Kubernetes cluster {request.issuer.name}",
        "Resources": {"Provider": {"Type": "AWS::IAM::OIDCProvider", "Properties": properties}},
        "Outputs": {"ProviderArn": {"Value": {"Ref": "Provider"}}},
    }
    how = f"Deploy it: aws cloudformation deploy --stack-name oidc-provider-{request.issuer.name} --template-file FILE"
    return Rendered("yaml", template, _provider_comments(request, how), request.audience_notes(Cloud.AWS))


def _provider_terraform(request: RenderRequest) -> Rendered:
    provider = Block(
        ("resource", "aws_iam_openid_connect_provider", terraform_label(request.issuer.name)),
        {"url": str(request.issuer.issuer), "client_id_list": _audiences(request)},
    )
    how = "Put it into a .tf file; the aws provider must be one for which thumbprint_list is optional."
    return Rendered("hcl", (provider,), _provider_comments(request, how), request.audience_notes(Cloud.AWS))


def _provider_cli(request: RenderRequest) -> Rendered:
    how = (
        "Run it in the account, as often as you like: it adds what is missing. Or:"
        f" oidc-mirror provision provider {request.issuer.name}"
    )
    audiences = " ".join(map(shlex.quote, _audiences(request)))
    script = (
        f"issuer={shlex.quote(str(request.issuer.issuer))}",
        f"url={shlex.quote(provider_url(request.issuer.issuer))}",
        "providers=$(aws iam list-open-id-connect-providers --query 'OpenIDConnectProviderList[].Arn' --output text)",
        "arn=''",
        "for each in $providers; do",
        '  if [ "${each#*:oidc-provider/}" = "$url" ]; then arn=$each; fi',
        "done",
        'if [ -z "$arn" ]; then',
        f'  aws iam create-open-id-connect-provider --url "$issuer" --client-id-list {audiences}',
        "else",
        f"  for audience in {audiences}; do",
        "    aws iam add-client-id-to-open-id-connect-provider \\",
        '      --open-id-connect-provider-arn "$arn" --client-id "$audience"',
        "  done",
        "fi",
    )
    return Rendered(
        "shell", (STRICT, Lines(script)), _provider_comments(request, how), request.audience_notes(Cloud.AWS)
    )


IAM_PROVIDER = Renderer(
    "iam-provider",
    "The IAM OIDC provider of the issuer, with the configured audiences.",
    {
        "cloudformation": _provider_cloudformation,
        "terraform": _provider_terraform,
        "cli": _provider_cli,
        "json": lambda request: _provider_cloudformation(request).as_json(),
    },
)


def _writer_policy(request: RenderRequest) -> Rendered:
    publish = request.issuer.publish
    issuers = written_alike(request.settings, publish)
    distributions = [each.publish.cloudfront_distribution for each in issuers if each.publish.cloudfront_distribution]
    keys, partition = document_keys(issuers), partition_of(publish.region)
    policy = writer_policy(publish.bucket, keys, partition, distributions=distributions)
    return Rendered("json", policy, notes=tuple(_writer_notes(request, len(compact(policy)), len(issuers))))


def _writer_notes(request: RenderRequest, size: int, issuers: int) -> list[str]:
    publish = request.issuer.publish
    who = publish.role_arn or (f"profile {publish.profile}" if publish.profile else "the mirror's own identity")
    notes = [f"Attach it to {who}; issuers that it covers in bucket {publish.bucket}: {issuers}."]
    if size > MAX_INLINE_POLICY_CHARACTERS:
        notes.append(
            f"It has {size} characters, and a role takes {MAX_INLINE_POLICY_CHARACTERS} inline"
            f" ({MAX_MANAGED_POLICY_CHARACTERS} in a managed policy): give the issuers several roles"
            " (`publish.role_arn` of an issuer), or allow a folder with a star."
        )
    elif size > MAX_MANAGED_POLICY_CHARACTERS:
        notes.append(
            f"It has {size} characters: put it inline, because a managed policy takes {MAX_MANAGED_POLICY_CHARACTERS}."
        )
    return notes


WRITER_POLICY = Renderer(
    "writer-policy",
    "The least rights of the mirror's own role: put, get and list exactly the published documents.",
    {"json": _writer_policy},
)
