"""Which ledgers are trusted: the mode, the remembered decisions, and when a mirror may begin to sign.

Which keys of the apiservers are new, and are therefore compared with those of the whole fleet.

`check --fleet` works without gmpy2, and reports when that takes long.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mirror.addresses import repository_paths
from mirror.config.settings import Issuer
from mirror.errors import UsageError
from mirror.history.ledger_reader import DecidedLedger, HistoryState, IssuerHistory
from mirror.model import CommitId, Heads, Key, KeyRecord, Ledger, Level, Observed, Revocation, Status, trimmed
from mirror.reconcile.local_state import (
    FORMER_FILE_NAME,
    LOCAL_STATE_FILE_NAME,
    LocalIssuerState,
    LocalState,
    load_local_state,
    update,
)
from mirror.reconcile.state import (
    MANY_KEYS,
    ValidatedAnswers,
    gmpy2_hint,
    integer_type,
    ledger_keys,
    mode_of,
    trust_of,
    unsigned_remote,
    validate_answers,
)
from mirror.report import ExitStatus, Report
from mirror.trust.discovery import BelievedAnswers
from mirror.trust.ledger_signature import LedgerTrust, LedgerVerifier, SignatureHeader
from support.fakes import MOMENT, Commit, FakeHistory, FakeRemote, FakeWorld
from support.signers import ledger_trust, signer
from support.situations import BASE_URL, ISSUER, LEDGER, NAME, ONE, Situation, answer

SIGNATURE = f"{LEDGER}.jws"
DECIDED = DecidedLedger("1" * 40)
KEYS = ledger_trust()


def codes(report: Report) -> list[str]:
    return [*(each.code for each in report.failures), *(r.code for i in report.issuers for r in i.failures)]


# ------------------------------------------------------------------------------------------------ the mode


@pytest.mark.parametrize(
    ("remote", "keys", "mode"),
    [
        (None, None, "local"),
        ("/remote.git", None, "trusted"),
        ("/remote.git", KEYS, "signed"),
        (None, KEYS, "signed"),
        ("/remote.git", LedgerVerifier("oidc-mirror", KEYS.keys), "signed"),
    ],
    ids=["local", "trusted", "signed", "signed-local", "only-reading"],
)
def test_mode_in_a_word(tmp_path: Path, remote: str | None, keys: LedgerVerifier | None, mode: str) -> None:
    """With a key, only signed ledgers count; no mode is between the two."""
    settings = replace(Situation(tmp_path, remote=remote).settings().repository)
    assert mode_of(settings, keys) == mode


def test_trusted_remote_is_said_in_the_words_of_the_contract(tmp_path: Path) -> None:
    """The event says what anyone who can push can do, and what prevents it."""
    event = unsigned_remote(Situation(tmp_path, remote="/remote.git").settings())
    assert (event.name, event.level) == ("repository.unsigned", Level.WARNING)
    assert event.sentence == (
        "Anyone who can push to main of /remote.git, its administrators included, can publish a key, act as any pod of "
        "1 issuers, and undo a revocation; set `repository.signing_key`, or protect the branch."
    )


# ------------------------------------------------------------------------------------- what is remembered


@pytest.mark.parametrize(
    ("keys", "repository", "is_known"),
    [(KEYS, "oidc-mirror", True), (KEYS, "another", False), (KEYS, "", False), (None, "oidc-mirror", True)],
    ids=["same-name", "another-name", "never-decided", "trusted-mode"],
)
def test_decided_ledgers_count_under_their_repositorys_name_alone(
    tmp_path: Path, keys: LedgerTrust | None, repository: str, is_known: bool
) -> None:
    """A new repository has a new name, so decisions in the old one do not count."""
    local = LocalState({ISSUER: LocalIssuerState(decided=DECIDED)}, repository=repository)
    trust = trust_of(Situation(tmp_path).settings(), FakeHistory(), local, keys)
    assert trust.decided == ({ISSUER: DECIDED} if is_known else {})
    assert trust.is_signed is (keys is not None)


# ------------------------------------------------------------------------------------ when signing begins


def head_of(history: FakeHistory, *paths: str) -> CommitId:
    return history.commits.add(Commit((), dict.fromkeys(paths, b"x"), "x", MOMENT))


@pytest.mark.parametrize(
    ("local", "remote", "trusted", "is_former", "is_first"),
    [
        ([LEDGER], None, "local", False, True),
        ([LEDGER], [LEDGER], "local", False, True),
        (None, [LEDGER], "remote", False, True),
        ([LEDGER], None, "", False, False),
        ([LEDGER], None, "elsewhere", False, False),
        ([LEDGER, SIGNATURE], None, "local", False, False),
        ([LEDGER], [LEDGER, SIGNATURE], "local", False, False),
        ([LEDGER, "public/x.jws"], None, "local", False, True),
        ([LEDGER], None, "", True, True),
        ([LEDGER, SIGNATURE], None, "", True, False),
        (None, None, "", True, False),
    ],
    ids=[
        "trusted-until-now",
        "trusted-with-a-remote",
        "the-head-is-the-remotes",
        "never-trusted-here",
        "another-repository",
        "our-head-is-signed",
        "the-remotes-head-is-signed",
        "only-ledgers-count",
        "after-an-upgrade",
        "after-an-upgrade-and-signed",
        "after-an-upgrade-without-a-repository",
    ],
)
def test_one_pass_trusts_what_it_signs_first(
    tmp_path: Path, *, local: list[str] | None, remote: list[str] | None, trusted: str, is_former: bool, is_first: bool
) -> None:
    """A mirror signs unsigned ledgers only if it trusted this repository until now and found no signatures in it."""
    history = FakeHistory(remote=FakeRemote())
    history.head = None if local is None else head_of(history, *local)
    history.tracking = None if remote is None else head_of(history, *remote)
    known = {"local": history.head or "", "remote": history.tracking or "", "elsewhere": "ab" * 20, "": ""}
    state = LocalState(trusted_head=known[trusted], is_former=is_former)
    settings = Situation(tmp_path).settings()
    assert trust_of(settings, history, state, KEYS).as_it_is is is_first
    assert trust_of(settings, history, state, None).as_it_is is False


def test_first_pass_with_a_key_signs_what_it_trusted(shared: Situation) -> None:
    """The ledger's bytes stay and the signature is added; from then on no unsigned ledger is trusted."""
    shared.run(ONE, ONE)
    body = shared.world.history.files()[LEDGER]
    assert load_local_state(shared.state_dir).trusted_head == shared.world.history.head
    shared.world.ledger_trust = KEYS
    report = shared.run()
    assert (report.exit_status, report.committed) == (ExitStatus.CURRENT, True)
    files = shared.world.history.files()
    assert files[LEDGER] == body
    assert isinstance(KEYS.verify(body, files[SIGNATURE], ISSUER), SignatureHeader)
    local = load_local_state(shared.state_dir)
    assert (local.trusted_head, local.of(ISSUER).decided is not None) == ("", True)
    assert not shared.run().committed


