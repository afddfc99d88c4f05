"""The bucket and the public view against radosgw: real signatures, real policies, real conditional writes."""

import json
import ssl
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from botocore.session import Session

from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.model import CommitId, ETag, ObjectKey, PublicObject
from mirror.ports import PublicFailure, PublicResponse, PutConflict, PutStored
from mirror.publish.public_endpoint import PublicHttpClient, compare
from mirror.publish.publisher import CacheContext, read_back
from mirror.publish.s3 import S3Bucket
from support.radosgw import Radosgw
from support.s3 import ACCESS_KEY, aws_environment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.radosgw

SNAPSHOT = CommitId("a" * 40)
KEY = ObjectKey("id/openid/v1/jwks")
NEVER_COMMITTED = CacheContext(datetime(2026, 11, 23, tzinfo=UTC), lambda _: False, lambda _: None)


@dataclass(frozen=True, slots=True)
class World:
    """A fresh bucket of the gateway, its owner's client, and one object that belongs there."""

    gateway: Radosgw
    publish: PublishSettings
    owner: "S3Client"
    bucket: S3Bucket
    home: Path

    @property
    def wanted(self) -> PublicObject:
        url = f"{self.publish.base_url}/{KEY}"
        return PublicObject(KEY, url, b'{"keys":[]}', "application/jwk-set+json", "public, max-age=300")

    def make_public(self, key: ObjectKey = KEY) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{self.publish.bucket}/{key}",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.owner.put_bucket_policy(Bucket=self.publish.bucket, Policy=policy)

    def anonymous(self, method: str, path: str, body: bytes | None = None) -> int:
        """Send an anonymous request to the bucket's public host and return the status."""
        host = self.publish.base_url.removeprefix("https://")
        context = ssl.create_default_context(cafile=str(self.gateway.certificates.ca_file))
        with closing(HTTPSConnection("127.0.0.1", self.gateway.tls_port, context=context, timeout=10)) as connection:
            connection.request(method, path, body=body, headers={"Host": host})
            return connection.getresponse().status


@pytest.fixture
def world(radosgw: Radosgw, radosgw_environment: Path) -> Iterator[World]:
    publish = radosgw.publish(f"oidc-{uuid.uuid4().hex[:12]}")
    owner = cast("S3Client", Session().create_client("s3", region_name="us-east-1", endpoint_url=radosgw.url))
    owner.create_bucket(Bucket=publish.bucket)
    bucket = S3Bucket(publish, puts=4)
    yield World(radosgw, publish, owner, bucket, radosgw_environment)
    bucket.close()
    owner.close()


def landed(world: World, obj: PublicObject | None = None, seen: ETag | None = None) -> ETag:
    outcome = world.bucket.put(obj or world.wanted, snapshot=SNAPSHOT, expected_etag=seen)
    assert isinstance(outcome, PutStored)
    return outcome.etag


def test_object_is_created_replaced_and_read(world: World) -> None:
    """Create-only, then `IfMatch` on the ETag that was listed, through real signatures over TLS."""
    etag = landed(world)
    assert world.bucket.list("")[KEY].etag == etag
    newer = landed(world, replace(world.wanted, body=b"newer"), seen=etag)
    stored = world.bucket.get(KEY)
    assert stored is not None
    assert (stored.body, stored.etag, stored.snapshot) == (b"newer", newer, SNAPSHOT)
    headers = world.bucket.head(KEY)
    assert headers is not None
    assert (headers.content_type, headers.cache_control) == (world.wanted.content_type, world.wanted.cache_control)


@pytest.mark.parametrize("seen", [None, ETag("0" * 32)], ids=["create-only", "other-etag"])
def test_object_of_another_writer_is_not_overwritten(world: World, seen: ETag | None) -> None:
    """A condition that does not hold leaves the object, and the outcome carries it."""
    landed(world, replace(world.wanted, body=b"theirs"))
    outcome = world.bucket.put(world.wanted, snapshot=SNAPSHOT, expected_etag=seen)
    assert isinstance(outcome, PutConflict)
    assert outcome.stored is not None
    assert outcome.stored.body == b"theirs"


def test_vanished_object_is_not_created(world: World) -> None:
    """radosgw answers 412 where AWS answers 404: both are "it is gone"."""
    assert world.bucket.put(world.wanted, snapshot=SNAPSHOT, expected_etag=ETag("0" * 32)) == PutConflict(None)
    assert world.bucket.get(KEY) is None
    assert world.bucket.head(KEY) is None


RACES = 200


def state(writer: str, number: int, before: bytes) -> bytes:
    """What a writer makes of what it saw: the same and one line more, of a length of its own."""
    return before + f"{writer} {number} {'x' * (number % 97)}\n".encode()


def test_two_writers_race_for_one_object_and_none_of_their_states_is_lost(world: World) -> None:
    """In 200 races for one object each state that landed is part of every later one, whole, once and in order."""

    def race(writer: str) -> list[bytes]:
        lines: list[bytes] = []
        while len(lines) < RACES // 2:
            there = world.bucket.get(KEY)
            before, seen = (b"", None) if there is None else (there.body, there.etag)
            body = state(writer, len(lines), before)
            outcome = world.bucket.put(replace(world.wanted, body=body), snapshot=SNAPSHOT, expected_etag=seen)
            lines += [body[len(before) :]] if isinstance(outcome, PutStored) else []
        return lines

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(race, ("first", "second"))
    stored = world.bucket.get(KEY)
    assert stored is not None
    lines = stored.body.splitlines(keepends=True)
    assert [line for line in lines if line.startswith(b"first ")] == first
    assert [line for line in lines if line.startswith(b"second ")] == second
    assert len(lines) == RACES


