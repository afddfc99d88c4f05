"""Reading many files of a commit: what git is asked for, damage, and many threads."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirror.errors import HistoryError
from mirror.history.git import Git
from mirror.history.objects import Found, Objects
from mirror.history.repository import Repository
from mirror.history.snapshots import NAMED_PATHS, Snapshots
from mirror.model import CommitId
from support.gits import commit, counting_git, environment, git, open_repository


class NotedObjects(Objects):
    """Objects that notes what it is asked for: one list an exchange."""

    def __init__(self, git: Git) -> None:
        super().__init__(git)
        self.exchanges: list[tuple[str, ...]] = []

    def info(self, names: Sequence[str]) -> tuple[Found | None, ...]:
        self.exchanges.append(tuple(names))
        return super().info(names)

    def contents(self, names: Sequence[str]) -> tuple[Found | None, ...]:
        self.exchanges.append(tuple(names))
        return super().contents(names)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    with open_repository(tmp_path) as repository:
        yield repository


@pytest.fixture
def objects(tmp_path: Path, repo: Repository) -> Iterator[NotedObjects]:
    noted = NotedObjects(Git(tmp_path / "snapshots.git", environment(tmp_path), stop=threading.Event()))
    yield noted
    noted.close()


def issuers(count: int) -> dict[str, bytes]:
    """The three files of `count` issuers, each text once."""
    return {
        path: path.encode()
        for number in range(count)
        for path in (
            f"ledger/bucket/c{number}/keys.json",
            f"public/bucket/c{number}/.well-known/openid-configuration",
            f"public/bucket/c{number}/openid/v1/jwks",
        )
    }


@pytest.mark.parametrize("count", [10, 300])
def test_each_tree_and_file_is_asked_for_once(repo: Repository, objects: NotedObjects, count: int) -> None:
    """What is asked for grows with the issuers, never with their square: each tree and file by its id, once."""
    files = issuers(count)
    head = commit(repo, {**files, "README.md": b"r", "public/bucket/stranger/jwks": b"not wanted"})
    assert Snapshots(objects).read(head, [*files, "ledger/bucket/new/keys.json"]) == files
    asked = [name for names in objects.exchanges for name in names]
    folders_shared = 5  # the root, ledger, ledger/bucket, public, public/bucket
    folders_of_one = 5  # ledger/…/c, public/…/c, .well-known, openid, openid/v1
    assert len(asked) == len(set(asked)) == 1 + folders_shared + count * (folders_of_one + 3)
    assert not [name for name in asked if ":" in name]
    # The commit, six depths of folders, the files.
    assert len(objects.exchanges) == 8


def test_few_paths_cost_one_exchange(repo: Repository, objects: NotedObjects) -> None:
    """One path, or the few of one issuer, are asked for at once, however many issuers there are."""
    files = issuers(100)
    head = commit(repo, files)
    for count in (1, 3, NAMED_PATHS):
        wanted = list(files)[:count]
        objects.exchanges.clear()
        assert list(Snapshots(objects).read(head, wanted)) == wanted
        # The second exchange is the empty one of "is anything missing?": nothing is sent for it.
        assert [len(names) for names in objects.exchanges if names] == [count]


ODD_PATHS = ("", "a\nb", "a\0b", "../x", "./x", "a//b", "/a", "a/", "ledger", "ledger/a0", "ledger/a0/below", "new/x")


@pytest.mark.parametrize("count", [1, NAMED_PATHS + 1], ids=["named", "found"])
def test_both_ways_of_reading_agree(repo: Repository, tmp_path: Path, count: int) -> None:
    """What is no file of the tree is absent, links and odd names are read: the same for few paths and for many."""
    files = {f"ledger/a{number}": b"same" for number in range(count)}
    commit(repo, {**files, "ledger/\udcff": b"odd name", "ledger/x": b"x"})
    path = tmp_path / "snapshots.git"
    blob, sub = git(path, "hash-object", "-w", "--stdin", stdin=b"target"), "1" * 40
    entries = git(path, "ls-tree", "main:ledger", environ=None).encode() + (
        f"\n120000 blob {blob}\tlink\n160000 commit {sub}\tsub\n".encode()
    )
    folder = git(path, "mktree", "--missing", stdin=entries)
    root = git(path, "mktree", stdin=f"040000 tree {folder}\tledger\n".encode())
    head = CommitId(git(path, "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "x", root))
    wanted = [*files, "ledger/\udcff", "ledger/link"]
    assert repo.read(head, [*wanted, "ledger/sub", *ODD_PATHS][: 3 + count]) == {
        **files,
        "ledger/\udcff": b"odd name",
        "ledger/link": b"target",
    }
    for odd in ODD_PATHS:
        assert repo.read(head, [*files, odd]) == files, odd


@pytest.mark.parametrize("lost", ["blob", "tree", "root", "commit"])
def test_damage_among_many_files_is_an_error(repo: Repository, tmp_path: Path, lost: str) -> None:
    """An object that is gone stops the reading of many files with a remedy; nothing of them passes for absent."""
    files = issuers(8)  # more than 100 objects would stand in a pack
    head = commit(repo, files)
    names = {
        "blob": f"{head}:ledger/bucket/c7/keys.json",
        "tree": f"{head}:ledger/bucket/c7",
        "root": f"{head}^{{tree}}",
        "commit": head,
    }
    gone = git(tmp_path / "snapshots.git", "rev-parse", names[lost])
    repo.close()
    (tmp_path / "snapshots.git" / "objects" / gone[:2] / gone[2:]).unlink()
    with pytest.raises(HistoryError, match=r"has lost|could not be read") as caught:
        repo.read(head, files)
    assert "git fsck" in caught.value.remedy


def test_lost_file_among_many_is_named(repo: Repository, tmp_path: Path) -> None:
    """Of many files, the one whose object is gone is named."""
    files = issuers(8)  # more than 100 objects would stand in a pack
    head = commit(repo, files)
    gone = git(tmp_path / "snapshots.git", "rev-parse", f"{head}:ledger/bucket/c7/keys.json")
    (tmp_path / "snapshots.git" / "objects" / gone[:2] / gone[2:]).unlink()
    with pytest.raises(HistoryError, match=r"lost ledger/bucket/c7/keys\.json of"):
        repo.read(head, files)


@pytest.mark.parametrize(
    ("mode", "kind"), [("40000", "blob"), ("100644", "tree")], ids=["folder-is-a-file", "file-is-a-folder"]
)
def test_tree_that_lies_about_a_kind_is_an_error(repo: Repository, tmp_path: Path, mode: str, kind: str) -> None:
    """An entry whose object is of another kind is damage, not an absent ledger."""
    path = tmp_path / "snapshots.git"
    files = issuers(20)
    commit(repo, files)
    other = {
        "blob": git(path, "hash-object", "-w", "--stdin", stdin=b"x"),
        "tree": git(path, "rev-parse", "main:ledger"),
    }[kind]
    body = f"{mode} ledger".encode() + b"\0" + bytes.fromhex(other)
    root = git(path, "hash-object", "-w", "--literally", "-t", "tree", "--stdin", stdin=body)
    text = f"tree {root}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n".encode()
    head = CommitId(git(path, "hash-object", "-w", "--literally", "-t", "commit", "--stdin", stdin=text))
    with pytest.raises(HistoryError, match=r"has lost|could not be read"):
        repo.read(head, ["ledger", *files])


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    """Threads that read different files, few and many, each get their own, from one git process."""
    extra, notes = counting_git(tmp_path)
    files = issuers(40)
    with open_repository(tmp_path, extra_environ=extra) as repository:
        head = commit(repository, files)
        repository.close()
        notes.unlink()
        wanted = [list(files)[begin : begin + 1 + begin % 50] for begin in range(100)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda paths: repository.read(head, paths), wanted))
    assert found == [{path: files[path] for path in paths} for paths in wanted]
    assert len(notes.read_text().splitlines()) == 1
