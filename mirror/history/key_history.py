"""The history of each key, from the versions of an issuer's ledger in git.

Parallel branches may order versions so that a key seems to go back; that is no real step back. Until a commit contains
all earlier commits, its ledger is merged with theirs, as the mirrors themselves do it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from mirror.addresses import repository_paths
from mirror.history.commit_graph import MOST_VERSIONS
from mirror.model import (
    PUBLIC_STATUSES,
    CommitId,
    IssuerUrl,
    KeyId,
    KeyRecord,
    Ledger,
    Status,
    Thumbprint,
    Version,
    key_id,
)
from mirror.ports import History
from mirror.text import iso_time, iso_time_or_none
from mirror.trust.ledger import LedgerRead, read_ledger
from mirror.trust.ledger_signature import LedgerVerifier, SignatureHeader
from mirror.trust.merge import merge

GONE_STATUSES = frozenset({Status.DROPPED, Status.REVOKED})


@dataclass(frozen=True, slots=True)
class LedgerVersion:
    """One version of a ledger; `ledger` is None where the file was missing or is not trusted."""

    version: Version
    ledger: Ledger | None


@dataclass(frozen=True, slots=True)
class StatusPeriod:
    """A period in which a key had one status. `since` and `until` are commit dates (UTC); `until` None: it lasts still.

    `commit` and `author` belong to the commit that began it.
    """

    status: Status
    since: datetime
    commit: CommitId
    author: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """One key: its last known record, and its steps (at least one), oldest first."""

    record: KeyRecord
    steps: tuple[StatusPeriod, ...]

    @property
    def status(self) -> Status:
        """Its current status."""
        return self.steps[-1].status

    @property
    def published_at(self) -> datetime | None:
        """When it first became public; None when it never did."""
        return next((step.since for step in self.steps if step.status is Status.PUBLISHED), None)

    @property
    def retiring_at(self) -> datetime | None:
        """When its last retirement began; None when there was none, or it was cancelled."""
        last = next((step for step in reversed(self.steps) if step.status in PUBLIC_STATUSES), None)
        return last.since if last is not None and last.status is Status.RETIRING else None

    @property
    def gone_at(self) -> datetime | None:
        """When it was dropped or revoked; None while it is neither."""
        return self.steps[-1].since if self.status in GONE_STATUSES else None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A commit that made `keys` public while other keys were public."""

    at: datetime
    commit: CommitId
    keys: tuple[KeyId, ...]


@dataclass(frozen=True, slots=True)
class KeyHistories:
    """All keys of one issuer, oldest first. `unreadable` are the versions without a usable ledger."""

    keys: tuple[KeyHistory, ...] = ()
    rotations: tuple[Rotation, ...] = ()
    unreadable: tuple[CommitId, ...] = ()


def build_histories(entries: Iterable[LedgerVersion]) -> KeyHistories:
    """Trace every key through the versions of one ledger. Each version must come after its parents."""
    trace = _Trace()
    for entry in entries:
        trace.follow(entry)
    return trace.result()


