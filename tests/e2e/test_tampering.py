"""Tampering with published objects on real stores: what each store can hold of it is repaired in one pass.

The light server and radosgw keep the headers; neither has a lifecycle to an archive. There `StorageClass` of a put
stands for it where the store takes it, and `tests/unit/reconcile/test_tampering.py` has it in any case.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from mirror.config.settings import PublishSettings, ReadbackSettings
from mirror.model import ObjectKey
from mirror.publish.s3 import MAX_OBJECT_BYTES, S3Bucket
from mirror.reconcile.controller import reconcile
from mirror.report import Effect, ExitStatus, Report
from support.s3 import S3Server, aws_environment
from support.situations import BASE_URL, JWKS_KEY, ONE, Situation

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.s3

KEY = ObjectKey(JWKS_KEY)


@dataclass
class Tampered:
    """A mirror with a real store, and a client of another tool that may write to it. Nobody reads in public here."""

    situation: Situation
    bucket: S3Bucket
    client: "S3Client"
    name: str

    def run(self) -> Report:
        """One pass, five minutes after the last one."""
        self.situation.show(ONE, ONE)
        self.situation.now += timedelta(minutes=5)
        ports = replace(self.situation.world.ports(), bucket=lambda _: self.bucket)
        return reconcile(self.situation.settings(), ports, self.situation.now)

    def put(self, **more: Any) -> None:
        """Write the JWKS again, with our bytes and headers but for `more`."""
        there = self.bucket.get(KEY)
        assert there is not None
        same = {"ContentType": there.content_type, "CacheControl": there.cache_control, "Body": there.body}
        metadata = {"Metadata": {"snapshot": there.snapshot or ""}}
        self.client.put_object(Bucket=self.name, Key=KEY, **{**same, **metadata, **more})


@pytest.fixture(params=["light", "radosgw"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the store is; the environment has its credentials and its CA."""
    if request.param == "radosgw":
        request.getfixturevalue("radosgw_environment")
        yield request.getfixturevalue("radosgw").url
        return
    server: S3Server = request.getfixturevalue("s3_server")
    with aws_environment(server.certificates.ca_file, tmp_path):
        yield server.url


@pytest.fixture
def tampered(store_url: str, tmp_path: Path) -> Iterator[Tampered]:
    config = Config(request_checksum_calculation="when_required")  # over HTTPS radosgw refuses trailing checksums
    client = cast("S3Client", Session().create_client("s3", "us-east-1", endpoint_url=store_url, config=config))
    name = f"tampered-{tmp_path.name.strip('_').replace('_', '-')[-40:]}".lower().strip("-")
    client.create_bucket(Bucket=name)
    situation = Situation(tmp_path)
    publish = PublishSettings(
        name, "us-east-1", BASE_URL, endpoint_url=store_url, readback=ReadbackSettings(enabled=False)
    )
    situation.world.publish = lambda **_: publish  # type: ignore[method-assign]  # a switch of the fake
    with closing(S3Bucket(publish, puts=2)) as bucket:
        yield Tampered(situation, bucket, client, name)
    client.close()


def names(report: Report) -> list[str]:
    return [event.name for event in report.issuers[0].events if event.name.startswith(("bucket.", "drift."))]


def be_repaired(tampered: Tampered, body: bytes) -> None:
    report = tampered.run()
    assert names(report) == ["bucket.drift", "drift.repaired"]
    assert report.exit_status is ExitStatus.CURRENT
    there = tampered.bucket.get(KEY)
    assert there is not None
    assert (there.body, there.content_type, there.altering) == (body, "application/jwk-set+json", ())
    again = tampered.run()
    assert (names(again), again.committed) == ([], False)
    assert {each.effect for each in again.issuers[0].objects} == {Effect.UNCHANGED}


ROWS: dict[str, dict[str, Any]] = {
    "body": {"Body": b'{"keys":[]}'},
    "size": {"Body": b"x" * (MAX_OBJECT_BYTES + 1)},
    "encoding": {"ContentEncoding": "gzip"},
    "disposition": {"ContentDisposition": "attachment"},
    "language": {"ContentLanguage": "de"},
    "expires": {"Expires": "Thu, 01 Jan 1970 00:00:00 GMT"},
    "redirect": {"WebsiteRedirectLocation": "https://other.example.com/"},
    "metadata": {"Metadata": {}},
    "content-type": {"ContentType": "text/html"},
    "class": {"StorageClass": "GLACIER"},
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS.keys())
def test_tampering_is_repaired_in_one_pass(tampered: Tampered, change: dict[str, Any]) -> None:
    """An event, the repair with exit status 0, and a next pass that does nothing."""
    tampered.run()
    before = tampered.bucket.get(KEY)
    assert before is not None
    try:
        tampered.put(**change)
    except ClientError as error:
        pytest.skip(f"This store does not take it: {error}")
    after = tampered.bucket.head(KEY)
    assert after is not None
    if replace(after, last_modified=before.last_modified) == replace(
        after,
        last_modified=before.last_modified,
        etag=before.etag,
        content_type=before.content_type,
        snapshot=before.snapshot,
        altering=(),
    ):
        pytest.skip("This store does not keep it.")
    be_repaired(tampered, before.body)


@pytest.mark.parametrize("versioned", [False, True])
def test_deleted_object_is_put_again(tampered: Tampered, versioned: bool) -> None:
    """With versions a delete marker stands in its place: the object is absent all the same."""
    if versioned:
        tampered.client.put_bucket_versioning(Bucket=tampered.name, VersioningConfiguration={"Status": "Enabled"})
    tampered.run()
    tampered.run()
    before = tampered.bucket.get(KEY)
    assert before is not None
    tampered.client.delete_object(Bucket=tampered.name, Key=KEY)
    be_repaired(tampered, before.body)
