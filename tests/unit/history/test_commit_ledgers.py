"""Commits the decisions of a pass: reused signatures, merged branches, equal commits."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from mirror.addresses import repository_paths
from mirror.errors import BranchMovedError, HistoryError, RemoteError
from mirror.history.git_command import blob_id
from mirror.history.ledger_reader import DecidedLedger, HistoryState, IssuerHistory, VerificationContext, load_history
from mirror.history.ledger_store import (
    CommitResult,
    Committer,
    LedgerChange,
    commit_ledgers,
    is_pending,
    pending_issuers,
)
from mirror.model import CommitId, IssuerUrl, Key, Ledger, Status
from mirror.trust.ledger import write_ledger
from mirror.trust.ledger_signature import LedgerTrust, SignatureHeader
from support.fakes import MOMENT, FakeHistory, FakeRemote
from support.keys import KEYS, RSA_KEYS
from support.ledger_files import ledger, record
from support.signers import ledger_trust, signer

ISSUER = IssuerUrl("https://oidc.example.com/cluster/one")
OTHER = IssuerUrl("https://oidc.example.com/cluster/two")
PATHS, OTHER_PATHS = repository_paths(ISSUER), repository_paths(OTHER)
A, B, C = RSA_KEYS[:3]
OWN, THEIRS = 0, 1


@dataclass
class Mirror:
    """One of several mirrors with one remote; it commits its decisions as a pass does."""

    history: FakeHistory
    keys: LedgerTrust | None = None
    decided: Mapping[IssuerUrl, DecidedLedger] = field(default_factory=dict)
    configured: tuple[IssuerUrl, ...] = (ISSUER,)
    left_out: tuple[IssuerUrl, ...] = ()

    def trust(self) -> VerificationContext:
        return VerificationContext(self.keys, decided=self.decided)

    def committer(self) -> Committer:
        return Committer(self.history, self.reread, self.keys, others={issuer: {} for issuer in self.left_out})

    def reread(self, issuers: Iterable[IssuerUrl]) -> HistoryState:
        return load_history(self.history, issuers, self.trust())

    def fetched(self) -> HistoryState:
        if self.history.remote is not None and not self.history.remote.down:
            self.history.fetch(shallow=False)
        return self.reread(self.configured)

    def commit(
        self, *ledgers: Ledger, state: HistoryState | None = None, push: bool | None = None, message: str = "x\n"
    ) -> CommitResult:
        done = commit_ledgers(
            self.committer(),
            state or self.fetched(),
            {each.issuer: LedgerChange(each) for each in ledgers},
            message=message,
            now=MOMENT,
            push=self.history.remote is not None if push is None else push,
        )
        self.decided = {**self.decided, **done.decided}
        return done

    def file(self, path: str = PATHS.ledger) -> bytes:
        return self.history.files()[path]

    def signer_of(self, keys: LedgerTrust, issuer: IssuerUrl = ISSUER) -> tuple[str, str]:
        """The kid and the role in the signature on the branch, which must be valid."""
        paths = repository_paths(issuer)
        verdict = keys.verify(self.file(paths.ledger), self.file(paths.signature), issuer)
        assert isinstance(verdict, SignatureHeader)
        return verdict.kid, verdict.role


def alone(keys: LedgerTrust | None = None) -> Mirror:
    return Mirror(FakeHistory(), keys)


def pair(kind: str = "ed25519", *, signs: bool = True) -> tuple[Mirror, Mirror]:
    """Two mirrors with one remote; each lists the other's key as a signer."""
    first = FakeHistory(remote=FakeRemote())
    second = replace(first, fetched_shallow=[])
    return (
        Mirror(first, ledger_trust(OWN, THEIRS, kind=kind) if signs else None),
        Mirror(second, ledger_trust(THEIRS, OWN, kind=kind) if signs else None),
    )


