"""A pass and the bucket: documents of other tools, drift, failed and lost puts, and the public read-back."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from mirror.errors import BucketError
from mirror.model import (
    CommitId,
    KeyPolicy,
    ListedObject,
    ObjectKey,
    Reason,
)
from mirror.report import ExitStatus
from support.captures import capture
from support.fakes import MOMENT, FakeBucket, FakeWorld
from support.keys import jwks_body, weak_pair
from support.situations import BOTH, DISCOVERY_KEY, JWKS_KEY, ONE, Situation, event_names, public_kids

HOUR = timedelta(hours=1)


def test_foreign_documents_are_not_taken_over(here: Situation) -> None:
    """Before the first pass the bucket has other documents: they wait for `adopt`; git and bucket do not change."""
    here.world.bucket.write(JWKS_KEY, b'{"keys":["another tool"]}')
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.HELD
    assert here.world.history.head is None
    assert here.public() == b'{"keys":["another tool"]}'
    assert "adopt syd-prod" in report.issuers[0].held[0].remedy


def test_equal_documents_are_taken_over(here: Situation) -> None:
    """Objects with the desired bytes need no decision of an operator. The pass corrects their headers."""
    here.world.bucket.write(JWKS_KEY, capture(f"{ONE}-jwks").body())
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.CURRENT
    stored = {str(key): value for key, value in here.world.bucket.objects.items()}[JWKS_KEY]
    assert stored.content_type == "application/jwk-set+json"


def test_failed_put_heals_in_the_next_pass(here: Situation) -> None:
    """The next pass puts the documents that were committed but not put, although no key changes."""
    here.world.bucket.fails["put"] = BucketError("It could not be written.", remedy="Grant it.", code="AccessDenied")
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert report.committed
    del here.world.bucket.fails["put"]
    healed = here.run()
    assert healed.exit_status is ExitStatus.CURRENT
    assert not healed.committed
    assert here.public() == capture(f"{ONE}-jwks").body()


def test_unreadable_bucket_does_not_begin_an_issuer(here: Situation) -> None:
    """The bucket may have another tool's documents: nothing is committed that a later pass would publish."""
    here.world.bucket.fails["list"] = BucketError("It could not be listed.", code="AccessDenied")
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert here.world.history.head is None


def test_unreadable_bucket_does_not_stop_the_ledger(here: Situation) -> None:
    """An issuer with a ledger continues: the change is committed, and put when the bucket is available again."""
    here.run(ONE, ONE)
    here.world.bucket.fails["list"] = BucketError("It could not be listed.", code="AccessDenied")
    report = here.run(BOTH, BOTH)
    assert report.committed
    assert report.exit_status is ExitStatus.FAILED
    del here.world.bucket.fails["list"]
    assert here.run().exit_status is ExitStatus.CURRENT
    assert b'"EC"' in (here.public() or b"")


@pytest.mark.parametrize("body", [b"evil", b'{"keys":[]}', b""], ids=["garbage", "no_keys", "nothing"])
def test_drift_is_reported_and_repaired_in_one_pass(here: Situation, body: bytes) -> None:
    """Another writer changed an object: an error event, the committed bytes are restored, exit 0."""
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, body)
    report = here.run()
    assert here.public() == capture(f"{ONE}-jwks").body()
    assert {"bucket.drift", "drift.repaired"} <= event_names(report)
    assert report.exit_status is ExitStatus.CURRENT


def test_deleted_object_is_put_again(here: Situation) -> None:
    """A deleted object is created again, and the deletion is reported; the next pass reports nothing."""
    here.run(ONE, ONE)
    here.world.bucket.objects.clear()
    report = here.run()
    assert report.exit_status is ExitStatus.CURRENT
    assert here.public() == capture(f"{ONE}-jwks").body()
    drifts = [event for event in report.issuers[0].events if event.name == "bucket.drift"]
    assert [event.fields["key"] for event in drifts] == [JWKS_KEY, DISCOVERY_KEY]
    assert not {"bucket.drift", "drift.repaired"} & event_names(here.run())


