"""Decide for one issuer: believe or refuse what apiservers said, move its keys, compare with the bucket.

Reads (a body that a listing cannot tell, the commit that an object names) and changes nothing.
"""

from dataclasses import dataclass, replace

from mirror.addresses import object_keys
from mirror.believing import defect
from mirror.config.settings import Issuer
from mirror.errors import BucketError
from mirror.history.ledgers import Remembered, public_path
from mirror.model import (
    CommitId,
    Event,
    KeyPolicy,
    KeyRecord,
    Ledger,
    Level,
    ObjectKey,
    Observation,
    PublicObject,
    Reason,
    Status,
    Stored,
)
from mirror.plan import IssuerPlan, Publication, World
from mirror.ports import Bucket, Ports
from mirror.publish.look import Shown, read_body, target
from mirror.publish.objects import public_objects
from mirror.publish.put import reason_of
from mirror.publish.reconcile import Decision, Knowledge, decide, etag_of
from mirror.trust.circumstances import Circumstances
from mirror.trust.decisions import is_emptied, may_be_empty
from mirror.trust.documents import render
from mirror.trust.lifecycle import Outcome, advance, revoked_thumbprints
from mirror.witness import unwitnessed

LOAD_BALANCER_CONNECTIONS = 5
"""How many separate connections a pass makes to a URL that hides several apiservers."""


def plan_publication(publication: Publication, world: World, ports: Ports) -> IssuerPlan:
    """Decide for one publication; whatever goes wrong stays with it."""
    try:
        return _plan_publication(publication, world, ports)
    except Exception as error:  # noqa: BLE001  one issuer's trouble never stops another's change (design, 4)
        return IssuerPlan(publication, failures=(defect(error),))


def _plan_publication(publication: Publication, world: World, ports: Ports) -> IssuerPlan:
    issuer, remembered = publication.issuer, world.memory.issuers[publication.url]
    before = remembered.ledger or Ledger(publication.url)
    observations = world.beliefs.observations.get(issuer.name, ())
    start = IssuerPlan(publication, observations, before)
    if issuer.name in world.beliefs.defects:
        return replace(start, failures=(world.beliefs.defects[issuer.name],))
    if remembered.broken:
        return replace(start, failures=tuple(_broken(reason, remembered) for reason in remembered.broken))
    try:
        stranger = unwitnessed(publication, world, ports, observations)
    except BucketError as error:
        return replace(start, failures=(reason_of(error),))
    if stranger is not None:
        return replace(start, events=(stranger.event,), held=stranger.held, unvouched=stranger.keys)
    outcome = advance(before, _policy(issuer, world), _circumstances(publication, observations, world))
    start = replace(start, unvouched={})
    events = _mismatch(issuer, remembered) + _emptied(outcome.ledger) + world.beliefs.events.get(issuer.name, ())
    planned = replace(start, outcome=outcome, held=held_changes(issuer, outcome), events=events)
    return plan_objects(planned, outcome.ledger, world, ports)


def _policy(issuer: Issuer, world: World) -> KeyPolicy:
    """The issuer's policy; what is revoked under it or one of its former issuers is revoked under all of them."""
    urls = (issuer.issuer, *(former.issuer for former in issuer.former_issuers))
    ledgers = (world.memory.issuers[url].ledger for url in urls)
    revoked = (revoked_thumbprints(ledger) for ledger in ledgers if ledger is not None)
    return replace(issuer.keys, revoked=issuer.keys.revoked.union(*revoked))


def _circumstances(publication: Publication, observations: tuple[Observation, ...], world: World) -> Circumstances:
    issuer = publication.issuer
    asked = len(issuer.apiservers) * (LOAD_BALANCER_CONNECTIONS if issuer.load_balancer else 1)
    return Circumstances(
        observations=observations,
        replicas=max(asked, issuer.expect_replicas or 0),
        now=world.now,
        may_drop=not world.shared or world.heard_remote,
        may_admit=publication.admits(world.now),
        sources_changed=world.notebook.sources_changed(issuer),
        suspects=world.beliefs.suspects,
    )


