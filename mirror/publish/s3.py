"""S3: list, read and conditionally put the objects of one bucket."""

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError, InvalidConfigError
from botocore.handlers import add_expect_header

from mirror.aws.errors import (
    NOT_SENT_CODES,
    S3_ERRORS,
    TRANSIENT_CODES,
    CredentialsError,
    S3Operation,
    bucket_error_for,
    code_of,
    s3_errors_translated,
)
from mirror.aws.public_access import bucket_access_block, bucket_policy_text
from mirror.aws.sessions import CONNECT_SECONDS, READ_ATTEMPTS, READ_SECONDS
from mirror.aws.sessions import session as session_of
from mirror.concurrency import DeadlineExecutor
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.model import ARCHIVE_CLASSES, CommitId, ETag, ListedObject, ObjectKey, PublicObject, StoredObject
from mirror.ports import AccessSettings, PutConflict, PutResult, PutStored, StoredHeaders
from mirror.redaction import describe

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ObjectTypeDef, PutObjectRequestTypeDef


T = TypeVar("T")

MAX_OBJECT_BYTES = 1024 * 1024
MAX_LIST_PAGES = 1000
REQUEST_SECONDS = 12.0
"""The longest that one request takes, its second attempt and the last byte of its body included."""
_CHUNK_BYTES = 64 * 1024
_ARCHIVED = "InvalidObjectState"
"""An object that a lifecycle rule moved to an archive (S3 API reference, GetObject, "Errors")."""
_PAUSE_SECONDS = 0.2


