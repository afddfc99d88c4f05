"""`render iam-provider`: the OIDC provider that makes an AWS account accept an issuer's tokens."""

from typing import Any

from mirror.aws.iam_policy import provider_url
from mirror.federation.render.base import Kind, Rendered, Request, made_by
from mirror.federation.render.hcl import Block
from mirror.federation.render.naming import terraform_label
from mirror.federation.render.text import STRICT, Lines, quoted
from mirror.model import Cloud

_NO_THUMBPRINT = (
    "It names no thumbprint, and IAM fills one in. AWS verifies S3, CloudFront and every host with a certificate of a"
    " public CA by its own list of CAs. The thumbprint counts only for another CA, or for a host that demands TLS 1.3."
)


def _audiences(request: Request) -> list[str]:
    return sorted(set(request.audiences()))


def _comments(request: Request, how: str) -> tuple[str, ...]:
    return (
        made_by("iam-provider", request),
        how,
        "One provider serves all roles of the account that the cluster's pods assume.",
        _NO_THUMBPRINT,
    )


def _cloudformation(request: Request) -> Rendered:
    properties: dict[str, Any] = {"Url": str(request.issuer.issuer), "ClientIdList": _audiences(request)}
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"OIDC provider of the Kubernetes cluster {request.issuer.name}",
        "Resources": {"Provider": {"Type": "AWS::IAM::OIDCProvider", "Properties": properties}},
        "Outputs": {"ProviderArn": {"Value": {"Ref": "Provider"}}},
    }
    how = f"Deploy it: aws cloudformation deploy --stack-name oidc-provider-{request.issuer.name} --template-file FILE"
    return Rendered("yaml", template, _comments(request, how), request.audience_notes(Cloud.AWS))


def _terraform(request: Request) -> Rendered:
    provider = Block(
        ("resource", "aws_iam_openid_connect_provider", terraform_label(request.issuer.name)),
        {"url": str(request.issuer.issuer), "client_id_list": _audiences(request)},
    )
    how = "Put it into a .tf file; the aws provider must be one for which thumbprint_list is optional."
    return Rendered("hcl", (provider,), _comments(request, how), request.audience_notes(Cloud.AWS))


def _cli(request: Request) -> Rendered:
    how = (
        "Run it in the account, as often as you like: it adds what is missing. Or:"
        f" oidc-mirror provision provider {request.issuer.name}"
    )
    audiences = " ".join(map(quoted, _audiences(request)))
    script = (
        f"issuer={quoted(str(request.issuer.issuer))}",
        f"url={quoted(provider_url(request.issuer.issuer))}",
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
    return Rendered("shell", (STRICT, Lines(script)), _comments(request, how), request.audience_notes(Cloud.AWS))


def _json(request: Request) -> Rendered:
    template = _cloudformation(request)
    return Rendered("json", template.value, notes=(*template.comments[1:], *template.notes))


KIND = Kind(
    "iam-provider",
    "The IAM OIDC provider of the issuer, with the configured audiences.",
    {"cloudformation": _cloudformation, "terraform": _terraform, "cli": _cli, "json": _json},
)
