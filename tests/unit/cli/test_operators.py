"""Decisions of operators over fakes: what moves under them, what the remote says, and what a pass makes of them."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import cast

import click
import pytest

from mirror.cli.adopt import command, take_over
from mirror.cli.approve import decide
from mirror.cli.desk import Desk
from mirror.cli.operate import Decision, commit, described, tell_where_it_counts
from mirror.cli.options import Common
from mirror.cli.revoke import decide as decide_revocation
from mirror.config.settings import FormerIssuer
from mirror.errors import BucketError, HistoryError, RemoteError
from mirror.history.ledgers import remember
from mirror.history.record import Intent, record
from mirror.model import IssuerUrl, KeyPolicy, KeyRecord, Kid, Ledger, Status, Thumbprint, key_id
from mirror.report import ExitStatus, Report
from mirror.steps import notebook
from mirror.steps.notebook import EMPTIED, public_id
from mirror.steps.plan import publications
from mirror.trust.decisions import revoke
from mirror.trust.ledger import LedgerRead, read_ledger, write_ledger
from mirror.trust.lifecycle import Outcome
from mirror.trust.merge import merge
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
    ONE,
    Situation,
    answer,
    silent,
    with_remote,
)

FORMER = IssuerUrl(f"{BASE_URL}/old")
STRANGER = RSA_KEYS[3]


@pytest.fixture
def here(tmp_path: Path) -> Situation:
    return Situation(tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> Situation:
    return with_remote(tmp_path)


def desk_of(here: Situation, *, lasting: bool = True, **repository: object) -> Desk:
    """The desk of an operator on the mirror's own machine, after its fetch."""
    settings = here.settings()
    settings = replace(settings, repository=replace(settings.repository, **repository))  # type: ignore[arg-type]  # fields by name
    history = here.world.history
    if settings.repository.remote is not None:
        history.fetch(shallow=False)
    memory = remember(history, [each.url for each in publications(settings)])
    options = Common(Path("mirror.yaml"), "info", "json")
    return Desk(options, settings, settings.issuers, here.world.ports(), memory, here.now, lasting=lasting)


def revoking(desk: Desk, prints: Iterable[Thumbprint], *, last: bool = False) -> list[Decision]:
    material = frozenset(prints)
    decisions = []
    for at, ledger in desk.ledgers():
        outcome = revoke(ledger, material, now=desk.now, reason="stolen", last=last)
        assert isinstance(outcome, Outcome)
        decisions.append(Decision(at, outcome, frozenset({EMPTIED}) if last else frozenset()))
    return decisions


def ledger_of(here: Situation) -> Ledger:
    found = read_ledger(here.world.history.files()[LEDGER], issuer=ISSUER)
    assert isinstance(found, LedgerRead)
    return found.ledger


def push_from_elsewhere(here: Situation, ledger: Ledger) -> None:
    """Somebody who may push to the remote commits a ledger there."""
    elsewhere = here.beside()
    history = elsewhere.world.history
    history.fetch(shallow=False)
    memory = remember(history, [ISSUER])
    record(history, memory, {ISSUER: Intent(ledger)}, message="x\n", now=here.now, push=True)


def names(report: Report) -> set[str]:
    return {event.name for issuer in report.issuers for event in issuer.events}


def public_kids(here: Situation, key: str = JWKS_KEY) -> set[str]:
    return {each["kid"] for each in json.loads(here.public(key) or b"")["keys"]}


# ----------------------------------------------------------------------------------------------- the commit


def test_commit_of_a_pass_beside_us_is_not_lost(here: Situation, capsys: pytest.CaptureFixture[str]) -> None:
    """The branch moves between our read and our write: both changes are on it."""
    here.run(BOTH, BOTH)
    desk = desk_of(here)
    (first, second) = ledger_of(here).records

    def revoke_the_other(history: FakeHistory) -> None:
        history.moved_by = None
        commit(desk_of(here), revoking(desk_of(here), [second.key.thumbprint]))

    here.world.history.moved_by = revoke_the_other
    commit(desk, revoking(desk, [first.key.thumbprint]))
    assert [each.status for each in ledger_of(here).records] == [Status.REVOKED, Status.REVOKED]
    assert capsys.readouterr().out.count("Committed as ") == 2


