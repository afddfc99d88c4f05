"""Compare the desired objects with the listing of the bucket: which to put, and which wait. Pure.

    in the bucket                            then
    the bytes that we mean                   nothing (headers are the audit's business)
    nothing                                  create; drift if what we mean stood there before
    a state that we committed earlier        update; drift if what we mean stood there before
    anything else                            drift: another writer changed a trust anchor (facts.md#37); repair

A put waits only where `DriftContext.waits_for` says so (`mirror.reconcile.planner`). A body that changed after it was
listed waits for the next pass: it may be newer than the history that we fetched.

Pure: from when on a new key may sign.
A relying party that fetched the JWKS a moment before the key came into it may keep that copy for `max-age` (upstream's
own contract, facts.md#23); the margin covers clocks that differ.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from mirror.addresses import discovery_url, jwks_uri, object_keys
from mirror.config.settings import Issuer
from mirror.model import (
    MEDIA_TYPE_DISCOVERY,
    Documents,
    ETag,
    Event,
    IssuerUrl,
    Level,
    ListedObject,
    PublicObject,
    StoredObject,
)
from mirror.ports import PublicResponse
from mirror.text import iso_time, moment


class Action(StrEnum):
    """Why an object is put."""

    CREATE = "create"
    UPDATE = "update"
    REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class PutObject:
    """One object to write; `expected_etag` is the ETag that it must still have, None when it must still be absent."""

    desired: PublicObject
    action: Action
    expected_etag: ETag | None


@dataclass(frozen=True, slots=True)
class Deferred:
    """The object differs, and the put waits for the git remote or for the next pass.

    `is_wrong` says that what stands there is not known to be right: the public view decides then.
    """

    desired: PublicObject
    event: Event
    is_wrong: bool = True


ObjectDecision = PutObject | Deferred


@dataclass(frozen=True, slots=True)
class DriftContext:
    """What we know about the body that stands at a key, and about who may have written it.

    `committed` are the bytes that git holds for this object, now or at the commit that the object's own metadata names:
    metadata alone proves nothing, because any writer of the object sets it. `waits_for` says what a put would do that
    has to wait; empty when it may be made. `is_other_mirror` says that the metadata names a commit of another mirror,
    with which this one shares no remote. `last_verified_at` is when this mirror last saw the object as it
    should be now (aware, UTC): what differs since then was changed by another writer.
    """

    committed: frozenset[bytes] = frozenset()
    waits_for: str = ""
    is_other_mirror: bool = False
    last_verified_at: datetime | None = None


def etag_of(body: bytes) -> ETag:
    """The ETag that S3 gives a body put in one part without KMS: its MD5. An identifier, not a protection."""
    return ETag(hashlib.md5(body, usedforsecurity=False).hexdigest())


def needs_body(desired: PublicObject, listed: ListedObject | None, committed: frozenset[bytes]) -> bool:
    """Whether the listing alone does not show what stands at `desired.key`, so that the object must be read."""
    return listed is not None and listed.etag not in {etag_of(body) for body in (desired.body, *committed)}


def stored_body(
    desired: PublicObject, listed: ListedObject | None, stored: StoredObject | None, committed: frozenset[bytes]
) -> bytes | None:
    """The body that stands at the key: as read, or as the listing's ETag shows; None when nothing does."""
    if stored is not None:
        return stored.body
    known = (desired.body, *committed)
    return None if listed is None else next((body for body in known if etag_of(body) == listed.etag), None)


def plan_object(
    desired: PublicObject, listed: ListedObject | None, stored: StoredObject | None, context: DriftContext
) -> tuple[ObjectDecision | None, Event | None]:
    """Decide about one object.

    Args:
        desired: The object as it should stand.
        listed: Its line of the listing, None when it is absent.
        stored: The object as read, where `needs_body` asked for it.
        context: What is known about the body that stands there.

    Returns:
        The decision (None: nothing to do), and the event `bucket.drift` when another writer changed here.
    """
    if listed is None:
        return _absent(desired, context.last_verified_at)
    body = stored_body(desired, listed, stored, context.committed)
    if body == desired.body:
        return None, None
    if stored is not None and stored.etag != listed.etag:
        return busy(desired), None
    foreign = stored is not None and body not in context.committed
    drift = _drift(desired, listed, context) if foreign or context.last_verified_at is not None else None
    if context.waits_for:
        return _waits(desired, context.waits_for, is_wrong=body not in context.committed), drift
    action = Action.UPDATE if drift is None else Action.REPAIR
    return PutObject(desired, action, listed.etag), drift


def _absent(desired: PublicObject, stood_at: datetime | None) -> tuple[ObjectDecision, Event | None]:
    if stood_at is None:
        return PutObject(desired, Action.CREATE, None), None
    sentence = (
        f"Another writer deleted {desired.key}, which stood there at {moment(stood_at)}: "
        "find out who may write to the bucket; each of them could be any pod."
    )
    event = Event("bucket.drift", sentence, Level.ERROR, {"key": desired.key, "seen_at": iso_time(stood_at)})
    return PutObject(desired, Action.REPAIR, None), event


