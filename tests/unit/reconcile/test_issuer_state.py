"""The state of an issuer after a pass: it is current only if every key that should be public is, and nothing waits."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import HistoryError
from mirror.model import KeyName, Kid, Revocation, Status, Thumbprint
from mirror.report import Effect, ExitStatus, State, safe_before
from support.fakes import MOMENT, FakeHistory
from support.situations import BOTH, LAST, ONE, Situation, silent, with_remote

EARLIER, LATER = MOMENT - timedelta(hours=1), MOMENT + timedelta(hours=1)


@pytest.fixture
def here(tmp_path: Path) -> Situation:
    return Situation(tmp_path)


def test_new_key_that_the_remote_did_not_take_waits_for_push(tmp_path: Path) -> None:
    """An empty disk and a refused push: the new key is not public, and no output calls the issuer current."""
    one = with_remote(tmp_path)
    one.run(ONE, ONE)
    two = one.beside()
    assert two.world.history.remote is not None
    two.world.history.remote.refuses_pushes = True
    public = two.public()
    report = two.run(BOTH, BOTH)
    assert two.public() == public
    assert (report.issuers[0].state, report.exit_status) == (State.WAITING_FOR_PUSH, ExitStatus.FAILED)
    assert report.unpushed_commits == 1


def test_issuer_without_a_change_stays_current_when_the_push_is_refused(tmp_path: Path) -> None:
    """The public documents are correct; only the push fails the pass."""
    one = with_remote(tmp_path)
    one.run(ONE, ONE)
    assert one.world.history.remote is not None
    one.world.history.remote.refuses_pushes = True
    assert one.run(ONE, ONE).issuers[0].state is State.CURRENT


def test_commit_that_failed_makes_the_issuer_failed(here: Situation) -> None:
    """The branch cannot be moved, so the new key is neither in git nor public."""
    here.run(ONE, ONE)

    def refuse(_: FakeHistory) -> None:
        raise HistoryError("The branch cannot be moved.", cause="cannot lock ref", remedy="Mend its owner.")

    here.world.history.moved_by = refuse
    report = here.run(BOTH, BOTH)
    assert (report.issuers[0].state, report.exit_status) == (State.FAILED, ExitStatus.FAILED)


def test_repository_that_cannot_be_read_fails_every_issuer(here: Situation) -> None:
    """The desired state is unknown, so no issuer is current."""
    here.run(ONE, ONE)
    here.world.history.broken = True
    report = here.run(ONE, ONE)
    assert [each.state for each in report.issuers] == [State.FAILED]
    assert [reason.code for reason in report.failures] == ["history.failed"]
    assert here.plan(ONE, ONE).issuers[0].state is State.FAILED


def test_rotation_is_a_flag_and_not_a_state(here: Situation) -> None:
    """A rotation triggers no alert on the state."""
    assert not here.run(ONE, ONE).issuers[0].rotating
    here.run(ONE, BOTH)
    report = here.run(ONE, BOTH)
    assert (report.issuers[0].state, report.issuers[0].rotating) == (State.CURRENT, True)
    here.run(LAST, LAST)
    report = here.run(LAST, LAST)
    assert (report.issuers[0].state, report.issuers[0].rotating) == (State.CURRENT, True)


def test_replica_that_refuses_what_another_took_is_degraded(here: Situation) -> None:
    """A restarting apiserver answers 403 for a moment although the credential is valid; the pass continues."""
    here.run(ONE, ONE)
    report = here.run(ONE, silent(code="forbidden"))
    assert (report.issuers[0].state, report.exit_status) == (State.DEGRADED, ExitStatus.CURRENT)


def test_replicas_that_are_not_found_are_degraded(tmp_path: Path) -> None:
    """Two of three expected replicas are found: an event, the state degraded, and no retirement."""
    here = Situation(tmp_path, discover="endpointslices", expect_replicas=3)
    here.run(ONE, ONE)
    report = here.run(ONE, ONE)
    assert report.issuers[0].state is State.DEGRADED
    (event,) = [each for each in report.issuers[0].events if each.name == "apiservers.missing"]
    assert (event.fields["found"], event.fields["expected"]) == ("2", "3")
    assert here.run(ONE, ONE, ONE).issuers[0].state is State.CURRENT


def test_dry_run_reports_no_transition_as_done(here: Situation) -> None:
    """The dry run lists the key as a change, and no event reports it as public."""
    report = here.plan(ONE, ONE)
    assert [str(change.status) for change in report.issuers[0].changes] == ["published"]
    assert [event.name for event in report.issuers[0].events if event.name.startswith("key.")] == []
    assert {each.effect for each in report.issuers[0].objects} == {Effect.PLANNED}
    assert "key.published" in [event.name for event in here.run(ONE, ONE).issuers[0].events]


def test_former_issuer_that_gets_no_keys_need_not_be_public(here: Situation) -> None:
    """An operator cannot change this state, so it is not a problem."""
    report = here.run(ONE, ONE).issuers[0]
    assert replace(report, objects=(), records=()).state is State.UNPUBLISHED
    assert replace(report, objects=(), records=(), changes=(), must_be_public=False).state is State.CURRENT


def test_safe_to_sign_never_moves_because_of_another_key(here: Situation) -> None:
    """The old key may sign since it was first read back; only the new key waits for caches."""
    first = here.run(ONE, ONE).issuers[0]
    (old,) = first.records
    here.run(BOTH, BOTH, after=timedelta(hours=5))
    here.world.bucket.objects = {
        key: replace(stored, last_modified=here.now) for key, stored in here.world.bucket.objects.items()
    }
    second = here.run(after=timedelta(hours=2)).issuers[0]
    at = {each.key.thumbprint: second.key_safe_at(each) for each in second.records}
    assert at[old.key.thumbprint] == first.key_safe_at(old) == MOMENT + timedelta(minutes=10)
    (new,) = [moment for thumbprint, moment in at.items() if thumbprint != old.key.thumbprint]
    assert new is not None
    assert new <= here.now


def test_empty_disk_knows_that_a_key_was_public_before_another_changed_the_document(tmp_path: Path) -> None:
    """A CronJob's pod has no local state: the ledger dates the old key's publication; the object's date is too new."""
    one = with_remote(tmp_path)
    one.run(ONE, ONE)
    one.now += timedelta(hours=5)
    one.run(BOTH, BOTH)
    one.world.bucket.objects = {
        key: replace(stored, last_modified=one.now) for key, stored in one.world.bucket.objects.items()
    }
    pod = one.beside()
    report = pod.run(BOTH, BOTH, after=timedelta(minutes=1)).issuers[0]
    at = {each.first_seen: report.key_safe_at(each) for each in report.records}
    assert at == {MOMENT: MOMENT + timedelta(minutes=65), one.now: one.now + timedelta(minutes=10)}


