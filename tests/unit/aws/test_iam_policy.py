"""What a bucket policy gives to everybody."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.addresses import common_folder, object_keys
from mirror.aws.iam_policy import (
    PUBLIC_SID,
    Grants,
    allows_public_read,
    bucket_policy,
    compact,
    conditions,
    explain_forbidden,
    grants,
    is_served_by_bucket,
    partition_of,
    provider_arn,
    subject,
    trust_policy,
    writer_policy,
)
from mirror.config.settings import PublishSettings
from mirror.model import IssuerUrl, ObjectKey, PublicObject, Reason
from mirror.ports import AccessSettings
from mirror.publish.publisher import CacheContext, read_back
from support.check_clients import allow, policy_of
from support.fakes import MOMENT, FakeBucket, FakeWeb
from support.iam_linter import lint, lint_trust
from support.situations import ONE, Situation

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


A, B = ObjectKey("a/openid/v1/jwks"), ObjectKey("b/openid/v1/jwks")
DENY = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::oidc-bucket/*"}
INSECURE = {"Bool": {"aws:SecureTransport": "false"}}
VPC = {"StringNotEquals": {"aws:SourceVpc": "vpc-1"}}


def judged(*statements: object) -> Grants:
    found = grants(policy_of(*statements), "oidc-bucket", (A, B), "aws")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param([allow(A, B)], Grants(()), id="exact"),
        pytest.param([allow(A), allow(B)], Grants(()), id="two-statements"),
        pytest.param([allow(A, B, action=["s3:getobject"])], Grants(()), id="actions-ignore-case"),
        pytest.param([allow(A, B, principal={"AWS": "*"})], Grants(()), id="aws-star"),
        pytest.param(
            [allow(A, B, principal={"AWS": ["*", "arn:aws:iam::1:root"]})], Grants(()), id="star-among-others"
        ),
        pytest.param([allow(A)], Grants((B,)), id="one-missing"),
        pytest.param([allow(A, B, principal={"AWS": "arn:aws:iam::1:root"})], Grants((A, B)), id="not-everybody"),
        pytest.param([allow("*")], Grants((), wider=("arn:aws:s3:::oidc-bucket/*",)), id="whole-bucket"),
        pytest.param(
            [allow("?/openid/v1/jwks")],
            Grants((), wider=("arn:aws:s3:::oidc-bucket/?/openid/v1/jwks",)),
            id="question-mark",
        ),
        pytest.param(
            [allow(A, B), allow("old")], Grants((), wider=("arn:aws:s3:::oidc-bucket/old",)), id="one-key-more"
        ),
        pytest.param(
            [allow(A, B), allow(A, action="s3:PutObject")],
            Grants((), dangerous=(f"s3:PutObject on arn:aws:s3:::oidc-bucket/{A}",)),
            id="everybody-writes",
        ),
        pytest.param(
            [allow(A, B), allow(A, action="s3:PutObject", Condition=VPC, Sid="vpc")],
            Grants((), dangerous=(f"s3:PutObject on arn:aws:s3:::oidc-bucket/{A}",), conditional=("vpc",)),
            id="writes-under-a-condition",
        ),
        pytest.param(
            [allow(A, B, action="s3:*")],
            Grants((), dangerous=(f"s3:* on arn:aws:s3:::oidc-bucket/{A}, arn:aws:s3:::oidc-bucket/{B}",)),
            id="every-action",
        ),
        pytest.param([allow(A, B), DENY], Grants((), denied=(A, B)), id="denied"),
        pytest.param([allow(A, B), DENY | {"Condition": INSECURE}], Grants(()), id="only-insecure-transport-denied"),
        pytest.param([allow(A, B), DENY | {"Condition": VPC}], Grants((), denied=(A, B)), id="denied-from-outside"),
        pytest.param([allow(A, B), {**DENY, "Action": "s3:PutObject"}], Grants(()), id="only-writing-denied"),
        pytest.param(
            [allow(A, B, Condition=VPC)], Grants((A, B), conditional=("statement 1",)), id="readable-under-a-condition"
        ),
        pytest.param(
            [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "NotAction": "s3:PutObject",
                    "Resource": "arn:aws:s3:::oidc-bucket/*",
                }
            ],
            Grants((), dangerous=("everything but s3:PutObject on arn:aws:s3:::oidc-bucket/*",)),
            id="not-action",
        ),
        pytest.param(
            [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "s3:GetObject",
                    "NotResource": "arn:aws:s3:::oidc-bucket/x",
                }
            ],
            Grants((), wider=("everything but arn:aws:s3:::oidc-bucket/x",)),
            id="not-resource",
        ),
        pytest.param(
            [
                {
                    "Effect": "Allow",
                    "NotPrincipal": {"AWS": "1"},
                    "Action": "s3:GetObject",
                    "Resource": "arn:aws:s3:::oidc-bucket/*",
                }
            ],
            Grants((), wider=("arn:aws:s3:::oidc-bucket/*",)),
            id="not-principal",
        ),
    ],
)
def test_policy_is_judged(statements: list[object], expected: Grants) -> None:
    """What everybody may read, what is missing, denied, wider or dangerous."""
    assert judged(*statements) == expected


@pytest.mark.parametrize(("region_partition", "missing"), [("aws-cn", ()), ("aws", (A,))])
def test_partition_counts(region_partition: str, missing: tuple[ObjectKey, ...]) -> None:
    """In China an ARN of the commercial partition opens nothing, and the other way round."""
    statement = allow(A) | {"Resource": f"arn:aws-cn:s3:::oidc-bucket/{A}"}
    found = grants(policy_of(statement), "oidc-bucket", (A,), region_partition)
    assert found is not None
    assert found.missing == missing


def test_policy_that_we_render_is_exact() -> None:
    """What `render bucket-policy` prints and `provision bucket` sets has nothing to be told about."""
    ours = json.dumps(bucket_policy("oidc-bucket", (A, B), "aws"))
    assert grants(ours, "oidc-bucket", (A, B), "aws") == Grants(())


def test_single_statement_needs_no_list() -> None:
    """IAM takes an object in place of a list."""
    assert grants(json.dumps({"Statement": allow(A, B)}), "oidc-bucket", (A, B), "aws") == Grants(())


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"Statement": [1]}', '{"Statement": 3}', "[" * 100_000, '{"Statement": null}']
)
def test_what_is_no_policy_is_not_judged(text: str) -> None:
    """None, never an exception and never "nothing is wrong"."""
    assert grants(text, "oidc-bucket", (A,), "aws") is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["*", "s3:GetObject", "Allow", "Deny"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Effect", "Principal", "Action", "Resource", "Condition", "NotAction", "AWS", "Sid"]),
            inner,
        )
    ),
    max_leaves=10,
)


@given(st.lists(values, max_size=3))
def test_no_policy_makes_the_reader_raise(statements: list[object]) -> None:
    """A bucket's policy is text from outside."""
    found = grants(policy_of(*statements), "oidc-bucket", (A,), "aws")
    assert found is None or isinstance(found, Grants)


