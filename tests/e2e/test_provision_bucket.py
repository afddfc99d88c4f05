"""`provision bucket` on radosgw: real signatures, real policies; what anonymous requests may do before and after."""

import http.client
import json
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3.session
import pytest
from botocore.config import Config

from mirror.aws.iam_policy import PUBLIC_SID, AccessBlock, compact, document, partition_of, public_statement
from mirror.cli.main import main
from mirror.config.settings import PublishSettings
from mirror.federation.provision.aws_admin import S3Admin
from mirror.federation.provision.bucket import BucketState, DesiredBucket, ProvisionPlan, plan_bucket
from mirror.model import ObjectKey
from support.aws_sessions import new_session
from support.provisioning import codes_of, recorded
from support.radosgw import Radosgw

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.radosgw

DISCOVERY, JWKS = ObjectKey("id/.well-known/openid-configuration"), ObjectKey("id/openid/v1/jwks")
SECRET = ObjectKey("id/secret")
FOREIGN = {
    "Sid": "Theirs",
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:DeleteObject",
    "Resource": "arn:aws:s3:::bucket/*",
}


@dataclass(frozen=True, slots=True)
class GatewayBucket:
    """A bucket of the gateway that need not exist, as its owner and as anonymous requests see it."""

    server: Radosgw
    publish: PublishSettings
    owner: "S3Client"
    folder: Path

    def wanted(self) -> DesiredBucket:
        region = self.publish.region
        return DesiredBucket(
            self.publish.bucket, region, partition_of(region), (DISCOVERY, JWKS), (self.publish.base_url,)
        )

    def admin(self, session: boto3.session.Session | None = None) -> S3Admin:
        return S3Admin(self.publish, session or new_session(), pause=lambda _: None)

    def fill(self) -> None:
        for key in (DISCOVERY, JWKS, SECRET):
            self.owner.put_object(Bucket=self.publish.bucket, Key=key, Body=b"{}")

    def anonymous(self, method: str, key: str, body: bytes | None = None) -> int:
        """The status of an anonymous request to the bucket's public host."""
        host = self.publish.base_url.removeprefix("https://")
        context = ssl.create_default_context(cafile=str(self.server.certificates.ca_file))
        connection = http.client.HTTPSConnection("127.0.0.1", self.server.tls_port, context=context, timeout=10)
        try:
            connection.request(method, f"/{key}", body=body, headers={"Host": host})
            return connection.getresponse().status
        finally:
            connection.close()

    def statements(self) -> list[dict[str, Any]]:
        policy = json.loads(self.owner.get_bucket_policy(Bucket=self.publish.bucket)["Policy"])
        found: list[dict[str, Any]] = policy["Statement"]
        return found

    def command(self, *words: str) -> int:
        """Run `oidc-mirror provision bucket` as an operator would, for the one issuer of the bucket."""
        publish = {
            "bucket": self.publish.bucket,
            "region": self.publish.region,
            "endpoint_url": self.publish.endpoint_url,
            "base_url": self.publish.base_url,
        }
        issuer = {"name": "syd", "issuer": f"{self.publish.base_url}/id", "apiservers": ["https://10.0.0.11:6443"]}
        path = self.folder / "mirror.yaml"
        path.write_text(json.dumps({"state_dir": "state", "publish": publish, "issuers": [issuer]}))
        return main(["--config", str(path), "provision", "bucket", "syd", *words])


@pytest.fixture
def gateway(radosgw: Radosgw, radosgw_environment: Path) -> Iterator[GatewayBucket]:
    publish = radosgw.publish(f"oidc-{uuid.uuid4().hex[:12]}")
    config = Config(request_checksum_calculation="when_required")  # radosgw refuses trailing ones over TLS
    owner = new_session().client("s3", region_name="us-east-1", endpoint_url=radosgw.url, config=config)
    yield GatewayBucket(radosgw, publish, owner, radosgw_environment)
    owner.close()


def mend(gateway: GatewayBucket, session: boto3.session.Session | None = None) -> ProvisionPlan:
    admin = gateway.admin(session)
    seen = admin.look()
    plan = plan_bucket(seen, gateway.wanted())
    admin.apply(plan.differences, seen, lambda _: None)
    return plan


def test_documents_of_another_configuration_stay_readable(gateway: GatewayBucket) -> None:
    """The command as `check` prints it: two configurations in one bucket, and anonymous requests read both."""
    assert gateway.command("--yes") == 0
    gateway.fill()
    theirs = (ObjectKey("other/.well-known/openid-configuration"), ObjectKey("other/openid/v1/jwks"))
    statement = public_statement(gateway.publish.bucket, (DISCOVERY, JWKS, *theirs), "aws")
    gateway.owner.put_bucket_policy(Bucket=gateway.publish.bucket, Policy=compact(document(statement)))
    for key in theirs:
        gateway.owner.put_object(Bucket=gateway.publish.bucket, Key=key, Body=b"{}")
    assert gateway.command("--yes") == 0
    assert [gateway.anonymous("GET", key) for key in (JWKS, *theirs)] == [200, 200, 200]
    assert gateway.command("--yes", "--remove-unlisted") == 0
    assert [gateway.anonymous("GET", key) for key in (JWKS, *theirs)] == [200, 403, 403]


def codes(plan: ProvisionPlan) -> list[str]:
    return [each.code for each in plan.differences]


