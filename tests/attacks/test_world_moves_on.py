"""A kill or a failure, and the world goes on before the next pass: nothing is lost, stuck, or called a stranger's."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from mirror.config.settings import FormerIssuer
from mirror.errors import BucketError, HistoryError
from mirror.history.ledgers import remember
from mirror.history.record import Intent, record
from mirror.model import MAX_GENERATION, Answer, IssuerUrl, KeyPolicy, Ledger, PublicObject, Status, key_id
from mirror.report import ExitStatus, Report
from mirror.steps import notebook
from mirror.steps.notebook import EMPTIED, public_id
from mirror.trust import decisions
from mirror.trust.documents import documents
from mirror.trust.ledger import LedgerRead, read_ledger, write_ledger
from mirror.trust.lifecycle import Outcome
from support.captures import capture
from support.fakes import FakeBucket, FakeHistory, FakeRemote, FakeWorld
from support.keys import RSA_KEYS, with_kid
from support.situations import BASE_URL, BOTH, ISSUER, LAST, LEDGER, ONE, Situation, answer, with_remote

MINUTES = timedelta(minutes=5)
DAY = timedelta(days=1)


class Killed(BaseException):
    """A mirror's end at some moment: nothing of it runs any more."""


@pytest.fixture
def here(tmp_path: Path) -> Situation:
    return with_remote(tmp_path)


def pod(here: Situation, number: int, after: timedelta) -> Situation:
    """A CronJob's pod: an empty disk, the same remote, bucket and apiservers."""
    history = replace(here.world.history, head=None, tracking=None)
    folder = here.state_dir.with_name(f"pod-{number}")
    folder.mkdir()
    world = FakeWorld(here.world.source, history, here.world.bucket, here.world.base_url)
    return replace(here, state_dir=folder, world=world, now=here.now + after)


def remote(here: Situation) -> FakeRemote:
    assert here.world.history.remote is not None
    return here.world.history.remote


def told(report: Report) -> set[str]:
    events = {event.name for issuer in report.issuers for event in issuer.events} | {e.name for e in report.events}
    reasons = {reason.code for issuer in report.issuers for reason in (*issuer.failures, *issuer.held)}
    return events | reasons | {reason.code for reason in report.failures}


def public_kids(here: Situation) -> set[str]:
    return {key["kid"] for key in json.loads(here.public() or b'{"keys":[]}')["keys"]}


def ledger_of(here: Situation) -> Ledger:
    found = read_ledger(here.world.history.files()[LEDGER], issuer=ISSUER)
    assert isinstance(found, LedgerRead)
    return found.ledger


def empty(here: Situation, *, vouches: bool) -> None:
    """An operator revokes every key with `--last` and makes no pass."""
    history = here.world.history
    history.fetch(shallow=False)
    memory = remember(history, [ISSUER])
    ledger = memory.issuers[ISSUER].ledger
    assert ledger is not None
    material = [each.key.thumbprint for each in ledger.records]
    outcome = decisions.revoke(ledger, material, now=here.now, reason="leaked", last=True)
    assert isinstance(outcome, Outcome)
    if vouches:
        notebook.vouch(here.state_dir, {ISSUER: frozenset({EMPTIED})})
    record(history, memory, {ISSUER: Intent(outcome.ledger)}, message="x\n", now=here.now, push=True)


# ---------------------------------------------------------------------------------------------------- kills


def test_own_key_needs_no_witness_after_a_kill(here: Situation) -> None:
    """Killed between push and put, while the apiservers move on: what this mirror saw itself it still puts."""

    def kill(_bucket: FakeBucket, _wanted: PublicObject) -> None:
        raise Killed

    here.run(BOTH, BOTH)
    here.world.bucket.before_put = kill
    with pytest.raises(Killed):
        here.run(LAST, LAST)
    here.world.bucket.before_put = None
    other = here.beside()
    assert "remote.unwitnessed" in told(other.run(BOTH, BOTH))
    report = here.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert "remote.unwitnessed" not in told(report)
    assert len(public_kids(here)) == 3
    assert "remote.unwitnessed" not in told(other.run())


def test_decision_beside_a_running_pass_is_kept(here: Situation) -> None:
    """The pass ends after the operator's word, and knows nothing of it: what it writes takes nothing of his away."""
    here.run(BOTH, BOTH)
    here.world.history.at_the_end = lambda: empty(here, vouches=True)
    assert here.run(after=MINUTES).exit_status is ExitStatus.CURRENT
    here.world.history.at_the_end = None
    report = here.run(after=MINUTES)
    assert "remote.unwitnessed" not in told(report)
    assert public_kids(here) == set()


