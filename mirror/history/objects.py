"""Read objects, trees and references through one long-lived `git cat-file --batch-command` (git 2.36).

One process answers thousands of questions, and it sees what other processes write meanwhile. Git reads loose
references again each time, and looks for new packs if an object seems to be missing.

The parser of git's tree objects is pure.
A tree from a remote is untrusted: a few small trees that name each other many times expand to billions of files. The
walk therefore goes level by level, never recursively, and gives up at `MAX_ENTRIES`.
"""

import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mirror.errors import HistoryError
from mirror.history.git_command import TICK_SECONDS, Child, Git, presentable
from mirror.model import CommitId

MAX_OBJECT_BYTES = 64 * 1024 * 1024
"""Enough for a folder of a million names; files over 4 MiB are not read, see `TreeReader.contents`."""
_HEADER = re.compile(rb"([0-9a-f]{40,64}) (blob|tree|commit|tag) (\d+)")
_QUESTIONS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class GitObject:
    """One object: its id, its kind (`blob`, `tree`, `commit`, `tag`), its size, and its bytes where asked for.

    `body` is cut at `MAX_OBJECT_BYTES` + 1 bytes: a larger one is not ours, and its parser rejects it.
    """

    id: str
    kind: str
    size_bytes: int
    body: bytes = b""


class ObjectReader:
    """One git process; it starts with the first question and ends with `close`. Callable from any thread."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._child: Child | None = None
        self._lock = threading.Lock()

    def stat(self, names: Sequence[str]) -> tuple[GitObject | None, ...]:
        """The objects that `names` (ids, references, `<commit>:<path>`) refer to; None for each that does not exist.

        Raises:
            HistoryError: git did not answer, or an object is damaged.
        """
        return self._ask("info", names)

    def read(self, names: Sequence[str]) -> tuple[GitObject | None, ...]:
        """As `stat`, with the objects' bytes.

        Raises:
            HistoryError: git did not answer, or an object is damaged.
        """
        return self._ask("contents", names)

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._drop()

    def _ask(self, command: str, names: Sequence[str]) -> tuple[GitObject | None, ...]:
        with self._lock:
            answers: list[GitObject | None] = []
            try:
                for begin in range(0, len(names), _QUESTIONS_AT_ONCE):
                    answers += self._exchange(command, names[begin : begin + _QUESTIONS_AT_ONCE])
            except BaseException:
                # Half an answer may still be in the pipe: this process can no longer be used.
                self._drop()
                raise
            return tuple(answers)

    def _exchange(self, command: str, names: Sequence[str]) -> list[GitObject | None]:
        if self._child is None:
            self._child = self._git.start("cat-file", "--batch-command", "--buffer")
        child, deadline = self._child, time.monotonic() + self._git.timeout_seconds
        asked = [name if is_askable(name.partition(":")[2]) else None for name in names]
        lines = "".join(f"{command} {name}\n" for name in asked if name is not None)
        child.send(f"{lines}flush\n".encode("utf-8", "surrogateescape"))
        return [None if name is None else self._answer(child, command, deadline) for name in asked]

    def _answer(self, child: Child, command: str, deadline: float) -> GitObject | None:
        line = self._line(child, deadline)
        header = _HEADER.fullmatch(line)
        if header is None:
            if line.endswith((b" missing", b" submodule")):  # git has at most the id of a submodule
                return None
            said = presentable(line.decode("utf-8", "replace"))
            raise HistoryError("git gave an answer that this program does not understand.", cause=said)
        found = GitObject(header[1].decode(), header[2].decode(), int(header[3]))
        if command == "info":
            return found
        body = self._body(child, found.size_bytes, deadline)
        return GitObject(found.id, found.kind, found.size_bytes, body)

    def _line(self, child: Child, deadline: float) -> bytes:
        while (end := child.out.find(b"\n")) < 0:
            self._wait(child, deadline)
        line = bytes(child.out[:end])
        del child.out[: end + 1]
        return line

    def _body(self, child: Child, size_bytes: int, deadline: float) -> bytes:
        """The next `size_bytes` bytes and the line feed after them. Bytes over the limit are read but not kept."""
        body, missing = bytearray(), size_bytes + 1
        while missing:
            if not child.out:
                self._wait(child, deadline)
            part = child.out[:missing]
            del child.out[: len(part)]
            missing -= len(part)
            body += part[: max(0, MAX_OBJECT_BYTES + 1 - len(body))]
        return bytes(body[:size_bytes])

    def _wait(self, child: Child, deadline: float) -> None:
        moved = child.poll_pipes(TICK_SECONDS)
        if not moved and child.at_eof():
            child.kill()
            raise _ended(child)
        if self._git.stop.is_set() or time.monotonic() >= deadline:
            seconds = f"{self._git.timeout_seconds:g}"
            cause = "the program is ending" if self._git.stop.is_set() else f"no answer within {seconds} s"
            raise HistoryError(
                "Reading the git repository was given up.", cause=cause, remedy="See that its disk is not overloaded."
            )

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()


def is_askable(path: str) -> bool:
    """Whether git reads `path` literally: it is one line and not relative to a folder. The empty path is the root.

    All our own paths pass. Paths from a remote's tree may fail; they count as absent.
    """
    return "\n" not in path and "\0" not in path and (not path or not {"", ".", ".."} & set(path.split("/")))


def _ended(child: Child) -> HistoryError:
    said = presentable(child.err)
    if "batch-command" in child.err:
        return HistoryError("The git command is too old.", remedy="Install git 2.36 or newer.")
    return HistoryError(
        "The git repository could not be read.",
        cause=said or f"git ended with status {child.process.returncode}",
        remedy="Check it with `git fsck`; if it is damaged and a remote is set, move it away: it is fetched again.",
    )


MAX_ENTRIES = 200_000
_KIND_BITS, _FOLDER, _FILE = 0o170000, 0o040000, 0o100000
_OUR_MODE = 0o100644
Reader = Callable[[Sequence[str]], Sequence[bytes]]
"""Tree ids in, their bodies out, in the same order."""


class BadTreeError(ValueError):
    """A tree is damaged, or too large to be ours."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One line of a tree: a subtree, a file (its blob's id), or neither (a link, a commit); `mode` is git's."""

    mode: bytes
    id: str

    @property
    def is_tree(self) -> bool:
        """Whether it is a folder."""
        return self._kind == _FOLDER

    @property
    def is_file(self) -> bool:
        """Whether it is a file, with any permissions."""
        return self._kind == _FILE

    @property
    def is_plain_file(self) -> bool:
        """Whether it is a file as this program writes them, of mode 100644."""
        return int(self.mode, 8) == _OUR_MODE

    @property
    def _kind(self) -> int:
        return int(self.mode, 8) & _KIND_BITS


