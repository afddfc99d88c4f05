"""The IAM policies of the mirror, as values that `json.dumps` writes. Pure.

Each gives exactly what is needed: no statement has a wildcard in its resources, except where a service has none finer.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mirror.addresses import common_folder
from mirror.model import IssuerUrl, ObjectKey

Policy = dict[str, Any]
"""A policy document of IAM (IAM user guide, "IAM JSON policy element reference")."""
Statement = dict[str, Any]

VERSION = "2012-10-17"
PUBLIC_SID = "OidcMirrorPublicDocuments"
"""How our statement in a bucket's policy is found again; every other one is somebody else's."""
MAX_BUCKET_POLICY_BYTES = 20 * 1024
"""What S3 takes as a bucket's policy (S3 user guide, "Bucket policies")."""
MAX_INLINE_POLICY_CHARACTERS = 10_240
"""What a role takes as its inline policies, white space not counted (IAM user guide, "IAM and AWS STS quotas")."""
MAX_MANAGED_POLICY_CHARACTERS = 6_144
"""What a managed policy may have, white space not counted (the same place)."""

_PARTITIONS = (  # region prefix, partition (botocore's `partitions.json`); the first that fits counts
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("eusc-", "aws-eusc"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("eu-isoe-", "aws-iso-e"),
)
_WILDCARDS = ("*", "?")


def partition_of(region: str) -> str:
    """The second word of every ARN in `region`: `aws`, `aws-cn`, `aws-us-gov` or one of the closed ones."""
    return next((name for prefix, name in _PARTITIONS if region.startswith(prefix)), "aws")


def compact(policy: Mapping[str, Any]) -> str:
    """A policy as it is sent: JSON without white space, because its size is limited."""
    return json.dumps(policy, separators=(",", ":"), ensure_ascii=True)


def document(*statements: Statement) -> Policy:
    """A whole policy of these statements."""
    return {"Version": VERSION, "Statement": list(statements)}


def object_arns(bucket: str, keys: Iterable[ObjectKey], partition: str) -> list[str]:
    """The ARN of each object; sorted, none twice."""
    return sorted({f"arn:{partition}:s3:::{bucket}/{key}" for key in keys})


def public_statement(bucket: str, keys: Iterable[ObjectKey], partition: str) -> Statement:
    """That the world may read exactly the objects `keys` (fact 41), and nothing else, and may not list them.

    Raises:
        ValueError: There is no key: S3 takes no statement without a resource.
    """
    return {
        "Sid": PUBLIC_SID,
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": _demanded(object_arns(bucket, keys, partition)),
    }


def bucket_policy(bucket: str, keys: Iterable[ObjectKey], partition: str) -> Policy:
    """The policy of a bucket that holds nothing but our documents; see `public_statement`."""
    return document(public_statement(bucket, keys, partition))


def writer_policy(
    bucket: str, keys: Iterable[ObjectKey], partition: str, *, distributions: Iterable[str] = ()
) -> Policy:
    """The least rights of the mirror's own role (fact 42).

    Listing is allowed below the folder that all keys share, which is what a pass lists; a pass over fewer issuers lists
    a folder in it. No right to delete: the mirror never deletes. `distributions` are the ids of CloudFront
    distributions whose changed paths are invalidated.

    Raises:
        ValueError: There is no key.
    """
    wanted = tuple(keys)
    statements: list[Statement] = [
        {
            "Sid": "OidcMirrorWriteDocuments",
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject"],
            "Resource": _demanded(object_arns(bucket, wanted, partition)),
        },
        {
            "Sid": "OidcMirrorListBucket",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": f"arn:{partition}:s3:::{bucket}",
            # The listing always names its prefix; an empty one is matched by the star alone.
            "Condition": {"StringLike": {"s3:prefix": f"{common_folder(wanted)}*"}},
        },
    ]
    invalidated = sorted(set(distributions))
    if invalidated:
        statements.append(
            {
                "Sid": "OidcMirrorInvalidateChangedPaths",
                "Effect": "Allow",
                "Action": "cloudfront:CreateInvalidation",
                # A distribution's id is unique in the world, and its account is written nowhere in the configuration.
                "Resource": [f"arn:{partition}:cloudfront::*:distribution/{each}" for each in invalidated],
            }
        )
    return document(*statements)


# --------------------------------------------------------------------------------------------- roles of pods


def provider_url(issuer: IssuerUrl) -> str:
    """The issuer as IAM keeps it in ARNs and condition keys.

    It is the exact text without `https://`, a slash at its end included (fact 30), and without `:443`, which IAM drops
    (IAM API, CreateOpenIDConnectProvider: "no port").
    """
    host, slash, path = issuer.removeprefix("https://").partition("/")
    return host.removesuffix(":443") + slash + path


def condition_key(issuer: IssuerUrl, claim: str) -> str:
    """The name under which IAM compares a claim of the issuer's tokens."""
    return f"{provider_url(issuer)}:{claim}"


def subject(namespace: str, service_account: str) -> str:
    """The `sub` of a ServiceAccount's tokens."""
    return f"system:serviceaccount:{namespace}:{service_account}"


def provider_arn(issuer: IssuerUrl, account: str, partition: str) -> str:
    """The ARN of the issuer's OIDC provider in an account."""
    return f"arn:{partition}:iam::{account}:oidc-provider/{provider_url(issuer)}"


def role_arn(account: str, name: str, partition: str) -> str:
    """The ARN of a role without a path."""
    return f"arn:{partition}:iam::{account}:role/{name}"


def conditions(
    issuer: IssuerUrl, subjects: Sequence[str], audiences: Sequence[str]
) -> dict[str, dict[str, str | list[str]]]:
    """Who of the issuer is meant: `sub` and `aud`, both always; a subject with a star or question mark by pattern.

    Raises:
        ValueError: There is no subject or no audience: the role would be everybody's (style 6).
    """
    if not subjects or not audiences:
        raise ValueError("A role needs at least one subject and one audience.")
    is_pattern = any(mark in each for each in subjects for mark in _WILDCARDS)
    aud, sub = (
        {condition_key(issuer, "aud"): _one_or_many(audiences)},
        {condition_key(issuer, "sub"): _one_or_many(subjects)},
    )
    if is_pattern:
        return {"StringEquals": aud, "StringLike": sub}
    return {"StringEquals": aud | sub}


def trust_policy(issuer: IssuerUrl, provider: Any, subjects: Sequence[str], audiences: Sequence[str]) -> Policy:
    """Who may assume a role: pods whose tokens the issuer signed, with one of `subjects` and one of `audiences`.

    `provider` is the ARN of the issuer's provider, or a value that a template resolves to it.

    Raises:
        ValueError: There is no subject or no audience.
    """
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": conditions(issuer, subjects, audiences),
        }
    )


def _one_or_many(values: Sequence[str]) -> str | list[str]:
    ordered = sorted(set(values))
    return ordered[0] if len(ordered) == 1 else ordered


def _demanded(arns: list[str]) -> list[str]:
    if not arns:
        raise ValueError("A policy needs at least one object.")
    return arns
