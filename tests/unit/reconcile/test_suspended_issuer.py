"""`suspend: true`: the issuer is read and reported as usual, and only revocations are applied."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.model import KeyPolicy, Level, ObjectKey, Status
from mirror.report import Effect, ExitStatus, Report, State
from support.situations import BOTH, DISCOVERY_KEY, JWKS_KEY, LAST, ONE, Situation, event_names, public_kids, silent

DAY = timedelta(days=1)


@pytest.fixture
def suspended(tmp_path: Path) -> Situation:
    """One key is public; then the issuer is suspended."""
    here = Situation(tmp_path)
    here.run(ONE, ONE)
    here.suspend = True
    return here


def sentence(report: Report) -> str:
    (event,) = (event for event in report.issuers[0].events if event.name == "issuer.suspended")
    assert event.level is Level.WARNING
    return event.sentence


def test_new_key_waits_and_is_named(suspended: Situation) -> None:
    """Nothing is committed or put. The report lists the pending changes; they follow when `suspend` is removed."""
    head, puts = suspended.world.history.head, suspended.world.bucket.count("put")
    report = suspended.run(BOTH, BOTH, after=DAY)
    assert (suspended.world.history.head, suspended.world.bucket.count("put")) == (head, puts)
    assert (report.issuers[0].state, report.exit_status) == (State.DEGRADED, ExitStatus.CURRENT)
    assert report.issuers[0].changes == ()
    assert "is new. Remove `suspend`" in sentence(report)
    assert len(report.issuers[0].observations) == 2
    suspended.suspend = False
    assert len(suspended.run(after=DAY).issuers[0].changes) == 1
    assert len(public_kids(suspended)) == 2


def test_nothing_waits_is_said_too(suspended: Situation) -> None:
    """Every pass reports that the issuer is suspended."""
    report = suspended.run(ONE, ONE)
    assert sentence(report).endswith("but revocations. Remove `suspend` to go on.")
    assert report.issuers[0].state is State.DEGRADED


def test_key_that_left_does_not_begin_to_retire(suspended: Situation) -> None:
    """Its retirement begins when the issuer is no longer suspended."""
    suspended.run(LAST, LAST, after=DAY)
    assert suspended.run(LAST, LAST, after=30 * DAY).issuers[0].records[0].status is Status.PUBLISHED
    suspended.suspend = False
    report = suspended.run(LAST, LAST, after=DAY)
    assert {each.status for each in report.issuers[0].records} == {Status.RETIRING, Status.PUBLISHED}


def test_retiring_key_stays(tmp_path: Path) -> None:
    """A key that is due for removal stays."""
    here = Situation(tmp_path)
    here.run(BOTH, BOTH)
    here.run(ONE, ONE, after=DAY)
    here.suspend = True
    report = here.run(ONE, ONE, after=30 * DAY)
    assert len(public_kids(here)) == 2
    assert "leaves the public set" in sentence(report)
    here.suspend = False
    here.run(ONE, ONE, after=DAY)
    assert len(public_kids(here)) == 1


def test_revoked_key_leaves_at_once(tmp_path: Path) -> None:
    """The revoked key is removed from git and from the bucket; the pending new key is still not public."""
    here = Situation(tmp_path)
    here.run(BOTH, BOTH)
    victim = here.run().issuers[0].records[0].key
    here.suspend = True
    here.policy = KeyPolicy(revoked=frozenset({victim.thumbprint}))
    report = here.run(BOTH, BOTH, after=DAY)
    assert public_kids(here) == {each.key.kid for each in report.issuers[0].records} - {victim.kid}
    assert [(each.status, each.key.kid) for each in report.issuers[0].changes] == [(Status.REVOKED, victim.kid)]
    assert "key.revoked_shown" in event_names(here.run(after=DAY))
    assert public_kids(here) == {each.key.kid for each in report.issuers[0].records} - {victim.kid}


def test_restored_revoked_key_is_removed_again(tmp_path: Path) -> None:
    """Only a put that removes a revoked key is made for a suspended issuer."""
    here = Situation(tmp_path)
    here.run(BOTH, BOTH)
    before = here.world.bucket.objects[ObjectKey(JWKS_KEY)]
    victim = here.run().issuers[0].records[0].key
    here.suspend = True
    here.policy = KeyPolicy(revoked=frozenset({victim.thumbprint}))
    here.run(BOTH, BOTH, after=DAY)
    here.world.bucket.objects[ObjectKey(JWKS_KEY)] = before
    here.run(after=DAY)
    assert victim.kid not in public_kids(here)


@pytest.mark.parametrize("key", [JWKS_KEY, DISCOVERY_KEY])
@pytest.mark.parametrize("body", [b"evil", None], ids=["overwritten", "deleted"])
def test_drift_is_reported_and_not_repaired(suspended: Situation, key: str, body: bytes | None) -> None:
    """Drift of either document is reported and not repaired."""
    suspended.run(after=DAY)
    if body is None:
        del suspended.world.bucket.objects[ObjectKey(key)]
    else:
        suspended.world.bucket.write(key, body)
    report = suspended.run(after=DAY)
    assert {"bucket.drift", "issuer.suspended"} <= event_names(report)
    assert "drift.repaired" not in event_names(report)
    assert suspended.public(key) == body
    assert {each.effect for each in report.issuers[0].objects if each.key == key} == {Effect.WAITING}
    suspended.suspend = False
    suspended.run(after=DAY)
    assert suspended.public(key) not in (body, None)


def test_wrong_headers_are_reported_and_not_repaired(suspended: Situation) -> None:
    """The audit only reports."""
    key = ObjectKey(JWKS_KEY)
    stored = suspended.world.bucket.objects[key]
    suspended.world.bucket.objects[key] = wrong = replace(stored, cache_control="no-store")
    report = suspended.run(after=DAY)
    assert "bucket.drift" in event_names(report)
    assert suspended.world.bucket.objects[key] == wrong
    suspended.suspend = False
    suspended.run(after=DAY)
    assert suspended.world.bucket.objects[key].cache_control == stored.cache_control


def test_issuer_that_is_suspended_from_the_beginning_publishes_nothing(tmp_path: Path) -> None:
    """The pass publishes nothing and does not fail, whatever objects another writer put there."""
    here = Situation(tmp_path, suspend=True)
    here.world.bucket.write(JWKS_KEY, b"of another tool")
    report = here.run(ONE, ONE)
    assert (report.exit_status, report.issuers[0].state) == (ExitStatus.CURRENT, State.DEGRADED)
    assert here.public() == b"of another tool"
    assert here.public(DISCOVERY_KEY) is None
    assert "bucket.drift" not in event_names(report)


def test_apiservers_that_do_not_answer_are_still_a_failure(suspended: Situation) -> None:
    """Faults are reported as usual."""
    report = suspended.run(silent(), silent("https://10.0.0.11:6443"))
    assert report.exit_status is ExitStatus.FAILED
