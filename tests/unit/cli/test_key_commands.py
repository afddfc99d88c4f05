"""Operator decisions with fake ports: concurrent commits, remote failures, and the following passes."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import cast

import click
import pytest

from mirror.addresses import jwks_uri
from mirror.cli.commands import adopt
from mirror.cli.key_commands import _public_state as public_state
from mirror.cli.key_commands import adopt_documents, decide_approval, decide_revocation
from mirror.cli.operator_session import KeyDecision, OperatorSession, commit, describe_keys
from mirror.cli.options import Common
from mirror.cli.status import lines as status_lines
from mirror.config.settings import FormerIssuerSettings
from mirror.errors import BucketError, HistoryError, RemoteError, UsageError
from mirror.history.ledger_reader import HistoryState, VerificationContext, load_history
from mirror.history.ledger_store import Committer, LedgerChange, commit_ledgers
from mirror.model import IssuerUrl, KeyPolicy, KeyRecord, Kid, Ledger, ObjectKey, Reason, Status, Thumbprint, key_id
from mirror.reconcile.state import PublishedIssuer, publications
from mirror.report import ExitStatus
from mirror.status.collect import collect_status
from mirror.trust.ledger import LedgerRead, read_ledger, write_ledger
from mirror.trust.lifecycle import LedgerUpdate
from mirror.trust.merge import merge
from mirror.trust.operator_actions import revoke
from support.captures import capture
from support.fakes import FakeHistory
from support.keys import RSA_KEYS
from support.situations import (
    BASE_URL,
    BOTH,
    DISCOVERY_KEY,
    ISSUER,
    JWKS_KEY,
    LAST,
    LEDGER,
    NAME,
    ONE,
    Situation,
    answer,
    event_names,
    public_kids,
    silent,
)

FORMER = IssuerUrl(f"{BASE_URL}/old")
UNKNOWN_KEY = RSA_KEYS[3]


def session_of(here: Situation, *, lasting: bool = True, **repository: object) -> OperatorSession:
    """An operator's session on the mirror's own machine, after its fetch."""
    settings = here.settings()
    settings = replace(settings, repository=replace(settings.repository, **repository))  # type: ignore[arg-type]  # fields by name
    history = here.world.history
    if settings.repository.remote is not None:
        history.fetch(shallow=False)
    memory = load_history(history, [each.url for each in publications(settings)], VerificationContext())
    options = Common(Path("mirror.yaml"), "info", "json")
    return OperatorSession(
        options,
        settings,
        settings.issuers,
        here.world.ports(),
        memory,
        VerificationContext(),
        here.now,
        persistent=lasting,
    )


def revoking(prints: Iterable[Thumbprint], *, last: bool = False) -> Callable[[OperatorSession], list[KeyDecision]]:
    material = frozenset(prints)

    def decide(session: OperatorSession) -> list[KeyDecision]:
        decisions = []
        for at, ledger in session.ledgers():
            outcome = revoke(ledger, material, now=session.now, reason="stolen", last=last)
            assert isinstance(outcome, LedgerUpdate)
            decisions.append(KeyDecision(at, outcome))
        return decisions

    return decide


def ledger_of(here: Situation) -> Ledger:
    found = read_ledger(here.world.history.files()[LEDGER], issuer=ISSUER)
    assert isinstance(found, LedgerRead)
    return found.ledger


def push_from_elsewhere(here: Situation, ledger: Ledger, name: str = "other") -> None:
    """Commits and pushes a ledger as another mirror."""
    history = here.beside(name).world.history
    history.fetch(shallow=False)

    def reread(issuers: Iterable[IssuerUrl]) -> HistoryState:
        return load_history(history, issuers, VerificationContext())

    change = {ISSUER: LedgerChange(ledger)}
    commit_ledgers(Committer(history, reread), reread([ISSUER]), change, message="x\n", now=here.now, push=True)


# ----------------------------------------------------------------------------------------------- the commit


def test_commit_of_a_concurrent_pass_is_not_lost(here: Situation, capsys: pytest.CaptureFixture[str]) -> None:
    """The branch moves between our read and our write. It then contains both changes."""
    here.run(BOTH, BOTH)
    session = session_of(here)
    (first, second) = ledger_of(here).records

    def revoke_the_other(history: FakeHistory) -> None:
        history.moved_by = None
        commit(session_of(here), revoking([second.key.thumbprint]))

    here.world.history.moved_by = revoke_the_other
    commit(session, revoking([first.key.thumbprint]))
    assert [each.status for each in ledger_of(here).records] == [Status.REVOKED, Status.REVOKED]
    assert capsys.readouterr().out.count("Committed as ") == 2


def test_ledger_that_breaks_concurrently_is_written_again(here: Situation) -> None:
    """Damage does not prevent a revocation. The last readable ledger is used, and the decision is committed on top."""
    here.run(BOTH, BOTH)
    session = session_of(here)

    def break_it(history: FakeHistory) -> None:
        history.moved_by = None
        head = history.head
        parents = () if head is None else (head,)
        history.commit(base=head, parents=parents, changes={LEDGER: b"{}"}, message="x", when=here.now, expect=head)

    here.world.history.moved_by = break_it
    commit(session, revoking([ledger_of(here).records[0].key.thumbprint]))
    assert [each.status for each in ledger_of(here).records] == [Status.REVOKED, Status.PUBLISHED]


@pytest.mark.parametrize(
    ("lasting", "reported"), [(True, "is committed on this machine"), (False, "nothing was decided")], ids=str
)
def test_push_that_fails_is_an_error(shared: Situation, *, lasting: bool, reported: str) -> None:
    """With a remote, a decision counts only after its push."""
    shared.run(BOTH, BOTH)
    session = session_of(shared, lasting=lasting)
    assert shared.world.history.remote is not None
    shared.world.history.remote.refuses_pushes = True
    with pytest.raises(RemoteError, match=reported):
        commit(session, revoking([ledger_of(shared).records[0].key.thumbprint]))


def test_push_that_loses_every_race_is_an_error(shared: Situation) -> None:
    """Other mirrors push before each of our five tries."""
    shared.run(BOTH, BOTH)
    session = session_of(shared)
    history, remote = shared.world.history, shared.world.history.remote
    assert remote is not None

    def move_the_remote(_: FakeHistory) -> None:
        head = remote.head
        assert head is not None
        elsewhere = replace(history, head=head, tracking=head, moved_by=None)
        moment = shared.now
        elsewhere.commit(base=head, parents=(head,), changes={"x": b"x"}, message="x", when=moment, expect=head)
        elsewhere.push()

    history.moved_by = move_the_remote
    with pytest.raises(RemoteError, match="was not pushed"):
        commit(session, revoking([ledger_of(shared).records[0].key.thumbprint]))


# ------------------------------------------------------------------------- others who decide at the same time


def others_first(shared: Situation, *ledgers: Ledger) -> None:
    """Other mirrors push these ledgers, each just before one of our commits."""
    waiting, history = list(enumerate(ledgers)), shared.world.history

    def push_one(_: FakeHistory) -> None:
        history.moved_by = None
        if waiting:
            number, ledger = waiting.pop(0)
            push_from_elsewhere(shared, ledger, f"other-{number}")
            history.moved_by = push_one

    history.moved_by = push_one


def held_key(shared: Situation) -> KeyRecord:
    """A held key beside a public one."""
    shared.run(ONE, ONE)
    shared.policy = KeyPolicy(new_keys="hold")
    shared.run(BOTH, BOTH)
    (held,) = (each for each in ledger_of(shared).records if each.status is Status.HELD)
    return held


def with_record(ledger: Ledger, record: KeyRecord) -> Ledger:
    known = {key_id(each.key): each for each in (*ledger.records, record)}
    return Ledger(ledger.issuer, tuple(known[identity] for identity in sorted(known)))


def moved_held(shared: Situation, held: KeyRecord, by: int) -> Ledger:
    """The ledger after another mirror changed the held key `by` times. The key is still held."""
    return with_record(ledger_of(shared), replace(held, generation=held.generation + by))


def test_approval_is_made_once_more_when_another_commit_came_first(shared: Situation) -> None:
    """The merge drops the first approval, because the other record moved further. The second approval is kept."""
    held = held_key(shared)
    others_first(shared, moved_held(shared, held, 5))
    commit(session_of(shared), lambda session: decide_approval(session, key_id(held.key)))
    assert key_id(held.key) in {key_id(each) for each in ledger_of(shared).public_keys()}
    assert shared.world.history.remote is not None
    assert shared.world.history.remote.head == shared.world.history.head


def test_approval_that_others_undo_again_and_again_is_an_error(shared: Situation) -> None:
    """An approval that was lost is not reported as successful."""
    held = held_key(shared)
    others_first(shared, *(moved_held(shared, held, by) for by in (5, 10, 20, 40, 80)))
    with pytest.raises(HistoryError, match="the decision does not stand"):
        commit(session_of(shared), lambda session: decide_approval(session, key_id(held.key)))
    assert key_id(held.key) not in {key_id(each) for each in ledger_of(shared).public_keys()}


def test_approval_of_a_key_that_was_revoked_meanwhile_is_refused(shared: Situation) -> None:
    """The other operator's revocation wins. Our command reports it with exit 2 and commits nothing more."""
    held = held_key(shared)
    gone = revoke(ledger_of(shared), {held.key.thumbprint}, now=shared.now, reason="stolen", last=False)
    assert isinstance(gone, LedgerUpdate)
    others_first(shared, gone.ledger)
    with pytest.raises(UsageError, match="a revoked key never comes back"):
        commit(session_of(shared), lambda session: decide_approval(session, key_id(held.key)))
    assert key_id(held.key) not in {key_id(each) for each in ledger_of(shared).public_keys()}