def test_first_pass_with_a_key_after_an_upgrade_signs_too(shared: Situation) -> None:
    """`notebook.json` exists, so the earlier program trusted the repository."""
    shared.run(ONE, ONE)
    (shared.state_dir / LOCAL_STATE_FILE_NAME).unlink()
    (shared.state_dir / FORMER_FILE_NAME).write_text('{"sources": {}}')
    shared.world.ledger_trust = KEYS
    assert shared.run().exit_status is ExitStatus.CURRENT
    assert SIGNATURE in shared.world.history.files()
    assert not (shared.state_dir / FORMER_FILE_NAME).exists()


@pytest.mark.parametrize("is_kept", [True, False], ids=["disk-without-its-state", "empty-disk"])
def test_mirror_with_a_new_key_waits_for_one_that_knows(shared: Situation, is_kept: bool) -> None:
    """This machine never trusted the repository: it trusts no unsigned ledger, decides nothing, and names a remedy."""
    shared.run(ONE, ONE)
    head, public = shared.world.history.head, shared.public()
    (shared.state_dir / LOCAL_STATE_FILE_NAME).unlink()
    mirror = shared if is_kept else shared.beside()
    mirror.world.ledger_trust = KEYS
    report = mirror.run()
    assert report.exit_status is ExitStatus.FAILED
    assert "ledger.lost" in codes(report)
    assert shared.world.history.remote is not None
    assert (shared.world.history.remote.head, shared.public()) == (head, public)


def test_decided_ledger_of_our_own_head_is_accepted_without_a_signature(shared: Situation) -> None:
    """Another mirror signed first: this mirror's decisions still count, and are merged with the signed ledger."""
    shared.run(ONE, ONE)
    update(shared.state_dir, lambda state: replace(state, trusted_head="ab" * 20))
    shared.world.ledger_trust = KEYS
    assert shared.run().exit_status is ExitStatus.CURRENT
    assert SIGNATURE in shared.world.history.files()


def test_repository_in_which_signatures_were_met_is_trusted_no_more(shared: Situation) -> None:
    """After someone removes the signatures, no pass signs unsigned ledgers, even if the key is configured later."""
    shared.run(ONE, ONE)
    head = shared.world.history.head
    signed = signed_copy(shared)
    with pytest.raises(UsageError, match=r"repository\.signed"):
        shared.run()
    assert load_local_state(shared.state_dir).trusted_head == ""
    assert shared.world.history.remote is not None
    assert (shared.world.history.remote.head, shared.world.history.head) == (signed, head)


