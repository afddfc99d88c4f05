"""Git alone never makes a key public: what a branch says must be vouched for by somebody else.

Who may push to the remote is not who may be any pod. A key that git calls public counts only when this mirror vouched
for it before (`notebook`), an apiserver shows it in this pass, or the public object has it; and revocations that
leave an issuer without any key count only when the public object has none either. Until then the issuer is set aside:
nothing of it is put. Normally another mirror is just about to put it. `repository.allowed_signers` replaces all this by
signatures.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.addresses import object_keys
from mirror.model import (
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
from mirror.ports import Ports
from mirror.steps.notebook import EMPTIED
from mirror.steps.plan import Publication, World
from mirror.trust.jwks import read_jwks
from mirror.trust.refused import Refused
from mirror.trust.words import as_argument

PATIENCE = timedelta(minutes=15)
"""How long another mirror may take to put what it pushed, before an operator is asked."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """What git alone says: the event, since when it waits, and what an operator must decide (nothing at first)."""

    event: Event
    since: datetime
    held: tuple[Reason, ...] = ()


def unwitnessed(
    publication: Publication, world: World, ports: Ports, observations: tuple[Observation, ...]
) -> Stranger | None:
    """What nobody but git vouches for; None when everything of this publication may be believed.

    Raises:
        BucketError: The public object was needed as a witness and could not be read.
        HistoryError: The date of the fetched commit could not be read.
    """
    ledger = world.memory.issuers[publication.url].ledger
    if not world.needs_witness or ledger is None:
        return None
    suspects = public_ids(ledger) - _shown(observations) - world.notebook.vouched.get(publication.url, frozenset())
    if not suspects:
        return None
    public = _public(publication, ports)
    suspects -= public or {EMPTIED}
    if not suspects:
        return None
    since = world.notebook.waiting_since.get(publication.url) or _committed(world, ports)
    return _stranger(publication, suspects, since, is_late=world.now >= since + PATIENCE)


def public_ids(ledger: Ledger) -> frozenset[KeyId]:
    """The keys that the ledger makes public; EMPTIED alone when revocations left none."""
    public = frozenset(key_id(key) for key in ledger.public_keys())
    is_emptied = any(record.status is Status.REVOKED for record in ledger.records)
    return public or frozenset({EMPTIED} if is_emptied else ())


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


def _stranger(publication: Publication, keys: frozenset[KeyId], since: datetime, *, is_late: bool) -> Stranger:
    what = "revocations that would empty the issuer" if EMPTIED in keys else f"{len(keys)} key(s) as public"
    sentence = (
        f"Git names {what} for {publication.url}, and neither this mirror, nor the bucket, nor an apiserver vouches "
        "for it: nothing of this issuer is committed or put."
    )
    thumbprints = sorted(thumbprint for _, thumbprint in keys)
    event = Event("remote.unwitnessed", sentence, Level.WARNING, {"thumbprints": " ".join(thumbprints)})
    if not is_late:
        return Stranger(event, since)
    name = publication.issuer.name
    commands = [f"oidc-mirror approve {name} {as_argument(thumbprint)}" for thumbprint in thumbprints if thumbprint]
    remedy = ", ".join(commands) or f"oidc-mirror revoke {name} --all --last --reason ..."
    reason = Reason(event.name, sentence, f"Find out who pushed it; if it is right: {remedy}")
    return Stranger(event, since, (reason,))
