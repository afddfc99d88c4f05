"""Who may read the bucket: its policy, the blocks of public access above it, and ACLs."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from mirror.aws.iam_policy import Grants, grants, is_served_by_bucket, partition_of
from mirror.check.credentials import is_aws
from mirror.check.ports import AccessBlock, Aws, BucketFacts, Identity, Missed
from mirror.check.result import Finding, Place, Station
from mirror.check.words import counted
from mirror.config.settings import Publish
from mirror.model import ObjectKey

_MOST_SHOWN = 3
_ACLS_IN_FORCE = ("ObjectWriter", "BucketOwnerPreferred")
_RENDER = "`oidc-mirror provision bucket` sets it, `oidc-mirror render bucket-policy` prints it"
_READERS = f"Allow s3:GetObject on exactly the published keys to everybody: {_RENDER}."


def policy(publish: Publish, facts: BucketFacts, aws: Aws, keys: Collection[ObjectKey]) -> Iterator[Finding]:
    """Findings about public access to one bucket.

    Args:
        publish: The bucket's settings.
        facts: What it says of itself.
        aws: For the block of the account.
        keys: All keys that the mirror publishes in it.
    """
    place = Place(Station.POLICY, f"bucket {publish.bucket}")
    if is_served_by_bucket(publish):
        yield from _blocks(place, publish, facts, aws)
    else:
        sentence = "Something else serves `publish.base_url`: it must be let read the bucket, and everybody need not."
        yield place.note("policy.behind_cdn", sentence)
    yield from _policy(place, publish, facts, keys)
    if isinstance(facts.public_grants, tuple) and facts.public_grants:
        sentence = f"Its ACL gives everybody {', '.join(facts.public_grants)} on the bucket itself."
        yield place.warning(
            "policy.acl", sentence, "Remove the grants; a bucket policy on the published keys is enough."
        )
    if facts.ownership in _ACLS_IN_FORCE:
        sentence = f"ACLs are in force (ownership {facts.ownership}): objects may be opened one by one."
        remedy = "Set object ownership to BucketOwnerEnforced: the policy alone decides then (fact 41)."
        yield place.note("policy.acls_in_force", sentence, remedy)


def _blocks(place: Place, publish: Publish, facts: BucketFacts, aws: Aws) -> Iterator[Finding]:
    own = facts.access_block
    if isinstance(own, Missed):
        yield unseen(place, "the bucket's public access block", "s3:GetBucketPublicAccessBlock", publish, own)
    else:
        yield from _block(place, "the bucket", own, "`oidc-mirror provision bucket` switches off what is in the way")
    who = aws.identity(publish)
    if not isinstance(who, Identity):
        return  # told at the credentials
    block = aws.account_block(publish, publish.expected_bucket_owner or who.account)
    if isinstance(block, Missed):
        yield unseen(place, "the account's public access block", "s3:GetAccountPublicAccessBlock", publish, block)
    else:
        remedy = "An administrator of the account must switch it off: `aws s3control put-public-access-block`"
        yield from _block(place, "the account", block, remedy)


def _block(place: Place, whose: str, block: AccessBlock | None, remedy: str) -> Iterator[Finding]:
    names = {
        "BlockPublicPolicy": block and block.block_policy,
        "RestrictPublicBuckets": block and block.restrict_buckets,
    }
    standing = [name for name, value in names.items() if value]
    code = f"policy.{whose.removeprefix('the ')}_block"
    if "RestrictPublicBuckets" in standing:
        sentence = f"The public access block of {whose} has {' and '.join(standing)}: the world gets 403."
        yield place.failed(code, sentence, f"{remedy}; or publish through CloudFront (`publish.base_url`).")
    elif standing:
        sentence = f"The public access block of {whose} has {standing[0]}: no public policy can be set."
        yield place.warning(code, sentence, f"{remedy}, before the policy has to be changed.")
    else:
        yield place.ok(code, f"No public access block of {whose} is in the way of the policy.")


def _policy(place: Place, publish: Publish, facts: BucketFacts, keys: Collection[ObjectKey]) -> Iterator[Finding]:
    text = facts.policy
    if isinstance(text, Missed):
        yield unseen(place, "the bucket policy", "s3:GetBucketPolicy", publish, text)
        return
    if not text:
        yield _none(place, publish, facts)
        return
    found = grants(text, publish.bucket, keys, partition_of(publish.region))
    if found is None:
        yield place.warning("policy.unread", "The bucket policy cannot be understood.", "Look at it by hand.")
        return
    if not is_served_by_bucket(publish):
        found = replace(found, missing=(), denied=())
    yield from _judged(place, found, len(keys))


def _none(place: Place, publish: Publish, facts: BucketFacts) -> Finding:
    elsewhere = not is_served_by_bucket(publish) or not is_aws(publish)
    if elsewhere or facts.ownership in _ACLS_IN_FORCE:
        sentence = (
            "There is no bucket policy. When the world can read the documents all the same, something else lets it."
        )
        return place.warning("policy.none", sentence, f"See what station `public` says. {_READERS}")
    return place.failed("policy.none", "There is no bucket policy: nobody can read the documents.", _READERS)


def _judged(place: Place, found: Grants, total: int) -> Iterator[Finding]:
    if found.denied:
        sentence = f"The bucket policy denies reading to everybody: {_some(found.denied)}."
        yield place.failed("policy.denies", sentence, "Remove or narrow the Deny statement.")
    if found.missing:
        sentence = f"The bucket policy lets not everybody read {counted(len(found.missing), 'published key')}: "
        conditions = f" (conditions of {_some(found.conditional)} are not judged)" if found.conditional else ""
        yield place.failed("policy.narrow", f"{sentence}{_some(found.missing)}{conditions}.", _READERS)
    if found.dangerous:
        sentence = f"The bucket policy lets everybody do more than read: {_some(found.dangerous)}."
        yield place.failed(
            "policy.dangerous", sentence, f"Take it away at once: who can write the JWKS can be any pod. {_RENDER}."
        )
    if found.wider:
        sentence = f"The bucket policy lets everybody read more than the published keys: {_some(found.wider)}."
        yield place.warning("policy.wider", sentence, f"Name exactly the published keys: {_RENDER}.")
    if not (found.denied or found.missing or found.dangerous or found.wider):
        yield place.ok("policy.exact", f"The bucket policy lets everybody read no more than {counted(total, 'key')}.")


def unseen(place: Place, what: str, action: str, publish: Publish, missed: Missed) -> Finding:
    """A note: what could not be looked at, and why. The mirror itself works without the right to see it."""
    sentence = f"Could not see {what}: {missed.code}"
    sentence += f" ({missed.cause})." if missed.cause else "."
    if missed.code == "AccessDenied":
        remedy = f"The mirror does without; to have it checked allow `{action}`, or check as an administrator."
        return place.note("bucket.unseen", sentence, remedy)
    if not is_aws(publish):
        return place.note("bucket.unseen", f"{sentence} Stores that are not AWS may lack it.")
    return place.warning("bucket.unseen", sentence, missed.remedy)


def _some(texts: Collection[str]) -> str:
    listed = list(texts)
    more = f" and {len(listed) - _MOST_SHOWN} more" if len(listed) > _MOST_SHOWN else ""
    return ", ".join(listed[:_MOST_SHOWN]) + more
