"""What must be put: the objects as they should stand against what the bucket shows. Pure.

    in the bucket                            then
    the bytes that we mean                   nothing (headers are the audit's business)
    nothing                                  create
    a state that we committed earlier        update
    anything else                            drift: somebody wrote a trust anchor (fact 37); repair, or hold

A put that takes a public key away waits while the git remote is out of reach, because another mirror may have
published that key: the ledger that says so would be there. Our own committed states are no such case.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mirror.model import ETag, Event, Level, Listed, ObjectKey, PublicObject, Stored


class Action(StrEnum):
    """Why an object is put."""

    CREATE = "create"
    UPDATE = "update"
    REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class Put:
    """One object to write; `seen` is the ETag that it must still have, None when it must still be absent."""

    wanted: PublicObject
    action: Action
    seen: ETag | None


@dataclass(frozen=True, slots=True)
class Holding:
    """The object differs, and only an operator may decide: `event` says why, with the remedy."""

    wanted: PublicObject
    event: Event


@dataclass(frozen=True, slots=True)
class Waiting:
    """The object differs, and the put waits for the git remote."""

    wanted: PublicObject
    event: Event


Decision = Put | Holding | Waiting


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What we know about who may have written a body.

    `committed` are the bytes that git holds for each object key, now or at the commit that the object's own metadata
    names: metadata alone proves nothing, whoever writes the object writes that too. `own_snapshots` are the commits of
    our history among those that metadata names. `shared` tells that a remote is configured, `heard_remote` that it
    was fetched after the bucket was read.
    """

    committed: Mapping[ObjectKey, frozenset[bytes]]
    own_snapshots: frozenset[str]
    shared: bool
    heard_remote: bool


def etag_of(body: bytes) -> ETag:
    """The ETag that S3 gives a body put in one part without KMS: its MD5. An identifier, not a protection."""
    return ETag(hashlib.md5(body, usedforsecurity=False).hexdigest())


def needs_body(wanted: PublicObject, listed: Listed | None, committed: frozenset[bytes]) -> bool:
    """Whether the listing alone cannot tell what stands at `wanted.key`, so that the object must be read."""
    return listed is not None and listed.etag not in {etag_of(body) for body in (wanted.body, *committed)}


def decide(
    wanted: PublicObject, listed: Listed | None, stored: Stored | None, known: Knowledge
) -> tuple[Decision | None, Event | None]:
    """Decide about one object.

    Args:
        wanted: The object as it should stand.
        listed: Its line of the listing, None when it is absent.
        stored: The object as read, where `needs_body` asked for it.
        known: Who may have written what.

    Returns:
        The decision (None: nothing to do), and the event `bucket.drift` when somebody else wrote here.
    """
    if listed is None:
        return Put(wanted, Action.CREATE, None), None
    committed = known.committed.get(wanted.key, frozenset())
    if stored is None:
        if listed.etag == etag_of(wanted.body):
            return None, None
        return Put(wanted, Action.UPDATE, listed.etag), None
    if stored.body == wanted.body:
        return None, None
    if stored.body in committed:
        return Put(wanted, Action.UPDATE, stored.etag), None
    return _decide_drift(wanted, stored, known), _drift(wanted, stored)


def _decide_drift(wanted: PublicObject, stored: Stored, known: Knowledge) -> Decision:
    if not known.shared and stored.snapshot is not None and stored.snapshot not in known.own_snapshots:
        sentence = (
            f"Another mirror, unknown to this one, wrote {wanted.key} (snapshot {stored.snapshot[:12]!r}). "
            "Give both the same `repository.remote`, or stop one of them and remove its object."
        )
        return Holding(wanted, Event("bucket.foreign_mirror", sentence, Level.ERROR, {"key": wanted.key}))
    if known.shared and not known.heard_remote:
        sentence = f"Repairing {wanted.key} waits until the git remote can be fetched."
        return Waiting(wanted, Event("removal.waits", sentence, Level.WARNING, {"key": wanted.key}))
    return Put(wanted, Action.REPAIR, stored.etag)


def _drift(wanted: PublicObject, stored: Stored) -> Event:
    sentence = (
        f"Somebody else wrote {wanted.key} at {stored.last_modified.isoformat()} (ETag {stored.etag}): "
        "find out who may write to the bucket; each of them could be any pod."
    )
    fields = {"key": wanted.key, "etag": stored.etag, "last_modified": stored.last_modified.isoformat()}
    return Event("bucket.drift", sentence, Level.ERROR, fields)
