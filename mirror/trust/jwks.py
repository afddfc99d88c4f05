"""An apiserver's JWKS: bytes become a set of keys, or every reason why not one of them is believed.

A malformed key is never skipped: a smaller set that goes public silently logs pods out.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from mirror.model import Key, KeyPolicy, Kid, Note, Reason, Thumbprint, key_id
from mirror.trust.base64url import decode_uint
from mirror.trust.jwk import KNOWN_TYPES, read_key
from mirror.trust.material import thumbprint_of
from mirror.trust.parsing import read_object
from mirror.trust.private_members import private_members
from mirror.trust.refused import Refused, refused
from mirror.trust.weak_keys import MAX_MODULUS_BITS, checking_cost
from mirror.trust.words import quoted

MAX_KEYS = 200
MAX_CHECKING_COST = 8192
"""What checking the new keys of one JWKS may cost, by `checking_cost`: 20 to 40 s of computing.

It is enough for 200 keys of 3072 bits, 128 keys of 4096 bits or 16 keys of 8192 bits. Without a limit one hostile
apiserver could keep this machine busy for minutes.
"""
_DOCUMENT = "jwks"


@dataclass(frozen=True, slots=True)
class KeySet:
    """The believed keys of one JWKS: sorted by `key_id`, none twice, at least one."""

    keys: tuple[Key, ...]
    notes: tuple[Note, ...] = ()


def read_jwks(body: bytes, *, policy: KeyPolicy, known: Container[Thumbprint] = frozenset()) -> KeySet | Refused:
    """Read a JWKS (RFC 7517, section 5) of RSA and EC signature keys.

    Args:
        body: the bytes that the apiserver sent.
        policy: how kids and keys of unknown type are treated.
        known: thumbprints of keys whose strength was checked when they came into our own ledger.

    Returns:
        The set, or all reasons of all keys: the codes of `read_object` and `read_key`, and `private_key`, `no_keys`,
        `empty_jwks`, `too_many_keys`, `too_costly`, `unknown_key`, `duplicate_kid`.
    """
    document = read_object(body, _DOCUMENT)
    if isinstance(document, Reason):
        return Refused((document,))
    entries = _entries(document)
    if isinstance(entries, Reason):
        return refused((*private_members(document, _DOCUMENT), entries))
    if sum(checking_cost(n) for n, _ in _new_rsa_keys(entries, known).values()) > MAX_CHECKING_COST:
        return refused((*private_members(document, _DOCUMENT), _too_costly()))
    read = tuple(_read_entry(entry, f"{_DOCUMENT} keys[{i}]", policy, known) for i, entry in enumerate(entries))
    reasons = private_members(document, _DOCUMENT) + tuple(
        reason for each in read if isinstance(each, tuple) for reason in each
    )
    return refused(reasons) if reasons else _collected(read)


def _entries(document: dict[str, object]) -> list[object] | Reason:
    entries = document.get("keys")
    if not isinstance(entries, list):
        return _set_reason("no_keys", "has no array of keys (RFC 7517, section 5.1)", "Look at what answers there.")
    if not entries:
        return _empty()
    if len(entries) > MAX_KEYS:
        sentence = f"has {len(entries)} keys, and at most {MAX_KEYS} are read"
        return _set_reason("too_many_keys", sentence, "Remove old key files from this apiserver.")
    return entries


def new_rsa_keys(body: bytes, known: Container[Thumbprint]) -> Mapping[Thumbprint, tuple[int, int]]:
    """Give modulus and exponent of each RSA key in a JWKS whose strength has to be checked; none for what is no JWKS.

    Args:
        body: the bytes that the apiserver sent.
        known: as in `read_jwks`.
    """
    document = read_object(body, _DOCUMENT)
    entries = _entries(document) if isinstance(document, dict) else []
    return {} if isinstance(entries, Reason) else _new_rsa_keys(entries, known)


def _new_rsa_keys(entries: list[object], known: Container[Thumbprint]) -> dict[Thumbprint, tuple[int, int]]:
    found: dict[Thumbprint, tuple[int, int]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("kty") != "RSA":
            continue
        n, e = decode_uint(entry.get("n")), decode_uint(entry.get("e"))
        # Nothing costly is computed with a modulus of absurd size.
        if n is not None and e is not None and n.bit_length() <= MAX_MODULUS_BITS:
            thumbprint = thumbprint_of("RSA", n=str(entry["n"]), e=str(entry["e"]))
            if thumbprint not in known:
                found[thumbprint] = (n, e)
    return found


def _read_entry(
    entry: object, where: str, policy: KeyPolicy, known: Container[Thumbprint]
) -> Key | Note | tuple[Reason, ...]:
    if not isinstance(entry, dict) or not isinstance(entry.get("kty"), str):
        sentence = "An entry of keys is no object with a key type (RFC 7517, section 4.1)."
        return (Reason("bad_key", sentence, "Look at the key files of this apiserver.", where),)
    if entry["kty"] in KNOWN_TYPES:
        return read_key(entry, where, kid=policy.kid, known=known)
    sentence = f"A key is of the type {quoted(entry['kty'])}, which relying parties may not know (facts 8, 31)."
    if policy.unknown_keys == "skip":
        return Note("unknown_key_skipped", f"{sentence} It is left out.")
    return (Reason("unknown_key", sentence, "Remove the key, or set keys.unknown_keys to skip.", f"{where}.kty"),)


def _collected(read: tuple[Key | Note | tuple[Reason, ...], ...]) -> KeySet | Refused:
    notes = tuple(each for each in read if isinstance(each, Note))
    # A key file that is given twice is published twice (fact 3): equal entries are one.
    distinct = {each: None for each in read if not isinstance(each, Note | tuple)}
    keys = tuple(sorted(distinct, key=key_id))
    conflicts = tuple(_conflicts(keys))
    if conflicts:
        return Refused(conflicts)
    return KeySet(keys, notes) if keys else Refused((_empty(),))


def _conflicts(keys: tuple[Key, ...]) -> Iterator[Reason]:
    kids: set[Kid] = set()
    for key in keys:
        if key.kid in kids:
            sentence = f"names two different keys {quoted(key.kid)} (fact 7)"
            yield _set_reason("duplicate_kid", sentence, "Give each key its own kid at the external signer.")
        kids.add(key.kid)


def _empty() -> Reason:
    sentence = "holds no key that can be published, which no apiserver means (fact 14)"
    return _set_reason("empty_jwks", sentence, "Look at --service-account-key-file of this apiserver.")


def _too_costly() -> Reason:
    sentence = "has so many new and large RSA keys that checking them would take longer than 20 s"
    remedy = "Remove old key files from this apiserver, or sign with RSA keys of 2048 to 4096 bits."
    return _set_reason("too_costly", sentence, remedy)


def _set_reason(code: str, what: str, remedy: str) -> Reason:
    return Reason(code, f"The JWKS {what}.", remedy, f"{_DOCUMENT} keys")