def parse_tree(body: bytes, *, id_bytes: int) -> dict[str, TreeEntry]:
    """The entries of one tree object, each mode, name, zero byte, id; ids have `id_bytes` bytes (20 or 32).

    A name that is no UTF-8 keeps its bytes as surrogates.
    Modes are numbers, as git reads them: `git fsck` lets `040000` and `100666` pass, so a remote may send them.

    Raises:
        BadTreeError: The object is damaged.
    """
    entries = {}
    at = 0
    while at < len(body):
        space, end = body.find(b" ", at), body.find(b"\0", at)
        if not at < space < end or end + 1 + id_bytes > len(body):
            raise BadTreeError("a tree object is damaged")
        mode, name = body[at:space], body[space + 1 : end].decode("utf-8", "surrogateescape")
        if mode.strip(b"01234567"):
            raise BadTreeError("a tree object is damaged")
        at = end + 1 + id_bytes
        entries[name] = TreeEntry(mode, body[end + 1 : at].hex())
    return entries


def files(read: Reader, root: str | None, *, under: str = "") -> Mapping[str, TreeEntry]:
    """Every file of the tree `root` (None: an empty one), each path beginning with `under`.

    Args:
        read: How tree objects are read.
        root: The id of the tree.
        under: The path of the tree, such as `ledger`; empty for the root.

    Raises:
        BadTreeError: A tree is damaged, or it expands to more than 200 000 entries.
    """
    found: dict[str, TreeEntry] = {}
    level = {} if root is None else {under: root}
    seen = 0
    while level:
        bodies = _read_trees(read, level.values())
        here = {_joined(folder, name): entry for folder, tree in level.items() for name, entry in bodies[tree].items()}
        seen += len(here)
        if seen > MAX_ENTRIES:
            raise BadTreeError(f"the tree holds more than {MAX_ENTRIES} entries")
        found |= {path: entry for path, entry in here.items() if entry.is_file}
        level = {path: entry.id for path, entry in here.items() if entry.is_tree}
    return found


def find(read: Reader, root: str, paths: Collection[str]) -> Mapping[str, TreeEntry]:
    """The entries at `paths` (such as `ledger/a/keys.json`) below the tree `root`; absent paths are left out.

    Only folders on the way to `paths` are read: each once, and all of one depth together. In contrast, git searches
    every folder from its beginning for each `<commit>:<path>`.

    Args:
        read: How tree objects are read.
        root: The id of the tree in which the paths begin.
        paths: Without empty parts.

    Raises:
        BadTreeError: A tree is damaged.
    """
    wanted = _names_by_folder(paths)
    found: dict[str, TreeEntry] = {}
    level = {"": root} if wanted else {}
    while level:
        trees = _read_trees(read, level.values())
        here = {
            _joined(folder, name): trees[tree][name]
            for folder, tree in level.items()
            for name in wanted[folder]
            if name in trees[tree]
        }
        found |= here
        level = {path: entry.id for path, entry in here.items() if entry.is_tree and path in wanted}
    return {path: found[path] for path in paths if path in found}