def test_word_ahead_of_its_commit_outlives_a_pass_that_read_it_alone(here: Situation) -> None:
    """The pass reads git before the operator's commit, and the notebook after his word."""
    here.run(BOTH, BOTH)
    notebook.vouch(here.state_dir, {ISSUER: frozenset({EMPTIED})})
    here.run(after=MINUTES)
    empty(here, vouches=False)
    assert "remote.unwitnessed" not in told(here.run(after=MINUTES))
    assert public_kids(here) == set()
    here.run(LAST, LAST, after=MINUTES)
    assert EMPTIED not in notebook.load(here.state_dir).vouched[ISSUER]


def test_emptiness_from_elsewhere_waits_for_an_operator_here(here: Situation) -> None:
    """Only git says so: the keys stay, and a new key of the cluster, with which nothing is empty, goes public."""
    here.run(BOTH, BOTH)
    empty(here.beside(), vouches=False)
    before = public_kids(here)
    assert "remote.unwitnessed" in told(here.run(after=MINUTES))
    assert here.run(after=4 * MINUTES).exit_status is ExitStatus.HELD
    assert public_kids(here) == before
    report = here.run(LAST, LAST, after=MINUTES)
    assert report.exit_status is ExitStatus.CURRENT
    assert public_kids(here) == {key["kid"] for key in json.loads(capture(f"{LAST}jwks").body())["keys"]}


# --------------------------------------------------------------------------------------------------- pushes


def test_pod_puts_nothing_that_it_could_not_push(here: Situation) -> None:
    """Its history goes with its disk: a key that is public only by it would leave without retirement."""
    here.run(ONE, ONE)
    before = dict(here.world.bucket.objects)
    remote(here).refuses_pushes = True
    for number in range(3):
        report = pod(here, number, number * DAY).run(BOTH, BOTH)
        assert report.exit_status is ExitStatus.FAILED
        assert "push.failed" in told(report)
        assert here.world.bucket.objects == before


def test_daemon_on_a_new_disk_puts_nothing_before_its_first_push(here: Situation) -> None:
    """Its second pass has a local history, which is gone with the pod all the same."""
    here.run(ONE, ONE)
    before = dict(here.world.bucket.objects)
    remote(here).refuses_pushes = True
    daemon = pod(here, 0, MINUTES)
    for _ in range(3):
        assert daemon.run(BOTH, BOTH, after=MINUTES).exit_status is ExitStatus.FAILED
        assert here.world.bucket.objects == before
    remote(here).refuses_pushes = False
    assert daemon.run(after=MINUTES).exit_status is ExitStatus.CURRENT
    remote(here).refuses_pushes = True
    assert daemon.run(LAST, LAST, after=MINUTES).exit_status is ExitStatus.CURRENT
    assert len(public_kids(here)) == 3


def test_pod_that_loses_seven_races_gets_its_turn(here: Situation) -> None:
    """Eight shards of a fleet push at the same time; each round has one winner."""
    here.run(ONE, ONE)
    shard, others = pod(here, 0, MINUTES), iter(range(7))

    def win(_: FakeHistory) -> None:
        head = remote(here).head
        number = next(others, None)
        if number is not None and head is not None:
            elsewhere = replace(shard.world.history, head=head, tracking=head, moved_by=None)
            changes = {f"ledger/other-{number}": b"x"}
            elsewhere.commit(base=head, parents=(head,), changes=changes, message="x\n", when=here.now, expect=head)
            elsewhere.push()

    shard.world.history.moved_by = win
    assert shard.run(BOTH, BOTH).exit_status is ExitStatus.CURRENT
    assert len(public_kids(here)) == 2


def test_stranger_in_the_bucket_goes_while_pushes_are_refused(here: Situation) -> None:
    """The remote was heard and does not know the key either: nobody would object."""
    here.run(ONE, ONE)
    remote(here).refuses_pushes = True
    here.run(BOTH, BOTH, after=MINUTES)
    before = here.public()
    document = json.loads(before or b"")
    document["keys"].append(RSA_KEYS[0].members())
    name = next(key for key in here.world.bucket.objects if key.endswith("jwks"))
    here.world.bucket.write(name, json.dumps(document).encode())
    report = here.run(after=MINUTES)
    assert "bucket.drift" in told(report)
    assert here.public() == before


