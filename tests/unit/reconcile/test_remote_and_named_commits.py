"""A pass with a damaged git remote, and a pass with an empty disk that reads commits named by public objects."""

from dataclasses import replace

import pytest

from mirror.errors import BucketError, HistoryError
from mirror.model import CommitId, IssuerName, IssuerUrl, KeyPolicy, Level, Status
from mirror.reconcile.controller import reconcile
from mirror.report import ExitStatus
from support.fakes import FakeHistory
from support.signers import ledger_trust
from support.situations import (
    BASE_URL,
    BOTH,
    ISSUER,
    JWKS_KEY,
    LAST,
    LEDGER,
    ONE,
    Situation,
    answer,
    event_names,
    reason_codes,
    remote_of,
    statuses_of,
)

# ------------------------------------------------------------------------------------------ a damaged remote


def test_remote_with_objects_that_git_refuses_fails_and_stops_no_addition(shared: Situation) -> None:
    """Exit status 1 with an event of its own. The new key is public; removals wait until the remote can be fetched."""
    shared.run(ONE, ONE)
    remote_of(shared).damaged = True
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.FAILED
    assert ("remote.damaged" in reason_codes(report), "remote.unreachable" in event_names(report)) == (True, False)
    assert statuses_of(report) == [Status.PUBLISHED, Status.PUBLISHED]
    assert shared.public() is not None
    assert (shared.public() or b"").count(b'"kid"') == 2


def test_remote_with_commits_of_a_wrong_form_is_a_warning(shared: Situation) -> None:
    """Exit status 0: the commits are kept and reported once, and the pass continues."""
    shared.run(ONE, ONE)
    remote_of(shared).faults = "warning: object 1234: zeroPaddedDate"
    report = shared.run(BOTH, BOTH)
    (event,) = (each for each in report.events if each.name == "remote.damaged")
    assert (event.level, report.exit_status) == (Level.WARNING, ExitStatus.CURRENT)
    assert "zeroPaddedDate" in event.sentence


def test_empty_disk_with_a_damaged_remote_decides_nothing(shared: Situation) -> None:
    """A pod with an empty disk cannot know which keys were revoked: exit status 1, and nothing is put."""
    shared.run(ONE, ONE)
    remote_of(shared).damaged = True
    puts = shared.world.bucket.count("put")
    pod = shared.beside()
    assert pod.run(BOTH, BOTH).exit_status is ExitStatus.FAILED
    assert shared.world.bucket.count("put") == puts


@pytest.mark.parametrize("signs", [True, False], ids=["signed", "trusted"])
def test_branch_that_was_set_back_is_merged_with_ours(shared: Situation, signs: bool) -> None:
    """`history.rewritten` is reported, and the newer state is pushed to the remote again."""
    shared.world.ledger_trust = ledger_trust() if signs else None
    shared.run(ONE, ONE)
    old = shared.world.history.head
    shared.run(BOTH, BOTH)
    remote_of(shared).head = old
    report = shared.run()
    assert ("history.rewritten" in event_names(report), report.exit_status) == (True, ExitStatus.CURRENT)
    assert remote_of(shared).head == shared.world.history.head
    assert statuses_of(report) == [Status.PUBLISHED, Status.PUBLISHED]
    assert event_names(shared.run()) == ({"repository.unsigned"} & event_names(report) or set())


# --------------------------------------------------------------------- an empty disk, and what the objects name


def set_back(shared: Situation) -> None:
    """A key was revoked and removed; then the branch is moved to a commit in which it was still public."""
    shared.run(BOTH, BOTH)
    before = shared.world.history.head
    first = shared.run().issuers[0].records[0].key.thumbprint
    shared.policy = replace(shared.policy, revoked=frozenset({first}))
    shared.run()
    shared.policy = replace(shared.policy, revoked=frozenset())
    remote_of(shared).head = before


@pytest.mark.parametrize("signs", [True, False], ids=["signed", "trusted"])
def test_pod_learns_of_revocations_from_the_commit_that_the_objects_name(shared: Situation, signs: bool) -> None:
    """The server still has the commit: the revoked key stays removed, and the branch is written again."""
    shared.world.ledger_trust = ledger_trust() if signs else None
    set_back(shared)
    public = shared.public()
    pod = shared.beside()
    pod.world.ledger_trust = shared.world.ledger_trust
    report = pod.run(BOTH, BOTH)
    assert statuses_of(report) == [Status.PUBLISHED, Status.REVOKED]
    assert ("history.rewritten" in event_names(report), shared.public()) == (True, public)
    assert b'"revoked"' in pod.world.history.files()[LEDGER]


