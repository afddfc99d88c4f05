"""AWS and the bucket, asked with the mirror's own credentials; every refusal is a value."""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from mirror.aws.errors import Attempt, s3_errors_translated, stated_code
from mirror.aws.sessions import impatient, session
from mirror.check import questions
from mirror.check.ports import AccessBlock, BucketFacts, Identity, Missed, PutVerdict
from mirror.check.questions import Question
from mirror.config.settings import Publish
from mirror.errors import BucketError
from mirror.model import ObjectKey, Stored
from mirror.publish.listing import Target, target
from mirror.publish.s3 import S3Clients

_NO_SUCH_ETAG = "0" * 32
# What a store answers once it has let a write pass its access check: one of our two conditions did not hold.
_STOPPED = frozenset({"412", "PreconditionFailed", "NoSuchKey", "BadDigest", "ConditionalRequestConflict"})

T = TypeVar("T")


class RealAws:
    """The adapter behind `mirror.check.ports.Aws`; safe for many threads. One pair of S3 clients a bucket."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._clients: dict[Target, S3Clients] = {}
        self._identities: dict[Target, Identity | Missed] = {}
        self._asking = Lock()

    def close(self) -> None:
        """Give the connections back."""
        for clients in self._clients.values():
            clients.close()

    def credentials(self, publish: Publish) -> str | Missed | None:
        """See `mirror.check.ports.Aws`."""

        def look() -> str | None:
            found = session(publish).get_credentials()
            return None if found is None else str(found.method or "unknown")

        return _asked("sts:GetCallerIdentity", publish, look)

    def identity(self, publish: Publish) -> Identity | Missed:
        """See `mirror.check.ports.Aws`; asked once for each bucket, whoever wants to know."""

        def ask() -> Identity:
            client = session(publish).client("sts", region_name=publish.region, config=impatient())
            told = client.get_caller_identity()
            return Identity(told["Account"], told["Arn"])

        key = target(publish)
        with self._asking:
            if key not in self._identities:
                self._identities[key] = _asked("sts:GetCallerIdentity", _elsewhere(publish, "STS"), ask)
            return self._identities[key]

    def account_block(self, publish: Publish, account: str) -> AccessBlock | Missed | None:
        """See `mirror.check.ports.Aws`."""

        def ask() -> AccessBlock | None:
            client = session(publish).client("s3control", region_name=publish.region, config=impatient())
            return questions.block(client.get_public_access_block(AccountId=account))

        found = _asked("s3:GetAccountPublicAccessBlock", _elsewhere(publish, "S3 Control"), ask)
        return None if isinstance(found, Missed) and found.code in questions.NONE_SET else found

    def bucket(self, publish: Publish) -> BucketFacts:
        """See `mirror.check.ports.Aws`; a bucket that cannot be reached is asked no more."""
        region = self._region(publish)
        if isinstance(region, Missed) and region.code != "AccessDenied":
            return BucketFacts(region, region, region, region, region, region, region)
        access_block = self._ask(publish, questions.ACCESS_BLOCK)
        policy = self._ask(publish, questions.POLICY)
        ownership = self._ask(publish, questions.OWNERSHIP)
        grants = self._ask(publish, questions.GRANTS)
        versioning = self._ask(publish, questions.VERSIONING)
        encryption = self._ask(publish, questions.ENCRYPTION)
        return BucketFacts(region, access_block, policy, ownership, grants, versioning, encryption)

    def _ask(self, publish: Publish, question: Question[T]) -> T | Missed:
        def call() -> T:
            operation = getattr(self._s3(publish).reads, question.operation)
            return question.read(operation(Bucket=publish.bucket, **_owner(publish)))

        found = _asked(question.action, publish, call)
        return question.empty if isinstance(found, Missed) and found.code in questions.NONE_SET else found

    def belongs_to(self, publish: Publish, account: str, prefix: str) -> bool | Missed:
        """See `mirror.check.ports.Aws`; by listing, which a writer may, where it may not look at the bucket itself."""
        missed = self.may_list(publish, prefix)
        if missed is not None:
            return missed
        owned = self.may_list(replace(publish, expected_bucket_owner=account), prefix)
        return False if owned is not None and owned.code == "AccessDenied" else owned or True

    def may_list(self, publish: Publish, prefix: str) -> Missed | None:
        """See `mirror.check.ports.Aws`."""

        def ask() -> None:
            self._s3(publish).reads.list_objects_v2(Bucket=publish.bucket, Prefix=prefix, MaxKeys=1, **_owner(publish))

        return _asked("s3:ListBucket", publish, ask)

    def may_put(self, publish: Publish, key: ObjectKey, there: Stored | None) -> PutVerdict:
        """See `mirror.check.ports.Aws`.

        Two conditions stop the write, each by itself: an ETag that no object has, and an MD5 of other bytes. A store
        checks the rights first (seen on radosgw). If one ignored both, it would write what stands there already.
        """
        body = b"oidc-mirror check" if there is None else there.body
        other = hashlib.md5(body + b" but not these bytes", usedforsecurity=False).digest()
        request: dict[str, Any] = {"ContentMD5": b64encode(other).decode(), "IfMatch": _NO_SUCH_ETAG, "Body": body}
        if there is not None:
            request |= {"ContentType": there.content_type, "CacheControl": there.cache_control}
            request |= {} if there.snapshot is None else {"Metadata": {"snapshot": there.snapshot}}

        def ask() -> PutVerdict:
            try:
                self._s3(publish).writes.put_object(Bucket=publish.bucket, Key=key, **request, **_owner(publish))
            except ClientError as error:
                if stated_code(error.response) in _STOPPED:
                    return "allowed"
                raise
            return "wrote"

        return _asked("s3:PutObject", publish, ask, key=key)

    def _region(self, publish: Publish) -> str | Missed | None:
        def ask() -> str | None:
            try:
                told: Any = self._s3(publish).reads.head_bucket(Bucket=publish.bucket, **_owner(publish))
            except ClientError as error:
                # A writer may list below a prefix only, and gets 403 here; AWS names the region all the same.
                region = _region_in(error.response)
                if region is None:
                    raise
                return region
            return _region_in(told)

        found = _asked("s3:ListBucket", publish, ask)
        if isinstance(found, Missed) and found.code == "404":
            remedy = "Create the bucket with `oidc-mirror provision bucket`, or correct `publish.bucket`."
            return Missed("NoSuchBucket", "there is no bucket of this name", remedy)
        return found

    def _s3(self, publish: Publish) -> S3Clients:
        with self._lock:
            return self._clients.setdefault(target(publish), S3Clients(publish, connections=8))


def _asked(action: str, publish: Publish, ask: Callable[[], T], *, key: str = "") -> T | Missed:
    try:
        with s3_errors_translated(Attempt("asked about", action, publish, key)):
            return ask()
    except BucketError as error:
        return Missed(error.code, error.cause, error.remedy)


def _elsewhere(publish: Publish, service: str) -> Publish:
    """For the words of failures: the endpoint is that of another service than S3."""
    return replace(publish, endpoint_url=f"{service} of {publish.region}")


def _owner(publish: Publish) -> Any:
    owner = publish.expected_bucket_owner
    return {} if owner is None else {"ExpectedBucketOwner": owner}


def _region_in(told: Any) -> str | None:
    headers = told.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or told.get("BucketRegion")
    return str(region) if region else None
