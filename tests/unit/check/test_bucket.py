"""The bucket, its policy and the blocks above it."""

from dataclasses import replace

import pytest

from mirror.check.bucket import bucket
from mirror.check.ports import AccessBlock, Missed
from mirror.check.result import Finding
from mirror.config.settings import Publish
from mirror.model import ObjectKey
from support.doctor import ACCOUNT, DENIED, FakeAws, allow, policy_of, worst
from support.fakes import FakeWorld
from support.situations import DISCOVERY_KEY, JWKS_KEY

KEYS = (ObjectKey(DISCOVERY_KEY), ObjectKey(JWKS_KEY))
OURS = FakeWorld().publish(expected_bucket_owner=ACCOUNT)
STORE = replace(OURS, endpoint_url="https://store.example.com")
CDN = replace(OURS, base_url="https://oidc.example.com")
CLOUDFRONT = {"Service": "cloudfront.amazonaws.com"}
RESTRICTED = AccessBlock(block_acls=True, ignore_acls=True, block_policy=True, restrict_buckets=True)
BLOCKED = replace(RESTRICTED, restrict_buckets=False)
GONE = Missed("NoSuchBucket", "none", "Create it.")


def looked(aws: FakeAws, publish: Publish = OURS) -> tuple[Finding, ...]:
    return tuple(bucket(publish, aws, KEYS))


def test_bucket_in_order_has_nothing_but_ok() -> None:
    """Region, versions, conditional writes, both blocks and the policy are told as ok."""
    assert [each.code for each in looked(FakeAws())] == [
        "bucket.reached",
        "bucket.versioning",
        "bucket.conditional",
        "policy.bucket_block",
        "policy.account_block",
        "policy.exact",
    ]
    assert worst(looked(FakeAws())) == []


@pytest.mark.parametrize(
    ("aws", "publish", "expected"),
    [
        pytest.param(FakeAws().set(region="eu-west-1"), OURS, [("failed", "bucket.wrong_region")], id="region"),
        pytest.param(FakeAws().set(region=GONE), OURS, [("failed", "bucket.unreachable")], id="gone"),
        pytest.param(FakeAws().set(region=DENIED), OURS, [("note", "bucket.unseen")], id="denied"),
        pytest.param(FakeAws().set(region=None), STORE, [("note", "bucket.conditional")], id="store-without-region"),
        pytest.param(FakeAws().set(versioning=""), OURS, [("note", "bucket.versioning")], id="no-versions"),
        pytest.param(FakeAws().set(versioning=DENIED), OURS, [("note", "bucket.unseen")], id="versions-unseen"),
        pytest.param(FakeAws().set(encryption="aws:kms"), OURS, [("failed", "bucket.kms")], id="kms"),
        pytest.param(
            FakeAws(), replace(OURS, conditional_writes=False), [("note", "bucket.unconditional")], id="unconditional"
        ),
        pytest.param(
            FakeAws(), replace(OURS, expected_bucket_owner=None), [("note", "bucket.owner_unset")], id="owner-unset"
        ),
        pytest.param(
            FakeAws(ours=False),
            replace(OURS, expected_bucket_owner=None),
            [("warning", "bucket.foreign_owner")],
            id="foreign-owner",
        ),
        pytest.param(
            FakeAws().set(access_block=RESTRICTED), OURS, [("failed", "policy.bucket_block")], id="restricted"
        ),
        pytest.param(FakeAws().set(access_block=BLOCKED), OURS, [("warning", "policy.bucket_block")], id="blocked"),
        pytest.param(FakeAws().set(access_block=DENIED), OURS, [("note", "bucket.unseen")], id="block-unseen"),
        pytest.param(FakeAws(block=RESTRICTED), OURS, [("failed", "policy.account_block")], id="account-restricted"),
        pytest.param(FakeAws(block=DENIED), OURS, [("note", "bucket.unseen")], id="account-unseen"),
        pytest.param(
            FakeAws(block=Missed("NoSuchHost", "", "Look.")),
            STORE,
            [("note", "bucket.conditional"), ("note", "bucket.unseen")],
            id="account-of-a-store",
        ),
        pytest.param(
            FakeAws(block=Missed("NoSuchHost", "dns", "Look.")),
            OURS,
            [("warning", "bucket.unseen")],
            id="account-silent",
        ),
        pytest.param(FakeAws(who=DENIED), OURS, [], id="no-identity-is-told-elsewhere"),
        pytest.param(FakeAws().set(policy=""), OURS, [("failed", "policy.none")], id="no-policy"),
        pytest.param(
            FakeAws().set(policy=""),
            CDN,
            [("warning", "policy.none"), ("note", "policy.behind_cdn")],
            id="no-policy-behind-a-cdn",
        ),
        pytest.param(
            FakeAws().set(policy="", ownership="ObjectWriter"),
            OURS,
            [("warning", "policy.none"), ("note", "policy.acls_in_force")],
            id="acls",
        ),
        pytest.param(
            FakeAws(block=RESTRICTED).set(
                access_block=RESTRICTED, policy=policy_of(allow(*KEYS, principal=CLOUDFRONT))
            ),
            CDN,
            [("note", "policy.behind_cdn")],
            id="private-behind-a-cdn",
        ),
        pytest.param(FakeAws().set(policy=DENIED), OURS, [("note", "bucket.unseen")], id="policy-unseen"),
        pytest.param(FakeAws().set(policy="{}"), OURS, [("warning", "policy.unread")], id="policy-unread"),
        pytest.param(
            FakeAws().set(policy=policy_of(allow(JWKS_KEY))), OURS, [("failed", "policy.narrow")], id="policy-narrow"
        ),
        pytest.param(
            FakeAws().set(policy=policy_of(allow("*"))), OURS, [("warning", "policy.wider")], id="policy-wider"
        ),
        pytest.param(
            FakeAws().set(policy=policy_of(allow(*KEYS), allow(JWKS_KEY, action="s3:PutObject"))),
            OURS,
            [("failed", "policy.dangerous")],
            id="everybody-writes",
        ),
        pytest.param(
            FakeAws().set(policy=policy_of(allow(*KEYS), allow(JWKS_KEY) | {"Effect": "Deny"})),
            OURS,
            [("failed", "policy.denies")],
            id="policy-denies",
        ),
        pytest.param(FakeAws().set(public_grants=("READ",)), OURS, [("warning", "policy.acl")], id="acl-grants"),
    ],
)
def test_fault_is_found(aws: FakeAws, publish: Publish, expected: list[tuple[str, str]]) -> None:
    """Each fault alone gives exactly its finding; what only AWS has is no more than a note elsewhere."""
    found = looked(aws, publish)
    assert sorted(worst(found)) == sorted(expected)
    assert all(each.remedy for each in found if each.level in ("failed", "warning"))


def test_wider_policy_names_what_is_open() -> None:
    """The operator sees which resource, the first three of many."""
    keys = [allow(f"private/{number}") for number in range(5)]
    (found,) = [
        each for each in looked(FakeAws().set(policy=policy_of(allow(*KEYS), *keys))) if each.code == "policy.wider"
    ]
    assert "arn:aws:s3:::oidc-bucket/private/0" in found.sentence
    assert "and 2 more" in found.sentence


def test_region_remedy_is_the_key_to_set() -> None:
    """What the store names stands in the remedy."""
    found = looked(FakeAws().set(region="eu-west-1"))[0]
    assert "`publish.region: eu-west-1`" in found.remedy
