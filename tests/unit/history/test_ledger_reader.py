"""What is believed of git, in signed and in trusted mode: one ledger file, several heads, and where nothing is."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mirror.addresses import repository_paths
from mirror.errors import BucketError, HistoryError, UsageError
from mirror.history.commit_graph import blob_id
from mirror.history.ledger_reader import (
    DecidedLedger,
    HistoryState,
    IssuerHistory,
    VerificationContext,
    load_history,
    public_path,
    with_named_commits,
)
from mirror.model import CommitId, IssuerUrl, Key, KeyRecord, Ledger, Level, Revocation, Status, key_id, trimmed
from mirror.trust.ledger import write_ledger
from mirror.trust.ledger_signature import LedgerVerifier, Role, sign_ledger
from mirror.trust.merge import merge
from support.fakes import MOMENT, Commit, FakeHistory, FakeRemote
from support.gits import bare, git, open_repository
from support.keys import EC_KEYS, RSA_KEYS
from support.signers import ledger_trust, signer

ISSUER = IssuerUrl("https://oidc.example.com/cluster/one")
OTHER = IssuerUrl("https://oidc.example.com/cluster/two")
PATHS = repository_paths(ISSUER)
A, B, C = RSA_KEYS[0], RSA_KEYS[1], EC_KEYS[0]
OWN, LISTED, STRANGER = 0, 1, 2
"""Numbers of keys: the mirror's own, one of `allowed_signers`, and one that nobody lists."""
SIGNED = VerificationContext(ledger_trust(OWN, LISTED))
TRUSTED = VerificationContext()
SHA1 = 40


def record(key: Key, status: Status = Status.PUBLISHED, generation: int = 1) -> KeyRecord:
    revocation = Revocation(MOMENT, "stolen") if status is Status.REVOKED else None
    missing = MOMENT if status is Status.RETIRING else None
    return trimmed(KeyRecord(key, status, generation, MOMENT, missing_since=missing, revocation=revocation))


def ledger(*entries: Key | KeyRecord, issuer: IssuerUrl = ISSUER) -> Ledger:
    records = [each if isinstance(each, KeyRecord) else record(each) for each in entries]
    return Ledger(issuer, tuple(sorted(records, key=lambda each: key_id(each.key))))


def signature(
    body: bytes, by: int = OWN, *, role: Role = "mirror", name: str = "oidc-mirror", issuer: IssuerUrl = ISSUER
) -> bytes:
    return sign_ledger(body, issuer=issuer, repository=name, role=role, key=signer(number=by))


Files = Mapping[str, bytes]


def unsigned(*entries: Key | KeyRecord) -> Files:
    return {PATHS.ledger: write_ledger(ledger(*entries))}


def signed(*entries: Key | KeyRecord, by: int = OWN, role: Role = "mirror", name: str = "oidc-mirror") -> Files:
    """The files of a ledger that a key signed."""
    body = write_ledger(ledger(*entries))
    return {PATHS.ledger: body, PATHS.signature: signature(body, by, role=role, name=name)}


def decided(files: Files, kid: str = "") -> DecidedLedger:
    """What `local-state.json` says after this mirror decided on these files."""
    made = blob_id(files[PATHS.signature], SHA1) if kid else ""
    return DecidedLedger(blob_id(files[PATHS.ledger], SHA1), made, kid)


class Git(FakeHistory):
    """A history that tests build commit by commit."""

    def add(self, files: Files, *parents: CommitId) -> CommitId:
        return self.commits.add(Commit(parents, files, "x", MOMENT))

    def chain(self, *states: Files) -> CommitId:
        """A commit for each state, one on top of the other."""
        head: tuple[CommitId, ...] = ()
        for files in states:
            head = (self.add(files, *head),)
        return head[0]


def on_remote(*states: Files) -> Git:
    """A mirror with an empty disk that has fetched these commits."""
    history = Git(remote=FakeRemote())
    history.tracking = history.chain(*states)
    return history


def read(
    history: FakeHistory, trust: VerificationContext = SIGNED, *named: str, before: CommitId | None = None
) -> IssuerHistory:
    found = load_history(
        history, [ISSUER], trust, named_commits=lambda _: tuple(named) if named else None, before=before
    )
    return found.issuers[ISSUER]


