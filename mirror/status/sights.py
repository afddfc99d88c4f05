"""What the world sees of an issuer's keys, and from when on they may sign."""

from dataclasses import dataclass, replace
from datetime import datetime

from mirror.addresses import jwks_uri
from mirror.model import Event, KeyId, KeyPolicy, Ledger, Level, Reason, key_id
from mirror.ports import NotSeen, PublicView, Seen
from mirror.publish.drift import window
from mirror.reconcile.state import Publication
from mirror.trust.discovery import render
from mirror.trust.jwks import KeySet, read_jwks

_ANY_KID = KeyPolicy(kid="opaque")
"""What is public was believed under the issuer's policy once; here its keys are only recognised."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the world sees of an issuer's keys; `keys` is None where it was not looked, or nothing was seen."""

    keys: frozenset[KeyId] | None = None
    safe_to_sign_at: datetime | None = None
    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()


def public_sight(publication: Publication, ledger: Ledger, view: PublicView) -> Sight:
    """Look at the public JWKS as the world does, where there is something to see and the settings allow it."""
    issuer = publication.issuer
    documents = render(ledger, issuer.discovery_extra)
    if documents is None or not issuer.publish.readback.enabled:
        return Sight()
    url = jwks_uri(publication.url)
    look = view.look(url, readback=issuer.publish.readback)
    if isinstance(look, NotSeen):
        return Sight(failures=(replace(look.reason, code=f"readback.{look.reason.code}", where=url),))
    return _seen(look, url, documents.jwks, ledger)


def _seen(look: Seen, url: str, meant: bytes, ledger: Ledger) -> Sight:
    shown = public_keys(look.body, ledger)
    events: tuple[Event, ...] = ()
    if look.body != meant:
        sentence = f"{url} shows other bytes than the newest snapshot: an earlier state, or somebody else's."
        events = (Event("readback.differs", sentence, Level.WARNING, {"url": url}),)
    keys = None if shown is None else frozenset(key_id(key) for key in shown.keys)
    found = window(look)
    return Sight(keys, None if found is None else found.safe_to_sign_at, events)


def public_keys(body: bytes, ledger: Ledger | None) -> KeySet | None:
    """The keys of a public JWKS; None when it is none that relying parties could believe."""
    known = frozenset(record.key.thumbprint for record in ledger.records) if ledger is not None else frozenset()
    shown = read_jwks(body, policy=_ANY_KID, known=known)
    return shown if isinstance(shown, KeySet) else None
