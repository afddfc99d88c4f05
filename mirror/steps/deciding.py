"""Decide for one issuer: believe or refuse what apiservers said, move its keys, compare with the bucket.

Reads (a body that a listing cannot tell, the commit that an object names) and changes nothing.
"""

from dataclasses import replace

from mirror.config.settings import Issuer
from mirror.errors import BucketError, MirrorError
from mirror.history.ledgers import Remembered
from mirror.model import (
    Event,
    KeyPolicy,
    Ledger,
    Level,
    Observation,
    Reason,
)
from mirror.ports import Ports
from mirror.publish.put import reason_of
from mirror.report import reason_from
from mirror.steps.believing import defect
from mirror.steps.certificates import expiring
from mirror.steps.comparing import plan_objects
from mirror.steps.holding import emptied, held_changes
from mirror.steps.notebook import sources_of
from mirror.steps.plan import IssuerPlan, Publication, World
from mirror.steps.probing import with_probe
from mirror.steps.witness import Stranger, revoked_of, unwitnessed, unwitnessed_emptiness
from mirror.trust.circumstances import Circumstances, is_clock_wrong
from mirror.trust.documents import render
from mirror.trust.lifecycle import advance


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
    issuer, remembered = publication.issuer, world.memory.issuers[publication.url]
    before = remembered.ledger or Ledger(publication.url)
    observations = world.beliefs.observations.get(issuer.name, ())
    start = IssuerPlan(publication, observations, before, events=_expiring(publication, observations, world))
    if issuer.name in world.beliefs.defects:
        return replace(start, failures=(world.beliefs.defects[issuer.name],))
    if remembered.broken:
        return replace(start, failures=tuple(_broken(reason, remembered) for reason in remembered.broken))
    stranger = unwitnessed(publication, world, ports, observations)
    if stranger is not None:
        return _set_aside(start, stranger)
    sources = sources_of(issuer)
    outcome = advance(before, _policy(issuer, world), _circumstances(publication, observations, world, sources))
    stranger = unwitnessed_emptiness(publication, world, ports, outcome.ledger)
    if stranger is not None:
        return _set_aside(start, stranger)
    events = _mismatch(issuer, remembered) + emptied(outcome.ledger) + world.beliefs.events.get(issuer.name, ())
    held, events = held_changes(issuer, outcome), start.events + events
    # With a wrong clock no retirement starts anew: the next pass must see the change of sources once more.
    kept = "" if is_clock_wrong(observations, world.now) else sources
    planned = replace(start, outcome=outcome, held=held, events=events, sources=kept)
    return plan_objects(planned, outcome.ledger, world, ports)


def _set_aside(start: IssuerPlan, stranger: Stranger) -> IssuerPlan:
    return replace(start, events=(*start.events, stranger.event), held=stranger.held, waits_since=stranger.since)


def _expiring(publication: Publication, observations: tuple[Observation, ...], world: World) -> tuple[Event, ...]:
    # A former issuer has the same apiservers: once is enough.
    return expiring(observations, world.now) if publication.until is None else ()


def _policy(issuer: Issuer, world: World) -> KeyPolicy:
    """The issuer's policy; what is revoked under it or one of its former issuers is revoked under all of them."""
    return replace(issuer.keys, revoked=revoked_of(issuer, world))


def _circumstances(
    publication: Publication, observations: tuple[Observation, ...], world: World, sources: str
) -> Circumstances:
    issuer = publication.issuer
    return Circumstances(
        observations=observations,
        replicas=issuer.expected_answers,
        now=world.now,
        may_drop=not world.shared or (world.heard_remote and world.memory.is_shared),
        may_admit=publication.admits(world.now),
        sources_changed=world.notebook.sources_changed(publication.url, sources),
        suspects=world.beliefs.suspects,
    )


# ------------------------------------------------------------------------------------------------ mismatches


def _broken(reason: Reason, remembered: Remembered) -> Reason:
    sentence = f"The ledger in git is not believed: {reason.sentence}"
    where = f"{remembered.paths.ledger} {reason.where}".strip()
    return replace(reason, code="ledger.broken", sentence=sentence, where=where)


def _mismatch(issuer: Issuer, remembered: Remembered) -> tuple[Event, ...]:
    """`history.mismatch` where a committed document is not what the committed ledger says."""
    rendered = render(remembered.ledger, issuer.discovery_extra) if remembered.ledger is not None else None
    if rendered is None:
        return ()
    paths = remembered.paths
    pairs = ((paths.jwks, rendered.jwks, Level.ERROR), (paths.discovery, rendered.discovery, Level.WARNING))
    return tuple(_rendered_anew(path, level) for path, body, level in pairs if remembered.files.get(path, body) != body)


def _rendered_anew(path: str, level: Level) -> Event:
    # A discovery document also differs after a change of `discovery_extra`; a JWKS never does by itself.
    sentence = f"{path} in git is not what its ledger and the configuration say; it is rendered anew."
    return Event("history.mismatch", sentence, level, {"path": path})