def _names_by_folder(paths: Iterable[str]) -> dict[str, dict[str, None]]:
    """The distinct names that are wanted in each folder above a path."""
    wanted: dict[str, dict[str, None]] = {}
    for path in paths:
        rest = path
        while rest:
            folder, _, name = rest.rpartition("/")
            wanted.setdefault(folder, {})[name] = None
            rest = folder
    return wanted


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _read_trees(read: Reader, trees: Iterable[str]) -> dict[str, dict[str, TreeEntry]]:
    ids = list(dict.fromkeys(trees))
    return {tree: parse_tree(body, id_bytes=len(tree) // 2) for tree, body in zip(ids, read(ids), strict=True)}


MAX_TREE_FILE_BYTES = 4 * 1024 * 1024
"""The largest file that is read: a ledger with a new key every six hours for about twenty years."""
_REMEDY = "Check it with `git fsck`; with a remote, move it away: it is fetched again."


class TreeReader:
    """Reads the commits of one repository as folders of files. Callable from any thread: it keeps no state."""

    def __init__(self, objects: ObjectReader) -> None:
        self._objects = objects

    def read(self, commit: CommitId, paths: Iterable[str]) -> Mapping[str, bytes]:
        """The files of `commit` at `paths`; absent files are left out.

        An entry that cannot be our file (a link, a folder, a submodule, another mode, over 4 MiB, an object that git
        has lost) reads as empty bytes. No document of ours is empty, so it is never accepted.

        Raises:
            HistoryError: The repository could not be read, or does not have `commit`.
        """
        wanted = tuple(path for path in dict.fromkeys(paths) if path and is_askable(path))
        entries = self._entries(commit, wanted)
        bodies = self.contents(entry.id for entry in entries.values() if entry.is_plain_file)
        return {path: bodies.get(entry.id, b"") for path, entry in entries.items()}

    def contents(self, blobs: Iterable[str]) -> Mapping[str, bytes]:
        """The bytes of `blobs` by id. Lost objects, objects that are no files, and files over 4 MiB are left out.

        Raises:
            HistoryError: The repository could not be read.
        """
        ids = tuple(dict.fromkeys(blobs))
        # Ask for sizes first: a pushed object may be as large as the fetch allowed.
        small = [
            one.id
            for one in self._objects.stat(ids)
            if one is not None and one.kind == "blob" and one.size_bytes <= MAX_TREE_FILE_BYTES
        ]
        return {one.id: one.body for one in self._objects.read(small) if one is not None}

    def list_paths(self, commit: CommitId, under: str) -> Mapping[str, str]:
        """Every file of `commit` below the folder `under`, with the id of its blob.

        Raises:
            HistoryError: The repository could not be read, or has more than 200 000 entries there.
        """
        try:
            found: Mapping[str, TreeEntry] = files(self._tree_bodies, self.tree_id(commit, under), under=under)
        except BadTreeError as error:
            raise _unreadable(error) from error
        return {path: entry.id for path, entry in sorted(found.items())}

    def tree_id(self, commit: CommitId, under: str = "") -> str | None:
        """The id of the folder `under` of `commit` (empty: its root); None when there is no such folder.

        Raises:
            HistoryError: The repository could not be read, or does not have `commit`.
        """
        if not under:
            return self._root(commit)
        entry = self._entries(commit, (under,)).get(under)
        return entry.id if entry is not None and entry.is_tree else None

    def _root(self, commit: CommitId) -> str:
        (found,) = self._objects.stat([f"{commit}^{{tree}}"])
        if found is None:
            raise HistoryError(
                f"The git repository has lost commit {commit}, or never had that commit.", remedy=_REMEDY
            )
        return found.id

    def _entries(self, commit: CommitId, paths: Collection[str]) -> Mapping[str, TreeEntry]:
        try:
            return find(self._tree_bodies, self._root(commit), paths)
        except BadTreeError as error:
            raise _unreadable(error) from error

    def _tree_bodies(self, ids: Iterable[str]) -> tuple[bytes, ...]:
        found = self._objects.read(tuple(ids))
        if any(one is None or one.kind != "tree" for one in found):
            raise BadTreeError("a tree object is missing, or is not a tree")
        return tuple(one.body for one in found if one is not None)


def _unreadable(error: BadTreeError) -> HistoryError:
    return HistoryError("A folder of the history could not be read.", cause=str(error), remedy=_REMEDY)
