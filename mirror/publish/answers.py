"""What an S3 store answers, as values of ours; a missing or malformed member raises LookupError or ValueError."""

from datetime import UTC
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from mirror.model import ETag, Listed, ObjectKey

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectTypeDef

_ABSENT_CODES = frozenset({"NoSuchKey", "404"})


def is_absent(error: ClientError) -> bool:
    """Whether the store says that there is no object under the key."""
    return error.response["Error"]["Code"] in _ABSENT_CODES


def unquoted(etag: str) -> ETag:
    """An ETag without its quotes: radosgw answers 412 to a quoted one, every other store takes both (s3.md)."""
    return ETag(etag.strip('"'))


def listed(entry: "ObjectTypeDef") -> Listed:
    """One line of a listing."""
    return Listed(
        key=ObjectKey(entry["Key"]),
        etag=unquoted(entry["ETag"]),
        size_bytes=entry["Size"],
        last_modified=entry["LastModified"].astimezone(UTC),
    )


def headers(answer: Any) -> dict[str, Any]:
    """The fields that `Stored` and `StoredHeaders` share."""
    return {
        "etag": unquoted(answer["ETag"]),
        "content_type": answer.get("ContentType", ""),
        "cache_control": answer.get("CacheControl", ""),
        "snapshot": answer.get("Metadata", {}).get("snapshot"),
        "last_modified": answer["LastModified"].astimezone(UTC),
    }
