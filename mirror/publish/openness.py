"""Why a bucket shows an object to nobody: asked only when the world got a 403, with whatever rights we have."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from mirror.aws.errors import S3_ERRORS
from mirror.config.settings import Publish
from mirror.model import ObjectKey
from mirror.ports import Openness
from mirror.publish.answers import is_absent
from mirror.publish.requests import owner

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
_NO_BLOCK = "NoSuchPublicAccessBlockConfiguration"
_NO_POLICY = "NoSuchBucketPolicy"


def ask(client: "S3Client", publish: Publish, key: ObjectKey) -> Openness:
    """What the bucket says about itself; what cannot be learned is None, and nothing is raised."""
    names: Any = {"Bucket": publish.bucket, **owner(publish)}
    no_blocks: tuple[str, ...] = ()
    return Openness(
        exists=_known(lambda: bool(client.head_object(Key=key, **names)), "", absent=False),
        blocks=_known(lambda: _blocks(client.get_public_access_block(**names)), _NO_BLOCK, absent=no_blocks),
        policy=_known(lambda: str(client.get_bucket_policy(**names)["Policy"]), _NO_POLICY, absent=""),
    )


def _known(question: Callable[[], T], absent_code: str, *, absent: T) -> T | None:
    try:
        return question()
    except ClientError as error:
        return absent if is_absent(error) or error.response["Error"]["Code"] == absent_code else None
    except (*S3_ERRORS, ValueError, LookupError):
        return None


def _blocks(answer: Any) -> tuple[str, ...]:
    """The switches by which a public bucket policy is refused or ignored (fact 41)."""
    configuration = answer["PublicAccessBlockConfiguration"]
    return tuple(name for name in ("BlockPublicPolicy", "RestrictPublicBuckets") if configuration.get(name))