def test_bucket_without_policy_is_mended_for_exactly_the_documents(
    gateway: GatewayBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, anonymous requests read nothing; after, both documents, but no other object, and they change nothing."""
    gateway.owner.create_bucket(Bucket=gateway.publish.bucket)
    gateway.fill()
    assert [gateway.anonymous("GET", key) for key in (DISCOVERY, JWKS)] == [403, 403]
    assert gateway.command() == 0
    assert "done bucket policy" in capsys.readouterr().out
    assert [gateway.anonymous("GET", key) for key in (DISCOVERY, JWKS)] == [200, 200]
    assert gateway.anonymous("GET", SECRET) == 403
    assert gateway.anonymous("GET", "") == 403
    assert gateway.anonymous("PUT", JWKS, b'{"keys":[]}') == 403
    assert gateway.anonymous("PUT", "id/new", b"x") == 403
    assert gateway.anonymous("DELETE", JWKS) == 403
    assert gateway.owner.get_object(Bucket=gateway.publish.bucket, Key=JWKS)["Body"].read() == b"{}"


def test_second_run_sends_no_write(gateway: GatewayBucket) -> None:
    """What stands is recognised whichever way the store writes it, so nothing is sent again."""
    assert codes_of(mend(gateway)) == ["create_bucket", "enable_versioning", "put_policy"]
    session = new_session()
    with recorded(session) as calls:
        assert mend(gateway, session).differences == ()
    assert calls.writes == []
    assert "s3.GetBucketPolicy" in calls.operations


def test_dry_run_prints_the_plan_and_changes_nothing(
    gateway: GatewayBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """The differences are printed, the exit status is 0, and the bucket still does not exist."""
    assert gateway.command("--dry-run") == 0
    out = capsys.readouterr().out
    assert "change bucket: does not exist" in out
    assert f"+ arn:aws:s3:::{gateway.publish.bucket}/{JWKS}" in out
    with pytest.raises(gateway.owner.exceptions.ClientError, match="404"):
        gateway.owner.head_bucket(Bucket=gateway.publish.bucket)


def test_whole_command_repeated_says_that_nothing_is_left(
    gateway: GatewayBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bucket is made whole, and the second call finds nothing to do."""
    assert gateway.command("--yes") == 0
    assert gateway.owner.get_bucket_versioning(Bucket=gateway.publish.bucket)["Status"] == "Enabled"
    capsys.readouterr()
    assert gateway.command("--yes") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_statement_of_others_is_kept_and_ours_corrected(gateway: GatewayBucket) -> None:
    """A statement that was widened under our Sid is narrowed again, and the other statements stay as they were."""
    bucket = gateway.publish.bucket
    foreign = {**FOREIGN, "Resource": f"arn:aws:s3:::{bucket}/*"}
    ours = {**FOREIGN, "Sid": PUBLIC_SID, "Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*"}
    gateway.owner.create_bucket(Bucket=bucket)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [ours, foreign]})
    gateway.owner.put_bucket_policy(Bucket=bucket, Policy=policy)
    gateway.fill()
    assert gateway.anonymous("GET", SECRET) == 200
    mend(gateway)
    assert [each["Sid"] for each in gateway.statements()] == ["Theirs", PUBLIC_SID]
    assert gateway.statements()[0] == foreign
    assert (gateway.anonymous("GET", SECRET), gateway.anonymous("GET", JWKS)) == (403, 200)


def test_policy_that_moved_meanwhile_is_not_overwritten(gateway: GatewayBucket) -> None:
    """A concurrent change of the policy between read and put is not lost."""
    mend(gateway)
    gateway.owner.delete_bucket_policy(Bucket=gateway.publish.bucket)
    admin = gateway.admin()
    seen = admin.look()
    plan = plan_bucket(seen, gateway.wanted())
    foreign = {**FOREIGN, "Resource": f"arn:aws:s3:::{gateway.publish.bucket}/*"}
    text = json.dumps({"Version": "2012-10-17", "Statement": [foreign]})
    gateway.owner.put_bucket_policy(Bucket=gateway.publish.bucket, Policy=text)
    with pytest.raises(Exception, match="Another writer changed") as caught:
        admin.apply(plan.differences, seen, lambda _: None)
    assert caught.value.code == "PolicyChanged"  # type: ignore[attr-defined]  # a BucketError
    assert [each["Sid"] for each in gateway.statements()] == ["Theirs"]


def test_block_that_forbids_policies_is_lifted(gateway: GatewayBucket) -> None:
    """Where the bucket refuses every policy that opens something, ours is in force in the end."""
    gateway.owner.create_bucket(Bucket=gateway.publish.bucket)
    everything = AccessBlock(block_policy=True, restrict_buckets=True).switches()
    gateway.owner.put_public_access_block(
        Bucket=gateway.publish.bucket,
        PublicAccessBlockConfiguration=everything,  # type: ignore[arg-type]  # a TypedDict by another name
    )
    mend(gateway)
    seen = gateway.admin().look()
    assert seen.block == AccessBlock()
    gateway.fill()
    assert gateway.anonymous("GET", JWKS) == 200


def test_bucket_of_another_account_is_reported(gateway: GatewayBucket) -> None:
    """The bucket belongs to another account: the plan reports it, and nothing is written."""
    gateway.owner.create_bucket(Bucket=gateway.publish.bucket)
    other_account = new_session(aws_access_key_id="other", aws_secret_access_key="other")
    with recorded(other_account) as calls:
        seen = gateway.admin(other_account).look()
        plan = plan_bucket(seen, gateway.wanted())
    assert [each.code for each in plan.problems] == ["foreign_bucket"]
    assert plan.differences == ()
    assert calls.writes == []


def test_plan_for_a_store_that_is_not_aws_has_notes_only(gateway: GatewayBucket) -> None:
    """What only AWS answers is missing, and that is no failure."""
    mend(gateway)
    seen = gateway.admin().look()
    assert replace(seen, unknown=(), policy=None) == BucketState(
        "ours", versioning="Enabled", block=AccessBlock(), is_aws=False
    )
    assert seen.unknown
