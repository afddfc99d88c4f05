"""The history in a bare git repository: the adapter behind `mirror.ports.History`.

It speaks of commits, paths and bytes; what they mean is decided elsewhere. A pass that finds nothing to do and has no
remote starts a single git process.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from mirror.config.settings import Repository as Settings
from mirror.errors import HistoryError
from mirror.history.commit_graph import Past
from mirror.history.creation import create, is_repository
from mirror.history.git import LOCAL_TIMEOUT_SECONDS, Git
from mirror.history.locks import SETTLED_SECONDS, remove_stale_locks
from mirror.history.objects import Objects
from mirror.history.references import DISK_REMEDY, References
from mirror.history.remote import MAX_FETCHED_FILE_BYTES, REMOTE_TIMEOUT_SECONDS, Remote
from mirror.history.snapshots import Snapshots
from mirror.history.upkeep import collect
from mirror.history.versions import MOST_VERSIONS
from mirror.history.writing import write_commit
from mirror.model import CommitId, Heads, Version


class Repository:
    """One bare repository and, where the settings name one, its remote.

    The environment is an argument. What only asks is for any number of threads at once; `prepare`, `fetch`, `commit`,
    `advance`, `push` and `collect_garbage` are for one at a time; `cancel` is also for a signal handler.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        timeout_seconds: float = LOCAL_TIMEOUT_SECONDS,
        remote_timeout_seconds: float = REMOTE_TIMEOUT_SECONDS,
        max_fetched_file_bytes: int = MAX_FETCHED_FILE_BYTES,
        settled_seconds: float = SETTLED_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._stop = threading.Event()
        self._git = Git(settings.path, environ, stop=self._stop, timeout_seconds=timeout_seconds)
        self._objects = Objects(self._git)
        self._remote = (
            None
            if settings.remote is None
            else Remote(
                self._git,
                settings.remote,
                settings.branch,
                timeout_seconds=remote_timeout_seconds,
                max_file_bytes=max_fetched_file_bytes,
            )
        )
        self._settled_seconds = settled_seconds
        self._clock = clock
        self._local = f"refs/heads/{settings.branch}"
        self._tracking = f"refs/remotes/origin/{settings.branch}"
        self._references = References(self._git, self._objects)
        self._past = Past(self._git, self._objects, self._remote, self._local)
        self._snapshots = Snapshots(self._objects)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the long-lived git process; the next call starts another."""
        self._objects.close()

    def cancel(self) -> None:
        """End every git process of this object soon, and start none any more: calls raise HistoryError from now on."""
        self._stop.set()

    # ------------------------------------------------------------------------------------------- the branch

    def prepare(self) -> None:
        """Create the repository where it is missing, and remove the lock files of git processes that were killed.

        Raises:
            HistoryError: git is missing or too old, or the folder cannot be written.
        """
        self._objects.close()  # each pass of a daemon sees the repository as it is by then
        if not is_repository(self._settings.path):
            create(self._settings.path, branch=self._settings.branch, environ=self._environ, stop=self._stop)
        try:
            remove_stale_locks(self._settings.path, settled_seconds=self._settled_seconds)
        except OSError as error:
            raise HistoryError(
                "A lock file of a killed git process could not be removed.", cause=str(error), remedy=DISK_REMEDY
            ) from error

    def heads(self) -> Heads:
        """The local branch, and the remote's as last fetched; without a remote in the settings the latter is None.

        Raises:
            HistoryError: The repository could not be read, or a reference is damaged.
        """
        if self._remote is None:
            return Heads(self._references.resolve([self._local])[0], None)
        local, remote = self._references.resolve([self._local, self._tracking])
        return Heads(local, remote)

    def commit(
        self,
        *,
        base: CommitId | None,
        parents: tuple[CommitId, ...],
        changes: Mapping[str, bytes | None],
        message: str,
        when: datetime,
        expect: CommitId | None,
    ) -> CommitId:
        """Commit `changes` (None: the file goes) on the tree of `base`, and move the branch from `expect` to it.

        Killed before the branch moves, it leaves objects that nobody names, and no reference or lock of them.

        Raises:
            BranchMovedError: The branch is not `expect` any more; it is as the other one left it.
            HistoryError: The commit could not be written or signed.
        """
        tree = None if base is None else self._snapshots.tree(base)
        commit = write_commit(
            self._git, self._settings, tree=tree, parents=parents, changes=changes, message=message, when=when
        )
        # Crash window: the objects are on disk, the branch is the old one. The next pass commits again.
        self._references.swap(self._local, commit, expect=expect)
        return commit

    def advance(self, new: CommitId, *, expect: CommitId | None) -> None:
        """Move the branch from `expect` to `new`, an existing commit that holds all that `expect` says.

        Raises:
            BranchMovedError: The branch is not `expect` any more.
            HistoryError: The branch could not be written.
        """
        self._references.swap(self._local, new, expect=expect)

    # ------------------------------------------------------------------------------------------- the remote

    def fetch(self, *, shallow: bool) -> str:
        """Learn the remote's branch; nothing local moves but our record of it. An absent branch is recorded as absent.

        `shallow` gets the newest commit alone when this repository has none yet; otherwise it changes nothing.

        Returns:
            What `git fsck` minds in the new objects, harmless faults of form; empty where there are none.

        Raises:
            RemoteError: The remote could not be fetched from, or sent what is damaged.
            HistoryError: There is no remote in the settings, or the repository could not be written.
        """
        depth = 1 if shallow and self.heads() == Heads(None, None) else None
        found = self._required_remote().fetch(self._tracking, depth=depth)
        self._past.forget_failure()
        if found is None:
            self._references.delete(self._tracking)
        return found or ""

    def push(self) -> None:
        """Make the local branch the remote's, as a fast-forward only.

        Raises:
            PushRefusedError: The remote has commits that we have not.
            RemoteError: The remote could not be reached, is locked, or refused for a reason of its own.
            HistoryError: There is nothing to push, or no remote in the settings.
        """
        commit = self.heads().local
        if commit is None:
            raise HistoryError("There is no commit to push yet.")
        # Not the branch but this commit: an operator's command may move the branch while we push.
        self._required_remote().push(commit)
        # Crash window: pushed, not recorded. The next fetch records it.
        self._references.put(self._tracking, commit)

    def unpushed(self) -> int:
        """How many commits of the local branch the remote's, as known, does not contain; 0 without a remote.

        Raises:
            HistoryError: The repository could not be read.
        """
        heads = self.heads()
        if self._remote is None or heads.local is None or heads.local == heads.remote:
            return 0
        return self._past.count(excluding=heads.remote)

    def remote_head(self) -> CommitId | None:
        """The branch of the remote as it is now, without fetching it; None where there is none.

        Raises:
            RemoteError: The remote did not tell.
            HistoryError: There is no remote in the settings.
        """
        head = self._required_remote().head()
        return None if head is None else CommitId(head)

    def _required_remote(self) -> Remote:
        if self._remote is None:
            raise HistoryError("No git remote is configured.", remedy="Set `repository.remote`.")
        return self._remote

    # ------------------------------------------------------------------------------- what others here answer

    def is_ancestor(self, old: CommitId, new: CommitId) -> bool:
        """As `Past.is_ancestor`."""
        return self._past.is_ancestor(old, new)

    def read(self, commit: CommitId, paths: Iterable[str]) -> Mapping[str, bytes]:
        """As `Snapshots.read`."""
        return self._snapshots.read(commit, paths)

    def list_paths(self, commit: CommitId, under: str) -> Mapping[str, str]:
        """As `Snapshots.list_paths`."""
        return self._snapshots.list_paths(commit, under)

    def knows(self, commit: str) -> bool:
        """As `Past.knows`."""
        return self._past.knows(commit)

    def obtain(self, commit: str) -> bool:
        """As `Past.obtain`."""
        return self._past.obtain(commit)

    def path_history(self, paths: Sequence[str], *, at: CommitId) -> Mapping[CommitId, tuple[CommitId, ...]]:
        """As `Past.path_history`."""
        return self._past.path_history(paths, at=at)

    def blobs(self, names: Sequence[str]) -> tuple[str | None, ...]:
        """The ids of the files that `<commit>:<path>` names; None for what is absent, or no file."""
        return tuple(one.id if one is not None and one.kind == "blob" else None for one in self._objects.info(names))

    def contents(self, blobs: Iterable[str]) -> Mapping[str, bytes]:
        """As `Snapshots.contents`."""
        return self._snapshots.contents(blobs)

    def holds(self, body: bytes) -> bool:
        """As `Past.holds`."""
        return self._past.holds(body)

    def changed_at(self, path: str) -> datetime | None:
        """As `Past.changed_at`."""
        return self._past.changed_at(path)

    def versions(
        self, path: str | None, *, most: int = MOST_VERSIONS, at: CommitId | None = None
    ) -> tuple[Version, ...]:
        """As `Past.versions`."""
        return self._past.versions(path, most=most, at=at)

    def collect_garbage(self) -> None:
        """As `upkeep.collect`."""
        collect(self._git, clock=self._clock)
