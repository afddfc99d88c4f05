"""Bucket policies: which public reads they allow, with one of three verdicts, and which policies the mirror needs."""

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
    Access,
    PublicAccess,
    ReadAccess,
    bucket_policy,
    compact,
    conditions,
    explain_forbidden,
    is_served_by_bucket,
    parse_statements,
    partition_of,
    provider_arn,
    public_access,
    public_names,
    read_access,
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
    """Anyone may read the documents of every issuer, each with its full key, and nothing else is allowed."""
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
    """Parliament checks IAM's grammar, actions, resources and condition keys, and reports no finding."""
    assert lint(policy) == []


def test_trust_policy_passes_an_independent_linter() -> None:
    """Parliament reports no finding for the trust policy."""
    arn = provider_arn(ISSUER, "111122223333", "aws")
    assert lint_trust(trust_policy(ISSUER, arn, (subject("kube-system", "app"),), ("sts.amazonaws.com",))) == []


def test_linter_would_see_a_wrong_policy() -> None:
    """The linter of the tests above reports an action that does not exist."""
    policy = bucket_policy("oidc-bucket", keys("/a"), "aws")
    policy["Statement"][0]["Action"] = "s3:ReadObject"
    assert lint(policy) != []
    assert lint_trust(trust_policy(ISSUER, "any-user", ("s",), ("x",)) | {"Version": "2011-01-01"}) != []


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
    """For any set of issuers, the folder that a pass lists matches the condition."""
    wanted = keys(*paths)
    (listing,) = [each for each in writer_policy("b", wanted, "aws")["Statement"] if each["Action"] == "s3:ListBucket"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": prefix}}
    for count in range(1, len(wanted) + 1):
        for some in combinations(wanted, count):
            assert common_folder(some).startswith(prefix.removesuffix("*"))


def test_writer_policy_gives_no_more_than_reading_writing_and_listing() -> None:
    """The mirror's role cannot delete an object or change the bucket."""
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
    """An empty list of objects is rejected."""
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
    """ARNs in China, GovCloud and the isolated regions have another partition."""
    assert partition_of(region) == partition


def test_trust_policy_names_subject_and_audience_by_the_exact_issuer() -> None:
    """IAM matches claims by the issuer without its scheme. A final slash is part of it."""
    with_slash = IssuerUrl("https://oidc.example.com/a/")
    policy = trust_policy(with_slash, provider_arn(with_slash, "1" * 12, "aws"), ("system:serviceaccount:n:s",), ("x",))
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Federated": "arn:aws:iam::111111111111:oidc-provider/oidc.example.com/a/"}
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {"oidc.example.com/a/:aud": "x", "oidc.example.com/a/:sub": "system:serviceaccount:n:s"}
    }


def test_subject_pattern_leaves_the_audience_exact() -> None:
    """A star in a subject is matched as a pattern. The audience beside it stays exact."""
    assert conditions(ISSUER, ("system:serviceaccount:n:*", "system:serviceaccount:m:s"), ("y", "x")) == {
        "StringEquals": {f"{ISSUER[8:]}:aud": ["x", "y"]},
        "StringLike": {f"{ISSUER[8:]}:sub": ["system:serviceaccount:m:s", "system:serviceaccount:n:*"]},
    }


@pytest.mark.parametrize(("subjects", "audiences"), [((), ("a",)), (("s",), ())])
def test_role_for_every_principal_is_refused(subjects: tuple[str, ...], audiences: tuple[str, ...]) -> None:
    """Without a subject, or without an audience, any pod of the cluster could take the role."""
    with pytest.raises(ValueError, match="at least one subject"):
        conditions(ISSUER, subjects, audiences)


def test_compact_policy_has_no_white_space() -> None:
    """White space would count against the service's size limit."""
    policy = bucket_policy("b", keys("/a"), "aws")
    assert " " not in compact(policy)
    assert json.loads(compact(policy)) == policy


