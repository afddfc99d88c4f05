"""Questions about commits: ancestry, the versions of a file, and when something changed.

A shallow history (a pod that began with an empty disk) may not have the answer. It is then completed from the remote,
once. When that fails, the known part of the history answers.
"""

import re
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from mirror.errors import HistoryError, RemoteError
from mirror.history.git_command import Git, blob_id, why
from mirror.history.objects import ObjectReader
from mirror.history.remote import REMOTE_TIMEOUT_SECONDS, GitRemote
from mirror.model import CommitId, Version

MOST_ANSWERS = 100_000
"""The most answers that are kept. Without a limit, a writer of a bucket could cause a new search in every pass."""
T = TypeVar("T")


@dataclass(slots=True)
class _Slot(Generic[T]):
    """Holds one answer; empty until it is found."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    found: tuple[T, ...] = ()


class Memo(Generic[T]):
    """A cache of answers for one state, such as the head of a branch. A new state drops the old answers.

    Callable from any thread. Threads with the same question wait for one search. Different questions run in parallel.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: Hashable = None
        self._slots: dict[str, _Slot[T]] = {}

    def get(self, state: Hashable, question: str, search: Callable[[], T]) -> T:
        """The answer to `question` in `state`: the cached one, or what `search` finds.

        An exception of `search` is raised and not cached: the next caller searches again.
        """
        with self._lock:
            is_full = question not in self._slots and len(self._slots) >= MOST_ANSWERS
            if state != self._state or is_full:
                self._state, self._slots = state, {}
            slot = self._slots.setdefault(question, _Slot())
        with slot.lock:
            if not slot.found:
                slot.found = (search(),)
            return slot.found[0]


MOST_VERSIONS = 10_000
"""The limit for one file; a key changes a few times a year."""
_SHOWN_CHARACTERS = 200
_FIELDS = 5

# Unlike `log`, `rev-list` ignores the user's configuration. The path's history is simplified, but all branches are
# followed: a decision of another mirror that a merge took over is part of a key's history.
LISTED = (
    "--full-history",
    "--simplify-merges",
    "--topo-order",
    "--reverse",
    "--no-commit-header",
    "--encoding=UTF-8",
    f"--format=%H%x00%P%x00%ct%x00%<({_SHOWN_CHARACTERS},trunc)%an%x00%<({_SHOWN_CHARACTERS},trunc)%s",
)


def read_versions(out: bytes) -> tuple[Version, ...]:
    """Parse the output of `git rev-list` for `LISTED`, in its order: one line a commit, fields separated by NUL."""
    lines = out.decode("utf-8", "replace").split("\n")
    found = (line.split("\0") for line in lines if line)
    return tuple(_version(fields) for fields in found if len(fields) == _FIELDS)


def _version(fields: list[str]) -> Version:
    commit, parents, seconds, author, subject = fields
    return Version(
        commit=CommitId(commit),
        parents=tuple(CommitId(parent) for parent in parents.split()),
        when=moment(int(seconds)),
        author=author.rstrip()[:_SHOWN_CHARACTERS],
        # git counts columns, and some characters take no column.
        subject=subject.rstrip()[:_SHOWN_CHARACTERS],
    )


