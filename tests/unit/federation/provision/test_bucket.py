"""The plan of a bucket, over everything that it may meet."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mirror.aws.iam_policy import MAX_BUCKET_POLICY_BYTES, PUBLIC_SID, AccessBlock, public_statement
from mirror.federation.provision.bucket import MEANT_BLOCK, BucketState, DesiredBucket, ProvisionPlan, plan_bucket
from mirror.model import ObjectKey
from support.provisioning import codes_of

KEYS = (ObjectKey("id/.well-known/openid-configuration"), ObjectKey("id/openid/v1/jwks"))
HOST = "https://b.s3.ap-southeast-2.amazonaws.com"
WANTED = DesiredBucket("b", "ap-southeast-2", "aws", KEYS, (HOST,))
OURS = public_statement("b", KEYS, "aws")
ALL_OF_IT = {
    "Sid": "Theirs",
    "Effect": "Allow",
    "Principal": "*",
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::b/*",
}
SHUT = AccessBlock(block_acls=True, ignore_acls=True, block_policy=True, restrict_buckets=True)


def policy(*statements: Any, **members: str) -> str:
    return json.dumps({"Version": "2012-10-17", **members, "Statement": list(statements)})


RIGHT = BucketState(
    state="ours",
    region="ap-southeast-2",
    versioning="Enabled",
    ownership="BucketOwnerEnforced",
    block=MEANT_BLOCK,
    policy=policy(OURS),
)


def problems(plan: ProvisionPlan) -> list[str]:
    return [each.code for each in plan.problems]


def notes(plan: ProvisionPlan) -> list[str]:
    return [each.code for each in plan.notes]


def test_right_bucket_needs_nothing() -> None:
    """What is as it should be makes an empty plan."""
    assert plan_bucket(RIGHT, WANTED) == ProvisionPlan("bucket b in ap-southeast-2")


@pytest.mark.parametrize(
    "ours",
    [
        pytest.param({**OURS, "Resource": OURS["Resource"][::-1]}, id="other-order"),
        pytest.param({**OURS, "Action": ["s3:GetObject"]}, id="list-of-one"),
    ],
)
def test_our_statement_in_the_words_of_aws_is_right(ours: Any) -> None:
    """S3 gives a policy back in its own order and form, and that is no difference."""
    assert plan_bucket(replace(RIGHT, policy=policy(ours)), WANTED).differences == ()


def test_absent_bucket_is_made_whole_in_the_right_order() -> None:
    """Everything else follows the bucket, and the policy comes last: S3 refuses it before the block is lifted."""
    plan = plan_bucket(BucketState("absent"), WANTED)
    assert codes_of(plan) == ["create_bucket", "enable_versioning", "set_access_block", "put_policy"]
    assert json.loads(plan.differences[-1].payload) == {"Version": "2012-10-17", "Statement": [OURS]}
    assert json.loads(plan.differences[2].payload) == MEANT_BLOCK.switches()


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(replace(RIGHT, versioning=None), ["enable_versioning"], id="versioning-never"),
        pytest.param(replace(RIGHT, versioning="Suspended"), ["enable_versioning"], id="versioning-suspended"),
        pytest.param(replace(RIGHT, block=SHUT), ["set_access_block"], id="shut"),
        pytest.param(replace(RIGHT, block=None), ["set_access_block"], id="no-block"),
        pytest.param(replace(RIGHT, block=AccessBlock()), ["set_access_block"], id="acls-open"),
        pytest.param(replace(RIGHT, policy=None), ["put_policy"], id="no-policy"),
        pytest.param(replace(RIGHT, policy=policy(OURS, OURS)), ["put_policy"], id="ours-twice"),
        pytest.param(replace(RIGHT, policy=policy({**OURS, "Action": "s3:*"})), ["put_policy"], id="ours-widened"),
        pytest.param(replace(RIGHT, policy=policy({**OURS, "Condition": {}})), ["put_policy"], id="ours-conditional"),
        pytest.param(replace(RIGHT, policy=policy({**OURS, "Resource": "*"})), ["put_policy"], id="ours-everything"),
        pytest.param(replace(RIGHT, policy=policy({**OURS, "Effect": "Deny"})), ["put_policy"], id="ours-denies"),
        pytest.param(replace(RIGHT, block=SHUT, is_aws=False), ["set_access_block"], id="other-store-shut"),
        pytest.param(replace(RIGHT, block=None, is_aws=False), [], id="other-store-no-block"),
        pytest.param(replace(RIGHT, block=AccessBlock(), is_aws=False), [], id="other-store-acls-open"),
    ],
)
def test_each_difference_is_mended_alone(seen: BucketState, expected: list[str]) -> None:
    """One thing that is off makes one difference, and no problem."""
    plan = plan_bucket(seen, WANTED)
    assert (codes_of(plan), problems(plan)) == (expected, [])


def test_other_store_keeps_its_switches_of_acls() -> None:
    """Only what forbids policies is lifted: radosgw refuses every put with BlockPublicAcls."""
    plan = plan_bucket(replace(RIGHT, block=replace(SHUT, ignore_acls=False), is_aws=False), WANTED)
    assert json.loads(plan.differences[0].payload) == AccessBlock(block_acls=True).switches()


def test_statements_of_others_and_other_members_stay_as_they_are() -> None:
    """Ours is put behind theirs; their text, the Id and the version of the policy are not touched."""
    denial = {
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "s3:*",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    seen = replace(RIGHT, policy=json.dumps({"Version": "2008-10-17", "Id": "theirs", "Statement": denial}))
    plan = plan_bucket(seen, WANTED)
    assert json.loads(plan.differences[0].payload) == {
        "Version": "2008-10-17",
        "Id": "theirs",
        "Statement": [denial, OURS],
    }
    assert notes(plan) == []


def test_policy_never_opens_more_than_the_documents() -> None:
    """Whatever our statement opened before, afterwards it opens the published keys, and the difference says so."""
    stale = {**OURS, "Resource": ["arn:aws:s3:::b/*", OURS["Resource"][0]]}
    (difference,) = plan_bucket(replace(RIGHT, policy=policy(stale)), WANTED).differences
    assert json.loads(difference.payload)["Statement"] == [OURS]
    assert "- arn:aws:s3:::b/*" in difference.after
    assert f"+ {OURS['Resource'][1]}" in difference.after
    assert f"+ {OURS['Resource'][0]}" not in difference.after


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        pytest.param(BucketState("foreign"), "foreign_bucket", id="foreign"),
        pytest.param(BucketState("elsewhere"), "wrong_account", id="owner"),
        pytest.param(replace(RIGHT, region="us-east-1", versioning=None), "wrong_region", id="region"),
    ],
)
def test_bucket_that_is_not_ours_to_change_is_refused_whole(seen: BucketState, code: str) -> None:
    """Another account's bucket, or one elsewhere, gets no difference at all."""
    plan = plan_bucket(seen, WANTED)
    assert (codes_of(plan), problems(plan)) == ([], [code])


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "null", '{"Statement": 3}', '{"Statement": ["x"]}', "{}", "[" * 100_000],
    ids=["cut", "list", "null", "number", "text", "empty", "deep"],
)
def test_policy_that_is_none_is_not_touched(text: str) -> None:
    """What cannot be read is left, and so is the block that keeps it from opening anything."""
    plan = plan_bucket(replace(RIGHT, policy=text, block=SHUT, versioning=None), WANTED)
    assert (codes_of(plan), problems(plan)) == (["enable_versioning"], ["policy_unreadable"])


