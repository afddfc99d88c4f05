"""What must be put: the objects as they should stand against what the bucket shows. Pure.

    in the bucket                            then
    the bytes that we mean                   nothing (headers are the audit's business)
    nothing                                  create; drift if what we mean stood there before
    a state that we committed earlier        update; drift if what we mean stood there before
    anything else                            drift: somebody else wrote a trust anchor (fact 37); repair

A put waits only where `Knowledge.waits_for` says so (`mirror.steps.comparing`). A body that changed after it was listed
waits for the next pass: it may be newer than the history that we fetched.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mirror.model import ETag, Event, Level, Listed, PublicObject, Stored


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
class Waiting:
    """The object differs, and the put waits for the git remote or for the next pass.

    `is_wrong` tells that what stands there is not known to be right: the world's view decides then.
    """

    wanted: PublicObject
    event: Event
    is_wrong: bool = True


Decision = Put | Waiting


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What we know about the body that stands at a key, and about who may have written it.

    `committed` are the bytes that git holds for this object, now or at the commit that the object's own metadata names:
    metadata alone proves nothing, whoever writes the object writes that too. `waits_for` says what a put would do that
    has to wait; empty when it may be made. `is_other_mirror` tells that the metadata names a commit of another mirror,
    with which this one shares no remote. `stood_at` is when this mirror last saw the object stand as it means it now
    (aware, UTC): what differs since then was somebody else.
    """

    committed: frozenset[bytes] = frozenset()
    waits_for: str = ""
    is_other_mirror: bool = False
    stood_at: datetime | None = None


def etag_of(body: bytes) -> ETag:
    """The ETag that S3 gives a body put in one part without KMS: its MD5. An identifier, not a protection."""
    return ETag(hashlib.md5(body, usedforsecurity=False).hexdigest())


def needs_body(wanted: PublicObject, listed: Listed | None, committed: frozenset[bytes]) -> bool:
    """Whether the listing alone cannot tell what stands at `wanted.key`, so that the object must be read."""
    return listed is not None and listed.etag not in {etag_of(body) for body in (wanted.body, *committed)}


def standing_body(
    wanted: PublicObject, listed: Listed | None, stored: Stored | None, committed: frozenset[bytes]
) -> bytes | None:
    """The body that stands at the key: as read, or as the listing's ETag tells; None when nothing does."""
    if stored is not None:
        return stored.body
    known = (wanted.body, *committed)
    return None if listed is None else next((body for body in known if etag_of(body) == listed.etag), None)


def decide(
    wanted: PublicObject, listed: Listed | None, stored: Stored | None, known: Knowledge
) -> tuple[Decision | None, Event | None]:
    """Decide about one object.

    Args:
        wanted: The object as it should stand.
        listed: Its line of the listing, None when it is absent.
        stored: The object as read, where `needs_body` asked for it.
        known: What is known about the body that stands there.

    Returns:
        The decision (None: nothing to do), and the event `bucket.drift` when somebody else wrote here.
    """
    if listed is None:
        return _absent(wanted, known.stood_at)
    body = standing_body(wanted, listed, stored, known.committed)
    if body == wanted.body:
        return None, None
    if stored is not None and stored.etag != listed.etag:
        return busy(wanted), None
    foreign = stored is not None and body not in known.committed
    drift = _drift(wanted, listed, known) if foreign or known.stood_at is not None else None
    if known.waits_for:
        return _waits(wanted, known.waits_for, is_wrong=body not in known.committed), drift
    action = Action.UPDATE if drift is None else Action.REPAIR
    return Put(wanted, action, listed.etag), drift


def _absent(wanted: PublicObject, stood_at: datetime | None) -> tuple[Decision, Event | None]:
    if stood_at is None:
        return Put(wanted, Action.CREATE, None), None
    sentence = (
        f"Somebody deleted {wanted.key}, which stood there at {stood_at.isoformat()}: "
        "find out who may write to the bucket; each of them could be any pod."
    )
    event = Event("bucket.drift", sentence, Level.ERROR, {"key": wanted.key, "seen_at": stood_at.isoformat()})
    return Put(wanted, Action.REPAIR, None), event


def busy(wanted: PublicObject) -> Waiting:
    """Somebody writes the object right now: nothing is done to it in this pass."""
    sentence = f"{wanted.key} changed while this pass read it; the next pass decides."
    return Waiting(wanted, Event("bucket.changed", sentence, Level.WARNING, {"key": wanted.key}), is_wrong=False)


def _waits(wanted: PublicObject, what: str, *, is_wrong: bool) -> Waiting:
    sentence = f"Putting {wanted.key} would {what}; it waits until the git remote answers and takes our commits."
    event = Event("removal.waits", sentence, Level.WARNING, {"key": wanted.key})
    return Waiting(wanted, event, is_wrong=is_wrong)


def _drift(wanted: PublicObject, listed: Listed, known: Knowledge) -> Event:
    sentence = (
        f"Somebody else wrote {wanted.key} at {listed.last_modified.isoformat()} (ETag {listed.etag}): "
        "find out who may write to the bucket; each of them could be any pod."
    )
    if known.is_other_mirror:
        sentence += " It looks like another mirror: give both the same `repository.remote`, or stop one."
    fields = {"key": wanted.key, "etag": listed.etag, "last_modified": listed.last_modified.isoformat()}
    return Event("bucket.drift", sentence, Level.ERROR, fields)
