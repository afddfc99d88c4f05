"""Ledgers from commits that the public objects name, and from this mirror's own earlier decisions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.addresses import repository_paths
from mirror.errors import BucketError, HistoryError
from mirror.history.git_command import blob_id
from mirror.history.ledger_reader import (
    DecidedLedger,
    HistoryState,
    IssuerHistory,
    VerificationContext,
    load_history,
    public_path,
    with_named_commits,
)
from mirror.model import CommitId, IssuerUrl, Status
from mirror.trust.ledger import write_ledger
from mirror.trust.merge import merge
from support.fakes import MOMENT, FakeRemote
from support.gits import bare, git, open_repository
from support.ledger_files import (
    ISSUER,
    OTHER,
    PATHS,
    SHA1,
    SIGNED,
    TRUSTED,
    UNLISTED,
    A,
    B,
    C,
    Files,
    Git,
    codes,
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


def refreshed(known: IssuerHistory, history: Git, *named: str) -> IssuerHistory:
    state = HistoryState(history.heads(), history.tracking, (), {ISSUER: known, OTHER: known})
    found = with_named_commits(history, state, SIGNED, [ISSUER], lambda _: named)
    assert found.issuers[OTHER] is known
    return found.issuers[ISSUER]


def test_named_commit_that_knows_more_is_merged_in() -> None:
    """The branch was reset to an older signed state: the revocation is restored, and an event reports the rewriting."""
    history = on_remote(signed(A, B))
    named = history.add(signed(record(A, Status.REVOKED, 2), B))
    assert history.remote is not None
    history.remote.head = history.tracking
    found = refreshed(read(history), history, named)
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)
    assert names(found) == ["history.rewritten"]


@pytest.mark.parametrize(
    ("state", "named", "reported"),
    [
        (signed(A, B), True, []),
        (signed(A), True, []),
        (unsigned(record(A, Status.REVOKED, 2)), True, []),
        ({}, True, []),
        (signed(A), False, ["snapshot.unknown"]),
    ],
    ids=["same", "older", "unsigned", "without-ledger", "not-given"],
)
def test_named_commit_that_knows_no_more_changes_nothing(state: Files, named: bool, reported: list[str]) -> None:
    """A named commit with the same or less information changes nothing; a missing commit is reported."""
    history = on_remote(signed(A, B))
    commit = history.add(state) if named else "ab" * 20
    found = refreshed(read(history), history, commit)
    assert (found.ledger, names(found)) == (ledger(A, B), reported)


def test_named_commits_of_an_unknown_issuer_are_no_ledger() -> None:
    """Without a ledger in a head, a named commit's ledger is used only after an operator's decision."""
    history = on_remote({"x": b"x"})
    found = refreshed(IssuerHistory(PATHS), history, "ab" * 20)
    assert (found.ledger, names(found)) == (None, ["snapshot.unknown"])


def test_named_commit_that_was_pushed_after_our_fetch_is_no_rewriting() -> None:
    """Another mirror pushed and published after our fetch: its decisions are merged, and this is not a rewriting."""
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


@pytest.mark.parametrize("trust", [SIGNED, TRUSTED], ids=["signed", "trusted"])
def test_decided_ledger_that_no_head_has_counts(trust: VerificationContext) -> None:
    """The local branch was moved as well: the decided ledger is still stored by its id, and its revocation counts."""
    make = signed if trust is SIGNED else unsigned
    history = on_remote(make(A, B))
    mine = unsigned(record(A, Status.REVOKED, 2), B)
    history.commits.keep(mine[PATHS.ledger])
    found = read(history, replace(trust, decided={ISSUER: decided(mine)}))
    assert found.ledger == ledger(record(A, Status.REVOKED, 2), B)


@pytest.mark.parametrize("kept", [b"{}", None], ids=["unreadable", "collected"])
def test_decided_ledger_that_cannot_be_read_is_nothing(kept: bytes | None) -> None:
    """If the decided ledger cannot be read, the heads count."""
    history = on_remote(signed(A))
    if kept is not None:
        history.commits.keep(kept)
    known = DecidedLedger(blob_id(kept or b"gone", SHA1))
    assert read(history, replace(SIGNED, decided={ISSUER: known})).ledger == ledger(A)


def test_past_that_cannot_be_read_in_time_is_left_out() -> None:
    """If reading the history takes too long, the other trusted ledgers count, and the pass continues."""

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
    """If the objects cannot be read, no commit is named; they are read again before any put."""

    def fail(_: IssuerUrl) -> tuple[str, ...] | None:
        raise BucketError("No.", code="AccessDenied")

    history = on_remote(signed(A), unsigned(C))
    found = load_history(history, [ISSUER], SIGNED, named_commits=fail).issuers[ISSUER]
    assert (found.ledger, names(found)) == (ledger(A), ["ledger.unsigned"])


def test_unknown_signers_ledger_has_a_date() -> None:
    """The date is that of the newest commit that changed the ledger, so it needs no local state."""
    found = read(on_remote(signed(A), signed(A, B, by=UNLISTED)))
    assert (found.foreign_since, found.ledger) == (MOMENT, ledger(A))
    assert read(on_remote(signed(A), unsigned(C))).foreign_since is None


def garbage_commits(directory: Path, count: int, body: bytes) -> None:
    """Add commits to main, each with another unsigned ledger."""
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
    """The trusted ledger below two thousand untrusted versions is found, also in a shallow clone."""
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
    """A submodule, link or executable at one issuer's path affects only that issuer; its history still counts."""
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
    """The file for a public URL has the path `public/HOST/PATH`."""
    assert public_path(f"{ISSUER}/openid/v1/jwks") == PATHS.jwks