def test_unknown_key_cannot_be_approved(shared: Situation) -> None:
    """The sentence gives the key's status, which is retiring."""
    shared.run(BOTH, BOTH)
    shared.run(LAST, LAST)
    key = next(each.key for each in ledger_of(shared).records if each.status is Status.RETIRING)
    with pytest.raises(UsageError, match="is retiring, not held"):
        decide_approval(session_of(shared), key_id(key))


def test_revocation_by_two_operators_at_once_stands(shared: Situation) -> None:
    """Both operators revoked the same key. The branch has one revocation, and both commands succeed."""
    shared.run(BOTH, BOTH)
    first = ledger_of(shared).records[0].key.thumbprint
    gone = revoke(ledger_of(shared), {first}, now=shared.now, reason="also", last=False)
    assert isinstance(gone, LedgerUpdate)
    others_first(shared, gone.ledger)
    commit(
        session_of(shared), lambda session: decide_revocation(session, frozenset({first}), reason="mine", last=False)[0]
    )
    assert [each.status for each in ledger_of(shared).records] == [Status.REVOKED, Status.PUBLISHED]


def test_revocation_of_the_last_key_is_held(shared: Situation) -> None:
    """The session gives the reason and commits nothing. With `last` it commits the revocation."""
    shared.run(ONE, ONE)
    material = frozenset(each.key.thumbprint for each in ledger_of(shared).records)
    decisions, held = decide_revocation(session_of(shared), material, reason="leaked", last=False)
    assert (decisions, [each.code for each in held]) == ([], ["revocation.held"])
    decisions, held = decide_revocation(session_of(shared), material, reason="leaked", last=True)
    assert ([each.publication.url for each in decisions], held) == ([ISSUER], [])