def names(found: IssuerHistory) -> list[str]:
    return [event.name for event in found.events]


def codes(found: IssuerHistory) -> list[str]:
    return [reason.code for reason in found.failures]


# ------------------------------------------------------------------------------------- one file, signed mode


@dataclass(frozen=True)
class Case:
    """A ledger file on the newest commit. `keeps` tells that its signature need not be made anew."""

    sentence: str
    files: Files
    believed: bool
    told: str = ""
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
    Case("an operator signed it, so a mirror signs it anew", signed(A, by=LISTED, role="operator"), believed=True),
    Case(
        "an operator signed it, and an operator reads it",
        signed(A, by=LISTED, role="operator"),
        believed=True,
        keeps=True,
        trust=VerificationContext(ledger_trust(LISTED, OWN, role="operator")),
    ),
    Case(
        "somebody who only reads believes as a mirror",
        signed(A, by=LISTED, role="operator"),
        believed=True,
        trust=VerificationContext(LedgerVerifier("oidc-mirror", ledger_trust(OWN, LISTED).keys)),
    ),
    Case("nobody here lists its key", signed(A, by=STRANGER), believed=False, told="ledger.unknown_signer"),
    Case("nobody signed it", unsigned(A), believed=False, told="ledger.unsigned"),
    Case("the signature is of other bytes", FALSE, believed=False, told="ledger.unsigned"),
    Case("it is signed for another repository", signed(A, name="test"), believed=False, told="ledger.unsigned"),
    Case(
        "it is signed for another issuer",
        {**unsigned(A), PATHS.signature: signature(write_ledger(ledger(A)), issuer=OTHER)},
        believed=False,
        told="ledger.unsigned",
    ),
    Case(
        "it is another issuer's, with its good signature",
        {
            PATHS.ledger: write_ledger(ledger(A, issuer=OTHER)),
            PATHS.signature: signature(write_ledger(ledger(A, issuer=OTHER)), issuer=OTHER),
        },
        believed=False,
        told="ledger.unsigned",
    ),
    Case("the signature is no JWS of ours", OTHER_SIGNATURE, believed=False, told="ledger.damaged"),
    Case("the signature is empty", {**unsigned(A), PATHS.signature: b""}, believed=False, told="ledger.damaged"),
    Case(
        "it is no ledger, although it is signed",
        {PATHS.ledger: b"{}", PATHS.signature: signature(b"{}")},
        believed=False,
        told="ledger.damaged",
    ),
    Case("it is no ledger", {PATHS.ledger: b"\xff"}, believed=False, told="ledger.damaged"),
    Case(
        "nobody signed it, and it is the file that we decided on",
        unsigned(A),
        believed=True,
        decided=decided(unsigned(A)),
        is_own=True,
    ),
    Case(
        "we decided on it, and only the remote's head has it",
        unsigned(A),
        believed=False,
        told="ledger.unsigned",
        decided=decided(unsigned(A)),
    ),
    Case(
        "our own head has another file than we decided on",
        unsigned(A, B),
        believed=False,
        told="ledger.unsigned",
        decided=decided(unsigned(A)),
        is_own=True,
    ),
    Case(
        "our own head has a file, and nothing is remembered",
        unsigned(A),
        believed=False,
        told="ledger.unsigned",
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
        signed(A, by=STRANGER),
        believed=False,
        told="ledger.unknown_signer",
        decided=decided(signed(A, by=STRANGER), signer(number=STRANGER).kid),
    ),
    Case(
        "that, and it is our own head: our decision stands, and is signed anew",
        signed(A, by=STRANGER),
        believed=True,
        decided=decided(signed(A, by=STRANGER), signer(number=STRANGER).kid),
        is_own=True,
    ),
    Case(
        "we decided on it, and somebody replaced the signature: ours is made again",
        OTHER_SIGNATURE,
        believed=True,
        decided=decided(signed(A), signer(number=OWN).kid),
        is_own=True,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=[each.sentence.replace(" ", "-") for each in CASES])
