"""Tell the CDNs in front of the buckets what changed: one invalidation a distribution, of exactly the changed paths.

A kill between a put and its invalidation loses nothing that is right: nobody remembers the invalidation, the next pass
reads the public URL back because no stamp says that it was right, and asks again for whatever is still stale there.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from mirror.concurrency import each_at_once
from mirror.config.settings import Publish
from mirror.model import CommitId, Event, Level
from mirror.ports import Cdn, Ports

MOST_PATHS = 3000
"""What CloudFront takes at once (its developer guide, "Quotas on invalidations")."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A public URL whose cached copies are old; `what` tells this change from others of the same URL."""

    publish: Publish
    url: str
    what: str


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What one distribution is told. The same changes of the same commit have the same `reference`."""

    publish: Publish
    paths: tuple[str, ...]
    reference: str
    left_out: int = field(default=0)


def invalidations(changed: Iterable[Changed], commit: CommitId) -> tuple[Invalidation, ...]:
    """One for each distribution (as one identity sees it) that any change is behind; none for other buckets. Pure."""
    behind = sorted((each for each in changed if each.publish.cloudfront_distribution), key=_order)
    return tuple(_invalidation(tuple(group), commit) for _, group in groupby(behind, key=lambda it: _order(it)[0]))


def _order(changed: Changed) -> tuple[tuple[str, ...], str, str]:
    publish = changed.publish
    identity = (publish.cloudfront_distribution or "", publish.profile or "", publish.role_arn or "")
    return identity, path_of(changed.url), changed.what


def _invalidation(changed: tuple[Changed, ...], commit: CommitId) -> Invalidation:
    told = changed[:MOST_PATHS]
    digest = hashlib.sha256(repr([(path_of(each.url), each.what) for each in told]).encode()).hexdigest()
    paths = tuple(dict.fromkeys(path_of(each.url) for each in told))
    return Invalidation(told[0].publish, paths, f"oidc-mirror-{commit[:16]}-{digest[:32]}", len(changed) - len(told))


def path_of(url: str) -> str:
    """The path of a public https URL as an invalidation names it: what RFC 1738 calls unsafe is escaped.

    Of the characters that an issuer may have this is `~` alone.
    """
    return "/" + url.removeprefix("https://").partition("/")[2].replace("~", "%7E")


def tell(ports: Ports, wanted: Iterable[Invalidation], *, workers: int) -> tuple[Event, ...]:
    """Ask for them at once; a failure is a warning, because every cache turns over by itself."""
    told = each_at_once(lambda each: tuple(_told(ports.cdn, each)), wanted, workers=workers, cancel=ports.cancel)
    return tuple(event for events in told for event in events)


def _told(cdn: Cdn, wanted: Invalidation) -> Iterator[Event]:
    distribution = wanted.publish.cloudfront_distribution or ""
    fields = {"distribution": distribution, "paths": str(len(wanted.paths)), "reference": wanted.reference}
    reason = cdn.invalidate(wanted.publish, wanted.paths, reference=wanted.reference)
    if reason is not None:
        sentence = f"{reason.sentence} {reason.remedy}"
        yield Event("cdn.invalidation_failed", sentence, Level.WARNING, {**fields, "code": reason.code})
        return
    sentence = f"The CloudFront distribution {distribution} was told to drop {len(wanted.paths)} changed path(s)."
    yield Event("cdn.invalidated", sentence, fields=fields)
    if wanted.left_out:
        sentence = f"{wanted.left_out} further path(s) were too many at once: they turn over within max-age."
        yield Event("cdn.invalidation_partial", sentence, Level.WARNING, fields)


def guarded(work: Callable[[], tuple[Event, ...]]) -> tuple[Event, ...]:
    """Whatever goes wrong with a cache stays with the cache."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  whatever it is, a pass never fails for it
        sentence = f"A CDN was not told what changed, by a defect of this program ({type(error).__name__})."
        return (Event("cdn.invalidation_failed", sentence, Level.WARNING, {"code": "cdn.defect"}),)
