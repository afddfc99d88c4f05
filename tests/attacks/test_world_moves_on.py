"""Pushes fail, clocks are wrong, disks are full while the cluster changes: nothing is lost, stuck or undone."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from mirror.config.settings import FormerIssuerSettings
from mirror.errors import BucketError
from mirror.model import Answer, IssuerUrl
from mirror.reconcile import local_state
from mirror.report import ExitStatus, Report
from mirror.trust.discovery import documents
from support.fakes import FakeHistory, FakeWorld
from support.keys import RSA_KEYS
from support.situations import BASE_URL, BOTH, LAST, ONE, Situation, answer, remote_of

MINUTES = timedelta(minutes=5)
DAY = timedelta(days=1)


def pod(shared: Situation, number: int, after: timedelta) -> Situation:
    """A CronJob's pod: an empty disk, the same remote, bucket and apiservers."""
    history = replace(shared.world.history, head=None, tracking=None)
    folder = shared.state_dir.with_name(f"pod-{number}")
    folder.mkdir()
    world = FakeWorld(shared.world.source, history, shared.world.bucket, shared.world.base_url)
    return replace(shared, state_dir=folder, world=world, now=shared.now + after)


def reported(report: Report) -> set[str]:
    events = {event.name for issuer in report.issuers for event in issuer.events} | {e.name for e in report.events}
    reasons = {reason.code for issuer in report.issuers for reason in (*issuer.failures, *issuer.held)}
    return events | reasons | {reason.code for reason in report.failures}


def public_kids(shared: Situation) -> set[str]:
    return {key["kid"] for key in json.loads(shared.public() or b'{"keys":[]}')["keys"]}


# --------------------------------------------------------------------------------------------------- pushes


def test_pod_puts_nothing_that_it_could_not_push(shared: Situation) -> None:
    """Its history goes with its disk: a key that is public only by it would leave without retirement."""
    shared.run(ONE, ONE)
    before = dict(shared.world.bucket.objects)
    remote_of(shared).refuses_pushes = True
    for number in range(3):
        report = pod(shared, number, number * DAY).run(BOTH, BOTH)
        assert report.exit_status is ExitStatus.FAILED
        assert "push.failed" in reported(report)
        assert shared.world.bucket.objects == before


def test_daemon_on_a_new_disk_puts_nothing_before_its_first_push(shared: Situation) -> None:
    """Its second pass has a local history, which is gone with the pod all the same."""
    shared.run(ONE, ONE)
    before = dict(shared.world.bucket.objects)
    remote_of(shared).refuses_pushes = True
    daemon = pod(shared, 0, MINUTES)
    for _ in range(3):
        assert daemon.run(BOTH, BOTH, after=MINUTES).exit_status is ExitStatus.FAILED
        assert shared.world.bucket.objects == before
    remote_of(shared).refuses_pushes = False
    assert daemon.run(after=MINUTES).exit_status is ExitStatus.CURRENT
    remote_of(shared).refuses_pushes = True
    assert daemon.run(LAST, LAST, after=MINUTES).exit_status is ExitStatus.CURRENT
    assert len(public_kids(shared)) == 3


def test_pod_that_loses_seven_races_gets_its_turn(shared: Situation) -> None:
    """Eight shards of a fleet push at the same time; each round has one winner."""
    shared.run(ONE, ONE)
    shard, others = pod(shared, 0, MINUTES), iter(range(7))

    def win(_: FakeHistory) -> None:
        head = remote_of(shared).head
        number = next(others, None)
        if number is not None and head is not None:
            elsewhere = replace(shard.world.history, head=head, tracking=head, moved_by=None)
            changes = {f"ledger/other-{number}": b"x"}
            elsewhere.commit(base=head, parents=(head,), changes=changes, message="x\n", when=shared.now, expect=head)
            elsewhere.push()

    shard.world.history.moved_by = win
    assert shard.run(BOTH, BOTH).exit_status is ExitStatus.CURRENT
    assert len(public_kids(shared)) == 2


def test_untrusted_key_in_the_bucket_is_removed_while_pushes_are_refused(shared: Situation) -> None:
    """The remote answered and does not have the key either: no mirror can object."""
    shared.run(ONE, ONE)
    remote_of(shared).refuses_pushes = True
    shared.run(BOTH, BOTH, after=MINUTES)
    before = shared.public()
    document = json.loads(before or b"")
    document["keys"].append(RSA_KEYS[0].members())
    name = next(key for key in shared.world.bucket.objects if key.endswith("jwks"))
    shared.world.bucket.write(name, json.dumps(document).encode())
    report = shared.run(after=MINUTES)
    assert "bucket.drift" in reported(report)
    assert shared.public() == before


