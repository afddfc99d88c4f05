"""The git history: whole, fetched from its remote, and accepted there."""

import os
from collections.abc import Iterator
from pathlib import Path

from mirror.check.ledgers import ledgers
from mirror.check.ports import HistoryState, HistoryView
from mirror.check.result import Finding, Level, Place, Station
from mirror.check.words import counted
from mirror.config.settings import Repository
from mirror.history.git_command import presentable


def git(settings: Repository, view: HistoryView, *, issuers: int) -> Iterator[Finding]:
    """The local repository, the remote, whether the mirror may push, and who signed the ledgers.

    `issuers` is how many are configured.
    """
    state = view.look()
    local = Place(Station.GIT, str(settings.path))
    yield from _local(local, settings.path, state)
    yield from (local.of_reason(Level.FAILED, reason) for reason in state.broken)
    if settings.remote is None:
        sentence = "No git remote is configured: the history of the keys is on this machine alone."
        yield local.note("git.no_remote", sentence, "Set `repository.remote`; several mirrors of one bucket need it.")
    elif state.unreadable is None:
        yield from _remote(Place(Station.GIT, presentable(settings.remote)), state)
    if state.unreadable is None:
        yield from ledgers(settings, state.signing, issuers=issuers)


def _local(place: Place, path: Path, state: HistoryState) -> Iterator[Finding]:
    if state.unreadable is not None:
        yield place.of_reason(Level.FAILED, state.unreadable)
    elif state.damaged is not None:
        yield place.of_reason(Level.FAILED, state.damaged)
    elif not path.exists():
        yield place.note("git.absent", "There is no local repository yet; the first pass creates it.")
    elif not os.access(path, os.W_OK | os.X_OK):
        remedy = f"Give this user the right to write below {path}."
        yield place.failed("git.unwritable", f"This user may not write to the repository {path}.", remedy)
    elif state.local is None:
        yield place.note("git.empty", "The local repository has no commit yet; the first pass makes one.")
    else:
        yield place.ok("git.whole", f"The local repository is whole and can be written; it is at {state.local[:12]}.")


def _remote(place: Place, state: HistoryState) -> Iterator[Finding]:
    if state.fetch is not None:
        yield place.of_reason(Level.FAILED, state.fetch)
        return
    at = f"at {state.remote[:12]}" if state.remote is not None else "still without our branch"
    yield place.ok("git.fetched", f"The remote can be fetched from; it is {at}.")
    if state.push is not None:
        yield place.of_reason(Level.FAILED, state.push)
        return
    sentence = "The remote lets us begin a push (rehearsed; hooks and branch protection speak only at a real one)."
    yield place.ok("git.may_push", sentence)
    if state.unpushed:
        yield place.warning(
            "git.unpushed",
            f"{counted(state.unpushed, 'commit')} not pushed yet, although the remote can be reached.",
            "Run `oidc-mirror --once`; when it stays so, a hook or a branch protection refuses the mirror's pushes: "
            "allow its user to push to the branch.",
        )
