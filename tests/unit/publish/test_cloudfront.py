"""CloudFront invalidations: what is sent, and each failure as a reason, within the time limit."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mirror.config.settings import PublishSettings
from mirror.publish.cloudfront import CloudFront
from support.apiserver import Apiserver, always, never_answer, raw_answer
from support.aws_sessions import new_session
from support.aws_stub import running_moto
from support.s3 import aws_environment
from support.tls import ca_file, server_context

if TYPE_CHECKING:
    from mypy_boto3_cloudfront import CloudFrontClient
    from mypy_boto3_cloudfront.type_defs import DistributionConfigTypeDef

pytestmark = pytest.mark.server

PUBLISH = PublishSettings(
    "bucket",
    "ap-southeast-2",
    "https://oidc.example.com",
    endpoint_url="https://localhost:1",
    cloudfront_distribution="E2QWRUHAPOMQZL",
)
PATHS = ("/a/openid/v1/jwks", "/b/openid/v1/jwks")
DISTRIBUTION: "DistributionConfigTypeDef" = {
    "CallerReference": "test",
    "Comment": "",
    "Enabled": True,
    "Origins": {"Quantity": 1, "Items": [{"Id": "s3", "DomainName": "bucket.s3.ap-southeast-2.amazonaws.com"}]},
    "DefaultCacheBehavior": {"TargetOriginId": "s3", "ViewerProtocolPolicy": "https-only"},
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution of the stub, and a client with the operator's credentials."""

    publish: PublishSettings
    operator: "CloudFrontClient"

    def invalidated(self) -> list[tuple[str, list[str]]]:
        """The caller reference and the paths of every invalidation."""
        key = self.publish.cloudfront_distribution or ""
        found = self.operator.list_invalidations(DistributionId=key)["InvalidationList"].get("Items", [])
        batches = [
            self.operator.get_invalidation(DistributionId=key, Id=each["Id"])["Invalidation"]["InvalidationBatch"]
            for each in found
        ]
        return [(batch["CallerReference"], batch["Paths"].get("Items", [])) for batch in batches]


@pytest.fixture
def cdn() -> Iterator[CloudFront]:
    made = CloudFront()
    yield made
    made.close()


@pytest.fixture
def distribution(tmp_path: Path) -> Iterator[Distribution]:
    with running_moto() as url, aws_environment(tmp_path / "none", tmp_path, AWS_ENDPOINT_URL_CLOUDFRONT=url):
        operator = new_session().client("cloudfront", region_name="us-east-1")
        # A unique caller reference, because the stub keeps its distributions until the process ends.
        config: DistributionConfigTypeDef = {**DISTRIBUTION, "CallerReference": str(tmp_path)}
        made = operator.create_distribution(DistributionConfig=config)["Distribution"]["Id"]
        yield Distribution(replace(PUBLISH, cloudfront_distribution=made), operator)
        operator.close()


def test_paths_are_invalidated(cdn: CloudFront, distribution: Distribution) -> None:
    """The distribution gets exactly these paths, at CloudFront's own endpoint even if S3 has another one."""
    assert cdn.invalidate(distribution.publish, PATHS, reference="r1") is None
    assert distribution.invalidated() == [("r1", list(PATHS))]


def test_unknown_distribution_is_a_reason(cdn: CloudFront, distribution: Distribution) -> None:
    """An unknown distribution id is reported with a remedy; the documents are already in the bucket."""
    reason = cdn.invalidate(replace(distribution.publish, cloudfront_distribution="E0"), PATHS, reference="r1")
    assert reason is not None
    assert reason.code == "cdn.NoSuchDistribution"
    assert "publish.cloudfront_distribution" in reason.remedy
    assert "max-age (300 s)" in reason.remedy


def test_unknown_profile_is_a_reason(cdn: CloudFront, distribution: Distribution) -> None:
    """An error in the AWS configuration files is a reason, not an exception."""
    reason = cdn.invalidate(replace(distribution.publish, profile="nobody"), PATHS, reference="r1")
    assert reason is not None
    assert (reason.code, "publish.profile" in reason.remedy) == ("cdn.ProfileNotFound", True)


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Apiserver]:
    """A TLS server in place of CloudFront, with configurable failures."""
    authority = ca_file(tmp_path, "cloudfront")
    with Apiserver(server_context("localhost", by="cloudfront")) as host:
        url = f"https://localhost:{host.port}"
        with aws_environment(authority, tmp_path, AWS_ENDPOINT_URL_CLOUDFRONT=url):
            yield host


DENIED = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no, AKIA</Message></Error></ErrorResponse>"
BUSY = DENIED.replace(b"AccessDenied", b"TooManyInvalidationsInProgress")


@pytest.mark.parametrize(
    ("answer", "code", "word"),
    [
        pytest.param(
            raw_answer("403 Forbidden", DENIED), "cdn.AccessDenied", "cloudfront:CreateInvalidation", id="denied"
        ),
        pytest.param(raw_answer("400 Bad", BUSY), "cdn.TooManyInvalidationsInProgress", "3000", id="busy"),
        pytest.param(raw_answer("503 Unavailable"), "cdn.SlowDown", "max-age", id="unavailable"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "cdn.ConnectionClosed", "max-age", id="no-http"),
    ],
)
def test_failing_cloudfront_is_a_reason(
    cdn: CloudFront, broken: Apiserver, answer: bytes, code: str, word: str
) -> None:
    """Any answer of CloudFront gives a result with a remedy."""
    broken.respond_with(always(answer))
    reason = cdn.invalidate(PUBLISH, PATHS, reference="r1")
    assert reason is not None
    assert (reason.code, word in reason.remedy) == (code, True)


def test_hanging_cloudfront_is_a_reason_in_time(broken: Apiserver) -> None:
    """The pass waits for an invalidation no longer than the limit."""
    broken.respond_with(never_answer)
    cdn = CloudFront(request_seconds=0.3)
    began = time.monotonic()
    reason = cdn.invalidate(PUBLISH, PATHS, reference="r1")
    cdn.close()
    assert reason is not None
    assert reason.code == "cdn.ReadTimeout"
    assert time.monotonic() - began < 3


def test_interrupt_ends_the_asking(broken: Apiserver) -> None:
    """`cancel` ends a call that hangs."""
    broken.respond_with(never_answer)
    cdn = CloudFront()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(cdn.invalidate, PUBLISH, PATHS, reference="r1")
        deadline = time.monotonic() + 5
        while not broken.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        cdn.cancel()
        reason = running.result()
    cdn.close()
    assert reason is not None
    assert reason.code == "cdn.Cancelled"
