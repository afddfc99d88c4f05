"""AWS and the bucket through boto3: with ministack, and with canned responses for other faults."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import pytest
from botocore.session import Session

from mirror.aws.iam_policy import AccessBlock
from mirror.check import clients
from mirror.check.clients import AwsClient
from mirror.check.ports import Identity, Unavailable
from mirror.config.settings import PublishSettings
from mirror.model import ETag, ObjectKey, StoredObject
from mirror.publish.s3 import S3Bucket
from support.fakes import MOMENT
from support.fault_proxy import Fault, FaultProxy, answer, error_answer, running_fault_proxy
from support.s3 import REGION, S3Server, Store, aws_environment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.s3

KEY = ObjectKey("id/openid/v1/jwks")


@dataclass(frozen=True, slots=True)
class Asked:
    """The client under test, a fresh bucket, and its owner's client."""

    aws: AwsClient
    publish: PublishSettings
    owner: "S3Client"
    store: Store


@pytest.fixture(scope="module")
def owner(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator["S3Client"]:
    """The client of the bucket owner, made once."""
    with aws_environment(s3_server.certificates.ca_file, tmp_path_factory.mktemp("owner")):
        client = cast("S3Client", Session().create_client("s3", region_name="us-east-1", endpoint_url=s3_server.url))
        client.list_buckets()  # the first request resolves the credentials
    yield client
    client.close()


@pytest.fixture
def asked(store: Store, owner: "S3Client") -> Iterator[Asked]:
    aws = AwsClient()
    yield Asked(aws, store.publish, owner, store)
    aws.close()


@pytest.fixture
def proxy(store: Store) -> Iterator[FaultProxy]:
    with running_fault_proxy(store.server.certificates, store.server.port) as running:
        yield running


def through(proxy: FaultProxy, publish: PublishSettings) -> PublishSettings:
    return replace(publish, endpoint_url=proxy.url)


def test_fresh_bucket_says_what_it_has(asked: Asked) -> None:
    """A missing policy and a missing public access block are reported as empty, not as unreadable."""
    facts = asked.aws.bucket(asked.publish)
    assert (facts.region, facts.access_block, facts.policy, facts.versioning) == (REGION, None, "", "")
    assert (facts.ownership, facts.public_grants, facts.encryption) == ("BucketOwnerEnforced", (), "AES256")


def test_changed_bucket_says_so(asked: Asked) -> None:
    """The public access block, the policy and the versioning are reported as they were set."""
    bucket = asked.publish.bucket
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    asked.owner.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicPolicy": False, "RestrictPublicBuckets": True}
    )
    asked.owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    asked.owner.put_bucket_policy(Bucket=bucket, Policy=policy)
    facts = asked.aws.bucket(asked.publish)
    assert facts.access_block == AccessBlock(
        block_acls=False, ignore_acls=False, block_policy=False, restrict_buckets=True
    )
    assert (facts.policy, facts.versioning) == (policy, "Enabled")


def test_absent_bucket_is_missed(asked: Asked) -> None:
    """HEAD has no body, so the status decides."""
    gone = replace(asked.publish, bucket="no-such-bucket")
    region = asked.aws.bucket(gone).region
    assert isinstance(region, Unavailable)
    assert (region.code, "provision bucket" in region.remedy) == ("NoSuchBucket", True)


@pytest.mark.parametrize(
    ("reply", "region"),
    [
        pytest.param(answer(301, b"", "x-amz-bucket-region: eu-west-1\r\n"), "eu-west-1", id="redirect"),
        pytest.param(answer(400, b"", "x-amz-bucket-region: eu-west-1\r\n"), "eu-west-1", id="bad-request"),
        pytest.param(answer(403, b"", "x-amz-bucket-region: eu-west-1\r\n"), "eu-west-1", id="denied-elsewhere"),
        pytest.param(answer(403, b"", f"x-amz-bucket-region: {REGION}\r\n"), REGION, id="denied-here"),
        pytest.param(answer(403, b""), "AccessDenied", id="denied"),
        pytest.param(answer(200, b""), None, id="store-that-names-none"),
    ],
)
def test_region_comes_from_the_store(asked: Asked, proxy: FaultProxy, reply: bytes, region: str | None) -> None:
    """A redirect, a 403 and a success all carry the bucket's real region. A redirect is never followed."""
    proxy.faults.append(Fault("HEAD", answer=reply))
    found = asked.aws.bucket(through(proxy, asked.publish)).region
    assert (found.code if isinstance(found, Unavailable) else found) == region
    assert proxy.methods().count("HEAD") == 1


