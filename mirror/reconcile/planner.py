"""One issuer's objects, as its ledger says they should stand, against what the bucket shows: what to put.

Reads what a listing cannot tell (a body, the commit that an object names) and changes nothing.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mirror.addresses import jwks_uri, object_keys
from mirror.errors import BucketError
from mirror.history.ledger_reader import IssuerHistory, public_path
from mirror.model import (
    CommitId,
    Event,
    KeyId,
    KeyPolicy,
    Ledger,
    Level,
    ObjectKey,
    PublicObject,
    Stored,
    Thumbprint,
    key_id,
)
from mirror.ports import Bucket, Ports
from mirror.publish.drift import Decision, Knowledge, decide, etag_of, public_objects, standing_body
from mirror.publish.listing import Shown, read_body, target
from mirror.publish.publisher import JWKS_SUFFIX, reason_of
from mirror.reconcile.holding import takeover
from mirror.reconcile.state import IssuerPlan, World
from mirror.trust.discovery import render
from mirror.trust.ledger import EVERYTHING as ALL_THUMBPRINTS
from mirror.trust.lifecycle import published_keys, revoked_thumbprints
from mirror.trust.operator_actions import read_public

_ANY_KID = KeyPolicy(kid="opaque")


def plan_objects(planned: IssuerPlan, ledger: Ledger, world: World, ports: Ports) -> IssuerPlan:
    """Compare the documents of `ledger` with the bucket, and decide what to put."""
    issuer, publication = planned.issuer, planned.publication
    known = world.memory.issuers[planned.url]
    shown = world.buckets[target(issuer.publish)]
    if shown.error is not None:
        return _without_bucket(planned, known, shown.error)
    documents = render(ledger, issuer.discovery_extra)
    wanted = public_objects(issuer, planned.url, documents) if documents is not None else ()
    stood_at = world.audits.stood_at(planned.url, issuer.publish, (each.body for each in wanted), ledger)
    differ = _ObjectDiffer(planned, ports.bucket(issuer.publish), shown, known, world, ports, stood_at)
    try:
        if known.ledger is None and (ledger.records or known.is_lost) and differ.removes_foreign_keys(wanted):
            held = () if known.is_lost else (takeover(publication),)
            return replace(planned, outcome=None, held=held)
        results = tuple(differ.decide(each, ledger) for each in wanted)
    except BucketError as error:
        return _without_bucket(planned, known, error)
    decisions = tuple((each, decision) for each, (decision, _) in zip(wanted, results, strict=True))
    drift = tuple(event for _, event in results if event is not None)
    if not wanted and not ledger.records:
        drift = differ.not_repaired()
    return replace(planned, decisions=decisions, drift=drift)


def _without_bucket(planned: IssuerPlan, known: IssuerHistory, error: BucketError) -> IssuerPlan:
    failed = replace(planned, failures=(*planned.failures, reason_of(error)))
    # Without a ledger and without the bucket nobody can tell whether somebody else's documents are public.
    return replace(failed, outcome=None) if known.ledger is None else failed


@dataclass(frozen=True, slots=True)
class _ObjectDiffer:
    """One issuer's objects in the bucket, against what git knows of them."""

    planned: IssuerPlan
    bucket: Bucket
    shown: Shown
    known: IssuerHistory
    world: World
    ports: Ports
    stood_at: datetime | None

    def decide(self, wanted: PublicObject, ledger: Ledger) -> tuple[Decision | None, Event | None]:
        """What to do about one object of `ledger`, and the event when somebody else wrote it."""
        listed = self.shown.listing.get(wanted.key)
        path = public_path(wanted.url)
        committed = self.known.known_texts.get(path, frozenset())
        stored = read_body(self.bucket, wanted, listed, committed)
        if stored is None and listed is not None and self._is_cut_off() and listed.etag != etag_of(wanted.body):
            stored = self.bucket.get(wanted.key)  # the bytes are known, but who put them counts now
        own = stored is not None and stored.snapshot is not None and self.ports.history.knows(stored.snapshot)
        if stored is not None and stored.snapshot is not None and own:
            # What the metadata claims is believed only if that commit really holds these bytes.
            committed |= frozenset(self.ports.history.read(CommitId(stored.snapshot), [path]).values())
        if stored is not None and self.world.local.is_adopted(self.planned.url, stored.body):
            committed |= {stored.body}  # an operator has just taken it over
        body = standing_body(wanted, listed, stored, committed)
        if body == wanted.body:
            return None, None  # so says `decide` too, whatever else is known: nothing else needs to be found out
        waits_for = self._waits_for(wanted, body, ledger, is_unknown=_names_commit(stored) and not own)
        is_foreign = stored is not None and stored.snapshot is not None and not own and not self.world.has_remote
        return decide(wanted, listed, stored, Knowledge(committed, waits_for, is_foreign, self.stood_at))

    def _waits_for(self, wanted: PublicObject, body: bytes | None, ledger: Ledger, *, is_unknown: bool) -> str:
        """What a put would do that has to wait; empty when it may be made.

        `is_unknown` tells that the object names a commit which this mirror does not have.
        """
        there, ours, revoked = _keys_of(body, wanted), _keys_of(wanted.body, wanted), revoked_thumbprints(ledger)
        lost = frozenset(identity for identity in there - ours if identity[1] not in revoked)
        unheard = self.world.push_rejected or self._is_cut_off()
        if unheard and lost & self.known.remote_public_keys:
            return "take away a key that the remote's ledger has as public"
        if _holds_revoked(body, there, revoked, wanted):
            return ""  # taking revoked keys away never waits
        if self.planned.is_tolerant:
            return "undo what a mirror published whose signing key is not listed here"
        if not (self._is_cut_off() and is_unknown and self._tolerates_unknown()):
            return ""
        before = published_keys(self.known.ledger) if self.known.ledger is not None else ()
        returning = (ours - there) & {key_id(key) for key in before}
        if lost or returning or not wanted.url.endswith(JWKS_SUFFIX):
            return "undo what another mirror may have published"
        return ""

    def _tolerates_unknown(self) -> bool:
        """Whether documents of a commit that nobody here knows stay: for one audit interval, then once in each."""
        since = self.world.local.of(self.planned.url).tolerated_since
        interval = timedelta(seconds=self.planned.issuer.publish.audit_interval_seconds)
        return since is None or timedelta(0) <= self.world.now - since < interval

    def _is_cut_off(self) -> bool:
        return self.world.has_remote and not self.world.remote_fetched

    # -- before the first ledger --------------------------------------------------------------------------

    def removes_foreign_keys(self, wanted: tuple[PublicObject, ...]) -> bool:
        """Whether a put would take keys away that somebody else made public, of an issuer that git does not know."""
        bodies = {each.key: each.body for each in wanted}
        discovery_key, jwks_key = self._keys()
        discovery, jwks = self._foreign(discovery_key, bodies), self._foreign(jwks_key, bodies)
        if discovery is not None and _names_other_jwks(discovery.body, jwks_uri(self.planned.url)):
            return True
        if jwks is None:
            return False
        if self.world.local.is_adopted(self.planned.url, jwks.body):
            return False
        there, left_out = read_public(jwks.body, _ANY_KID, known=ALL_THUMBPRINTS)
        ours, _ = read_public(bodies.get(jwks_key), _ANY_KID, known=ALL_THUMBPRINTS)
        return bool(there.keys() - ours.keys()) or (bool(left_out) and _has_keys(jwks.body))

    def not_repaired(self) -> tuple[Event, ...]:
        """`bucket.drift` for documents that stand where neither git nor an apiserver says what belongs there."""
        if not any(key in self.shown.listing for key in self._keys()):
            return ()
        sentence = (
            f"Documents of {self.planned.url} are public, and neither git nor an apiserver says what they should be: "
            "they could not be checked or repaired."
        )
        return (Event("bucket.drift", sentence, Level.ERROR, {"key": self._keys()[1]}),)

    def _keys(self) -> tuple[ObjectKey, ObjectKey]:
        publish = self.planned.issuer.publish
        return object_keys(self.planned.url, publish.base_url, publish.prefix)

    def _foreign(self, key: ObjectKey, wanted: dict[ObjectKey, bytes]) -> Stored | None:
        """The object at `key` where it is not what we would put."""
        listed = self.shown.listing.get(key)
        if listed is None or (key in wanted and listed.etag == etag_of(wanted[key])):
            return None
        stored = self.bucket.get(key)
        return None if stored is None or stored.body == wanted.get(key) else stored