def moment(seconds: int) -> datetime:
    """A committer's date. The committer chooses it freely; a date outside the calendar counts as 1970."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)


_FULL_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_FOLDERS = ("ledger", "public")
_NO_PAST = "The past of a file could not be read."


class CommitLog:
    """The history of one branch, `local`, a full reference name.

    Callable from any thread. Repeated questions about one head are answered from memory. One thread asks the remote;
    the others wait for its answer.
    """

    def __init__(self, git: Git, objects: ObjectReader, remote: GitRemote | None, local: str) -> None:
        self._git = git
        self._objects = objects
        self._remote = remote
        self._local = local
        self._changes: Memo[datetime | None] = Memo()
        self._held: Memo[bool] = Memo()
        self._bases: Memo[str | None] = Memo()
        self._deepening = threading.Lock()
        self._fetches = 0
        self._completed: bool | None = None
        """Whether the remote sent the rest of the history; None when it was not asked since the last fetch."""
        self._refused: set[str] = set()
        """The commits that the remote did not send by their id since the last fetch."""
        self._obtained = False

    def forget_failure(self) -> None:
        """Try again to complete the history when it is next needed: the remote has answered."""
        with self._deepening:
            self._fetches += 1
            self._completed = None
            self._refused.clear()
            self._obtained = False

    def is_ancestor(self, old: CommitId, new: CommitId) -> bool:
        """Whether `new` contains `old`.

        Raises:
            HistoryError: One of them is unknown.
        """
        if old == new:
            return True
        was_shallow = self.is_shallow()
        if was_shallow:
            for commit in (old, new):
                self._kind(commit)  # a commit beyond the shallow boundary is fetched if the remote still has it
        base = self._merge_base(old, new)
        if base is None and self._deepened(was_shallow):
            base = self._merge_base(old, new)
        return base == old

    def has_commit(self, commit: str) -> bool:
        """Whether the text is the full id of a commit that this repository has.

        Raises:
            HistoryError: The repository could not be read.
        """
        return _FULL_ID.fullmatch(commit) is not None and self._kind(commit) == "commit"

    def obtain(self, commit: str) -> bool:
        """Whether the text is the full id of a commit that this repository has, or that the remote sends by its id.

        A shallow repository gets that commit alone; its branch is not completed for it.

        Raises:
            HistoryError: The repository could not be read.
        """
        if _FULL_ID.fullmatch(commit) is None:
            return False
        if self._has_commit(commit):
            return True
        was_shallow = self.is_shallow()
        if was_shallow and self._obtained and self._deepened(was_shallow) and self._has_commit(commit):
            return True  # the first call fetches one commit; a second call fetches the whole history
        with self._deepening:
            if commit not in self._refused and self._remote is not None and not self._has_commit(commit):
                self._obtained = True
                try:
                    self._remote.fetch_commit(commit, depth=1 if self.is_shallow() else None)
                except RemoteError:
                    # The pass continues with what it has; see `snapshot.unknown`.
                    self._refused.add(commit)
        return self._has_commit(commit)

    def path_history(self, paths: Sequence[str], *, at: CommitId) -> Mapping[CommitId, tuple[CommitId, ...]]:
        """The commits in the history of `at` that changed one of `paths`, newest first, each with those it follows.

        Merges of these commits are included. A shallow history is completed where the remote allows it.

        Raises:
            HistoryError: The repository could not be read.
        """
        self._deepened(self.is_shallow())
        words = ("rev-list", "--full-history", "--parents", "--topo-order", at, "--", *paths)
        finished = self._git.run(*words, timeout_seconds=REMOTE_TIMEOUT_SECONDS)
        if not finished.ok:
            raise HistoryError(_NO_PAST, cause=why(finished))
        lines = (line.split() for line in finished.out.decode().splitlines())
        return {CommitId(commit): tuple(map(CommitId, parents)) for commit, *parents in lines}

    def contains_blob(self, body: bytes) -> bool:
        """Whether a commit of the branch ever held exactly these bytes as a file below `public/` or `ledger/`.

        Raises:
            HistoryError: The repository could not be read.
        """
        head = self._head()
        if head is None:
            return False
        blob = blob_id(body, len(head))
        return self._held.get(self._state(head), blob, lambda: self._find_held(head, blob))

    def last_changed_at(self, path: str) -> datetime | None:
        """When the branch last changed the file (committer date, UTC); None if it never did.

        Raises:
            HistoryError: The repository could not be read.
        """
        head = self._head()
        if head is None:
            return None
        self._deepened(self.is_shallow())
        return self._changes.get(self._state(head), path, lambda: self._find_change(head, path))

    def count(self, excluding: CommitId | None) -> int:
        """How many commits the branch has that `excluding` does not contain.

        Raises:
            HistoryError: The repository could not be read.
        """
        words = () if excluding is None else (f"^{excluding}",)
        sentence = "The commits that wait to be pushed could not be counted."
        return int(self._git.check_output("rev-list", "--count", self._local, *words, "--", sentence=sentence))

    def versions(
        self, path: str | None, *, most: int = MOST_VERSIONS, at: CommitId | None = None
    ) -> tuple[Version, ...]:
        """The newest commits of the branch, at most `most`, that changed the file, oldest first; None: any file.

        With `at`, only commits in the history of that commit.

        Each commit comes after its ancestors. Merges that only took one side are left out.

        Raises:
            HistoryError: The repository could not be read.
        """
        if at is None and self._head() is None:
            return ()
        was_shallow, tip = self.is_shallow(), at or self._local
        found = self._versions(path, most, tip)
        return self._versions(path, most, tip) if len(found) < most and self._deepened(was_shallow) else found

    def _versions(self, path: str | None, most: int, tip: str) -> tuple[Version, ...]:
        words = (*LISTED, f"--max-count={most}", tip, "--", *(() if path is None else (path,)))
        return read_versions(self._git.check_output("rev-list", *words, sentence=_NO_PAST))

    def _head(self) -> CommitId | None:
        (head,) = self._objects.stat([self._local])
        return None if head is None else CommitId(head.id)

    def _state(self, head: CommitId) -> Hashable:
        """What an answer depends on. While the history is shallow, the next fetch may change the answer."""
        return head, self._fetches if self.is_shallow() else None

    def _find_held(self, head: CommitId, blob: str) -> bool:
        # An existing object is no proof: a fetched branch that was never accepted adds objects too.
        if self._kind(blob) != "blob":
            return False
        return bool(self._log(head, "-m", "--root", f"--find-object={blob}", paths=_FOLDERS))

    def _find_change(self, head: CommitId, path: str) -> datetime | None:
        seconds = self._log(head, "--format=%ct", paths=(path,))
        return moment(int(seconds)) if seconds else None

    def _log(self, head: CommitId, *words: str, paths: tuple[str, ...]) -> str:
        """The newest commit in the history of `head` that `words` and `paths` select."""
        sentence = "The history of a file could not be read."
        # `log` obeys the user's configuration; options that would add lines are switched off.
        fixed = ("log", "-1", "--no-patch", "--no-show-signature", "--no-renames", "--no-color", "--format=%H")
        return self._git.check_output(*fixed, *words, head, "--", *paths, sentence=sentence).decode().strip()

    def _merge_base(self, old: CommitId, new: CommitId) -> str | None:
        if self.is_shallow():
            return self._find_base(old, new)  # what is fetched next may change the answer
        return self._bases.get(None, " ".join(sorted((old, new))), lambda: self._find_base(old, new))

    def _find_base(self, old: CommitId, new: CommitId) -> str | None:
        finished = self._git.run("merge-base", old, new)
        if finished.status == 1 and not finished.stopped:
            return None
        if not finished.ok:
            raise HistoryError("Two commits could not be compared.", cause=why(finished))
        return finished.out.decode().strip()

    def _has_commit(self, commit: str) -> bool:
        (found,) = self._objects.stat([commit])
        return found is not None and found.kind == "commit"

    def _kind(self, name: str) -> str | None:
        was_shallow = self.is_shallow()
        (found,) = self._objects.stat([name])
        if found is None and self._deepened(was_shallow):
            (found,) = self._objects.stat([name])
        return None if found is None else found.kind

    def is_shallow(self) -> bool:
        """Whether the history ends before its first commit, because this repository began with an empty disk."""
        return Path(self._git.directory, "shallow").exists()

    def _deepened(self, was_shallow: bool) -> bool:
        """Complete a shallow history where that is possible, once.

        The caller reads `was_shallow` before its first search, because another thread may complete the history
        meanwhile. True when the history may hold more now than it did then.
        """
        if not was_shallow or self._remote is None:
            return False
        with self._deepening:
            if self.is_shallow() and self._completed is None:
                try:
                    self._remote.deepen()
                    self._completed = True
                except RemoteError:
                    self._completed = False  # the local history answers: no key has to wait for the remote
            return self._completed is True or not self.is_shallow()
