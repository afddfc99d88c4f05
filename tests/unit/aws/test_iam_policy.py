import json
from itertools import combinations
from typing import Any

import pytest

from mirror.addresses import common_folder, object_keys
from mirror.aws.iam_policy import (
    PUBLIC_SID,
    bucket_policy,
    compact,
    conditions,
    partition_of,
    provider_arn,
    subject,
    trust_policy,
    writer_policy,
)
from mirror.model import IssuerUrl, ObjectKey
from support.iam_linter import lint, lint_trust

BASE = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com"
ISSUER = IssuerUrl(f"{BASE}/cluster/identifier")


def keys(*paths: str) -> tuple[ObjectKey, ...]:
    return tuple(key for path in paths for key in object_keys(IssuerUrl(f"{BASE}{path}"), BASE, ""))


def test_bucket_policy_of_two_issuers_opens_exactly_their_four_objects() -> None:
    """The world may read the documents of every issuer, each named whole, and may do nothing else."""
    policy = bucket_policy("oidc-bucket", keys("/b", "/a"), "aws")
    assert policy == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": PUBLIC_SID,
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3:GetObject",
                "Resource": [
                    "arn:aws:s3:::oidc-bucket/a/.well-known/openid-configuration",
                    "arn:aws:s3:::oidc-bucket/a/openid/v1/jwks",
                    "arn:aws:s3:::oidc-bucket/b/.well-known/openid-configuration",
                    "arn:aws:s3:::oidc-bucket/b/openid/v1/jwks",
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(bucket_policy("oidc-bucket", keys("/a", "/b"), "aws"), id="bucket"),
        pytest.param(writer_policy("oidc-bucket", keys("/a", "/b"), "aws"), id="writer"),
        pytest.param(
            writer_policy("oidc-bucket", keys("/a"), "aws", distributions=("E2QWRUHAPOMQZL",)), id="writer-cloudfront"
        ),
    ],
)
def test_policies_pass_an_independent_linter(policy: Any) -> None:
    """Parliament knows IAM's grammar, actions, resources and condition keys, and finds nothing wrong."""
    assert lint(policy) == []


def test_trust_policy_passes_an_independent_linter() -> None:
    """Parliament finds nothing wrong with who may assume a role."""
    arn = provider_arn(ISSUER, "111122223333", "aws")
    assert lint_trust(trust_policy(ISSUER, arn, (subject("kube-system", "app"),), ("sts.amazonaws.com",))) == []


def test_linter_would_see_a_wrong_policy() -> None:
    """The linter that the test above relies on tells an action that does not exist."""
    policy = bucket_policy("oidc-bucket", keys("/a"), "aws")
    policy["Statement"][0]["Action"] = "s3:ReadObject"
    assert lint(policy) != []
    assert lint_trust(trust_policy(ISSUER, "anybody", ("s",), ("x",)) | {"Version": "2011-01-01"}) != []


@pytest.mark.parametrize(
    ("paths", "prefix"),
    [
        pytest.param(("/fleet/a", "/fleet/b"), "fleet/*", id="two-issuers"),
        pytest.param(("/fleet/a",), "fleet/a/*", id="one-issuer"),
        pytest.param(("",), "*", id="issuer-at-the-root"),
        pytest.param(("/a", "/b"), "*", id="nothing-shared"),
    ],
)
def test_writer_policy_lists_what_a_pass_lists(paths: tuple[str, ...], prefix: str) -> None:
    """Whichever issuers a pass is about, the folder that it lists matches the condition."""
    wanted = keys(*paths)
    (listing,) = [each for each in writer_policy("b", wanted, "aws")["Statement"] if each["Action"] == "s3:ListBucket"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": prefix}}
    for count in range(1, len(wanted) + 1):
        for some in combinations(wanted, count):
            assert common_folder(some).startswith(prefix.removesuffix("*"))


def test_writer_policy_gives_no_more_than_reading_writing_and_listing() -> None:
    """The mirror's role can neither delete an object nor change the bucket."""
    policy = writer_policy("b", keys("/a"), "aws-cn", distributions=("E1", "E1"))
    actions = [each["Action"] for each in policy["Statement"]]
    assert actions == [["s3:GetObject", "s3:PutObject"], "s3:ListBucket", "cloudfront:CreateInvalidation"]
    assert policy["Statement"][0]["Resource"] == [
        "arn:aws-cn:s3:::b/a/.well-known/openid-configuration",
        "arn:aws-cn:s3:::b/a/openid/v1/jwks",
    ]
    assert policy["Statement"][2]["Resource"] == ["arn:aws-cn:cloudfront::*:distribution/E1"]


@pytest.mark.parametrize("make", [bucket_policy, writer_policy])
def test_policy_without_an_object_is_refused(make: Any) -> None:
    """An empty list never becomes a policy."""
    with pytest.raises((ValueError, IndexError)):
        make("b", (), "aws")


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("ap-southeast-2", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eusc-de-east-1", "aws-eusc"),
        ("garage", "aws"),
    ],
)
def test_partition_follows_from_the_region(region: str, partition: str) -> None:
    """ARNs in China, GovCloud and the closed regions begin differently."""
    assert partition_of(region) == partition


def test_trust_policy_names_subject_and_audience_by_the_exact_issuer() -> None:
    """IAM compares claims under the issuer's text without its scheme, a slash at its end included."""
    with_slash = IssuerUrl("https://oidc.example.com/a/")
    policy = trust_policy(with_slash, provider_arn(with_slash, "1" * 12, "aws"), ("system:serviceaccount:n:s",), ("x",))
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Federated": "arn:aws:iam::111111111111:oidc-provider/oidc.example.com/a/"}
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {"oidc.example.com/a/:aud": "x", "oidc.example.com/a/:sub": "system:serviceaccount:n:s"}
    }


def test_subject_pattern_leaves_the_audience_exact() -> None:
    """A star in a subject is compared by pattern; the audience stays exact beside it."""
    assert conditions(ISSUER, ("system:serviceaccount:n:*", "system:serviceaccount:m:s"), ("y", "x")) == {
        "StringEquals": {f"{ISSUER[8:]}:aud": ["x", "y"]},
        "StringLike": {f"{ISSUER[8:]}:sub": ["system:serviceaccount:m:s", "system:serviceaccount:n:*"]},
    }


@pytest.mark.parametrize(("subjects", "audiences"), [((), ("a",)), (("s",), ())])
def test_role_for_everybody_is_refused(subjects: tuple[str, ...], audiences: tuple[str, ...]) -> None:
    """Without a subject, or without an audience, any pod of the cluster could take the role."""
    with pytest.raises(ValueError, match="at least one subject"):
        conditions(ISSUER, subjects, audiences)


def test_compact_policy_has_no_white_space() -> None:
    """What is sent counts against the service's limit, so nothing is wasted."""
    policy = bucket_policy("b", keys("/a"), "aws")
    assert " " not in compact(policy)
    assert json.loads(compact(policy)) == policy