def test_ledger_of_the_newest_commit_in_signed_mode(case: Case) -> None:
    """Believed are those that a listed key signed for this issuer and repository, and what this mirror decided on."""
    history = Git()
    head = history.chain(case.files)
    history.head, history.tracking = (head, None) if case.is_own else (None, head)
    trust = replace(case.trust, decided={} if case.decided is None else {ISSUER: case.decided})
    found = read(history, trust)
    assert (found.ledger is not None) is case.believed
    assert found.is_lost is not case.believed
    assert [each.ledger for each in found.signed] == ([case.files[PATHS.ledger]] if case.keeps else [])
    told = [*names(found), *codes(found)]
    assert told == ([] if case.believed else [case.told, "ledger.lost"])
    assert found.files == case.files
    assert (found.unknown_signer != "") is (case.told == "ledger.unknown_signer")


def test_unbelieved_ledger_is_reported_with_what_helps() -> None:
    """The commit that changed it and that its author is not proven; the key that nobody lists, with the line to add."""
    history = on_remote(signed(A), {**signed(A), **unsigned(A, B)}, {**signed(A), **unsigned(A, B), "x": b"x"})
    (event,) = read(history).events
    changed = history.commits.by_id[history.tracking or CommitId("")].parents[0]
    assert (event.level, event.fields) == (Level.ERROR, {"path": PATHS.ledger, "commit": changed})
    assert f"is {changed} (its author is not proven)" in event.sentence
    found = read(on_remote(signed(A, by=STRANGER)))
    kid = signer(number=STRANGER).kid
    assert found.unknown_signer == kid
    assert kid in found.failures[0].remedy
    assert "repository.allowed_signers" in found.failures[0].remedy


# ------------------------------------------------------------------------------------ one file, trusted mode


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (unsigned(A), []),
        (OTHER_SIGNATURE, []),
        (signed(A, name="test"), []),
        ({PATHS.ledger: b"{}"}, ["ledger.damaged", "ledger.broken"]),
        ({PATHS.ledger: b""}, ["ledger.damaged", "ledger.broken"]),
    ],
    ids=["unsigned", "garbage-beside", "other-repository", "no-ledger", "empty"],
)
def test_ledger_of_the_newest_commit_in_trusted_mode(files: Files, told: list[str]) -> None:
    """Every ledger that can be read counts; of one that cannot, nothing is known and additions go on."""
    found = read(on_remote(files), TRUSTED)
    assert codes(found) == told
    assert found.is_lost is bool(told)
    assert (found.ledger is None) is bool(told)
    assert found.events == ()
    if told:
        assert "its revocations are unknown; what apiservers show" in found.failures[-1].sentence


@pytest.mark.parametrize("where", ["local", "remote"])
def test_mirror_without_a_key_stops_at_a_signature(where: str) -> None:
    """Its own name and issuer stand in the signature: it would undo what the others decide."""
    history = Git()
    head = history.chain(signed(A, by=STRANGER))
    history.head, history.tracking = (head, None) if where == "local" else (None, head)
    with pytest.raises(UsageError, match=r"repository\.signed") as refused:
        read(history, TRUSTED)
    assert "repository.signing_key" in refused.value.remedy
    assert "repository.allowed_signers" in refused.value.remedy


def test_signature_beside_a_damaged_ledger_stops_a_mirror_without_a_key_too() -> None:
    """The repository is signed, whatever became of the file."""
    with pytest.raises(UsageError, match=r"repository\.signed"):
        read(on_remote({**signed(A), PATHS.ledger: b"{}"}), TRUSTED)


def test_signature_of_the_past_stops_nobody() -> None:
    """Where an operator went back to a trusted remote, the signatures of before are only history."""
    found = read(on_remote(signed(A), unsigned(A), {PATHS.ledger: b"{}"}), TRUSTED)
    assert (found.ledger, codes(found)) == (ledger(A), ["ledger.damaged"])


def test_first_signing_still_trusts_what_it_finds() -> None:
    """For one pass everything counts, and nothing is lost."""
    found = read(on_remote(unsigned(A)), replace(SIGNED, as_it_is=True))
    assert (found.ledger, found.signed, found.events, found.failures) == (ledger(A), (), (), ())


# --------------------------------------------------------------------------------------- records that are damaged


