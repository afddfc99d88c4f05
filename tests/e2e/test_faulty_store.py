"""Whole passes while requests between boto3 and the store fail: no false result, and the next pass repairs."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.aws import sessions
from mirror.config.settings import PublishSettings, ReadbackSettings
from mirror.ports import PublicResponse
from mirror.publish.public_endpoint import PublicHttpClient
from mirror.publish.s3 import S3Bucket
from mirror.reconcile.controller import reconcile
from mirror.report import Effect, ExitStatus, Report
from support.fault_proxy import Fault, FaultProxy, answer, error_answer, running_fault_proxy
from support.s3 import REGION, S3Server, aws_environment
from support.situations import BASE_URL, BOTH, DISCOVERY_KEY, JWKS_KEY, ONE, PUBLIC, Situation
from support.worlds import BUCKET, empty_bucket

pytestmark = pytest.mark.s3

READ_SECONDS = 0.7
FILES = {key: f"{PUBLIC}/{key.removeprefix('cluster/identifier/')}" for key in (JWKS_KEY, DISCOVERY_KEY)}


@dataclass
class Line:
    """A mirror, and its store behind a proxy with faults; anonymous requests bypass the proxy."""

    situation: Situation
    readback: ReadbackSettings
    proxy: FaultProxy
    web: PublicHttpClient
    bucket: S3Bucket

    def run(self, *cases: str) -> Report:
        """One pass, five minutes after the last one."""
        self.situation.show(*cases)
        self.situation.now += timedelta(minutes=5)
        ports = replace(self.situation.world.ports(), bucket=lambda _: self.bucket, view=self.web)
        return reconcile(self.situation.settings(), ports, self.situation.now)

    def is_snapshot(self) -> bool:
        """Whether both objects, as anonymous requests get them, are the bytes of the newest commit."""
        files = self.situation.world.history.files()
        looks = {
            path: self.web.get_document(f"{BASE_URL}/{key}", readback=self.readback) for key, path in FILES.items()
        }
        return all(isinstance(look, PublicResponse) and look.body == files[path] for path, look in looks.items())


@contextmanager
def running_line(server: S3Server, folder: Path, *, read_seconds: float) -> Iterator[Line]:
    empty_bucket(server)
    situation = Situation(folder)
    with (
        aws_environment(server.certificates.ca_file, folder),
        running_fault_proxy(server.certificates, server.port) as proxy,
        PublicHttpClient() as web,
    ):
        readback = ReadbackSettings(ca_file=server.certificates.ca_file, connect_to=("localhost", server.port))
        publish = PublishSettings(BUCKET, REGION, BASE_URL, endpoint_url=proxy.url, readback=readback)
        situation.world.publish = lambda **_: publish  # type: ignore[method-assign]  # a switch of the fake
        with closing(S3Bucket(publish, puts=2, read_seconds=read_seconds)) as bucket:
            yield Line(situation, readback, proxy, web, bucket)


@pytest.fixture
def line(s3_server: S3Server, tmp_path: Path) -> Iterator[Line]:
    with running_line(s3_server, tmp_path, read_seconds=READ_SECONDS) as found:
        yield found


LOST = answer(500, b"")
SLOW_DOWN = error_answer(503, "SlowDown")
CONFLICT = error_answer(409, "ConditionalRequestConflict")
FAILED = error_answer(412, "PreconditionFailed")
WRONG_REGION = error_answer(301, "PermanentRedirect", header="x-amz-bucket-region: eu-west-1\r\n")
LATE_SECONDS = READ_SECONDS + 0.3

WITH_EFFECT = {
    "answer-lost": Fault("PUT", effect=True, answer=b""),
    "answer-reset": Fault("PUT", effect=True, answer=b"", resets=True),
    "reset-in-mid-answer": Fault("PUT", effect=True, cut_after=20, resets=True),
    "stall": Fault("PUT", effect=True, stall_seconds=LATE_SECONDS),
    "500": Fault("PUT", effect=True, answer=LOST),
    "503-slow-down": Fault("PUT", effect=True, answer=SLOW_DOWN),
    "409": Fault("PUT", effect=True, answer=CONFLICT),
    "412": Fault("PUT", effect=True, answer=FAILED),
}
WITHOUT_EFFECT = {
    "reset": (Fault("PUT", answer=b"", resets=True), "ConnectionClosed"),
    "stall": (Fault("PUT", answer=b"", stall_seconds=LATE_SECONDS), "ReadTimeout"),
    "500": (Fault("PUT", answer=LOST), "InternalError"),
    "503-slow-down": (Fault("PUT", answer=SLOW_DOWN), "SlowDown"),
    "409": (Fault("PUT", answer=CONFLICT), "ConditionalRequestConflict"),
    "412": (Fault("PUT", answer=FAILED), "PreconditionFailed"),
    "301-wrong-region": (Fault("PUT", answer=WRONG_REGION), "PermanentRedirect"),
}
AT_THE_LISTING = {
    "reset-in-mid-body": (Fault("GET", cut_after=400, resets=True), "ConnectionClosed"),
    "stall": (Fault("GET", answer=b"", stall_seconds=LATE_SECONDS), "ReadTimeout"),
    "500": (Fault("GET", answer=LOST), "InternalError"),
    "503-slow-down": (Fault("GET", answer=SLOW_DOWN), "SlowDown"),
    "301-wrong-region": (Fault("GET", answer=WRONG_REGION), "PermanentRedirect"),
}


@pytest.mark.parametrize("fault", WITH_EFFECT.values(), ids=WITH_EFFECT)
def test_put_took_effect_without_a_good_answer_is_success(line: Line, fault: Fault) -> None:
    """The pass reads back, says success because it is, and the next one has nothing to do."""
    line.run(ONE, ONE)
    line.proxy.faults.append(fault)
    report = line.run(BOTH, BOTH)
    assert (report.exit_status, line.is_snapshot()) == (ExitStatus.CURRENT, True)
    assert not line.proxy.faults
    puts = line.proxy.methods().count("PUT")
    assert line.run(BOTH, BOTH).exit_status is ExitStatus.CURRENT
    assert line.proxy.methods().count("PUT") == puts


@pytest.mark.parametrize(("fault", "code"), WITHOUT_EFFECT.values(), ids=WITHOUT_EFFECT)
def test_put_without_effect_fails_the_pass_and_the_next_one_heals(line: Line, fault: Fault, code: str) -> None:
    """A pass whose put did not come to stand ends with 1 and the cause; the next one ends with bucket = snapshot."""
    line.run(ONE, ONE)
    line.proxy.faults.extend([fault] * 4)
    report = line.run(BOTH, BOTH)
    assert (report.exit_status, line.is_snapshot()) == (ExitStatus.FAILED, False)
    assert [reason.code for reason in report.issuers[0].failures] == [f"bucket.{code}"]
    assert [each.effect for each in report.issuers[0].objects] == [Effect.FAILED]
    line.proxy.faults.clear()
    assert (line.run(BOTH, BOTH).exit_status, line.is_snapshot()) == (ExitStatus.CURRENT, True)


@pytest.mark.parametrize(("fault", "code"), AT_THE_LISTING.values(), ids=AT_THE_LISTING)
def test_failing_listing_fails_the_pass_and_the_next_one_heals(line: Line, fault: Fault, code: str) -> None:
    """A listing that fails is not an empty bucket: nothing is put, the pass reports it, and the next one goes on."""
    line.run(ONE, ONE)
    puts = line.proxy.methods().count("PUT")
    line.proxy.faults.extend([fault] * 4)
    report = line.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.FAILED
    (reason,) = report.issuers[0].failures
    # A reset may arrive before or after what was sent ahead of it.
    assert reason.code.replace("IncompleteBody", "ConnectionClosed") == f"bucket.{code}"
    assert line.proxy.methods().count("PUT") == puts
    line.proxy.faults.clear()
    assert (line.run(BOTH, BOTH).exit_status, line.is_snapshot()) == (ExitStatus.CURRENT, True)


def test_stall_of_twenty_seconds_is_given_up_long_before(s3_server: S3Server, tmp_path: Path) -> None:
    """With the limits of the real program: the answer is late, the put took effect, the pass finds that out."""
    with running_line(s3_server, tmp_path, read_seconds=sessions.READ_SECONDS) as line:
        line.run(ONE, ONE)
        line.proxy.faults.append(Fault("PUT", effect=True, stall_seconds=20))
        began = time.monotonic()
        report = line.run(BOTH, BOTH)
        assert (report.exit_status, line.is_snapshot()) == (ExitStatus.CURRENT, True)
        assert time.monotonic() - began < 15