def test_foreign_public_statement_is_reported_and_kept() -> None:
    """A policy that opens more than the documents is reported and kept: that is the operator's decision."""
    plan = plan_bucket(replace(RIGHT, policy=policy(ALL_OF_IT)), WANTED)
    assert notes(plan) == ["foreign_public"]
    assert "Theirs" in plan.notes[0].sentence
    assert json.loads(plan.differences[0].payload)["Statement"] == [ALL_OF_IT, OURS]


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(ALL_OF_IT, id="star"),
        pytest.param({**ALL_OF_IT, "Principal": {"AWS": ["*"]}}, id="aws-star"),
        pytest.param(
            {k: v for k, v in ALL_OF_IT.items() if k != "Principal"} | {"NotPrincipal": {"AWS": "1"}}, id="not"
        ),
    ],
)
def test_lifting_the_block_never_opens_what_others_wrote(statement: Any) -> None:
    """Where only the block keeps a statement of others from opening the bucket, neither block nor policy is touched."""
    plan = plan_bucket(replace(RIGHT, policy=policy(statement), block=SHUT), WANTED)
    assert (codes_of(plan), problems(plan)) == ([], ["would_open_more"])


@pytest.mark.parametrize(
    "change",
    [{"Action": "s3:*"}, {"Resource": "arn:aws:s3:::b/*"}, {"Resource": [*OURS["Resource"], "arn:aws:s3:::b/x"]}],
    ids=["action", "star", "one-more"],
)
def test_lifting_the_block_never_opens_a_widened_statement_of_ours(change: dict[str, Any]) -> None:
    """The block goes before the policy is corrected, and a kill between both would leave the widened one open."""
    plan = plan_bucket(replace(RIGHT, policy=policy({**OURS, **change}), block=SHUT), WANTED)
    assert (codes_of(plan), problems(plan)) == ([], ["would_open_more"])
    narrower = {**OURS, "Resource": OURS["Resource"][0]}
    lifted = plan_bucket(replace(RIGHT, policy=policy(narrower), block=SHUT), WANTED)
    assert (codes_of(lifted), problems(lifted)) == (["set_access_block", "put_policy"], [])