class S3Bucket:
    """One bucket as one identity sees it; safe for many threads, and for many writers at once.

    Every method but `access_settings` raises `BucketError`, and nothing else, for whatever the store, the network or
    the credentials do.
    """

    def __init__(
        self,
        publish: PublishSettings,
        *,
        puts: int,
        read_seconds: float = READ_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        max_pages: int = MAX_LIST_PAGES,
    ) -> None:
        self._publish = publish
        self._max_pages = max_pages
        self._clients = S3Clients(publish, connections=puts, read_seconds=read_seconds)
        self._bounded = _BoundedRequests(request_seconds, self._clients)

    def close(self) -> None:
        """Close the pooled connections."""
        self._clients.close()

    def cancel(self) -> None:
        """Make whatever runs end at once with code `Cancelled`, and all that follows; callable from any thread.

        A write that is broken off so may still take effect: the next pass sees what stands there.
        """
        self._bounded.cancel()

    def list(self, prefix: str) -> Mapping[ObjectKey, ListedObject]:
        """All objects whose key begins with `prefix`, by key; a request for each 1000 of them.

        Raises:
            BucketError: the listing is not whole, or is longer than `MAX_LIST_PAGES`.
        """
        found: dict[ObjectKey, ListedObject] = {}
        with s3_errors_translated(S3Operation("listed", "s3:ListBucket", self._publish, prefix)):
            for number, page in enumerate(self._pages(prefix), start=1):
                if number > self._max_pages:
                    attempt = S3Operation("listed", "s3:ListBucket", self._publish)
                    raise bucket_error_for("TooManyObjects", attempt, cause=f"more than {self._max_pages} pages")
                found.update((ObjectKey(entry["Key"]), listed(entry)) for entry in page.get("Contents", ()))
        return found

    def get(self, key: ObjectKey) -> StoredObject | None:
        """The object under `key`, or None when there is none.

        Its body is cut one byte over `MAX_OBJECT_BYTES`, and is empty where the object is archived and cannot be read:
        no document of ours is either, so such an object is another writer's and is overwritten.

        Raises:
            BucketError: it could not be read.
        """
        with s3_errors_translated(self._reading(key)):
            return self._bounded.call(lambda: self._get(key))

    def head(self, key: ObjectKey) -> StoredHeaders | None:
        """The metadata of the object under `key`, without its body, or None if there is no object.

        Raises:
            BucketError: it could not be looked at.
        """
        with s3_errors_translated(self._reading(key)):
            return self._bounded.call(lambda: self._head(key))

    def access_settings(self, key: ObjectKey) -> AccessSettings:
        """What the bucket says about who may read the object; raises nothing, because it only explains a failure."""
        try:
            with s3_errors_translated(self._reading(key)):
                return self._bounded.call(lambda: ask(self._clients.reads, self._publish, key))
        except BucketError:
            return AccessSettings()

    def put(self, obj: PublicObject, *, snapshot: CommitId, expected_etag: ETag | None) -> PutResult:
        """Put `obj` over exactly the object with `expected_etag` (None: where none is), decided by reading back.

        `snapshot` becomes metadata of the object. A plain 200 to a conditional write is success; after anything else
        the object is read, because the write may have taken effect although its answer was lost (facts.md#36).

        Raises:
            BucketError: the object still is what was seen; nothing was changed as far as the store shows.
        """
        if self._publish.conditional_writes:
            return self._put_conditionally(obj, snapshot, expected_etag)
        return self._put_after_looking(obj, snapshot, expected_etag)

    def _put_conditionally(self, obj: PublicObject, snapshot: CommitId, expected_etag: ETag | None) -> PutResult:
        request = put_request(self._publish, obj, snapshot)
        conditional: PutObjectRequestTypeDef = (
            {**request, "IfNoneMatch": "*"} if expected_etag is None else {**request, "IfMatch": expected_etag}
        )
        try:
            return self._try(obj, conditional, expected_etag)
        except BucketError as error:
            if error.code not in TRANSIENT_CODES:
                raise
        time.sleep(_PAUSE_SECONDS)
        return self._try(obj, conditional, expected_etag)

    def _put_after_looking(self, obj: PublicObject, snapshot: CommitId, expected_etag: ETag | None) -> PutResult:
        """For a store without conditional writes: two writers can both get success, so run only one."""
        before = self.get(obj.key)
        if _etag(before) != expected_etag:
            return _found(obj, before)
        failure = self._send(put_request(self._publish, obj, snapshot))
        if isinstance(failure, BucketError):
            return self._after(failure, obj, expected_etag)
        return _found(obj, self.get(obj.key))

    def _try(self, obj: PublicObject, request: "PutObjectRequestTypeDef", expected_etag: ETag | None) -> PutResult:
        sent = self._send(request)
        return self._after(sent, obj, expected_etag) if isinstance(sent, BucketError) else PutStored(sent)

    def _send(self, request: "PutObjectRequestTypeDef") -> ETag | BucketError:
        try:
            with s3_errors_translated(S3Operation("written", "s3:PutObject", self._publish, request["Key"])):
                return unquoted(self._bounded.call(lambda: self._clients.writes.put_object(**request))["ETag"])
        except BucketError as error:
            return error

    def _after(self, failure: BucketError, obj: PublicObject, expected_etag: ETag | None) -> PutResult:
        """What a failed write really did; raises `failure` when the object still is what was seen."""
        if failure.code in NOT_SENT_CODES:
            raise failure
        try:
            there = self.get(obj.key)
        except BucketError:
            raise failure from None
        found = _found(obj, there)
        if isinstance(found, PutConflict) and _etag(there) == expected_etag:
            raise failure
        return found

    def _pages(self, prefix: str) -> "Iterator[ListObjectsV2OutputTypeDef]":
        def begin() -> "Iterator[ListObjectsV2OutputTypeDef]":
            # The client is made in here too: looking for credentials may take as long as a request.
            paginator = self._clients.reads.get_paginator("list_objects_v2")
            return iter(paginator.paginate(Bucket=self._publish.bucket, Prefix=prefix, **owner(self._publish)))

        pages = self._bounded.call(begin)
        while (page := self._bounded.call(lambda: next(pages, None))) is not None:
            yield page

    def _get(self, key: ObjectKey) -> StoredObject | None:
        try:
            answer = self._clients.reads.get_object(Bucket=self._publish.bucket, Key=key, **owner(self._publish))
        except ClientError as error:
            if is_absent_under(key, error, self._clients.reads, self._publish):
                return None
            if code_of(error, error.response) != _ARCHIVED:
                raise
            head = self._clients.reads.head_object(Bucket=self._publish.bucket, Key=key, **owner(self._publish))
            return StoredObject(body=b"", **headers(head))
        return _stored(answer)

    def _head(self, key: ObjectKey) -> StoredHeaders | None:
        try:
            answer = self._clients.reads.head_object(Bucket=self._publish.bucket, Key=key, **owner(self._publish))
        except ClientError as error:
            if is_absent_under(key, error, self._clients.reads, self._publish):
                return None
            raise
        return StoredHeaders(size_bytes=answer["ContentLength"], **headers(answer))

    def _reading(self, key: ObjectKey) -> S3Operation:
        return S3Operation("read", "s3:GetObject", self._publish, key)


def _stored(answer: Any) -> StoredObject:
    stream = answer["Body"]
    try:
        body = b""
        while len(body) <= MAX_OBJECT_BYTES and (chunk := stream.read(_CHUNK_BYTES)):
            body += chunk
    finally:
        stream.close()
    return StoredObject(body=body[: MAX_OBJECT_BYTES + 1], **headers(answer))