def test_unreadable_bucket_is_one_failure_when_pushes_are_refused(here: Situation) -> None:
    """The plan is looked at again after the push; what it could not read then is not told twice."""
    here.run(ONE, ONE)
    remote(here).refuses_pushes = True
    denied = BucketError("The bucket cannot be listed.")
    here.world.bucket.fails["list"] = denied
    (issuer,) = here.run(BOTH, BOTH, after=MINUTES).issuers
    assert len(issuer.failures) == 1


def test_key_that_another_replica_shows_stays_while_pushes_are_refused(here: Situation) -> None:
    """What nobody else could hear of, nobody else could object to: it is retired, and goes no further."""
    first = replace(here, apiservers=("https://10.0.0.11:6443",))
    first.run(BOTH)
    second = replace(first.beside(), apiservers=("https://10.0.0.12:6443",))
    second.run(BOTH)
    before = public_kids(here)
    first.world.history.remote = replace(remote(first), refuses_pushes=True)
    for after in (MINUTES, MINUTES, DAY, MINUTES, MINUTES):
        assert first.run(ONE, after=after).exit_status is ExitStatus.CURRENT
        assert public_kids(here) == before
        assert "bucket.drift" not in told(second.run(BOTH, after=after))
    first.world.history.remote = second.world.history.remote
    first.run(ONE, after=MINUTES)
    assert public_kids(here) == before


def test_removal_whose_push_is_refused_waits(here: Situation) -> None:
    """The key is dropped in the ledger; the object keeps it until the remote has taken that."""
    here.run(BOTH, BOTH)
    here.run(ONE, ONE)
    before = public_kids(here)
    remote(here).refuses_pushes = True
    report = here.run(after=2 * DAY)
    assert {"removal.waits", "push.failed"} <= told(report)
    assert public_kids(here) == before
    for _ in range(4):  # it is our own state that waits there: nothing is wrong, however long it takes
        assert here.run(after=MINUTES).exit_status is ExitStatus.CURRENT
        assert public_kids(here) == before
    remote(here).refuses_pushes = False
    assert here.run(after=MINUTES).exit_status is ExitStatus.CURRENT
    assert len(public_kids(here)) == 1


# ------------------------------------------------------------------------------------------------ witnesses


def test_new_bucket_is_filled_after_an_approval(here: Situation) -> None:
    """A retiring key that no pod's apiserver or bucket shows any more: the told remedy publishes it."""
    here.run(BOTH, BOTH)
    here.run(LAST, LAST)
    here.world.bucket.objects.clear()
    late = pod(here, 0, DAY / 2)
    report = late.run()
    assert report.exit_status is ExitStatus.HELD
    retiring = [each.key for each in ledger_of(late).records if each.status is Status.RETIRING]
    assert [f"approve syd-prod {key.thumbprint}" in report.issuers[0].held[0].remedy for key in retiring] == [True] * 2
    for key in retiring:
        outcome = decisions.approve(ledger_of(late), key_id(key), late.now)
        assert isinstance(outcome, Outcome)
        notebook.vouch(late.state_dir, {ISSUER: frozenset({public_id(key)})})
    assert late.run().exit_status is ExitStatus.CURRENT
    assert len(public_kids(late)) == 3


def test_one_bad_key_in_the_public_object_does_not_silence_the_others(here: Situation) -> None:
    """The object is a witness key by key, as `adopt` reads it."""
    here.run(BOTH, BOTH)
    document = json.loads(here.public() or b"")
    document["keys"].append({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "weak", "n": "AQAB", "e": "AQAB"})
    name = next(key for key in here.world.bucket.objects if key.endswith("jwks"))
    here.world.bucket.write(name, json.dumps(document).encode())
    report = pod(here, 0, MINUTES).run(ONE, ONE)
    assert "remote.unwitnessed" not in told(report)
    assert len(public_kids(here)) == 2


