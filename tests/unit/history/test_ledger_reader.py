"""Which ledger files are trusted in signed and in trusted mode, and how invalid records are treated."""

from dataclasses import dataclass, replace

import pytest

from mirror.errors import UsageError
from mirror.history.ledger_reader import (
    DecidedLedger,
    VerificationContext,
)
from mirror.model import CommitId, Level, Status
from mirror.trust.discovery import LedgerCache
from mirror.trust.ledger import write_ledger
from mirror.trust.ledger_signature import LedgerVerifier
from support.fakes import FakeRemote
from support.ledger_files import (
    ISSUER,
    LISTED,
    OTHER,
    OWN,
    PATHS,
    SIGNED,
    TRUSTED,
    UNLISTED,
    A,
    B,
    C,
    Files,
    Git,
    codes,
    damaged,
    decided,
    ledger,
    names,
    on_remote,
    read,
    record,
    signature,
    signed,
    unsigned,
)
from support.signers import ledger_trust, signer


@dataclass(frozen=True)
class Case:
    """A ledger file in the newest commit. `keeps`: its signature need not be renewed."""

    sentence: str
    files: Files
    believed: bool
    reported: str = ""
    keeps: bool = False
    decided: DecidedLedger | None = None
    is_own: bool = False
    trust: VerificationContext = SIGNED


