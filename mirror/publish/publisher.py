"""Carry the object actions out, and read the result back as an anonymous client."""

import re
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock

from mirror.aws.iam_policy import FORBIDDEN, behind_cdn, explain_forbidden, is_served_by_bucket
from mirror.config.settings import PublishSettings, ReadbackSettings
from mirror.errors import BucketError
from mirror.model import CommitId, ETag, Event, Level, PublicObject, Reason
from mirror.ports import Bucket, PublicEndpoint, PublicFailure, PublicResponse, PublicResult, PutConflict, StoredHeaders
from mirror.publish.drift import Action, Deferred, ObjectDecision, PutObject, busy, etag_of, signing_window
from mirror.report import Effect, ObjectReport, PublicReadback, reason_from
from mirror.text import iso_time

JWKS_SUFFIX = "/openid/v1/jwks"
STALE = "readback.stale"
"""The event that a cache in front of the bucket still shows an earlier state."""
STALE_GRACE = timedelta(minutes=5)
"""How long after max-age a cache in front of the bucket may still show an earlier state."""


@dataclass(frozen=True, slots=True)
class ObjectResults:
    """What became of one issuer's objects, in publishing order."""

    objects: tuple[ObjectReport, ...] = ()
    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()
    held: tuple[Reason, ...] = ()
    safe_to_sign_at: datetime | None = None
    look: PublicReadback | None = None

    def and_then(self, other: "ObjectResults") -> "ObjectResults":
        """Both, one after the other."""
        return ObjectResults(
            self.objects + other.objects,
            self.events + other.events,
            self.failures + other.failures,
            self.held + other.held,
            self.safe_to_sign_at or other.safe_to_sign_at,
            self.look or other.look,
        )


def reason_of(error: BucketError) -> Reason:
    """A bucket's error as a reason of the report."""
    return reason_from("bucket." + (error.code or "error"), error)


def carry_out(
    bucket: Bucket, decisions: Sequence[tuple[PublicObject, ObjectDecision | None]], *, snapshot: CommitId, shared: bool
) -> ObjectResults:
    """Put one issuer's objects in order: the JWKS first, so that discovery never promises what is not there.

    What comes after one that did not come to stand as meant is not tried: the next pass does. `shared` says that other
    mirrors may write to the same bucket, so that a lost race is nothing to be alarmed about.
    """
    done = ObjectResults()
    for wanted, decision in decisions:
        step = _carry_out_one(bucket, wanted, decision, snapshot, shared=shared)
        done = done.and_then(step)
        if any(each.effect not in (Effect.UNCHANGED, Effect.PUT) for each in step.objects):
            break
    return done


def _carry_out_one(
    bucket: Bucket, desired: PublicObject, decision: ObjectDecision | None, snapshot: CommitId, *, shared: bool
) -> ObjectResults:
    if not isinstance(decision, PutObject):
        return planned_result(desired, decision)
    try:
        outcome = bucket.put(desired, snapshot=snapshot, expected_etag=decision.expected_etag)
    except BucketError as error:
        return ObjectResults((_reported(decision, Effect.FAILED),), failures=(reason_of(error),))
    if isinstance(outcome, PutConflict) and shared:
        return ObjectResults((_reported(decision, Effect.WAITING),), (_race(desired, Level.WARNING),))
    if isinstance(outcome, PutConflict):
        return ObjectResults(
            (_reported(decision, Effect.FAILED),), (_race(desired, Level.ERROR),), (_lost_race(desired),)
        )
    return ObjectResults((_reported(decision, Effect.PUT),), _repair_events(decision))


def planned_result(desired: PublicObject, decision: ObjectDecision | None) -> ObjectResults:
    """What a decision says before (or without) being carried out."""
    if decision is None:
        return ObjectResults((ObjectReport(desired.url, desired.key, Effect.UNCHANGED),))
    if isinstance(decision, Deferred):
        return ObjectResults((ObjectReport(desired.url, desired.key, Effect.WAITING),), (decision.event,))
    return ObjectResults((_reported(decision, Effect.PLANNED),))


def _reported(decision: PutObject, effect: Effect) -> ObjectReport:
    return ObjectReport(decision.desired.url, decision.desired.key, effect, str(decision.action))


def _repair_events(decision: PutObject) -> tuple[Event, ...]:
    if decision.action is not Action.REPAIR:
        return ()
    key = decision.desired.key
    return (Event("drift.repaired", f"{key} is as committed again.", fields={"key": key}),)


def _race(desired: PublicObject, level: Level) -> Event:
    sentence = f"Another writer changed {desired.key} while this pass ran; nothing was overwritten."
    return Event("bucket.changed", sentence, level, {"key": desired.key})


def _lost_race(desired: PublicObject) -> Reason:
    sentence = f"{desired.key} was not put, because it changed after it was read."
    return Reason("bucket.changed", sentence, "Nothing to do at once: the next pass decides on what is there now.")


# ------------------------------------------------------------------------------------------- header audit


