"""One record of a ledger file: a JSON object becomes a `KeyRecord`, or every reason why it is none; and back.

What comes from git is untrusted: the keys obey the same rules as those of apiservers. A record that does not keep its
key's material is written without `key`; an older file may have one there, of which only the name is read.
"""

import json
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import cast

from mirror.model import (
    MAX_GENERATION,
    PUBLIC_STATUSES,
    AnyKey,
    Key,
    KeyName,
    KeyRecord,
    Kid,
    Reason,
    Revocation,
    Status,
    Thumbprint,
    key_id,
    trimmed,
)
from mirror.trust.base64url import encode
from mirror.trust.jwk import MAX_KID_CHARACTERS, is_printable_text, read_key
from mirror.trust.material import EC_ALGORITHMS, RSA_ALGORITHMS
from mirror.trust.private_members import private_members
from mirror.trust.words import described, quoted, step

MAX_REASON_CHARACTERS = 1000
FIRST_YEAR, LAST_YEAR = 2000, 2199
LAST_MOMENT = datetime(LAST_YEAR, 12, 31, 23, 59, 59, tzinfo=UTC)
"""Stands for a date that cannot be read: any date of another copy is earlier, and the earlier one counts."""

_MOMENT = re.compile(r"([0-9]{4})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_CODE = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_ALGORITHMS = frozenset((*RSA_ALGORITHMS, *EC_ALGORITHMS.values()))
_REMEDY = "Restore the record from an earlier commit, or undo the manual edit."

_ALWAYS = frozenset({"kid", "thumbprint", "status", "generation", "first_seen"})
_REQUIRED: dict[Status, frozenset[str]] = {
    Status.PUBLISHED: _ALWAYS | {"key"},
    Status.RETIRING: _ALWAYS | {"key", "missing_since"},
    Status.HELD: _ALWAYS | {"key", "held_because"},
    Status.DROPPED: _ALWAYS,
    Status.REVOKED: _ALWAYS | {"revoked"},
}
_OPTIONAL: dict[Status, frozenset[str]] = {
    Status.PUBLISHED: frozenset({"returned_at"}),
    Status.RETIRING: frozenset(),
    Status.HELD: frozenset({"returned_at"}),
    Status.DROPPED: frozenset({"alg", "key"}),
    Status.REVOKED: frozenset({"alg", "key"}),
}
_STATUSES = {status.value: status for status in Status}
_REVOCABLE = {status.value: status for status in Status if status is not Status.REVOKED}
_MATERIAL = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}
"""The members of which a thumbprint is made (RFC 7638, section 3.2), in its order."""