def test_reason_that_no_ledger_can_keep_is_refused(shared: Situation) -> None:
    """A line feed would break the trailers of the commit message."""
    shared.run(BOTH, BOTH)
    first = ledger_of(shared).records[0].key.thumbprint
    with pytest.raises(UsageError, match="printable characters"):
        decide_revocation(session_of(shared), frozenset({first}), reason="a\nb", last=False)


# ------------------------------------------------------------------- what became of a revoked key in public


DENIED = BucketError("The bucket says no.", code="AccessDenied", remedy="Allow it.")


@pytest.mark.parametrize(
    ("bucket", "cache", "readback", "status", "reported"),
    [
        ("gone", "gone", True, ExitStatus.CURRENT, ""),
        ("gone", "shows it", True, ExitStatus.HELD, "a cache still shows it"),
        ("gone", "shows it", False, ExitStatus.CURRENT, ""),
        ("gone", "blocked", True, ExitStatus.CURRENT, ""),
        ("still there", "gone", True, ExitStatus.FAILED, "is still public in"),
        ("still there", "gone", False, ExitStatus.FAILED, "is still public in"),
        ("absent", "gone", True, ExitStatus.CURRENT, ""),
        ("unreadable", "gone", True, ExitStatus.FAILED, "is not known: The bucket says no."),
        ("unreadable", "gone", False, ExitStatus.FAILED, "is not known: The bucket says no."),
    ],
    ids=lambda value: str(value).replace(" ", "-") or "silent",
)
def test_status_of_a_revocation_is_what_is_public(
    here: Situation,
    capsys: pytest.CaptureFixture[str],
    *,
    bucket: str,
    cache: str,
    readback: bool,
    status: ExitStatus,
    reported: str,
) -> None:
    """Exit 0 only after the key is gone, 3 while a cache serves it. Without read-back the object decides."""
    here.run(BOTH, BOTH)
    before = here.world.bucket.objects[ObjectKey(JWKS_KEY)]
    material = frozenset({ledger_of(here).records[0].key.thumbprint})
    commit(session_of(here), revoking(material))
    report = here.run()
    if bucket == "still there":
        here.world.bucket.objects[ObjectKey(JWKS_KEY)] = before
    elif bucket == "absent":
        del here.world.bucket.objects[ObjectKey(JWKS_KEY)]
    elif bucket == "unreadable":
        here.world.bucket.fails["get"] = DENIED
    if cache == "shows it":
        here.world.web.cached[jwks_uri(ISSUER)] = before
    elif cache == "blocked":
        here.world.web.blocked = Reason("forbidden", "Every client gets 403.", "Allow it.")
    publication = with_readback(session_of(here).publications()[0], enabled=readback)
    capsys.readouterr()
    assert public_state(session_of(here), publication, material, report) is status
    assert reported in capsys.readouterr().err


