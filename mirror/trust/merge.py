"""Two ledgers of one issuer become one, whoever wrote which, in whatever order, however often.

`merge` is the join of a semilattice: commutative, associative and idempotent, so mirrors that exchange ledgers
through git converge without a clock. Per key: `revoked` wins; else the higher generation; else published > retiring >
held > dropped; else the earlier dates. A revocation reaches every record of the same key material (thumbprint).
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
    revocations = [r.revocation for r in (a, b) if r.revocation is not None]
    if revocations:
        generation = max(a.generation, b.generation)
        return _revoked(
            replace(a, key=key, generation=generation, first_seen=first_seen), _join_revocations(revocations)
        )
    return replace(max(a, b, key=_precedence), key=key, first_seen=first_seen)


def _precedence(record: KeyRecord) -> tuple[object, ...]:
    """A total order over records of one key that are not revoked: greater wins."""
    earlier_wins = tuple(-(moment or _NEVER).timestamp() for moment in (record.missing_since, record.returned_at))
    return (record.generation, _RANK[record.status], *earlier_wins, record.held_because or "")


def _join_revocations(revocations: Iterable[Revocation]) -> Revocation:
    found = tuple(revocations)
    first = min(found, key=lambda r: (r.at, r.reason))
    return replace(first, last=any(r.last for r in found))


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
        yield record if revocations is None else _revoked(record, _join_revocations(revocations))
