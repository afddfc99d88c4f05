"""What a bucket policy gives to everybody."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.aws.iam_policy import bucket_policy
from mirror.doctor.grants import Grants, grants
from mirror.model import ObjectKey
from support.doctor import allow, policy_of

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