def with_readback(publication: PublishedIssuer, *, enabled: bool) -> PublishedIssuer:
    publish = publication.issuer.publish
    publish = replace(publish, readback=replace(publish.readback, enabled=enabled))
    return replace(publication, issuer=replace(publication.issuer, publish=publish))


def test_revocation_that_would_empty_the_issuer_is_held(here: Situation) -> None:
    """Two revocations met, so one key is kept and stays public. Exit 3: an operator must decide."""
    here.run(BOTH, BOTH)
    before = ledger_of(here)
    halves = [revoke(before, {each.key.thumbprint}, now=here.now, reason="x", last=False) for each in before.records]
    one, two = (each.ledger for each in halves if isinstance(each, LedgerUpdate))
    ((publication, _),) = session_of(here).ledgers()
    commit(session_of(here), lambda _: [KeyDecision(publication, LedgerUpdate(merge(one, two), (), ()))])
    report = here.run()
    material = frozenset(each.key.thumbprint for each in before.records)
    assert public_state(session_of(here), publication, material, report) is ExitStatus.HELD


# ------------------------------------------------------------------------------------------ killed between


def test_emptied_by_an_operator_who_was_killed(shared: Situation) -> None:
    """The command was killed between commit and push. The next pass recognises the decision and finishes it."""

    class Killed(BaseException):
        """Simulates the kill of the process."""

    def kill() -> None:
        raise Killed

    shared.run(ONE, ONE)
    session = session_of(shared)
    shared.world.history.before_push = kill
    with pytest.raises(Killed):
        commit(session, revoking([each.key.thumbprint for each in ledger_of(shared).records], last=True))
    shared.world.history.before_push = None
    report = shared.run()
    assert "issuer.emptied" in event_names(report)
    assert public_kids(shared) == set()


