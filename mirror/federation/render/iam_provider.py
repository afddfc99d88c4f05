"""`render iam-provider`: the OIDC provider that makes an AWS account accept an issuer's tokens."""

from typing import Any

from mirror.federation.render.hcl import Block
from mirror.federation.render.kind import Kind, Rendered, Request, made_by

TERRAFORM_NAME = "cluster"
_NO_THUMBPRINT = (
    "It has no thumbprint: AWS verifies S3 and CloudFront with its own CAs, and a thumbprint expires unnoticed."
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
    return Rendered("yaml", template, _comments(request, how))


def _terraform(request: Request) -> Rendered:
    provider = Block(
        ("resource", "aws_iam_openid_connect_provider", TERRAFORM_NAME),
        {"url": str(request.issuer.issuer), "client_id_list": _audiences(request)},
    )
    how = "Put it into a .tf file; the aws provider must be one for which thumbprint_list is optional."
    return Rendered("hcl", (provider,), _comments(request, how))


def _cli(request: Request) -> Rendered:
    command = ("aws", "iam", "create-open-id-connect-provider", "--url", str(request.issuer.issuer))
    how = f"Run it once in the account, or: oidc-mirror provision provider {request.issuer.name}"
    return Rendered("shell", ((*command, "--client-id-list", *_audiences(request)),), _comments(request, how))


def _json(request: Request) -> Rendered:
    template = _cloudformation(request)
    return Rendered("json", template.value, notes=template.comments[1:])


KIND = Kind(
    "iam-provider",
    "The IAM OIDC provider of the issuer, with the configured audiences.",
    {"cloudformation": _cloudformation, "terraform": _terraform, "cli": _cli, "json": _json},
)