def _names_commit(stored: Stored | None) -> bool:
    """Whether the object's metadata names a commit; its form alone, because anybody who may write it may invent it."""
    snapshot = stored.snapshot if stored is not None else None
    return snapshot is not None and len(snapshot) in (40, 64) and not snapshot.strip("0123456789abcdef")


def _holds_revoked(
    body: bytes | None, there: frozenset[KeyId], revoked: frozenset[Thumbprint], wanted: PublicObject
) -> bool:
    """Whether a JWKS holds a revoked key, or may hold any because it cannot be believed as a whole."""
    if body is None or not revoked or not wanted.url.endswith(JWKS_SUFFIX):
        return False
    return any(thumbprint in revoked for _, thumbprint in there) or bool(
        read_public(body, _ANY_KID, known=ALL_THUMBPRINTS)[1]
    )


def _names_other_jwks(discovery: bytes, expected: str) -> bool:
    try:
        document = json.loads(discovery)
    except (ValueError, RecursionError):
        return False
    uri = document.get("jwks_uri") if isinstance(document, dict) else None
    return isinstance(uri, str) and uri != expected


def _has_keys(jwks: bytes) -> bool:
    """Whether a document that is not believed looks like a set that holds any entry."""
    try:
        document = json.loads(jwks)
    except (ValueError, RecursionError):
        return False
    return bool(document.get("keys")) if isinstance(document, dict) else False


def _keys_of(body: bytes | None, wanted: PublicObject) -> frozenset[KeyId]:
    """The keys of a body that stands where a JWKS belongs; none for discovery, and none where it is not believed."""
    if body is None or not wanted.url.endswith(JWKS_SUFFIX):
        return frozenset()
    return frozenset(read_public(body, _ANY_KID, known=ALL_THUMBPRINTS)[0])