# --------------------------------------------------------------------------------------------------- adopt


def take_over_all(here: Situation) -> int:
    """The exit status of adopting all documents of the session's issuers."""
    session = session_of(here)
    with pytest.raises(click.exceptions.Exit) as stop:
        adopt_documents(click.Context(adopt), session, list(session.publications()), yes=True, no_pass=True)
    return int(stop.value.exit_code)


def test_adopted_keys_are_committed_in_one_commit(here: Situation) -> None:
    """Keys of apiservers are published, other public keys are retiring. Without a pass no object changes."""
    here.world.bucket.write(JWKS_KEY, capture("02-rsa1-ec2-overlap/jwks").body())
    here.show(ONE, ONE)
    assert take_over_all(here) == ExitStatus.CURRENT
    assert sorted(each.status for each in ledger_of(here).records) == [Status.PUBLISHED, Status.RETIRING]
    assert here.public() == capture("02-rsa1-ec2-overlap/jwks").body()
    assert len(here.world.history.log()) == 1


def test_documents_that_were_taken_over_are_no_intrusion(here: Situation) -> None:
    """The pass after `adopt` replaces the documents silently. The same bytes are drift once ours were published."""
    foreign = capture("02-rsa1-ec2-overlap/jwks").body()
    for key in (JWKS_KEY, DISCOVERY_KEY):
        here.world.bucket.write(key, foreign)
    here.show(ONE, ONE)
    take_over_all(here)
    assert "bucket.drift" not in event_names(here.run())
    assert here.public() != foreign
    here.world.bucket.write(JWKS_KEY, foreign)
    assert "bucket.drift" in event_names(here.run())


FORMER_KEY = "cluster/identifier/keys.json"


def other_layout(here: Situation) -> None:
    """The layout of ccoctl and of the pod identity webhook's guide: discovery names `ISSUER/keys.json`."""
    document = json.loads(capture("01-rsa1/anonymous-bound-discovery").body())
    document["jwks_uri"] = f"{ISSUER}/keys.json"
    here.world.bucket.write(DISCOVERY_KEY, json.dumps(document).encode())
    here.world.bucket.write(FORMER_KEY, capture("02-rsa1-ec2-overlap/jwks").body())


def test_keys_behind_another_jwks_uri_retire_in_their_time(here: Situation) -> None:
    """The keys that relying parties trust are adopted through `jwks_uri`. No key is dropped at once."""
    other_layout(here)
    here.show(LAST, LAST)
    assert take_over_all(here) == ExitStatus.CURRENT
    found = sorted(str(each.status) for each in ledger_of(here).records)
    assert found == ["published", "retiring", "retiring"]
    report = here.run()
    assert "bucket.drift" not in event_names(report)
    assert len(public_kids(here)) == 3
    assert here.public(FORMER_KEY) == capture("02-rsa1-ec2-overlap/jwks").body()