def busy(desired: PublicObject) -> Deferred:
    """Another writer is writing the object now: this pass does nothing to it."""
    sentence = f"{desired.key} changed while this pass read it; the next pass decides."
    return Deferred(desired, Event("bucket.changed", sentence, Level.WARNING, {"key": desired.key}), is_wrong=False)


def suspended(desired: PublicObject) -> Deferred:
    """The object is not as git says, and its issuer is suspended: it stays as it is."""
    sentence = f"{desired.key} is not as git says; it is not put while `suspend` of its issuer is true."
    return Deferred(desired, Event("issuer.suspended", sentence, Level.WARNING, {"key": desired.key}))


def _waits(desired: PublicObject, what: str, *, is_wrong: bool) -> Deferred:
    sentence = f"Putting {desired.key} would {what}; it waits until the git remote answers and takes our commits."
    event = Event("removal.waits", sentence, Level.WARNING, {"key": desired.key})
    return Deferred(desired, event, is_wrong=is_wrong)


def _drift(desired: PublicObject, listed: ListedObject, context: DriftContext) -> Event:
    sentence = (
        f"Another writer changed {desired.key} at {moment(listed.last_modified)} (ETag {listed.etag}): "
        "find out who may write to the bucket; each of them could be any pod."
    )
    if context.is_other_mirror:
        sentence += " It looks like another mirror: give both the same `repository.remote`, or stop one."
    fields = {"key": desired.key, "etag": listed.etag, "last_modified": iso_time(listed.last_modified)}
    return Event("bucket.drift", sentence, Level.ERROR, fields)


def public_objects(issuer: Issuer, issuer_url: IssuerUrl, documents: Documents) -> tuple[PublicObject, PublicObject]:
    """The JWKS, then the discovery document: in this order they are put.

    A new discovery document may name an algorithm whose first key is new too; put first, it would for a moment promise
    keys that are not there (facts.md#2).

    Args:
        issuer: The configured entry, whose `publish` says where and how.
        issuer_url: The issuer's own text, or that of one of its former issuers: relying parties make the URLs of it.
        documents: The exact bytes.

    Raises:
        ValueError: `issuer_url` is outside of `publish.base_url`, which a valid configuration excludes.
    """
    publish = issuer.publish
    discovery_key, jwks_key = object_keys(issuer_url, publish.base_url, publish.prefix)
    jwks = PublicObject(
        jwks_key, jwks_uri(issuer_url), documents.jwks, publish.jwks_content_type, publish.cache_control
    )
    discovery = PublicObject(
        discovery_key, discovery_url(issuer_url), documents.discovery, MEDIA_TYPE_DISCOVERY, publish.cache_control
    )
    return jwks, discovery


MARGIN = timedelta(minutes=5)
LONGEST_MAX_AGE_SECONDS = 3600
"""Without a readable max-age caches choose for themselves (RFC 9111, section 4.2.2): the longest that we allow."""
_MAX_AGE = re.compile(r'(?:^|,)\s*(?:max-age|s-maxage)\s*=\s*"?([0-9]{1,9})"?\s*(?=,|$)', re.IGNORECASE)


def safe_to_sign_at(last_modified: datetime, max_age_seconds: int) -> datetime:
    """When the last copy from before the key has turned over everywhere.

    Args:
        last_modified: Of the public JWKS that contains the key; aware, UTC.
        max_age_seconds: How long that JWKS may be kept, from its own Cache-Control.
    """
    return last_modified + timedelta(seconds=max_age_seconds) + MARGIN


def max_age_of(cache_control: str) -> int | None:
    """How long a copy may be kept, in seconds: the longest of max-age and s-maxage; None when neither is said."""
    return max((int(seconds) for seconds in _MAX_AGE.findall(cache_control)), default=None)


def max_age_seconds(response: PublicResponse) -> int:
    """How long caches may keep the JWKS that was seen, in seconds."""
    said = max_age_of(response.cache_control)
    return LONGEST_MAX_AGE_SECONDS if said is None else said


@dataclass(frozen=True, slots=True)
class SigningWindow:
    """What a key's safety rests on: when the JWKS changed (aware, UTC), and how long the one before may be kept."""

    last_modified: datetime
    max_age_seconds: int

    @property
    def safe_to_sign_at(self) -> datetime:
        """See the function of that name."""
        return safe_to_sign_at(self.last_modified, self.max_age_seconds)


def signing_window(response: PublicResponse) -> SigningWindow | None:
    """The window of a public JWKS as seen; None when it says no Last-Modified."""
    return None if response.last_modified is None else SigningWindow(response.last_modified, max_age_seconds(response))
