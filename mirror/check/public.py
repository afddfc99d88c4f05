"""What anonymous requests get: both documents of an issuer, read as AWS does and validated like a relying party."""

from collections.abc import Iterator
from dataclasses import dataclass

from mirror.addresses import discovery_url, jwks_uri, object_keys
from mirror.check.ports import BucketOf
from mirror.check.result import CheckResult, CheckTarget, Component
from mirror.model import MEDIA_TYPE_DISCOVERY, Answer, Key, Observed, PublicObject
from mirror.ports import PublicEndpoint, PublicFailure, PublicResponse, PublicResult
from mirror.publish.publisher import compare, explained
from mirror.reconcile.state import PublishedIssuer
from mirror.text import counted
from mirror.trust.discovery import observe, other_jwks_uri

SLOW_SECONDS = 2.5  # AWS gives up after 5 (facts.md#27)
_HIDDEN = frozenset({"forbidden", "not_found"})
_NOT_OURS = "Run `oidc-mirror --once` to repair it, and find out who wrote it: `oidc-mirror status` lists each drift."


@dataclass(frozen=True, slots=True)
class PublicDocuments:
    """What was found at the public URLs of one issuer, and the keys of its JWKS; None where they are not to be had."""

    findings: tuple[CheckResult, ...]
    keys: tuple[Key, ...] | None = None


def public(publication: PublishedIssuer, view: PublicEndpoint, bucket: BucketOf) -> PublicDocuments:
    """Look at both documents without credentials, and at the bucket where there is nothing to be seen."""
    issuer, publish = publication.issuer, publication.issuer.publish
    whole = CheckTarget(Component.PUBLIC, publication.url, issuer.name)
    if not publish.readback.enabled:
        return PublicDocuments((whole.note("public.not_looked", "Not looked at: `publish.readback` is off."),))
    expected = _expected(publication)
    looks = [view.get_document(each.url, readback=publish.readback) for each in expected]
    found: list[CheckResult] = []
    other = _other_layout(publication, looks[0], looks[1])
    if other is not None:
        sentence = (
            f"Another tool publishes this issuer: its discovery document names {other}. The first pass puts nothing in "
            "its place until an operator adopts it."
        )
        remedy = f"`oidc-mirror adopt {issuer.name}` reads the keys there and keeps each of them public for its time."
        return PublicDocuments((whole.warning("public.takeover", sentence, remedy),))
    for each, look in zip(expected, looks, strict=True):
        place = CheckTarget(Component.PUBLIC, each.url, issuer.name)
        found += (
            _seen(place, look, each)
            if isinstance(look, PublicResponse)
            else _not_seen(place, look, publication, each, bucket)
        )
    bodies = [look.body for look in looks if isinstance(look, PublicResponse)]
    if len(bodies) != len(expected):
        return PublicDocuments(tuple(found))
    believed = _believed(whole, publication, *bodies)
    return PublicDocuments((*found, *believed.findings), believed.keys)


def _other_layout(publication: PublishedIssuer, discovery: PublicResult, jwks: PublicResult) -> str | None:
    """The JWKS that another tool publishes this issuer's keys at, where nothing of ours stands yet."""
    if not isinstance(discovery, PublicResponse) or isinstance(jwks, PublicResponse) or jwks.reason.code not in _HIDDEN:
        return None
    return other_jwks_uri(discovery.body, jwks_uri(publication.url))


def _expected(publication: PublishedIssuer) -> tuple[PublicObject, PublicObject]:
    """Both objects as they should be, but for the bytes, which only the ledger knows."""
    url, publish = publication.url, publication.issuer.publish
    discovery, jwks = object_keys(url, publish.base_url, publish.prefix)
    return (
        PublicObject(discovery, discovery_url(url), b"", MEDIA_TYPE_DISCOVERY, publish.cache_control),
        PublicObject(jwks, jwks_uri(url), b"", publish.jwks_content_type, publish.cache_control),
    )


def _seen(place: CheckTarget, look: PublicResponse, expected: PublicObject) -> Iterator[CheckResult]:
    reasons = [each for each in compare(look, expected) if each.code != "stale_or_foreign"]
    yield from (place.failed(f"public.{each.code}", each.sentence, each.remedy) for each in reasons)
    if look.seconds > SLOW_SECONDS:
        sentence = f"It took {look.seconds:.1f} s to come; AWS gives up after 5 s."
        yield place.warning("public.slow", sentence, "Check the network and the CDN in front of the bucket.")
    elif not reasons:
        yield place.ok("public.seen", f"It is publicly readable, with the right headers, in {look.seconds:.1f} s.")


def _not_seen(
    place: CheckTarget, look: PublicFailure, publication: PublishedIssuer, expected: PublicObject, bucket: BucketOf
) -> Iterator[CheckResult]:
    publish = publication.issuer.publish
    if look.reason.code in _HIDDEN and bucket(publish).access_settings(expected.key).exists is False:
        sentence = "Nothing is published there yet."
        yield place.warning("public.nothing_yet", sentence, "The first pass publishes it: `oidc-mirror --once`.")
        return
    reason = explained(look.reason, bucket(publish), expected, publish)
    yield place.failed(f"public.{reason.code}", reason.sentence, reason.remedy)


def _believed(place: CheckTarget, publication: PublishedIssuer, discovery: bytes, jwks: bytes) -> PublicDocuments:
    answer = Answer(publication.url, discovery, jwks)
    found = observe(answer, issuer=publication.url, policy=publication.issuer.keys, already_checked=frozenset())
    if not isinstance(found, Observed):
        reasons = tuple(place.failed(f"public.{each.code}", each.sentence, _NOT_OURS) for each in found.reasons)
        return PublicDocuments(reasons)
    if any(each.code == "foreign_jwks_uri" for each in found.notes):
        sentence = (
            "The public discovery document sends relying parties to keys that are not ours: its jwks_uri is wrong."
        )
        return PublicDocuments((place.failed("public.foreign_jwks_uri", sentence, _NOT_OURS),), found.keys)
    good = place.ok("public.believed", f"Relying parties find this issuer and {counted(len(found.keys), 'key')}.")
    return PublicDocuments((good,), found.keys)
