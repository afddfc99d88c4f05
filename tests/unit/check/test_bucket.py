"""The bucket, its policy, the public access blocks, and the permissions of the writer."""

from dataclasses import replace

import pytest

from mirror.aws.iam_policy import AccessBlock
from mirror.check.bucket import bucket, listing, objects
from mirror.check.ports import PutVerdict, Unavailable
from mirror.check.result import CheckResult, Component
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.model import ObjectKey
from support.check_clients import ACCOUNT, DENIED, FakeAws, allow, policy_of, reported, worst
from support.fakes import FakeWorld
from support.situations import DISCOVERY_KEY, JWKS_KEY, NAME

KEYS = (ObjectKey(DISCOVERY_KEY), ObjectKey(JWKS_KEY))
OURS = FakeWorld().publish(expected_bucket_owner=ACCOUNT)
STORE = replace(OURS, endpoint_url="https://store.example.com")
CDN = replace(OURS, base_url="https://oidc.example.com")
CLOUDFRONT = {"Service": "cloudfront.amazonaws.com"}
RESTRICTED = AccessBlock(block_acls=True, ignore_acls=True, block_policy=True, restrict_buckets=True)
BLOCKED = replace(RESTRICTED, restrict_buckets=False)
GONE = Unavailable("NoSuchBucket", "none", "Create it.")


def looked(aws: FakeAws, publish: PublishSettings = OURS) -> tuple[CheckResult, ...]:
    return tuple(bucket(publish, aws, KEYS))


