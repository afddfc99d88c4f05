"""Pure: from "the public URL answers 403" to what in the bucket makes it so.

The one sentence for all of them is of little help to somebody at three in the morning: S3 itself says no more than
AccessDenied, whether the object is missing, the policy is, or Block Public Access stands above it.
"""

import json
import re
from typing import Any

from mirror.addresses import bucket_url
from mirror.config.settings import Publish
from mirror.model import ObjectKey, Reason
from mirror.ports import Openness

FORBIDDEN = "forbidden"
_POLICY = (
    "Allow `s3:GetObject` on exactly the published keys to everybody (`oidc-mirror render bucket-policy`, "
    "`oidc-mirror provision bucket`)."
)
_BLOCK = "Switch off {blocks} for the bucket, and for the account: `oidc-mirror provision bucket`. " + _POLICY
_ABSENT = "Check that the issuer's path, `publish.prefix` and `publish.base_url` lead to the object that was put."
_ABOVE = (
    "Look above the bucket: Block Public Access of the account (it wins over every bucket), a policy of the "
    "organisation, an object that another account owns, or encryption with a KMS key (use SSE-S3)."
)
_CDN = (
    "The issuer's host is none of S3's own: let the CDN read the bucket (CloudFront: an origin access control, and a "
    "bucket policy with `s3:GetObject` on the published keys for its distribution), and let everybody read the CDN."
)


def is_served_by_bucket(publish: Publish) -> bool:
    """Whether the public URL is the store's own, so that the bucket's settings decide who may read."""
    return bucket_url(publish.base_url) is not None or publish.base_url.startswith(f"{publish.endpoint_url}/")


def behind_cdn(reason: Reason) -> Reason:
    """A 403 of a host that is not the store's own."""
    return Reason(FORBIDDEN, reason.sentence, _CDN)


def why_private(reason: Reason, openness: Openness, publish: Publish, key: ObjectKey) -> Reason:
    """The 403 of `reason`, told by its cause; `reason` itself where the bucket lets us learn nothing.

    Codes: `object_missing`, `block_public_access`, `bucket_policy`, or `forbidden`.
    """
    if openness.exists is False:
        sentence = f"{reason.sentence} There is no object {key} in bucket {publish.bucket}."
        return Reason("object_missing", sentence, _ABSENT)
    if openness.blocks:
        blocks = " and ".join(openness.blocks)
        sentence = f"{reason.sentence} Block Public Access of bucket {publish.bucket} is on ({blocks})."
        return Reason("block_public_access", sentence, _BLOCK.format(blocks=blocks))
    if openness.policy is None:
        return reason
    if not opens(openness.policy, publish.bucket, key):
        kind = "does not let everybody read this object" if openness.policy else "is missing"
        sentence = f"{reason.sentence} The policy of bucket {publish.bucket} {kind}."
        return Reason("bucket_policy", sentence, _POLICY)
    sentence = f"{reason.sentence} The policy of bucket {publish.bucket} would let everybody read it."
    return Reason(FORBIDDEN, sentence, _ABOVE)


def opens(policy: str, bucket: str, key: ObjectKey) -> bool:
    """Whether a bucket policy lets everybody GET the object, as far as its own text tells.

    A statement with a condition, or of the Not… kinds, is not counted as an allowance; a matching Deny without a
    condition wins. Source: the IAM user guide, "Policy evaluation logic".
    """
    try:
        statements = json.loads(policy)["Statement"]
    except (ValueError, TypeError, KeyError):
        return False
    matching = [each for each in _texts(statements) if _matches(each, bucket, key)]
    return bool(matching) and all(each.get("Effect") == "Allow" for each in matching)


def _matches(statement: Any, bucket: str, key: ObjectKey) -> bool:
    if not isinstance(statement, dict) or statement.get("Condition"):
        return False
    return (
        _is_everybody(statement.get("Principal"))
        and any(_fits(str(text).lower(), "s3:getobject") for text in _texts(statement.get("Action")))
        and any(_covers(str(text), f"{bucket}/{key}") for text in _texts(statement.get("Resource")))
    )


def _is_everybody(principal: Any) -> bool:
    return principal == "*" or (isinstance(principal, dict) and "*" in _texts(principal.get("AWS")))


def _covers(resource: str, name: str) -> bool:
    arn, colons, rest = resource.partition(":s3:::")
    return resource == "*" or (bool(colons) and arn.startswith("arn:aws") and _fits(rest, name))


def _fits(pattern: str, text: str) -> bool:
    """IAM's wildcards: `*` is any text, `?` one character."""
    signs = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern)
    return re.fullmatch(signs, text, re.DOTALL) is not None


def _texts(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,) if value else ()
