"""One commit that holds what was decided: on whatever heads there are now, merged, moved by compare-and-swap, pushed.

The loop is level-triggered: a branch that moved in between, here or on the remote, is read and merged again, so no
commit is ever lost and none is undone. A kill between any two steps leaves either the old branch or the new one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import uniform
from time import sleep

from mirror.errors import BranchMovedError, HistoryError, PushRefusedError, RemoteError
from mirror.history.ledgers import Memory, Remembered, remember
from mirror.history.merging import Joined, Merged, joined, merge_strangers
from mirror.history.readme import first_files
from mirror.model import CommitId, IssuerUrl, Ledger
from mirror.ports import History
from mirror.trust.documents import render
from mirror.trust.ledger import ledger_text, write_ledger
from mirror.trust.merge import merge

ATTEMPTS = 5
_MOST_PAUSE_SECONDS = 0.2
"""After a lost race: who always comes second to the same mirror must get out of its step."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What one issuer's ledger shall be; `extra` are the members that its discovery document has besides the five."""

    ledger: Ledger
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Doubts:
    """What speaks against merged ledgers: `strange` ones have public keys for which nobody vouches but git.

    Of those, whoever joined the `unshareable` ones would make others wait for his keys while he waits for theirs.
    """

    strange: frozenset[IssuerUrl] = frozenset()
    unshareable: frozenset[IssuerUrl] = frozenset()


