"""Git alone never makes a key public: what a fetched ledger says must be vouched for by somebody else.

Who may push to the remote is not who may be any pod. A key that a fetched ledger calls public counts only when our
last ledger has it, the public object has it, or an apiserver shows it in this pass; and revocations that would empty
an issuer count only when the public object is empty already. Until then the issuer is set aside: nothing of it is put.
Normally another mirror is just about to put it. `repository.allowed_signers` replaces all this by signatures.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.addresses import object_keys
from mirror.history.ledgers import Remembered
from mirror.model import (
    PUBLIC_STATUSES,
    Event,
    KeyId,
    KeyPolicy,
    Ledger,
    Level,
    Observation,
    Observed,
    Reason,
    Status,
    key_id,
)
from mirror.notebook import EMPTIED, Unvouched
from mirror.plan import Publication, World
from mirror.ports import Ports
from mirror.trust.jwks import read_jwks
from mirror.trust.refused import Refused

PATIENCE = timedelta(minutes=15)
"""How long another mirror may take to put what it pushed, before an operator is asked."""

_VOUCHED = PUBLIC_STATUSES | {Status.HELD}
"""Our own records with these statuses vouch for a key; a dropped one does not: it left for a reason."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """What git alone says: the event, the keys, and what an operator must decide (nothing while we are patient)."""

    event: Event
    keys: Unvouched
    held: tuple[Reason, ...] = ()


def unwitnessed(
    publication: Publication, world: World, ports: Ports, observations: tuple[Observation, ...]
) -> Stranger | None:
    """What nobody but the remote vouches for; None when everything of this publication may be believed.

    Raises:
        BucketError: The public object was needed as a witness and could not be read.
    """
    if not world.shared or world.trusts_remote:
        return None
    known = world.memory.issuers[publication.url]
    noted = world.notebook.unvouched.get(publication.url, {})
    suspects = _suspects(known, noted) - _shown(observations)
    if not suspects:
        return None
    public = _public(publication, ports)
    suspects -= public or {EMPTIED}
    if not suspects:
        return None
    since = min((noted[each] for each in suspects if each in noted), default=_committed(world, ports))
    keys = {each: noted.get(each, since) for each in sorted(suspects)}
    return _stranger(publication, keys, is_late=world.now >= since + PATIENCE)


def _suspects(known: Remembered, noted: Iterable[KeyId]) -> frozenset[KeyId]:
    """The keys that would be public (or EMPTIED, when none would be) that our own last ledger does not vouch for."""
    if known.ledger is None:
        return frozenset()
    if _has_none_left(known.ledger):
        return frozenset({EMPTIED} if EMPTIED in noted or not _has_none_left(known.own) else ())
    public = frozenset(key_id(key) for key in known.ledger.public_keys())
    ours = known.own.records if known.own is not None else ()
    vouched = frozenset(key_id(record.key) for record in ours if record.status in _VOUCHED)
    return public - (vouched - frozenset(noted))


def _has_none_left(ledger: Ledger | None) -> bool:
    if ledger is None or ledger.public_keys():
        return False
    return any(record.status is Status.REVOKED for record in ledger.records)


def _shown(observations: Iterable[Observation]) -> frozenset[KeyId]:
    return frozenset(key_id(key) for o in observations if isinstance(o, Observed) for key in o.keys)


def _public(publication: Publication, ports: Ports) -> frozenset[KeyId]:
    """The keys of the public object, read by the same rules as everybody's; none when it is absent or not believed."""
    publish = publication.issuer.publish
    _, jwks_key = object_keys(publication.url, publish.base_url, publish.prefix)
    stored = ports.bucket(publish).get(jwks_key)
    if stored is None:
        return frozenset()
    keys = read_jwks(stored.body, policy=KeyPolicy(kid="opaque"))
    return frozenset() if isinstance(keys, Refused) else frozenset(key_id(key) for key in keys.keys)


def _committed(world: World, ports: Ports) -> datetime:
    """When the fetched commit says that it was made, never later than now."""
    head = world.memory.heads.remote
    return min(world.now, ports.history.committed_at(head)) if head is not None else world.now


def _stranger(publication: Publication, keys: Unvouched, *, is_late: bool) -> Stranger:
    what = "revocations that would empty the issuer" if EMPTIED in keys else f"{len(keys)} key(s) as public"
    sentence = (
        f"The git remote names {what} for {publication.url}, and neither our last ledger, nor the bucket, nor an "
        "apiserver does: nothing of this issuer is committed or put."
    )
    event = Event("remote.unwitnessed", sentence, Level.WARNING, _fields(keys))
    if not is_late:
        return Stranger(event, keys)
    name = publication.issuer.name
    commands = [f"oidc-mirror approve {name} {thumbprint}" for _, thumbprint in keys if thumbprint]
    remedy = ", ".join(commands) or f"oidc-mirror revoke {name} --all --last --reason ..."
    return Stranger(event, keys, (Reason(event.name, sentence, f"Find out who pushed it; if it is right: {remedy}"),))


def _fields(keys: Mapping[KeyId, datetime]) -> dict[str, str]:
    return {"thumbprints": " ".join(thumbprint for _, thumbprint in keys)}
