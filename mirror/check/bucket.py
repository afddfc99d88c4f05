"""Checks of the bucket: region, owner, versioning, encryption, who may read it, and what the writer may do."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from mirror.addresses import common_folder
from mirror.aws.iam_policy import Access, AccessBlock, PublicAccess, is_served_by_bucket, partition_of, public_access
from mirror.check.local import is_aws
from mirror.check.ports import Aws, BucketFacts, BucketOf, Identity, Unavailable
from mirror.check.result import CheckResult, CheckTarget, Component
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.model import IssuerName, ObjectKey, StoredObject
from mirror.text import counted


def bucket(publish: PublishSettings, aws: Aws, keys: Collection[ObjectKey]) -> Iterator[CheckResult]:
    """Findings about one bucket, its policy included; where it cannot be reached, that alone."""
    place = CheckTarget(Component.BUCKET, f"bucket {publish.bucket}")
    facts = aws.bucket(publish)
    yield from _reached(place, publish, facts)
    if isinstance(facts.region, Unavailable) and facts.region.code != "AccessDenied":
        return
    yield from _owner(place, publish, aws, keys)
    yield from _versioning(place, publish, facts)
    yield from _encryption(place, facts)
    yield _conditional_writes(place, publish)
    yield from policy(publish, facts, aws, keys)


def _reached(place: CheckTarget, publish: PublishSettings, facts: BucketFacts) -> Iterator[CheckResult]:
    region = facts.region
    if isinstance(region, Unavailable) and region.code == "AccessDenied":
        yield unseen(place, "the bucket itself", "s3:ListBucket", publish, region)
    elif isinstance(region, Unavailable):
        yield place.failed("bucket.unreachable", f"The bucket cannot be looked at: {region}.", region.remedy)
    elif region is not None and region != publish.region and is_aws(publish):
        sentence = f"The bucket is in {region}, the configuration says {publish.region}."
        yield place.failed(
            "bucket.wrong_region", sentence, f"Set `publish.region: {region}`, and the issuer's host too."
        )
    elif region is None or region != publish.region:
        yield place.ok("bucket.reached", "The bucket is there.")
    else:
        yield place.ok("bucket.reached", f"The bucket is there, in {region}.")


def _owner(
    place: CheckTarget, publish: PublishSettings, aws: Aws, keys: Collection[ObjectKey]
) -> Iterator[CheckResult]:
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
        sentence = "If the bucket is deleted, another account can create it again and read what the mirror writes."
        remedy = f'Set `publish.expected_bucket_owner: "{who.account}"`.'
        yield place.note("bucket.owner_unset", sentence, remedy)


def _versioning(place: CheckTarget, publish: PublishSettings, facts: BucketFacts) -> Iterator[CheckResult]:
    if isinstance(facts.versioning, Unavailable):
        yield unseen(place, "whether versions are kept", "s3:GetBucketVersioning", publish, facts.versioning)
    elif facts.versioning == "Enabled":
        yield place.ok("bucket.versioning", "Versions are kept: an overwritten document can be looked at later.")
    else:
        sentence = "The bucket keeps no versions: a document that an intruder overwrites cannot be examined later."
        yield place.note("bucket.versioning", sentence, "`oidc-mirror provision bucket` switches versioning on.")


def _encryption(place: CheckTarget, facts: BucketFacts) -> Iterator[CheckResult]:
    if isinstance(facts.encryption, str) and facts.encryption.startswith("aws:kms"):
        sentence = f"Objects are encrypted with {facts.encryption}: they cannot be read without credentials."
        yield place.failed("bucket.kms", sentence, "Set the bucket's default encryption to SSE-S3 (AES256).")


def _conditional_writes(place: CheckTarget, publish: PublishSettings) -> CheckResult:
    if not publish.conditional_writes:
        sentence = "Conditional writes are off: two mirrors can overwrite each other without noticing."
        return place.note("bucket.unconditional", sentence, "Run one mirror only, or use a store that has them.")
    if is_aws(publish):
        return place.ok("bucket.conditional", "Writes are conditional: no mirror overwrites what it has not seen.")
    sentence = "Writes are conditional; whether this store holds to it shows only at a real one."
    return place.note("bucket.conditional", sentence)


_MOST_SHOWN = 3
_ACLS_IN_FORCE = ("ObjectWriter", "BucketOwnerPreferred")
_RENDER_BUCKET_POLICY = "`oidc-mirror provision bucket` sets it, `oidc-mirror render bucket-policy` prints it"
_READERS = f"Allow public s3:GetObject on exactly the published keys: {_RENDER_BUCKET_POLICY}."


def policy(
    publish: PublishSettings, facts: BucketFacts, aws: Aws, keys: Collection[ObjectKey]
) -> Iterator[CheckResult]:
    """Findings about public access to one bucket.

    Args:
        publish: The bucket's settings.
        facts: What it says of itself.
        aws: For the block of the account.
        keys: All keys that the mirror publishes in it.
    """
    place = CheckTarget(Component.POLICY, f"bucket {publish.bucket}")
    if is_served_by_bucket(publish):
        yield from _blocks(place, publish, facts, aws)
    else:
        sentence = (
            "A CDN or proxy serves `publish.base_url`: it must be allowed to "
            "read the bucket; public access is not needed."
        )
        yield place.note("policy.behind_cdn", sentence)
    yield from _policy(place, publish, facts, keys)
    if isinstance(facts.public_grants, tuple) and facts.public_grants:
        sentence = f"Its ACL grants everyone {', '.join(facts.public_grants)} on the bucket itself."
        yield place.warning(
            "policy.acl", sentence, "Remove the grants; a bucket policy on the published keys is enough."
        )
    if facts.ownership in _ACLS_IN_FORCE:
        sentence = f"ACLs are in force (ownership {facts.ownership}): objects may be opened one by one."
        remedy = "Set object ownership to BucketOwnerEnforced: then only the policy decides."
        yield place.note("policy.acls_in_force", sentence, remedy)


def _blocks(place: CheckTarget, publish: PublishSettings, facts: BucketFacts, aws: Aws) -> Iterator[CheckResult]:
    own = facts.access_block
    if isinstance(own, Unavailable):
        yield unseen(place, "the bucket's public access block", "s3:GetBucketPublicAccessBlock", publish, own)
    else:
        yield from _block(place, "the bucket", own, "`oidc-mirror provision bucket` switches off what is in the way")
    who = aws.identity(publish)
    if not isinstance(who, Identity):
        return  # reported at the credentials
    block = aws.account_block(publish, publish.expected_bucket_owner or who.account)
    if isinstance(block, Unavailable):
        yield unseen(place, "the account's public access block", "s3:GetAccountPublicAccessBlock", publish, block)
    else:
        remedy = "An administrator of the account must switch it off: `aws s3control put-public-access-block`"
        yield from _block(place, "the account", block, remedy)


def _block(place: CheckTarget, whose: str, block: AccessBlock | None, remedy: str) -> Iterator[CheckResult]:
    standing = () if block is None else block.against_policies()
    code = f"policy.{whose.removeprefix('the ')}_block"
    if "RestrictPublicBuckets" in standing:
        sentence = f"The public access block of {whose} has {' and '.join(standing)}: anonymous requests get 403."
        yield place.failed(code, sentence, f"{remedy}; or publish through CloudFront (`publish.base_url`).")
    elif standing:
        sentence = f"The public access block of {whose} has {standing[0]}: no public policy can be set."
        yield place.warning(code, sentence, f"{remedy}, before the policy has to be changed.")
    else:
        yield place.ok(code, f"No public access block of {whose} is in the way of the policy.")


def _policy(
    place: CheckTarget, publish: PublishSettings, facts: BucketFacts, keys: Collection[ObjectKey]
) -> Iterator[CheckResult]:
    text = facts.policy
    if isinstance(text, Unavailable):
        yield unseen(place, "the bucket policy", "s3:GetBucketPolicy", publish, text)
        return
    if not text:
        yield _none(place, publish, facts)
        return
    found = public_access(text, publish.bucket, keys, partition_of(publish.region))
    if found is None:
        yield place.warning("policy.unread", "The bucket policy cannot be parsed.", "Check it by hand.")
        return
    if not is_served_by_bucket(publish):
        found = replace(found, objects={})
    yield from _policy_results(place, found, len(keys))


def _none(place: CheckTarget, publish: PublishSettings, facts: BucketFacts) -> CheckResult:
    elsewhere = not is_served_by_bucket(publish) or not is_aws(publish)
    if elsewhere or facts.ownership in _ACLS_IN_FORCE:
        sentence = (
            "There is no bucket policy. When the public can read the documents all the same, something else lets it."
        )
        return place.warning(
            "policy.none", sentence, f"See what `public` says with `oidc-mirror check --verbose`. {_READERS}"
        )
    return place.failed("policy.none", "There is no bucket policy: the documents are not public.", _READERS)


def _policy_results(place: CheckTarget, found: PublicAccess, total: int) -> Iterator[CheckResult]:
    denied = found.keys_with(Access.NOT_READABLE, denied=True)
    narrow = found.keys_with(Access.NOT_READABLE)
    conditional = found.keys_with(Access.CONDITIONAL)
    if denied:
        because = dict.fromkeys(name for key in denied for name in found.objects[key].because)
        sentence = f"The bucket policy denies public reads ({', '.join(because)}): {_some(denied)}."
        yield place.failed("policy.denies", sentence, "Remove or narrow the Deny statement.")
    if narrow:
        sentence = f"The bucket policy does not allow public reads of {counted(len(narrow), 'object')}"
        yield place.failed("policy.narrow", f"{sentence}: {_some(narrow)}.", _READERS)
    if conditional:
        sentence = (
            f"Public reads of {counted(len(conditional), 'object')} depend on a condition of the "
            f"bucket policy: {_some(found.conditions())}."
        )
        remedy = f"Relying parties ask from anywhere: remove the condition. {_READERS}"
        yield place.warning("policy.conditional", sentence, remedy)
    if found.dangerous:
        sentence = f"The bucket policy publicly allows more than reading: {_some(found.dangerous)}."
        yield place.failed(
            "policy.dangerous",
            sentence,
            "Take it away at once: anyone who can write the JWKS can add a key, and then be any pod. "
            f"{_RENDER_BUCKET_POLICY}.",
        )
    if found.wider:
        sentence = f"The bucket policy makes more public than the published keys: {_some(found.wider)}."
        remedy = (
            "Where another configuration publishes them, leave them. Else name exactly the published keys: "
            "`oidc-mirror provision bucket NAME --remove-unlisted`."
        )
        yield place.warning("policy.wider", sentence, remedy)
    if not (denied or narrow or conditional or found.dangerous or found.wider):
        yield place.ok("policy.exact", f"The bucket policy makes exactly {counted(total, 'object')} public.")


def unseen(place: CheckTarget, what: str, action: str, publish: PublishSettings, missed: Unavailable) -> CheckResult:
    """A note: what could not be looked at, and why. The mirror itself works without the right to see it."""
    sentence = f"Could not see {what}: {missed}."
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


_RENDER_WRITER_POLICY = "`oidc-mirror render writer-policy` prints what is needed"


def listing(publish: PublishSettings, aws: Aws, keys: Collection[ObjectKey]) -> Iterator[CheckResult]:
    """Whether the mirror may list what a pass lists: below the folder that all `keys` of the bucket share."""
    prefix = common_folder(keys)
    place = CheckTarget(Component.RIGHTS, f"s3://{publish.bucket}/{prefix}")
    missed = aws.may_list(publish, prefix)
    if missed is None:
        yield place.ok("rights.list", "The mirror may list it (s3:ListBucket).")
    else:
        yield _missing(place, publish, "s3:ListBucket", _arn(publish), missed)


def objects(
    name: IssuerName, publish: PublishSettings, keys: Collection[ObjectKey], bucket: BucketOf, aws: Aws
) -> Iterator[CheckResult]:
    """Whether the mirror may read and write the two objects of an issuer."""
    for key in keys:
        place = CheckTarget(Component.RIGHTS, f"s3://{publish.bucket}/{key}", name)
        there: StoredObject | None = None
        try:
            there = bucket(publish).get(key)
        except BucketError as error:
            missed = Unavailable(error.code, error.cause, error.remedy)
            yield _missing(place, publish, "s3:GetObject", _arn(publish, key), missed)
        else:
            yield _read(place, there)
        yield _put(place, publish, key, there, aws)


def _read(place: CheckTarget, there: StoredObject | None) -> CheckResult:
    if there is not None:
        return place.ok("rights.get", "The mirror may read it (s3:GetObject).")
    # Where reading is refused, only a listing shows that an object is absent: it proves no right to read.
    sentence = "It is not there yet, so whether the mirror may read it is not known."
    return place.note("rights.get_unknown", sentence, "Check again after the first pass.")


def _put(
    place: CheckTarget, publish: PublishSettings, key: ObjectKey, there: StoredObject | None, aws: Aws
) -> CheckResult:
    if not publish.conditional_writes:
        sentence = "Whether the mirror may write it shows only at a real write: `conditional_writes` is false."
        return place.note("rights.put_untested", sentence)
    verdict = aws.may_put(publish, key, there)
    if verdict == "unproven":
        sentence = "It is not there yet, so whether the mirror may write it is not proven: nothing was written."
        return place.note("rights.put_unknown", sentence, f"The first pass shows it; {_RENDER_WRITER_POLICY}.")
    if verdict == "simulated":
        return place.ok("rights.put", "The mirror may write it (s3:PutObject; by IAM's policy simulator).")
    if verdict == "allowed":
        return place.ok("rights.put", "The mirror may write it (s3:PutObject; asked by a write that cannot succeed).")
    if verdict == "wrote":
        sentence = "The store wrote although the ETag and the MD5 of the request were wrong."
        remedy = "Set `publish.conditional_writes: false`, run one mirror only, and think about another store."
        return place.failed("rights.put_unconditional", sentence, remedy)
    return _missing(place, publish, "s3:PutObject", _arn(publish, key), verdict)


def _missing(
    place: CheckTarget, publish: PublishSettings, action: str, resource: str, missed: Unavailable
) -> CheckResult:
    verb = _VERBS[action]
    code = f"rights.{_CODES[action]}"
    if missed.code != "AccessDenied":
        return place.failed(code, f"{action} could not be tried: {missed}.", missed.remedy)
    remedy = f"Allow `{action}` on `{resource}` to the mirror's identity; {_RENDER_WRITER_POLICY}."
    if publish.expected_bucket_owner:
        remedy += " Or the bucket belongs to another account than `publish.expected_bucket_owner`."
    return place.failed(code, f"The mirror may not {verb}: {action} is denied.", remedy)


def _arn(publish: PublishSettings, key: str = "") -> str:
    return f"arn:{partition_of(publish.region)}:s3:::{publish.bucket}" + (f"/{key}" if key else "")


_VERBS = {"s3:ListBucket": "list it", "s3:GetObject": "read it", "s3:PutObject": "write it"}
_CODES = {"s3:ListBucket": "list", "s3:GetObject": "get", "s3:PutObject": "put"}