# ----------------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize("kind", ["ed25519", "P-256"])
def test_ledger_is_signed_and_then_left_alone(kind: str) -> None:
    """The same decision again makes no commit, even if the algorithm would give another signature."""
    mirror = alone(ledger_trust(OWN, kind=kind))
    first = mirror.commit(ledger(A))
    assert (first.made, first.errors) == (True, {})
    assert mirror.signer_of(ledger_trust(OWN, kind=kind)) == (signer(kind, OWN).kid, "mirror")
    again = mirror.commit(ledger(A))
    assert (again.made, again.commit) == (False, first.commit)
    assert not is_pending(mirror.committer(), mirror.fetched(), {ISSUER: LedgerChange(ledger(A))})


def test_trusted_ledger_has_no_signature() -> None:
    """In trusted mode no signature is committed or remembered."""
    mirror = alone()
    done = mirror.commit(ledger(A))
    assert PATHS.signature not in mirror.history.files()
    assert done.decided == {ISSUER: DecidedLedger(blob_id(mirror.file(), 40))}


def test_what_was_decided_is_remembered_by_its_blobs() -> None:
    """The blob ids of ledger and signature, and the signer's kid, are remembered."""
    mirror = alone(ledger_trust(OWN))
    done = mirror.commit(ledger(A))
    blobs = [blob_id(mirror.file(path), 40) for path in (PATHS.ledger, PATHS.signature)]
    assert done.decided == {ISSUER: DecidedLedger(blobs[0], blobs[1], signer(number=OWN).kid)}


def test_another_mirrors_signature_is_taken_again() -> None:
    """If the merged ledger equals another mirror's, its signature is kept and no commit is made."""
    first, second = pair("P-256")
    first.commit(ledger(A, B))
    head = first.history.head
    done = second.commit(ledger(A))
    assert (done.made, done.commit, second.history.head) == (False, head, head)
    assert done.ledgers == {ISSUER: ledger(A, B)}
    assert done.decided[ISSUER].kid == signer("P-256", OWN).kid


def test_of_two_signatures_the_smallest_blob_is_taken() -> None:
    """Two mirrors signed the same ledger: every merge keeps the same signature, so that both have the same tree."""
    first, second = pair("P-256")
    one, two = first.fetched(), second.fetched()
    first.commit(ledger(A), state=one)
    mine = first.file(PATHS.signature)
    second.commit(ledger(A), state=two, push=False)
    theirs = second.file(PATHS.signature)
    assert mine != theirs
    second.commit(ledger(A))
    wanted = min((mine, theirs), key=lambda each: blob_id(each, 40))
    assert second.file(PATHS.signature) == wanted
    first.commit(ledger(A))
    assert first.history.head == second.history.head
    assert first.commit(ledger(A)).made is second.commit(ledger(A)).made is False


@pytest.mark.parametrize("kind", ["ed25519", "P-256"])
def test_next_pass_replaces_an_operators_signature(kind: str) -> None:
    """The next pass changes only the signature, once; the operator's command itself makes no second commit."""
    first, operator = pair(kind)
    operator.keys = ledger_trust(THEIRS, OWN, kind=kind, role="operator")
    first.commit(ledger(A))
    operator.commit(ledger(A, B))
    assert operator.signer_of(ledger_trust(OWN, THEIRS, kind=kind)) == (signer(kind, THEIRS).kid, "operator")
    assert operator.decided[ISSUER].kid == ""
    assert operator.commit(ledger(A, B)).made is False
    body = operator.file()
    done = first.commit(ledger(A))
    assert (done.made, first.file()) == (True, body)
    assert first.signer_of(ledger_trust(OWN, kind=kind)) == (signer(kind, OWN).kid, "mirror")
    assert first.commit(ledger(A)).made is False


def test_decision_of_a_removed_signer_is_signed_again() -> None:
    """After a change of the signing key, this mirror's own decisions still count and are signed with the new key."""
    mirror = alone(ledger_trust(OWN))
    mirror.commit(ledger(A))
    mirror.keys = ledger_trust(THEIRS)
    assert mirror.commit(ledger(A)).made
    assert mirror.signer_of(ledger_trust(THEIRS)) == (signer(number=THEIRS).kid, "mirror")