class _Trace:
    """The working state of one `build_histories`."""

    def __init__(self) -> None:
        self.tips: frozenset[CommitId] = frozenset()
        self.state: Ledger | None = None
        self.records: dict[KeyId, KeyRecord] = {}
        self.steps: dict[KeyId, list[StatusPeriod]] = {}
        self.rotations: list[Rotation] = []
        self.unreadable: list[CommitId] = []

    def follow(self, entry: LedgerVersion) -> None:
        """Process one version."""
        version, ledger = entry.version, entry.ledger
        self.tips = (self.tips - frozenset(version.parents)) | {version.commit}
        if ledger is None:
            self.unreadable.append(version.commit)
            return
        contains_all = self.tips == {version.commit}
        after = ledger if contains_all or self.state is None else merge(self.state, ledger)
        before = _public(self.state)
        new = _public(after) - before
        if before and new:
            self.rotations.append(Rotation(version.when, version.commit, tuple(sorted(new))))
        for record in after.records:
            self.records[key_id(record.key)] = record
            self._step(key_id(record.key), record.status, version)
        for identity in self.records.keys() - {key_id(record.key) for record in after.records}:
            # The record was removed from the file: like a dropped key, this key is not public.
            self._step(identity, Status.DROPPED, version)
        self.state = after

    def _step(self, identity: KeyId, status: Status, version: Version) -> None:
        steps = self.steps.setdefault(identity, [])
        if steps and steps[-1].status is status:
            return
        # Clocks of mirrors differ; a step does not begin before the previous one.
        since = max(version.when, steps[-1].since) if steps else version.when
        if steps:
            steps[-1] = replace(steps[-1], until=since)
        steps.append(StatusPeriod(status, since, version.commit, version.author))

    def result(self) -> KeyHistories:
        found = (KeyHistory(self.records[identity], tuple(steps)) for identity, steps in self.steps.items())
        ordered = sorted(found, key=lambda each: (each.steps[0].since, key_id(each.record.key)))
        return KeyHistories(tuple(ordered), tuple(self.rotations), tuple(self.unreadable))


def _public(ledger: Ledger | None) -> frozenset[KeyId]:
    return frozenset() if ledger is None else frozenset(key_id(key) for key in ledger.public_keys())


# --------------------------------------------------------------------------------------------------- JSON


def to_json(histories: KeyHistories) -> dict[str, object]:
    """The key histories as plain data. The same git history always gives the same text."""
    return {
        "keys": [_key_json(key) for key in histories.keys],
        "rotations": [
            {"at": iso_time(each.at), "commit": each.commit, "keys": [_identity(key) for key in each.keys]}
            for each in histories.rotations
        ],
        "unreadable_commits": list(histories.unreadable),
    }


def _identity(identity: KeyId) -> dict[str, object]:
    return {"kid": identity[0], "thumbprint": identity[1]}


def _key_json(history: KeyHistory) -> dict[str, object]:
    record = history.record
    revocation = record.revocation
    return {
        **_identity(key_id(record.key)),
        "alg": record.key.alg,
        "status": str(history.status),
        "first_seen": iso_time(record.first_seen),
        "published_at": iso_time_or_none(history.published_at),
        "retiring_at": iso_time_or_none(history.retiring_at),
        "gone_at": iso_time_or_none(history.gone_at),
        "held_because": record.held_because,
        "revocation": None
        if revocation is None
        else {"at": iso_time(revocation.at), "reason": revocation.reason, "last": revocation.last},
        "steps": [
            {
                "status": str(step.status),
                "from": iso_time(step.since),
                "to": iso_time_or_none(step.until),
                "commit": step.commit,
                "author": step.author,
            }
            for step in history.steps
        ],
    }


def load_histories(
    history: History, issuer: IssuerUrl, *, most: int = MOST_VERSIONS, keys: LedgerVerifier | None = None
) -> KeyHistories:
    """The histories of all keys in the newest `most` versions of the issuer's ledger; none without a ledger.

    With `keys`, a version counts when one of them signed it, or when it is older than the first signed version.

    Raises:
        HistoryError: The repository could not be read.
    """
    paths = repository_paths(issuer)
    already_checked: frozenset[Thumbprint] = frozenset()
    entries, has_begun = [], False
    for version in history.versions(paths.ledger, most=most):
        text = history.read(version.commit, (paths.ledger, paths.signature))
        body, signature = text.get(paths.ledger), text.get(paths.signature, b"")
        # Check the strength of a key once: it is the same key in every later version.
        read = None if body is None else read_ledger(body, issuer=issuer, already_checked=already_checked)
        if keys is not None and body is not None:
            is_signed = isinstance(keys.verify(body, signature, issuer), SignatureHeader)
            has_begun |= is_signed
            read = read if is_signed or not has_begun else None
        believed = read.ledger if isinstance(read, LedgerRead) else None
        already_checked |= frozenset(record.key.thumbprint for record in believed.records) if believed else frozenset()
        entries.append(LedgerVersion(version, believed))
    return build_histories(entries)
