"""The references of the repository: read through the long-lived process, moved by `git update-ref`."""

from collections.abc import Sequence

from mirror.errors import BranchMovedError, HistoryError
from mirror.history.git import Git, why
from mirror.history.objects import Objects
from mirror.model import CommitId

DISK_REMEDY = "See that the disk is not full and that this user may write to the repository."


class References:
    """Full reference names in, commits out."""

    def __init__(self, git: Git, objects: Objects) -> None:
        self._git = git
        self._objects = objects

    def resolve(self, names: Sequence[str]) -> tuple[CommitId | None, ...]:
        """What each reference names; None where it does not exist.

        Raises:
            HistoryError: The repository could not be read, or a reference exists and names nothing.
        """
        found = self._objects.info(names)
        return tuple(
            CommitId(one.id) if one is not None else self._absent(name) for name, one in zip(names, found, strict=True)
        )

    def swap(self, name: str, new: CommitId, *, expect: CommitId | None) -> None:
        """Move a reference from `expect` (None: it does not exist) to `new`.

        Raises:
            BranchMovedError: It is not `expect`; it stays as it is.
            HistoryError: It could not be written.
        """
        finished = self._git.run("update-ref", name, new, expect or "0" * len(new))
        if finished.ok:
            return
        if self.resolve([name]) != (expect,):
            raise BranchMovedError("The branch was moved by somebody else in between.", cause=why(finished))
        raise HistoryError("The branch could not be moved.", cause=why(finished), remedy=DISK_REMEDY)

    def put(self, name: str, commit: str) -> None:
        """Let a reference name `commit` (an id or a reference), whatever it named.

        Raises:
            HistoryError: It could not be written.
        """
        self._update(f"update {name} {commit}")

    def delete(self, name: str) -> None:
        """Remove a reference; nothing happens when it does not exist.

        Raises:
            HistoryError: It could not be written.
        """
        self._update(f"delete {name}")

    def _absent(self, name: str) -> CommitId | None:
        """Damage must not pass for an empty branch: on an empty branch everything would begin anew."""
        exists = (self._git.directory / name).exists() or self._git.run("rev-parse", "--verify", "--quiet", name).ok
        if exists:
            raise HistoryError(
                f"The reference {name} of the git repository is damaged.",
                remedy=f"With a remote, move {self._git.directory} away: it is fetched anew. Else see `git fsck`.",
            )
        return None

    def _update(self, instruction: str) -> None:
        sentence = "A git reference could not be written."
        line = f"{instruction}\n".encode()
        self._git.demand("update-ref", "--stdin", stdin=line, sentence=sentence, remedy=DISK_REMEDY)