def plan_objects(planned: IssuerPlan, ledger: Ledger, world: World, ports: Ports) -> IssuerPlan:
    """Compare the documents of `ledger` with the bucket, and decide what to put."""
    issuer = planned.issuer
    known = world.memory.issuers[planned.url]
    shown = world.buckets[target(issuer.publish)]
    if shown.error is not None:
        return _without_bucket(planned, known, shown.error)
    documents = render(ledger, issuer.discovery_extra)
    wanted = public_objects(issuer, planned.url, documents) if documents is not None else ()
    bucket = _BucketView(ports.bucket(issuer.publish), shown, known, world, ports)
    try:
        if known.ledger is None and ledger.records and bucket.is_taken(planned.publication, wanted):
            return replace(planned, outcome=None, held=(_takeover(planned.publication),))
        results = tuple(bucket.decide(each) for each in wanted)
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

    bucket: Bucket
    shown: Shown
    known: Remembered
    world: World
    ports: Ports

    def decide(self, wanted: PublicObject) -> tuple[Decision | None, Event | None]:
        """What to do about one object, and the event when somebody else wrote it."""
        listed = self.shown.listing.get(wanted.key)
        path = public_path(wanted.url)
        earlier = self.known.earlier.get(path, frozenset())
        stored = read_body(self.bucket, wanted, listed, earlier)
        return decide(wanted, listed, stored, self._knowledge(wanted, stored, path, earlier))

    def _knowledge(
        self, wanted: PublicObject, stored: Stored | None, path: str, earlier: frozenset[bytes]
    ) -> Knowledge:
        own: frozenset[str] = frozenset()
        if stored is not None and stored.snapshot is not None and self.ports.history.knows(stored.snapshot):
            own = frozenset({stored.snapshot})
            # What the metadata claims is believed only if that commit really holds these bytes.
            earlier |= frozenset(self.ports.history.read(CommitId(stored.snapshot), [path]).values())
        return Knowledge({wanted.key: earlier}, own, shared=self.world.shared, heard_remote=self.world.heard_remote)

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


# ------------------------------------------------------------------------------------- what needs an operator


def held_changes(issuer: Issuer, outcome: Outcome) -> tuple[Reason, ...]:
    """Every change of the issuer that waits for an operator, with the command that decides it."""
    keys = tuple(_held_key(issuer, record) for record in outcome.ledger.records if record.status is Status.HELD)
    revocations = tuple(
        Reason(event.name, event.sentence, "Publish another key first, or revoke it with `--last`.")
        for event in outcome.events
        if event.name == "revocation.held"
    )
    return keys + revocations + _emptied_unasked(issuer, outcome.ledger)


def _emptied_unasked(issuer: Issuer, ledger: Ledger) -> tuple[Reason, ...]:
    """Revocations that left no key together, none of them by `--last`: nobody asked for an empty set."""
    if not is_emptied(ledger) or may_be_empty(ledger):
        return ()
    sentence = f"Every key of {ledger.issuer} is revoked; what is public stays as it is, with the keys that it has."
    remedy = f"Give the cluster a new key, or: oidc-mirror revoke {issuer.name} --all --last --reason TEXT"
    return (Reason("emptied.held", sentence, remedy),)


def _emptied(ledger: Ledger) -> tuple[Event, ...]:
    if not is_emptied(ledger) or not may_be_empty(ledger):
        return ()
    sentence = f"Every key of {ledger.issuer} is revoked and its public set is empty: no token of it is accepted."
    return (Event("issuer.emptied", sentence, Level.WARNING),)


def _held_key(issuer: Issuer, record: KeyRecord) -> Reason:
    sentence = f"Key {record.key.thumbprint} is held ({record.held_because}) and not public."
    remedy = f"Check it, then: oidc-mirror approve {issuer.name} {record.key.thumbprint}"
    return Reason("key.held", sentence, remedy)


def _takeover(publication: Publication) -> Reason:
    sentence = f"Documents of {publication.url} are public already and differ from what this mirror would put."
    remedy = f"Look at both, then: oidc-mirror adopt {publication.issuer.name}"
    return Reason("takeover.held", sentence, remedy)


# ------------------------------------------------------------------------------------------------ mismatches


def _broken(reason: Reason, remembered: Remembered) -> Reason:
    sentence = f"The ledger in git is not believed: {reason.sentence}"
    where = f"{remembered.paths.ledger} {reason.where}".strip()
    return replace(reason, code="ledger.broken", sentence=sentence, where=where)


def _mismatch(issuer: Issuer, remembered: Remembered) -> tuple[Event, ...]:
    """`history.mismatch` when the committed JWKS is not the one that the committed ledger says."""
    committed = remembered.files.get(remembered.paths.jwks)
    rendered = render(remembered.ledger, issuer.discovery_extra) if remembered.ledger is not None else None
    if committed is None or rendered is None or committed == rendered.jwks:
        return ()
    sentence = f"{remembered.paths.jwks} in git was not what its ledger says; it is rendered anew from the ledger."
    return (Event("history.mismatch", sentence, Level.ERROR, {"path": remembered.paths.jwks}),)