def _found(obj: PublicObject, there: StoredObject | None) -> PutResult:
    if there is not None and _is_as_meant(obj, there):
        return PutStored(there.etag)
    return PutConflict(there)


def _is_as_meant(obj: PublicObject, there: StoredObject) -> bool:
    meant = (obj.body, obj.content_type, ())
    # A store that drops Cache-Control is noticed by the audit; the write itself took effect.
    keeps = there.cache_control in (obj.cache_control, "")
    return keeps and (there.body, there.content_type, there.altering) == meant


def _etag(there: StoredObject | None) -> ETag | None:
    return None if there is None else there.etag


def is_absent_under(key: ObjectKey, error: ClientError, client: "S3Client", publish: PublishSettings) -> bool:
    """Whether `error`, the answer to a GET or HEAD of `key`, means that there is no such object.

    Who may not list the whole bucket, as our own writer policy has it, gets 403 for an absent object (S3 API reference,
    GetObject, "Permissions"). A listing of this one key distinguishes an absent object from a forbidden one.
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


_ABSENT_CODES = frozenset({"NoSuchKey", "404"})


def is_absent(error: ClientError) -> bool:
    """Whether the store says that there is no object under the key."""
    return error.response["Error"]["Code"] in _ABSENT_CODES


def unquoted(etag: str) -> ETag:
    """An ETag without its quotes: radosgw answers 412 to a quoted one, every other store takes both (s3.md)."""
    return ETag(etag.strip('"'))


def listed(entry: "ObjectTypeDef") -> ListedObject:
    """One line of a listing."""
    return ListedObject(
        key=ObjectKey(entry["Key"]),
        etag=unquoted(entry["ETag"]),
        size_bytes=entry["Size"],
        last_modified=entry["LastModified"].astimezone(UTC),
        storage_class=str(entry.get("StorageClass", "")),
    )


def headers(answer: Any) -> dict[str, Any]:
    """The fields that `StoredObject` and `StoredHeaders` share."""
    return {
        "etag": unquoted(answer["ETag"]),
        "content_type": answer.get("ContentType", ""),
        "cache_control": answer.get("CacheControl", ""),
        "snapshot": answer.get("Metadata", {}).get("snapshot"),
        "last_modified": answer["LastModified"].astimezone(UTC),
        "altering": tuple(_altering(answer)),
    }


_ALTERING = {
    "ContentEncoding": "Content-Encoding",
    "ContentDisposition": "Content-Disposition",
    "ContentLanguage": "Content-Language",
    "ExpiresString": "Expires",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
}
"""Members of an answer by the header that they were read from; no object of ours has one."""


def _altering(answer: Any) -> Iterator[str]:
    """Metadata of an object that changes what clients get of it."""
    yield from (f"{header}: {answer[member]}" for member, header in _ALTERING.items() if answer.get(member))
    storage_class = answer.get("StorageClass", "")
    if storage_class in ARCHIVE_CLASSES or answer.get("ArchiveStatus"):
        yield f"x-amz-storage-class: {storage_class}"


class _BoundedRequests(DeadlineExecutor):
    """Says of a call that took too long when it never got beyond looking for credentials."""

    def __init__(self, seconds: float, clients: "S3Clients") -> None:
        super().__init__(seconds)
        self._clients = clients

    def call(self, call: Callable[[], T]) -> T:
        """See `mirror.concurrency.Bounded`.

        Raises:
            CredentialsError: The time went by while credentials were looked for.
        """
        try:
            return super().call(call)
        except TimeoutError:
            if not self._clients.is_looking:
                raise
            cause = f"looking for credentials took more than {self._seconds:g} s"
            raise CredentialsError("CredentialRetrieval", cause) from None


@dataclass(slots=True)
class _Made:
    """A session, and the clients that were made of it, by their number of attempts."""

    lock: Any = field(default_factory=Lock)
    session: boto3.session.Session | None = None
    clients: "dict[int, S3Client]" = field(default_factory=dict)
    is_looking: bool = False


class S3Clients:
    """Makes the clients on first use and shares them; safe for many threads.

    Whatever botocore reads from the environment holds: credentials, `AWS_CA_BUNDLE`, `AWS_ENDPOINT_URL_S3`, proxies.
    """

    def __init__(self, publish: PublishSettings, *, connections: int, read_seconds: float = READ_SECONDS) -> None:
        self._publish = publish
        self._connections = connections
        self._read_seconds = read_seconds
        self._made = _Made()

    @property
    def reads(self) -> "S3Client":
        """The client for reads: up to two attempts. Raises what botocore raises."""
        return self._of(READ_ATTEMPTS)

    @property
    def writes(self) -> "S3Client":
        """The client for conditional writes: one attempt, because a replayed 412 misleads (facts.md#36)."""
        return self._of(1)

    @property
    def is_looking(self) -> bool:
        """Whether a client is being made, and with it credentials are looked for."""
        return self._made.is_looking

    def close(self) -> None:
        """Close the pooled connections; the clients are made again when they are needed.

        It does not wait: a thread that still looks for credentials holds the lock of what it makes, and keeps it.
        """
        made, self._made = self._made, _Made()
        for client in tuple(made.clients.values()):
            client.close()

    def _of(self, attempts: int) -> "S3Client":
        made = self._made
        with made.lock:  # making clients is not thread-safe in botocore, using them is
            # A session that assumes a role makes a client of its own whenever that expires: ours come before, both.
            for each in (attempts,) if self._publish.role_arn is None else (READ_ATTEMPTS, 1):
                if each not in made.clients:
                    made.is_looking = True
                    try:
                        made.session = made.session or session_of(self._publish)
                        made.clients[each] = self._make(made.session, each)
                    finally:
                        made.is_looking = False
            return made.clients[attempts]

    def _make(self, session: boto3.session.Session, attempts: int) -> "S3Client":
        publish, config = self._publish, self._config(attempts)
        try:
            client = session.client("s3", region_name=publish.region, endpoint_url=publish.endpoint_url, config=config)
        except ValueError as error:  # all that botocore says of an endpoint that is no URL
            raise InvalidConfigError(error_msg=describe(error)) from None
        client.meta.events.register("before-call.s3", _refuse_region_redirect)
        # `Expect: 100-continue` makes a put wait before it sends its few kilobytes: twice the round trips.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        return client

    def _config(self, attempts: int) -> Config:
        return Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=self._read_seconds,
            max_pool_connections=self._connections,
            retries={"mode": "standard", "total_max_attempts": attempts},
            # A precomputed checksum is sent with each put; some stores refuse the trailing one (facts.md#39).
            request_checksum_calculation="when_required",
            # Otherwise each GET asks for checksums in a header of that name.
            response_checksum_validation="when_supported" if self._publish.checksums else "when_required",
            s3={"addressing_style": "path"} if self._publish.endpoint_url else None,
            user_agent_extra="oidc-mirror",
        )