def damaged(body: bytes, key: Key, **changes: object) -> bytes:
    """The ledger with one record changed so that it does not validate."""
    content = json.loads(body)
    for each in content["keys"]:
        if each["thumbprint"] == key.thumbprint:
            each.update(changes)
    return json.dumps(content).encode()


@pytest.mark.parametrize("trust", [SIGNED, TRUSTED], ids=["signed", "trusted"])
def test_damaged_record_counts_as_in_our_own_head(trust: VerificationContext) -> None:
    """It alone is reported; the others of its file count as they stand."""
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
    """Nothing else is known of it."""
    body = damaged(write_ledger(ledger(A, B)), A, status="nonsense")
    found = read(on_remote({PATHS.ledger: body, PATHS.signature: signature(body)}))
    assert (found.ledger, codes(found)) == (ledger(B), ["ledger.damaged"])


def test_damaged_revocation_stays_one() -> None:
    """Its thumbprint and status can be read: that suffices to keep the key out."""
    body = damaged(write_ledger(ledger(record(A, Status.REVOKED), B)), A, generation="many", revocation=None)
    found = read(on_remote({PATHS.ledger: body, PATHS.signature: signature(body)}))
    assert found.ledger is not None
    assert {each.key.thumbprint: each.status for each in found.ledger.records} == {
        A.thumbprint: Status.REVOKED,
        B.thumbprint: Status.PUBLISHED,
    }


# ------------------------------------------------------------------------------------------------ several heads


def test_heads_that_differ_are_merged() -> None:
    """Both are parents, the remote's last, and each believed ledger counts."""
    history = Git(remote=FakeRemote())
    base = history.chain(signed(A))
    history.head = history.add({**signed(A, B), PATHS.jwks: b"ours"}, base)
    history.tracking = history.add({**signed(A, C, by=LISTED), PATHS.jwks: b"theirs"}, base)
    state = load_history(history, [ISSUER], SIGNED)
    assert (state.parents, state.base, state.is_pushed) == ((history.head, history.tracking), history.tracking, False)
    found = state.issuers[ISSUER]
    assert found.ledger == ledger(A, B, C)
    assert found.files[PATHS.jwks] == b"theirs"
    assert found.known_texts[PATHS.jwks] == {b"ours", b"theirs"}
    assert found.remote_public_keys == {key_id(A), key_id(C)}
    assert len(found.signed) == 2


@pytest.mark.parametrize(
    ("local", "remote", "parents", "pushed"),
    [
        (None, None, [], True),
        ("one", None, ["one"], False),
        (None, "one", ["one"], True),
        ("one", "one", ["one"], True),
        ("two", "one", ["two"], False),
        ("one", "two", ["two"], True),
        ("two", "aside", ["two", "aside"], False),
    ],
)
def test_parents_are_the_heads_that_no_other_contains(
    local: str | None, remote: str | None, parents: list[str], pushed: bool
) -> None:
    """What the next commit must contain."""
    history = Git()
    commits = {"one": history.chain(unsigned(A))}
    commits |= {name: history.add({"x": name.encode()}, commits["one"]) for name in ("two", "aside")}
    history.head = None if local is None else commits[local]
    history.tracking = None if remote is None else commits[remote]
    state = load_history(history, [], TRUSTED)
    assert (state.parents, state.is_pushed) == (tuple(commits[each] for each in parents), pushed)


@pytest.mark.parametrize("trust", [SIGNED, TRUSTED], ids=["signed", "trusted"])
def test_older_ledger_on_top_loses_nothing(trust: VerificationContext) -> None:
    """A commit on the branch has an older, believed file: merged with what stood there before, and reported."""
    make = signed if trust is SIGNED else unsigned
    history = Git(remote=FakeRemote())
    history.head = before = history.chain(make(A), make(record(A, Status.REVOKED, 2), B))
    history.tracking = history.add(make(A), history.head)
    found = read(history, trust, before=before)
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)
    assert (names(found), codes(found)) == (["history.rewritten"], [])


