"""The checks of rights and public access against radosgw, which enforces signatures and policies."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from botocore.config import Config
from botocore.session import Session

from mirror.aws.iam_policy import writer_policy
from mirror.check.bucket import bucket as check_bucket
from mirror.check.bucket import listing, objects
from mirror.check.clients import AwsClient
from mirror.check.result import CheckResult
from mirror.config.settings import PublishSettings
from mirror.model import IssuerName, ObjectKey
from mirror.publish.s3 import S3Bucket
from support.check_clients import worst
from support.radosgw import Radosgw
from support.s3 import aws_environment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.radosgw

KEYS = (ObjectKey("id/.well-known/openid-configuration"), ObjectKey("id/openid/v1/jwks"))
UNKNOWN = [("note", "rights.get_unknown"), ("note", "rights.put_unknown")]
"""What is said of an object that is not there yet."""


@dataclass(frozen=True, slots=True)
class World:
    """A bucket with one of our two objects, its owner's client, and the environment's home."""

    gateway: Radosgw
    publish: PublishSettings
    owner: "S3Client"
    home: Path

    def allow(self, user: str, *actions: str) -> None:
        """Give another user rights on the bucket and on everything in it, and nobody else any."""
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam:::user/{user}"},
            "Action": list(actions),
            "Resource": [f"arn:aws:s3:::{self.publish.bucket}", f"arn:aws:s3:::{self.publish.bucket}/*"],
        }
        self.owner.put_bucket_policy(
            Bucket=self.publish.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        )

    def state(self) -> list[tuple[object, ...]]:
        found = self.owner.list_objects_v2(Bucket=self.publish.bucket).get("Contents", [])
        return [(each["Key"], each["ETag"], each["LastModified"]) for each in found]


@pytest.fixture
def world(radosgw: Radosgw, radosgw_environment: Path) -> Iterator[World]:
    publish = radosgw.publish(f"oidc-{uuid.uuid4().hex[:12]}")
    plain = Config(request_checksum_calculation="when_required")  # radosgw refuses trailing checksums over TLS
    client = Session().create_client("s3", region_name="us-east-1", endpoint_url=radosgw.url, config=plain)
    owner = cast("S3Client", client)
    owner.create_bucket(Bucket=publish.bucket)
    owner.put_object(Bucket=publish.bucket, Key=KEYS[1], Body=b"{}")
    yield World(radosgw, publish, owner, radosgw_environment)
    owner.close()


def rights(world: World) -> list[CheckResult]:
    aws, bucket = AwsClient(), S3Bucket(world.publish, puts=1)
    try:
        found = list(listing(world.publish, aws, KEYS))
        return found + list(objects(IssuerName("syd-prod"), world.publish, KEYS, lambda _: bucket, aws))
    finally:
        aws.close()
        bucket.close()


def test_owner_has_every_right_and_asking_writes_nothing(world: World) -> None:
    """The object that is there keeps ETag and date, the other one stays absent."""
    before = world.state()
    assert worst(rights(world)) == UNKNOWN  # of the one that is not there yet
    assert world.state() == before


@pytest.mark.parametrize(
    ("actions", "missing"),
    [
        (("s3:ListBucket", "s3:GetObject", "s3:PutObject"), {"rights.get_unknown", "rights.put_unknown"}),
        (("s3:ListBucket", "s3:GetObject"), {"rights.get_unknown", "rights.put", "rights.put_unknown"}),
        (
            ("s3:GetObject", "s3:PutObject"),
            {"rights.list", "rights.get", "rights.put_unknown"},
        ),  # one of the two is absent
        ((), {"rights.list", "rights.get", "rights.put_unknown"}),  # whether it is there cannot be read either
    ],
    ids=["writer", "reader", "no-list", "nothing"],
)
def test_missing_right_of_another_user_is_named(world: World, actions: tuple[str, ...], missing: set[str]) -> None:
    """What the writer policy lacks; without ListBucket an absent object answers 403, and that is reported too."""
    user, secret = world.gateway.new_user()
    if actions:
        world.allow(user, *actions)
    before = world.state()
    ca_file = world.gateway.certificates.ca_file
    with aws_environment(ca_file, world.home, AWS_ACCESS_KEY_ID=user, AWS_SECRET_ACCESS_KEY=secret):
        found = rights(world)
    assert {code for _, code in worst(found)} == missing
    assert secret not in repr(found)
    assert world.state() == before


def test_rendered_writer_policy_is_enough(world: World) -> None:
    """A user with exactly the rights that `render writer-policy` prints lacks none, and no look of its own fails."""
    user, secret = world.gateway.new_user()
    policy = writer_policy(world.publish.bucket, KEYS, "aws")
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": f"arn:aws:iam:::user/{user}"}
    world.owner.put_bucket_policy(Bucket=world.publish.bucket, Policy=json.dumps(policy))
    before, aws = world.state(), AwsClient()
    ca_file = world.gateway.certificates.ca_file
    with aws_environment(ca_file, world.home, AWS_ACCESS_KEY_ID=user, AWS_SECRET_ACCESS_KEY=secret):
        assert worst(rights(world)) == UNKNOWN  # of the one that is not there yet
        assert "failed" not in {level for level, _ in worst(check_bucket(world.publish, aws, KEYS))}
        bucket = S3Bucket(world.publish, puts=1)
        assert bucket.get(KEYS[0]) is None  # the store itself says 403 here
        assert bucket.head(KEYS[0]) is None
        bucket.close()
    aws.close()
    assert world.state() == before


def test_bucket_without_public_policy_is_reported(world: World) -> None:
    """Nobody may read: the store says that there is no policy, then that it makes nothing public."""
    aws = AwsClient()
    assert ("warning", "policy.none") in worst(check_bucket(world.publish, aws, KEYS))
    world.allow(world.gateway.new_user()[0], "s3:GetObject")
    assert ("failed", "policy.narrow") in worst(check_bucket(world.publish, aws, KEYS))
    aws.close()