def test_first_signing_signs_what_was_trusted() -> None:
    """The ledger's bytes stay; only the signature is added."""
    mirror = alone()
    mirror.commit(ledger(A))
    body = mirror.file()
    mirror.keys = ledger_trust(OWN)
    state = load_history(mirror.history, [ISSUER], replace(mirror.trust(), as_it_is=True))
    assert mirror.commit(ledger(A), state=state).made
    assert mirror.file() == body
    assert mirror.signer_of(ledger_trust(OWN))[1] == "mirror"


def test_first_signing_signs_every_issuer_of_the_configuration() -> None:
    """Issuers outside this pass are signed too, because afterwards no unsigned ledger is trusted."""
    mirror = alone()
    mirror.configured = (ISSUER, OTHER)
    mirror.commit(ledger(A), ledger(B, issuer=OTHER))
    mirror.keys = ledger_trust(OWN)
    trust = replace(mirror.trust(), as_it_is=True)

    def reread(issuers: Iterable[IssuerUrl]) -> HistoryState:
        return load_history(mirror.history, issuers, trust)

    committer = Committer(mirror.history, reread, mirror.keys, others={ISSUER: {}, OTHER: {}}, always=True)
    changes = {ISSUER: LedgerChange(ledger(A))}
    assert commit_ledgers(committer, reread([ISSUER]), changes, message="x\n", now=MOMENT, push=False).made
    assert mirror.signer_of(ledger_trust(OWN), ISSUER) == mirror.signer_of(ledger_trust(OWN), OTHER)


# ------------------------------------------------------------------------------------------------- other rules


def test_ledger_without_records_is_no_file() -> None:
    """A ledger without records is not committed."""
    mirror = alone()
    done = mirror.commit(ledger())
    assert (done.commit, done.made, done.pushed, done.decided) == (None, False, False, {})
    assert pending_issuers(mirror.committer(), mirror.fetched(), {ISSUER: LedgerChange(ledger())}) == frozenset()


def test_invalid_ledger_stops_no_other_issuer() -> None:
    """The error is reported for its issuer; the other issuer is committed."""
    mirror = alone()
    mirror.configured = (ISSUER, OTHER)
    broken = ledger(replace(record(A), generation=0))
    done = mirror.commit(broken, ledger(B, issuer=OTHER))
    assert list(done.ledgers) == [OTHER]
    assert "could not be read again" in done.errors[ISSUER]
    assert set(mirror.history.files()) >= {OTHER_PATHS.ledger}
    assert PATHS.ledger not in mirror.history.files()


def test_only_issuers_that_change_are_pending() -> None:
    """Pending issuers are listed by name."""
    mirror = alone(ledger_trust(OWN))
    mirror.configured = (ISSUER, OTHER)
    mirror.commit(ledger(A), ledger(B, issuer=OTHER))
    changes = {ISSUER: LedgerChange(ledger(A)), OTHER: LedgerChange(ledger(B, C, issuer=OTHER))}
    assert pending_issuers(mirror.committer(), mirror.fetched(), changes) == {OTHER}


# ------------------------------------------------------------------------------------------ branches that meet


def test_branches_that_differ_become_one() -> None:
    """After a rejected push, the mirror fetches and commits with both parents; no side loses a change."""
    first, second = pair()
    state = second.fetched()
    first.commit(ledger(A))
    done = second.commit(ledger(B), state=state)
    assert (done.made, done.pushed, done.ledgers) == (True, True, {ISSUER: ledger(A, B)})
    head = second.history.head
    assert head is not None
    assert len(second.history.commits.by_id[head].parents) == 2
    assert first.commit(ledger(A)).commit == head