def test_branch_that_was_set_back_is_merged_with_what_was_fetched_before() -> None:
    """The remote's head of the fetch before counts, although nobody names it any more."""
    history = on_remote(signed(A), signed(record(A, Status.REVOKED, 2), B))
    before = history.tracking
    assert before is not None
    history.tracking = history.commits.by_id[before].parents[0]
    found = read(history, before=before)
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)
    assert names(found) == ["history.rewritten"]


def test_newer_ledger_is_no_rewriting() -> None:
    """Whatever another mirror decided since the last fetch."""
    history = on_remote(signed(A), signed(record(A, Status.RETIRING, 2), B, by=LISTED))
    assert history.tracking is not None
    found = read(history, before=history.commits.by_id[history.tracking].parents[0])
    assert (found.ledger, found.events) == (ledger(record(A, Status.RETIRING, 2), B), ())


# ----------------------------------------------------------------------------- where the newest is not believed


GARBAGE: Sequence[Files] = (
    {},
    unsigned(C),
    {PATHS.ledger: b"{}"},
    {PATHS.ledger: b"x" * 100, PATHS.signature: b"y"},
    signed(C, by=STRANGER),
    {**signed(A), **unsigned(A, C)},
)


@pytest.mark.parametrize(
    ("top", "told"),
    [
        (GARBAGE[0], "history.rewritten"),
        (GARBAGE[1], "ledger.unsigned"),
        (GARBAGE[2], "ledger.damaged"),
        (GARBAGE[3], "ledger.damaged"),
        (GARBAGE[4], "ledger.unknown_signer"),
        (GARBAGE[5], "ledger.unsigned"),
    ],
    ids=["deleted", "unsigned", "no-ledger", "garbage", "unknown-signer", "false-signature"],
)
@pytest.mark.parametrize("between", [0, 3], ids=["on-top", "below-others"])
def test_nearest_believed_ledger_counts(top: Files, told: str, between: int) -> None:
    """However many commits above it are not believed; what they held is not missed."""
    history = on_remote(signed(A), signed(record(A, Status.REVOKED, 2), B), *GARBAGE[:between], top)
    found = load_history(history, [ISSUER], SIGNED, named_commits=lambda _: ()).issuers[ISSUER]
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)
    assert not found.is_lost
    assert [*names(found), *codes(found)] == [told]


def test_past_of_an_issuer_that_never_had_anything_is_not_read() -> None:
    """No file in the head and no object: a pod fetches no history for what nobody has ever heard of."""

    class Unasked(Git):
        def path_history(self, paths: Sequence[str], *, at: CommitId) -> Mapping[CommitId, tuple[CommitId, ...]]:
            raise AssertionError("the past was read")

    history = Unasked(remote=FakeRemote())
    history.tracking = history.chain({"x": b"x"})
    assert read(history).ledger is None


def test_nearest_believed_ledgers_along_every_parent_count() -> None:
    """A merge of two branches is not believed: what each said last is."""
    history = Git(remote=FakeRemote())
    base = history.chain(signed(A))
    left = history.add(unsigned(C), history.add(signed(record(A, Status.REVOKED, 2)), base))
    right = history.add(signed(A, B, by=LISTED), base)
    history.tracking = history.add(unsigned(C), left, right)
    assert read(history).ledger == ledger(record(A, Status.REVOKED, 2), B)


def test_own_last_head_counts_where_the_remotes_is_not_believed() -> None:
    """What this mirror decided and could not push yet is not forgotten for a stranger's file."""
    history = Git(remote=FakeRemote())
    base = history.chain(signed(A))
    history.head = history.add(signed(A, B), base)
    history.tracking = history.add(unsigned(C), base)
    found = read(history)
    assert (found.ledger, names(found)) == (ledger(A, B), ["ledger.unsigned"])


@pytest.mark.parametrize(
    ("state", "in_ledger"),
    [
        (signed(record(A, Status.REVOKED, 2), B), True),
        (unsigned(record(A, Status.REVOKED, 2), B), False),
        ({}, False),
    ],
    ids=["believed", "unsigned", "without-ledger"],
)
def test_commits_that_the_objects_name_count(state: Files, in_ledger: bool) -> None:
    """The branch has lost them, the server gives them by id: believed by the same rule."""
    history = on_remote(signed(A), unsigned(C))
    named = history.add(state)
    found = read(history, SIGNED, named)
    assert found.ledger == (ledger(record(A, Status.REVOKED, 2), B) if in_ledger else ledger(A))
    assert names(found) == ["ledger.unsigned"]


