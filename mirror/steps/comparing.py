"""One issuer's objects, as its ledger says they should stand, against what the bucket shows: what to put.

Reads what a listing cannot tell (a body, the commit that an object names) and changes nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from mirror.addresses import object_keys
from mirror.errors import BucketError
from mirror.history.ledgers import Remembered, public_path
from mirror.model import CommitId, Event, IssuerUrl, KeyId, KeyPolicy, Ledger, ObjectKey, PublicObject, key_id
from mirror.ports import Bucket, Ports
from mirror.publish.look import Shown, read_body, target
from mirror.publish.objects import public_objects
from mirror.publish.put import JWKS_SUFFIX, reason_of
from mirror.publish.reconcile import Decision, Knowledge, decide, etag_of, standing_body
from mirror.steps.holding import takeover
from mirror.steps.plan import IssuerPlan, Publication, World
from mirror.trust.documents import render
from mirror.trust.jwks import read_jwks
from mirror.trust.ledger import EVERYTHING
from mirror.trust.lifecycle import revoked_thumbprints
from mirror.trust.refused import Refused


def plan_objects(planned: IssuerPlan, ledger: Ledger, world: World, ports: Ports) -> IssuerPlan:
    """Compare the documents of `ledger` with the bucket, and decide what to put."""
    issuer = planned.issuer
    known = world.memory.issuers[planned.url]
    shown = world.buckets[target(issuer.publish)]
    if shown.error is not None:
        return _without_bucket(planned, known, shown.error)
    documents = render(ledger, issuer.discovery_extra)
    wanted = public_objects(issuer, planned.url, documents) if documents is not None else ()
    stood_at = world.audits.stood_at(planned.url, issuer.publish, (each.body for each in wanted))
    bucket = _BucketView(planned.url, ports.bucket(issuer.publish), shown, known, world, ports, stood_at)
    try:
        if known.ledger is None and ledger.records and bucket.is_taken(planned.publication, wanted):
            return replace(planned, outcome=None, held=(takeover(planned.publication),))
        results = tuple(bucket.decide(each, ledger) for each in wanted)
    except BucketError as error:
        return _without_bucket(planned, known, error)
    decisions = tuple((each, decision) for each, (decision, _) in zip(wanted, results, strict=True))
    drift = tuple(event for _, event in results if event is not None)
    return replace(planned, decisions=decisions, drift=drift)


def _without_bucket(planned: IssuerPlan, known: Remembered, error: BucketError) -> IssuerPlan:
    failed = replace(planned, failures=(*planned.failures, reason_of(error)))
    # Without a ledger and without the bucket nobody can tell whether somebody else's documents are public.
    return replace(failed, outcome=None) if known.ledger is None else failed


@dataclass(frozen=True, slots=True)
class _BucketView:
    """One issuer's objects in the bucket, against what git knows of them."""

    url: IssuerUrl
    bucket: Bucket
    shown: Shown
    known: Remembered
    world: World
    ports: Ports
    stood_at: datetime | None

    def decide(self, wanted: PublicObject, ledger: Ledger) -> tuple[Decision | None, Event | None]:
        """What to do about one object of `ledger`, and the event when somebody else wrote it."""
        listed = self.shown.listing.get(wanted.key)
        path = public_path(wanted.url)
        committed = self.known.earlier.get(path, frozenset())
        stored = read_body(self.bucket, wanted, listed, committed)
        if stored is None and listed is not None and self._is_deaf() and listed.etag != etag_of(wanted.body):
            stored = self.bucket.get(wanted.key)  # the bytes are known, but who put them counts now
        own = stored is not None and stored.snapshot is not None and self.ports.history.knows(stored.snapshot)
        if stored is not None and stored.snapshot is not None and own:
            # What the metadata claims is believed only if that commit really holds these bytes.
            committed |= frozenset(self.ports.history.read(CommitId(stored.snapshot), [path]).values())
        if stored is not None and self.world.notebook.is_adopted(self.url, stored.body):
            committed |= {stored.body}  # an operator has just taken it over
        body = standing_body(wanted, listed, stored, committed)
        if body == wanted.body:
            return None, None  # so says `decide` too, whatever else is known: nothing else needs to be found out
        there, lost = _keys_of(body, wanted), self._lost(body, wanted, ledger)
        takes_away = bool(lost)
        known = Knowledge(
            committed,
            takes_away=takes_away,
            takes_away_unheard=self.world.refused_push and bool(lost & self.known.shared_keys()),
            is_covered=bool(there) and not takes_away and there <= {key_id(record.key) for record in ledger.records},
            brings_back=stored is not None and stored.snapshot is not None and not own and self._returns(there, wanted),
            is_own_snapshot=own,
            shared=self.world.shared,
            heard_remote=self.world.heard_remote,
            stood_at=self.stood_at,
        )
        return decide(wanted, listed, stored, known)

    def _is_deaf(self) -> bool:
        return self.world.shared and not self.world.heard_remote

    def _returns(self, there: frozenset[KeyId], wanted: PublicObject) -> bool:
        """Whether a put would add a key that is not new in this pass: it was public, and somebody took it away."""
        before = self.known.ledger.public_keys() if self.known.ledger is not None else ()
        return bool((_keys_of(wanted.body, wanted) - there) & {key_id(key) for key in before})

    def _lost(self, body: bytes | None, wanted: PublicObject, ledger: Ledger) -> frozenset[KeyId]:
        """The keys that a put would take away and that are not revoked."""
        revoked = revoked_thumbprints(ledger)
        gone = _keys_of(body, wanted) - _keys_of(wanted.body, wanted)
        return frozenset((kid, thumbprint) for kid, thumbprint in gone if thumbprint not in revoked)

    def is_taken(self, publication: Publication, wanted: tuple[PublicObject, ...]) -> bool:
        """Whether documents that are not what we would put are public at an issuer that git does not know yet."""
        bodies = {each.key: each.body for each in wanted}
        publish = publication.issuer.publish
        keys = object_keys(publication.url, publish.base_url, publish.prefix)
        return any(self._differs(key, bodies.get(key)) for key in keys if key in self.shown.listing)

    def _differs(self, key: ObjectKey, body: bytes | None) -> bool:
        if body is None:
            return True
        if self.shown.listing[key].etag == etag_of(body):
            return False
        stored = self.bucket.get(key)
        return stored is not None and stored.body != body


def _keys_of(body: bytes | None, wanted: PublicObject) -> frozenset[KeyId]:
    """The keys of a body that stands where a JWKS belongs; none for discovery, and none where it is not believed."""
    if body is None or not wanted.url.endswith(JWKS_SUFFIX):
        return frozenset()
    keys = read_jwks(body, policy=KeyPolicy(kid="opaque"), known=EVERYTHING)
    return frozenset() if isinstance(keys, Refused) else frozenset(key_id(key) for key in keys.keys)