def test_merged_tree_of_the_remotes_head_is_taken_without_a_commit() -> None:
    """The remote's head has all our changes but not our commit: our commit is dropped from the branch."""
    first, second = pair(signs=False)
    one, two = first.fetched(), second.fetched()
    second.commit(ledger(A), state=two, push=False)
    first.commit(ledger(A, B), state=one)
    ours = second.history.head
    done = second.commit(ledger(A))
    assert (done.made, done.commit, done.pushed) == (False, first.history.head, True)
    assert second.history.head == first.history.head != ours
    assert second.history.unpushed() == 0


def test_issuers_that_a_pass_leaves_alone_are_merged_where_branches_meet() -> None:
    """With `--only` and shards, unpushed changes of other issuers are merged into the remote's tree too."""
    first, second = pair()
    second.configured = (ISSUER, OTHER)
    second.commit(ledger(A), ledger(A, issuer=OTHER))
    first.configured = (ISSUER, OTHER)
    state = first.fetched()
    second.commit(ledger(A), ledger(record(A, Status.REVOKED, 2), B, issuer=OTHER), push=False)
    first.commit(ledger(A, B), ledger(A, C, issuer=OTHER), state=state)
    second.configured, second.left_out = (ISSUER,), (OTHER,)
    done = second.commit(ledger(A))
    assert done.made
    merged = ledger(record(A, Status.REVOKED, 2), B, C, issuer=OTHER)
    assert second.file(OTHER_PATHS.ledger) == write_ledger(merged)
    assert second.signer_of(ledger_trust(THEIRS), OTHER)[0] == signer(number=THEIRS).kid
    assert set(done.ledgers) == {ISSUER}


def test_issuers_left_alone_without_a_ledger_are_nothing_to_merge() -> None:
    """An issuer outside the pass that is on neither branch gets no file."""
    first, second = pair()
    state = second.fetched()
    first.commit(ledger(A))
    second.left_out = (OTHER,)
    second.commit(ledger(B), state=state)
    assert OTHER_PATHS.ledger not in second.history.files()


def test_skipped_issuer_with_an_invalid_ledger_stops_no_merge() -> None:
    """The invalid ledger is reported by a pass that includes its issuer."""
    first, second = pair()
    state = second.fetched()
    first.commit(ledger(A))
    broken = IssuerHistory(OTHER_PATHS, ledger(replace(record(A), generation=0), issuer=OTHER))

    def reread(issuers: Iterable[IssuerUrl]) -> HistoryState:
        found = second.reread([ISSUER])
        known = {**found.issuers, OTHER: broken}
        return replace(found, issuers={issuer: known[issuer] for issuer in issuers})

    committer = Committer(second.history, reread, second.keys, others={OTHER: {}})
    changes = {ISSUER: LedgerChange(ledger(B))}
    done = commit_ledgers(committer, state, changes, message="x\n", now=MOMENT, push=True)
    assert (done.pushed, done.ledgers) == (True, {ISSUER: ledger(A, B)})
    assert OTHER_PATHS.ledger not in second.history.files()


def test_issuers_of_others_are_carried_byte_for_byte() -> None:
    """The files of an issuer outside this configuration stay unchanged and unverified."""
    first, second = pair()
    first.configured = (OTHER,)
    first.commit(ledger(A, issuer=OTHER))
    before = {path: body for path, body in first.history.files().items() if "two" in path}
    second.commit(ledger(B))
    assert {path: second.history.files()[path] for path in before} == before
    assert second.history.files()["README.md"] == first.history.files()["README.md"]


# -------------------------------------------------------------------------------------------- pushes and races


@dataclass
class Racing(FakeHistory):
    """Another writer moves the remote before each push, `races` times."""

    races: int = 0
    move: Callable[[], None] = lambda: None

    def push(self) -> None:
        if self.races:
            self.races -= 1
            self.move()
        super().push()