def test_statement_for_one_account_does_not_stop_the_lifting() -> None:
    """A policy statement for a named account does not make the bucket public."""
    theirs = {**ALL_OF_IT, "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}
    plan = plan_bucket(replace(RIGHT, policy=policy(theirs), block=SHUT), WANTED)
    assert (codes_of(plan), problems(plan)) == (["set_access_block", "put_policy"], [])


THEIR_KEYS = (ObjectKey("other/.well-known/openid-configuration"), ObjectKey("other/openid/v1/jwks"))
BOTH = public_statement("b", (*KEYS, *THEIR_KEYS), "aws")


def test_objects_of_another_configuration_stay_public() -> None:
    """Two configurations share a bucket: neither closes the other's live documents, and both say what stays open."""
    seen = replace(RIGHT, policy=policy(BOTH), existing=frozenset(THEIR_KEYS))
    plan = plan_bucket(seen, WANTED)
    assert (codes_of(plan), notes(plan)) == ([], ["unlisted_kept"])
    assert all(f"s3://b/{key}" in plan.notes[0].sentence for key in THEIR_KEYS)
    missing = replace(seen, policy=policy(public_statement("b", THEIR_KEYS, "aws")))
    (put,) = plan_bucket(missing, WANTED).differences
    assert set(json.loads(put.payload)["Statement"][0]["Resource"]) == set(BOTH["Resource"])


def test_objects_that_are_gone_or_given_up_are_closed() -> None:
    """An ARN without an object opens nothing that any client reads; `--remove-unlisted` closes the others."""
    gone = plan_bucket(replace(RIGHT, policy=policy(BOTH)), WANTED)
    assert (codes_of(gone), notes(gone)) == (["put_policy"], [])
    seen = replace(RIGHT, policy=policy(BOTH), existing=frozenset(THEIR_KEYS))
    given_up = plan_bucket(seen, replace(WANTED, remove_unlisted=True))
    assert json.loads(given_up.differences[0].payload)["Statement"] == [OURS]


INSECURE = {"Bool": {"aws:SecureTransport": "false"}}
NETWORK = {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}


@pytest.mark.parametrize(
    ("denial", "reported"),
    [
        pytest.param({"Action": "s3:Get*", "Resource": "arn:aws:s3:::b/id/*"}, True, id="our-objects"),
        pytest.param({"Action": ["s3:PutObject"], "Resource": "*"}, False, id="writing"),
        pytest.param({"Action": "*", "Resource": "arn:aws:s3:::b/other/?"}, False, id="other-objects"),
        pytest.param({"Action": "*", "Resource": "*", "Condition": INSECURE}, False, id="without-tls"),
        pytest.param({"Action": "*", "Resource": "*", "Condition": NETWORK}, True, id="conditional"),
    ],
)
def test_foreign_denial_of_our_documents_is_reported(denial: dict[str, Any], reported: bool) -> None:
    """A denial wins over every permission, so the operator learns why anonymous requests still read nothing."""
    theirs = {"Effect": "Deny", "Principal": "*", **denial}
    assert ("foreign_denial" in notes(plan_bucket(replace(RIGHT, policy=policy(theirs, OURS)), WANTED))) is reported


def test_block_of_the_account_is_reported_with_everything_else() -> None:
    """The bucket is still prepared, and the operator learns that the account wins."""
    plan = plan_bucket(replace(RIGHT, versioning=None, account_block=SHUT), WANTED)
    assert (codes_of(plan), problems(plan)) == (["enable_versioning"], ["account_block"])
    assert problems(plan_bucket(replace(RIGHT, account_block=MEANT_BLOCK), WANTED)) == []


def test_acls_that_still_count_are_reported() -> None:
    """The ownership of a bucket with objects of others is not changed behind their back."""
    plan = plan_bucket(replace(RIGHT, ownership="ObjectWriter"), WANTED)
    assert (codes_of(plan), notes(plan)) == ([], ["ownership"])


def test_custom_host_is_reported() -> None:
    """Behind CloudFront with origin access control no public policy is needed, and the plan says so."""
    plan = plan_bucket(RIGHT, replace(WANTED, base_urls=("https://oidc.example.com", HOST)))
    assert notes(plan) == ["other_host"]
    assert "https://oidc.example.com" in plan.notes[0].sentence


def many(count: int) -> tuple[ObjectKey, ...]:
    folders = (f"cluster-{number:04}" for number in range(count))
    return tuple(
        ObjectKey(f"{f}/{name}") for f in folders for name in (".well-known/openid-configuration", "openid/v1/jwks")
    )


def test_policy_over_the_limit_is_refused_with_how_many_fit() -> None:
    """Wildcards would open more than is published. The reported number of objects that fit is correct."""
    plan = plan_bucket(BucketState("absent"), replace(WANTED, keys=many(1000)))
    assert codes_of(plan) == ["create_bucket", "enable_versioning"]
    assert problems(plan) == ["policy_too_large"]
    fitting = int(plan.problems[0].sentence.split("about ")[1].split()[0])
    fits = plan_bucket(BucketState("absent"), replace(WANTED, keys=many(fitting)))
    assert problems(fits) == []
    assert len(fits.differences[-1].payload) <= MAX_BUCKET_POLICY_BYTES
    assert problems(plan_bucket(BucketState("absent"), replace(WANTED, keys=many(fitting + 2)))) == ["policy_too_large"]


def test_sid_marks_our_statement() -> None:
    """The mark is part of what other versions of this program find again."""
    assert OURS["Sid"] == PUBLIC_SID == "OidcMirrorPublicDocuments"
