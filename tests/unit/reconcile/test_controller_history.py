"""A pass and its local history: a branch that is broken, changed by hand, or moves while a pass commits."""

from collections.abc import Callable, Mapping, Sequence
from threading import Event

import pytest

from mirror.config.settings import Issuer
from mirror.model import (
    Answer,
    IssuerName,
    Unusable,
)
from mirror.reconcile.controller import plan_pass
from mirror.report import ExitStatus
from support.captures import capture
from support.fakes import FakeHistory, FakeSource
from support.situations import BOTH, LEDGER, ONE, PUBLIC, Situation, event_names, public_kids, tamper


def test_broken_repository_fails_before_anything(here: Situation) -> None:
    """Without a readable history the pass decides nothing and puts nothing."""
    here.world.history.broken = True
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert here.world.bucket.objects == {}
    assert "disk on fire" in report.failures[0].sentence


def test_ledger_that_does_not_validate_is_written_again(here: Situation) -> None:
    """The nearest version that validates counts. A new key is still published, and the pass reports the ledger once."""
    here.run(ONE, ONE)
    tamper(here, {LEDGER: b"{}"})
    report = here.run(BOTH, BOTH)
    assert len(public_kids(here)) == 2
    assert report.exit_status is ExitStatus.FAILED
    assert report.issuers[0].failures[0].code == "ledger.damaged"
    assert here.run(BOTH, BOTH).exit_status is ExitStatus.CURRENT


def test_ledger_that_never_validated_adds_and_removes_nothing(here: Situation) -> None:
    """If no ledger can be read anywhere, the apiservers' keys are added, and public keys retire as usual."""
    here.run(BOTH, BOTH)
    here.world.history.head = None
    here.world.history.commit(
        base=None, parents=(), changes={LEDGER: b"{}"}, message="orphan", when=here.now, expect=None
    )
    report = here.run(ONE, ONE)
    assert len(public_kids(here)) == 2
    assert "ledger.broken" in [reason.code for reason in report.issuers[0].failures]
    assert {str(record.status) for record in report.issuers[0].records} == {"published", "retiring"}
    assert here.run().exit_status is ExitStatus.CURRENT


def test_changed_text_under_public_is_rewritten(here: Situation) -> None:
    """The ledger is authoritative: a changed file under public/ is reported, and a commit renders it again."""
    here.run(ONE, ONE)
    tamper(here, {f"{PUBLIC}/openid/v1/jwks": b'{"keys":[]}'})
    report = here.run()
    assert here.world.history.files()[f"{PUBLIC}/openid/v1/jwks"] == capture(f"{ONE}-jwks").body()
    assert "history.mismatch" in event_names(report)
    assert here.public() == capture(f"{ONE}-jwks").body()


def test_concurrent_commit_of_an_operator_is_merged(here: Situation) -> None:
    """The branch moves between reading and committing: it is read again, and both commits stay."""
    here.run(ONE, ONE)

    def operator(history: FakeHistory) -> None:
        history.moved_by = None
        tamper(here, {"notes.txt": b"hello"})

    here.world.history.moved_by = operator
    report = here.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert here.world.history.files()["notes.txt"] == b"hello"
    assert here.world.history.log()[0].startswith("syd-prod: publish key")


def test_branch_that_never_stands_still_fails_the_pass(here: Situation) -> None:
    """After five tries the pass fails with a message, and puts nothing that is not committed."""
    here.run(ONE, ONE)
    here.world.history.moved_by = meddle
    report = here.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.FAILED
    assert here.public() == capture(f"{ONE}-jwks").body()


def meddle(history: FakeHistory) -> None:
    history.moved_by = None
    assert history.head is not None
    history.commit(
        base=history.head,
        parents=(history.head,),
        changes={"n": str(len(history.commits.by_id)).encode()},
        message="x",
        when=history.commits.by_id[history.head].when,
        expect=history.head,
    )
    history.moved_by = meddle


def test_pass_that_cannot_read_git_keeps_what_was_seen(here: Situation) -> None:
    """A pass that cannot read git keeps the local state: after it an intact bucket needs no audit."""
    here.run(ONE, ONE)
    here.world.history.broken = True
    here.run()
    here.world.history.broken = False
    looks = len(here.world.web.looks)
    here.run()
    assert len(here.world.web.looks) == looks


class PatientSource(FakeSource):
    """Apiservers that respond only when polling is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = Event()

    def poll(
        self, issuers: Sequence[Issuer], *, turn: int, progress: Callable[[IssuerName], None]
    ) -> Mapping[IssuerName, tuple[Answer | Unusable, ...]]:
        assert self.ended.wait(30)
        return {}

    def cancel(self) -> None:
        self.cancelled = True
        self.ended.set()


class Interrupted(FakeHistory):
    """A history in which an operator presses Ctrl-C while git runs."""

    def prepare(self) -> None:
        raise KeyboardInterrupt


def test_interrupt_while_git_is_read_cancels_the_asking(here: Situation) -> None:
    """An early exit from the pass also cancels its requests to apiservers."""
    here.world.source, here.world.history = PatientSource(), Interrupted()
    with pytest.raises(KeyboardInterrupt):
        plan_pass(here.settings(), here.world.ports(), here.now)
    assert here.world.source.cancelled


def test_broken_repository_does_not_wait_for_apiservers(here: Situation) -> None:
    """A pass that cannot continue ends at once, even if apiservers have not answered."""
    here.world.source = PatientSource()
    here.world.history.broken = True
    assert here.run(ONE).exit_status is ExitStatus.FAILED
    assert here.world.source.cancelled


def test_dry_run_announces_a_commit_without_key_changes(here: Situation) -> None:
    """A changed discovery document in git will be rendered again: the plan reports the commit."""
    here.run(ONE, ONE)
    tamper(here, {f"{PUBLIC}/.well-known/openid-configuration": b"{}"})
    report = here.plan()
    assert report.message
    assert "history.mismatch" in event_names(report)
