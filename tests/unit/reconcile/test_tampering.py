"""Another writer's change to a published object: one pass repairs and reports it; the next pass does nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.config.settings import ReadbackSettings
from mirror.model import ObjectKey, StoredObject
from mirror.publish.s3 import MAX_OBJECT_BYTES
from mirror.reconcile.controller import reconcile
from mirror.report import Effect, ExitStatus, Report
from support.fakes import FakeBucket
from support.situations import JWKS_KEY, ONE, Situation

KEY = ObjectKey(JWKS_KEY)
AN_HOUR = timedelta(hours=1)
Tamper = Callable[[FakeBucket], None]


def beside(*altering: str, **fields: Any) -> Tamper:
    """The same bytes with other headers; an S3 listing shows it only by `LastModified`."""

    def tamper(bucket: FakeBucket) -> None:
        there = bucket.objects[KEY]
        changed: StoredObject = replace(
            there, altering=altering, last_modified=there.last_modified + timedelta(minutes=1), **fields
        )
        bucket.objects[KEY] = changed

    return tamper


def moved_to_glacier(bucket: FakeBucket) -> None:
    """A lifecycle rule moved the object; `LastModified` stays."""
    bucket.objects[KEY] = replace(bucket.objects[KEY], altering=("x-amz-storage-class: GLACIER",))


def deleted(bucket: FakeBucket) -> None:
    del bucket.objects[KEY]


TABLE = {
    "body": lambda bucket: bucket.write(KEY, b'{"keys":[]}'),
    "size": lambda bucket: bucket.write(KEY, b"x" * (MAX_OBJECT_BYTES + 1)),
    "encoding": beside("Content-Encoding: gzip"),
    "disposition": beside("Content-Disposition: attachment"),
    "language": beside("Content-Language: de"),
    "expires": beside("Expires: Thu, 01 Jan 1970 00:00:00 GMT"),
    "redirect": beside("x-amz-website-redirect-location: https://evil.example.com/"),
    "metadata": beside(snapshot=None),
    "metadata-of-no-commit": beside(snapshot="latest"),
    "content-type": beside(content_type="text/html"),
    "cache-control": beside(cache_control="no-store"),
    "class": moved_to_glacier,
    "deleted": deleted,
}


def names(report: Report) -> list[str]:
    return [event.name for event in report.issuers[0].events if event.name.startswith(("bucket.", "drift."))]


@pytest.mark.parametrize("tamper", TABLE.values(), ids=TABLE.keys())
def test_tampering_is_repaired_in_one_pass(tmp_path: Path, tamper: Tamper) -> None:
    """Any change of the bytes or headers that clients get is drift: an event and a repair, and then no further put."""
    here = Situation(tmp_path)
    here.run(ONE, ONE)
    meant = here.world.bucket.objects[KEY]
    tamper(here.world.bucket)
    report = here.run(after=timedelta(minutes=5))
    assert names(report) == ["bucket.drift", "drift.repaired"]
    assert report.exit_status is ExitStatus.CURRENT
    there = here.world.bucket.objects[KEY]
    assert (there.body, there.content_type, there.altering) == (meant.body, meant.content_type, ())
    puts = here.world.bucket.count("put")
    again = here.run(after=timedelta(minutes=5))
    assert names(again) == []
    assert {each.effect for each in again.issuers[0].objects} == {Effect.UNCHANGED}
    assert here.world.bucket.count("put") == puts


def test_store_that_drops_cache_control_is_noticed_once(tmp_path: Path) -> None:
    """The missing header is reported once and stored in the state directory: no further puts, and no failure."""
    here = Situation(tmp_path)
    here.world.bucket.drops_cache_control = True
    first = here.run(ONE, ONE)
    assert names(first) == ["bucket.header_not_kept"] * 2
    assert first.exit_status is ExitStatus.CURRENT
    for _ in range(3):
        later = here.run(after=AN_HOUR)
        assert (names(later), later.exit_status) == ([], ExitStatus.CURRENT)
    assert here.world.bucket.count("put") == 2


def test_changed_cache_control_is_repaired_although_the_store_drops_ours(tmp_path: Path) -> None:
    """The store drops our header, so a missing one is expected; another value is from another writer."""
    here = Situation(tmp_path)
    here.world.bucket.drops_cache_control = True
    here.run(ONE, ONE)
    beside(cache_control="no-store")(here.world.bucket)
    assert names(here.run(after=AN_HOUR)) == ["bucket.drift", "drift.repaired"]


def test_pass_after_a_put_looks_at_no_header(here: Situation) -> None:
    """After a read-back, the listing shows no newer object, so the next pass needs only the listing."""
    here.run(ONE, ONE)
    bucket = here.world.bucket
    before = bucket.count("head"), bucket.count("get")
    here.run()
    assert (bucket.count("head"), bucket.count("get")) == before


def test_put_that_was_not_read_back_is_looked_at_once(here: Situation) -> None:
    """Without a read-back the write date is unknown: the next pass reads it; later passes do not before the audit."""
    here.show(ONE, ONE)
    settings = here.settings()
    publish = here.world.publish(readback=ReadbackSettings(enabled=False))
    settings = replace(settings, issuers=tuple(replace(each, publish=publish) for each in settings.issuers))
    heads = []
    for _ in range(3):
        assert reconcile(settings, here.world.ports(), here.now).exit_status is ExitStatus.CURRENT
        heads.append(here.world.bucket.count("head"))
    assert heads == [0, 2, 2]