def test_commit_that_the_server_does_not_give_is_told() -> None:
    """A warning, and everything goes on with what else is believed."""
    history = on_remote(signed(A), unsigned(C))
    found = read(history, SIGNED, "ab" * 20, "no commit")
    assert found.ledger == ledger(A)
    assert names(found) == ["snapshot.unknown", "snapshot.unknown", "ledger.unsigned"]
    assert found.events[0].level is Level.WARNING
    assert "abababab" in found.events[0].sentence


@pytest.mark.parametrize("trust", [SIGNED, TRUSTED], ids=["signed", "trusted"])
@pytest.mark.parametrize(
    ("named", "lost"),
    [(None, False), ((), False), (("ab" * 20,), True)],
    ids=["no-objects", "objects-of-others", "objects-of-a-mirror"],
)
def test_issuer_without_any_ledger(trust: VerificationContext, named: tuple[str, ...] | None, lost: bool) -> None:
    """Its objects name a commit that nobody has: in signed mode its revocations are unknown, so nothing is decided."""
    history = on_remote({"x": b"x"})
    state = load_history(history, [ISSUER], trust, named_commits=lambda _: named)
    found = state.issuers[ISSUER]
    assert found.ledger is None
    assert found.is_lost is (lost and trust is SIGNED)
    assert codes(found) == (["ledger.lost"] if found.is_lost else [])
    if found.is_lost:
        assert "oidc-mirror adopt NAME" in found.failures[0].remedy


def test_nothing_of_a_ledger_that_stands_is_believed() -> None:
    """An orphan branch on a server that lost the old one: the way out is `adopt --branch`."""
    found = read(on_remote(unsigned(A), unsigned(A, B)))
    assert (found.ledger, found.is_lost, codes(found)) == (None, True, ["ledger.lost"])
    assert "adopt --branch" in found.failures[0].remedy


def test_empty_history_knows_nothing() -> None:
    """Before the first commit: no ledger, no trouble."""
    state = load_history(Git(), [ISSUER], SIGNED)
    assert state.issuers[ISSUER] == IssuerHistory(
        PATHS, known_texts={PATHS.discovery: frozenset(), PATHS.jwks: frozenset()}
    )
    named = load_history(Git(), [ISSUER], SIGNED, named_commits=lambda _: ("ab" * 20,)).issuers[ISSUER]
    assert (named.is_lost, names(named)) == (True, ["snapshot.unknown"])


def test_trouble_of_one_issuer_is_not_anothers() -> None:
    """Whatever stands at the path of the one."""
    other = repository_paths(OTHER)
    body = write_ledger(ledger(B, issuer=OTHER))
    beside = {other.ledger: body, other.signature: signature(body, issuer=OTHER)}
    state = load_history(on_remote({**unsigned(A), **beside}), [ISSUER, OTHER], SIGNED)
    assert state.issuers[OTHER].ledger == ledger(B, issuer=OTHER)
    assert (state.issuers[OTHER].events, state.issuers[OTHER].failures) == ((), ())


# ------------------------------------------------------------------------------------ what the objects name


def refreshed(known: IssuerHistory, history: Git, *named: str) -> IssuerHistory:
    state = HistoryState(history.heads(), history.tracking, (), {ISSUER: known, OTHER: known})
    found = with_named_commits(history, state, SIGNED, [ISSUER], lambda _: named)
    assert found.issuers[OTHER] is known
    return found.issuers[ISSUER]


def test_named_commit_that_knows_more_is_merged_in() -> None:
    """The branch was set back to an older signed state: a revocation comes back, and the rewriting is told."""
    history = on_remote(signed(A, B))
    named = history.add(signed(record(A, Status.REVOKED, 2), B))
    assert history.remote is not None
    history.remote.head = history.tracking
    found = refreshed(read(history), history, named)
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)
    assert names(found) == ["history.rewritten"]


