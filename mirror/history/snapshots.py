"""What a commit holds: its files, and how those of two commits differ. All through one `git cat-file`."""

from collections.abc import Collection, Iterable, Mapping

from mirror.errors import HistoryError
from mirror.history.objects import Found, Objects, is_askable
from mirror.history.trees import BadTreeError, Difference, Entry, differences, find, parse_tree
from mirror.model import CommitId

FOLDERS = ("ledger", "public")
_REMEDY = "Check it with `git fsck`; with a remote, move it away: it is fetched anew."
NAMED_PATHS = 16
"""So many paths are asked for by name, in one exchange with git; more are looked up in the trees, each read once."""


class Snapshots:
    """The commits of one repository as folders of files. Callable from any thread: it keeps nothing."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, commit: CommitId, paths: Iterable[str]) -> Mapping[str, bytes]:
        """The files of `commit` at `paths`; absent ones are absent. One over 16 MiB is cut, so its reader refuses it.

        Raises:
            HistoryError: The repository could not be read.
        """
        wanted = tuple(path for path in dict.fromkeys(paths) if path and is_askable(path))
        return self._read_named(commit, wanted) if len(wanted) <= NAMED_PATHS else self._read_found(commit, wanted)

    def list_paths(self, commit: CommitId, under: str) -> Mapping[str, str]:
        """Every file of `commit` below the folder `under`, with the id of its blob.

        Raises:
            HistoryError: The repository could not be read, or has more than 200 000 entries there.
        """
        found = self._differences(None, self.tree(commit, under), under)
        return {path: entry.id for path, (_, entry) in sorted(found.items()) if entry is not None}

    def changed_paths(self, old: CommitId, new: CommitId) -> tuple[str, ...]:
        """The files below `ledger/` and `public/` in which two commits differ, sorted.

        Raises:
            HistoryError: The repository could not be read, or has more than 200 000 entries there.
        """
        changed: set[str] = set()
        for under in FOLDERS:
            changed |= self._differences(self.tree(old, under), self.tree(new, under), under).keys()
        return tuple(sorted(changed))

    def tree(self, commit: CommitId, under: str = "") -> str | None:
        """The id of the folder `under` of `commit` (empty: its root); None when there is no such folder.

        Raises:
            HistoryError: The repository could not be read, or does not have `commit`.
        """
        (found,) = self._objects.info([_name(commit, under)])
        if found is None:
            self._demand_absent(commit, [under])
        return found.id if found is not None and found.kind == "tree" else None

    def _read_named(self, commit: CommitId, wanted: Collection[str]) -> Mapping[str, bytes]:
        """`read` where git looks each path up: one exchange, but each path costs a search of its folders."""
        found = dict(zip(wanted, self._objects.contents([_name(commit, path) for path in wanted]), strict=True))
        self._demand_absent(commit, [path for path, one in found.items() if one is None])
        return {path: one.body for path, one in found.items() if one is not None and one.kind == "blob"}

    def _read_found(self, commit: CommitId, wanted: Collection[str]) -> Mapping[str, bytes]:
        """`read` where we look the paths up: one exchange for each depth of folders, and one for all files."""
        (root,) = self._objects.info([_name(commit, "")])
        if root is None:
            raise _lost(commit, "")
        try:
            entries = find(self._tree_bodies, root.id, wanted)
        except BadTreeError as error:
            raise _unreadable(error) from error
        files = {path: entry.id for path, entry in entries.items() if not entry.is_tree}
        ids = tuple(dict.fromkeys(files.values()))
        found = dict(zip(ids, self._objects.contents(ids), strict=True))
        return {path: _body(found[blob], commit, path) for path, blob in files.items()}

    def _demand_absent(self, commit: CommitId, paths: Iterable[str]) -> None:
        """Make sure that each of `paths` is not in the commit at all.

        git calls a path "missing" also when the tree names it but its object is damaged or gone. That must not pass
        for a ledger that never was: its revoked keys would be news.
        """
        missing = [path for path in paths if is_askable(path)]
        folders = dict.fromkeys(folder for path in missing for folder in _folders_of(path))
        bodies = self._objects.contents([_name(commit, folder) for folder in folders])
        known = {folder: _entries(one) for folder, one in zip(folders, bodies, strict=True) if one is not None}
        for path in missing:
            if not _is_absent(path, known):
                raise _lost(commit, path)

    def _differences(self, old: str | None, new: str | None, under: str) -> Mapping[str, Difference]:
        try:
            return differences(self._tree_bodies, old, new, under=under)
        except BadTreeError as error:
            raise _unreadable(error) from error

    def _tree_bodies(self, ids: Iterable[str]) -> tuple[bytes, ...]:
        found = self._objects.contents(tuple(ids))
        if any(one is None or one.kind != "tree" for one in found):
            raise BadTreeError("a tree object is missing, or is no tree")
        return tuple(one.body for one in found if one is not None)


def _name(commit: CommitId, path: str) -> str:
    return f"{commit}:{path}" if path else f"{commit}^{{tree}}"


def _body(found: Found | None, commit: CommitId, path: str) -> bytes:
    """The bytes of a file that a tree names: it has to be there, and to be a file."""
    if found is None or found.kind != "blob":
        raise _lost(commit, path)
    return found.body


def _lost(commit: CommitId, path: str) -> HistoryError:
    return HistoryError(
        f"The git repository has lost {path or 'the folder'} of commit {commit}, or never had that commit.",
        remedy=_REMEDY,
    )


def _unreadable(error: BadTreeError) -> HistoryError:
    return HistoryError("A folder of the history could not be read.", cause=str(error), remedy=_REMEDY)


def _folders_of(path: str) -> tuple[str, ...]:
    """The root and every folder above `path`."""
    parts = path.split("/")
    return tuple("/".join(parts[:count]) for count in range(len(parts)))


def _entries(found: Found) -> Mapping[str, Entry]:
    """What a folder holds; a file holds nothing."""
    if found.kind != "tree":
        return {}
    try:
        return parse_tree(found.body, id_bytes=len(found.id) // 2)
    except BadTreeError as error:
        raise _unreadable(error) from error


def _is_absent(path: str, known: Mapping[str, Mapping[str, Entry]]) -> bool:
    """Whether a folder that could be read, above `path`, does not have the next part of it."""
    folder = ""
    for part in path.split("/"):
        if folder not in known:
            return False
        if part not in known[folder]:
            return True
        folder = f"{folder}/{part}" if folder else part
    return False
