"""The bucket itself: there, in the region that is configured, ours, versioned, not encrypted with a key of its own."""

from collections.abc import Collection, Iterator

from mirror.addresses import common_folder
from mirror.check.credentials import is_aws
from mirror.check.policy import policy, unseen
from mirror.check.ports import Aws, BucketFacts, Identity, Missed
from mirror.check.result import Finding, Place, Station
from mirror.config.settings import Publish
from mirror.model import ObjectKey


def bucket(publish: Publish, aws: Aws, keys: Collection[ObjectKey]) -> Iterator[Finding]:
    """Findings about one bucket, its policy included; where it cannot be reached, that alone."""
    place = Place(Station.BUCKET, f"bucket {publish.bucket}")
    facts = aws.bucket(publish)
    yield from _reached(place, publish, facts)
    if isinstance(facts.region, Missed) and facts.region.code != "AccessDenied":
        return
    yield from _owner(place, publish, aws, keys)
    yield from _versioning(place, publish, facts)
    yield from _encryption(place, facts)
    yield _conditional_writes(place, publish)
    yield from policy(publish, facts, aws, keys)


def _reached(place: Place, publish: Publish, facts: BucketFacts) -> Iterator[Finding]:
    region = facts.region
    if isinstance(region, Missed) and region.code == "AccessDenied":
        yield unseen(place, "the bucket itself", "s3:ListBucket", publish, region)
    elif isinstance(region, Missed):
        cause = f" ({region.cause})" if region.cause else ""
        sentence = f"The bucket cannot be looked at: {region.code}{cause}."
        yield place.failed("bucket.unreachable", sentence, region.remedy)
    elif region is not None and region != publish.region and is_aws(publish):
        sentence = f"The bucket is in {region}, the configuration says {publish.region}."
        yield place.failed(
            "bucket.wrong_region", sentence, f"Set `publish.region: {region}`, and the issuer's host too."
        )
    elif region is None or region != publish.region:
        yield place.ok("bucket.reached", "The bucket is there.")
    else:
        yield place.ok("bucket.reached", f"The bucket is there, in {region}.")


def _owner(place: Place, publish: Publish, aws: Aws, keys: Collection[ObjectKey]) -> Iterator[Finding]:
    who = aws.identity(publish)
    if publish.expected_bucket_owner is not None or not isinstance(who, Identity):
        return  # every request carries the expected owner; without identity there is nothing to compare with
    ours = aws.belongs_to(publish, who.account, common_folder(keys))
    if ours is False:
        sentence = f"The bucket does not belong to {who.account}, the account of the mirror's credentials."
        remedy = (
            "When that is meant, set `publish.expected_bucket_owner` to its account; else correct `publish.bucket`."
        )
        yield place.warning("bucket.foreign_owner", sentence, remedy)
    elif is_aws(publish):
        sentence = "Who deletes the bucket lets others create it anew and read what the mirror writes (fact 38)."
        remedy = f'Set `publish.expected_bucket_owner: "{who.account}"`.'
        yield place.note("bucket.owner_unset", sentence, remedy)


def _versioning(place: Place, publish: Publish, facts: BucketFacts) -> Iterator[Finding]:
    if isinstance(facts.versioning, Missed):
        yield unseen(place, "whether versions are kept", "s3:GetBucketVersioning", publish, facts.versioning)
    elif facts.versioning == "Enabled":
        yield place.ok("bucket.versioning", "Versions are kept: an overwritten document can be looked at later.")
    else:
        sentence = "Versions are not kept: what an intruder overwrote is lost for an inquiry."
        yield place.note("bucket.versioning", sentence, "`oidc-mirror provision bucket` switches versioning on.")


def _encryption(place: Place, facts: BucketFacts) -> Iterator[Finding]:
    if isinstance(facts.encryption, str) and facts.encryption.startswith("aws:kms"):
        sentence = f"Objects are encrypted with {facts.encryption}: nobody can read them without credentials."
        yield place.failed("bucket.kms", sentence, "Set the bucket's default encryption to SSE-S3 (AES256).")


def _conditional_writes(place: Place, publish: Publish) -> Finding:
    if not publish.conditional_writes:
        sentence = "Conditional writes are off: of two mirrors each can believe that it wrote."
        return place.note("bucket.unconditional", sentence, "Run one mirror only, or use a store that has them.")
    if is_aws(publish):
        return place.ok("bucket.conditional", "Writes are conditional: no mirror overwrites what it has not seen.")
    sentence = "Writes are conditional; whether this store holds to it shows only at a real one."
    return place.note("bucket.conditional", sentence)
