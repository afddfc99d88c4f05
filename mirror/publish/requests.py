"""What is sent to an S3 store, as values."""

import hashlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from mirror.config.settings import Publish
from mirror.model import CommitId, PublicObject

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef


def owner(publish: Publish) -> Any:
    """The member by which a store refuses a bucket of another account (fact 38); nothing where none is configured."""
    return {} if publish.expected_bucket_owner is None else {"ExpectedBucketOwner": publish.expected_bucket_owner}


def put_request(publish: Publish, obj: PublicObject, snapshot: CommitId) -> "PutObjectRequestTypeDef":
    """An unconditional put of `obj`."""
    request: PutObjectRequestTypeDef = {
        "Bucket": publish.bucket,
        "Key": obj.key,
        "Body": obj.body,
        "ContentType": obj.content_type,
        "CacheControl": obj.cache_control,
        "Metadata": {"snapshot": snapshot},
        # Precomputed: a plain header that every store takes, and that AWS verifies (fact 39).
        "ChecksumSHA256": b64encode(hashlib.sha256(obj.body).digest()).decode(),
    }
    request.update(owner(publish))
    return request