def test_unreadable_bucket_is_one_failure_when_pushes_are_refused(shared: Situation) -> None:
    """The plan is checked again after the push; what it could not read then is reported once."""
    shared.run(ONE, ONE)
    remote_of(shared).refuses_pushes = True
    denied = BucketError("The bucket cannot be listed.")
    shared.world.bucket.fails["list"] = denied
    (issuer,) = shared.run(BOTH, BOTH, after=MINUTES).issuers
    assert len(issuer.failures) == 1


def test_key_that_another_replica_shows_stays_while_pushes_are_refused(shared: Situation) -> None:
    """No other mirror has seen it, so none can object: it retires, and goes no further."""
    first = replace(shared, apiservers=("https://10.0.0.11:6443",))
    first.run(BOTH)
    second = replace(first.beside(), apiservers=("https://10.0.0.12:6443",))
    second.run(BOTH)
    before = public_kids(shared)
    first.world.history.remote = replace(remote_of(first), refuses_pushes=True)
    for after in (MINUTES, MINUTES, DAY, MINUTES, MINUTES):
        assert first.run(ONE, after=after).exit_status is ExitStatus.CURRENT
        assert public_kids(shared) == before
        assert "bucket.drift" not in reported(second.run(BOTH, after=after))
    first.world.history.remote = second.world.history.remote
    first.run(ONE, after=MINUTES)
    assert public_kids(shared) == before


def test_removal_waits_while_its_push_is_refused(shared: Situation) -> None:
    """The key is dropped in the ledger; the object keeps it until the remote has taken that."""
    shared.run(BOTH, BOTH)
    shared.run(ONE, ONE)
    before = public_kids(shared)
    remote_of(shared).refuses_pushes = True
    report = shared.run(after=2 * DAY)
    assert {"removal.waits", "push.failed"} <= reported(report)
    assert public_kids(shared) == before
    for _ in range(4):  # it is our own state that waits there: nothing is wrong, however long it takes
        assert shared.run(after=MINUTES).exit_status is ExitStatus.CURRENT
        assert public_kids(shared) == before
    remote_of(shared).refuses_pushes = False
    assert shared.run(after=MINUTES).exit_status is ExitStatus.CURRENT
    assert len(public_kids(shared)) == 1


# --------------------------------------------------------------------------------------------------- clocks


def late_answers(case: str, date_offset: timedelta, shared: Situation) -> tuple[Answer, ...]:
    return tuple(replace(answer(case, url), date=shared.now + date_offset) for url in shared.apiservers)


def test_change_of_sources_under_a_wrong_clock_is_not_forgotten(tmp_path: Path) -> None:
    """Retirement restarts when the clock is right again, not from what the wrong clock said."""
    shared = Situation(tmp_path)
    shared.run(BOTH, BOTH)
    shared.run(ONE, ONE, after=MINUTES)
    shared.now += DAY - MINUTES
    shared.apiservers = ("https://10.1.0.11:6443", "https://10.1.0.12:6443")
    shared.now -= 2 * DAY
    assert "clock.skewed" in reported(shared.run(*late_answers(ONE, 2 * DAY, shared)))
    shared.now += 2 * DAY
    for _ in range(3):
        shared.run(*late_answers(ONE, timedelta(0), shared), after=MINUTES)
        assert len(public_kids(shared)) == 2
    shared.run(*late_answers(ONE, DAY, shared), after=DAY)
    assert len(public_kids(shared)) == 1


def test_publication_that_waits_does_not_hold_up_the_retirements_of_its_sibling(tmp_path: Path) -> None:
    """A former issuer with another tool's documents waits for `adopt`; the change of sources is noted once."""
    shared = Situation(tmp_path)
    shared.run(BOTH, BOTH)
    shared.run(ONE, ONE, after=MINUTES)
    old = IssuerUrl(f"{BASE_URL}/old")
    shared.former = (FormerIssuerSettings(old, date(2027, 1, 1)),)
    shared.world.bucket.write("old/openid/v1/jwks", documents(old, (RSA_KEYS[0],)).jwks)
    shared.apiservers = ("https://10.1.0.11:6443", "https://10.1.0.12:6443")
    assert shared.run(after=MINUTES).committed
    assert not shared.run(after=MINUTES).committed
    report = shared.run(after=DAY)
    assert "takeover.held" in reported(report)
    assert len(public_kids(shared)) == 1


# ----------------------------------------------------------------------------------------------------- disk


def test_unsaved_state_does_not_stop_publishing(shared: Situation) -> None:
    """A disk that remembers nothing: the pass goes on, and says so."""
    shared.run(ONE, ONE)
    (shared.state_dir / local_state.LOCAL_STATE_FILE_NAME).unlink()
    (shared.state_dir / local_state.LOCAL_STATE_FILE_NAME).mkdir()
    report = shared.run(BOTH, BOTH)
    assert "state.unsaved" in reported(report)
    assert len(public_kids(shared)) == 2