@pytest.mark.parametrize(
    ("state", "named", "told"),
    [
        (signed(A, B), True, []),
        (signed(A), True, []),
        (unsigned(record(A, Status.REVOKED, 2)), True, []),
        ({}, True, []),
        (signed(A), False, ["snapshot.unknown"]),
    ],
    ids=["same", "older", "unsigned", "without-ledger", "not-given"],
)
def test_named_commit_that_knows_no_more_changes_nothing(state: Files, named: bool, told: list[str]) -> None:
    """A commit that is not given is told."""
    history = on_remote(signed(A, B))
    commit = history.add(state) if named else "ab" * 20
    found = refreshed(read(history), history, commit)
    assert (found.ledger, names(found)) == (ledger(A, B), told)


def test_named_commits_of_an_unknown_issuer_are_no_ledger() -> None:
    """What nobody's head says is not taken over behind an operator's back."""
    history = on_remote({"x": b"x"})
    found = refreshed(IssuerHistory(PATHS), history, "ab" * 20)
    assert (found.ledger, names(found)) == (None, ["snapshot.unknown"])


def test_named_commit_that_was_pushed_after_our_fetch_is_no_rewriting() -> None:
    """Another mirror pushed and put in between: what it decided is merged in, and nobody is blamed."""
    history = on_remote(signed(A, B))
    assert history.tracking is not None
    named = history.add(signed(record(A, Status.REVOKED, 2), B), history.tracking)
    state = load_history(history, [ISSUER], SIGNED)

    class Knowing(Git):
        def has_commit(self, commit: str) -> bool:
            return commit in self.commits.by_id

    knowing = Knowing(commits=history.commits, remote=history.remote, tracking=history.tracking)
    found = with_named_commits(knowing, state, SIGNED, [ISSUER], lambda _: (named,)).issuers[ISSUER]
    assert (found.ledger, found.events) == (ledger(record(A, Status.REVOKED, 2), B), ())


# ------------------------------------------------------------------------------ what this mirror decided last


@pytest.mark.parametrize("trust", [SIGNED, TRUSTED], ids=["signed", "trusted"])
def test_decided_ledger_that_no_head_has_counts(trust: VerificationContext) -> None:
    """Our branch was moved on this disk too: the file is still there, by its id, and its revocation holds."""
    make = signed if trust is SIGNED else unsigned
    history = on_remote(make(A, B))
    mine = unsigned(record(A, Status.REVOKED, 2), B)
    history.commits.keep(mine[PATHS.ledger])
    found = read(history, replace(trust, decided={ISSUER: decided(mine)}))
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)


@pytest.mark.parametrize("kept", [b"{}", None], ids=["unreadable", "collected"])
def test_decided_ledger_that_cannot_be_read_is_nothing(kept: bytes | None) -> None:
    """What the heads say decides."""
    history = on_remote(signed(A))
    if kept is not None:
        history.commits.keep(kept)
    known = DecidedLedger(blob_id(kept or b"gone", SHA1))
    assert read(history, replace(SIGNED, decided={ISSUER: known})).ledger == ledger(A)


def test_past_that_cannot_be_read_in_time_is_left_out() -> None:
    """Two million commits of a pusher: what else is believed decides, and the pass goes on."""

    class Slow(Git):
        def path_history(self, paths: Sequence[str], *, at: CommitId) -> Mapping[CommitId, tuple[CommitId, ...]]:
            raise HistoryError("It took too long.")

    history = Slow(remote=FakeRemote())
    base = history.chain(signed(A))
    history.head = history.add(signed(A, B), base)
    history.tracking = history.add(unsigned(C), base)
    found = read(history)
    assert (found.ledger, names(found)) == (ledger(A, B), ["ledger.unsigned"])


def test_objects_that_cannot_be_looked_at_name_nothing_yet() -> None:
    """Before anything is put they are looked at once more."""

    def fail(_: IssuerUrl) -> tuple[str, ...] | None:
        raise BucketError("No.", code="AccessDenied")

    history = on_remote(signed(A), unsigned(C))
    found = load_history(history, [ISSUER], SIGNED, named_commits=fail).issuers[ISSUER]
    assert (found.ledger, names(found)) == (ledger(A), ["ledger.unsigned"])


