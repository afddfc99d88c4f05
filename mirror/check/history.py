"""The git history and its remote, looked at through a temporary copy: nothing of the real ones moves."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from mirror.check.ports import HistoryState
from mirror.check.signing import signing_state
from mirror.config.settings import Repository as Settings
from mirror.errors import HistoryError, MirrorError, PushRefusedError, RemoteError
from mirror.history.git_command import Git, presentable
from mirror.history.ledger_reader import Trust, load_history
from mirror.history.remote import Remote
from mirror.history.repository import Repository, is_repository, scratch
from mirror.model import CommitId, IssuerUrl, Reason

REMOTE_SECONDS = 15.0
FSCK_SECONDS = 15.0
_DAMAGE = "Keep the folder as it is, move it away, and let the next pass fetch the history again from the remote."
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


class RealHistory:
    """The adapter behind `mirror.check.ports.HistoryView`."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        issuers: Iterable[IssuerUrl] = (),
        remote_seconds: float = REMOTE_SECONDS,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._issuers = tuple(issuers)
        self._remote_seconds = remote_seconds

    def look(self) -> HistoryState:
        """See `mirror.check.ports.HistoryView`."""
        try:
            with scratch(self._settings, self._environ) as copy:
                return self._through(copy)
        except (HistoryError, RemoteError) as error:
            return HistoryState(unreadable=_reason("git.unreadable", error))

    def _through(self, copy: Settings) -> HistoryState:
        with Repository(copy, self._environ, remote_timeout_seconds=self._remote_seconds) as repository:
            repository.prepare()
            state = HistoryState(local=repository.heads().local, damaged=self._damage())
            if copy.remote is not None:
                state = self._with_remote(copy, repository, state)
            head = state.remote or state.local
            state = replace(state, signing=signing_state(self._settings, repository, head, self._issuers))
            memory = load_history(repository, self._issuers, Trust(is_first_signing=True))
            return replace(state, broken=tuple(each.failures[0] for each in memory.issuers.values() if each.failures))

    def _with_remote(self, copy: Settings, repository: Repository, state: HistoryState) -> HistoryState:
        try:
            repository.fetch(shallow=state.local is None)
        except (HistoryError, RemoteError) as error:
            return replace(state, fetch=_reason("git.unreachable", error))
        heads = repository.heads()
        unpushed = repository.unpushed() if heads.local is not None else 0
        state = replace(state, remote=heads.remote, unpushed=unpushed)
        return replace(state, push=self._rehearse(copy, heads.local or heads.remote or _first(copy, self._environ)))

    def _damage(self) -> Reason | None:
        """What git finds wrong in the real repository; None where there is none, or where looking takes too long."""
        if not is_repository(self._settings.path):
            return None
        git = Git(self._settings.path, self._environ, stop=threading.Event(), timeout_seconds=FSCK_SECONDS)
        finished = git.run("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        if finished.ok or finished.stopped:
            return None
        said = presentable(f"{finished.err}\n{finished.out.decode('utf-8', 'replace')}")  # fsck tells on both
        return Reason("git.damaged", f"The local repository is damaged: {said}.", _DAMAGE)

    def _rehearse(self, copy: Settings, commit: CommitId) -> Reason | None:
        git = Git(copy.path, self._environ, stop=threading.Event())
        remote = Remote(git, copy.remote or "", copy.branch, timeout_seconds=self._remote_seconds)
        try:
            remote.push(commit, rehearse=True)
        except PushRefusedError:
            return None  # it has commits that we have not: they are merged, then the push goes through
        except RemoteError as error:
            return _reason("git.push_denied", error)
        return None


def _first(copy: Settings, environ: Mapping[str, str]) -> CommitId:
    """A commit of the temporary copy, on a branch of its own, for a remote that has none; a rehearsal sends no objects.

    Raises:
        HistoryError: The temporary folder cannot be written.
    """
    with Repository(replace(copy, branch="rehearsal", sign=False), environ) as repository:
        return repository.commit(
            base=None, parents=(), changes={"README.md": b"\n"}, message="rehearsal", when=_BEGINNING, expect=None
        )


def _reason(code: str, error: MirrorError) -> Reason:
    cause = f" Cause: {error.cause}" if error.cause else ""
    return Reason(code, error.sentence + cause, error.remedy)
