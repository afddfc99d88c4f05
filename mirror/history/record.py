"""One commit that holds what was decided: on whatever heads there are now, merged, moved by compare-and-swap, pushed.

The loop is level-triggered: a branch that moved in between, here or on the remote, is read and merged again, so no
commit is ever lost and none is undone. A kill between any two steps leaves either the old branch or the new one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirror.errors import BranchMovedError, HistoryError, PushRefusedError, RemoteError
from mirror.history.ledgers import Memory, Remembered, remember
from mirror.history.merging import merge_strangers
from mirror.history.readme import first_files
from mirror.model import CommitId, IssuerUrl, Ledger
from mirror.ports import History
from mirror.trust.documents import render
from mirror.trust.ledger import write_ledger
from mirror.trust.merge import merge

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Intent:
    """What one issuer's ledger shall be; `extra` are the members that its discovery document has besides the five."""

    ledger: Ledger
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The newest snapshot: another mirror's changes are merged into `ledgers`.

    An issuer whose ledger somebody broke in between is missing there.

    `commit` is None only when nothing was ever committed. `made` tells whether this call made a commit, `pushed`
    whether the remote has it now, `push_error` why it has not.
    """

    commit: CommitId | None
    made: bool
    ledgers: Mapping[IssuerUrl, Ledger]
    pushed: bool = False
    push_error: RemoteError | None = None


def record(
    history: History,
    memory: Memory,
    intents: Mapping[IssuerUrl, Intent],
    *,
    message: str,
    now: datetime,
    push: bool,
    before_merge: Callable[[Memory], None] = lambda _: None,
) -> Recorded:
    """Commit `intents`, merged with whatever the branch holds by now, and push it when `push`.

    `before_merge` is called with what was read anew because the branch or the remote had moved, before any of it
    becomes part of the local branch. A remote that cannot be reached is no exception here but `push_error`: the commit
    is made, and waits.

    Raises:
        HistoryError: The commit could not be made, or the branch moved five times in between.
    """
    last_refusal: RemoteError | None = None
    for _ in range(ATTEMPTS):
        try:
            done = _commit(history, memory, intents, message=message, now=now)
        except BranchMovedError:
            # An operator's command works beside us: its commit is read, and ours goes on top.
            memory = remember(history, memory.issuers)
            before_merge(memory)
            continue
        if done.commit is None or done.commit == memory.heads.remote:
            return replace(done, pushed=done.commit is not None)
        if not push:
            return done
        try:
            history.push()
        except PushRefusedError as refused:
            last_refusal = refused
            try:
                history.fetch(shallow=False)
            except RemoteError as error:
                return replace(done, push_error=error)
            memory = remember(history, memory.issuers)
            before_merge(memory)
        except RemoteError as error:
            return replace(done, push_error=error)
        else:
            return replace(done, pushed=True)
    raise last_refusal or HistoryError(
        f"The branch moved {ATTEMPTS} times while this pass wanted to commit; nothing is lost.",
        remedy="The next pass tries again; let mirrors and operators that share a repository take turns.",
    )


def _commit(
    history: History, memory: Memory, intents: Mapping[IssuerUrl, Intent], *, message: str, now: datetime
) -> Recorded:
    usable = {issuer: intent for issuer, intent in intents.items() if not memory.issuers[issuer].broken}
    ledgers = {issuer: _merged(intent.ledger, memory.issuers[issuer]) for issuer, intent in usable.items()}
    changes: dict[str, bytes | None] = {}
    for issuer, intent in usable.items():
        changes |= _changes(memory.issuers[issuer], ledgers[issuer], intent.extra)
    if len(memory.parents) > 1:
        changes |= merge_strangers(history, memory, usable)
    local = memory.heads.local
    if not changes and len(memory.parents) <= 1:
        newest = memory.parents[0] if memory.parents else None
        if newest is not None and newest != local:
            history.advance(newest, expect=local)
        return Recorded(newest, made=False, ledgers=ledgers)
    if memory.base is None:
        changes = {**first_files(), **changes}
    commit = history.commit(
        base=memory.base, parents=memory.parents, changes=changes, message=message, when=now, expect=local
    )
    return Recorded(commit, made=True, ledgers=ledgers)


def _merged(ours: Ledger, remembered: Remembered) -> Ledger:
    return ours if remembered.ledger is None else merge(ours, remembered.ledger)


def _changes(remembered: Remembered, ledger: Ledger, extra: Mapping[str, object]) -> dict[str, bytes | None]:
    """The files of one issuer that differ from those on the base. An issuer without any record has none."""
    if not ledger.records:
        return {}
    wanted = {remembered.paths.ledger: write_ledger(ledger)}
    documents = render(ledger, extra)
    if documents is not None:
        wanted[remembered.paths.discovery] = documents.discovery
        wanted[remembered.paths.jwks] = documents.jwks
    return {path: body for path, body in wanted.items() if remembered.files.get(path) != body}
