"""What a commit holds: its files. All through one `git cat-file`."""

from collections.abc import Collection, Iterable, Mapping

from mirror.errors import HistoryError
from mirror.history.objects import Objects, is_askable
from mirror.history.trees import BadTreeError, Entry, files, find
from mirror.model import CommitId

MAX_FILE_BYTES = 4 * 1024 * 1024
"""The largest file that is read: a ledger of some twenty years of a new key every six hours."""
_REMEDY = "Check it with `git fsck`; with a remote, move it away: it is fetched anew."


class Snapshots:
    """The commits of one repository as folders of files. Callable from any thread: it keeps nothing."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, commit: CommitId, paths: Iterable[str]) -> Mapping[str, bytes]:
        """The files of `commit` at `paths`; absent ones are absent.

        What stands at a path and is no file of ours (a link, a folder, a submodule, another mode, over 4 MiB, an object
        that git has lost) reads as no bytes at all: no document of ours is empty, so nobody believes it.

        Raises:
            HistoryError: The repository could not be read, or does not have `commit`.
        """
        wanted = tuple(path for path in dict.fromkeys(paths) if path and is_askable(path))
        entries = self._entries(commit, wanted)
        bodies = self.contents(entry.id for entry in entries.values() if entry.is_plain_file)
        return {path: bodies.get(entry.id, b"") for path, entry in entries.items()}

    def contents(self, blobs: Iterable[str]) -> Mapping[str, bytes]:
        """The bytes of `blobs` by id; those that are lost, no files, or over 4 MiB are absent.

        Raises:
            HistoryError: The repository could not be read.
        """
        ids = tuple(dict.fromkeys(blobs))
        # Sizes first: what somebody pushed may be as large as the fetch allowed.
        small = [
            one.id
            for one in self._objects.info(ids)
            if one is not None and one.kind == "blob" and one.size_bytes <= MAX_FILE_BYTES
        ]
        return {one.id: one.body for one in self._objects.contents(small) if one is not None}

    def list_paths(self, commit: CommitId, under: str) -> Mapping[str, str]:
        """Every file of `commit` below the folder `under`, with the id of its blob.

        Raises:
            HistoryError: The repository could not be read, or has more than 200 000 entries there.
        """
        try:
            found: Mapping[str, Entry] = files(self._tree_bodies, self.tree(commit, under), under=under)
        except BadTreeError as error:
            raise _unreadable(error) from error
        return {path: entry.id for path, entry in sorted(found.items())}

    def tree(self, commit: CommitId, under: str = "") -> str | None:
        """The id of the folder `under` of `commit` (empty: its root); None when there is no such folder.

        Raises:
            HistoryError: The repository could not be read, or does not have `commit`.
        """
        if not under:
            return self._root(commit)
        entry = self._entries(commit, (under,)).get(under)
        return entry.id if entry is not None and entry.is_tree else None

    def _root(self, commit: CommitId) -> str:
        (found,) = self._objects.info([f"{commit}^{{tree}}"])
        if found is None:
            raise HistoryError(
                f"The git repository has lost commit {commit}, or never had that commit.", remedy=_REMEDY
            )
        return found.id

    def _entries(self, commit: CommitId, paths: Collection[str]) -> Mapping[str, Entry]:
        try:
            return find(self._tree_bodies, self._root(commit), paths)
        except BadTreeError as error:
            raise _unreadable(error) from error

    def _tree_bodies(self, ids: Iterable[str]) -> tuple[bytes, ...]:
        found = self._objects.contents(tuple(ids))
        if any(one is None or one.kind != "tree" for one in found):
            raise BadTreeError("a tree object is missing, or is no tree")
        return tuple(one.body for one in found if one is not None)


def _unreadable(error: BadTreeError) -> HistoryError:
    return HistoryError("A folder of the history could not be read.", cause=str(error), remedy=_REMEDY)