OF_MIRROR = signed(A)
FALSE = {**unsigned(A, B), PATHS.signature: signature(write_ledger(ledger(A)))}
OTHER_SIGNATURE = {**unsigned(A), PATHS.signature: b"x..y\n"}
CASES = (
    Case("our own key signed it", OF_MIRROR, believed=True, keeps=True),
    Case("another mirror signed it", signed(A, by=LISTED), believed=True, keeps=True),
    Case("an operator signed it, so a mirror signs it again", signed(A, by=LISTED, role="operator"), believed=True),
    Case(
        "an operator signed it, and an operator reads it",
        signed(A, by=LISTED, role="operator"),
        believed=True,
        keeps=True,
        trust=VerificationContext(ledger_trust(LISTED, OWN, role="operator")),
    ),
    Case(
        "a command that only reads trusts the same signers",
        signed(A, by=LISTED, role="operator"),
        believed=True,
        trust=VerificationContext(LedgerVerifier("oidc-mirror", ledger_trust(OWN, LISTED).keys)),
    ),
    Case("its key is not listed", signed(A, by=UNLISTED), believed=False, reported="ledger.unknown_signer"),
    Case("it is unsigned", unsigned(A), believed=False, reported="ledger.unsigned"),
    Case("the signature is of other bytes", FALSE, believed=False, reported="ledger.unsigned"),
    Case("it is signed for another repository", signed(A, name="test"), believed=False, reported="ledger.unsigned"),
    Case(
        "it is signed for another issuer",
        {**unsigned(A), PATHS.signature: signature(write_ledger(ledger(A)), issuer=OTHER)},
        believed=False,
        reported="ledger.unsigned",
    ),
    Case(
        "it is another issuer's ledger with a valid signature",
        {
            PATHS.ledger: write_ledger(ledger(A, issuer=OTHER)),
            PATHS.signature: signature(write_ledger(ledger(A, issuer=OTHER)), issuer=OTHER),
        },
        believed=False,
        reported="ledger.unsigned",
    ),
    Case("the signature is not our detached JWS", OTHER_SIGNATURE, believed=False, reported="ledger.damaged"),
    Case("the signature is empty", {**unsigned(A), PATHS.signature: b""}, believed=False, reported="ledger.damaged"),
    Case(
        "it is no ledger, although it is signed",
        {PATHS.ledger: b"{}", PATHS.signature: signature(b"{}")},
        believed=False,
        reported="ledger.damaged",
    ),
    Case("it is no ledger", {PATHS.ledger: b"\xff"}, believed=False, reported="ledger.damaged"),
    Case(
        "it is unsigned, and it is the file that we decided on",
        unsigned(A),
        believed=True,
        decided=decided(unsigned(A)),
        is_own=True,
    ),
    Case(
        "we decided on it, and only the remote's head has it",
        unsigned(A),
        believed=False,
        reported="ledger.unsigned",
        decided=decided(unsigned(A)),
    ),
    Case(
        "our own head has another file than we decided on",
        unsigned(A, B),
        believed=False,
        reported="ledger.unsigned",
        decided=decided(unsigned(A)),
        is_own=True,
    ),
    Case(
        "our own head has a file, and nothing is remembered",
        unsigned(A),
        believed=False,
        reported="ledger.unsigned",
        is_own=True,
    ),
    Case(
        "we made the signature and remember it, so it is not verified again",
        OTHER_SIGNATURE,
        believed=True,
        keeps=True,
        decided=decided(OTHER_SIGNATURE, signer(number=OWN).kid),
    ),
    Case(
        "we made the signature with a key that is not listed any more",
        signed(A, by=UNLISTED),
        believed=False,
        reported="ledger.unknown_signer",
        decided=decided(signed(A, by=UNLISTED), signer(number=UNLISTED).kid),
    ),
    Case(
        "the same in our own head: our decision stands, and is signed again",
        signed(A, by=UNLISTED),
        believed=True,
        decided=decided(signed(A, by=UNLISTED), signer(number=UNLISTED).kid),
        is_own=True,
    ),
    Case(
        "we decided on it, and another writer replaced the signature: we sign again",
        OTHER_SIGNATURE,
        believed=True,
        decided=decided(signed(A), signer(number=OWN).kid),
        is_own=True,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=[each.sentence.replace(" ", "-") for each in CASES])
def test_ledger_of_the_newest_commit_in_signed_mode(case: Case) -> None:
    """A ledger is trusted if a listed key signed it for this issuer and repository, or if this mirror decided it."""
    history = Git()
    head = history.chain(case.files)
    history.head, history.tracking = (head, None) if case.is_own else (None, head)
    trust = replace(case.trust, decided={} if case.decided is None else {ISSUER: case.decided})
    found = read(history, trust)
    assert (found.ledger is not None) is case.believed
    assert found.is_lost is not case.believed
    assert [each.ledger for each in found.signed] == ([case.files[PATHS.ledger]] if case.keeps else [])
    reported = [*names(found), *codes(found)]
    assert reported == ([] if case.believed else [case.reported, "ledger.lost"])
    assert found.files == case.files
    assert (found.unknown_signer != "") is (case.reported == "ledger.unknown_signer")


@pytest.mark.parametrize("case", CASES, ids=[each.sentence.replace(" ", "-") for each in CASES])
def test_what_the_pass_before_read_makes_nobody_believe_it(case: Case) -> None:
    """The cache of a pass that trusted the same bytes does not change the result of this pass."""
    history, ledger_cache = Git(), LedgerCache()
    head = history.chain(case.files)
    history.head, history.tracking = (head, None) if case.is_own else (None, head)
    trust = replace(case.trust, decided={} if case.decided is None else {ISSUER: case.decided})
    read(history, replace(trust, as_it_is=True), ledger_cache=ledger_cache)
    assert read(history, trust, ledger_cache=ledger_cache) == read(history, trust)


def test_untrusted_ledger_is_reported_with_its_remedy() -> None:
    """The report has the commit, its unproven author, and the line of the unlisted key for `allowed_signers`."""
    history = on_remote(signed(A), {**signed(A), **unsigned(A, B)}, {**signed(A), **unsigned(A, B), "x": b"x"})
    (event,) = read(history).events
    changed = history.commits.by_id[history.tracking or CommitId("")].parents[0]
    assert (event.level, event.fields) == (Level.ERROR, {"path": PATHS.ledger, "commit": changed})
    assert f"is {changed} (its author is not proven)" in event.sentence
    found = read(on_remote(signed(A, by=UNLISTED)))
    kid = signer(number=UNLISTED).kid
    assert found.unknown_signer == kid
    assert kid in found.failures[0].remedy
    assert "repository.allowed_signers" in found.failures[0].remedy


@pytest.mark.parametrize(
    ("files", "reported"),
    [
        (unsigned(A), []),
        (OTHER_SIGNATURE, []),
        (signed(A, name="test"), []),
        ({PATHS.ledger: b"{}"}, ["ledger.damaged", "ledger.broken"]),
        ({PATHS.ledger: b""}, ["ledger.damaged", "ledger.broken"]),
    ],
    ids=["unsigned", "garbage-beside", "other-repository", "no-ledger", "empty"],
)
def test_ledger_of_the_newest_commit_in_trusted_mode(files: Files, reported: list[str]) -> None:
    """Every readable ledger is trusted. If it is unreadable, only additions continue."""
    found = read(on_remote(files), TRUSTED)
    assert codes(found) == reported
    assert found.is_lost is bool(reported)
    assert (found.ledger is None) is bool(reported)
    assert found.events == ()
    if reported:
        assert "its revocations are unknown; what apiservers show" in found.failures[-1].sentence


@pytest.mark.parametrize("where", ["local", "remote"])
def test_mirror_without_a_key_stops_at_a_signature(where: str) -> None:
    """The ledger is signed, and a mirror without a key would undo the signers' decisions, so it stops."""
    history = Git()
    head = history.chain(signed(A, by=UNLISTED))
    history.head, history.tracking = (head, None) if where == "local" else (None, head)
    with pytest.raises(UsageError, match=r"repository\.signed") as refused:
        read(history, TRUSTED)
    assert "repository.signing_key" in refused.value.remedy
    assert "repository.allowed_signers" in refused.value.remedy


def test_signature_of_a_damaged_ledger_also_stops_a_mirror_without_a_key() -> None:
    """A signature also counts if the ledger beside it is damaged."""
    with pytest.raises(UsageError, match=r"repository\.signed"):
        read(on_remote({**signed(A), PATHS.ledger: b"{}"}), TRUSTED)


def test_signature_in_old_commits_stops_no_mirror() -> None:
    """If an operator returned to trusted mode, signatures in older commits do not matter."""
    found = read(on_remote(signed(A), unsigned(A), {PATHS.ledger: b"{}"}), TRUSTED)
    assert (found.ledger, codes(found)) == (ledger(A), ["ledger.damaged"])


def test_first_signing_still_trusts_what_it_finds() -> None:
    """The first pass with a key trusts every ledger, so no state is lost."""
    found = read(on_remote(unsigned(A)), replace(SIGNED, as_it_is=True))
    assert (found.ledger, found.signed, found.events, found.failures) == (ledger(A), (), (), ())


@pytest.mark.parametrize("trust", [SIGNED, TRUSTED], ids=["signed", "trusted"])
def test_damaged_record_counts_as_in_our_own_head(trust: VerificationContext) -> None:
    """A damaged record is reported and replaced by our own head's; the file's other records count."""
    history = Git(remote=FakeRemote())
    mine = signed(A, B) if trust is SIGNED else unsigned(A, B)
    body = damaged(write_ledger(ledger(A, record(B, Status.RETIRING, 2), C)), A, status="nonsense")
    theirs = {PATHS.ledger: body, **({PATHS.signature: signature(body, LISTED)} if trust is SIGNED else {})}
    history.head = history.chain(mine)
    history.tracking = history.add(theirs, history.head)
    found = read(history, trust)
    assert found.ledger == ledger(A, record(B, Status.RETIRING, 2), C)
    assert codes(found) == ["ledger.damaged"]
    assert "A record of the ledger is left out" in found.failures[0].sentence


def test_damaged_record_of_an_empty_disk_is_left_out() -> None:
    """An empty disk has no other version of the damaged record."""
    body = damaged(write_ledger(ledger(A, B)), A, status="nonsense")
    found = read(on_remote({PATHS.ledger: body, PATHS.signature: signature(body)}))
    assert (found.ledger, codes(found)) == (ledger(B), ["ledger.damaged"])


def test_damaged_revocation_stays_one() -> None:
    """A damaged revocation with a readable thumbprint and status still keeps the key out."""
    body = damaged(write_ledger(ledger(record(A, Status.REVOKED), B)), A, generation="many", revocation=None)
    found = read(on_remote({PATHS.ledger: body, PATHS.signature: signature(body)}))
    assert found.ledger is not None
    assert {each.key.thumbprint: each.status for each in found.ledger.records} == {
        A.thumbprint: Status.REVOKED,
        B.thumbprint: Status.PUBLISHED,
    }
