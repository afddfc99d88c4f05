"""Which ledgers of several heads are trusted, and what is used if the newest ledger is untrusted."""

from collections.abc import Mapping, Sequence

import pytest

from mirror.addresses import repository_paths
from mirror.history.ledger_reader import (
    IssuerHistory,
    VerificationContext,
    load_history,
)
from mirror.model import CommitId, Level, Status, key_id
from mirror.trust.ledger import write_ledger
from support.fakes import FakeRemote
from support.ledger_files import (
    ISSUER,
    LISTED,
    OTHER,
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
    ledger,
    names,
    on_remote,
    read,
    record,
    signature,
    signed,
    unsigned,
)


def test_heads_that_differ_are_merged() -> None:
    """The merge has both heads as parents, the remote's last, and the content of each trusted ledger."""
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
    """The parents of the next commit are the heads that are not ancestors of another head."""
    history = Git()
    commits = {"one": history.chain(unsigned(A))}
    commits |= {name: history.add({"x": name.encode()}, commits["one"]) for name in ("two", "aside")}
    history.head = None if local is None else commits[local]
    history.tracking = None if remote is None else commits[remote]
    state = load_history(history, [], TRUSTED)
    assert (state.parents, state.is_pushed) == (tuple(commits[each] for each in parents), pushed)


@pytest.mark.parametrize("trust", [SIGNED, TRUSTED], ids=["signed", "trusted"])
def test_older_ledger_on_top_loses_nothing(trust: VerificationContext) -> None:
    """The newest commit has an older, trusted ledger: it is merged with the previous one, and an event reports it."""
    make = signed if trust is SIGNED else unsigned
    history = Git(remote=FakeRemote())
    history.head = before = history.chain(make(A), make(record(A, Status.REVOKED, 2), B))
    history.tracking = history.add(make(A), history.head)
    found = read(history, trust, before=before)
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)
    assert (names(found), codes(found)) == (["history.rewritten"], [])


def test_branch_that_was_set_back_is_merged_with_what_was_fetched_before() -> None:
    """The remote's head at the previous fetch counts, although no reference points to it any more."""
    history = on_remote(signed(A), signed(record(A, Status.REVOKED, 2), B))
    before = history.tracking
    assert before is not None
    history.tracking = history.commits.by_id[before].parents[0]
    found = read(history, before=before)
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)
    assert names(found) == ["history.rewritten"]


def test_newer_ledger_is_no_rewriting() -> None:
    """A newer ledger of another mirror causes no event."""
    history = on_remote(signed(A), signed(record(A, Status.RETIRING, 2), B, by=LISTED))
    assert history.tracking is not None
    found = read(history, before=history.commits.by_id[history.tracking].parents[0])
    assert (found.ledger, found.events) == (ledger(record(A, Status.RETIRING, 2), B), ())


GARBAGE: Sequence[Files] = (
    {},
    unsigned(C),
    {PATHS.ledger: b"{}"},
    {PATHS.ledger: b"x" * 100, PATHS.signature: b"y"},
    signed(C, by=UNLISTED),
    {**signed(A), **unsigned(A, C)},
)


@pytest.mark.parametrize(
    ("top", "reported"),
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
def test_nearest_trusted_ledger_counts(top: Files, reported: str, between: int) -> None:
    """The trusted ledger is found below any number of untrusted commits."""
    history = on_remote(signed(A), signed(record(A, Status.REVOKED, 2), B), *GARBAGE[:between], top)
    found = load_history(history, [ISSUER], SIGNED, named_commits=lambda _: ()).issuers[ISSUER]
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)
    assert not found.is_lost
    assert [*names(found), *codes(found)] == [reported]


def test_past_of_an_issuer_that_never_had_anything_is_not_read() -> None:
    """If an issuer has no ledger in the head and no public object, a pod does not fetch its history."""

    class Unasked(Git):
        def path_history(self, paths: Sequence[str], *, at: CommitId) -> Mapping[CommitId, tuple[CommitId, ...]]:
            raise AssertionError("the past was read")

    history = Unasked(remote=FakeRemote())
    history.tracking = history.chain({"x": b"x"})
    assert read(history).ledger is None


def test_nearest_trusted_ledgers_along_every_parent_count() -> None:
    """If the merge of two branches is untrusted, the last trusted ledger of each branch counts."""
    history = Git(remote=FakeRemote())
    base = history.chain(signed(A))
    left = history.add(unsigned(C), history.add(signed(record(A, Status.REVOKED, 2)), base))
    right = history.add(signed(A, B, by=LISTED), base)
    history.tracking = history.add(unsigned(C), left, right)
    assert read(history).ledger == ledger(record(A, Status.REVOKED, 2), B)


def test_own_last_head_counts_if_the_remote_head_does_not() -> None:
    """An untrusted ledger on the remote does not replace this mirror's own unpushed decisions."""
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
    """The branch lost the commits, but the server still sends them by id: their ledgers need a signature as well."""
    history = on_remote(signed(A), unsigned(C))
    named = history.add(state)
    found = read(history, SIGNED, named)
    assert found.ledger == (ledger(record(A, Status.REVOKED, 2), B) if in_ledger else ledger(A))
    assert names(found) == ["ledger.unsigned"]


def test_commit_that_the_server_lacks_is_reported() -> None:
    """A missing commit is a warning, and the pass continues with the other trusted ledgers."""
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
    """The public objects name a commit that no repository has. In signed mode nothing is decided for the issuer."""
    history = on_remote({"x": b"x"})
    state = load_history(history, [ISSUER], trust, named_commits=lambda _: named)
    found = state.issuers[ISSUER]
    assert found.ledger is None
    assert found.is_lost is (lost and trust is SIGNED)
    assert codes(found) == (["ledger.lost"] if found.is_lost else [])
    if found.is_lost:
        assert "oidc-mirror adopt NAME" in found.failures[0].remedy


def test_no_version_of_an_existing_ledger_is_accepted() -> None:
    """If no version is trusted, the ledger is lost, and the remedy is `adopt --branch`."""
    found = read(on_remote(unsigned(A), unsigned(A, B)))
    assert (found.ledger, found.is_lost, codes(found)) == (None, True, ["ledger.lost"])
    assert "adopt --branch" in found.failures[0].remedy


def test_empty_history_knows_nothing() -> None:
    """Before the first commit there is no ledger and no error."""
    state = load_history(Git(), [ISSUER], SIGNED)
    assert state.issuers[ISSUER] == IssuerHistory(
        PATHS, known_texts={PATHS.discovery: frozenset(), PATHS.jwks: frozenset()}
    )
    named = load_history(Git(), [ISSUER], SIGNED, named_commits=lambda _: ("ab" * 20,)).issuers[ISSUER]
    assert (named.is_lost, names(named)) == (True, ["snapshot.unknown"])


def test_trouble_of_one_issuer_is_not_anothers() -> None:
    """Any error in one issuer's files leaves the other issuers unaffected."""
    other = repository_paths(OTHER)
    body = write_ledger(ledger(B, issuer=OTHER))
    beside = {other.ledger: body, other.signature: signature(body, issuer=OTHER)}
    state = load_history(on_remote({**unsigned(A), **beside}), [ISSUER, OTHER], SIGNED)
    assert state.issuers[OTHER].ledger == ledger(B, issuer=OTHER)
    assert (state.issuers[OTHER].events, state.issuers[OTHER].failures) == ((), ())