@pytest.mark.parametrize("forged", [timedelta(days=3000), timedelta(0)], ids=["from the future", "others commit too"])
def test_pods_ask_the_operator_after_15_minutes(here: Situation, forged: timedelta) -> None:
    """No date that a pusher writes, and no commit about another issuer, buys time."""
    here.run(BOTH, BOTH)
    stranger = with_kid(RSA_KEYS[0], RSA_KEYS[0].kid)
    elsewhere = here.beside()
    history = elsewhere.world.history
    history.fetch(shallow=False)
    memory = remember(history, [ISSUER])
    known = ledger_of(here)
    new = replace(known.records[0], key=stranger, generation=1)
    ledger = Ledger(ISSUER, tuple(sorted((*known.records, new), key=lambda each: key_id(each.key))))
    record(history, memory, {ISSUER: Intent(ledger)}, message="x\n", now=here.now + forged, push=True)
    head = remote(here).head
    assert head is not None
    when = here.now + 4 * MINUTES + forged
    changes = {"ledger/elsewhere": b"x"}
    history.commit(base=head, parents=(head,), changes=changes, message="x\n", when=when, expect=head)
    history.push()
    report = pod(here, 0, 4 * MINUTES).run()
    assert report.exit_status is ExitStatus.HELD
    assert "remote.unwitnessed" in told(report)


# --------------------------------------------------------------------------------------------------- clocks


def late_answers(case: str, date_offset: timedelta, here: Situation) -> tuple[Answer, ...]:
    return tuple(replace(answer(case, url), date=here.now + date_offset) for url in here.apiservers)


def test_change_of_sources_under_a_wrong_clock_is_not_forgotten(tmp_path: Path) -> None:
    """Retirement begins anew when the clock is right again, not from what the wrong clock said."""
    here = Situation(tmp_path)
    here.run(BOTH, BOTH)
    here.run(ONE, ONE, after=MINUTES)
    here.now += DAY - MINUTES
    here.apiservers = ("https://10.1.0.11:6443", "https://10.1.0.12:6443")
    here.now -= 2 * DAY
    assert "clock.skewed" in told(here.run(*late_answers(ONE, 2 * DAY, here)))
    here.now += 2 * DAY
    for _ in range(3):
        here.run(*late_answers(ONE, timedelta(0), here), after=MINUTES)
        assert len(public_kids(here)) == 2
    here.run(*late_answers(ONE, DAY, here), after=DAY)
    assert len(public_kids(here)) == 1


def test_change_of_sources_reaches_the_issuer_and_its_former_one(tmp_path: Path) -> None:
    """One of them could not be decided in the pass after the change: its retirements begin anew all the same."""
    old = IssuerUrl(f"{BASE_URL}/old")
    alone = Situation(tmp_path, former=(FormerIssuer(old, date(2027, 1, 1)),))
    alone.run(BOTH, BOTH)
    alone.run(ONE, ONE, after=MINUTES)
    alone.apiservers = ("https://10.1.0.11:6443", "https://10.1.0.12:6443")
    files = dict(alone.world.history.files())
    broken, head = {LEDGER: b"{}"}, alone.world.history.head
    assert head is not None
    history = alone.world.history
    history.commit(base=head, parents=(head,), changes=broken, message="x\n", when=alone.now, expect=head)
    alone.run(ONE, ONE, after=DAY)
    head = history.head
    assert head is not None
    mended = {LEDGER: files[LEDGER]}
    history.commit(base=head, parents=(head,), changes=mended, message="x\n", when=alone.now, expect=head)
    alone.run(ONE, ONE, after=MINUTES)
    alone.run(ONE, ONE, after=MINUTES)
    assert len(public_kids(alone)) == 2


def test_publication_that_waits_does_not_hold_up_the_retirements_of_its_sibling(tmp_path: Path) -> None:
    """A former issuer with somebody else's documents waits for `adopt`; the change of sources is noted once."""
    here = Situation(tmp_path)
    here.run(BOTH, BOTH)
    here.run(ONE, ONE, after=MINUTES)
    old = IssuerUrl(f"{BASE_URL}/old")
    here.former = (FormerIssuer(old, date(2027, 1, 1)),)
    here.world.bucket.write("old/openid/v1/jwks", documents(old, (RSA_KEYS[0],)).jwks)
    here.apiservers = ("https://10.1.0.11:6443", "https://10.1.0.12:6443")
    assert here.run(after=MINUTES).committed
    assert not here.run(after=MINUTES).committed
    report = here.run(after=DAY)
    assert "takeover.held" in told(report)
    assert len(public_kids(here)) == 1


# ------------------------------------------------------------------------------------------------- operators