PUBLISH = PublishSettings("bucket", "eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com")
KEY = ObjectKey("id/openid/v1/jwks")
SEEN = Reason("forbidden", "The public URL is not public: HTTP 403.", "All at once.")
ALLOW = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::bucket/{KEY}"}


@pytest.mark.parametrize(
    ("openness", "code", "word"),
    [
        pytest.param(AccessSettings(), "forbidden", "All at once.", id="nothing-learned"),
        pytest.param(AccessSettings(exists=False, blocks=(), policy=""), "object_missing", "prefix", id="missing"),
        pytest.param(
            AccessSettings(True, ("RestrictPublicBuckets",), ""), "block_public_access", "Restrict", id="blocked"
        ),
        pytest.param(AccessSettings(True, (), ""), "bucket_policy", "render bucket-policy", id="no-policy"),
        pytest.param(AccessSettings(True, None, policy_of()), "bucket_policy", "s3:GetObject", id="empty-policy"),
        pytest.param(AccessSettings(None, None, policy_of(ALLOW)), "forbidden", "of the account", id="something-above"),
        pytest.param(AccessSettings(True, (), None), "forbidden", "All at once.", id="policy-not-readable"),
    ],
)
def test_forbidden_is_told_by_its_cause(openness: AccessSettings, code: str, word: str) -> None:
    """Each cause has its code and its remedy; where nothing can be learned all remedies stand."""
    reason = explain_forbidden(SEEN, openness, PUBLISH, KEY)
    assert (reason.code, word in reason.remedy) == (code, True)
    assert reason.sentence.startswith(SEEN.sentence)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(policy_of(ALLOW), True, id="exact"),
        pytest.param(json.dumps({"Statement": ALLOW}), True, id="one-statement-without-a-list"),
        pytest.param(policy_of({**ALLOW, "Principal": {"AWS": ["*"]}}), True, id="principal-in-a-list"),
        pytest.param(policy_of({**ALLOW, "Resource": "arn:aws-cn:s3:::bucket/id/*"}), True, id="folder-in-china"),
        pytest.param(policy_of({**ALLOW, "Resource": "arn:aws:s3:::bucke?/*"}), True, id="one-character"),
        pytest.param(policy_of({**ALLOW, "Resource": "*"}), True, id="everything"),
        pytest.param(policy_of({**ALLOW, "Action": ["s3:PutObject", "S3:Get*"]}), True, id="actions"),
        pytest.param(policy_of({**ALLOW, "Resource": "arn:aws:s3:::bucket/other"}), False, id="other-key"),
        pytest.param(policy_of({**ALLOW, "Resource": "arn:aws:s3:::bucket"}), False, id="bucket-alone"),
        pytest.param(policy_of({**ALLOW, "Resource": f"arn:aws:sqs:::bucket/{KEY}"}), False, id="other-service"),
        pytest.param(policy_of({**ALLOW, "Principal": {"AWS": "arn:aws:iam::1:root"}}), False, id="one-account"),
        pytest.param(policy_of({**ALLOW, "Principal": {"Service": "x"}}), False, id="service"),
        pytest.param(policy_of({**ALLOW, "Action": "s3:GetObjectVersion"}), False, id="other-action"),
        pytest.param(policy_of({**ALLOW, "Condition": {"IpAddress": {}}}), False, id="condition"),
        pytest.param(policy_of(ALLOW, {**ALLOW, "Effect": "Deny"}), False, id="denied"),
        pytest.param(
            policy_of(ALLOW, {**ALLOW, "Effect": "Deny", "Condition": {"x": 1}}), True, id="deny-with-condition"
        ),
        pytest.param(policy_of(ALLOW, "nonsense"), True, id="nonsense-beside"),
        pytest.param("{", False, id="no-json"),
        pytest.param("[]", False, id="list"),
        pytest.param("{}", False, id="no-statement"),
    ],
)
def test_policy_is_read(text: str, expected: bool) -> None:
    """What opens the object to everybody is told from what does not."""
    assert allows_public_read(text, "bucket", KEY) is expected