def test_two_writers_that_saw_the_same_race_and_one_wins(world: World) -> None:
    """Of two simultaneous writers exactly one succeeds, and its bytes are stored; the other one gets a conflict."""
    seen: ETag | None = None
    with ThreadPoolExecutor(2) as pool:
        for number in range(25):
            racers = [replace(world.wanted, body=b"%s %d" % (name, number)) for name in (b"first", b"second")]
            outcomes = tuple(
                pool.map(lambda obj, seen=seen: world.bucket.put(obj, snapshot=SNAPSHOT, expected_etag=seen), racers)
            )
            stored = world.bucket.get(KEY)
            assert stored is not None
            won = [obj.body for obj, outcome in zip(racers, outcomes, strict=True) if isinstance(outcome, PutStored)]
            assert won == [stored.body]
            (lost,) = [outcome for outcome in outcomes if isinstance(outcome, PutConflict)]
            assert lost.stored is not None
            assert lost.stored.body == stored.body
            seen = stored.etag


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        pytest.param({"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch", id="wrong-secret"),
        pytest.param({"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId", id="unknown-key"),
    ],
)
def test_wrong_credentials_are_named(world: World, credentials: dict[str, str], code: str) -> None:
    """Real signature checks end as our error, in every operation, without the key or the secret."""
    with aws_environment(world.gateway.certificates.ca_file, world.home, **credentials):
        bucket = S3Bucket(world.publish, puts=1)
        operations = (
            lambda: bucket.list(""),
            lambda: bucket.get(KEY),
            lambda: bucket.put(world.wanted, snapshot=SNAPSHOT, expected_etag=None),
        )
        for operation in operations:
            with pytest.raises(BucketError) as caught:
                operation()
            assert caught.value.code == code
            assert not [value for value in (*credentials.values(), ACCESS_KEY) if f" {value} " in str(caught.value)]
        bucket.close()


def test_object_without_policy_is_seen_as_forbidden(world: World, web: PublicHttpClient) -> None:
    """Without a bucket policy anonymous requests get 403, and the remedy names the policy."""
    landed(world)
    look = web.get_document(world.wanted.url, readback=world.publish.readback)
    assert isinstance(look, PublicFailure)
    assert (look.reason.code, "bucket policy" in look.reason.remedy) == ("forbidden", True)


def test_object_with_policy_is_seen_as_meant(world: World, web: PublicHttpClient) -> None:
    """With a policy for exactly this key anonymous requests see bytes, content type and cache header as meant."""
    landed(world)
    world.make_public()
    look = web.get_document(world.wanted.url, readback=world.publish.readback)
    assert isinstance(look, PublicResponse)
    assert compare(look, world.wanted) == ()
    assert look.last_modified is not None


def test_other_keys_stay_private_under_the_policy(world: World, web: PublicHttpClient) -> None:
    """The policy opens one key, not the bucket."""
    other = replace(world.wanted, key=ObjectKey("private"), url=f"{world.publish.base_url}/private")
    landed(world, other)
    world.make_public()
    look = web.get_document(other.url, readback=world.publish.readback)
    assert isinstance(look, PublicFailure)
    assert look.reason.code == "forbidden"


def test_cause_of_a_forbidden_read_is_found_in_the_bucket(world: World, web: PublicHttpClient) -> None:
    """A public 403 is explained by what the owner sees: no object, no policy, a policy for another key."""

    def cause() -> str:
        looked = read_back(web, world.bucket, [world.wanted], world.publish, NEVER_COMMITTED)
        return " ".join(reason.code for reason in looked.failures)

    assert cause() == "readback.object_missing"
    landed(world)
    assert cause() == "readback.bucket_policy"
    world.make_public(ObjectKey("other"))
    assert cause() == "readback.bucket_policy"
    world.make_public()
    assert cause() == ""


def test_block_public_access_is_named_before_the_policy(world: World, web: PublicHttpClient) -> None:
    """A bucket that refuses public policies is reported: provisioning a policy alone would not help."""
    landed(world)
    world.owner.put_public_access_block(
        Bucket=world.publish.bucket, PublicAccessBlockConfiguration={"BlockPublicPolicy": True}
    )
    looked = read_back(web, world.bucket, [world.wanted], world.publish, NEVER_COMMITTED)
    (reason,) = looked.failures
    assert reason.code == "readback.block_public_access"
    assert "BlockPublicPolicy" in reason.remedy


@pytest.mark.parametrize("public", [False, True], ids=["without-policy", "with-policy"])
def test_anonymous_requests_can_only_read(world: World, public: bool) -> None:
    """Anonymous put, delete and list are refused, whether the objects are public or not."""
    landed(world)
    if public:
        world.make_public()
    answers = {
        "get": world.anonymous("GET", f"/{KEY}"),
        "put": world.anonymous("PUT", f"/{KEY}", b"tampered"),
        "put elsewhere": world.anonymous("PUT", "/new", b"tampered"),
        "delete": world.anonymous("DELETE", f"/{KEY}"),
        "list": world.anonymous("GET", "/?list-type=2"),
        "read the policy": world.anonymous("GET", "/?policy"),
    }
    assert answers == dict.fromkeys(answers, 403) | {"get": 200 if public else 403}
    assert set(world.bucket.list("")) == {KEY}
    stored = world.bucket.get(KEY)
    assert stored is not None
    assert stored.body == world.wanted.body