def _refuse_region_redirect(context: dict[str, Any], **_: object) -> None:
    """Keep botocore from replaying a request in another region: `publish.region` also makes the public address.

    botocore skips a request whose context says that it was redirected before.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def ask(client: "S3Client", publish: PublishSettings, key: ObjectKey) -> AccessSettings:
    """What the bucket says about itself; what cannot be learned is None, and nothing is raised."""
    names: Any = {"Bucket": publish.bucket, **owner(publish)}
    return AccessSettings(
        exists=_known(lambda: _exists(client, key, names)),
        blocks=_known(lambda: _blocks(client, names)),
        policy=_known(lambda: bucket_policy_text(client, names)),
    )


def _known(question: Callable[[], T]) -> T | None:
    try:
        return question()
    except (*S3_ERRORS, ValueError, LookupError):
        return None


def _exists(client: "S3Client", key: ObjectKey, names: Any) -> bool:
    try:
        return bool(client.head_object(Key=key, **names))
    except ClientError as error:
        if is_absent(error):
            return False
        raise


def _blocks(client: "S3Client", names: Any) -> tuple[str, ...]:
    block = bucket_access_block(client, names)
    return () if block is None else block.against_policies()


def owner(publish: PublishSettings) -> Any:
    """The member by which a store refuses a bucket of another account; nothing where none is configured.

    See facts.md#38.
    """
    return {} if publish.expected_bucket_owner is None else {"ExpectedBucketOwner": publish.expected_bucket_owner}


def put_request(publish: PublishSettings, obj: PublicObject, snapshot: CommitId) -> "PutObjectRequestTypeDef":
    """An unconditional put of `obj`."""
    request: PutObjectRequestTypeDef = {
        "Bucket": publish.bucket,
        "Key": obj.key,
        "Body": obj.body,
        "ContentType": obj.content_type,
        "CacheControl": obj.cache_control,
        "Metadata": {"snapshot": snapshot},
    }
    if publish.checksums:
        # Precomputed: a plain header that nearly every store takes, and that AWS verifies (facts.md#39).
        request["ChecksumSHA256"] = b64encode(hashlib.sha256(obj.body).digest()).decode()
    request.update(owner(publish))
    return request
