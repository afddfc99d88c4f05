"""Pure: git's tree objects, and how two of them differ.

A tree from a remote is untrusted: a few small trees that name each other many times unfold to billions of files. The
walk is therefore by level, never recursive, and gives up at `MAX_ENTRIES`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

MAX_ENTRIES = 200_000
_KIND_BITS, _FOLDER, _FILE, _LINK = 0o170000, 0o040000, 0o100000, 0o120000
Reader = Callable[[Sequence[str]], Sequence[bytes]]
"""Tree ids in, their bodies out, in the same order."""


class BadTreeError(ValueError):
    """A tree that is damaged, or too large to be ours."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree: a subtree, or a file (its blob's id and git's mode)."""

    mode: bytes
    id: str

    @property
    def is_tree(self) -> bool:
        """Whether it is a folder."""
        return _kind(self.mode) == _FOLDER


Difference = tuple[Entry | None, Entry | None]


def _kind(mode: bytes) -> int:
    return int(mode, 8) & _KIND_BITS


def parse_tree(body: bytes, *, id_bytes: int) -> dict[str, Entry]:
    """The entries of one tree object, each mode, name, zero byte, id; ids have `id_bytes` bytes (20 or 32).

    Commits of other repositories (submodules) are left out. A name that is no UTF-8 keeps its bytes as surrogates.
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
        if _kind(mode) in {_FOLDER, _FILE, _LINK}:
            entries[name] = Entry(mode, body[end + 1 : at].hex())
    return entries


def differences(read: Reader, old: str | None, new: str | None, *, under: str = "") -> Mapping[str, Difference]:
    """The files in which the trees `old` and `new` differ (None: an empty tree), each path beginning with `under`.

    Args:
        read: How tree objects are read.
        old: The id of the first tree.
        new: The id of the second tree.
        under: Where the two trees stand, such as `ledger`; empty for the root.

    Raises:
        BadTreeError: A tree is damaged, or they unfold to more than 200 000 entries.
    """
    files: dict[str, Difference] = {}
    level: dict[str, tuple[str | None, str | None]] = {under: (old, new)}
    seen = 0
    while level:
        bodies = _read_trees(read, (tree for pair in level.values() for tree in pair))
        below: dict[str, tuple[str | None, str | None]] = {}
        for folder, (left, right) in level.items():
            for name, change in _changed(bodies.get(left or "", {}), bodies.get(right or "", {})).items():
                _sort_in(_joined(folder, name), change, files, below)
            seen += len(bodies.get(left or "", {})) + len(bodies.get(right or "", {}))
            if seen > MAX_ENTRIES:
                raise BadTreeError(f"the tree holds more than {MAX_ENTRIES} entries")
        level = below
    return files


def find(read: Reader, root: str, paths: Collection[str]) -> Mapping[str, Entry]:
    """What stands at `paths` (such as `ledger/a/keys.json`) below the tree `root`; what is absent is absent.

    Only folders on the way to `paths` are read, all of one depth at once and each of them once: git itself, asked for
    `<commit>:<path>`, searches each folder from its beginning for every path.

    Args:
        read: How tree objects are read.
        root: The id of the tree that the paths begin in.
        paths: Without empty parts.

    Raises:
        BadTreeError: A tree is damaged.
    """
    wanted = _names_by_folder(paths)
    found: dict[str, Entry] = {}
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
    """For each folder above a path the names, without repetition, that are wanted in it."""
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


def _read_trees(read: Reader, trees: Iterable[str | None]) -> dict[str, dict[str, Entry]]:
    ids = list(dict.fromkeys(tree for tree in trees if tree is not None))
    return {tree: parse_tree(body, id_bytes=len(tree) // 2) for tree, body in zip(ids, read(ids), strict=True)}


def _changed(left: Mapping[str, Entry], right: Mapping[str, Entry]) -> dict[str, Difference]:
    names = dict.fromkeys((*left, *right))
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}


def _sort_in(
    path: str, change: Difference, files: dict[str, Difference], below: dict[str, tuple[str | None, str | None]]
) -> None:
    """Put a difference where it belongs: what is a folder on either side is looked into."""
    trees = tuple(side.id if side is not None and side.is_tree else None for side in change)
    blobs = tuple(side if side is not None and not side.is_tree else None for side in change)
    if trees[0] != trees[1]:
        below[path] = (trees[0], trees[1])
    if blobs != (None, None):
        files[path] = (blobs[0], blobs[1])