def test_commit_that_the_server_lost_is_reported_and_passes_continue(shared: Situation) -> None:
    """`snapshot.unknown` is reported. SECURITY.md describes this attack: pushing and writing the bucket."""
    set_back(shared)
    remote_of(shared).forgets = True
    report = shared.beside().run(BOTH, BOTH)
    assert "snapshot.unknown" in event_names(report)


def test_empty_disk_decides_nothing_while_the_objects_are_unreadable(shared: Situation) -> None:
    """The objects may name a commit with an unknown revocation: exit status 1, no commit, no put."""
    shared.run(ONE, ONE)
    head, puts = remote_of(shared).head, shared.world.bucket.count("put")
    shared.world.bucket.fails["head"] = BucketError("No.", code="AccessDenied")
    report = shared.beside().run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.FAILED
    assert any("AccessDenied" in code or code.startswith("bucket.") for code in reason_codes(report)), reason_codes(
        report
    )
    assert (remote_of(shared).head, shared.world.bucket.count("put")) == (head, puts)


def test_object_that_cannot_be_looked_at_keeps_no_kept_disk_from_a_revocation(shared: Situation) -> None:
    """A persistent disk has its own history, so keys in `keys.revoked` are removed at once."""
    report = shared.run(BOTH, BOTH)
    gone = report.issuers[0].records[0].key
    shared.world.bucket.fails["head"] = BucketError("No.", code="AccessDenied")
    shared.policy = KeyPolicy(revoked=frozenset({gone.thumbprint}))
    shared.run(BOTH, BOTH)
    assert gone.kid.encode() not in (shared.public() or b"")


def test_git_that_breaks_while_a_named_commit_is_fetched_decides_nothing(shared: Situation) -> None:
    """Exit status 1, and nothing is put."""

    class Breaking(FakeHistory):
        def obtain(self, commit: str) -> bool:
            raise HistoryError("The disk is gone.")

    shared.run(ONE, ONE)
    pod = shared.beside()
    history = pod.world.history
    pod.world.history = Breaking(commits=history.commits, remote=history.remote)
    puts = shared.world.bucket.count("put")
    report = pod.run(BOTH, BOTH)
    assert (report.exit_status, reason_codes(report)) == (ExitStatus.FAILED, {"history.failed"})
    assert shared.world.bucket.count("put") == puts


def test_steady_pod_asks_for_no_commit(shared: Situation) -> None:
    """If there is nothing to commit and nothing to put, no commit is fetched by its id."""

    class Unasked(FakeHistory):
        def obtain(self, commit: str) -> bool:
            raise AssertionError("a commit was asked for")

    shared.run(ONE, ONE)
    pod = shared.beside()
    history = pod.world.history
    pod.world.history = Unasked(commits=history.commits, remote=history.remote)
    assert pod.run().exit_status is ExitStatus.CURRENT


# -------------------------------------------------------------------------------------- issuers that are left out


def test_issuers_that_a_pass_leaves_alone_stay_as_they_are(shared: Situation) -> None:
    """With `--only` and shards the other ledgers stay unchanged, and new keys are still compared with their keys."""
    other = IssuerUrl(f"{BASE_URL}/other")
    settings = shared.settings()
    second = replace(settings.issuers[0], name=IssuerName("mel-prod"), issuer=other)
    both = replace(settings, issuers=(*settings.issuers, second))
    shared.show(ONE, ONE)
    theirs = answer(ONE)
    theirs = replace(theirs, discovery=theirs.discovery.replace(ISSUER.encode(), other.encode()))
    shared.world.source.answers["mel-prod"] = (theirs, theirs)
    reconcile(both, shared.world.ports(), shared.now)
    path = LEDGER.replace("cluster/identifier", "other")
    before = shared.world.history.files()[path]
    shared.show(LAST, LAST)
    report = reconcile(both.narrowed(lambda each: each.name == "syd-prod"), shared.world.ports(), shared.now)
    assert [each.name for each in report.issuers] == ["syd-prod"]
    assert shared.world.history.files()[path] == before
    assert CommitId(report.commit or "") == shared.world.history.head
    assert shared.public(JWKS_KEY) is not None
