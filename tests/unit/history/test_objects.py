"""Reading many files of a commit: the number of requests to git, damaged objects, and many threads."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirror.errors import HistoryError
from mirror.history.git_command import Git
from mirror.history.objects import (
    MAX_ENTRIES,
    MAX_TREE_FILE_BYTES,
    BadTreeError,
    GitObject,
    ObjectReader,
    TreeEntry,
    TreeReader,
    files,
    find,
    parse_tree,
)
from mirror.history.repository import GitRepository
from mirror.model import CommitId
from support.gits import commit, counting_git, environment, git, open_repository


class NotedObjects(ObjectReader):
    """An object reader that records its requests: one list per exchange."""

    def __init__(self, git: Git) -> None:
        super().__init__(git)
        self.exchanges: list[tuple[str, ...]] = []

    def stat(self, names: Sequence[str]) -> tuple[GitObject | None, ...]:
        self.exchanges.append(tuple(names))
        return super().stat(names)

    def read(self, names: Sequence[str]) -> tuple[GitObject | None, ...]:
        self.exchanges.append(tuple(names))
        return super().read(names)


@pytest.fixture
def objects(tmp_path: Path, repo: GitRepository) -> Iterator[NotedObjects]:
    noted = NotedObjects(Git(tmp_path / "snapshots.git", environment(tmp_path), stop=threading.Event()))
    yield noted
    noted.close()


def issuers(count: int) -> dict[str, bytes]:
    """The three files of `count` issuers, each with different content."""
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
def test_each_tree_and_file_is_asked_for_once(repo: GitRepository, objects: NotedObjects, count: int) -> None:
    """The number of requests is linear in the issuers: each tree and file is read once, by its id."""
    files = issuers(count)
    head = commit(repo, {**files, "README.md": b"r", "public/bucket/other/jwks": b"not wanted"})
    assert TreeReader(objects).read(head, [*files, "ledger/bucket/new/keys.json"]) == files
    asked = [name for names in objects.exchanges for name in names]
    folders_shared = 5  # the root, ledger, ledger/bucket, public, public/bucket
    folders_of_one = 5  # ledger/…/c, public/…/c, .well-known, openid, openid/v1
    sizes_and_bodies = 2
    assert len(asked) == 1 + folders_shared + count * (folders_of_one + 3 * sizes_and_bodies)
    assert not [name for name in asked if ":" in name]
    # The commit, six depths of folders, the sizes of the files, the files.
    assert len(objects.exchanges) == 9


ODD_PATHS = ("", "a\nb", "a\0b", "../x", "./x", "a//b", "/a", "a/", "ledger/a0/below", "new/x")


def test_what_is_no_file_of_ours_reads_as_nothing(repo: GitRepository, tmp_path: Path) -> None:
    """Absent paths are left out; a link, a submodule, a folder, another mode or a huge file reads as empty."""
    files = {"ledger/a0": b"same", "ledger/\udcff": b"odd name"}
    commit(repo, {**files, "ledger/huge": b"x" * (MAX_TREE_FILE_BYTES + 1)})
    path = tmp_path / "snapshots.git"
    blob, sub = git(path, "hash-object", "-w", "--stdin", stdin=b"target"), "1" * 40
    entries = git(path, "ls-tree", "main:ledger", environ=None).encode() + (
        f"\n120000 blob {blob}\tlink\n160000 commit {sub}\tsub\n100755 blob {blob}\tprogram\n".encode()
    )
    folder = git(path, "mktree", "--missing", stdin=entries)
    root = git(path, "mktree", stdin=f"040000 tree {folder}\tledger\n".encode())
    head = CommitId(git(path, "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "x", root))
    unreadable = ["ledger", "ledger/link", "ledger/sub", "ledger/program", "ledger/huge"]
    assert repo.read(head, [*files, *unreadable, *ODD_PATHS]) == {**files, **dict.fromkeys(unreadable, b"")}
    assert repo.blobs([f"{head}:ledger/a0", f"{head}:ledger/sub", f"{head}:absent"])[1:] == (None, None)
    assert set(repo.list_paths(head, "ledger")) == {*files, "ledger/huge", "ledger/program"}


def test_lost_file_is_trouble_of_its_path_alone(repo: GitRepository, tmp_path: Path) -> None:
    """A file whose object is lost reads as empty, so it is not trusted; the other files are read."""
    files = issuers(8)  # more than 100 objects would be in a pack
    head = commit(repo, files)
    gone = git(tmp_path / "snapshots.git", "rev-parse", f"{head}:ledger/bucket/c7/keys.json")
    (tmp_path / "snapshots.git" / "objects" / gone[:2] / gone[2:]).unlink()
    assert repo.read(head, files) == {**files, "ledger/bucket/c7/keys.json": b""}


@pytest.mark.parametrize("lost", ["tree", "root", "commit"])
def test_lost_folder_is_an_error(repo: GitRepository, tmp_path: Path, lost: str) -> None:
    """A lost folder is an error with a remedy; its files do not count as absent."""
    files = issuers(8)
    head = commit(repo, files)
    names = {"tree": f"{head}:ledger/bucket/c7", "root": f"{head}^{{tree}}", "commit": head}
    gone = git(tmp_path / "snapshots.git", "rev-parse", names[lost])
    repo.close()
    (tmp_path / "snapshots.git" / "objects" / gone[:2] / gone[2:]).unlink()
    with pytest.raises(HistoryError, match=r"has lost|could not be read") as caught:
        repo.read(head, files)
    assert "git fsck" in caught.value.remedy


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    """Threads that read different numbers of files each get their own, from one git process."""
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


def line(mode: str, name: str, number: int) -> bytes:
    return f"{mode} {name}".encode("utf-8", "surrogateescape") + b"\0" + bytes([number]) * 20


def tree_id(number: int) -> str:
    return (bytes([number]) * 20).hex()


class Trees:
    """A store of tree objects. An id is one byte, repeated twenty times."""

    def __init__(self, **trees: bytes) -> None:
        self.trees = {tree_id(int(name[1:])): body for name, body in trees.items()}
        self.asked: list[str] = []

    def read(self, ids: Sequence[str]) -> list[bytes]:
        self.asked += ids
        return [self.trees[each] for each in ids]


def test_tree_is_parsed() -> None:
    """Entries have mode and id; names that are not UTF-8 keep their bytes."""
    body = line("40000", "a", 1) + line("100644", "b", 2) + line("160000", "sub", 3) + line("100755", "\udcff", 4)
    assert parse_tree(body, id_bytes=20) == {
        "a": TreeEntry(b"40000", tree_id(1)),
        "b": TreeEntry(b"100644", tree_id(2)),
        "sub": TreeEntry(b"160000", tree_id(3)),
        "\udcff": TreeEntry(b"100755", tree_id(4)),
    }


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(line("100644", "a", 1)[:-1], id="cut-id"),
        pytest.param(b"100644 a", id="no-zero"),
        pytest.param(b"100644\0" + b"x" * 30, id="no-space"),
        pytest.param(b" a\0" + b"x" * 20, id="no-mode"),
        pytest.param(line("1006_44", "a", 1), id="mode-no-number"),
        pytest.param(line("100688", "a", 1), id="mode-not-octal"),
    ],
)
def test_damaged_tree_is_refused(body: bytes) -> None:
    """A truncated or invalid tree is an error, never a smaller tree."""
    with pytest.raises(BadTreeError):
        parse_tree(body, id_bytes=20)


@pytest.mark.parametrize(
    ("mode", "is_tree"),
    [("040000", True), ("40755", True), ("100666", False), ("0100644", False), ("120000", False)],
)
def test_odd_mode_is_read_as_git_reads_it(mode: str, is_tree: bool) -> None:
    """Unusual modes that git accepts with a warning are read as git does: folders stay folders, files stay files."""
    assert parse_tree(line(mode, "a", 1), id_bytes=20)["a"].is_tree is is_tree


def test_paths_are_found_reading_each_folder_once() -> None:
    """Only folders of wanted paths are read, once each, one depth at a time; absent paths are left out."""
    store = Trees(
        t1=line("40000", "a", 2) + line("40000", "b", 2) + line("40000", "far", 9) + line("100644", "x", 50),
        t2=line("40000", "c", 3) + line("100644", "x", 51),
        t3=line("100644", "f", 52) + line("100644", "g", 53),
    )
    wanted = ("b/c/f", "a/c/g", "a/c/f", "x", "a/x", "a", "absent", "a/absent/f", "x/below-a-file", "a/c/absent")
    found = find(store.read, tree_id(1), wanted)
    assert {path: entry.id for path, entry in found.items()} == {
        "b/c/f": tree_id(52),
        "a/c/g": tree_id(53),
        "a/c/f": tree_id(52),
        "x": tree_id(50),
        "a/x": tree_id(51),
        "a": tree_id(2),
    }
    assert store.asked == [tree_id(1), tree_id(2), tree_id(3)]
    assert find(store.read, tree_id(9), ()) == {}


def test_every_file_is_listed_and_nothing_else() -> None:
    """Files of all depths are listed with the folder's own name; links and submodules are not."""
    store = Trees(
        t1=line("40000", "x", 2) + line("100644", "f", 50) + line("120000", "link", 51) + line("160000", "sub", 52),
        t2=line("100755", "g", 53),
    )
    assert set(files(store.read, tree_id(1), under="public")) == {"public/f", "public/x/g"}
    assert files(store.read, None) == {}


def test_git_bomb_is_refused() -> None:
    """Nested trees that expand to billions of files are rejected ("git bomb")."""
    store = Trees(
        **{f"t{level}": b"".join(line("40000", f"{n:02}", level + 1) for n in range(60)) for level in range(1, 9)},
        t9=line("100644", "f", 50),
    )
    with pytest.raises(BadTreeError, match=str(MAX_ENTRIES)):
        files(store.read, tree_id(1))
