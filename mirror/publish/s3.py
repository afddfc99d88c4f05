"""The bucket as it really is: list, read, look, and write only over what was seen (design 4.5)."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from mirror.aws.errors import NOT_SENT_CODES, TRANSIENT_CODES, Attempt, bucket_error_for, code_of, s3_errors_translated
from mirror.aws.sessions import READ_SECONDS
from mirror.concurrency import Bounded
from mirror.config.settings import Publish
from mirror.errors import BucketError
from mirror.model import CommitId, ETag, Listed, ObjectKey, PublicObject, Stored
from mirror.ports import Foreign, Landed, Openness, PutOutcome, StoredHeaders
from mirror.publish import openness
from mirror.publish.absence import is_absent_under
from mirror.publish.answers import headers, listed, unquoted
from mirror.publish.clients import S3Clients
from mirror.publish.requests import owner, put_request

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, PutObjectRequestTypeDef

MAX_OBJECT_BYTES = 1024 * 1024
MAX_LIST_PAGES = 1000
REQUEST_SECONDS = 12.0
"""The longest that one request takes, its second attempt and the last byte of its body included."""
_CHUNK_BYTES = 64 * 1024
_TRIES = 2
_ARCHIVED = "InvalidObjectState"
"""An object that a lifecycle rule moved to an archive (S3 API reference, GetObject, "Errors")."""
_PAUSE_SECONDS = 0.2


class S3Bucket:
    """One bucket as one identity sees it; safe for many threads, and for many writers at once.

    Every method but `openness` raises `BucketError`, and nothing else, for whatever the store, the network or the
    credentials do.
    """

    def __init__(
        self,
        publish: Publish,
        *,
        puts: int,
        read_seconds: float = READ_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        max_pages: int = MAX_LIST_PAGES,
    ) -> None:
        self._publish = publish
        self._max_pages = max_pages
        self._clients = S3Clients(publish, connections=puts, read_seconds=read_seconds)
        self._bounded = Bounded(request_seconds)

    def close(self) -> None:
        """Close the pooled connections."""
        self._clients.close()

    def cancel(self) -> None:
        """Make whatever runs end at once with code `Cancelled`, and all that follows; callable from any thread.

        A write that is broken off so may still take effect: the next pass sees what stands there.
        """
        self._bounded.cancel()

    def list(self, prefix: str) -> Mapping[ObjectKey, Listed]:
        """All objects whose key begins with `prefix`, by key; a request for each 1000 of them.

        Raises:
            BucketError: the listing is not whole, or is longer than `MAX_LIST_PAGES`.
        """
        found: dict[ObjectKey, Listed] = {}
        with s3_errors_translated(Attempt("listed", "s3:ListBucket", self._publish, prefix)):
            for number, page in enumerate(self._pages(prefix), start=1):
                self._refuse_endless(number)
                found.update((ObjectKey(entry["Key"]), listed(entry)) for entry in page.get("Contents", ()))
        return found

    def get(self, key: ObjectKey) -> Stored | None:
        """The object under `key`, or None when there is none.

        Its body is cut one byte over `MAX_OBJECT_BYTES`, and is empty where the object is archived and cannot be read:
        no document of ours is either, so such an object is somebody else's and is overwritten.

        Raises:
            BucketError: it could not be read.
        """
        with s3_errors_translated(self._reading(key)):
            return self._bounded.run(lambda: self._get(key))

    def head(self, key: ObjectKey) -> StoredHeaders | None:
        """What stands beside the object under `key`, without its body, or None when there is none.

        Raises:
            BucketError: it could not be looked at.
        """
        with s3_errors_translated(self._reading(key)):
            return self._bounded.run(lambda: self._head(key))

    def openness(self, key: ObjectKey) -> Openness:
        """What the bucket says about who may read the object; raises nothing, because it only explains a failure."""
        try:
            with s3_errors_translated(self._reading(key)):
                return self._bounded.run(lambda: openness.ask(self._clients.reads, self._publish, key))
        except BucketError:
            return Openness()

    def put(self, obj: PublicObject, *, snapshot: CommitId, seen: ETag | None) -> PutOutcome:
        """Put `obj` over exactly the object whose ETag was `seen` (None: where none is), decided by reading back.

        `snapshot` becomes metadata of the object. A plain 200 to a conditional write is believed; after anything else
        the object is read, because the write may have taken effect although its answer was lost (fact 36).

        Raises:
            BucketError: the object still is what was seen; nothing was changed as far as the store tells.
        """
        if self._publish.conditional_writes:
            return self._put_conditionally(obj, snapshot, seen)
        return self._put_after_looking(obj, snapshot, seen)

    def _put_conditionally(self, obj: PublicObject, snapshot: CommitId, seen: ETag | None) -> PutOutcome:
        request = put_request(self._publish, obj, snapshot)
        conditional: PutObjectRequestTypeDef = (
            {**request, "IfNoneMatch": "*"} if seen is None else {**request, "IfMatch": seen}
        )
        for pause_seconds in (_PAUSE_SECONDS,) * (_TRIES - 1):
            outcome = self._try(obj, conditional, seen)
            if not isinstance(outcome, BucketError):
                return outcome
            if outcome.code not in TRANSIENT_CODES:
                raise outcome
            time.sleep(pause_seconds)
        outcome = self._try(obj, conditional, seen)
        if isinstance(outcome, BucketError):
            raise outcome
        return outcome

    def _put_after_looking(self, obj: PublicObject, snapshot: CommitId, seen: ETag | None) -> PutOutcome:
        """For a store without conditional writes: two writers can both believe that they won, so run only one."""
        before = self.get(obj.key)
        if _etag(before) != seen:
            return _found(obj, before)
        failure = self._send(put_request(self._publish, obj, snapshot))
        if isinstance(failure, BucketError):
            return self._after(failure, obj, seen)
        return _found(obj, self.get(obj.key))

    def _try(
        self, obj: PublicObject, request: "PutObjectRequestTypeDef", seen: ETag | None
    ) -> PutOutcome | BucketError:
        sent = self._send(request)
        if not isinstance(sent, BucketError):
            return Landed(sent)
        try:
            return self._after(sent, obj, seen)
        except BucketError as error:
            return error

    def _send(self, request: "PutObjectRequestTypeDef") -> ETag | BucketError:
        try:
            with s3_errors_translated(Attempt("written", "s3:PutObject", self._publish, request["Key"])):
                return unquoted(self._bounded.run(lambda: self._clients.writes.put_object(**request))["ETag"])
        except BucketError as error:
            return error

    def _after(self, failure: BucketError, obj: PublicObject, seen: ETag | None) -> PutOutcome:
        """What a failed write really did; raises `failure` when the object still is what was seen."""
        if failure.code in NOT_SENT_CODES:
            raise failure
        try:
            there = self.get(obj.key)
        except BucketError:
            raise failure from None
        found = _found(obj, there)
        if isinstance(found, Foreign) and _etag(there) == seen:
            raise failure
        return found

    def _pages(self, prefix: str) -> "Iterator[ListObjectsV2OutputTypeDef]":
        pages = iter(
            self._clients.reads.get_paginator("list_objects_v2").paginate(
                Bucket=self._publish.bucket, Prefix=prefix, **owner(self._publish)
            )
        )
        while (page := self._bounded.run(lambda: next(pages, None))) is not None:
            yield page

    def _get(self, key: ObjectKey) -> Stored | None:
        try:
            answer = self._clients.reads.get_object(Bucket=self._publish.bucket, Key=key, **owner(self._publish))
        except ClientError as error:
            if is_absent_under(key, error, self._clients.reads, self._publish):
                return None
            if code_of(error, error.response) == _ARCHIVED:
                return self._archived(key)
            raise
        return _stored(answer)

    def _archived(self, key: ObjectKey) -> Stored | None:
        answer = self._clients.reads.head_object(Bucket=self._publish.bucket, Key=key, **owner(self._publish))
        return Stored(body=b"", **headers(answer))

    def _head(self, key: ObjectKey) -> StoredHeaders | None:
        try:
            answer = self._clients.reads.head_object(Bucket=self._publish.bucket, Key=key, **owner(self._publish))
        except ClientError as error:
            if is_absent_under(key, error, self._clients.reads, self._publish):
                return None
            raise
        return StoredHeaders(size_bytes=answer["ContentLength"], **headers(answer))

    def _reading(self, key: ObjectKey) -> Attempt:
        return Attempt("read", "s3:GetObject", self._publish, key)

    def _refuse_endless(self, pages: int) -> None:
        if pages > self._max_pages:
            attempt = Attempt("listed", "s3:ListBucket", self._publish)
            raise bucket_error_for("TooManyObjects", attempt, cause=f"more than {self._max_pages} pages")


def _stored(answer: Any) -> Stored:
    stream = answer["Body"]
    try:
        body = b""
        while len(body) <= MAX_OBJECT_BYTES and (chunk := stream.read(_CHUNK_BYTES)):
            body += chunk
    finally:
        stream.close()
    return Stored(body=body[: MAX_OBJECT_BYTES + 1], **headers(answer))


def _found(obj: PublicObject, there: Stored | None) -> PutOutcome:
    if there is not None and _is_as_meant(obj, there):
        return Landed(there.etag)
    return Foreign(there)


def _is_as_meant(obj: PublicObject, there: Stored) -> bool:
    meant = (obj.body, obj.content_type, obj.cache_control)
    return (there.body, there.content_type, there.cache_control) == meant


def _etag(there: Stored | None) -> ETag | None:
    return None if there is None else there.etag
