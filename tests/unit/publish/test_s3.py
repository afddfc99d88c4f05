"""A working bucket: objects are listed and read, and put only if they did not change since they were read."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from mirror.errors import BucketError
from mirror.model import CommitId, ETag, ObjectKey, PublicObject
from mirror.ports import PutConflict, PutStored
from mirror.publish.s3 import MAX_OBJECT_BYTES, S3Bucket, put_request
from support.s3 import Store, aws_environment

pytestmark = pytest.mark.s3

SNAPSHOT = CommitId("a" * 40)
LATER = CommitId("b" * 40)
KEY = ObjectKey("cluster/id/openid/v1/jwks")
WANTED = PublicObject(KEY, "https://unused", b'{"keys":[]}', "application/jwk-set+json", "public, max-age=300")
OTHER = replace(WANTED, body=b"other")


@pytest.fixture
def bucket(store: Store) -> Iterator[S3Bucket]:
    made = S3Bucket(store.publish, puts=8)
    yield made
    made.close()


@pytest.fixture
def careful(store: Store) -> Iterator[S3Bucket]:
    """The same bucket, used as a store without conditional writes."""
    made = S3Bucket(replace(store.publish, conditional_writes=False), puts=8)
    yield made
    made.close()


def landed(bucket: S3Bucket, obj: PublicObject = WANTED, seen: ETag | None = None) -> ETag:
    outcome = bucket.put(obj, snapshot=SNAPSHOT, expected_etag=seen)
    assert isinstance(outcome, PutStored)
    return outcome.etag


def test_absent_object_is_created_whole(bucket: S3Bucket) -> None:
    """A put object has its bytes, both headers, the snapshot and a date in UTC."""
    etag = landed(bucket)
    stored, headers = bucket.get(KEY), bucket.head(KEY)
    assert stored is not None
    assert headers is not None
    assert (stored.body, stored.etag, stored.content_type) == (WANTED.body, etag, WANTED.content_type)
    assert (stored.cache_control, stored.snapshot) == (WANTED.cache_control, SNAPSHOT)
    assert stored.last_modified.tzinfo is UTC
    assert (headers.etag, headers.size_bytes, headers.snapshot) == (etag, len(WANTED.body), SNAPSHOT)
    assert (headers.content_type, headers.cache_control) == (WANTED.content_type, WANTED.cache_control)
    assert headers.last_modified == stored.last_modified


def test_absent_object_is_none(bucket: S3Bucket) -> None:
    """A missing object is a result, not an error."""
    assert bucket.get(KEY) is None
    assert bucket.head(KEY) is None
    assert bucket.list("") == {}


def test_seen_object_is_replaced(bucket: S3Bucket) -> None:
    """The put succeeds if the object is still the one that was read."""
    newer = landed(bucket, OTHER, seen=landed(bucket))
    stored = bucket.get(KEY)
    assert stored is not None
    assert (stored.body, stored.etag) == (b"other", newer)


@pytest.mark.parametrize("kind", ["bucket", "careful"])
def test_same_object_of_another_mirror_counts_as_landed(kind: str, request: pytest.FixtureRequest) -> None:
    """If two mirrors put the same object, the later one reports success."""
    bucket: S3Bucket = request.getfixturevalue(kind)
    first = landed(bucket)
    assert bucket.put(WANTED, snapshot=LATER, expected_etag=None) == PutStored(first)


@pytest.mark.parametrize("kind", ["bucket", "careful"])
@pytest.mark.parametrize("seen", [None, ETag("0" * 32)], ids=["seen-absent", "seen-another"])
def test_foreign_object_is_kept_and_reported(kind: str, seen: ETag | None, request: pytest.FixtureRequest) -> None:
    """An object that changed since the read is not overwritten, and the result has its content."""
    bucket: S3Bucket = request.getfixturevalue(kind)
    landed(bucket, OTHER)
    outcome = bucket.put(WANTED, snapshot=LATER, expected_etag=seen)
    assert isinstance(outcome, PutConflict)
    assert outcome.stored is not None
    assert outcome.stored.body == b"other"
    assert outcome.stored == bucket.get(KEY)


@pytest.mark.parametrize("kind", ["bucket", "careful"])
def test_vanished_object_is_reported_and_not_created_again(kind: str, request: pytest.FixtureRequest) -> None:
    """If the object was deleted since the read, it is not created again."""
    bucket: S3Bucket = request.getfixturevalue(kind)
    assert bucket.put(WANTED, snapshot=SNAPSHOT, expected_etag=ETag("0" * 32)) == PutConflict(None)
    assert bucket.get(KEY) is None


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(replace(WANTED, content_type="text/plain"), id="content-type"),
        pytest.param(replace(WANTED, cache_control="no-store"), id="cache-control"),
    ],
)
def test_same_bytes_under_other_headers_are_foreign(bucket: S3Bucket, there: PublicObject) -> None:
    """Equal bytes with other headers are not the same object, because relying parties read the headers too."""
    landed(bucket, there)
    assert isinstance(bucket.put(WANTED, snapshot=LATER, expected_etag=None), PutConflict)


def test_headers_are_repaired_over_the_same_bytes(bucket: S3Bucket) -> None:
    """A put of equal bytes on the condition of their ETag replaces the headers."""
    etag = landed(bucket, replace(WANTED, content_type="text/plain"))
    assert landed(bucket, WANTED, seen=etag) == etag
    headers = bucket.head(KEY)
    assert headers is not None
    assert headers.content_type == WANTED.content_type


def test_store_without_conditions_is_written_and_read_back(careful: S3Bucket) -> None:
    """With `conditional_writes: false`, creating and replacing work; the client compares before each put."""
    newer = landed(careful, OTHER, seen=landed(careful))
    stored = careful.get(KEY)
    assert stored is not None
    assert (stored.body, stored.etag) == (b"other", newer)


def test_long_listing_is_whole(store: Store, bucket: S3Bucket) -> None:
    """A listing of several pages is complete, and has only objects below the prefix."""
    keys = [ObjectKey(f"many/{number:04d}") for number in range(1001)]
    store.server.put(store.publish.bucket, dict.fromkeys(keys, WANTED.body))
    landed(bucket, replace(WANTED, key=ObjectKey("manyfold")))
    listed = bucket.list("many/")
    assert sorted(listed) == keys
    line, stored = listed[keys[0]], bucket.get(keys[0])
    assert stored is not None
    assert (line.key, line.size_bytes, line.last_modified.tzinfo) == (keys[0], len(WANTED.body), UTC)
    assert line.etag == stored.etag


def test_object_at_the_limit_is_read_and_a_larger_one_is_cut(bucket: S3Bucket) -> None:
    """At most the limit is read of a body. A longer body is not ours, and a repair overwrites it."""
    landed(bucket, replace(WANTED, body=b"x" * MAX_OBJECT_BYTES))
    large = replace(WANTED, key=ObjectKey("large"), body=b"x" * (MAX_OBJECT_BYTES + 70_000))
    etag = landed(bucket, large)
    assert bucket.get(KEY) is not None
    stored = bucket.get(large.key)
    assert stored is not None
    assert len(stored.body) == MAX_OBJECT_BYTES + 1
    assert isinstance(bucket.put(replace(WANTED, key=large.key), snapshot=LATER, expected_etag=etag), PutStored)


def test_foreign_object_too_large_to_read_is_foreign(bucket: S3Bucket) -> None:
    """An object that exists unexpectedly is reported, even if it is too large to read."""
    landed(bucket, replace(WANTED, body=b"x" * (MAX_OBJECT_BYTES + 1)))
    assert isinstance(bucket.put(WANTED, snapshot=LATER, expected_etag=None), PutConflict)


def test_racing_writers_have_one_winner(bucket: S3Bucket) -> None:
    """If two writers read the same state, exactly one put succeeds, and the object has its bytes."""
    bodies = (b"first", b"second")
    for number in range(20):
        key = ObjectKey(f"race/{number}")
        racers = [replace(WANTED, key=key, body=body) for body in bodies]
        with ThreadPoolExecutor(2) as pool:
            outcomes = tuple(pool.map(lambda obj: bucket.put(obj, snapshot=SNAPSHOT, expected_etag=None), racers))
        winners = [obj.body for obj, outcome in zip(racers, outcomes, strict=True) if isinstance(outcome, PutStored)]
        stored = bucket.get(key)
        assert stored is not None
        assert winners == [stored.body]


def test_closed_bucket_opens_again(bucket: S3Bucket) -> None:
    """`close` releases the connections; the next request opens new ones."""
    bucket.close()
    bucket.close()
    assert bucket.get(KEY) is None


def test_bucket_and_owner_are_asked_for_as_configured(store: Store) -> None:
    """The expected owner is sent with every request, and a store that ignores it still works."""
    bucket = S3Bucket(replace(store.publish, expected_bucket_owner="123456789012"), puts=1)
    landed(bucket)
    assert bucket.get(KEY) is not None
    assert bucket.head(KEY) is not None
    assert len(bucket.list("")) == 1
    bucket.close()


def test_profile_gives_the_credentials(store: Store) -> None:
    """`publish.profile` is read from the AWS configuration files."""
    (store.home / "credentials").write_text("[mirror]\naws_access_key_id = k\naws_secret_access_key = s\n")
    bucket = S3Bucket(replace(store.publish, profile="mirror"), puts=1)
    landed(bucket)
    bucket.close()


def test_role_is_assumed_with_the_credentials_at_hand(store: Store) -> None:
    """With `publish.role_arn` every request has the credentials from STS."""
    server = store.server
    with aws_environment(server.certificates.ca_file, store.home, AWS_ENDPOINT_URL_STS=server.url):
        bucket = S3Bucket(replace(store.publish, role_arn="arn:aws:iam::000000000000:role/mirror"), puts=1)
        landed(bucket)
        bucket.close()
        other_account = S3Bucket(replace(store.publish, role_arn="arn:aws:iam::123456789012:role/mirror"), puts=1)
        with pytest.raises(BucketError) as caught:
            landed(other_account, OTHER)
        other_account.close()
    assert caught.value.code == "AccessDenied"


def test_endpoint_of_the_environment_holds(store: Store) -> None:
    """Without `endpoint_url` the endpoint that boto3 reads from the environment is used."""
    server = store.server
    (store.home / "config").write_text("[default]\ns3 =\n  addressing_style = path\n")
    with aws_environment(server.certificates.ca_file, store.home, AWS_ENDPOINT_URL_S3=server.url):
        bucket = S3Bucket(replace(store.publish, endpoint_url=None), puts=1)
        landed(bucket)
        bucket.close()


@pytest.mark.parametrize("role", [None, "arn:aws:iam::123456789012:role/mirror"], ids=["plain", "role"])
def test_missing_credentials_name_the_right(store: Store, role: str | None) -> None:
    """Without credentials the error says which permissions they need."""
    with aws_environment(store.server.certificates.ca_file, store.home, AWS_ACCESS_KEY_ID=""):
        bucket = S3Bucket(replace(store.publish, role_arn=role), puts=1)
        with pytest.raises(BucketError) as caught:
            bucket.put(WANTED, snapshot=SNAPSHOT, expected_etag=None)
    assert caught.value.code in {"NoCredentials", "PartialCredentials"}
    assert "s3:PutObject" in caught.value.remedy


def test_unknown_profile_is_named(store: Store) -> None:
    """An unknown profile is reported by name, and a later timeout is not taken for a search for credentials."""
    bucket = S3Bucket(replace(store.publish, profile="nobody"), puts=1)
    with pytest.raises(BucketError) as caught:
        bucket.list("")
    assert caught.value.code == "ProfileNotFound"
    assert "nobody" in caught.value.remedy
    assert not bucket._clients.is_looking


def test_missing_bucket_is_named(store: Store) -> None:
    """A missing bucket is reported in every operation that can detect it."""
    bucket = S3Bucket(replace(store.publish, bucket="does-not-exist"), puts=1)
    for operation in (lambda: bucket.list(""), lambda: bucket.get(KEY), lambda: landed(bucket)):
        with pytest.raises(BucketError) as caught:
            operation()
        assert caught.value.code == "NoSuchBucket"
        assert "does-not-exist" in caught.value.sentence
    bucket.close()


def hanging_profile(store: Store) -> None:
    """A profile whose `credential_process` never ends."""
    (store.home / "config").write_text("[profile hung]\ncredential_process = sleep 1000\n")


def test_hanging_credential_process_ends_with_the_deadline(store: Store) -> None:
    """Obtaining credentials counts towards the deadline, the error says so, and the bucket can still be closed."""
    hanging_profile(store)
    bucket = S3Bucket(replace(store.publish, profile="hung"), puts=1, request_seconds=0.5)
    for ask in (lambda: bucket.list(""), lambda: bucket.get(KEY)):
        with pytest.raises(BucketError) as caught:
            ask()
        assert caught.value.code == "CredentialRetrieval"
        assert caught.value.cause == "looking for credentials took more than 0.5 s"
        assert "hung" in caught.value.remedy
    bucket.close()


def test_hanging_credential_process_is_killed(store: Store) -> None:
    """The process is killed, so that none accumulate over the passes; the error names the program."""
    program, pid = store.home / "give-credentials", store.home / "pid"
    program.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! >{pid}\nwait\n")
    program.chmod(0o755)
    (store.home / "config").write_text(f"[profile hung]\ncredential_process = {program}\n")
    bucket = S3Bucket(replace(store.publish, profile="hung"), puts=1, request_seconds=60)
    with pytest.raises(BucketError, match="give-credentials did not end within 10 s"):
        bucket.list("")
    bucket.close()
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def sent_headers(bucket: S3Bucket) -> list[str]:
    """The names of the headers of a put and a get."""
    names: list[str] = []
    for client in (bucket._clients.reads, bucket._clients.writes):
        client.meta.events.register("before-send.s3", lambda request, **_: names.extend(map(str, request.headers)))
    landed(bucket)
    assert bucket.get(KEY) is not None
    return names


def test_put_waits_for_no_answer_before_its_body(bucket: S3Bucket) -> None:
    """Our objects have a few kilobytes: with `Expect: 100-continue`, a put would take twice the round trips."""
    sent = sent_headers(bucket)
    assert "x-amz-checksum-sha256" in sent
    assert "Expect" not in sent


def test_checksums_can_be_left_out(store: Store) -> None:
    """Some stores reject checksum headers: with the setting, no request sends one."""
    sent = put_request(replace(store.publish, checksums=False), WANTED, SNAPSHOT)
    assert "ChecksumSHA256" not in sent
    assert "ChecksumSHA256" in put_request(store.publish, WANTED, SNAPSHOT)
    bucket = S3Bucket(replace(store.publish, checksums=False), puts=1)
    headers = sent_headers(bucket)
    bucket.close()
    assert headers
    assert not [name for name in headers if "checksum" in name.lower()]


ROLE = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mirror", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


@pytest.mark.parametrize(
    ("environ", "cause"),
    [
        pytest.param(
            {**ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token"},
            "the file /nonexistent/token (AWS_WEB_IDENTITY_TOKEN_FILE) cannot be read: No such file",
            id="no-web-identity-token",
        ),
        pytest.param(
            {**ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/dev/null"},
            "the file /dev/null (AWS_WEB_IDENTITY_TOKEN_FILE) is empty",
            id="empty-web-identity-token",
        ),
        pytest.param(
            {
                **ROLE,
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/v1/credentials",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nonexistent/pod",
            },
            "the file /nonexistent/pod (AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE) cannot be read",
            id="no-pod-identity-token",
        ),
        pytest.param(
            {**ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": __file__, "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9"},
            "the service that gives the credentials, http://127.0.0.1:9/, cannot be reached",
            id="no-sts",
        ),
        pytest.param({"AWS_PROFILE": ""}, "the environment variable AWS_PROFILE is set and empty", id="empty-profile"),
    ],
)
def test_credentials_that_cannot_be_had_name_their_cause(
    store: Store, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], cause: str
) -> None:
    """The error blames the source of the credentials, not the bucket's endpoint or a broken connection."""
    for name, value in {**environ, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    bucket = S3Bucket(store.publish, puts=1)
    with pytest.raises(BucketError) as caught:
        bucket.list("")
    bucket.close()
    assert cause in caught.value.cause
    assert "closed the connection" not in caught.value.remedy
