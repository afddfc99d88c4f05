"""The ledger file `keys.json`: untrusted bytes become a `Ledger`, and a `Ledger` becomes bytes that diff well.

The rules for the content are strict. The byte form is free, because people may resolve a conflict by hand. Only an
invalid record is skipped: the other records of the file count.

One record of a ledger file: a JSON object becomes a `KeyRecord`, or every reason why it is invalid; and back.
Data from git is untrusted: its keys obey the same rules as those of apiservers. A record that does not keep its key's
material is written without `key`. An older file may have `key` there; only the key's name is read from it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import cast

from mirror.addresses.issuer_urls import MAX_ISSUER_CHARACTERS
from mirror.model import (
    MAX_GENERATION,
    PUBLIC_STATUSES,
    AnyKey,
    IssuerUrl,
    Key,
    KeyName,
    KeyRecord,
    Kid,
    Ledger,
    Reason,
    Revocation,
    Status,
    Thumbprint,
    key_id,
    trimmed,
)
from mirror.trust.jwks import (
    EC_ALGORITHMS,
    MAX_KID_CHARACTERS,
    RSA_ALGORITHMS,
    is_printable_text,
    private_members,
    read_key,
)
from mirror.trust.merge import joined
from mirror.trust.parsing import (
    MAX_REASONS,
    Rejected,
    describe_json,
    encode,
    json_path_step,
    limited,
    quote,
    read_object,
    reject,
)

VERSION = 1
MAX_BYTES = 4 * 1024 * 1024
_DOCUMENT = "ledger"
_MEMBERS = ("issuer", "version", "keys")
_REMEDY = "Restore the ledger from an earlier commit, or undo the manual edit."
_INDENT = 4
"""The indentation of a record in the file."""


class _AllThumbprints(Container[Thumbprint]):
    """Contains every thumbprint."""

    def __contains__(self, item: object) -> bool:
        return True


ALL_THUMBPRINTS: Container[Thumbprint] = _AllThumbprints()
"""For `already_checked`, if only this mirror can have written the file: it checked every key on arrival."""


@dataclass(frozen=True, slots=True)
class LedgerRead:
    """The content of a ledger file, as `joined` gives it; `damaged` are the reasons why parts of it do not count.

    A damaged file may have lost a public key. Merge it with the known ledger before it can remove a key.
    """

    ledger: Ledger
    damaged: tuple[Reason, ...] = ()


# ------------------------------------------------------------------------------------------------- reading


def read_ledger(
    body: bytes, *, issuer: IssuerUrl, already_checked: Container[Thumbprint] = frozenset()
) -> LedgerRead | Rejected:
    """Read a ledger file: the same rules for keys as in `read_jwks`, with any kid.

    Args:
        body: the bytes of the file, from the local repository or from a remote.
        issuer: the issuer whose ledger it must be.
        already_checked: thumbprints of keys whose strength was checked before.

    Returns:
        The ledger and the reasons why records were left out: the codes of `read_record`, `unknown_member`, and
        `duplicate_key` where two records of one identity were joined. Or, where the file as a whole cannot be read, all
        reasons: the codes of `read_object` and `too_large`, `wrong_issuer`, `wrong_version`, `bad_records`.
    """
    document = _object(body)
    if isinstance(document, Reason):
        return Rejected((document,))
    reasons, entries = _head_reasons(document, issuer), document.get("keys")
    if not isinstance(entries, list):
        return reject((*reasons, _reason("bad_records", "The member keys is not an array of records.", "keys")))
    if reasons:
        return Rejected(reasons)
    damaged = [
        _reason("unknown_member", f"A ledger has no member {quote(name)}.", json_path_step(name).removeprefix("."))
        for name in document
        if name not in _MEMBERS
    ]
    records: list[KeyRecord] = []
    for i, entry in enumerate(entries):
        record, why = read_record(entry, f"{_DOCUMENT} keys[{i}]", already_checked=already_checked)
        # A hostile file has room for a million faults: reasons over the limit are not even collected.
        damaged += why if len(damaged) <= MAX_REASONS else ()
        records += (record,) if record is not None else ()
    return LedgerRead(joined(issuer, records), limited((*damaged, *_duplicates(records))))


def stated_issuer(body: bytes) -> IssuerUrl | None:
    """Give the issuer that a ledger file names, or None when it names none; the rest is not read."""
    document = _object(body)
    issuer = document.get("issuer") if isinstance(document, dict) else None
    return IssuerUrl(str(issuer)) if is_printable_text(issuer, MAX_ISSUER_CHARACTERS) else None


def _object(body: bytes) -> dict[str, object] | Reason:
    if len(body) > MAX_BYTES:
        return _reason("too_large", f"The ledger has {len(body)} bytes, and at most {MAX_BYTES} are read.", "")
    return read_object(body, _DOCUMENT)


def _head_reasons(document: dict[str, object], issuer: IssuerUrl) -> tuple[Reason, ...]:
    reasons = []
    shown, version = document.get("issuer"), document.get("version")
    if shown != issuer:
        sentence = f"The ledger is of the issuer {describe_json(shown)}, not of {quote(issuer)}."
        reasons.append(_reason("wrong_issuer", sentence, "issuer"))
    if type(version) is not int or version != VERSION:
        reasons.append(_reason("wrong_version", f"The ledger's version is not {VERSION}.", "version"))
    return tuple(reasons)


def _duplicates(records: Iterable[KeyRecord]) -> Iterator[Reason]:
    for (kid, thumbprint), times in sorted(Counter(key_id(record.key) for record in records).items()):
        if times > 1:
            sentence = f"The key {quote(kid)}, {thumbprint}, is recorded {times} times; the records are merged."
            yield _reason("duplicate_key", sentence, "keys")


def _reason(code: str, sentence: str, where: str) -> Reason:
    return Reason(code, sentence, _REMEDY, f"{_DOCUMENT} {where}".rstrip())


# ------------------------------------------------------------------------------------------------- writing


def write_ledger(ledger: Ledger) -> bytes:
    """Give the file of `ledger`: equal ledgers give equal bytes, and `read_ledger` gives the ledger back.

    Records that keep no material are written without it, and the dropped ones of `left_out` are not written.

    Raises:
        ValueError: the ledger breaks one of its own rules, so the file would read back differently.
    """
    body = ledger_text(ledger)
    already_checked = frozenset(record.key.thumbprint for record in ledger.records)
    meant = Ledger(ledger.issuer, tuple(trimmed(record) for record in _written(ledger)))
    if read_ledger(body, issuer=ledger.issuer, already_checked=already_checked) != LedgerRead(meant):
        raise ValueError(f"the ledger of {ledger.issuer!r} could not be read again")
    return body


def ledger_text(ledger: Ledger) -> bytes:
    """Give the bytes of `write_ledger` unchecked; use them only to compare with bytes of a validated ledger.

    Raises:
        ValueError: a text in it is not Unicode (a lone surrogate).
    """
    keys = [record_members(record) for record in _written(ledger)]
    return (_json({"issuer": ledger.issuer, "version": VERSION, "keys": keys}) + "\n").encode()


def left_out(ledger: Ledger) -> tuple[KeyRecord, ...]:
    """The dropped records, oldest first, that do not fit into the file of 4 MiB; no decision needs them."""
    if sum(_most_bytes(record) for record in ledger.records) <= MAX_BYTES:
        return ()
    sizes = {key_id(record.key): _bytes(record) for record in ledger.records}
    excess = sum(sizes.values()) + len(ledger.issuer) + _FRAME_BYTES - MAX_BYTES
    dropped = (record for record in ledger.records if record.status is Status.DROPPED)
    gone = []
    for record in sorted(dropped, key=lambda record: (record.first_seen, key_id(record.key))):
        if excess <= 0:
            break
        gone.append(record)
        excess -= sizes[key_id(record.key)]
    return tuple(gone)


def _written(ledger: Ledger) -> tuple[KeyRecord, ...]:
    gone = frozenset(key_id(record.key) for record in left_out(ledger))
    return tuple(sorted((r for r in ledger.records if key_id(r.key) not in gone), key=lambda r: key_id(r.key)))


_FRAME_BYTES = 100
"""The size of everything except the records and the issuer, with a margin."""
_MOST_BYTES, _MOST_BYTES_DROPPED = 2500, 260
"""The largest size of a record without its kid and its reason: an RSA key of 4096 bits has 683 characters."""


def _most_bytes(record: KeyRecord) -> int:
    """Give a quick upper bound of `_bytes`."""
    kid = _most_text(record.key.kid)
    if record.status is Status.DROPPED:
        return kid + _MOST_BYTES_DROPPED
    return 2 * kid + _MOST_BYTES + (_most_text(record.revocation.reason) if record.revocation is not None else 0)


def _most_text(text: str) -> int:
    """Give the size in bytes of a printable text in JSON, without its quotes."""
    return len(text.encode()) + text.count('"') + text.count("\\")


def _bytes(record: KeyRecord) -> int:
    text = _json(record_members(record))
    return len(text.encode()) + _INDENT * (text.count("\n") + 1) + len(",\n")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


MAX_REASON_CHARACTERS = 1000
FIRST_YEAR, LAST_YEAR = 2000, 2199
LAST_MOMENT = datetime(LAST_YEAR, 12, 31, 23, 59, 59, tzinfo=UTC)
"""Replaces an unreadable date: any date of another copy is earlier, and the earlier one counts."""

_MOMENT = re.compile(r"([0-9]{4})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_CODE = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_ALGORITHMS = frozenset((*RSA_ALGORITHMS, *EC_ALGORITHMS.values()))
_RECORD_REMEDY = "Restore the record from an earlier commit, or undo the manual edit."

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
"""The members that a thumbprint covers (RFC 7638, section 3.2), in its order."""


def moment_text(moment: datetime) -> str:
    """Give an aware UTC moment of whole seconds as in `2026-11-23T08:00:00Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(text: object) -> datetime | None:
    """Parse `text` (`2026-11-23T08:00:00Z`) into a moment, or None: UTC, whole seconds, a year of 2000..2199."""
    match = _MOMENT.fullmatch(text) if isinstance(text, str) else None
    if match is None or not FIRST_YEAR <= int(match[1]) <= LAST_YEAR:
        return None
    try:
        return datetime.fromisoformat(match[0])
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------------- writing


def record_members(record: KeyRecord) -> dict[str, object]:
    """Give the JSON object of `record`: the members that people need most come first, the key's own members last."""
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
    entry: object, where: str, *, already_checked: Container[Thumbprint]
) -> tuple[KeyRecord | None, tuple[Reason, ...]]:
    """Read one record; every field and every combination of fields must obey the rules of `KeyRecord`.

    Args:
        entry: one element of the ledger's `keys`.
        where: the place for reasons, such as `ledger keys[2]`.
        already_checked: keys whose strength was checked before.

    Returns:
        The record and no reason; or None and every reason, with the codes of `read_key` and `bad_record`,
        `missing_member`, `unknown_member`, `bad_status`, `bad_value`, `wrong_kid`, `wrong_thumbprint`,
        `not_as_published`, `private_key`. A damaged record that revokes a readable thumbprint still revokes it: the
        result then has both the record and the reasons.
    """
    if not isinstance(entry, dict):
        return None, (Reason("bad_record", "A record of the ledger is not an object.", _RECORD_REMEDY, where),)
    status = _STATUSES.get(str(entry.get("status")))
    if status is None:
        sentence = f"The status {describe_json(entry.get('status'))} is none of {', '.join(Status)}."
        return None, (Reason("bad_status", sentence, _RECORD_REMEDY, f"{where}.status"),)
    found = _read(entry, status, where, already_checked)
    if isinstance(found, KeyRecord):
        return found, ()
    return (_salvaged(entry) if status is Status.REVOKED else None), found


def _read(
    entry: dict[str, object], status: Status, where: str, already_checked: Container[Thumbprint]
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
    key = _read_key(entry.get("key"), f"{where}.key", already_checked) if keeps_material else _name(entry)
    if isinstance(key, tuple):
        return reasons + key
    reasons += _identity_reasons(entry, *(_stated(entry) if isinstance(key, KeyName) else key_id(key)), where)
    return reasons or _built(entry, key, status, revocation)


def _member_reasons(entry: Mapping[str, object], status: Status, where: str) -> tuple[Reason, ...]:
    required = _REQUIRED[status]
    missing = tuple(
        Reason("missing_member", f"A {status} record has no member {name}.", _RECORD_REMEDY, f"{where}.{name}")
        for name in sorted(required - entry.keys())
    )
    foreign = tuple(
        Reason(
            "unknown_member",
            f"A {status} record has no place for {quote(name)}.",
            _RECORD_REMEDY,
            where + json_path_step(name),
        )
        for name in sorted(entry.keys() - required - _OPTIONAL[status])
    )
    return missing + foreign


def _value_reasons(entry: Mapping[str, object], where: str) -> tuple[Reason, ...]:
    return tuple(
        Reason("bad_value", f"The member {name} is not {what}.", _RECORD_REMEDY, f"{where}.{name}")
        for name, (is_good, what) in _VALUES.items()
        if name in entry and not is_good(entry[name])
    )


def _read_key(members: object, where: str, already_checked: Container[Thumbprint]) -> Key | tuple[Reason, ...]:
    """Read a key under the rule `opaque`: the policy for kids may have been different when the key arrived."""
    if not isinstance(members, dict):
        return (Reason("bad_key", "The key of a record is not an object.", _RECORD_REMEDY, where),)
    key = read_key(members, where, kid="opaque", already_checked=already_checked)
    if isinstance(key, tuple) or key.members() == members:
        return key
    sentence = "The key has not exactly the members that are published."
    return (Reason("not_as_published", sentence, _RECORD_REMEDY, where),)


def _name(entry: Mapping[str, object]) -> KeyName:
    """Give the name in a record without material; the caller has already reported bad values."""
    old = entry.get("key")
    said = entry.get("alg", old.get("alg") if isinstance(old, dict) else None)
    alg = said if _is_algorithm(said) else ""
    return KeyName(Kid(str(entry.get("kid"))), str(alg), Thumbprint(str(entry.get("thumbprint"))))


def _stated(entry: Mapping[str, object]) -> tuple[object, object]:
    """Give kid and thumbprint from the `key` of a record without material, as older files have it; None if absent."""
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
        Reason(code, f"The {name} of a record is not that of its key (RFC 7638).", _RECORD_REMEDY, f"{where}.{name}")
        for name, code, right in said
        if name in entry and right is not None and entry[name] != right
    )


def _built(entry: Mapping[str, object], key: AnyKey, status: Status, revocation: Revocation | None) -> KeyRecord:
    """Build the record from members that the table of values accepted; the casts are for the type checker."""
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
    """Give the revocation of a damaged record from its readable members; None without a readable thumbprint.

    Unreadable members get values that lose against any other copy of the record in a merge.
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
    """Give the revocation in `members`, or None where there is none."""
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
    # In Python a bool is an int, but it is never a valid generation.
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
