"""Read what decides about public access: Block Public Access of a bucket or an account, and the bucket policy (boto3).

Each reader gives None (or an empty text) where nothing is set, and raises what botocore raises for all else.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from mirror.aws.errors import stated_code
from mirror.aws.iam_policy import AccessBlock

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3control import S3ControlClient

T = TypeVar("T")

NOT_SET_CODES = frozenset(
    {
        "NoSuchPublicAccessBlockConfiguration",
        "NoSuchBucketPolicy",
        "OwnershipControlsNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
"""How S3 answers for a setting that a bucket, or an account, does not have."""


def bucket_access_block(client: "S3Client", names: Mapping[str, Any]) -> AccessBlock | None:
    """Block Public Access of the bucket that `names` has; the right is `s3:GetBucketPublicAccessBlock`."""
    return unless_not_set(lambda: _access_block(client.get_public_access_block(**names)), None)


def account_access_block(client: "S3ControlClient", account: str) -> AccessBlock | None:
    """Block Public Access of an account; the right is `s3:GetAccountPublicAccessBlock`."""
    return unless_not_set(lambda: _access_block(client.get_public_access_block(AccountId=account)), None)


def bucket_policy_text(client: "S3Client", names: Mapping[str, Any]) -> str:
    """The policy of the bucket that `names` has, as JSON text; the right is `s3:GetBucketPolicy`."""
    return unless_not_set(lambda: str(client.get_bucket_policy(**names)["Policy"]), "")


def unless_not_set(ask: Callable[[], T], empty: T) -> T:
    """What `ask` gives, or `empty` where the store answers that the setting is not set."""
    try:
        return ask()
    except ClientError as error:
        if stated_code(error.response) in NOT_SET_CODES:
            return empty
        raise


def _access_block(answer: Any) -> AccessBlock:
    members = answer["PublicAccessBlockConfiguration"]
    return AccessBlock(
        block_acls=bool(members.get("BlockPublicAcls")),
        ignore_acls=bool(members.get("IgnorePublicAcls")),
        block_policy=bool(members.get("BlockPublicPolicy")),
        restrict_buckets=bool(members.get("RestrictPublicBuckets")),
    )