def test_signer_with_one_kid_for_all_keys_is_not_emptied_by_git(here: Situation) -> None:
    """While two public keys share a kid, nobody else's reader takes the object; that it is not empty is seen."""
    here.policy = KeyPolicy(kid="opaque")
    old, new = with_kid(RSA_KEYS[0], "signer"), with_kid(RSA_KEYS[1], "signer")

    def shows(*keys: object) -> tuple[Answer, ...]:
        found = documents(ISSUER, keys)  # type: ignore[arg-type]  # keys
        return tuple(Answer(url, found.discovery, found.jwks) for url in here.apiservers)

    here.run(*shows(old))
    here.run(*shows(new), after=MINUTES)
    memory = remember(here.world.history, [ISSUER])
    ledger = memory.issuers[ISSUER].ledger
    assert ledger is not None
    outcome = decisions.approve(ledger, key_id(new), here.now)
    assert isinstance(outcome, Outcome)
    notebook.vouch(here.state_dir, {ISSUER: frozenset({public_id(new)})})
    intents = {ISSUER: Intent(outcome.ledger)}
    record(here.world.history, memory, intents, message="x\n", now=here.now, push=True)
    here.run(after=MINUTES)
    before = here.public()
    assert len(json.loads(before or b"")["keys"]) == 2
    assert "remote.unwitnessed" not in told(pod(here, 0, MINUTES).run())
    empty(here.beside(), vouches=False)
    assert "remote.unwitnessed" in told(here.run(after=MINUTES))
    assert here.public() == before


def test_alg_that_git_alone_says_is_set_aside_where_it_would_win(here: Situation) -> None:
    """Merges take the first of the alphabet; a signer's RS512 must not become RS256 by a push."""
    here.policy = KeyPolicy(kid="opaque")
    key = replace(with_kid(RSA_KEYS[0], "signer"), alg="RS512")
    found = documents(ISSUER, (key,))
    here.run(*(Answer(url, found.discovery, found.jwks) for url in here.apiservers))
    before, history = here.public(), here.beside().world.history
    for alg in ("RS256", "RS512"):
        head = remote(here).head
        assert head is not None
        known = ledger_of(here).records[0]
        ledger = Ledger(ISSUER, (replace(known, key=replace(key, alg=alg), generation=MAX_GENERATION),))
        changes = {LEDGER: write_ledger(ledger)}
        history.fetch(shallow=False)
        history.head = head
        history.commit(base=head, parents=(head,), changes=changes, message="x\n", when=here.now, expect=head)
        history.push()
        states = [told(here.run(after=MINUTES)) for _ in range(5)]
        assert here.public() == before
        assert ("remote.unwitnessed" in states[-1]) is (alg == "RS256")


@pytest.mark.parametrize("body", [None, b"", b"<html>", b'{"keys":[{"kty":"RSA"}]}'], ids=str)
def test_emptiness_is_not_witnessed_by_what_is_no_empty_set(here: Situation, body: bytes | None) -> None:
    """A new bucket, or an object that nobody can read, is no empty key set."""
    here.run(BOTH, BOTH)
    empty(here.beside(), vouches=False)
    name = next(key for key in here.world.bucket.objects if key.endswith("jwks"))
    here.world.bucket.objects.clear()
    if body is not None:
        here.world.bucket.write(name, body)
    assert "remote.unwitnessed" in told(here.run(after=MINUTES))
    assert here.public() == body


def test_notebook_of_an_earlier_program_asks_for_witnesses_once(here: Situation) -> None:
    """It says nothing of `alg`: the public object is asked, once. What that program reads is still written."""
    here.run(BOTH, BOTH)
    path = here.state_dir / notebook.FILE_NAME
    content = json.loads(path.read_bytes())
    del content["vouched_with_alg"], content["has_pushed"]
    assert {len(each) for keys in content["vouched"].values() for each in keys} == {2}
    path.write_text(json.dumps(content))
    report = here.run(ONE, ONE, after=MINUTES)
    assert report.exit_status is ExitStatus.CURRENT
    assert "remote.unwitnessed" not in told(report)
    assert {alg for _, _, alg in notebook.load(here.state_dir).vouched[ISSUER]} == {"RS256", "ES256"}


def test_unsaved_notes_keep_nobody_from_publishing(here: Situation) -> None:
    """A disk that takes no note: the pass goes on, and says so."""
    here.run(ONE, ONE)
    (here.state_dir / notebook.FILE_NAME).unlink()
    (here.state_dir / notebook.FILE_NAME).mkdir()
    report = here.run(BOTH, BOTH)
    assert "state.unsaved" in told(report)
    assert len(public_kids(here)) == 2
    with pytest.raises(HistoryError, match="cannot be written"):
        notebook.vouch(here.state_dir, {ISSUER: frozenset({EMPTIED})})
