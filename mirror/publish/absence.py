"""Whether an object is absent, also for those whom a store does not tell so."""

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from mirror.aws.errors import code_of
from mirror.config.settings import Publish
from mirror.model import ObjectKey
from mirror.publish.answers import is_absent
from mirror.publish.requests import owner

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def is_absent_under(key: ObjectKey, error: ClientError, client: "S3Client", publish: Publish) -> bool:
    """Whether `error`, the answer to a GET or HEAD of `key`, means that there is no such object.

    Who may not list the whole bucket, as our own writer policy has it, gets 403 for an absent object (S3 API reference,
    GetObject, "Permissions"). A listing of this one key tells an absent object from a forbidden one.
    """
    if is_absent(error):
        return True
    if code_of(error, error.response) != "AccessDenied":
        return False
    names: Any = {"Bucket": publish.bucket, "Prefix": key, "MaxKeys": 1, **owner(publish)}
    try:
        page = client.list_objects_v2(**names)
    except ClientError:
        return False
    return all(entry["Key"] != key for entry in page.get("Contents", ()))
