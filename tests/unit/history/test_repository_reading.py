"""Reading a repository: files, trees and commits, intact or damaged, and with few processes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.errors import HistoryError
from mirror.history.objects import MAX_TREE_FILE_BYTES
from mirror.history.repository import GitRepository
from mirror.model import CommitId, Heads
from support.gits import (
    WHEN,
    bare,
    commit,
    counting_git,
    git,
    head_of,
    open_repository,
)

A, B, C = "ledger/a/keys.json", "public/a/jwks", "public/b/jwks"
COMMANDS = ("cat-file", "fetch", "rev-parse", "update-ref")


def test_steady_pass_starts_one_git(tmp_path: Path) -> None:
    """A pass without remote that changes nothing starts exactly one git process."""
    extra, notes = counting_git(tmp_path)
    with open_repository(tmp_path, extra_environ=extra) as repository:
        commit(repository, {A: b"one"})
    notes.unlink()
    with open_repository(tmp_path, extra_environ=extra) as repository:
        head = head_of(repository)
        assert repository.read(head, [A, B]) == {A: b"one"}
        assert list(repository.list_paths(head, "ledger")) == [A]
        assert repository.unpushed() == 0
        assert repository.has_commit(head)
    assert len(notes.read_text().splitlines()) == 1


def test_missing_branches_start_no_git(tmp_path: Path) -> None:
    """No process is started to confirm that a branch is missing, or to delete it, if git has no file for it."""
    extra, notes = counting_git(tmp_path)
    with open_repository(tmp_path, extra_environ=extra, remote=bare(tmp_path / "remote.git")) as repository:
        notes.unlink()
        assert repository.heads() == Heads(None, None)
        repository.fetch(shallow=False)
        assert repository.heads() == Heads(None, None)
    started = [next(word for word in line.split() if word in COMMANDS) for line in notes.read_text().splitlines()]
    assert started == ["cat-file", "fetch"]


def test_open_conversation_sees_what_others_write(repo: GitRepository, tmp_path: Path) -> None:
    """A running git process sees objects, packs and references that others write later."""
    first = commit(repo, {A: b"one"})
    assert repo.heads().local == first
    with open_repository(tmp_path) as other:
        second = commit(other, {A: b"two"})
        path = tmp_path / "snapshots.git"
        git(path, "repack", "-adq")
        git(path, "pack-refs", "--all")
    assert repo.heads().local == second
    assert repo.read(second, [A]) == {A: b"two"}


def test_many_and_large_files_do_not_deadlock(repo: GitRepository) -> None:
    """Ten thousand requests with more data than a pipe's buffer in both directions are all answered."""
    files = {f"public/{number:05}/{'x' * 60}": b"y" * (number % 50) for number in range(10_000)}
    files |= {f"ledger/{number}": bytes([number]) * 1_000_000 for number in range(5)}
    head = commit(repo, files)
    assert repo.read(head, [*files, "absent"]) == files
    assert set(repo.list_paths(head, "public")) == {path for path in files if path.startswith("public/")}


@pytest.mark.parametrize("path", ["a\nb", "a\0b", "../x", "./x", "a//b", "/a", f"{A}/below-a-file"])
def test_path_that_is_not_ours_counts_as_absent(repo: GitRepository, path: str) -> None:
    """A path that would break the protocol or leave the tree counts as absent, and later answers are correct."""
    head = commit(repo, {A: b"one"})
    assert repo.read(head, [path, A]) == {A: b"one"}


def test_oversized_file_is_not_read(repo: GitRepository) -> None:
    """A huge file reads as empty without using memory, and the next answer is correct."""
    head = commit(repo, {A: b"x" * (MAX_TREE_FILE_BYTES + 1), B: b"two"})
    assert repo.read(head, [A, B]) == {A: b"", B: b"two"}


def test_unknown_commit_is_an_error(repo: GitRepository) -> None:
    """A missing commit is an error; it does not count as empty."""
    head = commit(repo, {A: b"one"})
    nobody = CommitId("1" * 40)
    with pytest.raises(HistoryError, match="never had that commit"):
        repo.commit(base=nobody, parents=(head,), changes={}, message="x", when=WHEN, expect=head)
    with pytest.raises(HistoryError, match="could not be compared"):
        repo.is_ancestor(nobody, head)
    with pytest.raises(HistoryError, match="could not be written"):
        repo.commit(base=None, parents=(nobody,), changes={}, message="x", when=WHEN, expect=head)
    with pytest.raises(HistoryError, match="never had that commit"):
        repo.read(nobody, [A])
    with pytest.raises(HistoryError, match="never had that commit"):
        repo.list_paths(nobody, "ledger")
    assert not repo.has_commit(nobody)