def test_denied_questions_are_missed_one_by_one(asked: Asked, proxy: FaultProxy) -> None:
    """A writer may lack the right to read the policy. The other questions are still sent."""
    publish = through(proxy, asked.publish)
    proxy.faults.append(Fault("GET", answer=error_answer(403, "AccessDenied")))
    facts = asked.aws.bucket(publish)
    assert isinstance(facts.access_block, Unavailable)
    assert facts.policy == ""


def test_write_right_is_found_without_writing(asked: Asked) -> None:
    """An existing object keeps its bytes, headers and date."""
    bucket = S3Bucket(asked.publish, puts=1)
    asked.owner.put_object(Bucket=asked.publish.bucket, Key=KEY, Body=b"{}", Metadata={"snapshot": "a" * 40})
    before = bucket.get(KEY)
    assert asked.aws.may_put(asked.publish, KEY, before) == "allowed"
    assert bucket.get(KEY) == before
    bucket.close()


def test_nothing_is_written_where_nothing_stands(asked: Asked, proxy: FaultProxy) -> None:
    """A store that ignores conditions would keep the object. No request is sent, and the permission is unproven."""
    assert asked.aws.may_put(through(proxy, asked.publish), KEY, None) == "unproven"
    assert proxy.requests == []


STANDING = StoredObject(b"{}", ETag("e"), "application/json", "", None, MOMENT)


@pytest.mark.parametrize(
    ("arn", "role"),
    [
        ("arn:aws:sts::111122223333:assumed-role/mirror/session", "arn:aws:iam::111122223333:role/mirror"),
        ("arn:aws:iam::111122223333:user/mirror", "arn:aws:iam::111122223333:user/mirror"),
    ],
)
def test_simulator_is_asked_about_the_role_of_a_session(arn: str, role: str) -> None:
    """IAM simulates users and roles, but not sessions."""
    assert clients.simulated_identity(arn) == role


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        pytest.param(error_answer(412, "PreconditionFailed"), "allowed", id="condition"),
        pytest.param(error_answer(404, "NoSuchKey"), "allowed", id="absent"),
        pytest.param(error_answer(400, "BadDigest"), "allowed", id="digest"),
        pytest.param(error_answer(409, "ConditionalRequestConflict"), "allowed", id="conflict"),
        pytest.param(answer(200, b"", 'ETag: "x"\r\n'), "wrote", id="ignores-both"),
        pytest.param(error_answer(403, "AccessDenied"), "AccessDenied", id="denied"),
        pytest.param(error_answer(404, "NoSuchBucket"), "NoSuchBucket", id="no-bucket"),
        pytest.param(error_answer(503, "SlowDown"), "SlowDown", id="busy"),
    ],
)
def test_answers_to_the_write_are_distinguished(asked: Asked, proxy: FaultProxy, reply: bytes, verdict: str) -> None:
    """Only responses that come after the store's access check prove the permission. Nothing is sent twice."""
    proxy.faults.append(Fault("PUT", answer=reply))
    found = asked.aws.may_put(through(proxy, asked.publish), KEY, STANDING)
    assert (found.code if isinstance(found, Unavailable) else found) == verdict
    assert proxy.methods() == ["PUT"]


def test_listing_is_one_request_of_one_key(asked: Asked, proxy: FaultProxy) -> None:
    """The cost is the same for a bucket with a million objects."""
    assert asked.aws.may_list(through(proxy, asked.publish), "id/") is None
    assert b"max-keys=1&" in proxy.requests[0]
    proxy.faults.append(Fault("GET", answer=error_answer(403, "AccessDenied")))
    missed = asked.aws.may_list(through(proxy, asked.publish), "id/")
    assert missed is not None
    assert missed.code == "AccessDenied"


