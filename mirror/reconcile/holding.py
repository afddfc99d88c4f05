"""What waits for an operator, each with the command that decides it."""

from mirror.config.settings import Issuer
from mirror.model import Event, KeyRecord, Ledger, Level, Reason, Status
from mirror.reconcile.state import Publication
from mirror.trust.lifecycle import Outcome, is_emptied, kept_key, may_be_empty
from mirror.trust.parsing import as_argument

HELD_EVENTS = {
    "revocation.held": "Publish another key first, or revoke it with `--last`.",
    "ledger.full": "Find out where so many keys come from; approve or revoke those that are held.",
}
"""Events after which something is not as it should be until an operator acts, and what he may do."""


def held_changes(issuer: Issuer, outcome: Outcome) -> tuple[Reason, ...]:
    """Every change of the issuer that waits for an operator, with the command that decides it."""
    keys = tuple(_held_key(issuer, record) for record in outcome.ledger.records if record.status is Status.HELD)
    told = tuple(
        Reason(event.name, event.sentence, HELD_EVENTS[event.name])
        for event in outcome.events
        if _holds_up(event, outcome.ledger)
    )
    return keys + told + _emptied_unasked(issuer, outcome.ledger)


def _holds_up(event: Event, ledger: Ledger) -> bool:
    """Whether the event says that something waits. A ledger without room for old keys names none, and holds nothing up.

    That a revoked key is kept as the last one is reported of the ledger itself.
    """
    is_kept = event.name == "revocation.held" and kept_key(ledger) is not None
    return event.name in HELD_EVENTS and "kid" in event.fields and not is_kept


def _emptied_unasked(issuer: Issuer, ledger: Ledger) -> tuple[Reason, ...]:
    """Revocations that left no key together, none of them by `--last`: nobody asked for an empty set."""
    if not is_emptied(ledger) or may_be_empty(ledger):
        return ()
    kept = kept_key(ledger)
    if kept is not None:
        sentence = f"Key {kept.key.thumbprint} is revoked and stays public, because nothing else of the issuer is."
        return (Reason("revocation.held", sentence, HELD_EVENTS["revocation.held"]),)
    sentence = (
        f"Revocations left no key of {ledger.issuer} that may be public; what is public stays as it is, with the keys "
        "that it has."
    )
    remedy = f"Give the cluster a new key, or: oidc-mirror revoke {issuer.name} --all --last --reason TEXT"
    return (Reason("emptied.held", sentence, remedy),)


def emptied(ledger: Ledger) -> tuple[Event, ...]:
    """`issuer.emptied`, as long as an operator's `revoke --last` leaves no key public."""
    if not is_emptied(ledger) or not may_be_empty(ledger):
        return ()
    sentence = f"Every key of {ledger.issuer} is revoked and its public set is empty: no token of it is accepted."
    return (Event("issuer.emptied", sentence, Level.WARNING),)


def _held_key(issuer: Issuer, record: KeyRecord) -> Reason:
    sentence = f"Key {record.key.thumbprint} is held ({record.held_because}) and not public."
    remedy = f"Check it, then: oidc-mirror approve {issuer.name} {as_argument(record.key.thumbprint)}"
    return Reason("key.held", sentence, remedy)


def takeover(publication: Publication) -> Reason:
    """Somebody else's documents stand where git knows of none."""
    sentence = f"Documents of {publication.url} are public already and differ from what this mirror would put."
    remedy = f"Look at both, then: oidc-mirror adopt {publication.issuer.name}"
    return Reason("takeover.held", sentence, remedy)