def test_listed_paths(repo: GitRepository) -> None:
    """list_paths returns the blobs of one folder."""
    first = commit(repo, {"README.md": b"r", A: b"one", B: b"same"})
    second = commit(repo, {"README.md": b"R", A: b"two", C: b"new"})
    assert list(repo.list_paths(second, "public")) == [B, C]
    assert repo.list_paths(first, "public/a") == {B: repo.list_paths(second, "public")[B]}
    assert repo.list_paths(first, "absent") == {}


def test_damaged_object_has_no_bytes(repo: GitRepository, tmp_path: Path) -> None:
    """A corrupt object reads as empty, and is read again after its repair."""
    head = commit(repo, {A: b"one"})
    blob = repo.list_paths(head, "ledger")[A]
    repo.close()
    loose = tmp_path / "snapshots.git" / "objects" / blob[:2] / blob[2:]
    whole = loose.read_bytes()
    loose.chmod(0o644)
    loose.write_bytes(b"garbage")
    assert repo.read(head, [A]) == {A: b""}
    loose.write_bytes(whole)
    assert repo.read(head, [A]) == {A: b"one"}


def test_missing_tree_is_an_error(repo: GitRepository, tmp_path: Path) -> None:
    """A folder with a lost tree object is an error, not an empty folder."""
    head = commit(repo, {A: b"one"})
    tree = git(tmp_path / "snapshots.git", "rev-parse", f"{head}:ledger/a")
    (tmp_path / "snapshots.git" / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(HistoryError, match="could not be read"):
        repo.list_paths(head, "ledger")
    with pytest.raises(HistoryError, match="could not be read"):
        repo.read(head, [A])
    with pytest.raises(HistoryError, match="could not be read"):
        repo.list_paths(head, "ledger/a")


def test_garbled_tree_is_an_error(repo: GitRepository, tmp_path: Path) -> None:
    """An invalid tree object is an error; nothing below it counts as absent."""
    path = tmp_path / "snapshots.git"
    blob = git(path, "hash-object", "-w", "--stdin", stdin=b"x")
    short = git(path, "hash-object", "-w", "--literally", "-t", "tree", "--stdin", stdin=b"100644 x\0short")
    body = f"040000 tree {short}\tledger\n100644 blob {blob}\tREADME.md\n".encode()
    head = CommitId(git(path, *_AUTHOR, "commit-tree", "-m", "x", git(path, "mktree", stdin=body)))
    with pytest.raises(HistoryError, match=r"could not be read|has lost"):
        repo.read(head, [A])
    with pytest.raises(HistoryError, match="could not be read"):
        repo.list_paths(head, "ledger")


_AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@b")


def test_known_commits_are_known(repo: GitRepository, tmp_path: Path) -> None:
    """Only the full id of one of our commits counts: no prefix, reference, blob id or other text."""
    head = commit(repo, {A: b"one"})
    blob = repo.list_paths(head, "ledger")[A]
    assert repo.has_commit(head)
    for text in (head[:12], "main", "refs/heads/main", blob, "", f"{head}\n", f"{head}^{{tree}}", head.upper() + "X"):
        assert not repo.has_commit(text), text


def test_bytes_of_the_past_are_held(repo: GitRepository, tmp_path: Path) -> None:
    """Bytes of a file in any commit of the branch are found; those of an unreferenced object are not."""
    assert not repo.contains_blob(b"one")
    commit(repo, {"README.md": b"readme", A: b"one"})
    head = commit(repo, {A: b"two"})
    path = tmp_path / "snapshots.git"
    git(path, "hash-object", "-w", "--stdin", stdin=b"foreign")
    side = repo.commit(base=head, parents=(head,), changes={B: b"merged"}, message="m", when=WHEN, expect=head)
    repo.commit(base=side, parents=(side, head), changes={C: b"by merge"}, message="m", when=WHEN, expect=side)
    assert [repo.contains_blob(body) for body in (b"one", b"two", b"merged", b"by merge")] == [True] * 4
    assert [repo.contains_blob(body) for body in (b"foreign", b"readme", b"never")] == [False] * 3


def test_time_of_a_change_is_read(repo: GitRepository) -> None:
    """`last_changed_at` is the date of the newest commit that changed the file."""
    assert repo.last_changed_at(A) is None
    commit(repo, {A: b"one", B: b"x"}, minutes=1)
    commit(repo, {B: b"y"}, minutes=2)
    assert repo.last_changed_at(A) == datetime(2026, 11, 23, 8, 1, tzinfo=UTC)
    assert repo.last_changed_at(B) == WHEN + timedelta(minutes=2)
    assert repo.last_changed_at("public/*") is None
