"""The bucket as it is, and what must change so that exactly the published documents are public. Pure.

Also which objects of the configuration stand in one bucket.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from mirror.addresses import bucket_url, is_aws_endpoint, object_keys
from mirror.aws.iam_policy import (
    MAX_BUCKET_POLICY_BYTES,
    NOTHING,
    PUBLIC_SID,
    AccessBlock,
    PolicyDocument,
    Statement,
    denying_names,
    is_right,
    is_within,
    merged,
    object_arns,
    opened,
    public_names,
    public_statement,
    read_policy,
)
from mirror.config.settings import Issuer, PublishSettings, Settings
from mirror.model import Note, ObjectKey, Reason


@dataclass(frozen=True, slots=True)
class BucketChange:
    """One thing that is not as it should be: `code` says which call mends it, `before` and `after` are words.

    `payload` is what the call sends, such as the text of a policy, where the code alone does not say it.
    """

    code: str
    what: str
    before: str
    after: str
    payload: str = ""


@dataclass(frozen=True, slots=True)
class ProvisionPlan:
    """Everything about one resource, `title`, in the order in which it is mended.

    `problems` are what keeps the resource from being as it should, and what this program does not touch.
    """

    title: str
    differences: tuple[BucketChange, ...] = ()
    problems: tuple[Reason, ...] = ()
    notes: tuple[Note, ...] = ()


OWNERSHIP = "BucketOwnerEnforced"
"""Access control lists are off (facts.md#41)."""


MEANT_BLOCK = AccessBlock(block_acls=True, ignore_acls=True)
"""A policy may open objects, ACLs may not."""


def meant_block(observed: "BucketState") -> AccessBlock | None:
    """What should be blocked; None where nothing need be set.

    On AWS that is `MEANT_BLOCK`. On another store the switches of ACLs stay as they are: with BlockPublicAcls radosgw
    16 refuses every put, whatever its ACL.
    """
    if observed.is_aws:
        return MEANT_BLOCK
    return None if observed.block is None else replace(observed.block, block_policy=False, restrict_buckets=False)


@dataclass(frozen=True, slots=True)
class DesiredBucket:
    """The bucket as it should be: `keys` are the objects that the public reads, of `issuers` issuers.

    `base_urls` are the public URLs under which they are read. `remove_unlisted` closes every object that our statement
    opens and this configuration does not publish; else those that exist stay open: another configuration may publish
    them.
    """

    bucket: str
    region: str
    partition: str
    keys: tuple[ObjectKey, ...]
    base_urls: tuple[str, ...] = ()
    remove_unlisted: bool = False


@dataclass(frozen=True, slots=True)
class BucketState:
    """The bucket as it was seen. None stands for what is not set, or, in `unknown`, for what could not be seen.

    `state` is `foreign` when it exists and is not ours to change, and `elsewhere` when there is none and the account of
    the credentials is not the one that should own it. `region` is empty where the store names none.
    `unknown` are sentences about what could not be looked at. `existing` are objects that our statement opens, that
    were not asked for, and that exist, or of which that could not be seen.
    """

    state: Literal["absent", "ours", "foreign", "elsewhere"]
    region: str = ""
    versioning: str | None = None
    ownership: str | None = None
    block: AccessBlock | None = None
    policy: str | None = None
    account_block: AccessBlock | None = None
    unknown: tuple[str, ...] = ()
    is_aws: bool = True
    existing: frozenset[ObjectKey] = frozenset()


def plan_bucket(observed: BucketState, desired: DesiredBucket) -> ProvisionPlan:
    """What must be done, in an order in which each step is possible; all that keeps it from being done as well."""
    title = f"bucket {desired.bucket} in {desired.region}"
    notes = tuple(Note("not_seen", each) for each in observed.unknown)
    refused = tuple(_refusals(observed, desired))
    if refused:
        return ProvisionPlan(title, (), refused, notes)
    standing = NOTHING if observed.policy is None else read_policy(observed.policy)
    kept = () if desired.remove_unlisted else tuple(sorted(observed.existing - set(desired.keys)))
    desired = replace(desired, keys=(*desired.keys, *kept))
    notes += tuple(_kept(kept, desired))
    problems = tuple(_obstacles(observed, desired, standing))
    differences = tuple(_differences(observed, desired, None if problems else standing))
    return ProvisionPlan(
        title, differences, (*problems, *_above(observed)), (*notes, *_notes(observed, desired, standing))
    )


def _kept(kept: tuple[ObjectKey, ...], desired: DesiredBucket) -> Iterator[Note]:
    if kept:
        listed = ", ".join(f"s3://{desired.bucket}/{key}" for key in kept)
        yield Note(
            "unlisted_kept",
            f"{len(kept)} more objects stay public, because they exist and another configuration may publish them:"
            f" {listed}. `--remove-unlisted` closes them.",
        )


def _refusals(observed: BucketState, desired: DesiredBucket) -> Iterator[Reason]:
    """Why the bucket is not touched at all."""
    if observed.state == "foreign":
        yield Reason(
            "foreign_bucket",
            f"The bucket {desired.bucket} exists and belongs to another AWS account, or who runs this may not see it.",
            "Choose another name (`publish.bucket`), correct `publish.expected_bucket_owner`, or run this with rights"
            " of the bucket's account (s3:ListBucket).",
        )
    elif observed.state == "elsewhere":
        yield Reason(
            "wrong_account",
            f"The bucket {desired.bucket} does not exist, and the credentials are of another account.",
            "Run this with credentials of that account (`--profile`, `--role-arn`), or correct"
            " `publish.expected_bucket_owner`.",
        )
    elif observed.state == "ours" and observed.region and observed.region != desired.region:
        yield Reason(
            "wrong_region",
            f"The bucket {desired.bucket} is in {observed.region}, and the configuration says {desired.region}.",
            f"Set `publish.region: {observed.region}`; the region is part of the issuer's host as well.",
        )


def _obstacles(
    observed: BucketState, desired: DesiredBucket, current_policy: PolicyDocument | None
) -> Iterator[Reason]:
    """Why nothing is opened: neither the policy nor the bucket's public access block is touched then."""
    if current_policy is None:
        yield Reason(
            "policy_unreadable",
            "The bucket's policy is none that this program understands; it was not touched.",
            "Correct or remove it (aws s3api get-bucket-policy), and run the command again.",
        )
        return
    widened = () if is_within(current_policy, _statement(desired)) else (PUBLIC_SID,)
    public = (*public_names(current_policy.foreign), *widened)
    if public and observed.block is not None and observed.block.restrict_buckets:
        yield Reason(
            "would_open_more",
            f"Statements of the policy open more than the documents ({', '.join(public)}), and only Block Public"
            " Access keeps them from it.",
            "Remove or narrow these statements, and run the command again.",
        )
    size = len(merged(current_policy, _statement(desired)).encode())
    if size > MAX_BUCKET_POLICY_BYTES:
        yield _too_large(size, desired)


def _too_large(size: int, desired: DesiredBucket) -> Reason:
    """Two objects an issuer, each named whole: a star in their place would open more than is published."""
    issuers = len(desired.keys) // 2
    arns = object_arns(desired.bucket, desired.keys, desired.partition)
    an_issuer = sum(len(arn) + len('"",') for arn in arns) / issuers
    fitting = max(0, issuers - int(-(-(size - MAX_BUCKET_POLICY_BYTES) // an_issuer)))
    return Reason(
        "policy_too_large",
        f"The policy for {issuers} issuers would have {size} bytes, and S3 takes {MAX_BUCKET_POLICY_BYTES}:"
        f" about {fitting} of these issuers fit.",
        "Spread the issuers over several buckets (`publish.bucket` of an issuer), shorten their paths, or serve them"
        " from a CloudFront distribution with origin access control, which needs one statement for all.",
    )


def _above(observed: BucketState) -> Iterator[Reason]:
    if observed.account_block is not None and observed.account_block.forbids_policy:
        yield Reason(
            "account_block",
            "Block Public Access of the whole AWS account forbids that any policy opens a bucket; it wins over the"
            " bucket's own.",
            "Let who answers for the account switch BlockPublicPolicy and RestrictPublicBuckets off (aws s3control"
            " put-public-access-block), use a bucket of another account, or serve it through CloudFront with origin"
            " access control.",
        )


def _differences(
    observed: BucketState, desired: DesiredBucket, current_policy: PolicyDocument | None
) -> Iterator[BucketChange]:
    if observed.state == "absent":
        after = f"exists in {desired.region}"
        if observed.is_aws:
            after += f", ownership {OWNERSHIP} (ACLs are off)"
        yield BucketChange("create_bucket", "bucket", "does not exist", after)
    if observed.versioning != "Enabled":
        before = "never switched on" if observed.versioning is None else observed.versioning.lower()
        yield BucketChange("enable_versioning", "versioning", before, "enabled")
    if current_policy is None:
        return
    block = meant_block(observed)
    if block is not None and observed.block != block:
        unset = "that of a new bucket" if observed.state == "absent" else "not set"
        before = unset if observed.block is None else observed.block.words()
        yield BucketChange(
            "set_access_block", "public access block", before, block.words(), json.dumps(block.switches())
        )
    if not is_right(current_policy, _statement(desired)):
        yield _policy_difference(desired, current_policy)


def _policy_difference(desired: DesiredBucket, current_policy: PolicyDocument) -> BucketChange:
    statement = _statement(desired)
    meant, now = set(statement["Resource"]), set(opened(current_policy))
    parts = [f"makes {len(meant)} objects publicly readable"]
    parts += [f"+ {arn}" for arn in sorted(meant - now)]
    parts += [f"- {arn}" for arn in sorted(now - meant)]
    if current_policy.foreign:
        parts.append(f"keeps {len(current_policy.foreign)} statements of others")
    before = f"our statement opens {len(now)} resources" if current_policy.ours else "no statement of ours"
    return BucketChange("put_policy", "bucket policy", before, "\n".join(parts), merged(current_policy, statement))


def _notes(observed: BucketState, desired: DesiredBucket, current_policy: PolicyDocument | None) -> Iterator[Note]:
    if observed.state == "ours" and observed.ownership not in (None, OWNERSHIP):
        yield Note(
            "ownership",
            f"Object ownership is {observed.ownership}: ACLs still count. Once no object needs one, set {OWNERSHIP}.",
        )
    foreign = () if current_policy is None else current_policy.foreign
    if public := public_names(foreign):
        yield Note(
            "foreign_public",
            f"Other statements make the bucket public ({', '.join(public)}); they were not touched.",
        )
    if denying := denying_names(foreign, object_arns(desired.bucket, desired.keys, desired.partition)):
        yield Note(
            "foreign_denial",
            f"Other statements deny public reads of the documents ({', '.join(denying)}); they were not"
            " touched, and win over ours.",
        )
    if elsewhere := sorted(url for url in desired.base_urls if bucket_url(url) is None):
        yield Note(
            "other_host",
            f"The documents are public at {', '.join(elsewhere)}. If that is CloudFront with origin access"
            " control, the bucket itself needs no public policy: leave this command.",
        )


def _statement(desired: DesiredBucket) -> Statement:
    return public_statement(desired.bucket, desired.keys, desired.partition)


def in_same_bucket(settings: Settings, publish: PublishSettings) -> tuple[Issuer, ...]:
    """All issuers of the configuration whose documents stand in the bucket of `publish`."""
    return tuple(each for each in settings.issuers if _store(each.publish) == _store(publish))


def written_alike(settings: Settings, publish: PublishSettings) -> tuple[Issuer, ...]:
    """Those of `in_same_bucket` that the mirror writes with the same credentials as `publish` names."""
    identity = (publish.profile, publish.role_arn)
    return tuple(
        each for each in in_same_bucket(settings, publish) if (each.publish.profile, each.publish.role_arn) == identity
    )


def document_keys(issuers: tuple[Issuer, ...]) -> tuple[ObjectKey, ...]:
    """The keys of both documents of every issuer, former ones included; sorted, none twice."""
    return tuple(sorted({key for issuer in issuers for key in _keys(issuer)}))


def _store(publish: PublishSettings) -> tuple[str, str]:
    """One bucket: however AWS's own endpoint is written, its names are unique."""
    endpoint = publish.endpoint_url or ""
    return ("" if is_aws_endpoint(endpoint) else endpoint, publish.bucket)


def _keys(issuer: Issuer) -> Iterator[ObjectKey]:
    for url in issuer.urls:
        yield from object_keys(url, issuer.publish.base_url, issuer.publish.prefix)
