"""If the branch moved during the puts, a second pass follows: a slow mirror must not undo another's decisions."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.errors import RemoteError
from mirror.model import CommitId, KeyPolicy, PublicObject, Status, Thumbprint
from mirror.reconcile.controller import MOST_FOLLOW_UPS
from mirror.report import Effect, ExitStatus
from support.fakes import FakeBucket, FakeHistory
from support.situations import BOTH, DISCOVERY_KEY, JWKS_KEY, LAST, ONE, Situation


def while_putting(here: Situation, act: Callable[[], None]) -> None:
    """Call `act` once: after this mirror has pushed, while it puts its JWKS."""
    left = [act]

    def run(_: FakeBucket, obj: PublicObject) -> None:
        if left and obj.key == JWKS_KEY:
            left.pop()()

    here.world.bucket.before_put = run


def revoked_by(here: Situation, thumbprint: Thumbprint, name: str = "other") -> Callable[[], None]:
    """Another mirror revokes a key by its configuration, commits and pushes. Its puts go to another bucket."""

    def act() -> None:
        other = here.beside(name)
        other.world.bucket = FakeBucket()
        other.policy = KeyPolicy(revoked=frozenset({thumbprint}))
        other.run()

    return act


def first_key(here: Situation) -> Thumbprint:
    return next(each.key.thumbprint for each in here.plan().issuers[0].records if each.status is Status.PUBLISHED)


def test_revocation_during_a_slow_put_is_not_undone(shared: Situation) -> None:
    """The pass adds a key while another mirror revokes one: a second pass follows at once and puts the merged state."""
    shared.run(ONE, ONE)
    revoked = first_key(shared)
    kid = shared.plan().issuers[0].records[0].key.kid
    while_putting(shared, revoked_by(shared, revoked))
    report = shared.run(BOTH, BOTH)
    assert [each.status for each in report.issuers[0].records if each.key.thumbprint == revoked] == [Status.REVOKED]
    assert kid.encode() not in (shared.public() or b"")
    assert shared.world.history.remote is not None
    assert shared.world.history.remote.head == shared.world.history.head


def test_reports_of_both_passes_are_one(shared: Situation) -> None:
    """The report also has the puts and changes of the first pass."""
    shared.run(ONE, ONE)
    while_putting(shared, revoked_by(shared, first_key(shared)))
    report = shared.run(BOTH, BOTH)
    assert report.committed
    assert {change.status for change in report.issuers[0].changes} >= {Status.PUBLISHED}
    assert any(each.effect is Effect.PUT for each in report.issuers[0].objects)
    assert "publish key" in (report.message or "")


def test_branch_that_moves_each_time_is_followed_a_few_times(shared: Situation) -> None:
    """The number of follow-up passes is limited, even if others keep writing; the next scheduled pass continues."""
    shared.run(ONE, ONE)
    asked = len(shared.world.source.asked)
    history = shared.world.history

    class Restless(FakeHistory):
        def remote_head(self) -> CommitId | None:
            return CommitId("ab" * 20)

    shared.world.history = Restless(commits=history.commits, remote=history.remote, head=history.head)
    shared.world.history.tracking = history.tracking
    # Another writer deletes the JWKS between the passes, so each pass adds the key again.
    bucket = shared.world.bucket
    shared.world.history.at_the_end = bucket.objects.clear
    shared.run(BOTH, BOTH)
    assert len(shared.world.source.asked) - asked == 1 + MOST_FOLLOW_UPS


@pytest.mark.parametrize("failing", ["looking-up", "nothing"], ids=str)
def test_remote_that_is_asked_in_vain_is_no_trouble(shared: Situation, failing: str) -> None:
    """After puts that add keys, one `ls-remote` follows. If it fails or shows the same commit, the pass ends."""
    shared.run(ONE, ONE)
    history, asked = shared.world.history, len(shared.world.source.asked)
    looked: list[bool] = []

    class Unmoved(FakeHistory):
        def remote_head(self) -> CommitId | None:
            looked.append(True)
            if failing == "looking-up":
                raise RemoteError("No answer.")
            return super().remote_head()

    shared.world.history = Unmoved(commits=history.commits, remote=history.remote, head=history.head)
    shared.world.history.tracking = history.tracking
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert (looked, len(shared.world.source.asked) - asked) == ([True], 1)
    shared.run(BOTH, BOTH)
    assert looked == [True]


def test_pass_that_puts_nothing_sends_no_request(shared: Situation) -> None:
    """A pass without puts cannot undo anything, so it starts no extra process."""
    shared.run(BOTH, BOTH)
    history = shared.world.history

    class Unasked(FakeHistory):
        def remote_head(self) -> CommitId | None:
            raise AssertionError("the remote was asked")

    shared.world.history = Unasked(commits=history.commits, remote=history.remote, head=history.head)
    shared.world.history.tracking = history.tracking
    assert shared.run().exit_status is ExitStatus.CURRENT


def test_mirror_alone_sends_no_request(tmp_path: Path) -> None:
    """Without a remote no other mirror can have moved the branch."""
    here = Situation(tmp_path)
    here.run(ONE, ONE)
    assert here.run(BOTH, BOTH).exit_status is ExitStatus.CURRENT
    assert here.run(LAST, LAST).exit_status is ExitStatus.CURRENT
    assert here.public(DISCOVERY_KEY) is not None
