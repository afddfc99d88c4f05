"""Two ledgers of one issuer become one, whoever wrote which, in whatever order, however often.

`merge` is the join of a semilattice: commutative, associative and idempotent, so mirrors that exchange ledgers
through git converge without a clock. Per key: `revoked` wins; else the higher generation; else published > retiring >
held > dropped; else the earlier dates. A revocation reaches every record of the same key material (thumbprint).

Of two revoked records the higher generation says whether the set may be empty (`mirror.trust.emptiness`), so the
generation of a record that was not revoked is never mixed into theirs, and a record that a revocation only reaches
begins at the lowest.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from mirror.model import KeyId, KeyRecord, Ledger, Revocation, Status, Thumbprint, key_id

_RANK = {Status.DROPPED: 0, Status.HELD: 1, Status.RETIRING: 2, Status.PUBLISHED: 3}
_NEVER = datetime.max.replace(tzinfo=UTC)


def merge(a: Ledger, b: Ledger) -> Ledger:
    """The join of two ledgers of the same issuer.

    Raises:
        ValueError: The ledgers are of different issuers; a mistake of the caller.
    """
    if a.issuer != b.issuer:
        raise ValueError(f"ledgers of different issuers: {a.issuer!r} and {b.issuer!r}")
    records: dict[KeyId, KeyRecord] = {}
    for record in (*a.records, *b.records):
        known = records.get(key_id(record.key))
        records[key_id(record.key)] = record if known is None else _join(known, record)
    return Ledger(a.issuer, tuple(_spread_revocations(records[identity] for identity in sorted(records))))


def _join(a: KeyRecord, b: KeyRecord) -> KeyRecord:
    # Two records of one identity can differ in `alg` alone, which the thumbprint does not cover.
    key = min(a.key, b.key, key=lambda k: k.alg)
    first_seen = min(a.first_seen, b.first_seen)
    revoked = [(r, r.revocation) for r in (a, b) if r.revocation is not None]
    if revoked:
        generation, last = max((record.generation, revocation.last) for record, revocation in revoked)
        first = _first(revocation for _, revocation in revoked)
        return _revoked(replace(a, key=key, generation=generation, first_seen=first_seen), replace(first, last=last))
    return replace(max(a, b, key=_precedence), key=key, first_seen=first_seen)


def _precedence(record: KeyRecord) -> tuple[object, ...]:
    """A total order over records of one key that are not revoked: greater wins."""
    earlier_wins = tuple(-(moment or _NEVER).timestamp() for moment in (record.missing_since, record.returned_at))
    return (record.generation, _RANK[record.status], *earlier_wins, record.held_because or "")


def _first(revocations: Iterable[Revocation]) -> Revocation:
    return min(revocations, key=lambda r: (r.at, r.reason))


def _revoked(record: KeyRecord, revocation: Revocation) -> KeyRecord:
    # The fields of the former status go: what is left joins component by component.
    return KeyRecord(
        key=record.key,
        status=Status.REVOKED,
        generation=record.generation,
        first_seen=record.first_seen,
        revocation=revocation,
    )


def _spread_revocations(records: Iterable[KeyRecord]) -> Iterable[KeyRecord]:
    found = tuple(records)
    by_material: dict[Thumbprint, list[Revocation]] = {}
    for record in found:
        if record.revocation is not None:
            by_material.setdefault(record.key.thumbprint, []).append(record.revocation)
    for record in found:
        revocations = by_material.get(record.key.thumbprint)
        yield record if revocations is None else _reached(record, _first(revocations))


def _reached(record: KeyRecord, first: Revocation) -> KeyRecord:
    """The record of material that was revoked: the first date and reason hold for all of it, `last` for each alone."""
    if record.revocation is None:
        return _revoked(replace(record, generation=1), replace(first, last=False))
    return _revoked(record, replace(first, last=record.revocation.last))