def test_ledger_that_breaks_beside_us_is_told(here: Situation) -> None:
    """What could not be recorded must not look recorded."""
    here.run(BOTH, BOTH)
    desk = desk_of(here)

    def break_it(history: FakeHistory) -> None:
        history.moved_by = None
        head = history.head
        parents = () if head is None else (head,)
        history.commit(base=head, parents=parents, changes={LEDGER: b"{}"}, message="x", when=here.now, expect=head)

    here.world.history.moved_by = break_it
    with pytest.raises(HistoryError, match="became unreadable"):
        commit(desk, revoking(desk, [ledger_of(here).records[0].key.thumbprint]))


@pytest.mark.parametrize(
    ("lasting", "told"), [(True, "is committed on this machine"), (False, "nothing was decided")], ids=str
)
def test_push_that_fails_is_an_error(shared: Situation, *, lasting: bool, told: str) -> None:
    """A decision that nobody else can see is no decision where a remote is set."""
    shared.run(BOTH, BOTH)
    desk = desk_of(shared, lasting=lasting)
    assert shared.world.history.remote is not None
    shared.world.history.remote.refuses_pushes = True
    with pytest.raises(RemoteError, match=told):
        commit(desk, revoking(desk, [ledger_of(shared).records[0].key.thumbprint]))


def test_push_that_loses_every_race_is_an_error(shared: Situation) -> None:
    """Others push before each of our five tries."""
    shared.run(BOTH, BOTH)
    desk = desk_of(shared)
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
        commit(desk, revoking(desk, [ledger_of(shared).records[0].key.thumbprint]))


# ------------------------------------------------------------------------------------- strangers on the remote


def stranger(status: Status = Status.PUBLISHED) -> KeyRecord:
    return KeyRecord(STRANGER, status, 7, Situation(Path()).now)


def test_decision_does_not_launder_a_key_of_the_remote(shared: Situation) -> None:
    """A key that only the remote calls public stays unbelieved although our branch now holds it."""
    shared.run(BOTH, BOTH)
    known = ledger_of(shared)
    records = tuple(sorted((*known.records, stranger()), key=lambda each: key_id(each.key)))
    push_from_elsewhere(shared, Ledger(ISSUER, records))
    desk = desk_of(shared)
    commit(desk, revoking(desk, [known.records[0].key.thumbprint]))
    assert key_id(STRANGER) in {key_id(key) for key in ledger_of(shared).public_keys()}
    report = shared.run()
    assert "remote.unwitnessed" in names(report)
    assert STRANGER.kid not in public_kids(shared)


def test_what_the_operator_vouches_for_is_believed(shared: Situation) -> None:
    """Approving the very key that the remote names is what publishes it."""
    shared.run(BOTH, BOTH)
    known = ledger_of(shared)
    records = tuple(sorted((*known.records, stranger()), key=lambda each: key_id(each.key)))
    push_from_elsewhere(shared, Ledger(ISSUER, records))
    assert "remote.unwitnessed" in names(shared.run())
    desk = desk_of(shared)
    ((publication, ledger),) = desk.ledgers()
    commit(desk, [Decision(publication, Outcome(ledger, (), ()), frozenset({public_id(STRANGER)}))])
    assert public_id(STRANGER) in notebook.load(shared.state_dir).vouched[ISSUER]
    shared.run()
    assert STRANGER.kid in public_kids(shared)