def test_keys_that_cannot_be_read_stop_the_adoption(here: Situation, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise the keys of live tokens would be dropped silently."""
    other_layout(here)
    del here.world.bucket.objects[ObjectKey(FORMER_KEY)]
    here.show(LAST, LAST)
    assert take_over_all(here) == ExitStatus.FAILED
    assert f"{ISSUER}/keys.json" in capsys.readouterr().out
    assert here.world.history.log() == []


def test_former_jwks_is_listed_as_orphaned(here: Situation) -> None:
    """The JWKS stays. `status` prints the delete command, and until when relying parties may read the JWKS."""
    other_layout(here)
    here.show(ONE, ONE)
    take_over_all(here)
    here.run()
    found = collect_status(here.settings(), here.world.ports(), here.now, names=frozenset({NAME}))
    (orphan,) = found.orphaned
    assert orphan.s3_url == f"s3://oidc-bucket/{FORMER_KEY}"
    assert orphan.command[:3] == ("aws", "s3", "rm")
    assert orphan.needed_until is not None
    assert orphan.needed_until > here.now
    assert "not before" in "\n".join(status_lines(found))
    del here.world.bucket.objects[ObjectKey(FORMER_KEY)]
    assert collect_status(here.settings(), here.world.ports(), here.now, names=frozenset({NAME})).orphaned == ()


def test_document_that_changed_after_it_was_taken_over_is_drift(here: Situation) -> None:
    """The operator approved the earlier bytes, not those of a later writer."""
    here.world.bucket.write(JWKS_KEY, capture("02-rsa1-ec2-overlap/jwks").body())
    here.show(ONE, ONE)
    take_over_all(here)
    here.world.bucket.write(JWKS_KEY, b"garbage")
    assert "bucket.drift" in event_names(here.run())


def test_discovery_that_cannot_be_read_stops_no_adoption(here: Situation) -> None:
    """A laptop may lack the right to read the bucket. The public view of the JWKS is enough."""
    here.world.bucket.write(JWKS_KEY, capture("02-rsa1-ec2-overlap/jwks").body())
    here.world.bucket.fails["get"] = BucketError("No.", code="denied")
    here.show(ONE, ONE)
    assert take_over_all(here) == ExitStatus.CURRENT


def test_nothing_adoptable_is_reported_and_nothing_committed(
    here: Situation, capsys: pytest.CaptureFixture[str]
) -> None:
    """No apiserver answers: exit 1, the reason, and no commit."""
    here.show(silent(), silent())
    assert take_over_all(here) == ExitStatus.FAILED
    said = capsys.readouterr().out
    assert "gave no usable answer: timeout" in said
    assert "not adopted: No apiserver" in said
    assert here.world.history.log() == []


def test_answer_that_breaks_our_own_code_stays_with_its_issuer(
    here: Situation, capsys: pytest.CaptureFixture[str]
) -> None:
    """A defect becomes a reason of that issuer, not a traceback."""
    here.show(replace(answer(ONE), jwks=cast("bytes", None)))
    assert take_over_all(here) == ExitStatus.FAILED
    assert "not adopted: This issuer's pass failed unexpectedly" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------- approving


def test_key_is_approved_under_every_text_that_has_it(here: Situation) -> None:
    """A former issuer is left out if its ledger does not know the key."""
    here.run(ONE, ONE)
    here.policy = KeyPolicy(new_keys="hold")
    here.run(BOTH, BOTH)
    session = session_of(here)
    (held,) = (each for each in ledger_of(here).records if each.status is Status.HELD)
    others = tuple(each for each in ledger_of(here).records if each is not held and each.key != held.key)
    decisions = decide_approval(with_former(session, Ledger(FORMER, others)), key_id(held.key))
    assert [each.publication.url for each in decisions] == [ISSUER]
    decisions = decide_approval(with_former(session, Ledger(FORMER, ledger_of(here).records)), key_id(held.key))
    assert [each.publication.url for each in decisions] == [ISSUER, FORMER]


def with_former(session: OperatorSession, ledger: Ledger) -> OperatorSession:
    """The session with one former issuer and its ledger."""
    issuer = replace(session.issuers[0], former_issuers=(FormerIssuerSettings(FORMER, date(2027, 1, 31)),))
    known = replace(session.history.issuers[ISSUER], ledger=ledger)
    memory = replace(session.history, issuers={**session.history.issuers, FORMER: known})
    return replace(session, settings=replace(session.settings, issuers=(issuer,)), issuers=(issuer,), history=memory)


# ------------------------------------------------------------------------------------------ the next passes


def test_set_that_two_operators_emptied_is_held(here: Situation) -> None:
    """No operator asked for an empty set. One key stays public, and the pass gives exit 3 and the command."""
    here.run(BOTH, BOTH)
    before = ledger_of(here)
    halves = [revoke(before, {each.key.thumbprint}, now=here.now, reason="x", last=False) for each in before.records]
    one, two = (each.ledger for each in halves if isinstance(each, LedgerUpdate))
    session = session_of(here)
    ((publication, _),) = session.ledgers()
    commit(session, lambda _: [KeyDecision(publication, LedgerUpdate(merge(one, two), (), ()))])
    report = here.run()
    assert report.exit_status is ExitStatus.HELD
    assert [each.code for each in report.issuers[0].held] == ["revocation.held"]
    assert "--last" in report.issuers[0].held[0].remedy
    assert len(public_kids(here)) == 1
    session = session_of(here)
    commit(session, revoking([each.key.thumbprint for each in before.records], last=True))
    report = here.run()
    assert (report.exit_status, here.public()) == (ExitStatus.CURRENT, b'{"keys":[]}')
    assert "issuer.emptied" in event_names(report)
    assert "issuer.emptied" in event_names(here.run())
    assert "issuer.emptied" not in event_names(here.run(LAST, LAST))


def test_issuer_that_only_shows_a_revoked_key_needs_an_operator(here: Situation) -> None:
    """No key was ever public and none can be. The operator must give the cluster another key."""
    prints = frozenset(each.key.thumbprint for each in _shown_keys(here))
    here.policy = KeyPolicy(revoked=prints)
    assert here.run(ONE, ONE).exit_status is ExitStatus.HELD
    assert here.public() is None


def _shown_keys(here: Situation) -> tuple[KeyRecord, ...]:
    return here.plan(ONE, ONE).issuers[0].records


# ------------------------------------------------------------------------------------------ former issuers


def test_revocation_reaches_former_issuers(here: Situation) -> None:
    """A session has the ledgers of an issuer and its former issuers. Each key appears once, with every revocation."""
    here.run(BOTH, BOTH)
    base = ledger_of(here)
    old = Ledger(FORMER, base.records[:1])
    session = with_former(session_of(here), old)
    assert [each.url for each, _ in session.ledgers()] == [ISSUER, FORMER]
    assert session.every_key() == base
    lines = describe_keys(session, lambda record: record.key == base.records[0].key)
    assert sum(FORMER in line for line in lines) == 1
    gone = revoke(old, {base.records[0].key.thumbprint}, now=here.now, reason="x", last=True)
    assert isinstance(gone, LedgerUpdate)
    changed = with_former(session_of(here), gone.ledger)
    assert changed.revoked(changed.issuers[0]) == {base.records[0].key.thumbprint}


def test_hostile_kid_cannot_steer_the_terminal(here: Situation) -> None:
    """The kid comes from outside and is escaped in the operator's prompt."""
    here.run(BOTH, BOTH)
    session = session_of(here)
    evil = KeyRecord(replace(UNKNOWN_KEY, kid=Kid("k\x1b[2J\u202e")), Status.HELD, 1, here.now, held_because="policy")
    known = replace(session.history.issuers[ISSUER], ledger=Ledger(ISSUER, (evil,)))
    lines = describe_keys(replace(session, history=replace(session.history, issuers={ISSUER: known})), lambda _: True)
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b" in line for line in lines)


def test_written_decision_can_be_read(here: Situation) -> None:
    """The bytes on the branch equal those of the decided ledger."""
    here.run(BOTH, BOTH)
    session = session_of(here)
    decisions = commit(session, revoking([ledger_of(here).records[0].key.thumbprint]))
    assert here.world.history.files()[LEDGER] == write_ledger(decisions[0].outcome.ledger)
    assert here.world.history.log()[0].startswith("syd-prod: revoke key ")
