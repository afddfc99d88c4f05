"""The branch of the bare repository: creation, reading back, concurrent commits, and damage."""

import threading
from pathlib import Path

import pytest

from mirror.errors import BranchMovedError, HistoryError
from mirror.history.ledger_store import readme_files
from mirror.history.repository import GitRepository
from mirror.model import CommitId, Heads
from support.gits import (
    WHEN,
    commit,
    files_at,
    fsck_strict,
    git,
    log,
    open_repository,
)

A, B, C = "ledger/a/keys.json", "public/a/jwks", "public/b/jwks"


def test_missing_repository_is_created(tmp_path: Path) -> None:
    """A bare repository is created with missing parent folders; a second call changes nothing."""
    repository = open_repository(tmp_path, name="state/deep/x/y.git")
    repository.prepare()
    with repository:
        assert repository.heads() == Heads(None, None)
    path = tmp_path / "state/deep/x"
    assert sorted(each.name for each in path.iterdir()) == ["y.git", "y.git.gc"]
    assert git(path / "y.git", "symbolic-ref", "HEAD") == "refs/heads/main"


def test_commit_is_read_back(repo: GitRepository, tmp_path: Path) -> None:
    """A commit has exactly the given files, our identity and the date, and the branch points to it."""
    first = commit(repo, {**readme_files(None), A: b"one", B: b"\x00\xff\n"}, message="first")
    assert repo.heads() == Heads(first, None)
    assert repo.read(first, [A, B, C]) == {A: b"one", B: b"\x00\xff\n"}
    path = tmp_path / "snapshots.git"
    assert git(path, "log", "-1", "--format=%an <%ae> %cn %at %ct %s") == (
        f"oidc-mirror <oidc-mirror@localhost> oidc-mirror {WHEN.timestamp():.0f} {WHEN.timestamp():.0f} first"
    )
    fsck_strict(path)


def test_changes_apply_to_the_tree_of_the_base(repo: GitRepository, tmp_path: Path) -> None:
    """Unmentioned files stay, None removes a file, and a folder may replace a file."""
    commit(repo, {A: b"one", B: b"two", "x": b"file"})
    second = commit(repo, {B: None, C: b"three", "x": None, "x/y": b"inside"})
    assert repo.read(second, [A, B, C, "x/y"]) == {A: b"one", C: b"three", "x/y": b"inside"}
    fsck_strict(tmp_path / "snapshots.git")


def test_merge_keeps_both_parents_in_order(repo: GitRepository, tmp_path: Path) -> None:
    """A commit may use its second parent's tree; both parents are recorded in the given order."""
    first = commit(repo, {A: b"base"})
    left = commit(repo, {A: b"left"})
    git(tmp_path / "snapshots.git", "update-ref", "refs/heads/main", first)
    right = commit(repo, {B: b"right"})
    merged = repo.commit(base=right, parents=(left, right), changes={}, message="m", when=WHEN, expect=right)
    assert git(tmp_path / "snapshots.git", "log", "-1", "--format=%P") == f"{left} {right}"
    assert repo.read(merged, [A, B]) == {A: b"base", B: b"right"}
    assert repo.is_ancestor(left, merged)
    assert not repo.is_ancestor(merged, left)


@pytest.mark.parametrize("expected_exists", [True, False])
def test_moved_branch_refuses_the_commit(repo: GitRepository, tmp_path: Path, expected_exists: bool) -> None:
    """A commit based on an older head, or on an empty branch, does not move a branch that has moved."""
    first = commit(repo, {A: b"one"})
    second = commit(repo, {A: b"two"})
    stale = first if expected_exists else None
    with pytest.raises(BranchMovedError):
        repo.commit(base=second, parents=(second,), changes={A: b"lost"}, message="x", when=WHEN, expect=stale)
    with pytest.raises(BranchMovedError):
        repo.fast_forward(second, expect=stale)
    assert repo.heads().local == second
    assert len(log(tmp_path / "snapshots.git")) == 2


def test_vanished_branch_refuses_the_commit(repo: GitRepository, tmp_path: Path) -> None:
    """A deleted branch is not created again by a commit based on it."""
    first = commit(repo, {A: b"one"})
    git(tmp_path / "snapshots.git", "update-ref", "-d", "refs/heads/main")
    with pytest.raises(BranchMovedError):
        repo.commit(base=first, parents=(first,), changes={}, message="x", when=WHEN, expect=first)


def test_racing_writers_lose_no_commit(tmp_path: Path) -> None:
    """Each commit of many concurrent writers is in the history or was rejected; none is lost."""
    done: list[CommitId] = []

    def write(number: int) -> None:
        with open_repository(tmp_path) as mine:
            while True:
                try:
                    done.append(commit(mine, {f"public/{number}": b"x"}, message=str(number)))
                except BranchMovedError:
                    continue
                return

    open_repository(tmp_path).close()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 5
    assert sorted(files_at(tmp_path / "snapshots.git")) == [f"public/{n}" for n in range(5)]


@pytest.mark.parametrize("content", ["", "nonsense\n", "1" * 40 + "\n"], ids=["empty", "garbage", "missing-object"])
def test_damaged_branch_is_no_empty_branch(repo: GitRepository, tmp_path: Path, content: str) -> None:
    """A reference file that a power cut emptied is an error with a remedy; it does not start a new history."""
    commit(repo, {A: b"one"})
    (tmp_path / "snapshots.git" / "refs" / "heads" / "main").write_text(content)
    with pytest.raises(HistoryError, match="damaged"):
        repo.heads()


def test_full_disk_is_no_moved_branch(repo: GitRepository, tmp_path: Path) -> None:
    """If an unmoved branch cannot be written, the error is about the disk."""
    first = commit(repo, {A: b"one"})
    (tmp_path / "snapshots.git" / "refs" / "heads" / "main.lock").mkdir()
    with pytest.raises(HistoryError, match="could not be moved") as caught:
        repo.fast_forward(first, expect=first)
    assert not isinstance(caught.value, BranchMovedError)


def test_unusable_folder_is_an_error(tmp_path: Path) -> None:
    """A path that is something else, or is below a file, is not changed; the error has a remedy."""
    other = tmp_path / "snapshots.git"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(HistoryError, match="could not be made"):
        open_repository(tmp_path)
    assert [each.name for each in other.iterdir()] == ["letter.txt"]
    with pytest.raises(HistoryError, match="could not be made"):
        open_repository(tmp_path, name="snapshots.git/letter.txt/x.git")


def test_bad_branch_name_leaves_no_folder(tmp_path: Path) -> None:
    """If git refuses to create the repository, no folder is left."""
    with pytest.raises(HistoryError, match="could not be made"):
        open_repository(tmp_path, branch="a..b")
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


def test_concurrent_creation_gives_one_repository(tmp_path: Path) -> None:
    """Two processes that create the repository at the same time get the same complete one."""
    failures: list[BaseException] = []

    def create() -> None:
        try:
            open_repository(tmp_path).close()
        except HistoryError as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "snapshots.git", "snapshots.git.gc"]