def moment_text(moment: datetime) -> str:
    """Give an aware UTC moment of whole seconds as in `2026-11-23T08:00:00Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(text: object) -> datetime | None:
    """Give the moment that `text` says (`2026-11-23T08:00:00Z`), or None: UTC, whole seconds, a year of 2000..2199."""
    match = _MOMENT.fullmatch(text) if isinstance(text, str) else None
    if match is None or not FIRST_YEAR <= int(match[1]) <= LAST_YEAR:
        return None
    try:
        return datetime.fromisoformat(match[0])
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------------- writing


def record_members(record: KeyRecord) -> dict[str, object]:
    """Give the JSON object of `record`: what people look for first, the key's own members last."""
    key, revocation = trimmed(record).key, record.revocation
    optional: dict[str, object] = {
        "missing_since": record.missing_since and moment_text(record.missing_since),
        "returned_at": record.returned_at and moment_text(record.returned_at),
        "held_because": record.held_because,
        "revoked": revocation and _revocation_members(revocation),
        "key": None if isinstance(key, KeyName) else key.members(),
    }
    return {
        "kid": key.kid,
        "thumbprint": key.thumbprint,
        **({"alg": key.alg} if isinstance(key, KeyName) and key.alg else {}),
        "status": record.status.value,
        "generation": record.generation,
        "first_seen": moment_text(record.first_seen),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _revocation_members(revocation: Revocation) -> dict[str, object]:
    members: dict[str, object] = {"at": moment_text(revocation.at), "reason": revocation.reason}
    if revocation.last:
        members["last"] = True
    if revocation.revoked_from is not None:
        members["revoked_from"] = revocation.revoked_from.value
    if revocation.order:
        members["order"] = revocation.order
    return members


# ------------------------------------------------------------------------------------------------- reading


def read_record(
    entry: object, where: str, *, known: Container[Thumbprint]
) -> tuple[KeyRecord | None, tuple[Reason, ...]]:
    """Read one record; every field and every combination of fields as `KeyRecord` says.

    Args:
        entry: one element of the ledger's `keys`.
        where: the place for reasons, such as `ledger keys[2]`.
        known: keys whose strength was checked before.

    Returns:
        The record and no reason; or None and every reason, with the codes of `read_key` and `bad_record`,
        `missing_member`, `unknown_member`, `bad_status`, `bad_value`, `wrong_kid`, `wrong_thumbprint`,
        `not_as_published`, `private_key`. A damaged record that revokes a readable thumbprint still revokes it: then
        both the record and the reasons are given.
    """
    if not isinstance(entry, dict):
        return None, (Reason("bad_record", "A record of the ledger is not an object.", _REMEDY, where),)
    status = _status(entry.get("status"))
    if status is None:
        sentence = f"The status {described(entry.get('status'))} is none of {', '.join(Status)}."
        return None, (Reason("bad_status", sentence, _REMEDY, f"{where}.status"),)
    found = _read(entry, status, where, known)
    if isinstance(found, KeyRecord):
        return found, ()
    return (_salvaged(entry) if status is Status.REVOKED else None), found


def _read(
    entry: dict[str, object], status: Status, where: str, known: Container[Thumbprint]
) -> KeyRecord | tuple[Reason, ...]:
    revocation = _revocation(entry.get("revoked")) if status is Status.REVOKED else None
    keeps_material = "key" in _REQUIRED[status] or (
        revocation is not None and revocation.revoked_from in PUBLIC_STATUSES
    )
    reasons = (
        private_members(entry.get("key"), *f"{where}.key".split(" ", 1))
        + _member_reasons(entry, status, where)
        + _value_reasons(entry, where)
    )
    key = _read_key(entry.get("key"), f"{where}.key", known) if keeps_material else _name(entry)
    if isinstance(key, tuple):
        return reasons + key
    reasons += _identity_reasons(entry, *(_stated(entry) if isinstance(key, KeyName) else key_id(key)), where)
    return reasons or _built(entry, key, status, revocation)


def _status(value: object) -> Status | None:
    return _STATUSES.get(value) if isinstance(value, str) else None


def _member_reasons(entry: Mapping[str, object], status: Status, where: str) -> tuple[Reason, ...]:
    required = _REQUIRED[status]
    missing = tuple(
        Reason("missing_member", f"A {status} record has no member {name}.", _REMEDY, f"{where}.{name}")
        for name in sorted(required - entry.keys())
    )
    foreign = tuple(
        Reason("unknown_member", f"A {status} record has no place for {quoted(name)}.", _REMEDY, where + step(name))
        for name in sorted(entry.keys() - required - _OPTIONAL[status])
    )
    return missing + foreign


def _value_reasons(entry: Mapping[str, object], where: str) -> tuple[Reason, ...]:
    return tuple(
        Reason("bad_value", f"The member {name} is not {what}.", _REMEDY, f"{where}.{name}")
        for name, (is_good, what) in _VALUES.items()
        if name in entry and not is_good(entry[name])
    )


def _read_key(members: object, where: str, known: Container[Thumbprint]) -> Key | tuple[Reason, ...]:
    """Read a key under the rule `opaque`: the policy for kids may have been another one when it came in."""
    if not isinstance(members, dict):
        return (Reason("bad_key", "The key of a record is not an object.", _REMEDY, where),)
    key = read_key(members, where, kid="opaque", known=known)
    if isinstance(key, tuple) or key.members() == members:
        return key
    sentence = "The key has not exactly the members that are published (fact 26)."
    return (Reason("not_as_published", sentence, _REMEDY, where),)


def _name(entry: Mapping[str, object]) -> KeyName:
    """Give the name that a record without material says; of bad values the caller knows."""
    old = entry.get("key")
    said = entry.get("alg", old.get("alg") if isinstance(old, dict) else None)
    alg = said if _is_algorithm(said) else ""
    return KeyName(Kid(str(entry.get("kid"))), str(alg), Thumbprint(str(entry.get("thumbprint"))))


def _stated(entry: Mapping[str, object]) -> tuple[object, object]:
    """Give the kid and the thumbprint of a key that is not kept, as an older file has it; None where it says none."""
    members = entry.get("key")
    if not isinstance(members, dict):
        return None, None
    names = _MATERIAL.get(str(members.get("kty")), ())
    material = {name: members.get(name) for name in names}
    if not material or not all(isinstance(value, str) for value in material.values()):
        return members.get("kid"), None
    text = json.dumps(material, separators=(",", ":"), ensure_ascii=False)
    return members.get("kid"), encode(sha256(text.encode()).digest())


def _identity_reasons(entry: Mapping[str, object], kid: object, thumbprint: object, where: str) -> tuple[Reason, ...]:
    said = (("kid", "wrong_kid", kid), ("thumbprint", "wrong_thumbprint", thumbprint))
    return tuple(
        Reason(code, f"The {name} of a record is not that of its key (RFC 7638).", _REMEDY, f"{where}.{name}")
        for name, code, right in said
        if name in entry and right is not None and entry[name] != right
    )


def _built(entry: Mapping[str, object], key: AnyKey, status: Status, revocation: Revocation | None) -> KeyRecord:
    """Build the record from members that the table of values found good; the casts say so to the type checker."""
    return KeyRecord(
        key,
        status,
        cast("int", entry["generation"]),
        cast("datetime", moment_of(entry["first_seen"])),
        missing_since=moment_of(entry.get("missing_since")),
        returned_at=moment_of(entry.get("returned_at")),
        held_because=cast("str | None", entry.get("held_because")),
        revocation=revocation,
    )


def _salvaged(entry: Mapping[str, object]) -> KeyRecord | None:
    """Give the revocation of a damaged record, with what can be read of it; None without a readable thumbprint.

    What cannot be read is what any other copy of the record wins over when ledgers are merged.
    """
    if not _is_thumbprint(entry.get("thumbprint")):
        return None
    name = _name(entry if _is_kid(entry.get("kid")) else {**entry, "kid": entry["thumbprint"]})
    first_seen, generation = moment_of(entry.get("first_seen")), entry.get("generation")
    revocation = _revocation(entry.get("revoked"))
    if revocation is None:
        revocation = Revocation(first_seen or LAST_MOMENT, "the record of this revocation is damaged")
    return KeyRecord(
        name,
        Status.REVOKED,
        cast("int", generation) if _is_generation(generation) else 1,
        first_seen or revocation.at,
        revocation=replace(revocation, revoked_from=None),
    )


def _revocation(members: object) -> Revocation | None:
    """Give the revocation that `members` say, or None where they say none."""
    if not isinstance(members, dict) or not {"at", "reason"} <= members.keys() <= _REVOCATION_MEMBERS:
        return None
    at, reason, last = moment_of(members["at"]), members["reason"], members.get("last", False)
    revoked_from, order = members.get("revoked_from"), members.get("order", 0)
    if at is None or not is_printable_text(reason, MAX_REASON_CHARACTERS) or not isinstance(last, bool):
        return None
    if "revoked_from" in members and not (isinstance(revoked_from, str) and revoked_from in _REVOCABLE):
        return None
    if type(order) is not int or not 0 <= order <= MAX_GENERATION:
        return None
    return Revocation(at, str(reason), last, _REVOCABLE.get(str(revoked_from)), order)


def _is_moment(value: object) -> bool:
    return moment_of(value) is not None


def _is_generation(value: object) -> bool:
    # A truth value is an int to Python, and never a generation.
    return type(value) is int and 1 <= value <= MAX_GENERATION


def _is_code(value: object) -> bool:
    return isinstance(value, str) and _CODE.fullmatch(value) is not None


def _is_kid(value: object) -> bool:
    return is_printable_text(value, MAX_KID_CHARACTERS)


def _is_thumbprint(value: object) -> bool:
    return isinstance(value, str) and _THUMBPRINT.fullmatch(value) is not None


def _is_algorithm(value: object) -> bool:
    return isinstance(value, str) and value in _ALGORITHMS


def _is_revocation(value: object) -> bool:
    return _revocation(value) is not None


_REVOCATION_MEMBERS = frozenset({"at", "reason", "last", "revoked_from", "order"})
_A_MOMENT = "a moment such as 2026-11-23T08:00:00Z of the years 2000 to 2199"
_VALUES: dict[str, tuple[Callable[[object], bool], str]] = {
    "kid": (_is_kid, "a text of 1 to 1024 printable characters"),
    "thumbprint": (_is_thumbprint, "a thumbprint of 43 base64url characters (RFC 7638)"),
    "alg": (_is_algorithm, f"one of {', '.join(sorted(_ALGORITHMS))}"),
    "generation": (_is_generation, "a whole number from 1 to 2^53"),
    "first_seen": (_is_moment, _A_MOMENT),
    "missing_since": (_is_moment, _A_MOMENT),
    "returned_at": (_is_moment, _A_MOMENT),
    "held_because": (_is_code, "a code such as kid_taken"),
    "revoked": (_is_revocation, "an object of at, reason (1 to 1000 printable characters), last, revoked_from, order"),
}