CONTENT_TYPE, CACHE_CONTROL, SNAPSHOT = "Content-Type", "Cache-Control", "x-amz-meta-snapshot"
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def differing_headers(desired: PublicObject, headers: StoredHeaders) -> dict[str, str]:
    """The headers that are not those that we put, with their values; of the snapshot's any commit will do."""
    found = {
        CONTENT_TYPE: (headers.content_type, headers.content_type == desired.content_type),
        CACHE_CONTROL: (headers.cache_control, headers.cache_control == desired.cache_control),
        SNAPSHOT: (headers.snapshot or "", _COMMIT.fullmatch(headers.snapshot or "") is not None),
    }
    differing = {name: value for name, (value, is_right) in found.items() if not is_right}
    return differing | {name: value for name, _, value in (each.partition(": ") for each in headers.altering)}


def unkept_headers(bucket: Bucket, desired: PublicObject) -> frozenset[str]:
    """The headers of an object that was put just now and that the store did not keep: they are missing.

    Raises:
        BucketError: They could not be read.
    """
    headers = bucket.head(desired.key)
    if headers is None or headers.etag != etag_of(desired.body):
        return frozenset()
    return frozenset(name for name, value in differing_headers(desired, headers).items() if not value)


def not_kept(desired: PublicObject, names: Collection[str]) -> Event:
    """`bucket.header_not_kept`, reported once: then the mirror no longer puts an object because of these headers."""
    listed = ", ".join(sorted(names))
    sentence = (
        f"The store did not keep {listed} of {desired.key}, which was put just now; the mirror no "
        "longer compares it. Without Cache-Control caches choose for themselves how old a JWKS may be: use a store, or "
        "a CDN in front of it, that sends it."
    )
    return Event("bucket.header_not_kept", sentence, Level.WARNING, {"key": desired.key, "headers": listed})


def audit_headers(
    bucket: Bucket,
    desired: PublicObject,
    etag: ETag | None,
    *,
    lacks: Callable[[str], bool] = lambda _: False,
    unkept: Container[str] = (),
) -> tuple[PutObject | Deferred | None, Event | None]:
    """Look at the headers of an object whose bytes were right when they had `etag`; a put repairs them.

    An object that has another ETag by now is not touched: it may be newer than what we know. A JWKS that names a commit
    of which `lacks` holds is put again with the newest one; that is no drift. Of the headers `unkept` it is known that
    the store keeps none.

    Raises:
        BucketError: They could not be read.
    """
    headers = bucket.head(desired.key)
    if headers is None or headers.etag != etag:
        return busy(desired), None
    differing = {
        name: value for name, value in differing_headers(desired, headers).items() if value or name not in unkept
    }
    if not differing:
        is_behind = desired.url.endswith(JWKS_SUFFIX) and headers.snapshot is not None and lacks(headers.snapshot)
        return (PutObject(desired, Action.UPDATE, headers.etag) if is_behind else None), None
    listed = ", ".join(f"{name} {value!r}" for name, value in differing.items())
    sentence = (
        f"Another writer changed what clients get of {desired.key}: {listed}. Find out who may write to the bucket, and"
        " which lifecycle rules it has."
    )
    fields = {"key": desired.key, "etag": headers.etag, "last_modified": iso_time(headers.last_modified)}
    return PutObject(desired, Action.REPAIR, headers.etag), Event("bucket.drift", sentence, Level.ERROR, fields)


# ---------------------------------------------------------------------------------------------- read-back


@dataclass(frozen=True, slots=True)
class CacheContext:
    """What is needed to distinguish a cache that lags from a wrong document.

    `was_ours` says whether a body was ever committed; `changed_at` when the wanted state was committed; `unkept` are
    headers that the store does not keep, so that the public misses them.
    """

    now: datetime
    was_ours: Callable[[bytes], bool]
    changed_at: Callable[[PublicObject], datetime | None]
    unkept: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ReadbackResult:
    """What the public sees of one issuer: `fresh` when every object is as meant.

    `safe_to_sign_at` is when every copy of the JWKS from before the one that was seen has turned over; None unless the
    JWKS was seen as meant, with a `Last-Modified`. `seconds` is the slowest answer; None where there was none.
    """

    fresh: bool
    safe_to_sign_at: datetime | None = None
    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()
    seconds: float | None = None

    def summary(self) -> PublicReadback:
        """The look as the report has it."""
        return PublicReadback(not self.failures, self.seconds)


class CachingPublicEndpoint:
    """A public view that caches its last answer of each URL, so that a pass reads each URL once."""

    def __init__(self, view: PublicEndpoint) -> None:
        self._view = view
        self._lock = Lock()
        self._answers: dict[str, PublicResponse] = {}

    def get_document(self, url: str, *, readback: ReadbackSettings) -> PublicResult:
        """See `mirror.ports.PublicEndpoint`."""
        look = self._view.get_document(url, readback=readback)
        if isinstance(look, PublicResponse):
            with self._lock:
                self._answers[url] = look
        return look

    def answer(self, url: str) -> PublicResponse | None:
        """The last answer of `url`; None if it was not read, or no answer came."""
        with self._lock:
            return self._answers.get(url)