def test_restored_earlier_state_is_drift(here: Situation) -> None:
    """Our own earlier bytes that restore a dropped or revoked key are reported, with ETag and date."""
    here.run(ONE, ONE)
    old = here.world.bucket.objects[ObjectKey(JWKS_KEY)]
    here.run(BOTH, BOTH)
    newest = here.public()
    here.world.bucket.objects[ObjectKey(JWKS_KEY)] = old
    report = here.run()
    (drift,) = [event for event in report.issuers[0].events if event.name == "bucket.drift"]
    assert (drift.fields["etag"], drift.fields["last_modified"]) == (old.etag, old.last_modified.isoformat())
    assert "drift.repaired" in event_names(report)
    assert here.public() == newest != old.body


def test_object_in_a_new_bucket_is_created_without_alarm(here: Situation) -> None:
    """With another bucket in the settings, the object is missing but not deleted: it is created without an event."""
    here.run(ONE, ONE)
    here.world.bucket.objects.clear()
    plain = here.world.publish
    here.world.publish = lambda **more: plain(bucket="new-bucket", **more)  # type: ignore[method-assign]  # an override
    report = here.run()
    assert here.public() == capture(f"{ONE}-jwks").body()
    assert "bucket.drift" not in event_names(report)


def test_object_written_between_look_and_put_is_not_overwritten(here: Situation) -> None:
    """The conditional put fails and is reported; the next pass decides on the current object."""
    here.run(ONE, ONE)

    def race(bucket: FakeBucket, _: object) -> None:
        bucket.before_put = None
        bucket.write(JWKS_KEY, b"faster")

    here.world.bucket.before_put = race
    report = here.run(BOTH, BOTH)
    assert here.public() == b"faster"
    assert report.exit_status is ExitStatus.FAILED
    assert here.run().exit_status is ExitStatus.CURRENT
    assert b'"EC"' in (here.public() or b"")


def test_wrong_headers_are_repaired_at_the_audit(here: Situation) -> None:
    """A changed content type is found within the audit interval, although the bytes are the same."""
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, here.public() or b"", "binary/octet-stream")
    assert "bucket.drift" not in event_names(here.run())
    report = here.run(after=HOUR)
    assert "bucket.drift" in event_names(report)
    stored = {str(key): value for key, value in here.world.bucket.objects.items()}[JWKS_KEY]
    assert stored.content_type == "application/jwk-set+json"
    assert report.exit_status is ExitStatus.CURRENT


def test_unreadable_headers_fail_the_audit(here: Situation) -> None:
    """An audit that fails makes the pass fail, and the next pass repeats it."""
    here.run(ONE, ONE)
    here.world.bucket.fails["head"] = BucketError("It could not be read.", code="AccessDenied")
    assert here.run(after=HOUR).exit_status is ExitStatus.FAILED
    assert here.run().exit_status is ExitStatus.FAILED
    del here.world.bucket.fails["head"]
    assert here.run().exit_status is ExitStatus.CURRENT


def test_status_shows_when_keys_may_sign(here: Situation) -> None:
    """The time is `Last-Modified` of the public JWKS plus max-age plus five minutes. No read-back, no time."""
    first, second = here.run(ONE, ONE), here.run()
    assert first.issuers[0].safe_to_sign_at == MOMENT + timedelta(minutes=10)
    assert second.issuers[0].safe_to_sign_at is None


def test_unreadable_public_url_fails_until_it_is_readable(here: Situation) -> None:
    """Without a successful anonymous read-back after a put, this pass and every later one fail."""
    here.world.web.blocked = Reason("forbidden", "The world gets 403.", "Allow s3:GetObject.")
    assert here.run(ONE, ONE).exit_status is ExitStatus.FAILED
    report = here.run()
    assert report.exit_status is ExitStatus.FAILED
    assert report.issuers[0].failures[0].code == "readback.forbidden"
    here.world.web.blocked = None
    assert here.run().exit_status is ExitStatus.CURRENT


def test_cache_that_shows_an_earlier_state_is_pending_then_a_failure(here: Situation) -> None:
    """A CDN may serve old bytes for max-age plus five minutes; after that the pass fails."""
    here.run(ONE, ONE)
    url = f"{here.world.base_url}/{JWKS_KEY}"
    old = next(stored for key, stored in here.world.bucket.objects.items() if key == JWKS_KEY)
    here.world.web.cached[url] = old
    pending = here.run(BOTH, BOTH)
    assert "readback.stale" in event_names(pending)
    assert pending.exit_status is ExitStatus.CURRENT
    late = here.run(after=timedelta(minutes=11))
    assert late.exit_status is ExitStatus.FAILED
    here.world.web.cached.clear()
    assert here.run().exit_status is ExitStatus.CURRENT


