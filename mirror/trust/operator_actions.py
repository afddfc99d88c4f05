"""The decisions of operators about keys: find, approve, revoke and adopt them.

Pure, as `mirror.trust.lifecycle` is: ledger before + decision -> ledger after + what happened. Every changed record
gets a generation higher by one. So a decision wins over concurrent changes of mirrors when ledgers are merged.
A decision that is not possible returns a `Reason` and changes nothing.

`adopt` takes over documents that another tool published, as a pure function.
Keys that an apiserver shows become published. The other keys of the public document begin to retire. Unacceptable
entries are listed and left out. The public document is untrusted input like any other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mirror.model import (
    MAX_GENERATION,
    PUBLIC_STATUSES,
    Event,
    IssuerUrl,
    Key,
    KeyId,
    KeyPolicy,
    KeyRecord,
    Ledger,
    Level,
    Reason,
    Revocation,
    Status,
    Thumbprint,
    key_id,
    key_name,
    kid_text,
    trimmed,
)
from mirror.trust.discovery import LOOK_AT_PUBLISHER, PUBLIC_JWKS, parse_public_jwks
from mirror.trust.jwks import is_printable_text
from mirror.trust.ledger import MAX_REASON_CHARACTERS
from mirror.trust.lifecycle import (
    LedgerUpdate,
    PassContext,
    Transition,
    advance,
    clear_empty_permission,
    is_clock_wrong,
    kept_key,
    missing_answers,
    next_order,
    revoked_thumbprints,
)
from mirror.trust.parsing import quote

FEWEST_CHARACTERS = 8
"""The shortest prefix of a kid or a thumbprint that can name a key."""
_MOST_LISTED = 5


# ------------------------------------------------------------------------------------------------- finding


def match_keys(ledger: Ledger, text: str) -> tuple[KeyRecord, ...]:
    """The records that `text` may name: by full thumbprint; else by kid, or by a prefix of kid or thumbprint.

    A prefix of a kid or of a thumbprint needs at least `FEWEST_CHARACTERS`. Only the key itself can have its
    thumbprint, but any key can have any kid. So a kid never hides another key's thumbprint.
    """
    whole = tuple(record for record in ledger.records if record.key.thumbprint == text)
    return whole or tuple(record for record in ledger.records if _is_meant(record, text))


def _is_meant(record: KeyRecord, text: str) -> bool:
    if len(text) < FEWEST_CHARACTERS:
        return text == record.key.kid
    return record.key.kid.startswith(text) or record.key.thumbprint.startswith(text)


def find_key(ledger: Ledger, text: str) -> KeyRecord | Reason:
    """The one record that `text` names.

    Returns:
        The record, or why there is not exactly one: `key.unknown`, `key.ambiguous`.
    """
    found = match_keys(ledger, text)
    if len(found) == 1:
        return found[0]
    return _ambiguous(found, text) if found else _unknown(ledger, text)


def find_key_material(ledger: Ledger, text: str) -> Thumbprint | Reason:
    """The one key material that `text` names; it may be recorded under several kids.

    Returns:
        The thumbprint, or why there is not exactly one: `key.unknown`, `key.ambiguous`.
    """
    found = match_keys(ledger, text)
    thumbprints = {record.key.thumbprint for record in found}
    if len(thumbprints) == 1:
        return thumbprints.pop()
    return _ambiguous(found, text) if found else _unknown(ledger, text)


def _unknown(ledger: Ledger, text: str) -> Reason:
    if len(text) < FEWEST_CHARACTERS:
        sentence = f"No key has exactly the kid or thumbprint {quote(text)}."
        remedy = f"Give the whole kid or thumbprint, or at least its first {FEWEST_CHARACTERS} characters."
        return Reason("key.unknown", sentence, remedy)
    known = f"Known are: {_listed(ledger.records)}." if ledger.records else "No key of this issuer is known yet."
    return Reason("key.unknown", f"No key has a kid or thumbprint that is or begins with {quote(text)}.", known)


def _ambiguous(records: tuple[KeyRecord, ...], text: str) -> Reason:
    sentence = f"{len(records)} keys have a kid or thumbprint that is or begins with {quote(text)}."
    return Reason("key.ambiguous", sentence, f"Give more of one of them: {_listed(records)}.")


def _listed(records: Iterable[KeyRecord]) -> str:
    names = [f"{kid_text(r.key.kid)} (thumbprint {r.key.thumbprint}, {r.status})" for r in records]
    more = [f"and {len(names) - _MOST_LISTED} more"] if len(names) > _MOST_LISTED else []
    return "; ".join(names[:_MOST_LISTED] + more)


# ----------------------------------------------------------------------------------------------- approving


def approve(
    ledger: Ledger,
    identity: KeyId,
    now: datetime,
    *,
    revoked: frozenset[Thumbprint] = frozenset(),
) -> LedgerUpdate | Reason:
    """Held -> published. Another public key of the same kid begins to retire; approving twice changes nothing.

    Args:
        ledger: The ledger before, which has a record of `identity`.
        identity: Kid and thumbprint of the key.
        now: Aware, UTC, whole seconds.
        revoked: The keys that are revoked elsewhere (the configuration); they are never approved.

    Returns:
        The outcome, or why the key cannot be approved: `key.revoked`, `key.not_held`.
    """
    record = next(r for r in ledger.records if key_id(r.key) == identity)
    if record.key.thumbprint in revoked | revoked_thumbprints(ledger):
        sentence = f"Key {kid_text(record.key.kid)} is revoked, and a revoked key never comes back."
        return Reason("key.revoked", sentence, "Give the cluster a new signing key.")
    if record.status not in (Status.HELD, Status.PUBLISHED):
        sentence = f"Key {kid_text(record.key.kid)} is {record.status}, not held."
        remedy = "Nothing to approve: the mirror decides again when an apiserver shows it."
        return Reason("key.not_held", sentence, remedy)
    if record.status is Status.PUBLISHED:
        return LedgerUpdate(ledger, (), ())
    moved = [_moved(record, Status.PUBLISHED, held_because=None)]
    moved += [
        _moved(other, Status.RETIRING, missing_since=now, returned_at=None)
        for other in ledger.records
        if other.status is Status.PUBLISHED and other.key.kid == record.key.kid
    ]
    sentences = {
        Status.PUBLISHED: "was approved by an operator",
        Status.RETIRING: "gives its kid to a key that an operator approved",
    }
    return _outcome(ledger, moved, tuple(Transition(r.key, r.status, sentences[r.status]) for r in moved))


# ------------------------------------------------------------------------------------------------ revoking


def revoke(
    ledger: Ledger, thumbprints: Iterable[Thumbprint], *, now: datetime, reason: str, last: bool
) -> LedgerUpdate | Reason:
    """Any -> revoked, for every record of the key material, under any kid; revoking twice changes nothing.

    Args:
        ledger: The ledger before.
        thumbprints: The key material.
        now: Aware, UTC, whole seconds.
        reason: Why, in 1..1000 printable characters; it stays in the ledger.
        last: Whether this may empty the public set. It is recorded only when no public key is left, also on keys that
            are revoked already: this confirms an empty set that several decisions caused together.

    Returns:
        The outcome, or why nothing was revoked: `bad_reason`, `revocation.held`.
    """
    if not is_printable_text(reason, MAX_REASON_CHARACTERS):
        sentence = f"The reason is not text of 1 to {MAX_REASON_CHARACTERS} printable characters."
        return Reason("bad_reason", sentence, "Say on one line why the key is revoked.")
    material = frozenset(thumbprints)
    kept = kept_key(ledger)
    public = [r for r in ledger.records if r.status in PUBLIC_STATUSES] or ([kept] if kept is not None else [])
    empties = all(r.key.thumbprint in material for r in public)
    if public and empties and not last:
        return _held(public)
    revocation = Revocation(now, reason, last=last and empties, order=next_order(ledger))
    moved = [
        after
        for before in ledger.records
        if before.key.thumbprint in material and (after := _revoked(before, revocation)) is not before
    ]
    transitions = tuple(Transition(r.key, r.status, f"was revoked by an operator: {reason}") for r in moved)
    return _outcome(ledger, moved, transitions)


def _held(public: Iterable[KeyRecord]) -> Reason:
    sentence = f"The public set would become empty: nothing but {_listed(public)} is public."
    remedy = "Publish another key first; or add `--last`, and every token of this issuer is refused from then on."
    return Reason("revocation.held", sentence, remedy)


def _revoked(record: KeyRecord, revocation: Revocation) -> KeyRecord:
    if record.revocation is None:
        # The fields of the former status are cleared, as in `mirror.trust.merge`.
        plain = KeyRecord(record.key, record.status, record.generation, record.first_seen)
        return _moved(plain, Status.REVOKED, revocation=replace(revocation, revoked_from=record.status))
    if record.revocation.last or not revocation.last:
        return record
    return _moved(record, Status.REVOKED, revocation=replace(record.revocation, last=True))


# --------------------------------------------------------------------------------------------- bookkeeping


def _moved(record: KeyRecord, status: Status, **changes: datetime | str | Revocation | None) -> KeyRecord:
    # A pushed ledger may have the highest possible generation: a decision must be possible even then.
    generation = min(record.generation + 1, MAX_GENERATION)
    changed = replace(record, status=status, generation=generation, **changes)  # type: ignore[arg-type]  # fields of KeyRecord by name
    return trimmed(changed)


def _outcome(ledger: Ledger, moved: Iterable[KeyRecord], transitions: tuple[Transition, ...]) -> LedgerUpdate:
    after = {key_id(r.key): r for r in (*ledger.records, *moved)}
    decided = Ledger(ledger.issuer, tuple(after[identity] for identity in sorted(after)))
    return LedgerUpdate(clear_empty_permission(decided), transitions, ())


@dataclass(frozen=True, slots=True)
class Adoption:
    """The first ledger of an issuer, and why parts of the public document were left out."""

    outcome: LedgerUpdate
    left_out: tuple[Reason, ...]


def adopt(
    issuer: IssuerUrl,
    public_jwks: bytes | None,
    policy: KeyPolicy,
    context: PassContext,
    *,
    named_jwks: bytes | None = None,
) -> Adoption | Reason:
    """The first ledger of an issuer, made from its apiservers' keys and the public keys.

    Adopting counts as the approval under the policy `new_keys: hold`. A key that is held for another reason (two keys
    of one kid) stays held unless it is public already. As in every pass, a key begins to retire only if every
    apiserver answered and this machine's clock is right. Until a pass confirms both, the other public keys are
    published too.

    Args:
        issuer: The configured issuer, or one of its former ones.
        public_jwks: The JWKS where we publish it, as an anonymous client reads it; None when there is none.
        named_jwks: The JWKS that the public discovery document names, where that is another one: relying parties trust
            its keys now. None where it is the same, or there is none.
        policy: The issuer's `keys`; revoked keys stay out.
        context: What the apiservers show, `now`, and how many answers make "every apiserver answered".

    Returns:
        The adoption, or why nothing can be adopted now: `adopt.nothing_shown`.
    """
    shown = advance(Ledger(issuer), replace(policy, new_keys="publish"), context)
    if not shown.ledger.records:
        sentence = "No apiserver of this issuer showed an acceptable key; nothing can be adopted."
        return Reason("adopt.nothing_shown", sentence, "Run `oidc-mirror run --dry-run`, and follow its remedies.")
    believed, left_out = parse_public_jwks(public_jwks, policy)
    named, named_left_out = parse_public_jwks(named_jwks, policy)
    believed, left_out = {**believed, **named}, (*left_out, *named_left_out)
    records = {key_id(record.key): record for record in shown.ledger.records}
    records |= {key_id(r.key): _published(r) for r in records.values() if _is_public_and_held(r, believed)}
    gone = {identity: key for identity, key in believed.items() if identity not in records}
    others, refused = _others(gone, policy.revoked, context)
    transitions = [Transition(r.key, r.status, _SENTENCES[r.status]) for _, r in sorted(records.items())]
    transitions += [Transition(r.key, r.status, "is adopted: it is public, and no apiserver shows it") for r in others]
    records |= {key_id(record.key): record for record in others}
    ledger = Ledger(issuer, tuple(records[identity] for identity in sorted(records)))
    events = shown.events + (_blocked(context) if others else ())
    return Adoption(LedgerUpdate(ledger, tuple(transitions), events), left_out + refused)


_SENTENCES = {
    Status.PUBLISHED: "is adopted: an apiserver shows it",
    Status.HELD: "is new and held until an operator approves it",
    Status.REVOKED: "is revoked",
}


def _is_public_and_held(record: KeyRecord, public: Mapping[KeyId, Key]) -> bool:
    # With two public keys of one kid, the right one is unknown (facts.md#7): both stay held.
    return record.status is Status.HELD and [i for i in public if i[0] == record.key.kid] == [key_id(record.key)]


def _published(record: KeyRecord) -> KeyRecord:
    return replace(record, status=Status.PUBLISHED, held_because=None)


def _blocked(context: PassContext) -> tuple[Event, ...]:
    """Why nothing may begin to retire; nothing when it may."""
    silent = missing_answers(context.observations, context.replicas)
    skewed = is_clock_wrong(context.observations, context.now)
    if not silent and not skewed:
        return ()
    why = f"these answer: {', '.join(silent)}" if silent else "this machine's clock is right"
    sentence = f"Public keys that no apiserver shows do not begin to retire until {why}."
    return (Event("retirement.blocked", sentence, Level.WARNING),)


def _others(
    gone: Mapping[KeyId, Key], revoked: frozenset[Thumbprint], context: PassContext
) -> tuple[tuple[KeyRecord, ...], tuple[Reason, ...]]:
    """Records of public keys that no apiserver shows, and why other keys get no record."""
    kids = Counter(kid for kid, _ in gone)
    welcome: list[KeyRecord] = []
    refused: list[Reason] = []
    for _, key in sorted(gone.items()):
        if key.thumbprint in revoked:
            refused.append(_left_out(key, "key.revoked", "is revoked"))
        elif kids[key.kid] > 1:
            # The right one is unknown (facts.md#7).
            refused.append(_left_out(key, "duplicate_kid", "shares its kid with another one"))
        else:
            welcome.append(_other(key, context))
    return tuple(welcome), tuple(refused)


def _other(key: Key, context: PassContext) -> KeyRecord:
    if _blocked(context):
        return KeyRecord(key, Status.PUBLISHED, 1, context.now)
    return KeyRecord(key, Status.RETIRING, 1, context.now, missing_since=context.now)


def _left_out(key: Key, code: str, why: str) -> Reason:
    return Reason(code, f"Key {key_name(key)} {why}.", LOOK_AT_PUBLISHER, PUBLIC_JWKS)