@pytest.mark.parametrize(
    ("publish", "expected"),
    [
        pytest.param(PUBLISH, True, id="s3"),
        pytest.param(replace(PUBLISH, base_url="https://s3.eu-west-1.amazonaws.com/bucket"), True, id="path-style"),
        pytest.param(replace(PUBLISH, base_url="https://oidc.example.com"), False, id="custom-domain"),
        pytest.param(
            replace(PUBLISH, base_url="https://s3.example.com/bucket", endpoint_url="https://s3.example.com"),
            True,
            id="other-store",
        ),
    ],
)
def test_host_of_the_store_is_told_from_a_cdn(publish: PublishSettings, expected: bool) -> None:
    """Only where the store itself answers do the bucket's settings say why."""
    assert is_served_by_bucket(publish) is expected


def test_pass_tells_why_the_world_is_refused(tmp_path: Path) -> None:
    """The report and the event of a failed read-back name the cause in the bucket."""
    situation = Situation(tmp_path)
    situation.world.web.blocked = SEEN
    situation.world.bucket.open = AccessSettings(True, ("BlockPublicPolicy",), "")
    report = situation.run(ONE, ONE)
    assert [reason.code for reason in report.issuers[0].failures] == ["readback.block_public_access"] * 2
    causes = [event.fields["cause"] for event in report.issuers[0].events if event.name == "readback.failed"]
    assert causes == ["block_public_access"] * 2


def test_bucket_behind_a_cdn_is_not_asked() -> None:
    """A bucket behind CloudFront is private on purpose: the remedy speaks of the CDN."""
    publish, bucket = replace(PUBLISH, base_url="https://oidc.example.com"), FakeBucket()
    wanted = PublicObject(KEY, f"{publish.base_url}/{KEY}", b"{}", "application/jwk-set+json", publish.cache_control)
    freshness = CacheContext(MOMENT, lambda _: False, lambda _: None)
    looked = read_back(FakeWeb(bucket, publish.base_url, SEEN), bucket, [wanted], publish, freshness)
    (reason,) = looked.failures
    assert (reason.code, "origin access control" in reason.remedy) == ("readback.forbidden", True)
    assert bucket.requests == []