def test_bucket_in_order_has_nothing_but_ok() -> None:
    """Region, versioning, conditional writes, both public access blocks and the policy are reported as ok."""
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
            FakeAws(block=Unavailable("NoSuchHost", "", "Look.")),
            STORE,
            [("note", "bucket.conditional"), ("note", "bucket.unseen")],
            id="account-of-a-store",
        ),
        pytest.param(
            FakeAws(block=Unavailable("NoSuchHost", "dns", "Look.")),
            OURS,
            [("warning", "bucket.unseen")],
            id="account-silent",
        ),
        pytest.param(FakeAws(who=DENIED), OURS, [], id="no-identity-is-reported-elsewhere"),
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
            id="anyone-writes",
        ),
        pytest.param(
            FakeAws().set(policy=policy_of(allow(*KEYS), allow(JWKS_KEY) | {"Effect": "Deny"})),
            OURS,
            [("failed", "policy.denies")],
            id="policy-denies",
        ),
        pytest.param(
            FakeAws().set(policy=policy_of(allow(*KEYS, Condition={"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}))),
            OURS,
            [("warning", "policy.conditional")],
            id="policy-conditional",
        ),
        pytest.param(
            FakeAws().set(
                policy=policy_of(
                    allow(*KEYS),
                    allow("*", Condition={"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}) | {"Effect": "Deny"},
                )
            ),
            OURS,
            [("failed", "policy.denies")],
            id="policy-for-one-vpc-endpoint",
        ),
        pytest.param(FakeAws().set(public_grants=("READ",)), OURS, [("warning", "policy.acl")], id="acl-grants"),
    ],
)
def test_fault_is_found(aws: FakeAws, publish: PublishSettings, expected: list[tuple[str, str]]) -> None:
    """Each fault gives exactly its own finding. Findings that only apply to AWS are at most a note elsewhere."""
    found = looked(aws, publish)
    assert sorted(worst(found)) == sorted(expected)
    assert all(each.remedy for each in found if each.level in ("failed", "warning"))


def test_missing_policy_that_may_be_meant_names_where_to_look() -> None:
    """The remedy names an existing part of the output, and the option that shows it."""
    (found,) = [each for each in looked(FakeAws().set(policy=""), CDN) if each.code == "policy.none"]
    assert f"See what `{Component.PUBLIC}` says with `oidc-mirror check --verbose`." in found.remedy


def test_wider_policy_names_what_is_open() -> None:
    """The finding names the open resources, limited to the first three."""
    keys = [allow(f"private/{number}") for number in range(5)]
    (found,) = [
        each for each in looked(FakeAws().set(policy=policy_of(allow(*KEYS), *keys))) if each.code == "policy.wider"
    ]
    assert "arn:aws:s3:::oidc-bucket/private/0" in found.sentence
    assert "and 2 more" in found.sentence


def test_region_remedy_is_the_key_to_set() -> None:
    """The remedy contains the region that the store reports."""
    found = looked(FakeAws().set(region="eu-west-1"))[0]
    assert "`publish.region: eu-west-1`" in found.remedy


def looked_at_rights(world: FakeWorld, aws: FakeAws, **publish: object) -> list[CheckResult]:
    return list(objects(NAME, world.publish(**publish), KEYS[:1], world.ports().bucket, aws))


def test_every_permission_is_reported() -> None:
    """List, read and write are checked. A write to an existing object sends its own bytes."""
    world, aws = FakeWorld(), FakeAws()
    world.bucket.write(DISCOVERY_KEY, b"{}")
    assert reported(listing(world.publish(), aws, KEYS)) == [("ok", "rights.list")]
    assert reported(looked_at_rights(world, aws)) == [("ok", "rights.get"), ("ok", "rights.put")]
    assert aws.puts == [DISCOVERY_KEY]


def test_listing_looks_below_the_folder_of_all_keys() -> None:
    """A writer policy grants ListBucket on the prefix only."""
    (found,) = listing(FakeWorld().publish(), FakeAws(), KEYS)
    assert found.subject == "s3://oidc-bucket/cluster/identifier/"


def test_refused_list_names_the_action_and_the_bucket() -> None:
    """The remedy names the action and the ARN to add to the policy."""
    (found,) = listing(FakeWorld().publish(), FakeAws(list_refused=DENIED), KEYS)
    assert reported([found]) == [("failed", "rights.list")]
    assert "`s3:ListBucket` on `arn:aws:s3:::oidc-bucket`" in found.remedy


@pytest.mark.parametrize(
    ("verdict", "code", "words"),
    [
        pytest.param(
            DENIED, "rights.put", f"`s3:PutObject` on `arn:aws:s3:::oidc-bucket/{DISCOVERY_KEY}`", id="denied"
        ),
        pytest.param(Unavailable("SlowDown", "", "Wait."), "rights.put", "Wait.", id="busy"),
        pytest.param(
            "wrote", "rights.put_unconditional", "publish.conditional_writes: false", id="store-ignores-conditions"
        ),
    ],
)
def test_write_that_fails_is_reported(verdict: PutVerdict, code: str, words: str) -> None:
    """The write is denied, cannot be tried, or succeeds although its condition should prevent it."""
    found = looked_at_rights(FakeWorld(), FakeAws(verdict=verdict))[-1]
    assert reported([found]) == [("failed", code)]
    assert words in found.remedy


def test_refused_read_is_reported_and_the_write_still_tried() -> None:
    """Permissions are independent. With an expected owner, the remedy also names the owner as a cause."""
    world, aws = FakeWorld(), FakeAws()
    world.bucket.fails["get"] = BucketError("No.", cause="AccessDenied", code="AccessDenied")
    world.bucket.write(DISCOVERY_KEY, b"{}")
    found = looked_at_rights(world, aws, expected_bucket_owner="111122223333")
    assert reported(found) == [("failed", "rights.get"), ("ok", "rights.put")]
    assert "another account" in found[0].remedy


def test_read_of_what_is_absent_says_nothing() -> None:
    """A missing object proves no read permission. The check of an existing object shows it later."""
    assert reported(looked_at_rights(FakeWorld(), FakeAws()))[0] == ("note", "rights.get_unknown")


def test_without_conditional_writes_nothing_is_tried() -> None:
    """Without conditional writes a write could take effect, so the permission is reported as unknown."""
    aws = FakeAws()
    assert reported(looked_at_rights(FakeWorld(), aws, conditional_writes=False))[-1] == ("note", "rights.put_untested")
    assert aws.puts == []


@pytest.mark.parametrize(("verdict", "code"), [("unproven", "rights.put_unknown"), ("simulated", "rights.put")])
def test_right_to_write_what_is_absent_is_never_tried(verdict: PutVerdict, code: str) -> None:
    """Without a write the permission is unproven, unless IAM's simulator confirms it."""
    found = looked_at_rights(FakeWorld(), FakeAws(verdict=verdict))[-1]
    assert found.code == code
