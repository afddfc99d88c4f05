"""The ledger file `keys.json`: untrusted bytes become a `Ledger`, and a `Ledger` becomes bytes for a diff.

The rules for the content are strict; the byte form is free, because people may resolve a conflict by hand.
"""

import json
from collections.abc import Container, Iterable
from itertools import pairwise

from mirror.model import IssuerUrl, KeyRecord, Ledger, Reason, Thumbprint, key_id
from mirror.trust.jwk import is_printable_text
from mirror.trust.private_members import private_members
from mirror.trust.records import read_record, record_members
from mirror.trust.refused import Refused, refused
from mirror.trust.strict_json import read_object
from mirror.trust.words import described, quoted, step

VERSION = 1
MAX_RECORDS = 512
MAX_BYTES = 4 * 1024 * 1024
MAX_ISSUER_CHARACTERS = 255
_DOCUMENT = "ledger"
_MEMBERS = ("issuer", "version", "keys")
_REMEDY = "Restore the ledger from an earlier commit, or take back what was edited by hand."


class _Everything(Container[Thumbprint]):
    """Contains every thumbprint."""

    def __contains__(self, item: object) -> bool:
        return True


EVERYTHING: Container[Thumbprint] = _Everything()
"""For `known`, where the file can only have been written by this mirror, which checked every key when it came in."""


def read_ledger(body: bytes, *, issuer: IssuerUrl, known: Container[Thumbprint] = frozenset()) -> Ledger | Refused:
    """Read a ledger file: the same rules for keys as in `read_jwks`, with any kid.

    Args:
        body: the bytes of the file, from the local repository or from a remote.
        issuer: the issuer whose ledger it must be.
        known: thumbprints of keys whose strength was checked before.

    Returns:
        The ledger, its records sorted, or all reasons: the codes of `read_object`, `read_record` and `too_large`,
        `wrong_issuer`, `wrong_version`, `unknown_member`, `private_key`, `bad_records`, `duplicate_key`.
    """
    document = _object(body)
    if isinstance(document, Reason):
        return Refused((document,))
    reasons = _head_reasons(document, issuer) + private_members(document, _DOCUMENT)
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_RECORDS:
        sentence = f"The member keys is no array of at most {MAX_RECORDS} records."
        return refused((*reasons, _reason("bad_records", sentence, "keys")))
    read = [read_record(entry, f"{_DOCUMENT} keys[{i}]", known=known) for i, entry in enumerate(entries)]
    reasons += tuple(reason for each in read if isinstance(each, tuple) for reason in each)
    records = sorted((each for each in read if isinstance(each, KeyRecord)), key=lambda record: key_id(record.key))
    reasons += _duplicates(records)
    return refused(reasons) if reasons else Ledger(issuer, tuple(records))


def stated_issuer(body: bytes) -> IssuerUrl | None:
    """Give the issuer that a ledger file says it is of, or None when it says none; the rest is not looked at."""
    document = _object(body)
    issuer = document.get("issuer") if isinstance(document, dict) else None
    return IssuerUrl(str(issuer)) if is_printable_text(issuer, MAX_ISSUER_CHARACTERS) else None


def write_ledger(ledger: Ledger) -> bytes:
    """Give the file of `ledger`: equal ledgers give equal bytes, and `read_ledger` gives the ledger back.

    Raises:
        ValueError: the ledger breaks a rule of its own, so nobody could read the file; committed, it would stop its
            issuer for good.
    """
    body = ledger_text(ledger)
    known = frozenset(record.key.thumbprint for record in ledger.records)
    if read_ledger(body, issuer=ledger.issuer, known=known) != Ledger(ledger.issuer, _sorted(ledger.records)):
        raise ValueError(f"the ledger of {ledger.issuer!r} could not be read again")
    return body


def ledger_text(ledger: Ledger) -> bytes:
    """Give the bytes of `write_ledger` unchecked: only to be compared with bytes that were read and believed.

    Raises:
        ValueError: a text in it is no Unicode (a lone surrogate).
    """
    keys = [record_members(record) for record in _sorted(ledger.records)]
    document = {"issuer": ledger.issuer, "version": VERSION, "keys": keys}
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


def _sorted(records: Iterable[KeyRecord]) -> tuple[KeyRecord, ...]:
    return tuple(sorted(records, key=lambda record: key_id(record.key)))


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
    foreign = (name for name in document if name not in _MEMBERS)
    reasons += [
        _reason("unknown_member", f"A ledger has no member {quoted(name)}.", step(name).removeprefix("."))
        for name in foreign
    ]
    return tuple(reasons)


def _duplicates(records: list[KeyRecord]) -> tuple[Reason, ...]:
    """Tell which of the sorted `records` are of one identity."""
    return tuple(
        _reason("duplicate_key", f"The key {quoted(b.key.kid)}, {b.key.thumbprint}, is recorded twice.", "keys")
        for a, b in pairwise(records)
        if key_id(a.key) == key_id(b.key)
    )


def _reason(code: str, sentence: str, where: str) -> Reason:
    return Reason(code, sentence, _REMEDY, f"{_DOCUMENT} {where}".rstrip())