def test_emptied_by_an_operator_who_was_killed(shared: Situation) -> None:
    """Killed between commit and push: the next pass knows whose decision it was, and finishes it."""

    class Killed(BaseException):
        """The end of the process."""

    def kill() -> None:
        raise Killed

    shared.run(ONE, ONE)
    desk = desk_of(shared)
    shared.world.history.before_push = kill
    with pytest.raises(Killed):
        commit(desk, revoking(desk, [each.key.thumbprint for each in ledger_of(shared).records], last=True))
    shared.world.history.before_push = None
    report = shared.run()
    assert "remote.unwitnessed" not in names(report)
    assert public_kids(shared) == set()


# --------------------------------------------------------------------------------------------------- adopt


def take_over_all(here: Situation) -> int:
    """The exit status of adopting everything that the desk's issuers publish."""
    desk = desk_of(here)
    with pytest.raises(click.exceptions.Exit) as stop:
        take_over(click.Context(command), desk, list(desk.publications()), yes=True, no_pass=True)
    return int(stop.value.exit_code)


def test_adopted_keys_are_committed_in_one_commit(here: Situation) -> None:
    """Shown ones published, the others of the public document retiring; without a pass no object is touched."""
    here.world.bucket.write(JWKS_KEY, capture("02-rsa1-ec2-overlap/jwks").body())
    here.show(ONE, ONE)
    assert take_over_all(here) == ExitStatus.CURRENT
    assert sorted(each.status for each in ledger_of(here).records) == [Status.PUBLISHED, Status.RETIRING]
    assert here.public() == capture("02-rsa1-ec2-overlap/jwks").body()
    assert len(here.world.history.log()) == 1


def events(report: Report) -> set[str]:
    return {event.name for issuer in report.issuers for event in issuer.events}


def test_documents_that_were_taken_over_are_no_intrusion(here: Situation) -> None:
    """The pass after `adopt` replaces them quietly; the same bytes are drift again once ours have stood there."""
    foreign = capture("02-rsa1-ec2-overlap/jwks").body()
    for key in (JWKS_KEY, DISCOVERY_KEY):
        here.world.bucket.write(key, foreign)
    here.show(ONE, ONE)
    take_over_all(here)
    assert "bucket.drift" not in events(here.run())
    assert here.public() != foreign
    here.world.bucket.write(JWKS_KEY, foreign)
    assert "bucket.drift" in events(here.run())


def test_document_that_changed_after_it_was_taken_over_is_drift(here: Situation) -> None:
    """An operator approved those bytes, not those of whoever writes next."""
    here.world.bucket.write(JWKS_KEY, capture("02-rsa1-ec2-overlap/jwks").body())
    here.show(ONE, ONE)
    take_over_all(here)
    here.world.bucket.write(JWKS_KEY, b"garbage")
    assert "bucket.drift" in events(here.run())


def test_discovery_that_cannot_be_read_stops_no_adoption(here: Situation) -> None:
    """A laptop may have no right to read the bucket; the world's view of the JWKS is enough."""
    here.world.bucket.write(JWKS_KEY, capture("02-rsa1-ec2-overlap/jwks").body())
    here.world.bucket.fails["get"] = BucketError("No.", code="denied")
    here.show(ONE, ONE)
    assert take_over_all(here) == ExitStatus.CURRENT


def test_nothing_adoptable_is_told_and_nothing_committed(here: Situation, capsys: pytest.CaptureFixture[str]) -> None:
    """Every apiserver is silent: status 1, the reason, no commit."""
    here.show(silent(), silent())
    assert take_over_all(here) == ExitStatus.FAILED
    said = capsys.readouterr().out
    assert "gave no usable answer: timeout" in said
    assert "not adopted: No apiserver" in said
    assert here.world.history.log() == []


def test_answer_that_breaks_our_own_code_stays_with_its_issuer(
    here: Situation, capsys: pytest.CaptureFixture[str]
) -> None:
    """A defect is a reason of that issuer, not a traceback."""
    here.show(replace(answer(ONE), jwks=cast("bytes", None)))
    assert take_over_all(here) == ExitStatus.FAILED
    assert "not adopted: This issuer's pass failed unexpectedly" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------- approving