def test_owner_is_compared_by_listing(asked: Asked, proxy: FaultProxy) -> None:
    """A 403 only with the expected owner means another account. A missing list permission proves nothing."""
    publish = through(proxy, asked.publish)
    assert asked.aws.belongs_to(asked.publish, "111122223333", "id/") is True
    proxy.faults.extend((Fault("GET", effect=True), Fault("GET", answer=error_answer(403, "AccessDenied"))))
    assert asked.aws.belongs_to(publish, "444455556666", "id/") is False
    assert [b"x-amz-expected-bucket-owner" in head.lower() for head in proxy.requests] == [False, True]
    proxy.faults.append(Fault("GET", answer=error_answer(403, "AccessDenied")))
    assert isinstance(asked.aws.belongs_to(publish, "444455556666", "id/"), Unavailable)


def test_configured_owner_goes_with_each_request(asked: Asked, proxy: FaultProxy) -> None:
    """A bucket that another account created again answers 403 (facts.md#38)."""
    publish = replace(through(proxy, asked.publish), expected_bucket_owner="111122223333")
    asked.aws.bucket(publish)
    asked.aws.may_list(publish, "id/")
    asked.aws.may_put(publish, KEY, STANDING)
    assert all(b"x-amz-expected-bucket-owner" in head.lower() for head in proxy.requests)


def test_identity_is_asked_once(asked: Asked) -> None:
    """ministack also answers for STS. The second question is answered from the cache."""
    with aws_environment(
        asked.store.server.certificates.ca_file, asked.store.home, AWS_ENDPOINT_URL_STS=asked.store.server.url
    ):
        found = asked.aws.identity(asked.publish)
    assert found == Identity("000000000000", "arn:aws:iam::000000000000:root")
    assert asked.aws.identity(asked.publish) is found
    assert asked.aws.credentials(asked.publish) == "env"


def test_account_that_is_not_reached_is_missed(asked: Asked) -> None:
    """The message names the service that was asked, not the store."""
    with aws_environment(
        asked.store.server.certificates.ca_file, asked.store.home, AWS_ENDPOINT_URL_S3_CONTROL="https://localhost:1"
    ):
        found = asked.aws.account_block(asked.publish, "000000000000")
    assert isinstance(found, Unavailable)
    assert "S3 Control of ap-southeast-2" in found.remedy


def test_missing_credentials_are_reported(asked: Asked) -> None:
    """Missing credentials and an unknown profile give different results."""
    ca_file, home = asked.store.server.certificates.ca_file, asked.store.home
    with aws_environment(ca_file, home, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""):
        assert asked.aws.credentials(asked.publish) is None
        missed = asked.aws.credentials(replace(asked.publish, profile="nobody"))
    assert isinstance(missed, Unavailable)
    assert missed.code == "ProfileNotFound"


@dataclass(frozen=True, slots=True)
class Canned:
    """A client that gives the same response to every call."""

    answer: object

    def __getattr__(self, operation: str) -> Callable[..., object]:
        return lambda **_: self.answer


@pytest.mark.parametrize(
    ("setting", "reported", "read"),
    [
        (clients.OWNERSHIP, {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}}, "ObjectWriter"),
        (clients.OWNERSHIP, {"OwnershipControls": {}}, ""),
        (clients.ENCRYPTION, {"ServerSideEncryptionConfiguration": {}}, ""),
        (
            clients.ENCRYPTION,
            {
                "ServerSideEncryptionConfiguration": {
                    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
                }
            },
            "aws:kms",
        ),
        (
            clients.GRANTS,
            {
                "Grants": [
                    {"Grantee": {"ID": "x"}, "Permission": "FULL_CONTROL"},
                    {"Grantee": {"URI": "http://acs.amazonaws.com/groups/global/AllUsers"}, "Permission": "READ"},
                ]
            },
            ("READ",),
        ),
    ],
)
def test_answers_are_read(setting: clients.BucketSetting[object], reported: object, read: object) -> None:
    """The responses have the format of AWS and radosgw."""
    assert setting.read(Canned(reported), {"Bucket": "b"}) == read