def test_public_url_is_looked_at_again_after_the_interval(here: Situation) -> None:
    """The anonymous read-back is repeated, because the bucket can become private at any time."""
    here.run(ONE, ONE)
    here.world.web.blocked = Reason("forbidden", "The world gets 403.", "Allow s3:GetObject.")
    assert here.run().exit_status is ExitStatus.CURRENT
    assert here.run(after=HOUR).exit_status is ExitStatus.FAILED


def test_foreign_mirror_without_remote_is_drift(here: Situation) -> None:
    """The object names an unknown commit and there is no remote. It is repaired; the event advises a shared remote."""
    here.run(ONE, ONE)
    theirs = jwks_body(*weak_pair())
    here.world.bucket.write(JWKS_KEY, theirs, "application/jwk-set+json", "public, max-age=300", CommitId("f" * 40))
    report = here.run()
    assert report.exit_status is ExitStatus.CURRENT
    (drift,) = [event for event in report.issuers[0].events if event.name == "bucket.drift"]
    assert "repository.remote" in drift.sentence
    assert here.public() != theirs


def test_foreign_state_that_loses_nothing_is_replaced(here: Situation) -> None:
    """After an adoption the ledger has every key of the object, so replacing it removes none."""
    here.run(BOTH, BOTH)
    theirs = capture(f"{ONE}-jwks").body()
    here.world.bucket.write(JWKS_KEY, theirs, "application/jwk-set+json", "public, max-age=300", CommitId("f" * 40))
    assert here.run().exit_status is ExitStatus.CURRENT
    assert len(public_kids(here)) == 2


def test_borrowed_metadata_does_not_hold_up_a_repair(here: Situation) -> None:
    """A body names one of our commits that does not contain it. It is drift and is repaired."""
    head = here.run(ONE, ONE).commit
    here.world.bucket.write(JWKS_KEY, b"evil", "application/jwk-set+json", "public, max-age=300", head)
    assert "bucket.drift" in event_names(here.run())
    assert here.public() == capture(f"{ONE}-jwks").body()


def test_kill_between_put_and_look_is_made_up_for(here: Situation) -> None:
    """The next pass reads back an object that was put and not read back, and fails if that is not possible."""
    here.run(ONE, ONE)
    stamps = (here.state_dir / "audit.json").read_bytes()
    here.run(BOTH, BOTH)
    (here.state_dir / "audit.json").write_bytes(stamps)
    here.world.web.blocked = Reason("forbidden", "The world gets 403.", "Allow s3:GetObject.")
    assert here.run().exit_status is ExitStatus.FAILED


def test_object_that_changed_since_the_listing_is_left_alone(here: Situation) -> None:
    """Neither a repair nor an audit overwrites an object that may be newer than the history that was read."""
    here.run(ONE, ONE)

    class Moving(FakeBucket):
        def list(self, prefix: str) -> Mapping[ObjectKey, ListedObject]:
            found = super().list(prefix)
            self.write(JWKS_KEY, b"newer", "application/jwk-set+json", "public, max-age=300")
            return found

    here.world.bucket = Moving(here.world.bucket.objects)
    here.run(after=timedelta(hours=1))
    assert here.public() == b"newer"


def test_foreign_documents_are_held_where_every_key_waits(here: Situation) -> None:
    """With `new_keys: hold` nothing is put yet; another tool's documents are still reported and wait for `adopt`."""
    here.run(ONE, ONE)
    fresh = Situation(
        here.state_dir / "new", FakeWorld(base_url=here.world.base_url), policy=KeyPolicy(new_keys="hold")
    )
    fresh.state_dir.mkdir()
    fresh.world.bucket.objects.update(here.world.bucket.objects)
    report = fresh.run(BOTH, BOTH)
    assert [reason.code for reason in report.issuers[0].held] == ["takeover.held"]
    assert (report.exit_status, report.commit) == (ExitStatus.HELD, None)