def test_key_is_approved_under_every_text_that_has_it(here: Situation) -> None:
    """A former issuer whose ledger does not know the key has no part in the decision."""
    here.run(ONE, ONE)
    here.policy = KeyPolicy(new_keys="hold")
    here.run(BOTH, BOTH)
    desk = desk_of(here)
    (held,) = (each for each in ledger_of(here).records if each.status is Status.HELD)
    others = tuple(each for each in ledger_of(here).records if each is not held and each.key != held.key)
    decisions, refusals = decide(with_former(desk, Ledger(FORMER, others)), key_id(held.key))
    assert [each.publication.url for each in decisions] == [ISSUER]
    decisions, _ = decide(with_former(desk, Ledger(FORMER, ledger_of(here).records)), key_id(held.key))
    assert [each.publication.url for each in decisions] == [ISSUER, FORMER]
    assert refusals == []


def with_former(desk: Desk, ledger: Ledger) -> Desk:
    """The desk with one former issuer and its ledger."""
    issuer = replace(desk.issuers[0], former_issuers=(FormerIssuer(FORMER, date(2027, 1, 31)),))
    known = replace(desk.memory.issuers[ISSUER], ledger=ledger)
    memory = replace(desk.memory, issuers={**desk.memory.issuers, FORMER: known})
    return replace(desk, settings=replace(desk.settings, issuers=(issuer,)), issuers=(issuer,), memory=memory)


# ------------------------------------------------------------------------------------------ the next passes


def test_set_that_two_operators_emptied_is_held(here: Situation) -> None:
    """Nobody asked for an empty set: what is public stays, and the pass ends with 3 and the command."""
    here.run(BOTH, BOTH)
    before, public = ledger_of(here), here.public()
    halves = [revoke(before, {each.key.thumbprint}, now=here.now, reason="x", last=False) for each in before.records]
    one, two = (each.ledger for each in halves if isinstance(each, Outcome))
    desk = desk_of(here)
    ((publication, _),) = desk.ledgers()
    commit(desk, [Decision(publication, Outcome(merge(one, two), (), ()))])
    report = here.run()
    assert report.exit_status is ExitStatus.HELD
    assert [each.code for each in report.issuers[0].held] == ["emptied.held"]
    assert "revoke syd-prod --all --last" in report.issuers[0].held[0].remedy
    assert here.public() == public
    desk = desk_of(here)
    commit(desk, revoking(desk, [each.key.thumbprint for each in before.records], last=True))
    report = here.run()
    assert (report.exit_status, here.public()) == (ExitStatus.CURRENT, b'{"keys":[]}')
    assert "issuer.emptied" in names(report)
    assert "issuer.emptied" in names(here.run())
    assert "issuer.emptied" not in names(here.run(LAST, LAST))


def test_issuer_that_only_shows_a_revoked_key_needs_an_operator(here: Situation) -> None:
    """Nothing was ever public and nothing can be: somebody must give the cluster another key."""
    prints = frozenset(each.key.thumbprint for each in _shown_keys(here))
    here.policy = KeyPolicy(revoked=prints)
    assert here.run(ONE, ONE).exit_status is ExitStatus.HELD
    assert here.public() is None


def _shown_keys(here: Situation) -> tuple[KeyRecord, ...]:
    return here.plan(ONE, ONE).issuers[0].records


# ------------------------------------------------------------------------------------------ former issuers


