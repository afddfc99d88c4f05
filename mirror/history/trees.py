"""Pure: git's tree objects, and the files that they name.

A tree from a remote is untrusted: a few small trees that name each other many times unfold to billions of files. The
walk is therefore by level, never recursive, and gives up at `MAX_ENTRIES`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

MAX_ENTRIES = 200_000
_KIND_BITS, _FOLDER, _FILE = 0o170000, 0o040000, 0o100000
_OUR_MODE = 0o100644
Reader = Callable[[Sequence[str]], Sequence[bytes]]
"""Tree ids in, their bodies out, in the same order."""


class BadTreeError(ValueError):
    """A tree that is damaged, or too large to be ours."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree: a subtree, a file (its blob's id), or what is neither (a link, a commit); `mode` is git's."""

    mode: bytes
    id: str

    @property
    def is_tree(self) -> bool:
        """Whether it is a folder."""
        return self._kind == _FOLDER

    @property
    def is_file(self) -> bool:
        """Whether it is a file, whatever its rights."""
        return self._kind == _FILE

    @property
    def is_plain_file(self) -> bool:
        """Whether it is a file as this program writes them, of mode 100644."""
        return int(self.mode, 8) == _OUR_MODE

    @property
    def _kind(self) -> int:
        return int(self.mode, 8) & _KIND_BITS


def parse_tree(body: bytes, *, id_bytes: int) -> dict[str, Entry]:
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
        entries[name] = Entry(mode, body[end + 1 : at].hex())
    return entries


def files(read: Reader, root: str | None, *, under: str = "") -> Mapping[str, Entry]:
    """Every file of the tree `root` (None: an empty one), each path beginning with `under`.

    Args:
        read: How tree objects are read.
        root: The id of the tree.
        under: Where the tree stands, such as `ledger`; empty for the root.

    Raises:
        BadTreeError: A tree is damaged, or it unfolds to more than 200 000 entries.
    """
    found: dict[str, Entry] = {}
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


def _read_trees(read: Reader, trees: Iterable[str]) -> dict[str, dict[str, Entry]]:
    ids = list(dict.fromkeys(trees))
    return {tree: parse_tree(body, id_bytes=len(tree) // 2) for tree, body in zip(ids, read(ids), strict=True)}