def test_unknown_signers_ledger_has_a_date() -> None:
    """Of the newest commit that changed it: a pod remembers nothing, and the branch tells since when it stands."""
    found = read(on_remote(signed(A), signed(A, B, by=STRANGER)))
    assert (found.foreign_since, found.ledger) == (MOMENT, ledger(A))
    assert read(on_remote(signed(A), unsigned(C))).foreign_since is None


# ------------------------------------------------------------------------------------------------- in real git


def garbage_commits(directory: Path, count: int, body: bytes) -> None:
    """Commits on top of main, each with another ledger that nobody signed."""
    head = git(directory, "rev-parse", "main")
    lines = []
    for number in range(count):
        text = body + b" " * number
        parent = b"from %s\n" % head.encode() if number == 0 else b""
        lines.append(
            b"commit refs/heads/main\ncommitter x <x@x> %d +0000\ndata 1\nx\n" % (1_700_000_000 + number)
            + parent
            + b"M 100644 inline %s\ndata %d\n%s\n" % (PATHS.ledger.encode(), len(text), text)
        )
    git(directory, "fast-import", "--quiet", stdin=b"".join(lines))


def test_two_thousand_garbage_commits_hide_nothing(tmp_path: Path) -> None:
    """Every one changed the ledger; the believed one below them is found, in a shallow clone too."""
    remote = bare(tmp_path / "remote.git")
    good = signed(record(A, Status.REVOKED, 2), B)
    with open_repository(tmp_path, name="first.git", remote=remote) as repository:
        repository.commit(base=None, parents=(), changes=dict(good), message="x", when=MOMENT, expect=None)
        repository.push()
    garbage_commits(remote, 2000, write_ledger(ledger(A, B)))
    git(remote, "config", "uploadpack.allowAnySHA1InWant", "true")
    with open_repository(tmp_path, name="pod.git", remote=f"{remote}") as pod:
        pod.fetch(shallow=True)
        found = load_history(pod, [ISSUER], SIGNED).issuers[ISSUER]
    assert found.ledger == merge(ledger(record(A, Status.REVOKED, 2), B), ledger(record(A, Status.REVOKED, 2), B))
    assert (names(found), codes(found)) == (["ledger.unsigned"], [])
    newest = git(remote, "rev-parse", "main")
    assert found.events[0].fields["commit"] == newest


@pytest.mark.parametrize("mode", ["160000", "120000", "100755"], ids=["submodule", "link", "executable"])
@pytest.mark.parametrize("at", ["ledger", "signature"])
def test_strange_entry_is_one_issuers_trouble(tmp_path: Path, mode: str, at: str) -> None:
    """A submodule, a link or an executable at a path of one issuer: the others are read, and its past counts."""
    other = repository_paths(OTHER)
    body = write_ledger(ledger(B, issuer=OTHER))
    files = {**signed(A), other.ledger: body, other.signature: signature(body, issuer=OTHER)}
    with open_repository(tmp_path) as repository:
        repository.commit(base=None, parents=(), changes=files, message="x", when=MOMENT, expect=None)
    directory = tmp_path / "snapshots.git"
    path = PATHS.ledger if at == "ledger" else PATHS.signature
    head = git(directory, "rev-parse", "main")
    named = head if mode == "160000" else git(directory, "hash-object", "-w", "--stdin", stdin=b"../../README.md")
    change = f"commit refs/heads/main\ncommitter x <x@x> 1700000000 +0000\ndata 1\nx\nfrom {head}\n"
    change += f"M {mode} {named} {path}\n"
    git(directory, "fast-import", "--quiet", stdin=change.encode())
    with open_repository(tmp_path) as repository:
        state = load_history(repository, [ISSUER, OTHER], SIGNED)
    assert state.issuers[OTHER].ledger == ledger(B, issuer=OTHER)
    found = state.issuers[ISSUER]
    assert found.ledger == ledger(A)
    assert codes(found) == ["ledger.damaged"]
    assert re.match(rf"^{PATHS.ledger}", found.failures[0].where)


def test_public_file_has_the_path_of_its_url() -> None:
    """What is public at a URL lies below `public/` under host and path."""
    assert public_path(f"{ISSUER}/openid/v1/jwks") == PATHS.jwks