def read_back(
    view: PublicEndpoint,
    bucket: Bucket,
    objects: Sequence[PublicObject],
    publish: PublishSettings,
    freshness: CacheContext,
) -> ReadbackResult:
    """GET an issuer's public URLs as a relying party would, and compare them with what was meant.

    `bucket` is asked only why the public may not read an object.
    """
    result = ReadbackResult(fresh=True)
    for wanted in objects:
        seen = _look(view, bucket, wanted, publish, freshness)
        result = replace(
            result,
            fresh=result.fresh and seen.fresh,
            safe_to_sign_at=result.safe_to_sign_at or seen.safe_to_sign_at,
            events=result.events + seen.events,
            failures=result.failures + seen.failures,
            seconds=max((each for each in (result.seconds, seen.seconds) if each is not None), default=None),
        )
    return result


def _look(
    view: PublicEndpoint, bucket: Bucket, desired: PublicObject, publish: PublishSettings, freshness: CacheContext
) -> ReadbackResult:
    look = view.get_document(desired.url, readback=publish.readback)
    if isinstance(look, PublicFailure):
        return _failed(desired, (explained(look.reason, bucket, desired, publish),))
    return replace(_readback_result(look, desired, publish, freshness), seconds=look.seconds)


def _readback_result(
    look: PublicResponse, desired: PublicObject, publish: PublishSettings, freshness: CacheContext
) -> ReadbackResult:
    reasons = tuple(each for each in compare(look, desired) if not _is_unkept(each, look, freshness))
    if not reasons:
        found = signing_window(look) if desired.url.endswith(JWKS_SUFFIX) else None
        return ReadbackResult(fresh=True, safe_to_sign_at=found.safe_to_sign_at if found is not None else None)
    if look.body != desired.body and _may_lag(look.body, desired, publish, freshness):
        sentence = (
            f"{desired.url} still shows an earlier state: a cache in front of the bucket has not turned over yet."
        )
        return ReadbackResult(fresh=False, events=(Event(STALE, sentence, Level.WARNING, {"url": desired.url}),))
    return _failed(desired, reasons)


def _is_unkept(reason: Reason, look: PublicResponse, freshness: CacheContext) -> bool:
    return reason.code == "wrong_cache_control" and not look.cache_control and CACHE_CONTROL in freshness.unkept


def explained(reason: Reason, bucket: Bucket, desired: PublicObject, publish: PublishSettings) -> Reason:
    """Why anonymous requests get 403, with its cause as far as the bucket says it; every other reason is as it was."""
    if reason.code != FORBIDDEN:
        return reason
    if not is_served_by_bucket(publish):
        return behind_cdn(reason)
    return explain_forbidden(reason, bucket.access_settings(desired.key), publish, desired.key)


def _may_lag(body: bytes, desired: PublicObject, publish: PublishSettings, freshness: CacheContext) -> bool:
    changed = freshness.changed_at(desired)
    grace = timedelta(seconds=publish.max_age_seconds) + STALE_GRACE
    return changed is not None and freshness.now <= changed + grace and freshness.was_ours(body)


def _failed(desired: PublicObject, reasons: tuple[Reason, ...]) -> ReadbackResult:
    events = tuple(
        Event("readback.failed", reason.sentence, Level.ERROR, {"url": desired.url, "cause": reason.code})
        for reason in reasons
    )
    failures = tuple(replace(reason, code=f"readback.{reason.code}", where=desired.url) for reason in reasons)
    return ReadbackResult(fresh=False, events=events, failures=failures)


OTHER_BYTES = "stale_or_foreign"
"""The code of a public URL whose bytes are not those that we published."""


def compare(response: PublicResponse, expected: PublicObject) -> tuple[Reason, ...]:
    """Every way in which what the public sees differs from what we meant; empty when all is right.

    Codes: `stale_or_foreign`, `wrong_content_type` (the media type is compared, not its parameters) and
    `wrong_cache_control`.
    """
    return tuple(_differences(response, expected))


def _differences(seen: PublicResponse, meant: PublicObject) -> Iterator[Reason]:
    if seen.body != meant.body:
        sentence = f"The public URL shows {len(seen.body)} other bytes than the {len(meant.body)} that we published."
        remedy = "Invalidate the CDN in front of the bucket; without one, find out what else serves this URL."
        yield Reason(OTHER_BYTES, sentence, remedy, meant.url)
    remedy = "The next audit repairs the object; a proxy or CDN in front of it must not change the header."
    if _media_type(seen.content_type) != _media_type(meant.content_type):
        sentence = f"The public URL says Content-Type `{seen.content_type}` instead of `{meant.content_type}`."
        yield Reason("wrong_content_type", sentence, remedy, meant.url)
    if _directives(seen.cache_control) != _directives(meant.cache_control):
        sentence = f"The public URL says Cache-Control `{seen.cache_control}` instead of `{meant.cache_control}`."
        yield Reason("wrong_cache_control", sentence, remedy, meant.url)


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def _directives(text: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip())