def test_empty_disk_takes_the_date_of_the_object_where_no_other_key_changed_it(tmp_path: Path) -> None:
    """If a put failed for hours, the commit's date is too early: caches still have the previous document."""
    one = with_remote(tmp_path)
    one.run(ONE, ONE)
    put_at = one.now + timedelta(hours=5)
    one.world.bucket.objects = {
        key: replace(stored, last_modified=put_at) for key, stored in one.world.bucket.objects.items()
    }
    pod = one.beside()
    report = pod.run(ONE, ONE, after=timedelta(hours=5, minutes=1)).issuers[0]
    assert [report.key_safe_at(each) for each in report.records] == [put_at + timedelta(minutes=10)]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"first_seen": LATER}, True),
        ({"first_seen": EARLIER}, False),
        ({"status": Status.RETIRING, "generation": 4, "first_seen": EARLIER, "returned_at": LATER}, True),
        ({"status": Status.DROPPED, "first_seen": EARLIER, "missing_since": LATER}, True),
        ({"status": Status.DROPPED, "first_seen": EARLIER, "missing_since": EARLIER}, False),
        ({"status": Status.REVOKED, "first_seen": EARLIER, "revocation": Revocation(LATER, "x")}, True),
        ({"status": Status.HELD, "first_seen": LATER}, False),
    ],
    ids=["published", "published before", "returned", "dropped", "dropped before", "revoked", "held"],
)
def test_ledger_shows_that_another_key_changed_the_document(
    here: Situation, other: dict[str, Any], expected: bool
) -> None:
    """Only a change that is certainly later proves that an earlier document had this key."""
    (record,) = here.run(ONE, ONE).issuers[0].records
    another = replace(record, key=KeyName(Kid("another"), "RS256", Thumbprint("x" * 43)), **other)
    known = safe_before(record, {}, (record, another))
    assert known == (MOMENT + timedelta(minutes=65) if expected else None)
    approved = replace(record, generation=2)
    assert safe_before(approved, {}, (approved, another)) is None
