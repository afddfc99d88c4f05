"""One record of a ledger file: a JSON object becomes a `KeyRecord`, or every reason why it is none; and back.

What comes from git is untrusted: the keys obey the same rules as those of apiservers.
"""

import re
from collections.abc import Callable, Container, Mapping
from datetime import datetime
from typing import cast

from mirror.model import MAX_GENERATION, Key, KeyRecord, Reason, Revocation, Status, Thumbprint
from mirror.trust.jwk import is_printable_text, read_key
from mirror.trust.words import described, quoted, step

MAX_REASON_CHARACTERS = 1000
FIRST_YEAR, LAST_YEAR = 2000, 2199

_MOMENT = re.compile(r"([0-9]{4})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_CODE = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_REMEDY = "Restore the ledger from an earlier commit, or take back what was edited by hand."

_ALWAYS = ("kid", "thumbprint", "status", "generation", "first_seen", "key")
_REQUIRED: dict[Status, frozenset[str]] = {
    Status.RETIRING: frozenset({"missing_since"}),
    Status.HELD: frozenset({"held_because"}),
    Status.REVOKED: frozenset({"revoked"}),
}
_STATUSES = {status.value: status for status in Status}
_OPTIONAL: dict[Status, frozenset[str]] = {Status.PUBLISHED: frozenset({"returned_at"})}


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


def record_members(record: KeyRecord) -> dict[str, object]:
    """Give the JSON object of `record`: what people look for first, the key's own members last."""
    revocation = record.revocation
    optional: dict[str, object] = {
        "missing_since": record.missing_since and moment_text(record.missing_since),
        "returned_at": record.returned_at and moment_text(record.returned_at),
        "held_because": record.held_because,
        "revoked": revocation and _revocation_members(revocation),
    }
    return {
        "kid": record.key.kid,
        "thumbprint": record.key.thumbprint,
        "status": record.status.value,
        "generation": record.generation,
        "first_seen": moment_text(record.first_seen),
        **{name: value for name, value in optional.items() if value is not None},
        "key": record.key.members(),
    }


def _revocation_members(revocation: Revocation) -> dict[str, object]:
    members: dict[str, object] = {"at": moment_text(revocation.at), "reason": revocation.reason}
    return {**members, "last": True} if revocation.last else members


def read_record(entry: object, where: str, *, known: Container[Thumbprint]) -> KeyRecord | tuple[Reason, ...]:
    """Read one record; every field and every combination of fields as `KeyRecord` says.

    Args:
        entry: one element of the ledger's `keys`.
        where: the place for reasons, such as `ledger keys[2]`.
        known: keys whose strength was checked before.

    Returns:
        The record, or all reasons, with the codes of `read_key` and `bad_record`, `missing_member`, `unknown_member`,
        `bad_status`, `bad_value`, `wrong_kid`, `wrong_thumbprint`, `not_as_published`.
    """
    if not isinstance(entry, dict):
        return (Reason("bad_record", "A record of the ledger is no object.", _REMEDY, where),)
    status = _status(entry.get("status"))
    reasons = (*_member_reasons(entry, status, where), *_value_reasons(entry, where))
    key = _read_key(entry.get("key"), f"{where}.key", known)
    if isinstance(key, tuple):
        return reasons + key
    reasons += _identity_reasons(entry, key, where)
    return reasons if reasons or status is None else _built(entry, key, status)


def _status(value: object) -> Status | None:
    return _STATUSES.get(value) if isinstance(value, str) else None


def _member_reasons(entry: Mapping[str, object], status: Status | None, where: str) -> tuple[Reason, ...]:
    if status is None:
        sentence = f"The status {described(entry.get('status'))} is none of {', '.join(Status)}."
        return (Reason("bad_status", sentence, _REMEDY, f"{where}.status"),)
    required = {*_ALWAYS, *_REQUIRED.get(status, ())}
    allowed = required | _OPTIONAL.get(status, frozenset())
    missing = tuple(
        Reason("missing_member", f"A {status} record has no member {name}.", _REMEDY, f"{where}.{name}")
        for name in sorted(required - entry.keys())
    )
    foreign = tuple(
        Reason("unknown_member", f"A {status} record has no place for {quoted(name)}.", _REMEDY, where + step(name))
        for name in sorted(entry.keys() - allowed)
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
        return (Reason("bad_key", "The key of a record is no object.", _REMEDY, where),)
    key = read_key(members, where, kid="opaque", known=known)
    if isinstance(key, tuple) or key.members() == members:
        return key
    sentence = "The key has not exactly the members that are published (fact 26)."
    return (Reason("not_as_published", sentence, _REMEDY, where),)


def _identity_reasons(entry: Mapping[str, object], key: Key, where: str) -> tuple[Reason, ...]:
    said = (("kid", "wrong_kid", key.kid), ("thumbprint", "wrong_thumbprint", key.thumbprint))
    return tuple(
        Reason(code, f"The {name} of a record is not that of its key (RFC 7638).", _REMEDY, f"{where}.{name}")
        for name, code, right in said
        if name in entry and entry[name] != right
    )


def _built(entry: Mapping[str, object], key: Key, status: Status) -> KeyRecord:
    """Build the record from members that the table of values found good; the casts say so to the type checker."""
    return KeyRecord(
        key,
        status,
        cast("int", entry["generation"]),
        cast("datetime", moment_of(entry["first_seen"])),
        missing_since=moment_of(entry.get("missing_since")),
        returned_at=moment_of(entry.get("returned_at")),
        held_because=cast("str | None", entry.get("held_because")),
        revocation=_revocation(entry.get("revoked")),
    )


def _revocation(members: object) -> Revocation | None:
    """Give the revocation that `members` say, or None where they say none."""
    if not isinstance(members, dict) or not {"at", "reason"} <= members.keys() <= {"at", "reason", "last"}:
        return None
    at, reason, last = moment_of(members["at"]), members["reason"], members.get("last", False)
    if at is None or not is_printable_text(reason, MAX_REASON_CHARACTERS) or not isinstance(last, bool):
        return None
    return Revocation(at, str(reason), last)


def _is_moment(value: object) -> bool:
    return moment_of(value) is not None


def _is_generation(value: object) -> bool:
    # A truth value is an int to Python, and never a generation.
    return type(value) is int and 1 <= value <= MAX_GENERATION


def _is_code(value: object) -> bool:
    return isinstance(value, str) and _CODE.fullmatch(value) is not None


def _is_revocation(value: object) -> bool:
    return _revocation(value) is not None


_A_MOMENT = "a moment such as 2026-11-23T08:00:00Z of the years 2000 to 2199"
_VALUES: dict[str, tuple[Callable[[object], bool], str]] = {
    "generation": (_is_generation, "a whole number from 1 to 2^53"),
    "first_seen": (_is_moment, _A_MOMENT),
    "missing_since": (_is_moment, _A_MOMENT),
    "returned_at": (_is_moment, _A_MOMENT),
    "held_because": (_is_code, "a code such as kid_taken"),
    "revoked": (_is_revocation, "an object of at, reason (1 to 1000 printable characters) and perhaps last"),
}