@pytest.mark.parametrize(("races", "pushed"), [(1, True), (4, True), (5, False)])
def test_lost_races_are_run_again(races: int, pushed: bool) -> None:
    """A lost race is retried. After five attempts the error is reported, and the next pass pushes."""
    remote = FakeRemote()
    plain = FakeHistory(remote=remote)
    other = Mirror(plain)
    keys = iter(KEYS[-races:])
    racing = Racing(commits=plain.commits, remote=remote, races=races, move=lambda: _push_one(other, next(keys)))
    mirror = Mirror(racing)
    done = mirror.commit(ledger(A))
    assert (done.pushed, done.made) == (pushed, True)
    assert (done.push_error is None) is pushed
    if not pushed:
        assert mirror.commit(ledger(A)).pushed
    assert remote.head == racing.head


def _push_one(other: Mirror, key: Key) -> None:
    assert other.commit(ledger(key)).pushed


@pytest.mark.parametrize("down", [True, False], ids=["unreachable", "refused-by-a-hook"])
def test_remote_that_does_not_take_it_is_an_error_of_the_result(down: bool) -> None:
    """The commit is made and the error is in the result; the push is not retried at once."""
    mirror = Mirror(FakeHistory(remote=FakeRemote(down=down, refuses_pushes=True)))
    done = mirror.commit(ledger(A))
    assert (done.made, done.pushed, done.commit) == (True, False, mirror.history.head)
    assert isinstance(done.push_error, RemoteError)
    assert mirror.history.pushes == 0


def test_failed_fetch_after_a_refused_push_is_reported() -> None:
    """The remote becomes unreachable between the rejected push and the fetch."""

    class Leaving(FakeHistory):
        def fetch(self, *, shallow: bool) -> str:
            raise RemoteError("The remote went away.")

    first, _ = pair(signs=False)
    first.commit(ledger(A))
    history = Leaving(commits=first.history.commits, remote=first.history.remote)
    mirror = Mirror(history)
    done = mirror.commit(ledger(B), state=mirror.reread([ISSUER]))
    assert (done.made, done.pushed, str(done.push_error)) == (True, False, str(RemoteError("The remote went away.")))


def test_local_branch_that_moves_is_read_again() -> None:
    """An operator's command commits meanwhile: the branch is read again and has both commits."""
    mirror = alone()
    state = mirror.fetched()
    beside = Mirror(mirror.history)

    def decide(history: FakeHistory) -> None:
        history.moved_by = None
        beside.commit(ledger(B))

    mirror.history.moved_by = decide
    done = mirror.commit(ledger(A), state=state)
    assert done.ledgers == {ISSUER: ledger(A, B)}


def test_local_branch_that_moves_each_time_is_an_error() -> None:
    """If the branch moves each time, an error is raised; the next pass tries again."""

    class Moving(FakeHistory):
        def _move(self, new: CommitId, expect: CommitId | None) -> None:
            raise BranchMovedError("The branch moved.")

    with pytest.raises(HistoryError, match="moved 5 times"):
        Mirror(Moving()).commit(ledger(A))


def test_equal_commits_of_two_mirrors_are_one() -> None:
    """Another mirror made and pushed the same commit in the same second: this counts as pushed."""
    first, second = pair(signs=False)
    state = second.fetched()
    first.commit(ledger(A))
    assert second.history.remote is not None

    class Same(FakeHistory):
        """In git, equal commits have equal ids; the fake numbers them instead."""

        def commit(self, **given: object) -> CommitId:
            assert first.history.head is not None
            self.fast_forward(first.history.head, expect=self.head)
            return first.history.head

    mirror = Mirror(Same(commits=first.history.commits, remote=first.history.remote))
    done = mirror.commit(ledger(A), state=state)
    assert (done.pushed, done.push_error, done.commit) == (True, None, first.history.head)


def test_nothing_is_pushed_where_the_remote_was_not_fetched() -> None:
    """Without a fetch, the commit is made but not pushed."""
    mirror = Mirror(FakeHistory(remote=FakeRemote()))
    done = mirror.commit(ledger(A), push=False)
    assert (done.made, done.pushed, done.push_error, mirror.history.pushes) == (True, False, None, 0)