Judge = Callable[[Mapping[IssuerUrl, Joined]], Doubts]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The newest snapshot: another mirror's changes are merged into `ledgers`.

    An issuer is missing there when its ledger on the branch is not believed, or could not be written: `broken` says
    why; or when the branch names keys for which nobody vouches: then it is in `strange`. `commit` is None only when
    nothing was ever committed. `made` tells whether this call made a commit, `pushed` whether the remote has it now,
    `push_error` why it has not.
    """

    commit: CommitId | None
    made: bool
    ledgers: Mapping[IssuerUrl, Ledger]
    broken: Mapping[IssuerUrl, str] = field(default_factory=dict)
    strange: frozenset[IssuerUrl] = frozenset()
    pushed: bool = False
    push_error: RemoteError | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """What the next commit would hold: files (None: the file goes), and the ledgers that they say."""

    changes: dict[str, bytes | None]
    ledgers: Mapping[IssuerUrl, Ledger]
    broken: Mapping[IssuerUrl, str]


def is_pending(memory: Memory, intents: Mapping[IssuerUrl, Intent]) -> bool:
    """Whether `record` would make a commit, as far as the branch stays where `memory` saw it."""
    return bool(_draft(memory, intents).changes) or len(memory.parents) > 1


def record(
    history: History,
    memory: Memory,
    intents: Mapping[IssuerUrl, Intent],
    *,
    message: str,
    now: datetime,
    push: bool,
    attempts: int = ATTEMPTS,
    judge: Judge = lambda _: Doubts(),
) -> Recorded:
    """Commit `intents`, merged with whatever the branch holds by now, and push it when `push`.

    A remote that cannot be reached, or that others push to again and again, is no exception here but `push_error`:
    the commit is made, and waits. So it does where `judge` calls what is merged unshareable: who pushes keys must be
    able to put all of them. Otherwise two mirrors that were killed before their puts, each with a key of its own,
    would wait for each other.

    Raises:
        HistoryError: The commit could not be made, or the local branch moved `attempts` times in between.
    """
    done: Recorded | None = None
    for attempt in range(attempts):
        if attempt > 1:
            sleep(uniform(0, _MOST_PAUSE_SECONDS))  # noqa: S311  no secret
        try:
            made = done is not None and done.made
            done = _commit(history, memory, intents, message=message, now=now, judge=judge)
            done = replace(done, made=done.made or made)
        except BranchMovedError:
            # An operator's command works beside us: its commit is read, and ours goes on top.
            memory = remember(history, memory.issuers)
            continue
        if done.commit is None or done.commit == memory.heads.remote:
            return replace(done, pushed=done.commit is not None)
        if not push or done.push_error is not None:
            return done
        done = _push(history, done)
        if not isinstance(done.push_error, PushRefusedError):
            return done
        memory = remember(history, memory.issuers)
    if done is None:
        raise HistoryError(
            f"The branch moved {attempts} times while this pass wanted to commit; nothing is lost.",
            remedy="The next pass tries again; let mirrors and operators that share a repository take turns.",
        )
    return done


def _push(history: History, done: Recorded) -> Recorded:
    """Push; a refusal is followed by a fetch, so that the next attempt merges what the remote has."""
    try:
        history.push()
    except PushRefusedError as refused:
        try:
            history.fetch(shallow=False)
        except RemoteError as error:
            return replace(done, push_error=error)
        return replace(done, push_error=refused)
    except RemoteError as error:
        return replace(done, push_error=error)
    return replace(done, pushed=True, push_error=None)


def _commit(
    history: History,
    memory: Memory,
    intents: Mapping[IssuerUrl, Intent],
    *,
    message: str,
    now: datetime,
    judge: Judge,
) -> Recorded:
    draft = _draft(memory, intents)
    merges = len(memory.parents) > 1
    merged = merge_strangers(history, memory, draft.ledgers) if merges else Merged()
    moved = {
        url: joined(ledger, memory.issuers[url].shared_keys())
        for url, ledger in draft.ledgers.items()
        if ledger != intents[url].ledger
    }
    doubts = judge(moved | merged.joined)
    if doubts.unshareable and merges:
        alone = remember(history, memory.issuers, alone=True)
        done = _commit(history, alone, intents, message=message, now=now, judge=judge)
        return replace(done, push_error=_waiting(doubts.unshareable))
    if doubts.unshareable:
        draft = _draft(memory, {url: intent for url, intent in intents.items() if url not in doubts.unshareable})
    ledgers = {url: ledger for url, ledger in draft.ledgers.items() if url not in doubts.strange}
    changes = draft.changes | merged.changes
    local = memory.heads.local
    if not changes and not merges:
        newest = memory.parents[0] if memory.parents else None
        if newest is not None and newest != local:
            history.advance(newest, expect=local)
        return Recorded(newest, made=False, ledgers=ledgers, broken=draft.broken, strange=doubts.strange)
    if memory.base is None:
        changes = {**first_files(), **changes}
    commit = history.commit(
        base=memory.base, parents=memory.parents, changes=changes, message=message, when=now, expect=local
    )
    return Recorded(commit, made=True, ledgers=ledgers, broken=draft.broken, strange=doubts.strange)


def _waiting(issuers: frozenset[IssuerUrl]) -> RemoteError:
    first, *more = sorted(issuers)
    which = f"{first} and {len(more)} more" if more else first
    return RemoteError(
        f"The git remote names keys of {which} for which neither this mirror, nor the bucket, nor "
        "an apiserver vouches; nothing is merged with them.",
        remedy="What is committed here is pushed when they are public, or an operator has approved or revoked them.",
    )


def _draft(memory: Memory, intents: Mapping[IssuerUrl, Intent]) -> _Draft:
    """Merge and render each issuer; one whose ledger breaks a rule is left out, and stops nobody else."""
    changes: dict[str, bytes | None] = {}
    ledgers: dict[IssuerUrl, Ledger] = {}
    broken: dict[IssuerUrl, str] = {}
    for issuer, intent in intents.items():
        remembered = memory.issuers[issuer]
        if remembered.broken:
            broken[issuer] = remembered.broken[0].sentence
            continue
        merged = _merged(intent.ledger, remembered)
        try:
            changes |= _changes(remembered, merged, intent.extra)
        except ValueError as error:
            broken[issuer] = str(error)
        else:
            ledgers[issuer] = merged
    return _Draft(changes, ledgers, broken)


def _merged(ours: Ledger, remembered: Remembered) -> Ledger:
    return ours if remembered.ledger is None else merge(ours, remembered.ledger)


def _changes(remembered: Remembered, ledger: Ledger, extra: Mapping[str, object]) -> dict[str, bytes | None]:
    """The files of one issuer that differ from those on the base. An issuer without any record has none.

    Raises:
        ValueError: The ledger breaks a rule of its own (too many records, a generation without end).
    """
    if not ledger.records:
        return {}
    # The bytes on the base were read by the rules of ledgers: where they are the same, nothing is to be checked again.
    is_there = remembered.files.get(remembered.paths.ledger) == ledger_text(ledger)
    wanted = {} if is_there else {remembered.paths.ledger: write_ledger(ledger)}
    documents = render(ledger, extra)
    if documents is not None:
        wanted[remembered.paths.discovery] = documents.discovery
        wanted[remembered.paths.jwks] = documents.jwks
    return {path: body for path, body in wanted.items() if remembered.files.get(path) != body}
