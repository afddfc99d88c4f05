"""The bucket and the public view against radosgw: real signatures, real policies, real conditional writes."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from botocore.session import Session

from mirror.config.settings import Publish
from mirror.errors import BucketError
from mirror.model import CommitId, ETag, ObjectKey, PublicObject
from mirror.ports import Foreign, Landed, NotSeen, Seen
from mirror.publish.bucket import S3Bucket
from mirror.publish.readback import PublicWeb, judge
from support.radosgw import Radosgw
from support.s3 import ACCESS_KEY, aws_environment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.radosgw

SNAPSHOT = CommitId("a" * 40)
KEY = ObjectKey("id/openid/v1/jwks")


@dataclass(frozen=True, slots=True)
class World:
    """A fresh bucket of the gateway, its owner's client, and one object that belongs there."""

    gateway: Radosgw
    publish: Publish
    owner: "S3Client"
    bucket: S3Bucket
    home: Path

    @property
    def wanted(self) -> PublicObject:
        url = f"{self.publish.base_url}/{KEY}"
        return PublicObject(KEY, url, b'{"keys":[]}', "application/jwk-set+json", "public, max-age=300")

    def make_public(self) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{self.publish.bucket}/{KEY}",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.owner.put_bucket_policy(Bucket=self.publish.bucket, Policy=policy)


@pytest.fixture
def world(radosgw: Radosgw, radosgw_environment: Path) -> Iterator[World]:
    publish = radosgw.publish(f"oidc-{uuid.uuid4().hex[:12]}")
    owner = cast("S3Client", Session().create_client("s3", region_name="us-east-1", endpoint_url=radosgw.url))
    owner.create_bucket(Bucket=publish.bucket)
    bucket = S3Bucket(publish, puts=4)
    yield World(radosgw, publish, owner, bucket, radosgw_environment)
    bucket.close()
    owner.close()


@pytest.fixture
def web() -> Iterator[PublicWeb]:
    with PublicWeb() as view:
        yield view


def landed(world: World, obj: PublicObject | None = None, seen: ETag | None = None) -> ETag:
    outcome = world.bucket.put(obj or world.wanted, snapshot=SNAPSHOT, seen=seen)
    assert isinstance(outcome, Landed)
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
def test_object_of_somebody_else_is_not_overwritten(world: World, seen: ETag | None) -> None:
    """A condition that does not hold leaves the object, and the outcome carries it."""
    landed(world, replace(world.wanted, body=b"theirs"))
    outcome = world.bucket.put(world.wanted, snapshot=SNAPSHOT, seen=seen)
    assert isinstance(outcome, Foreign)
    assert outcome.stored is not None
    assert outcome.stored.body == b"theirs"


def test_vanished_object_is_not_created(world: World) -> None:
    """radosgw answers 412 where AWS answers 404: both are "it is gone"."""
    assert world.bucket.put(world.wanted, snapshot=SNAPSHOT, seen=ETag("0" * 32)) == Foreign(None)
    assert world.bucket.get(KEY) is None
    assert world.bucket.head(KEY) is None


@pytest.mark.parametrize("replacing", [False, True], ids=["create", "replace"])
def test_two_writers_race_and_one_wins(world: World, replacing: bool) -> None:
    """In 50 races of two writers that saw the same exactly one lands, and its bytes stand there."""
    for number in range(50):
        base = replace(world.wanted, key=ObjectKey(f"race/{number}"))
        seen = landed(world, replace(base, body=b"before")) if replacing else None
        racers = [replace(base, body=body) for body in (b"first", b"second")]
        with ThreadPoolExecutor(2) as pool:
            outcomes = tuple(
                pool.map(lambda obj, seen=seen: world.bucket.put(obj, snapshot=SNAPSHOT, seen=seen), racers)
            )
        winners = [obj.body for obj, outcome in zip(racers, outcomes, strict=True) if isinstance(outcome, Landed)]
        stored = world.bucket.get(base.key)
        assert stored is not None
        assert winners == [stored.body]


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
            lambda: bucket.put(world.wanted, snapshot=SNAPSHOT, seen=None),
        )
        for operation in operations:
            with pytest.raises(BucketError) as caught:
                operation()
            assert caught.value.code == code
            assert not [value for value in (*credentials.values(), ACCESS_KEY) if f" {value} " in str(caught.value)]
        bucket.close()


def test_object_without_policy_is_seen_as_forbidden(world: World, web: PublicWeb) -> None:
    """Without a bucket policy the world gets 403, and the remedy names the policy."""
    landed(world)
    look = web.look(world.wanted.url, readback=world.publish.readback)
    assert isinstance(look, NotSeen)
    assert (look.reason.code, "bucket policy" in look.reason.remedy) == ("forbidden", True)


def test_object_with_policy_is_seen_as_meant(world: World, web: PublicWeb) -> None:
    """With a policy for exactly this key the world sees bytes, content type and cache header as meant."""
    landed(world)
    world.make_public()
    look = web.look(world.wanted.url, readback=world.publish.readback)
    assert isinstance(look, Seen)
    assert judge(look, world.wanted) == ()
    assert look.last_modified is not None


def test_other_keys_stay_private_under_the_policy(world: World, web: PublicWeb) -> None:
    """The policy opens one key, not the bucket."""
    other = replace(world.wanted, key=ObjectKey("private"), url=f"{world.publish.base_url}/private")
    landed(world, other)
    world.make_public()
    look = web.look(other.url, readback=world.publish.readback)
    assert isinstance(look, NotSeen)
    assert look.reason.code == "forbidden"
