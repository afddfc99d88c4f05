"""Decide for one issuer: believe or refuse what apiservers said, move its keys, compare with the bucket.

Reads (a body that a listing cannot tell, the commit that an object names) and changes nothing.
"""

from dataclasses import replace
from datetime import timedelta

from mirror.addresses import object_keys
from mirror.config.settings import Issuer
from mirror.errors import BucketError, MirrorError
from mirror.history.ledger_reader import IssuerHistory
from mirror.model import Event, KeyPolicy, Ledger, Level, Observation, Reason, Thumbprint
from mirror.ports import Ports
from mirror.publish.publisher import reason_of
from mirror.reconcile.believing import defect
from mirror.reconcile.certificates import expiring
from mirror.reconcile.holding import emptied, held_changes
from mirror.reconcile.local_state import apiserver_fingerprint
from mirror.reconcile.planner import plan_objects
from mirror.reconcile.state import IssuerPlan, Publication, World
from mirror.reconcile.token_probe import with_probe
from mirror.report import reason_from
from mirror.trust.discovery import render
from mirror.trust.lifecycle import (
    Circumstances,
    Outcome,
    advance,
    held_missing_since,
    is_clock_wrong,
    revoked_thumbprints,
)
from mirror.trust.operator_actions import adopt


def plan_publication(publication: Publication, world: World, ports: Ports) -> IssuerPlan:
    """Decide for one publication; whatever goes wrong stays with it."""
    try:
        return with_probe(_plan_publication(publication, world, ports), world.now)
    except BucketError as error:
        return _undecided(publication, world, reason_of(error))
    except MirrorError as error:
        return _undecided(publication, world, reason_from("history.failed", error))
    except Exception as error:  # noqa: BLE001  one issuer's trouble never stops another's change (design, 4)
        return _undecided(publication, world, defect(error))


def _undecided(publication: Publication, world: World, reason: Reason) -> IssuerPlan:
    observations = world.beliefs.observations.get(publication.issuer.name, ())
    return IssuerPlan(publication, observations, failures=(reason,))


def _plan_publication(publication: Publication, world: World, ports: Ports) -> IssuerPlan:
    issuer, known = publication.issuer, world.memory.issuers[publication.url]
    before = known.ledger or Ledger(publication.url)
    observations = world.beliefs.observations.get(issuer.name, ())
    events = _expiring(publication, observations, world) + known.events
    start = IssuerPlan(publication, observations, before, events=events, failures=known.failures)
    if issuer.name in world.beliefs.defects:
        return replace(start, failures=(*start.failures, world.beliefs.defects[issuer.name]))
    if known.is_lost and world.trust.is_signed:
        return start  # its revocations are unknown
    apiservers = apiserver_fingerprint(issuer)
    policy = replace(issuer.keys, revoked=revoked_of(issuer, world))
    given = _circumstances(publication, observations, world, apiservers)
    outcome = advance(before, policy, given)
    if known.is_lost:
        outcome = _recovered(publication, policy, given, ports) or outcome
    found = _mismatch(issuer, known) + emptied(outcome.ledger) + world.beliefs.events.get(issuer.name, ())
    # With a wrong clock no retirement starts anew: the next pass must see the change of apiservers once more.
    kept = "" if is_clock_wrong(observations, world.now) else apiservers
    planned = replace(
        start,
        outcome=outcome,
        held=held_changes(issuer, outcome),
        events=events + found,
        apiservers=kept,
        held_missing_since=held_missing_since(given, outcome),
        is_tolerant=_is_tolerant(publication, known, outcome, world),
    )
    return plan_objects(planned, outcome.ledger, world, ports)


def _recovered(publication: Publication, policy: KeyPolicy, given: Circumstances, ports: Ports) -> Outcome | None:
    """The ledger of a trusted repository in which nothing of the issuer can be read: as `adopt` would make it.

    What apiservers show is published, and no key of the public document is taken away before its time.

    Raises:
        BucketError: The public document could not be read.
    """
    publish = publication.issuer.publish
    _, jwks_key = object_keys(publication.url, publish.base_url, publish.prefix)
    stored = ports.bucket(publish).get(jwks_key)
    found = adopt(publication.url, stored.body if stored is not None else None, policy, given)
    return None if isinstance(found, Reason) else found.outcome


def _is_tolerant(publication: Publication, known: IssuerHistory, outcome: Outcome, world: World) -> bool:
    """Whether another mirror's ledger stays: mirrors that do not know each other's keys report, and do not fight."""
    since = world.local.of(publication.url).tolerated_since
    if since is None and world.is_new_disk:
        since = known.foreign_since  # a pod remembers nothing: the branch tells since when
    interval = timedelta(seconds=publication.issuer.publish.audit_interval_seconds)
    is_recent = since is not None and timedelta(0) <= world.now - since < interval
    return bool(known.unknown_signer) and is_recent and not outcome.transitions


def _expiring(publication: Publication, observations: tuple[Observation, ...], world: World) -> tuple[Event, ...]:
    # A former issuer has the same apiservers: once is enough.
    return expiring(observations, world.now) if publication.until is None else ()


def revoked_of(issuer: Issuer, world: World) -> frozenset[Thumbprint]:
    """The key material that is revoked for an entry: by the configuration, or under any of its issuer texts."""
    urls = (issuer.issuer, *(former.issuer for former in issuer.former_issuers))
    ledgers = (world.memory.issuers[url].ledger for url in urls if url in world.memory.issuers)
    return issuer.keys.revoked.union(*(revoked_thumbprints(ledger) for ledger in ledgers if ledger is not None))


def _circumstances(
    publication: Publication, observations: tuple[Observation, ...], world: World, apiservers: str
) -> Circumstances:
    issuer = publication.issuer
    return Circumstances(
        observations=observations,
        replicas=issuer.expected_answers,
        now=world.now,
        may_drop=not world.has_remote or (world.remote_fetched and world.memory.is_pushed),
        may_admit=publication.admits(world.now),
        sources_changed=world.local.apiservers_changed(publication.url, apiservers),
        suspects=world.beliefs.suspects,
        held_missing_since=world.local.of(publication.url).held_missing_since,
    )


def _mismatch(issuer: Issuer, known: IssuerHistory) -> tuple[Event, ...]:
    """`history.mismatch` where a committed document is not what the committed ledger says."""
    rendered = render(known.ledger, issuer.discovery_extra) if known.ledger is not None else None
    if rendered is None:
        return ()
    paths = known.paths
    pairs = ((paths.jwks, rendered.jwks, Level.ERROR), (paths.discovery, rendered.discovery, Level.WARNING))
    return tuple(_rendered_anew(path, level) for path, body, level in pairs if known.files.get(path, body) != body)


def _rendered_anew(path: str, level: Level) -> Event:
    # A discovery document also differs after a change of `discovery_extra`; a JWKS never does by itself.
    sentence = f"{path} in git is not what its ledger and the configuration say; it is rendered anew."
    return Event("history.mismatch", sentence, level, {"path": path})
