"""Taking over documents that somebody else published: what an operator's `adopt` decides, as a pure function.

Keys that an apiserver shows become published, the others of the public document begin to retire, and what cannot be
believed is listed and left out. The public document is untrusted input like any other.
"""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from mirror.model import (
    Event,
    IssuerUrl,
    Key,
    KeyId,
    KeyPolicy,
    KeyRecord,
    Ledger,
    Level,
    Reason,
    Status,
    Thumbprint,
    key_id,
)
from mirror.trust.circumstances import Circumstances, is_clock_wrong, unheard
from mirror.trust.jwk import KNOWN_TYPES, read_key
from mirror.trust.jwks import MAX_KEYS
from mirror.trust.lifecycle import Outcome, Transition, advance
from mirror.trust.parsing import read_object
from mirror.trust.private_members import private_members
from mirror.trust.words import quoted

_DOCUMENT = "public jwks"
_REMEDY = "Look at who published it: a token signed by this key is refused once the document is taken over."


@dataclass(frozen=True, slots=True)
class Adoption:
    """The first ledger of an issuer, and why parts of the public document did not come into it."""

    outcome: Outcome
    left_out: tuple[Reason, ...]


def adopt(issuer: IssuerUrl, public_jwks: bytes | None, policy: KeyPolicy, given: Circumstances) -> Adoption | Reason:
    """The ledger of an issuer that had none, made of what its apiservers show and of what is public.

    The policy `new_keys: hold` is answered by adopting; a key that is held for another reason (two keys of one kid)
    stays held unless it is public already. As in every pass, nothing begins to retire unless every apiserver answered
    and this machine's clock is right: until a pass finds it so, the other public keys are published too.

    Args:
        issuer: The configured issuer, or one of its former ones.
        public_jwks: The public JWKS as the world reads it; None when there is none.
        policy: The issuer's `keys`; whatever is revoked stays out.
        given: What the apiservers show, `now`, and how many answers make "every apiserver answered".

    Returns:
        The adoption, or why nothing can be adopted now: `adopt.nothing_shown`.
    """
    shown = advance(Ledger(issuer), replace(policy, new_keys="publish"), given)
    if not shown.ledger.records:
        sentence = "No apiserver of this issuer showed a key that is believed; nothing can be adopted."
        return Reason("adopt.nothing_shown", sentence, "Run `oidc-mirror run --dry-run`, and follow its remedies.")
    believed, left_out = read_public(public_jwks, policy)
    records = {key_id(record.key): record for record in shown.ledger.records}
    records |= {key_id(r.key): _published(r) for r in records.values() if _is_public_and_held(r, believed)}
    gone = {identity: key for identity, key in believed.items() if identity not in records}
    others, refused = _others(gone, policy.revoked, given)
    told = [Transition(r.key, r.status, _SENTENCES[r.status]) for _, r in sorted(records.items())]
    told += [Transition(r.key, r.status, "is adopted: it is public, and no apiserver shows it") for r in others]
    records |= {key_id(record.key): record for record in others}
    ledger = Ledger(issuer, tuple(records[identity] for identity in sorted(records)))
    events = shown.events + (_blocked(given) if others else ())
    return Adoption(Outcome(ledger, tuple(told), events), left_out + refused)


_SENTENCES = {
    Status.PUBLISHED: "is adopted: an apiserver shows it",
    Status.HELD: "is new and held until an operator approves it",
    Status.REVOKED: "is revoked",
}


def _is_public_and_held(record: KeyRecord, public: Mapping[KeyId, Key]) -> bool:
    # Of two public keys of one kid nobody can tell which one is meant (fact 7): both stay held.
    return record.status is Status.HELD and [i for i in public if i[0] == record.key.kid] == [key_id(record.key)]


def _published(record: KeyRecord) -> KeyRecord:
    return replace(record, status=Status.PUBLISHED, held_because=None)


def _blocked(given: Circumstances) -> tuple[Event, ...]:
    """Why nothing may begin to retire; nothing when it may."""
    silent = unheard(given.observations, given.replicas)
    skewed = is_clock_wrong(given.observations, given.now)
    if not silent and not skewed:
        return ()
    why = f"these answer: {', '.join(silent)}" if silent else "this machine's clock is right"
    sentence = f"Public keys that no apiserver shows do not begin to retire until {why}."
    return (Event("retirement.blocked", sentence, Level.WARNING),)


def _others(
    gone: Mapping[KeyId, Key], revoked: frozenset[Thumbprint], given: Circumstances
) -> tuple[tuple[KeyRecord, ...], tuple[Reason, ...]]:
    """Records of public keys that no apiserver shows, and why others get none."""
    kids = Counter(kid for kid, _ in gone)
    welcome: list[KeyRecord] = []
    refused: list[Reason] = []
    for _, key in sorted(gone.items()):
        if key.thumbprint in revoked:
            refused.append(_left_out(key, "key.revoked", "is revoked"))
        elif kids[key.kid] > 1:
            # Nobody can tell which one is meant (fact 7).
            refused.append(_left_out(key, "duplicate_kid", "shares its kid with another one"))
        else:
            welcome.append(_other(key, given))
    return tuple(welcome), tuple(refused)


def _other(key: Key, given: Circumstances) -> KeyRecord:
    if _blocked(given):
        return KeyRecord(key, Status.PUBLISHED, 1, given.now)
    return KeyRecord(key, Status.RETIRING, 1, given.now, missing_since=given.now)


def _left_out(key: Key, code: str, why: str) -> Reason:
    return Reason(code, f"Key {key.thumbprint} (kid {quoted(key.kid)}) {why}.", _REMEDY, _DOCUMENT)


# ------------------------------------------------------------------------------------- the public document


def read_public(
    body: bytes | None, policy: KeyPolicy, *, known: Container[Thumbprint] = frozenset()
) -> tuple[Mapping[KeyId, Key], tuple[Reason, ...]]:
    """The keys of the public JWKS that are believed, and every reason why others are not; neither where it is absent.

    The strength of `known` keys is not checked.
    Other than an apiserver's answer it is read key by key: one bad key must not take the good ones from the world.
    """
    if body is None:
        return {}, ()
    document = read_object(body, _DOCUMENT)
    if isinstance(document, Reason):
        return {}, (document,)
    private = private_members(document, _DOCUMENT)
    entries = document.get("keys")
    if private or not isinstance(entries, list) or len(entries) > MAX_KEYS:
        shape = Reason("no_keys", f"It holds no array of at most {MAX_KEYS} keys.", _REMEDY, _DOCUMENT)
        return {}, private or (shape,)
    read = [_read_entry(entry, f"{_DOCUMENT} keys[{i}]", policy, known) for i, entry in enumerate(entries)]
    reasons = tuple(reason for each in read if isinstance(each, tuple) for reason in each)
    return {key_id(each): each for each in read if not isinstance(each, tuple)}, reasons


def _read_entry(entry: object, where: str, policy: KeyPolicy, known: Container[Thumbprint]) -> Key | tuple[Reason, ...]:
    if not isinstance(entry, dict) or entry.get("kty") not in KNOWN_TYPES:
        return (Reason("bad_key", "An entry of keys is no RSA or EC key.", _REMEDY, where),)
    return read_key(entry, where, kid=policy.kid, known=known)
