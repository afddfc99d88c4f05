"""What a bucket can be asked about itself: for each the right, the call, and how the answer is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mirror.check.ports import AccessBlock

NONE_SET = frozenset(
    {
        "NoSuchPublicAccessBlockConfiguration",
        "NoSuchBucketPolicy",
        "OwnershipControlsNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
"""Codes that mean: there is none."""

_EVERYBODY = ("/AllUsers", "/AuthenticatedUsers")
_BLOCK_MEMBERS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """One question: the right that it needs, boto3's call, the reader of its answer, and what "there is none" means.

    The reader raises LookupError or ValueError for an answer that is malformed.
    """

    action: str
    operation: str
    read: Callable[[Any], T]
    empty: T


def block(told: Any) -> AccessBlock | None:
    """The public access block of a bucket or an account."""
    members = told["PublicAccessBlockConfiguration"]
    return AccessBlock(*(bool(members.get(name)) for name in _BLOCK_MEMBERS))


def _ownership(told: Any) -> str:
    rules = told["OwnershipControls"].get("Rules") or [{}]
    return str(rules[0].get("ObjectOwnership", ""))


def _public_grants(told: Any) -> tuple[str, ...]:
    grants = told.get("Grants", ())
    return tuple(str(each["Permission"]) for each in grants if str(each["Grantee"].get("URI", "")).endswith(_EVERYBODY))


def _encryption(told: Any) -> str:
    rules = told["ServerSideEncryptionConfiguration"].get("Rules") or [{}]
    return str(rules[0].get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", ""))


ACCESS_BLOCK: Question[AccessBlock | None] = Question(
    "s3:GetBucketPublicAccessBlock", "get_public_access_block", block, None
)
POLICY = Question("s3:GetBucketPolicy", "get_bucket_policy", lambda told: str(told["Policy"]), "")
OWNERSHIP = Question("s3:GetBucketOwnershipControls", "get_bucket_ownership_controls", _ownership, "")
GRANTS: Question[tuple[str, ...]] = Question("s3:GetBucketAcl", "get_bucket_acl", _public_grants, ())
VERSIONING = Question("s3:GetBucketVersioning", "get_bucket_versioning", lambda told: str(told.get("Status", "")), "")
ENCRYPTION = Question("s3:GetEncryptionConfiguration", "get_bucket_encryption", _encryption, "")