def signed_copy(here: Situation) -> CommitId:
    """Another mirror's commit on the remote: the same ledger with a signature."""
    history = here.world.history
    assert history.remote is not None
    assert history.head is not None
    files = dict(history.files())
    files[SIGNATURE] = ledger_trust(1).sign(files[LEDGER], ISSUER)
    history.remote.head = history.commits.add(Commit((history.head,), files, "x", MOMENT))
    return history.remote.head


def test_mirror_without_a_key_stops_where_others_sign(shared: Situation) -> None:
    """Exit status 2 before any action; the public documents stay."""
    shared.world.ledger_trust = KEYS
    shared.run(ONE, ONE)
    other = shared.beside()
    other.world.ledger_trust = None
    puts = shared.world.bucket.count("put")
    with pytest.raises(UsageError, match=r"repository\.signed"):
        other.run()
    assert (other.world.history.head, shared.world.bucket.count("put")) == (None, puts)


def test_another_mirrors_signature_is_remembered(shared: Situation) -> None:
    """It is stored by the blob ids of ledger and signature and the signer's key, so it is not verified again."""
    shared.world.ledger_trust = KEYS
    shared.run(ONE, ONE)
    decided = load_local_state(shared.state_dir).of(ISSUER).decided
    assert decided is not None
    assert decided.kid == signer().kid
    other = shared.beside()
    other.world.ledger_trust = ledger_trust(1, 0)
    assert not other.run().committed
    known = load_local_state(other.state_dir).of(ISSUER).decided
    assert known == decided


NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def memory(*records: KeyRecord) -> HistoryState:
    known = IssuerHistory(repository_paths(ISSUER), Ledger(ISSUER, records) if records else None)
    return HistoryState(Heads(None, None), None, (), {ISSUER: known})


def believed(known: HistoryState) -> tuple[ValidatedAnswers, bool]:
    """The accepted part of one captured answer, and whether its key was compared with those of other issuers."""
    asked = []

    def left_out() -> Iterable[Key]:
        asked.append(True)
        return ()

    issuer = Issuer(NAME, ISSUER, FakeWorld(base_url=BASE_URL).publish())
    return validate_answers([issuer], {NAME: (answer(ONE),)}, known, left_out=left_out), bool(asked)


def test_answer_of_the_last_pass_is_not_judged_again_until_the_ledger_changes() -> None:
    """The cached observation is returned. The keys of the ledger are part of the cache key."""
    asked = [Issuer(NAME, ISSUER, FakeWorld(base_url=BASE_URL).publish())]
    learned = BelievedAnswers()
    record = KeyRecord(shown(), Status.PUBLISHED, 1, NOW)

    def keys(known: HistoryState) -> tuple[Key, ...]:
        (seen,) = validate_answers(asked, {NAME: (answer(ONE),)}, known, believed=learned).observations[NAME]
        assert isinstance(seen, Observed)
        return seen.keys

    first = keys(memory())
    assert keys(memory()) is first
    after_the_commit = keys(memory(record))
    assert (after_the_commit == first, after_the_commit is first) == (True, False)
    assert keys(memory(record)) is after_the_commit


def shown() -> Key:
    (observation,) = believed(memory())[0].observations[NAME]
    assert isinstance(observation, Observed)
    (key,) = observation.keys
    return key


@pytest.mark.parametrize(
    ("status", "is_new", "is_recorded"),
    [
        (None, True, False),
        (Status.PUBLISHED, False, True),
        (Status.HELD, False, True),
        (Status.DROPPED, True, False),
        (Status.REVOKED, False, False),
    ],
    ids=["unknown", "published", "held", "dropped", "revoked"],
)
def test_key_is_compared_when_it_comes_and_when_it_returns(
    status: Status | None, is_new: bool, is_recorded: bool
) -> None:
    """A dropped key is no longer among the compared keys, so it is new again. A revoked key is never compared."""
    revocation = Revocation(NOW, "stolen") if status is Status.REVOKED else None
    held = "policy" if status is Status.HELD else None
    records = () if status is None else (KeyRecord(shown(), status, 1, NOW, held_because=held, revocation=revocation),)
    known = memory(*(trimmed(record) for record in records))
    assert believed(known)[1] is is_new
    assert list(ledger_keys(known)) == ([shown()] if is_recorded else [])


@pytest.mark.parametrize(
    ("count", "number", "is_reported"),
    [(MANY_KEYS, Decimal, True), (MANY_KEYS - 1, Decimal, False), (MANY_KEYS, int, False)],
    ids=["many_slow", "few_slow", "many_fast"],
)
def test_extra_is_named_where_it_helps(count: int, number: Callable[[int], Any], *, is_reported: bool) -> None:
    """The hint names the extra only for many keys and Python's own integers."""
    reported = gmpy2_hint(count, number)
    assert (reported is not None and "[fleet]" in reported) is is_reported


def test_numbers_are_exact() -> None:
    """The integer type, gmpy2's or Python's, represents a modulus exactly."""
    assert int(integer_type()(2**2048 + 1)) == 2**2048 + 1
