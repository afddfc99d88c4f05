"""What the buckets show before anything is decided: one listing a bucket, and the bodies that it does not show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from mirror.addresses import common_folder
from mirror.concurrency import thread_map
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.model import ListedObject, ObjectKey, PublicObject, StoredObject
from mirror.ports import Bucket, Ports
from mirror.publish.drift import needs_body

UNREADABLE_CODES = frozenset({"AccessDenied", "InvalidRequest", "KMS.DisabledException", "KMS.NotFoundException"})
"""How stores refuse to give an object that exists (S3 API reference, GetObject)."""

Target = tuple[str | None, ...]
"""What makes two settings speak to the same bucket with the same rights."""


@dataclass(frozen=True, slots=True)
class BucketListing:
    """One bucket as listed, or why it could not be."""

    listing: Mapping[ObjectKey, ListedObject] = field(default_factory=dict)
    error: BucketError | None = None


def bucket_identity(publish: PublishSettings) -> Target:
    """The identity of the bucket and the credentials that `publish` names."""
    return (
        publish.endpoint_url,
        publish.region,
        publish.bucket,
        publish.expected_bucket_owner,
        publish.profile,
        publish.role_arn,
        str(publish.conditional_writes),
        str(publish.checksums),
    )


def list_buckets(
    ports: Ports, keys: Iterable[tuple[PublishSettings, ObjectKey]], *, workers: int
) -> Mapping[Target, BucketListing]:
    """List every bucket once, below the longest folder that its keys share. Errors are values."""
    found = sorted(
        ((bucket_identity(publish), publish, key) for publish, key in keys), key=lambda entry: repr(entry[0])
    )
    groups = {each: tuple(group) for each, group in groupby(found, key=lambda entry: entry[0])}

    def one(group: tuple[tuple[Target, PublishSettings, ObjectKey], ...]) -> BucketListing:
        try:
            return BucketListing(ports.bucket(group[0][1]).list(common_folder(key for _, _, key in group)))
        except BucketError as error:
            return BucketListing(error=error)

    shown = thread_map(one, groups.values(), workers=workers, cancel=ports.cancel)
    return dict(zip(groups, shown, strict=True))


def read_body(
    bucket: Bucket, desired: PublicObject, listed: ListedObject | None, committed: frozenset[bytes]
) -> StoredObject | None:
    """The object as it stands, where its line in the listing does not show what it is.

    One that is listed and that nobody here may read (encrypted with somebody else's key, say) has no bytes: it is
    overwritten like anybody else's.

    Raises:
        BucketError: It could not be read.
    """
    if listed is None or not needs_body(desired, listed, committed):
        return None
    try:
        return bucket.get(desired.key)
    except BucketError as error:
        if error.code not in UNREADABLE_CODES:
            raise
        return StoredObject(b"", listed.etag, "", "", None, listed.last_modified)
