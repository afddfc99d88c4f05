"""One pass of the whole program over several buckets, accounts and endpoints, and what else of AWS it speaks to."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.apiserver import Apiserver, raw_answer
from support.aws_sessions import new_session
from support.aws_stub import running_moto
from support.captures import FOLDER, capture
from support.s3 import REGION, S3Server, aws_environment, running_ministack
from support.situations import BASE_URL, DISCOVERY_KEY, ISSUER, JWKS_KEY
from support.tls import server_context
from support.worlds import World, request, running_world

pytestmark = pytest.mark.s3

OTHER_BUCKET = "other-bucket"
OTHER_ISSUER = f"https://{OTHER_BUCKET}.s3.{REGION}.amazonaws.com/b"
ONE = "01-rsa1/anonymous-bound-"
PROFILES = """
[one]
aws_access_key_id = KEYOFONE
aws_secret_access_key = secret
[two]
aws_access_key_id = KEYOFTWO
aws_secret_access_key = secret
"""


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path) -> Iterator[World]:
    with running_world(s3_server, tmp_path) as found:
        found.show(ONE, ONE)
        yield found


@pytest.fixture
def other(tmp_path: Path) -> Iterator[S3Server]:
    """A second store with a certificate and a port of its own."""
    folder = tmp_path / "other"
    folder.mkdir()
    with running_ministack(folder) as server:
        server.new_bucket(OTHER_BUCKET)
        yield server


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Apiserver]:
    """A second cluster, whose issuer is in the second store."""
    with Apiserver(server_context("127.0.0.1", "localhost")) as server:
        document = json.loads(capture(f"{ONE}discovery").body())
        body = json.dumps({**document, "issuer": OTHER_ISSUER}).encode()
        discovery = raw_answer("200 OK", body, content_type="application/json")
        server.serve(discovery=discovery, jwks=capture(f"{ONE}jwks").raw)
        yield server


def test_buckets_accounts_and_endpoints_are_written_in_one_pass(
    world: World, other: S3Server, cluster: Apiserver
) -> None:
    """Each issuer's own `publish` decides: its bucket gets its objects, at its endpoint, with its credentials."""
    bundle, credentials = world.folder / "bundle.crt", world.folder / "credentials"
    bundle.write_bytes(b"".join(each.certificates.ca_file.read_bytes() for each in (world.server, other)))
    credentials.write_text(PROFILES)
    world.further_environ = {"AWS_CA_BUNDLE": str(bundle), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    world.config["publish"]["profile"] = "one"
    world.config["issuers"].append(
        {
            "name": "other",
            "issuer": OTHER_ISSUER,
            "apiservers": [cluster.url],
            "tls": {"ca_file": "cluster-ca.crt"},
            "publish": {
                "bucket": OTHER_BUCKET,
                "endpoint_url": other.url,
                "base_url": OTHER_ISSUER.removesuffix("/b"),
                "profile": "two",
                "cache_control": "public, max-age=60",
                "jwks_content_type": "application/json",
                "readback": {
                    "ca_file": str(other.certificates.ca_file),
                    "connect_to": f"localhost:{other.port}",
                },
            },
        }
    )
    before = len(world.server.requests())
    done = world.mirror("--once", "--output", "json")
    assert done.status == 0, (done.out, done.err)
    assert world.public(JWKS_KEY).headers["cache-control"] == "public, max-age=300"
    with request(other, "GET", "/b/openid/v1/jwks", f"{OTHER_BUCKET}.s3.{REGION}.amazonaws.com") as answer:
        assert (answer.status, answer.read()) == (200, world.public(JWKS_KEY).body)
        headers = answer.headers
    assert (headers["content-type"], headers["cache-control"]) == ("application/json", "public, max-age=60")
    assert credentials_of(world.server.requests()[before:]) == {"KEYOFONE"}
    assert credentials_of(other.requests()) == {"KEYOFTWO"}
    again = len(other.requests())
    assert world.mirror("--once").status == 0
    assert [line.split()[0] for line in other.requests()[again:]] == ["GET"]


def credentials_of(requests: list[str]) -> set[str]:
    """The access keys that signed requests."""
    return {line.partition("Credential=")[2].partition("/")[0] for line in requests if "Credential=" in line}


def test_program_invalidates_what_changed_at_cloudfront(world: World) -> None:
    """With the environment's CloudFront endpoint: one invalidation of both paths, and none when nothing changed."""
    with running_moto() as url, aws_environment(world.folder / "none", world.folder, AWS_ENDPOINT_URL_CLOUDFRONT=url):
        operator = new_session().client("cloudfront", region_name="us-east-1")
        made = operator.create_distribution(
            DistributionConfig={
                "CallerReference": str(world.folder),
                "Comment": "",
                "Enabled": True,
                "Origins": {"Quantity": 1, "Items": [{"Id": "s3", "DomainName": urlsplit(BASE_URL).netloc}]},
                "DefaultCacheBehavior": {"TargetOriginId": "s3", "ViewerProtocolPolicy": "https-only"},
            }
        )["Distribution"]["Id"]
        world.further_environ = {"AWS_ENDPOINT_URL_CLOUDFRONT": url}
        world.config["publish"]["cloudfront_distribution"] = made
        for _ in range(2):
            done = world.mirror("--once")
            assert done.status == 0, (done.out, done.err)
        (listed,) = operator.list_invalidations(DistributionId=made)["InvalidationList"]["Items"]
        batch = operator.get_invalidation(DistributionId=made, Id=listed["Id"])["Invalidation"]["InvalidationBatch"]
        operator.close()
    assert sorted(batch["Paths"]["Items"]) == sorted([f"/{DISCOVERY_KEY}", f"/{JWKS_KEY}"])
    assert world.git("rev-parse", "main")[:16] in batch["CallerReference"]


def test_credentials_that_rest_on_an_own_issuer_are_warned_of(world: World) -> None:
    """A mirror whose role is assumed with a token of its own cluster works, and says what threatens it."""
    with running_moto() as url:
        world.further_environ = {
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(FOLDER / "01-rsa1/sa-token-cluster-aud.jwt"),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/oidc-mirror",
            "AWS_ENDPOINT_URL_STS": url,
        }
        done = world.mirror("--once", "--log-format", "json")
    assert done.status == 0, (done.out, done.err)
    events = [json.loads(line) for line in done.err.splitlines()]
    (event,) = [each for each in events if each["event"] == "credentials.circular"]
    assert (event["level"], event["issuer"]) == ("warning", ISSUER)
    token = (FOLDER / "01-rsa1/sa-token-cluster-aud.jwt").read_text().strip()
    assert token not in done.out + done.err


def test_hanging_credentials_of_one_issuer_stay_its_own(world: World, other: S3Server, cluster: Apiserver) -> None:
    """A `credential_process` that never ends fails its issuer, says so, and the other one is published."""
    bundle, config = world.folder / "bundle.crt", world.folder / "aws-config"
    bundle.write_bytes(b"".join(each.certificates.ca_file.read_bytes() for each in (world.server, other)))
    config.write_text("[profile hung]\ncredential_process = sleep 1000\n")
    world.further_environ = {"AWS_CA_BUNDLE": str(bundle), "AWS_CONFIG_FILE": str(config)}
    world.config["issuers"].append(
        {
            "name": "other",
            "issuer": OTHER_ISSUER,
            "apiservers": [cluster.url],
            "tls": {"ca_file": "cluster-ca.crt"},
            "publish": {
                "bucket": OTHER_BUCKET,
                "endpoint_url": other.url,
                "base_url": OTHER_ISSUER.removesuffix("/b"),
                "profile": "hung",
            },
        }
    )
    done = world.mirror("--once")
    assert done.status == 1
    assert "syd-prod: changed" in done.out
    assert "the credential_process sleep did not end within 10 s" in done.out
    assert world.public(JWKS_KEY).status == 200
