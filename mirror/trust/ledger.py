"""The ledger file `keys.json`: untrusted bytes become a `Ledger`, and a `Ledger` becomes bytes for a diff.

The rules for the content are strict; the byte form is free, because people may resolve a conflict by hand. A record
that does not validate is left out alone: the others of the file count.
"""

import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from mirror.model import IssuerUrl, KeyRecord, Ledger, Reason, Status, Thumbprint, key_id, trimmed
from mirror.trust.jwk import is_printable_text
from mirror.trust.merge import joined
from mirror.trust.parsing import read_object
from mirror.trust.records import read_record, record_members
from mirror.trust.refused import MAX_REASONS, Refused, limited, refused
from mirror.trust.words import described, quoted, step

VERSION = 1
MAX_BYTES = 4 * 1024 * 1024
MAX_ISSUER_CHARACTERS = 255
_DOCUMENT = "ledger"
_MEMBERS = ("issuer", "version", "keys")
_REMEDY = "Restore the ledger from an earlier commit, or undo the manual edit."
_INDENT = 4
"""How deep a record stands in the file."""


class _Everything(Container[Thumbprint]):
    """Contains every thumbprint."""

    def __contains__(self, item: object) -> bool:
        return True


EVERYTHING: Container[Thumbprint] = _Everything()
"""For `known`, where the file can only have been written by this mirror, which checked every key when it came in."""


@dataclass(frozen=True, slots=True)
class LedgerRead:
    """What a ledger file says, as `joined` gives it; `damaged` are the reasons why parts of it do not count.

    A damaged file may have lost a key that is public: merge it with what was known before a key is taken away by it.
    """

    ledger: Ledger
    damaged: tuple[Reason, ...] = ()


# ------------------------------------------------------------------------------------------------- reading


def read_ledger(body: bytes, *, issuer: IssuerUrl, known: Container[Thumbprint] = frozenset()) -> LedgerRead | Refused:
    """Read a ledger file: the same rules for keys as in `read_jwks`, with any kid.

    Args:
        body: the bytes of the file, from the local repository or from a remote.
        issuer: the issuer whose ledger it must be.
        known: thumbprints of keys whose strength was checked before.

    Returns:
        The ledger and the reasons why records were left out: the codes of `read_record`, `unknown_member`, and
        `duplicate_key` where two records of one identity were joined. Or, where the file as a whole cannot be read, all
        reasons: the codes of `read_object` and `too_large`, `wrong_issuer`, `wrong_version`, `bad_records`.
    """
    document = _object(body)
    if isinstance(document, Reason):
        return Refused((document,))
    reasons, entries = _head_reasons(document, issuer), document.get("keys")
    if not isinstance(entries, list):
        return refused((*reasons, _reason("bad_records", "The member keys is not an array of records.", "keys")))
    if reasons:
        return Refused(reasons)
    damaged = [_unknown(name) for name in document if name not in _MEMBERS]
    records: list[KeyRecord] = []
    for i, entry in enumerate(entries):
        record, why = read_record(entry, f"{_DOCUMENT} keys[{i}]", known=known)
        # A hostile file has room for a million faults: what is over the limit is not even collected.
        damaged += why if len(damaged) <= MAX_REASONS else ()
        records += (record,) if record is not None else ()
    return LedgerRead(joined(issuer, records), limited((*damaged, *_duplicates(records))))


def stated_issuer(body: bytes) -> IssuerUrl | None:
    """Give the issuer that a ledger file says it is of, or None when it says none; the rest is not looked at."""
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
        sentence = f"The ledger is of the issuer {described(shown)}, not of {quoted(issuer)}."
        reasons.append(_reason("wrong_issuer", sentence, "issuer"))
    if type(version) is not int or version != VERSION:
        reasons.append(_reason("wrong_version", f"The ledger's version is not {VERSION}.", "version"))
    return tuple(reasons)


def _unknown(name: str) -> Reason:
    return _reason("unknown_member", f"A ledger has no member {quoted(name)}.", step(name).removeprefix("."))


def _duplicates(records: Iterable[KeyRecord]) -> Iterator[Reason]:
    for (kid, thumbprint), times in sorted(Counter(key_id(record.key) for record in records).items()):
        if times > 1:
            sentence = f"The key {quoted(kid)}, {thumbprint}, is recorded {times} times; the records are merged."
            yield _reason("duplicate_key", sentence, "keys")


def _reason(code: str, sentence: str, where: str) -> Reason:
    return Reason(code, sentence, _REMEDY, f"{_DOCUMENT} {where}".rstrip())


# ------------------------------------------------------------------------------------------------- writing


def write_ledger(ledger: Ledger) -> bytes:
    """Give the file of `ledger`: equal ledgers give equal bytes, and `read_ledger` gives the ledger back.

    Records that keep no material are written without it, and the dropped ones of `left_out` are not written.

    Raises:
        ValueError: the ledger breaks a rule of its own, so the file could not be read as it is meant.
    """
    body = ledger_text(ledger)
    known = frozenset(record.key.thumbprint for record in ledger.records)
    meant = Ledger(ledger.issuer, tuple(trimmed(record) for record in _written(ledger)))
    if read_ledger(body, issuer=ledger.issuer, known=known) != LedgerRead(meant):
        raise ValueError(f"the ledger of {ledger.issuer!r} could not be read again")
    return body


def ledger_text(ledger: Ledger) -> bytes:
    """Give the bytes of `write_ledger` unchecked: only to be compared with bytes that were read and believed.

    Raises:
        ValueError: a text in it is no Unicode (a lone surrogate).
    """
    keys = [record_members(record) for record in _written(ledger)]
    return (_json({"issuer": ledger.issuer, "version": VERSION, "keys": keys}) + "\n").encode()


def left_out(ledger: Ledger) -> tuple[KeyRecord, ...]:
    """The dropped records, the oldest first, for which the file of 4 MiB has no room; nobody needs them to decide."""
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
"""What stands around the records and the issuer, and a little more."""
_MOST_BYTES, _MOST_BYTES_DROPPED = 2500, 260
"""What a record takes at most besides its kid and its reason: an RSA key of 4096 bits has 683 characters."""


def _most_bytes(record: KeyRecord) -> int:
    """Give a quick upper bound of `_bytes`."""
    kid = _most_text(record.key.kid)
    if record.status is Status.DROPPED:
        return kid + _MOST_BYTES_DROPPED
    return 2 * kid + _MOST_BYTES + (_most_text(record.revocation.reason) if record.revocation is not None else 0)


def _most_text(text: str) -> int:
    """Give how many bytes a printable text takes in JSON, its quotes aside."""
    return len(text.encode()) + text.count('"') + text.count("\\")


def _bytes(record: KeyRecord) -> int:
    text = _json(record_members(record))
    return len(text.encode()) + _INDENT * (text.count("\n") + 1) + len(",\n")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
