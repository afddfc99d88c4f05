"""What the buckets show before anything is decided: one listing a bucket."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mirror.addresses import common_folder
from mirror.concurrency import thread_map
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.model import ListedObject, ObjectKey
from mirror.ports import Ports

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
    groups: dict[Target, list[tuple[PublishSettings, ObjectKey]]] = {}
    for publish, key in keys:
        groups.setdefault(bucket_identity(publish), []).append((publish, key))

    def one(group: list[tuple[PublishSettings, ObjectKey]]) -> BucketListing:
        try:
            return BucketListing(ports.bucket(group[0][0]).list(common_folder(key for _, key in group)))
        except BucketError as error:
            return BucketListing(error=error)

    shown = thread_map(one, groups.values(), workers=workers, cancel=ports.cancel)
    return dict(zip(groups, shown, strict=True))
