"""What a fleet costs its store: requests are counted by the server itself."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.cli.wiring import open_ports
from mirror.config.settings import Issuer, PublishSettings, ReadbackSettings, RepositorySettings, Settings
from mirror.model import Answer, CommitId, ETag, IssuerName, IssuerUrl, PublicObject
from mirror.ports import PublicResponse, PutResult
from mirror.publish.s3 import S3Bucket
from mirror.reconcile.controller import reconcile
from mirror.report import Effect, ExitStatus, Report
from support.captures import capture
from support.fakes import MOMENT, FakeSource
from support.s3 import S3Server, aws_environment, running_ministack

pytestmark = pytest.mark.s3

ISSUERS = 501
"""Their objects fill more than one page of a listing."""
MOST_REQUESTS = 5
CASE = "03-ec2-signs-rsa1-kept/"


class NotingBucket(S3Bucket):
    """A bucket that notes what was put: as a public view it stands in for a thousand looks that are not counted."""

    def __init__(self, publish: PublishSettings) -> None:
        super().__init__(publish, puts=16)
        self.noted: dict[str, tuple[PublicObject, datetime]] = {}

    def put(self, obj: PublicObject, *, snapshot: CommitId, expected_etag: ETag | None) -> PutResult:
        result = super().put(obj, snapshot=snapshot, expected_etag=expected_etag)
        self.noted[obj.url] = obj, datetime.now(UTC)
        return result

    def get_document(self, url: str, *, readback: ReadbackSettings) -> PublicResponse:
        obj, written_at = self.noted[url]
        return PublicResponse(obj.body, obj.content_type, obj.cache_control, written_at, 0.01)


@dataclass
class Fleet:
    """Clusters in one bucket; each pass has clients of its own, as a process would."""

    server: S3Server
    settings: Settings
    source: FakeSource

    def publish_all(self) -> Report:
        """The first pass."""
        with open_ports(self.settings, dry_run=False) as ports, closing(NotingBucket(self.publish)) as bucket:
            seeing = replace(ports, source=self.source, bucket=lambda _: bucket, view=bucket)
            return reconcile(self.settings, seeing, MOMENT)

    def run(self) -> tuple[Report, Sequence[str]]:
        """A pass five minutes later, and the requests that the server got in it."""
        before = len(self.server.requests())
        with open_ports(self.settings, dry_run=False) as ports:
            report = reconcile(self.settings, replace(ports, source=self.source), MOMENT + timedelta(minutes=5))
        return report, self.server.requests()[before:]

    @property
    def publish(self) -> PublishSettings:
        return self.settings.issuers[0].publish


@contextmanager
def running_fleet(folder: Path) -> Iterator[Fleet]:
    with running_ministack(folder) as server, aws_environment(server.certificates.ca_file, folder):
        publish = server.publish(server.new_bucket())
        jwks = json.dumps({"keys": json.loads(capture(f"{CASE}jwks").body())["keys"][:1]}).encode()
        issuers = tuple(
            Issuer(IssuerName(f"c{n}"), IssuerUrl(f"{publish.base_url}/team-{n % 10}/c{n}"), publish, ("https://a",))
            for n in range(ISSUERS)
        )
        answers: Mapping[str, tuple[Answer, ...]] = {
            each.name: (Answer("https://a", discovery_of(each.issuer), jwks),) for each in issuers
        }
        state = folder / "state"
        settings = Settings(state, RepositorySettings(state / "snapshots.git"), issuers)
        state.mkdir()
        yield Fleet(server, settings, FakeSource(dict(answers)))


def discovery_of(issuer: str) -> bytes:
    document = json.loads(capture(f"{CASE}discovery").body())
    return json.dumps({**document, "issuer": issuer}).encode()


def test_unchanged_pass_over_a_fleet_costs_the_store_five_requests_at_most(tmp_path: Path) -> None:
    """Between audits one listing tells all: a request for each thousand objects; no HEAD, no GET, no public read."""
    with running_fleet(tmp_path) as fleet:
        first = fleet.publish_all()
        assert first.exit_status is ExitStatus.CURRENT
        assert {each.effect for issuer in first.issuers for each in issuer.objects} == {Effect.PUT}
        second, requests = fleet.run()
    assert second.exit_status is ExitStatus.CURRENT
    assert len(second.issuers) == ISSUERS
    assert {each.effect for issuer in second.issuers for each in issuer.objects} == {Effect.UNCHANGED}
    assert 1 <= len(requests) <= MOST_REQUESTS, requests