A, B = ObjectKey("a/openid/v1/jwks"), ObjectKey("b/openid/v1/jwks")
DENY = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::oidc-bucket/*"}
INSECURE = {"Bool": {"aws:SecureTransport": "false"}}
VPC = {"StringNotEquals": {"aws:SourceVpc": "vpc-1"}}
NETWORK = {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}


def judged(*statements: object) -> PublicAccess:
    found = public_access(policy_of(*statements), "oidc-bucket", (A, B), "aws")
    assert found is not None
    return found


def expect(
    missing: tuple[ObjectKey, ...] = (),
    *,
    denied: str = "",
    conditional: str = "",
    wider: tuple[str, ...] = (),
    dangerous: tuple[str, ...] = (),
) -> PublicAccess:
    """Expects both objects readable except `missing`, both denied by a statement, or both under a condition."""
    answer = ReadAccess(Access.READABLE)
    if denied:
        answer = ReadAccess(Access.NOT_READABLE, because=(denied,))
    if conditional:
        answer = ReadAccess(Access.CONDITIONAL, conditions=(conditional,))
    objects = {key: ReadAccess(Access.NOT_READABLE) if key in missing else answer for key in (A, B)}
    return PublicAccess(objects, wider, dangerous)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param([allow(A, B)], expect(), id="exact"),
        pytest.param([allow(A), allow(B)], expect(), id="two-statements"),
        pytest.param([allow(A, B, action=["s3:getobject"])], expect(), id="actions-ignore-case"),
        pytest.param([allow(A, B, principal={"AWS": "*"})], expect(), id="aws-star"),
        pytest.param([allow(A, B, principal={"AWS": ["*", "arn:aws:iam::1:root"]})], expect(), id="star-among-others"),
        pytest.param([allow(A)], expect((B,)), id="one-missing"),
        pytest.param([allow(A, B, principal={"AWS": "arn:aws:iam::1:root"})], expect((A, B)), id="not-anyone"),
        pytest.param([allow("*")], expect(wider=("arn:aws:s3:::oidc-bucket/*",)), id="whole-bucket"),
        pytest.param(
            [allow("?/openid/v1/jwks")],
            expect(wider=("arn:aws:s3:::oidc-bucket/?/openid/v1/jwks",)),
            id="question-mark",
        ),
        pytest.param([allow(A, B), allow("old")], expect(wider=("arn:aws:s3:::oidc-bucket/old",)), id="one-key-more"),
        pytest.param(
            [allow(A, B), allow(A, action="s3:PutObject")],
            expect(dangerous=(f"s3:PutObject on arn:aws:s3:::oidc-bucket/{A}",)),
            id="anyone-writes",
        ),
        pytest.param(
            [allow(A, B), allow(A, action="s3:PutObject", Condition=VPC, Sid="vpc")],
            expect(dangerous=(f"s3:PutObject on arn:aws:s3:::oidc-bucket/{A}",)),
            id="writes-under-a-condition",
        ),
        pytest.param(
            [allow(A, B, action="s3:*")],
            expect(dangerous=(f"s3:* on arn:aws:s3:::oidc-bucket/{A}, arn:aws:s3:::oidc-bucket/{B}",)),
            id="every-action",
        ),
        pytest.param([allow(A, B), DENY], expect(denied="statement 2"), id="denied"),
        pytest.param([allow(A, B), DENY | {"Condition": INSECURE}], expect(), id="only-insecure-transport-denied"),
        pytest.param([allow(A, B), DENY | {"Condition": VPC}], expect(denied="statement 2"), id="denied-from-outside"),
        pytest.param([allow(A, B), {**DENY, "Action": "s3:PutObject"}], expect(), id="only-writing-denied"),
        pytest.param(
            [allow(A, B, Condition=NETWORK)],
            expect(conditional="aws:SourceIp (statement 1)"),
            id="readable-under-a-condition",
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
            expect(
                wider=("arn:aws:s3:::oidc-bucket/*",),
                dangerous=("everything but s3:PutObject on arn:aws:s3:::oidc-bucket/*",),
            ),
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
            expect(wider=("everything but arn:aws:s3:::oidc-bucket/x",)),
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
            expect(wider=("arn:aws:s3:::oidc-bucket/*",)),
            id="not-principal",
        ),
    ],
)
def test_policy_is_judged(statements: list[object], expected: PublicAccess) -> None:
    """The verdict says what anyone may read, what is missing or denied, and what is too wide or dangerous."""
    assert judged(*statements) == expected


@pytest.mark.parametrize(("region_partition", "missing"), [("aws-cn", ()), ("aws", (A,))])
def test_partition_counts(region_partition: str, missing: tuple[ObjectKey, ...]) -> None:
    """In China, an ARN of the commercial partition allows nothing, and the reverse."""
    statement = allow(A) | {"Resource": f"arn:aws-cn:s3:::oidc-bucket/{A}"}
    found = public_access(policy_of(statement), "oidc-bucket", (A,), region_partition)
    assert found is not None
    assert found.keys_with(Access.NOT_READABLE) == missing


def test_policy_that_we_render_is_exact() -> None:
    """The policy of `render bucket-policy` and `provision bucket` gives no finding."""
    ours = json.dumps(bucket_policy("oidc-bucket", (A, B), "aws"))
    assert public_access(ours, "oidc-bucket", (A, B), "aws") == expect()


def test_single_statement_needs_no_list() -> None:
    """IAM accepts a single object in place of a list."""
    assert public_access(json.dumps({"Statement": allow(A, B)}), "oidc-bucket", (A, B), "aws") == expect()


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"Statement": [1]}', '{"Statement": 3}', "[" * 100_000, '{"Statement": null}']
)
def test_what_is_no_policy_is_not_judged(text: str) -> None:
    """An invalid policy gives None, never an exception and never "nothing is wrong"."""
    assert public_access(text, "oidc-bucket", (A,), "aws") is None
    assert read_access(text, "oidc-bucket", A, "aws") is None
    assert parse_statements(text) is None


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
    """A bucket's policy is untrusted input."""
    found = public_access(policy_of(*statements), "oidc-bucket", (A,), "aws")
    assert found is None or isinstance(found, PublicAccess)


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
def test_forbidden_is_reported_with_its_cause(openness: AccessSettings, code: str, word: str) -> None:
    """Each cause has its code and its remedy. If the cause is unknown, all remedies are listed."""
    reason = explain_forbidden(SEEN, openness, PUBLISH, KEY)
    assert (reason.code, word in reason.remedy) == (code, True)
    assert reason.sentence.startswith(SEEN.sentence)


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        pytest.param("{", "bucket_policy", "understands", id="no-policy"),
        pytest.param(policy_of(ALLOW, ALLOW | {"Effect": "Deny", "Sid": "vpc"}), "bucket_policy", "(vpc)", id="denied"),
        pytest.param(policy_of(ALLOW | {"Condition": NETWORK}), "bucket_policy", "aws:SourceIp", id="condition"),
        pytest.param(
            policy_of(ALLOW | {"Principal": {"Service": "x"}}), "bucket_policy", "not allow", id="not-allowed"
        ),
    ],
)
def test_policy_that_is_in_the_way_is_named(text: str, code: str, word: str) -> None:
    """The report names the statement or the condition that prevents public reads."""
    reason = explain_forbidden(SEEN, AccessSettings(True, (), text), PUBLISH, KEY)
    assert (reason.code, word in reason.sentence) == (code, True)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        pytest.param({"Principal": {"AWS": ["*"]}}, Access.READABLE, id="principal-in-a-list"),
        pytest.param({"Resource": "arn:aws:s3:::bucke?/*"}, Access.READABLE, id="one-character"),
        pytest.param({"Resource": "*"}, Access.READABLE, id="everything"),
        pytest.param({"Action": ["s3:PutObject", "S3:Get*"]}, Access.READABLE, id="actions"),
        pytest.param({"Resource": "arn:aws:s3:::bucket/other"}, Access.NOT_READABLE, id="other-key"),
        pytest.param({"Resource": "arn:aws:s3:::bucket"}, Access.NOT_READABLE, id="bucket-alone"),
        pytest.param({"Resource": f"arn:aws:sqs:::bucket/{KEY}"}, Access.NOT_READABLE, id="other-service"),
        pytest.param({"Principal": {"Service": "x"}}, Access.NOT_READABLE, id="service"),
        pytest.param({"Action": "s3:GetObjectVersion"}, Access.NOT_READABLE, id="other-action"),
    ],
)
def test_statement_covers_the_object_or_not(statement: dict[str, object], expected: Access) -> None:
    """Principal, action and resource must all match an anonymous GET of the object."""
    found = read_access(policy_of(ALLOW | statement), "bucket", KEY, "aws")
    assert found == ReadAccess(expected)


def rows() -> list[Any]:
    """Policies of real buckets, each with the verdict of the IAM user guide and the deciding part."""
    get = {"Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
    given = {"Effect": "Allow", **get}
    forbidden = {"Effect": "Deny", **get}
    without_action = {name: value for name, value in get.items() if name != "Action"}
    role = {"AWS": "arn:aws:iam::123456789012:role/x"}
    named = {name: value for name, value in forbidden.items() if name != "Principal"}
    yes, no, depends = Access.READABLE, Access.NOT_READABLE, Access.CONDITIONAL

    def row(name: str, expected: Access, *statements: object, why: str = "") -> Any:
        return pytest.param(statements, expected, why, id=name)

    def deny_if(condition: object) -> tuple[object, object]:
        return given, forbidden | {"Condition": condition}

    return [
        row("exact-arn", yes, given | {"Principal": {"AWS": "*"}, "Resource": ["arn:aws:s3:::b/c/openid/v1/jwks"]}),
        row("deny-unless-vpc-endpoint", no, *deny_if({"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}), why="two"),
        row("deny-not-principal", no, given, named | {"NotPrincipal": role}, why="two"),
        row("deny-not-principal-of-anyone", yes, given, named | {"NotPrincipal": "*"}),
        row("allow-not-action", yes, {"Effect": "Allow", **without_action, "NotAction": "s3:PutObject"}),
        row("allow-not-action-reading", no, {"Effect": "Allow", **without_action, "NotAction": "s3:Get*"}),
        row("deny-not-action", no, given, {"Effect": "Deny", **without_action, "NotAction": "s3:PutObject"}, why="two"),
        row("allow-one-organisation", no, given | {"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}),
        row("allow-one-tag", no, given | {"Condition": {"StringLike": {"aws:PrincipalTag/team": "*"}}}),
        row("allow-from-one-network", depends, given | {"Condition": NETWORK}, why="aws:SourceIp (one)"),
        row("allow-from-anywhere", yes, given | {"Condition": {"IpAddress": {"aws:SourceIp": ["0.0.0.0/0", "::/0"]}}}),
        row("deny-from-anywhere", no, *deny_if({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}), why="two"),
        row("deny-from-nowhere", yes, *deny_if({"NotIpAddress": {"aws:SourceIp": "0.0.0.0/0"}})),
        row(
            "allow-one-referer",
            depends,
            given | {"Condition": {"StringLike": {"aws:Referer": "x"}}},
            why="aws:Referer (one)",
        ),
        row("deny-without-tls", yes, *deny_if({"Bool": {"aws:SecureTransport": "false"}})),
        row("deny-without-tls-unquoted", yes, *deny_if({"Bool": {"aws:SecureTransport": False}})),
        row("deny-with-tls", no, *deny_if({"Bool": {"aws:SecureTransport": ["true"]}}), why="two"),
        row("deny-unless-tls", yes, *deny_if({"BoolIfExists": {"aws:SecureTransport": "false"}})),
        row("deny-old-tls", yes, *deny_if({"NumericLessThan": {"s3:TlsVersion": "1.2"}})),
        row(
            "deny-odd-tls", depends, *deny_if({"NumericLessThan": {"s3:TlsVersion": "new"}}), why="s3:TlsVersion (two)"
        ),
        row("deny-tls-not-in-list", yes, *deny_if({"NumericNotEquals": {"s3:TlsVersion": ["1.2", "1.3"]}})),
        row("deny-null-endpoint", no, *deny_if({"Null": {"aws:SourceVpce": "true"}}), why="two"),
        row("deny-any-endpoint", yes, *deny_if({"Null": {"aws:SourceVpce": "false"}})),
        row("deny-null-transport", yes, *deny_if({"Null": {"aws:SecureTransport": "true"}})),
        row("deny-null-referer", depends, *deny_if({"Null": {"aws:Referer": "true"}}), why="aws:Referer (two)"),
        row("deny-if-exists", no, *deny_if({"StringEqualsIfExists": {"aws:SourceVpc": "v"}}), why="two"),
        row("deny-for-all", no, *deny_if({"ForAllValues:StringEquals": {"aws:PrincipalOrgPaths": "v"}}), why="two"),
        row("deny-for-any", yes, *deny_if({"ForAnyValue:StringNotEquals": {"aws:PrincipalOrgPaths": "v"}})),
        row("deny-anonymous", no, *deny_if({"StringEqualsIgnoreCase": {"aws:PrincipalType": "anonymous"}}), why="two"),
        row("deny-all-but-anonymous", yes, *deny_if({"StringNotLike": {"aws:PrincipalType": "Anon*"}})),
        row(
            "deny-wrong-operator",
            depends,
            *deny_if({"DateEquals": {"aws:PrincipalType": "x"}}),
            why="aws:PrincipalType (two)",
        ),
        row("two-conditions-one-never", yes, *deny_if({"StringEquals": {"aws:Referer": "x", "aws:SourceVpc": "v"}})),
        row("certain-beside-conditional", yes, given, given | {"Condition": NETWORK}),
        row("nothing", no),
        row("nothing-for-this-key", no, given | {"NotResource": "arn:aws:s3:::b/*", "Resource": []}),
    ]


@pytest.mark.parametrize(("statements", "expected", "why"), rows())
def test_policy_has_one_of_three_answers(statements: tuple[dict[str, Any], ...], expected: Access, why: str) -> None:
    """An anonymous GET over https is allowed, denied by a named Deny, or depends on a named condition."""
    named = [each | {"Sid": name} for each, name in zip(statements, ("one", "two"), strict=False)]
    found = read_access(policy_of(*named), "b", ObjectKey("c/openid/v1/jwks"), "aws")
    assert found is not None
    assert (found.access, ", ".join(found.because or found.conditions)) == (expected, why)


def test_conditional_statement_does_not_make_objects_public() -> None:
    """A condition that no anonymous request can meet makes nothing public. A condition that it can meet does."""
    statements: list[dict[str, Any]] = [
        allow("*", Sid="all"),
        allow("*", Sid="organisation", Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}}),
        allow("*", Sid="network", Condition=NETWORK),
        DENY | {"Sid": "deny"},
    ]
    assert public_names(statements) == ("all", "network")


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
def test_host_of_the_store_is_distinguished_from_a_cdn(publish: PublishSettings, expected: bool) -> None:
    """The bucket's settings explain a refusal only where the store itself answers."""
    assert is_served_by_bucket(publish) is expected


def test_pass_reports_why_anonymous_reads_are_refused(tmp_path: Path) -> None:
    """The report and the event of a failed read-back name the cause in the bucket."""
    situation = Situation(tmp_path)
    situation.world.web.blocked = SEEN
    situation.world.bucket.open = AccessSettings(True, ("BlockPublicPolicy",), "")
    report = situation.run(ONE, ONE)
    assert [reason.code for reason in report.issuers[0].failures] == ["readback.block_public_access"] * 2
    causes = [event.fields["cause"] for event in report.issuers[0].events if event.name == "readback.failed"]
    assert causes == ["block_public_access"] * 2


def test_bucket_behind_a_cdn_is_not_asked() -> None:
    """A bucket behind CloudFront is private on purpose. The remedy names the CDN."""
    publish, bucket = replace(PUBLISH, base_url="https://oidc.example.com"), FakeBucket()
    wanted = PublicObject(KEY, f"{publish.base_url}/{KEY}", b"{}", "application/jwk-set+json", publish.cache_control)
    freshness = CacheContext(MOMENT, lambda _: False, lambda _: None)
    looked = read_back(FakeWeb(bucket, publish.base_url, SEEN), bucket, [wanted], publish, freshness)
    (reason,) = looked.failures
    assert (reason.code, "origin access control" in reason.remedy) == ("readback.forbidden", True)
    assert bucket.requests == []
