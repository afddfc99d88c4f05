"""`render bucket-policy`: what lets the world read the documents of a bucket."""

from mirror.aws.iam_policy import MAX_BUCKET_POLICY_BYTES, bucket_policy, compact, partition_of
from mirror.federation.bucket_objects import document_keys, in_same_bucket
from mirror.federation.render.base import Kind, Rendered, Request


def _policy(request: Request) -> Rendered:
    publish = request.issuer.publish
    issuers = in_same_bucket(request.settings, publish)
    policy = bucket_policy(publish.bucket, document_keys(issuers), partition_of(publish.region))
    how = (
        f"This is the whole policy of bucket {publish.bucket} (issuers in it: {len(issuers)}): putting it replaces what"
        f" stands there. `oidc-mirror provision bucket {request.issuer.name}` keeps statements of others."
    )
    notes = [how]
    size = len(compact(policy))
    if size > MAX_BUCKET_POLICY_BYTES:
        notes.append(f"It has {size} bytes, and S3 takes {MAX_BUCKET_POLICY_BYTES}: use several buckets.")
    return Rendered("json", policy, notes=tuple(notes))


KIND = Kind(
    "bucket-policy",
    "The bucket's policy: the world reads exactly the published documents of all issuers in it.",
    {"json": _policy},
)