def test_revocation_reaches_former_issuers(here: Situation) -> None:
    """The desk sees the ledgers of all texts of an issuer, each key once, and what is revoked under any."""
    here.run(BOTH, BOTH)
    base = ledger_of(here)
    old = Ledger(FORMER, base.records[:1])
    desk = with_former(desk_of(here), old)
    assert [each.url for each, _ in desk.ledgers()] == [ISSUER, FORMER]
    assert desk.every_key() == base
    lines = described(desk, lambda record: record.key == base.records[0].key)
    assert sum(FORMER in line for line in lines) == 1
    gone = revoke(old, {base.records[0].key.thumbprint}, now=here.now, reason="x", last=True)
    assert isinstance(gone, Outcome)
    changed = with_former(desk_of(here), gone.ledger)
    assert changed.revoked(changed.issuers[0]) == {base.records[0].key.thumbprint}


def test_hostile_kid_cannot_steer_the_terminal(here: Situation) -> None:
    """What an operator is asked about is escaped: the kid is text from outside."""
    here.run(BOTH, BOTH)
    desk = desk_of(here)
    evil = KeyRecord(replace(STRANGER, kid=Kid("k\x1b[2J\u202e")), Status.HELD, 1, here.now, held_because="policy")
    known = replace(desk.memory.issuers[ISSUER], ledger=Ledger(ISSUER, (evil,)))
    lines = described(replace(desk, memory=replace(desk.memory, issuers={ISSUER: known})), lambda _: True)
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b" in line for line in lines)


def test_written_decision_can_be_read(here: Situation) -> None:
    """The bytes on the branch are those of the decided ledger."""
    here.run(BOTH, BOTH)
    desk = desk_of(here)
    decisions = revoking(desk, [ledger_of(here).records[0].key.thumbprint])
    commit(desk, decisions)
    assert here.world.history.files()[LEDGER] == write_ledger(decisions[0].outcome.ledger)
    assert here.world.history.log()[0].startswith("syd-prod: revoke key ")


# ------------------------------------------------------------------------------------ what is said beside git


def test_word_of_a_decision_that_failed_is_taken_back(shared: Situation) -> None:
    """Nothing was committed: a pusher finds no permission to empty the issuer that nobody meant to give."""
    shared.run(BOTH, BOTH)
    before = notebook.load(shared.state_dir)
    desk = desk_of(shared)

    def fail(_: FakeHistory) -> None:
        raise HistoryError("The disk is full.")

    shared.world.history.moved_by = fail
    with pytest.raises(HistoryError):
        commit(desk, revoking(desk, [each.key.thumbprint for each in ledger_of(shared).records], last=True))
    assert notebook.load(shared.state_dir) == before


@pytest.mark.parametrize(
    ("lasting", "no_pass", "signed", "told"),
    [(False, True, False, True), (True, True, False, False), (False, False, False, False), (False, True, True, False)],
    ids=["elsewhere", "on its machine", "with a pass", "signed"],
)
def test_decision_that_a_mirror_elsewhere_will_not_believe_is_told(
    shared: Situation, capsys: pytest.CaptureFixture[str], *, lasting: bool, no_pass: bool, signed: bool, told: bool
) -> None:
    """Only git would tell the mirror to empty an issuer, and git is not enough."""
    shared.run(BOTH, BOTH)
    desk = desk_of(shared, lasting=lasting, allowed_signers=Path("signers") if signed else None)
    decisions = revoking(desk, [each.key.thumbprint for each in ledger_of(shared).records], last=True)
    tell_where_it_counts(desk, decisions, no_pass=no_pass)
    assert ("remote.unwitnessed" in capsys.readouterr().err) is told


def test_revocation_of_one_of_two_keys_is_told_nothing_more(
    shared: Situation, capsys: pytest.CaptureFixture[str]
) -> None:
    """It empties nothing, so a mirror elsewhere carries it out."""
    shared.run(BOTH, BOTH)
    desk = desk_of(shared, lasting=False)
    first = ledger_of(shared).records[0].key.thumbprint
    found, refusals = decide_revocation(desk, frozenset({first}), reason="leaked", last=True)
    assert refusals == []
    assert [each.vouches for each in found] == [frozenset()]
    tell_where_it_counts(desk, found, no_pass=True)
    assert capsys.readouterr().err == ""
