"""The history in a bare git repository: the adapter behind `mirror.ports.History`.

It handles commits, paths and bytes; other modules decide what they mean. A pass with nothing to do and no remote
starts a single git process.
"""

import glob
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from mirror.config.settings import RepositorySettings as Settings
from mirror.errors import BranchMovedError, HistoryError
from mirror.files import temp_file, temporary_folder
from mirror.history.commit_graph import CommitLog
from mirror.history.git_command import LOCAL_TIMEOUT_SECONDS, SETTLED_SECONDS, Git, presentable, remove_stale_locks, why
from mirror.history.objects import ObjectReader, TreeReader
from mirror.history.remote import MAX_FETCHED_FILE_BYTES, REMOTE_TIMEOUT_SECONDS, GitRemote
from mirror.model import CommitId, Heads
from mirror.redaction import describe


class GitRepository:
    """One bare repository and, where the settings name one, its remote.

    The environment is an argument. Any number of threads may call the read-only methods at once. Only one thread at a
    time may call `prepare`, `fetch`, `commit`, `fast_forward`, `push` and `collect_garbage`. A signal handler may call
    `cancel`.
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
        self._objects = ObjectReader(self._git)
        self._remote = (
            None
            if settings.remote is None
            else GitRemote(
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
        self._past = past = CommitLog(self._git, self._objects, self._remote, self._local)
        self._snapshots = snapshots = TreeReader(self._objects)
        # These two implement the questions of `History` about commits and files.
        self.is_ancestor, self.has_commit, self.obtain = past.is_ancestor, past.has_commit, past.obtain
        self.path_history, self.versions = past.path_history, past.versions
        self.contains_blob, self.last_changed_at = past.contains_blob, past.last_changed_at
        self.read, self.list_paths, self.contents = snapshots.read, snapshots.list_paths, snapshots.contents

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the long-lived git process; the next call starts another."""
        self._objects.close()

    def cancel(self) -> None:
        """End every git process of this object soon, and start no more: calls raise HistoryError from now on."""
        self._stop.set()

    # ------------------------------------------------------------------------------------------- the branch

    def prepare(self) -> None:
        """Create the repository where it is missing, and remove the lock files of git processes that were killed.

        Raises:
            HistoryError: git is missing or too old, or the folder cannot be written.
        """
        self._objects.close()  # each pass of a daemon sees the current repository
        if not is_repository(self._settings.path):
            init_bare(self._settings.path, branch=self._settings.branch, environ=self._environ, stop=self._stop)
            with suppress(HistoryError):  # `collect_garbage` reports it
                _stamp(self._git, self._clock())  # a new repository has no garbage
        try:
            remove_stale_locks(self._settings.path, settled_seconds=self._settled_seconds)
        except OSError as error:
            raise HistoryError(
                "A lock file of a killed git process could not be removed.", cause=describe(error), remedy=DISK_REMEDY
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
        """Commit `changes` (None: remove the file) on the tree of `base`, and move the branch from `expect` to it.

        A kill before the branch moves leaves unreferenced objects, and no reference or lock for them.

        Raises:
            BranchMovedError: The branch is not `expect` any more; it is as the other one left it.
            HistoryError: The commit could not be written or signed.
        """
        tree = None if base is None else self._snapshots.tree_id(base)
        commit = write_commit(
            self._git, self._settings, tree=tree, parents=parents, changes=changes, message=message, when=when
        )
        # Crash window: the objects are on disk, the branch is the old one. The next pass commits again.
        self._references.swap(self._local, commit, expect=expect)
        return commit

    def fast_forward(self, new: CommitId, *, expect: CommitId | None) -> None:
        """Move the branch from `expect` to `new`, an existing commit that contains `expect`.

        Raises:
            BranchMovedError: The branch is not `expect` any more.
            HistoryError: The branch could not be written.
        """
        self._references.swap(self._local, new, expect=expect)

    # ------------------------------------------------------------------------------------------- the remote

    def fetch(self, *, shallow: bool) -> str:
        """Fetch the remote's branch; only our record of it moves. An absent branch is recorded as absent.

        `shallow` fetches only the newest commit when this repository has none yet; otherwise it has no effect.

        Returns:
            The harmless faults of form that `git fsck` reports in the new objects; empty where there are none.

        Raises:
            RemoteError: The remote could not be fetched from, or sent damaged data.
            HistoryError: There is no remote in the settings, or the repository could not be written.
        """
        depth = 1 if shallow and self.heads() == Heads(None, None) else None
        found = self._required_remote().fetch(self._tracking, depth=depth)
        self._past.forget_failure()
        if found is None:
            self._references.delete(self._tracking)
        return found or ""

    def complete(self) -> None:
        """Fetch the rest of a shallow history, so that this repository can restore a lost remote.

        Raises:
            RemoteError: The remote did not send it.
        """
        if self._past.is_shallow():
            self._required_remote().deepen()

    def push(self) -> None:
        """Make the local branch the remote's, as a fast-forward only.

        Raises:
            PushRefusedError: The remote has commits that we do not have.
            RemoteError: The remote could not be reached, is locked, or refused for another reason.
            HistoryError: There is nothing to push, or no remote in the settings.
        """
        commit = self.heads().local
        if commit is None:
            raise HistoryError("There is no commit to push yet.")
        # Push this commit, not the branch: an operator's command may move the branch during the push.
        self._required_remote().push(commit)
        # Crash window: pushed but not recorded. The next fetch records it.
        self._references.put(self._tracking, commit)

    def unpushed(self) -> int:
        """How many commits of the local branch the remote's last known branch does not contain; 0 without a remote.

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
            RemoteError: The remote did not answer.
            HistoryError: There is no remote in the settings.
        """
        head = self._required_remote().head()
        return None if head is None else CommitId(head)

    def _required_remote(self) -> GitRemote:
        if self._remote is None:
            raise HistoryError("No git remote is configured.", remedy="Set `repository.remote`.")
        return self._remote

    def blobs(self, names: Sequence[str]) -> tuple[str | None, ...]:
        """The ids of the files at `<commit>:<path>`; None if absent or not a file."""
        return tuple(one.id if one is not None and one.kind == "blob" else None for one in self._objects.stat(names))

    def collect_garbage(self) -> None:
        """Run `git gc` unless it ran, or the repository was made, within a day of `clock` (seconds since 1970).

        A stamp file has the time.

        Raises:
            HistoryError: It failed; the next try is a day later.
        """
        now, ran_at = self._clock(), float("-inf")
        with suppress(OSError, ValueError):  # a missing or unreadable stamp counts as long ago
            ran_at = float(_stamp_file(self._git).read_text(encoding="ascii"))
        if 0 <= now - ran_at < DAY_SECONDS:
            return
        # Write the stamp first: a gc that fails or is killed must not slow down every pass.
        _stamp(self._git, now)
        finished = self._git.run("gc", "--quiet", timeout_seconds=GC_TIMEOUT_SECONDS)
        if not finished.ok:
            raise HistoryError(
                "The git repository could not be tidied up; nothing is lost.",
                cause=why(finished),
                remedy="Run `git gc` in it by hand and see what it says; the mirror tries again tomorrow.",
            )


OLDEST_GIT = (2, 36)


def is_repository(path: Path) -> bool:
    """Whether `path` looks like a git directory, as git itself decides."""
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def init_bare(path: Path, *, branch: str, environ: Mapping[str, str], stop: threading.Event) -> None:
    """Make a bare repository at `path` atomically: initialise it next to `path`, then rename it.

    Raises:
        HistoryError: git is missing or too old, the folder cannot be made, or `path` is something else.
    """
    # No other process uses this name while this process runs.
    draft = path.with_name(f"{path.name}.new-{os.getpid()}-{threading.get_ident()}")
    git = Git(draft, environ, stop=stop)
    _demand_version(git)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Crash window: a draft is left behind. The next process that makes the repository removes it.
        with temp_file(draft, f"{glob.escape(path.name)}.new-*", draft.mkdir):
            git.check_output(
                "init", "--quiet", "--bare", "--template=", f"--initial-branch={branch}",
                sentence=f"A git repository could not be made at {path}.",
                remedy="See that this user may write there and that the disk is not full.",
            )  # fmt: skip
            draft.rename(path)
    except OSError as error:
        if is_repository(path):
            return  # Another process was faster; use its repository.
        raise HistoryError(
            f"A git repository could not be made at {path}.",
            cause=error.strerror or "",
            remedy="Move away what is there, or see that this user may write there.",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _demand_version(git: Git) -> None:
    said = git.run("version")
    found = re.search(rb"version (\d+)\.(\d+)", said.out)
    if not said.ok or found is None:
        raise HistoryError(
            "The version of git could not be read.", cause=why(said), remedy="Install git 2.36 or newer."
        )
    if (int(found[1]), int(found[2])) < OLDEST_GIT:
        text = presentable(said.out.decode("utf-8", "replace"))
        raise HistoryError("The git command is too old.", cause=text, remedy="Install git 2.36 or newer.")


# git-var(1): `Name <address> seconds zone`; git has already removed what would break the line.
_IDENTITY = re.compile(r"(.+) <([^<>]+)> \d+ [+-]\d{4}\s*")
_VARIABLES = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL")


def with_operator_identity(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """The settings with the caller's name and address from git's configuration or environment.

    Without one, git would invent a name from the host's name; then the mirror's own stays.

    Raises:
        HistoryError: git could not be started.
    """
    git = Git(settings.path, environ, stop=threading.Event())
    # Everywhere else these are hidden from git, because a pass does not commit in the caller's name.
    given = {name: environ[name] for name in _VARIABLES if name in environ}
    said = git.run("var", "GIT_AUTHOR_IDENT", config=("user.useConfigOnly=true",), extra_environ=given)
    found = _IDENTITY.fullmatch(said.out.decode("utf-8", "replace"))
    if not said.ok or found is None:
        return settings
    return replace(settings, author_name=found[1], author_email=found[2])


DISK_REMEDY = "See that the disk is not full and that this user may write to the repository."


class References:
    """Full reference names in, commits out."""

    def __init__(self, git: Git, objects: ObjectReader) -> None:
        self._git = git
        self._objects = objects

    def resolve(self, names: Sequence[str]) -> tuple[CommitId | None, ...]:
        """The commit that each reference names; None where the reference does not exist.

        Raises:
            HistoryError: The repository could not be read, or a reference exists but names nothing.
        """
        found = self._objects.stat(names)
        return tuple(
            CommitId(one.id) if one is not None else self._absent(name) for name, one in zip(names, found, strict=True)
        )

    def swap(self, name: str, new: CommitId, *, expect: CommitId | None) -> None:
        """Move a reference from `expect` (None: it does not exist) to `new`.

        Raises:
            BranchMovedError: It is not `expect`; it does not move.
            HistoryError: It could not be written.
        """
        finished = self._git.run("update-ref", name, new, expect or "0" * len(new))
        if finished.ok:
            return
        if self.resolve([name]) != (expect,):
            raise BranchMovedError("Another process moved the branch in between.", cause=why(finished))
        raise HistoryError("The branch could not be moved.", cause=why(finished), remedy=DISK_REMEDY)

    def put(self, name: str, commit: str) -> None:
        """Set a reference to `commit` (an id or a reference), regardless of its old value.

        Raises:
            HistoryError: It could not be written.
        """
        self._update(f"update {name} {commit}")

    def delete(self, name: str) -> None:
        """Remove a reference; a missing one is no error.

        Raises:
            HistoryError: It could not be written.
        """
        if self._is_file(name) or self._is_elsewhere():
            self._update(f"delete {name}")

    def _absent(self, name: str) -> CommitId | None:
        """A damaged reference must not count as an empty branch: the history would start again."""
        if self._is_file(name) or (self._is_elsewhere() and self._git.run("rev-parse", "--verify", "--quiet", name).ok):
            # Another process may have made it meanwhile.
            (found,) = self._objects.stat([name])
            if found is not None:
                return CommitId(found.id)
            raise HistoryError(
                f"The reference {name} of the git repository is damaged.",
                remedy=(
                    f"With a remote, move {self._git.directory} away: it is fetched again. Otherwise run `git fsck`."
                ),
            )
        return None

    def _is_file(self, name: str) -> bool:
        return (self._git.directory / name).exists()

    def _is_elsewhere(self) -> bool:
        """Whether git may keep references that are no files of their own, see gitrepository-layout(5)."""
        return any((self._git.directory / place).exists() for place in ("packed-refs", "reftable"))

    def _update(self, instruction: str) -> None:
        sentence = "A git reference could not be written."
        line = f"{instruction}\n".encode()
        self._git.check_output("update-ref", "--stdin", stdin=line, sentence=sentence, remedy=DISK_REMEDY)


@contextmanager
def temporary_clone(settings: Settings, environ: Mapping[str, str]) -> Iterator[Settings]:
    """Settings of a temporary repository that borrows the real one's objects and starts from its branch.

    Without a repository the copy is empty, as in a first pass. Fetched objects stay in the copy and are deleted with
    it.

    Raises:
        HistoryError: The real repository cannot be read, or the temporary folder cannot be written.
    """
    with temporary_folder("oidc-mirror-dry-run-", also=settings.path.parent) as folder:
        copy = replace(settings, path=Path(folder) / "snapshots.git")
        if is_repository(settings.path):
            _borrow(settings, copy, environ)
        yield copy


def _borrow(real: Settings, copy: Settings, environ: Mapping[str, str]) -> None:
    with GitRepository(real, environ) as repository:
        head = repository.heads().local
    with GitRepository(copy, environ) as repository:
        repository.prepare()
        try:
            # gitrepository-layout(5): git reads objects from the folders listed here as if they were its own.
            (copy.path / "objects" / "info").mkdir(exist_ok=True)
            (copy.path / "objects" / "info" / "alternates").write_text(f"{real.path.resolve() / 'objects'}\n")
            if (real.path / "shallow").is_file():
                shutil.copyfile(real.path / "shallow", copy.path / "shallow")
        except OSError as error:
            raise HistoryError(
                "The temporary folder of the dry run cannot be written.",
                cause=error.strerror or "",
                remedy="Free space there, or set TMPDIR to another folder.",
            ) from error
        if head is not None:
            repository.fast_forward(head, expect=None)


_SCRATCH = b"refs/oidc-mirror/scratch"
_NOTHING = b"0" * 40


def commit_stream(
    *,
    tree: str | None,
    parents: Sequence[CommitId],
    changes: Mapping[str, bytes | None],
    message: str,
    author: bytes,
) -> bytes:
    """The fast-import stream of one commit; fast-import prints the commit's id.

    The commit is made on a private branch that is reset before the end, so no reference changes
    (git-fast-import(1), `reset` with an all-zero `from`). A kill here leaves only unreferenced objects.

    Args:
        tree: The id of the tree that is changed; None for an empty tree.
        parents: The parents, in this order.
        changes: Paths with their new bytes; None removes the file.
        message: The message of the commit.
        author: From `identity`; also the committer.
    """
    lines = [b"commit " + _SCRATCH, b"mark :1", b"author " + author, b"committer " + author, _data(message.encode())]
    lines += [(b"merge " if n else b"from ") + parent.encode() for n, parent in enumerate(parents)]
    lines.append(b"deleteall" if tree is None else b'M 040000 %s ""' % tree.encode())
    # Removals come first: a folder may replace a file of the same name.
    lines += [b"D " + quoted(path) for path, body in changes.items() if body is None]
    lines += [
        b"M 100644 inline " + quoted(path) + b"\n" + _data(body) for path, body in changes.items() if body is not None
    ]
    lines += [b"", b"reset " + _SCRATCH, b"from " + _NOTHING, b"", b"get-mark :1", b"done", b""]
    return b"\n".join(lines)


def identity(name: str, email: str, when: datetime) -> bytes:
    """Author and date as git writes them, in UTC; `when` is aware. Characters that would break the line are removed."""
    clean = (" ".join(text.translate(_UNFIT).split()) for text in (name, email))
    return "{} <{}> {} +0000".format(*clean, int(when.timestamp())).encode()


def quoted(path: str) -> bytes:
    """A path in C quotes, as fast-import reads it. Surrogates represent bytes that are not UTF-8."""
    return b'"' + b"".join(_QUOTED[byte] for byte in path.encode("utf-8", "surrogateescape")) + b'"'


def _data(body: bytes) -> bytes:
    return b"data %d\n%s" % (len(body), body)


_UNFIT = {ord(c): " " for c in "<>"} | dict.fromkeys((*range(32), 127), " ")
_QUOTED = [bytes((c,)) if 32 <= c < 127 and c not in b'"\\' else b"\\%03o" % c for c in range(256)]  # noqa: PLR2004 - ASCII


DAY_SECONDS = 24 * 3600.0
GC_TIMEOUT_SECONDS = 600.0


def _stamp_file(git: Git) -> Path:
    return git.directory.with_name(f"{git.directory.name}.gc")


def _stamp(git: Git, now: float) -> None:
    stamp = _stamp_file(git)
    try:
        stamp.write_text(f"{now:.0f}\n", encoding="ascii")
    except OSError as error:
        raise HistoryError(f"The file {stamp} could not be written.", cause=error.strerror or "") from error


def write_commit(
    git: Git,
    settings: Settings,
    *,
    tree: str | None,
    parents: Sequence[CommitId],
    changes: Mapping[str, bytes | None],
    message: str,
    when: datetime,
) -> CommitId:
    """Write a commit durably; no reference names it yet. It is signed if the settings say so. `when` is aware.

    Raises:
        HistoryError: It could not be written or signed.
    """
    author = identity(settings.author_name, settings.author_email, when)
    stream = commit_stream(tree=tree, parents=parents, changes=changes, message=message, author=author)
    sentence = "A commit could not be written."
    out = git.check_output("fast-import", "--quiet", "--done", stdin=stream, sentence=sentence, remedy=DISK_REMEDY)
    commit = CommitId(out.decode().strip())
    if not settings.sign:
        return commit
    # fast-import cannot sign: its commit is only a draft that provides the tree.
    return _signed(git, settings, f"{commit}^{{tree}}", parents=parents, message=message, when=when)


def _signed(
    git: Git, settings: Settings, tree: str, *, parents: Sequence[CommitId], message: str, when: datetime
) -> CommitId:
    """Make a commit with the signature that the user's git configuration names."""
    names = {"NAME": settings.author_name, "EMAIL": settings.author_email, "DATE": f"@{int(when.timestamp())} +0000"}
    environ = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in names.items()}
    words = [word for parent in parents for word in ("-p", parent)]
    finished = git.run("commit-tree", "-S", *words, "-F", "-", tree, stdin=message.encode(), extra_environ=environ)
    if not finished.ok:
        raise HistoryError(
            "The commit could not be signed.",
            cause=why(finished),
            remedy="Give this user a signing key that needs no passphrase (git config user.signingKey, gpg.format), "
            "or set `repository.sign: false`.",
        )
    return CommitId(finished.out.decode().strip())
